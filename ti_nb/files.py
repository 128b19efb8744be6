"""Concepts to disk and back, in every format that other tools read or ever wrote.

Writing is atomic and checked: the file is read again by a reader that shares nothing with the writer before it gets its
name. Reading runs nothing of what is in the file, and reads no more of it than the word.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes

from . import cards, pickles
from .concept import Concept
from .errors import NotAConcept
from .formats import FORMATS, concepts_in, contents, file_word, format_of, shared_facts

if TYPE_CHECKING:
    from PIL import Image

ARCHITECTURES = {
    "SD 1.x": "stable-diffusion-v1",
    "SD 2.x": "stable-diffusion-v2-768-v",
    "SDXL": "stable-diffusion-xl-v1-base",
}
HEADER = 1 << 20  # bytes at most of a safetensors file's table: a word's is under 1 kB
LARGEST = 1 << 28  # bytes of a safetensors file
LARGEST_HEADER = 100_000_000  # that the format allows


def save(concept: Concept, path: str | Path, *, format: str | None = None, picture: Image.Image | None = None) -> Path:
    """Write `concept` so that other programs load it; returns the path.

    The file appears under its name only when whole, and only after it was read back equal.

    Args:
        path: ends in .safetensors (diffusers, ComfyUI, AUTOMATIC1111), .bin (old diffusers), .pt (old AUTOMATIC1111) or
            .png (a card, which needs `picture`).
        format: "diffusers", "clip_keys", "a1111", "emb_params" or "card"; by default what the ending usually holds, which
            for SDXL's .safetensors is "clip_keys". "diffusers" writes an SDXL word as two files, the second `path`_2.

    Raises:
        ValueError: another ending, a format without room for the word, a card without a picture.
        OSError: it can't be written, or did not read back equal.
    """
    if not isinstance(concept, Concept):
        raise ValueError(f"save takes one concept, not {type(concept).__name__}: write a file for each word")
    path = _path(path)
    chosen = format_of(concept, path.suffix.lower(), format)
    if chosen == "card" and picture is None:
        raise ValueError(
            "a card is a picture of the word: give one, as in save(concept, 'my-cat.png', picture=sample.image)"
        )
    concept = _sayable(concept)
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = contents(concept, chosen)
    paths = [path, path.with_stem(f"{path.stem}_2")][: len(parts)]
    with ExitStack() as written:
        for one, holds in zip(paths, parts):
            temporary = written.enter_context(replacing(one))
            _write(temporary, one.suffix.lower(), holds, concept, picture)
            if not _equal(holds, _read_again(temporary, one.suffix.lower())):
                raise OSError(f"'{one}' did not read back as it was written: is the disk full?")
            _check_loads(temporary, one)
        _check_beside(path, concept)
    return path


def _check_loads(temporary: Path, path: Path) -> None:
    """Refuse a word that `load` would refuse, such as one of a thousand vectors."""
    try:
        concepts_in(_contents_of(temporary), path.stem)
    except NotAConcept as error:
        raise ValueError(f"'{path}' could not be loaded again: {error}") from error


def _check_beside(path: Path, concept: Concept) -> None:
    """Refuse to put a word where an older file would be taken for its second half."""
    second = path.with_stem(f"{path.stem}_2")
    if tuple(concept.vectors) == ("clip_l",) and second.is_file() and len(_whole(path, [concept])[0].vectors) > 1:
        raise ValueError(
            f"'{second}' beside it would be taken for its second half: choose another name, or remove that file"
        )


def load(path: str | Path, *, word: str | None = None) -> Concept:
    """Read the word in a file of any program: see `load_words`. `word` gives it another name, or picks one of several.

    Raises:
        FileNotFoundError: there is no such file. NotAConcept (a ValueError): no word, several, or not safe to read.
    """
    words = load_words(path)
    if len(words) > 1:
        chosen = [one for one in words if one.word == word]
        if not chosen:
            names = ", ".join(repr(one.word) for one in words[:8])
            raise NotAConcept(f"'{path}' holds {len(words)} words: name one with word=, of {names}")
        return chosen[0]
    return replace(words[0], word=word) if word else words[0]


def load_words(path: str | Path, *, nameless: str | None = None) -> list[Concept]:
    """Read all words in a file, whatever program wrote it.

    Args:
        nameless: the name of a word that has none in the file; by default the file's name between brackets.

    diffusers' and AUTOMATIC1111's .bin, .pt and .safetensors, the paper's own .pt, SDXL's two encoders in one file or in
    two (x and x_2), Flux's T5, cog's .pti, OneTrainer's, files in numbered parts, cards (PNG); vectors of any precision,
    given as float32. The models a word fits are told from its shapes: `Concept.family`. Nothing in the file is run, and
    of a row that drags a whole matrix along only the row is read.

    Raises:
        FileNotFoundError: there is no such file. NotAConcept (a ValueError): it holds no word, or is not safe to read.
    """
    path = _path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such file: '{path}'")
    try:
        return _whole(path, concepts_in(_contents(path), _stem(path), nameless), nameless)
    except NotAConcept as error:
        raise NotAConcept(f"'{path}' can't be read as a word: {error}") from error


def _contents(path: Path) -> Any:
    """What the file holds, by its first bytes, whatever its name says."""
    parts = _numbered_parts(path)
    if len(parts) > 1:
        held = [_contents_of(part) for part in parts]
        if not all(isinstance(part, Mapping) for part in held):
            raise NotAConcept("its numbered parts hold no tensors with names")
        return {key: value for part in held for key, value in part.items()}
    return _contents_of(path)


def _contents_of(path: Path) -> Any:
    with pickles.Careful(path) as file:
        start = file.read(512)
    if start.startswith(b"\x89PNG\r\n"):
        return cards.read(path)
    header = int.from_bytes(start[:8], "little")
    if start[8:9] == b"{" and header <= LARGEST_HEADER:
        return _safetensors(path, header)
    if start.startswith((b"PK", b"\x80")):
        return pickles.read(path)
    raise NotAConcept(_no_format(start, path))


def _no_format(start: bytes, path: Path) -> str:
    """Why a file that begins so can't hold a word, and what to do."""
    if not start:
        return "it is empty: fetch it again"
    if start.startswith(b"version https://git-lfs"):
        return (
            "it is a git-lfs pointer, the name of the file rather than the file: `git lfs pull`, or download it again"
        )
    if start.lstrip()[:1] == b"<":
        return (
            "it is a web page, not the file: download it with its download button, and log in first if it asks for that"
        )
    if path.suffix.lower() in (".jpg", ".jpeg", ".webp"):
        return "it is a picture, and only PNG cards hold vectors"
    return "it is of no format that holds words: those are .safetensors, .bin, .pt and AUTOMATIC1111's PNG cards"


def _safetensors(path: Path, header: int) -> Any:
    """Its tensors, still in the file, and the facts in its metadata."""
    if header > HEADER or path.stat().st_size > LARGEST:
        raise NotAConcept("it is too large for a word: it is a whole model, or damaged")
    try:
        with safe_open(str(path), framework="pt") as file:
            names = list(file.keys())
            metadata = file.metadata() or {}
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in names}
    except (SafetensorError, UnicodeDecodeError) as error:
        raise NotAConcept(f"it is not a whole safetensors file ({error}): fetch it again") from error
    found: dict[str, Any] = {name: _Mapped(path, name, shape) for name, shape in shapes.items()}
    return {**({"ti_nb": metadata["ti_nb"]} if "ti_nb" in metadata else {}), **found}


class _Mapped:
    """A tensor in a safetensors file."""

    def __init__(self, path: Path, name: str, shape: tuple[int, ...]) -> None:
        self.path, self.name, self.shape = path, name, shape

    def read(self) -> torch.Tensor:
        """Its numbers, float32."""
        try:
            with safe_open(str(self.path), framework="pt") as file:
                return file.get_tensor(self.name).to(torch.float32, copy=True)  # type: ignore[no-any-return]
        except (SafetensorError, RuntimeError, TypeError, KeyError) as error:
            raise NotAConcept(f"its tensor {self.name[:60]!r} can't be read ({error})") from error


def _numbered_parts(path: Path) -> list[Path]:
    """All of x-00001-of-00002, x-00002-of-00002, ...; else the file alone."""
    found = re.fullmatch(r"(.*-)(\d{5})(-of-)(\d{5})", path.stem)
    if found is None or not 1 <= int(found[4]) <= 64:
        return [path]
    parts = [path.with_stem(f"{found[1]}{i:05}{found[3]}{found[4]}") for i in range(1, int(found[4]) + 1)]
    missing = [part.name for part in parts if not part.is_file()]
    if missing:
        raise NotAConcept(f"it is in {len(parts)} parts, of which {', '.join(missing)} is missing")
    return parts


def _path(path: str | Path) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError:  # a name that begins with ~, and no such user
        return Path(path)


def _stem(path: Path) -> str:
    """The file's name without its ending and its number; x_2 beside x is x."""
    first = path.with_stem(path.stem.removesuffix("_2"))
    return re.sub(r"-\d{5}-of-\d{5}$", "", first.stem if first.is_file() else path.stem)


def _whole(path: Path, words: list[Concept], nameless: str | None = None) -> list[Concept]:
    """The words; one that is half of SDXL's is put together with its other half, x with x_2, which names the same word."""
    if len(words) != 1 or tuple(words[0].vectors) not in (("clip_l",), ("clip_g",)):
        return words
    is_second = tuple(words[0].vectors) == ("clip_g",)
    other = path.with_stem(path.stem.removesuffix("_2")) if is_second else path.with_stem(f"{path.stem}_2")
    if other != path and other.is_file():
        try:
            halves = concepts_in(_contents(other), _stem(other), nameless)
        except NotAConcept as error:
            if is_second:
                raise NotAConcept(
                    f"it is the second half of an SDXL word, and the first can't be read: {error}"
                ) from error
            return words  # a file that happens to be named so
        fits = len(halves) == 1 and tuple(halves[0].vectors) == (("clip_l",) if is_second else ("clip_g",))
        if fits and halves[0].word == words[0].word:
            first, second = (halves[0], words[0]) if is_second else (words[0], halves[0])
            try:
                return [Concept(first.word, {**first.vectors, **second.vectors}, first.facts)]
            except ValueError as error:
                raise NotAConcept(f"its two halves don't fit together: {error}") from error
    if is_second:
        raise NotAConcept("it holds only the vectors of SDXL's second encoder: put the first one's file beside it")
    return words


def _sayable(concept: Concept) -> Concept:
    word = file_word(concept.word)
    if word != concept.word:
        import warnings

        warnings.warn(
            f"the word {concept.word!r} is written as {word!r}: capitals, spaces and words within words go wrong in other "
            "programs",
            stacklevel=3,
        )
    return replace(concept, word=word)


def _write(path: Path, suffix: str, holds: dict[str, Any], concept: Concept, picture: Image.Image | None) -> None:
    if suffix == ".safetensors":
        path.write_bytes(_steady(to_bytes(holds, _metadata(concept))))
    elif suffix == ".png":
        assert picture is not None
        facts = concept.facts
        steps = f", {facts['steps']} steps" if "steps" in facts else ""
        below = f"{concept.family}: {len(concept)} vector{'s' if len(concept) > 1 else ''}{steps}"
        card, text = cards.draw(holds, picture, concept.word, below)
        text.add_text("ti_nb", _facts(concept))
        card.save(path, format="PNG", pnginfo=text)
    else:
        torch.save(holds, path)


def _facts(concept: Concept) -> str:
    return json.dumps({**shared_facts(concept), "word": concept.word})


def _steady(data: bytes) -> bytes:
    """The same file with its table in alphabetical order, so that equal words are equal files."""
    end = 8 + int.from_bytes(data[:8], "little")
    table = json.dumps(json.loads(data[8:end]), sort_keys=True, separators=(",", ":")).encode()
    table += b" " * (-len(table) % 8)
    return len(table).to_bytes(8, "little") + table + data[end:]


def _metadata(concept: Concept) -> dict[str, str]:
    """What the file says of itself; "modelspec" as the standard of that name has it."""
    libraries = ", ".join(f"{name} {version(name)}" for name in ("torch", "diffusers"))
    from . import __version__

    said = {
        "format": "pt",
        "ti_nb": _facts(concept),
        "made_with": f"ti_nb {__version__}, {libraries}",
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.implementation": "diffusers",
        "modelspec.title": concept.word.strip("<>"),
        "modelspec.trigger_phrase": concept.word,
    }
    if concept.family in ARCHITECTURES:
        said["modelspec.architecture"] = f"{ARCHITECTURES[concept.family]}/textual-inversion"
    if "license" in concept.facts:
        said["modelspec.license"] = str(concept.facts["license"])
    return said


def _read_again(path: Path, suffix: str) -> Any:
    """What was written, by a reader that shares nothing with the writer."""
    if suffix == ".safetensors":
        return _plain_safetensors(path.read_bytes())
    if suffix == ".png":
        text, dots = cards.read(path), cards.pixels(path)
        if "ti_nb" not in dots:  # it stands beside the vectors
            text.pop("ti_nb", None)
        return text if _same(text, dots) else None
    return pickles.read(path)


def _plain_safetensors(data: bytes) -> dict[str, torch.Tensor]:
    """Float32 tensors from the format's description: length, JSON, numbers."""
    end = 8 + int.from_bytes(data[:8], "little")
    table = json.loads(data[8:end])
    table.pop("__metadata__", None)
    out = {}
    for name, entry in table.items():
        begin, stop = entry["data_offsets"]
        out[name] = torch.frombuffer(bytearray(data[end + begin : end + stop]), dtype=torch.float32).reshape(
            entry["shape"]
        )
    return out


def _equal(wanted: Any, found: Any) -> bool:
    """Whether what was read is what was written, to the bit."""
    if isinstance(wanted, torch.Tensor):
        values = found if isinstance(found, torch.Tensor) else found.read()
        return values.shape == wanted.shape and torch.equal(values, wanted)
    if isinstance(wanted, dict):
        return (
            isinstance(found, dict)
            and wanted.keys() == found.keys()
            and all(_equal(wanted[k], found[k]) for k in wanted)
        )
    return bool(wanted == found)


def _same(a: Any, b: Any) -> bool:
    """Whether two readings of a card agree."""
    if isinstance(a, cards.Ready):
        return isinstance(b, cards.Ready) and torch.equal(a.values, b.values)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(_same(a[k], b[k]) for k in a)
    return bool(a == b)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` to write to; when the block ends well it is on the disk and takes `path`'s place."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=".tmp")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "r+b") as file:  # Windows syncs only what may be written
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


__all__ = ["FORMATS", "NotAConcept", "load", "load_words", "replacing", "save"]
