"""What a rented machine runs: `python -m ti_nb.jobs.rented.machine owner/name --shard 0 --of 2`.

It fetches the jobs from the private repository, does those of its shard that have no word there yet, and sends words back as they
are finished: every few minutes, as the Hub takes only so many commits an hour. If it dies, the next one goes on from there.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ...hub.client import client, with_retries
from ..driver import train_many
from ..engines.processes import processes
from ..shelf import NOTE, WORD, JobResult
from .parcel import LIST, PICTURES, WORDS, read

if TYPE_CHECKING:
    from huggingface_hub import HfApi

EVERY = 180.0  # seconds between two commits
EACH = 36.0  # as many more for each machine: the Hub takes some 128 commits an hour to one repository
PATIENCE = 60.0  # seconds that a commit may take


def main() -> None:
    """Do a shard of the jobs; exits 1 where none of them succeeded."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("repo")
    parser.add_argument("--shard", type=int, default=0)
    parser.add_argument("--of", type=int, default=1)
    asked = parser.parse_args()
    api = client(None, None)
    with TemporaryDirectory() as folder:
        print(f"fetching jobs from {asked.repo}", flush=True)
        patterns = [LIST, f"{PICTURES}/**", f"{WORDS}/**"]
        with_retries(
            lambda: api.snapshot_download(asked.repo, allow_patterns=patterns, local_dir=folder), within=PATIENCE
        )
        failed, total = do(api, asked.repo, Path(folder), asked.shard, asked.of)
    sys.exit(1 if failed == total else 0)


def do(api: HfApi, repo: str, folder: Path, shard: int, of: int) -> tuple[int, int]:
    """Do the shard, and send its words; returns how many failed, of how many."""
    jobs, how = read(folder)
    mine, failures, fresh, sent = jobs[shard::of], list[JobResult](), list[Path](), time.monotonic()
    for result in _results(mine, folder, how):
        failures += [result] if result.status == "failed" else []
        fresh += [result.path.parent] if result.path is not None and result.status == "done" else []
        if fresh and time.monotonic() - sent > max(EVERY, EACH * of):
            send(api, repo, folder, fresh, shard, failures)
            fresh, sent = [], time.monotonic()
    send(api, repo, folder, fresh, shard, failures)
    print(f"{len(mine) - len(failures)} of {len(mine)} words are in {repo}", flush=True)
    return len(failures), len(mine)


def _results(jobs: list[Any], folder: Path, how: dict[str, Any]) -> Iterator[JobResult]:
    """Results of the jobs, on all GPUs that are here."""
    import torch

    options = {
        **how["loading"],
        "model": how["model"],
        "together": how["together"],
        "out": folder / WORDS,
        "keep_runs": False,
    }
    if torch.cuda.device_count() < 2:
        yield from train_many(jobs, **options)
        return
    with processes() as workers:
        yield from train_many(jobs, executor=workers, **options)


def send(api: HfApi, repo: str, folder: Path, fresh: list[Path], shard: int, failures: list[JobResult]) -> None:
    """Put finished words, and what failed and why, into the repository, in one commit."""
    from huggingface_hub import CommitOperationAdd

    files = {f"{WORDS}/{place.name}/{name}": place / name for place in fresh for name in (WORD, NOTE)}
    operations: list[Any] = [CommitOperationAdd(name, str(path)) for name, path in files.items()]
    if failures:
        told = "".join(f"{failure.word}\t{failure.reason}\n" for failure in failures)
        operations.append(CommitOperationAdd(f"failed-{shard}.txt", told.encode()))
    if operations:
        title = f"{len(fresh)} words"
        with_retries(lambda: api.create_commit(repo, operations, commit_message=title), within=PATIENCE)
        print(f"sent {title}", flush=True)


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    main()
