"""What strangers' pages, files and pictures, and two people at once, can not do."""

from __future__ import annotations

import io
import json
import re
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image
from safetensors.torch import save as to_bytes

import ti_nb as ti
from tests.hub_server import HubServer
from ti_nb.hub import repository
from ti_nb.hub.browsing import picture_paths
from ti_nb.hub.fetching import candidate_files
from ti_nb.hub.page import model_card
from ti_nb.results.drawing.samples import Sample

TOKEN = "hf_test_alice_write"


def word(text: str = "<my-cat>", **facts: Any) -> ti.Concept:
    return ti.Concept(text, {"clip_l": 0.02 * torch.randn(1, 768)}, {"init": "cat", "base": "sd15", **facts})


def file_of(concept: ti.Concept, folder: Path) -> bytes:
    return ti.save(concept, folder / "w.safetensors").read_bytes()


# Two at once


def test_a_repository_that_another_filled_meanwhile_stays(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    other, honest = word("<my-cat>"), repository._commit_files

    def meanwhile(*rest: Any) -> str:
        monkeypatch.setattr(repository, "_commit_files", honest)
        ti.publish(other, "my-cat")
        return honest(*rest)

    monkeypatch.setattr(repository, "_commit_files", meanwhile)
    with pytest.raises(ti.HubError, match="changed it at the same moment"):
        ti.publish(word("<my-cat>"), "my-cat")
    assert torch.equal(ti.fetch("alice/my-cat").vectors["clip_l"], other.vectors["clip_l"])


def test_of_two_at_once_one_whole_word_is_there(hub: HubServer) -> None:
    for _ in range(5):
        hub.repos.clear()
        ended: list[Any] = []

        def go(ended: list[Any] = ended) -> None:
            try:
                ended.append(ti.publish(word(), "my-cat"))
            except ti.HubError as error:
                ended.append(error)

        threads = [threading.Thread(target=go) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        done = [one for one in ended if isinstance(one, ti.Publication)]
        assert bool(done) == bool(hub.repos)
        if done:
            assert hub.repos["alice/my-cat"].head.oid in [one.commit for one in done]


# Names and addresses


@pytest.mark.parametrize(
    "repo", ["my-cat", "alice/my-cat", "alice/my-cat/", "{url}/alice/my-cat", "https://hf.co/alice/my-cat"]
)
def test_a_repository_is_the_one_that_was_said(repo: str, hub: HubServer) -> None:
    assert ti.publish(word(), repo.format(url=hub.url)).repo == "alice/my-cat"
    assert list(hub.repos) == ["alice/my-cat"]


def test_a_page_within_a_repository_and_other_hosts_are_refused(hub: HubServer) -> None:
    with pytest.raises(ValueError, match=r"a page within a repository: write 'alice/my-cat'"):
        ti.publish(word(), "alice/my-cat/tree/main")
    for do in (
        lambda: ti.publish(word(), "https://civitai.com/bob/cat"),
        lambda: ti.fetch("https://civitai.com/bob/cat"),
    ):
        with pytest.raises(ValueError, match=r"a page of https://civitai.com, not of the Hub"):
            do()
    assert hub.requests == []


def test_the_address_of_a_file_fetches_that_file_at_that_revision(hub: HubServer, tmp_path: Path) -> None:
    one, two, later = word("<one>"), word("<two>"), word("<later>")
    repo = hub.add(
        "bob/cats", {"learned_embeds.safetensors": file_of(one, tmp_path), "my two.safetensors": file_of(two, tmp_path)}
    )
    old = repo.head.oid
    repo.commit("later", {"learned_embeds.safetensors": file_of(later, tmp_path)})
    assert ti.fetch(f"{hub.url}/bob/cats/blob/main/my%20two.safetensors").word == "<two>"
    assert ti.fetch(f"{hub.url}/bob/cats/resolve/main/my%20two.safetensors?download=true").word == "<two>"
    assert ti.fetch(f"{hub.url}/bob/cats/tree/{old}").word == "<one>"
    newest = ti.fetch("bob/cats")
    assert (newest.word, newest.facts["revision"]) == ("<later>", repo.head.oid)


def test_a_repository_of_ones_own_that_is_no_words_is_not_overwritten(hub: HubServer) -> None:
    hub.add("alice/art", {"gallery/mine.png": b"x", "weights.safetensors": b"y"}, tags=["ti_nb"])
    with pytest.raises(ti.HubError, match="holds something else"):
        ti.publish(word(), "art")
    assert "gallery/mine.png" in hub.repos["alice/art"].files


@pytest.mark.parametrize(("text", "repo"), [("<last-supper>", "davinci"), ("<model-t>", "ford"), ("<final>", "boss")])
def test_a_word_keeps_its_name_whatever_the_repository_is_called(text: str, repo: str, hub: HubServer) -> None:
    ti.publish(word(text), repo)
    assert ti.fetch(f"alice/{repo}").word == text


def test_halves_and_parts_count_for_the_limit(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ti_nb.hub.fetching.MAX_FILE_BYTES", 5000)
    hub.add("bob/xl", {"learned_embeds.safetensors": bytes(3000), "learned_embeds_2.safetensors": bytes(3000)})
    with pytest.raises(ti.HubError, match="6 kB: too large for a word, not fetched"):
        ti.fetch("bob/xl")
    assert not hub.asked("GET", "/resolve/")


# Pages and files that mean harm

HOSTILE = 'x/y")\nimport os; os.system("id")\n#<img src=x onerror=alert(1)>'


@pytest.mark.parametrize("fact", ["base", "license", "init", "edits"])
@pytest.mark.parametrize("text", [HOSTILE, "`<img src=x onerror=alert(2)>`", "![x](https://evil.example/a.png)"])
def test_what_a_strangers_file_says_is_no_code_and_no_markup(
    fact: str, text: str, hub: HubServer, tmp_path: Path
) -> None:
    path = tmp_path / "w.safetensors"
    rows = {"<my-cat>": word().vectors["clip_l"]}
    path.write_bytes(to_bytes(rows, {"ti_nb": json.dumps({fact: text, "word": "<my-cat>"})}))
    assert fact in ti.load(path).facts
    page = ti.publish(ti.load(path), "my-cat", dry_run=True).preview
    code = "".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL))
    assert "os.system" not in code and "evil.example" not in code
    told = re.sub(r"`[^`\n]*`", "", page)
    assert "<img" not in told and "](https://evil" not in told.replace("\\]", "")


def test_what_a_strangers_page_says_is_kept_only_if_it_can_be_true(hub: HubServer, tmp_path: Path) -> None:
    hub.add(
        "bob/cat",
        {"learned_embeds.safetensors": file_of(word(), tmp_path)},
        card={"base_model": HOSTILE, "license": HOSTILE},
    )
    got = ti.fetch("bob/cat")
    assert got.facts["base"] == "sd15" and "license" not in got.facts


def test_a_picture_is_opened_only_as_what_it_may_be(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Pillow would hand PostScript to another program."""
    from PIL import EpsImagePlugin

    file = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(file, format="EPS")
    hub.add("bob/eps", {"gallery/1.png": file.getvalue(), "learned_embeds.bin": b"x"})
    run: list[str] = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_: run.append("gs"))
    (found,) = ti.browse(author="bob")
    assert found.picture is None and run == []


def test_one_odd_repository_does_not_spoil_the_rest_of_a_library(hub: HubServer, tmp_path: Path) -> None:
    hub.add("bob/odd", {"x/.bin": b"", "gallery/1\u00b23.png": b"x", "gallery/2.png": b"y"}, likes=5)
    hub.add("bob/loud", {"EasyNegative.SAFETENSORS": file_of(word(), tmp_path)}, likes=4)
    hub.add("bob/model", {"pytorch_model.bin": b"x", "logo.png": b"y"}, likes=3)
    assert [(one.repo, one.holds) for one in ti.browse(author="bob")] == [
        ("bob/odd", False), ("bob/loud", True), ("bob/model", False),
    ]  # fmt: skip
    assert ti.fetch("bob/loud").word == "<my-cat>"
    assert picture_paths(["gallery/10.png", "gallery/9.png", "gallery/1\u00b23.png"])[-1] == "gallery/10.png"
    assert candidate_files({"style_2.safetensors": 9}) == ["style_2.safetensors"]
    assert candidate_files({"a.safetensors": 9, "a_2.safetensors": 9}) == ["a.safetensors"]


# The page


def test_dashes_in_a_prompt_are_no_end_of_the_front_matter(hub: HubServer) -> None:
    shown = [Sample(Image.new("RGB", (8, 8)), "a photo --- of <my---cat>", 0)]
    plan = ti.publish(word("<my---cat>"), "my-cat", samples=shown, dry_run=True)
    assert plan.preview.lstrip().startswith("# my---cat") and "pipeline_tag" not in plan.preview
    assert ModelCard(plan.card).data.instance_prompt == "<my---cat>"


def test_a_page_promises_no_loader_of_diffusers_where_there_is_none() -> None:
    flux = ti.Concept("<x>", {"clip_l": torch.randn(1, 768), "t5xxl": torch.randn(1, 4096)})
    card = model_card(flux, "bob/x", base="black-forest-labs/FLUX.1-dev")
    assert "load_textual_inversion" not in card and "ti.load_into(pipe, ti.fetch(" in card


def test_wrong_things_are_refused_in_words_before_the_hub_is_asked(hub: HubServer) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"pictures": "my-folder"}, "ti.load_images"),
        ({"samples": ["a.png"]}, "from ti.sample"),
        ({"kind": "person"}, "choose from object, style"),
        ({"base": "no spaces please"}, "no repository's name"),
    ]
    for ask, message in wrong:
        with pytest.raises(ValueError, match=message):
            ti.publish(word(), "my-cat", **ask)
    with pytest.raises(ValueError, match="give a word, such as"):
        ti.publish([word()], "my-cat")  # type: ignore[arg-type]
    assert hub.requests == []
