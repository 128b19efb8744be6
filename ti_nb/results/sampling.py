"""Draw pictures from prompts, concepts and seeds; save them as PNG files that record how they were drawn."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tqdm.auto import tqdm

from ..errors import InvalidValue, NoSuchFile, NotWritten
from ..host import turns
from ..host.arguments import SEEDS, checked
from ..host.atomic import replacing
from ..host.devices import attempt, use_free_cores
from ..host.plain_text import place
from ..models.conditioning import Conditioning, token_ids
from ..models.today.pipeline_model import PipelineModel
from ..words.concept import Concept, fingerprint
from ..words.prompts import check_prompt, encode_alike, fill, said

if TYPE_CHECKING:
    from PIL import Image

    from ..models.model import Model


@dataclass(frozen=True)
class Sample:
    """One picture, with everything needed to draw it again.

    Attributes:
        prompt: with the word filled in. seed: of its initial noise. negative: the negative prompt.
        steps, guidance: as passed to `sample`; None for a picture made in another way.
        concepts: whose words the prompts may use. model: its name; of a folder, the last part only. dtype: its precision.
        sampler: the scheduler of `Model.pipeline`.
    """

    image: Image.Image
    prompt: str
    seed: int
    steps: int | None = None
    guidance: float | None = None
    negative: str = ""
    concepts: tuple[Concept, ...] = field(default=(), repr=False, compare=False)
    model: str = ""
    dtype: str = ""
    sampler: str = "DDIM"

    def settings(self) -> dict[str, Any]:
        """The metadata saved with the picture: `sample`'s arguments, each word's fingerprint and edits, the model.

        Nothing about training pictures, folders or the user.
        """
        words = {c.word: {"sha256": fingerprint(c), "edits": str(c.facts.get("edits", ""))} for c in self.concepts}
        kept = ("prompt", "negative", "seed", "steps", "guidance", "model", "dtype")
        size = {"width": self.image.width, "height": self.image.height}
        return {
            **{key: getattr(self, key) for key in kept},
            "sampler": self.sampler if self.steps else None,
            **size,
            "words": words,
        }

    @checked()
    def save(self, path: str | Path) -> Path:
        """Write a PNG with the settings as text metadata, for `read_settings` and, under "parameters", for other programs.

        The file appears under its name only when complete and its metadata has been read back; returns the path.

        Raises:
            ValueError: the name does not end in .png. OSError: the file can't be written.
        """
        from PIL.PngImagePlugin import PngInfo

        path = Path(path).expanduser()
        if path.suffix.lower() != ".png":
            raise InvalidValue(f"{place(path)} must end in .png, the format that can hold the settings")
        path.parent.mkdir(parents=True, exist_ok=True)
        settings, metadata = self.settings(), PngInfo()
        metadata.add_text("parameters", _as_parameters(settings))
        metadata.add_text("ti_nb", json.dumps(settings))
        with replacing(path) as temporary:
            self.image.save(temporary, format="PNG", pnginfo=metadata)
            if read_settings(temporary) != settings:
                raise NotWritten(f"{place(path)} did not read back as it was written: is the disk full?")
        return path


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

    Raises:
        ValueError: with concepts, a prompt that uses none of their words; a prompt of more than 600 tokens; a concept of
            another width; a batch below 1.

    Examples:
        >>> import ti_nb as ti
        >>> model = ti.load_model("tiny")
        >>> cat = ti.initial_concept(model, "<my-cat>", "cat")
        >>> samples = ti.sample(model, ["a photo of a {word}", "a {word} in the snow"], cat, seeds=2, steps=2)
        >>> [(s.prompt, s.seed) for s in samples]
        [('a photo of a <my-cat>', 0), ('a photo of a <my-cat>', 1), ('a <my-cat> in the snow', 0), ('a <my-cat> in the snow', 1)]
        >>> samples[0].image.size
        (64, 64)
    """
    if not seeds:
        raise InvalidValue(f"seeds is {seeds!r}: give how many, at least 1, or which")
    if batch is not None and batch < 1:
        raise InvalidValue(f"batch is {batch}: at least one picture is drawn at once")
    concepts = [concepts] if isinstance(concepts, Concept) else list(concepts)
    seeds = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
    texts = [prompts] if isinstance(prompts, str) else list(prompts)
    if concepts:
        texts = [fill(text, concepts[0].word) for text in texts]
        for text in texts:
            check_prompt(text, [c.word for c in concepts])
    use_free_cores()
    paint = _painter(model, texts, negative, concepts, steps, guidance)
    jobs = [(i, seed) for i in range(len(texts)) for seed in seeds]
    out: list[Sample] = []
    names = (model.shared_name, str(model.dtype).split(".")[-1], model.sampler)
    facts = (steps, guidance, negative, tuple(concepts), *names)
    batch = batch or usual_batch(model)
    with tqdm(total=len(jobs), desc="sampling", disable=not progress) as bar:
        while chunk := jobs[len(out) : len(out) + batch]:
            least = "one picture at once" if len(chunk) == 1 else ""
            images = attempt(partial(_draw_in_turn, paint, model, chunk), model.device, least=least)
            if images is None:  # out of memory
                batch = len(chunk) // 2
                continue
            out += [Sample(image, texts[i], seed, *facts) for image, (i, seed) in zip(images, chunk)]
            bar.update(len(chunk))
    return out


def usual_batch(model: Model) -> int:
    """How many pictures are drawn at once, where memory allows."""
    return next((n for side, n in BATCH_SIZES.items() if max(model.resolution, *model.size) <= side), 1)


def _painter(
    model: Model, texts: Sequence[str], negative: str, concepts: Sequence[Concept], steps: int, guidance: float
) -> Callable[[Sequence[tuple[int, int]]], list[Image.Image]]:
    """What draws one picture for each (prompt, seed) that it is given, in one batch."""
    if isinstance(model, PipelineModel):
        return _by_own_call(model, texts, negative, concepts, steps, guidance)
    told, where = encode_alike(model, texts, negative, concepts)
    pipeline, options = model.pipeline(), {"num_inference_steps": steps, "guidance_scale": guidance}

    def paint(jobs: Sequence[tuple[int, int]]) -> list[Image.Image]:
        images = []
        for chunks, group in groupby(jobs, key=lambda job: where[job[0]][0]):
            part, both = list(group), told[chunks]
            positive, negatives = both[[where[i][1] for i, _ in part]], both[[-1] * len(part)]
            images += _draw(pipeline, model, positive, negatives, part, options)
        return images

    return paint


def _by_own_call(
    model: PipelineModel, texts: Sequence[str], negative: str, concepts: Sequence[Concept], steps: int, guidance: float
) -> Callable[[Sequence[tuple[int, int]]], list[Image.Image]]:
    model.check_negative(negative)
    counts, rows = said(model, concepts)
    ids = token_ids(model, [*texts, negative], counts)  # the negative prompt is the last

    def paint(jobs: Sequence[tuple[int, int]]) -> list[Image.Image]:
        numbers, seeds = [*(i for i, _ in jobs), -1], [seed for _, seed in jobs]
        return model.draw({key: codes[numbers] for key, codes in ids.items()}, rows, seeds, steps, guidance)

    return paint


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


def _draw_in_turn(paint: Callable[[Any], list[Image.Image]], model: Model, jobs: Any) -> list[Image.Image]:
    with turns.turn:
        model.vae.to(model.device)  # a run that began since the last batch moved it off the device
        return paint(jobs)


@checked()
def save_samples(samples: Sequence[Sample], folder: str | Path) -> list[Path]:
    """Write each as a PNG with its settings (`Sample.save`) into `folder`, numbered after those already there.

    Returns the paths, such as 007-a-cat-on-the-beach-seed3.png.

    Raises:
        OSError: the folder or a file can't be written.
    """
    folder = Path(folder).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    taken = [int(match[1]) for path in folder.glob("*.png") if (match := re.match(r"(\d+)-", path.name))]
    first = max(taken, default=0) + 1
    paths = []
    for number, sample in enumerate(samples, first):
        slug = re.sub(r"[^a-z0-9]+", "-", sample.prompt.lower()).strip("-")[:40].strip("-") or "picture"
        paths.append(sample.save(folder / f"{number:03}-{slug}-seed{sample.seed}.png"))
    return paths


@checked()
def read_settings(path: str | Path) -> dict[str, Any]:
    """How a picture was drawn, from a PNG that `Sample.save` wrote: see `Sample.settings`.

    Raises:
        FileNotFoundError: there is no such file. ValueError: it is not a PNG, or has none of this package's metadata.
    """
    from PIL import Image, UnidentifiedImageError

    path = Path(path).expanduser()
    if not path.is_file():
        raise NoSuchFile(f"no such file: {place(path)}")
    try:
        with Image.open(path, formats=["PNG"]) as image:
            image.load()  # text may follow the pixels
            text = image.info.get("ti_nb")
    except UnidentifiedImageError as error:
        raise InvalidValue(f"{place(path)} is not a PNG file") from error
    if text is None:
        raise InvalidValue(f"{place(path)} does not say how it was drawn: only PNG files written by `Sample.save` do")
    settings: dict[str, Any] = json.loads(text)
    return settings


def _as_parameters(settings: dict[str, Any]) -> str:
    """Settings in AUTOMATIC1111's "parameters" format, which many programs and sites read."""
    facts = {
        "Steps": settings["steps"],
        "Sampler": settings["sampler"],
        "CFG scale": None if settings["guidance"] is None else f"{settings['guidance']:g}",
        "Seed": settings["seed"],
        "Size": f"{settings['width']}x{settings['height']}",
        "Model": settings["model"] or None,
        "TI hashes": ", ".join(f"{word}: {facts['sha256'][:12]}" for word, facts in settings["words"].items()) or None,
    }
    line = ", ".join(f"{name}: {_quoted(str(value))}" for name, value in facts.items() if value is not None)
    negative = [f"Negative prompt: {settings['negative']}"] if settings["negative"] else []
    return "\n".join([settings["prompt"], *negative, line])


def _quoted(value: str) -> str:
    """`value`, quoted if it has a comma, colon or line break, which separate the fields."""
    return json.dumps(value) if re.search(r"[,:\n]", value) else value
