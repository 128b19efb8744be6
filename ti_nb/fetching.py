"""Words from the Hub: the one file that holds a word, from a repository of anyone."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .concept import Concept
from .errors import NotAConcept
from .files import load_words
from .formats import LORA, file_word, generic
from .hub import HubError, client, in_words, patiently, repository, size, some, unreachable
from .model_card import living

if TYPE_CHECKING:
    from huggingface_hub import HfApi

CARD = 1 << 22  # bytes of a picture that may be a card
EXACT = ("learned_embeds.safetensors", "learned_embeds.bin")
LARGEST = 1 << 28  # bytes of a file that is fetched: the known ones that drag a matrix along have 152 MB


def fetch(
    repo: str,
    *,
    word: str | None = None,
    file: str | None = None,
    revision: str | None = None,
    token: str | None = None,
    endpoint: str | None = None,
) -> Concept:
    """Fetch a word from a repository of anyone: the one file that holds it and nothing else.

    The file is `file`, or chosen by rule: learned_embeds.safetensors, .bin, the latest of learned_embeds-steps-N, then any
    small file that holds a word. Its word is the one in the file, or for a file without one the repository's name; `word`
    gives it another. `Concept.facts` says the repository, and the base model if its page does, by its living name.

    Raises:
        ValueError: not a repository's name. HubError: missing, private, gated, too large, no answer.
        NotAConcept: it holds no word.
    """
    name = repository(repo)
    api = client(token, endpoint)
    with in_words(f"fetching {name!r}", api):
        try:
            info = patiently(lambda: api.model_info(name, revision=revision, files_metadata=True))
        except Exception as error:
            kept = _kept(name, file, revision) if unreachable(error) else None
            if kept is None:
                raise
            warnings.warn(f"the Hub can't be reached: {name!r} is as it was when it was fetched before", stacklevel=3)
            return _named(load_words(kept), word, name, kept.name)
        sizes = {s.rfilename: s.size or 0 for s in info.siblings or ()}
        refused: list[str] = []
        for chosen in [file] if file else candidates(sizes):
            if chosen not in sizes:
                raise HubError(f"{name!r} has no file {chosen!r}; it has {some(sizes)}")
            if sizes[chosen] > LARGEST:
                raise HubError(f"{chosen!r} of {name!r} has {size(sizes[chosen])}: too large for a word, not fetched")
            wanted = [chosen, *(other for other in _beside(chosen) if other in sizes)]
            paths = [_download(api, name, one, revision) for one in wanted]
            try:
                return _named(load_words(paths[0]), word, name, chosen, info)
            except NotAConcept as error:
                refused.append(f"{chosen}: {error}")
        why = "; ".join(refused) or f"it has {some(sizes)}"
        raise NotAConcept(f"{name!r} holds no word: {why}")


def _kept(repo: str, file: str | None, revision: str | None) -> Path | None:
    """The file as it was fetched before, if it was."""
    from huggingface_hub import try_to_load_from_cache

    for name in [file] if file else EXACT:
        found = try_to_load_from_cache(repo, name, revision=revision)
        if isinstance(found, str):
            return Path(found)
    return None


def _download(api: HfApi, repo: str, file: str, revision: str | None) -> Path:
    return Path(patiently(lambda: api.hf_hub_download(repo, file, revision=revision)))


def candidates(sizes: Mapping[str, int]) -> list[str]:
    """The files of a repository that may hold its word, the likeliest first."""
    steps = {f: int(m[1]) for f in sizes if (m := re.fullmatch(r"(?:.*/)?learned_embeds[-_]steps?[-_](\d+)\.\w+", f))}
    small = [
        f
        for f, size in sizes.items()
        if f.endswith((".safetensors", ".bin", ".pt", ".pti"))
        and size < 1 << 20
        and not re.search(r"optimizer|scheduler|training_args|random_states", f)
        and not LORA.search(f)
    ]
    order = (".safetensors", ".pti", ".pt", ".bin")
    small.sort(key=lambda f: (f.count("/"), "embed" not in f, order.index(Path(f).suffix), f))
    exact = [f for f in EXACT if f in sizes]
    latest = sorted(steps, key=lambda f: (-steps[f], f.count("/"), not f.endswith(".safetensors")))
    cards = [f for f, size in sizes.items() if f.endswith(".png") and "/" not in f and size < CARD]
    rest = [f for f in small if f not in exact and f not in steps and not Path(f).stem.endswith("_2")]
    return [*exact, *latest[:1], *rest, *cards][:8]


def _named(words: list[Concept], word: str | None, repo: str, file: str, info: Any = None) -> Concept:
    """The word of the file, with a name, and where it came from."""
    own = repo.split("/")[-1]
    if len(words) > 1:
        chosen = [one for one in words if one.word == word]
        if not chosen:
            names = ", ".join(repr(one.word) for one in words[:8])
            raise HubError(f"{file!r} of {repo!r} holds {len(words)} words: name one with word=, of {names}")
        words = chosen
    found = words[0]
    card = info.card_data if info is not None else None
    base = card.base_model if card is not None else None
    base = base[0] if isinstance(base, list) and base else base
    facts = {**found.facts, "repo": repo, **({"revision": str(info.sha)} if info is not None else {})}
    if isinstance(base, str) and base:
        facts["base"] = living(base)
    license = getattr(card, "license", None)
    if isinstance(license, str):
        facts["license"] = license
    return Concept(word or (file_word(own) if generic(found.word) else found.word), found.vectors, facts)


def _beside(file: str) -> list[str]:
    """The files that belong to a file: an SDXL word's second half, and further numbered parts."""
    path = Path(file)
    found = re.fullmatch(r"(.*-)(\d{5})(-of-)(\d{5})", path.stem)
    if found is None:
        return [str(path.with_stem(f"{path.stem}_2").as_posix())]
    count = min(int(found[4]), 64)
    return [path.with_stem(f"{found[1]}{i:05}{found[3]}{found[4]}").as_posix() for i in range(1, count + 1)]
