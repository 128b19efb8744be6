"""How a prompt enters a model: token ids, and what its text encoders make of them, a concept's vectors in their places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ..host import turns
from .model import Vectors
from .today.pipeline_model import PipelineModel, Told
from .tokens import extended, in_chunks

if TYPE_CHECKING:
    from .model import Model


@dataclass(frozen=True, eq=False)
class Conditioning:
    """What the UNet is conditioned on: the text encoders' `states` (b, 77, width); in SDXL also the `pooled` text (b, width)."""

    states: torch.Tensor
    pooled: torch.Tensor | None = None

    def __getitem__(self, rows: Any) -> Conditioning:
        return Conditioning(self.states[rows], None if self.pooled is None else self.pooled[rows])

    def ending_as(self, other: Conditioning) -> Conditioning:
        """With the last row of another."""
        pooled = None
        if self.pooled is not None and other.pooled is not None:
            pooled = torch.cat([self.pooled[:-1], other.pooled[-1:]])
        return Conditioning(torch.cat([self.states[:-1], other.states[-1:]]), pooled)

    def emptied(self, row: int) -> Conditioning:
        """With zeros in one row: what SDXL's pipeline takes for no prompt at all."""
        states, pooled = self.states.clone(), None if self.pooled is None else self.pooled.clone()
        for rows in (states, pooled):
            if rows is not None:
                rows[row] = 0
        return Conditioning(states, pooled)


def condition(model: Model, ids: Mapping[str, torch.Tensor], rows: Vectors) -> Conditioning | Told:
    """Encode token ids, each encoder's (b, 77), those past its vocabulary standing for its `rows` (n, width).

    SD takes its encoder's last states. SDXL takes both encoders' states before the last layer, side by side, and the
    second's pooled text (as `StableDiffusionXLPipeline.encode_prompt`). Models of today are asked by their own pipelines' calls.
    A prompt of several chunks is encoded chunk by chunk: their states come one after the other, the pooled text is the first's.
    """
    if isinstance(model, PipelineModel):
        return model.condition(ids, rows)
    states, pooled = [], None
    for encoder in model.encoders:
        prompts = len(ids[encoder.key])
        chunks = ids[encoder.key].reshape(-1, int(encoder.tokenizer.model_max_length))
        with turns.turn, extended(encoder.network, rows[encoder.key]):
            out = encoder.network(chunks, output_hidden_states=model.is_xl or model.clip_skip > 0)
        found = _states(model, encoder.network, out)
        states.append(found.reshape(prompts, -1, found.shape[-1]))
        pooled = out[0][:: len(chunks) // prompts] if model.is_xl else None
    return Conditioning(torch.cat(states, dim=-1), pooled)


def _states(model: Model, network: Any, out: Any) -> torch.Tensor:
    """Of the layer that the UNet was trained with, or as many before it as are left out (diffusers' `clip_skip`)."""
    states: torch.Tensor
    if model.is_xl:
        states = out.hidden_states[-2 - model.clip_skip]
    elif model.clip_skip:
        states = getattr(network, "text_model", network).final_layer_norm(out.hidden_states[-1 - model.clip_skip])
    else:
        states = out[0]
    return states


def token_ids(
    model: Model, prompts: Sequence[str], words: Mapping[str, int], chunks: int = 1
) -> dict[str, torch.Tensor]:
    """Each encoder's ids (b, 77) of `prompts`; `words` gives each word's number of vectors, in the order of their rows.

    Longer prompts take several chunks, (b, 77 n): the others then end in empty ones, as in all user interfaces.

    Args:
        chunks: how many, at least.

    Raises:
        ValueError: a prompt that does not fit.
    """
    if isinstance(model, PipelineModel):
        return model.token_ids(prompts, words)
    out: dict[str, list[list[list[int]]]] = {}
    for encoder in model.encoders:
        next_id, ids_of_word = encoder.first, {}
        for word, count in words.items():
            ids_of_word[word] = list(range(next_id, next_id + count))
            next_id += count
        out[encoder.key] = [in_chunks(prompt, encoder.tokenizer, ids_of_word) for prompt in prompts]
    most = max([chunks, *(len(each) for spelled in out.values() for each in spelled)])
    return {e.key: _filled_up(out[e.key], most, e.tokenizer, model.device) for e in model.encoders}


def _filled_up(prompts: Sequence[list[list[int]]], most: int, tokenizer: Any, device: torch.device) -> torch.Tensor:
    """The prompts' chunks one after the other (b, 77 most), empty ones at the end."""
    (empty,) = in_chunks("", tokenizer)
    rows = [[number for chunk in chunks + [empty] * (most - len(chunks)) for number in chunk] for chunks in prompts]
    return torch.tensor(rows, device=device)


def count_chunks(model: Model, prompt: str, words: Mapping[str, int]) -> int:
    """How many chunks a prompt takes; of models of today, whose prompts have their own lengths, 1."""
    if isinstance(model, PipelineModel):
        return 1
    encoder = model.encoders[0]
    return token_ids(model, [prompt], words)[encoder.key].shape[1] // int(encoder.tokenizer.model_max_length)
