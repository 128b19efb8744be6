"""Subject and prompt fidelity, measured with a CLIP model (paper, section 4.3)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from ..host.arguments import checked
from ..host.devices import use_free_cores
from ..models.model import TINY
from ..words.prompts import without_word

if TYPE_CHECKING:
    from PIL import Image

    from ..models.model import Model
    from ..words.concept import Concept
    from .sampling import Sample


@dataclass(eq=False)
class Judge:
    """A CLIP model that compares pictures with pictures and with texts.

    Attributes:
        clip: a `CLIPModel`. tokenizer: its own. size: side of its input in px. mean, spread: to normalise pixels, by channel.
    """

    clip: Any
    tokenizer: Any
    size: int
    mean: tuple[float, ...]
    spread: tuple[float, ...]

    @torch.no_grad()
    def embed_images(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """Unit vectors (n, d) of square pictures."""
        import numpy as np
        from PIL import Image

        use_free_cores()
        resized = [
            np.asarray(i.convert("RGB").resize((self.size, self.size), Image.Resampling.BICUBIC)) for i in images
        ]
        pixels = torch.from_numpy(np.stack(resized)).float() / 255
        pixels = (pixels - torch.tensor(self.mean)) / torch.tensor(self.spread)
        hidden = self.clip.vision_model(pixels.permute(0, 3, 1, 2)).pooler_output
        return F.normalize(self.clip.visual_projection(hidden), dim=-1)

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """Unit vectors (n, d) of texts."""
        tokens = self.tokenizer(list(texts), padding=True, truncation=True, max_length=77, return_tensors="pt")
        hidden = self.clip.text_model(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask).pooler_output
        return F.normalize(self.clip.text_projection(hidden), dim=-1)


@checked()
def load_judge(name: str | Path = "tiny") -> Judge:
    """Load a CLIP model: "tiny" (comes with this package), a folder, or a repository such as "openai/clip-vit-base-patch32".

    Raises:
        OSError: no model of that name can be loaded.
    """
    from transformers import CLIPModel, CLIPTokenizer

    folder = str(TINY / "judge") if str(name) == "tiny" else str(name)
    clip = CLIPModel.from_pretrained(folder, dtype=torch.float32).eval().requires_grad_(False)
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    settings = Path(folder) / "preprocessor_config.json"
    if not settings.is_file():
        from huggingface_hub import hf_hub_download

        settings = Path(hf_hub_download(folder, "preprocessor_config.json"))
    facts = json.loads(settings.read_text())
    size = int(clip.config.vision_config.image_size)
    return Judge(clip, tokenizer, size, tuple(facts["image_mean"]), tuple(facts["image_std"]))


@checked("samples", "pictures")
def subject_fidelity(judge: Judge, samples: Sequence[Sample | Image.Image], pictures: Sequence[Image.Image]) -> float:
    """Mean cosine (-1 to 1) of every sample with every picture of the concept: CLIP-I, the paper's "reconstruction"."""
    vectors = judge.embed_images([_image(s) for s in samples])
    return float((vectors @ judge.embed_images(list(pictures)).T).mean())


@checked("samples", "word")
def prompt_fidelity(judge: Judge, samples: Sequence[Sample], word: str) -> float:
    """Mean cosine of every sample with its own prompt, the word removed: CLIP-T, the paper's "editability"."""
    texts = [without_word(s.prompt, word) for s in samples]
    distinct = sorted(set(texts))
    text_vectors = judge.embed_texts(distinct)[[distinct.index(t) for t in texts]]
    return float((judge.embed_images([s.image for s in samples]) * text_vectors).sum(-1).mean())


def real_fidelity(judge: Judge, real: Sequence[Image.Image], pictures: Sequence[Image.Image]) -> float:
    """Mean cosine of real pictures with the concept's, leaving out each with itself; nan if no pair is left."""
    same = torch.tensor([[_is_same(a, b) for b in pictures] for a in real])
    return float((judge.embed_images(real) @ judge.embed_images(pictures).T)[~same].mean())


def _is_same(a: Image.Image, b: Image.Image) -> bool:
    return a is b or (a.size == b.size and a.tobytes() == b.tobytes())


@dataclass(frozen=True)
class Scores:
    """The scores of a word, and of what to compare it with.

    Attributes:
        subject_fidelity: of samples with the "initializer", of samples with the "word", and of "real" held-back pictures
            (without any: of the training pictures with each other; nan for a single one).
        prompt_fidelity: of samples with the "initializer" and with the "word".
        before, after: the samples for `prompts`, drawn with the initializer and with the word.
    """

    subject_fidelity: dict[str, float]
    prompt_fidelity: dict[str, float]
    before: list[Sample]
    after: list[Sample]

    @property
    def gap_closed(self) -> float:
        """See `gap_closed`."""
        s = self.subject_fidelity
        return gap_closed(s["initializer"], s["word"], s["real"])


@checked("pictures", "prompts", seeds=(1, None), subject_seeds=(1, None))
def score(
    model: Model,
    judge: Judge,
    concept: Concept,
    start: Concept,
    pictures: Sequence[Image.Image],
    *,
    prompts: Sequence[str],
    held_back: Sequence[Image.Image] = (),
    subject_prompt: str = "a photo of a {}",
    seeds: int = 4,
    subject_seeds: int = 16,
) -> Scores:
    """Draw with the word and with its initializer on the same seeds, and compare both with the pictures and the prompts.

    Args:
        start: the word before training (`run.start`). prompts: templates for prompt fidelity.
        held_back: pictures of the subject that were not trained on, as the reference for subject fidelity.
        subject_prompt: the template for subject fidelity, the paper's by default.
        seeds, subject_seeds: samples of each prompt, and of the subject prompt.

    Examples:
        >>> import ti_nb as ti
        >>> model, judge, photos = ti.load_model("tiny"), ti.load_judge("tiny"), ti.example_images("penguin")
        >>> run = ti.train(model, photos, word="<my-penguin>", init="animal", steps=2)
        >>> records = list(run)
        >>> prompts = ["a {} in the snow"]
        >>> scores = ti.score(
        ...     model, judge, run.concept(), run.start, photos.images, prompts=prompts, seeds=1, subject_seeds=1
        ... )
        >>> scores.subject_fidelity
        {'initializer': 0..., 'word': 0..., 'real': 0...}
        >>> [s.prompt for s in scores.before + scores.after]
        ['a <my-penguin> in the snow', 'a <my-penguin> in the snow']
    """
    from .sampling import sample

    by_subject, by_prompt, samples = {}, {}, {}
    for name, used in (("initializer", start), ("word", concept)):
        portraits = sample(model, subject_prompt, used, seeds=subject_seeds)
        by_subject[name] = subject_fidelity(judge, portraits, pictures)
        samples[name] = sample(model, prompts, used, seeds=seeds)
        by_prompt[name] = prompt_fidelity(judge, samples[name], used.word)
    by_subject["real"] = real_fidelity(judge, held_back or pictures, pictures)
    return Scores(by_subject, by_prompt, samples["initializer"], samples["word"])


@checked()
def gap_closed(initializer: float, word: float, real: float) -> float:
    """Share of the gap between the initializer's and real pictures' subject fidelity that the word closes; any number.

    Examples:
        >>> import ti_nb as ti
        >>> ti.gap_closed(initializer=0.5, word=0.75, real=1.0)
        0.5
    """
    return (word - initializer) / (real - initializer) if real != initializer else float("nan")


def _image(sample: Any) -> Image.Image:
    image: Image.Image = getattr(sample, "image", sample)
    return image
