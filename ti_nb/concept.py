"""`Concept`: a word, its vectors, and where it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from .models import Model


@dataclass(frozen=True)
class Concept:
    """A learned word.

    Attributes:
        word: the placeholder token as written in prompts, such as "<my-cat>".
        vectors: (n, width) float32 on the CPU: the n embedding vectors the word stands for.
        facts: where it came from: initializer, steps, model and so on; plain strings and numbers.
    """

    word: str
    vectors: torch.Tensor
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = tuple(self.vectors.shape)
        if self.vectors.ndim != 2 or 0 in shape:
            raise ValueError(f"vectors of {self.word!r} have shape {shape}: need (number of vectors, width)")
        if not bool(self.vectors.isfinite().all()):
            raise ValueError(
                f"vectors of {self.word!r} are not all finite numbers: the training that made them diverged"
            )

    def __len__(self) -> int:
        return len(self.vectors)

    def __repr__(self) -> str:
        return f"Concept({self.word!r}, {len(self)} x {self.vectors.shape[1]}, norm {float(self.norms().mean()):.3f})"

    def norms(self) -> torch.Tensor:
        """Length of each vector (n,)."""
        norms: torch.Tensor = self.vectors.norm(dim=-1)
        return norms

    def nearest(self, model: Model, count: int = 5) -> list[tuple[str, float]]:
        """The vocabulary's `count` words nearest to the mean vector, with their cosines, nearest first."""
        check_width(self, model)
        table = model.embeddings.cpu()
        cosines = table @ self.vectors.mean(0) / (table.norm(dim=-1) * self.vectors.mean(0).norm()).clamp_min(1e-12)
        best = cosines.topk(min(count + 8, len(cosines)))
        tokens = model.tokenizer.convert_ids_to_tokens(best.indices.tolist())
        words = [(t.removesuffix("</w>"), float(c)) for t, c in zip(tokens, best.values) if not t.startswith("<|")]
        return words[:count]


def check_width(concept: Concept, model: Model) -> None:
    """Raise `ValueError` if the concept was learned for an encoder of another width."""
    width, expected = concept.vectors.shape[1], model.embedding_width
    if width != expected:
        families = {768: "SD 1.x", 1024: "SD 2.x", 1280: "SDXL's second encoder"}
        hint = f" (looks like {families[width]})" if width in families else ""
        raise ValueError(
            f"concept {concept.word!r} has vectors of width {width}{hint}, model {model.name!r} needs {expected}: "
            "use it with the model it was learned on"
        )


def initial_concept(model: Model, word: str, init: str, vectors: int | None = None) -> Concept:
    """The concept before training: `word` standing for the initializer's own vectors.

    Args:
        init: one or several known words.
        vectors: how many; by default as many as `init` has tokens. One vector for a longer initializer takes the
            mean of its tokens; more vectors than tokens repeat them in turn.
    """
    from .prompts import init_ids

    ids = init_ids(init, model.tokenizer)
    rows = model.embeddings.cpu()[ids]
    count = len(ids) if vectors is None else vectors
    if count < 1:
        raise ValueError(f"vectors is {count}: a word needs at least 1")
    if count < len(ids):
        start = rows.mean(0, keepdim=True).repeat(count, 1)
    else:
        start = rows[[i % len(ids) for i in range(count)]]
    return Concept(word, start.clone(), {"init": init, "steps": 0, "model": model.name})
