"""Reads words from files of any program; runs no code from the file, and reads only the word's part of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from ..errors import NoSuchFile, NotAConcept
from ..host.arguments import checked
from ..host.plain_text import place, quoted
from ..words.concept import Concept
from . import png_cards, torch_files
from .formats import concepts_in

MAX_HEADER_BYTES = 1 << 20  # of a safetensors file: a word's is under 1 kB
MAX_FILE_BYTES = 1 << 28  # of a safetensors file: some hold a whole vocabulary
PART_NAME = r"(.*-)(\d{5})(-of-)(\d{5})"  # such as x-00001-of-00002
FORMAT_MAX_HEADER_BYTES = 100_000_000  # the format's own limit


@checked()
def load(path: str | Path, *, word: str | None = None) -> Concept:
    """Read the word in a file of any program: see `load_words`. `word` renames it, or picks one of several.

    >>> import torch, ti_nb as ti
    >>> cat = ti.Concept("<my-cat>", {"clip_l": torch.ones(2, 768)}, {})
    >>> path = ti.save(cat, "my-cat.safetensors")
    >>> ti.load(path).word, len(ti.load(path)), ti.load(path, word="<tom>").word
    ('<my-cat>', 2, '<tom>')

    Raises:
        FileNotFoundError: no such file. NotAConcept (a ValueError): no word, several, or not safe to read.
    """
    words = load_words(path)
    if len(words) > 1:
        chosen = [concept for concept in words if concept.word == word]
        if not chosen:
            names = ", ".join(quoted(concept.word) for concept in words[:8])
            raise NotAConcept(f"{place(path)} holds {len(words)} words: name one with word=, of {names}")
        return chosen[0]
    return replace(words[0], word=word) if word else words[0]


@checked()
def load_words(path: str | Path, *, nameless: str | None = None) -> list[Concept]:
    """Read all words in a file, whatever program wrote it.

    Args:
        nameless: the name for a word without one in the file; by default the file's name in angle brackets.

    Reads .bin, .pt and .safetensors of diffusers and AUTOMATIC1111, the paper's .pt, SDXL's two encoders in one file or
    two (x and x_2), Flux's T5, cog's .pti, OneTrainer's, files in numbered parts, and cards (PNG); any dtype, returned as
    float32. `Concept.family` follows from the shapes. No code in the file is run, and of a row that is a view of a whole
    matrix only the row is read.

    Raises:
        FileNotFoundError: no such file. NotAConcept (a ValueError): it holds no word, or is not safe to read.

    Examples:
        >>> import torch, ti_nb as ti
        >>> from safetensors.torch import save_file
        >>> save_file({"<cat>": torch.ones(1, 768), "<dog>": torch.ones(2, 768)}, "pets.safetensors")
        >>> [(concept.word, len(concept)) for concept in ti.load_words("pets.safetensors")]
        [('<cat>', 1), ('<dog>', 2)]
    """
    path = expanded(path)
    if not path.is_file():
        raise NoSuchFile(f"no such file: {place(path)}")
    try:
        return join_halves(path, concepts_in(_read_parts(path), _base_name(path), nameless), nameless)
    except NotAConcept as error:
        raise NotAConcept(f"{place(path)} can't be read as a word: {error}") from error


def _read_parts(path: Path) -> Any:
    """The file's data, merged with that of its numbered parts."""
    parts = _numbered_parts(path)
    if len(parts) > 1:
        dicts = [read_file(part) for part in parts]
        if not all(isinstance(part, Mapping) for part in dicts):
            raise NotAConcept("its numbered parts hold no tensors with names")
        return {key: value for part in dicts for key, value in part.items()}
    return read_file(path)


def read_file(path: Path) -> Any:
    """One file's data, its tensors not read yet; the format is told from its first bytes, not its name.

    Raises:
        NotAConcept: the format holds no words, it is damaged, or it is not safe to read.
    """
    with torch_files.BoundedFile(path) as file:
        start = file.read(512)
    if start.startswith(b"\x89PNG\r\n"):
        return png_cards.read(path)
    header = int.from_bytes(start[:8], "little")
    if start[8:9] == b"{" and header <= FORMAT_MAX_HEADER_BYTES:
        return _safetensors(path, header)
    if start.startswith((b"PK", b"\x80")):
        return torch_files.read(path)
    raise NotAConcept(_why_not_a_word(start, path))


def _why_not_a_word(start: bytes, path: Path) -> str:
    """Why a file with these first bytes can't hold a word, and what to do."""
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
    return "it is in no format that holds words: those are .safetensors, .bin, .pt and AUTOMATIC1111's PNG cards"


def _safetensors(path: Path, header: int) -> Any:
    """Its tensors, not read yet, and the facts in its metadata."""
    if header > MAX_HEADER_BYTES or path.stat().st_size > MAX_FILE_BYTES:
        raise NotAConcept("it is too large for a word: it is a whole model, or damaged")
    try:
        with safe_open(str(path), framework="pt") as file:
            names = list(file.keys())
            metadata = file.metadata() or {}
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in names}
    except (SafetensorError, UnicodeDecodeError):  # whose message may quote the file
        raise NotAConcept("it is not a whole safetensors file: fetch it again") from None
    tensors: dict[str, Any] = {name: _SafetensorsTensor(path, name, shape) for name, shape in shapes.items()}
    return {**({"ti_nb": metadata["ti_nb"]} if "ti_nb" in metadata else {}), **tensors}


class _SafetensorsTensor:
    """A tensor in a safetensors file, read by `read`."""

    def __init__(self, path: Path, name: str, shape: tuple[int, ...]) -> None:
        self.path, self.name, self.shape = path, name, shape

    def read(self) -> torch.Tensor:
        """Its values, float32."""
        try:
            with safe_open(str(self.path), framework="pt") as file:
                return file.get_tensor(self.name).to(torch.float32, copy=True)  # type: ignore[no-any-return]
        except (SafetensorError, RuntimeError, TypeError, KeyError) as error:
            raise NotAConcept(f"its tensor {quoted(self.name)} can't be read ({type(error).__name__})") from None


def _numbered_parts(path: Path) -> list[Path]:
    """All of x-00001-of-00002, x-00002-of-00002, ...; for other names the file alone."""
    match = re.fullmatch(PART_NAME, path.stem)
    if match is None or not 1 <= int(match[4]) <= 64:
        return [path]
    parts = [path.with_stem(f"{match[1]}{i:05}{match[3]}{match[4]}") for i in range(1, int(match[4]) + 1)]
    missing = [part.name for part in parts if not part.is_file()]
    if missing:
        raise NotAConcept(f"it is in {len(parts)} parts, of which {place(', '.join(missing))} is missing")
    return parts


def expanded(path: str | Path) -> Path:
    """The path with a leading ~ replaced by the home folder."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # no such user: the name just begins with ~
        return Path(path)


def _base_name(path: Path) -> str:
    """The file's name without its suffix and part number; x_2 beside x is x."""
    first = path.with_stem(path.stem.removesuffix("_2"))
    return re.sub(r"-\d{5}-of-\d{5}$", "", first.stem if first.is_file() else path.stem)


def join_halves(path: Path, words: list[Concept], nameless: str | None = None) -> list[Concept]:
    """The words, half an SDXL word joined with its other half (of x in x_2) if that names the same word.

    Raises:
        NotAConcept: a second half without its first.
    """
    lone = any(tuple(word.vectors) == ("clip_g",) for word in words)
    if not lone and all(tuple(word.vectors) != ("clip_l",) for word in words):
        return words
    others = {other.word: other for other in _other_half(path, lone, nameless)}
    return [_join(word, others.get(word.word)) for word in words]


def _other_half(path: Path, lone: bool, nameless: str | None) -> list[Concept]:
    """The words in the file with the other halves, x_2 for x; `lone`: this file has second halves, so x for x_2."""
    other = path.with_stem(path.stem.removesuffix("_2")) if lone else path.with_stem(f"{path.stem}_2")
    if other == path or not other.is_file():
        return []
    try:
        return concepts_in(_read_parts(other), _base_name(other), nameless)
    except NotAConcept as error:
        if lone:
            raise NotAConcept(f"it is the second half of an SDXL word, and the first can't be read: {error}") from error
        return []  # an unrelated file that happens to have that name


def _join(half: Concept, other: Concept | None) -> Concept:
    """The two halves of an SDXL word as one; `half` unchanged where there is nothing to join."""
    halves = {tuple(part.vectors): part for part in (half, other) if part is not None}
    if len(halves) == 2 and halves.keys() == {("clip_l",), ("clip_g",)}:
        first, second = halves["clip_l",], halves["clip_g",]
        try:
            return Concept(first.word, {**first.vectors, **second.vectors}, first.facts)
        except ValueError as error:
            raise NotAConcept(f"its two halves don't fit together: {error}") from error
    if tuple(half.vectors) == ("clip_g",):
        raise NotAConcept("it holds only the vectors of SDXL's second encoder: put the first one's file beside it")
    return half
