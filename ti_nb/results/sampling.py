"""Prompts, concepts and seeds become pictures, and PNG files that say how they were drawn."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
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
from ..models.conditioning import Conditioning
from ..words.concept import Concept, fingerprint
from ..words.prompts import check_prompt, encode, fill

if TYPE_CHECKING:
    from PIL import Image

    from ..models.model import Model


@dataclass(frozen=True)
class Sample:
    """One picture, with all that is needed to draw it again.

    Attributes:
        prompt: with the word in it. seed: of the noise it began as. negative: the negative prompt.
        steps, guidance: as `sample` was told; None in a picture made otherwise.
        concepts: whose words the prompts may say. model: its name, of a folder the last part only. dtype: its precision.
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

    def settings(self) -> dict[str, Any]:
        """What a file says of the picture: `sample`'s arguments, each word's fingerprint and edits, the model.

        Nothing of the training pictures, of folders or of the person.
        """
        words = {c.word: {"sha256": fingerprint(c), "edits": str(c.facts.get("edits", ""))} for c in self.concepts}
        kept = ("prompt", "negative", "seed", "steps", "guidance", "model", "dtype")
        size = {"width": self.image.width, "height": self.image.height}
        return {
            **{key: getattr(self, key) for key in kept},
            "sampler": SAMPLER if self.steps else None,
            **size,
            "words": words,
        }

    @checked()
    def save(self, path: str | Path) -> Path:
        """Write a PNG whose text says how it was drawn, for `read_settings` and, as "parameters", for other programs.

        The file appears under its name only when whole, and only after its text was read back; returns the path.

        Raises:
            ValueError: the name does not end in .png. OSError: it can't be written.
        """
        from PIL.PngImagePlugin import PngInfo

        path = Path(path).expanduser()
        if path.suffix.lower() != ".png":
            raise InvalidValue(f"{place(path)} must end in .png, the format whose text holds the settings")
        path.parent.mkdir(parents=True, exist_ok=True)
        said, text = self.settings(), PngInfo()
        text.add_text("parameters", _as_parameters(said))
        text.add_text("ti_nb", json.dumps(said))
        with replacing(path) as temporary:
            self.image.save(temporary, format="PNG", pnginfo=text)
            if read_settings(temporary) != said:
                raise NotWritten(f"{place(path)} did not read back as it was written: is the disk full?")
        return path


AT_ONCE = {128: 16, 512: 4}  # pictures of up to so many px, drawn at once
SAMPLER = "DDIM"  # what `Model.pipeline` samples with


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

    A seed gives the same picture whatever else is drawn beside it (to float rounding). "{word}" and "{}" in a prompt
    stand for the first concept's word. A word learned for the negative prompt is given among the concepts and said in
    `negative`.

    Args:
        seeds: how many (0, 1, ...), or which.
        steps: denoising steps. guidance: classifier-free guidance scale; 1 turns it off.
        negative: what to steer away from.
        batch: pictures drawn at once; by default 16 of up to 128 px, 4 of up to 512, else 1. Fewer where memory is short.

    Raises:
        ValueError: with concepts, a prompt that says none of their words; a prompt beyond 77 tokens; a concept of
            another width; no picture at once.
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
    told = encode(model, [*texts, negative], concepts)
    if model.zeroes_empty and not negative:
        told = told.emptied(-1)
    jobs = [(i, seed) for i in range(len(texts)) for seed in seeds]
    pipeline = model.pipeline()
    out: list[Sample] = []
    facts = (steps, guidance, negative, tuple(concepts), model.shared_name, str(model.dtype).split(".")[-1])
    batch = batch or next((n for side, n in AT_ONCE.items() if model.resolution <= side), 1)
    with tqdm(total=len(jobs), desc="sampling", disable=not progress) as bar:
        while some := jobs[len(out) : len(out) + batch]:
            given = {"num_inference_steps": steps, "guidance_scale": guidance}
            said, against = told[[i for i, _ in some]], told[[-1] * len(some)]
            least = "one picture at once" if len(some) == 1 else ""
            work = partial(_in_turn, pipeline, model, said, against, some, given)
            images = attempt(work, model.device, least=least)
            if images is None:
                batch = len(some) // 2
                continue
            out += [Sample(image, texts[i], seed, *facts) for image, (i, seed) in zip(images, some)]
            bar.update(len(some))
    return out


def _in_turn(pipeline: Any, model: Model, *drawing: Any) -> list[Image.Image]:
    with turns.turn:
        model.vae.to(model.device)  # a run that began in between set it aside
        return _draw(pipeline, model, *drawing)


def _draw(
    pipeline: Any,
    model: Model,
    said: Conditioning,
    against: Conditioning,
    jobs: Sequence[tuple[int, int]],
    given: dict[str, Any],
) -> list[Image.Image]:
    """One picture for each (prompt, seed) of `jobs`, at once."""
    pooled = {}
    if said.pooled is not None and against.pooled is not None:
        pooled = {
            "pooled_prompt_embeds": said.pooled.to(model.dtype),
            "negative_pooled_prompt_embeds": against.pooled.to(model.dtype),
        }
    images: list[Image.Image] = pipeline(
        prompt_embeds=said.states.to(model.dtype),
        negative_prompt_embeds=against.states.to(model.dtype),
        **pooled,
        **given,
        generator=[torch.Generator("cpu").manual_seed(seed) for _, seed in jobs],
        height=model.resolution,
        width=model.resolution,
    ).images
    return images


@checked()
def save_samples(samples: Sequence[Sample], folder: str | Path) -> list[Path]:
    """Write each as a PNG with its settings (`Sample.save`) into `folder`, numbered on from what is there.

    Returns the paths, such as 007-a-cat-on-the-beach-seed3.png.

    Raises:
        OSError: the folder or a file can't be written.
    """
    folder = Path(folder).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    taken = [int(found[1]) for path in folder.glob("*.png") if (found := re.match(r"(\d+)-", path.name))]
    first = max(taken, default=0) + 1
    paths = []
    for number, one in enumerate(samples, first):
        words = re.sub(r"[^a-z0-9]+", "-", one.prompt.lower()).strip("-")[:40].strip("-") or "picture"
        paths.append(one.save(folder / f"{number:03}-{words}-seed{one.seed}.png"))
    return paths


@checked()
def read_settings(path: str | Path) -> dict[str, Any]:
    """How a picture was drawn, from a PNG that `Sample.save` wrote: see `Sample.settings`.

    Raises:
        FileNotFoundError: there is no such file. ValueError: it is no PNG, or says nothing of this package.
    """
    from PIL import Image, UnidentifiedImageError

    path = Path(path).expanduser()
    if not path.is_file():
        raise NoSuchFile(f"no such file: {place(path)}")
    try:
        with Image.open(path, formats=["PNG"]) as image:
            image.load()  # text may follow the pixels
            said = image.info.get("ti_nb")
    except UnidentifiedImageError as error:
        raise InvalidValue(f"{place(path)} is not a PNG file") from error
    if said is None:
        raise InvalidValue(f"{place(path)} does not say how it was drawn: it needs the text `Sample.save` writes")
    settings: dict[str, Any] = json.loads(said)
    return settings


def _as_parameters(said: dict[str, Any]) -> str:
    """Settings as AUTOMATIC1111 writes them, which many programs and sites read."""
    facts = {
        "Steps": said["steps"],
        "Sampler": said["sampler"],
        "CFG scale": None if said["guidance"] is None else f"{said['guidance']:g}",
        "Seed": said["seed"],
        "Size": f"{said['width']}x{said['height']}",
        "Model": said["model"] or None,
        "TI hashes": ", ".join(f"{word}: {facts['sha256'][:12]}" for word, facts in said["words"].items()) or None,
    }
    line = ", ".join(f"{name}: {_quoted(str(value))}" for name, value in facts.items() if value is not None)
    negative = [f"Negative prompt: {said['negative']}"] if said["negative"] else []
    return "\n".join([said["prompt"], *negative, line])


def _quoted(value: str) -> str:
    """`value`, in quotes if the commas and colons of the line would break it."""
    return json.dumps(value) if re.search(r"[,:\n]", value) else value
