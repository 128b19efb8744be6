"""A vector for each cross-attention layer: extended textual inversion (Voynov et al. 2023, arXiv 2303.09522), an experiment.

A UNet reads the prompt in each of its cross-attention layers. Here each reads a prompt of its own, which has that layer's vectors
in the word's place. The coarse layers say what is drawn, the outer ones rather how, so that words can be mixed by layer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from ..errors import InvalidValue
from ..host import turns
from ..host.arguments import checked
from ..models.model import Model, TextEncoder
from ..models.today.pipeline_model import PipelineModel
from ..models.tokens import plain
from ..words.concept import Concept, check_fits
from .twins import twin

SUFFIX = "_by_layer"  # of an encoder's key, so that no ordinary model takes a word's vectors for one long word


@dataclass(eq=False)
class LayeredModel(Model):
    """A model whose cross-attention layers read a vector each; it shares the other's weights, and leaves it alone.

    Vector i of its words is read by layer i modulo the number of layers. Everything that takes a model takes it.

    Attributes:
        layers: their names in the UNet, in the order in which a picture passes them.
    """

    layers: tuple[str, ...] = ()

    @checked()
    def everywhere(self, concept: Concept) -> Concept:
        """An ordinary word for every layer: drawn with it, a prompt gives the picture that the ordinary model draws."""
        rows = {f"{key}{SUFFIX}": v.repeat_interleave(len(self.layers), 0) for key, v in concept.vectors.items()}
        return Concept(concept.word, rows, {**concept.facts})

    @checked()
    def mix(self, inner: Concept, outer: Concept, *, word: str | None = None, depth: float | None = None) -> Concept:
        """The first word in the inner layers, which see the coarse picture, and the second in the outer ones.

        Args:
            word: the new one; by default the first's. depth: how often the picture was halved in the first layer that counts as
                inner; by default half way between the outermost and the innermost.

        Raises:
            ValueError: words that are not of this model, or have different numbers of vectors.
        """
        for concept in (inner, outer):
            check_fits(concept, self)
        if len(inner) != len(outer):
            raise InvalidValue(
                f"{inner.word!r} has {len(inner)} vectors and {outer.word!r} {len(outer)}: both need as many"
            )
        depths = [self._depth(name) for name in self.layers]
        edge = (min(depths) + max(depths)) / 2 if depth is None else depth
        is_inner = torch.tensor([depths[i % len(depths)] >= edge for i in range(len(inner))])[:, None]
        rows = {key: torch.where(is_inner, v, outer.vectors[key]) for key, v in inner.vectors.items()}
        edits = {"edits": f"{inner.word} in the inner layers, {outer.word} in the outer ones"}
        return Concept(word or inner.word, rows, {**inner.facts, **edits})

    def _depth(self, name: str) -> int:
        """How often the picture was halved before it comes to a layer."""
        last, number = (
            len(self.unet.config.block_out_channels) - 1,
            int((re.findall(r"_blocks\.(\d+)", name) or [0])[0]),
        )
        return number if name.startswith("down") else last - number


@checked()
def by_layer(model: Model) -> LayeredModel:
    """The same model, each of whose cross-attention layers reads a vector of its own; nothing is copied, nothing changed.

    Train it from a word that is the same in all layers: `init=layered.everywhere(word)`.

    Raises:
        ValueError: a model of another kind than SD 1.x and 2.x.

    Examples:
        >>> import ti_nb as ti
        >>> model, photos = ti.load_model("tiny"), ti.example_images("penguin")
        >>> layered = ti.by_layer(model)
        >>> start = layered.everywhere(ti.initial_concept(model, "<my-penguin>", "animal"))
        >>> run = ti.train(layered, photos, word="<my-penguin>", init=start, steps=1, watch=0)
        >>> next(run).step, len(run.concept()) == len(layered.layers)
        (1, True)
    """
    if isinstance(model, PipelineModel | LayeredModel) or model.is_xl:
        raise InvalidValue(
            f"{model.name!r} can't be read by layer: that is for SD 1.x and 2.x, such as 'tiny' or 'sd15'"
        )
    unet = twin(model.unet)
    order = {"down_blocks": 0, "mid_block": 1, "up_blocks": 2}
    found = {name: layer for name, layer in unet.named_modules() if name.endswith("attn2")}
    layers = tuple(sorted(found, key=lambda name: order[name.split(".")[0]]))  # the rest stays as the UNet has it
    for number, name in enumerate(layers):
        found[name].register_forward_pre_hook(partial(_own_part, number, len(layers)), with_kwargs=True)
    encoders = tuple(_layered(encoder, len(layers)) for encoder in model.encoders)
    parts = {"vae": model.vae, "scheduler": model.scheduler, "zeroes_empty": model.zeroes_empty}
    return LayeredModel(f"{model.name}, by layer", encoders, unet, layers=layers, **parts)


def _own_part(
    number: int, count: int, layer: Any, given: tuple, named: Mapping[str, Any]
) -> tuple[tuple, dict[str, Any]]:
    """A layer's call with its own of the prompts that stand one after the other."""
    return given, {**named, "encoder_hidden_states": named["encoder_hidden_states"].chunk(count, dim=1)[number]}


def _layered(encoder: TextEncoder, count: int) -> TextEncoder:
    with turns.turn:  # not while a training step has replaced its table
        network = twin(plain(encoder.network))
    kind = type(network)
    network.__class__ = type(f"Layered{kind.__name__}", (_EachLayer, kind), {"__module__": kind.__module__})
    network.layers, network.padding = count, encoder.tokenizer.pad_token_id
    return replace(encoder, key=f"{encoder.key}{SUFFIX}", network=network)


class _EachLayer(torch.nn.Module):
    """A text encoder that encodes every prompt once for each layer, with that layer's vectors only."""

    layers: int
    padding: int

    def forward(self, input_ids: torch.Tensor, **named: Any) -> Any:
        """States (b, layers x 77, width), one prompt after the other, of ids (b, 77)."""
        each = torch.cat([self._read_by(layer, input_ids) for layer in range(self.layers)])
        out = super().forward(each, **named)
        out.last_hidden_state = torch.cat(out.last_hidden_state.chunk(self.layers), dim=1)
        return out

    def _read_by(self, layer: int, ids: torch.Tensor) -> torch.Tensor:
        """The ids (b, 77) without other layers' vectors."""
        first = self.get_input_embeddings().num_embeddings  # type: ignore[operator]
        own = [[i for i in row if i < first or (i - first) % self.layers == layer] for row in ids.tolist()]
        return ids.new_tensor([row + [self.padding] * (ids.shape[1] - len(row)) for row in own])
