"""`PipelineModel`: a model of today, whose own pipeline says how its prompts are encoded."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from copy import copy, deepcopy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ...errors import InvalidValue
from ...host import turns
from ..checks.supported import noise_schedule, pool_at_the_end
from ..families import family_of
from ..model import Model, TextEncoder, Vectors
from ..tokens import cut_at_words, extended, names_of_rows, plain, plain_token
from .latents import packed, posterior, scaled, unpacked
from .recipe import Family, Recipe
from .recorder import FIRST, as_codes, as_text, learn_to_read, quietly, record, twin
from .schedule import STEPS, USUAL_STEPS, FlowSchedule, flow_scheduler, given

PARTS = ("", "_2", "_3")
SIDE, LATENTS = 512, 64  # pictures are of so many px, and of no more latents, along a side
LONGEST = 2048  # characters of a prompt
TIME = ("timestep", "t")  # what networks call it


@dataclass(eq=False)
class ReadingEncoder(TextEncoder):
    """A text encoder whose ids here are the characters of the prompt."""

    @property
    def first(self) -> int:
        """The character of a word's first vector."""
        return FIRST


@dataclass(eq=False)
class Told:
    """All that the network is told beside latents and time, by the names of its arguments."""

    arguments: dict[str, Any]


@dataclass(eq=False)
class PipelineModel(Model):
    """A frozen model, driven through its own pipeline.

    Attributes:
        given_pipeline: as it was given. own: the same networks, with tokenizers that read a word's vectors.
        family: its row of facts.
        arguments: what the call is told beside the prompt.
    """

    given_pipeline: Any = None
    own: Any = None
    family: Family = field(default_factory=lambda: Family(""))
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def recipe(self) -> Recipe:
        """How its pipeline is driven."""
        assert self.family.recipe is not None
        return self.family.recipe

    @property
    def is_xl(self) -> bool:
        """It is not."""
        return False

    @property
    def _own_side(self) -> int:
        """Side of the latents that are usual here, not the largest that it can draw."""
        return min(SIDE // self.vae_factor, LATENTS)

    @property
    def vae_factor(self) -> int:
        """Pixels to a latent, along a side."""
        widths = getattr(self.vae.config, "block_out_channels", None)  # Bria's pipeline has the double
        if widths is not None:
            return int(2 ** (len(widths) - 1))
        return int(getattr(self.own, "vae_scale_factor", None) or self.own.vae_scale_factor_spatial)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of its latents."""
        config, (width, height) = self.vae.config, (side // self.vae_factor for side in self.size)
        channels = int(getattr(config, "latent_channels", None) or config.z_dim)
        is_patched = self.recipe.latents == "patched"
        return (4 * channels, height // 2, width // 2) if is_patched else (channels, height, width)

    @property
    def multiple(self) -> int:
        """Sides of its pictures are multiples of so many px: networks take latents two by two."""
        return 2 * self.vae_factor

    @property
    def is_distilled(self) -> bool:
        """Whether it was distilled to draw without guidance, so that a negative prompt does nothing."""
        return not self.recipe.negative or bool(getattr(self.own.config, "is_distilled", False))

    @property
    def takes_negative(self) -> bool:
        """Whether its call can be given a negative prompt."""
        return not self.is_distilled and "negative_prompt" in inspect.signature(type(self.own).__call__).parameters

    def check_negative(self, negative: str) -> None:
        """Raise `ValueError` for a negative prompt that would do nothing."""
        if negative and not self.takes_negative:
            why = "was distilled to draw without guidance" if self.is_distilled else "has no place for one in its call"
            raise InvalidValue(f"negative is {negative!r}, which would do nothing: {self.family.name} {why}")

    def resize(self, resolution: int | tuple[int, int]) -> None:
        """As of other models; timesteps are shifted as its call shifts them at that size."""
        super().resize(resolution)
        self.scheduler = _schedule(self)

    def leave_out(self, layers: int) -> None:
        """Its call leaves layers of its CLIP out.

        Raises:
            ValueError: its call has no such argument.
        """
        if layers and "clip_skip" not in inspect.signature(type(self.own).__call__).parameters:
            raise InvalidValue(f"clip_skip is {layers}: {self.family.name} leaves out no layers of its text encoder")
        self.clip_skip = layers

    @property
    def family_name(self) -> str:
        """The family whose models share its words."""
        return self.family.name

    @property
    def sampler(self) -> str:
        """The scheduler of its pipeline."""
        return type(self.own.scheduler).__name__.removesuffix("Scheduler")

    def posterior(self, picture: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation of the VAE's latents of a picture (1, 3, h, w)."""
        return posterior(self.vae, picture, self.recipe.frames)

    def scaled(self, mean: torch.Tensor, std: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The VAE's latents as the network expects them."""
        return scaled(self.vae, self.recipe, mean, std)

    def token_ids(self, prompts: Sequence[str], words: Mapping[str, int]) -> dict[str, torch.Tensor]:
        """Each prompt's characters as numbers (b, 2048), the same for each encoder; a word's vectors from `FIRST` on."""
        ranges, at = {}, FIRST
        for word, count in words.items():
            ranges[word] = range(at, at + count)
            at += count
        for prompt in prompts:
            if len(prompt) + at - FIRST > LONGEST:
                raise InvalidValue(
                    f"prompt is {len(prompt)} characters long, {LONGEST} fit: shorten {prompt[:60]!r}..."
                )
        codes = [as_codes(prompt, ranges, cut_at_words(prompt, words), LONGEST) for prompt in prompts]
        ids = torch.tensor(codes, device=self.device)
        return {encoder.key: ids for encoder in self.encoders}

    def spelled(self, prompt: str, words: Mapping[str, int]) -> tuple[tuple[int, ...], tuple[str, ...]]:
        """The first encoder's tokens of a prompt: their ids, and as people read them. Templates are not among them."""
        reader = self.own.tokenizer
        first = learn_to_read(reader, sum(words.values()))
        (text,) = self.texts(self.token_ids([prompt], words))
        ids = reader(text, add_special_tokens=False).input_ids
        own = names_of_rows(words)
        names = [own[i - first] if i >= first else plain_token(reader.convert_ids_to_tokens(i)) for i in ids]
        return tuple(ids), tuple(names)

    def texts(self, ids: Mapping[str, torch.Tensor]) -> list[str]:
        """The prompts of such ids, for `own` to read."""
        return [as_text(row) for row in ids[self.encoders[0].key].tolist()]

    @contextmanager
    def saying(self, rows: Vectors) -> Iterator[Any]:
        """Within the block, the pipeline that it yields reads the characters from `FIRST` on as `rows`."""
        with turns.turn, quietly(), ExitStack() as stack:
            for encoder in self.encoders:
                first = learn_to_read(getattr(self.own, f"tokenizer{encoder.part}"), len(rows[encoder.key]))
                stack.enter_context(extended(encoder.network, rows[encoder.key], first))
            yield self.own

    def call(self, steps: int = 2) -> dict[str, Any]:
        """The arguments of its call, without guidance, for latents that don't matter."""
        off, draw = {self.recipe.guidance: self.recipe.off}, torch.Generator().manual_seed(0)
        size = {"width": self.size[0], "height": self.size[1]}
        skip = {"clip_skip": self.clip_skip} if self.clip_skip else {}
        return {**off, **size, **skip, "num_inference_steps": steps, "generator": draw, **self.arguments}

    def draw(
        self, ids: Mapping[str, torch.Tensor], rows: Vectors, seeds: Sequence[int], steps: int, guidance: float
    ) -> list[Any]:
        """A picture for each seed, of as many prompts, by its own call; the last prompt is the negative one for all."""
        *prompts, negative = self.texts(ids)
        call = self.call(steps) | {"generator": [torch.Generator().manual_seed(seed) for seed in seeds]}
        if guidance > 1:
            call[self.recipe.guidance] = guidance
        if guidance > 1 and self.takes_negative:
            call["negative_prompt"] = [negative] * len(prompts)
        with self.saying(rows) as pipeline:
            out = pipeline(prompt=prompts, output_type="pil", **call)
        images: list[Any] = out.images if hasattr(out, "images") else [frames[0] for frames in out.frames]
        return images

    def condition(self, ids: Mapping[str, torch.Tensor], rows: Vectors) -> Told:
        """What the network is told for such ids, with gradients on the rows."""
        with self.saying(rows) as pipeline:
            return Told(record(pipeline, self.unet, self.texts(ids), self.call()))

    def predict(self, noisy: torch.Tensor, timesteps: torch.Tensor, told: Told) -> torch.Tensor:
        """The network's prediction (b, c, h, w), float32."""
        arguments, names = {**told.arguments}, inspect.signature(self.unet.forward).parameters
        time = next(name for name in TIME if name in arguments)
        arguments[next(iter(names))] = packed(noisy.to(self.dtype), self.recipe)
        arguments[time] = self.clock(timesteps).to(arguments[time].dtype)
        more = [name for name in arguments if names[name].kind is inspect.Parameter.VAR_KEYWORD]
        for name in more:
            arguments |= arguments.pop(name)
        with turns.turn:
            out = self.unet(**arguments)[0]
        return unpacked(out, self.recipe, noisy).float()

    def clock(self, timesteps: torch.Tensor) -> torch.Tensor:
        """What the network is given for timesteps (b,)."""
        if not self.recipe.flow:
            return timesteps
        scale = float(getattr(self.unet.config, "timestep_scale", None) or 1.0) if self.recipe.clock == "t" else 1.0
        return given(self.recipe.clock, self.scheduler, timesteps) * scale

    def pipeline(self) -> Any:
        """The same parts as the pipeline it was made of, nothing copied."""
        with turns.turn:
            self.vae.to(self.device)  # training moves it to the CPU
        pipeline = copy(self.given_pipeline)
        pipeline.scheduler = deepcopy(self.own.scheduler)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def fresh_pipeline(self) -> Any:
        """A pipeline whose tokenizers and text encoders are copies, so that loading words into it leaves the model alone."""
        pipeline = self.pipeline()
        with turns.turn:
            for encoder in self.encoders:
                setattr(pipeline, f"tokenizer{encoder.part}", deepcopy(encoder.tokenizer))
                setattr(pipeline, f"text_encoder{encoder.part}", deepcopy(plain(encoder.network)))
        return pipeline


def of_pipeline(pipeline: Any, name: str, arguments: Mapping[str, Any]) -> PipelineModel:
    """The model of a pipeline that has been checked."""
    family = family_of(type(pipeline).__name__, pipeline.text_encoder.get_input_embeddings().weight.shape[-1])
    assert family is not None and family.recipe is not None
    encoders = tuple(
        ReadingEncoder(key, getattr(pipeline, f"tokenizer{part}"), getattr(pipeline, f"text_encoder{part}"), part)
        for key, part in zip(family.encoders, PARTS)
    )
    for network in (*(e.network for e in encoders), pipeline.transformer, pipeline.vae):
        network.requires_grad_(False).eval()
    for encoder in encoders:
        if encoder.key.startswith("clip"):
            pool_at_the_end(encoder.network, encoder.tokenizer)
    own = twin(pipeline)
    if family.recipe.flow:
        own.scheduler = flow_scheduler(own.scheduler)
    model = PipelineModel(name, encoders, pipeline.transformer, pipeline.vae, scheduler=None)
    model.given_pipeline, model.own, model.family = pipeline, own, family
    model.arguments = {**family.recipe.arguments, **arguments}
    model.scheduler = _schedule(model)
    return model


def _schedule(model: PipelineModel) -> Any:
    """Its noise schedule; of flow matching the timesteps as its own call shifts them at this resolution."""
    own = model.own
    if not model.recipe.flow:
        return noise_schedule(own.scheduler)
    takes_sigmas = "sigmas" in inspect.signature(type(own).__call__).parameters and model.recipe.clock != "unshifted"
    even = {"sigmas": np.linspace(1.0, 1 / STEPS, STEPS).tolist()} if takes_sigmas else {}
    rows = {encoder.key: encoder.table[:1] for encoder in model.encoders}
    with torch.no_grad(), model.saying(rows):
        record(own, model.unet, [""], {**model.call(USUAL_STEPS if even else STEPS), **even})
    return FlowSchedule(
        own.scheduler.sigmas[:STEPS].flip(0), own.scheduler.timesteps[:STEPS].flip(0), model.recipe.sign
    )
