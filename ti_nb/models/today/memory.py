"""What a model of today needs of memory: measured in one forward pass, whose activations are counted and dropped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef

if TYPE_CHECKING:
    from .pipeline_model import PipelineModel


def stored(weight: Any) -> list[torch.Tensor]:
    """The tensors that hold a weight: itself, or of a quantised one its numbers and scales."""
    inner = getattr(weight.data, "__tensor_flatten__", None)
    if type(weight.data) is torch.Tensor or inner is None:
        return [weight.data]
    return [part for name in inner()[0] for part in stored(getattr(weight.data, name))]


class _Dropped:
    """Stands for an activation that is not kept."""


def kept_for_backward(model: PipelineModel) -> int:
    """Bytes that one picture's forward pass keeps for its backward pass, its prompt's encoding with it.

    Nothing is kept while it is counted, so that it needs no more memory than drawing; weights don't count, and tensors
    that share a storage count once.
    """
    networks = (model.unet, *(e.network for e in model.encoders))
    frozen = [p for part in networks for weight in part.parameters() for p in stored(weight)]
    rows = {e.key: e.table[:1].clone().requires_grad_() for e in model.encoders}
    ids = model.token_ids(["a photo of a <word>"], {"<word>": 1})
    latents = torch.zeros(1, *model.latent_shape, device=model.device)
    with torch.enable_grad(), _counting({p.untyped_storage()._cdata for p in frozen}) as count:
        told = model.condition(ids, rows)
        model.predict(latents, torch.zeros(1, dtype=torch.long, device=model.device), told)
    return count.bytes


class _Count:
    """How much there was."""

    bytes = 0


@contextmanager
def _counting(frozen: set[int]) -> Iterator[_Count]:
    """Within the block, activations are counted; a backward pass is not possible."""
    count = _Count()
    seen: dict[int, Any] = {}

    def pack(tensor: torch.Tensor) -> Any:
        storage = tensor.untyped_storage()
        known = seen.get(storage._cdata)
        if storage._cdata not in frozen and (known is None or known.expired()):
            seen[storage._cdata] = StorageWeakRef(storage)  # type: ignore[no-untyped-call]
            count.bytes += storage.nbytes()
        return _Dropped()

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda dropped: dropped):
        yield count
