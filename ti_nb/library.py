"""Words that others have published, to look through with their pictures."""

from __future__ import annotations

import html
import io
import re
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .checks import checked
from .fetching import candidates, of_page
from .formats import generic
from .hub import client, in_words, patiently

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from PIL import Image

LIBRARY = "sd-concepts-library"  # a thousand words that people taught SD 1.x and 2.x
PICTURES = (".jpeg", ".jpg", ".png", ".webp")
THUMBNAIL = 160  # px
MOST_PIXELS = 1 << 24
HEAVIEST = 1 << 23  # bytes of a picture that is fetched to be looked at


@dataclass(frozen=True)
class Listing:
    """A published word, without its vectors: `ti.fetch(listing.repo)` fetches those.

    Attributes:
        repo: "owner/name". word: if its page says it. base: the model it was learned on, by its living name, if known.
        likes, downloads: as the Hub counts them. gated: whether its terms have to be accepted first.
        picture: the first of its pictures, small; None if it has none, or none was asked for.
        holds: whether it has a file that can be a word's.
    """

    repo: str
    word: str = ""
    base: str = ""
    likes: int = 0
    downloads: int = 0
    gated: bool = False
    holds: bool = True
    picture: Image.Image | None = field(default=None, repr=False)


class Listings(list[Listing]):
    """Listings, shown in a notebook as a page of pictures."""

    def _repr_html_(self) -> str:
        if not self:
            return "<p>Nothing was found.</p>"
        style = "display:flex;flex-wrap:wrap;gap:12px"
        return f'<div style="{style}">{"".join(map(_tile, self))}</div>'


@checked()
def browse(
    search: str | None = None,
    *,
    author: str | None = LIBRARY,
    limit: int = 24,
    pictures: bool = True,
    token: str | None = None,
    endpoint: str | None = None,
) -> Listings:
    """Published words, the most liked first, each with a picture if it has one.

    Args:
        search: part of a repository's name. author: a user or organisation; None for everyone's textual inversions.
        limit: at most how many. pictures: fetch one small picture of each.

    Raises:
        ValueError: a limit below 1. HubError: no answer.
    """
    if limit < 1:
        raise ValueError(f"limit is {limit}: at least 1 can be shown")
    from tqdm.auto import tqdm

    api = client(token, endpoint)
    with in_words("looking through the library", api):
        ask: dict[str, Any] = {"author": author} if author else {"filter": "textual_inversion"}
        found = patiently(
            lambda: list(api.list_models(search=search, sort="likes", limit=limit, full=True, cardData=True, **ask))
        )
        shown = tqdm(found, desc="pictures", disable=not pictures)
        return Listings(_listing(api, info, pictures) for info in shown)


def picture_paths(files: Iterable[str]) -> list[str]:
    """The pictures of a repository's files, in the order people count in: those drawn with the word, then its own."""
    folders = ("gallery/", "concept_images/")
    found = [f for f in files if f.lower().endswith(PICTURES) and f.startswith(folders) and f.count("/") == 1]

    def place(path: str) -> tuple[Any, ...]:
        parts = re.split(r"(\d+)", path)
        return folders.index(path.split("/")[0] + "/"), [int(p) if p.isdecimal() else p for p in parts]

    return sorted(found, key=place)


def _listing(api: HfApi, info: Any, with_picture: bool) -> Listing:
    files = {s.rfilename: s.size or 0 for s in info.siblings or ()}
    card = info.card_data
    word = card.get("instance_prompt") if card is not None else None
    paths = picture_paths(files)
    return Listing(
        repo=info.id,
        word=word if isinstance(word, str) else "",
        base=of_page(card).get("base", ""),
        likes=info.likes or 0,
        downloads=info.downloads or 0,
        gated=bool(info.gated),
        holds=any(not generic(Path(f).stem) or f.startswith("learned") for f in candidates(files)),
        picture=_thumbnail(api, info.id, paths[0]) if with_picture and paths and not info.gated else None,
    )


def _thumbnail(api: HfApi, repo: str, path: str) -> Image.Image | None:
    """A small picture; None for one that can't be fetched or read, which is no reason to show nothing of the others."""
    from PIL import Image, ImageOps

    try:
        size = next((one.size for one in api.get_paths_info(repo, path)), 0)
        if size > HEAVIEST:
            return None
        with Image.open(Path(api.hf_hub_download(repo, path)), formats=["JPEG", "PNG", "WEBP"]) as image:
            if image.width * image.height > MOST_PIXELS:
                return None
            image.draft("RGB", (2 * THUMBNAIL, 2 * THUMBNAIL))  # a JPEG is read at a fraction of its size
            image.thumbnail((THUMBNAIL, THUMBNAIL))
            return ImageOps.exif_transpose(image).convert("RGB")
    except Exception:
        return None


def _tile(one: Listing) -> str:
    side = f"{THUMBNAIL}px"
    if one.picture is None:
        empty = (
            f"width:{side};height:{side};display:flex;align-items:center;justify-content:center;border:1px solid #999"
        )
        shown = f'<div style="{empty}">no picture</div>'
    else:
        file = io.BytesIO()
        one.picture.save(file, format="JPEG", quality=85)
        data = b64encode(file.getvalue()).decode()
        shown = (
            f'<img alt="{html.escape(one.repo)}" style="width:{side};height:{side};object-fit:cover" '
            f'src="data:image/jpeg;base64,{data}">'
        )
    marks = [one.word, one.base, f"{one.likes} likes"]
    marks += ["terms to accept first"] if one.gated else []
    marks += [] if one.holds else ["holds no word"]
    lines = "<br>".join(html.escape(mark) for mark in marks if mark)
    words = f'<b style="overflow-wrap:anywhere">{html.escape(one.repo)}</b><br><small>{lines}</small>'
    return f'<div style="width:{side};line-height:1.3">{shown}{words}</div>'
