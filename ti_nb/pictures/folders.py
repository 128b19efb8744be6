"""Finds pictures in folders, and the files of captions and masks beside them."""

from __future__ import annotations

import codecs
import os
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

from PIL import Image

from ..errors import InvalidValue, NoSuchFile
from ..host.plain_text import place, plain
from .colours import Say
from .picture import FORMATS, HEIC, Picture, is_heic, reads_heic

CAPTIONS = (".caption", ".txt")  # the last wins where there are both
MASKS = "masks"  # the folder beside the pictures with masks of the same names
HEIC_SUFFIXES = {".heic", ".heif", ".hif", ".heics", ".heifs"}
RAW_SUFFIXES = {
    ".dng",
    ".nef",
    ".nrw",
    ".cr2",
    ".cr3",
    ".crw",
    ".arw",
    ".srf",
    ".raf",
    ".orf",
    ".rw2",
    ".pef",
    ".srw",
    ".3fr",
}
UNREAD_SUFFIXES = {
    ".psd",
    ".xcf",
    ".svg",
    ".eps",
    ".ai",
    ".pdf",
    ".jxl",
    ".jp2",
    ".j2k",
    ".tga",
    ".exr",
    ".hdr",
    ".ico",
    ".icns",
}
MAX_CAPTION_BYTES = 1 << 16  # of a caption file

NamedPictures = list[tuple[str, Picture]]
Skipped = list[tuple[str, str]]


def find_pictures(source: Picture | Iterable[Picture]) -> tuple[NamedPictures, Skipped]:
    """(name, picture) pairs in a fixed order, not decoded; and (name, reason) of what else is in a folder."""
    if isinstance(source, (str, Path)):
        path = Path(source).expanduser().absolute()
        if not path.exists():
            raise NoSuchFile(f"no such folder or picture: {place(Path(source).expanduser())}")
        return _find_in_folder(path) if path.is_dir() else ([(shown(path), path)], [])
    if isinstance(source, (bytes, bytearray, memoryview, Image.Image)):
        source = [source]  # type: ignore[list-item]
    if isinstance(source, Mapping) or not (isinstance(source, Iterable) or hasattr(source, "__getitem__")):
        raise InvalidValue(f"source is of type {type(source).__name__}: give a folder, or paths, PIL pictures or bytes")
    return [_named(item, number) for number, item in enumerate(list(source), 1)], []


def captions_from_files(pictures: NamedPictures, skipped: Skipped, notes: list[str]) -> tuple[list[str], Skipped]:
    """A caption for each picture, [] if none has one; and `skipped` without the caption files."""
    files = [text for text, _ in beside(pictures)]
    captions = [read_caption(path, notes.append) if path else "" for path in files]
    without = [name for (name, _), caption in zip(pictures, captions) if not caption]
    if without:
        notes.append(
            f"no caption for {_listed(without)}: no file of its name in {' or '.join(CAPTIONS)}, or an empty one"
        )
    used = {shown(path) for path in files if path}
    return captions if any(captions) else [], [(name, why) for name, why in skipped if name not in used]


def masks_from_files(pictures: NamedPictures, skipped: Skipped, notes: list[str]) -> tuple[list[Path | None], Skipped]:
    """A mask for each picture, None where it has none; and `skipped` without the folder of masks."""
    files = [mask for _, mask in beside(pictures)]
    without = [name for (name, _), path in zip(pictures, files) if path is None]
    if without:
        notes.append(f"no mask for {_listed(without)}: no picture of its name in a folder '{MASKS}' beside it")
    if unused := _unused_masks(pictures, files):
        notes.append(f"no picture for {_listed(unused)}")
    return files, [(name, why) for name, why in skipped if name != MASKS or not any(files)]


def beside(items: Sequence[tuple[str, Picture]]) -> list[tuple[Path | None, Path | None]]:
    """For each picture its caption file and its mask file, or None; each folder is listed once."""

    @cache
    def texts(folder: Path) -> dict[str, Path]:
        return {
            _normalized(path.stem): path for ending in CAPTIONS for path in _files(folder) if _ending(path) == ending
        }

    @cache
    def masks(folder: Path) -> dict[str, Path]:
        return {_normalized(path.stem): path for path in _files(folder / MASKS) if not _reason_to_skip(path)}

    def named_as(path: Path, listed: dict[str, Path]) -> Path | None:
        return listed.get(_normalized(path.stem)) or listed.get(_normalized(path.name))  # cat.txt, or cat.png.txt

    paths = [Path(item).expanduser().absolute() if isinstance(item, (str, Path)) else None for _, item in items]
    return [(named_as(p, texts(p.parent)), named_as(p, masks(p.parent))) if p else (None, None) for p in paths]


def read_caption(path: Path, say: Say) -> str:
    """The text of a file on one line, in any encoding that editors write.

    Raises:
        ValueError: the encoding can't be told, or it is not text; the message names the file.
    """
    name = shown(path)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_CAPTION_BYTES + 1)
    except OSError as error:
        raise InvalidValue(f"{name} can't be read ({error.strerror or error})") from error
    if len(data) > MAX_CAPTION_BYTES:
        raise InvalidValue(f"{name} has more than {MAX_CAPTION_BYTES >> 10} KiB, too much for a caption")
    try:
        text = _as_text(data, lambda note: say(f"{name}: {note}"))
    except UnicodeError as error:
        raise InvalidValue(f"{name} is in an encoding that can't be told: save it as UTF-8") from error
    return " ".join(text.replace("\ufeff", "").split())


def shown(path: Path) -> str:
    """A file's name, printable even if it is not valid text."""
    return plain(os.fsencode(path.name).decode("utf-8", "replace"))


def _unused_masks(items: Sequence[tuple[str, Picture]], used: Iterable[Path | None]) -> list[str]:
    """Files in the folders of masks that belong to no picture."""
    folders = {Path(item).expanduser().absolute().parent / MASKS for _, item in items if isinstance(item, (str, Path))}
    kept = set(used)
    return [f"{MASKS}/{shown(path)}" for folder in sorted(folders) for path in _files(folder) if path not in kept]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} others" if len(names) > 5 else "")


def _as_text(data: bytes, say: Say) -> str:
    marks = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32"}
    marks |= {
        codecs.BOM_UTF16_LE: "utf-16",
        codecs.BOM_UTF16_BE: "utf-16",
    }  # checked last, as UTF-32's LE mark begins with UTF-16's
    encoding = next((encoding for mark, encoding in marks.items() if data.startswith(mark)), "utf-8")
    if encoding == "utf-8" and b"\0" in data:  # UTF-16 without BOM: every other byte of plain text is 0
        encoding = "utf-16-le" if data[1:2] == b"\0" else "utf-16-be"
    try:
        text = data.decode(encoding)
    except UnicodeError:
        if encoding != "utf-8":
            raise
        text = _as_cp1252(data)
        say("it is not in UTF-8 and was read as cp1252")
    if "\0" in text:
        raise UnicodeError("not text")
    return text


def _as_cp1252(data: bytes) -> str:
    """Decoded as cp1252, the old encoding of Windows in western Europe.

    Almost any bytes decode so: with over a third of non-ASCII letters it must be another alphabet's encoding.
    """
    text = data.decode("cp1252")
    letters = [letter for letter in text if letter.isalpha()]
    if 3 * sum(not letter.isascii() for letter in letters) > len(letters):
        raise UnicodeError("another alphabet")
    return text


def _named(item: Picture, number: int) -> tuple[str, Picture]:
    if isinstance(item, (bytearray, memoryview)):
        item = bytes(item)
    if not isinstance(item, (str, Path, bytes, Image.Image)):
        raise InvalidValue(f"picture {number} is a {type(item).__name__}: give a path, a PIL picture or bytes")
    return (shown(Path(item)) if isinstance(item, (str, Path)) else f"picture {number}", item)


def _find_in_folder(folder: Path) -> tuple[NamedPictures, Skipped]:
    why = {path: _reason_to_skip(path) for path in sorted(folder.iterdir(), key=lambda path: path.name)}
    pictures: NamedPictures = [(shown(path), path) for path, reason in why.items() if not reason]
    stems = {_normalized(stem) for path, reason in why.items() if not reason for stem in (path.stem, path.name)}
    for path, reason in why.items():
        if reason and _ending(path) in CAPTIONS and _normalized(path.stem) in stems:
            why[path] = 'a caption, which is read with captions="files"'
        elif reason and path.name == MASKS and path.is_dir():
            why[path] = 'masks, which are read with masks="files"'
    return pictures, [(shown(path), reason) for path, reason in why.items() if reason]


def _reason_to_skip(path: Path) -> str:
    """Why a path in a folder is not a picture we read, "" if it is; judged by its first bytes and its suffix."""
    if path.name.startswith("."):
        return "hidden"
    if not path.is_file():
        return "a folder" if path.is_dir() else "a link to nothing" if path.is_symlink() else "no file"
    ending, head = _ending(path), _head(path)
    if _begins_as_picture(head):
        return ""
    if ending in HEIC_SUFFIXES or is_heic(head):
        return "" if reads_heic() else HEIC
    if Image.registered_extensions().get(ending) in FORMATS:
        return ""
    if ending in RAW_SUFFIXES:
        return "a camera's raw data: export it as JPEG"
    if ending in UNREAD_SUFFIXES:
        return f"{ending[1:].upper()} is not read: export it as PNG or JPEG"
    return (
        "" if not ending and head[:4] in (b"II*\0", b"MM\0*") else "not a picture"
    )  # without a suffix a TIFF may be raw data too


def _begins_as_picture(head: bytes) -> bool:
    starts = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a")
    return head.startswith(starts) or (head[:4], head[8:12]) == (b"RIFF", b"WEBP") or head[4:12] == b"ftypavif"


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(16)
    except OSError:
        return b""  # reported when the picture is read


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))


def _ending(path: Path) -> str:
    return path.suffix.lower()


def _normalized(name: str) -> str:
    """Unicode NFC: macOS stores accents as separate characters."""
    return unicodedata.normalize("NFC", name)


def fresh_folder(folder: Path) -> Path:
    """`folder` if it is empty, else the first of folder-2, folder-3, ... that does not exist; it is created."""
    if folder.is_dir() and any(folder.iterdir()):
        number = 2
        while (other := folder.with_name(f"{folder.name}-{number}")).exists():
            number += 1
        folder = other
    folder.mkdir(parents=True, exist_ok=True)
    return folder
