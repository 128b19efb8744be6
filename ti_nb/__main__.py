"""`python -m ti_nb notebooks DIR` copies the notebooks into a folder; `python -m ti_nb demo` runs the first of them."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from pathlib import Path


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m ti_nb", description="Textual Inversion in notebooks.")
    commands = parser.add_subparsers(dest="command", required=True)
    copy = commands.add_parser("notebooks", help="copy the notebooks into a folder")
    copy.add_argument("folder", type=Path)
    run = commands.add_parser(
        "demo", help="learn a word from five pictures: the quickstart, from its first cell to its last"
    )
    run.add_argument("--out", type=Path, default=Path("outputs/demo"), help="where its pictures and the word are left")
    options = parser.parse_args()
    copy_notebooks(options.folder) if options.command == "notebooks" else demo(options.out)


def notebooks() -> list[Path]:
    """The notebooks, in an installed package or in a clone."""
    here = Path(__file__).parent
    folder = next(f for f in (here / "notebooks", here.parent / "notebooks") if f.is_dir())
    return sorted(folder.glob("*.ipynb"))


def copy_notebooks(folder: Path) -> None:
    """Copy them; a file of that name that is there already is left alone, and said."""
    folder.mkdir(parents=True, exist_ok=True)
    for source in notebooks():
        target = folder / source.name
        if target.exists():
            print(f"{target}: there already, left as it is")
        else:
            shutil.copy(source, target)
            print(target)


def demo(out: Path) -> None:
    """Run the quickstart's cells in order, then print the scores and where the results are."""
    try:
        import nbformat
        from nbclient import NotebookClient
        from nbclient.exceptions import CellExecutionError
    except ImportError as missing:
        sys.exit(f"the demo runs a notebook, which takes {missing.name}: pip install nbclient nbformat ipykernel")
    from tqdm.auto import tqdm

    out = out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.json").unlink(missing_ok=True)
    os.environ["TI_NB_OUT"] = str(out)
    path = notebooks()[0]
    notebook = nbformat.read(path, as_version=4)
    began, code = time.monotonic(), sum(cell.cell_type == "code" for cell in notebook.cells)
    bar = tqdm(total=code, desc="quickstart", unit="cell")
    client = NotebookClient(
        notebook,
        timeout=1800,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
        on_cell_executed=lambda cell, **_: bar.update(cell.cell_type == "code"),
    )
    try:
        client.execute()
    except CellExecutionError as error:
        sys.exit(f"the quickstart failed: {error}")
    finally:
        bar.close()
        nbformat.write(notebook, out / path.name)
    _tell(out, time.monotonic() - began, path.name)


def _tell(out: Path, seconds: float, name: str) -> None:
    report = json.loads((out / "report.json").read_text())
    subject, prompt = report["subject_fidelity"], report["prompt_fidelity"]
    closed = (subject["word"] - subject["initializer"]) / (subject["real"] - subject["initializer"])
    print(
        f"\nLearned {report['word']} in {report['train_seconds']:.0f} s ({report['steps']} steps); "
        f"the whole notebook took {seconds:.0f} s.\n"
        f"It closes {closed:.0%} of the gap in subject fidelity; prompt fidelity is "
        f"{prompt['word'] / prompt['initializer']:.2f} of the initializer's.\n"
    )
    for path in [*map(Path, report["files"]), out / name, out / "report.json"]:
        print(f"  {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")


if __name__ == "__main__":
    main()
