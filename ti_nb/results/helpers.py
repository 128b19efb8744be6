"""Captions and masks by other models of transformers: by name, and nothing is fetched before it was said what and how large.

A caption says what is *not* to be learned: what a picture's sentence names, the word need not mean.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from ..errors import InvalidValue, NotPossible
from ..host.arguments import checked
from ..host.plain_text import brief, plain, size
from ..pictures.subject import guess_crop, saliency

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..pictures.picture import Crop

WEIGHTS = (".safetensors",)  # what is fetched of weights: pickles never
ENDS = r"\b(?:on|in|at|with|near|by|under|over|behind|beside|next|that|which|is|are|was|and|\w+ing)\b"
LONGEST = 60  # tokens of a caption


@dataclass(frozen=True)
class ModelFacts:
    """What would be fetched.

    Attributes:
        name: a repository of the Hub or a folder. task: what its page says it does. bytes: of what would be fetched, 0 for a
            folder. license: as its page says. address: where it comes from.
    """

    name: str
    task: str
    bytes: int
    license: str
    address: str

    def __str__(self) -> str:
        if not self.bytes:
            return plain(f"{self.name}: {self.task}, a folder of this computer")
        return plain(f"{self.name}: {self.task}, {size(self.bytes)} from {self.address}, licence {self.license}")


@checked()
def about_model(name: str | Path) -> ModelFacts:
    """What a model is, how large and from where; asks the Hub for a page, and fetches nothing.

    Raises:
        OSError: no such folder or repository, or no answer. ValueError: it has no weights in safetensors.

    Examples:
        >>> import ti_nb as ti
        >>> print(ti.about_model("."))
        .: a model, a folder of this computer
    """
    if Path(name).is_dir():
        return ModelFacts(str(name), "a model", 0, "", str(name))
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        info = HfApi().model_info(str(name), files_metadata=True, timeout=20)
    except (HfHubHTTPError, HFValidationError) as error:
        raise InvalidValue(
            f"no model {plain(name)!r}: {brief(error)}: give a folder, or 'owner/name' of the Hub"
        ) from error
    files = [f for f in info.siblings or [] if f.rfilename.endswith(WEIGHTS)]
    if not files:
        raise InvalidValue(f"{plain(name)} has no weights in safetensors, and others are not run here: choose another")
    tags = [tag.removeprefix("license:") for tag in info.tags or [] if tag.startswith("license:")]
    weight, license = sum(f.size or 0 for f in files), next(iter(tags), "not said")
    return ModelFacts(str(name), info.pipeline_tag or "a model", weight, license, f"{HfApi().endpoint}/{name}")


@checked()
def load_captioner(name: str | Path, *, fetch: bool = False) -> Callable[[Image.Image], str]:
    """A function that says what is in a picture, by an image-to-text model such as "Salesforce/blip-image-captioning-base".

    Args:
        fetch: True to fetch it from the Hub, once `about_model` has said how large it is.

    Raises:
        RuntimeError: it is not here, and `fetch` is False; the message says what it is. OSError, ValueError: as `about_model`.

    Examples:
        >>> import ti_nb as ti
        >>> say = ti.load_captioner("Salesforce/blip-image-captioning-base", fetch=True)  # doctest: +SKIP
        >>> ti.caption_for_word(say(photo), "cat")  # doctest: +SKIP
    """
    from transformers import AutoModelForImageTextToText, AutoProcessor

    processor, network = _loaded(name, fetch, AutoProcessor, AutoModelForImageTextToText)
    return lambda picture: caption_by(network, processor, picture)


@torch.no_grad()
def caption_by(network: Any, processor: Any, picture: Image.Image) -> str:
    """What the model says of a picture, on one line; a chat model is asked for one sentence."""
    asked: dict[str, Any] = {}
    if getattr(processor, "chat_template", None):
        content = [{"type": "image"}, {"type": "text", "text": "Describe this picture in one short sentence."}]
        asked["text"] = processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True
        )
    inputs = processor(images=picture.convert("RGB"), return_tensors="pt", **asked)
    ids = network.generate(**inputs, max_new_tokens=LONGEST, do_sample=False)
    begun = inputs["input_ids"].shape[1] if asked else 0
    return " ".join(plain(processor.batch_decode(ids[:, begun:], skip_special_tokens=True)[0]).split())


@checked()
def load_segmenter(name: str | Path, *, fetch: bool = False) -> Callable[..., Image.Image]:
    """A function that makes a mask for `load_images`, by a segmentation model such as "facebook/mask2former-swin-tiny-coco-instance".

    Of the model's segments it takes the one that is most salient. A promptable model, such as "facebook/sam-vit-base", is asked
    for the thing in a square: the function takes it after the picture, as (left, top, side) in px, and else guesses it.
    Arguments and errors as of `load_captioner`.

    Examples:
        >>> import ti_nb as ti
        >>> mask_of = ti.load_segmenter("facebook/sam-vit-base", fetch=True)  # doctest: +SKIP
        >>> photos = ti.load_images(pictures, masks=[mask_of(picture) for picture in pictures])  # doctest: +SKIP
    """
    from transformers import AutoModelForMaskGeneration as Promptable
    from transformers import AutoModelForSemanticSegmentation as Semantic
    from transformers import AutoModelForUniversalSegmentation as Universal
    from transformers import AutoProcessor, pipeline

    processor, network = _loaded(name, fetch, AutoProcessor, Universal, Promptable, Semantic)
    if hasattr(network, "prompt_encoder"):
        return lambda picture, square=None: mask_in(network, processor, picture, square)
    segment = pipeline("image-segmentation", model=network, image_processor=processor)
    return lambda picture, square=None: mask_by(segment, picture)


@torch.no_grad()
def mask_in(network: Any, processor: Any, picture: Image.Image, square: Crop | None = None) -> Image.Image:
    """What a promptable model takes for the thing in a square of the picture, or in a guessed one: white."""
    left, top, side = square or guess_crop(picture, least=1)
    box = [[[float(left), float(top), float(left + side), float(top + side)]]]
    inputs = processor(images=picture.convert("RGB"), input_boxes=box, return_tensors="pt")
    inputs["input_boxes"] = inputs["input_boxes"].float()
    sizes = [inputs[key] for key in ("original_sizes", "reshaped_input_sizes") if key in inputs]
    found = processor.post_process_masks(network(**inputs, multimask_output=False).pred_masks, *sizes)
    return Image.fromarray(found[0].reshape(picture.height, picture.width).numpy().astype(np.uint8) * 255)


def mask_by(segment: Callable[[Image.Image], Sequence[dict[str, Any]]], picture: Image.Image) -> Image.Image:
    """The most salient of a picture's segments, white; all black if there are none."""
    where = saliency(picture)
    excess = where - where.mean()

    def salient(mask: Image.Image) -> float:
        small = mask.convert("L").resize((where.shape[1], where.shape[0]), Image.Resampling.BOX)
        return float((np.asarray(small, dtype=np.float64) * excess).sum())

    masks = [one["mask"].convert("L") for one in segment(picture.convert("RGB"))]
    return max(masks, key=salient, default=Image.new("L", picture.size, 0))


@checked()
def caption_for_word(caption: str, noun: str = "") -> tuple[str, str]:
    """A caption with "{}" where the thing was, and what else it says, which the word will *not* learn.

    >>> import ti_nb as ti
    >>> ti.caption_for_word("a brown bear sitting on a rock", "bear")
    ('a brown {} sitting on a rock', 'brown, sitting on a rock')

    Args:
        noun: the thing's kind, such as the initializer. If the caption lacks it, what it begins with is taken for the thing.
    """
    said = " ".join(caption.replace("{", "").replace("}", "").split()).rstrip(".")
    found = re.search(rf"\b{re.escape(noun.strip())}(?:s|es)?\b", said, re.IGNORECASE) if noun.strip() else None
    if found:
        template = f"{said[: found.start()]}{{}}{said[found.end() :]}"
    else:
        end = re.search(ENDS, said)
        template = f"a {{}} {said[end.start() :]}" if end else "a {}"
    left = [re.sub(r"^(?:a|an|the)\b|\b(?:a|an|the)$", "", part.strip()).strip() for part in template.split("{}")]
    return template.strip(), ", ".join(part for part in left if part)


def _loaded(name: str | Path, fetch: bool, processor: Any, *networks: Any) -> tuple[Any, Any]:
    """A processor and a network: from a folder, from what was fetched before, or with `fetch` from the Hub."""
    here: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        return processor.from_pretrained(str(name), **here), _first(networks, name, here)
    except (OSError, ValueError, KeyError) as error:
        if Path(name).is_dir():
            raise InvalidValue(f"{plain(name)} can't be loaded for this: {brief(error)}") from error
    facts = about_model(name)
    if not fetch:
        raise NotPossible(f"{facts}. It is not here yet: give fetch=True to fetch it")
    there = {**here, "local_files_only": False}
    try:
        return processor.from_pretrained(str(name), **there), _first(networks, name, there)
    except (ValueError, KeyError) as error:
        raise InvalidValue(f"{plain(name)} can't be loaded for this: {brief(error)}") from error


def _first(kinds: Sequence[Any], name: str | Path, options: dict[str, Any]) -> Any:
    """The network as the first of these kinds that it is one of; weights from safetensors only."""
    for kind in kinds[:-1]:
        try:
            return kind.from_pretrained(str(name), use_safetensors=True, **options).eval()
        except ValueError:  # another kind
            continue
    return kinds[-1].from_pretrained(str(name), use_safetensors=True, **options).eval()
