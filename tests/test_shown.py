"""What users and files call things is shown as text: nothing of it acts on a terminal, a page or a figure."""

from __future__ import annotations

import json
import re
import unicodedata
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from matplotlib.text import Text
from PIL import Image

import ti_nb as ti
from tests import odd_files
from ti_nb.errors import HubError
from ti_nb.host import plain_text
from ti_nb.hub.browsing import Listing, Listings
from ti_nb.hub.publication import Publication
from ti_nb.pictures.faults import Finding
from ti_nb.results.plotting import figures, plots
from ti_nb.widgets import parts
from ti_nb.widgets.train.summary import Summary

HOSTILE = "\x1b[2J\x07<img src=x onerror=alert(1)> \u202eabc\u2066 $\\frac$ \x9b31m\r$x$"
SOURCES = sorted(Path(ti.__file__).parent.rglob("*.py"))


def acts(text: str) -> list[str]:
    """The characters that a terminal acts on, and those that turn the writing around."""
    kinds = {c: unicodedata.category(c) for c in text}
    turns = set("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
    return [c for c, kind in kinds.items() if c in turns or (kind in ("Cc", "Cs", "Zl", "Zp") and c != "\n")]


def words_of(page: str) -> tuple[str, set[str]]:
    """The text of a page and its elements."""
    found, elements = [], set()

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            elements.add(tag)

        def handle_data(self, data: str) -> None:
            found.append(data)

    Reader().feed(page)
    return " ".join(found), elements


def test_plain_text_stays_as_it_is_and_the_rest_is_spelled_out() -> None:
    for text in ("a <cat> for $5", "chien-é", "\U0001f469\u200d\U0001f469", "Gürteltier, 猫", "می\u200cخواهم"):
        assert plain_text.plain(text) == text
    assert acts(HOSTILE) and not acts(plain_text.plain(HOSTILE))
    assert plain_text.plain("a\nb") == "a\\nb" and plain_text.plain("a\nb", lines=True) == "a\nb"
    assert plain_text.plain("\ud83d").encode() == b"\\ud83d"
    assert plain_text.quoted("x" * 100, 5) == "'xxxxx...'"


def test_messages_name_things_in_plain_text(tmp_path: Path) -> None:
    path = tmp_path / "\x1b[31m\u202eword.safetensors"
    path.write_bytes(odd_files.safetensors_of({HOSTILE: torch.zeros(2, 3, 4)}))
    raised = [ti.NotAConcept(HOSTILE), HubError(HOSTILE)]
    for call in (ti.load, ti.load_images, ti.load_model):
        for there in (path, path.with_name("no" + path.name)):
            with pytest.raises((ValueError, OSError)) as caught:
                call(str(there))
            raised.append(caught.value)
    for error in raised:
        assert not acts(str(error)), type(error)


@pytest.mark.parametrize("said", [HOSTILE, "x" * 2000], ids=["hostile", "long"])
def test_a_file_speaks_through_no_error(said: str, tmp_path: Path) -> None:
    """Its names are quoted and cut; the errors of the libraries that read it, which repeat its text, are not passed on."""
    text = json.dumps(said).encode()
    files = {
        "a.safetensors": len(text).to_bytes(8, "little") + b"{" + text[1:],
        "b.safetensors": odd_files.safetensors_of({said[:900]: torch.zeros(2, 2, 2)}),
        "c.bin": odd_files.torch_zip(b"\x80\x02I" + text + b"\n."),
        "d.bin": odd_files.torch_zip(b"\x80\x02c" + text.replace(b"\\", b"") + b"\nx\n."),
        "e.bin": odd_files.torch_zip(odd_files.program(odd_files.text(said) + b"R")),
        "f.bin": odd_files.torch_file({said[:900]: "x"}),
        "g.bin": odd_files.zip_file([odd_files.Entry(said, b"x")]),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ti.NotAConcept) as caught:
            ti.load(tmp_path / name)
        error: BaseException | None = caught.value
        while error is not None:  # a traceback shows these too
            assert not acts(str(error)) and "x" * 100 not in str(error), name
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def test_what_is_printed_is_plain_text() -> None:
    concept = ti.Concept(HOSTILE, {"clip_l": torch.ones(1, 8)})
    printed = [
        concept,
        Finding(HOSTILE, "small", HOSTILE),
        Publication(HOSTILE, True, {HOSTILE: b""}, deleted=(HOSTILE,), note=HOSTILE),
        Summary(HOSTILE, (("kept in", HOSTILE),), b"", None, HOSTILE),
        Listing(HOSTILE, word=HOSTILE),
    ]
    for one in printed:
        assert not acts(str(one)) and not acts(repr(one)), type(one)


def test_the_names_of_pictures_are_plain_text(tmp_path: Path) -> None:
    for name in ("\x1b[2J.png", ".\x1bhidden"):
        Image.new("RGB", (64, 64)).save(tmp_path / name, format="PNG")
    (tmp_path / "\u202egnp.doc").write_text("no picture")
    photos = ti.load_images(tmp_path)
    assert not acts(photos.report()) and len(photos.skipped) == 2


def test_pages_show_text_as_text() -> None:
    pages = [
        Listings([Listing(HOSTILE, word=HOSTILE, base=HOSTILE)])._repr_html_(),
        Publication(HOSTILE, True, {HOSTILE: b""})._repr_html_(),
        Summary(HOSTILE, ((HOSTILE, HOSTILE),), b"", b"", HOSTILE)._repr_html_(),
        parts.note(HOSTILE).value,
        parts.heading(HOSTILE).value,
    ]
    for page in pages:
        text, elements = words_of(page)
        assert not acts(page) and elements <= {"div", "pre", "b", "br", "small", "img", "table", "tr", "th", "td"}
        assert "onerror=alert(1)>" in text
    for page in pages[:3]:  # which a notebook looks through for formulas, but not within these
        assert re.match(r"<pre|<div [^>]*class=\"mathjax_ignore tex2jax_ignore\"", page)


@pytest.mark.slow
def test_figures_draw_text_as_it_was_written() -> None:
    image = Image.new("RGB", (64, 64))
    texts = ["a <cat> for $5", "between $5 and $6", "<$a$>", "<my$^$cat>", r"$\frac$ a cat", "_x_", "50 % {x}"]
    for text in texts:
        drawings = [
            figures.show_images([image], [text]),
            figures.show_grid([[image, image]], [text], heads=[text, ""], size=4),
            plots.plot_timesteps([1, 2], [[1, 2], [2, 1]], [text, text]),
            plots.plot_path([torch.tensor([0.0, 1.0])], torch.tensor([1.0, 0.0]), {text: torch.ones(2)}),
        ]
        for figure in drawings:
            figure.draw_without_rendering()
            drawn = [one for one in figure.findobj(Text) if text in one.get_text()]
            assert drawn and not any(one.get_parse_math() or one.get_usetex() for one in drawn)
    figure = figures.show_images([image], [HOSTILE])
    figure.draw_without_rendering()
    assert not any(acts(one.get_text()) for one in figure.findobj(Text))


def test_nothing_is_named_in_a_message_or_a_page_but_through_these() -> None:
    raw = re.compile(r"'\{(?:\w+\.)?(?:path|folder|file)\}'|html\.escape\((?!plain\(|str\(self\))")
    found = [f"{path.name}:{n}" for path in SOURCES for n, line in enumerate(path.open(), 1) if raw.search(line)]
    assert not found, "write {place(path)} and in_page(text), of ti_nb.host.plain_text"
