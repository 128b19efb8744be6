"""Reads files of `torch.save` without running any code in them.

This module finds the pickle and the storages in the file; `safe_pickle` interprets the pickle. Only the values a tensor
shows are read: a row that is a view of a whole matrix costs a row.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import NotAConcept
from ..host.plain_text import quoted
from .safe_pickle import MAX_TENSOR_BYTES, Storage, run

MAX_PICKLE_BYTES = 1 << 20  # of a pickle: a word's is under 1 kB, a whole model's under this
MAX_TABLE_BYTES = 1 << 20  # of a zip's directory: a whole model's is a tenth of this
MAX_CHECKED_BYTES = 1 << 23  # storages up to this size have their checksum compared; of larger ones only a part is read
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # first object in files before torch 1.6


def read(path: str | Path) -> Any:
    """The object that `torch.save` wrote, its tensors as `safe_pickle.Tensor`.

    Raises:
        NotAConcept: it is not such a file, it is damaged, or it would do more than build tensors.
    """
    try:
        with BoundedFile(path) as file:
            is_zip = file.read(2) == b"PK"
            file.seek(0)
            return _read_zip(file) if is_zip else _read_legacy(file)
    except NotAConcept:
        raise
    except Exception as error:  # damaged data can raise anything, and the message may quote the file
        raise NotAConcept(f"it is damaged ({type(error).__name__}): fetch it again") from None


class BoundedFile(io.FileIO):
    """A file that refuses to read over `most` bytes at once, whatever sizes its own tables claim."""

    def __init__(self, path: str | Path) -> None:
        super().__init__(path, "rb")
        self.path, self.most = path, MAX_TENSOR_BYTES

    def read(self, count: int | None = -1) -> bytes:
        """As of any file; raises NotAConcept above the limit."""
        wanted = self.most + 1 if count is None or count < 0 else count
        if wanted > self.most + 1:
            raise NotAConcept(f"it claims a part of {wanted} bytes")
        data = super().read(wanted) or b""
        if len(data) > self.most:
            raise NotAConcept("a part of it is too large for a word")
        return data


def _read_zip(file: BoundedFile) -> Any:
    file.most = MAX_TABLE_BYTES
    with zipfile.ZipFile(file) as archive:
        file.most = MAX_TENSOR_BYTES
        entries = {info.filename: info for info in archive.infolist()}
        if len(entries) < len(archive.infolist()):
            raise NotAConcept("two of its parts have one name: it is damaged, or made to mislead")
        pickles = [name for name in entries if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(pickles) != 1:
            raise NotAConcept("it is a zip file, but none that torch.save wrote: unpack it and give the file within")
        root = pickles[0].removesuffix("data.pkl")
        if any(name.startswith(f"{root}code/") for name in entries) or f"{root}constants.pkl" in entries:
            raise NotAConcept("it is a TorchScript program, not a word's vectors")
        if f"{root}byteorder" in entries and _member_bytes(file, entries[f"{root}byteorder"], 16) != b"little":
            raise NotAConcept("its numbers are big-endian: save it again on an ordinary computer")

        def fetch(storage: Storage, at: int, count: int) -> bytes:
            info = entries.get(f"{root}data/{storage.key}")
            if info is None or storage.count * storage.dtype.itemsize > info.file_size:
                raise NotAConcept(f"the numbers of its storage {quoted(storage.key)} are missing or too few")
            with BoundedFile(file.path) as again:
                if info.file_size <= MAX_CHECKED_BYTES:
                    return _member_bytes(again, info, MAX_CHECKED_BYTES)[at : at + count]
                return _read_exactly(again, _member_start(again, info) + at, count)

        saved, _ = run(_member_bytes(file, entries[pickles[0]], MAX_PICKLE_BYTES), fetch)
        if isinstance(saved, dict) and archive.comment.startswith(b"{"):  # our facts
            saved.setdefault("ti_nb", archive.comment.decode(errors="replace"))
        return saved


def _member_bytes(file: BinaryIO, info: zipfile.ZipInfo, limit: int) -> bytes:
    """The bytes of a zip member, at most `limit`, its checksum compared."""
    if info.file_size > limit:
        raise NotAConcept(f"its part {quoted(info.filename)} says it is of {info.file_size} bytes, too many for a word")
    data = _read_exactly(file, _member_start(file, info), info.file_size)
    if zlib.crc32(data) != info.CRC:
        raise NotAConcept(f"its part {quoted(info.filename)} is damaged (its checksum differs): fetch the file again")
    return data


def _member_start(file: BinaryIO, info: zipfile.ZipInfo) -> int:
    """The offset of a zip member's bytes."""
    if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
        raise NotAConcept(f"its part {quoted(info.filename)} is compressed, which torch.save never does")
    header = _read_exactly(file, info.header_offset, 30)
    if header[:4] != b"PK\x03\x04":
        raise NotAConcept("its table of contents is damaged: fetch the file again")
    return info.header_offset + 30 + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")


def _read_exactly(file: BinaryIO, at: int, count: int) -> bytes:
    if at < 0 or count < 0:
        raise NotAConcept("its table of contents is damaged: fetch the file again")
    file.seek(at)
    data = file.read(count)
    if len(data) != count:
        raise NotAConcept("it ends too early: fetch the file again")
    return data


def _read_legacy(file: BoundedFile) -> Any:
    """Before torch 1.6: five pickles (magic number, version, system, object, storage keys), then each storage's bytes."""
    program = file.read(MAX_PICKLE_BYTES)
    offsets: dict[str, int] = {}

    def fetch(storage: Storage, at: int, count: int) -> bytes:
        if storage.key not in offsets:
            raise NotAConcept(f"the numbers of its storage {quoted(storage.key)} are missing")
        with BoundedFile(file.path) as again:
            if int.from_bytes(_read_exactly(again, offsets[storage.key], 8), "little") < storage.count:
                raise NotAConcept(f"the numbers of its storage {quoted(storage.key)} are too few")
            return _read_exactly(again, offsets[storage.key] + 8 + at, count)

    storages: dict[str, Storage] = {}
    magic, at = run(program, fetch)
    if magic != LEGACY_MAGIC:
        raise NotAConcept("it is a pickle that torch.save did not write")
    parts = []
    for _ in range(4):
        part, used = run(program[at:], fetch, storages)
        parts.append(part)
        at += used
    _, system, saved, keys = parts
    if not (isinstance(system, dict) and system.get("little_endian", True) and isinstance(keys, list)):
        raise NotAConcept("its numbers are big-endian, or its table is damaged")
    for key in keys:
        offsets[key] = at
        at += 8 + storages[key].count * storages[key].dtype.itemsize
    return saved
