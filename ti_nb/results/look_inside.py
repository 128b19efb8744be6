"""Look inside the model: the timesteps at which a word helps, and where in a picture the UNet attends to each token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from tqdm.auto import tqdm

from ..errors import InvalidValue
from ..host import turns
from ..host.arguments import SEEDS, checked
from ..host.devices import in_parts
from ..models.conditioning import token_ids
from ..models.denoise import add_noise, cache_latents, predict
from ..models.today.pipeline_model import PipelineModel
from ..training.batches import Batch
from ..training.losses import plan_memory, word_loss
from ..training.settings import TrainSettings
from ..words.concept import check_fits
from ..words.prompts import check_prompt, encode, fill

if TYPE_CHECKING:
    from PIL import Image

    from ..models.model import Model
    from ..pictures.concept_images import ConceptImages
    from ..words.concept import Concept


MAX_BATCH = 8  # pictures that `loss_by_timestep` passes through the UNet at once, where memory allows


@checked("concepts", bands=(1, 1000), draws=(1, None), seed=SEEDS)
@torch.no_grad()
def loss_by_timestep(
    model: Model,
    images: ConceptImages,
    concepts: Sequence[Concept],
    *,
    template: str = "a photo of a {}",
    bands: int = 10,
    draws: int = 4,
    seed: int = 0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The denoising loss with each concept in each band of the schedule, on the same pictures and noise.

    Args:
        template: the caption of every picture. bands: into how many equal parts to divide the schedule.
        draws: noise samples for each picture and band.

    Returns:
        The bands' middle timesteps (bands,), and losses (concepts, bands).

    Raises:
        ValueError: a template without the word, a concept of another model, no concept, a number out of range.

    Examples:
        >>> import ti_nb as ti
        >>> model, photos = ti.load_model("tiny"), ti.load_images(ti.example_images("penguin").images[:1])
        >>> word = ti.initial_concept(model, "<x>", "bird")
        >>> timesteps, losses = ti.loss_by_timestep(model, photos, [word], bands=2, draws=1)
        >>> timesteps.shape, losses.shape
        (torch.Size([2]), torch.Size([1, 2]))
    """
    for concept in concepts:
        check_fits(concept, model)
        check_prompt(fill(template, concept.word), [concept.word])
    latents, _ = cache_latents(model, images.pixels(model.size))
    latents = latents.repeat(draws, 1, 1, 1)
    generator = torch.Generator().manual_seed(seed)
    total = len(model.scheduler.alphas_cumprod)
    middles = ((torch.arange(bands) + 0.5) / bands * total).long()
    losses = torch.zeros(len(concepts), bands)
    micro = plan_memory(model, TrainSettings(batch=MAX_BATCH)).micro
    for band, middle in enumerate(tqdm(middles.tolist(), desc="timesteps")):
        noise = torch.randn(latents.shape, generator=generator)
        for i, concept in enumerate(concepts):
            losses[i, band] = _mean_loss(model, concept, fill(template, concept.word), latents, noise, middle, micro)
    return middles, losses


def _mean_loss(
    model: Model, concept: Concept, prompt: str, latents: torch.Tensor, noise: torch.Tensor, timestep: int, micro: int
) -> float:
    """The mean loss over all latents at one timestep, `micro` of them at once."""
    ids, device = token_ids(model, [prompt], {concept.word: len(concept)}), model.device
    vectors = {key: v.to(device) for key, v in concept.vectors.items()}

    def losses(part: slice) -> torch.Tensor:
        latents_bchw, noise_bchw = latents[part].to(device), noise[part].to(device)
        count = len(latents_bchw)
        timesteps = torch.full((count,), timestep, device=device)
        ids_bt = {key: v.expand(count, -1) for key, v in ids.items()}
        mask = torch.ones(count, 1, 1, 1, device=device)
        return word_loss(model, vectors, Batch(latents_bchw, noise_bchw, timesteps, ids_bt, mask))

    return float(torch.cat(in_parts(losses, len(latents), micro, device)).mean())


@dataclass(frozen=True, eq=False)
class Attention:
    """Where the UNet attends to which token of a prompt.

    Attributes:
        tokens: of the prompt, as the tokenizer spells them; a word of several vectors is several tokens.
        maps: (pictures, tokens, h, w), attention weights. Over all 77 tokens they sum to 1 at each place; the start token
            and the padding, left out here, have the rest.
    """

    tokens: tuple[str, ...]
    maps: torch.Tensor

    @checked("masks")
    def focus(self, masks: Sequence[Image.Image]) -> dict[str, float]:
        """For each token, how many times more it is attended to inside a picture's mask (white) than outside: the mean of all.

        Raises:
            ValueError: not as many masks as pictures, or one that is all white or all black.
        """
        if len(masks) != len(self.maps):
            raise InvalidValue(f"there are {len(masks)} masks and {len(self.maps)} pictures: give one for each")
        inside = torch.stack([_shares(mask, self.maps.shape[-2:]) for mask in masks])[:, None]  # (b, 1, h, w)
        weights = [(part * self.maps).sum((2, 3)) / part.sum((2, 3)) for part in (inside, 1 - inside)]
        ratios = (weights[0] / weights[1].clamp_min(1e-12)).mean(0)
        return {token: float(ratio) for token, ratio in zip(self.tokens, ratios)}


def _shares(mask: Image.Image, side: tuple[int, ...]) -> torch.Tensor:
    """The share (h, w) of each place that the mask covers."""
    import numpy as np
    from PIL import Image

    height, width = side
    small = mask.convert("L").resize((width, height), Image.Resampling.BOX)
    shares = torch.from_numpy(np.asarray(small).copy()).float() / 255
    if not 0 < float(shares.mean()) < 1:
        raise InvalidValue("a mask is all white or all black: it must show where the thing is")
    return shares


@checked(seed=SEEDS)
@torch.no_grad()
def attention(
    model: Model,
    images: ConceptImages,
    prompt: str,
    concept: Concept | None = None,
    *,
    noise: float = 0.5,
    seed: int = 0,
) -> Attention:
    """Cross-attention of pictures to a prompt, averaged over all layers and heads.

    The pictures are noised as in training and go through the UNet once.

    Args:
        prompt: with "{word}" or "{}" where the word goes. concept: the word; None for a prompt without one.
        noise: how far into the schedule to noise them, 0 to 1.

    Raises:
        ValueError: `noise` out of range, a prompt without the word or too long.

    Examples:
        >>> import ti_nb as ti
        >>> model, photos = ti.load_model("tiny"), ti.load_images(ti.example_images("penguin").images[:1])
        >>> found = ti.attention(model, photos, "a photo of a penguin")
        >>> figure = ti.plot_attention(photos.images, found)
    """
    if isinstance(model, PipelineModel):
        raise InvalidValue(
            f"{model.name!r} has no cross-attention of a UNet's kind to look at: {model.family.name} has others"
        )
    if not 0 <= noise <= 1:
        raise InvalidValue(f"noise is {noise}: give a share of the schedule, 0 to 1")
    if concept is not None:
        prompt = fill(prompt, concept.word)
        check_prompt(prompt, [concept.word])
    latents, _ = cache_latents(model, images.pixels(model.size))
    latents = latents[: len(images)].to(model.device)
    added = torch.randn(latents.shape, generator=torch.Generator().manual_seed(seed)).to(model.device)
    total = len(model.scheduler.alphas_cumprod)
    step = torch.tensor([min(int(noise * total), total - 1)], device=model.device)
    conditioning = encode(model, [prompt], [concept] if concept else [])
    if conditioning.states.shape[1] > model.tokenizer.model_max_length:
        raise InvalidValue(f"prompt {prompt[:60]!r}... is longer than {model.tokenizer.model_max_length - 2} tokens")
    noisy = add_noise(model, latents, added, step.repeat(len(latents)))

    def maps(part: slice) -> torch.Tensor:
        with turns.turn, _record_attention(model.unet) as layers:
            predict(model, noisy[part], step, conditioning)
        return _mean_maps(layers, 1, latents.shape[-2] / latents.shape[-1])

    # One picture at once: plain attention holds every weight in memory.
    maps_bthw = torch.cat(in_parts(maps, len(latents), 1, model.device))
    tokens = _token_names(model, prompt, concept)
    return Attention(tokens, maps_bthw[:, 1 : 1 + len(tokens)])


@contextmanager
def _record_attention(unet: Any) -> Iterator[list[torch.Tensor]]:
    """Within the block, collect each cross-attention layer's weights (b x heads, h x w, 77), computed by diffusers' plain processor.

    Self-attention layers are left alone: their weights would be (h x w) squared.
    """
    from diffusers.models.attention_processor import AttnProcessor

    processors, weights = unet.attn_processors, []
    layers = [module for name, module in unet.named_modules() if name.endswith("attn2")]

    def recorded(get_attention_scores: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> torch.Tensor:
            scores: torch.Tensor = get_attention_scores(*args, **kwargs)
            weights.append(scores.float().cpu())
            return scores

        return call

    unet.set_attn_processor({name: AttnProcessor() if ".attn2." in name else p for name, p in processors.items()})
    for layer in layers:
        layer.get_attention_scores = recorded(layer.get_attention_scores)
    try:
        yield weights
    finally:
        for layer in layers:
            del layer.get_attention_scores
        unet.set_attn_processor(processors)


def _mean_maps(layers: Sequence[torch.Tensor], count: int, ratio: float = 1.0) -> torch.Tensor:
    """Of pictures `ratio` times as high as wide the mean over layers and heads, at the finest layer's resolution: (count, 77, h, w)."""
    heights = [round((weights.shape[1] * ratio) ** 0.5) for weights in layers]
    shapes = [(height, weights.shape[1] // height) for height, weights in zip(heights, layers)]
    out = []
    for weights, shape in zip(layers, shapes):
        mean_bhwt = weights.reshape(count, -1, *shape, weights.shape[-1]).mean(1)
        out.append(F.interpolate(mean_bhwt.permute(0, 3, 1, 2), size=max(shapes), mode="bilinear", align_corners=False))
    return torch.stack(out).mean(0)


def _token_names(model: Model, prompt: str, concept: Concept | None) -> tuple[str, ...]:
    """The prompt's tokens between start and end; ids from `encoder.first` on are the word's vectors."""
    encoder = model.encoders[0]
    ids = token_ids(model, [prompt], {concept.word: len(concept)} if concept else {})[encoder.key][0].tolist()
    end = ids.index(encoder.tokenizer.eos_token_id, 1)
    known = encoder.tokenizer.convert_ids_to_tokens([min(i, encoder.first - 1) for i in ids[1:end]])

    def vector_name(number: int) -> str:
        assert concept is not None
        return concept.word if len(concept) == 1 else f"{concept.word} {number}"

    return tuple(
        vector_name(i - encoder.first + 1) if i >= encoder.first else token.removesuffix("</w>")
        for i, token in zip(ids[1:end], known)
    )
