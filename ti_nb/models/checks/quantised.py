"""Weights in 8 or 4 bit, by diffusers' and transformers' own quantisation: gradients go through them, and they never change."""

from __future__ import annotations

import importlib.util
from typing import Any

from ...errors import InvalidValue, NotPossible
from ..today.recipe import Family

# In the names of modules: those that let gradients through, and others.
TRAINABLE = ("quanto", "bitsandbytes", "torchao")
QUANTISED = (*TRAINABLE, "quantized", "gguf", "auto_gptq", "awq")


def quantisation(bits: Any, family: Family | None) -> dict[str, Any]:
    """What diffusers is told to load a family's denoiser and larger text encoders with so many bits a weight.

    Embedding tables, CLIP and the VAE keep theirs. With optimum-quanto, which runs on any device.

    Raises:
        ValueError: not 8 or 4 bits, or a family whose encoding is written out here.
        RuntimeError: optimum-quanto is not installed.
    """
    if bits is None:
        return {}
    if bits not in (8, 4):
        raise InvalidValue(f"bits is {bits!r}: give 8 or 4, or leave it None for the model's own precision")
    if family is None:
        raise InvalidValue(f"bits is {bits}: SD 1.x, 2.x and SDXL are small enough as they are: leave it None")
    if importlib.util.find_spec("optimum") is None or importlib.util.find_spec("optimum.quanto") is None:
        raise NotPossible(f"bits={bits} needs optimum-quanto, which is not installed: pip install ti_nb[quant]")
    import diffusers
    import transformers
    from diffusers.quantizers import PipelineQuantizationConfig

    how: dict[str, Any] = {"transformer": diffusers.QuantoConfig(weights_dtype=f"int{bits}")}
    for key, part in zip(family.encoders, ("", "_2", "_3")):
        if not key.startswith("clip"):
            how[f"text_encoder{part}"] = transformers.QuantoConfig(weights=f"int{bits}")
    return {"quantization_config": PipelineQuantizationConfig(quant_mapping=how)}


def lets_gradients_through(network: Any) -> bool:
    """Whether it is quantised, and only in ways that gradients go through."""
    kinds = {type(module).__module__ for module in network.modules()}
    kinds |= {type(weight.data).__module__ for weight in network.parameters()}
    found = {word for kind in kinds for word in QUANTISED if word in kind}
    return bool(found) and found <= set(TRAINABLE)
