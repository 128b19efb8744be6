"""A run on disk: its whole state in a small file, written atomically; each step's vectors; its records as CSV.

A folder holds `state.safetensors` (vectors, moments, generator, settings: everything the next step depends on),
`vectors.f32` (each step's vectors, float32, one step after the other), `records.csv`, and the word as learned so far,
`learned_embeds.safetensors`, which diffusers loads.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import AlreadyThere, InvalidValue, NotWritten
from ..files.writing import save
from ..host import claims
from ..host.atomic import LEFT, replacing
from ..host.devices import from_main_process, is_main_process
from ..host.plain_text import place
from ..words.concept import Concept, fingerprint
from .records import (
    RECORDS,
    STATE,
    VECTORS,
    WORD,
    History,
    StepRecord,
    as_csv,
    as_state,
    digest,
    digest_of_images,
    holds_run,
    read,
    size,
)

if TYPE_CHECKING:
    from ..pictures.concept_images import ConceptImages
    from .settings import TrainSettings

Digests = dict[str, Any]  # of hashlib
USED_AS = ("resolution", "clip_skip")  # facts of a word that was learned otherwise than its model is usually used


class RunFolder:
    """The folder a run is saved in, which no other may use while it trains. Whenever the process dies, the last save is complete.

    Attributes:
        path: the folder. saved: steps on the disk.
    """

    def __init__(self, path: str | Path, *, resume: str = "auto", save_every: int = 25) -> None:
        if resume not in ("auto", "beside", "never"):
            raise InvalidValue(f"resume is {resume!r}: write 'auto', 'beside' or 'never'")
        if save_every < 1:
            raise InvalidValue(f"save_every is {save_every}: it must be at least 1")
        self.path = Path(path).expanduser().absolute()  # wherever the program goes meanwhile
        self.save_every, self._resume, self.saved = save_every, resume, 0
        self._facts: dict[str, Any] = {}
        self._ends, self._digests = _nothing()
        self._own: list[str] = []  # digests of state files of this run: the last one found, and what it wrote since
        self._word_is_whole = False
        self._claim: claims.Claim | None = None
        self._board: Any = None

    def is_due(self, step: int) -> bool:
        """Whether to save after this step."""
        return step % self.save_every == 0

    def open(
        self, settings: TrainSettings, start: Concept, images: ConceptImages
    ) -> tuple[dict[str, Any], list[StepRecord], History] | None:
        """State, records and history of the run the folder holds, or None if it holds none; the folder is claimed.

        With resume="beside" a folder of another run, or in use, is left alone: the first of folder-2, folder-3 ... that is
        free and holds this run, or none, takes its place. A folder that can't be written is only read.

        Raises:
            FileExistsError: it holds a run, and resume is "never".
            ValueError: it holds another run (the message says in what it differs), is in use, or is damaged.
        """
        self._facts = {
            "word": start.word,
            "model": start.facts.get("model", ""),
            **{key: start.facts[key] for key in USED_AS if key in start.facts},
            "settings": json.loads(json.dumps(asdict(settings))),
            "images": digest_of_images(images),
            "start": fingerprint(start),
            "shapes": {key: list(v.shape) for key, v in start.vectors.items()},
        }
        if is_main_process():
            try:
                saved = self._find()
            except BaseException:
                self.release()  # a kept traceback would keep it claimed
                raise
            self._tidy()
        self.path = Path(from_main_process(str(self.path)))
        return saved if is_main_process() else self._look()

    def claim(self) -> None:
        """See that the folder is this run's to write to, before anything is computed for it.

        Raises:
            ValueError: it is another's now. OSError: it can't be written.
        """
        if not is_main_process() or (self._claim is not None and self._claim.holds()):
            return
        try:
            self._claim = claims.take(self.path)
        except OSError as error:
            reason = error.strerror or error
            raise NotWritten(
                error.errno,
                f"{place(self.path)} can't be written ({reason}): give another folder, or out=None to keep nothing",
            ) from error
        self._check()

    def use(self) -> None:
        """Claim it for this thread: as long as it lives, no other run of this program takes the folder over."""
        self.claim()
        if self._claim:
            self._claim.use()

    def release(self) -> None:
        """Give the folder up. A later save claims it again, unless another run wrote there."""
        if self._claim is not None:
            self._claim.release()
        self._claim = None

    def _find(self) -> tuple[dict[str, Any], list[StepRecord], History] | None:
        """Claim and read the folder, or the first free one beside it."""
        first, number = self.path, 1
        while True:
            try:
                with suppress(OSError):
                    self._claim = claims.take(self.path)
                return self._look()
            except claims.Taken as error:
                self.release()
                if self._resume != "beside":
                    raise claims.Taken(f"{error}, or resume='beside'") from error
                number += 1
                self.path = first.with_name(f"{first.name}-{number}")

    def _look(self) -> tuple[dict[str, Any], list[StepRecord], History] | None:
        if not holds_run(self.path):
            return None
        if self._resume == "never":
            raise AlreadyThere(
                f"{place(self.path)} holds a run: give another folder, or resume='auto' to go on with it"
            )
        saved = read(self.path)
        if different := _differences(saved.facts, self._facts):
            raise claims.Taken(
                f"{place(self.path)} holds another run ({'; '.join(different)}): give another folder, or the same settings"
            )
        self.saved, self._ends = len(saved.records), saved.facts["ends"]
        self._digests = {name: hashlib.sha256(part) for name, part in saved.parts.items()}
        self._own, self._word_is_whole = [saved.own], saved.word_is_whole
        return (saved.state, saved.records, saved.history) if saved.state else None

    def is_own(self) -> bool:
        """Whether the state there is the one that this run left; a folder that was removed is written anew."""
        state = self.path / STATE
        here = [digest(state.read_bytes())] if state.exists() else []
        if here and here[0] not in self._own:
            return False
        self._own = here
        return True

    def _check(self) -> None:
        if not self.is_own():
            self.release()
            raise claims.Taken(
                f"{place(self.path)} is not as this run left it: another run wrote to it, or it was damaged. Nothing was written now, "
                "and the run is still in memory: keep its word with ti.save, or call train again to go on with what is there"
            )

    def _tidy(self) -> None:
        """Delete the temporary files of a process that was killed while writing."""
        for left in self.path.glob(LEFT):
            left.unlink(missing_ok=True)

    def save(self, state: Mapping[str, Any], records: Sequence[StepRecord], history: History, word: Concept) -> None:
        """Write what is new. The state goes last, and atomically: until it is there the one before counts.

        Raises:
            ValueError: the folder is another's now; nothing was written.
            OSError: the disk is full or can't be written; what was saved before is whole.
        """
        if not is_main_process():
            return
        try:
            if self._claim is not None and not self._claim.is_whole():
                self.release()
            self.claim()
            self._check()
            self._save(state, records, history, word)
        except OSError as error:
            raise NotWritten(
                error.errno,
                f"the run could not be saved to {place(self.path)} ({error.strerror or error}). What was saved before, "
                f"step {self.saved}, is whole; the run itself is still in memory: free some space, then go on "
                "iterating or call run.save()",
            ) from error

    def _save(self, state: Mapping[str, Any], records: Sequence[StepRecord], history: History, word: Concept) -> None:
        if any(
            size(self.path / name) < end for name, end in self._ends.items()
        ):  # deleted: write everything again, from memory
            self.saved, (self._ends, self._digests) = 0, _nothing()
        if (
            not self._own
        ):  # the state is written first of all: a folder with parts but no state is then known to be damaged
            self._write_state({}, *_nothing(), {"step": 0, "rows": {}})
        fresh = range(self.saved, len(records))
        vectors = b"".join(history[key][i].numpy().tobytes() for i in fresh for key in sorted(history))
        lines = as_csv([records[i] for i in fresh], header=not self._ends[RECORDS]).encode()
        ends, digests = dict(self._ends), {name: whole.copy() for name, whole in self._digests.items()}
        for name, data in ((VECTORS, vectors), (RECORDS, lines)):
            ends[name] = _append(self.path / name, ends[name], data)
            digests[name].update(data)
        save(word, self.path / WORD)
        rows = {key: list(state[f"rows.{key}"].shape) for key in sorted(history)}
        digests[WORD] = hashlib.sha256((self.path / WORD).read_bytes())
        self._write_state(state, ends, digests, {"step": len(records), "rows": rows})
        del digests[WORD]
        self.saved, self._ends, self._digests, self._word_is_whole = len(records), ends, digests, True
        self._write_board([records[i] for i in fresh])

    def _write_state(
        self, state: Mapping[str, Any], ends: Mapping[str, int], digests: Digests, facts: Mapping[str, Any]
    ) -> None:
        of_parts = {"ends": ends, "digests": {name: whole.hexdigest() for name, whole in digests.items()}}
        data = as_state({**self._facts, **facts, **of_parts}, state)
        self._own.append(digest(data))  # before it is written, so that it counts as ours even if we are interrupted
        with replacing(self.path / STATE) as temporary:
            temporary.write_bytes(data)

    def mend_word(self, word: Concept) -> None:
        """Write the word's file again where it is not that of the last step saved, as a kill within a save leaves it."""
        if self._claim is not None and self.saved and not self._word_is_whole:
            with suppress(OSError):
                save(word, self.path / WORD)

    def _write_board(self, records: Sequence[StepRecord]) -> None:
        """The figures for TensorBoard, where it is installed."""
        if importlib.util.find_spec("tensorboard") is None or not records:
            return
        if self._board is None:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(self.path / "tensorboard"), purge_step=records[0].step)
        for record in records:
            for name, value in asdict(record).items():
                if isinstance(value, float):
                    self._board.add_scalar(name, value, record.step)
        self._board.flush()


def _nothing() -> tuple[dict[str, int], Digests]:
    """Lengths and digests of the files that are appended to, while they are empty."""
    return dict.fromkeys((VECTORS, RECORDS), 0), {name: hashlib.sha256() for name in (VECTORS, RECORDS)}


def _append(path: Path, end: int, data: bytes) -> int:
    """Write `data` at `end`, then drop what lies behind it; returns the new end. On the disk when done.

    In that order: bytes that a state on the disk refers to are overwritten with the same bytes, and never missing.
    """
    with open(path, "r+b" if path.exists() else "w+b") as file:
        file.seek(end)
        file.write(data)
        file.truncate()
        file.flush()
        os.fsync(file.fileno())
    return end + len(data)


def _differences(saved: Mapping[str, Any], requested: Mapping[str, Any]) -> list[str]:
    """How two runs differ, in words; the number of steps does not count."""
    theirs, ours = (
        {"word": f["word"], "model": f["model"], **{key: f.get(key) for key in USED_AS}, **f["settings"], "steps": None}
        for f in (saved, requested)
    )
    out = [f"{k}: {theirs.get(k)!r} in the folder, {v!r} requested" for k, v in ours.items() if theirs.get(k) != v]
    names = {"images": "other pictures, captions or masks", "start": "another initializer"}
    return out or [text for k, text in names.items() if saved[k] != requested[k]]
