"""Readers of embedding files that share no code with `ti_nb`: what other programs find in a file we wrote.

Each follows a program's rules as its source has them (read in 2026), in our own words:
AUTOMATIC1111 `modules/textual_inversion/{textual_inversion,image_embedding}.py`, ComfyUI `comfy/sd1_clip.py`.
Each returns the word's name and its vectors, (n, width) float32 under the encoder's key.
"""

from __future__ import annotations

import base64
import json
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

Vectors = dict[str, torch.Tensor]
ALONE = ""  # the key of vectors that a program keeps for whichever encoder they fit
SAFETENSORS = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "I64": np.int64, "I32": np.int32}


class Refused(Exception):
    """The other program does not take the file."""


def safetensors(path: str | Path) -> tuple[dict[str, str], Vectors]:
    """A safetensors file's metadata and tensors, from the format's description: 8 bytes of length, JSON, numbers."""
    data = Path(path).read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    metadata = header.pop("__metadata__", {})
    return metadata, {key: _numbers(data[8 + length :], entry) for key, entry in header.items()}


def _numbers(body: bytes, entry: Mapping[str, Any]) -> torch.Tensor:
    start, end = entry["data_offsets"]
    raw = body[start:end]
    if entry["dtype"] == "BF16":  # the upper half of a float32
        flat = (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
    else:
        flat = np.frombuffer(raw, np.dtype(SAFETENSORS[entry["dtype"]]).newbyteorder("<"))
    return torch.from_numpy(flat.reshape(entry["shape"]).astype(np.float32))


def a1111(path: str | Path) -> tuple[str, Vectors]:
    """As AUTOMATIC1111 1.6 to 1.10 loads an embedding: the file's name is the word, but a picture says its own."""
    path = Path(path)
    name, data = path.stem, None
    if path.suffix.lower() == ".png":
        if Path(name).suffix.lower() == ".preview":
            raise Refused("a preview")
        data = card(path)
        name = data.get("name", name)
    elif path.suffix.lower() in (".bin", ".pt"):
        data = unpickled(path)
    elif path.suffix.lower() == ".safetensors":
        data = safetensors(path)[1]
    else:
        raise Refused(f"{path.suffix} is not looked at")
    return name, _a1111_vectors(data)


def _a1111_vectors(data: Any) -> Vectors:
    if "string_to_param" in data:
        found = getattr(data["string_to_param"], "_parameters", data["string_to_param"])
        if len(found) != 1:
            raise Refused("multiple terms")
        return {ALONE: next(iter(found.values())).detach().float()}
    if type(data) is dict and "clip_g" in data and "clip_l" in data:
        return {key: value.detach().float() for key, value in data.items()}
    if type(data) is dict and type(next(iter(data.values()))) is torch.Tensor:
        if len(data) != 1:
            raise Refused("multiple terms")
        rows = next(iter(data.values())).detach().float()
        return {ALONE: rows[None] if rows.ndim == 1 else rows}
    raise Refused("neither an embedding nor a diffusers concept")


def unpickled(path: str | Path) -> Any:
    """By torch's own unpickler, which runs what is in the file: for harmless ones only."""
    return torch.load(path, map_location="cpu", weights_only=False)


def card(path: str | Path) -> dict[str, Any]:
    """The embedding in a picture: its text says it in base64, else its margins do."""
    return card_text(path) or card_pixels(path)


def card_text(path: str | Path) -> dict[str, Any] | None:
    """What the picture's text chunk `sd-ti-embedding` holds; None if there is none."""
    for kind, body in png_chunks(Path(path).read_bytes()):
        if kind == b"tEXt" and body.startswith(b"sd-ti-embedding\0"):
            return _decoded(base64.b64decode(body.split(b"\0", 1)[1]))
    return None


def card_pixels(path: str | Path) -> dict[str, Any]:
    """What the picture's margins hold: half bytes in the lowest four bits, low ones at the left, high ones at the right.

    Black columns part the margins from the picture; each half byte is hidden under a fixed series of numbers.
    """
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    lit = (pixels > 0).all(2)
    columns, lines = np.flatnonzero(lit.any(0)), np.flatnonzero(lit.any(1))
    if not len(columns):
        raise Refused("a black picture")
    halves = pixels[lines[0] : lines[-1] + 1, columns[0] : columns[-1] + 1] & 15
    black = np.flatnonzero(halves.sum((0, 2)) == 0)
    if len(black) < 2:
        raise Refused("no embedding in the picture")
    low, high = halves[:, : black[0]], halves[:, black[-1] + 1 :]
    if low.shape != high.shape:
        raise Refused("margins of different widths")
    hidden = series(low.size).reshape(low.shape) & 15
    data = ((high ^ hidden) << 4 | (low ^ hidden)).astype(np.uint8).tobytes()
    return _decoded(zlib.decompressobj().decompress(data))


def series(count: int) -> np.ndarray:
    """The first `count` numbers of the linear congruential generator that hides a card's half bytes."""
    state, found = 0, np.empty(count, np.uint8)
    for i in range(count):
        state = (1664525 * state + 1013904223) % 2**32
        found[i] = state % 255
    return found


def _decoded(data: bytes) -> dict[str, Any]:
    def hook(found: dict[str, Any]) -> Any:
        return torch.from_numpy(np.array(found["TORCHTENSOR"])) if "TORCHTENSOR" in found else found

    return json.loads(data, object_hook=hook)


def png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and body of each chunk of a PNG, its checksum compared."""
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        raise Refused("not a PNG")
    at = 8
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        if struct.unpack(">I", data[at + 8 + length : at + 12 + length])[0] != zlib.crc32(kind + body):
            raise Refused(f"chunk {kind!r} is damaged")
        yield kind, body
        at += 12 + length


def comfyui(path: str | Path, widths: Mapping[str, int]) -> tuple[str, Vectors]:
    """As ComfyUI's tokenizers take `embedding:name`: for each encoder (key: width) the tensor it would get."""
    path = Path(path)
    return path.stem, {key: comfyui_tensor(path, key, width) for key, width in widths.items()}


def comfyui_tensor(path: Path, key: str, width: int) -> torch.Tensor:
    """The rows one encoder gets: under its own key, else whatever comes first; those of another width are passed over.

    Raises:
        Refused: no row is as wide as the encoder's.
    """
    if path.suffix.lower() == ".safetensors":
        found: Any = safetensors(path)[1]
    else:
        try:
            found = torch.load(path, map_location="cpu", weights_only=True)
        except Exception:  # as there: any reason
            found = {"": _comfyui_raw(path)}
    rows = _comfyui_chosen(found, key, width)
    rows = rows.detach().float()
    rows = rows[None] if rows.ndim == 1 else rows
    if rows.shape[-1] != width:
        raise Refused(f"shape mismatch: {rows.shape[-1]} is not {width}")
    return rows


def _comfyui_chosen(found: Any, key: str, width: int) -> torch.Tensor:
    if isinstance(found, list):
        rows = [t.reshape(-1, t.shape[-1]) for one in found for t in one.values() if t.shape[-1] == width]
        return torch.cat(rows)
    if "string_to_param" in found:
        return next(iter(found["string_to_param"].values()))
    if key in found:
        return found[key]
    for ending in (".string_to_param.*", f".{key}"):
        bundled = [t for name, t in found.items() if name.startswith("bundle_emb.") and name.endswith(ending)]
        if bundled:
            return torch.cat(bundled)
    return next(iter(found.values()))


def _comfyui_raw(path: Path) -> torch.Tensor:
    """Of a pickle it does not trust: the last storage with 768 numbers or more, taken for float32."""
    with zipfile.ZipFile(path) as archive:
        for name in reversed([n for n in archive.namelist() if "data/" in n]):
            data = archive.read(name)
            count = len(data) // 4
            if count >= 768:
                width = 768 if count % 768 == 0 else 1024
                numbers = np.frombuffer(data, "<f4", count // width * width)
                return torch.from_numpy(numbers.reshape(-1, width).copy())
    raise Refused("no numbers in the file")
