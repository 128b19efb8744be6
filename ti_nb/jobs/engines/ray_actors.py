"""`ray_executor`: workers on a Ray cluster, each an actor that holds the model; `pip install ti_nb[ray]`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import BrokenExecutor, Future
from contextlib import suppress
from typing import Any

from ...errors import InvalidValue, NotPossible
from .workers import Workers

ADVICE = "has the cluster the GPUs and cores that each worker asks for? `ray status` says so; and is ti_nb installed on its nodes?"


def ray_executor(
    workers: int | None = None,
    *,
    gpus: float | None = None,
    cpus: float = 1,
    address: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Workers:
    """Workers on a Ray cluster for `train_many`: placed by Ray, each with the model loaded once, and replaced when its node dies.

    Where the nodes do not share this machine's disk, call `train_many(same_disk=False)`: pictures go out and words come back as
    bytes. Nothing is put into Ray's object store but orders and results, some kilobytes each.

    Args:
        workers: how many; by default as many as the cluster has room for now.
        gpus, cpus: that each asks for; by default one GPU where the cluster has any. 0.5 of a GPU shares one between two.
        address: of a cluster that is not connected yet, such as "auto"; by default one that is, else one of this machine.
        options: more of Ray's for an actor, such as `resources` or `runtime_env`.

    Raises:
        RuntimeError: Ray is not installed, or has no room for a worker. ValueError: numbers below what can be.

    Examples:
        >>> import ti_nb as ti
        >>> with ti.jobs.ray_executor(gpus=1, address="auto") as workers:  # doctest: +SKIP
        ...     for result in ti.train_many(jobs, model="sdxl", out="words", executor=workers):
        ...         print(result)
    """
    ray = _ray()
    if not ray.is_initialized():
        ray.init(address=address, log_to_driver=False, include_dashboard=False if address is None else None)
    there: dict[str, float] = ray.cluster_resources()
    gpus = (1.0 if there.get("GPU") else 0.0) if gpus is None else gpus
    if (workers is not None and workers < 1) or gpus < 0 or cpus < 0 or not gpus + cpus:
        raise InvalidValue(
            f"workers is {workers}, gpus {gpus}, cpus {cpus}: give at least one worker, and something of the machine to each"
        )
    count = workers or _room(there, gpus, cpus)
    if not count:
        raise NotPossible(
            f"the Ray cluster has {there.get('GPU', 0):g} GPUs and {there.get('CPU', 0):g} cores: {ADVICE}"
        )
    asked = {"num_gpus": gpus, "num_cpus": cpus, "max_restarts": 0, **(options or {})}
    return Workers([RaySlot(ray, asked) for _ in range(count)], advice=ADVICE)


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise NotPossible("Ray is not installed: pip install ti_nb[ray], here and on the cluster's nodes") from error
    return ray


def _room(there: Mapping[str, float], gpus: float, cpus: float) -> int:
    rooms = [int(there.get(name, 0) / each) for name, each in (("GPU", gpus), ("CPU", cpus)) if each]
    return min(rooms)


class Worker:
    """What an actor is: it calls what it is given, in a process that keeps the model."""

    def ready(self) -> int:
        """Its process."""
        return os.getpid()

    def call(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What the function returns."""
        return function(*args, **kwargs)


class RaySlot:
    """An actor's place. Ray restarts none: here a call that was lost is known to be lost, and its job goes on from its folder."""

    def __init__(self, ray: Any, asked: Mapping[str, Any]) -> None:
        self._ray, self._kind = ray, ray.remote(Worker).options(**asked)
        self._actor: Any = None

    def start(self) -> Future[Any]:
        """A new actor, wherever there is room: until there is, other workers do its calls."""
        self.stop(kill=True)  # one that is out of reach may live
        self._actor = self._kind.remote()
        return self._future(self._actor.ready.remote())

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Future[Any]:
        """Have it called there."""
        return self._future(self._actor.call.remote(function, args, kwargs))

    def stop(self, *, kill: bool) -> None:
        """End the actor."""
        actor, self._actor = self._actor, None
        if actor is not None:
            with suppress(Exception):  # it is gone already, as may be the cluster
                self._ray.kill(actor)

    def _future(self, reference: Any) -> Future[Any]:
        """A future of ours of Ray's reference; the death of an actor or its node is that of a worker."""
        ours: Future[Any] = Future()

        def told(theirs: Future[Any]) -> None:
            error = theirs.exception()
            died = self._ray.exceptions.ActorDiedError, self._ray.exceptions.ActorUnavailableError
            if error is None:
                ours.set_result(theirs.result())
            elif isinstance(error, (*died, self._ray.exceptions.NodeDiedError, self._ray.exceptions.ObjectLostError)):
                ours.set_exception(BrokenExecutor(str(error).strip().splitlines()[0]))
            else:
                ours.set_exception(getattr(error, "cause", None) or error)

        reference.future().add_done_callback(told)
        return ours
