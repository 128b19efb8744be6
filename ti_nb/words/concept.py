"""`Concept`: a word, its vectors for each text encoder, and where it came from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from ..errors import InvalidValue
from ..host import turns
from ..host.arguments import SEEDS, checked
from ..models.families import ENCODERS, family_name
from ..models.families import family as known

if TYPE_CHECKING:
    from ..models.model import Model, TextEncoder, Vectors


@dataclass(frozen=True, eq=False)
class Concept:
    """A learned word.

    Attributes:
        word: the placeholder token as written in prompts, such as "<my-cat>".
        vectors: for each text encoder, by its key ("clip_l"; SDXL has "clip_g" as well), (n, width) float32 on the CPU:
            the n embedding vectors the word stands for.
        facts: where it came from: initializer, steps, model and so on; plain strings and numbers.
    """

    word: str
    vectors: Vectors
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.word, str):
            raise InvalidValue(f"word is of the kind {type(self.word).__name__}: give text, such as '<my-cat>'")
        if not isinstance(self.vectors, Mapping) or not self.vectors:
            raise InvalidValue(f"vectors of {self.word!r} must be a dictionary such as {{'clip_l': (n, width) tensor}}")
        for key, vectors in self.vectors.items():
            if not (isinstance(key, str) and isinstance(vectors, torch.Tensor) and vectors.is_floating_point()):
                raise InvalidValue(
                    f"vectors of {self.word!r} for {key!r} are no tensor of numbers: need (n, width) float32"
                )
            shape = tuple(vectors.shape)
            if vectors.ndim != 2 or 0 in shape:
                raise InvalidValue(f"vectors of {self.word!r} for {key} have shape {shape}: need (n, width)")
            if not bool(vectors.isfinite().all()):
                raise InvalidValue(
                    f"vectors of {self.word!r} are not all finite numbers: the training that made them diverged"
                )
        if len({len(v) for v in self.vectors.values()}) > 1:
            counts = ", ".join(f"{k}: {len(v)}" for k, v in self.vectors.items())
            raise InvalidValue(f"{self.word!r} must have as many vectors for each encoder, not {counts}")

    def __eq__(self, other: object) -> bool:
        """Whether word, vectors and facts are the same."""
        if not isinstance(other, Concept):
            return NotImplemented
        same = self.word == other.word and self.vectors.keys() == other.vectors.keys() and self.facts == other.facts
        return same and all(torch.equal(rows, other.vectors[key]) for key, rows in self.vectors.items())

    def __hash__(self) -> int:
        return hash((self.word, *sorted((key, *rows.shape) for key, rows in self.vectors.items())))

    def __len__(self) -> int:
        return len(next(iter(self.vectors.values())))

    @property
    def family(self) -> str:
        """The models it fits: as it says itself, else by its encoders and their widths: "SD 1.x", "SDXL", "tiny", ..."""
        said = str(self.facts.get("family", ""))
        if known(said).encoders == tuple(self.vectors):
            return said
        return family_name({key: vectors.shape[1] for key, vectors in self.vectors.items()})

    def __repr__(self) -> str:
        parts = [
            f"{k} {len(v)} x {v.shape[1]}, norm {float(v.norm(dim=-1).mean()):.3f}" for k, v in self.vectors.items()
        ]
        return f"Concept({self.word!r}, for {self.family}, {'; '.join(parts)})"

    def norms(self) -> dict[str, torch.Tensor]:
        """Length (L2 norm) of each vector (n,), for each encoder."""
        return {key: v.norm(dim=-1) for key, v in self.vectors.items()}

    @checked(count=(1, None))
    def nearest(self, model: Model, count: int = 5) -> list[tuple[str, float]]:
        """The vocabulary's `count` words nearest to the mean vector (first encoder), with their cosines, nearest first."""
        from ..models.tokens import plain_token

        check_fits(self, model)
        encoder = model.encoders[0]
        table, mean = encoder.table.cpu(), self.vectors[encoder.key].mean(0)
        cosines = table @ mean / (table.norm(dim=-1) * mean.norm()).clamp_min(1e-12)
        best = cosines.topk(min(count + 8, len(cosines)))
        tokens = encoder.tokenizer.convert_ids_to_tokens(best.indices.tolist())
        words = [(plain_token(t), float(c)) for t, c in zip(tokens, best.values) if not t.startswith("<|")]
        return words[:count]


@checked()
def vectors_of(model: Model, words: Sequence[str]) -> dict[str, torch.Tensor]:
    """Each known word's own vector (width,) in the first encoder, as `nearest` names it; else the mean of its tokens'.

    Examples:
        >>> import ti_nb as ti
        >>> ti.vectors_of(ti.load_model("tiny"), ["cat"])["cat"].shape
        torch.Size([192])
    """
    from ..models.tokens import init_ids

    encoder = model.encoders[0]
    vocabulary = encoder.tokenizer.get_vocab()

    def rows(word: str) -> list[int]:
        own = [vocabulary[name] for name in (f"{word}</w>", word) if name in vocabulary]
        return own[:1] or init_ids(word, encoder.tokenizer)

    return {word: encoder.table[rows(word)].float().mean(0).cpu() for word in words}


def check_fits(concept: Concept, model: Model) -> None:
    """Raise `ValueError` unless the concept was learned for encoders such as the model's."""
    has = {key: v.shape[1] for key, v in concept.vectors.items()}
    needs = {e.key: e.width for e in model.encoders}
    said, own = concept.facts.get("family"), model.family_name
    if has == needs and said and own and said != own:
        raise InvalidValue(
            f"concept {concept.word!r} was learned on {said}; model {model.name!r} is {own}, whose text encoder is as "
            "wide, but which reads its states otherwise: use it with a model of its own family"
        )
    if has != needs:
        shown = ", ".join(
            f"{k} of width {w}" + (f" ({ENCODERS[w][1]})" if w in ENCODERS else "") for k, w in has.items()
        )
        wanted = ", ".join(f"{k} of width {w}" for k, w in needs.items())
        raise InvalidValue(
            f"concept {concept.word!r} has vectors for {shown}; model {model.name!r} needs {wanted}: "
            "use it with the model it was learned on"
        )


def fingerprint(concept: Concept) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of the concept's vectors: equal for equal vectors."""
    digest = hashlib.sha256()
    for key in sorted(concept.vectors):
        digest.update(key.encode() + concept.vectors[key].contiguous().float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


@checked("word", seed=SEEDS)
def initial_concept(
    model: Model, word: str, init: str | None, vectors: int | None = None, *, source: str = "table", seed: int = 0
) -> Concept:
    """The concept before training: `word` standing for the initializer's own vectors.

    Args:
        init: one or several known words; None for random vectors of the vocabulary's mean and spread.
        vectors: how many; by default as many as `init` has tokens (1 at random). One vector for a longer initializer
            takes the mean of its tokens; more vectors than tokens repeat them in turn.
        source: "table" for the embedding table; "output" for the text encoder's output at the initializer's tokens
            (Cross Initialization, Pang et al. 2024).
        seed: of random vectors.

    Raises:
        ValueError: an unknown initializer, no vectors.

    Examples:
        >>> import ti_nb as ti
        >>> word = ti.initial_concept(ti.load_model("tiny"), "<my-cat>", "cat", 2)
        >>> {encoder: tuple(rows.shape) for encoder, rows in word.vectors.items()}
        {'clip_l': (2, 192)}
    """
    if source not in ("table", "output"):
        raise InvalidValue(f"source is {source!r}: choose from 'table', 'output'")
    if vectors is not None and vectors < 1:
        raise InvalidValue(f"vectors is {vectors}: a word needs at least 1")
    draw = torch.Generator().manual_seed(seed)
    start = {
        e.key: _random(e, vectors or 1, draw) if init is None else _spread_over(_rows(e, init, source), vectors)
        for e in model.encoders
    }
    counts = {len(v) for v in start.values()}
    if len(counts) > 1:  # two tokenizers that spell the initializer differently
        start = {key: _spread_over(v, max(counts)) for key, v in start.items()}
    family = {"family": model.family_name} if model.family_name else {}
    return Concept(word, start, {"init": init or "random", "steps": 0, "model": model.shared_name, **family})


def _random(encoder: TextEncoder, count: int, draw: torch.Generator) -> torch.Tensor:
    table = encoder.table.cpu()
    return table.mean(0) + table.std(0) * torch.randn(count, table.shape[1], generator=draw)


@torch.no_grad()
def _rows(encoder: TextEncoder, init: str, source: str) -> torch.Tensor:
    from ..models.tokens import init_ids, tokenise

    ids = init_ids(init, encoder.tokenizer)
    if source == "table":
        return encoder.table[ids].cpu()
    spelled = torch.tensor([tokenise(init, encoder.tokenizer)], device=encoder.network.device)
    with turns.turn:
        states = encoder.network(spelled).last_hidden_state
    rows: torch.Tensor = states[0, 1 : 1 + len(ids)].float().cpu()
    return rows


def _spread_over(rows: torch.Tensor, count: int | None) -> torch.Tensor:
    if count is None or count == len(rows):
        return rows.clone()
    if count < len(rows):
        return rows.mean(0, keepdim=True).repeat(count, 1)
    return rows[[i % len(rows) for i in range(count)]]
