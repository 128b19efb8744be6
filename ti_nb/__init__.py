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
    "TextEncoder": "models",
    "from_pipeline": "models",
    "load_model": "models",
    "Concept": "concept",
    "initial_concept": "concept",
    "encode": "inject",
    "Conditioning": "inject",
    "DIFFUSERS": "settings",
    "FAST": "settings",
    "PAPER": "settings",
    "PRESETS": "settings",
    "TrainSettings": "settings",
    "StepRecord": "records",
    "Run": "training",
    "together": "training",
    "train": "training",
    "train_seeds": "training",
    "SavedRun": "checkpoints",
    "read_run": "checkpoints",
    "Plan": "memory",
    "plan_memory": "memory",
    "Sample": "sampling",
    "sample": "sampling",
    "Judge": "evaluate",
    "Scores": "evaluate",
    "gap_closed": "evaluate",
    "load_judge": "evaluate",
    "prompt_fidelity": "evaluate",
    "score": "evaluate",
    "subject_fidelity": "evaluate",
    "Attention": "inside",
    "attention": "inside",
    "loss_by_timestep": "inside",
    "compare": "plots",
    "plot_attention": "plots",
    "plot_loss": "plots",
    "plot_path": "plots",
    "plot_scores": "plots",
    "plot_timesteps": "plots",
    "show_grid": "plots",
    "show_images": "plots",
    "load": "files",
    "load_into": "files",
    "save": "files",
    "Summary": "widgets.summary",
    "TrainPanel": "widgets.train",
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
    from .checkpoints import SavedRun, read_run
    from .concept import Concept, initial_concept
    from .evaluate import Judge, Scores, gap_closed, load_judge, prompt_fidelity, score, subject_fidelity
    from .files import load, load_into, save
    from .images import ConceptImages, example_images, example_names, load_images
    from .inject import Conditioning, encode
    from .inside import Attention, attention, loss_by_timestep
    from .memory import Plan, plan_memory
    from .models import Model, TextEncoder, from_pipeline, load_model
    from .plots import (
        compare,
        plot_attention,
        plot_loss,
        plot_path,
        plot_scores,
        plot_timesteps,
        show_grid,
        show_images,
    )
    from .prompts import OBJECT_TEMPLATES, OBJECT_TEMPLATES_CODE, STYLE_TEMPLATES, TEMPLATES, without_word
    from .records import StepRecord
    from .sampling import Sample, sample
    from .settings import DIFFUSERS, FAST, PAPER, PRESETS, TrainSettings
    from .training import Run, together, train, train_seeds
    from .widgets.summary import Summary
    from .widgets.train import TrainPanel
