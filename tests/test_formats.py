"""Every format, family and number of vectors: written, and read to the bit by ours, by other programs' rules, by diffusers."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import ti_nb as ti
from tests import readers
from tests.reader_table import WIDTHS, of_page, pipe_of, table, word
from ti_nb.files.formats import FORMATS
from ti_nb.words.prompts import file_word

pytestmark = pytest.mark.slow

CASES = [
    pytest.param(name, suffix, family, count, id=f"{name}{suffix} {family} {count}")
    for name, suffixes in FORMATS.items()
    for suffix in suffixes
    for family in WIDTHS
    for count in (1, 4)
    if not (name == "emb_params" and family == "SDXL")
]


def same(a: Any, b: Any) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.fixture(scope="module")
def pipes() -> dict[str, Any]:
    return {family: pipe_of(family) for family in WIDTHS}


@pytest.mark.parametrize(("name", "suffix", "family", "count"), CASES)
def test_a_word_is_read_to_the_bit_by_ours_theirs_and_diffusers(
    name: str, suffix: str, family: str, count: int, tmp_path: Path, pipes: dict[str, Any]
) -> None:
    concept = word(family, count)
    path = tmp_path / f"my-cat{suffix}"
    assert ti.save(concept, path, format=name, picture=Image.new("RGB", (64, 64), "teal")) == path
    again = ti.load(path)
    assert same(again.vectors, concept.vectors)
    assert (again.word, again.family, len(again)) == ("<my-cat>", family, count)
    _others_read(name, family, path, concept)
    _diffusers_reads(name, path, concept, pipes[family])


def _others_read(name: str, family: str, path: Path, concept: ti.Concept) -> None:
    rows = concept.vectors
    if name == "diffusers" and family == "SDXL":  # two files, which only diffusers' script makes
        paths = [path, path.with_stem(f"{path.stem}_2")]
        for one, (key, wanted) in zip(paths, rows.items()):
            assert torch.equal(readers.comfyui_tensor(one, key, wanted.shape[1]), wanted)
        return
    said, vectors = readers.a1111(path)
    assert said == "my-cat"
    assert (
        same(vectors, rows)
        if family == "SDXL"
        else torch.equal(next(iter(vectors.values())), next(iter(rows.values())))
    )
    if name != "card":
        _, vectors = readers.comfyui(path, WIDTHS[family])
        assert same(vectors, rows)
    if path.suffix == ".safetensors":
        metadata, tensors = readers.safetensors(path)
        assert all(any(torch.equal(t, v) for t in tensors.values()) for v in rows.values())
        assert metadata["modelspec.trigger_phrase"] == "<my-cat>"
    if name == "card":
        inside = readers.card_pixels(path)  # what is left where the text was dropped
        tensors = inside.get("string_to_param", inside)
        assert all(any(torch.equal(t.float(), v) for t in tensors.values()) for v in rows.values())


def _diffusers_reads(name: str, path: Path, concept: ti.Concept, pipe: Any) -> None:
    encoders = [("clip_g" if key == "clip_g" else "", key) for key in concept.vectors]
    for second, key in encoders:
        network = pipe.text_encoder_2 if second else pipe.text_encoder
        tokenizer = pipe.tokenizer_2 if second else pipe.tokenizer
        ask: dict[str, Any] = {"text_encoder": network, "tokenizer": tokenizer}
        if name == "card" or (name == "a1111" and len(encoders) > 1):
            continue  # which diffusers reads in no way
        if name == "clip_keys":
            pipe.load_textual_inversion(load_file(path)[key], token="<my-cat>", **ask)
        elif name == "emb_params":
            pipe.load_textual_inversion(str(path), token="<my-cat>", **ask)
        else:
            pipe.load_textual_inversion(str(path.with_stem(f"{path.stem}_2") if second else path), **ask)
        names = ["<my-cat>", *(f"<my-cat>_{i}" for i in range(1, len(concept)))]
        ids = tokenizer.convert_tokens_to_ids(names)
        assert torch.equal(network.get_input_embeddings().weight[ids], concept.vectors[key])
        pipe.unload_textual_inversion(names, **ask)


def test_the_table_of_readers_in_the_docs_is_what_they_read(tmp_path: Path, pipes: dict[str, Any]) -> None:
    assert table(tmp_path, pipes.__getitem__) == of_page(), "run: python -m tests.reader_table"


@pytest.mark.parametrize("text", ["<my-cat>", "<cat2>", "<v1.>", "<my_cat_>", "<chien-é>", "<-x->"])
def test_a_cards_word_is_found_beside_punctuation(text: str, tmp_path: Path, pipes: dict[str, Any]) -> None:
    path = ti.save(word("SD 1.x", 1, text), tmp_path / "a.png", picture=Image.new("RGB", (64, 64)))
    name = readers.a1111(path)[0]
    for prompt in (
        "a photo of {}",
        "a photo of {}, masterpiece",
        "a photo of {}.",
        "cat,{},dog",
        "({}:1.2)",
        "a {}'s tail",
    ):
        assert readers.a1111_finds(name, prompt.format(name), pipes["SD 1.x"].tokenizer), prompt
    assert ti.load(path).word == text


@pytest.mark.parametrize("ending", [".pt", ".bin"])
def test_an_archive_holds_what_old_readers_know_and_equal_words_are_equal_files(ending: str, tmp_path: Path) -> None:
    concept = word("SDXL", 2)
    one, two = (ti.save(concept, tmp_path / f"{name}{ending}") for name in ("one", "two"))
    with zipfile.ZipFile(one) as archive:
        assert {name.partition("/")[2] for name in archive.namelist()} <= {"data.pkl", "version", "data/0", "data/1"}
    assert one.read_bytes() == two.read_bytes()
    assert torch.load(one, weights_only=True).keys()


@pytest.mark.parametrize(
    ("family", "widths"),
    [("Flux", {"clip_l": 768, "t5xxl": 4096}), ("SD 3", {"clip_l": 768, "clip_g": 1280, "t5xxl": 4096})],
)
def test_words_of_models_with_a_t5_keep_all_their_encoders(family: str, widths: dict[str, int], tmp_path: Path) -> None:
    concept = ti.Concept("<my-cat>", {key: torch.randn(2, width) for key, width in widths.items()})
    path = ti.save(concept, tmp_path / "my-cat.safetensors")
    again = ti.load(path)
    assert again.family == family and same(again.vectors, concept.vectors)
    assert same(readers.comfyui(path, widths)[1], concept.vectors)


def test_what_a_file_says_of_its_word_is_what_may_be_shared(tmp_path: Path) -> None:
    concept = word("SD 1.x", 1)
    secret = replace(concept, facts={**concept.facts, "folder": "/home/someone/pictures", "token": "hf_secret"})
    for suffix in (".safetensors", ".pt", ".bin", ".png"):
        path = ti.save(secret, tmp_path / f"my-cat{suffix}", picture=Image.new("RGB", (64, 64)))
        assert not re.search(rb"someone|hf_secret", path.read_bytes())
        assert "folder" not in ti.load(path).facts
    assert dict(ti.load(tmp_path / "my-cat.safetensors").facts) == concept.facts
    assert readers.safetensors(tmp_path / "my-cat.safetensors")[0]["modelspec.license"] == "openrail++"


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("<my-cat>", "<my-cat>"),
        ("EasyNegative", "<easynegative>"),
        ("bad hands", "<bad-hands>"),
        ("<Bad>", "<bad>"),
        ("a<b>c", "<a-b-c>"),
        ("<chien-é>", "<chien-é>"),
        ("{}", "<word>"),
    ],
)
def test_the_word_in_a_file_is_one_that_no_program_gets_wrong(text: str, written: str, tmp_path: Path) -> None:
    assert file_word(text) == written == file_word(written)
    concept = word("SD 1.x", 2, text)
    if text == written:
        path = ti.save(concept, tmp_path / "w.safetensors")
    else:
        with pytest.warns(UserWarning, match=re.escape(written)):
            path = ti.save(concept, tmp_path / "w.safetensors")
    assert ti.load(path).word == written == next(iter(readers.safetensors(path)[1]))


def test_diffusers_tells_our_words_apart_where_it_mixes_up_others(pipes: dict[str, Any]) -> None:
    pipe = pipes["SD 1.x"]
    plain = [word("SD 1.x", 2, "bad"), word("SD 1.x", 2, "bad-hands"), word("SD 1.x", 2, "Bad-Hands-2")]
    said = [ti.load_into(pipe, one) for one in plain]
    try:
        assert said == ["<bad>", "<bad-hands>", "<bad-hands-2>"]
        prompt = f"a {said[1]} and {said[0]} and {said[2]}"
        got = pipe.tokenizer(pipe.maybe_convert_prompt(prompt, pipe.tokenizer)).input_ids
        rows = pipe.text_encoder.get_input_embeddings().weight[got]
        wanted = torch.cat([plain[1].vectors["clip_l"], plain[0].vectors["clip_l"], plain[2].vectors["clip_l"]])
        at = [i for i, row in enumerate(rows) if any(torch.equal(row, w) for w in wanted)]
        assert torch.equal(rows[at], wanted)
    finally:
        for one in said:
            ti.unload(pipe, one)


@pytest.mark.parametrize("family", WIDTHS)
def test_a_word_leaves_a_pipeline_as_it_was(family: str) -> None:
    pipe = pipe_of(family)
    parts = [(pipe.tokenizer, pipe.text_encoder)]
    if family == "SDXL":
        parts.append((pipe.tokenizer_2, pipe.text_encoder_2))

    def state() -> list[Any]:
        out = []
        for tokenizer, network in parts:
            rows = network.get_input_embeddings().weight
            ids = tokenizer("a photo of <my-cat> cat").input_ids
            numbers = network.config.vocab_size, rows.requires_grad
            out.append((tokenizer.get_vocab(), ids, rows.detach().clone(), *numbers))
        return out

    before = state()
    other = ti.load_into(pipe, word(family, 3, "<other>"))
    with_other = state()
    said = ti.load_into(pipe, word(family, 4))
    with pytest.raises(ValueError, match="knows '<my-cat>' already"):
        ti.load_into(pipe, word(family, 4))
    ti.unload(pipe, said)
    for now, then in ((state(), with_other), (ti.unload(pipe, other) or state(), before)):
        for (vocabulary, ids, rows, *rest), (vocabulary2, ids2, rows2, *rest2) in zip(now, then):
            assert (vocabulary, ids, rest) == (vocabulary2, ids2, rest2)
            assert torch.equal(rows, rows2)
    with pytest.raises(ValueError, match="does not know '<my-cat>'"):
        ti.unload(pipe, said)


def test_a_word_of_another_family_is_refused_by_a_pipeline(pipes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"for SD 2\.x, with clip_h of width 1024.*have 768"):
        ti.load_into(pipes["SD 1.x"], word("SD 2.x", 1))


def test_bad_requests_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    concept = word("SDXL", 1)
    wrong: list[tuple[str, dict[str, Any], str]] = [
        ("w.ckpt", {}, r"\.safetensors"),
        ("w", {}, r"\.safetensors"),
        ("w.png", {}, "give one, as in"),
        ("w.pt", {"format": "diffusers"}, r"end in \.safetensors or \.bin"),
        ("w.safetensors", {"format": "lora"}, "choose from diffusers"),
        ("w.safetensors", {"format": "emb_params"}, "needs 'clip_keys'"),
    ]
    for name, ask, message in wrong:
        with pytest.raises(ValueError, match=message):
            ti.save(concept, tmp_path / name, **ask)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_does_not_read_back_equal_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ti_nb.files import writing

    honest: Callable[..., None] = writing._write

    def flips_a_bit(path: Path, *rest: Any) -> None:
        honest(path, *rest)
        data = bytearray(path.read_bytes())
        numbers = data.find(second.vectors["clip_l"].numpy().tobytes())  # of a picture, there are none to find
        data[numbers + 5 if numbers > 0 else len(data) // 2] ^= 1
        path.write_bytes(data)

    concept, second = word("SD 1.x", 1), word("SD 1.x", 2)
    for suffix in (".safetensors", ".bin", ".pt", ".png"):
        path = ti.save(concept, tmp_path / f"w{suffix}", picture=Image.new("RGB", (64, 64)))
        before = path.read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr(writing, "_write", flips_a_bit)
            with pytest.raises((OSError, ti.NotAConcept)):
                ti.save(second, path, picture=Image.new("RGB", (64, 64)))
        assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 4


# What a review found


def test_rows_that_are_not_of_one_width_are_not_put_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few kilobytes can say that each of sixty rows has eight million numbers."""
    wide = torch.zeros(1).expand(8_000_000)
    torch.save({"<cat>": torch.zeros(1, 8), **{f"<cat>_{i}": wide for i in range(1, 60)}}, tmp_path / "w.bin")
    monkeypatch.setattr("ti_nb.files.safe_pickle.Tensor.read", lambda *_: pytest.fail("read"))
    with pytest.raises(ti.NotAConcept, match="8000000 numbers"):
        ti.load_words(tmp_path / "w.bin")


def test_a_file_beside_it_is_its_second_half_only_if_it_names_the_same_word(tmp_path: Path) -> None:
    ti.save(word("SDXL", 1, "<dog>"), tmp_path / "pair.bin")
    assert ti.load(tmp_path / "pair.bin").family == "SDXL"
    assert ti.load(tmp_path / "pair_2.bin").family == "SDXL"
    ti.save(word("SD 1.x", 1, "<cat>"), tmp_path / "pair.bin")
    assert (ti.load(tmp_path / "pair.bin").word, ti.load(tmp_path / "pair.bin").family) == ("<cat>", "SD 1.x")
    with pytest.raises(ti.NotAConcept, match="only the vectors of SDXL's second encoder"):
        ti.load(tmp_path / "pair_2.bin")
    before = (tmp_path / "pair.bin").read_bytes()
    with pytest.raises(ValueError, match="would be taken for its second half"):
        ti.save(word("SD 1.x", 1, "<dog>"), tmp_path / "pair.bin")
    assert (tmp_path / "pair.bin").read_bytes() == before


def test_what_is_saved_can_be_loaded(tmp_path: Path) -> None:
    for text in ("<my-lora-girl>", "<a.weight>", "<clip_l>", "<x_1>"):
        concept = word("SD 1.x", 2, text)
        for ending in (".safetensors", ".bin", ".pt"):
            again = ti.load(ti.save(concept, tmp_path / f"w{ending}"))
            assert (again.word, same(again.vectors, concept.vectors)) == (text, True)
    with pytest.raises(ValueError, match=r"could not be loaded again: .*600 vectors"):
        ti.save(word("SD 1.x", 600), tmp_path / "many.safetensors")
    assert not (tmp_path / "many.safetensors").exists()


def test_what_would_not_be_loaded_as_it_is_is_not_saved(tmp_path: Path) -> None:
    wide = ti.Concept("<x>", {"clip_l": torch.randn(1, 1024)})  # SD 2.x's, and called SD 1.x's
    for concept, name, said in (
        (ti.Concept("<x>", {"clip_g": torch.randn(1, 1280)}), "w.safetensors", "half an SDXL word"),
        (wide, "w.safetensors", "read as '<x>' with clip_h"),
        (ti.Concept("<x>", {"odd": torch.randn(1, 768)}), "w.pt", "read as '<x>' with clip_l"),
        (word("SD 1.x", 1), "w-00001-of-00002.bin", "one of several parts"),
    ):
        with pytest.raises(ValueError, match=said):
            ti.save(concept, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_vectors_of_any_kind_are_written_as_plain_small_numbers(tmp_path: Path) -> None:
    table = torch.randn(5000, 768, requires_grad=True)
    for ending in (".safetensors", ".bin", ".pt"):
        for rows in (table[5:6], table[5:6].half(), table.T[:, :768].T[:1].bfloat16()):
            path = ti.save(ti.Concept("<w>", {"clip_l": rows}), tmp_path / f"w{ending}")
            assert path.stat().st_size < 10_000
            assert torch.equal(ti.load(path).vectors["clip_l"], rows.detach().float())


def test_a_name_that_ends_in_a_number_is_kept(tmp_path: Path) -> None:
    path = ti.save(word("SD 1.x", 1), tmp_path / "photo_2.safetensors", format="emb_params")
    data = path.read_bytes().replace(b'"ti_nb"', b'"other"')
    path.write_bytes(data)
    assert ti.load(path).word == "<photo_2>"


def test_a_card_says_its_word_for_sdxl_too(tmp_path: Path) -> None:
    concept = word("SDXL", 1)
    again = ti.load(ti.save(concept, tmp_path / "a.png", picture=Image.new("RGB", (64, 64))))
    assert again.word == "<my-cat>" and dict(again.facts) == concept.facts


def test_odd_paths_and_arguments_are_refused_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="~nobody-of-that-name"):
        ti.load("~nobody-of-that-name.pt")
    with pytest.raises(ValueError, match="concept is a list"):
        ti.save([word("SD 1.x", 1)], "w.safetensors")  # type: ignore[arg-type]
    for text in ("<../../escaped>", "<a\u202eb>", "<a\u200bc>", "<con/x>"):
        assert re.fullmatch(r"<[\w.-]+>", file_word(text)) and "/" not in file_word(text)
