"""Many words: jobs and their tables, what is kept of each, engines of one machine; whatever dies, nothing finished is lost."""

from __future__ import annotations

import csv
import errno
import json
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import tracemalloc
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from PIL import Image

import ti_nb as ti
from tests import many
from tests.many import driver, jobs
from ti_nb.errors import NotPossible
from ti_nb.jobs.driver import Here
from ti_nb.jobs.engines import work
from ti_nb.jobs.engines import workers as engine
from ti_nb.jobs.engines.workers import Workers
from ti_nb.jobs.job import stamp
from ti_nb.jobs.progress import Board
from ti_nb.jobs.shelf import NOTE, RUN, WORD, Note

PENGUIN = str(Path(ti.__file__).parent / "tiny" / "pictures" / "penguin" / "pictures")


def words(folder: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in folder.glob(f"*/{WORD}")}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a model that trains a step in milliseconds."""
    from tests.families import pipeline

    folder = tmp_path_factory.mktemp("model") / "sd1"
    pipeline("sd1").save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def alone(place: str) -> dict[str, bytes]:
    """The words of `jobs(4)`, each by `train` alone."""
    import tempfile

    model, learned = ti.load_model(place), {}
    for job in jobs(4):
        run = ti.train(model, job.pictures, word=job.word, init=job.init, settings=job.settings)
        for _ in run:
            pass
        with tempfile.TemporaryDirectory() as folder:
            learned[job.folder] = ti.save(run.concept(), Path(folder) / WORD).read_bytes()
    return learned


# Jobs


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"word": "two words"}, "one piece without spaces"),
        ({"word": "<Cat>"}, "capitals"),
        ({"word": 3}, "of type int"),
        ({"init": ""}, "init is ''"),
        ({"settings": {"steps": 0}}, "steps is 0"),
        ({"settings": {"stepz": 5}}, "no setting 'stepz'"),
        ({"settings": "quick"}, "no preset 'quick'"),
        ({"pictures": []}, "without pictures"),
        ({"pictures": None}, "of type NoneType"),
        ({"pictures": ["hf://datasets/a/b"]}, "one such folder"),
        ({"captions": "file"}, "captions is 'file'"),
    ],
)
def test_a_job_that_can_not_be_is_refused_when_it_is_made(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ti.Job(**{"pictures": PENGUIN, "word": "<cat>", "init": "cat", **change})


def test_every_word_has_a_folder_of_its_own_whose_name_is_one_everywhere() -> None:
    odd = [
        "<a/b>",
        "<a\\b>",
        "<..>",
        "<.>",
        "<con>",
        "<nul.txt>",
        "<é>",
        "<e\u0301>",
        "<a:b>",
        "<a?b>",
        "<" + "x" * 300 + ">",
        "<日本>",
        "a",
    ]
    folders = [ti.Job(PENGUIN, word, None).folder for word in [*odd, "<my-cat>"]]
    assert len({name.lower() for name in folders}) == len(folders)
    assert folders[-1] == "my-cat"
    for name in folders:
        assert name.isascii() and len(name) < 80 and not set(name) & set('/\\:*?"<>|') and name.strip(". ") == name
        assert name.split(".")[0] not in ("con", "nul")


def test_jobs_with_pil_pictures_go_to_other_processes_and_are_the_same_there() -> None:
    photos = [Image.new("RGB", (70, 64), (n, 2, 3)) for n in range(3)]
    for pictures in (photos, [b"bytes"], PENGUIN, ti.example_images("taco")):
        job = ti.Job(pictures, "<cat>", "cat")
        there = pickle.loads(pickle.dumps(job))
        assert (there.about(), stamp(there)) == (job.about(), stamp(job))
    photos[0].putpixel((0, 0), (9, 9, 9))
    assert not stamp(ti.Job([Image.new("RGB", (70, 64), (n, 2, 3)) for n in range(3)], "<cat>", "cat")).fits(
        ti.Job(photos, "<cat>", "cat")
    )


def test_pictures_that_were_only_copied_are_the_same_and_changed_ones_are_not(tmp_path: Path) -> None:
    job = ti.Job(str(ti.save_images(ti.example_images("taco"), tmp_path / "taco")), "<cat>", "cat", captions="files")
    seen = stamp(job)
    path = next((tmp_path / "taco").glob("*.png"))
    path.write_bytes(path.read_bytes())  # another time, the same content
    assert seen.fits(job)
    path.with_suffix(".txt").write_text("a photo of {}")
    assert not seen.fits(job)  # captions are read, so they count
    assert seen.fits(replace(job, captions=""))
    path.unlink()
    assert not seen.fits(replace(job, captions=""))


def test_pictures_of_the_hub_are_fetched_from_their_folder_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    inside = {f"datasets/me/shop@v1/mug/{path.name}": path for path in Path(PENGUIN).iterdir()}

    class Files:
        def find(self, path: str, maxdepth: int) -> list[str]:
            return [name for name in inside if name.startswith(path + "/")]

        def get_file(self, name: str, to: str) -> None:
            Path(to).write_bytes(inside[name].read_bytes())

    monkeypatch.setattr("huggingface_hub.HfFileSystem", Files)
    assert len(ti.Job("hf://datasets/me/shop@v1/mug", "<cat>", "cat").images()) == 5
    with pytest.raises(ValueError, match="no file in"):
        ti.Job("hf://datasets/me/shop@v1/cup", "<cat>", "cat").images()
    inside["datasets/me/shop@v1/mug/../evil.png"] = next(Path(PENGUIN).iterdir())
    with pytest.raises(ValueError, match="out of its folder"):
        ti.Job("hf://datasets/me/shop@v1/mug", "<cat>", "cat").images()


# Tables


def test_a_table_is_read_alike_from_every_kind_of_it(tmp_path: Path) -> None:
    for name in ("taco", "penguin"):
        ti.save_images(ti.example_images(name), tmp_path / "things" / name)
    (tmp_path / "things" / "taco" / "init.txt").write_text("food\n")
    rows = [
        {"word": "<penguin>", "pictures": tmp_path / "things" / "penguin", "init": "bird", "steps": 9, "norm": "fixed"},
        {"word": "<taco>", "pictures": tmp_path / "things" / "taco", "init": "food", "steps": None, "norm": ""},
    ]
    file = tmp_path / "table.csv"
    file.write_text(
        "\ufeffword,pictures,init,steps,norm\n<penguin>,things/penguin,bird,9,fixed\n<taco>,things/taco,food,,\n"
    )
    asked = ti.jobs_from(rows, steps=7)
    assert [(job.word, job.init, job.settings.steps, job.settings.norm) for job in asked] == [
        ("<penguin>", "bird", 9, "fixed"),
        ("<taco>", "food", 7, "clamp"),
    ]
    assert ti.jobs_from(str(file), steps=7) == asked
    folders = ti.jobs_from(tmp_path / "things", init="bird", steps=7)
    assert [(job.word, job.init, job.pictures) for job in folders] == [
        (job.word, job.init, job.pictures) for job in asked
    ]
    pandas = pytest.importorskip("pandas")
    assert ti.jobs_from(pandas.DataFrame(rows), steps=7) == asked


def test_a_table_with_bad_rows_names_each(tmp_path: Path) -> None:
    rows: list[Any] = [
        {"word": "<a>", "pictures": PENGUIN, "init": "bird"},
        {"word": "<b>", "pictures": str(tmp_path / "nowhere")},
        {"word": "<a>", "pictures": PENGUIN},
        {"word": "<c c>", "pictures": PENGUIN},
        {"word": "<d>", "pictures": PENGUIN, "steps": "many"},
        {"word": "<e>", "pictures": PENGUIN, "stepz": 3},
        {"pictures": PENGUIN},
        {"word": "<f>", "pictures": [tmp_path / "gone.png"]},
    ]
    with pytest.raises(ValueError) as told:
        ti.jobs_from(rows)
    message = str(told.value)
    assert "7 of 8 rows are wrong" in message
    for number, part in (
        (2, "no such folder"),
        (3, "also in row 1"),
        (4, "without spaces"),
        (5, "steps is 'many'"),
        (6, "stepz"),
    ):
        assert any(line.startswith(f"row {number}: ") and part in line for line in message.splitlines()), (
            number,
            message,
        )
    assert "row 7: it has no word" in message and "row 8: no such picture" in message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("word,pictures\n", "no rows"),
        ("word,pictures\n<a>,x,y\n", "line 2"),
        ("word,pictures\n<a>\n", "line 2"),
        ("", "no rows"),
    ],
)
def test_a_csv_that_is_none_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "table.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        ti.jobs_from(tmp_path / "table.csv")


def test_two_jobs_of_one_word_are_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"jobs 1 and 3 both learn '<word-0>'"):
        ti.train_many([*jobs(2), *jobs(1)], out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="job 1 is of type dict"):
        ti.train_many([{"word": "<a>"}], out=tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"executor": "ray"}, "executor is 'ray'"),
        ({"executor": 0}, "executor is 0"),
        ({"resume": "no"}, "resume is 'no'"),
    ],
)
def test_what_is_no_executor_is_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ti.train_many(jobs(1), out=tmp_path, **options)


def test_a_loaded_model_is_not_sent_to_other_processes(tmp_path: Path, model: ti.Model) -> None:
    with ThreadPoolExecutor(1) as pool, pytest.raises(ValueError, match="give its name"):
        ti.train_many(jobs(1), out=tmp_path, model=model, executor=pool)


# What is kept


def test_only_what_is_missing_is_done_and_what_changed_is_done_anew(tmp_path: Path) -> None:
    todo, out = jobs(4), tmp_path / "out"

    def again(some: list[ti.Job]) -> dict[str, str]:
        results = driver(some, out, work=many.simulated).results(None)
        return {r.word: f"{r.status} {r.reason}".strip() for r in results}

    assert again(todo[:2]) == {"<word-0>": "done", "<word-1>": "done"}
    assert again(todo[:3]) == {"<word-0>": "kept", "<word-1>": "kept", "<word-2>": "done"}
    changed = [
        replace(todo[0], settings=replace(todo[0].settings, steps=7)),
        replace(todo[1], pictures=todo[2].pictures),
        todo[2],
    ]
    (out / "word-2" / WORD).write_bytes(b"cut")
    assert again(changed) == {
        "<word-0>": "done done anew: steps: 7, before 4",
        "<word-1>": "done done anew: other pictures",
        "<word-2>": "done",
    }
    (out / "word-2" / NOTE).write_text("{")
    assert again(changed)["<word-2>"] == "done"
    rows = list(csv.DictReader((out / "report.csv").open(newline="")))
    assert [row["word"] for row in rows].count("<word-0>") == 2 and len(rows) == 7


@pytest.mark.slow
def test_another_driver_on_the_folder_is_told_so_and_the_first_goes_on(tmp_path: Path) -> None:
    code = f"""
import sys; from pathlib import Path; from tests import many
for result in many.driver(many.jobs(3), Path({str(tmp_path)!r}), work=many.simulated).results(None):
    print(result.word, flush=True); sys.stdin.readline()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdin and first.stdout and first.stdout.readline() == "<word-0>\n"
        with pytest.raises(ValueError, match="in use by another train_many"):
            next(driver(jobs(3), tmp_path, work=many.simulated).results(None))
        first.stdin.write("\n\n\n")
        first.stdin.close()
        assert first.stdout.read() == "<word-1>\n<word-2>\n"


def test_a_driver_whose_folder_was_taken_over_in_the_same_notebook_ends(tmp_path: Path) -> None:
    first = driver(jobs(3), tmp_path, work=many.simulated).results(None)
    next(first)
    assert [r.status for r in driver(jobs(3), tmp_path, work=many.simulated).results(None)] == ["kept", "done", "done"]
    with pytest.raises(ValueError, match="taken over"):
        next(first)


def test_resume_never_refuses_a_folder_with_words(tmp_path: Path) -> None:
    list(driver(jobs(1), tmp_path, work=many.simulated).results(None))
    with pytest.raises(FileExistsError, match="word-0"):
        next(driver(jobs(1), tmp_path, work=many.simulated).results(None, "never"))


def test_a_line_of_the_report_that_was_cut_by_a_death_spoils_no_other(tmp_path: Path) -> None:
    list(driver(jobs(1), tmp_path, work=many.simulated).results(None))
    report = tmp_path / "report.csv"
    report.write_bytes(report.read_bytes() + "2026-01-01,<h\u00e4".encode()[:-1])  # in the middle of a letter
    list(driver(jobs(2), tmp_path, work=many.simulated).results(None))
    assert list(csv.reader(report.open(newline="", errors="replace")))[-1][1:3] == ["<word-1>", "done"]


# Engines, with simulated work


class Recorder(Executor):
    """Holds what it is given until it is asked; says how many futures were open at once."""

    def __init__(self) -> None:
        self.open: set[Future[Any]] = set()
        self.most = 0

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.open.add(future)
        self.most = max(self.most, len(self.open))
        if len(self.open) >= 8:
            first = self.open.pop()
            first.set_result(fn(*args))
        return future


def test_no_more_orders_are_in_flight_than_asked_for_and_jobs_are_read_as_they_go(tmp_path: Path) -> None:
    read: list[int] = []
    template = ti.Job(PENGUIN, "<x>", None)

    def lazily() -> Any:
        for number in range(40):
            read.append(number)
            yield replace(template, word=f"<word-{number}>")

    pool = Recorder()
    results = driver(lazily(), tmp_path, work=many.simulated, at_once=8).results(pool)
    for number in range(30):
        next(results)
        assert len(read) <= number + 10
    results.close()
    assert pool.most <= 8
    assert all(future.cancelled() for future in pool.open)


@pytest.mark.slow
def test_memory_stays_flat_however_many_jobs_there_are(tmp_path: Path) -> None:
    template = ti.Job(PENGUIN, "<x>", None)
    todo = (replace(template, word=f"<word-{n}>") for n in range(100))
    results = driver(todo, tmp_path, work=many.simulated).results(None)
    tracemalloc.start()
    for _ in range(50):
        next(results)
    half = tracemalloc.take_snapshot()
    assert len(list(results)) == 50
    grown = sum(
        d.size_diff
        for d in tracemalloc.take_snapshot().compare_to(half, "filename")
        if "ti_nb/jobs" in str(d.traceback)
    )
    tracemalloc.stop()
    assert grown < 50 * 200  # a name and a number of each, that no two be the same


@pytest.mark.thorough
def test_a_worker_that_always_dies_of_a_job_stops_no_other(tmp_path: Path) -> None:
    template = ti.Job(PENGUIN, "<x>", None)
    todo = [replace(template, word=f"<{name}>") for name in ("a", "killer", "b", "c")]
    with ti.jobs.processes(1) as workers:
        results = {r.word: r for r in driver(todo, tmp_path, work=many.killed).results(workers)}
        assert workers.died == 3
    assert {word: r.status for word, r in results.items()} == {
        "<a>": "done",
        "<killer>": "failed",
        "<b>": "done",
        "<c>": "done",
    }
    assert "died 3 times" in results["<killer>"].reason


def test_an_executor_that_is_broken_or_shut_down_says_what_to_do(tmp_path: Path) -> None:
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    with pytest.raises(RuntimeError, match="call again with a new one"):
        list(driver(jobs(1), tmp_path, work=many.simulated).results(pool))


class NoSlot:
    """A worker's place in which none ever starts."""

    def start(self) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_exception(BrokenExecutor("no"))
        return future

    def call(self, function: Any, *args: Any, **kwargs: Any) -> Future[Any]:
        raise AssertionError

    def stop(self, *, kill: bool) -> None:
        pass


def test_where_no_worker_starts_it_ends_and_says_so(tmp_path: Path) -> None:
    workers = Workers([NoSlot(), NoSlot()], advice="put it under a guard")
    with workers, pytest.raises(NotPossible, match="put it under a guard"):
        list(driver(jobs(3), tmp_path, work=many.simulated).results(workers))


class SlowSlot(NoSlot):
    """Waits for room that never comes, as on a cluster whose nodes are gone."""

    def start(self) -> Future[Any]:
        return Future()


def test_where_all_wait_for_a_worker_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    timers: list[Mock] = []
    monkeypatch.setattr(engine.threading, "Timer", lambda *how: timers.append(Mock(how=how)) or timers[-1])
    workers = Workers([SlowSlot()], advice="is there room?")
    after, say = timers[0].how
    assert after == engine.LATE
    timers[0].start.assert_called_once()
    say()  # nobody waits
    call = workers.submit(print)
    with pytest.warns(UserWarning, match=r"no worker is ready, and one has been starting for 120 s.*is there room\?"):
        say()
    workers.shutdown(wait=False, cancel_futures=True)
    assert call.cancelled()


def test_of_a_worker_that_is_ready_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    timer = Mock()
    monkeypatch.setattr(engine.threading, "Timer", lambda *_: timer)
    with Workers([many.ThreadSlot()]) as workers:
        assert workers.submit(abs, -1).result() == 1
        timer.cancel.assert_called_once()


@pytest.mark.thorough
def test_a_script_without_a_guard_is_told_of_it(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import ti_nb as ti\nwith ti.jobs.processes(1) as workers:\n    print(workers.submit(max, 1, 2).result())\n"
    )
    root = str(Path(__file__).parents[1])
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": root},
    )
    assert done.returncode and "if __name__ == '__main__'" in done.stderr.splitlines()[-1]


@pytest.mark.thorough
def test_processes_end_with_a_driver_that_is_killed(tmp_path: Path) -> None:
    import psutil

    script = tmp_path / "driver.py"
    script.write_text(
        "import os, time, ti_nb as ti\n"
        "if __name__ == '__main__':\n"
        "    workers = ti.jobs.processes(1)\n"
        "    print(workers.submit(os.getpid).result(), flush=True)\n"
        "    workers.submit(time.sleep, 600).result()\n"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdout is not None
        worker = psutil.Process(int(process.stdout.readline()))
        process.kill()
    worker.wait(60)


def test_words_that_came_while_nobody_asked_are_kept(tmp_path: Path) -> None:
    """On another disk they would be lost with their futures."""

    def sent(order: Any) -> list[Any]:
        note = Note(order.tasks[0].about, order.model.identity, order.tasks[0].stamp, word="x")
        return [many.Outcome(steps=1, files={NOTE: json.dumps(asdict(note)).encode(), WORD: b"x"})]

    pool = ThreadPoolExecutor(4)
    results = driver(jobs(4), tmp_path, work=sent, same_disk=False, at_once=4).results(pool)
    next(results)
    pool.shutdown()
    results.close()
    assert len(words(tmp_path)) == 4


# The board


def test_the_board_prints_few_lines_and_names_failures() -> None:
    said: list[str] = []
    board = Board(1000, say=said.append)
    for number in range(1000):
        failed = number in (3, 700)
        board.add(
            ti.JobResult(f"<w{number}>", "failed" if failed else "done", reason="broken pictures" if failed else "")
        )
    board.end()
    assert len(said) <= 53
    assert "<w3>" in said[-1] and "<w700>" in said[-1] and "1000 of 1000 words (2 failed)" in said[-1]
    assert len(board.failures) == 2


def test_the_board_is_a_live_table_in_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    monkeypatch.setattr("ti_nb.jobs.progress.frontend", lambda: "jupyter")
    monkeypatch.setattr("IPython.display.display", shown.append)
    board = Board(3)
    for word in ("<a>", "<b&c>"):
        board.add(ti.JobResult(word, "done", steps=5, seconds=1.5))
    (panel,) = shown
    assert "2 of 3 words" in panel.children[0].value and "&lt;b&amp;c&gt;" in panel.children[0].value


# Real training


@pytest.mark.slow
def test_words_are_those_of_train_alone_and_one_with_broken_pictures_says_why(
    tmp_path: Path, place: str, alone: dict[str, bytes]
) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n not a picture")
    bad = ti.Job(str(tmp_path / "broken"), "<bad>", "thing", many.FEW)
    unknown = ti.Job(PENGUIN, "<unknown>", "xqzvwkjqxz", many.FEW)
    out = tmp_path / "out"
    results = {r.word: r for r in ti.train_many([bad, unknown, *jobs(4)], out=out, model=place, show=False)}
    assert "a.png" in results["<bad>"].reason and "xqzvwkjqxz" in results["<unknown>"].reason
    assert words(out) == alone
    assert results["<word-0>"].concept.word == "<word-0>"
    with pytest.raises(ValueError, match="was not learned"):
        _ = results["<bad>"].concept
    side_by_side = tmp_path / "together"
    assert {r.status for r in ti.train_many(jobs(3), out=side_by_side, model=place, together=2, show=False)} == {"done"}
    for name in words(side_by_side):  # to rounding
        for mine, theirs in zip(
            ti.load(side_by_side / name / WORD).vectors.values(), ti.load(out / name / WORD).vectors.values()
        ):
            assert (mine - theirs).abs().max() < 1e-4


@pytest.mark.slow
def test_a_job_whose_worker_dies_in_a_step_goes_on_from_there(
    tmp_path: Path, place: str, alone: dict[str, bytes]
) -> None:
    check_deaths(Workers([many.ThreadSlot()]), tmp_path, place, alone)


@pytest.mark.thorough
def test_processes_that_are_killed_in_a_step_lose_that_step_alone_and_change_no_bit(
    tmp_path: Path, place: str, alone: dict[str, bytes]
) -> None:
    check_deaths(ti.jobs.processes(2, threads=1), tmp_path, place, alone)


def check_deaths(pool: Workers, out: Path, place: str, alone: dict[str, bytes]) -> None:
    with pool as workers:
        todo = driver(jobs(4), out, model=place, work=many.killed_once, save_every=1)
        results = {r.word: r for r in todo.results(workers)}
        assert workers.died == 2
    assert words(out) == alone
    told = {word: r.reason for word, r in results.items()}
    assert told["<word-1>"] == told["<word-2>"] == "went on from step 3; after 1 of its workers died or had no room"
    assert told["<word-0>"] == told["<word-3>"] == ""


@pytest.mark.slow
def test_a_full_disk_fails_its_job_alone_and_the_next_call_does_it(
    tmp_path: Path, place: str, alone: dict[str, bytes]
) -> None:
    out = tmp_path / "out"
    results = {r.word: r for r in driver(jobs(3), out, model=place, work=many.full_disk).results(None)}
    assert results["<word-1>"].status == "failed" and "No space left" in results["<word-1>"].reason
    again = {r.word: r for r in driver(jobs(3), out, model=place).results(None)}
    assert [again[f"<word-{n}>"].status for n in range(3)] == ["kept", "done", "kept"]
    assert again["<word-1>"].reason == f"went on from step {many.FEW['steps']}"
    assert words(out) == {name: alone[name] for name in words(out)} and len(words(out)) == 3


def no_room_for(threads: set[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk of workers that are these threads is full when a word is saved."""
    save = work.save

    def saved(concept: ti.Concept, path: Path) -> Path:
        if not threads or threading.get_ident() in threads:
            threads.add(threading.get_ident())
            raise OSError(errno.ENOSPC, "No space left on device")
        return save(concept, path)

    monkeypatch.setattr(work, "save", saved)


@pytest.mark.slow
def test_a_worker_whose_own_disk_is_full_gets_no_more_jobs_and_others_do_its(
    tmp_path: Path, place: str, alone: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    no_room_for(set(), monkeypatch)
    out = tmp_path / "out"
    with (
        pytest.warns(UserWarning, match="gets no more calls: the disk of .* takes no more .*No space left"),
        Workers([many.ThreadSlot(), many.ThreadSlot()]) as workers,
    ):
        results = {r.word: r for r in driver(jobs(4), out, model=place, same_disk=False).results(workers)}
        assert workers.died == 1
    assert words(out) == alone
    assert sorted(r.reason for r in results.values()) == ["", "", "", "after 1 of its workers died or had no room"]
    assert not list(tmp_path.glob("ti_nb-jobs-*"))


@pytest.mark.slow
def test_where_no_worker_has_room_it_is_said_and_what_shared_a_pass_is_kept(
    tmp_path: Path, place: str, alone: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    out, save, told = tmp_path / "out", work.save, list[ti.JobResult]()

    def saved(concept: ti.Concept, path: Path) -> Path:
        if concept.word == "<word-1>":
            raise OSError(errno.ENOSPC, "No space left on device")
        return save(concept, path)

    monkeypatch.setattr(work, "save", saved)
    with (
        pytest.warns(UserWarning, match="takes no more"),
        pytest.raises(RuntimeError, match="no worker is left: the disk of"),
        Workers([many.ThreadSlot()]) as workers,
    ):
        told.extend(driver(jobs(4), out, model=place, same_disk=False, together=2).results(workers))
    assert [(r.word, r.status) for r in told] == [("<word-0>", "done"), ("<word-1>", "failed")]
    assert list(words(out)) == ["word-0"]


@pytest.mark.slow
def test_on_another_disk_pictures_go_out_and_words_come_back_as_bytes(
    tmp_path: Path, place: str, alone: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "elsewhere"))
    (tmp_path / "elsewhere").mkdir()
    out = tmp_path / "out"
    todo = [*jobs(2), ti.Job(PENGUIN, "<files>", "thing", many.FEW), ti.Job(str(tmp_path / "gone"), "<gone>", None)]
    with ThreadPoolExecutor(1) as pool:
        results = list(ti.train_many(todo, out=out, model=place, executor=pool, same_disk=False, show=False))
    assert {r.word: r.status for r in results if r.status != "done"} == {"<gone>": "failed"}
    assert {name: words(out)[name] for name in ("word-0", "word-1")} == {
        name: alone[name] for name in ("word-0", "word-1")
    }
    assert not list((tmp_path / "elsewhere").iterdir()) and not list(out.glob(f"*/{RUN}"))
    assert [r.status for r in ti.train_many(todo[:3], out=out, model=place, show=False)] == ["kept"] * 3


@pytest.mark.slow
def test_a_run_of_other_settings_that_was_begun_is_not_gone_on_with(
    tmp_path: Path, place: str, alone: dict[str, bytes]
) -> None:
    """Steps alone are no other run to `train`, but they are another word: the rate falls otherwise."""
    (job,) = jobs(1)
    results = ti.train_many(
        [replace(job, settings=replace(job.settings, steps=3))], out=tmp_path, model=place, show=False
    )
    assert next(results).steps == 3
    results.close()  # type: ignore[attr-defined]
    (result,) = ti.train_many([job], out=tmp_path, model=place, show=False, keep_runs=False)
    assert result.reason == "done anew: steps: 4, before 3"
    assert words(tmp_path) == {"word-0": alone["word-0"]}
    assert not (tmp_path / "word-0" / RUN).exists()


@pytest.mark.thorough
def test_a_foreign_pool_that_breaks_ends_the_call_and_a_new_one_goes_on(
    tmp_path: Path, place: str, alone: dict[str, bytes]
) -> None:
    out, spawn = tmp_path / "out", multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn) as pool, pytest.raises(RuntimeError, match="call again with a new one"):
        list(driver(jobs(3), out, model=place, work=many.killed_once, save_every=1).results(pool))
    done = len(words(out))
    assert 1 <= done < 3
    results = {r.word: r for r in driver(jobs(3), out, model=place, save_every=1).results(None)}
    assert sorted(r.status for r in results.values()).count("kept") == done
    assert results["<word-1>"].reason == "went on from step 3"
    assert words(out) == {name: alone[name] for name in words(out)}


def test_a_note_of_another_time_is_none(tmp_path: Path) -> None:
    (tmp_path / NOTE).write_text('{"about": {}}')
    assert Note.read(tmp_path) is None
    assert isinstance(Here(), Executor)
