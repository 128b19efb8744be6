"""What a name stands for: a model's folder, repository or file, once its small files show that it can be trained."""

from __future__ import annotations

import re
from pathlib import Path

from ...errors import InvalidValue, NotWritten
from ...host.plain_text import place
from ..families import RELEASES, SUPPORTED, no_such_model
from ..model import TINY
from .model_files import check_whole, read_index, variant_of
from .single_file import family_of_file

SAFE = (".safetensors", ".sft")
CHECKPOINTS = (".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".gguf", ".onnx", ".sft")


def find(name: str) -> tuple[str, str, str | None]:
    """The folder or repository id that `name` stands for, its pipeline's class, and which variant of its files to load."""
    if name == "tiny":
        return str(TINY), SUPPORTED[0], None
    if name in RELEASES:
        return _checked_repository(RELEASES[name].repository)
    path = Path(name).expanduser() if not name.startswith("~") or name[1:2] in ("", "/", "\\") else Path(name)
    if path.is_file() and path.suffix.lower() in SAFE:
        return str(path), family_of_file(path)[0].pipeline, None
    if path.is_file() or (path.suffix.lower() in CHECKPOINTS and not path.is_dir()):
        raise InvalidValue(_file_advice(path))
    if path.exists() or name.startswith((".", "/", "~")) or re.match(r"[A-Za-z]:[\\/]", name):
        return _checked_folder(path)
    if name.count("/") != 1:
        raise no_such_model(name)
    return _checked_repository(name)


def _file_advice(path: Path) -> str:
    """What to do instead, for a name that is a file."""
    if path.name == "model_index.json":
        return f"{place(path)} is a file within a model's folder: give the folder, {place(path.parent)}"
    there = f"{place(path)} is one file" if path.is_file() else f"no such file: {place(path)}"
    if path.suffix.lower() in SAFE:
        return there
    return (
        f"{there}; load_model takes a folder that save_pretrained wrote, a repository id, or a .safetensors file (.ckpt, .pt "
        "and .bin are pickles, which can run anything: convert them)"
    )


def _checked_folder(path: Path) -> tuple[str, str, str | None]:
    """The folder, once its files show a complete model that can be trained."""
    index = path / "model_index.json"
    if not index.is_file():
        raise InvalidValue(
            f"{place(path)} is not a diffusers model: it has no model_index.json; give the folder save_pretrained wrote"
        )
    kind, parts = read_index(index, str(path))
    files = [file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()]
    variant = variant_of(files, parts, str(path))
    for part in parts:
        for file in sorted((path / part).glob("*")):
            check_whole(file)
    return str(path), kind, variant


def _checked_repository(name: str) -> tuple[str, str, str | None]:
    """`name`, once its index (a kilobyte) and its list of files show that it can be trained: before gigabytes are downloaded."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        index = Path(hf_hub_download(name, "model_index.json"))
    except LocalEntryNotFoundError:  # no answer, and not in the cache
        raise
    except EntryNotFoundError as error:
        raise InvalidValue(
            f"{place(name)} is not a diffusers model: it has no model_index.json (a word is loaded by ti.fetch, a checkpoint of one "
            "file by diffusers' from_single_file and ti.from_pipeline)"
        ) from error
    except GatedRepoError as error:
        raise NotWritten(
            f"{place(name)} is gated: ask for it on its page on the Hub, and log in with ti.log_in, then load it again"
        ) from error
    except RepositoryNotFoundError as error:
        raise NotWritten(
            f"there is no folder {place(name)} here, and no repository of that name on the Hub (or it is private: log in)"
        ) from error
    kind, parts = read_index(index, name)
    files = _files_of(name)
    return name, kind, variant_of(files, parts, name) if files else None


def _files_of(name: str) -> list[str]:
    """The repository's files; none if the Hub does not say."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        return list(HfApi().list_repo_files(name))
    except (HfHubHTTPError, OfflineModeIsEnabled, OSError):
        return []
