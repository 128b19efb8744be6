"""`train` starts a run, `train_seeds` several of one concept; `together` advances runs side by side."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InvalidValue
from ..host.arguments import SEEDS, checked
from ..host.devices import use_free_cores
from ..models import tokens
from ..models.denoise import remark_on_photographs
from ..models.today.pipeline_model import PipelineModel
from ..words.concept import Concept, check_fits, initial_concept
from ..words.edit import join
from .checkpoints import RunFolder
from .losses import plan_memory
from .run import Run, advance
from .settings import TrainSettings, as_settings

if TYPE_CHECKING:
    from ..models.model import Model
    from ..pictures.concept_images import ConceptImages
    from .records import StepRecord


@checked(save_every=(1, None))
def train(
    model: Model,
    images: ConceptImages,
    *,
    word: str,
    init: str | Concept | None,
    settings: TrainSettings | str | None = None,
    out: str | Path | None = None,
    resume: str = "auto",
    save_every: int = 25,
    **changes: Any,
) -> Run:
    """Start to learn `word` from `images`. Iterate over the run that it returns: each iteration trains one step.

    Args:
        model: from `load_model`; it stays as it is.
        images: from `load_images`.
        word: the placeholder token, such as "<my-cat>".
        init: the initializer: one or several known words for the kind of thing; a concept, to train further; or None
            for random vectors.
        settings: how to train: settings, or the name of a preset: "fast" (the default), "paper", "diffusers".
        out: a folder to save the run in: its state, each step's vectors, and its records as CSV; None to save nothing. No
            other run can use it until this one is finished or deleted, or paused while another run of this program asks for it.
        resume: "auto" to go on with a run of the same settings that `out` holds, and refuse another's folder or one in use;
            "beside" to leave that alone and take a new folder, such as out-2; "never" to refuse a folder that holds a run.
        save_every: steps between two saves; it also saves at the end, on an interrupt and on an error.
        **changes: single settings to change, such as `steps=500`.

    Raises:
        ValueError: a word that is in the vocabulary, an unknown initializer, a setting out of range, a template without the
            word, a prompt that is too long, a folder that holds another run, is in use, or is damaged.
        FileExistsError: `out` holds a run, and `resume` is "never". OSError: `out` can't be written.

    >>> import ti_nb as ti
    >>> run = train(ti.load_model("tiny"), ti.example_images("penguin"), word="<my-bird>", init="bird", steps=2, watch=0)
    >>> for record in run:
    ...     print(f"step {record.step} of {record.steps}")
    step 1 of 2
    step 2 of 2
    >>> run.concept().word
    '<my-bird>'
    """
    settings = as_settings(settings, changes)
    tokens.check_word(word, model.tokenizer)
    _check_suits(settings, model)
    if isinstance(init, Concept):
        check_fits(init, model)
        learned_as = {key: value for key, value in init.facts.items() if key not in ("resolution", "clip_skip")}
        start = Concept(word, {k: v.clone() for k, v in init.vectors.items()}, learned_as)
    else:
        start = initial_concept(model, word, init, settings.vectors, source=settings.init_source, seed=settings.seed)
    start = replace(start, facts={**start.facts, **model.used_as})
    use_free_cores()
    if remark := remark_on_photographs(model, images.pixels(model.size)):
        warnings.warn(remark, stacklevel=3)
    folder = None if out is None else RunFolder(out, resume=resume, save_every=save_every)
    return Run(model, images, start, settings, folder=folder)


def _check_suits(settings: TrainSettings, model: Model) -> None:
    """Raise `ValueError` for settings that mean nothing for the model."""
    if not isinstance(model, PipelineModel):
        return
    if settings.snr_gamma is not None and model.recipe.flow:
        raise InvalidValue(
            f"snr_gamma is {settings.snr_gamma}: {model.family.name} was trained by flow matching, whose loss has no such "
            "weights: leave it None"
        )
    if settings.negative and model.is_distilled:
        raise InvalidValue(
            f"negative is {settings.negative}: {model.family.name} was distilled to draw without guidance, where a negative "
            "word does nothing: leave it 0"
        )
    if settings.context:
        raise InvalidValue(
            f"context is {settings.context}: it compares the states of CLIP's encoders; {model.family.name} has others: leave it 0"
        )
    if settings.init_source == "output":
        raise InvalidValue(
            f"init_source is 'output', which is for CLIP's encoders; {model.family.name} has others: leave it 'table'"
        )


@checked(seeds=SEEDS)
def train_seeds(model: Model, images: ConceptImages, *, seeds: int | Sequence[int] = 3, **arguments: Any) -> list[Run]:
    """A run for each seed, with `train`'s arguments; give them to `together`. `out` gets a folder for each.

    Examples:
        >>> import ti_nb as ti
        >>> model, photos = ti.load_model("tiny"), ti.example_images("penguin")
        >>> runs = ti.train_seeds(model, photos, seeds=[3, 7], word="<my-penguin>", init="animal", steps=2)
        >>> [run.settings.seed for run in runs]
        [3, 7]
    """
    if not seeds:
        raise InvalidValue(f"seeds is {seeds!r}: give how many, at least 1, or which")
    which = range(seeds) if isinstance(seeds, int) else seeds
    out = arguments.pop("out", None)
    return [
        train(model, images, seed=seed, out=None if out is None else Path(out) / f"seed-{seed}", **arguments)
        for seed in which
    ]


@checked("at")
def train_progressively(
    model: Model,
    images: ConceptImages,
    *,
    word: str,
    init: str,
    at: Sequence[float] = (0.4, 0.8),
    settings: TrainSettings | str | None = None,
    **changes: Any,
) -> Iterator[Run]:
    """A run for each stage of a word that grows (paper, section 4.3): one vector, and another from each share `at` of the steps on.

    The stages are counted in steps of the optimiser, and nothing else. Finish a run before you ask for the next, which goes on
    from its word: the new vector starts as the initializer. Each stage has its own warm-up and decay, and the next seed.

    Args:
        at: rising shares of the steps, between 0 and 1. The rest is as for `train`.

    Raises:
        ValueError: a stage without a step; the next run asked for before the last was finished.

    Examples:
        >>> import ti_nb as ti
        >>> model, photos = ti.load_model("tiny"), ti.example_images("penguin")
        >>> for run in ti.train_progressively(model, photos, word="<my-penguin>", init="animal", steps=5, watch=0):
        ...     records = list(run)
        ...     print(f"{len(run.concept())} vectors for {len(records)} steps")
        1 vectors for 2 steps
        2 vectors for 2 steps
        3 vectors for 1 steps
    """
    chosen = as_settings(settings, {"vectors": 1, **changes})
    edges = [0, *(round(share * chosen.steps) for share in at), chosen.steps]
    counts = [end - begin for begin, end in pairwise(edges)]
    if min(counts) < 1:
        raise InvalidValue(
            f"at is {tuple(at)}: of {chosen.steps} steps that makes stages of {counts}; each needs at least one"
        )
    stages = [
        replace(chosen, steps=steps, warmup=min(chosen.warmup, steps // 2), seed=chosen.seed + number)
        for number, steps in enumerate(counts)
    ]
    return _grown(model, images, initial_concept(model, word, init, 1, source=chosen.init_source), stages)


def _grown(model: Model, images: ConceptImages, new: Concept, stages: Sequence[TrainSettings]) -> Iterator[Run]:
    grown = new
    for stage in stages:
        run = train(model, images, word=new.word, init=grown, settings=stage)
        yield run
        if not run.finished:
            raise InvalidValue(
                f"the stage of {len(grown)} vectors has {len(run.records)} of {stage.steps} steps: finish it first"
            )
        grown = join([run.concept(), new], new.word)


@checked()
def together(runs: Sequence[Run]) -> Iterator[list[StepRecord]]:
    """Advance several runs of one model side by side, all their batches through the UNet at once.

    Several seeds, or several concepts, share the model and fill the device better than one after the other; each
    run's result is that of the run alone, to rounding. Yields a record for each run that is not finished.

    Raises:
        ValueError: runs of different models, with negative words or longer prompts than one chunk, or of one folder; a folder that another run has taken over.
        KeyboardInterrupt: when interrupted; each run is then as it was before the step, and saved.

    Examples:
        >>> import ti_nb as ti
        >>> model, photos = ti.load_model("tiny"), ti.example_images("penguin")
        >>> runs = ti.train_seeds(model, photos, seeds=2, word="<my-penguin>", init="animal", steps=2)
        >>> for records in ti.together(runs):
        ...     print([record.step for record in records])
        [1, 1]
        [2, 2]
    """
    folders = [run.folder.path for run in runs if run.folder is not None]
    if len(set(folders)) < len(folders):
        raise InvalidValue(
            f"runs that go together need folders of their own: {', '.join(map(repr, map(str, folders)))}"
        )
    if len({id(run.model) for run in runs}) > 1:
        raise InvalidValue("runs that go together need the same loaded model")
    if len(runs) > 1 and any(run.settings.negative for run in runs):
        raise InvalidValue("runs with negative words can't go together: iterate over them one after the other")
    if len(runs) > 1 and any(run._draws.chunks > 1 for run in runs):
        raise InvalidValue("runs with prompts of more than 75 tokens can't go together: iterate over them one by one")
    if len(runs) > 1:
        plan = plan_memory(runs[0].model, runs[0].settings, together=len(runs))
        for run in runs:
            run.plan = plan
    while going := [run for run in runs if not run.finished]:
        yield advance(going)
    for run in runs:
        run.save_rest()
