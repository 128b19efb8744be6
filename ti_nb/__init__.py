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
    "save_images": "images",
    "choose_pictures": "platforms",
    "mount_drive": "platforms",
    "needs": "platforms",
    "pictures_from": "platforms",
    "find_faults": "findings",
    "Finding": "findings",
    "guess_crop": "guesses",
    "mask_by_threshold": "guesses",
    "check_word": "prompts",
    "OBJECT_TEMPLATES": "prompts",
    "OBJECT_TEMPLATES_CODE": "prompts",
    "STYLE_TEMPLATES": "prompts",
    "TEMPLATES": "prompts",
    "without_word": "prompts",
    "drawn_samples": "seen",
    "known_words": "suggest",
    "suggest_words": "suggest",
    "from_pipeline": "models",
    "load_model": "loading",
    "Model": "models",
    "TextEncoder": "models",
    "Concept": "concept",
    "initial_concept": "concept",
    "vectors_of": "concept",
    "adjust": "edit",
    "initializer": "edit",
    "join": "edit",
    "mix": "edit",
    "rename": "edit",
    "split": "edit",
    "Conditioning": "inject",
    "encode": "inject",
    "DIFFUSERS": "settings",
    "FAST": "settings",
    "PAPER": "settings",
    "PRESETS": "settings",
    "TrainSettings": "settings",
    "StepRecord": "records",
    "Run": "training",
    "together": "steps",
    "train": "training",
    "train_seeds": "training",
    "read_run": "saved",
    "SavedRun": "saved",
    "Plan": "memory",
    "plan_memory": "memory",
    "read_settings": "sampling",
    "Sample": "sampling",
    "sample": "sampling",
    "save_samples": "sampling",
    "gap_closed": "evaluate",
    "Judge": "evaluate",
    "load_judge": "evaluate",
    "prompt_fidelity": "evaluate",
    "score": "evaluate",
    "Scores": "evaluate",
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
    "load": "reading",
    "load_words": "reading",
    "save": "writing",
    "NotAConcept": "errors",
    "load_into": "pipelines",
    "unload": "pipelines",
    "publish": "publishing",
    "Publication": "publication",
    "fetch": "fetching",
    "browse": "library",
    "Listing": "library",
    "log_in": "hub",
    "HubError": "errors",
    "PreparePanel": "widgets.prepare",
    "TrainPanel": "widgets.train",
    "Summary": "widgets.summary",
    "ExplorePanel": "widgets.explore",
    "PublishPanel": "widgets.publish",
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
    from .concept import Concept, initial_concept, vectors_of
    from .edit import adjust, initializer, join, mix, rename, split
    from .errors import HubError, NotAConcept
    from .evaluate import Judge, Scores, gap_closed, load_judge, prompt_fidelity, score, subject_fidelity
    from .fetching import fetch
    from .findings import Finding, find_faults
    from .guesses import guess_crop, mask_by_threshold
    from .hub import log_in
    from .images import ConceptImages, example_images, example_names, load_images, save_images
    from .inject import Conditioning, encode
    from .inside import Attention, attention, loss_by_timestep
    from .library import Listing, browse
    from .loading import load_model
    from .memory import Plan, plan_memory
    from .models import Model, TextEncoder, from_pipeline
    from .pipelines import load_into, unload
    from .platforms import choose_pictures, mount_drive, needs, pictures_from
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
    from .prompts import OBJECT_TEMPLATES, OBJECT_TEMPLATES_CODE, STYLE_TEMPLATES, TEMPLATES, check_word, without_word
    from .publication import Publication
    from .publishing import publish
    from .reading import load, load_words
    from .records import StepRecord
    from .sampling import Sample, read_settings, sample, save_samples
    from .saved import SavedRun, read_run
    from .seen import drawn_samples
    from .settings import DIFFUSERS, FAST, PAPER, PRESETS, TrainSettings
    from .steps import together
    from .suggest import known_words, suggest_words
    from .training import Run, train, train_seeds
    from .widgets.explore import ExplorePanel
    from .widgets.prepare import PreparePanel
    from .widgets.publish import PublishPanel
    from .widgets.summary import Summary
    from .widgets.train import TrainPanel
    from .writing import save
