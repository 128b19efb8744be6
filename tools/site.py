"""`make docs`: run the notebooks, write the gallery and the reference, and build the site in `outputs/site/html`.

A notebook whose text, and the package's, did not change since it was last run is not run again.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import inspect
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from tqdm.auto import tqdm

import ti_nb as ti

ROOT = Path(__file__).parents[1]
OUT = ROOT / "outputs/site"
WINGS = {
    "pictures": "Photographs become checked, square pictures",
    "models": "A frozen model",
    "words": "A word and its vectors",
    "training": "Learning a word",
    "beyond": "Beyond one word of a frozen model",
    "results": "Drawing, judging, looking inside",
    "files": "A word in a file",
    "hub": "The Hugging Face Hub",
    "jobs": "Many words at once, here and on machines elsewhere",
    "widgets": "Panels",
}


def main() -> None:
    """Run what changed, write the pages that are made, and build with warnings as errors."""
    parser = argparse.ArgumentParser(prog="python -m tools.site", description=__doc__)
    parser.add_argument("--no-run", action="store_true", help="notebooks as they are, without outputs")
    parser.add_argument("--builder", default="html", help="of Sphinx: html, linkcheck, ...")
    options = parser.parse_args()
    source = OUT / "source"
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(ROOT / "docs", source)
    (source / "notebooks").mkdir()
    shown = [executed(path, run=not options.no_run) for path in tqdm(notebooks(), desc="notebooks")]
    for path in shown:
        shutil.copy(path, source / "notebooks")
    if bare := [path.stem for path in shown if not options.no_run and thumbnail(path) is None]:
        sys.exit(f"these show no picture: {', '.join(bare)}")
    gallery(source, shown)
    reference(source / "reference")
    sources_elsewhere(source)
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", options.builder]
    sys.exit(subprocess.run([*command, str(source), str(OUT / options.builder)], cwd=ROOT).returncode)


def notebooks() -> list[Path]:
    """The notebooks in their order."""
    return sorted((ROOT / "notebooks").glob("*.ipynb"))


def _state(path: Path) -> str:
    """A digest of all that a notebook's outputs depend on: its own text and the package's."""
    digest = hashlib.sha256(path.read_bytes())
    for file in sorted(p for p in (ROOT / "ti_nb").rglob("*") if p.suffix in (".py", ".safetensors", ".png", ".json")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def executed(path: Path, *, run: bool) -> Path:
    """The notebook with its outputs, run in a folder of its own if anything changed."""
    kept, stamp = OUT / "executed" / path.name, OUT / "executed" / f"{path.stem}.sha256"
    if not run:
        return path
    if not (kept.exists() and stamp.exists() and stamp.read_text() == _state(path)):
        kept.parent.mkdir(parents=True, exist_ok=True)
        notebook = nbformat.read(path, as_version=4)
        os.environ["TI_NB_OUT"] = str(OUT / "runs")
        folder = {"metadata": {"path": str(path.parent)}}
        NotebookClient(notebook, timeout=3600, kernel_name="python3", resources=folder).execute()
        nbformat.write(notebook, kept)
        stamp.write_text(_state(path))
    return kept


def thumbnail(path: Path) -> tuple[str, bytes] | None:
    """The last grid of pictures that a notebook shows, else its last pictures, else its last plot; with its file's ending."""
    shown: list[tuple[int, str, str]] = []
    for cell in nbformat.read(path, as_version=4).cells:
        for data in (output.get("data", {}) for output in cell.get("outputs", [])):
            if "image/jpeg" in data:
                shown.append((1 + ("grid" in cell.source), "jpg", data["image/jpeg"]))
            elif "image/png" in data:
                shown.append((0, "png", data["image/png"]))
    best = max((rank for rank, *_ in shown), default=0)
    found = [(ending, base64.b64decode(data)) for rank, ending, data in shown if rank == best]
    return found[-1] if found else None


def _title(path: Path) -> tuple[str, str]:
    """A notebook's heading and the first sentence under it."""
    text = nbformat.read(path, as_version=4).cells[0].source
    lines = [line for line in text.splitlines() if line.strip()]
    heading = next(line for line in lines if line.startswith("# ")).removeprefix("# ")
    prose = next((line for line in lines if not line.startswith(("#", "[!", "!["))), "")
    return heading, prose.split(". ")[0].rstrip(".") + "."


def gallery(source: Path, shown: list[Path]) -> None:
    """`gallery.md`: a card with a picture for each notebook."""
    cards = []
    for path in shown:
        heading, sentence = _title(path)
        image = ""
        if picture := thumbnail(path):
            name = f"thumb_{path.stem}.{picture[0]}"
            (source / "pictures" / name).write_bytes(picture[1])
            image = f":img-top: pictures/{name}\n:img-alt: {heading}\n"
        cards.append(f":::{{grid-item-card}} {heading}\n:link: notebooks/{path.stem}\n:link-type: doc\n{image}\n{sentence}\n:::")  # fmt: skip
    tree = "\n".join(f"notebooks/{path.stem}" for path in shown)
    (source / "gallery.md").write_text(
        "# Notebooks\n\nEach of them as it ran on two CPU cores, from its first cell to its last, on the embedded model.\n\n"
        "::::{grid} 1 2 2 3\n:gutter: 3\n:class-container: gallery\n\n" + "\n".join(cards) + "\n::::\n\n"
        "```{toctree}\n:hidden:\n\n" + tree + "\n```\n"
    )


def reference(folder: Path) -> None:
    """A page for each subpackage with all its public names, and an index."""
    folder.mkdir()
    pages = []
    for wing, title in WINGS.items():
        here = [n for n in ti.__all__ if _wing(n) == wing]
        if not here:
            continue
        lines = [f"# {title}", "", "```{eval-rst}"]
        lines += [_directive(name) for name in sorted(here, key=str.lower)]
        (folder / f"{wing}.md").write_text("\n".join([*lines, "```", ""]))
        pages.append(wing)
    errors = [n for n in ti.__all__ if _wing(n) == "errors"]
    rest = [n for n in ti.__all__ if _wing(n) == "" and n != "__version__"]
    body = [_directive(n) for n in errors] + [
        f".. py:data:: ti_nb.{n}\n\n   ``{_short(getattr(ti, n))}``\n" for n in rest
    ]
    (folder / "values.md").write_text("\n".join(["# Errors and constants", "", "```{eval-rst}", *body, "```", ""]))
    (folder / "index.md").write_text(
        "# Reference\n\nEvery public name, by what it is about. All are reached as `ti.name` after `import ti_nb as ti`.\n\n"
        "```{toctree}\n:maxdepth: 2\n\n" + "\n".join([*pages, "values"]) + "\n```\n"
    )


def _short(value: object, most: int = 300) -> str:
    text = repr(value)
    return text if len(text) <= most else text[:most] + " ..."


def _wing(name: str) -> str:
    thing = getattr(ti, name)
    module = getattr(thing, "__module__", "") if inspect.isfunction(thing) or inspect.isclass(thing) else ""
    return module.split(".")[1] if module.startswith("ti_nb.") else ""


def _directive(name: str) -> str:
    if inspect.isfunction(getattr(ti, name)):
        return f".. autofunction:: ti_nb.{name}\n"
    return f".. autoclass:: ti_nb.{name}\n   :members:\n   :exclude-members: __init__, __new__\n"


def sources_elsewhere(source: Path) -> None:
    """Links out of docs/ lead to the notebooks' pages, or to the repository."""
    here = "https://github.com/ti-nb/ti_nb/blob/main/"
    for page in source.glob("*.md"):
        text = page.read_text().replace("](../notebooks/", "](notebooks/")
        page.write_text(text.replace("](../", f"]({here}"))


if __name__ == "__main__":
    main()
