"""Shared things to test with: the embedded model, loaded once, and three pictures; and what no test may leave behind."""

from __future__ import annotations

import gc
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if "PYTEST_XDIST_WORKER" in os.environ:  # one core each, or two processes wait for each other's threads
    os.environ["OMP_NUM_THREADS"] = "1"

import pytest

import ti_nb as ti
from tests.leaks import leaks_in, leaks_under

if TYPE_CHECKING:
    from tests.hub_server import HubServer


ALL_SLOW = re.compile(r"^pytestmark = \[?\s*pytest\.mark\.(slow|thorough)\b", re.MULTILINE)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """A file without a test of the kind that make asks for is not even imported."""
    if collection_path.suffix != ".py":
        return None
    text = collection_path.read_text()
    has_none = {"not slow and not thorough": ALL_SLOW.search(text), "thorough": "pytest.mark.thorough" not in text}
    return True if has_none.get(config.option.markexpr) else None


def pytest_collection_finish() -> None:
    """What is loaded by now stays, so no search for garbage, which some tests ask for often, need go through it."""
    gc.freeze()


@pytest.fixture(scope="session")
def model() -> ti.Model:
    """In float32 on every machine, as the tests compare to rounding."""
    import torch  # not above: the process that only hands tests to others shall not import it

    return ti.load_model("tiny", dtype=torch.float32)


@pytest.fixture(scope="session")
def photos() -> ti.ConceptImages:
    return ti.example_images("penguin")


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that anybody, the Hub's client too, wanted to wait before another try, and does not."""
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    return slept


@pytest.fixture
def hub(naps: list[float], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    """A Hub on this machine, to which the real client is logged in as alice; tries are repeated at once."""
    from tests.hub_server import HubServer, point_client_at

    with HubServer() as server:
        point_client_at(server, monkeypatch, tmp_path / "client", token="hf_test_alice_write")
        yield server


@pytest.fixture(autouse=True)
def same_state_for_each_test() -> None:
    import torch

    torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def nothing_leaks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No file that a test made holds a token or says where a picture was taken."""
    yield
    assert leaks_under([tmp_path_factory.getbasetemp()]) == []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Nor does anything that a test printed or logged; what is told of a test that failed is only for who wrote it."""
    report = yield
    said = "".join(text for _, text in report.sections)
    if leaked := leaks_in(said.encode()):
        report.outcome, report.longrepr = "failed", f"{item.nodeid} printed {', '.join(leaked)}"
    return report
