"""What must be nowhere in what a run leaves behind: the Hub's test tokens, and where a picture was taken."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

TOKEN = re.compile(rb"hf_test_\w+|hf_not_a_token")  # of tests/hub_server.py and tests/colab_stub
GPS = 0x8825
FROM_CAMERA = "from-camera"  # the folder of a test's own input that says where it was taken
LARGEST = 1 << 26  # bytes of a file that is looked through


def leaks_in(data: bytes) -> list[str]:
    """What `data` gives away."""
    found = ["a token"] if TOKEN.search(data) else []
    return found + (["the place where a picture was taken"] if _says_where(data) else [])


def leaks_under(folders: Iterable[Path]) -> list[str]:
    """Every file below the folders that gives something away, and what."""
    out = []
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_symlink() or not path.is_file() or FROM_CAMERA in path.parts or path.stat().st_size > LARGEST:
                continue
            out += [f"{path}: {what}" for what in leaks_in(path.read_bytes())]
    return out


def _says_where(data: bytes) -> bool:
    if not data.startswith((b"\xff\xd8\xff", b"\x89PNG", b"RIFF", b"II*\0", b"MM\0*")):
        return b"GPSLatitude" in data
    try:
        with Image.open(io.BytesIO(data)) as image:
            return bool(image.getexif().get_ifd(GPS)) or b"GPSLatitude" in data
    except Exception:  # no picture after all
        return False
