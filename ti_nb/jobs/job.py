"""`Job`: a word to learn, from which pictures, how; checked when made, and sent to other processes as it is."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from ..errors import InvalidValue
from ..models.tokens import check_spelling
from ..pictures.concept_images import ConceptImages, load_images
from ..pictures.folders import beside, find_pictures
from ..training.records import digest_of_images
from ..training.settings import as_settings

HUB = "hf://"
RESERVED = re.compile(r"(?i)con|prn|aux|nul|com\d|lpt\d")  # names that Windows keeps for itself


@dataclass(frozen=True)
class Job:
    """A word to learn; `train_many` takes any number of them.

    Attributes:
        pictures: a folder, a list of files (or PIL pictures, or bytes), what `load_images` returned, or a folder of the Hub
            such as "hf://datasets/owner/name/my-cat", best with its revision, as in "hf://datasets/owner/name@main/my-cat".
        word, init: as `train` takes them.
        settings: as `train` takes them, or a dictionary of those that differ from "fast": {"steps": 500}.
        captions, masks: "files" or "alpha", as `load_images` takes them; "" for none.
        flip: also train on mirror images.

    Raises:
        ValueError: a word that can't be one, a setting out of range, no pictures. Whether there are usable pictures, and whether
            the model knows the initializer, shows when the job is done.

    Examples:
        >>> import ti_nb as ti
        >>> job = ti.Job("pictures/my-cat", "<my-cat>", "cat", {"steps": 500})
        >>> job.settings.steps, job.folder
        (500, 'my-cat')
    """

    pictures: Any
    word: str
    init: str | None
    settings: Any = None  # a TrainSettings, once made
    captions: str = ""
    masks: str = ""
    flip: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.word, str):
            raise InvalidValue(f"word is of type {type(self.word).__name__}: give text, such as '<my-cat>'")
        check_spelling(self.word)
        if not (self.init is None or (isinstance(self.init, str) and self.init.strip())):
            raise InvalidValue(f"init is {self.init!r}: give a word for the kind of thing, or None for random vectors")
        given = self.settings
        settings = as_settings(None, given) if isinstance(given, Mapping) else as_settings(given, {})
        object.__setattr__(self, "settings", settings)
        object.__setattr__(self, "pictures", _kept(self.pictures))
        for name, choices in (("captions", ("", "files")), ("masks", ("", "files", "alpha"))):
            if getattr(self, name) not in choices:
                raise InvalidValue(
                    f"{name} is {getattr(self, name)!r}: choose from {', '.join(map(repr, choices))}, or give "
                    "pictures=ti.load_images(...), which takes more"
                )

    @property
    def folder(self) -> str:
        """The name of the folder that keeps its word: the word itself where that makes a name on every system."""
        bare = self.word.strip("<>")
        name = re.sub(r"[^a-z0-9._-]+", "_", bare)[:60].strip("._-")
        reserved = RESERVED.fullmatch(name.split(".")[0])
        if name == bare and name and not reserved:
            return name
        name = f"word-{name}" if reserved else name
        return f"{name or 'word'}-{hashlib.sha256(self.word.encode()).hexdigest()[:8]}"

    def images(self) -> ConceptImages:
        """The pictures, loaded and checked; those of the Hub are fetched first.

        Raises:
            ValueError, OSError: as `load_images`; and what the Hub says.
        """
        if isinstance(self.pictures, ConceptImages):
            return self.pictures
        with ExitStack() as stack:
            source = self.pictures
            if is_of_hub(source):
                source = stack.enter_context(tempfile.TemporaryDirectory())
                _fetch(self.pictures, source)
            return load_images(source, captions=self.captions or (), masks=self.masks or (), flip=self.flip)

    def about(self) -> dict[str, Any]:
        """All that its word depends on but the pictures and the model, as JSON knows it."""
        own = {name: getattr(self, name) for name in ("word", "init", "captions", "masks", "flip")}
        known: dict[str, Any] = json.loads(json.dumps({**own, **asdict(self.settings)}))
        return known

    def with_pictures_inside(self) -> Job:
        """The same job for a machine that has not our disk: its pictures are loaded here, and go with it."""
        return (
            self
            if is_of_hub(self.pictures)
            else replace(self, pictures=self.images(), captions="", masks="", flip=False)
        )


def _kept(pictures: Any) -> Any:
    """The pictures as the job keeps them: places as text, several as a tuple."""
    if isinstance(pictures, ConceptImages | Image.Image | bytes):
        return pictures if isinstance(pictures, ConceptImages) else (pictures,)
    if isinstance(pictures, str | os.PathLike):
        text = os.fspath(pictures)
        if not str(text).strip() or "\0" in str(text):
            raise InvalidValue(
                f"pictures is {text!r}: give a folder, files, or a place such as 'hf://datasets/owner/name'"
            )
        return text if is_of_hub(text) else str(Path(str(text)).expanduser().absolute())
    try:
        several = tuple(_kept(item) if isinstance(item, str | os.PathLike) else item for item in pictures)
    except TypeError:
        raise InvalidValue(
            f"pictures is of type {type(pictures).__name__}: give a folder, or a list of files"
        ) from None
    if not several or not all(isinstance(item, str | bytes | Image.Image) for item in several):
        raise InvalidValue(
            "pictures is a list without pictures: give at least one file, PIL picture or bytes of a file"
        )
    if any(is_of_hub(item) for item in several):
        raise InvalidValue("pictures is a list with hf:// places in it: give one such folder")
    return several


def is_of_hub(place: Any) -> bool:
    """Whether it is a place on the Hub."""
    return isinstance(place, str) and place.startswith(HUB)


def _fetch(place: str, folder: str) -> None:
    """Copy the files of a folder of the Hub, of that folder alone."""
    from huggingface_hub import HfFileSystem

    files = HfFileSystem()
    path = place.removeprefix(HUB).rstrip("/")
    inside = [file for file in files.find(path, maxdepth=2) if file.count("/") <= path.count("/") + 2]
    if not inside:
        raise InvalidValue(f"no file in {place!r}: is the folder's name right?")
    for file in inside:
        name = Path(folder) / file.removeprefix(path).lstrip("/")
        if not name.resolve().is_relative_to(Path(folder).resolve()):
            raise InvalidValue(f"{file!r} in {place!r} leads out of its folder")
        name.parent.mkdir(parents=True, exist_ok=True)
        files.get_file(file, str(name))


@dataclass(frozen=True)
class Stamp:
    """What the pictures of a job were: by size and time of their files, which is quick to compare, and by content.

    Attributes:
        files: (name, bytes, time) of each file, () where pictures are no files. digest: of all that the word depends on.
    """

    files: tuple[tuple[str, int, int], ...]
    digest: str

    def fits(self, job: Job) -> bool:
        """Whether the pictures of `job` are still these, as far as can be told: what is gone is no other."""
        try:
            return (bool(self.files) and self.files == _seen(job)) or self.digest == _digest(job)
        except OSError:
            return True
        except ValueError:
            return False


def stamp(job: Job) -> Stamp:
    """What the job's pictures are now."""
    return Stamp(_seen(job), _digest(job))


def _files(job: Job) -> list[Path]:
    """The files that the pictures, captions and masks are read from."""
    if isinstance(job.pictures, ConceptImages) or is_of_hub(job.pictures):
        return []
    named, _ = find_pictures(job.pictures)
    paths = [Path(item) for _, item in named if isinstance(item, str | Path)]
    extras = beside(named) if "files" in (job.captions, job.masks) else []
    captions = [text for text, _ in extras if text is not None and job.captions]
    return [*paths, *captions, *(mask for _, mask in extras if mask is not None and job.masks == "files")]


def _seen(job: Job) -> tuple[tuple[str, int, int], ...]:
    return tuple((path.name, (seen := path.stat()).st_size, seen.st_mtime_ns) for path in _files(job))


def _digest(job: Job) -> str:
    """Of the files' bytes; of loaded pictures, their pixels; of a place on the Hub, its text."""
    if isinstance(job.pictures, ConceptImages):
        return digest_of_images(job.pictures)
    if is_of_hub(job.pictures):
        return hashlib.sha256(job.pictures.encode()).hexdigest()
    sha = hashlib.sha256()
    for path in _files(job):
        sha.update(repr((path.name, path.stat().st_size)).encode() + path.read_bytes())
    for item in job.pictures if isinstance(job.pictures, tuple) else ():
        if not isinstance(item, str):
            sha.update(item if isinstance(item, bytes) else repr((item.mode, item.size)).encode() + item.tobytes())
    return sha.hexdigest()
