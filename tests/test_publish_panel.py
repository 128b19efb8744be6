"""The panel sends what it showed, to be seen by whom it said, after a yes; and it never holds a token."""

from __future__ import annotations

import html
import json
import threading
import warnings
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import huggingface_hub
import ipywidgets as widgets
import pytest
import torch
from PIL import Image

import ti_nb as ti
from tests.hub_server import HubServer, point_client_at
from ti_nb.host import frontend
from ti_nb.host.plain_text import size
from ti_nb.hub import client as hub_module
from ti_nb.results.drawing.samples import Sample
from ti_nb.widgets.publish import panel as publish
from ti_nb.widgets.publish.form import name_of
from ti_nb.widgets.publish.panel import PUBLISH, PUBLISH_TO_ALL, PublishPanel

pytestmark = pytest.mark.slow

TOKEN = "hf_test_alice_write"
HOSTILE = '<img src=x onerror="window.hacked=1">'


@pytest.fixture
def hub(naps: list[float], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    with HubServer() as server:
        point_client_at(server, monkeypatch, tmp_path / "client", token=TOKEN)
        yield server
        assert_no_token()
        widgets.Widget.close_all()  # or the next test looks through them too


def assert_no_token() -> None:
    """In the state of any widget that there is."""
    state = json.dumps(widgets.Widget.get_manager_state(), default=str)
    assert "hf_test" not in state, "a token is in a widget's state"


def log_in_as(hub: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, token: str | None) -> None:
    point_client_at(hub, monkeypatch, tmp_path / f"client-{token}", token=token)


def word(text: str = "<my-cat>", **facts: Any) -> ti.Concept:
    rows = 0.02 * torch.randn(1, 768, generator=torch.Generator().manual_seed(3))
    return ti.Concept(text, {"clip_l": rows}, {"init": "cat", "base": "sd15", **facts})


def samples(count: int = 3, prompt: str = "a <my-cat> on beach {}") -> list[Sample]:
    return [Sample(Image.new("RGB", (64, 64), (40 * i, 90, 200)), prompt.format(i), i) for i in range(count)]


def photographs() -> ti.ConceptImages:
    return ti.load_images([Image.new("RGB", (600, 600), colour) for colour in ("red", "blue")])


@pytest.fixture
def panel(hub: HubServer) -> PublishPanel:
    return PublishPanel(word(), samples=samples(), pictures=photographs())


def words(widget: widgets.Widget) -> Iterator[str]:
    """All text of a widget and those in it that is shown."""
    if widget.layout.display != "none":
        for name in ("value", "description"):
            if isinstance(getattr(widget, name, None), str):
                yield getattr(widget, name)
        for child in getattr(widget, "children", ()):
            yield from words(child)


class Tags(HTMLParser):
    """The elements that a browser would make of a text."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)


def every(widget: widgets.Widget, kind: Any = widgets.Widget) -> Iterator[Any]:
    if isinstance(widget, kind):
        yield widget
    for child in getattr(widget, "children", ()):
        yield from every(child, kind)


def held(hub: HubServer, repo: str = "alice/my-cat") -> dict[str, bytes]:
    return {name: data for name, data in hub.repos[repo].files.items() if name != ".gitattributes"}


def show_and_confirm(panel: PublishPanel) -> None:
    panel.plan_button.click()
    panel.confirm.value = True


def test_by_default_it_is_private_and_without_training_pictures(panel: PublishPanel, hub: HubServer) -> None:
    show_and_confirm(panel)
    assert "private: only you can see it" in panel.where.value and not panel.publish_button.disabled
    panel.publish_button.click()
    assert hub.repos["alice/my-cat"].private
    assert sorted(held(hub)) == [
        "README.md", "gallery/01.png", "gallery/02.png", "gallery/03.png",
        "learned_embeds.safetensors", "token_identifier.txt", "type_of_concept.txt",
    ]  # fmt: skip
    assert "creativeml-openrail-m" in held(hub)["README.md"].decode()
    assert "✓ Published: 7 files" in panel.message.value and "private: only you" in panel.message.value
    assert f'href="{hub.url}/alice/my-cat" target="_blank" rel="noopener noreferrer"' in panel.message.value
    assert panel.publication is not None and panel.publication.commit == hub.repos["alice/my-cat"].head.oid
    assert panel.publish_button.disabled and "It is published" in panel.ready.value


def test_what_is_shown_is_what_then_goes(panel: PublishPanel, hub: HubServer) -> None:
    panel.kind.value, panel.training.value, panel.ticks[1].value = "style", True, False
    hub.requests.clear()
    planned = panel.plan()
    assert hub.repos == {} and {r.method for r in hub.requests} == {"GET"}
    panel.confirm.value = True
    done = panel.publish()
    assert dict(planned.files) == dict(done.files) == held(hub)
    for name, data in planned.files.items():
        assert f">{name}</td>" in panel.files.value and size(len(data)) in panel.files.value
    assert "TRAINING PICTURE" in panel.files.value
    assert all(line in panel.page.value for line in html.escape(planned.card).splitlines() if line != "---")
    assert done.repo == planned.repo == "alice/my-cat" and held(hub)["type_of_concept.txt"] == b"style"


def test_the_methods_and_publish_with_the_settings_do_the_same(hub: HubServer) -> None:
    panel = PublishPanel(word(), samples=samples())
    panel.repository.value = "by-method"
    panel.plan()
    panel.confirm.value = True
    panel.publish()
    panel.repository.value = "by-function"
    ti.publish(panel.concept, **panel.settings())
    one, two = held(hub, "alice/by-method"), held(hub, "alice/by-function")
    assert {n: d.replace(b"by-method", b"by-function") for n, d in one.items()} == two


def test_nothing_goes_unseen_or_unconfirmed(panel: PublishPanel, hub: HubServer) -> None:
    def refused(why: str) -> None:
        assert panel.publish_button.disabled and why in panel.ready.value.replace("&#x27;", "'")
        panel.publish_button.click()
        with pytest.raises(ValueError, match=why):
            panel.publish()
        assert hub.repos == {}

    panel.confirm.value = True
    refused("First press 'Show what will go'")
    panel.plan_button.click()
    panel.confirm.value = False
    refused("Tick 'I may publish this' first")
    panel.confirm.value = True
    assert not panel.publish_button.disabled and "Ready" in panel.ready.value


def test_a_change_asks_to_look_again(panel: PublishPanel, hub: HubServer) -> None:
    changes = {
        panel.repository: "other",
        panel.owner: "cats",
        panel.kind: "style",
        panel.license: "mit",
        panel.visible: "public",
        panel.training: True,
        panel.ticks[0]: False,
    }
    for control, value in changes.items():
        show_and_confirm(panel)
        assert not panel.publish_button.disabled
        before, control.value = control.value, value
        assert panel.publish_button.disabled, control.description
        assert "out of date" in panel.ready.value and "Warning" in panel.where.value
        panel.confirm.value = True
        with pytest.raises(ValueError, match="out of date"):
            panel.publish()
        control.value = before
        panel.confirm.value = True
        assert not panel.publish_button.disabled and "out of date" not in panel.where.value
    assert hub.repos == {}


def test_to_publish_for_everybody_takes_another_yes(panel: PublishPanel, hub: HubServer) -> None:
    panel.confirm.value = True
    panel.visible.value = "public"
    assert panel.publish_button.description == PUBLISH_TO_ALL and not panel.confirm.value
    show_and_confirm(panel)
    assert "PUBLIC: everybody can see it" in panel.where.value
    assert panel.publish_button.disabled and "Yes, everybody" in panel.ready.value
    with pytest.raises(ValueError, match="Yes, everybody may see"):
        panel.publish()
    panel.everybody.value = True
    panel.visible.value = "private"
    panel.visible.value = "public"
    assert not panel.everybody.value and not panel.confirm.value
    panel.confirm.value = panel.everybody.value = True
    panel.publish_button.click()
    assert not hub.repos["alice/my-cat"].private and "PUBLIC" in panel.message.value
    panel.visible.value = "private"
    assert panel.publish_button.description == PUBLISH and panel.everybody.layout.display == "none"
    show_and_confirm(panel)
    panel.publish_button.click()
    assert hub.repos["alice/my-cat"].private


def test_a_word_for_a_person_goes_to_everybody_only_with_a_word_on_consent(hub: HubServer) -> None:
    panel = PublishPanel(word("<her>", init="young woman"), samples=samples())
    show_and_confirm(panel)
    assert not panel.publish_button.disabled  # for oneself nothing is asked
    panel.visible.value = "public"
    assert "began as &#x27;young woman&#x27;" in panel.form.people_note.value
    panel.plan_button.click()
    assert "people=" in panel.message.value and panel.publish_button.disabled and hub.repos == {}
    panel.people.value = "with consent"
    show_and_confirm(panel)
    panel.everybody.value = True
    panel.publish_button.click()
    assert "a real person, who agreed to" in held(hub, "alice/her")["README.md"].decode()


def test_training_pictures_are_seen_before_they_go_and_the_yes_is_asked_again(
    panel: PublishPanel, hub: HubServer
) -> None:
    show_and_confirm(panel)
    assert panel.form.training_tiles.children == ()
    panel.training.value = True
    assert not panel.confirm.value
    assert len(list(every(panel.form.training_tiles, widgets.Image))) == 2
    show_and_confirm(panel)
    panel.publish_button.click()
    assert sum(name.startswith("concept_images/") for name in held(hub)) == 2
    panel.training.value = False
    assert panel.form.training_tiles.children == ()
    panel.plan_button.click()
    assert "concept_images/1.jpeg" in panel.files.value and "DELETED" in panel.files.value
    panel.confirm.value = True
    assert panel.publish().deleted == ("concept_images/0.jpeg", "concept_images/1.jpeg")


def test_without_pictures_their_box_says_why_it_is_off(hub: HubServer) -> None:
    panel = PublishPanel(word())
    assert panel.training.disabled and "none were given" in " ".join(words(panel))
    assert "no drawn pictures were given" in " ".join(words(panel))
    show_and_confirm(panel)
    panel.publish_button.click()
    assert len(held(hub)) == 4
    none = PublishPanel(word(), pictures=ti.ConceptImages((), ()))
    assert none.training.disabled


def test_pictures_of_other_vectors_are_left_out_unless_ticked() -> None:
    mine, other = word(), ti.Concept("<my-cat>", {"clip_l": torch.ones(1, 768)})
    drawn = [replace(sample, concepts=(by,)) for sample, by in zip(samples(2), (other, mine))]
    panel = PublishPanel(mine, samples=[*drawn, *samples(1)])
    assert [tick.value for tick in panel.ticks] == [False, True, True]
    assert sum("with other vectors" in text for text in words(panel.form)) == 1


def test_samples_that_are_not_ticked_stay(panel: PublishPanel, hub: HubServer) -> None:
    panel.ticks[0].value = panel.ticks[2].value = False
    show_and_confirm(panel)
    panel.publish_button.click()
    assert [name for name in held(hub) if name.startswith("gallery/")] == ["gallery/01.png"]
    card = held(hub)["README.md"].decode()
    assert "on beach 1" in card and "on beach 0" not in card and "on beach 2" not in card


@pytest.mark.parametrize(
    ("token", "who", "plan"),
    [
        (None, "nobody is logged in", "you are not logged in"),
        ("hf_test_nobody", "does not accept your token", "does not accept your token"),
        ("hf_test_alice_read", "alice is logged in, but your token may only read", "your token may only read"),
    ],
)
def test_who_may_not_publish_sees_what_would_go_and_why_it_can_t(
    token: str | None, who: str, plan: str, hub: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    log_in_as(hub, monkeypatch, tmp_path, token)
    panel = PublishPanel(word(), samples=samples())
    assert who in panel.account.who.value
    show_and_confirm(panel)
    assert "learned_embeds.safetensors" in panel.files.value
    assert plan in panel.where.value and plan in panel.ready.value and panel.publish_button.disabled
    with pytest.raises(ti.HubError, match=plan):
        panel.publish()
    assert hub.repos == {}
    log_in_as(hub, monkeypatch, tmp_path, TOKEN)  # as ti.log_in() in a cell does
    panel.account.refresh()
    assert "✓ alice is logged in" in panel.account.who.value
    assert "out of date" in panel.where.value and "out of date" in panel.ready.value
    show_and_confirm(panel)
    panel.publish_button.click()
    assert "alice/my-cat" in hub.repos


def test_a_login_in_a_cell_is_seen_by_the_next_look(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    log_in_as(hub, monkeypatch, tmp_path, None)
    panel = PublishPanel(word())
    assert panel.owner.disabled and panel.plan().note
    log_in_as(hub, monkeypatch, tmp_path, TOKEN)
    assert panel.plan().repo == "alice/my-cat" and panel.account.user == "alice"
    panel.confirm.value = True
    panel.publish()
    assert hub.repos["alice/my-cat"].private


def test_the_button_logs_in_as_log_in_does(hub: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    log_in_as(hub, monkeypatch, tmp_path, None)
    panel = PublishPanel(word())
    outcomes: list[Any] = [KeyboardInterrupt(), OSError("no route"), KeyError(TOKEN), ti.HubError("it said no"), None]

    def login(**_: Any) -> None:
        outcome = outcomes.pop(0) if outcomes else TOKEN
        if isinstance(outcome, BaseException):
            raise outcome
        if outcome is not None:
            log_in_as(hub, monkeypatch, tmp_path, outcome)

    monkeypatch.setattr(huggingface_hub, "notebook_login", login)
    monkeypatch.setattr(frontend, "frontend", lambda: "jupyter")
    for said in ("interrupted", "no route", "did not answer as it should", "it said no", "nobody is logged in yet"):
        panel.account.button.click()
        assert said in panel.account.who.value and panel.account.user == ""
    panel.account.button.click()
    assert "✓ alice is logged in" in panel.account.who.value and not panel.owner.disabled
    assert panel.account.page.value == ""


def test_places_where_one_may_write_are_offered(panel: PublishPanel, hub: HubServer) -> None:
    assert [value for _, value in panel.owner.options] == ["alice", "cats"]  # of "visitors" she is only a reader
    panel.owner.value = "cats"
    assert "it will be at cats/my-cat" in panel.form.repository_note.value
    assert "all members of cats" in panel.form.visible_note.value
    show_and_confirm(panel)
    assert "private: only members of cats can see it" in panel.where.value
    panel.publish_button.click()
    assert list(hub.repos) == ["cats/my-cat"]


@pytest.mark.parametrize("name", ["", "my cat", "../etc", "-cat", "my--cat", "cat.git", "ü", "bob/cat", HOSTILE])
def test_a_name_is_checked_while_it_is_typed(name: str, panel: PublishPanel, hub: HubServer) -> None:
    assert "✓ it will be at alice/my-cat" in panel.form.repository_note.value
    show_and_confirm(panel)
    hub.requests.clear()
    panel.repository.value = name
    assert "Error" in panel.form.repository_note.value and "<img" not in panel.form.repository_note.value
    assert panel.publish_button.disabled
    panel.plan_button.click()
    assert "Error" in panel.message.value
    for refused in (panel.plan, panel.publish, panel.settings):
        with pytest.raises(ValueError, match="repository"):
            refused()
    assert hub.requests == []
    panel.repository.value = " good.name_1 "
    assert "✓ it will be at alice/good.name_1" in panel.form.repository_note.value


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("<my-cat>", "my-cat"),
        ("<Größe 2>", "Gr-e-2"),
        ("<..>", "my-word"),
        ("x" * 200, "x" * 90),
        ("a__b.git", "a-b-git"),
    ],
)
def test_names_are_made_of_words(text: str, name: str) -> None:
    assert name_of(text) == name == hub_module.repository(f"alice/{name}").split("/")[1]


def test_a_name_that_is_taken_is_found_when_looking(panel: PublishPanel, hub: HubServer) -> None:
    hub.add("alice/my-cat", {"unet/config.json": b"{}"})
    show_and_confirm(panel)
    assert "holds something else" in panel.ready.value and panel.publish_button.disabled
    panel.repository.value = "my-other-cat"
    show_and_confirm(panel)
    panel.publish_button.click()
    assert "alice/my-other-cat" in hub.repos


def test_a_name_taken_between_looking_and_sending_is_refused(panel: PublishPanel, hub: HubServer) -> None:
    show_and_confirm(panel)
    hub.add("alice/my-cat", {"unet/config.json": b"{}"})
    panel.publish_button.click()
    assert "Error" in panel.message.value and "holds something else" in panel.message.value
    assert list(held(hub)) == ["unet/config.json"]


def test_after_a_fault_it_can_be_pressed_again(panel: PublishPanel, hub: HubServer) -> None:
    show_and_confirm(panel)
    hub.fail("POST", "/commit/", 503, times=100)
    panel.publish_button.click()
    assert "Error" in panel.message.value and "a problem of its own (503)" in panel.message.value
    assert panel.publication is None and not panel.publish_button.disabled
    with pytest.raises(ti.HubError, match="problem of its own"):
        panel.publish()
    hub.heal()
    panel.publish_button.click()
    assert "✓ Published" in panel.message.value and len(held(hub)) == 7


def test_waiting_for_the_hub_is_said_meanwhile_and_no_warning_gets_out(
    panel: PublishPanel, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(hub_module.time, "sleep", lambda _: said.append(panel.message.value))
    show_and_confirm(panel)
    panel.message.observe(lambda change: said.append(change["new"]), "value")
    hub.fail("POST", "/commit/", 503, times=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        panel.publish_button.click()
    assert "Sending 7 files" in said[0]
    assert sum("Warning" in text and "trying again" in text for text in said) >= 2
    assert "✓ Published" in said[-1]


def test_what_it_waits_for_is_said(hub: HubServer) -> None:
    panel = PublishPanel(word())
    hub.fail("GET", "/whoami", 503)
    said: list[str] = []
    panel.message.observe(lambda change: said.append(change["new"]), "value")
    panel.plan_button.click()
    assert sum("the Hub answered 503: trying again in 1 s" in text for text in said) == 1


def test_a_token_that_no_header_can_hold_is_refused_and_not_shown(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client would say all of it."""
    monkeypatch.setenv("HF_TOKEN", "hf_test_odd\x0bsecond_half")
    panel = PublishPanel(word())
    panel.plan_button.click()
    said = panel.account.who.value + panel.message.value + panel.where.value
    assert "odd character" in said and "hf_test_odd" not in said and "second_half" not in said


def test_an_interrupt_leaves_a_panel_that_works(
    panel: PublishPanel, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    show_and_confirm(panel)
    with monkeypatch.context() as patch:
        patch.setattr(publish, "publish", interrupted)
        panel.publish_button.click()
        assert "Interrupted" in panel.message.value
        with pytest.raises(KeyboardInterrupt):
            panel.publish()
    panel.publish_button.click()
    assert "✓ Published" in panel.message.value


def test_an_error_that_is_not_ours_is_named_without_its_text(
    panel: PublishPanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError(f"header Bearer {TOKEN}")

    show_and_confirm(panel)
    monkeypatch.setattr(publish, "publish", broken)
    panel.publish_button.click()
    assert "RuntimeError" in panel.message.value and not panel.publish_button.disabled


def test_a_second_click_while_it_sends_does_nothing(
    panel: PublishPanel, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clicks may come in a thread of their own (ipykernel 7.0 to 7.3)."""
    plain = publish.publish

    def slow(*args: Any, **settings: Any) -> ti.Publication:
        assert panel.publish_button.disabled and panel.plan_button.disabled
        thread = threading.Thread(target=panel.publish_button.click)
        thread.start()
        thread.join(30)
        with pytest.raises(RuntimeError, match="busy"):
            panel.plan()
        return plain(*args, **settings)

    show_and_confirm(panel)
    monkeypatch.setattr(publish, "publish", slow)
    panel.publish_button.click()
    assert len(hub.asked("POST", "/commit/")) == 1
    panel.publish_button.click()  # and one after it was done keeps what is said
    assert "✓ Published" in panel.message.value and len(hub.asked("POST", "/commit/")) == 1


def test_published_again_it_says_that_nothing_had_changed(panel: PublishPanel, hub: HubServer) -> None:
    for _ in range(2):
        show_and_confirm(panel)
        panel.publish_button.click()
    assert "Nothing had changed" in panel.message.value and "Open its page" in panel.message.value
    assert len(hub.repos["alice/my-cat"].commits) == 2


def test_a_licence_is_inherited_and_another_one_is_remarked(panel: PublishPanel, hub: HubServer) -> None:
    assert panel.license.value == "creativeml-openrail-m" and "✓" in panel.form.license_note.value
    panel.license.value = "cc-by-4.0"
    assert "Warning" in panel.form.license_note.value
    show_and_confirm(panel)
    panel.publish_button.click()
    assert "license: cc-by-4.0" in held(hub)["README.md"].decode()
    unknown = PublishPanel(ti.Concept("<x>", {"clip_l": torch.ones(1, 7)}))
    assert unknown.license.value == "" and "the licence on its model" in unknown.form.license_note.value
    panel.license.value = "no such licence"
    show_and_confirm(panel)
    panel.publish_button.click()
    assert "Error" in panel.message.value and len(hub.repos["alice/my-cat"].commits) == 2
    panel.license.value = ""
    show_and_confirm(panel)
    panel.publish_button.click()
    assert "license: creativeml-openrail-m" in held(hub)["README.md"].decode()


def test_words_and_prompts_are_shown_as_text(hub: HubServer) -> None:
    panel = PublishPanel(word(HOSTILE), samples=samples(1, f"{HOSTILE} | </pre>{HOSTILE}"), pictures=photographs())
    panel.training.value = True
    panel.license.value = HOSTILE
    panel.plan()
    hub.add("alice/img-src-x-onerror-window-hacked-1", {f"{HOSTILE}.txt": b""})
    panel.plan()
    shown = [w.value for w in every(panel, widgets.HTML)]
    tags = Tags()
    tags.feed("".join(shown))
    assert tags.seen <= {"div", "br", "table", "tr", "th", "td", "pre", "details", "summary"} and "pre" in tags.seen
    assert sum("&lt;img" in text for text in shown) >= 4
    assert not [w for w in every(panel) if "<" in str(getattr(w, "description", ""))]


def test_the_kind_follows_what_was_trained(model: ti.Model, photos: ti.ConceptImages, hub: HubServer) -> None:
    run = ti.train(model, photos, word="<new>", init="animal", steps=1, batch=1, templates="style", watch=0)
    next(iter(run))
    panel = PublishPanel(run.concept(), run=run)
    assert panel.kind.value == "style" and panel.license.value == "apache-2.0"
    panel.plan()
    assert "settings" in panel.page.value and "rate" in panel.page.value


def test_without_an_answer_it_says_so_and_shows_what_would_go(hub: HubServer) -> None:
    hub.__exit__()
    panel = PublishPanel(word(), samples=samples())
    assert "can&#x27;t be reached" in panel.account.who.value
    panel.plan_button.click()
    assert "can&#x27;t be reached" in panel.ready.value and "gallery/03.png" in panel.files.value


def test_another_hub_can_be_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with HubServer() as one, HubServer() as other:
        point_client_at(one, monkeypatch, tmp_path, token=TOKEN)
        panel = PublishPanel(word(), endpoint=other.url)
        show_and_confirm(panel)
        panel.publish_button.click()
        assert "alice/my-cat" in other.repos and one.requests == []


def test_every_control_has_its_label_in_words(panel: PublishPanel) -> None:
    kinds = (widgets.Text, widgets.Dropdown, widgets.Button, widgets.Checkbox)
    labels = [control.description for control in every(panel, kinds)]
    assert len(labels) == len(set(labels)) >= 12 and all(labels)
    assert not list(every(panel, widgets.Password | widgets.Output))


def test_the_state_of_no_widget_holds_a_token(panel: PublishPanel, hub: HubServer) -> None:
    """What the other tests check at their end, and that the check can fail."""
    show_and_confirm(panel)
    panel.publish_button.click()
    assert [r.token for r in hub.asked("POST", "/commit/")] == [TOKEN]
    assert_no_token()
    leak = widgets.HTML(TOKEN)
    with pytest.raises(AssertionError, match="a token"):
        assert_no_token()
    leak.close()
