"""Does it look like the pictures, and does it do what the prompt says? Measured with a CLIP model (paper, section 4.3)."""

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
    """A CLIP model that compares pictures with pictures and with words.

    Attributes:
        clip: a `CLIPModel`, tokenizer: its tokenizer, size: side of its pictures in px, mean, spread: of its pixels.
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
        sized = [np.asarray(i.convert("RGB").resize((self.size, self.size), Image.Resampling.BICUBIC)) for i in images]
        pixels = torch.from_numpy(np.stack(sized)).float() / 255
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
    """Load a CLIP model: "tiny" (comes with the package), a folder, or a repository such as "openai/clip-vit-base-patch32".

    Raises:
        OSError: nothing of that name can be loaded.
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
    drawn = judge.embed_images([_image(s) for s in samples])
    return float((drawn @ judge.embed_images(list(pictures)).T).mean())


@checked("samples", "word")
def prompt_fidelity(judge: Judge, samples: Sequence[Sample], word: str) -> float:
    """Mean cosine of every sample with its own prompt, the word deleted: CLIP-T, the paper's "editability"."""
    texts = [without_word(s.prompt, word) for s in samples]
    distinct = sorted(set(texts))
    said = judge.embed_texts(distinct)[[distinct.index(t) for t in texts]]
    return float((judge.embed_images([s.image for s in samples]) * said).sum(-1).mean())


def real_fidelity(judge: Judge, real: Sequence[Image.Image], pictures: Sequence[Image.Image]) -> float:
    """Mean cosine of real pictures with the concept's, never of one with itself; nan where there are no others."""
    same = torch.tensor([[_is_same(one, other) for other in pictures] for one in real])
    return float((judge.embed_images(real) @ judge.embed_images(pictures).T)[~same].mean())


def _is_same(one: Image.Image, other: Image.Image) -> bool:
    return one is other or (one.size == other.size and one.tobytes() == other.tobytes())


@dataclass(frozen=True)
class Scores:
    """How a word did, beside its references.

    Attributes:
        subject_fidelity: of samples with the "initializer", with the "word", and of "real" held-back pictures
            (of the training pictures among themselves where none are held back; nan for a single one).
        prompt_fidelity: of samples with the "initializer" and with the "word".
        before, after: the samples of the prompts, drawn with the initializer and with the word.
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
    """Draw with the word and with what it started from, the same seeds, and compare both with pictures and prompts.

    Args:
        start: the word before training (`run.start`). prompts: templates for prompt fidelity.
        subject_prompt: the template subject fidelity is measured on, the paper's by default.
    """
    from .sampling import sample

    subject, drawn, said = {}, {}, {}
    for name, which in (("initializer", start), ("word", concept)):
        portraits = sample(model, subject_prompt, which, seeds=subject_seeds)
        subject[name] = subject_fidelity(judge, portraits, pictures)
        drawn[name] = sample(model, prompts, which, seeds=seeds)
        said[name] = prompt_fidelity(judge, drawn[name], which.word)
    subject["real"] = real_fidelity(judge, held_back or pictures, pictures)
    return Scores(subject, said, drawn["initializer"], drawn["word"])


@checked()
def gap_closed(initializer: float, word: float, real: float) -> float:
    """Share of the way from the initializer's subject fidelity to that of real pictures; below 0 and above 1 can happen."""
    return (word - initializer) / (real - initializer) if real != initializer else float("nan")


def _image(sample: Any) -> Image.Image:
    image: Image.Image = getattr(sample, "image", sample)
    return image
