"""Pipelines of the families of today, of their real classes, very small, with random weights and tokenizers made in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler
from transformers import Qwen2Tokenizer, Qwen3Config, Qwen3Model

CHAT = (
    "{% for m in messages %}{{'<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{'<|im_start|>assistant\n'}}{% if enable_thinking is defined and enable_thinking is "
    "false %}{{'<think>\n\n</think>\n\n'}}{% endif %}{% endif %}"
)
SPARE = 61  # rows of a table past its tokenizer's tokens, as Qwen's and T5's have them
SIDE = 32


def bytes_as_characters() -> list[str]:
    """GPT-2's characters for the 256 bytes, in its order."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in plain]
    return [*map(chr, plain), *(chr(256 + i) for i in range(len(rest)))]


def qwen() -> Qwen2Tokenizer:
    """Bytes, and " cat" as a token of its own."""
    names = [*bytes_as_characters(), "Ġc", "at", "Ġcat", "<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    vocab = {name: i for i, name in enumerate(names)}
    merges = [("Ġ", "c"), ("a", "t"), ("Ġc", "at")]
    tokenizer = Qwen2Tokenizer(vocab=vocab, merges=merges, extra_special_tokens=["<|im_start|>", "<|im_end|>"])
    tokenizer.chat_template = CHAT
    return tokenizer


def qwen3(tokenizer: Any, kind: Any = Qwen3Model, width: int = 16) -> Any:
    return kind(
        Qwen3Config(
            hidden_size=width,
            intermediate_size=16,
            num_hidden_layers=4,
            num_attention_heads=2,
            num_key_value_heads=2,
            head_dim=8,
            vocab_size=len(tokenizer) + SPARE,
            max_position_embeddings=2048,
        )
    )


def vae(channels: int, shift: float | None = None, scale: float = 0.18215) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=channels,
        norm_num_groups=4,
        shift_factor=shift,
        scaling_factor=scale,
        layers_per_block=1,
    )


def flow(**said: Any) -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(**said)


def z_image() -> tuple[Any, dict[str, Any]]:
    tokenizer = qwen()
    network = diffusers.ZImageTransformer2DModel(
        all_patch_size=(2,),
        all_f_patch_size=(1,),
        in_channels=16,
        dim=32,
        n_layers=1,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=16,
        axes_dims=[8, 4, 4],
        axes_lens=[256, 32, 32],
    )
    torch.nn.init.ones_(network.x_pad_token)  # which the class leaves empty
    torch.nn.init.ones_(network.cap_pad_token)
    parts = {"text_encoder": qwen3(tokenizer), "tokenizer": tokenizer, "vae": vae(16, 0.1159, 0.3611)}
    return diffusers.ZImagePipeline(transformer=network, scheduler=flow(shift=3.0), **parts), {
        "max_sequence_length": 128
    }


TODAY: dict[str, Callable[[], tuple[Any, dict[str, Any]]]] = {"Z-Image": z_image}


def pipeline(family: str) -> tuple[Any, dict[str, Any]]:
    """A pipeline, and what its call is told beside the prompt."""
    torch.manual_seed(0)
    return TODAY[family]()
