"""Writes words to files, in every format that other tools read.

Writes are atomic and checked: before a file gets its name, it is read back by a reader that shares no code with the writer.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save as to_bytes

from ..errors import InvalidValue, NotAConcept, NotWritten
from ..host.arguments import checked
from ..host.atomic import replacing
from ..host.plain_text import place, warn
from ..models.families import family
from ..words.concept import Concept
from ..words.prompts import file_word
from . import png_cards, torch_files
from .formats import card_name, concepts_in, format_of, shared_facts, to_format
from .reading import PART_NAME, expanded, join_halves, read_file

if TYPE_CHECKING:
    from PIL import Image


@checked()
def save(concept: Concept, path: str | Path, *, format: str | None = None, picture: Image.Image | None = None) -> Path:
    """Write `concept` to a file that other programs load; returns the path.

    The write is atomic, and the file is read back and compared first.

    >>> import torch, ti_nb as ti
    >>> cat = ti.Concept("<my-cat>", {"clip_l": torch.ones(1, 768)}, {})
    >>> ti.save(cat, "my-cat.safetensors").name
    'my-cat.safetensors'

    Args:
        path: ends in .safetensors (diffusers, ComfyUI, AUTOMATIC1111), .bin (old diffusers), .pt (old AUTOMATIC1111) or
            .png (a card, which needs `picture`).
        format: "diffusers", "clip_keys", "a1111", "emb_params" or "card"; by default the usual one for the suffix, which
            for SDXL's .safetensors is "clip_keys". "diffusers" writes an SDXL word as two files, the second named like the first with _2 at its end.

    Raises:
        ValueError: another suffix, a format that the word does not fit into, a card without a picture.
        OSError: it can't be written, or did not read back equal.
    """
    path = expanded(path)
    chosen = format_of(concept, path.suffix.lower(), format)
    if chosen == "card" and picture is None:
        raise InvalidValue(
            "a card is a picture of the word: give one, as in save(concept, 'my-cat.png', picture=sample.image)"
        )
    _check_name(path)
    concept = _with_file_word(concept)
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = to_format(concept, chosen)
    paths = [path, path.with_stem(f"{path.stem}_2")][: len(parts)]
    with ExitStack() as written:
        halves = []
        for part, holds in zip(paths, parts):
            temporary = written.enter_context(replacing(part))
            _write(temporary, part.suffix.lower(), holds, concept, picture)
            if not _equal(holds, _read_again(temporary, part.suffix.lower(), holds)):
                raise NotWritten(f"{place(part)} did not read back as it was written: is the disk full?")
            halves += _load_again(temporary, part)
        _check_loaded(halves, path, concept)
        _check_second_half(path, concept)
    return path


def _load_again(temporary: Path, path: Path) -> list[Concept]:
    """The words that `load` will find in the file that becomes `path`."""
    try:
        return concepts_in(read_file(temporary), path.stem)
    except NotAConcept as error:
        raise InvalidValue(f"{place(path)} could not be loaded again: {error}") from error


def _check_loaded(halves: Sequence[Concept], path: Path, concept: Concept) -> None:
    """Refuse a word that `load` would refuse or read as another, such as half an SDXL word."""
    wanted = {key: rows.detach().to("cpu", torch.float32) for key, rows in concept.vectors.items()}
    loaded = {key: rows for half in halves for key, rows in half.vectors.items()}
    if {half.word for half in halves} != {concept.word} or not _equal(wanted, loaded):
        names = ", ".join(f"{half.word!r} with {' and '.join(half.vectors)}" for half in halves)
        raise InvalidValue(f"{place(path)} could not be loaded again: it would be read as {names}")


def _check_name(path: Path) -> None:
    """Refuse a name that means one of several parts."""
    if re.fullmatch(PART_NAME, path.stem):
        raise InvalidValue(f"{place(path)} has the name of one of several parts: choose another name")


def _check_second_half(path: Path, concept: Concept) -> None:
    """Refuse a path beside which an older file would be read as the word's second half."""
    second = path.with_stem(f"{path.stem}_2")
    if tuple(concept.vectors) == ("clip_l",) and second.is_file() and len(join_halves(path, [concept])[0].vectors) > 1:
        raise InvalidValue(
            f"{place(second)} beside it would be taken for its second half: choose another name, or remove that file"
        )


def _with_file_word(concept: Concept) -> Concept:
    word = file_word(concept.word)
    if word != concept.word:
        warn(
            f"the word {concept.word!r} is written as {word!r}: capitals, spaces and words within words go wrong in other "
            "programs"
        )
    return replace(concept, word=word)


def _write(path: Path, suffix: str, holds: dict[str, Any], concept: Concept, picture: Image.Image | None) -> None:
    if suffix == ".safetensors":
        path.write_bytes(_sorted_table(to_bytes(holds, _metadata(concept))))
    elif suffix == ".png":
        assert picture is not None
        facts = concept.facts
        steps = f", {facts['steps']} steps" if "steps" in facts else ""
        below = f"{concept.family}: {len(concept)} vector{'s' if len(concept) > 1 else ''}{steps}"
        card, text = png_cards.draw(holds, picture, f"<{card_name(concept.word)}>", below)
        text.add_text("ti_nb", _facts(concept))
        card.save(path, format="PNG", pnginfo=text)
    else:
        path.write_bytes(_torch_archive(holds, _facts(concept)))


def _torch_archive(holds: dict[str, Any], facts: str) -> bytes:
    """The archive of `torch.save`, reduced to the members that AUTOMATIC1111 allows.

    It allows what torch 1.13 wrote (modules/safe.py); torch 2 adds members that no reader needs. Names and dates are fixed, so
    that equal words are equal files. The facts are the archive's comment, which other readers ignore.
    """
    saved, out = io.BytesIO(), io.BytesIO()
    torch.save(holds, saved)
    with zipfile.ZipFile(saved) as old, zipfile.ZipFile(out, "w") as new:
        new.comment = facts.encode()
        for info in old.infolist():
            part = info.filename.partition("/")[2]
            if re.fullmatch(r"data\.pkl|data/\d+|version", part):
                new.writestr(zipfile.ZipInfo(f"archive/{part}"), old.read(info))
    return out.getvalue()


def _facts(concept: Concept) -> str:
    return json.dumps({**shared_facts(concept), "word": concept.word})


def _sorted_table(data: bytes) -> bytes:
    """The safetensors file with its header sorted, so that equal words are equal files."""
    end = 8 + int.from_bytes(data[:8], "little")
    table = json.dumps(json.loads(data[8:end]), sort_keys=True, separators=(",", ":")).encode()
    table += b" " * (-len(table) % 8)
    return len(table).to_bytes(8, "little") + table + data[end:]


def _metadata(concept: Concept) -> dict[str, str]:
    """The metadata of a safetensors file; "modelspec" is a standard (github.com/Stability-AI/ModelSpec)."""
    libraries = ", ".join(f"{name} {version(name)}" for name in ("torch", "diffusers"))
    from .._version import __version__

    metadata = {
        "format": "pt",
        "ti_nb": _facts(concept),
        "made_with": f"ti_nb {__version__}, {libraries}",
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.implementation": "diffusers",
        "modelspec.title": concept.word.strip("<>"),
        "modelspec.trigger_phrase": concept.word,
    }
    if architecture := family(concept.family).architecture:
        metadata["modelspec.architecture"] = f"{architecture}/textual-inversion"
    if "license" in concept.facts:
        metadata["modelspec.license"] = str(concept.facts["license"])
    return metadata


def _read_again(path: Path, suffix: str, holds: dict[str, Any]) -> Any:
    """The data of the written file, by a reader that shares no code with the writer."""
    if suffix == ".safetensors":
        return _plain_safetensors(path.read_bytes())
    data = png_cards.read(path) if suffix == ".png" else torch_files.read(path)
    if isinstance(data, dict) and "ti_nb" not in holds:  # our facts, stored beside the vectors
        data.pop("ti_nb", None)
    return data if suffix != ".png" or _same(data, png_cards.pixels(path)) else None


def _plain_safetensors(data: bytes) -> dict[str, torch.Tensor]:
    """Float32 tensors, read by the format's description: header length, JSON header, bytes."""
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


def _equal(expected: Any, actual: Any) -> bool:
    """Whether the data read is bitwise the data written."""
    if isinstance(expected, torch.Tensor):
        values = actual if isinstance(actual, torch.Tensor) else actual.read()
        return values.shape == expected.shape and torch.equal(values, expected)
    if isinstance(expected, dict):
        return (
            isinstance(actual, dict)
            and expected.keys() == actual.keys()
            and all(_equal(expected[k], actual[k]) for k in expected)
        )
    return bool(expected == actual)


def _same(a: Any, b: Any) -> bool:
    """Whether the data from a card's text and pixels agree."""
    if isinstance(a, png_cards.LoadedTensor):
        return isinstance(b, png_cards.LoadedTensor) and torch.equal(a.values, b.values)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(_same(a[k], b[k]) for k in a)
    return bool(a == b)
