"""Fetches words from the Hub: only the file that holds the word, from anyone's repository."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import HubError, NoAnswer, NotAConcept
from ..files.formats import LORA, is_generic_name
from ..files.reading import PART_NAME, load_words
from ..host.arguments import checked
from ..host.plain_text import size, warn
from ..models.families import living
from ..words.concept import Concept
from ..words.prompts import file_word
from .answers import as_hub_errors
from .client import MAX_WAIT, READ_TIMEOUT, address, client, head_commit, listed, with_retries
from .page import SAFE_NAME

if TYPE_CHECKING:
    from huggingface_hub import HfApi

MAX_CARD_BYTES = 1 << 22  # of a picture that may be a card
SUFFIXES = (".safetensors", ".pti", ".pt", ".bin")
USUAL_FILES = ("learned_embeds.safetensors", "learned_embeds.bin")
MAX_WAIT_IF_CACHED = 5.0  # seconds, where an earlier copy can be used instead
MAX_FILE_BYTES = 1 << 28  # largest known: 152 MB, a row stored with its whole matrix


@checked("repo")
def fetch(
    repo: str,
    *,
    word: str | None = None,
    file: str | None = None,
    revision: str | None = None,
    token: str | None = None,
    endpoint: str | None = None,
) -> Concept:
    """Fetch a word from anyone's repository: only the file that holds it.

    The file is `file`, or the first of: learned_embeds.safetensors, .bin, the latest of learned_embeds-steps-N, any small
    file that holds a word. The word is the file's own, else the repository's name; `word` renames it. `Concept.facts` has the
    repository, and the base model if the page tells it, by its current name.

    Raises:
        ValueError: not a repository's name. HubError: missing, private, gated, too large, no answer.
        NotAConcept: it holds no word.

    Examples:
        >>> import ti_nb as ti
        >>> ti.fetch("sd-concepts-library/cat-toy")  # doctest: +SKIP
        Concept('<cat-toy>', for SD 1.x, ...)
    """
    api = client(token, endpoint)
    where = address(repo, api)
    name, file, revision = where.repo, file or where.file, revision or where.revision
    snapshot = _newest_snapshot(name, revision)
    try:
        return _from_hub(api, name, file, revision, word, MAX_WAIT if snapshot is None else MAX_WAIT_IF_CACHED)
    except NoAnswer as error:
        if snapshot is None:
            raise
        warn(f"{error}; so {name!r} is as it was when it was fetched before")
    sizes = {
        path.relative_to(snapshot).as_posix(): path.stat().st_size for path in snapshot.rglob("*.*") if path.is_file()
    }
    concept = _first_word(name, sizes, file, word, lambda path: snapshot / path)
    return replace(concept, facts={**concept.facts, "revision": snapshot.name})


def _from_hub(
    api: HfApi, repo: str, file: str | None, revision: str | None, word: str | None, patience: float
) -> Concept:
    with as_hub_errors(f"fetching {repo!r}", api):
        info = with_retries(lambda: api.model_info(repo, revision=revision, files_metadata=True), patience=patience)
        head, sizes = head_commit(info), file_sizes(info)
    concept = _first_word(repo, sizes, file, word, lambda path: _download(api, repo, path, head, patience))
    return replace(concept, facts={**concept.facts, "revision": head, **page_facts(info.card_data)})


def file_sizes(info: Any) -> dict[str, int]:
    """A repository's files and their sizes, 0 where the Hub does not tell."""
    named = (s for s in info.siblings or () if isinstance(s.rfilename, str))
    return {s.rfilename: s.size if isinstance(s.size, int) else 0 for s in named}


def _first_word(
    repo: str, sizes: Mapping[str, int], file: str | None, word: str | None, get: Callable[[str], Path]
) -> Concept:
    """The word in the first candidate file that holds one."""
    reasons: list[str] = []
    for chosen in [file] if file else candidate_files(sizes):
        if chosen not in sizes:
            raise HubError(f"{repo!r} has no file {chosen!r}; it has {listed(sizes)}")
        wanted = [chosen, *(other for other in _companions(chosen) if other in sizes and other != chosen)]
        if (total := sum(sizes[path] for path in wanted)) > MAX_FILE_BYTES:
            raise HubError(f"{chosen!r} of {repo!r} has {size(total)}: too large for a word, not fetched")
        first, *_ = [get(path) for path in wanted]
        try:
            nameless = file_word(repo.split("/")[1]) if is_generic_name(Path(chosen).stem) else None
            return _pick(load_words(first, nameless=nameless), word, repo, chosen)
        except NotAConcept as error:
            reasons.append(f"{chosen}: {error}")
    raise NotAConcept(f"{repo!r} holds no word: {'; '.join(reasons) or f'it has {listed(sizes)}'}")


def _newest_snapshot(repo: str, revision: str | None) -> Path | None:
    """The newest folder in the client's cache that may hold the repository's word, or None."""
    from huggingface_hub import constants

    home = Path(constants.HF_HUB_CACHE, f"models--{repo.replace('/', '--')}", "snapshots")
    folders = [*home.iterdir()] if home.is_dir() else []
    if revision not in (None, "main"):
        folders = [folder for folder in folders if folder.name == revision]
    files = {folder: {path.relative_to(folder).as_posix(): 1 for path in folder.rglob("*.*")} for folder in folders}
    likely = [folder for folder, names in files.items() if candidate_files(names)]
    return max(likely, key=lambda folder: folder.stat().st_mtime, default=None)


def _download(api: HfApi, repo: str, file: str, revision: str, patience: float) -> Path:
    def get() -> Path:
        return Path(api.hf_hub_download(repo, file, revision=revision, etag_timeout=READ_TIMEOUT))

    with as_hub_errors(f"fetching {file!r} of {repo!r}", api):
        return with_retries(get, patience=patience)


def candidate_files(sizes: Mapping[str, int]) -> list[str]:
    """The files of a repository that may hold its word, likeliest first."""
    steps = {
        f: int(m[1]) for f in sizes if (m := re.fullmatch(r"(?:.*/)?learned_embeds[-_]steps?[-_]([0-9]+)\.\w+", f))
    }
    small = [
        f
        for f, count in sizes.items()
        if Path(f).suffix.lower() in SUFFIXES
        and count < 1 << 20
        and not re.search(r"optimizer|scheduler|training_args|random_states", f)
        and not LORA.search(f)
    ]
    small.sort(key=lambda f: (f.count("/"), "embed" not in f, SUFFIXES.index(Path(f).suffix.lower()), f))
    exact = [f for f in USUAL_FILES if f in sizes]
    latest = sorted(steps, key=lambda f: (-steps[f], f.count("/"), not f.endswith(".safetensors")))
    seconds = {other for f in sizes for other in _companions(f) if other in sizes and "_2." in other}
    rest = [f for f in small if f not in exact and f not in steps and f not in seconds]
    cards = [
        f for f, count in sizes.items() if f.lower().endswith(".png") and "/" not in f and 0 < count < MAX_CARD_BYTES
    ]
    return [*exact, *latest[:1], *rest, *cards][:8]


def _pick(words: list[Concept], word: str | None, repo: str, file: str) -> Concept:
    """The file's word, or of several the one asked for; with its repository in `facts`."""
    if len(words) > 1:
        chosen = [concept for concept in words if concept.word == word]
        if not chosen:
            names = ", ".join(repr(concept.word) for concept in words[:8])
            raise HubError(f"{file!r} of {repo!r} holds {len(words)} words: name one with word=, of {names}")
        words = chosen
    return Concept(word or words[0].word, words[0].vectors, {**words[0].facts, "repo": repo})


def page_facts(card: Any) -> dict[str, str]:
    """The base model, by its current name, and the licence on a page, which is untrusted and may contain anything."""
    base = getattr(card, "base_model", None)
    facts = {"base": base[0] if isinstance(base, list) and base else base, "license": getattr(card, "license", None)}
    safe = {key: value for key, value in facts.items() if isinstance(value, str) and re.fullmatch(SAFE_NAME, value)}
    return {key: living(value) if key == "base" else value for key, value in safe.items()}


def _companions(file: str) -> list[str]:
    """Files that may belong to `file`: an SDXL word's second half, or the other numbered parts."""
    path = Path(file)
    match = re.fullmatch(PART_NAME, path.stem)
    if match is None:
        return [str(path.with_stem(f"{path.stem}_2").as_posix())]
    count = min(int(match[4]), 64)
    return [path.with_stem(f"{match[1]}{i:05}{match[3]}{match[4]}").as_posix() for i in range(1, count + 1)]
