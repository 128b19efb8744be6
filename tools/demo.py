"""`make demo`: run the quickstart notebook with a progress bar; pictures, word and report are left in outputs/demo/."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from tqdm.auto import tqdm

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Run the quickstart's cells in order, then print the scores and where the results are."""
    out = ROOT / "outputs" / "demo"
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.json").unlink(missing_ok=True)
    os.environ["TI_NB_OUT"] = str(out)
    notebook = nbformat.read(ROOT / "notebooks" / "00_quickstart.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    bar = tqdm(total=len(code), desc="quickstart", unit="cell")
    began = time.monotonic()
    client = NotebookClient(
        notebook,
        timeout=1800,
        kernel_name="python3",
        resources={"metadata": {"path": str(ROOT / "notebooks")}},
        on_cell_executed=lambda cell, **_: bar.update(cell.cell_type == "code"),
    )
    try:
        client.execute()
    except CellExecutionError as error:
        sys.exit(f"the quickstart failed: {error}")
    finally:
        bar.close()
        nbformat.write(notebook, out / "00_quickstart.ipynb")
    report = json.loads((out / "report.json").read_text())
    subject, prompt = report["subject_fidelity"], report["prompt_fidelity"]
    closed = (subject["word"] - subject["initializer"]) / (subject["real"] - subject["initializer"])
    print(
        f"\nLearned {report['word']} in {report['train_seconds']:.0f} s ({report['steps']} steps); "
        f"the whole notebook took {time.monotonic() - began:.0f} s.\n"
        f"It closes {closed:.0%} of the gap in subject fidelity; prompt fidelity is "
        f"{prompt['word'] / prompt['initializer']:.2f} of the initializer's.\n"
    )
    for path in [*map(Path, report["files"]), out / "00_quickstart.ipynb", out / "report.json"]:
        print(f"  {path.relative_to(ROOT) if path.is_relative_to(ROOT) else path}")


if __name__ == "__main__":
    main()
