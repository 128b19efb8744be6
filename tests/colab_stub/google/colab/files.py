"""`upload` hands over the package's own pictures of a penguin."""

from pathlib import Path

from . import BEHAVIOUR, errors, wait

PICTURES = Path(__file__).parents[4] / "ti_nb" / "tiny" / "pictures" / "penguin" / "pictures"


def upload(target_dir: str = "") -> dict[str, bytes]:
    """Writes to `target_dir` under names that are free and returns the contents by name; {} if the user cancels."""
    if BEHAVIOUR in ("timeout", "unsupported"):
        wait()
        raise errors.Error("TypeError: Cannot read properties of undefined (reading '_uploadFiles')")
    if BEHAVIOUR == "refuse":
        return {}
    chosen = {path.name: path.read_bytes() for path in sorted(PICTURES.glob("*.png"))}
    for name, content in chosen.items():
        saved = _free(Path(target_dir) / name)
        print(f"Saving {name} to {saved}")
        saved.write_bytes(content)
    return chosen


def download(filename: str) -> None:
    """Goes through the page; without one all that can be seen is a missing file."""
    if not Path(filename).exists():
        raise FileNotFoundError(f"Cannot find file: {filename}")


def _free(path: Path) -> Path:
    number = 0
    while (free := path.with_stem(f"{path.stem} ({number})") if number else path).exists():
        number += 1
    return free
