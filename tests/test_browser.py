"""Real clicks in a real browser steer the panels, in JupyterLab 4 and in the classic Notebook 6 with Colab's versions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import browser, film
from tests.browser import Server, contents, control, panel, press, says, step_shown, until, wait_for_step, write
from tests.hub_server import HubServer, client_environment

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.thorough


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with browser.browser_page() as page:
        yield page


def server_of(kind: str) -> Iterator[Server]:
    if missing := browser.why_not(kind):
        pytest.skip(missing)
    with Server(kind) as server:
        yield server


lab = pytest.fixture(lambda: (yield from server_of("lab")), scope="module", name="lab")
classic = pytest.fixture(lambda: (yield from server_of("classic")), scope="module", name="classic")
TRAIN = browser.TRAIN.format(steps=400, watch=0, every=0)
HOSTILE = """
from dataclasses import replace
samples[0] = replace(samples[0], prompt="</pre><img src=x onerror='window.hacked=1'>")
panel = ti.PublishPanel(run.concept(), samples=samples, pictures=photos, run=run)
"""
LOGIN = """
import huggingface_hub, pathlib, time
from IPython.display import HTML, display
def notebook_login(**_):
    display(HTML("your code is ABCD"))
    time.sleep(3)
    kept = pathlib.Path(os.environ["HF_TOKEN_PATH"])
    kept.parent.mkdir(parents=True)
    kept.write_text("hf_test_alice_write")
huggingface_hub.notebook_login = notebook_login
"""


def stays_at_its_step(shown: browser.Locator) -> bool:
    before = step_shown(shown)
    shown.page.wait_for_timeout(1500)
    return step_shown(shown) == before > 0


def test_training_pauses_resumes_samples_and_stops(lab: Server, page: Page, tmp_path: Path) -> None:
    train_with_clicks(lab, page, tmp_path)


def test_training_does_so_in_the_classic_notebook_with_colabs_versions(
    classic: Server, page: Page, tmp_path: Path
) -> None:
    train_with_clicks(classic, page, tmp_path)


def train_with_clicks(server: Server, page: Page, folder: Path) -> None:
    shown = server.show(page, "train", TRAIN)
    press(shown, "Start")
    wait_for_step(shown, 2)
    press(shown, "Pause")
    says(shown, "Paused")
    assert stays_at_its_step(shown)
    paused_at = step_shown(shown)
    press(shown, "Resume")
    wait_for_step(shown, paused_at + 2)
    press(shown, "Sample now")
    says(shown, "After step")
    press(shown, "Stop")
    says(shown, "Stopped")
    assert stays_at_its_step(shown)
    assert paused_at < step_shown(shown) < 400
    assert browser.picture(page, folder / "train.png").stat().st_size > 10_000


def test_the_whole_way_from_photographs_to_a_published_word(lab: Server, page: Page, tmp_path: Path) -> None:
    whole_way(lab, page, tmp_path)


def test_the_whole_way_in_the_classic_notebook_with_colabs_versions(
    classic: Server, page: Page, tmp_path: Path
) -> None:
    whole_way(classic, page, tmp_path)


def whole_way(server: Server, page: Page, folder: Path) -> None:
    """At each stage, in each theme and width, axe-core finds nothing serious in our panels."""
    pytest.importorskip("axe_playwright_python")
    found: list[str] = []
    with HubServer() as hub:
        film.go(server, page, hub, look=film.looked_at(server, page, folder, tell=found.extend))
        repo = hub.repos["alice/my-toy"]
    assert found == []
    assert repo.private and sorted(name for name in repo.files if name.startswith("gallery/")) == [
        f"gallery/0{i}.png" for i in (1, 2, 3)
    ]
    assert not any(name.startswith("concept_images/") for name in repo.files)


def test_after_a_reload_in_mid_run_the_panel_is_back_and_works(lab: Server, page: Page) -> None:
    shown = lab.show(page, "reload", TRAIN)
    press(shown, "Start")
    wait_for_step(shown, 2)
    browser.save(page)
    before = step_shown(shown)
    page.reload()
    shown = panel(page)
    wait_for_step(shown, before + 2)
    press(shown, "Stop")
    says(shown, "Stopped")
    assert stays_at_its_step(shown)


def test_photographs_are_uploaded_and_prepared(lab: Server, page: Page, tmp_path: Path) -> None:
    shown = lab.show(page, "prepare", browser.PREPARE)
    browser.upload(shown)
    says(shown, "5 pictures added")
    until(shown, lambda: shown.get_by_text("Use this picture").count() == 5, "five pictures")
    write(shown, "New word", "<cat")
    says(shown, "write '<cat>'")
    write(shown, "New word", "<my-penguin>")
    write(shown, "Start from", "bird")
    says(shown, "free: the model has no such word yet")
    says(shown, " <my-penguin>")  # in what the model will see
    assert browser.picture(page, tmp_path / "prepare.png").stat().st_size > 10_000


def test_the_crop_is_dragged_and_the_mask_painted(lab: Server, page: Page) -> None:
    drag_and_paint(lab, page)


def test_so_they_are_in_the_classic_notebook_with_colabs_versions(classic: Server, page: Page) -> None:
    drag_and_paint(classic, page)


def drag_and_paint(server: Server, page: Page) -> None:
    """With the mouse, then with the keyboard; what the panel says of the crop is what the kernel has."""
    shown = server.show(page, "hands", browser.PREPARE + "panel.load(ti.example_images('penguin'))")
    picture = shown.locator("canvas")

    def drag(*points: tuple[float, float]) -> None:
        picture.scroll_into_view_if_needed()
        box = picture.bounding_box()
        assert box is not None
        across, down = zip(*((box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points))
        page.mouse.move(across[0], down[0])
        page.mouse.down()
        for x, y in zip(across[1:], down[1:]):
            page.mouse.move(x, y, steps=8)
        page.mouse.up()

    drag((0.99, 0.99), (0.75, 0.75))
    says(shown, "the square of 48 px at left 0, top 0 of 64 x 64 px")
    drag((0.3, 0.3), (0.55, 0.3))
    says(shown, "the square of 48 px at left 16, top 0")
    picture.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("-")
    says(shown, "the square of 47 px at left 17, top 2")
    press(shown, "Paint mask")
    drag((0.4, 0.5), (0.8, 0.5))
    says(shown, "the mask keeps")
    picture.focus()
    page.keyboard.press("Control+z")
    until(shown, lambda: not shown.get_by_text("the mask keeps").count(), "mask that is off again")
    press(shown, "Erase mask")
    picture.focus()
    page.keyboard.press(" ")
    says(shown, "the mask keeps 9")  # all but a dot


def test_sliders_change_what_is_drawn(lab: Server, page: Page, tmp_path: Path) -> None:
    shown = lab.show(page, "explore", browser.EXPLORE.format(steps=5))
    write(shown, "Prompt", "a {word} on the beach")
    write(shown, "Seeds", "0-1")
    press(shown, "Draw")
    says(shown, "Drawn")
    until(shown, lambda: len(contents(shown)) == 2, "two pictures")
    first = contents(shown)
    slide(shown, "Strength", "ArrowLeft", 10)
    slide(shown, "Editability", "ArrowRight", 4)
    press(shown, "Draw")
    until(shown, lambda: all(new not in ("", old) for new, old in zip(contents(shown), first)), "other pictures")
    says(shown, "Drawn: 2 of 2")
    assert browser.picture(page, tmp_path / "explore.png").stat().st_size > 10_000
    slide(shown, "Strength", "ArrowRight", 10)
    slide(shown, "Editability", "ArrowLeft", 4)
    press(shown, "Draw")
    until(shown, lambda: contents(shown) == first, "the first pictures again")


def test_a_word_is_shown_confirmed_and_published(lab: Server, page: Page, tmp_path: Path) -> None:
    publish_with_clicks(lab, page, tmp_path)


def test_a_word_is_published_in_the_classic_notebook_with_colabs_versions(
    classic: Server, page: Page, tmp_path: Path
) -> None:
    publish_with_clicks(classic, page, tmp_path)


def publish_with_clicks(server: Server, page: Page, folder: Path) -> None:
    """From nobody logged in to a public repository whose card has a prompt that would run if it were taken for HTML."""
    with HubServer() as hub:
        environment = client_environment(hub, server.home / "client")
        shown = server.show(page, "publish", browser.PUBLISH.format(environment=environment, steps=2) + HOSTILE + LOGIN)
        says(shown, "nobody is logged in")
        press(shown, "Show what will go")
        says(shown, "you are not logged in")
        press(shown, "Log in")
        says(shown, "your code is ABCD")  # in the panel, while the login waits
        says(shown, "alice is logged in")
        until(shown, lambda: not shown.get_by_text("your code is ABCD").count(), "end of the login's page")
        says(shown, "This is out of date")
        publish = shown.locator("button", has_text="Publish")
        assert publish.is_disabled()

        browser.choose(shown, "Owner", "cats (organisation)")
        browser.untick(shown, "Publish picture 2")
        press(shown, "Show what will go")
        says(shown, "7 files")
        says(shown, "gallery/03.png")
        assert publish.is_disabled() and hub.repos == {}
        browser.tick(shown, "I may publish this")
        says(shown, "only members of cats can see it")
        press(shown, "Publish")
        says(shown, "Published: 7 files")
        repo = hub.repos["cats/my-penguin"]
        assert repo.private and "gallery/03.png" in repo.files and "gallery/04.png" not in repo.files
        assert b"onerror" in repo.files["README.md"]
        link = shown.get_by_text("Open its page")
        assert link.get_attribute("href") == f"{hub.url}/cats/my-penguin" and "noopener" in link.get_attribute("rel")

        browser.choose(shown, "Who can see it", "everybody (public)")
        press(shown, "Show what will go")
        says(shown, "PUBLIC: everybody can see it")
        browser.tick(shown, "I may publish this")
        browser.tick(shown, "Yes, everybody may see")
        press(shown, "Publish for EVERYBODY to see")
        says(shown, "is PUBLIC: everybody can see it. Open its page")
        assert not repo.private
        assert page.evaluate("window.hacked") is None
        assert browser.picture(page, folder / "publish.png").stat().st_size > 10_000


def slide(shown: browser.Locator, label: str, key: str, times: int) -> None:
    """Move a slider by the keyboard, and see that its readout follows."""
    before = control(shown, label).locator(".widget-readout").inner_text()
    for _ in range(times):
        control(shown, label).locator(".noUi-handle").press(key)
    assert control(shown, label).locator(".widget-readout").inner_text() != before
