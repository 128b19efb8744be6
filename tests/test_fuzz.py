"""No file runs anything, asks for much, or is answered by anything but a concept or `NotAConcept`."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import ti_nb as ti
from tests import fuzz
from tests.attacks import ATTACKS, BURDENS, WRAPPINGS

pytestmark = pytest.mark.slow
posix = pytest.mark.skipif(os.name != "posix", reason="the attacks are for Linux and macOS")
FIRE = """
import base64, json, os, pickle, sys
for data in json.load(sys.stdin):
    try:
        pickle.loads(base64.b64decode(data))
    except BaseException:
        pass
"""


@posix
def test_python_itself_runs_the_attacks(tmp_path: Path) -> None:
    """An attack that can't fire tests nothing."""
    armed = {name: attack for name, attack in ATTACKS.items() if attack.fires}
    pickles = [base64.b64encode(attack.pickle(tmp_path / name)).decode() for name, attack in armed.items()]
    code = [sys.executable, "-c", FIRE]
    subprocess.run(code, input=json.dumps(pickles), text=True, check=True, capture_output=True, cwd=tmp_path)
    until = time.monotonic() + 5  # some start a process of their own
    may_fail = {"pip_main", "socket_bind"}  # where pip is not, or a path is too long for a socket
    while (blanks := {n for n in armed if not (tmp_path / n).exists()}) - may_fail and time.monotonic() < until:
        time.sleep(0.05)
    assert blanks <= may_fail
    assert len(armed) >= 60


@posix
@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_refused_wherever_it_stands(name: str, tmp_path: Path) -> None:
    before = set(sys.modules)
    for place, wrap in WRAPPINGS.items():
        path = tmp_path / "word.bin"
        path.write_bytes(wrap(ATTACKS[name].build(tmp_path / "marker")))
        try:
            found = ti.load_words(path)
        except ti.NotAConcept:
            continue
        assert name == "import_alone", f"{place}: read as {found}"
    assert [p.name for p in tmp_path.iterdir()] == ["word.bin"]
    assert not {module for module in set(sys.modules) - before if module.partition(".")[0] in ("this", "pty", "code")}


MANY = 10_000 if os.environ.get("TI_NB_NOTEBOOKS") == "all" else 2_500


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[fuzz.Reader]:
    with fuzz.Reader(tmp_path_factory.mktemp("reader")) as one:
        yield one


@posix
@pytest.mark.parametrize(
    "name", [name if n % 3 == 0 else pytest.param(name, marks=pytest.mark.thorough) for n, name in enumerate(BURDENS)]
)
def test_a_burden_is_put_down_quickly(name: str, reader: fuzz.Reader, tmp_path: Path) -> None:
    path = BURDENS[name].write(tmp_path)
    answer = reader.read(path)
    assert answer.verdict == "refused" or (answer.verdict == "read" and BURDENS[name].harmless), answer.detail
    assert answer.seconds < 3 and answer.grown < 100_000_000, answer
    path.unlink()


@posix
@pytest.mark.parametrize("count", [250, pytest.param(MANY, marks=pytest.mark.thorough)])
def test_bent_files_are_read_or_refused(tmp_path: Path, count: int) -> None:
    """As `python -m tests.fuzz --count 10000` does, which prints what became of them."""
    summary = fuzz.run(count, 0, tmp_path)
    assert not summary.faults, "\n".join(summary.faults[:20])
    assert not summary.ran and summary.grown[0] < 100_000_000 and summary.read_more[0] < 200_000
    assert all(summary.verdicts[name, "refused"] for name in fuzz.BENDS)
    assert sum(n for (_, verdict), n in summary.verdicts.items() if verdict == "read") > count / 100


def test_bent_files_are_the_same_each_time(tmp_path: Path) -> None:
    found, hostile = fuzz.seeds(tmp_path / "marker")
    once, again = ([fuzz.mutant(i, 3, found, hostile) for i in range(200)] for _ in range(2))
    assert once == again
    assert {name for name, *_ in once} == set(fuzz.BENDS)
    assert fuzz.mutant(1, 4, found, hostile) != once[1]


@posix
def test_the_fuzzer_sees_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "word.bin"
    path.write_bytes(b"x")

    def answers(with_what: object) -> str:
        def load_words(_: Path) -> object:
            if isinstance(with_what, Exception):
                raise with_what
            return with_what

        monkeypatch.setattr(ti, "load_words", load_words)
        return fuzz.judge(path)[0]

    import torch

    good = ti.Concept("<cat>", {"clip_l": torch.ones(1, 8)})
    assert answers([good]) == "read"
    assert answers(ti.NotAConcept("no")) == "refused"
    wrong = [
        ti.Concept("", {"clip_l": torch.ones(1, 8)}),
        ti.Concept("<\ud83d>", {"clip_l": torch.ones(1, 8)}),
        ti.Concept("<cat>", {"clip_x": torch.ones(1, 8)}),
        ti.Concept("<cat>", {"clip_l": torch.ones(1, 8).double()}),
        ti.Concept("<cat>", {"clip_l": torch.ones(4, 8)[:1]}),
        ti.Concept("<cat>", {"clip_l": torch.ones(1, 8, requires_grad=True)}),
    ]
    assert [answers([one]) for one in wrong] == ["fault"] * len(wrong)
    for raised in (ValueError("x"), KeyError("x"), MemoryError(), ti.NotAConcept(""), ti.NotAConcept("x" * 5000)):
        assert answers(raised) == "fault"
    assert answers([]) == "fault"
