"""`labels`: names for what ipywidgets leaves without one, for screen readers: its sliders, and progress bars.

By anywidget; without it a slider's label is only seen beside it.
"""

from __future__ import annotations

from functools import cache
from typing import Any

SCRIPT = """
const ROWS = ".widget-inline-hbox, .jupyter-widget-inline-hbox";
function name(root) {
  for (const control of root.querySelectorAll("[role=slider], [role=progressbar], .progress, .widget-readout[contenteditable]")) {
    const label = control.closest(ROWS)?.querySelector(".widget-label")?.textContent.trim();
    if (label && control.getAttribute("aria-label") !== label) control.setAttribute("aria-label", label);
  }
}
function render({ el }) {
  let watch;
  const begin = setTimeout(() => {
    const root = el.closest(".ti-nb-panel") || el.parentElement?.parentElement;
    if (!root) return;
    name(root);
    watch = new MutationObserver(() => name(root));
    watch.observe(root, { childList: true, subtree: true });
  }, 300);
  return () => { clearTimeout(begin); watch?.disconnect(); };
}
export default { render };
"""


def labels() -> list[Any]:
    """A widget that isn't seen and names its panel's controls, in a list; none without anywidget."""
    kind = _kind()
    if kind is None:
        return []
    out = kind()
    out.layout.display = "none"
    return [out]


@cache
def _kind() -> Any:
    try:
        import anywidget
    except ImportError:
        return None

    class Labels(anywidget.AnyWidget):  # type: ignore[misc]
        """Nothing that is seen."""

        _esm = SCRIPT

    return Labels
