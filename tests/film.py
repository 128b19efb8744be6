"""The whole way as a person goes it, in a real browser: from five photographs to a published word.

`python -m tests.film [lab] [classic] [light] [dark] [narrow] [zoomed] FOLDER` goes it and leaves pictures of each stage there:
on a light and on a dark page, in one of 800 px, at a zoom of 200 %.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
from PIL import Image, ImageDraw, ImageFilter

from tests import browser
from tests.browser import Server, choose, control, press, says, tick, until, wait_for_step, write
from tests.hub_server import HubServer, client_environment

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

PANEL = ".ti-nb-panel"
CELLS = {
    "prepare": """
import os
os.environ.update({environment})
import ti_nb as ti
model = ti.load_model("tiny")
prepare = ti.PreparePanel(model)
prepare""",
    "train": """
photos = prepare.images()
run = ti.train(model, photos, **prepare.settings(), steps=24, watch=6, out="my-toy")
training = ti.TrainPanel(run, seeds=3, every=12, draw=dict(steps=6), background=True)
training""",
    "explore": """
explore = ti.ExplorePanel(model, run)
explore""",
    "publish": """
publish = ti.PublishPanel(explore.word(), samples=explore.drawings[0].samples, pictures=photos, run=run)
publish""",
}
VIEWS = {  # width in CSS px, theme
    "light": (1280, "light"),
    "dark": (1280, "dark"),
    "narrow": (800, "light"),
    "zoomed": (640, "light"),  # what a window of 1280 px holds at 200 %
}
Look = Callable[[str, "Locator"], None]


def photographs(folder: Path) -> list[Path]:
    """Five made-up photographs of one toy as a phone writes them: JPEG, some of them on their side and turned by EXIF."""
    grounds = [("#c9b28f", "#8a6b45"), ("#7fa65c", "#42602f"), ("#b9c4cc", "#76828c"), ("#d8c7c0", "#a08078"), ("#6d87a8", "#384a63")]  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    return [_photograph(folder / f"IMG_{2041 + i}.jpg", *ground, turned=i % 2 == 1) for i, ground in enumerate(grounds)]


def _photograph(path: Path, sky: str, floor: str, *, turned: bool) -> Path:
    number = int(path.stem[-1])
    picture = Image.new("RGB", (900, 1200), sky)
    draw = ImageDraw.Draw(picture)
    draw.rectangle([0, 700, 900, 1200], fill=floor)
    draw.rectangle([90 * number, 80, 90 * number + 200, 300 + 60 * number], fill=floor)  # something behind it
    x, y, r = 380 + 30 * number, 640 + 20 * number, 190 + 10 * number  # the toy: a red ball with ears and eyes
    for side in (-1, 1):
        draw.ellipse([x + side * r * 0.7 - 70, y - r - 60, x + side * r * 0.7 + 70, y - r + 90], fill="#8c1f28")
    draw.ellipse([x - r, y - r, x + r, y + r], fill="#c8323c")
    draw.ellipse([x - r / 2, y - r / 8, x + r / 2, y + r * 0.8], fill="#f1dcc0")
    for side in (-1, 1):
        draw.ellipse([x + side * r / 3 - 22, y - r / 2 - 22, x + side * r / 3 + 22, y - r / 2 + 22], fill="#101018")
    noise = Image.effect_noise(picture.size, 40).convert("RGB")
    picture = Image.blend(picture.filter(ImageFilter.GaussianBlur(2)), noise, 0.12)
    exif = Image.Exif()
    exif[0x0110], exif[0x0112] = "Pretend 7", 6 if turned else 1  # the camera; which side is up
    exif.get_ifd(0x8825)[1] = "N"  # and where it was taken
    (picture.rotate(90, expand=True) if turned else picture).save(path, quality=90, exif=exif)
    return path


def go(server: Server, page: Page, hub: HubServer, *, look: Look) -> None:
    """Go the whole way in one notebook; `look` is called at each stage with its name and its panel."""
    environment = client_environment(hub, server.home / "client", token="hf_test_alice_write")
    prepare, train, explore, publish = open_notebook(server, page, environment)
    shown = prepare()
    prepare_by_hand(shown, photographs(server.home / "photographs"))
    look("prepare", shown)
    shown = train()
    train_with_a_pause(shown)
    look("train", shown)
    shown = explore()
    pick_a_step_and_draw(shown)
    look("explore", shown)
    shown = publish()
    show_and_publish(shown, look)


def open_notebook(server: Server, page: Page, environment: dict[str, str]) -> list[Callable[[], Locator]]:
    """A notebook of four cells; returns functions that run one of them each and return its panel."""
    server.prefer("light")
    cells = [text.replace("{environment}", repr(environment)).strip() for text in CELLS.values()]
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(text) for text in cells],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    )
    nbformat.write(notebook, server.folder / "film.ipynb")
    server.open(page, "film")

    def run(number: int) -> Locator:
        if server.kind == "lab":
            page.evaluate(f"window.jupyterapp.shell.currentWidget.content.activeCellIndex = {number}")
            page.evaluate("void window.jupyterapp.commands.execute('notebook:run-cell')")
        else:
            page.evaluate(f"Jupyter.notebook.execute_cells([{number}])")
        found, failed = page.locator(PANEL).nth(number), page.get_by_text("Traceback (most recent call last)").first
        found.or_(failed).first.wait_for(timeout=300_000)
        assert not failed.count(), page.locator(browser.OUTPUT).all_inner_texts()
        return found

    return [lambda number=number: run(number) for number in range(len(cells))]  # type: ignore[misc]


def prepare_by_hand(shown: Locator, photographs: Sequence[Path]) -> None:
    """Upload, drag a crop, paint a mask and take a stroke back, write captions and the word."""
    with shown.page.expect_file_chooser() as chooser:
        shown.locator("button", has_text="Upload pictures").click()
    chooser.value.set_files(photographs)
    says(shown, "5 pictures added")
    press(shown, "Guess all crops")
    choose(shown, "Picture", photographs[0].name)
    picture = shown.locator("canvas")
    left, top, side = square_of(shown)
    corner = (left + side - 8, top + side - 8)
    drag(picture, *(((x - by) / 900, (y - by) / 1200) for x, y in [corner] for by in (0, 120)))
    until(shown, lambda: square_of(shown)[2] < side - 60, "smaller square")
    press(shown, "Paint mask")
    drag(picture, (0.3, 0.45), (0.6, 0.45), (0.6, 0.6), (0.3, 0.6), (0.5, 0.5))
    says(shown, "the mask keeps")
    before = shown.get_by_text("the mask keeps").first.inner_text()
    drag(picture, (0.05, 0.05), (0.4, 0.3))
    until(shown, lambda: shown.get_by_text("the mask keeps").first.inner_text() != before, "longer mask")
    shown.locator(".ti-nb-bar button", has_text="Undo stroke").click()
    until(shown, lambda: shown.get_by_text("the mask keeps").first.inner_text() == before, "mask of before")
    rows = shown.locator(".widget-text").filter(has=shown.page.get_by_text("Caption", exact=True))
    for box in rows.locator("input:visible").all():
        box.fill("a {} at home")
        box.press("Tab")
    says(shown, "it says: a <my-thing> at home")
    write(shown, "New word", "<my-toy>")
    write(shown, "Start from", "toy")
    says(shown, "it says: a <my-toy> at home")


def square_of(shown: Locator) -> tuple[int, int, int]:
    """Left, top and side in px of the square that the panel says it uses."""
    found = re.search(r"square of (\d+) px at left (\d+), top (\d+)", shown.inner_text())
    assert found, shown.inner_text()
    side, left, top = map(int, found.groups())
    return left, top, side


def drag(canvas: Locator, *points: tuple[float, float]) -> None:
    """Drag the mouse through these points, in shares of the canvas."""
    canvas.scroll_into_view_if_needed()
    box, mouse = canvas.bounding_box(), canvas.page.mouse
    assert box is not None
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    mouse.move(*places[0])
    mouse.down()
    for place in places[1:]:
        mouse.move(*place, steps=8)
    mouse.up()


def train_with_a_pause(shown: Locator) -> None:
    """Start, pause, resume, wait for the end."""
    press(shown, "Start")
    wait_for_step(shown, 3, seconds=120)
    press(shown, "Pause")
    says(shown, "Paused")
    press(shown, "Resume")
    says(shown, "Finished", seconds=240)
    says(shown, "After step 24")


def pick_a_step_and_draw(shown: Locator) -> None:
    """Take the word from an earlier step, and draw it beside the last one."""
    before = control(shown, "After step").locator(".widget-readout").inner_text()
    assert before == "24"
    for _ in range(6):
        control(shown, "After step").locator(".noUi-handle, .ui-slider-handle").press("ArrowLeft")
    write(shown, "Prompt", "a {word} on the beach")
    write(shown, "Seeds", "0-2")
    choose(shown, "Compare by", "initializer and word")
    says(shown, "draws 6 pictures")
    press(shown, "Draw")
    says(shown, "Drawn: 6 of 6", seconds=240)
    says(shown, "after step 18")


def show_and_publish(shown: Locator, look: Look) -> None:
    """See what would go, say whom it shows, confirm, publish."""
    says(shown, "alice is logged in")
    assert ticked(shown) == [False] * 3 + [True] * 3  # the initializer's pictures are none of the word's
    choose(shown, "It shows", "no real person")
    press(shown, "Show what will go")
    says(shown, "would go to alice/my-toy")
    tick(shown, "I may publish this")
    says(shown, "Ready: alice/my-toy")
    look("publish", shown)
    press(shown, "Publish")
    says(shown, "Published:")
    look("published", shown)


def ticked(shown: Locator) -> list[bool]:
    """Which of the drawn pictures would be published."""
    boxes = shown.locator(".widget-checkbox").filter(has_text="Publish picture").locator("input")
    return [box.is_checked() for box in boxes.all()]


def use_view(server: Server, page: Page, name: str) -> None:
    """Set the page's width, its zoom and JupyterLab's theme."""
    width, theme = VIEWS[name]
    page.set_viewport_size({"width": width, "height": 3600})
    if server.kind == "lab":
        page.evaluate(f"window.jupyterapp.commands.execute('apputils:change-theme', {{theme: '{browser.THEMES[theme]}'}})")  # fmt: skip
        page.wait_for_function(f"document.body.dataset.jpThemeLight === '{str(theme == 'light').lower()}'")
    page.wait_for_timeout(1000)


def looked_at(
    server: Server,
    page: Page,
    folder: Path,
    views: Sequence[str] = tuple(VIEWS),
    tell: Callable[[list[str]], object] = lambda found: [print(one, flush=True) for one in found],
) -> Look:
    """Leaves a picture of a stage in each view, and tells what axe-core finds in it."""

    def look(stage: str, shown: Locator) -> None:
        for name in views:
            if name == "dark" and server.kind == "classic":
                continue  # which has no dark theme
            use_view(server, page, name)
            shown.scroll_into_view_if_needed()
            shown.screenshot(path=folder / f"{server.kind}_{stage}_{name}.png", animations="disabled")
            tell([f"{stage}, {name}: {one}" for one in serious(page)])
        use_view(server, page, "light")

    return look


def serious(page: Page) -> list[str]:
    """What axe-core finds in our panels that is serious or critical, a line each."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page, context=PANEL).response["violations"]
    return [
        f"{one['id']}: {one['help']}: {node['html'][:200]} {_why(node)}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


def _why(node: dict[str, Any]) -> str:
    return "; ".join(check["message"] for kind in ("any", "all", "none") for check in node[kind])


@contextmanager
def film(kind: str) -> Iterator[tuple[Server, Page, HubServer]]:
    with HubServer() as hub, Server(kind) as server, browser.browser_page() as page:
        yield server, page, hub


def main(arguments: Sequence[str]) -> None:
    *chosen, folder = arguments
    Path(folder).mkdir(parents=True, exist_ok=True)
    views = [name for name in chosen if name in VIEWS] or list(VIEWS)
    for kind in [name for name in chosen if name in browser.COMMANDS] or ["lab"]:
        with film(kind) as (server, page, hub):
            go(server, page, hub, look=looked_at(server, page, Path(folder), views))


if __name__ == "__main__":
    main(sys.argv[1:])
