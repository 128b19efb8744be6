"""Publishes a word to the Hub in one commit.

Private by default: a new repository is private, the training pictures are not sent, and `dry_run=True` shows what would be.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import HubError, InvalidValue
from ..host.arguments import checked
from ..models.families import USUAL, living
from ..words.concept import Concept
from ..words.prompts import file_word
from .answers import as_hub_errors, is_busy
from .client import MAY_ONLY_READ, account, address, client, repository, with_retries
from .page import PEOPLE, Terms, base_of, began_as_a_person, license_of, model_card
from .publication import README, Publication, files_of
from .repository import commit, find

if TYPE_CHECKING:
    from huggingface_hub import HfApi

    from ..pictures.concept_images import ConceptImages
    from ..results.drawing.samples import Sample
    from ..results.scores import Scores
    from ..training.run import Run

KINDS = ("object", "style")


@checked()
def publish(
    concept: Concept,
    repo: str,
    *,
    samples: Sequence[Sample] = (),
    pictures: ConceptImages | None = None,
    run: Run | None = None,
    scores: Scores | None = None,
    kind: str = "object",
    base: str | None = None,
    license: str | None = None,
    people: str | None = None,
    private: bool | None = None,
    dry_run: bool = False,
    token: str | None = None,
    endpoint: str | None = None,
) -> Publication:
    """Publish a word in one commit: its file, the small files that old readers expect, and a page with pictures.

    Calling it again updates the repository. If interrupted or refused it leaves nothing half done: call it again.

    >>> import torch, ti_nb as ti
    >>> cat = ti.Concept("<my-cat>", {"clip_l": torch.ones(1, 768)}, {})
    >>> sorted(ti.publish(cat, "my-cat", license="mit", dry_run=True).files)
    ['README.md', 'learned_embeds.safetensors', 'token_identifier.txt', 'type_of_concept.txt']

    Args:
        repo: "my-cat", or "owner/my-cat".
        samples: drawn pictures for the page, with prompt and seed.
        pictures: the training pictures, ONLY if they are to be published; without their metadata.
        run, scores: for the settings and scores on the page.
        kind: "object" or "style".
        base: the repository of the model it was learned on; by default from `concept.facts`.
        license: by default that of the base model.
        people: "none", or "with consent" if the pictures show a real person who agrees to the word's being made and published;
            the page says it. Sites where words are shared ask it, Civitai among them. It must be said of a word that began as
            one for a person ("woman") before everybody may see it.
        private: by default a new repository is private, and an existing one stays as it is; False makes it public.
        dry_run: change nothing, return what would be published; works without a login.
        token: of the Hub, only if you are not logged in (`log_in`). endpoint: another Hub's address.

    Raises:
        ValueError: bad arguments. HubError: not logged in, no right to write, the repository holds something else, no answer.
    """
    api = client(token, endpoint)
    if kind not in KINDS:
        raise InvalidValue(f"kind is {kind!r}: choose from {', '.join(KINDS)}")
    _check_people(people, concept, private)
    named_owner, name = _owner_and_name(repo, api)
    base, private = _base(concept, base), None if private is None else bool(private)
    shown = [(f"gallery/{i:02}.png", sample) for i, sample in enumerate(samples, 1)]

    def files(owner: str, inherited: Terms | None = None) -> dict[str, bytes]:
        terms = Terms(license) if license else inherited or Terms(license_of(concept))
        facts = {**concept.facts, **({"license": terms.license} if terms.license else {})}
        word = replace(concept, word=file_word(concept.word), facts=facts)
        card = model_card(
            word,
            f"{owner}/{name}",
            kind=kind,
            samples=shown,
            pictures=len(pictures) if pictures is not None else 0,
            settings=run.settings if run is not None else None,
            scores=scores,
            terms=terms,
            base=base,
            people=people,
        )
        return {README: card.encode(), **files_of(word, kind, shown, pictures)}

    ask_base = None if license or "license" in concept.facts else base
    if dry_run:
        return _plan(api, named_owner, name, files, private, ask_base)
    with as_hub_errors(f"publishing to {repo!r}", api):
        owner, user = _owner(api, named_owner)
        inherited = _terms(api, ask_base)
    ready = files(owner, inherited)
    with as_hub_errors(f"publishing to {repo!r}", api):
        return replace(commit(api, f"{owner}/{name}", ready, private), user=user)


def _check_people(people: str | None, concept: Concept, private: bool | None) -> None:
    if people is not None and people not in PEOPLE:
        raise InvalidValue(f"people is {people!r}: choose from {', '.join(map(repr, PEOPLE))}")
    if people is None and private is False and (init := began_as_a_person(concept)):
        raise InvalidValue(
            f"{concept.word!r} began as {init!r}: before everybody may see it, say people='with consent' if it shows a real person "
            "who agrees to that, or people='none' if it shows no real person"
        )


def _base(concept: Concept, base: str | None) -> str | None:
    """The repository of the base model; None for tiny.

    Raises:
        ValueError: neither it nor the family is known.
    """
    if base not in (None, "tiny"):
        return repository(living(base))
    known = base_of(concept)
    if known is None and concept.family != "tiny":
        raise InvalidValue(
            f"which model was {concept.word!r} learned on? Say base='owner/name' (it fits {concept.family})"
        )
    return known


def _terms(api: HfApi, base: str | None) -> Terms | None:
    """The licence on the base model's page; None if the model is a usual one (`USUAL`), or its page can't be read."""
    if base is None or base in USUAL:
        return None
    from huggingface_hub.errors import HfHubHTTPError

    try:
        card = with_retries(lambda: api.model_info(base)).card_data
    except HfHubHTTPError as error:
        if is_busy(error.response):
            raise
        return None  # not on this Hub, or private
    terms = {key: getattr(card, key, None) for key in ("license", "license_name", "license_link")}
    return Terms(**{k: v for k, v in terms.items() if isinstance(v, str) and _is_plain(v)})


def _is_plain(text: str) -> bool:
    """Whether it looks like a licence's name or link."""
    return re.fullmatch(r"[\w.+:/ -]{1,200}", text) is not None


def _owner_and_name(repo: str, api: HfApi) -> tuple[str, str]:
    """The owner in `repo`, "" if it has none, and the repository's name."""
    if "/" not in repo.strip("/"):
        return "", repository(f"owner/{repo.strip()}").split("/")[1]
    where = address(repo, api)
    if where.revision is not None:
        raise InvalidValue(f"{repo!r} is a page within a repository: write '{where.repo}'")
    owner, name = where.repo.split("/")
    return owner, name


def _plan(
    api: HfApi,
    named_owner: str,
    name: str,
    files: Callable[..., dict[str, bytes]],
    private: bool | None,
    ask_base: str | None,
) -> Publication:
    """What `publish` would do, as far as that can be known without changing anything."""
    ready = files(named_owner or "?")
    try:
        with as_hub_errors(f"asking about {name!r}", api):
            owner, user = _owner(api, named_owner)
            inherited = _terms(api, ask_base)
        full, ready = f"{owner}/{name}", files(owner, inherited)
        with as_hub_errors(f"asking about {full!r}", api):
            remote = find(api, full, ready)
    except HubError as error:
        return Publication(
            f"{named_owner or '?'}/{name}", private is not False, ready, dry_run=True, note=f"Not yet: {error}"
        )
    return Publication(
        full,
        remote.private if private is None and remote is not None else private is not False,
        ready,
        deleted=remote.stale(ready) if remote is not None else (),
        is_new=remote is None,
        was_private=remote.private if remote is not None else None,
        url=f"{api.endpoint}/{full}",
        user=user,
        dry_run=True,
    )


def _owner(api: HfApi, named: str) -> tuple[str, str]:
    """The repository's owner, by default the user; and the user.

    Raises:
        HubError: not logged in, or no right to write there.
    """
    who = with_retries(lambda: account(api))
    places = {place.lower(): place for place in (*who.organisations, who.name)}
    # In the Hub's own spelling: it creates no repository for "Me" if the name is "me".
    owner = places.get((named or who.name).lower())
    if owner is None:
        raise HubError(
            f"you are {who.name!r}, and {named!r} is neither you nor an organisation you may write to: write '{who.name}/...'"
        )
    if not who.may_write:
        raise HubError(MAY_ONLY_READ)
    return owner, who.name
