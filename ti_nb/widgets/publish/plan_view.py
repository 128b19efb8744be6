"""Shows a `Publication`: its repository, who can see it, each file with its size, and the page's text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...host.plain_text import in_page, size

if TYPE_CHECKING:
    from ...hub.publication import Publication

WHAT = {
    "README.md": "its page, with the text below",
    "learned_embeds.safetensors": "the word's vectors",
    "token_identifier.txt": "the word's name",
    "type_of_concept.txt": "its kind",
    "gallery/": "a picture drawn with it",
    "concept_images/": "a TRAINING PICTURE of yours",
}
CELL = "padding:1px 14px 1px 0;text-align:left;vertical-align:top;overflow-wrap:anywhere"
BOX = "max-height:22em;overflow:auto;border:1px solid rgba(128,128,128,0.5);padding:4px 8px;margin:2px 0"


def amount(publication: Publication) -> str:
    """Number and size of its files, such as "6 files, 40 kB"."""
    count = len(publication.files)
    return f"{count} file{'s' if count != 1 else ''}, {size(sum(map(len, publication.files.values())))}"


def seen_by(publication: Publication, user: str) -> str:
    """Who can see it; an organisation's private repositories can be seen by all its members."""
    if not publication.private:
        return "PUBLIC: everybody can see it"
    owner = publication.repo.split("/")[0]
    is_own = owner in (user, "?")
    return f"private: only {'you' if is_own else f'members of {owner}'} can see it"


def where(publication: Publication, user: str) -> tuple[str, str]:
    """Where it would go, as (text, kind) for a note."""
    repository = {True: "a new repository", False: "an existing repository", None: ""}[publication.is_new]
    kind = ", ".join(part for part in (repository, seen_by(publication, user)) if part)
    text = f"{amount(publication)} would go to {publication.repo} ({kind})."
    if publication.note:
        text += f"\n{publication.note}"
    return text, "plain" if publication.private and not publication.note else "warning"


def ready(publication: Publication, user: str) -> str:
    """The text for a publication that is ready to be sent."""
    return f"Ready: {publication.repo} will be {seen_by(publication, user)}."


def sending(publication: Publication) -> str:
    """The text while it is being sent."""
    return f"Sending {amount(publication)} to {publication.repo} ..."


def sent(publication: Publication, user: str) -> str:
    """The text after it was sent."""
    done = publication.note or f"Published: {amount(publication)}."
    return f"{done} {publication.repo} is {seen_by(publication, user)}."


def table(publication: Publication) -> str:
    """An HTML table of all files with size and meaning, and of files that would be deleted; all text is escaped."""
    rows = [(name, size(len(data)), _what(name)) for name, data in publication.files.items()]
    rows += [(name, "", "is DELETED: it was published earlier") for name in publication.deleted]
    body = "".join(f"<tr>{''.join(f'<td style={CELL!r}>{in_page(cell)}</td>' for cell in row)}</tr>" for row in rows)
    head = "".join(
        f"<th scope='col' style='{CELL};font-weight:600'>{name}</th>" for name in ("File", "Size", "What it is")
    )
    grid = f"<table style='border-collapse:collapse;line-height:1.4'><tr>{head}</tr>{body}</table>"
    return f"<div style={BOX!r} tabindex='0' role='region' aria-label='Files that would go'>{grid}</div>"


def page(publication: Publication) -> str:
    """README.md as HTML, escaped: its text, and folded up below it the YAML header for the Hub."""
    head, _, text = publication.card.removeprefix("---\n").partition("\n---\n")
    summary = (
        "<summary style='cursor:pointer;display:list-item'>The header of README.md, for the Hub's search</summary>"
    )
    return f"{_pre(text.strip(), 'Text of the page')}<details>{summary}{_pre(head.strip(), 'Header of README.md')}</details>"


def _pre(text: str, label: str) -> str:
    style = f"{BOX};white-space:pre-wrap;word-break:normal;overflow-wrap:anywhere;font-size:0.9em;line-height:1.35;color:inherit;background:none"
    return f"<pre style='{style}' tabindex='0' role='region' aria-label='{label}'>{in_page(text)}</pre>"


def _what(name: str) -> str:
    return next((what for start, what in WHAT.items() if name.startswith(start)), "")
