"""A word's files into its repository: found or made, and changed in one commit."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import HubError
from .client import READ_TIMEOUT, WRITE_TIMEOUT, head_commit, listed, patiently, request_timeout
from .publication import WORD_NAME_FILE, Publication

if TYPE_CHECKING:
    from huggingface_hub import HfApi

PICTURE_FOLDERS = (
    "gallery/",
    "concept_images/",
)  # folders whose stale files are taken away when a word is published again
TAG = "ti_nb"  # the tag of repositories that may be written to again


@dataclass(frozen=True)
class RemoteState:
    """A repository of ours that exists: its head, and the git hash of each file."""

    private: bool
    head: str
    hashes: Mapping[str, str]

    def stale(self, files: Mapping[str, bytes]) -> tuple[str, ...]:
        """Earlier pictures that are not among `files`, and go."""
        return tuple(f for f in self.hashes if f.startswith(PICTURE_FOLDERS) and f not in files)

    def holds(self, files: Mapping[str, bytes]) -> bool:
        """Whether there is nothing to change."""
        same = all(self.hashes.get(name) in (_git_hash(data), _sha256(data)) for name, data in files.items())
        return same and not self.stale(files)


def find(api: HfApi, repo: str, files: Mapping[str, bytes]) -> RemoteState | None:
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
    if content and (TAG not in (info.tags or ()) or WORD_NAME_FILE not in hashes):
        raise HubError(f"{repo!r} exists and holds something else ({listed(content)}): choose another name")
    if WORD_NAME_FILE in hashes and hashes[WORD_NAME_FILE] != _git_hash(files[WORD_NAME_FILE]):
        path = patiently(lambda: api.hf_hub_download(repo, WORD_NAME_FILE, revision=info.sha))
        other = Path(path).read_text(encoding="utf-8", errors="replace")[:80]
        raise HubError(
            f"{repo!r} holds another word, {other!r}: choose another name, or rename this word (ti.rename) if it shall follow it"
        )
    if not isinstance(info.private, bool):
        raise TypeError(f"it does not say who can see {repo!r}")
    return RemoteState(info.private, head_commit(info), hashes)


def commit(api: HfApi, repo: str, files: dict[str, bytes], private: bool | None) -> Publication:
    """Bring the repository up to date in one commit; make it first if it is not there, and take it away if that fails.

    Raises:
        HubError: it holds something else, or can't be made. Errors of huggingface_hub: see `in_words`.
    """
    there, made = find(api, repo, files), False
    if there is None:
        there = patiently(
            lambda: _create(api, repo, private is not False, files),
            lambda: find(api, repo, files),
            within=WRITE_TIMEOUT,
        )
        made = True
        if there is None:
            raise HubError(f"{repo!r} was made but can't be seen yet: call this again in a minute")
    try:
        if private and not there.private:  # before anything new is there to be seen
            patiently(lambda: api.update_repo_settings(repo, private=True), within=WRITE_TIMEOUT)
        commit = None if there.holds(files) else _commit_files(api, repo, there, files)
        if private is False and there.private:
            patiently(lambda: api.update_repo_settings(repo, private=False), within=WRITE_TIMEOUT)
    except BaseException:
        if made:
            _delete_if_empty(api, repo)
        raise
    return Publication(
        repo,
        there.private if private is None else private,
        files,
        deleted=there.stale(files) if commit else (),
        is_new=made,
        was_private=None if made else there.private,
        commit=commit,
        url=f"{api.endpoint}/{repo}",
        note="" if commit else "Nothing had changed since it was published.",
    )


def _create(api: HfApi, repo: str, private: bool, files: Mapping[str, bytes]) -> RemoteState | None:
    api.create_repo(repo, private=private, exist_ok=False)
    return find(api, repo, files)


def _commit_files(api: HfApi, repo: str, before: RemoteState, files: Mapping[str, bytes]) -> str:
    """The commit's id. Each try says which commit it follows, so that none is done twice."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    def once() -> str:
        operations: list[Any] = [CommitOperationAdd(name, data) for name, data in files.items()]
        operations += [CommitOperationDelete(name) for name in before.stale(files)]
        message = f"The word {files[WORD_NAME_FILE].decode()}"
        return str(api.create_commit(repo, operations, commit_message=message, parent_commit=before.head).oid)

    def landed() -> str | None:
        there = find(api, repo, files)
        return there.head if there is not None and there.holds(files) else None

    return patiently(once, landed, within=WRITE_TIMEOUT)


def _delete_if_empty(api: HfApi, repo: str) -> None:
    """Take away the repository that was made for a commit that failed, if it still is empty; it may stay if that fails too."""
    with suppress(Exception), request_timeout(READ_TIMEOUT):  # the reason for the failed commit is what is to be told
        held = [one.rfilename for one in api.model_info(repo).siblings or ()]
        if held in ([], [".gitattributes"]):
            api.delete_repo(repo, missing_ok=True)


def _git_hash(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
