"""Pipelines of each family's exact classes, very small, with random weights."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from ti_nb.models import TINY


def text_config(width: int, act: str = "quick_gelu") -> CLIPTextConfig:
    """With the wrong end token (2) that published configurations have."""
    return CLIPTextConfig(
        vocab_size=3562,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=4,
        projection_dim=32,
        hidden_act=act,
        bos_token_id=0,
        eos_token_id=2,
    )


def parts(prediction: str, cross: int, **unet: Any) -> dict[str, Any]:
    return {
        "unet": UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(32, 64),
            layers_per_block=1,
            norm_num_groups=8,
            cross_attention_dim=cross,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            **unet,
        ),
        "vae": AutoencoderKL(
            block_out_channels=(32, 64),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            latent_channels=4,
            norm_num_groups=8,
        ),
        "scheduler": DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            prediction_type=prediction,
            steps_offset=1,
            clip_sample=False,
        ),
    }


def tokenizer() -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(TINY / "tokenizer", model_max_length=77)


def pipeline(family: str) -> Any:
    """ "sd1" (epsilon), "sd2" (v-prediction, encoder of width 1024) or "sdxl" (two encoders)."""
    torch.manual_seed(0)
    if family == "sdxl":
        return StableDiffusionXLPipeline(
            **parts(
                "epsilon",
                64 + 96,
                attention_head_dim=(2, 4),
                transformer_layers_per_block=(1, 2),
                use_linear_projection=True,
                addition_embed_type="text_time",
                addition_time_embed_dim=8,
                projection_class_embeddings_input_dim=6 * 8 + 32,
            ),
            text_encoder=CLIPTextModel(text_config(64)),
            text_encoder_2=CLIPTextModelWithProjection(text_config(96, "gelu")),
            tokenizer=tokenizer(),
            tokenizer_2=tokenizer(),
            add_watermarker=False,
        )
    width, prediction = {"sd1": (64, "epsilon"), "sd2": (1024, "v_prediction")}[family]
    return StableDiffusionPipeline(
        **parts(prediction, width),
        text_encoder=CLIPTextModel(text_config(width)),
        tokenizer=tokenizer(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
