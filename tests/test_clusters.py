"""Many words on engines of others: Ray with two nodes of its own test cluster, dask, submitit; each where it is installed."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import ti_nb as ti
from tests.many import driver, jobs
from tests.test_jobs import alone, place, words

__all__ = ["alone", "place"]  # fixtures
pytestmark = pytest.mark.thorough
ROOT = str(Path(__file__).parents[1])


def agents() -> dict[str, int]:
    """Ports of a node's helpers, chosen here: where Ray chooses them it waits 15 s to be told, too short on a busy machine."""
    names = ("metrics_agent_port", "runtime_env_agent_port", "dashboard_agent_listen_port", "metrics_export_port")
    with ExitStack() as stack:
        free = [stack.enter_context(socket.socket()) for _ in names]
        for each in free:
            each.bind(("127.0.0.1", 0))
        return {name: each.getsockname()[1] for name, each in zip(names, free)}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Two nodes of one core each, beside a head that has none."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", ROOT)
    monkeypatch.setenv("RAY_agent_register_timeout_ms", "200000")  # its own 15 s are short for a busy machine
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **agents()})
    for _ in range(2):
        made.add_node(num_cpus=1, **agents())
    ray.init(address=made.address, log_to_driver=False)
    yield made
    ray.shutdown()
    made.shutdown()


def test_on_two_nodes_of_ray_a_node_dies_and_no_bit_changes(
    cluster: Any, tmp_path: Path, place: str, alone: dict[str, bytes]
) -> None:
    out = tmp_path / "out"
    with ti.jobs.ray_executor(2) as workers:
        results: dict[str, ti.JobResult] = {}
        for result in driver(jobs(4, steps=6), out, model=place, save_every=1).results(workers):
            results[result.word] = result
            if len(results) == 1:
                cluster.remove_node(next(iter(cluster.worker_nodes)))
        assert workers.died == 1
    assert {r.status for r in results.values()} == {"done"}
    assert words(out) == alone


def test_ray_nodes_without_our_disk_send_bytes(
    cluster: Any, tmp_path: Path, place: str, alone: dict[str, bytes]
) -> None:
    out = tmp_path / "out"
    with ti.jobs.ray_executor() as workers:
        results = list(ti.train_many(jobs(4), out=out, model=place, executor=workers, same_disk=False, show=False))
        assert len(workers._slots) == 2
    assert [r.status for r in results] == ["done"] * 4
    assert words(out) == alone


def test_a_cluster_without_room_is_said(cluster: Any) -> None:
    with pytest.raises(RuntimeError, match="0 GPUs and 2 cores"):
        ti.jobs.ray_executor(gpus=1)


def from_docs(heading: str) -> str:
    """The code under a heading of docs/scale.md."""
    _, _, after = (Path(ROOT) / "docs" / "scale.md").read_text().partition(f"### {heading}\n")
    return after.partition("```python\n")[2].partition("```")[0]


def test_dask_as_docs_have_it(tmp_path: Path, place: str, alone: dict[str, bytes]) -> None:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None
    ) as cluster:
        code = from_docs("dask").replace('"tcp://scheduler:8786"', "cluster").replace('"sdxl"', "place")
        names = {"cluster": cluster, "place": place, "jobs": jobs(4), "out": tmp_path}
        exec(code, names)
    assert words(tmp_path) == alone


def test_submitit_as_docs_have_it(
    tmp_path: Path, place: str, alone: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    submitit = pytest.importorskip("submitit")
    monkeypatch.setenv("PYTHONPATH", ROOT)
    monkeypatch.setattr(submitit, "AutoExecutor", lambda folder: submitit.LocalExecutor(tmp_path / "logs"))
    code = from_docs("Slurm").replace('slurm_partition="gpu", gpus_per_node=1, timeout_min=240', "timeout_min=5")
    exec(code.replace('"sdxl"', "place"), {"place": place, "jobs": jobs(2), "out": tmp_path / "out"})
    assert words(tmp_path / "out") == {name: alone[name] for name in ("word-0", "word-1")}
