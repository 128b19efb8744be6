"""Rented machines: the real client against a Hub with Jobs on loopback, which runs what it is sent."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import ti_nb as ti
from tests.hub_server import point_client_at
from tests.jobs_server import JobsServer
from tests.many import jobs
from ti_nb.errors import HubError
from ti_nb.jobs.rented import parcel

Ask = Callable[..., ti.jobs.Rented]
pytestmark = pytest.mark.slow


@pytest.fixture
def rent(naps: list[float], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[JobsServer]:
    with JobsServer(runs=False) as server:
        point_client_at(server, monkeypatch, tmp_path / "client", token="hf_test_alice_write")
        yield server


def submit(server: JobsServer, count: int = 2, **how: Any) -> ti.jobs.Rented:
    asked = {"model": "tiny", "flavor": "t4-small", "repo": "words", "hours": 2, "endpoint": server.url}
    return ti.jobs.submit(jobs(count), **{**asked, **how})


def test_the_price_is_said_and_nothing_starts_without_a_yes(rent: JobsServer) -> None:
    offer = submit(rent, count=3, machines=2)
    assert "$0.40 an hour each, $1.61 at most" in str(offer) and "nothing was sent or started" in str(offer)
    assert offer.repo == "alice/words" and not offer.ids
    assert {r.method for r in rent.requests} == {"GET"} and not rent.repos and not rent.machines


@pytest.mark.parametrize(
    ("how", "kind", "message"),
    [
        ({"most": 0.5}, ValueError, r"may cost \$0.80, more than \$0.50"),
        ({"flavor": "h1000"}, ValueError, r"no machine 'h1000'.*t4-small \(\$0.40\)"),
        ({"model": "."}, ValueError, "on this disk"),
        ({"hours": 0}, ValueError, "hours is 0"),
        ({"dtype": object()}, ValueError, "only numbers and text"),
        ({"repo": "alice/words/x"}, ValueError, "owner/name"),
    ],
)
def test_what_can_not_be_is_refused_and_nothing_starts(
    rent: JobsServer, how: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        submit(rent, yes=True, **how)
    assert not rent.machines and not rent.repos


def test_pictures_that_can_not_be_read_are_named_before_anything_is_sent(rent: JobsServer, tmp_path: Path) -> None:
    gone = ti.Job(str(tmp_path / "gone"), "<gone>", None)
    with pytest.raises(ValueError, match="<gone>: no such folder"):
        ti.jobs.submit([gone], model="tiny", flavor="t4-small", repo="words", yes=True, endpoint=rent.url)
    assert not rent.repos


def test_without_credit_nothing_runs_and_the_message_says_where_to_get_it(rent: JobsServer) -> None:
    rent.credit = False
    with pytest.raises(HubError, match=r"no credit.*settings/billing.*balance is insufficient"):
        submit(rent, yes=True)
    assert len(rent.asked("POST", "/api/jobs/")) == 1  # a machine is asked for once


def test_without_a_token_nothing_is_asked(rent: JobsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(HubError, match="not logged in"):
        submit(rent, yes=True)
    assert not rent.machines
    monkeypatch.setenv("HF_TOKEN", "hf_test_alice_read")
    with pytest.raises(HubError, match="may only read"):
        submit(rent, yes=True)


def test_a_client_without_jobs_is_told_so(rent: JobsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("huggingface_hub.HfApi.list_jobs_hardware")
    with pytest.raises(HubError, match="knows no list_jobs_hardware: pip install -U huggingface_hub"):
        submit(rent)


def test_pictures_never_go_to_a_public_repository(rent: JobsServer) -> None:
    rent.add("alice/words")
    with pytest.raises(HubError, match="is public"):
        submit(rent, yes=True)
    assert not rent.machines and set(rent.repos["alice/words"].files) == {".gitattributes"}


def test_the_token_goes_as_a_secret_alone_and_machines_can_be_looked_at_and_ended(rent: JobsServer) -> None:
    started = submit(rent, yes=True, machines=2)
    first, second = rent.machines.values()
    assert first.asked["secrets"] == {"HF_TOKEN": "hf_test_alice_write"} and first.asked["timeoutSeconds"] == 7200
    assert "hf_test" not in str([{**m.asked, "secrets": 0} for m in (first, second)]) + repr(started) + str(started)
    assert [m.asked["command"][-4:] for m in (first, second)] == [["--shard", str(n), "--of", "2"] for n in range(2)]
    assert not any(b"hf_test" in data for data in rent.repos["alice/words"].files.values())
    first.lines += ["training <word-0>\n", "a token: hf_test_alice_write\n"]
    second.stage, second.message = "ERROR", "OOMKilled"
    first.stage = "COMPLETED"
    assert list(started.logs()) == ["training <word-0>", "a token: [token]"]
    assert started.state() == {"job0": "COMPLETED", "job1": "ERROR: OOMKilled"}
    started.cancel()
    assert {m.stage for m in rent.machines.values()} == {"CANCELED"}


def test_where_the_second_machine_is_refused_the_first_is_ended(
    rent: JobsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import HfApi

    real = HfApi.run_uv_job

    def once(self: Any, *args: Any, **how: Any) -> Any:
        rent.credit = not rent.machines
        return real(self, *args, **how)

    monkeypatch.setattr(HfApi, "run_uv_job", once)
    with pytest.raises(HubError, match="no credit"):
        submit(rent, yes=True, machines=2)
    assert [m.stage for m in rent.machines.values()] == ["CANCELED"]


def test_jobs_arrive_as_they_were_sent(tmp_path: Path) -> None:
    own = ti.TrainSettings(steps=7, templates=("a {} here",), timesteps=(0.2, 0.9))
    captioned = ti.load_images(ti.example_images("taco").images, captions=["a {} on a table"] * 5, flip=True)
    sent = [ti.Job(captioned, "<a/b>", None, own), ti.Job("hf://datasets/x/y@1/z", "<c>", "thing", masks="alpha")]
    assert parcel.write(sent, tmp_path, {"model": "tiny"}) > 1000
    came, how = parcel.read(tmp_path)
    assert how == {"model": "tiny"} and came[1] == sent[1]
    assert (came[0].word, came[0].init, came[0].settings) == ("<a/b>", None, own)
    assert came[0].pictures.captions == captioned.captions and came[0].pictures.flip
    assert [i.tobytes() for i in came[0].pictures.images] == [i.tobytes() for i in captioned.images]


def run_and_fetch(server: JobsServer, tmp_path: Path, run: Callable[[Any], None]) -> None:
    """What was sent is run; its words are those of `train_many` here."""
    todo = jobs(2, steps=2, watch=0)
    started = ti.jobs.submit(todo, model="tiny", flavor="cpu-basic", repo="words", yes=True, endpoint=server.url)
    run(server.machines["job0"])
    results = started.fetch(tmp_path / "there")
    assert [(r.word, r.status, r.steps) for r in results] == [("<word-0>", "done", 2), ("<word-1>", "done", 2)]
    here = {r.word: r for r in ti.train_many(todo, out=tmp_path / "here", show=False)}
    for result in results:
        for mine, theirs in zip(
            here[result.word].concept.vectors.values(), result.concept.vectors.values(), strict=True
        ):
            assert mine.equal(theirs)


def test_what_is_submitted_does_the_jobs_and_its_words_come_back(
    rent: JobsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: ti.Model
) -> None:
    """Its program in this process; the same again does nothing but what is missing, and one that fails is named."""
    from ti_nb.jobs.engines import work
    from ti_nb.jobs.rented import machine

    monkeypatch.setattr(work, "load_model", lambda name, **options: model)

    def run(asked: Any) -> None:
        monkeypatch.setattr("sys.argv", asked.asked["command"][6:])
        with pytest.raises(SystemExit) as ended:
            machine.main()
        assert ended.value.code == 0

    run_and_fetch(rent, tmp_path, run)
    titles = [commit.title for commit in rent.repos["alice/words"].commits]
    run(rent.machines["job0"])
    assert [commit.title for commit in rent.repos["alice/words"].commits] == titles == [*titles[:2], "2 words"]
    bad = ti.Job(ti.example_images("taco"), "<bad>", "xqzvwkjqxz", {"steps": 2})
    again = ti.jobs.submit(
        [*jobs(2, steps=2, watch=0), bad], model="tiny", flavor="cpu-basic", repo="words", yes=True, endpoint=rent.url
    )
    run(rent.machines["job1"])
    assert [(r.word, r.status) for r in again.fetch(tmp_path / "more")][2:] == [("<bad>", "failed")]


@pytest.mark.thorough
def test_it_runs_in_a_fresh_environment(rent: JobsServer, tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "venv", "--system-site-packages", "--without-pip", tmp_path / "venv"], check=True
    )
    (site,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    outer = [path for path in sys.path if path.endswith("site-packages")]
    (site / "outer.pth").write_text("\n".join(outer))  # where this interpreter is a virtual environment itself
    rent.runs, rent.python = True, str(tmp_path / "venv" / "bin" / "python")

    def run(_: Any) -> None:
        machine = rent.wait_for("job0")
        assert machine.stage == "COMPLETED" and machine.lines[-1] == "2 of 2 words are in alice/words\n", machine.lines

    run_and_fetch(rent, tmp_path, run)
