"""All that a machine with a GPU and no network needs, as files of a few MB; and what it made, in pieces to bring back."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm.auto import tqdm

from . import scenes

QUALITY = 85  # of WebP: 9 809 sprites in 32 MB
PIECE = 12_000_000  # bytes


def pack(build: Path, out: Path) -> None:
    """Write sprites and backgrounds as WebP, the tokenizer and the text encoder (float16) of `build` to `out`."""
    out.mkdir(parents=True, exist_ok=True)
    world = build / "world"
    scenes.Stock(world)  # draws the backgrounds and accessories
    for name in ("sprites", "backgrounds"):
        pixels = np.load(world / f"{name}.npy", mmap_mode="r")
        packed = [_as_webp(p) for p in tqdm(pixels.reshape(-1, *pixels.shape[-3:]), desc=name)]
        ends = np.cumsum([len(p) for p in packed])
        np.savez(out / f"{name}.npz", data=np.frombuffer(b"".join(packed), np.uint8), ends=ends, shape=pixels.shape)
    shutil.copy(world / "sprites.json", out)
    shutil.copy(world / "accessories.npy", out)
    shutil.copytree(build / "tokenizer", out / "tokenizer", dirs_exist_ok=True)
    weights = torch.load(build / "text.pt", map_location="cpu", weights_only=True)
    torch.save({k: v.half() if v.is_floating_point() else v for k, v in weights.items()}, out / "text.pt")
    size = sum(p.stat().st_size for p in out.rglob("*") if p.is_file())
    print(f"{out}: {size / 1e6:.1f} MB")


def unpack(packed: Path, build: Path) -> None:
    """Set up `build` from what `pack` wrote, and the finished autoencoder beside this file."""
    world = build / "world"
    world.mkdir(parents=True, exist_ok=True)
    for name in ("sprites", "backgrounds"):
        stored = np.load(packed / f"{name}.npz")
        shape, data = tuple(stored["shape"]), stored["data"].tobytes()
        starts = [0, *stored["ends"][:-1]]
        np.save(world / f"{name}.npy", np.stack([_from_webp(data[a:b], shape[-1]) for a, b in zip(starts, stored["ends"])]).reshape(shape))  # fmt: skip
    for name in ("sprites.json", "accessories.npy"):
        shutil.copy(packed / name, world)
    shutil.copytree(packed / "tokenizer", build / "tokenizer", dirs_exist_ok=True)
    weights = torch.load(packed / "text.pt", map_location="cpu", weights_only=True)
    torch.save({k: v.float() if v.is_floating_point() else v for k, v in weights.items()}, build / "text.pt")
    shutil.copytree(Path(__file__).parent / "vae", build / "vae", dirs_exist_ok=True)


def _as_webp(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "WEBP", quality=QUALITY, method=4, exact=True)
    return out.getvalue()


def _from_webp(data: bytes, channels: int) -> np.ndarray:
    picture = np.asarray(Image.open(io.BytesIO(data)).convert({3: "RGB", 4: "RGBA"}[channels])).copy()
    if channels == 4:  # premultiplied: no colour above its coverage
        np.minimum(picture[..., :3], picture[..., 3:], out=picture[..., :3])
    return picture


def split(generator: Path, out: Path) -> None:
    """The averaged weights of a generator's checkpoint, float16, as pieces of at most 12 MB."""
    saved = torch.load(generator / "checkpoint.pt", map_location="cpu", weights_only=True)
    data = io.BytesIO()
    torch.save({k: v.half() if v.is_floating_point() else v for k, v in saved["average"]["shadow"].items()}, data)
    out.mkdir(parents=True, exist_ok=True)
    whole = data.getvalue()
    for i in range(0, len(whole), PIECE):
        (out / f"weights.{i // PIECE}").write_bytes(whole[i : i + PIECE])
    print(
        f"step {saved['step']}, {saved['seconds']:.0f} s: {len(whole) / 1e6:.1f} MB in {-(-len(whole) // PIECE)} pieces"
    )


def join(pieces: Path, generator: Path) -> None:
    """Make of the pieces a checkpoint that `generator.load` reads."""
    whole = b"".join(p.read_bytes() for p in sorted(pieces.glob("weights.*"), key=lambda p: int(p.suffix[1:])))
    weights = torch.load(io.BytesIO(whole), map_location="cpu", weights_only=True)
    generator.mkdir(parents=True, exist_ok=True)
    torch.save({"average": {"shadow": {k: v.float() for k, v in weights.items()}}}, generator / "checkpoint.pt")
