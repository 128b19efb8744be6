"""Lists published words, with a thumbnail of each."""

from __future__ import annotations

import io
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InvalidValue
from ..files.formats import is_generic_name
from ..host.arguments import checked
from ..host.plain_text import NO_MATH, in_page, warn
from ..pictures.picture import without_metadata
from .answers import as_hub_errors, is_unreachable
from .client import READ_TIMEOUT, client, request_timeout, with_retries
from .fetching import candidate_files, file_sizes, page_facts

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from PIL import Image

LIBRARY = "sd-concepts-library"  # a thousand words for SD 1.x and 2.x, by many people
SUFFIXES = (".jpeg", ".jpg", ".png", ".webp")
THUMBNAIL = 160  # px
MAX_PIXELS = 1 << 24
MAX_FILE_BYTES = 1 << 23  # of a picture to fetch for a thumbnail


@dataclass(frozen=True)
class Listing:
    """A published word without its vectors, which `ti.fetch(listing.repo)` fetches.

    Attributes:
        repo: "owner/name". word: if its page tells it. base: the model it was learned on, by its current name, if known.
        likes, downloads: as the Hub counts them. gated: whether its terms have to be accepted first.
        holds: whether it has a file that may hold a word.
        picture: a thumbnail of its first picture; None if it has none, or pictures=False.
        shows: that picture's path in the repository, "" if it has none.
    """

    repo: str
    word: str = ""
    base: str = ""
    likes: int = 0
    downloads: int = 0
    gated: bool = False
    holds: bool = True
    picture: Image.Image | None = field(default=None, repr=False)
    shows: str = field(default="", repr=False)


class Listings(list[Listing]):
    """Listings that a notebook shows as a grid of pictures."""

    def _repr_html_(self) -> str:
        if not self:
            return "<p>Nothing was found.</p>"
        style = "display:flex;flex-wrap:wrap;gap:12px"
        return f'<div {NO_MATH} style="{style}">{"".join(map(_tile, self))}</div>'


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
        limit: maximal number. pictures: fetch a thumbnail for each.

    Raises:
        ValueError: a limit below 1. HubError: no answer.

    Examples:
        >>> import ti_nb as ti
        >>> [listing.repo for listing in ti.browse("cat", limit=2)]  # doctest: +SKIP
        ['sd-concepts-library/cat-toy', 'sd-concepts-library/cat']
    """
    if limit < 1:
        raise InvalidValue(f"limit is {limit}: at least 1 can be shown")
    api = client(token, endpoint)
    with as_hub_errors("looking through the library", api):
        query: dict[str, Any] = {"author": author} if author else {"filter": "textual_inversion"}
        matching = with_retries(
            lambda: list(api.list_models(search=search, sort="likes", limit=limit, full=True, cardData=True, **query))
        )
        listings = Listings(_listing(info) for info in matching)
        return Listings(_with_pictures(api, listings)) if pictures else listings


def _with_pictures(api: HfApi, listings: Sequence[Listing]) -> Iterator[Listing]:
    """Each with its thumbnail; once the Hub stops answering, the rest without, so that nobody waits for each."""
    from tqdm.auto import tqdm

    answers = True
    for listing in tqdm(listings, desc="pictures"):
        picture = None
        if answers and listing.shows and not listing.gated:
            try:
                picture = _thumbnail(api, listing.repo, listing.shows)
            except Exception as error:  # a picture that can't be fetched or read must not hide the others
                answers = not is_unreachable(error)
        yield replace(listing, picture=picture)
    if not answers:
        warn("the Hub stopped answering: some pictures are not shown")


def picture_paths(files: Iterable[str]) -> list[str]:
    """A repository's pictures in natural order: first those drawn with the word, then the training pictures."""
    folders = ("gallery/", "concept_images/")
    matching = [f for f in files if f.lower().endswith(SUFFIXES) and f.startswith(folders) and f.count("/") == 1]

    def place(path: str) -> tuple[Any, ...]:
        parts = re.split(r"(\d+)", path)
        return folders.index(path.split("/")[0] + "/"), [int(p) if p.isdecimal() else p for p in parts]

    return sorted(matching, key=place)


def _listing(info: Any) -> Listing:
    """The listing of a repository; its page is untrusted and may contain anything."""
    files, card = file_sizes(info), info.card_data
    word = getattr(card, "instance_prompt", None)
    return Listing(
        repo=str(info.id),
        word=word if isinstance(word, str) else "",
        base=page_facts(card).get("base", ""),
        likes=info.likes if isinstance(info.likes, int) else 0,
        downloads=info.downloads if isinstance(info.downloads, int) else 0,
        gated=bool(info.gated),
        holds=any(not is_generic_name(Path(f).stem) or f.startswith("learned") for f in candidate_files(files)),
        shows=next(iter(picture_paths(files)), ""),
    )


def _thumbnail(api: HfApi, repo: str, path: str) -> Image.Image | None:
    """A thumbnail; None if the picture is too large."""
    from huggingface_hub import hf_hub_url
    from PIL import Image, ImageOps

    with request_timeout(READ_TIMEOUT):
        about = api.get_hf_file_metadata(url=hf_hub_url(repo, path, endpoint=api.endpoint), timeout=READ_TIMEOUT)
        if (about.size or 0) > MAX_FILE_BYTES:
            return None
        file = Path(api.hf_hub_download(repo, path, etag_timeout=READ_TIMEOUT))
    with Image.open(file, formats=["JPEG", "PNG", "WEBP"]) as image:
        if image.width * image.height > MAX_PIXELS:
            return None
        image.draft("RGB", (2 * THUMBNAIL, 2 * THUMBNAIL))  # JPEG: decode at a fraction of the size
        image.thumbnail((THUMBNAIL, THUMBNAIL))
        return ImageOps.exif_transpose(image).convert("RGB")


def _tile(listing: Listing) -> str:
    side = f"{THUMBNAIL}px"
    if listing.picture is None:
        empty = (
            f"width:{side};height:{side};display:flex;align-items:center;justify-content:center;border:1px solid #999"
        )
        shown = f'<div style="{empty}">no picture</div>'
    else:
        file = io.BytesIO()
        without_metadata(listing.picture).save(file, format="JPEG", quality=85)
        data = b64encode(file.getvalue()).decode()
        shown = (
            f'<img alt="{in_page(listing.repo)}" style="width:{side};height:{side};object-fit:cover" '
            f'src="data:image/jpeg;base64,{data}">'
        )
    marks = [listing.word, listing.base, f"{listing.likes} likes"]
    marks += ["terms to accept first"] if listing.gated else []
    marks += [] if listing.holds else ["holds no word"]
    lines = "<br>".join(in_page(mark) for mark in marks if mark)
    words = f'<b style="overflow-wrap:anywhere">{in_page(listing.repo)}</b><br><small>{lines}</small>'
    return f'<div style="width:{side};line-height:1.3">{shown}{words}</div>'
