"""A pipeline of SD 1.x or SDXL as one `.safetensors` file with the original programs' names, as Civitai has them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders.single_file_utils import DIFFUSERS_TO_LDM_MAPPING
from safetensors.torch import save_file

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
VAE = [
    (r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}"),
    (r"mid_block\.attentions\.0", lambda m: "mid.attn_1"),
    (r"down_blocks\.(\d)\.resnets", lambda m: f"down.{m[1]}.block"),
    (r"down_blocks\.(\d)\.downsamplers\.0", lambda m: f"down.{m[1]}.downsample"),
    (r"conv_shortcut", lambda m: "nin_shortcut"),
    (r"conv_norm_out", lambda m: "norm_out"),
    (r"group_norm", lambda m: "norm"),
    (r"to_out\.0", lambda m: "proj_out"),
    (r"to_([qkv])\.", lambda m: f"{m[1]}."),
]
OPEN_CLIP = [
    ("text_model.", ""),
    ("encoder.layers", "transformer.resblocks"),
    ("embeddings.token_embedding", "token_embedding"),
    ("embeddings.position_embedding.weight", "positional_embedding"),
    ("layer_norm1", "ln_1"),
    ("layer_norm2", "ln_2"),
    ("mlp.fc1", "mlp.c_fc"),
    ("mlp.fc2", "mlp.c_proj"),
    ("self_attn", "attn"),
    ("final_layer_norm", "ln_final"),
]


def write(pipeline: Any, path: Path, **more: torch.Tensor) -> Path:
    """The pipeline's weights in one file, with `more` tensors."""
    tensors = {f"model.diffusion_model.{key}": value for key, value in unet(pipeline.unet).items()}
    tensors |= {f"first_stage_model.{key}": value for key, value in vae(pipeline.vae).items()}
    if getattr(pipeline, "text_encoder_2", None) is None:
        tensors |= clip(pipeline.text_encoder, "cond_stage_model.transformer.text_model.")
    else:
        tensors |= clip(pipeline.text_encoder, "conditioner.embedders.0.transformer.text_model.")
        second = open_clip(pipeline.text_encoder_2)
        tensors |= {f"conditioner.embedders.1.model.{key}": value for key, value in second.items()}
    save_file({key: value.contiguous() for key, value in {**tensors, **more}.items()}, path)
    return path


def unet(network: Any) -> dict[str, torch.Tensor]:
    known = DIFFUSERS_TO_LDM_MAPPING["unet"]
    simple, blocks = {**known["layers"], **known["addition_embed_type"]}, int(network.config.layers_per_block) + 1
    crossed = ["CrossAttn" in kind for kind in network.config.up_block_types]

    def named(key: str) -> str:
        if key in simple:
            return simple[key]
        where, block, part, number, rest = re.fullmatch(
            r"(down|up|mid)_blocks?\.?(\d?)\.(\w+)\.(\d)\.(.*)", key
        ).groups()  # type: ignore[union-attr]
        at = int(block or 0) * blocks + int(number)
        if part == "resnets":
            inner = RESNET[rest.split(".")[0]] + "." + rest.split(".")[1]
            return {
                "down": f"input_blocks.{at + 1}.0.",
                "up": f"output_blocks.{at}.0.",
                "mid": f"middle_block.{2 * at}.",
            }[where] + inner
        if part == "attentions":
            return {
                "down": f"input_blocks.{at + 1}.1.",
                "up": f"output_blocks.{at}.1.",
                "mid": "middle_block.1.",
            }[where] + rest
        if part == "downsamplers":
            return f"input_blocks.{(int(block) + 1) * blocks}.0.op.{rest.removeprefix('conv.')}"
        return f"output_blocks.{(int(block) + 1) * blocks - 1}.{1 + crossed[int(block)]}.{rest}"

    return {named(key): value for key, value in network.state_dict().items()}


def vae(network: Any) -> dict[str, torch.Tensor]:
    last = len(network.config.block_out_channels) - 1
    up = [
        (r"up_blocks\.(\d)\.resnets", lambda m: f"up.{last - int(m[1])}.block"),
        (r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{last - int(m[1])}.upsample"),
    ]
    out = {}
    for key, value in network.state_dict().items():
        attends, name = "attentions" in key, key
        for pattern, new in [*VAE, *up]:
            name = re.sub(pattern, new, name)
        out[name] = value[:, :, None, None] if attends and value.ndim == 2 else value
    return out


def clip(network: Any, prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + key.removeprefix("text_model."): value for key, value in network.state_dict().items()}


def open_clip(network: Any) -> dict[str, torch.Tensor]:
    out: dict[str, torch.Tensor] = {}
    for key, value in network.state_dict().items():
        if key == "text_projection.weight":
            out["text_projection"] = value.T
        for old, new in OPEN_CLIP:
            key = key.replace(old, new)
        out[key] = value
    del out["text_projection.weight"]
    for layer in range(network.config.num_hidden_layers):
        for kind in ("weight", "bias"):
            names = [f"transformer.resblocks.{layer}.attn.{which}_proj.{kind}" for which in "qkv"]
            out[f"transformer.resblocks.{layer}.attn.in_proj_{kind}"] = torch.cat([out.pop(name) for name in names])
    return out
