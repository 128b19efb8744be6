"""Draw pictures from prompts, concepts and seeds."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch
from tqdm.auto import tqdm

from ...errors import InvalidValue
from ...host import turns
from ...host.arguments import SEEDS, checked
from ...host.devices import attempt, use_free_cores
from ...models.conditioning import Conditioning, token_ids
from ...models.denoise import predict
from ...models.today.pipeline_model import PipelineModel
from ...models.tokens import split_on_words
from ...words.concept import Concept
from ...words.prompts import check_prompt, encode, encode_alike, fill, said
from .samples import Sample

if TYPE_CHECKING:
    from PIL import Image

    from ...models.model import Model


BATCH_SIZES = {128: 16, 512: 4}  # up to this resolution in px -> pictures drawn at once; above: 1


@checked("prompts", seeds=SEEDS, steps=(1, 1000), guidance=(0, None))
def sample(
    model: Model,
    prompts: str | Sequence[str],
    concepts: Concept | Sequence[Concept] = (),
    *,
    seeds: int | Sequence[int] = 4,
    steps: int = 25,
    guidance: float = 5.0,
    negative: str = "",
    batch: int | None = None,
    progress: bool = True,
    latents: torch.Tensor | None = None,
) -> list[Sample]:
    """Draw every prompt with every seed: prompt by prompt, seeds in order.

    A seed gives the same picture whatever else is drawn in its batch (to float rounding). "{word}" and "{}" in a prompt
    stand for the first concept's word. To use a word learned for the negative prompt, pass it among the concepts and
    write it in `negative`.

    Args:
        seeds: how many (0, 1, ...), or which.
        steps: denoising steps. guidance: classifier-free guidance scale; 1 turns it off.
        negative: what to steer away from.
        batch: pictures drawn at once; by default 16 of up to 128 px, 4 of up to 512, else 1. Fewer where memory is short.
        latents: noise (n, c, h, w) in place of the seeds', as `invert` returns: n pictures of each prompt, numbered.

    Raises:
        ValueError: with concepts, a prompt that uses none of their words (but those in `negative`); a prompt of more than 600
            tokens; a concept of another width; a batch below 1; latents of another shape, or for a model that draws by its
            pipeline's own call.

    Examples:
        >>> import ti_nb as ti
        >>> model = ti.load_model("tiny")
        >>> cat = ti.initial_concept(model, "<my-cat>", "cat")
        >>> samples = ti.sample(model, ["a photo of a {word}", "a {word} in the snow"], cat, seeds=2, steps=2)
        >>> [(s.prompt, s.seed) for s in samples]
        [('a photo of a <my-cat>', 0), ('a photo of a <my-cat>', 1), ('a <my-cat> in the snow', 0), ('a <my-cat> in the snow', 1)]
    """
    asked = Asked(prompts, concepts, steps, guidance, negative, batch, progress)
    if latents is None:
        return drawn(model, asked, seeds)

    def begin(some: list[int]) -> dict[str, Any]:
        return {"latents": latents[some].to(model.device, model.dtype)}

    return drawn(model, asked, _numbers(model, latents), begin, " from given noise")


@dataclass(frozen=True)
class Asked:
    """What pictures to draw, and how: `sample`'s arguments but the seeds."""

    prompts: str | Sequence[str]
    concepts: Concept | Sequence[Concept]
    steps: int
    guidance: float
    negative: str
    batch: int | None
    progress: bool


Begin = Callable[[list[int]], dict[str, Any]]


def drawn(
    model: Model, asked: Asked, seeds: int | Sequence[int], begin: Begin | None = None, how: str = ""
) -> list[Sample]:
    """Every prompt with every seed. `begin` says, for pictures of such seeds, what else the pipeline is called with; `how` names it."""
    seeds, batch = _seeds(seeds), asked.batch
    if batch is not None and batch < 1:
        raise InvalidValue(f"batch is {batch}: at least one picture is drawn at once")
    concepts = [asked.concepts] if isinstance(asked.concepts, Concept) else list(asked.concepts)
    texts = _filled(asked, concepts)
    use_free_cores()
    paint = _painter(model, texts, concepts, asked, begin)
    jobs = [(i, seed) for i in range(len(texts)) for seed in seeds]
    out: list[Sample] = []
    names = (model.shared_name, str(model.dtype).split(".")[-1], model.sampler + how)
    facts = (asked.steps, asked.guidance, asked.negative, tuple(concepts), *names)
    batch = batch or usual_batch(model)
    with tqdm(total=len(jobs), desc="sampling", disable=not asked.progress) as bar:
        while chunk := jobs[len(out) : len(out) + batch]:
            least = "one picture at once" if len(chunk) == 1 else ""
            images = attempt(partial(_draw_in_turn, paint, model, chunk), model.device, least=least)
            if images is None:  # out of memory
                batch = len(chunk) // 2
                continue
            out += [Sample(image, texts[i], seed, *facts) for image, (i, seed) in zip(images, chunk)]
            bar.update(len(chunk))
    return out


def _filled(asked: Asked, concepts: list[Concept]) -> list[str]:
    """The prompts with the first word in its place; each must say one of the words that the negative prompt does not."""
    prompts = [asked.prompts] if isinstance(asked.prompts, str) else list(asked.prompts)
    words = [concept.word for concept in concepts]
    against = split_on_words(asked.negative, words)
    wanted = [word for word in words if word not in against]
    texts = [fill(prompt, (wanted or words)[0]) for prompt in prompts] if words else prompts
    for text in texts:
        check_prompt(text, wanted)
    return texts


def usual_batch(model: Model) -> int:
    """How many pictures are drawn at once, where memory allows."""
    return next((n for side, n in BATCH_SIZES.items() if max(model.resolution, *model.size) <= side), 1)


def _seeds(seeds: int | Sequence[int]) -> list[int]:
    """Which; `seeds` may say how many."""
    if not seeds:
        raise InvalidValue(f"seeds is {seeds!r}: give how many, at least 1, or which")
    return list(range(seeds)) if isinstance(seeds, int) else list(seeds)


def _numbers(model: Model, latents: torch.Tensor) -> list[int]:
    """A number for each picture that such noise (n, c, h, w) begins.

    Raises:
        ValueError: the model draws by its own call, or its latents have another shape.
    """
    if isinstance(model, PipelineModel):
        raise InvalidValue(f"latents are given, and {model.family.name} draws by its pipeline's own call: give seeds")
    if latents.ndim != 4 or tuple(latents.shape[1:]) != model.latent_shape or not len(latents):
        wanted = ", ".join(map(str, model.latent_shape))
        raise InvalidValue(f"latents have the shape {tuple(latents.shape)}: {model.name!r} takes (n, {wanted})")
    return list(range(len(latents)))


def _painter(
    model: Model, texts: Sequence[str], concepts: Sequence[Concept], asked: Asked, begin: Begin | None
) -> Callable[[Sequence[tuple[int, int]]], list[Image.Image]]:
    """What draws one picture for each (prompt, seed) that it is given, in one batch."""
    if isinstance(model, PipelineModel):
        return _painter_by_own_call(model, texts, concepts, asked)
    told, where = encode_alike(model, texts, asked.negative, concepts)
    pipeline, options = model.pipeline(), {"num_inference_steps": asked.steps, "guidance_scale": asked.guidance}

    def paint(jobs: Sequence[tuple[int, int]]) -> list[Image.Image]:
        images = []
        for chunks, group in groupby(jobs, key=lambda job: where[job[0]][0]):
            part, both = list(group), told[chunks]
            positive, negatives = both[[where[i][1] for i, _ in part]], both[[-1] * len(part)]
            more = begin([seed for _, seed in part]) if begin else {}
            images += _draw(pipeline, model, positive, negatives, part, options | more)
        return images

    return paint


def _painter_by_own_call(
    model: PipelineModel, texts: Sequence[str], concepts: Sequence[Concept], asked: Asked
) -> Callable[[Sequence[tuple[int, int]]], list[Image.Image]]:
    model.check_negative(asked.negative)
    counts, rows = said(model, concepts)
    ids = token_ids(model, [*texts, asked.negative], counts)  # the negative prompt is the last

    def paint(jobs: Sequence[tuple[int, int]]) -> list[Image.Image]:
        numbers, seeds = [*(i for i, _ in jobs), -1], [seed for _, seed in jobs]
        codes = {key: codes[numbers] for key, codes in ids.items()}
        return model.draw(codes, rows, seeds, asked.steps, asked.guidance)

    return paint


def _draw_in_turn(paint: Callable[[Any], list[Image.Image]], model: Model, jobs: Any) -> list[Image.Image]:
    with turns.turn:
        model.vae.to(model.device)  # a run that began since the last batch moved it off the device
        return paint(jobs)


def _draw(
    pipeline: Any, model: Model, positive: Conditioning, negative: Conditioning, jobs: Sequence[Any], options: Any
) -> list[Image.Image]:
    """One picture for each (prompt, seed) of `jobs`, in one batch."""
    pooled = {}
    if positive.pooled is not None and negative.pooled is not None:
        pooled = {
            "pooled_prompt_embeds": positive.pooled.to(model.dtype),
            "negative_pooled_prompt_embeds": negative.pooled.to(model.dtype),
        }
    images: list[Image.Image] = pipeline(
        prompt_embeds=positive.states.to(model.dtype),
        negative_prompt_embeds=negative.states.to(model.dtype),
        **pooled,
        **options,
        generator=[torch.Generator("cpu").manual_seed(seed) for _, seed in jobs],
        width=model.size[0],
        height=model.size[1],
    ).images
    return images


@torch.no_grad()
def seconds_to_draw(model: Model, pictures: int, *, steps: int = 25, guidance: float = 5.0) -> float:
    """About how many seconds `sample` takes for so many pictures: one pass of a batch is timed, nothing is drawn.

    Of a model that draws by its pipeline's own call, one step of one picture is timed.
    """
    if isinstance(model, PipelineModel):
        began = time.perf_counter()
        sample(model, "", steps=1, guidance=guidance, progress=False)
        return (time.perf_counter() - began) * steps * pictures
    batch = min(pictures, usual_batch(model))
    rows = batch if guidance <= 1 else 2 * batch
    noise = torch.zeros(rows, *model.latent_shape, device=model.device)
    told = encode(model, [""])[[0] * rows]
    timesteps = torch.zeros(1, dtype=torch.long, device=model.device)
    seconds = []
    for _ in range(3):  # the first pass warms up
        began = time.perf_counter()
        predict(model, noise, timesteps, told).sum().item()  # a number waits for the device
        seconds.append(time.perf_counter() - began)
    return min(seconds[1:]) * steps * pictures / batch
