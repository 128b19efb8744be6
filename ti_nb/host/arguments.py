"""Type checks of arguments: whatever does not match a function's annotations is refused in words, before any work.

`checked` decorates each public function. NumPy's numbers become Python's; NaN, infinity and True don't count as numbers, and
a string does not count as a list of strings.
"""

from __future__ import annotations

import builtins
import inspect
import math
import numbers
import os
import reprlib
import types
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cache, wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, Union, get_args, get_origin

from ..errors import InvalidValue, TiError

P = ParamSpec("P")
R = TypeVar("R")
Limits = tuple[float | None, float | None]  # minimum and maximum; None for none
SEEDS: Limits = (0, 2**63 - 1)
SHARE: Limits = (0, 1)
SHOWN_TYPES = (int, float, str, Path, type(None))
LIST_TYPES = (Sequence, Iterable, Collection, list)
TYPE_NAMES: Mapping[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "True or False",
    Path: "a path",
    type(None): "None",
    bytes: "a file's bytes",
}
CLASS_NAMES = {  # with the function that makes one
    "Model": "a model, from ti.load_model or ti.from_pipeline",
    "Concept": "a word, such as ti.load, ti.fetch and run.concept() return",
    "ConceptImages": "pictures, from ti.load_images('my-pictures/')",
    "Judge": "a judge, from ti.load_judge",
    "Run": "a run, from ti.train",
    "Sample": "a picture, from ti.sample",
    "SavedRun": "a saved run, from ti.read_run",
    "Comparison": "what ti.score_steps and ti.compare_words return",
    "Scores": "scores, from ti.score",
    "ScoreProtocol": "ti.ScoreProtocol, or its name",
    "Attention": "what ti.attention returns",
    "StepRecord": "a record of a run",
    "Image": "a PIL picture",
    "Tensor": "a tensor",
    "TrainSettings": "ti.TrainSettings",
}


class Mismatch(TiError):
    """A value does not match its annotation."""


def checked(*nonempty: str, **limits: Limits) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator: the function is called only with arguments that match its annotations.

    Args:
        nonempty: names of arguments that may not be empty. limits: range of a number, or of each in a list, by name.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)
        hints = cache(lambda: inspect.get_annotations(function, locals=_Namespace(function), eval_str=True))

        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            given = signature.bind(*args, **kwargs)
            for name, value in given.arguments.items():
                kind = signature.parameters[name].kind
                if name in hints() and kind not in (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL):
                    given.arguments[name] = validated(
                        name, value, hints()[name], limits=limits.get(name), nonempty=name in nonempty
                    )
            return function(*given.args, **given.kwargs)

        return call

    return decorate


def validated(name: str, value: Any, hint: Any, *, limits: Limits | None = None, nonempty: bool = False) -> Any:
    """The value, converted to the type `hint`.

    Raises:
        ValueError: wrong type, out of range, or empty; the message names the argument, the value, and what to give.
    """
    try:
        value = _converted(value, hint)
    except Mismatch:
        wanted = _described(hint) + (f", {_range(limits)}" if limits else "")
        raise InvalidValue(f"{name} is {_shown(name, value)}: give {wanted}") from None
    if limits and value is not None and not isinstance(value, str):
        for number in value if isinstance(value, list | tuple) else [value]:
            if isinstance(number, numbers.Real) and not _is_within(number, limits):
                raise InvalidValue(f"{name} is {_shown(name, value)}: it must be {_range(limits)}")
    may_be_empty = value is None or (isinstance(value, str) and hint is not str)  # a prompt may be empty
    if nonempty and not may_be_empty and len(value) == 0:
        raise InvalidValue(f"{name} is empty: give {_described(hint)}")
    return value


def _converted(value: Any, hint: Any) -> Any:
    """The value as the type `hint`, where the conversion loses nothing, as for NumPy's numbers."""
    origin, kinds = get_origin(hint), get_args(hint)
    if hint is Any or isinstance(hint, TypeVar) or hint is object:
        return value
    if origin in (Union, types.UnionType):
        return _converted_to_any(value, kinds)
    if origin is not None and isinstance(origin, type):
        return _converted_items(value, origin, kinds)
    if hint in (None, type(None)):
        return _require(value is None, value)
    if hint in (int, float, bool):
        return _number(value, hint)
    if hint is Path:
        return Path(_path(os.fspath(value))) if isinstance(value, os.PathLike) else _require(False, value)
    return _require(isinstance(value, hint), value) if isinstance(hint, type) else value


def _converted_to_any(value: Any, kinds: Sequence[Any]) -> Any:
    if isinstance(value, str) and Path in kinds:
        return _path(value)
    classes = tuple(kind for kind in kinds if isinstance(kind, type) and get_origin(kind) is None)
    if isinstance(value, Iterable) and not isinstance(
        value, (Collection, str, *classes)
    ):  # reading a Run would train it
        value = list(value)  # an iterator can be read only once, and several types may be tried
    for kind in kinds:
        try:
            return _converted(value, kind)
        except Mismatch:
            continue
    raise Mismatch


def _converted_items(value: Any, origin: type, kinds: Sequence[Any]) -> Any:
    """A list, tuple or mapping, each item converted; a single string or path is not a list."""
    if origin in (Callable, type):
        return _require(callable(value), value)
    if issubclass(origin, Mapping):
        _require(isinstance(value, Mapping), value)
        return {key: _converted(item, kinds[1]) for key, item in value.items()} if kinds else value
    if isinstance(value, str | bytes | Mapping | os.PathLike):
        raise Mismatch
    try:
        items = list(value)
    except TypeError:
        raise Mismatch from None
    if origin is tuple and not (len(kinds) == 2 and kinds[1] is ...):
        _require(len(items) == len(kinds), value)
        return tuple(_converted(item, kind) for item, kind in zip(items, kinds))
    items = [_converted(item, kinds[0]) for item in items] if kinds else items
    return tuple(items) if isinstance(value, tuple) or origin is tuple else items


def _number(value: Any, kind: type) -> Any:
    is_bool = isinstance(value, bool) or type(value).__name__ in ("bool_", "bool")  # NumPy's
    if kind is bool or is_bool:
        return bool(_require(is_bool and kind is bool, value))
    if kind is int:
        return int(_require(isinstance(value, numbers.Integral), value))
    _require(isinstance(value, numbers.Real) and math.isfinite(value), value)
    return value if isinstance(value, int | float) and type(value) in (int, float) else float(value)


def _path(value: str | bytes) -> str:
    text = os.fsdecode(value)
    return str(_require(bool(text.strip()) and "\0" not in text, text))


def _require(fits: bool, value: Any) -> Any:
    if not fits:
        raise Mismatch
    return value


def _is_within(value: Any, limits: Limits) -> bool:
    least, most = limits
    return (least is None or value >= least) and (most is None or value <= most)


def _range(limits: Limits) -> str:
    least, most = limits
    if most is None or most >= 2**31:
        return f"at least {least}"
    return f"at most {most}" if least is None else f"from {least} to {most}"


def _described(hint: Any) -> str:
    """A type, in words."""
    origin, kinds = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        kinds = tuple(kind for kind in kinds if not (kind is str and Path in kinds))
        return " or ".join(dict.fromkeys(_described(kind) for kind in kinds))
    if hint in TYPE_NAMES:
        return TYPE_NAMES[hint]
    if origin is Callable or origin in (dict, Mapping):
        return "a function" if origin is Callable else "a dictionary"
    if origin in LIST_TYPES or origin is tuple:
        of = list(dict.fromkeys(_described(kind) for kind in kinds if kind is not ...))
        count = f"{len(kinds)} values" if origin is tuple and ... not in kinds else "a list"
        return f"{count}, each {' or '.join(of)}" if of and of != ["anything"] else count
    name = getattr(hint, "__name__", "")
    return CLASS_NAMES.get(name, f"a {name}" if name and hint is not Any else "anything")


def _shown(name: str, value: Any) -> str:
    """A value, shortened; for tokens, pictures and the like only the type."""
    if isinstance(value, list | tuple) and any(not isinstance(item, SHOWN_TYPES) for item in value):
        return f"a list of {type(value[0]).__name__}"
    if isinstance(value, (*SHOWN_TYPES, list, tuple)) and "token" not in name:
        return reprlib.repr(str(value) if isinstance(value, Path) else value)
    return f"of type {type(value).__name__}"


class _Namespace(dict[str, Any]):
    """The names in annotations, also those imported under TYPE_CHECKING only."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self._known = getattr(inspect.unwrap(function), "__globals__", {})

    def __missing__(self, name: str) -> Any:
        if name in self._known or hasattr(builtins, name) or name.startswith("_"):
            raise KeyError(name)
        import collections.abc

        import ti_nb

        if hasattr(collections.abc, name):
            return getattr(collections.abc, name)
        if name in dir(ti_nb):
            return getattr(ti_nb, name)
        if name == "Image":
            from PIL import Image

            return Image
        if name == "torch":
            import torch

            return torch
        return Any
