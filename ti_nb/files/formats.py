"""Every program's habits: which tensors of a file are a word's, and which a program wants to find.

SD 1.x and 2.x have one encoder, SDXL two, Flux and SD 3 a T5 besides. The names and the shapes in a file tell whose
vectors they are; nothing else does.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

import torch

from ..errors import InvalidValue, NotAConcept
from ..host.plain_text import quoted
from ..models.families import KEY_OF_WIDTH
from ..words.concept import Concept
from ..words.prompts import file_word
from .gathering import MAX_VECTORS, LazyTensor, by_encoder, is_tensor, vectors_by_word, vectors_in_list
from .png_cards import Card
from .safe_pickle import Instance

# Format: the endings its files may have, by default the first of the table that fits (see `format_of`).
FORMATS: Mapping[str, tuple[str, ...]] = {
    "diffusers": (".safetensors", ".bin"),  # {word: vectors}; of SDXL two files, the second's name ends in _2
    "clip_keys": (".safetensors",),  # {clip_l: ..., clip_g: ...}: ComfyUI, AUTOMATIC1111, pivotal tuning
    "a1111": (".pt",),  # string_to_param
    "emb_params": (".safetensors",),  # one encoder's, the word is the file's name: kohya, AUTOMATIC1111
    "card": (".png",),  # AUTOMATIC1111's picture with the vectors inside
}
ENCODER_OF_KEY = {
    "clip_l": "clip_l",
    "clip_h": "clip_h",
    "clip_g": "clip_g",
    "t5": "t5xxl",
    "t5xxl": "t5xxl",
    "text_encoders_0": "clip_l",  # cog-sdxl
    "text_encoders_1": "clip_g",
}
WORDLESS_KEYS = ("emb_params", "emp_params")  # the second is OneTrainer's spelling
UNUSED_KEYS = {
    f"{name}_out" for name in (*ENCODER_OF_KEY, *WORDLESS_KEYS)
}  # OneTrainer's, of the text encoder's output: not used
MAX_WIDTH, MAX_WORDS, MAX_NAME_LENGTH = 1 << 14, 256, 1000  # more is no word
MAX_NUMBERS = 1 << 22  # of all vectors of a file
LORA = re.compile(r"(?:^|[/._-])lora(?:[/._-]|$)", re.IGNORECASE)
PUBLIC_FACTS = ("init", "steps", "seed", "model", "base", "edits", "license")  # facts that may go into files


def format_of(concept: Concept, suffix: str, wanted: str | None = None) -> str:
    """The format to write: `wanted`, or the usual one of files that end in `suffix`.

    Raises:
        ValueError: no such format, an ending it does not have, a concept it has no room for.
    """
    if tuple(concept.vectors) == ("clip_g",):
        raise InvalidValue(f"{concept.word!r} is half an SDXL word: it needs 'clip_l' vectors too")
    several = len(concept.vectors) > 1
    fitting = [name for name, suffixes in FORMATS.items() if suffix in suffixes]
    if wanted is None and not fitting:
        raise InvalidValue(
            f"files of words end in .safetensors (best), .bin, .pt or .png; this one ends in {suffix or 'nothing'}"
        )
    chosen = wanted or ("clip_keys" if several and "clip_keys" in fitting else fitting[0])
    if chosen not in FORMATS:
        raise InvalidValue(f"format is {chosen!r}: choose from {', '.join(FORMATS)}")
    if suffix not in FORMATS[chosen]:
        raise InvalidValue(f"files of the format {chosen!r} end in {' or '.join(FORMATS[chosen])}, not {suffix!r}")
    if chosen == "emb_params" and several:
        raise InvalidValue(
            f"'emb_params' has room for one encoder's vectors; a word of {concept.family} needs 'clip_keys'"
        )
    return chosen


def to_format(concept: Concept, chosen: str) -> list[dict[str, Any]]:
    """What a file of the format holds, by name; several if the format takes several files."""
    rows = {key: v.detach().to("cpu", torch.float32, copy=True) for key, v in concept.vectors.items()}
    if chosen == "diffusers":
        return [{concept.word: v} for v in rows.values()]
    if chosen == "emb_params":
        return [{"emb_params": v} for v in rows.values()]
    if chosen == "clip_keys" or len(rows) > 1:
        return [rows]
    facts = shared_facts(concept)
    name = card_name(concept.word) if chosen == "card" else concept.word
    return [
        {
            "string_to_token": {"*": 265},
            "string_to_param": {"*": next(iter(rows.values()))},
            "name": name,
            "step": facts.get("steps"),
            "sd_checkpoint": None,
            "sd_checkpoint_name": facts.get("base"),
            "ti_nb": json.dumps({**facts, "word": concept.word}),
        }
    ]


def shared_facts(concept: Concept) -> dict[str, Any]:
    """The concept's facts that may be shown to others: nothing of folders, pictures or the person."""
    return {key: concept.facts[key] for key in PUBLIC_FACTS if key in concept.facts}


def card_name(word: str) -> str:
    """What AUTOMATIC1111 calls a card's word: `word` with nothing but letters and digits at its ends.

    It looks for a word's tokens in the prompt's, and CLIP's tokenizer joins ">" with a comma behind it.
    """
    return re.sub(r"^[\W_]+|[\W_]+$", "", word) or "word"


def concepts_in(data: Any, stem: str, nameless: str | None = None) -> list[Concept]:
    """The words in what a file holds: nested dictionaries with `LazyTensor` in them.

    Args:
        stem: the file's name. nameless: the name of a word that has none in the file; by default from `stem`.

    Raises:
        NotAConcept: it holds something else.
    """
    facts = _facts(data)
    said = facts.pop("word", None)
    nameless = said or nameless or file_word(stem)
    words = _words_in(data, nameless, own_name=not said and (isinstance(data, Card) or is_generic_name(stem)))
    for word, parts in words.items():
        for rows in parts.values():
            _check_shape(word, tuple(rows.shape))
    total = sum(math.prod(rows.shape) for parts in words.values() for rows in parts.values())
    if len(words) > MAX_WORDS or total > MAX_NUMBERS:
        raise NotAConcept(f"it holds {len(words)} words of {total} numbers, too many")
    return [_concept(word, parts, facts) for word, parts in words.items()]


def _words_in(data: Any, nameless: str, own_name: bool) -> dict[str, dict[str, LazyTensor]]:
    """For each word its encoders' vectors, still in the file; `own_name` if AUTOMATIC1111's name for it counts."""
    if is_tensor(data):
        return {nameless: by_encoder(data)}
    if isinstance(data, list):
        return {word or nameless: rows for word, rows in vectors_in_list(data).items()}
    if not isinstance(data, Mapping):
        raise NotAConcept("it holds no tensors with names: a word's file is a dictionary")
    if "string_to_param" in data:
        return _of_a1111(data, nameless, own_name)
    tensors = {str(k): v for k, v in data.items() if is_tensor(v) and k not in UNUSED_KEYS}
    _refuse_models(data, tensors)
    if any(key in ENCODER_OF_KEY for key in tensors):
        return {nameless: _of_keys(tensors)}
    if len(tensors) == 1 and next(iter(tensors)) in WORDLESS_KEYS:
        return {nameless: by_encoder(next(iter(tensors.values())))}
    return {word or nameless: rows for word, rows in vectors_by_word(tensors).items()}


def _of_a1111(data: Mapping[str, Any], nameless: str, own_name: bool) -> dict[str, dict[str, LazyTensor]]:
    """AUTOMATIC1111's, where the file's name is the word, and the paper's own, which may name several."""
    params = data["string_to_param"]
    if isinstance(params, Instance):  # a ParameterDict; before torch 1.12 its state was named otherwise
        params = params.state.get("_parameters") if isinstance(params.state, Mapping) else None
    if not isinstance(params, Mapping) or not params or not all(is_tensor(v) for v in params.values()):
        raise NotAConcept("its 'string_to_param' holds no vectors")
    alone = len(params) == 1
    name = data.get("name")
    if alone and own_name and isinstance(name, str) and name.strip():
        nameless = file_word(name)
    return {nameless if key == "*" or (alone and not key) else str(key): by_encoder(v) for key, v in params.items()}


GENERIC_NAME = re.compile(
    r"(learned[_-]?)?embed(s|ding|dings)?([_-]steps?)?([_-]?\d+)?|((diffusion_)?pytorch_)?model|final|last",
    re.IGNORECASE,
)


def is_generic_name(stem: str) -> bool:
    """Whether a file's name, without its ending, says nothing of its word, as learned_embeds-steps-500 does."""
    return GENERIC_NAME.fullmatch(stem) is not None


def _of_keys(tensors: Mapping[str, LazyTensor]) -> dict[str, LazyTensor]:
    out: dict[str, LazyTensor] = {}
    for name, rows in tensors.items():
        if name not in ENCODER_OF_KEY:
            raise NotAConcept(f"besides an encoder's vectors it holds {quoted(name)}, which belongs to no word")
        wide = rows.shape[-1] if len(rows.shape) else 0
        key = "t5xxl" if name == "text_encoders_1" and wide == 4096 else ENCODER_OF_KEY[name]
        if key in out:
            raise NotAConcept(f"it holds vectors for {key} twice")
        if KEY_OF_WIDTH.get(wide, key) != key:
            raise NotAConcept(f"its vectors for {key} are {wide} wide, as those of {KEY_OF_WIDTH[wide]} are")
        out[key] = rows
    return out


def _refuse_models(data: Mapping[str, Any], tensors: Mapping[str, LazyTensor]) -> None:
    names = [str(key) for key in data]
    if any(len(name) > MAX_NAME_LENGTH for name in names):
        raise NotAConcept("one of its names is too long for a word")
    if any(LORA.search(name) and not name.startswith("<") for name in names):
        raise NotAConcept("it is a LoRA, not a word: load it with pipe.load_lora_weights")
    if (
        "state_dict" in data
        or any(name.endswith((".weight", ".bias")) for name in names)
        or len(tensors) > MAX_WORDS * 4
    ):
        raise NotAConcept("it is a model or a part of one, not a word")
    if not tensors:
        inside = ", ".join(quoted(name, 40) for name in names[:4]) or "nothing"
        raise NotAConcept(f"it holds no vectors, but {inside}")


def _concept(word: str, parts: Mapping[str, LazyTensor], facts: Mapping[str, Any]) -> Concept:
    if len(word) > MAX_NAME_LENGTH or word != word.encode(errors="ignore").decode():
        raise NotAConcept(f"its word {quoted(word, 40)} is too long, or no text")
    vectors = {
        key: _rows(rows) for key, rows in sorted(parts.items(), key=lambda item: list(ENCODER_OF_KEY).index(item[0]))
    }
    try:
        return Concept(word, vectors, facts)
    except ValueError as error:
        raise NotAConcept(str(error)) from error


def _check_shape(word: str, shape: tuple[int, ...]) -> None:
    """Refuse what is no (n, width) or (width,), before any of it is read."""
    if len(shape) not in (1, 2) or 0 in shape:
        raise NotAConcept(
            f"the vectors of {quoted(word)} have the shape {str(shape)[:60]}: (n, width) or (width,) was expected"
        )
    count, width = (1, *shape)[-2:]
    if count > MAX_VECTORS or width > MAX_WIDTH:
        kind = "a whole vocabulary" if count > 10_000 else "more than any prompt has room for"
        raise NotAConcept(f"{quoted(word)} has {count} vectors of {width} numbers: {kind}")


def _rows(numbers: LazyTensor) -> torch.Tensor:
    """(n, width) float32, from (n, width) or (width,)."""
    rows = numbers.read()
    return rows.reshape(-1, rows.shape[-1])


def _facts(data: Any) -> dict[str, Any]:
    """What the file says of where its word came from; ours says it in one piece of JSON."""
    if not isinstance(data, Mapping):
        return {}
    known = {"steps": data.get("step"), "base": data.get("sd_checkpoint_name")}
    facts: dict[str, Any] = {key: value for key, value in known.items() if isinstance(value, int | str)}
    said = data.get("ti_nb")
    if isinstance(said, str) and len(said) < 1 << 16:
        try:
            ours = json.loads(said)
        except (ValueError, RecursionError):
            ours = None
        if isinstance(ours, dict):
            facts = {k: v for k, v in ours.items() if isinstance(v, int | float | str)}
    if not isinstance(facts.get("word", ""), str):
        facts.pop("word")
    return {k: v for k, v in facts.items() if k in (*PUBLIC_FACTS, "word") and _is_fact(v)}


def _is_fact(value: Any) -> bool:
    """Whether it is text or a number of a size that can be shown."""
    return len(value) <= MAX_NAME_LENGTH if isinstance(value, str) else abs(value) < 1 << 63
