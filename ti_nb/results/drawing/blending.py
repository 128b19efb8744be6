"""Blended latent diffusion: a part of a picture drawn anew, the rest kept (Avrahami et al., 2023; the paper's figure 9).

After each step of drawing, what lies outside the mask is put back: the picture's latents, as noisy as the drawing then is.
So the model draws something that goes on from its surroundings. A VAE does not give pictures back exactly; at the end the
picture's own pixels take the place of the decoded ones, with a soft seam that lies within the mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from PIL import Image, ImageChops, ImageFilter

from ...errors import InvalidValue
from ...host.arguments import SEEDS, checked
from ...models.denoise import add_noise, cache_latents
from ...models.today.pipeline_model import PipelineModel
from ...pictures.concept_images import ConceptImages, squared
from ...pictures.picture import read_mask, read_photo
from ...words.concept import Concept
from .sampling import Asked, Begin, Sample, drawn

if TYPE_CHECKING:
    from ...models.model import Model

SEAM = 1 / 32  # of a picture's side: how wide the seam is within the mask


@checked("prompts", seeds=SEEDS, steps=(1, 1000), guidance=(0, None))
def edit_picture(
    model: Model,
    picture: Image.Image,
    mask: Image.Image,
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
    """Draw what the prompt says where the mask is white; every pixel where it is black stays as it is.

    A word needs no change to be used here: the paper did so with its words (figure 9).

    Args:
        picture: cut to its middle square, and made as large as the model draws.
        mask: of the same size; grey counts as white from the middle on.
        prompts: of the whole picture or of what is to come into it; and everything else as for `sample`.

    Raises:
        ValueError: a mask of another size, or without white; a model that draws by its pipeline's own call; what `sample` raises.

    Examples:
        >>> import ti_nb as ti
        >>> from PIL import Image
        >>> model = ti.load_model("tiny")
        >>> beach, mask = ti.example_images("penguin")[0], Image.new("L", ti.example_images("penguin")[0].size)
        >>> mask.paste(255, (0, 0, mask.width // 2, mask.height // 2))
        >>> edited = ti.edit_picture(model, beach, mask, "a cat", seeds=2, steps=2)
        >>> len(edited)
        2
    """
    if isinstance(model, PipelineModel):
        raise InvalidValue(f"{model.family.name} draws by its pipeline's own call, where nothing can be blended in yet")
    kept = _prepared(model, picture, mask)
    asked = Asked(prompts, concepts, steps, guidance, negative, batch, progress)
    out = drawn(model, asked, seeds, _blending(model, kept), " blended into a picture")
    seam = _seam(kept)
    return [replace(one, image=Image.composite(one.image, kept[0], seam)) for one in out]


def _prepared(model: Model, picture: Image.Image, mask: Image.Image) -> ConceptImages:
    """The picture with its mask, black and white, squares as large as the model draws."""
    photo = read_photo(picture, "picture")
    if mask.size != photo.picture.size:
        raise InvalidValue(f"mask is {mask.size} px large and picture {photo.picture.size}: give one of the same size")
    side = (model.resolution, model.resolution)
    kept, where = squared(photo, None, read_mask(mask, "mask")[0])
    assert where is not None
    where = where.resize(side, Image.Resampling.BOX).point(lambda level: 255 if level > 127 else 0)
    if where.getbbox() is None:
        raise InvalidValue("mask has no white within the picture's middle square: paint what is to be drawn anew white")
    small = kept.resize(side, Image.Resampling.LANCZOS)
    return ConceptImages((small,), ("picture",), masks=(where,))


def _seam(kept: ConceptImages) -> Image.Image:
    """The share of the drawing at each pixel: none outside the mask, rising from its edge inwards.

    At a straight edge a blurred mask is a half; twice what is above that begins with nothing there.
    """
    (where,) = kept.masks
    assert where is not None
    soft = where.filter(ImageFilter.GaussianBlur(where.width * SEAM / 2))
    return ImageChops.darker(where, soft.point(lambda level: max(0, 2 * level - 255)))


def _blending(model: Model, kept: ConceptImages) -> Begin:
    """What the pipeline is called with: noise, and what puts the picture's latents back after each step."""
    latents, _ = cache_latents(model, kept.pixels(model.resolution))
    inside = _at_latents(kept, model)

    def begin(seeds: list[int]) -> dict[str, Any]:
        draws = [torch.Generator().manual_seed(seed) for seed in seeds]
        noise = torch.stack([torch.randn(model.latent_shape, generator=draw) for draw in draws])

        def put_back(pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            ahead = pipeline.scheduler.timesteps[step + 1 :][:1].cpu()  # none after the last step: it is clean
            outside = add_noise(model, latents, noise, ahead) if len(ahead) else latents
            now = tensors["latents"]
            return {"latents": torch.where(inside.to(now.device), now, outside.to(now))}

        told = {"callback_on_step_end": put_back, "callback_on_step_end_tensor_inputs": ["latents"]}
        return {"latents": noise.to(model.device, model.dtype), **told}

    return begin


def _at_latents(kept: ConceptImages, model: Model) -> torch.Tensor:
    """(1, 1, h, w), true for each latent of which any pixel is in the mask, so that a thin one is not lost."""
    mask = kept.mask_pixels(model.resolution)
    assert mask is not None
    return F.adaptive_max_pool2d(mask, model.latent_shape[1:]) > 0
