"""Creates or updates a word's repository in one commit."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import HubError
from .client import READ_TIMEOUT, WRITE_TIMEOUT, head_commit, listed, request_timeout, with_retries
from .publication import WORD_NAME_FILE, Publication

if TYPE_CHECKING:
    from huggingface_hub import HfApi

PICTURE_FOLDERS = ("gallery/", "concept_images/")  # stale files in them are removed when a word is published again
TAG = "ti_nb"  # marks repositories of ours, which may be updated


@dataclass(frozen=True)
class RemoteState:
    """An existing repository: whether it is private, its latest commit, and each file's git hash (LFS: SHA-256)."""

    private: bool
    head: str
    hashes: Mapping[str, str]

    def stale(self, files: Mapping[str, bytes]) -> tuple[str, ...]:
        """Older pictures that are not in `files` and will be removed."""
        return tuple(f for f in self.hashes if f.startswith(PICTURE_FOLDERS) and f not in files)

    def holds(self, files: Mapping[str, bytes]) -> bool:
        """Whether it already equals `files`."""
        same = all(self.hashes.get(name) in (_git_hash(data), _sha256(data)) for name, data in files.items())
        return same and not self.stale(files)


def find(api: HfApi, repo: str, files: Mapping[str, bytes]) -> RemoteState | None:
    """The repository's state; None if it does not exist.

    Raises:
        HubError: it holds something else, or another word.
    """
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        info = with_retries(lambda: api.model_info(repo, files_metadata=True))
    except RepositoryNotFoundError:
        return None
    hashes = {s.rfilename: s.lfs.sha256 if s.lfs else s.blob_id or "" for s in info.siblings or ()}
    content = [name for name in hashes if name != ".gitattributes"]
    if content and (TAG not in (info.tags or ()) or WORD_NAME_FILE not in hashes):
        raise HubError(f"{repo!r} exists and holds something else ({listed(content)}): choose another name")
    if WORD_NAME_FILE in hashes and hashes[WORD_NAME_FILE] != _git_hash(files[WORD_NAME_FILE]):
        path = with_retries(lambda: api.hf_hub_download(repo, WORD_NAME_FILE, revision=info.sha))
        other = Path(path).read_text(encoding="utf-8", errors="replace")[:80]
        raise HubError(
            f"{repo!r} holds another word, {other!r}: choose another name, or rename this word (ti.rename) if it is a new version"
        )
    if not isinstance(info.private, bool):
        raise TypeError(f"it does not say who can see {repo!r}")
    return RemoteState(info.private, head_commit(info), hashes)


def commit(api: HfApi, repo: str, files: dict[str, bytes], private: bool | None) -> Publication:
    """Update the repository in one commit; create it if need be, and delete it again if the commit fails.

    Raises:
        HubError: it holds something else, or can't be created. Errors of huggingface_hub: see `as_hub_errors`.
    """
    remote, is_new = find(api, repo, files), False
    if remote is None:
        remote = with_retries(
            lambda: _create(api, repo, private is not False, files),
            lambda: find(api, repo, files),
            within=WRITE_TIMEOUT,
        )
        is_new = True
        if remote is None:
            raise HubError(f"{repo!r} was made but can't be seen yet: call this again in a minute")
    try:
        if private and not remote.private:  # before the commit, which nobody else is to see
            with_retries(lambda: api.update_repo_settings(repo, private=True), within=WRITE_TIMEOUT)
        commit = None if remote.holds(files) else _commit_files(api, repo, remote, files)
        if private is False and remote.private:
            with_retries(lambda: api.update_repo_settings(repo, private=False), within=WRITE_TIMEOUT)
    except BaseException:
        if is_new:
            _delete_if_empty(api, repo)
        raise
    return Publication(
        repo,
        remote.private if private is None else private,
        files,
        deleted=remote.stale(files) if commit else (),
        is_new=is_new,
        was_private=None if is_new else remote.private,
        commit=commit,
        url=f"{api.endpoint}/{repo}",
        note="" if commit else "Nothing had changed since it was published.",
    )


def _create(api: HfApi, repo: str, private: bool, files: Mapping[str, bytes]) -> RemoteState | None:
    api.create_repo(repo, private=private, exist_ok=False)
    return find(api, repo, files)


def _commit_files(api: HfApi, repo: str, before: RemoteState, files: Mapping[str, bytes]) -> str:
    """Commit the files and return the commit's id; its parent is fixed, so that a retry can't commit twice."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    def once() -> str:
        operations: list[Any] = [CommitOperationAdd(name, data) for name, data in files.items()]
        operations += [CommitOperationDelete(name) for name in before.stale(files)]
        message = f"The word {files[WORD_NAME_FILE].decode()}"
        return str(api.create_commit(repo, operations, commit_message=message, parent_commit=before.head).oid)

    def landed() -> str | None:
        remote = find(api, repo, files)
        return remote.head if remote is not None and remote.holds(files) else None

    return with_retries(once, landed, within=WRITE_TIMEOUT)


def _delete_if_empty(api: HfApi, repo: str) -> None:
    """Delete the repository created for a commit that failed, if it is still empty; errors are ignored."""
    with suppress(Exception), request_timeout(READ_TIMEOUT):  # the commit's own error is the one to report
        files = [file.rfilename for file in api.model_info(repo).siblings or ()]
        if files in ([], [".gitattributes"]):
            api.delete_repo(repo, missing_ok=True)


def _git_hash(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
