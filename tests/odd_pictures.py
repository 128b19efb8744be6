"""Odd files of pictures, made from their formats' descriptions: colour profiles, chunks, bits that Pillow does not write."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence

import numpy as np
from PIL import Image

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\nshowpage\n%%EOF\n"
PSD = b"8BPS\0\1" + bytes(6) + b"\0\3" + b"\0\0\0\x08\0\0\0\x08\0\x08\0\3" + bytes(14) + b"\x7f" * 192
HEIC_HEAD = b"\0\0\0\x18ftypheic" + bytes(64)
LINEAR = b"para\0\0\0\0" + struct.pack(">HHi", 0, 0, 1 << 16)
AS_SRGB = b"para\0\0\0\0" + struct.pack(
    ">HH5i", 3, 0, *(round(v * 65536) for v in (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045))
)
P3 = {b"rXYZ": (0.51512, 0.2412, -0.00105), b"gXYZ": (0.29198, 0.69225, 0.04189), b"bXYZ": (0.1571, 0.06657, 0.78407)}
SRGB = {b"rXYZ": (0.4360, 0.2225, 0.0139), b"gXYZ": (0.3851, 0.7169, 0.0971), b"bXYZ": (0.1431, 0.0606, 0.7139)}


def contents(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def profile(primaries: dict[bytes, tuple[float, float, float]] | None, curve: bytes, padding: int = 0) -> bytes:
    """A profile of a display with these primaries (D50), or for grey if there are none; `padding` bytes say nothing."""
    text = b"mluc\0\0\0\0" + struct.pack(">II", 1, 12) + b"enUS" + struct.pack(">II", 4, 28) + "ti".encode("utf-16-be")
    tags = {b"desc": text, b"cprt": text, b"wtpt": _xyz(0.9642, 1, 0.8249)}
    if primaries:
        tags |= {name: _xyz(*value) for name, value in primaries.items()}
        tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    else:
        tags[b"kTRC"] = curve
    if padding:
        tags[b"xtra"] = b"data\0\0\0\0\0\0\0\1" + np.random.default_rng(0).bytes(padding)
    at, table, body = 132 + 12 * len(tags), b"", b""
    for name, data in tags.items():
        table += name + struct.pack(">II", at + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    body = struct.pack(">I", len(tags)) + table + body
    space = b"RGB " if primaries else b"GRAY"
    head = struct.pack(">I4sI4s4s4s", 128 + len(body), bytes(4), 0x04000000, b"mntr", space, b"XYZ ")
    white = struct.pack(">iii", 63190, 65536, 54061)
    return (head + bytes(12) + b"acsp" + bytes(28) + white).ljust(128, b"\0") + body


def _xyz(*values: float) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(struct.pack(">i", round(v * 65536)) for v in values)


def exif_block(*entries: tuple[int, int, int, bytes]) -> bytes:
    """EXIF of (tag, type, count, four bytes), whatever they say."""
    packed = b"".join(struct.pack(">HHI", tag, kind, count) + value for tag, kind, count, value in entries)
    return b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", len(entries)) + packed + bytes(4)


def chunk(kind: bytes, body: bytes, sound: bool = True) -> bytes:
    """Of a PNG; its checksum is wrong if it is not `sound`."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body) ^ (not sound))


def with_chunks(png: bytes, *chunks: bytes) -> bytes:
    """A PNG with more chunks after its first."""
    return png[:33] + b"".join(chunks) + png[33:]


def chunks_in(png: bytes) -> list[bytes]:
    """The kinds of a PNG's chunks."""
    out, at = [], 8
    while at < len(png):
        length, kind = struct.unpack(">I4s", png[at : at + 8])
        out.append(kind)
        at += 12 + length
    return out


def png_that_claims(width: int, height: int, depth: int = 16, colour: int = 0) -> bytes:
    """A PNG of so many pixels, of which it has none."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")


def grey_tiff(values: np.ndarray) -> bytes:
    """A TIFF of one channel of any numbers, which says their kind (unsigned, signed, float)."""
    height, width = values.shape
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    data = values.astype(values.dtype.newbyteorder("<")).tobytes()
    tags = [(256, 4, width), (257, 4, height), (258, 3, values.itemsize * 8), (259, 3, 1), (262, 3, 1), (273, 4, 8)]
    tags += [(277, 3, 1), (278, 4, height), (279, 4, len(data)), (339, 3, kind)]
    table = b"".join(struct.pack("<HHII", tag, form, 1, value) for tag, form, value in tags)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(tags)) + table + bytes(4)


def animation(form: str, colours: Sequence[str]) -> bytes:
    frames = [Image.new("RGB", (8, 8), colour) for colour in colours]
    return contents(frames[0], form, save_all=True, append_images=frames[1:])
