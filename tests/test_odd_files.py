"""Each odd file the Hub has is read exactly or refused in words; other programs' rules find the same vectors."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ti_nb as ti
from tests import odd_files, readers
from tests.odd_files import CASES, OddRepo
from ti_nb.hub.fetching import candidate_files

FILES = [name for name, repo in CASES.items() if repo.expect.file]
OTHERS = [(name, other) for name in FILES for other in CASES[name].expect.also]
WIDTHS = {"clip_l": 768, "clip_h": 1024, "clip_g": 1280, "t5xxl": 4096}


def equal(found: Any, wanted: Any) -> bool:
    return found.keys() == wanted.keys() and all(
        found[key].dtype == torch.float32 and torch.equal(found[key], wanted[key]) for key in wanted
    )


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_read_exactly_or_refused_in_words(name: str, tmp_path: Path) -> None:
    expect, path = CASES[name].expect, CASES[name].write(tmp_path)
    try:
        found = ti.load_words(path)
    except ti.NotAConcept as refusal:
        assert expect.refused, f"{CASES[name].about}: {refusal}"
        assert re.search(expect.refused, str(refusal)) and path.name in str(refusal)
        return
    assert expect.words, f"{CASES[name].about}: read as {found}, which should be refused"
    assert sorted(one.word for one in found) == sorted(expect.words)
    assert all(equal(one.vectors, expect.words[one.word]) for one in found)
    assert all(expect.family in one.family for one in found)
    assert all(v.untyped_storage().nbytes() == 4 * v.numel() for one in found for v in one.vectors.values())


@pytest.mark.parametrize("name", [name for name in FILES if len(CASES[name].expect.words) == 1])
def test_load_gives_the_one_word_there_is(name: str, tmp_path: Path) -> None:
    path = CASES[name].write(tmp_path)
    ((word, vectors),) = CASES[name].expect.words.items()
    try:
        found = ti.load(path)
    except ti.NotAConcept:
        assert CASES[name].expect.refused
        return
    assert found.word == word and equal(found.vectors, vectors)
    assert equal(ti.load(path, word="<other>").vectors, vectors)


@pytest.mark.parametrize(
    "name", ["two_words_bin", "three_words_safetensors", "a1111_pt_two_words", "paper_pt_three_words"]
)
def test_load_names_the_words_where_there_are_several(name: str, tmp_path: Path) -> None:
    path = CASES[name].write(tmp_path)
    with pytest.raises(ti.NotAConcept) as refusal:
        ti.load(path)
    assert all(repr(word) in str(refusal.value) for word in CASES[name].expect.words)
    for word, vectors in CASES[name].expect.words.items():
        assert equal(ti.load(path, word=word).vectors, vectors)


@pytest.mark.parametrize(("name", "other"), OTHERS)
@pytest.mark.filterwarnings("ignore:Detected pickle protocol 4")
def test_other_programs_find_the_same_vectors(name: str, other: str, tmp_path: Path) -> None:
    """So that what is expected above is what the files hold, by rules that are not ours."""
    path = CASES[name].write(tmp_path)
    ((_, wanted),) = CASES[name].expect.words.items()
    if other == "comfyui":
        found = readers.comfyui(path, {key: v.shape[1] for key, v in wanted.items()})[1]
    else:
        found = readers.forge(path)[1]
    if readers.ALONE in found:
        found = {key: found[readers.ALONE] for key in wanted}
    assert equal(found, wanted)


@pytest.mark.parametrize(
    "name", [n for n in FILES if CASES[n].expect.words and not CASES[n].expect.file.endswith(".png")]
)
def test_the_file_of_a_repository_is_chosen_by_rule(name: str) -> None:
    sizes = {file: len(data) for file, data in CASES[name].files.items()}
    chosen = CASES[name].expect.file if name != "sdxl_pair_second" else odd_files.SAFE
    assert candidate_files(sizes)[0] == chosen


def test_the_readers_take_names_and_widths_as_their_programs_do(tmp_path: Path) -> None:
    names = {"emb_params": "EasyNegative", "a1111_pt_renamed": "new-name", "card_pixels_only": "my-cat"}
    assert {name: readers.forge(CASES[name].write(tmp_path))[0] for name in names} == names
    for name, program in (("two_words_bin", readers.forge), ("emp_params_out", readers.forge)):
        with pytest.raises(readers.Refused, match="multiple terms"):
            program(CASES[name].write(tmp_path))
    with pytest.raises(readers.Refused, match="shape mismatch"):
        readers.comfyui(CASES["diffusers_bin_sd2"].write(tmp_path), {"clip_l": 768})
    with pytest.raises(readers.Refused, match="no embedding"):
        readers.forge(CASES["card_without"].write(tmp_path))
    assert readers.series(5).tolist() == [253, 242, 127, 44, 157]  # as in AUTOMATIC1111's own test


def test_the_reader_refuses_what_automatic1111_takes_for_an_attack(tmp_path: Path) -> None:
    held = {"<cat>": torch.randn(1, 768)}
    path = tmp_path / "w.pt"
    path.write_bytes(odd_files.torch_file(held))  # torch 2.6 and later
    for release, part in (("1.8", "format_version|byteorder"), ("1.10", "format_version|storage_alignment")):
        with pytest.raises(readers.Refused, match=rf"bad file inside: .*{part}"):
            readers.a1111(path, release)
    torch_2_1 = odd_files.rewritten(
        path.read_bytes(), lambda name, data: None if "/.f" in name or "/.s" in name else data
    )
    path.write_bytes(torch_2_1)
    assert equal(readers.a1111(path)[1], {readers.ALONE: held["<cat>"]})
    with pytest.raises(readers.Refused, match=r"byteorder|serialization_id"):
        readers.a1111(path, "1.8")
    path.write_bytes(odd_files.legacy_file(held))
    assert readers.a1111(path, "1.8")[0] == "w"
    torch.save({"<cat>": torch.nn.Embedding(2, 768)}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(readers.Refused, match=r"global torch\.nn\S* Embedding is forbidden"):
        readers.a1111(path)


def test_the_safetensors_reader_needs_no_library(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    wanted = {"a": torch.randn(2, 3), "b": torch.randn(5).bfloat16(), "c": torch.randn(4).half(), "d": torch.arange(3)}
    path.write_bytes(odd_files.safetensors_of(wanted, {"word": "<cat>"}))
    metadata, found = readers.safetensors(path)
    assert metadata == {"word": "<cat>"}
    assert equal(found, {key: value.float() for key, value in wanted.items()})


def test_what_is_no_file_is_said_to_be_missing(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.safetensors", tmp_path):
        with pytest.raises(FileNotFoundError, match=re.escape(path.name)):
            ti.load_words(path)


MEASURE = """
import json, sys
from pathlib import Path
import ti_nb as ti

def told(file, key):
    return int(next(line.split()[1] for line in Path(file).read_text().splitlines() if line.startswith(key)))

warm, path = sys.argv[1:]
ti.load_words(warm)
Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
read, held = told("/proc/thread-self/io", "rchar"), told("/proc/self/status", "VmRSS")
(word,) = ti.load_words(path)
grown = told("/proc/self/status", "VmHWM") - held
print(json.dumps([told("/proc/thread-self/io", "rchar") - read, grown * 1024, word.vectors["clip_l"].tolist()]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="counts by Linux' /proc")
def test_a_row_that_drags_its_matrix_along_costs_a_row(tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    path, warm = (
        CASES["diffusers_bin_row_of_matrix"].write(tmp_path),
        CASES["diffusers_bin_1d"].write(tmp_path / "small"),
    )
    assert path.stat().st_size > 151_000_000
    run = subprocess.run([sys.executable, "-c", MEASURE, warm, path], capture_output=True, text=True, check=True)
    read, grown, vectors = json.loads(run.stdout)
    assert np.array_equal(np.float32(vectors), CASES["diffusers_bin_row_of_matrix"].expect.words["<cat-toy>"]["clip_l"])
    assert read < 200_000 and grown < 8_000_000


def test_the_cases_are_what_they_say() -> None:
    assert len(CASES) >= 150 and len({repo.about for repo in CASES.values()}) == len(CASES)
    for name, repo in CASES.items():
        assert isinstance(repo, OddRepo) and (repo.expect.words or repo.expect.refused), name
        assert not repo.expect.file or repo.expect.file in repo.files, name
    assert sum(bool(repo.expect.words and repo.expect.refused) for repo in CASES.values()) <= 4
