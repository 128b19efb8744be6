"""Words to the Hub, in one commit each.

Nothing is sent without being asked for: a new repository is private unless told otherwise, the training pictures stay
here unless told otherwise, and `dry_run=True` says what would go where.
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
from .answers import in_words, is_busy
from .client import account, address, client, patiently, repository
from .page import Terms, base_of, license_of, model_card
from .publication import README, Publication, files_of
from .repository import commit, find

if TYPE_CHECKING:
    from huggingface_hub import HfApi

    from ..pictures.concept_images import ConceptImages
    from ..results.judge import Scores
    from ..results.sampling import Sample
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
    private: bool | None = None,
    dry_run: bool = False,
    token: str | None = None,
    endpoint: str | None = None,
) -> Publication:
    """Publish a word in one commit: its file, the small files that old readers expect, and a page with pictures.

    Called again it brings the same repository up to date. Interrupted or refused, it leaves nothing half done: call it
    again.

    Args:
        repo: "my-cat", or "owner/my-cat".
        samples: drawn pictures for the page; they go with prompt and seed.
        pictures: the training pictures, ONLY if they shall be published; they go as pixels, without what the camera said.
        run, scores: whose settings and figures the page tells.
        kind: "object" or "style".
        base: the repository of the model it was learned on; by default what the concept says.
        license: by default that of the base model.
        private: None for a new repository that only you see, and for one that exists as it is; False to show it to all.
        dry_run: change nothing, and say what would go where; works without a login.
        token: of the Hub, only if you are not logged in (`log_in`). endpoint: another Hub's address.

    Raises:
        ValueError: bad arguments. HubError: not logged in, no right to write, a name that is taken by something else, no
            answer.
    """
    api = client(token, endpoint)
    _check(concept, samples, pictures, kind)
    said, name = _owner_and_name(repo, api)
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
        )
        return {README: card.encode(), **files_of(word, kind, shown, pictures)}

    ask_base = None if license or "license" in concept.facts else base
    if dry_run:
        return _plan(api, said, name, files, private, ask_base)
    with in_words(f"publishing to {repo!r}", api):
        owner, user = _owner(api, said)
        inherited = _terms(api, ask_base)
    held = files(owner, inherited)
    with in_words(f"publishing to {repo!r}", api):
        return replace(commit(api, f"{owner}/{name}", held, private), user=user)


def _base(concept: Concept, base: str | None) -> str | None:
    """The repository of the model it was learned on; None for tiny.

    Raises:
        ValueError: it is not known, nor the family.
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
    """The licence that the base model's page says, unless it is one whose licence is known, or can't be asked."""
    if base is None or base in USUAL.values():
        return None
    from huggingface_hub.errors import HfHubHTTPError

    try:
        card = patiently(lambda: api.model_info(base)).card_data
    except HfHubHTTPError as error:
        if is_busy(error.response):
            raise
        return None  # it is on no hub, or hidden
    said = {key: getattr(card, key, None) for key in ("license", "license_name", "license_link")}
    return Terms(**{k: v for k, v in said.items() if isinstance(v, str) and _is_plain(v)})


def _is_plain(text: str) -> bool:
    """Whether it may be a licence's name or address."""
    return re.fullmatch(r"[\w.+:/ -]{1,200}", text) is not None


def _check(concept: Concept, samples: Sequence[Sample], pictures: ConceptImages | None, kind: str) -> None:
    if kind not in KINDS:
        raise InvalidValue(f"kind is {kind!r}: choose from {', '.join(KINDS)}")
    if not isinstance(concept, Concept):
        raise InvalidValue(f"publish takes a concept, such as run.concept(), not {type(concept).__name__}")
    if not all(hasattr(sample, "image") and hasattr(sample, "prompt") for sample in samples):
        raise InvalidValue("samples must be what ti.sample returns")
    if pictures is not None and not hasattr(pictures, "images"):
        raise InvalidValue("pictures must be what ti.load_images returns: pictures=ti.load_images('my-pictures/')")


def _owner_and_name(repo: str, api: HfApi) -> tuple[str, str]:
    """The owner that `repo` says, "" if it says none, and the repository's own name."""
    if "/" not in repo.strip("/"):
        return "", repository(f"owner/{repo.strip()}").split("/")[1]
    where = address(repo, api)
    if where.revision is not None:
        raise InvalidValue(f"{repo!r} is a page within a repository: write '{where.repo}'")
    owner, name = where.repo.split("/")
    return owner, name


def _plan(
    api: HfApi,
    said: str,
    name: str,
    files: Callable[..., dict[str, bytes]],
    private: bool | None,
    ask_base: str | None,
) -> Publication:
    """What `publish` would do, as far as it can be known without changing anything."""
    held = files(said or "?")
    try:
        with in_words(f"asking about {name!r}", api):
            owner, user = _owner(api, said)
            inherited = _terms(api, ask_base)
        full, held = f"{owner}/{name}", files(owner, inherited)
        with in_words(f"asking about {full!r}", api):
            there = find(api, full, held)
    except HubError as error:
        return Publication(f"{said or '?'}/{name}", private is not False, held, dry_run=True, note=f"Not yet: {error}")
    return Publication(
        full,
        there.private if private is None and there is not None else private is not False,
        held,
        deleted=there.stale(held) if there is not None else (),
        is_new=there is None,
        was_private=there.private if there is not None else None,
        url=f"{api.endpoint}/{full}",
        user=user,
        dry_run=True,
    )


def _owner(api: HfApi, said: str) -> tuple[str, str]:
    """Whose repository it is, the one said or else the user's; and the user.

    Raises:
        HubError: not logged in, or no right to write there.
    """
    who = patiently(lambda: account(api))
    places = {place.lower(): place for place in (*who.organisations, who.name)}
    owner = places.get(
        (said or who.name).lower()
    )  # as it is spelled there: the Hub makes nothing for "Me" that is "me"
    if owner is None:
        raise HubError(
            f"you are {who.name!r}, and {said!r} is neither you nor an organisation you may write to: write '{who.name}/...'"
        )
    if not who.may_write:
        raise HubError("your token may only read: make one that may write at https://huggingface.co/settings/tokens")
    return owner, who.name
