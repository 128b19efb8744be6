"""A restricted unpickler that imports and calls nothing.

A pickle is a program for a stack machine. This one leaves names of classes and functions as names, except the few that
rebuild tensors, which have replacements here (`CALLS`). Everything else is refused.
"""

from __future__ import annotations

import io
import math
import pickletools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ..errors import NotAConcept
from ..host.plain_text import quoted
from .storage import DTYPES
from .storage import Storage as Storage

MAX_TENSOR_BYTES = 1 << 25  # that a tensor may span in the file
MAX_INSTRUCTIONS = 1 << 18  # a whole model has under 100,000
MAX_COPIED = 1 << 18  # items in arguments of calls: a few bytes can pass the same list again and again
MAX_KEY_LENGTH = 1000  # in characters


@dataclass(frozen=True)
class Tensor:
    """A tensor not read yet: a view of `storage`, as for `torch.as_strided`."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def read(self) -> torch.Tensor:
        """Its values in float32; only the bytes from its first to its last are read.

        Raises:
            NotAConcept: it reaches beyond its storage, or is too large.
        """
        if 0 in self.shape:
            return torch.zeros(self.shape)
        size = self.storage.dtype.itemsize
        span = 1 + sum((n - 1) * step for n, step in zip(self.shape, self.stride))
        if self.offset + span > self.storage.count or max(span * size, math.prod(self.shape) * 4) > MAX_TENSOR_BYTES:
            raise NotAConcept(f"a tensor of shape {self.shape} reaches past its {self.storage.count} numbers")
        data = self.storage.fetch(self.storage, self.offset * size, span * size)
        flat = torch.frombuffer(bytearray(data), dtype=self.storage.dtype)
        return flat.as_strided(self.shape, self.stride).to(torch.float32, copy=True)


@dataclass
class GlobalName:
    """A class or function that the pickle names; never imported."""

    path: str


@dataclass
class Instance:
    """An object of one of `CLASSES`, and its state."""

    path: str
    state: Any = None


def run(program: bytes, fetch: Callable[[Storage, int, int], bytes], storages: dict[str, Storage] | None = None) -> Any:
    """The object that the pickle at the start of `program` builds, and its length in bytes; adds to `storages`."""
    machine = _Machine(fetch, storages if storages is not None else {})
    stream = io.BytesIO(program)
    for step, (op, argument, _) in enumerate(pickletools.genops(stream)):
        if step == MAX_INSTRUCTIONS:
            raise NotAConcept(
                f"it has over {MAX_INSTRUCTIONS} instructions, and a word's file a hundred: it is made to mislead"
            )
        machine.do(op.name, argument)
    return machine.stack[-1], stream.tell()


VALUE_OPS = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "UNICODE", "BINUNICODE",
    "BINUNICODE8", "SHORT_BINUNICODE", "STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "BINBYTES8",
    "SHORT_BINBYTES",
}  # fmt: skip

CONSTANT_OPS: Mapping[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
NO_OPS = {"PROTO", "FRAME", "STOP"}


class _Machine:
    """The stack, the memo, and a method for each instruction that builds plain values and tensors."""

    def __init__(self, fetch: Callable[[Storage, int, int], bytes], storages: dict[str, Storage]) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []  # stack heights at each MARK
        self.memo: dict[int, Any] = {}
        self.fetch, self.storages = fetch, storages
        self.copied = 0

    def do(self, op: str, argument: Any) -> None:
        """Execute one instruction."""
        push = self.stack.append
        if op in VALUE_OPS:
            push(argument)
        elif op in CONSTANT_OPS:
            push(CONSTANT_OPS[op])
        elif op in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[argument] = self.stack[-1]
        elif op == "MEMOIZE":
            self.memo[len(self.memo)] = self.stack[-1]
        elif op in ("GET", "BINGET", "LONG_BINGET"):
            push(self.memo[argument])
        elif op in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(op[-1])
            self.stack[-count:] = [tuple(self.stack[-count:])]
        elif op == "GLOBAL":
            self._name(argument.replace(" ", "."))
        elif op not in NO_OPS:
            act = getattr(self, f"_{op.lower()}", None)
            if act is None:
                raise NotAConcept(f"it is a pickle with the instruction {op}, which no word needs: refused, not run")
            act()

    def _name(self, path: str) -> None:
        if path not in KNOWN:
            raise NotAConcept(
                f"it names {quoted(path, 80)}, which no word needs: refused, not run. Get the word as .safetensors, from "
                "somebody you trust"
            )
        self.stack.append(GlobalName(path))

    def _mark(self) -> None:
        self.marks.append(len(self.stack))

    def _pop(self) -> None:
        if self.marks and self.marks[-1] == len(self.stack):
            self.marks.pop()
        else:
            self.stack.pop()

    def _to_mark(self) -> list[Any]:
        at = self.marks.pop()
        values = self.stack[at:]
        del self.stack[at:]
        return values

    def _pop_mark(self) -> None:
        self._to_mark()

    def _empty_tuple(self) -> None:
        self.stack.append(())

    def _tuple(self) -> None:
        self.stack.append(tuple(self._to_mark()))

    def _empty_list(self) -> None:
        self.stack.append([])

    def _list(self) -> None:
        self.stack.append(self._to_mark())

    def _append(self) -> None:
        value = self.stack.pop()
        self._top(list).append(value)

    def _appends(self) -> None:
        values = self._to_mark()
        self._top(list).extend(values)

    def _empty_dict(self) -> None:
        self.stack.append({})

    def _dict(self) -> None:
        self.stack.append(_pairs(self._to_mark()))

    def _setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._top(dict).update(_pairs([key, value]))

    def _setitems(self) -> None:
        values = self._to_mark()
        self._top(dict).update(_pairs(values))

    def _stack_global(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self._name(f"{module:s}.{name:s}")

    def _binpersid(self) -> None:
        """A storage: ("storage", class, key, device, count); before torch 1.6 with a view's data appended, which is None."""
        kind, cls, key, _, *sizes = self._counted(self.stack.pop())
        if kind == "module":  # before torch 1.6: a class with its source code
            return self.stack.append(cls)
        if kind != "storage" or not _is_key(key) or sizes[1:] not in ([], [None]) or not _is_size(sizes[0]):
            raise NotAConcept("it refers to external data that is not a storage of numbers")
        self.storages[key] = Storage(STORAGES[cls.path], key, sizes[0], self.fetch)
        self.stack.append(self.storages[key])

    def _reduce(self) -> None:
        arguments, called = self.stack.pop(), self.stack.pop()
        if not isinstance(called, GlobalName) or called.path not in CALLS or not isinstance(arguments, tuple):
            raise NotAConcept("it calls something that does not rebuild tensors: refused, not run")
        for argument in self._counted(arguments):
            self._counted(argument)
        self.stack.append(CALLS[called.path](*arguments))

    def _counted(self, values: Any) -> Any:
        """`values`, once counted: a call copies its arguments, and the memo can supply them any number of times."""
        self.copied += 1 + (len(values) if hasattr(values, "__len__") else 0)
        if self.copied > MAX_COPIED:
            raise NotAConcept("it copies more than a word needs: it is made to mislead")
        return values

    def _newobj(self) -> None:
        arguments, cls = self.stack.pop(), self.stack.pop()
        if not isinstance(cls, GlobalName) or cls.path not in CLASSES or arguments != ():
            raise NotAConcept("it makes an object that no word needs: refused, not run")
        self.stack.append(Instance(cls.path))

    def _build(self) -> None:
        state = self.stack.pop()
        if isinstance(self.stack[-1], Instance):
            self.stack[-1].state = state
        elif not isinstance(self.stack[-1], dict):  # attributes of an OrderedDict are ignored
            raise NotAConcept("it sets up an object that no word needs: refused, not run")

    def _top(self, kind: type) -> Any:
        if not isinstance(self.stack[-1], kind):
            raise NotAConcept("it is damaged, or made to mislead: it fills something that is not a list or dictionary")
        return self.stack[-1]


def _pairs(values: list[Any]) -> dict[Any, Any]:
    """[key, value, key, value, ...] as a dictionary; keys are short text or numbers, as others may be slow to hash."""
    if len(values) % 2 or not all(key is None or _is_key(key) or _is_size(key) for key in values[::2]):
        raise NotAConcept("it is damaged, or made to mislead: its keys are neither short text nor numbers")
    return dict(zip(values[::2], values[1::2]))


def _is_key(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= MAX_KEY_LENGTH


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 40


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> Tensor:
    sizes = (*shape, *stride) if isinstance(shape, tuple) and isinstance(stride, tuple) else (-1,)
    right = isinstance(storage, Storage) and len(shape) == len(stride) <= 4
    if not right or not all(_is_size(value) for value in (offset, *sizes)):
        raise NotAConcept("one of its tensors has an impossible shape")
    return Tensor(storage, offset, shape, stride)


def _ordered_dict(items: Any = ()) -> dict[Any, Any]:
    if not isinstance(items, tuple | list):
        raise NotAConcept("it is damaged, or made to mislead: it fills a dictionary from something that is not a list")
    return _pairs([value for pair in items for value in _pair(pair)])


def _pair(pair: Any) -> Iterator[Any]:
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise NotAConcept("it is damaged, or made to mislead: an item of a dictionary is not a pair")
    return iter(pair)


# The functions a word's file may call, replaced by ours with the same arguments.
CALLS: Mapping[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": lambda data, *_: data,
    "torch._utils._rebuild_parameter_with_state": lambda data, *_: data,
    "collections.OrderedDict": _ordered_dict,
    "torch.Size": lambda sizes: tuple(sizes) if isinstance(sizes, tuple | list) else (),
    "__builtin__.set": lambda *_: [],  # in a ParameterDict, always empty
    "builtins.set": lambda *_: [],
}

CLASSES = ("torch.nn.modules.container.ParameterDict",)  # written by the paper's code

STORAGES = {f"{module}.{name}": t for module in ("torch", "torch.cuda", "torch.storage") for name, t in DTYPES.items()}
KNOWN = {*CALLS, *CLASSES, *STORAGES}
