"""`Storage`: where a file has the numbers of a tensor, and of which kind they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


@dataclass(frozen=True)
class Storage:
    """Numbers in the file: `key` names the place, `count` says how many there are; `fetch` gives bytes, from, how many."""

    dtype: torch.dtype
    key: str
    count: int
    fetch: Callable[[Storage, int, int], bytes] = field(repr=False, compare=False)
