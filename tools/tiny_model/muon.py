"""Muon (Jordan et al., 2024) for matrices and convolutions, AdamW for the rest, shared between workers.

A matrix's update is its momentum with all singular values brought near 1, scaled to the size of AdamW's updates (Liu et
al., 2025). torch's own Muon takes two-dimensional parameters only and would do each worker's work twice.
"""

from __future__ import annotations

from typing import Any

import torch

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic Newton-Schulz iteration, from Jordan's post


def orthogonal(matrix: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """(m, n) with its singular values pushed towards 1 (about 0.7 to 1.2), bfloat16."""
    a, b, c = COEFFICIENTS
    x = matrix.bfloat16()
    x = x / (x.norm() + 1e-7)
    wide = x.T if x.shape[0] > x.shape[1] else x
    for _ in range(steps):
        square = wide @ wide.T
        wide = a * wide + (b * square + c * square @ square) @ wide
    return wide.T if x.shape[0] > x.shape[1] else wide


class Muon:
    """Both optimisers behind one `step`; `rank` of `count` workers orthogonalises its share of the matrices.

    Args:
        module: embeddings, the first and last convolution, norms and biases go to AdamW.
        rate: set before each step with `set_rate`; the matrices' is `ratio` times AdamW's.
        every: a matrix is made orthogonal anew in every `every`th step only, by turns, and keeps its direction between. Its momentum
            hardly turns in two steps, and the work is a quarter of a small model's step on a CPU.
    """

    def __init__(
        self, module: torch.nn.Module, rank: int, count: int, *, ratio: float = 2.5, decay: float = 0.01, every: int = 1
    ):
        named = dict(module.named_parameters())
        outer = ("embedding", "conv_in", "conv_out", "time_emb")
        self.matrices = [p for n, p in named.items() if p.ndim >= 2 and not any(o in n for o in outer)]
        inside = {id(p) for p in self.matrices}
        others = [p for p in named.values() if id(p) not in inside]
        self.adam = torch.optim.AdamW(others, lr=0.0, weight_decay=0.0, betas=(0.9, 0.98), fused=True)
        self.momenta = [torch.zeros_like(p) for p in self.matrices]
        self.rank, self.count, self.ratio, self.decay, self.rate = rank, count, ratio, decay, 0.0
        self.owner = self._share_out()
        self.every, self.turn, self.last = every, 0, [torch.zeros(0)] * len(self.matrices)

    def _share_out(self) -> list[int]:
        """Whose each matrix is, so that the work is about even."""
        load, owner = [0] * self.count, [0] * len(self.matrices)
        cost = [p.numel() * min(p.shape[0], p.numel() // p.shape[0]) for p in self.matrices]
        for i in sorted(range(len(cost)), key=lambda i: -cost[i]):
            owner[i] = load.index(min(load))
            load[owner[i]] += cost[i]
        return owner

    def set_rate(self, rate: float) -> None:
        self.rate = rate
        for group in self.adam.param_groups:
            group["lr"] = rate

    @torch.no_grad()
    def step(self) -> None:
        """Gradients are already averaged over the workers."""
        self.adam.step()
        gradients = [p.grad for p in self.matrices]
        torch._foreach_lerp_(self.momenta, gradients, 0.05)
        updates = []
        for i, (p, momentum, owner) in enumerate(zip(self.matrices, self.momenta, self.owner)):
            update = torch.zeros(p.shape[0], p.numel() // p.shape[0], dtype=torch.bfloat16, device=p.device)
            if owner == self.rank:
                if not len(self.last[i]) or (i + self.turn) % self.every == 0:
                    nesterov = torch.lerp(p.grad, momentum, 0.95).reshape(update.shape)
                    self.last[i] = orthogonal(nesterov) * 0.2 * max(update.shape) ** 0.5
                update = self.last[i]
            updates.append(update)
        self.turn += 1
        if self.count > 1:
            flat = torch.cat([u.flatten() for u in updates])
            torch.distributed.all_reduce(flat)
            updates = [u.view(x.shape) for u, x in zip(flat.split([u.numel() for u in updates]), updates)]
        rate = self.rate * self.ratio
        for p, update in zip(self.matrices, updates):
            p.mul_(1 - rate * self.decay).sub_(update.view(p.shape).to(p.dtype), alpha=rate)

    def zero_grad(self) -> None:
        for p in self.matrices:
            p.grad = None
        self.adam.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        return {"adam": self.adam.state_dict(), "momenta": self.momenta, "turn": self.turn, "last": self.last}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.adam.load_state_dict(state["adam"])
        for mine, saved in zip(self.momenta, state["momenta"]):
            mine.copy_(saved)
        self.turn = state["turn"]
        self.last = [saved.to(p.device) for saved, p in zip(state["last"], self.matrices)]
