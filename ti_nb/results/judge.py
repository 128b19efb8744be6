"""Judges: models that turn pictures and texts into vectors, so that likeness is a cosine. One row for each kind of model."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from tqdm.auto import tqdm

from ..errors import InvalidValue, NoSuchFile
from ..host.arguments import checked
from ..host.devices import use_free_cores
from ..host.plain_text import place, size
from ..models.model import TINY

if TYPE_CHECKING:
    from PIL import Image

    from ..models.model import Model

AT_ONCE = 64  # pictures through a judge


@runtime_checkable
class Judge(Protocol):
    """What compares pictures with pictures and with texts: anything that has these two calls."""

    def embed_images(self, images: Sequence[Image.Image], /) -> torch.Tensor:
        """Unit vectors (n, d) of square pictures."""

    def embed_texts(self, texts: Sequence[str], /) -> torch.Tensor | None:
        """Unit vectors (n, d) that pictures' can be compared with; None from a judge that reads no texts."""


Judges = Judge | tuple[Judge, Judge]  # one, or two: of likeness, and of how well a prompt is followed


@dataclass(frozen=True)
class Kind:
    """A kind of model that can judge.

    Attributes:
        loader: transformers' class. vectors: of (the network, pixels). texts: arguments of its tokenizer; None if it reads none.
        lower: whether it was trained on texts in lower case.
    """

    loader: str
    vectors: Callable[[Any, torch.Tensor], torch.Tensor]
    texts: Mapping[str, Any] | None = None
    lower: bool = False


def _features(network: Any, pixels: torch.Tensor) -> torch.Tensor:
    return _pooled(network.get_image_features(pixel_values=pixels))


def _class_token(network: Any, pixels: torch.Tensor) -> torch.Tensor:
    states: torch.Tensor = network(pixel_values=pixels).last_hidden_state
    return states[:, 0]


def _pooled(output: Any) -> torch.Tensor:
    """Of what `get_image_features` returns, which is an object in transformers 5."""
    vectors: torch.Tensor = getattr(output, "pooler_output", output)
    return vectors


# By the `model_type` in a model's config.json. SigLIP sees its texts filled up to 64 tokens, in lower case, as it was trained.
KINDS: Mapping[str, Kind] = {
    "clip": Kind("CLIPModel", _features, {"padding": True, "max_length": 77}),
    "siglip": Kind("SiglipModel", _features, {"padding": "max_length", "max_length": 64}, lower=True),
    "dinov2": Kind("Dinov2Model", _class_token),
    "dinov2_with_registers": Kind("Dinov2WithRegistersModel", _class_token),
}
# Short name -> repository, and bytes of its weights. None of them is gated.
RELEASED: Mapping[str, tuple[str, int]] = {
    "dinov2": ("facebook/dinov2-base", 346_000_000),
    "siglip2": ("google/siglip2-base-patch16-224", 1_500_000_000),
    "clip": ("openai/clip-vit-base-patch32", 605_000_000),
}
USUAL = ("dinov2", "siglip2")  # of likeness, and of prompts


@dataclass(frozen=True)
class Recipe:
    """How a picture becomes pixels, as the model's own processor makes them.

    Attributes:
        resized: side in px it is resized to. size: side of the middle that is kept. filter: PIL's number of the resampling.
        mean, spread: to normalise, by channel.
    """

    resized: int
    size: int
    filter: int
    mean: tuple[float, ...]
    spread: tuple[float, ...]

    @classmethod
    def read(cls, facts: Mapping[str, Any]) -> Recipe:
        """From a preprocessor_config.json: CLIP's, SigLIP's and DINOv2's say their sizes in different words."""
        resized = _side(facts["size"])
        kept = _side(facts.get("crop_size", resized)) if facts.get("do_center_crop") else resized
        mean, spread = (tuple(map(float, facts[name])) for name in ("image_mean", "image_std"))
        return cls(resized, kept, int(facts.get("resample", 3)), mean, spread)

    def pixels(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """Square pictures as (n, 3, size, size)."""
        import numpy as np
        from PIL import Image

        side, edge = self.resized, (self.resized - self.size) // 2
        resized = [np.asarray(i.convert("RGB").resize((side, side), Image.Resampling(self.filter))) for i in images]
        pixels = torch.from_numpy(np.stack(resized)[:, edge : edge + self.size, edge : edge + self.size]).float() / 255
        pixels = (pixels - torch.tensor(self.mean)) / torch.tensor(self.spread)
        return pixels.permute(0, 3, 1, 2)


def _side(given: Any) -> int:
    """448, {"height": 448, "width": 448} or {"shortest_edge": 448}: the same for a square."""
    return int(given if isinstance(given, int | float) else given.get("shortest_edge", given.get("height")))


@dataclass(eq=False)
class LoadedJudge:
    """A judge that transformers loads.

    Attributes:
        name: what it was loaded by. network: the model. kind: its row. recipe: how it is shown pictures.
        tokenizer: its own; None if it reads no texts.
    """

    name: str
    network: Any
    kind: Kind
    recipe: Recipe
    tokenizer: Any = field(default=None, repr=False)

    @torch.no_grad()
    def embed_images(self, images: Sequence[Image.Image], /) -> torch.Tensor:
        """Unit vectors (n, d) of square pictures."""
        use_free_cores()
        parts = [self.recipe.pixels(images[i : i + AT_ONCE]) for i in range(0, len(images), AT_ONCE)]
        return F.normalize(torch.cat([self.kind.vectors(self.network, part) for part in parts]), dim=-1)

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str], /) -> torch.Tensor | None:
        """Unit vectors (n, d) of texts; None if it reads none."""
        if self.kind.texts is None:
            return None
        said = [text.lower() if self.kind.lower else text for text in texts]
        tokens = self.tokenizer(said, truncation=True, return_tensors="pt", **self.kind.texts)
        given = {"input_ids": tokens.input_ids}
        if self.kind.texts["padding"] is True:  # SigLIP takes its filling into account
            given["attention_mask"] = tokens.attention_mask
        return F.normalize(_pooled(self.network.get_text_features(**given)), dim=-1)


@checked()
def load_judge(name: str | Path = "tiny") -> LoadedJudge:
    """Load a judge: "tiny" (comes with this package), "clip", "siglip2", "dinov2", a folder, or a repository of such a model.

    What is not on this machine is fetched from the Hub; a line says what and how large before it begins.

    Raises:
        ValueError: a model of another kind. OSError: no model of that name can be loaded.

    Examples:
        >>> import ti_nb as ti
        >>> judge = ti.load_judge("tiny")
        >>> cat, penguin = judge.embed_texts(["a cat", "a penguin"])
        >>> seen = judge.embed_images(ti.example_images("penguin").images)
        >>> bool((seen @ penguin).mean() > (seen @ cat).mean())
        True
    """
    source, weight = RELEASED.get(str(name), (str(name), 0))
    source = str(TINY / "judge") if str(name) == "tiny" else source
    if not Path(source).is_dir() and not is_at_hand(source):
        tqdm.write(f"Fetching the judge {source}{f' ({size(weight)})' if weight else ''} from the Hugging Face Hub.")
    return from_folder(source, str(name))


def is_at_hand(repository: str) -> bool:
    """Whether a repository's judge has been fetched before."""
    from huggingface_hub import try_to_load_from_cache

    found = [try_to_load_from_cache(repository, name) for name in ("model.safetensors", "pytorch_model.bin")]
    return any(isinstance(path, str) for path in found)


def from_folder(source: str, name: str) -> LoadedJudge:
    """The judge in a folder or a repository.

    Raises:
        ValueError: a model of another kind. OSError: it can't be loaded.
    """
    import transformers

    config = json.loads(_file(source, "config.json").read_text())
    kind = KINDS.get(config.get("model_type", ""))
    if kind is None:
        what = config.get("model_type") or "of no known kind"
        raise InvalidValue(f"{place(source)} is {what}: a judge is one of {', '.join(KINDS)}")
    network = getattr(transformers, kind.loader).from_pretrained(source, dtype=torch.float32)
    read = None if kind.texts is None else transformers.AutoTokenizer.from_pretrained(source)
    recipe = Recipe.read(json.loads(_file(source, "preprocessor_config.json").read_text()))
    return LoadedJudge(name, network.eval().requires_grad_(False), kind, recipe, read)


def _file(source: str, name: str) -> Path:
    """A file of a folder or a repository."""
    if Path(source).is_dir():
        if not (Path(source) / name).is_file():
            raise NoSuchFile(f"{place(source)} holds no judge: it has no {name}")
        return Path(source) / name
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(source, name))


@checked()
def load_judges(model: Model, *, download: bool = False) -> tuple[LoadedJudge, LoadedJudge]:
    """The two judges to score a model's pictures with: of likeness, and of how well prompts are followed.

    tiny has its own judge for both. For other models DINOv2 judges likeness, as it sees details that CLIP does not, and SigLIP 2
    prompts; where they are not on this machine, CLIP does both if it is.

    Args:
        download: fetch DINOv2 and SigLIP 2 (1.8 GB) if they are not here.

    Raises:
        FileNotFoundError: there is no judge here, and `download` is False.

    Examples:
        >>> import ti_nb as ti
        >>> eye, reader = ti.load_judges(ti.load_model("tiny"))
        >>> eye is reader  # tiny's own judge is both
        True
    """
    if model.name == "tiny":
        tiny = load_judge("tiny")
        return tiny, tiny
    if download or _all_here(USUAL):
        likeness, prompts = (load_judge(name) for name in USUAL)
        return likeness, prompts
    if _all_here(("clip",)):
        clip = load_judge("clip")
        return clip, clip
    total = size(sum(RELEASED[name][1] for name in USUAL))
    raise NoSuchFile(
        f"no judge for {place(model.shared_name)} is on this machine: load_judges(model, download=True) fetches "
        f"{' and '.join(RELEASED[name][0] for name in USUAL)} ({total}) from the Hugging Face Hub"
    )


def _all_here(names: Sequence[str]) -> bool:
    return all(is_at_hand(RELEASED[name][0]) for name in names)


def pair(judge: Judges) -> tuple[Judge, Judge]:
    """The judge of likeness and the judge of prompts; a single one is both."""
    return judge if isinstance(judge, tuple) else (judge, judge)


def name_of(judge: Judge) -> str:
    """What a judge is called."""
    return str(getattr(judge, "name", type(judge).__name__))


def read_texts(judge: Judge, texts: Sequence[str]) -> torch.Tensor:
    """Unit vectors (n, d) of texts.

    Raises:
        ValueError: the judge reads none.
    """
    vectors = judge.embed_texts(list(texts))
    if vectors is None:
        raise InvalidValue(f"the judge {name_of(judge)} reads no texts: give one that does, such as load_judge('clip')")
    return vectors
