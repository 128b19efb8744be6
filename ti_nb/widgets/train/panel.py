"""`TrainPanel`: start, pause, stop and steer a run, and watch it learn."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from ...errors import InvalidValue
from ...host import frontend
from ...host.arguments import SEEDS, checked
from ...results.drawing.sampling import sample
from ...results.plotting.plots import plot_loss
from ...training.run import RATE_NOTE
from ...words.prompts import fill
from .. import parts
from .driver import Driver
from .estimate import progress_in_words
from .previews import Previews
from .summary import Summary

if TYPE_CHECKING:
    from ...training.records import StepRecord
    from ...training.run import Run

PLOT_SHARE = 0.01  # of the time may go to plots: a slow machine redraws them less often
USABLE = {  # in each state: what else would do nothing
    "ready": ("start", "sample"),
    "running": ("pause", "stop", "sample"),
    "pause": ("stop",),
    "stop": (),
    "paused": ("start", "stop", "sample"),
    "stopped": ("start", "sample"),
    "finished": ("sample",),
    "failed": ("start", "sample"),
}
PROGRESS_EVERY = 0.5  # s: more messages would flood the notebook server
STATES = {  # and what a running run was asked
    "ready": "Ready.",
    "pause": "Pausing after this step.",
    "stop": "Stopping after this step.",
    "running": "Training. Interrupting the kernel pauses it as well.",
    "paused": "Paused: Resume goes on from here.",
    "stopped": "Stopped: what is learned so far is the result; Resume goes on from here.",
    "finished": "Finished.",
}


class TrainPanel(parts.Panel):
    """A run with its controls, curves and previews. It iterates over the run itself; `run.panel()` shows it again.

    Each control has its equivalent in code: `start`, `pause`, `stop`, `sample_now`, `wait`, and `run.rate_factor`.

    Args:
        run: from `train`. prompts: templates of the previews. seeds: of the previews, how many or which.
        every: steps between two previews; 0 for none but on request.
        background: train in a thread, so that clicks take effect at once. The default everywhere but on Colab, which may not
            show what a thread changes (colabtools #3373): there the cell stays busy.
        draw: arguments of `sample` for the previews, such as `{"steps": 30}`.
        live: False to show nothing while it trains (to measure what the display costs).

    Raises:
        ValueError: `every` is below 0.
    """

    @checked(every=(0, None), seeds=SEEDS)
    def __init__(
        self,
        run: Run,
        *,
        prompts: str | Sequence[str] = "a photo of a {word}",
        seeds: int | Sequence[int] = 4,
        every: int = 25,
        background: bool | None = None,
        draw: dict[str, Any] | None = None,
        live: bool = True,
    ) -> None:
        if every < 0:
            raise InvalidValue(f"every is {every}: give a number of steps, or 0 for no previews")
        self.run, self.every, self.live = run, every, live
        self.prompts = [prompts] if isinstance(prompts, str) else list(prompts)
        self.seeds = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
        self.background = not frontend.prefers_foreground() if background is None else background
        self.draw = {"steps": 20, **(draw or {})}
        self.driver = Driver(run, on_step=self._on_step, on_sample=self._on_sample, on_state=self.refresh)
        self._progress_at = self._plotted_at = self._plot_seconds = 0.0
        self._preview_seconds: float | None = None
        self._saying = threading.RLock()  # a click and the thread that trains may both say how it stands
        folder = run.folder.path / "previews" if run.folder is not None else None
        grid = len(self.seeds), len(self.prompts) if every else 0
        self.previews = Previews(folder, len(run.records), grid=grid)
        super().__init__(self._build())
        self.refresh()

    def _build(self) -> list[widgets.Widget]:
        run = self.run
        start = run.start.facts.get("init", "a concept")
        self.buttons = {
            "start": parts.button("Start", lambda: self._try(self.start), style="success", tooltip="start or resume"),
            "pause": parts.button("Pause", self.pause, tooltip="after the current step"),
            "stop": parts.button("Stop", self.stop, tooltip="end with what is learned so far as the result"),
            "sample": parts.button(
                "Sample now", lambda: self._try(self.sample_now), tooltip="draw previews with the word as it is now"
            ),
        }
        self._status, self._time, self._rate, self._text = (parts.note() for _ in range(4))
        self.meter = parts.control(widgets.IntProgress, "Progress", min=0, max=len(run), width="32em")
        self.rate = parts.control(
            widgets.FloatLogSlider,
            "Rate, times",
            value=run.rate_factor,
            min=-2,
            max=1,
            step=0.05,
            readout_format=".2f",
            width="32em",
            continuous_update=False,  # each value would be a change of the rate
        )
        self.rate.observe(self._on_rate, "value")
        self._curves = parts.Shown()
        return [
            parts.heading(f"Learning {run.start.word} from {start}, {len(run)} steps"),
            parts.row(*self.buttons.values(), self._status),
            parts.row(self.meter, self._time),
            parts.row(self.rate, self._rate),
            self.previews,
            self._curves,
            self._text,
        ]

    @property
    def state(self) -> str:
        """One of "ready", "running", "paused", "stopped", "finished", "failed"."""
        return self.driver.state

    def start(self) -> None:
        """Start or resume: in the background it returns at once, else when the run is finished, paused or stopped.

        Raises:
            RuntimeError: another run is being trained, or pictures are being drawn.
            ValueError: its folder now belongs to another run.
        """
        if self.every and not self.previews.kept and self.state != "running":
            self.driver.ask_sample_first()
        self.driver.start(background=self.background)

    def pause(self) -> None:
        """Pause after the current step."""
        self.driver.ask_pause()
        self._show_state()

    def stop(self) -> None:
        """Stop after the current step, with what is learned so far as the result."""
        self.driver.ask_stop()
        self._show_state()

    def sample_now(self) -> None:
        """Draw previews with the word as it is now.

        Raises:
            RuntimeError: another run is being trained, or pictures are being drawn.
        """
        self.driver.ask_sample()

    def wait(self) -> Summary:
        """Wait until the run is finished, paused, stopped or interrupted; returns its summary, which a saved notebook keeps.

        Raises:
            the exception that ended the training, if one did.
        """
        self.driver.wait()
        return self.summary()

    def summary(self) -> Summary:
        """The run so far, as text and pictures that need no kernel."""
        last = self.previews.kept[-1] if self.previews.kept else None
        return Summary.of(self.run, self.state, last.png if last else None, last.text if last else "")

    def refresh(self) -> None:
        """Update everything that is shown."""
        self._show_state()
        self._show_progress()
        if self.state == "running":
            self._plotted_at = time.monotonic()
        else:
            self._show_plots()

    def _show_state(self) -> None:
        """Say how it stands; buttons say what they would do, and can be pressed if that can be done now."""
        with self._saying:
            state = self.driver.asked or self.state
            text = str(self.driver.error) if state == "failed" else STATES[state]
            parts.say(self._status, text, {"failed": "error", "finished": "good"}.get(state, "plain"))
            again = state in ("paused", "stopped", "failed")
            self.buttons["start"].description = "Resume" if again else "Start"
            for name, one in self.buttons.items():
                one.disabled = name not in USABLE[state]

    def _try(self, work: Any) -> None:
        """Handle a click: an error is shown in the panel, as its traceback would not be."""
        try:
            work()
        except (OSError, RuntimeError, ValueError) as error:
            parts.say(self._status, str(error), "error")

    # Callbacks of the driver, in the thread that trains.

    def _on_step(self, record: StepRecord) -> None:
        if self.every and record.step % self.every == 0:
            self._on_sample()
        if not self.live:
            return
        now = time.monotonic()
        if now - self._progress_at >= PROGRESS_EVERY:
            self._progress_at = now
            self._show_progress()
        if now - self._plotted_at >= self._plot_seconds / PLOT_SHARE:
            self._show_plots()

    def _on_sample(self) -> None:
        began, step = time.monotonic(), len(self.run.records)
        drawn = sample(self.run.model, self.prompts, self.run.concept(), seeds=self.seeds, progress=False, **self.draw)
        prompts = "; ".join(fill(text, self.run.start.word) for text in self.prompts)
        text = f"After step {step}: {prompts}. Seeds {', '.join(map(str, self.seeds))}."
        may_write = self.run.folder is None or self.run.folder.is_own()
        self.previews.keep(step, [s.image for s in drawn], len(self.seeds), text, on_disk=may_write)
        if self.live:  # it takes little beside drawing
            self._show_plots()
        self._preview_seconds = time.monotonic() - began

    def _on_rate(self, change: Any) -> None:
        self.run.rate_factor = float(change["new"])

    def _show_progress(self) -> None:
        run, records = self.run, self.run.records
        self.meter.value = len(records)
        parts.say(self._time, progress_in_words(run, self.every, self._preview_seconds))
        parts.say(
            self._rate,
            f"rate of the last step {records[-1].rate:.3g}" if records else "takes effect from the next step on",
        )

    def _show_plots(self) -> None:
        began = time.monotonic()
        text, kind = figures_in_words(self.run)
        parts.say(self._text, text, kind)
        curves = plot_loss(self.run.records)
        self._curves.show(parts.as_png(curves, dpi=90), f"Curves of loss, gain and vector. {text}")
        self._plotted_at = time.monotonic()
        self._plot_seconds = self._plotted_at - began


def figures_in_words(run: Run) -> tuple[str, str]:
    """The latest figures as text, and its kind: "warning" if something looks wrong."""
    if not run.records:
        return f"Plan: {run.plan}", "plain"
    last, recent = run.records[-1], run.records[-25:]
    measured = next((r for r in reversed(run.records) if r.gain is not None), None)
    nearest = ", ".join(f"{word} {cosine:.2f}" for word, cosine in run.concept().nearest(run.model, 4))
    lines = [
        f"Loss {sum(r.loss for r in recent) / len(recent):.4f}, mean of {len(recent)} steps",
        f"Norm {last.norm:.3f}, cosine to the start {last.cosine:.2f}, nearest words: {nearest}",
    ]
    if measured is not None:
        init = run.start.facts.get("init", "its start")
        lines.insert(
            1,
            f"Gain over {init!r} {measured.gain:+.4f} at step {measured.step}; above 0, it explains the pictures better",
        )
    lines += notes_in_words(run)[-3:]
    warning = measured.warning if measured is not None else ""
    return "\n".join(([warning] if warning else []) + lines), "warning" if warning else "plain"


def notes_in_words(run: Run) -> list[str]:
    """The notes of all steps; of changes of the rate without other notes between them only the last."""
    out: list[str] = []
    before = ""
    for record in run.records:
        if record.note:
            if record.note.startswith(RATE_NOTE) and before.startswith(RATE_NOTE):
                out.pop()
            out.append(f"Step {record.step}: {record.note}")
            before = record.note
    return out
