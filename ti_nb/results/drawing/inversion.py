"""DDIM inversion: the noise from which a model, given a prompt, draws a picture that it did not draw.

Each step of drawing is undone, from the picture up to pure noise (Dhariwal and Nichol, 2021, appendix F; the paper's
"bipartite inversion", appendix A). The network is asked at the less noisy end of each step in place of the other, which
is not known yet: that is diffusers' `DDIMInverseScheduler`. As drawing would ask it at the other end, the way back misses
by a little. A correction draws the step again and moves the noise by what was missed (as Pan et al., 2023).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from ...errors import InvalidValue
from ...host import turns
from ...host.arguments import checked
from ...host.devices import use_free_cores
from ...models.conditioning import Conditioning
from ...models.denoise import cache_latents, predict
from ...models.today.pipeline_model import PipelineModel
from ...pictures.concept_images import ConceptImages, load_images
from ...words.concept import Concept
from ...words.prompts import check_prompt, encode, fill

if TYPE_CHECKING:
    from PIL import Image

    from ...models.model import Model

Denoiser = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@checked(steps=(1, 1000), guidance=(0, None), corrections=(0, 100))
@torch.no_grad()
def invert(
    model: Model,
    pictures: ConceptImages | Image.Image | Sequence[Image.Image],
    prompt: str = "",
    concepts: Concept | Sequence[Concept] = (),
    *,
    steps: int = 25,
    guidance: float = 1.0,
    corrections: int = 2,
) -> torch.Tensor:
    """The noise from which `sample` draws the pictures: `sample(model, prompt, concept, latents=noise)`, as many steps, same guidance.

    Changing a word of the prompt and keeping the noise changes the picture and keeps its structure, at low guidance: the
    paper (appendix A) found about 2, and it lost at 5 to 10.

    Args:
        pictures: one or several; each is cut to its middle square.
        prompt: what they show; "{word}" stands for the first concept's word.
        steps: as many as will be drawn with. guidance: 1 for none; the more there is, the less exact.
        corrections: how often each step is drawn again and corrected; 0 is DDIM inversion as published. On tiny, in 8 steps
            without guidance, drawing then misses the latents by over half of their spread with 0, under a sixth with 3.

    Returns:
        (n, c, h, w), float32, on the CPU.

    Raises:
        ValueError: a model that draws by its pipeline's own call; what `sample` and `load_images` raise.

    Examples:
        >>> import ti_nb as ti
        >>> model = ti.load_model("tiny")
        >>> noise = ti.invert(model, ti.example_images("penguin")[0], "a drawing of a bird", steps=2)
        >>> again, winter = ti.sample(model, ["a drawing of a bird", "a bird in the snow"], latents=noise, steps=2, guidance=1)
    """
    told = _told(model, prompt, [concepts] if isinstance(concepts, Concept) else list(concepts))
    images = pictures if isinstance(pictures, ConceptImages) else load_images(pictures)
    use_free_cores()
    latents, _ = cache_latents(model, images.pixels(model.resolution))
    denoiser = _guided(model, told, guidance)
    return torch.cat([noise_of(model, denoiser, one[None], steps, corrections) for one in latents])


def _told(model: Model, prompt: str, concepts: Sequence[Concept]) -> Conditioning:
    """The conditioning of the prompt, and of no prompt."""
    if isinstance(model, PipelineModel):
        raise InvalidValue(f"{model.family.name} draws by its pipeline's own call, which can't be inverted here yet")
    if concepts:
        prompt = fill(prompt, concepts[0].word)
        check_prompt(prompt, [concept.word for concept in concepts])
    told = encode(model, [prompt, ""], concepts)
    return told.emptied(-1) if model.zeroes_empty else told


def _guided(model: Model, told: Conditioning, guidance: float) -> Denoiser:
    """What drawing takes for the network's prediction (1, c, h, w): with and without the prompt, as far apart as guidance says."""
    if guidance <= 1:
        return lambda latents, timestep: predict(model, latents, timestep, told[:1])

    def both(latents: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        with_prompt, without = predict(model, latents.repeat(2, 1, 1, 1), timestep, told).chunk(2)
        return without + guidance * (with_prompt - without)

    return both


def noise_of(model: Model, denoiser: Denoiser, latents: torch.Tensor, steps: int, corrections: int) -> torch.Tensor:
    """The noise from which DDIM, with this denoiser, draws latents (1, c, h, w)."""
    forth, back = _schedules(model, steps)
    latents = latents.to(model.device)
    for timestep in forth.timesteps.flip(0):
        less_noisy = latents
        latents = back.step(denoiser(latents, timestep), int(timestep), latents).prev_sample
        for _ in range(corrections):
            drawn = forth.step(denoiser(latents, timestep), int(timestep), latents).prev_sample
            latents = latents + less_noisy - drawn
    return latents.float().cpu()


def _schedules(model: Model, steps: int) -> tuple[Any, Any]:
    """DDIM as `sample` draws, and back."""
    from diffusers import DDIMInverseScheduler, DDIMScheduler

    with turns.turn:
        forth = DDIMScheduler.from_config(model.scheduler.config)
    forth.set_timesteps(steps, device=model.device)
    known = inspect.signature(DDIMInverseScheduler).parameters
    back = DDIMInverseScheduler.from_config({key: value for key, value in forth.config.items() if key in known})
    back.num_inference_steps = forth.num_inference_steps
    return forth, back
