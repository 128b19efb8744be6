"""Concepts to disk and back, in the formats other tools read.

SD 1.x and 2.x: safetensors of {word: (n, width)}, as diffusers writes it. SDXL: one safetensors file with "clip_l" and
"clip_g", as ComfyUI, AUTOMATIC1111 and diffusers' pivotal-tuning scripts have it. Writing is atomic and checked: the
file is read again before it gets its name.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes

from .concept import Concept

KEYS = ("clip_l", "clip_g")
KEY_OF_WIDTH = {1024: "clip_h"}


def save(concept: Concept, path: str | Path) -> Path:
    """Write `concept` so that other programs load it; returns the path.

    The file appears under its name only when whole, and only after it was read back equal. With one encoder,
    `pipe.load_textual_inversion(path)` loads it; with SDXL's two, see `load_into`.

    Raises:
        ValueError: the name does not end in .safetensors. OSError: it can't be written.
    """
    path = Path(path).expanduser()
    if path.suffix != ".safetensors":
        raise ValueError(f"'{path}' must end in .safetensors, the one format that is safe to share")
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {key: v.contiguous() for key, v in concept.vectors.items()}
    if len(tensors) == 1:
        tensors = {concept.word: next(iter(tensors.values()))}
    facts = {**concept.facts, "word": concept.word}
    with replacing(path) as temporary:
        temporary.write_bytes(to_bytes(tensors, {"format": "pt", "ti_nb": json.dumps(facts)}))
        written = load_file(temporary)
        if written.keys() != tensors.keys() or any(not torch.equal(written[k], v) for k, v in tensors.items()):
            raise OSError(f"'{path}' did not read back as it was written: is the disk full?")
    return path


def load(path: str | Path, *, word: str | None = None) -> Concept:
    """Read a concept from a safetensors file that `save`, diffusers or an SDXL tool wrote; `word` gives it another word.

    Raises:
        FileNotFoundError: there is no such file. ValueError: it is not a safetensors file of one concept.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"no such file: '{path}'")
    try:
        with safe_open(str(path), framework="pt") as file:
            tensors = {key: file.get_tensor(key).float() for key in list(file.keys())}
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"'{path}' is not a safetensors file ({error}); other formats are not read yet") from error
    vectors = {key: v[None] if v.ndim == 1 else v for key, v in tensors.items()}
    facts = json.loads(metadata.get("ti_nb", "{}"))
    said = facts.pop("word", None)
    if vectors.keys() == set(KEYS):
        return Concept(word or said or f"<{path.stem}>", {key: vectors[key] for key in KEYS}, facts)
    if len(vectors) != 1:
        raise ValueError(
            f"'{path}' holds {len(vectors)} tensors ({', '.join(sorted(vectors)[:4])}): one word was expected"
        )
    ((found, rows),) = vectors.items()
    return Concept(word or found, {KEY_OF_WIDTH.get(rows.shape[-1], "clip_l"): rows}, facts)


def load_into(pipeline: object, concept: Concept) -> None:
    """Load `concept` into a diffusers pipeline, each encoder's vectors into its own text encoder."""
    for (_, rows), suffix in zip(concept.vectors.items(), ("", "_2")):
        pipeline.load_textual_inversion(  # type: ignore[attr-defined]
            {concept.word: rows},
            token=concept.word,
            text_encoder=getattr(pipeline, f"text_encoder{suffix}"),
            tokenizer=getattr(pipeline, f"tokenizer{suffix}"),
        )


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
