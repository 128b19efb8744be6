"""Textual Inversion in notebooks: from a few pictures learn a new word of a frozen text-to-image model.

Heavy imports wait until they are needed: `import ti_nb` loads none of torch, diffusers or transformers.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "ConceptImages": "images",
    "example_images": "images",
    "example_names": "images",
    "load_images": "images",
    "OBJECT_TEMPLATES": "prompts",
    "OBJECT_TEMPLATES_CODE": "prompts",
    "STYLE_TEMPLATES": "prompts",
    "TEMPLATES": "prompts",
    "without_word": "prompts",
    "Model": "models",
    "load_model": "models",
    "Concept": "concept",
    "initial_concept": "concept",
    "encode": "inject",
    "PAPER": "training",
    "Run": "training",
    "StepRecord": "training",
    "TrainSettings": "training",
    "train": "training",
    "Sample": "sampling",
    "sample": "sampling",
    "Judge": "evaluate",
    "Scores": "evaluate",
    "gap_closed": "evaluate",
    "load_judge": "evaluate",
    "prompt_fidelity": "evaluate",
    "score": "evaluate",
    "subject_fidelity": "evaluate",
    "compare": "plots",
    "plot_loss": "plots",
    "plot_scores": "plots",
    "show_grid": "plots",
    "show_images": "plots",
    "load": "files",
    "save": "files",
}
__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ti_nb' has no attribute {name!r}")
    module = importlib.import_module(f".{_HOMES[name]}", __name__)
    value = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


if TYPE_CHECKING:
    from .concept import Concept, initial_concept
    from .evaluate import Judge, Scores, gap_closed, load_judge, prompt_fidelity, score, subject_fidelity
    from .files import load, save
    from .images import ConceptImages, example_images, example_names, load_images
    from .inject import encode
    from .models import Model, load_model
    from .plots import compare, plot_loss, plot_scores, show_grid, show_images
    from .prompts import OBJECT_TEMPLATES, OBJECT_TEMPLATES_CODE, STYLE_TEMPLATES, TEMPLATES, without_word
    from .sampling import Sample, sample
    from .training import PAPER, Run, StepRecord, TrainSettings, train
