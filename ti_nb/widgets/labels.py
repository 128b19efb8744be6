"""`labels`: names for what ipywidgets leaves without one, for screen readers: its sliders, progress bars, and pictures.

By anywidget; without it a slider's label is only seen beside it, a picture's below it.
"""

from __future__ import annotations

from functools import cache
from typing import Any

SCRIPT = """
const ROWS = ".widget-inline-hbox, .jupyter-widget-inline-hbox";
function say(element, name, value) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}
function name(root) {
  for (const handle of root.querySelectorAll(".ui-slider-handle")) { // of ipywidgets 7
    const said = handle.closest(ROWS)?.querySelector(".widget-readout")?.textContent.trim() || "";
    say(handle, "role", "slider");
    say(handle, "aria-valuenow", `${parseFloat(said) || 0}`);
    say(handle, "aria-valuetext", said);
  }
  for (const control of root.querySelectorAll("[role=slider], [role=progressbar], .progress, .widget-readout[contenteditable]")) {
    const label = control.closest(ROWS)?.querySelector(".widget-label")?.textContent.trim();
    const bar = control.querySelector(".progress-bar");
    if (label || bar) say(control, "aria-label", label || "Progress");
    if (bar) say(control, "role", "progressbar");
    if (bar) say(control, "aria-valuenow", `${Math.round(parseFloat(bar.style.width) || 0)}`);
  }
  for (const table of root.querySelectorAll(".widget-gridbox")) { // it scrolls where the page is narrow
    say(table, "tabindex", "0");
    say(table, "role", "group");
    say(table, "aria-label", "Table of pictures");
  }
  for (const image of root.querySelectorAll("img.widget-image:not([alt])")) { // its caption stands below it
    const spoken = image.parentElement.querySelector("[role=img]");
    image.alt = spoken?.getAttribute("aria-label") || image.parentElement.textContent.trim();
    spoken?.removeAttribute("role");
    spoken?.removeAttribute("aria-label");
  }
}
function render({ el }) {
  let watch;
  const begin = setTimeout(() => {
    const root = el.closest(".ti-nb-panel") || el.parentElement?.parentElement;
    if (!root) return;
    name(root);
    watch = new MutationObserver(() => name(root));
    watch.observe(root, { childList: true, subtree: true, attributes: true, attributeFilter: ["style"] });
  }, 300);
  return () => { clearTimeout(begin); watch?.disconnect(); };
}
export default { render };
"""

# Where the colours of ipywidgets have too little contrast: headings of folds in 7, buttons with a colour in both.
CSS = """
.ti-nb-panel .p-Collapse-header { color: var(--jp-ui-font-color1, #212121) !important; }
.ti-nb-panel .jupyter-button.mod-primary { background: #1565c0 !important; color: white !important; }
.ti-nb-panel .jupyter-button.mod-success { background: #2e7d32 !important; color: white !important; }
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

        _esm, _css = SCRIPT, CSS

    return Labels
