"""How a prompt enters a model: token ids, and what its text encoders make of them, a concept's vectors in their places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ..host import turns
from .model import Vectors, extended
from .today.pipeline_model import PipelineModel, Told
from .tokens import tokenise

if TYPE_CHECKING:
    from .model import Model


@dataclass(frozen=True, eq=False)
class Conditioning:
    """What the UNet is conditioned on: the text encoders' `states` (b, 77, width); in SDXL also the `pooled` text (b, width)."""

    states: torch.Tensor
    pooled: torch.Tensor | None = None

    def __getitem__(self, rows: Any) -> Conditioning:
        return Conditioning(self.states[rows], None if self.pooled is None else self.pooled[rows])

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
    """
    if isinstance(model, PipelineModel):
        return model.condition(ids, rows)
    states, pooled = [], None
    for encoder in model.encoders:
        with turns.turn, extended(encoder.network, rows[encoder.key]):
            out = encoder.network(ids[encoder.key], output_hidden_states=model.is_xl)
        states.append(out.hidden_states[-2] if model.is_xl else out[0])
        pooled = out[0] if model.is_xl else None
    return Conditioning(torch.cat(states, dim=-1), pooled)


def token_ids(model: Model, prompts: Sequence[str], words: Mapping[str, int]) -> dict[str, torch.Tensor]:
    """Each encoder's ids (b, 77) of `prompts`; `words` gives each word's number of vectors, in the order of their rows.

    Raises:
        ValueError: a prompt that does not fit.
    """
    if isinstance(model, PipelineModel):
        return model.token_ids(prompts, words)
    out = {}
    for encoder in model.encoders:
        next_id, ids_of_word = encoder.first, {}
        for word, count in words.items():
            ids_of_word[word] = list(range(next_id, next_id + count))
            next_id += count
        ids = [tokenise(prompt, encoder.tokenizer, ids_of_word) for prompt in prompts]
        out[encoder.key] = torch.tensor(ids, device=model.device)
    return out
