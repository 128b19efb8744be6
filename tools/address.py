"""`make address REPO=owner/name`: change the project's GitHub address in pyproject.toml, badges, links and install commands."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILES = ("pyproject.toml", "README.md", "CITATION.cff", "CONTRIBUTING.md", "CHANGELOG.md", "ti_nb/hub/page.py")


def current() -> str:
    """The "owner/name" in the Repository URL of pyproject.toml."""
    url = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]
    return str(url).removeprefix("https://github.com/").strip("/")


def texts() -> list[Path]:
    """Every file that may contain the address."""
    files = [ROOT / name for name in FILES if (ROOT / name).exists()]
    return files + sorted((ROOT / "notebooks").glob("*.ipynb")) + sorted((ROOT / "docs").glob("**/*.md"))


def rewrite(new: str) -> list[Path]:
    """Replace the current address by `new` everywhere; returns the files that changed."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", new):
        raise SystemExit(f"REPO={new!r} is not of the form owner/name: write make address REPO=owner/name")
    old, changed = current(), []
    for path in texts():
        text = path.read_text()
        after = re.sub(rf"(github\.com/|github/){re.escape(old)}(?![\w-])", rf"\g<1>{new}", text)
        if after != text:
            path.write_text(after)
            changed.append(path)
    return changed


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("write make address REPO=owner/name")
    for file in rewrite(sys.argv[1]):
        print(file.relative_to(ROOT))
