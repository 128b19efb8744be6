"""What is kept of each word: a folder with its file, its run, and a note of what it was learned from, written last.

out/my-cat/word.safetensors   the word
out/my-cat/job.json           what it was learned from, and whether it is finished
out/my-cat/run/               its run, as `train(out=...)` keeps it
out/report.csv                a line for each job done or failed
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import AlreadyThere, InvalidValue, NotWritten
from ..files.reading import load
from ..host import claims
from ..host.atomic import LEFT, replacing
from ..host.plain_text import place, plain
from ..training.records import digest, holds_run, read
from ..words.concept import Concept
from .job import Job, Stamp

if TYPE_CHECKING:
    from ..models.model import Model

WORD, NOTE, RUN, REPORT = "word.safetensors", "job.json", "run", "report.csv"
COLUMNS = ("when", "word", "status", "steps", "seconds", "reason", "file")
FINISHED = ("done", "kept")


@dataclass(frozen=True)
class JobResult:
    """What became of a job.

    Attributes:
        word: the placeholder token. status: "done", "kept" (it was finished before), or "failed".
        path: the word's file; None where it failed. reason: why it failed, was done anew, or done in several goes; "" for nothing.
        steps: of its training, in all. seconds: the time this took now.
    """

    word: str
    status: str
    path: Path | None = None
    reason: str = ""
    steps: int = 0
    seconds: float = 0.0

    @property
    def concept(self) -> Concept:
        """The word, read from its file.

        Raises:
            ValueError: it failed.
        """
        if self.path is None:
            raise InvalidValue(f"{self.word} was not learned: {self.reason}")
        return load(self.path)

    def __str__(self) -> str:
        what = f"{self.status} in {self.seconds:.1f} s" if self.status != "kept" else "finished before"
        return plain(f"{self.word}: {what}{f' ({self.reason})' if self.reason else ''}")


@dataclass(frozen=True)
class Note:
    """What a word's folder says of it.

    Attributes:
        about: the job, without its pictures. model: what it was learned on. stamp: what the pictures were.
        word: digest of its file once it is finished, "" until then. steps: of its training.
    """

    about: Mapping[str, Any]
    model: Mapping[str, Any]
    stamp: Stamp
    word: str = ""
    steps: int = 0

    def write(self, folder: Path) -> None:
        """Put it into the folder, whole or not at all."""
        with replacing(folder / NOTE) as temporary:
            temporary.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @staticmethod
    def read(folder: Path) -> Note | None:
        """That of the folder; None where there is none, or none that can be read."""
        try:
            data = json.loads((folder / NOTE).read_text(encoding="utf-8"))
            files = tuple((str(name), int(size), int(seen)) for name, size, seen in data["stamp"]["files"])
            return Note(**{**data, "stamp": Stamp(files, data["stamp"]["digest"])})
        except (OSError, ValueError, TypeError, LookupError):
            return None

    def differs(self, about: Mapping[str, Any], model: Mapping[str, Any], job: Job) -> str:
        """In what a job differs from this one, in words; "" for in nothing."""
        pairs = [(self.about, about), ({"model": self.model.get("name")}, {"model": model.get("name")})]
        told = [f"{k}: {v!r}, before {old.get(k)!r}" for old, new in pairs for k, v in new.items() if old.get(k) != v]
        if not told and dict(self.model) != dict(model):
            told = ["the model was loaded otherwise, or has changed"]
        return "; ".join(told) or ("" if self.stamp.fits(job) else "other pictures")

    def is_of_the_same(self, other: Note) -> bool:
        """Whether both are of one job, with the same pictures, wherever their files are."""
        return (self.about, self.model, self.stamp.digest) == (other.about, other.model, other.stamp.digest)

    def is_finished(self, folder: Path) -> bool:
        """Whether the word is there, as it was written."""
        try:
            return bool(self.word) and digest((folder / WORD).read_bytes()) == self.word
        except OSError:
            return False


def begin(folder: Path, note: Note) -> None:
    """Make a word's folder ready to train in: what is there of another job, or is damaged, goes first, then the note is changed.

    In that order: wherever the process dies, the note is either that of what is there, or fits nothing and is begun again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    before = Note.read(folder)
    if before is None or not before.is_of_the_same(note) or not _is_whole(folder / RUN):
        with suppress(FileNotFoundError):
            shutil.rmtree(folder / RUN)
    for left in folder.glob(LEFT):
        left.unlink(missing_ok=True)
    note.write(folder)


def _is_whole(run: Path) -> bool:
    try:
        if holds_run(run):
            read(run)
    except ValueError:
        return False
    return True


def finish(folder: Path, note: Note, steps: int, *, keep_run: bool) -> None:
    """Note that the word is finished; its file is there already."""
    replace(note, word=digest((folder / WORD).read_bytes()), steps=steps).write(folder)
    if not keep_run:
        shutil.rmtree(folder / RUN, ignore_errors=True)


@dataclass
class Shelf:
    """The folder `out` of one `train_many` at a time.

    Attributes:
        path: the folder. claim: on it, while jobs are being done.
    """

    path: Path
    claim: claims.Claim | None = field(default=None, repr=False)

    def open(self, resume: str) -> None:
        """Claim the folder.

        Raises:
            ValueError: another driver uses it. FileExistsError: it holds words, and resume is "never". OSError: it can't be written.
        """
        if resume == "never" and (there := next(self.path.glob(f"*/{NOTE}"), None)):
            raise AlreadyThere(
                f"{place(self.path)} holds {place(there.parent.name)} already: give another folder, or resume='auto'"
            )
        try:
            self.claim = claims.take(self.path)
        except claims.Taken as error:
            raise claims.Taken(
                f"{place(self.path)} is in use by another train_many: let that end, or give another folder"
            ) from error
        except OSError as error:
            raise NotWritten(
                error.errno, f"{place(self.path)} can't be written ({error.strerror or error}): give another folder"
            ) from error

    def check(self) -> None:
        """Raise `ValueError` if the folder is another driver's by now."""
        if self.claim is None or not self.claim.is_whole():
            raise claims.Taken(f"{place(self.path)} was taken over by another train_many, or removed: this one ends")

    def close(self) -> None:
        """Give the folder up."""
        if self.claim is not None:
            self.claim.release()
        self.claim = None

    def put(self, folder: str, files: Mapping[str, bytes]) -> None:
        """Keep a word that was learned on another disk: its file first, then its note."""
        target = self.path / folder
        target.mkdir(parents=True, exist_ok=True)
        for name in sorted(files, key=(WORD, NOTE).index):
            with replacing(target / name) as temporary:
                temporary.write_bytes(files[name])

    def report(self, result: JobResult) -> None:
        """Add a line to the report; that of a driver which died while writing is ended first."""
        if result.status == "kept":
            return
        shown = f"{result.path.parent.name}/{WORD}" if result.path else ""
        row = (result.word, result.status, result.steps, f"{result.seconds:.1f}", plain(result.reason), shown)
        lines = io.StringIO()
        with (self.path / REPORT).open("ab+") as file:  # as bytes: a character may be cut as well
            if file.tell() == 0:
                csv.writer(lines).writerow(COLUMNS)
            else:
                file.seek(-1, os.SEEK_END)
                lines.write("" if file.read(1) == b"\n" else "\r\n")
            csv.writer(lines).writerow((time.strftime("%Y-%m-%d %H:%M:%S"), *row))
            file.write(lines.getvalue().encode())


def identity(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """What tells a model from another: its name, how it is loaded, and of a folder or file the sizes and ends of its files."""
    from ..models.model import TINY

    path = TINY if name == "tiny" else Path(name).expanduser()
    told = {key: str(value) for key, value in sorted(options.items()) if key != "device"}
    return {"name": name, "options": told, "files": _digest_of_files(path) if path.exists() else ""}


def identity_of(model: Model) -> dict[str, Any]:
    """The same of a model that is loaded: its name, how it is used, and the beginning of each of its weights."""
    sha = hashlib.sha256()
    for part in (*(encoder.network for encoder in model.encoders), model.unet):
        for weight in part.parameters():
            sha.update(weight.detach().flatten()[:64].float().cpu().numpy().tobytes())
    told = {key: str(value) for key, value in {**model.used_as, "dtype": model.dtype}.items()}
    return {"name": model.name, "options": told, "files": sha.hexdigest()[:16]}


def _digest_of_files(path: Path, ends: int = 1 << 16) -> str:
    sha = hashlib.sha256()
    for file in sorted(p for p in (path.rglob("*") if path.is_dir() else [path]) if p.is_file()):
        size = file.stat().st_size
        with file.open("rb") as opened:
            first = opened.read(ends)
            opened.seek(max(0, size - ends))
            sha.update(repr((file.name, size)).encode() + first + opened.read(ends))
    return sha.hexdigest()[:16]
