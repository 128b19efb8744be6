"""A picture with all that is needed to draw it again, and its file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import InvalidValue
from ...host.arguments import checked
from ...host.plain_text import place
from ...words.concept import Concept, fingerprint
from .png_settings import write_settings

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Sample:
    """One picture, with everything needed to draw it again.

    Attributes:
        prompt: with the word filled in. seed: of its initial noise. negative: the negative prompt.
        steps, guidance: as passed to `sample`; None for a picture made in another way.
        concepts: whose words the prompts may use. model: its name; of a folder, the last part only. dtype: its precision.
        sampler: the scheduler of `Model.pipeline`.
    """

    image: Image.Image
    prompt: str
    seed: int
    steps: int | None = None
    guidance: float | None = None
    negative: str = ""
    concepts: tuple[Concept, ...] = field(default=(), repr=False, compare=False)
    model: str = ""
    dtype: str = ""
    sampler: str = "DDIM"

    def settings(self) -> dict[str, Any]:
        """The metadata saved with the picture: `sample`'s arguments, each word's fingerprint and edits, the model.

        Nothing about training pictures, folders or the user.
        """
        words = {c.word: {"sha256": fingerprint(c), "edits": str(c.facts.get("edits", ""))} for c in self.concepts}
        kept = ("prompt", "negative", "seed", "steps", "guidance", "model", "dtype")
        size = {"width": self.image.width, "height": self.image.height}
        return {
            **{key: getattr(self, key) for key in kept},
            "sampler": self.sampler if self.steps else None,
            **size,
            "words": words,
        }

    @checked()
    def save(self, path: str | Path) -> Path:
        """Write a PNG with the settings as text metadata, for `read_settings` and, under "parameters", for other programs.

        The file appears under its name only when complete and its metadata has been read back; returns the path.

        Raises:
            ValueError: the name does not end in .png. OSError: the file can't be written.
        """
        path = Path(path).expanduser()
        if path.suffix.lower() != ".png":
            raise InvalidValue(f"{place(path)} must end in .png, the format that can hold the settings")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_settings(self.image, self.settings(), path)
        return path


@checked()
def save_samples(samples: Sequence[Sample], folder: str | Path) -> list[Path]:
    """Write each as a PNG with its settings (`Sample.save`) into `folder`, numbered after those already there.

    Returns the paths, such as 007-a-cat-on-the-beach-seed3.png.

    Raises:
        OSError: the folder or a file can't be written.

    Examples:
        >>> import ti_nb as ti
        >>> drawn = [ti.Sample(ti.example_images("penguin")[0], "a penguin", seed=3)]
        >>> [path.name for path in ti.save_samples(drawn, "drawn")]
        ['001-a-penguin-seed3.png']
    """
    folder = Path(folder).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    taken = [int(match[1]) for path in folder.glob("*.png") if (match := re.match(r"(\d+)-", path.name))]
    first = max(taken, default=0) + 1
    paths = []
    for number, sample in enumerate(samples, first):
        slug = re.sub(r"[^a-z0-9]+", "-", sample.prompt.lower()).strip("-")[:40].strip("-") or "picture"
        paths.append(sample.save(folder / f"{number:03}-{slug}-seed{sample.seed}.png"))
    return paths
