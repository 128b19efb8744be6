"""Which models can be trained: what a loaded pipeline must be made of. Anything else is refused in one sentence, with the reason."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from ...errors import InvalidValue
from ...host.plain_text import place
from ..families import FAMILIES, RECIPES, SUPPORTED
from .quantised import QUANTISED, lets_gradients_through

PREDICTIONS = ("epsilon", "v_prediction")

# Each part's class in the library that `model_index.json` names for it, one or several.
KINDS: Mapping[str, tuple[str, ...]] = {
    "unet": ("UNet2DConditionModel",),
    "vae": ("AutoencoderKL",),
    "text_encoder": ("CLIPTextModel",),
    "text_encoder_2": ("CLIPTextModelWithProjection",),
    "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
    "tokenizer_2": ("CLIPTokenizer", "CLIPTokenizerFast"),
}
WHY = {
    "unet": "the loss is that of a UNet2DConditionModel",
    "vae": "pictures are encoded by an AutoencoderKL",
    "text_encoder": "words are learned for a CLIPTextModel",
    "text_encoder_2": "SDXL's second encoder is a CLIPTextModelWithProjection",
    "tokenizer": "words are spelled by a CLIPTokenizer",
    "tokenizer_2": "words are spelled by a CLIPTokenizer",
}
CHANNELS = {
    9: "an inpainting model",
    8: "one that edits a picture",
    7: "one that enlarges pictures",
    5: "one that takes a depth map",
}


def needed(kind: str) -> list[str]:
    """The parts that a pipeline of class `kind` must have."""
    if kind in RECIPES:
        suffixes = ("", "_2", "_3")[: len(RECIPES[kind].encoders)]
        texts = [f"{part}{suffix}" for part in ("text_encoder", "tokenizer") for suffix in suffixes]
        return ["transformer", "vae", *texts, "scheduler"]
    parts = [*KINDS, "scheduler"]
    return parts if "XL" in kind else [part for part in parts if not part.endswith("_2")]


def check_kind(kind: Any, name: str) -> str:
    """`kind`, if it is the class of a pipeline that can be trained; else raise `ValueError`."""
    if kind in SUPPORTED:
        return str(kind)
    also = ""
    if str(kind).endswith("Img2ImgPipeline") and kind.replace("Img2Img", "") in SUPPORTED:
        also = f"; this one has the same parts: give {kind.replace('Img2Img', '')}(**pipeline.components)"
    today = ", ".join(f"{row.pipeline} ({row.name})" for row in FAMILIES if row.recipe)
    raise InvalidValue(
        f"{place(name)} is a {kind}, no text-to-image model of a kind that can be trained; supported today: "
        f"StableDiffusionPipeline, StableDiffusionXLPipeline (SD 1.x, 2.x and SDXL), {today}{also}"
    )


def check_part(part: str, kinds: tuple[str, ...] | list[str], name: str) -> None:
    """Raise `ValueError` unless one of `kinds`, the classes of a part, is one that can be trained."""
    if part in KINDS and not set(kinds) & set(KINDS[part]):
        raise InvalidValue(f"{place(name)} can't be trained: its {part} is of the class {kinds[0]}, and {WHY[part]}")


def check_pipeline(pipeline: Any, name: str) -> None:
    """Raise `ValueError`, saying what is missing or other, unless a word can be learned with the pipeline's parts."""
    kind = check_kind(type(pipeline).__name__, name)
    for part in needed(kind) if kind not in RECIPES else ():
        if (network := getattr(pipeline, part, None)) is not None:
            check_part(part, [c.__name__ for c in type(network).__mro__], name)
    for reason in _reasons(pipeline, kind):
        raise InvalidValue(f"{place(name)} can't be trained: {reason}")


def _reasons(pipeline: Any, kind: str) -> Iterator[str]:
    parts = {part: getattr(pipeline, part, None) for part in needed(kind)}
    for part, network in parts.items():
        if network is None:
            refiner = part == "text_encoder" and "XL" in kind
            yield f"it has no {part}: load it whole" + (" (SDXL's refiner has none: use its base)" if refiner else "")
    yield from _of_weights({part: net for part, net in parts.items() if hasattr(net, "parameters")}, kind in RECIPES)
    if kind in RECIPES:
        yield from _of_today(parts, kind)
        return
    yield from _of_unet(pipeline.unet, "XL" in kind)
    yield from _of_sizes(parts)
    yield from of_scheduler(pipeline.scheduler)


def _of_today(parts: Mapping[str, Any], kind: str) -> Iterator[str]:
    """Of a pipeline that is driven by its own call: only what it can't say itself."""
    for suffix in ("", "_2", "_3")[: len(RECIPES[kind].encoders)]:
        tokenizer, network = parts[f"tokenizer{suffix}"], parts[f"text_encoder{suffix}"]
        rows = network.get_input_embeddings().num_embeddings
        if hasattr(tokenizer, "words"):
            yield f"words are loaded into its tokenizer{suffix}: unload them first"
        if len(tokenizer) > rows:
            yield f"its tokenizer{suffix} knows {len(tokenizer)} tokens, its text encoder {rows}: these don't belong together"
    recipe = RECIPES[kind].recipe
    if recipe is not None and not recipe.flow:
        yield from of_scheduler(parts["scheduler"])


def _of_weights(networks: Mapping[str, Any], quantised: bool) -> Iterator[str]:
    """Weights that are offloaded, on several devices, not finite, or quantised, unless that may be."""
    import torch

    for part, network in networks.items():
        if any(hasattr(m, "_hf_hook") or _has_hooks(m) for m in network.modules()):
            yield f"its {part} has hooks, as offloading, device maps and caches leave them: load it without, then `.to(device)`"
        weights = dict(network.named_parameters())
        if any(w.is_meta for w in weights.values()):
            yield f"its {part} is without (some of) its weights, which were offloaded, or missing when it was loaded"
        may_be = quantised and lets_gradients_through(network)
        if not may_be and _is_quantised(network, weights):
            yield f"its {part} is quantised{' in a way that gradients do not go through' * quantised}: load it in float32, float16 or bfloat16"
        for key, weight in weights.items():
            if type(weight.data) is torch.Tensor and weight.is_floating_point() and not bool(weight.isfinite().all()):
                yield f"its {part} is damaged, {key} has numbers that are not finite: fetch it again"
    devices = {str(network.device) for part, network in networks.items() if part != "vae"}  # which rests on the CPU
    if len(devices) > 1:
        yield f"its parts are on {' and '.join(sorted(devices))}: put them on one device, `pipeline.to(device)`"


def _has_hooks(module: Any) -> bool:
    """Whether diffusers has put hooks on it: pipelines leave a registry without any where they have drawn."""
    registry = getattr(module, "_diffusers_hook", None)
    return registry is not None and bool(getattr(registry, "hooks", True))


def _is_quantised(network: Any, weights: Mapping[str, Any]) -> bool:
    import torch

    if getattr(network, "hf_quantizer", None) is not None or getattr(network, "is_quantized", False):
        return True
    plain = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
    if any(w.dtype not in plain or type(w.data) is not torch.Tensor for w in weights.values()):
        return True
    return any(word in type(module).__module__ for module in network.modules() for word in QUANTISED)


def _of_unet(unet: Any, is_xl: bool) -> Iterator[str]:
    """A UNet with other inputs than a text-to-image one's, or a distilled one."""
    config = unet.config
    if config.in_channels != config.out_channels and config.in_channels in CHANNELS:
        given, base = config.in_channels, config.out_channels
        yield f"its UNet takes {given} channels, {CHANNELS[given]}: use its text-to-image base, which takes {base}"
    if config.time_cond_proj_dim is not None:
        yield "its UNet was distilled to few steps (a latent consistency model), which is another objective: use its base"
    if config.encoder_hid_dim_type == "ip_image_proj":
        yield "an IP-Adapter is loaded, which needs pictures beside prompts: `pipeline.unload_ip_adapter()`"
    wanted = "text_time" if is_xl else None
    if config.addition_embed_type != wanted:
        yield f"its UNet is told {config.addition_embed_type!r} beside the prompt, where a {'SDXL' if is_xl else 'SD'} UNet has {wanted!r}"
    others = ("class_embed_type", "num_class_embeds", "encoder_hid_dim", "encoder_hid_dim_type")
    for other in others:
        if getattr(config, other, None) is not None:
            yield f"its UNet is told more than a prompt ({other} is {getattr(config, other)!r}): use a plain text-to-image model"
    if any(list(p.parameters()) for p in unet.attn_processors.values() if hasattr(p, "parameters")):
        yield "its attention processors have weights of their own (an adapter's): unload it"
    if any(getattr(block, "b1", None) is not None for block in unet.up_blocks):
        yield "FreeU is on, which changes what the UNet computes: `pipeline.disable_freeu()`"


def _of_sizes(parts: Mapping[str, Any]) -> Iterator[str]:
    """Parts that don't fit together."""
    unet, channels = parts["unet"].config, parts["vae"].config.latent_channels
    for what in ("in_channels", "out_channels"):
        if getattr(unet, what) != channels:
            yield f"its UNet has {getattr(unet, what)} {what}, its VAE makes latents of {channels}: these don't belong together"
    side = unet.sample_size
    sides = set(side) if isinstance(side, list | tuple) else {side}
    if len(sides) != 1 or not isinstance(next(iter(sides)), int):
        yield f"its UNet's sample_size is {side!r}: words are learned from square pictures, so that it must be one number"
    suffixes = ("", "_2") if "text_encoder_2" in parts else ("",)
    width = sum(parts[f"text_encoder{suffix}"].config.hidden_size for suffix in suffixes)
    takes = unet.cross_attention_dim
    if set(takes if isinstance(takes, list | tuple) else [takes]) != {width}:
        yield f"its text encoders give {width} numbers a token, its UNet takes {takes}: these don't belong together"
    for suffix in suffixes:
        yield from _of_tokens(parts[f"tokenizer{suffix}"], parts[f"text_encoder{suffix}"], suffix)


def _of_tokens(tokenizer: Any, network: Any, suffix: str) -> Iterator[str]:
    rows, room = network.get_input_embeddings().num_embeddings, network.config.max_position_embeddings
    if len(tokenizer) > rows:
        yield f"its tokenizer{suffix} knows {len(tokenizer)} tokens, its text encoder {rows}: these don't belong together"
    if len(tokenizer) < 0.9 * rows:
        yield f"its tokenizer{suffix} knows {len(tokenizer)} of the text encoder's {rows} tokens: is its vocabulary missing?"
    if not 3 <= tokenizer.model_max_length <= room:
        yield f"its tokenizer{suffix}'s model_max_length is {tokenizer.model_max_length}, its text encoder takes {room}: set it to that"
    if None in (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id):
        yield f"its tokenizer{suffix} has no token for the start, the end or the padding"


def of_scheduler(scheduler: Any) -> Iterator[str]:
    """Why the scheduler says that the UNet was trained otherwise than by DDPM's loss on noise or velocity."""
    config, kind = getattr(scheduler, "config", {}), type(scheduler).__name__
    other = "so that it was trained otherwise (flow matching, EDM, ...) than with the noise or the velocity of a schedule of betas"
    prediction = config.get("prediction_type", "epsilon")
    if prediction not in PREDICTIONS:
        yield f"its prediction_type is {prediction!r}, and only {' and '.join(PREDICTIONS)} can be trained"
    takes = inspect.signature(type(scheduler).__init__).parameters  # another's configuration may be kept within its own
    if not {"beta_start", "beta_end", "beta_schedule"} <= set(config) & set(takes):
        yield f"its scheduler is a {kind}, which has no betas, {other}"
    if config.get("use_flow_sigmas") or config.get("timestep_type", "discrete") != "discrete":
        yield f"its {kind} has the sigmas of continuous time, {other}"
    try:
        ours = noise_schedule(scheduler).alphas_cumprod
    except (TypeError, ValueError, NotImplementedError, RuntimeError) as error:
        yield f"its {kind} has no schedule of betas that can be read ({error})"
        return
    theirs = getattr(scheduler, "alphas_cumprod", ours)
    same = ours.shape == theirs.shape and bool(((ours - theirs.to(ours)).abs() < 1e-4).all())
    if not same or not bool(((ours >= 0) & (ours < 1)).all()):
        yield f"its {kind} has another noise schedule than its betas say, {other}"


def pool_at_the_end(network: Any, tokenizer: Any) -> None:
    """Take pooled text from the end token, as the encoders were trained, not from the highest id.

    Published configurations name a wrong end token (2); transformers then pools at the highest id, which a new word's
    is (transformers #21029, #24650; diffusers #10754). With known words both rules pool at the same place.
    """
    for module in network.modules():
        if hasattr(module, "eos_token_id"):
            module.eos_token_id = tokenizer.eos_token_id


def noise_schedule(scheduler: Any) -> Any:
    """The schedule of betas of any scheduler, with its own defaults, as diffusers' `DDPMScheduler`.

    `from_config` alone would put that class's defaults in place of the scheduler's; latents are never clipped, as by its.
    """
    from diffusers import DDPMScheduler

    config = {key: value for key, value in scheduler.config.items() if key != "_use_default_values"}
    return DDPMScheduler.from_config({**config, "clip_sample": config.get("clip_sample", False)})
