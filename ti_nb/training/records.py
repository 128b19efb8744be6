"""`StepRecord`: what one optimiser step did; records as lines of CSV and back."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes

from ..errors import InvalidValue, NoSuchFile
from ..host.arguments import checked
from ..host.claims import Taken
from ..host.plain_text import place
from ..words.concept import Concept

if TYPE_CHECKING:
    from ..models.model import Vectors
    from ..pictures.concept_images import ConceptImages

STATE, VECTORS, RECORDS, WORD = "state.safetensors", "vectors.f32", "records.csv", "learned_embeds.safetensors"
FORMAT = 3  # of the folder; raise it as well with whatever makes a resumed run compute something else
History = dict[str, list[torch.Tensor]]


@dataclass(frozen=True)
class StepRecord:
    """What one optimiser step did. With two encoders, figures of vectors are the mean of both.

    Attributes:
        step: counted from 1. steps: of how many.
        loss: mean squared error of the batch.
        rate: learning rate used (of the first encoder), in plain units; with `norm="fixed"` the angle of the step in radians.
        norm: mean length of the word's vectors after the step.
        cosine: of the mean vector with where it started.
        seconds: training time since the run began.
        gain: loss with the initializer minus loss with the word, same pictures, noise and timesteps each time. None
            between two measurements, as the two that follow.
        gain_empty: loss with an empty prompt minus loss with the word.
        percentile: share of the vocabulary (0 to 1) whose vectors are shorter than the word's.
        warning: what looks wrong, in a sentence; "" for nothing.
        note: what was unusual in this step; "" for nothing.
    """

    step: int
    steps: int
    loss: float
    rate: float
    norm: float
    cosine: float
    seconds: float
    gain: float | None = None
    gain_empty: float | None = None
    percentile: float | None = None
    warning: str = ""
    note: str = ""

    def __str__(self) -> str:
        figures = [
            f"loss {self.loss:.3f}",
            f"rate {self.rate:.2g}",
            f"norm {self.norm:.3f}",
            f"cosine {self.cosine:.3f}",
        ]
        figures += [] if self.gain is None else [f"gain {self.gain:+.4f}"]
        return ", ".join([f"step {self.step} of {self.steps}: {figures[0]}", *figures[1:], f"{self.seconds:.1f} s"])

    @staticmethod
    def of(
        step: int, steps: int, loss: float, rate: float, seconds: float, note: str, start: Concept, vectors: Vectors
    ) -> StepRecord:
        """A record with the figures of the vectors filled in."""
        own = {key: rows[: len(start)] for key, rows in vectors.items()}
        norms = [float(rows.norm(dim=-1).mean()) for rows in own.values()]
        cosines = [float(F.cosine_similarity(r.mean(0), start.vectors[k].mean(0), dim=0)) for k, r in own.items()]
        mean = torch.tensor([norms, cosines]).mean(1).tolist()
        return StepRecord(step, steps, loss, rate, mean[0], mean[1], seconds, note=note)


COLUMNS = [f.name for f in fields(StepRecord)]


def as_csv(records: Sequence[StepRecord], *, header: bool) -> str:
    """A line for each; numbers are read again equal, None is left empty."""
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    if header:
        writer.writerow(COLUMNS)
    for record in records:
        values = asdict(record).values()
        writer.writerow(
            "" if v is None else " ".join(v.splitlines()) if isinstance(v, str) else repr(v) for v in values
        )
    return lines.getvalue()


def from_csv(text: str) -> list[StepRecord]:
    """The records of what `as_csv` wrote, its header included; of "" none.

    Raises:
        ValueError: other columns, or values that are none of theirs.
    """
    kinds = get_type_hints(StepRecord)
    header, *rows = list(csv.reader(io.StringIO(text, newline=""))) or [COLUMNS]
    if header != COLUMNS:
        raise InvalidValue("the records have other columns")
    return [StepRecord(**{name: _parse(v, kinds[name]) for name, v in zip(COLUMNS, row, strict=True)}) for row in rows]


def _parse(value: str, kind: Any) -> Any:
    if kind in (int, float, str):
        return kind(value)
    return float(value) if value else None


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
            raise InvalidValue(f"step is {step}: give 1 to {len(self.records)}")
        return Concept(self.word, {key: h[step - 1].clone() for key, h in self.history.items()}, {"steps": step})


@checked()
def read_run(path: str | Path) -> SavedRun:
    """Read the run a folder holds, whether it goes on or not.

    Raises:
        FileNotFoundError: the folder holds no run. ValueError: the run is damaged.

    Examples:
        >>> import ti_nb as ti
        >>> model, photos = ti.load_model("tiny"), ti.example_images("penguin")
        >>> records = list(ti.train(model, photos, word="<my-penguin>", init="animal", steps=2, out="my-run"))
        >>> ti.read_run("my-run").concept(1).word
        '<my-penguin>'
    """
    path = Path(path).expanduser()
    if not holds_run(path):
        raise NoSuchFile(f"{place(path)} holds no run: it has no {STATE}")
    saved = read(path)
    facts, shapes = saved.facts, saved.facts["shapes"]
    stacked = {key: torch.stack(h)[:, : shapes[key][0]] for key, h in saved.history.items() if h}
    return SavedRun(facts["word"], facts["settings"], saved.records, stacked)


@dataclass(frozen=True)
class Saved:
    """All that a folder holds.

    Attributes:
        state: what the next step depends on. facts: of the folder. records, history: of the steps done.
        parts: the bytes of the vectors and of the records that count. own: the digest of the state's file.
        word_is_whole: whether the word's file is of the last step; a run killed while saving may leave the next step's.
    """

    state: dict[str, Any]
    facts: dict[str, Any]
    records: list[StepRecord]
    history: History
    parts: dict[str, bytes]
    own: str
    word_is_whole: bool


def read(path: Path) -> Saved:
    """What the run's folder `path` holds.

    Raises:
        Taken: it is of another version. ValueError: anything in it is damaged or missing.
    """
    try:
        data = (path / STATE).read_bytes()
        state, facts = _read_state(data)
        parts = {name: _read_part(path / name, facts) for name in (VECTORS, RECORDS)}
        records = from_csv(parts[RECORDS].decode())
        if len(records) != facts["step"]:
            raise InvalidValue(f"{RECORDS} was changed")
        history = _history(parts[VECTORS], facts["step"], facts["rows"])
        word = path / WORD
        word_is_whole = word.exists() and digest(word.read_bytes()) == facts["digests"].get(WORD)
        return Saved({**state, **facts["numbers"]}, facts, records, history, parts, digest(data), word_is_whole)
    except (ArithmeticError, AttributeError, LookupError, MemoryError, OSError, TypeError, ValueError) as error:
        kind = Taken if isinstance(error, Taken) else InvalidValue
        raise kind(damaged(path, error)) from error
    except SafetensorError as error:
        raise InvalidValue(damaged(path, error)) from error


def holds_run(path: Path) -> bool:
    """Whether a run was ever saved there.

    Raises:
        ValueError: there are parts of one, but no state, which is written first of all.
    """
    present = [name for name in (STATE, VECTORS, RECORDS, WORD) if (path / name).exists()]
    if present and STATE not in present:
        raise InvalidValue(damaged(path, f"{STATE} is missing beside {present[0]}"))
    return bool(present)


def damaged(path: Path, reason: object) -> str:
    """The message for a folder that can't be read."""
    return f"the run in {place(path)} can't be read ({reason}): give another folder"


def as_state(facts: Mapping[str, Any], state: Mapping[str, Any]) -> bytes:
    """The state's file: tensors as such, numbers among the facts, and a digest of both."""
    tensors = {key: value for key, value in state.items() if isinstance(value, torch.Tensor)}
    numbers = {key: value for key, value in state.items() if not isinstance(value, torch.Tensor)}
    text = json.dumps({**facts, "version": FORMAT, "numbers": numbers})
    data: bytes = to_bytes(tensors, {"ti_nb": text, "digest": _digest_of_state(text, tensors)})
    return data


def _read_state(data: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    tensors = from_bytes(data)
    metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    facts = json.loads(metadata["ti_nb"])
    version = facts.get("version", 1)  # the first format had no version
    if version != FORMAT:
        raise Taken(f"written by another version of ti_nb, its format is {version}, this one's {FORMAT}")
    if metadata["digest"] != _digest_of_state(metadata["ti_nb"], tensors):
        raise InvalidValue(f"{STATE} was changed")
    return tensors, facts


def _read_part(path: Path, facts: Mapping[str, Any]) -> bytes:
    """The part of the file that the state refers to; a process that was killed may have written more."""
    end: int = facts["ends"][path.name]
    if size(path) < end:
        raise InvalidValue(f"{path.name} is missing or cut short")
    data = path.read_bytes()[:end] if end else b""
    if digest(data) != facts["digests"][path.name]:
        raise InvalidValue(f"{path.name} was changed")
    return data


def _history(data: bytes, steps: int, shapes: Mapping[str, Sequence[int]]) -> History:
    sizes = {key: int(np.prod(shape)) for key, shape in sorted(shapes.items())}
    flat = np.frombuffer(data, dtype="<f4").reshape(steps, sum(sizes.values()))
    table, out, at = torch.from_numpy(flat.copy()), {}, 0
    for key, size in sizes.items():
        out[key] = list(table[:, at : at + size].reshape(steps, *shapes[key]).clone())
        at += size
    return out


def size(path: Path) -> int:
    """Size of a file in bytes, 0 if there is none."""
    return path.stat().st_size if path.exists() else 0


def digest(data: bytes) -> str:
    """SHA-256 of the data."""
    return hashlib.sha256(data).hexdigest()


def digest_of_images(images: ConceptImages) -> str:
    """Digest of the pictures themselves: their latents differ in the last digit from device to device."""
    sha = hashlib.sha256(repr((images.flip, images.captions)).encode())
    for picture in (*images.images, *images.masks):
        sha.update(repr(picture.size).encode() + picture.tobytes() if picture else b"none")
    return sha.hexdigest()[:16]


def _digest_of_state(facts: str, tensors: Mapping[str, torch.Tensor]) -> str:
    sha = hashlib.sha256(facts.encode())
    for name, tensor in sorted(tensors.items()):
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode() + tensor.cpu().numpy().tobytes())
    return sha.hexdigest()
