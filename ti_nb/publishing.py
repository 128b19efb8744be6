"""Words to the Hub, in one commit each.

Nothing is sent without being asked for: a new repository is private unless told otherwise, the training pictures stay
here unless told otherwise, and `dry_run=True` says what would go where.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .concept import Concept
from .formats import file_word
from .hub import HubError, account, client, in_words, patiently, repository, some
from .model_card import license_of, living, model_card
from .models import REPOSITORIES
from .publication import CARD, TOKEN, Publication, files_of

if TYPE_CHECKING:
    from huggingface_hub import HfApi

    from .evaluate import Scores
    from .images import ConceptImages
    from .sampling import Sample
    from .training import Run

USUAL = {"SD 1.x": REPOSITORIES["sd15"], "SD 2.x": REPOSITORIES["sd21"], "SDXL": REPOSITORIES["sdxl"]}
OURS = ("gallery/", "concept_images/")  # folders whose stale files are taken away when a word is published again
MARK = "ti_nb"  # the tag of repositories that may be written to again
KINDS = ("object", "style")


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
    name, base = _checked(concept, repo, kind), _base(concept, base)
    shown = [(f"gallery/{i:02}.png", sample) for i, sample in enumerate(samples, 1)]

    def files(owner: str, inherited: str | None = None) -> dict[str, bytes]:
        terms = license or inherited or license_of(concept)
        facts = {**concept.facts, **({"license": terms} if terms else {})}
        word = replace(concept, word=file_word(concept.word), facts=facts)
        card = model_card(
            word,
            f"{owner}/{name}",
            kind=kind,
            samples=shown,
            pictures=len(pictures) if pictures is not None else 0,
            settings=run.settings if run is not None else None,
            scores=scores,
            license=terms,
            base=base,
        )
        return {CARD: card.encode(), **files_of(word, kind, shown, pictures)}

    api = client(token, endpoint)
    ask_base = None if license or "license" in concept.facts else base
    if dry_run:
        return _plan(api, repo, name, files, private, ask_base)
    with in_words(f"publishing to {repo!r}", api):
        owner, user = _owner(api, repo)
        inherited = _license(api, ask_base)
    held = files(owner, inherited)
    with in_words(f"publishing to {repo!r}", api):
        return replace(_commit(api, f"{owner}/{name}", held, private), user=user)


def _base(concept: Concept, base: str | None) -> str | None:
    """The repository of the model it was learned on; where nobody knows it, the usual one of its family; None for tiny.

    Raises:
        ValueError: it is not known, nor the family.
    """
    said = living(base or str(concept.facts.get("base") or concept.facts.get("model") or ""))
    if "/" in said:
        return said
    if concept.family == "tiny":
        return None
    if concept.family not in USUAL:
        raise ValueError(
            f"which model was {concept.word!r} learned on? Say base='owner/name' (it fits {concept.family})"
        )
    return USUAL[concept.family]


def _license(api: HfApi, base: str | None) -> str | None:
    """The licence that the base model's page says, unless it is one whose licence is known; None if it says none."""
    if base is None or base in USUAL.values():
        return None
    from huggingface_hub.errors import HfHubHTTPError

    try:
        card = patiently(lambda: api.model_info(base)).card_data
    except HfHubHTTPError:  # it is on no hub, or hidden
        return None
    said = card.license if card is not None else None
    return said if isinstance(said, str) and said not in ("other", "unknown") else None


def _checked(concept: Concept, repo: str, kind: str) -> str:
    """The repository's own name."""
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}: choose from {', '.join(KINDS)}")
    repository(repo if "/" in repo else f"owner/{repo}")
    if not isinstance(concept, Concept):
        raise ValueError(f"publish takes a concept, such as run.concept(), not {type(concept).__name__}")
    return repo.rsplit("/", 1)[-1]


def _plan(
    api: HfApi,
    repo: str,
    name: str,
    files: Callable[..., dict[str, bytes]],
    private: bool | None,
    ask_base: str | None,
) -> Publication:
    """What `publish` would do, as far as it can be known without changing anything."""
    said = repo.split("/")[0] if "/" in repo else "?"
    held = files(said)
    try:
        with in_words(f"asking about {repo!r}", api):
            owner, user = _owner(api, repo)
            inherited = _license(api, ask_base)
        full, held = f"{owner}/{name}", files(owner, inherited)
        with in_words(f"asking about {repo!r}", api):
            there = _there(api, full, held)
    except HubError as error:
        return Publication(f"{said}/{name}", private is not False, held, dry_run=True, note=f"Not yet: {error}")
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


@dataclass(frozen=True)
class _There:
    """A repository of ours that exists: its head, and the git hash of each file."""

    private: bool
    head: str
    hashes: Mapping[str, str]

    def stale(self, files: Mapping[str, bytes]) -> tuple[str, ...]:
        return tuple(f for f in self.hashes if f.startswith(OURS) and f not in files)

    def holds(self, files: Mapping[str, bytes]) -> bool:
        same = all(self.hashes.get(name) in (_git_hash(data), _sha256(data)) for name, data in files.items())
        return same and not self.stale(files)


def _there(api: HfApi, repo: str, files: Mapping[str, bytes]) -> _There | None:
    """The repository if it exists.

    Raises:
        HubError: it exists, and is not one that this word may be written to.
    """
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        info = patiently(lambda: api.model_info(repo, files_metadata=True))
    except RepositoryNotFoundError:
        return None
    hashes = {s.rfilename: s.lfs.sha256 if s.lfs else s.blob_id or "" for s in info.siblings or ()}
    content = [name for name in hashes if name != ".gitattributes"]
    if content and MARK not in (info.tags or ()):
        raise HubError(f"{repo!r} exists and holds something else ({some(content)}): choose another name")
    if TOKEN in hashes and hashes[TOKEN] != _git_hash(files[TOKEN]):
        path = patiently(lambda: api.hf_hub_download(repo, TOKEN, revision=info.sha))
        other = Path(path).read_text()[:80]
        raise HubError(
            f"{repo!r} holds another word, {other!r}: choose another name, or rename this word (ti.rename) if it shall follow it"
        )
    return _There(bool(info.private), str(info.sha), hashes)


def _commit(api: HfApi, repo: str, files: dict[str, bytes], private: bool | None) -> Publication:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    there = _there(api, repo, files)
    made = there is None
    if there is None:
        there = patiently(lambda: _made(api, repo, private is not False, files), lambda: _there(api, repo, files))
        if there is None:
            raise HubError(f"{repo!r} was made but can't be seen yet: call this again in a minute")
    deleted, was_private = there.stale(files), there.private
    if private and not was_private:  # before anything new is there to be seen
        patiently(lambda: api.update_repo_settings(repo, private=True))
    commit = None
    if not there.holds(files):
        operations: list[Any] = [CommitOperationAdd(name, data) for name, data in files.items()]
        operations += [CommitOperationDelete(name) for name in deleted]
        try:
            commit = _committed(api, repo, operations, f"The word {files[TOKEN].decode()}", there.head, files)
        except BaseException:
            if made:
                _forget(api, repo)
            raise
    if private is False and was_private:
        patiently(lambda: api.update_repo_settings(repo, private=False))
    return Publication(
        repo,
        was_private if private is None else private,
        files,
        deleted=deleted if commit else (),
        is_new=made,
        was_private=None if made else was_private,
        commit=commit,
        url=f"{api.endpoint}/{repo}",
        note="" if commit else "Nothing had changed since it was published.",
    )


def _made(api: HfApi, repo: str, private: bool, files: Mapping[str, bytes]) -> _There | None:
    api.create_repo(repo, private=private, exist_ok=False)
    return _there(api, repo, files)


def _committed(
    api: HfApi, repo: str, operations: list[Any], message: str, head: str, files: Mapping[str, bytes]
) -> str:
    """The commit's id. Each try says which commit it follows, so that none is done twice."""

    def once() -> str:
        done = api.create_commit(repo, operations, commit_message=message, parent_commit=head)
        return str(done.oid)

    def landed() -> str | None:
        there = _there(api, repo, files)
        return there.head if there is not None and there.holds(files) else None

    return patiently(once, landed)


def _forget(api: HfApi, repo: str) -> None:
    """Take away the empty repository that was made for a commit that failed; if that fails too, it may stay empty."""
    try:
        api.delete_repo(repo, missing_ok=True)
    except Exception:  # the reason for the failed commit is what is to be told
        return


def _owner(api: HfApi, repo: str) -> tuple[str, str]:
    """Whose repository it is, the one said or else the user's; and the user.

    Raises:
        HubError: not logged in, or no right to write there.
    """
    who = patiently(lambda: account(api))
    owner = repo.split("/")[0] if "/" in repo else who.name
    if owner.lower() not in (place.lower() for place in (who.name, *who.organisations)):
        raise HubError(
            f"you are {who.name!r}, and {owner!r} is neither you nor an organisation you may write to: write '{who.name}/...'"
        )
    if not who.may_write:
        raise HubError("your token may only read: make one that may write at https://huggingface.co/settings/tokens")
    return owner, who.name


def _git_hash(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
