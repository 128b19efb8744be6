"""What showing a run costs: a displayed panel whose updates are switched on and off every few steps of the same run.

`python -m benchmarks.panel` prints ratios of seconds and writes `panel.md`. The steps with updates are compared with the
steps just before them, for a machine's speed changes by more than a panel costs from one run to the next. Curves are
redrawn as often as if updates were on all the time, so that their cost counts twice here. Previews are off, as they are
work of their own. A real kernel sends the panel's messages to a client that keeps the widgets' state.
"""

from __future__ import annotations

import json
import random
import statistics
from itertools import pairwise
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROUNDS, BLOCK, PAIRS = 4, 25, 6  # runs of each way; steps with updates on, then off; how often in a run
WAYS = ("in the cell", "in a thread")

SETUP = f"""
import json, time
import ti_nb as ti
model, photos = ti.load_model("tiny"), ti.example_images("penguin")

def measure(way):
    run = ti.train(model, photos, word="<new>", init="animal", steps={BLOCK} * (2 * {PAIRS} + 1))
    panel = ti.TrainPanel(run, every=0, background="thread" in way, live=False)
    display(panel)
    ends, own = [], 0.0

    def on_step(record):
        nonlocal own
        began = time.perf_counter()
        panel._on_step(record)
        ended = time.perf_counter()
        own += ended - began
        if record.step % {BLOCK} == 0:
            ends.append(ended)
            panel.live = not panel.live

    panel.driver._on_step = on_step
    panel.start()
    panel.driver.wait()
    last = time.perf_counter()
    panel.refresh()
    return ends, own, time.perf_counter() - last
"""
MEASURE = f"""
found = {{way: [] for way in {WAYS!r}}}
for number in range({ROUNDS}):
    for way in found:
        found[way].append(measure(way))
print(json.dumps(found))
"""

Found = dict[str, list[tuple[list[float], float, float]]]


def measure() -> Found:
    """For each way and run: when each block ended, seconds within the panel's own code, seconds of its last drawing."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in (SETUP, MEASURE)])
    NotebookClient(notebook, timeout=3600, kernel_name="python3").execute()
    (said,) = [o.text for o in notebook.cells[1].outputs if o.output_type == "stream" and o.name == "stdout"]
    found: Found = json.loads(said)
    return found


def report(found: Found) -> str:
    """Ratios of pairs: the median, and where it lies in 95% of bootstrap samples; and what was counted directly."""
    lines = [
        "| way | a step, updates off | updates on over off | counted within the panel | its last drawing |",
        "| --- | --- | --- | --- | --- |",
    ]
    for way, runs in found.items():
        ratios, offs, shares = [], [], []
        for ends, own, _ in runs:  # the first block, without updates, is to warm up
            seconds = [b - a for a, b in pairwise(ends)]
            on, off = seconds[::2], seconds[1::2]
            ratios += [a / b for a, b in zip(on, off)]
            offs += off
            shares.append(own / sum(on))
        low, high = _spread(ratios)
        lines.append(
            f"| {way} | {1000 * statistics.median(offs) / BLOCK:.0f} ms | {statistics.median(ratios):.3f} ({low:.3f} to "
            f"{high:.3f}) | {statistics.median(shares):.2%} | {statistics.median(last for _, _, last in runs):.2f} s |"
        )
    return "\n".join(lines)


def _spread(values: list[float]) -> tuple[float, float]:
    draw = random.Random(0)
    medians = sorted(statistics.median(draw.choices(values, k=len(values))) for _ in range(2000))
    return medians[50], medians[-51]


def main() -> None:
    """Measure, print and write."""
    text = report(measure())
    print(text)
    preface = (
        f"# What a panel costs\n\n`python -m benchmarks.panel`: {ROUNDS} runs of tiny for each way, in each {PAIRS} times "
        f"{BLOCK} steps with updates on and {BLOCK} with them off. Curves are redrawn as often as if updates were on all "
        "the time, so that their cost counts twice here. In brackets, where the median lies in 95% of bootstrap samples.\n\n"
    )
    (Path(__file__).parent / "panel.md").write_text(preface + text + "\n")


if __name__ == "__main__":
    main()
