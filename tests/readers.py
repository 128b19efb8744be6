"""Readers of embedding files that share no code with `ti_nb`: what other programs find in a file we wrote.

Each follows a program's rules as its source has them (read in 2026), in our own words:

- AUTOMATIC1111 `modules/textual_inversion/{textual_inversion,image_embedding}.py`, `modules/safe.py`
- Forge `backend/text_processing/textual_inversion.py` (its `modules/safe.py` checks nothing)
- ComfyUI `comfy/sd1_clip.py`
- InvokeAI `backend/model_manager/configs/textual_inversion.py` (on import), `backend/textual_inversion.py` (on use)
- kohya's sd-scripts `gen_img.py`
- OneTrainer `modules/modelLoader/mixin/EmbeddingLoaderMixin.py`, `modules/modelSetup/BaseStableDiffusion{,XL}Setup.py`
- SD.Next `modules/textual_inversion/textual_inversion.py`
- stable-diffusion.cpp `src/conditioning/conditioner.hpp`, `src/model_io/`

AUTOMATIC1111's and ComfyUI's give the word's name and its vectors, (n, width) float32 under the encoder's key; the others
take the widths of a model's encoders by key, and give the vectors that each of them gets.
"""

from __future__ import annotations

import base64
import io
import json
import pickletools
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

Vectors = dict[str, torch.Tensor]
Widths = Mapping[str, int]
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


def a1111(path: str | Path, release: str = "1.10") -> tuple[str, Vectors]:
    """As AUTOMATIC1111 loads an embedding: the file's name is the word, but a picture says its own.

    Raises:
        Refused: such as one that it takes for an attack.
    """
    if Path(path).suffix.lower() in (".bin", ".pt"):
        _a1111_safe(Path(path), A1111_PARTS[release])
    return forge(path)


def forge(path: str | Path) -> tuple[str, Vectors]:
    """As Forge loads an embedding, which is as AUTOMATIC1111 does but for its check of pickles."""
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


# The parts of an archive that it knows, beside the numbers; those of torch 2.1 since 1.9.
A1111_PARTS = {
    "1.8": {"data.pkl", "version"},
    "1.10": {"data.pkl", "version", "byteorder", ".data/serialization_id"},
}
A1111_NAMES = {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
    "torch.nn.modules.container ParameterDict",
    "__builtin__ set",
    *(f"torch {kind}Storage" for kind in ("Float", "Half", "Int", "Long", "Double", "Byte", "BFloat16")),
}


def _a1111_safe(path: Path, known: set[str]) -> None:
    """Refuse an archive with any part, and a pickle with any name, that is not on AUTOMATIC1111's lists."""
    if not zipfile.is_zipfile(path):  # before torch 1.6: five pickles, one behind the other
        return _a1111_names(path.read_bytes(), 5)
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            root, _, part = name.partition("/")
            if not root or not (part in known or re.fullmatch(r"data/\d+", part)):
                raise Refused(f"bad file inside: {name}")
            if part == "data.pkl":
                _a1111_names(archive.read(name), 1)


def _a1111_names(data: bytes, pickles: int) -> None:
    stream = io.BytesIO(data)
    for _ in range(pickles):
        for op, argument, _ in pickletools.genops(stream):
            if "GLOBAL" in op.name and argument not in A1111_NAMES:
                raise Refused(f"global {argument} is forbidden")


def a1111_finds(name: str, prompt: str, tokenizer: Any) -> bool:
    """Whether AUTOMATIC1111 finds the word in the prompt: its tokens among the prompt's."""
    said, word = (tokenizer(text, add_special_tokens=False).input_ids for text in (prompt, name))
    return any(said[i : i + len(word)] == word for i in range(len(said)))


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
    if not zipfile.is_zipfile(path):
        raise Refused("no archive")
    with zipfile.ZipFile(path) as archive:
        for name in reversed([n for n in archive.namelist() if "data/" in n]):
            data = archive.read(name)
            count = len(data) // 4
            if count >= 768:
                width = 768 if count % 768 == 0 else 1024
                numbers = np.frombuffer(data, "<f4", count // width * width)
                return torch.from_numpy(numbers.reshape(-1, width).copy())
    raise Refused("no numbers in the file")


def invoke_importer(path: Path, widths: Widths) -> Vectors:
    """As InvokeAI takes a file into its models: which base it is for is told from one tensor's sizes."""
    state = _state(path, (".safetensors", ".bin", ".pt", ".ckpt"))
    tensors = all(isinstance(value, torch.Tensor) for value in state.values())
    if not state.keys() & {"string_to_param", "emb_params", "clip_g"} and not (len(state) < 10 and tensors):
        raise Refused("does not look like an embedding")
    if "string_to_token" in state:
        dim = next(iter(state["string_to_param"].values())).shape[-1]
    elif key := next((key for key in ("emb_params", "clip_g") if key in state), None):
        dim = state[key].shape[-1]
    else:
        dim = next(iter(state.values())).shape[0]  # as of a tensor of one dimension
    if dim != max(widths.values()):
        raise Refused(f"unrecognized token dimension {dim}")
    return invoke_loader(path, widths)


def invoke_loader(path: Path, widths: Widths) -> Vectors:
    """As InvokeAI loads an embedding that is among its models."""
    state = _state(path, (".safetensors", ".bin", ".pt", ".ckpt"))
    if "string_to_param" in state:
        found = [next(iter(state["string_to_param"].values()))]
    elif "emb_params" in state:
        found = [state["emb_params"]]
    elif "clip_g" in state and "clip_l" in state:
        found = [state["clip_g"], state["clip_l"]]
    else:
        found = [_rows(next(iter(state.values())))]
    return _by_width(found, widths)


def kohya(path: Path, widths: Widths) -> Vectors:
    """As kohya's image generator takes `--textual_inversion_embeddings`; the file's name is the word."""
    state = _state(path)
    state = state.get("string_to_param", state)
    if "clip_g" in widths:
        return {key: _two_dimensions(_named(state, key)) for key in ("clip_l", "clip_g")}
    return {key: _two_dimensions(next(iter(state.values()))) for key in widths}


def onetrainer(path: Path, widths: Widths) -> Vectors:
    """As OneTrainer goes on with an embedding: by the names that it writes itself."""
    state = _state(path)
    names = {key: key for key in widths} if "clip_g" in widths else {next(iter(widths)): "emp_params"}
    return {key: _two_dimensions(_named(state, name)) for key, name in names.items()}


def sdnext(path: Path, widths: Widths) -> Vectors:
    """As SD.Next loads an embedding into a diffusers pipeline: vectors go where they are as wide."""
    if path.suffix.lower() not in (".safetensors", ".pt"):
        raise Refused(f"{path.suffix} is not looked at")
    state = _state(path)
    held = list(state.values()) if path.suffix.lower() == ".safetensors" else [_named(state, "string_to_param")["*"]]
    found = [_two_dimensions(rows) for rows in held]
    if len(found) > len(widths) or (len(found) < len(widths) and len(found) != 2):
        raise Refused("skipped: not as many vectors as encoders")
    return _by_width(found, widths)


def sd_cpp(path: Path, widths: Widths) -> Vectors:
    """As stable-diffusion.cpp takes a file of `--embd-dir`: whatever is as wide as an encoder's is its vectors."""
    state = _state(path, (".safetensors", ".pt"))
    held = [rows for value in state.values() for rows in (value.values() if isinstance(value, dict) else [value])]
    found = {rows.shape[-1]: _rows(rows) for rows in held if isinstance(rows, torch.Tensor)}
    if not found.keys() & {next(iter(widths.values()))}:
        raise Refused("no vectors for the first encoder")
    return {key: found[width] for key, width in widths.items() if width in found}


PROGRAMS: dict[str, Callable[[Path, Widths], Vectors]] = {
    "AUTOMATIC1111 1.8": lambda path, widths: _expected(a1111(path, "1.8")[1], widths),
    "AUTOMATIC1111 1.10": lambda path, widths: _expected(a1111(path)[1], widths),
    "Forge": lambda path, widths: _expected(forge(path)[1], widths),
    "ComfyUI": lambda path, widths: comfyui(path, widths)[1],
    "InvokeAI importer": invoke_importer,
    "InvokeAI loader": invoke_loader,
    "kohya": kohya,
    "OneTrainer": onetrainer,
    "SD.Next": sdnext,
    "stable-diffusion.cpp": sd_cpp,
}


def _state(path: Path, endings: tuple[str, ...] = ()) -> dict[str, Any]:
    """What a file holds, by its ending; one of no other ending than these, if any are given."""
    if endings and path.suffix.lower() not in endings:
        raise Refused(f"{path.suffix} is not looked at")
    if path.suffix.lower() == ".safetensors":
        return dict(safetensors(path)[1])
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise Refused(f"not loaded: {type(error).__name__}") from error
    assert isinstance(found, dict)
    return found


def _named(state: Mapping[str, Any], name: str) -> Any:
    if name not in state:
        raise Refused(f"no {name!r}")
    return state[name]


def _rows(tensor: torch.Tensor) -> torch.Tensor:
    rows = tensor.detach().float()
    return rows[None] if rows.ndim == 1 else rows


def _two_dimensions(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.ndim != 2:
        raise Refused("takes each number for a vector")
    return tensor.detach().float()


def _by_width(found: Iterable[torch.Tensor], widths: Widths) -> Vectors:
    """The encoders' vectors, each those that are as wide."""
    tensors = {rows.shape[-1]: rows.detach().float() for rows in found}
    if not tensors.keys() <= set(widths.values()):
        raise Refused(f"widths {sorted(tensors)} for a model of {dict(widths)}")
    return {key: tensors[width] for key, width in widths.items() if width in tensors}


def _expected(found: Vectors, widths: Widths) -> Vectors:
    """What AUTOMATIC1111 keeps for a model: embeddings of another width are skipped."""
    if sum(rows.shape[-1] for rows in found.values()) != sum(widths.values()):
        raise Refused("skipped: for another model")
    return {key: found[ALONE] for key in widths} if ALONE in found else found
