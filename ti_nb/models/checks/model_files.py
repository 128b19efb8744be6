"""What the small files of a model's folder, or repository, say of it: is it complete, and can its parts be trained?"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from ...errors import InvalidValue
from ...host.plain_text import first_line, place
from ..families import RECIPES
from .supported import check_kind, check_part, needed

SHARD = r"-\d{5}-of-(\d{5})"
WEIGHTS = re.compile(rf"(?:model|diffusion_pytorch_model)(?:{SHARD})?(?:\.(\w+))?(?:{SHARD})?\.safetensors")
NETWORKS = ("unet", "transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3")
LFS_POINTER = b"version https://git-lfs"


def read_index(index: Path, name: str) -> tuple[str, list[str]]:
    """The pipeline's class and its parts, each of a class that can be trained."""
    try:
        entries = json.loads(index.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise InvalidValue(
            f"{place(name)} is damaged: its model_index.json can't be read ({first_line(error)})"
        ) from error
    if not isinstance(entries, Mapping):
        raise InvalidValue(f"{place(name)} is damaged: its model_index.json is no table of parts")
    kind = check_kind(entries.get("_class_name"), name)
    for part in needed(kind):
        pair = entries.get(part)
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair)):
            raise InvalidValue(f"{place(name)} can't be trained: it has no {part}, by its model_index.json")
        library, class_name = pair
        if library not in ("diffusers", "transformers"):
            raise InvalidValue(
                f"{place(name)} can't be trained: its {part} is code of its own ({library}), which is not run here"
            )
        if kind not in RECIPES:
            check_part(part, [class_name], name)
    return kind, needed(kind)


def variant_of(files: Collection[str], parts: Iterable[str], name: str) -> str | None:
    """Which files to load: None for the plain ones, or such as "fp16" where a part has only those.

    Raises:
        ValueError: a part has no files, or not all, or only pickles.
    """
    only: set[str] = set()
    for part in parts:
        own = {Path(file).name for file in files if Path(file).parent.as_posix() == part}
        if not own:
            raise InvalidValue(f"{place(name)} is not whole: it has nothing of its {part}")
        if part in NETWORKS:
            variants = _variants(own)
            if not variants:
                raise InvalidValue(f"{place(name)} is not whole: {_no_weights(own, part)}")
            if "" not in variants:
                only.add("fp16" if "fp16" in variants else min(variants))
    if len(only) > 1:
        raise InvalidValue(
            f"{place(name)} can't be loaded: its parts are of different variants, {' and '.join(sorted(only))}"
        )
    return min(only, default=None)


def _variants(files: Iterable[str]) -> set[str]:
    """The complete variants, "" being the plain one. A file says of how many shards it is one."""
    shards: dict[str, list[int]] = defaultdict(list)
    for file in files:
        if match := WEIGHTS.fullmatch(file):
            shards[match[2] or ""].append(int(match[1] or match[3] or 1))
    return {variant for variant, counts in shards.items() if len(counts) >= min(counts)}


def _no_weights(files: Collection[str], part: str) -> str:
    pickled = [file for file in files if Path(file).suffix in (".bin", ".ckpt", ".pt", ".pth")]
    if pickled:
        return (
            f"its {part} is a pickle ({min(pickled)}), an old format that can run anything and is not opened here; "
            "ask for a copy in safetensors, or if you trust it load it with diffusers, and give ti.from_pipeline the pipeline"
        )
    return f"its {part} has no weights, or not all, in safetensors: fetch it again"


def check_whole(file: Path) -> None:
    """Refuse a file that is empty, cut short, or only a git-lfs pointer."""
    from safetensors import SafetensorError, safe_open

    if file.suffix not in (".safetensors", ".json", ".txt"):
        return
    with file.open("rb") as opened:
        start = opened.read(64)
    if start.startswith(LFS_POINTER):
        raise InvalidValue(
            f"{place(file)} is a git-lfs pointer, not the file itself: `git lfs pull`, or fetch it again"
        )
    try:
        if file.suffix == ".safetensors":
            with safe_open(str(file), framework="pt"):
                pass
        elif file.suffix == ".json":
            json.loads(file.read_text(encoding="utf-8"))
    except (SafetensorError, ValueError, OSError) as error:
        raise InvalidValue(f"{place(file)} is damaged ({first_line(error)}): fetch it again") from error
