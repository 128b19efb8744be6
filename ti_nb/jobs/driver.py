"""`train_many`: many jobs on any executor; what is finished is kept as it finishes, and the same call again does what is missing."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence, Sized
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InvalidValue, NotPossible
from ..host.arguments import checked
from ..host.plain_text import brief
from .engines.processes import processes
from .engines.work import Order, Outcome, Place, Task, do
from .engines.workers import WorkerUnfit
from .job import Job, stamp
from .progress import Board
from .shelf import WORD, JobResult, Note, Shelf, identity, identity_of
from .tables import check_apart

if TYPE_CHECKING:
    from ..models.model import Model

TRIES = 3  # workers that may die of a job before it counts as failed
AHEAD = 2  # orders in flight for each worker: one in work, one to go on with at once
UNKNOWN = 64  # orders in flight where an executor does not say how many workers it has


@checked(together=(1, 64), at_once=(1, 10_000), save_every=(1, None))
def train_many(
    jobs: Any,
    *,
    out: str | Path,
    model: Model | str | Path = "tiny",
    executor: Any = None,
    together: int = 1,
    resume: str = "auto",
    same_disk: bool = True,
    at_once: int | None = None,
    save_every: int = 25,
    keep_runs: bool = True,
    show: bool = True,
    **loading: Any,
) -> Iterator[JobResult]:
    """Learn many words; yields a `JobResult` for each as it comes, in any order. Iterate over it: nothing is done before.

    Each finished word is in `out`, in a folder of its own, from the moment that its result comes. The same call again, after
    whatever ended this one, does only what is missing, and goes on with runs that were begun; a job whose settings, pictures
    or model changed is done anew. A job that fails says why and stops no other. Each word is that of `train` alone, to the bit
    on the same device with the same number of threads (with `together` to rounding).

    Args:
        jobs: from `Job` or `jobs_from`; an iterator is read as it goes, and only what is in work is held in memory.
        out: the folder to keep words in; one driver at a time.
        model: its name, folder or repository, as `load_model` takes it, which each worker loads once; or, without an executor, a model.
        executor: where to train: None for here, one after the other; a number for as many processes; or any
            `concurrent.futures.Executor`, such as `ti.jobs.processes` and `ti.jobs.ray_executor` make. Yours stays open.
        together: words that share each pass through the model, see `ti.together`; `plan_many` says how many pay.
        resume: "auto" to go on with what `out` holds; "never" to refuse a folder that holds words.
        same_disk: False where the workers have not this machine's disk: pictures go to them, finished words come back, as bytes.
        at_once: orders in flight; by default two for each worker.
        save_every: steps between two saves of a run: at most so many are done again after a worker's death.
        keep_runs: False to delete a word's run when it is finished, and keep the word alone.
        show: a table with progress in a notebook, lines elsewhere.
        loading: more arguments of `load_model`, such as `dtype` or `resolution`.

    Raises:
        ValueError: two jobs of one word, an executor that is none, a folder in use; before any work.
        RuntimeError: the executor is broken, or was shut down; what was finished is kept.

    Examples:
        >>> import ti_nb as ti
        >>> things = ["penguin", "taco"]
        >>> jobs = [ti.Job(ti.example_images(name), f"<my-{name}>", "thing", {"steps": 2, "watch": 0}) for name in things]
        >>> for result in ti.train_many(jobs, out="words", model=ti.load_model("tiny"), show=False):
        ...     print(result.word, result.status, result.concept.facts["steps"])
        <my-penguin> done 2
        <my-taco> done 2
        >>> [result.status for result in ti.train_many(jobs, out="words", model=ti.load_model("tiny"), show=False)]
        ['kept', 'kept']
    """
    if resume not in ("auto", "never"):
        raise InvalidValue(f"resume is {resume!r}: write 'auto' or 'never'")
    if not isinstance(jobs, Iterable) or isinstance(jobs, str | Mapping):
        raise InvalidValue(f"jobs is of type {type(jobs).__name__}: give a list of ti.Job, or ti.jobs_from of a table")
    if isinstance(jobs, Sequence):
        for _ in check_apart(jobs):
            pass
    place = _place(model, executor, loading)
    if not (executor is None or hasattr(executor, "submit") or (type(executor) is int and executor > 0)):
        raise InvalidValue(
            f"executor is {executor!r}: give None, a number of processes, or a concurrent.futures.Executor"
        )
    board = Board(len(jobs) if isinstance(jobs, Sized) else None, show=show)
    shelf = Shelf(Path(out).expanduser().absolute())
    driver = Driver(check_apart(jobs), place, shelf, board, together, at_once, same_disk, save_every, keep_runs)
    return driver.results(executor, resume)


def _place(model: Model | str | Path, executor: Any, loading: Mapping[str, Any]) -> Place:
    if isinstance(model, str | Path):
        name = (
            str(model)
            if str(model) == "tiny" or not Path(model).expanduser().exists()
            else str(Path(model).expanduser().absolute())
        )
        return Place(name, loading, identity(name, loading))
    if executor is not None or loading:
        raise InvalidValue(
            f"model is a loaded {model.name!r}: give its name, so that each worker loads it, or executor=None"
        )
    return Place(model.name, {}, identity_of(model), model)


def _ends_all(future: Future[Any]) -> bool:
    """Whether its executor takes no more, which is to be heard after all answers."""
    return not future.cancelled() and isinstance(future.exception(), NotPossible)


class Here(Executor):
    """Does each call at once, in this thread. An interrupt goes to whoever waits."""

    _max_workers = 1

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """The future is done already."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


@dataclass
class Driver:
    """One pass over the jobs. It holds the orders in flight, and nothing of those that are finished.

    Attributes:
        work: what a worker does with an order.
    """

    jobs: Iterable[Job]
    model: Place
    shelf: Shelf
    board: Board
    together: int = 1
    at_once: int | None = None
    same_disk: bool = True
    save_every: int = 25
    keep_runs: bool = True
    work: Callable[[Order], list[Outcome]] = do
    _flying: dict[Future[Any], Order] = field(default_factory=dict)

    def results(self, executor: Executor | int | None, resume: str = "auto") -> Generator[JobResult]:
        """All results. However it ends, the folder is free again, and what was not begun is not begun any more."""
        with ExitStack() as stack:
            self.shelf.open(resume)
            stack.callback(self.shelf.close)
            own = Here() if executor is None else processes(executor) if isinstance(executor, int) else None
            pool: Executor = stack.enter_context(own) if own is not None else executor  # type: ignore[assignment,arg-type]
            stack.callback(self._cancel)
            for result in self._all(pool):
                with suppress(OSError):  # a disk that is full ends no other disk's work
                    self.shelf.report(result)
                self.board.add(result)
                yield result
                self.shelf.check()
            self.board.end()

    def _all(self, pool: Executor) -> Iterator[JobResult]:
        room = self.at_once or AHEAD * (getattr(pool, "_max_workers", 0) or UNKNOWN // AHEAD)
        room = 1 if isinstance(pool, Here) else room
        group: list[Task] = []
        for job in self.jobs:
            found = self._look(job)
            if isinstance(found, JobResult):
                yield found
                continue
            group.append(found)
            if len(group) == self.together:
                yield from self._fly(pool, self._order(group), room)
                group = []
        if group:
            yield from self._fly(pool, self._order(group), room)
        while self._flying:
            yield from self._landed(pool)

    def _order(self, group: Sequence[Task]) -> Order:
        return Order(tuple(group), self.model, self.save_every, self.keep_runs, not self.same_disk)

    def _look(self, job: Job) -> JobResult | Task:
        """The result of a job that is finished, or can't begin; else the task to do."""
        folder, about = self.shelf.path / job.folder, job.about()
        note = Note.read(folder)
        anew = note.differs(about, self.model.identity, job) if note is not None else ""
        if note is not None and not anew and note.is_finished(folder):
            return JobResult(job.word, "kept", folder / WORD, steps=note.steps)
        try:
            return self._task(
                job, about, folder, f"done anew: {anew}" if anew and note is not None and note.word else ""
            )
        except Exception as error:  # pictures that can't be read, found here as they go to another disk
            return JobResult(job.word, "failed", None, brief(error))

    def _task(self, job: Job, about: Mapping[str, Any], folder: Path, anew: str) -> Task:
        if self.same_disk:
            return Task(job, about, str(folder), None, anew)
        return Task(job.with_pictures_inside(), about, str(folder), stamp(job), anew)

    def _fly(self, pool: Executor, order: Order, room: int) -> Iterator[JobResult]:
        while len(self._flying) >= room:
            yield from self._landed(pool)
        self._submit(pool, order)

    def _submit(self, pool: Executor, order: Order) -> None:
        try:
            self._flying[pool.submit(self.work, order)] = order
        except RuntimeError as error:  # broken, or shut down
            raise NotPossible(
                f"the executor takes no more jobs ({brief(error)}): call again with a new one; what is finished is kept, and "
                "begun runs go on"
            ) from error

    def _landed(self, pool: Executor) -> Iterator[JobResult]:
        """Results of the orders that are done by now, at least one; those of a worker that died are given to another."""
        landed = wait(self._flying, return_when=FIRST_COMPLETED).done
        for future in sorted(landed, key=_ends_all):
            order = self._flying.pop(future)
            try:
                outcomes = future.result()
            except BrokenExecutor as error:
                outcomes = list(self._again(pool, order, error))
            except NotPossible:
                raise
            except Exception as error:
                outcomes = [Outcome(f"{type(error).__name__}: {brief(error)}")] * len(order.tasks)
            for task, outcome in zip(order.tasks, outcomes, strict=True):
                if outcome is not None:
                    yield self._kept(task, outcome, order.deaths)

    def _again(self, pool: Executor, order: Order, error: BrokenExecutor) -> Iterator[Outcome | None]:
        """Give the jobs of a worker that died to others, None in place of their outcomes; what it had done counts."""
        done = error.done if isinstance(error, WorkerUnfit) else [None] * len(order.tasks)
        for single, outcome in zip(order.singly(), done, strict=True):
            if outcome is not None and not outcome.no_room:
                yield outcome
            elif single.deaths == TRIES:
                yield Outcome(
                    f"its worker died {TRIES} times ({brief(error, 200)}): is there too little memory?"
                    if outcome is None
                    else outcome.reason
                )
            else:
                try:
                    self._submit(pool, single)
                    yield None
                except NotPossible:
                    if outcome is None:
                        raise
                    yield outcome

    def _kept(self, task: Task, outcome: Outcome, deaths: int) -> JobResult:
        job, reason = task.job, outcome.reason
        if not reason and outcome.files:
            try:
                self.shelf.put(job.folder, outcome.files)
            except OSError as error:
                reason = f"it was learned, but could not be kept: {brief(error)}"
        if reason:
            return JobResult(job.word, "failed", None, reason, outcome.steps, outcome.seconds)
        notes = [task.anew] if task.anew else []
        notes += [f"went on from step {outcome.found}"] if outcome.found else []
        notes += [f"after {deaths} of its workers died or had no room"] if deaths else []
        path = self.shelf.path / job.folder / WORD
        return JobResult(job.word, "done", path, "; ".join(notes), outcome.steps, outcome.seconds)

    def _cancel(self) -> None:
        """Take back what is not begun; what came meanwhile is kept, though nobody asks for its results any more."""
        for future, order in self._flying.items():
            if not future.cancel() and future.done():
                error = future.exception()
                came = error.done if isinstance(error, WorkerUnfit) else future.result() if error is None else []
                for task, outcome in zip(order.tasks, came):
                    self._kept(task, outcome, order.deaths)
        self._flying.clear()
