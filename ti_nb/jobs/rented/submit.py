"""`submit`: many jobs on rented machines of Hugging Face Jobs. The price is said first, and nothing starts without a yes."""

from __future__ import annotations

import html
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ...errors import HubError, InvalidValue
from ...host.arguments import checked
from ...host.plain_text import plain, quoted, size
from ...hub.answers import as_hub_errors, without_token
from ...hub.client import MAY_ONLY_READ, WRITE_TIMEOUT, account, kept_token, repository, request_timeout, with_retries
from ...hub.page import PROJECT
from ..job import Job
from ..shelf import WORD, JobResult
from ..tables import check_apart
from . import parcel
from .prices import api_for_jobs, flavors, price

if TYPE_CHECKING:
    from huggingface_hub import HfApi

INSTALL = f"ti_nb @ git+{PROJECT}"
PATIENCE = 60.0  # seconds that an upload may be silent


@dataclass(frozen=True)
class Rented:
    """Jobs on rented machines, or what they would cost.

    Attributes:
        repo: the private repository that jobs go to, and words come back from. words: how many.
        flavor, machines: which machines, how many. price: dollars an hour of each. hours: after which each is ended.
        ids: of the Hub's jobs, one a machine; () where nothing was started. sent: bytes of the jobs and their pictures.
    """

    repo: str
    flavor: str
    words: int
    price: float
    hours: float
    machines: int = 1
    ids: tuple[str, ...] = ()
    sent: int = 0
    endpoint: str | None = None

    @property
    def most(self) -> float:
        """Dollars that it costs at most."""
        return self.price * self.hours * self.machines

    def __str__(self) -> str:
        several = f"{self.machines} machines" if self.machines > 1 else "a machine"
        what = f"{self.words} words on {several} of {self.flavor}: ${self.price:.2f} an hour each, ${self.most:.2f} at most"
        where = f"jobs and pictures ({size(self.sent)}) go to {self.repo}, a private repository; words come back there"
        if self.ids:
            return plain(f"started: {what} ({', '.join(self.ids)})\n{where}", lines=True)
        return plain(f"would start: {what}\n{where}\nnothing was sent or started: call again with yes=True", lines=True)

    def _repr_html_(self) -> str:
        return f'<pre style="line-height:1.4;font-family:monospace">{html.escape(str(self))}</pre>'

    def state(self) -> dict[str, str]:
        """Each machine's stage, such as "RUNNING", "COMPLETED" or "ERROR: why".

        Raises:
            HubError: the Hub does not say.
        """
        api = self._api()
        with as_hub_errors("asking for its state", api):
            told = {one: self._status(api, one) for one in self.ids}
        return {one: _stage(status) for one, status in told.items()}

    def _status(self, api: HfApi, one: str) -> Any:
        return with_retries(lambda: api.inspect_job(job_id=one, namespace=self._owner)).status

    def logs(self, *, follow: bool = False) -> Iterator[str]:
        """What the machines printed so far, line by line; with `follow` of the first machine, until it ends."""
        api = self._api()
        with as_hub_errors("asking for its log", api):
            for one in self.ids[:1] if follow else self.ids:
                for line in api.fetch_job_logs(job_id=one, namespace=self._owner, follow=follow):
                    yield without_token(plain(line.rstrip("\n")), api)

    def cancel(self) -> None:
        """End the machines; what they sent stays."""
        api = self._api()
        with as_hub_errors("ending it", api):
            for one in self.ids:
                api.cancel_job(job_id=one, namespace=self._owner)

    def fetch(self, out: str | Path) -> list[JobResult]:
        """Copy the words that are finished so far into `out`, each into its folder, as `train_many` names them; and say what failed.

        Raises:
            HubError: the Hub does not give them. OSError: `out` can't be written.
        """
        api, target = self._api(), Path(out).expanduser()
        with TemporaryDirectory() as folder, as_hub_errors("fetching the words", api):
            wanted = [f"{parcel.WORDS}/*/{WORD}", "failed-*.txt"]
            with_retries(
                lambda: api.snapshot_download(self.repo, allow_patterns=wanted, local_dir=folder), within=PATIENCE
            )
            return [*_found(Path(folder), target), *_failed(Path(folder))]

    @property
    def _owner(self) -> str:
        return self.repo.split("/")[0]

    def _api(self) -> HfApi:
        return api_for_jobs(None, self.endpoint)


def _stage(status: Any) -> str:
    return f"{getattr(status.stage, 'value', status.stage)}{f': {plain(status.message)}' if status.message else ''}"


def _found(folder: Path, target: Path) -> Iterator[JobResult]:
    from ...files.reading import load

    for path in sorted(folder.glob(f"{parcel.WORDS}/*/{WORD}")):
        word = load(path)  # read before it is kept: it comes from another machine
        place = target / path.parent.name / WORD
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
        yield JobResult(word.word, "done", place, steps=int(word.facts.get("steps", 0)))


def _failed(folder: Path) -> Iterator[JobResult]:
    for path in sorted(folder.glob("failed-*.txt")):
        for line in path.read_text(encoding="utf-8").splitlines():
            word, _, reason = line.partition("\t")
            yield JobResult(plain(word), "failed", None, plain(reason))


@checked("jobs", machines=(1, 100), together=(1, 64))
def submit(
    jobs: Sequence[Job],
    *,
    model: str,
    flavor: str,
    repo: str,
    yes: bool = False,
    hours: float = 1.0,
    most: float | None = None,
    machines: int = 1,
    together: int = 1,
    install: str = INSTALL,
    endpoint: str | None = None,
    **loading: Any,
) -> Rented:
    """Train words on rented machines of the Hugging Face Hub, with the account that you have; says what it costs, and starts nothing.

    With `yes=True` pictures and jobs go to the private repository `repo`, and each machine does its share of them and sends words back
    there; `fetch` gets them, `logs`, `state` and `cancel` do what they say. The same call again does only what is missing. Your
    token goes there as a secret, which no log shows: a fine-grained one that may write to `repo` alone is enough.

    Args:
        model: as `load_model` takes it, of the Hub. loading: more of its arguments, those that are numbers or text.
        flavor: which machine, such as "t4-small" or "l4x1". machines: how many.
        repo: "owner/name", or a name of your own; it is created.
        hours: after which a machine is ended. most: dollars that all may cost at most, at the price of this moment.
        together: words in one pass. install: what the machines install.

    Raises:
        ValueError: no such flavour, more than `most`, a model of this disk, pictures that can't be read; nothing was started.
        HubError: not logged in, no credit, a repository that is public, or what else the Hub says; what was started is ended.

    Examples:
        >>> import ti_nb as ti
        >>> jobs = ti.jobs_from("things.csv")  # doctest: +SKIP
        >>> ti.jobs.submit(jobs, model="sdxl", flavor="l4x1", repo="things", hours=2)  # doctest: +SKIP
        would start: 300 words on a machine of l4x1: $0.80 an hour each, $1.60 at most
    """
    for _ in check_apart(jobs):
        pass
    _check_asked(model, hours, loading)
    api = api_for_jobs(None, endpoint)
    with as_hub_errors("asking what it costs", api):
        who = with_retries(lambda: account(api))
    if not who.may_write:
        raise HubError(MAY_ONLY_READ)
    offer = _offer(
        api, repository(repo if "/" in repo else f"{who.name}/{repo}"), flavor, len(jobs), hours, machines, endpoint
    )
    if most is not None and offer.most > most:
        raise InvalidValue(
            f"it may cost ${offer.most:.2f}, more than ${most:.2f}: {flavor} is ${offer.price:.2f} an hour; fewer hours?"
        )
    how = {"model": model, "together": together, "loading": loading}
    with TemporaryDirectory() as folder:
        offer = replace(offer, sent=parcel.write(jobs, Path(folder), how))
        return _started(api, offer, Path(folder), install) if yes else offer


def _check_asked(model: str, hours: float, loading: Mapping[str, Any]) -> None:
    if model != "tiny" and Path(model).expanduser().exists():
        raise InvalidValue(
            f"model is {quoted(model)}, which is on this disk: rented machines load a repository of the Hub"
        )
    if not 0 < hours <= 24 * 7:
        raise InvalidValue(f"hours is {hours}: give how long a machine may run at most, such as 2")
    try:
        json.dumps(loading)
    except TypeError:
        raise InvalidValue(
            f"{', '.join(loading)}: only numbers and text go to other machines; leave dtype to them"
        ) from None


def _offer(api: HfApi, repo: str, flavor: str, words: int, hours: float, count: int, endpoint: str | None) -> Rented:
    there = flavors(api)
    if flavor not in there:
        known = ", ".join(f"{name} (${price(machine):.2f})" for name, machine in there.items())
        raise InvalidValue(f"no machine {flavor!r}: there are, with dollars an hour, {known}")
    return Rented(repo, flavor, words, price(there[flavor]), hours, min(count, words), endpoint=endpoint)


def _started(api: HfApi, offer: Rented, folder: Path, install: str) -> Rented:
    with as_hub_errors("sending the jobs", api):
        with_retries(lambda: api.create_repo(offer.repo, private=True, exist_ok=True))
        if not with_retries(lambda: api.model_info(offer.repo)).private:
            raise HubError(f"{offer.repo} is public, and your pictures would be: give another name, or make it private")
        with_retries(
            lambda: api.upload_folder(repo_id=offer.repo, folder_path=folder, commit_message="Jobs"), within=PATIENCE
        )
    secrets = {"HF_TOKEN": kept_token()}
    try:
        for shard in range(offer.machines):
            offer = replace(offer, ids=(*offer.ids, _start(api, offer, shard, install, secrets)))
    except BaseException:
        offer.cancel()
        raise
    return offer


def _start(api: HfApi, offer: Rented, shard: int, install: str, secrets: dict[str, Any]) -> str:
    """Start a machine, once: a lost answer is not asked for again, as a second machine would cost again."""
    script_args = ["-m", "ti_nb.jobs.rented.machine", offer.repo, "--shard", str(shard), "--of", str(offer.machines)]
    with as_hub_errors("starting a machine", api), request_timeout(WRITE_TIMEOUT):
        job = api.run_uv_job(
            "python",
            script_args=script_args,
            dependencies=[install],
            secrets=secrets,
            env={"HF_ENDPOINT": offer.endpoint} if offer.endpoint else None,
            flavor=offer.flavor,
            timeout=f"{round(offer.hours * 3600)}s",
            namespace=offer.repo.split("/")[0],
        )
    return str(job.id)
