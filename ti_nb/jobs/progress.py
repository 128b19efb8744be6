"""`Board`: how far many jobs are: a live table in a notebook, lines elsewhere. It keeps counts and a few last results, no more."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from ..host.frontend import frontend
from ..host.plain_text import in_page, plain
from .shelf import JobResult

LAST, NAMED = 8, 20  # results in the table; failures named at the end
LINES = 50  # printed at most beside failures, however many jobs there are


class Board:
    """Counts results, and shows them.

    Attributes:
        counts: of each status. failures: the first that failed, with their reasons.
    """

    def __init__(self, total: int | None, *, show: bool = True, say: Callable[[str], None] = print) -> None:
        self.total, self.counts, self.failures = total, Counter[str](), list[JobResult]()
        self._last, self._began, self._say = deque[JobResult](maxlen=LAST), time.monotonic(), say
        self._shown, self._panel = show, _panel() if show and frontend() != "terminal" else None

    @property
    def done(self) -> int:
        """Results so far."""
        return self.counts.total()

    def add(self, result: JobResult) -> None:
        """Count a result, and show it."""
        self.counts[result.status] += 1
        self._last.append(result)
        if result.status == "failed" and len(self.failures) < NAMED:
            self.failures.append(result)
        if self._panel is not None:
            self._panel.value = self._page()
        elif self._shown and (result in self.failures[-1:] or self._is_due()):
            self._say(f"{self.headline()}; {result}")

    def _is_due(self) -> bool:
        every = -(-self.total // LINES) if self.total else 100
        return self.done % every == 0 or self.done == self.total

    def headline(self) -> str:
        """Counts, and how long the rest will take at the speed so far."""
        seconds, fresh = time.monotonic() - self._began, self.counts["done"] + self.counts["failed"]
        of = f" of {self.total}" if self.total is not None else ""
        told = ", ".join(f"{count} {status}" for status, count in self.counts.items() if status != "done")
        left = f"; {_time(seconds / fresh * (self.total - self.done))} left" if fresh and self.total else ""
        return f"{self.done}{of} words{f' ({told})' if told else ''}{left if self.done != self.total else ''}"

    def end(self) -> None:
        """Say what came of all."""
        lines = [f"{self.headline()} in {_time(time.monotonic() - self._began)}"]
        lines += [f"  {failure}" for failure in self.failures]
        if (more := self.counts["failed"] - len(self.failures)) > 0:
            lines.append(f"  and {more} more, which report.csv names")
        if self._panel is not None:
            self._panel.value = self._page() + f"<pre>{in_page(chr(10).join(lines))}</pre>"
        elif self._shown and self.done:
            self._say("\n".join(map(plain, lines)))

    def _page(self) -> str:
        share = self.done / self.total if self.total else 0
        rows = "".join(
            f"<tr><td>{in_page(r.word)}</td><td>{r.status}</td><td>{r.steps or ''}</td><td>{r.seconds:.1f} s</td>"
            f"<td>{in_page(r.reason)}</td></tr>"
            for r in reversed(self._last)
        )
        head = "".join(f"<th>{name}</th>" for name in ("word", "status", "steps", "time", "reason"))
        return (
            f'<div role="status">{in_page(self.headline())}</div><progress value="{share:.4f}" style="width:100%"></progress>'
            f"<table><tr>{head}</tr>{rows}</table>"
        )


def _panel() -> Any:
    from IPython.display import display

    from ..widgets.parts import Panel, note

    page = note()
    display(Panel([page]))
    return page


def _time(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 100
        else f"{seconds / 60:.0f} min"
        if seconds < 6000
        else f"{seconds / 3600:.1f} h"
    )
