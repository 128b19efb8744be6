"""What is published of a word: its files, and their description before and after."""

from __future__ import annotations

import html
import io
import tempfile
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files.writing import save
from ..host.plain_text import plain, size
from ..pictures.picture import without_metadata
from ..words.concept import Concept

if TYPE_CHECKING:
    from ..pictures.concept_images import ConceptImages
    from ..results.drawing.samples import Sample

WORD_FILE, WORD_NAME_FILE, KIND_FILE, README = (
    "learned_embeds.safetensors",
    "token_identifier.txt",
    "type_of_concept.txt",
    "README.md",
)
MIN_SIDE = 256  # px: smaller pictures, such as tiny's, are enlarged for the page


@dataclass(frozen=True)
class Publication:
    """What was published, or with `dry_run` would be.

    Attributes:
        repo: "owner/name"; the owner is "?" before logging in. private: whether the repository is private.
        files: path in the repository: bytes. deleted: older files that are removed.
        user: who publishes. is_new: whether the repository is created; None if unknown.
        was_private: whether it was private before; None if it did not exist.
        commit: its id; None in a dry run, or if nothing had changed. url: the page.
        note: what could not be found out, or why nothing was done.
    """

    repo: str
    private: bool
    files: Mapping[str, bytes] = field(repr=False)
    deleted: tuple[str, ...] = ()
    is_new: bool | None = None
    was_private: bool | None = None
    user: str = ""
    commit: str | None = None
    url: str = ""
    dry_run: bool = False
    note: str = ""

    def __str__(self) -> str:
        verb = "would go" if self.dry_run else "went" if self.commit else "is there already"
        owner = self.repo.split("/")[0]
        few = "only you" if self.user in ("", owner) else f"only members of {owner}"
        who = f"private: {few} can see it" if self.private else "PUBLIC: everybody can see it"
        if self.was_private is not None and self.was_private is not self.private:
            who += f", {'private' if self.was_private else 'public'} before"
        made = {True: "a new repository, ", False: "a repository of yours, ", None: ""}[self.is_new]
        lines = [f"{verb} to {self.url or self.repo} ({made}{who})"]
        lines += [f"  {name:40} {size(len(data))}" for name, data in self.files.items()]
        lines += [f"  {name:40} is removed" for name in self.deleted]
        return "\n".join(map(plain, lines + ([self.note] if self.note else [])))

    def _repr_html_(self) -> str:
        return f'<pre style="line-height:1.4;font-family:monospace">{html.escape(str(self))}</pre>'

    @property
    def card(self) -> str:
        """The README.md, front matter included."""
        return self.files[README].decode()

    @property
    def preview(self) -> str:
        """The page as self-contained Markdown, its pictures embedded."""
        _, _, page = self.card.partition("\n---\n")
        for name, data in self.files.items():
            if name.endswith(".png"):
                page = page.replace(f"]({name})", f"](data:image/png;base64,{b64encode(data).decode()})")
        return page


def files_of(
    word: Concept, kind: str, shown: Sequence[tuple[str, Sample]], pictures: ConceptImages | None
) -> dict[str, bytes]:
    """All files except README.md. Pictures are encoded anew from their pixels, so that no metadata is published."""
    with tempfile.TemporaryDirectory() as folder:
        data = save(word, Path(folder) / WORD_FILE).read_bytes()
    out = {WORD_FILE: data, WORD_NAME_FILE: word.word.encode(), KIND_FILE: kind.encode()}
    out |= {path: _pixels(sample.image, "PNG") for path, sample in shown}
    for i, image in enumerate(pictures.images if pictures is not None else ()):
        out[f"concept_images/{i}.jpeg"] = _pixels(image, "JPEG", quality=92)
    return out


def _pixels(image: Any, format: str, **options: Any) -> bytes:
    from PIL import Image

    clean = without_metadata(image.convert("RGB"))
    if larger := MIN_SIDE // max(clean.size) if format == "PNG" else 0:
        clean = clean.resize((clean.width * larger, clean.height * larger), Image.Resampling.NEAREST)
    file = io.BytesIO()
    clean.save(file, format=format, **options)
    return file.getvalue()
