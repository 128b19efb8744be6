"""Many words on engines of others: Ray with two nodes of its own test cluster, dask, submitit; each where it is installed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ti_nb as ti
from tests.many import driver, jobs
from tests.test_jobs import alone, place, words

__all__ = ["alone", "place"]  # fixtures
pytestmark = pytest.mark.thorough
ROOT = str(Path(__file__).parents[1])


# Stands in for a node's two helpers, which gather metrics and prepare environments, neither of which is used here: they take
# Ray's whole 15 s to start on a busy machine. It says that it is there, and ends with its node.
HELPER = """
import os, sys, time
told = dict(a[2:].split("=", 1) for a in sys.argv if a.startswith("--") and "=" in a)
for name in ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port", "runtime_env_agent_port"):
    path = os.path.join(told["session-dir"], name + "_" + told["node-id"])
    if not os.path.exists(path):
        with open(path + ".new", "w") as file:
            file.write("1")
        os.rename(path + ".new", path)
parent = os.getppid()
while os.getppid() == parent:
    time.sleep(1)
"""


def only_what_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._private import ray_constants, services

    real, helpers = (
        services._build_python_executable_command_memory_profileable,
        (ray_constants.PROCESS_TYPE_DASHBOARD_AGENT, ray_constants.PROCESS_TYPE_RUNTIME_ENV_AGENT),
    )

    def command(component: str, *args: Any, **how: Any) -> list[str]:
        return [sys.executable, "-ISc", HELPER] if component in helpers else real(component, *args, **how)

    monkeypatch.setattr(services, "_build_python_executable_command_memory_profileable", command)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Two nodes of one core each, beside a head that has none."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", ROOT)
    only_what_is_needed(monkeypatch)
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(2):
        made.add_node(num_cpus=1)
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
        for result in driver(jobs(4), out, model=place, save_every=1).results(workers):
            results[result.word] = result
            if len(results) == 1:
                cluster.remove_node(next(iter(cluster.worker_nodes)))
        assert len(cluster.worker_nodes) == 1
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
