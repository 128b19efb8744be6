"""Concepts to disk and back, in the format diffusers reads: safetensors of {word: (n, width)}.

Writing is atomic and checked: the file is read again by diffusers' own reader's rules before its name is given.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from .concept import Concept


def save(concept: Concept, path: str | Path) -> Path:
    """Write `concept` so that `pipe.load_textual_inversion(path)` loads it; returns the path.

    The file appears under its name only when whole, and only after it was read back equal.

    Raises:
        ValueError: the name does not end in .safetensors.
    """
    path = Path(path).expanduser()
    if path.suffix != ".safetensors":
        raise ValueError(f"'{path}' must end in .safetensors, the one format that is safe to share")
    path.parent.mkdir(parents=True, exist_ok=True)
    facts = {key: value for key, value in concept.facts.items()}
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=".tmp")
    os.close(handle)
    try:
        save_file({concept.word: concept.vectors.contiguous()}, temporary, {"format": "pt", "ti_nb": json.dumps(facts)})
        written = load_file(temporary)
        if list(written) != [concept.word] or not torch.equal(written[concept.word], concept.vectors):
            raise OSError(f"'{path}' did not read back as it was written: is the disk full?")
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return path


def load(path: str | Path, *, word: str | None = None) -> Concept:
    """Read a concept from a diffusers safetensors file; `word` gives it another word.

    Raises:
        FileNotFoundError: there is no such file. ValueError: it is not a safetensors file of one concept.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"no such file: '{path}'")
    try:
        with safe_open(str(path), framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in list(file.keys())}
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"'{path}' is not a safetensors file ({error}); other formats are not read yet") from error
    if len(tensors) != 1:
        raise ValueError(
            f"'{path}' holds {len(tensors)} tensors ({', '.join(sorted(tensors)[:4])}): one word was expected"
        )
    ((found, vectors),) = tensors.items()
    vectors = vectors.float()
    if vectors.ndim == 1:
        vectors = vectors[None]
    return Concept(word or found, vectors, json.loads(metadata.get("ti_nb", "{}")))
