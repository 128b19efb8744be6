"""The file formats: which tensors of a file are a word's vectors, and which each program expects.

SD 1.x and 2.x have one text encoder, SDXL two, Flux and SD 3 also a T5. Only the names and shapes of tensors tell which
encoder they belong to.
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
from ..models.families import KEY_OF_WIDTH, KEYS_OF_TODAY
from ..words.concept import Concept
from ..words.prompts import file_word
from .gathering import MAX_VECTORS, LazyTensor, by_encoder, is_tensor, vectors_by_word, vectors_in_list
from .png_cards import Card
from .safe_pickle import Instance

# Format: its file suffixes. Without format=, the first in this order that has the suffix is written (see `format_of`).
FORMATS: Mapping[str, tuple[str, ...]] = {
    "diffusers": (".safetensors", ".bin"),  # {word: vectors}; of SDXL two files, the second's name ends in _2
    "clip_keys": (".safetensors",),  # {clip_l: ..., clip_g: ...}: ComfyUI, AUTOMATIC1111, pivotal tuning
    "a1111": (".pt",),  # string_to_param
    "emb_params": (".safetensors",),  # one encoder; the file's name is the word: kohya, AUTOMATIC1111
    "card": (".png",),  # AUTOMATIC1111's picture that contains the vectors
}
ENCODER_OF_KEY = {
    **{key: key for key in KEY_OF_WIDTH.values()},
    "t5": "t5xxl",
    "t5xxl": "t5xxl",
    **{key: key for key in KEYS_OF_TODAY},
    "gemma": "gemma2_2b",  # OneTrainer
    "text_encoders_0": "clip_l",  # cog-sdxl
    "text_encoders_1": "clip_g",
}
WORDLESS_KEYS = ("emb_params", "emp_params")  # the second is OneTrainer's spelling
UNUSED_KEYS = {
    f"{name}_out" for name in (*ENCODER_OF_KEY, *WORDLESS_KEYS)
}  # OneTrainer's vectors for the encoder's output
# Well above any real file (T5 is 4096 wide), and low enough that a hostile one costs little memory.
MAX_WIDTH, MAX_WORDS, MAX_NAME_LENGTH = 1 << 14, 256, 1000
MAX_NUMBERS = 1 << 22  # in all vectors of a file: 16 MB as float32
LORA = re.compile(r"(?:^|[/._-])lora(?:[/._-]|$)", re.IGNORECASE)
# Of `Concept.facts`; others, such as folders, stay here.
PUBLIC_FACTS = ("init", "steps", "seed", "model", "base", "family", "resolution", "clip_skip", "edits", "license")


def format_of(concept: Concept, suffix: str, wanted: str | None = None) -> str:
    """The format to write: `wanted`, or the usual one for `suffix`.

    Raises:
        ValueError: no such format, a suffix it does not have, or a concept that does not fit into it.
    """
    if tuple(concept.vectors) == ("clip_g",):
        raise InvalidValue(f"{concept.word!r} is half an SDXL word: it needs 'clip_l' vectors too")
    several = len(concept.vectors) > 1
    fitting = [name for name, suffixes in FORMATS.items() if suffix in suffixes]
    if wanted is None and not fitting:
        raise InvalidValue(
            f"files of words end in .safetensors (best), .bin, .pt or .png; this one ends in {suffix or 'nothing'}"
        )
    (first, rows), *_ = concept.vectors.items()
    by_width = KEY_OF_WIDTH.get(rows.shape[1], "clip_l")  # how files without keys are read
    needs_keys = several or first in KEYS_OF_TODAY or (first == "t5xxl" and by_width != first)
    chosen = wanted or ("clip_keys" if needs_keys and "clip_keys" in fitting else fitting[0])
    if chosen not in FORMATS:
        raise InvalidValue(f"format is {chosen!r}: choose from {', '.join(FORMATS)}")
    if suffix not in FORMATS[chosen]:
        raise InvalidValue(f"files of the format {chosen!r} end in {' or '.join(FORMATS[chosen])}, not {suffix!r}")
    if chosen != "clip_keys" and needs_keys and not several:
        raise InvalidValue(
            f"files of the format {chosen!r} can't say that {concept.word!r} is for {first}: write a .safetensors file of "
            "the format 'clip_keys'"
        )
    if chosen == "emb_params" and several:
        raise InvalidValue(
            f"'emb_params' has room for one encoder's vectors; a word of {concept.family} needs 'clip_keys'"
        )
    return chosen


def to_format(concept: Concept, chosen: str) -> list[dict[str, Any]]:
    """The concept as the dictionary that a file of the format stores; several if the format takes several files."""
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
    """The concept's facts that may be published: nothing of folders, pictures or the person."""
    return {key: concept.facts[key] for key in PUBLIC_FACTS if key in concept.facts}


def card_name(word: str) -> str:
    """A card's word for AUTOMATIC1111: `word` stripped to a letter or digit at both ends.

    It searches the prompt's tokens for the word's, and CLIP's tokenizer merges ">" with a comma after it.
    """
    return re.sub(r"^[\W_]+|[\W_]+$", "", word) or "word"


def concepts_in(data: Any, stem: str, nameless: str | None = None) -> list[Concept]:
    """The words in a file's data: nested dictionaries of `LazyTensor`.

    Args:
        stem: the file's name without its suffix. nameless: the name for a word without one; by default from `stem`.

    Raises:
        NotAConcept: it is something else.
    """
    facts = _facts(data)
    own_word = facts.pop("word", None)
    nameless = own_word or nameless or file_word(stem)
    words = _words_in(data, nameless, use_name=not own_word and (isinstance(data, Card) or is_generic_name(stem)))
    for word, parts in words.items():
        for rows in parts.values():
            _check_shape(word, tuple(rows.shape))
    total = sum(math.prod(rows.shape) for parts in words.values() for rows in parts.values())
    if len(words) > MAX_WORDS or total > MAX_NUMBERS:
        raise NotAConcept(f"it holds {len(words)} words of {total} numbers, too many")
    return [_concept(word, parts, facts) for word, parts in words.items()]


def _words_in(data: Any, nameless: str, use_name: bool) -> dict[str, dict[str, LazyTensor]]:
    """Each word's vectors by encoder, not read yet; `use_name`: an AUTOMATIC1111 file's "name" field is the word."""
    if is_tensor(data):
        return {nameless: by_encoder(data)}
    if isinstance(data, list):
        return {word or nameless: rows for word, rows in vectors_in_list(data).items()}
    if not isinstance(data, Mapping):
        raise NotAConcept("it holds no tensors with names: a word's file is a dictionary")
    if "string_to_param" in data:
        return _of_a1111(data, nameless, use_name)
    tensors = {str(k): v for k, v in data.items() if is_tensor(v) and k not in UNUSED_KEYS}
    _refuse_models(data, tensors)
    if any(key in ENCODER_OF_KEY for key in tensors):
        return {nameless: _of_keys(tensors)}
    if len(tensors) == 1 and next(iter(tensors)) in WORDLESS_KEYS:
        return {nameless: by_encoder(next(iter(tensors.values())))}
    return {word or nameless: rows for word, rows in vectors_by_word(tensors).items()}


def _of_a1111(data: Mapping[str, Any], nameless: str, use_name: bool) -> dict[str, dict[str, LazyTensor]]:
    """AUTOMATIC1111's format, where the file's name is the word, and the paper's own, which may hold several words."""
    params = data["string_to_param"]
    if isinstance(params, Instance):  # a pickled torch.nn.ParameterDict
        params = params.state.get("_parameters") if isinstance(params.state, Mapping) else None
    if not isinstance(params, Mapping) or not params or not all(is_tensor(v) for v in params.values()):
        raise NotAConcept("its 'string_to_param' holds no vectors")
    alone = len(params) == 1
    name = data.get("name")
    if alone and use_name and isinstance(name, str) and name.strip():
        nameless = file_word(name)
    return {nameless if key == "*" or (alone and not key) else str(key): by_encoder(v) for key, v in params.items()}


GENERIC_NAME = re.compile(
    r"(learned[_-]?)?embed(s|ding|dings)?([_-]steps?)?([_-]?\d+)?|((diffusion_)?pytorch_)?model|final|last",
    re.IGNORECASE,
)


def is_generic_name(stem: str) -> bool:
    """Whether a file's name, without its suffix, says nothing of the word, such as learned_embeds-steps-500."""
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
        if key not in KEYS_OF_TODAY and KEY_OF_WIDTH.get(wide, key) != key:
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
        keys = ", ".join(quoted(name, 40) for name in names[:4]) or "nothing"
        raise NotAConcept(f"it holds no vectors, but {keys}")


def _concept(word: str, parts: Mapping[str, LazyTensor], facts: Mapping[str, Any]) -> Concept:
    if len(word) > MAX_NAME_LENGTH or word != word.encode(errors="ignore").decode():
        raise NotAConcept(f"its word {quoted(word, 40)} is too long, or not text")
    vectors = {
        key: _rows(rows) for key, rows in sorted(parts.items(), key=lambda item: list(ENCODER_OF_KEY).index(item[0]))
    }
    try:
        return Concept(word, vectors, facts)
    except ValueError as error:
        raise NotAConcept(str(error)) from error


def _check_shape(word: str, shape: tuple[int, ...]) -> None:
    """Refuse shapes other than (n, width) or (width,), before anything is read."""
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
    """What the file says about its word's origin; our own files say it as JSON in "ti_nb"."""
    if not isinstance(data, Mapping):
        return {}
    known = {"steps": data.get("step"), "base": data.get("sd_checkpoint_name")}
    facts: dict[str, Any] = {key: value for key, value in known.items() if isinstance(value, int | str)}
    text = data.get("ti_nb")
    if isinstance(text, str) and len(text) < 1 << 16:
        try:
            ours = json.loads(text)
        except (ValueError, RecursionError):
            ours = None
        if isinstance(ours, dict):
            facts = {k: v for k, v in ours.items() if isinstance(v, int | float | str)}
    if not isinstance(facts.get("word", ""), str):
        facts.pop("word")
    return {k: v for k, v in facts.items() if k in (*PUBLIC_FACTS, "word") and _is_fact(v)}


def _is_fact(value: Any) -> bool:
    """Whether it is text or a number short enough to show."""
    return len(value) <= MAX_NAME_LENGTH if isinstance(value, str) else abs(value) < 1 << 63
