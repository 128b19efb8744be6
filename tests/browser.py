"""A real browser in front of a real Jupyter: JupyterLab 4 or the classic Notebook 6, with a panel in it.

`python -m tests.browser pictures` makes the pictures of the panels in docs/pictures/ again.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
from PIL import Image

from tests.hub_server import HubServer, client_environment
from tools import stacks

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "docs" / "pictures"
PHOTOS = ROOT / "ti_nb" / "tiny" / "pictures" / "penguin" / "pictures"
SIZE = {"width": 1100, "height": 2600}  # high enough for a panel to be seen whole, as pictures show what is in view
OUTPUT = ".jp-OutputArea-output, .output_subarea"
THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}
COMMANDS = {
    "lab": [
        "jupyterlab",
        "--expose-app-in-browser",
        "--IdentityProvider.token=",
        "--ServerApp.disable_check_xsrf=True",
    ],
    "classic": ["notebook", "--NotebookApp.token=", "--NotebookApp.disable_check_xsrf=True"],
}
STACK = {"lab": "today", "classic": "colab"}

TRAIN = """
import ti_nb as ti
model, photos = ti.load_model("tiny"), ti.example_images("penguin")
run = ti.train(model, photos, word="<my-penguin>", init="animal", steps={steps}, watch={watch})
panel = ti.TrainPanel(run, prompts=("a photo of a {{word}} on the beach",), seeds=4, every={every}, background=True)
"""
PREPARE = """
import ti_nb as ti
panel = ti.PreparePanel(ti.load_model("tiny"))
"""
EXPLORE = """
import ti_nb as ti
model = ti.load_model("tiny")
run = ti.train(model, ti.example_images("penguin"), word="<my-penguin>", init="animal", steps={steps}, watch=0)
for _ in run:
    pass
panel = ti.ExplorePanel(model, run.concept())
"""
PUBLISH = """
import os
os.environ.update({environment})
import ti_nb as ti
model, photos = ti.load_model("tiny"), ti.example_images("penguin")
run = ti.train(model, photos, word="<my-penguin>", init="animal", steps={steps}, watch=0)
for _ in run:
    pass
prompts = ["a photo of a {{word}}", "a {{word}} on the beach"]
samples = ti.sample(model, prompts, run.concept(), seeds=2, progress=False)
panel = ti.PublishPanel(run.concept(), samples=samples, pictures=photos, run=run)
"""


def why_not(kind: str) -> str:
    """What is missing to run in a browser; "" for nothing."""
    if shutil.which("chromium") is None:
        return "no chromium: apt-get install chromium"
    try:
        import playwright  # noqa: F401
    except ImportError:
        return "no playwright: pip install playwright"
    return "" if stacks.is_built(STACK[kind]) else f"no {STACK[kind]} stack: make stacks"


@contextmanager
def browser_page() -> Iterator[Page]:
    """One page of a headless Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport=SIZE)
        page.set_default_timeout(60_000)
        page.on("dialog", lambda dialog: dialog.accept())
        yield page
        browser.close()


class Server:
    """A Jupyter server of a stack, with settings, notebooks and kernels of its own; leave the `with` block to end it."""

    def __init__(self, kind: str) -> None:
        self.kind, self.home = kind, Path(tempfile.mkdtemp(prefix="ti_nb_browser_"))
        self.folder = self.home / "notebooks"
        self.folder.mkdir()

    def __enter__(self) -> Server:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        command = [str(stacks.python(STACK[self.kind])), "-m", *COMMANDS[self.kind], "--no-browser", "--allow-root"]
        command += ["--ip=127.0.0.1", f"--port={port}", f"--notebook-dir={self.folder}"]
        places = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
        places += ("JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR")
        own = {name: str(self.home / name.lower()) for name in places}
        environment = {**os.environ, **own, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        self.log = (self.home / "log").open("w")
        self.process = subprocess.Popen(command, env=environment, stdout=self.log, stderr=subprocess.STDOUT)
        self._wait()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()  # ends its kernels as well
        self.process.wait(30)
        self.log.close()
        shutil.rmtree(self.home, ignore_errors=True)

    def _wait(self) -> None:
        end = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"{self.url}/api/status", timeout=5)
                return
            except (urllib.error.URLError, ConnectionError):
                if self.process.poll() is not None or time.monotonic() > end:
                    raise RuntimeError((self.home / "log").read_text()) from None
                time.sleep(0.2)

    def prefer(self, theme: str) -> None:
        """JupyterLab's settings: the theme, no news, and no cell left out because it is far down."""
        for name, settings in {
            "apputils-extension/themes": {"theme": THEMES[theme]},
            "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
            "notebook-extension/tracker": {"windowingMode": "none"},
        }.items():
            path = self.home / "jupyterlab_settings_dir" / "@jupyterlab" / f"{name}.jupyterlab-settings"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(settings))

    def show(self, page: Page, name: str, code: str, *, theme: str = "light") -> Locator:
        """Open a new notebook, run `code`, which makes `panel`, and return the panel once it is there."""
        self.prefer(theme)
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(source) for source in (code.strip(), "panel")],
            metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
        )
        nbformat.write(notebook, self.folder / f"{name}.ipynb")
        self.open(page, name)
        if self.kind == "lab":
            page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")
        else:
            page.evaluate("Jupyter.notebook.execute_all_cells()")
        return panel(page)

    def open(self, page: Page, name: str) -> None:
        """Open a notebook and wait for its kernel."""
        if self.kind == "lab":
            page.goto(f"{self.url}/doc/tree/{name}.ipynb?reset")
            page.wait_for_function("window.jupyterapp && window.jupyterapp.shell.currentWidget?.context?.isReady")
            page.wait_for_function(f"({KERNEL_OF_LAB})?.connectionStatus == 'connected'")
        else:
            page.goto(f"{self.url}/notebooks/{name}.ipynb")
            page.wait_for_function("window.Jupyter?.notebook?.kernel?.is_connected() && Jupyter.notebook._fully_loaded")
            for _ in range(
                3
            ):  # it asks for widgets of before; a cell that is run sooner is drawn twice and then hidden
                page.evaluate("new Promise(done => Jupyter.notebook.kernel.comm_info('jupyter.widget', done))")


KERNEL_OF_LAB = "window.jupyterapp.shell.currentWidget.context.sessionContext.session?.kernel"


def panel(page: Page) -> Locator:
    """The panel in the page's last output."""
    found = page.locator(OUTPUT).locator(".widget-vbox").first
    failed = page.get_by_text("Traceback (most recent call last)").first
    found.or_(failed).first.wait_for()
    assert not failed.count(), page.locator(OUTPUT).all_inner_texts()
    return found


def save(page: Page) -> None:
    """Save JupyterLab's notebook with its outputs and the state of its widgets."""
    page.evaluate("window.jupyterapp.commands.execute('docmanager:save')")
    page.wait_for_function("!window.jupyterapp.shell.currentWidget.context.model.dirty")


def press(where: Locator, label: str) -> None:
    """Click on the panel's button that says exactly `label`."""
    where.locator("button.jupyter-button").filter(has_text=re.compile(rf"^\s*{re.escape(label)}\s*$")).click()


def says(where: Locator, text: str, *, seconds: float = 60) -> None:
    """Wait until the panel says `text` somewhere."""
    where.get_by_text(text).locator("visible=true").first.wait_for(timeout=1000 * seconds)


def step_shown(where: Locator) -> int:
    """The number of the step that the panel says it is at."""
    found = re.search(r"step (\d+) of \d+ ", where.inner_text())
    return int(found[1]) if found else -1


def wait_for_step(where: Locator, step: int, *, seconds: float = 60) -> None:
    """Wait until the panel says it is at `step` or later."""
    until(where, lambda: step_shown(where) >= step, f"step {step}", seconds=seconds)


def until(where: Locator, seen: Callable[[], bool], what: str, *, seconds: float = 60) -> None:
    """Look at the page until something is seen in it."""
    end = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < end, f"no {what} after {seconds} s; the panel says: {where.inner_text()}"
        where.page.wait_for_timeout(100)


def settle(where: Locator) -> None:
    """Wait until nothing changes any more: no text, no picture, no size."""
    before: object = None

    def unchanged() -> bool:
        nonlocal before
        last, before = before, (where.inner_text(), contents(where), where.bounding_box())
        where.page.wait_for_timeout(1000)
        return last == before and "" not in before[1]

    until(where, unchanged, "rest")


def contents(where: Locator) -> list[str]:
    """What the panel's images hold, as the browser has them; "" for one that was just replaced."""
    return list(where.evaluate(CONTENTS))


CONTENTS = """async panel => {
    const images = Array.from(panel.querySelectorAll("img"));
    const content = async image => Array.from(new Uint8Array(await (await fetch(image.src)).arrayBuffer())).join();
    return Promise.all(images.map(image => content(image).catch(() => "")));
}"""


def control(where: Locator, label: str) -> Locator:
    """The whole control, such as a slider with its readout, whose label is `label`."""
    exactly = where.page.get_by_text(label, exact=True)
    return where.locator(".widget-inline-hbox, .jupyter-widget-inline-hbox").filter(has=exactly).first


def picture(page: Page, where: Path) -> Path:
    """Write a PNG of the panel and the margin round it, without the rest of the page."""
    area = page.locator(OUTPUT).filter(has=page.locator(".widget-vbox")).last
    settle(area)
    page.mouse.move(0, 0)
    page.evaluate("document.activeElement.blur()")
    area.scroll_into_view_if_needed()
    where.parent.mkdir(parents=True, exist_ok=True)
    area.screenshot(path=where, animations="disabled")
    Image.open(where).convert("RGB").save(where, optimize=True)
    return where


def pictures_of_training(server: Server, page: Page, theme: str) -> None:
    """Half-way through a run, paused."""
    shown = server.show(page, f"train-{theme}", TRAIN.format(steps=150, watch=25, every=25), theme=theme)
    press(shown, "Start")
    wait_for_step(shown, 101, seconds=200)
    press(shown, "Pause")
    says(shown, "Paused")
    picture(page, PICTURES / f"panel_train_{theme}.png")


def pictures_of_preparing(server: Server, page: Page, theme: str) -> None:
    """With five pictures chosen."""
    shown = server.show(page, f"prepare-{theme}", PREPARE, theme=theme)
    upload(shown)
    says(shown, "5 pictures added")
    write(shown, "New word", "<my-penguin>")
    write(shown, "Start from", "bird")
    picture(page, PICTURES / f"panel_prepare_{theme}.png")


def pictures_of_exploring(server: Server, page: Page, theme: str) -> None:
    """With pictures drawn."""
    shown = server.show(page, f"explore-{theme}", EXPLORE.format(steps=150), theme=theme)
    press(shown, "Draw")
    says(shown, "Drawn", seconds=120)
    picture(page, PICTURES / f"panel_explore_{theme}.png")


def pictures_of_publishing(server: Server, page: Page, theme: str) -> None:
    """With all shown that would go, and confirmed."""
    with HubServer() as hub:
        environment = client_environment(hub, server.home / "client", token="hf_test_alice_write")
        code = PUBLISH.format(environment=environment, steps=150)
        shown = server.show(page, f"publish-{theme}", code, theme=theme)
        press(shown, "Show what will go")
        says(shown, "would go to", seconds=120)
        tick(shown, "I may publish this")
        says(shown, "Ready")
        picture(page, PICTURES / f"panel_publish_{theme}.png")


def tick(where: Locator, label: str) -> None:
    """Tick the box whose label has these words."""
    where.locator(".widget-checkbox").filter(has_text=label).locator("input").check()


def untick(where: Locator, label: str) -> None:
    """Take the tick away again."""
    where.locator(".widget-checkbox").filter(has_text=label).locator("input").uncheck()


def choose(where: Locator, label: str, option: str) -> None:
    """Choose an option of a list, by its words."""
    control(where, label).locator("select").select_option(label=option)


def write(where: Locator, label: str, text: str) -> None:
    """Put `text` into a text box, as typed."""
    box = control(where, label).locator("input, textarea")
    box.fill(text)
    box.press("Tab")


def upload(where: Locator) -> None:
    """Choose the example's photographs in the dialogue that the upload button opens."""
    with where.page.expect_file_chooser() as chooser:
        where.locator("button", has_text="Upload pictures").click()
    chooser.value.set_files(sorted(PHOTOS.glob("*.png")))


if __name__ == "__main__":
    if sys.argv[1:2] != ["pictures"] or why_not("lab"):
        raise SystemExit(
            why_not("lab") or "write: python -m tests.browser pictures [train] [prepare] [explore] [publish]"
        )
    work = {
        "train": pictures_of_training,
        "prepare": pictures_of_preparing,
        "explore": pictures_of_exploring,
        "publish": pictures_of_publishing,
    }
    with Server("lab") as lab, browser_page() as tab:
        for name in sys.argv[2:] or work:
            for colours in THEMES:
                work[name](lab, tab, colours)
                print(PICTURES / f"panel_{name}_{colours}.png")
