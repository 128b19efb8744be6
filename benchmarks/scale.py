"""Many words: are they right whatever dies, how fast is each engine, does the driver stay small, and what would a million take?

    python -m benchmarks.scale prove --concepts 200          each word equal to `train` alone, workers killed, pictures broken, disk full
    python -m benchmarks.scale throughput --concepts 16      words a second, by processes and by `together`, as ratios
    python -m benchmarks.scale memory --jobs 10000           the driver's memory, and a driver killed in the middle
    python -m benchmarks.scale million                       bytes, requests, GPU hours at 10^2 to 10^6 words, by simulation

Each prints a table, and exits 1 where what it proves is not so.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import ti_nb as ti
from tests import many
from ti_nb.jobs.shelf import WORD

ROOT = Path(__file__).parents[1]


def concepts(count: int, steps: int) -> list[ti.Job]:
    """Jobs on tiny, each with a seed of its own."""
    return many.jobs(count, steps=steps, batch=4, watch=0, warmup=min(10, steps // 2))


def learned(out: Path) -> dict[str, bytes]:
    """Each word's file."""
    return {path.parent.name: path.read_bytes() for path in out.glob(f"*/{WORD}")}


# That it is right


def alone(jobs: list[ti.Job], out: Path) -> dict[str, bytes]:
    """The words by `train`, one after the other, kept like the others."""
    model = ti.load_model("tiny")
    for job in jobs:
        path = out / job.folder / WORD
        if not path.exists():
            run = ti.train(model, job.images(), word=job.word, init=job.init, settings=job.settings)
            for _ in run:
                pass
            ti.save(run.concept(), path)
    return learned(out)


def kill_workers(times: int, seconds: float, stop: threading.Event, workers: Any) -> None:
    """Kill a random worker now and then."""
    draw = random.Random(0)
    for _ in range(times):
        if stop.wait(draw.uniform(0.5, 1.5) * seconds):
            return
        pools = [slot._pool for slot in workers._slots if slot._pool is not None]
        living = [pid for pool in pools for pid in (pool._processes or {})]
        if living:
            os.kill(draw.choice(living), signal.SIGKILL)


def prove(options: argparse.Namespace) -> bool:
    """On an engine whose workers are killed, with a job whose pictures are broken: every word is that of `train` alone."""
    folder = Path(options.out)
    jobs = concepts(options.concepts, options.steps)
    (folder / "broken").mkdir(parents=True, exist_ok=True)
    (folder / "broken" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n not a picture")
    todo = [*jobs, replace(jobs[0], pictures=str(folder / "broken"), word="<broken>")]
    random.Random(1).shuffle(todo)
    expected = alone(jobs, folder / "alone")
    results, died, work, seconds = on_engine(options, todo, folder / options.engine)
    counts = Counter(result.status for result in results)
    equal = {name: data == expected.get(name) for name, data in learned(folder / options.engine).items()}
    twice = sum(int(r.reason.split("after ")[1].split()[0]) for r in results if "workers died or" in r.reason)
    print(
        f"{options.engine}: {dict(counts)}, {sum(equal.values())} of {len(jobs)} words equal to train alone, to the bit"
    )
    print(
        f"workers that died: {died}; jobs that went on in another: {twice}; failed: {[str(r) for r in results if r.status == 'failed']}"
    )
    print(
        f"work {work:.1f} s, in {seconds:.1f} s on {options.workers} workers: {1 - work / seconds / options.workers:.1%} is not work (idle, kills; not the start)"
    )
    again = Counter(r.status for r in ti.train_many(jobs, out=folder / options.engine, show=False))
    print(f"the same call again: {dict(again)}")
    return sum(equal.values()) == len(jobs) == again["kept"] and counts["failed"] == 1


def on_engine(options: argparse.Namespace, todo: list[ti.Job], out: Path) -> tuple[list[Any], int, float, float]:
    """Results, how many workers died, and seconds: of the work itself, and of all from the moment that workers have the model."""
    results, stop = [], threading.Event()
    cluster = nodes_of_ray(options.workers, options.small_disk) if options.engine == "ray" else None
    workers = ti.jobs.ray_executor(gpus=0) if cluster else ti.jobs.processes(options.workers, threads=1)
    with workers:
        list(ti.train_many(concepts(options.workers, 1), out=f"{out}-warm", executor=workers, show=False))
        began = time.monotonic()
        arguments = (options.kills, options.every, stop, workers)
        killer = threading.Thread(target=kill_workers, args=arguments, daemon=True)
        if not cluster:
            killer.start()
        shared = not options.small_disk
        for result in ti.train_many(todo, out=out, executor=workers, save_every=options.save_every, same_disk=shared):
            results.append(result)
            if cluster and options.kills and len(results) == len(todo) // 2:
                cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
                cluster.add_node(num_cpus=1)
        stop.set()
        return results, workers.died, sum(result.seconds for result in results), time.monotonic() - began


def nodes_of_ray(count: int, small_disk: str | None = None) -> Any:
    """Ray's own test cluster: so many nodes of one core beside a head that has none, each with processes of its own.

    The first keeps its temporary files on `small_disk`.
    """
    import ray
    from ray.cluster_utils import Cluster

    os.environ["PYTHONPATH"] = str(ROOT)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for number in range(count):
        cluster.add_node(num_cpus=1, env_vars={"TMPDIR": small_disk} if small_disk and not number else None)
    ray.init(address=cluster.address, log_to_driver=False)
    return cluster


# How fast


def throughput(options: argparse.Namespace) -> bool:
    """Words a second of 1 and 2 processes, and of 1, 2, 4, 8 words in one pass, each as a ratio to the first."""
    rows = [(f"{n} processes", {"workers": n, "together": 1}) for n in (1, 2)]
    rows += [(f"together {n}", {"workers": 1, "together": n}) for n in (1, 2, 4, 8)]
    first: float | None = None
    for name, how in rows:
        with tempfile.TemporaryDirectory() as folder, ti.jobs.processes(how["workers"], threads=1) as workers:
            warm = concepts(how["workers"], 1)
            list(ti.train_many(warm, out=f"{folder}/warm", executor=workers, show=False))
            began = time.monotonic()
            jobs = concepts(options.concepts, options.steps)
            results = ti.train_many(jobs, out=f"{folder}/out", executor=workers, together=how["together"], show=False)
            done = sum(result.status == "done" for result in results)
            rate = done / (time.monotonic() - began)
        first = first or rate
        print(f"{name:14} {rate:8.3f} words/s  {rate / first:5.2f}", flush=True)
    return True


# The driver


def simulated_jobs(count: int) -> Iterator[ti.Job]:
    """Read as they go."""
    template = ti.Job([b"a picture"], "<x>", None)
    return (replace(template, word=f"<word-{number}>") for number in range(count))


def drive(options: argparse.Namespace) -> bool:
    """A driver over simulated jobs of 10 ms, which prints its memory and how many are done; started by `memory`."""
    from concurrent.futures import ThreadPoolExecutor

    import psutil

    process = psutil.Process()
    with ThreadPoolExecutor(4) as pool:
        driver = many.driver(simulated_jobs(options.jobs), Path(options.out), work=many.ten_milliseconds, at_once=8)
        for number, result in enumerate(driver.results(pool), 1):
            if number % max(1, options.jobs // 10) == 0:
                line = {"number": number, "status": result.status, "bytes": process.memory_info().rss}
                print(json.dumps(line), flush=True)
    return True


def memory(options: argparse.Namespace) -> bool:
    """Kill the driver in the middle, start it again, and see that it goes on and stays as small as it was."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.scale",
        "drive",
        "--jobs",
        str(options.jobs),
        "--out",
        f"{options.out}/drive",
    ]
    killed = run_driver(command, until=options.jobs // 2)
    done = len(learned(Path(options.out) / "drive"))
    began = time.monotonic()
    again = run_driver(command)
    sizes = [line["bytes"] / 1e6 for line in again]
    print(
        f"killed after {killed[-1]['number']} of {options.jobs}, {done} words kept; then all {len(learned(Path(options.out) / 'drive'))} in {time.monotonic() - began:.0f} s"
    )
    print(f"memory of the driver, MB, at each tenth: {', '.join(f'{size:.0f}' for size in sizes)}")
    growth = sizes[-1] - sizes[1]
    print(
        f"growth from the second tenth to the last: {growth:.1f} MB, {growth * 1e6 / (0.8 * options.jobs):.0f} bytes a job"
    )
    return growth * 1e6 < 2000 * options.jobs and len(learned(Path(options.out) / "drive")) == options.jobs


def run_driver(command: list[str], until: int = 0) -> list[dict[str, Any]]:
    """The lines that it prints; it is killed at the line of job `until`."""
    lines = []
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(json.loads(line))
            if until and lines[-1]["number"] >= until:
                process.kill()
    return lines


# A million


def million(options: argparse.Namespace) -> bool:
    """A table of sizes, from measured rates; each row also simulated event by event at a hundredth, to see the queueing."""
    rates = {**RATES, **({} if not options.rates else json.loads(Path(options.rates).read_text()))}
    head = (
        "words",
        "GPU hours",
        "words GB",
        "with runs GB",
        "pictures GB",
        "files",
        "Hub commits",
        "days on 64 GPUs",
        "bottleneck",
    )
    print(" | ".join(head))
    for words in (10**2, 10**4, 10**6):
        print(" | ".join(row(words, rates)))
    busy = simulate(64, 6400, rates)
    print(
        f"simulated: 64 workers, 6400 words, a driver of {rates['driver']:.4f} s a word: workers are busy {busy:.1%} of the time"
    )
    edge = rates["word_seconds"] / rates["driver"]
    print(
        f"one driver feeds at most {edge:,.0f} workers; simulated at 3 times that: {simulate(round(3 * edge), round(9 * edge), rates):.1%} busy"
    )
    return busy > 0.9


RATES = {  # seconds and bytes; `docs/scale.md` says which were measured, and where
    "word_seconds": 60.0,  # on one GPU: 500 steps of SDXL at 0.12 s
    "driver": 0.0035,  # of one driver, for each word, measured
    "word": 4_000,  # bytes: the word's file and its note
    "run": 1_900_000,  # of a run of 500 steps
    "pictures": 1_500_000,  # of five pictures
    "files_a_word": 6,
    "words_a_commit": 38,  # of each of 64 rented machines, which share an hour's commits
    "commits_an_hour": 100,
}


def row(words: int, rates: dict[str, Any], gpus: int = 64) -> tuple[str, ...]:
    """A line of the table."""
    hours = words * rates["word_seconds"] / 3600
    commits = words / rates["words_a_commit"]
    waits = {
        "the GPUs": hours / gpus,
        "the driver": words * rates["driver"] / 3600,
        "commits to the Hub": commits / rates["commits_an_hour"],
    }
    sizes = [words * rates["word"], words * (rates["word"] + rates["run"]), words * rates["pictures"]]
    files = f"{words * rates['files_a_word']:,}"
    return (
        f"{words:,}",
        f"{hours:,.0f}",
        *(f"{size / 1e9:,.2f}" for size in sizes),
        files,
        f"{commits:,.0f}",
        f"{max(waits.values()) / 24:,.2f}",
        max(waits, key=lambda name: waits[name]),
    )


def simulate(workers: int, words: int, rates: dict[str, Any]) -> float:
    """The share of time that workers are busy: one driver hands out words one after the other, each worker has one ahead."""
    import heapq

    draw, driver, work = random.Random(0), 0.0, 0.0
    free = [0.0] * workers
    for _ in range(words):
        driver = max(driver + rates["driver"], free[0] - rates["word_seconds"])  # a word ahead, so it is there in time
        begins = max(free[0], driver)
        takes = rates["word_seconds"] * draw.uniform(0.8, 1.2)
        work += takes
        heapq.heapreplace(free, begins + takes)
    return work / (workers * max(free))


def main() -> None:
    """Do what is asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("prove", "throughput", "memory", "drive", "million"))
    parser.add_argument("--concepts", type=int, default=8)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--engine", choices=("processes", "ray"), default="processes")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kills", type=int, default=3, help="workers to kill; of Ray a node, at half of the jobs")
    parser.add_argument(
        "--small-disk", help="with --engine ray: a folder with little room, for one node's temporary files"
    )
    parser.add_argument("--every", type=float, default=20.0, help="seconds between two kills, about")
    parser.add_argument("--save-every", type=int, default=1, help="steps between two saves: so many are done again")
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--rates", help="a JSON file of rates that replace those of the table")
    parser.add_argument("--out", help="a folder to keep; by default one that goes away")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        options.out = options.out or folder
        sys.exit(0 if globals()[options.what](options) else 1)


if __name__ == "__main__":
    main()
