"""Reads one picture: decoded fully, upright, in sRGB; crops it; reads a mask."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Union

from PIL import Image, UnidentifiedImageError
from PIL.JpegImagePlugin import jpeg_factory

from ..errors import InvalidValue, NoSuchFile
from ..host.plain_text import place
from .colours import Say, as_srgb

Picture = Union[str, Path, bytes, Image.Image]
Crop = tuple[int, int, int]  # left, top, side

# Pillow's other decoders never see a file: some are little tested, and PostScript's starts a program.
FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF")
HEIC = "HEIC, the format of iPhones: pip install pillow-heif, or export it as JPEG"
MAX_FILE_BYTES, MAX_PIXELS = 1 << 29, 1 << 26  # of one picture; 2**26 px are 0.2 GB as RGB
KEPT = 1536  # px: larger squares are reduced to this side
MAX_PROFILE_BYTES = 1 << 24  # of a colour profile, decompressed

ORIENTATION, GPS = 0x0112, 0x8825  # EXIF tags
TURNS = dict(
    zip(
        range(2, 9),
        (
            Image.Transpose.FLIP_LEFT_RIGHT,
            Image.Transpose.ROTATE_180,
            Image.Transpose.FLIP_TOP_BOTTOM,
            Image.Transpose.TRANSPOSE,
            Image.Transpose.ROTATE_270,
            Image.Transpose.TRANSVERSE,
            Image.Transpose.ROTATE_90,
        ),
    )
)


@dataclass(frozen=True)
class Photo:
    """A decoded picture.

    Attributes:
        picture: upright, in sRGB: "RGB", or "RGBA" if any of it is transparent.
        notes: what was wrong with the file and what was done about it.
        turned: whether it was turned upright, as its EXIF says. located: whether its metadata has a GPS position.
    """

    name: str
    picture: Image.Image
    notes: tuple[str, ...] = ()
    turned: bool = False
    located: bool = False

    @property
    def opacity(self) -> Image.Image | None:
        """The alpha channel as "L"; None if the picture is opaque everywhere."""
        return self.picture.getchannel("A") if self.picture.mode == "RGBA" else None


def read_photo(item: Picture, name: str) -> Photo:
    """Decode a picture fully, so that a truncated file is noticed here, and turn it upright.

    Raises:
        FileNotFoundError: no such file. ValueError: it can't be read as a picture.
    """
    data = b"" if isinstance(item, Image.Image) else _read_bytes(item, name)
    notes: list[str] = []
    try:
        stored = _load_checked(item) if isinstance(item, Image.Image) else _decoded(data, notes.append)
        turn, located = _read_exif(stored, notes.append)
        picture = as_srgb(stored, notes.append)
        picture = _turned(picture, turn) if turn is not None else picture
    except Exception as error:  # damaged data can raise anything
        raise InvalidValue(
            f"{name} can't be read as a picture ({_why(error, data)}): remove it or export it again"
        ) from error
    return Photo(name, picture, tuple(dict.fromkeys(notes)), turn is not None, located)


def read_mask(item: Picture, name: str) -> tuple[Image.Image, tuple[str, ...]]:
    """A mask as "L" (its alpha channel if it has one, else its brightness), and the notes."""
    photo = read_photo(item, name)
    return photo.opacity or photo.picture.convert("L"), photo.notes


def square(picture: Image.Image, crop: Crop | None = None) -> Image.Image:
    """The square `crop` (left, top, side), or the largest in the middle; reduced to at most `KEPT` px a side."""
    short = min(picture.size)
    left, top, side = crop or ((picture.width - short) // 2, (picture.height - short) // 2, short)
    out = picture.crop((left, top, left + side, top + side))
    out = out.resize((KEPT, KEPT), Image.Resampling.LANCZOS) if side > KEPT else out
    out.info = {}  # metadata of the camera and the place
    return out


def fitted(picture: Image.Image, size: int | tuple[int, int], how: Image.Resampling) -> Image.Image:
    """The largest part in the middle that has the shape of `size`, a side or (width, height) in px, resized to it."""
    width, height = (size, size) if isinstance(size, int) else size
    scale = min(picture.width / width, picture.height / height)
    wide, high = width * scale, height * scale
    left, top = (picture.width - wide) / 2, (picture.height - high) / 2
    return picture.resize((width, height), how, box=(left, top, left + wide, top + high))


def without_metadata(picture: Image.Image) -> Image.Image:
    """A copy with the pixels only: what Pillow would else save along (comments, profiles) is gone."""
    out = picture.copy()
    out.info = {}
    return out


def is_heic(head: bytes) -> bool:
    """Whether a file with these first bytes is HEIC (or another HEIF, but not AVIF)."""
    return head[4:8] == b"ftyp" and head[8:12] in (
        b"heic",
        b"heix",
        b"heim",
        b"heis",
        b"hevc",
        b"hevx",
        b"mif1",
        b"msf1",
    )


def reads_heic() -> bool:
    """Whether HEIC can be read here: pillow-heif is installed."""
    Image.init()
    if "HEIF" not in Image.OPEN:
        with contextlib.suppress(ImportError):
            from pillow_heif import register_heif_opener

            register_heif_opener()
    return "HEIF" in Image.OPEN


def _read_bytes(item: str | Path | bytes, name: str) -> bytes:
    if isinstance(item, (str, Path)):
        path = Path(item).expanduser()
        if path.is_dir():
            raise InvalidValue(f"{name} is a folder: give the folder alone, or the pictures in it")
        if not path.is_file():
            raise NoSuchFile(f"no such picture: {place(path)}")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InvalidValue(
                f"{name} has {path.stat().st_size >> 20} MiB, more than {MAX_FILE_BYTES >> 20}: export it smaller"
            )
        try:
            item = path.read_bytes()
        except OSError as error:
            raise InvalidValue(
                f"{name} can't be read ({error.strerror or error}): remove it or copy it again"
            ) from error
    if not item:
        raise InvalidValue(f"{name} is empty (0 bytes): remove it or copy it again")
    return item


def _decoded(data: bytes, say: Say) -> Image.Image:
    try:
        picture = _load_checked(_reduced(_opened(data), say))
    except Exception:  # the metadata may be damaged, or too long for Pillow
        if not data.startswith(b"\x89PNG"):
            raise
        essence, profile = _png_essentials(data)
        picture = _load_checked(_opened(essence))
        picture.info["icc_profile"] = profile
        say("some of its metadata is damaged or very long: it was left out")
    with contextlib.suppress(Exception):
        if picture.format not in ("MPO", "HEIF") and getattr(
            picture, "is_animated", False
        ):  # there, a phone's depth map
            say("it has several frames or pages: the first was taken")
    return picture


def _opened(data: bytes) -> Image.Image:
    if is_heic(data[:12]):
        reads_heic()
    Image.init()
    if data.startswith(
        b"\xff\xd8\xff"
    ):  # not by Image.open, which refuses large pictures before `_reduced` can see them
        return jpeg_factory(io.BytesIO(data))
    return Image.open(io.BytesIO(data), formats=[name for name in FORMATS if name in Image.OPEN])


def _reduced(picture: Image.Image, say: Say) -> Image.Image:
    """A JPEG above `MAX_PIXELS`, set to be decoded at half its size: phones take 108 and 200 megapixels.

    Not a progressive one, whose coefficients are all held in memory whatever size it is decoded at.
    """
    width, height = picture.size
    is_jpeg = picture.format in ("JPEG", "MPO") and "progressive" not in picture.info
    if is_jpeg and MAX_PIXELS < width * height <= 4 * MAX_PIXELS:
        picture.draft(picture.mode, (width // 2, height // 2))
        say(f"it has {width} x {height} px and was read at half its size, in whose px crops count")
    return picture


def _load_checked(picture: Image.Image) -> Image.Image:
    """The picture with its pixels decoded, once size and format are checked."""
    if not all(picture.size):
        raise InvalidValue("it has no pixels")
    if picture.width * picture.height > MAX_PIXELS:
        raise InvalidValue(f"{picture.width} x {picture.height} px are more than {MAX_PIXELS // 10**6} million")
    if getattr(picture, "tile", None) and getattr(picture, "format", None) not in FORMATS:
        raise InvalidValue(f"{picture.format} is not read here")
    picture.load()
    return picture


def _png_essentials(data: bytes) -> tuple[bytes, bytes | None]:
    """A PNG file reduced to its pixels, transparency and EXIF; and its colour profile.

    Pillow decompresses all text chunks while reading, and refuses a picture with long ones, such as ComfyUI writes.
    """
    kept, profile, at = [data[:8]], None, 8
    while at + 12 <= len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        body, end = data[at + 8 : at + 8 + length], at + 12 + length
        sound = data[end - 4 : end] == struct.pack(">I", zlib.crc32(kind + body))
        if kind in (b"IHDR", b"PLTE", b"IDAT", b"IEND") or (kind in (b"tRNS", b"eXIf") and sound):
            kept.append(data[at:end])
        elif kind == b"iCCP" and sound:
            profile = _decompress(body.partition(b"\0")[2][1:])
        at = end
    return b"".join(kept), profile


def _decompress(packed: bytes) -> bytes | None:
    """The data, or None if it is damaged or over `MAX_PROFILE_BYTES`."""
    unpacker = zlib.decompressobj()
    with contextlib.suppress(zlib.error):
        out = unpacker.decompress(packed, MAX_PROFILE_BYTES)
        return out if unpacker.eof else None
    return None


def _read_exif(picture: Image.Image, say: Say) -> tuple[Image.Transpose | None, bool]:
    """The transpose that turns it upright, and whether EXIF or XMP holds a GPS position."""
    xmp = (picture.info.get(key) for key in ("xmp", "XML:com.adobe.xmp"))
    turn, located = None, any("GPSL" in str(text) for text in xmp)  # latitude, longitude
    try:
        exif = picture.getexif()
        turn = TURNS.get(exif.get(ORIENTATION, 1))
        located = located or bool(exif.get_ifd(GPS))
    except Exception:  # damaged data can raise anything
        say("its EXIF is damaged" + (": it was taken as it lies" if turn is None else ""))
    return turn, located


def _turned(picture: Image.Image, turn: Image.Transpose) -> Image.Image:
    """The picture upright, without what said how it lay: whoever reads it again would turn it again."""
    out = picture.transpose(turn)
    out.info = {}
    return out


def _why(error: Exception, data: bytes) -> str:
    if isinstance(error, UnidentifiedImageError | SyntaxError):  # the second is Pillow's, of a JPEG
        return HEIC if is_heic(data[:12]) and not reads_heic() else "no known format"
    if isinstance(error, Image.DecompressionBombError):
        return f"its pixels are more than {MAX_PIXELS // 10**6} million"
    return str(error)[:200] or type(error).__name__
