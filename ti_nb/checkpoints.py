"""A run on disk: its whole state in a small file, written atomically; each step's vectors; its figures as CSV.

A folder holds `state.safetensors` (vectors, moments, generator, settings: everything the next step depends on),
`vectors.f32` (each step's vectors, float32, one step after the other), `records.csv`, and the word as learned so far,
`learned_embeds.safetensors`, which diffusers loads.
"""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes

from .atomic import replacing
from .checks import checked
from .concept import Concept
from .records import StepRecord
from .writing import save

if TYPE_CHECKING:
    from .images import ConceptImages
    from .settings import TrainSettings

STATE, VECTORS, RECORDS, WORD = "state.safetensors", "vectors.f32", "records.csv", "learned_embeds.safetensors"
COLUMNS = [f.name for f in fields(StepRecord)]
History = dict[str, list[torch.Tensor]]


class RunFolder:
    """Where a run is kept. Whenever the process dies, what `save` wrote last is whole."""

    def __init__(self, path: str | Path, *, resume: str = "auto", save_every: int = 25) -> None:
        if resume not in ("auto", "beside", "never"):
            raise ValueError(f"resume is {resume!r}: write 'auto', 'beside' or 'never'")
        if save_every < 1:
            raise ValueError(f"save_every is {save_every}: it must be at least 1")
        self.path = Path(path).expanduser()
        self.save_every, self._resume = save_every, resume
        if resume == "never" and (self.path / STATE).exists():
            raise FileExistsError(f"'{self.path}' holds a run: give another folder, or resume='auto' to go on with it")
        self.saved = 0  # steps on disk
        self._facts: dict[str, Any] = {}
        self._ends = {VECTORS: 0, RECORDS: 0}
        self._board: Any = None

    def is_due(self, step: int) -> bool:
        """Whether to save after this step."""
        return step % self.save_every == 0

    def open(
        self, settings: TrainSettings, start: Concept, images: ConceptImages
    ) -> tuple[dict[str, Any], list[StepRecord], History] | None:
        """State, records and history of the run the folder holds, or None if it holds none.

        With resume="beside" a folder of another run is left alone: the first of folder-2, folder-3 ... that holds this run,
        or none, takes its place.

        Raises:
            ValueError: it holds another run (the message says in what it differs), or is damaged.
        """
        self._facts = {
            "word": start.word,
            "model": start.facts.get("model", ""),
            "settings": json.loads(json.dumps(asdict(settings))),
            "images": _digest_of_images(images),
            "start": _digest_of_vectors(start),
            "shapes": {key: list(v.shape) for key, v in start.vectors.items()},
        }
        first = self.path
        for number in count(2):
            if not (self.path / STATE).exists():
                self._tidy()
                return None
            state, facts, records, history = _read(self.path)
            different = _differences(facts, self._facts)
            if not different:
                break
            if self._resume != "beside":
                raise ValueError(
                    f"'{self.path}' holds another run ({'; '.join(different)}): give another folder, the same settings, or "
                    "resume='beside'"
                )
            self.path = first.with_name(f"{first.name}-{number}")
        self._tidy()
        self.saved = len(records)
        self._ends = {VECTORS: facts["ends"][VECTORS], RECORDS: facts["ends"][RECORDS]}
        return state, records, history

    def _tidy(self) -> None:
        """Take away what a process left that was killed while writing."""
        for name in (STATE, WORD):
            for left in self.path.glob(f".{Path(name).stem}-*.tmp"):
                left.unlink(missing_ok=True)

    def save(self, state: Mapping[str, Any], records: Sequence[StepRecord], history: History, word: Concept) -> None:
        """Write what is new. The state goes last, and atomically: until it is there the one before counts.

        Raises:
            OSError: the disk is full or can't be written; what was saved before is whole.
        """
        from accelerate import PartialState

        if not PartialState().is_main_process:
            return
        try:
            self._save(state, records, history, word)
        except OSError as error:
            raise OSError(
                error.errno,
                f"the run could not be saved to '{self.path}' ({error.strerror or error}). What was saved before, "
                f"step {self.saved}, is whole; the run itself is still in memory: free some space, then go on "
                "iterating or call run.save()",
            ) from error

    def _save(self, state: Mapping[str, Any], records: Sequence[StepRecord], history: History, word: Concept) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        if any(_size(self.path / name) < end for name, end in self._ends.items()):  # removed: all is still in memory
            self.saved, self._ends = 0, dict.fromkeys(self._ends, 0)
        fresh = range(self.saved, len(records))
        vectors = b"".join(history[key][i].numpy().tobytes() for i in fresh for key in sorted(history))
        lines = "".join(_csv_line(records[i]) for i in fresh)
        if not self._ends[RECORDS]:
            lines = ",".join(COLUMNS) + "\n" + lines
        ends = {
            VECTORS: _append(self.path / VECTORS, self._ends[VECTORS], vectors),
            RECORDS: _append(self.path / RECORDS, self._ends[RECORDS], lines.encode()),
        }
        save(word, self.path / WORD)
        tensors = {key: value for key, value in state.items() if isinstance(value, torch.Tensor)}
        numbers = {key: value for key, value in state.items() if not isinstance(value, torch.Tensor)}
        facts = {**self._facts, "numbers": numbers, "step": len(records), "ends": ends}
        facts["rows"] = {key: list(state[f"rows.{key}"].shape) for key in sorted(history)}
        with replacing(self.path / STATE) as temporary:
            temporary.write_bytes(to_bytes(tensors, {"ti_nb": json.dumps(facts)}))
        self.saved, self._ends = len(records), ends
        self._write_board([records[i] for i in fresh])

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


@dataclass(frozen=True, eq=False)
class SavedRun:
    """A run as its folder holds it.

    Attributes:
        word: the placeholder token. settings: as a dictionary. records: of the steps done.
        history: each encoder's vectors after each step, (steps, n, width).
    """

    word: str
    settings: dict[str, Any]
    records: list[StepRecord]
    history: dict[str, torch.Tensor]

    @checked()
    def concept(self, step: int | None = None) -> Concept:
        """The word after `step` steps, by default the last.

        Raises:
            ValueError: a step that was not done.
        """
        step = len(self.records) if step is None else step
        if not 1 <= step <= len(self.records):
            raise ValueError(f"step is {step}: give 1 to {len(self.records)}")
        return Concept(self.word, {key: h[step - 1].clone() for key, h in self.history.items()}, {"steps": step})


@checked()
def read_run(path: str | Path) -> SavedRun:
    """Read the run a folder holds, whether it goes on or not.

    Raises:
        FileNotFoundError: the folder holds no run. ValueError: the run is damaged.
    """
    path = Path(path).expanduser()
    if not (path / STATE).exists():
        raise FileNotFoundError(f"'{path}' holds no run: it has no {STATE}")
    _, facts, records, history = _read(path)
    shapes = facts["shapes"]
    stacked = {key: torch.stack(h)[:, : shapes[key][0]] for key, h in history.items() if h}
    return SavedRun(facts["word"], facts["settings"], records, stacked)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any], list[StepRecord], History]:
    try:
        with safe_open(str(path / STATE), framework="pt") as file:
            state: dict[str, Any] = {key: file.get_tensor(key) for key in list(file.keys())}
            facts = json.loads((file.metadata() or {})["ti_nb"])
        records = _read_records(path / RECORDS, facts["ends"][RECORDS])
        history = _read_history(path / VECTORS, facts["step"], facts["rows"])
    except (SafetensorError, KeyError, OSError, TypeError, ValueError) as error:
        raise ValueError(f"the run in '{path}' can't be read ({error}): give another folder") from error
    if len(records) != facts["step"]:
        raise ValueError(f"the run in '{path}' can't be read ({RECORDS} was changed): give another folder")
    return {**state, **facts["numbers"]}, facts, records, history


def _read_history(path: Path, steps: int, shapes: Mapping[str, Sequence[int]]) -> History:
    sizes = {key: int(np.prod(shape)) for key, shape in sorted(shapes.items())}
    total = sum(sizes.values())
    flat = np.fromfile(path, dtype="<f4", count=steps * total)
    if len(flat) != steps * total:
        raise ValueError(f"{path.name} is cut short")
    table, out, at = torch.from_numpy(flat.reshape(steps, total)), {}, 0
    for key, size in sizes.items():
        out[key] = list(table[:, at : at + size].reshape(steps, *shapes[key]).clone())
        at += size
    return out


def _read_records(path: Path, end: int) -> list[StepRecord]:
    kinds = get_type_hints(StepRecord)
    with open(path, "rb") as file:
        text = file.read(end)
    if len(text) != end:
        raise ValueError(f"{path.name} is cut short")
    header, *rows = csv.reader(text.decode().splitlines())
    if header != COLUMNS:
        raise ValueError(f"{path.name} has other columns")
    return [
        StepRecord(**{name: _parse(value, kinds[name]) for name, value in zip(COLUMNS, row, strict=True)})
        for row in rows
    ]


def _parse(value: str, kind: Any) -> Any:
    if kind in (int, float, str):
        return kind(value)
    return float(value) if value else None


def _csv_line(record: StepRecord) -> str:
    import io

    line = io.StringIO()
    values = [
        "" if v is None else v.replace("\n", " ") if isinstance(v, str) else repr(v) for v in asdict(record).values()
    ]
    csv.writer(line, lineterminator="\n").writerow(values)
    return line.getvalue()


def _append(path: Path, end: int, data: bytes) -> int:
    """Write `data` at `end`, then drop what lies behind it; returns the new end. On the disk when done.

    In that order: what a state on the disk counts on is written over with the same, never missing.
    """
    with open(path, "r+b" if path.exists() else "w+b") as file:
        file.seek(end)
        file.write(data)
        file.truncate()
        file.flush()
        os.fsync(file.fileno())
    return end + len(data)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _digest_of_images(images: ConceptImages) -> str:
    """Of what they hold, not of their latents, which devices compute differently in the last digit."""
    digest = hashlib.sha256(repr((images.flip, images.captions)).encode())
    for picture in (*images.images, *images.masks):
        digest.update(repr(picture.size).encode() + picture.tobytes() if picture else b"none")
    return digest.hexdigest()[:16]


def _digest_of_vectors(concept: Concept) -> str:
    digest = hashlib.sha256()
    for rows in concept.vectors.values():
        digest.update(rows.contiguous().float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def _differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """What sets two runs apart, in words; more or fewer steps do not."""
    out = [f"{k} {found[k]!r} there, {wanted[k]!r} asked" for k in ("word", "model") if found[k] != wanted[k]]
    theirs, ours = found["settings"], wanted["settings"]
    out += [f"{k} {theirs.get(k)!r} there, {v!r} asked" for k, v in ours.items() if k != "steps" and theirs.get(k) != v]
    names = {"images": "other pictures, captions or masks", "start": "another initializer"}
    out += [text for k, text in names.items() if not out and found.get(k, wanted[k]) != wanted[k]]
    return out
