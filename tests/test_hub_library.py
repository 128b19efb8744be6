"""A library of odd repositories on a Hub: each word is fetched, or what stands against it is said.

Every third each day, as `test_odd_files.py` reads the files of all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest
import torch

import ti_nb as ti
from tests.hub_server import HubServer, point_client_at
from tests.odd_files import CASES, Sparse
from ti_nb.files.formats import is_generic_name

pytestmark = pytest.mark.slow

SERVED = [name for name, repo in CASES.items() if not any(isinstance(f, Sparse) for f in repo.files.values())]


@pytest.fixture(scope="module")
def hub() -> Iterator[HubServer]:
    with HubServer() as server:
        yield server


def test_the_library_is_large() -> None:
    assert len(SERVED) >= 150
    assert sum(bool(CASES[name].expect.words) for name in SERVED) >= 80


@pytest.mark.parametrize(
    "name", [name if n % 3 == 0 else pytest.param(name, marks=pytest.mark.thorough) for n, name in enumerate(SERVED)]
)
def test_each_is_fetched_or_explained(
    name: str, hub: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    point_client_at(hub, monkeypatch, tmp_path)
    case, repo = CASES[name], CASES[name].name
    hub.add(repo, {path: bytes(data) for path, data in case.files.items()})
    hub.requests.clear()
    wanted = dict(case.expect.words)
    try:
        if len(wanted) > 1:
            with pytest.raises(ti.HubError, match=f"holds {len(wanted)} words: name one"):
                ti.fetch(repo)
            found = [ti.fetch(repo, word=word) for word in wanted]
        else:
            found = [ti.fetch(repo)]
    except (ti.HubError, ti.NotAConcept) as refusal:
        assert case.expect.refused or not wanted, f"{case.about}: {refusal}"
        assert "holds no word" in str(refusal) and len(str(refusal)) < 2000
        return
    assert wanted, f"{case.about}: fetched {found}"
    for (word, vectors), one in zip(wanted.items(), found):
        assert one.word == word or is_generic_name(word.strip("<>"))
        assert one.vectors.keys() == vectors.keys()
        assert all(torch.equal(one.vectors[key], vectors[key]) for key in vectors)
        assert one.facts["repo"] == repo
    asked = {
        unquote(r.path).split("/resolve/")[1].split("/", 1)[1] for r in hub.asked("GET", "/resolve/") if r.status == 200
    }
    assert asked <= set(case.files) and not [path for path in asked if path.startswith("concept_images/")]
