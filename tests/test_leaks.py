"""What must not leave a machine is found where it is, so that its absence elsewhere means something."""

from __future__ import annotations

import subprocess
from pathlib import Path

from PIL import Image

from tests.leaks import FROM_CAMERA, leaks_in, leaks_under

ROOT = Path(__file__).parents[1]


def located(path: Path) -> Path:
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 51.0, 29.6)})
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(path, exif=exif)
    return path


def test_a_token_and_a_place_are_found_in_files_of_any_kind(tmp_path: Path) -> None:
    folder = tmp_path / FROM_CAMERA / "x"
    folder.mkdir(parents=True)
    (folder / "log.txt").write_bytes(b"Bearer hf_test_alice_write\n")
    for suffix in ("jpg", "png", "webp"):
        located(folder / f"a.{suffix}")
    (folder / "clean.txt").write_bytes(b"hf_ is how tokens begin")
    found = [leaks_in(path.read_bytes()) for path in sorted(folder.iterdir())]
    place = ["the place where a picture was taken"]
    assert found == [place, place, place, [], ["a token"]]
    assert leaks_under([tmp_path]) == []


def test_nothing_in_the_repository_leaks() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    files = [ROOT / name for name in listed.decode().split("\0") if name and not name.startswith("tests/")]
    assert len(files) > 50
    assert [str(path) for path in files if path.is_file() and leaks_in(path.read_bytes())] == []
