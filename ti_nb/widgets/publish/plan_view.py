"""A `Publication` to look at: where it goes, to be seen by whom, each file with its size, and the page's text."""

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
    """Its files in words: "6 files, 40 kB"."""
    count = len(publication.files)
    return f"{count} file{'s' if count != 1 else ''}, {size(sum(map(len, publication.files.values())))}"


def seen_by(publication: Publication, user: str) -> str:
    """Who can see it, in words; an organisation's private repositories are its members' too."""
    if not publication.private:
        return "PUBLIC: everybody can see it"
    owner = publication.repo.split("/")[0]
    mine = owner in (user, "?")
    return f"private: only {'you' if mine else f'members of {owner}'} can see it"


def where(publication: Publication, user: str) -> tuple[str, str]:
    """Where it would go, in words, and their kind."""
    made = {True: "a new repository", False: "a repository that is there already", None: ""}[publication.is_new]
    kind = ", ".join(part for part in (made, seen_by(publication, user)) if part)
    text = f"{amount(publication)} would go to {publication.repo} ({kind})."
    if publication.note:
        text += f"\n{publication.note}"
    return text, "plain" if publication.private and not publication.note else "warning"


def ready(publication: Publication, user: str) -> str:
    """That it may be sent, and who will see it, in words."""
    return f"Ready: {publication.repo} will be {seen_by(publication, user)}."


def sending(publication: Publication) -> str:
    """What is being done, in words."""
    return f"Sending {amount(publication)} to {publication.repo} ..."


def sent(publication: Publication, user: str) -> str:
    """What was done, in words."""
    done = publication.note or f"Published: {amount(publication)}."
    return f"{done} {publication.repo} is {seen_by(publication, user)}."


def table(publication: Publication) -> str:
    """Every file, its size and what it is, and what is taken away; as HTML, all of it escaped."""
    rows = [(name, size(len(data)), _what(name)) for name, data in publication.files.items()]
    rows += [(name, "", "is TAKEN AWAY: it is there from an earlier time") for name in publication.deleted]
    body = "".join(f"<tr>{''.join(f'<td style={CELL!r}>{in_page(cell)}</td>' for cell in row)}</tr>" for row in rows)
    head = "".join(
        f"<th scope='col' style='{CELL};font-weight:600'>{name}</th>" for name in ("File", "Size", "What it is")
    )
    grid = f"<table style='border-collapse:collapse;line-height:1.4'><tr>{head}</tr>{body}</table>"
    return f"<div style={BOX!r} tabindex='0' role='region' aria-label='Files that would go'>{grid}</div>"


def page(publication: Publication) -> str:
    """The text of README.md as it is written, and folded up below it what the Hub reads; as HTML, escaped."""
    head, _, text = publication.card.removeprefix("---\n").partition("\n---\n")
    summary = "<summary style='cursor:pointer;display:list-item'>What the Hub's search reads, at the head of README.md</summary>"
    return (
        f"{_pre(text.strip(), 'Text of the page')}<details>{summary}{_pre(head.strip(), 'Head of README.md')}</details>"
    )


def _pre(text: str, label: str) -> str:
    style = f"{BOX};white-space:pre-wrap;word-break:normal;overflow-wrap:anywhere;font-size:0.9em;line-height:1.35;color:inherit;background:none"
    return f"<pre style='{style}' tabindex='0' role='region' aria-label='{label}'>{in_page(text)}</pre>"


def _what(name: str) -> str:
    return next((what for start, what in WHAT.items() if name.startswith(start)), "")
