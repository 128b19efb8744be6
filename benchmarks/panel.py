"""What displaying a run costs: the same training in a plain loop and through a displayed panel, in one notebook kernel.

`python -m benchmarks.panel` prints the ratios of seconds and writes `panel.md`. Each round trains once in each way, in a
changing order; previews are off, as drawing them is separate work. A real kernel sends the panel's messages to a client
that keeps the widgets' state.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROUNDS, STEPS = 5, 150
WAYS = ("plain loop", "panel, updates off", "panel, in the cell", "panel, in a thread")

SETUP = f"""
import json, time
import ti_nb as ti
model, photos = ti.load_model("tiny"), ti.example_images("penguin")

def seconds(way):
    run = ti.train(model, photos, word="<new>", init="animal", steps={STEPS})
    panel = None
    if way != "plain loop":
        panel = ti.TrainPanel(run, every=0, background=way.endswith("thread"), live=not way.endswith("off"))
        display(panel)
    next(run)
    began = time.perf_counter()
    if panel is None:
        for record in run:
            pass
    else:
        panel.start()
        panel.driver.wait()
    return time.perf_counter() - began
"""
MEASURE = f"""
results = {{way: [] for way in {WAYS!r}}}
for number in range({ROUNDS}):
    for way in sorted(results, key=lambda w: (hash(w) + number) % {len(WAYS)}):
        results[way].append(seconds(way))
print(json.dumps(results))
"""


def measure() -> dict[str, list[float]]:
    """Seconds of each way, round by round."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in (SETUP, MEASURE)])
    NotebookClient(notebook, timeout=3600, kernel_name="python3").execute()
    (text,) = [o.text for o in notebook.cells[1].outputs if o.output_type == "stream" and o.name == "stdout"]
    results: dict[str, list[float]] = json.loads(text)
    return results


def report(results: dict[str, list[float]]) -> str:
    """A table of the ratios to the plain loop of the same round: median and quartiles."""
    lines = ["| way | seconds, median | over the plain loop | quartiles |", "| --- | --- | --- | --- |"]
    for way, seconds in results.items():
        ratios = [way_seconds / plain for way_seconds, plain in zip(seconds, results[WAYS[0]])]
        low, middle, high = statistics.quantiles(ratios, n=4)
        lines.append(f"| {way} | {statistics.median(seconds):.2f} | {middle:.3f} | {low:.3f} to {high:.3f} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print and write."""
    text = report(measure())
    print(text)
    preface = f"# What a panel costs\n\n`python -m benchmarks.panel`: {STEPS} steps of tiny, {ROUNDS} rounds.\n\n"
    (Path(__file__).parent / "panel.md").write_text(preface + text + "\n")


if __name__ == "__main__":
    main()
