"""Model folders are checked before they are loaded; the judge is plain CLIP."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import ti_nb as ti
from ti_nb.models.model import TINY
from ti_nb.results import sampling
from ti_nb.results.judge import real_fidelity
from ti_nb.words.prompts import fill

from .families import pipeline

pytestmark = pytest.mark.slow


def test_folders_that_are_no_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no model_index\.json"):
        ti.load_model(tmp_path)
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "KolorsPipeline"}))
    with pytest.raises(ValueError, match="KolorsPipeline"):
        ti.load_model(tmp_path)
    with pytest.raises(ValueError, match="no model 'sd7'"):
        ti.load_model("sd7")
    with pytest.raises(ValueError, match="not a diffusers model"):
        ti.load_model("./not/here")


def test_tiny_is_a_stable_diffusion_pipeline_that_diffusers_loads() -> None:
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(TINY, safety_checker=None)
    kinds = [type(p).__name__ for p in (pipe.tokenizer, pipe.text_encoder, pipe.unet, pipe.vae)]
    assert kinds == ["CLIPTokenizer", "CLIPTextModel", "UNet2DConditionModel", "AutoencoderKL"]


def test_tiny_weighs_at_most_60_mb_in_safetensors_only() -> None:
    weights = [p for p in TINY.rglob("*") if p.suffix in (".safetensors", ".bin", ".pt", ".ckpt", ".pkl")]
    assert {p.suffix for p in weights} == {".safetensors"}
    assert sum(p.stat().st_size for p in weights) <= 60e6


def test_judge_gives_what_clip_model_gives() -> None:
    judge = ti.load_judge("tiny")
    images = list(ti.example_images("penguin").images)
    tokens = judge.tokenizer(["a teapot", "a cat on the beach"], padding=True, return_tensors="pt")
    pixels = ti.example_images("penguin").pixels(judge.size)  # mean and spread 0.5 are [-1, 1]
    with torch.no_grad():
        out = judge.clip(pixel_values=pixels, **tokens)
    torch.testing.assert_close(judge.embed_images(images), F.normalize(out.image_embeds, dim=-1), atol=1e-4, rtol=1e-3)
    said = judge.embed_texts(["a teapot", "a cat on the beach"])
    torch.testing.assert_close(said, F.normalize(out.text_embeds, dim=-1), atol=1e-5, rtol=1e-4)


def test_fidelities_are_mean_cosines() -> None:
    class Fixed(ti.Judge):
        def embed_images(self, images: list) -> torch.Tensor:
            return torch.tensor([[1.0, 0.0], [0.6, 0.8]])[: len(images)]

        def embed_texts(self, texts: list) -> torch.Tensor:
            table = {"a photo of a": [0.0, 1.0], "a in the snow": [0.8, 0.6]}
            return torch.tensor([table[t] for t in texts])

    judge = Fixed(None, None, 8, (0.5,), (0.5,))
    image = Image.new("RGB", (8, 8))
    samples = [ti.Sample(image, "a photo of a <x>", 0), ti.Sample(image, "a <x> in the snow", 0)]
    assert ti.subject_fidelity(judge, samples, [image]) == pytest.approx((1 + 0.6) / 2)
    assert ti.prompt_fidelity(judge, samples, "<x>") == pytest.approx((0 + (0.6 * 0.8 + 0.8 * 0.6)) / 2)
    assert ti.gap_closed(0.2, 0.5, 0.8) == pytest.approx(0.5)


class Known(ti.Judge):
    """Embeds a picture by the colour of its first pixel."""

    def embed_images(self, images: Any) -> torch.Tensor:
        table = {255: [1.0, 0.0], 128: [0.6, 0.8], 0: [0.0, 1.0]}
        return torch.tensor([table[image.getpixel((0, 0))[0]] for image in images])

    def embed_texts(self, texts: Any) -> torch.Tensor:
        return torch.tensor([[0.0, 1.0]]).repeat(len(texts), 1)


def test_a_real_picture_is_not_compared_with_itself() -> None:
    """Among themselves, pictures would look alike by the share of pairs that are one picture; copies are one as well."""
    judge = Known(None, None, 8, (0.5,), (0.5,))
    white, grey, black = pictures = [Image.new("RGB", (8, 8), (value,) * 3) for value in (255, 128, 0)]
    assert real_fidelity(judge, pictures, pictures) == pytest.approx((0.6 + 0 + 0.8) / 3)
    assert real_fidelity(judge, [white, grey], [grey.copy(), black]) == pytest.approx((0.6 + 0 + 0.8) / 3)
    assert real_fidelity(judge, [white, white.copy()], [black]) == 0
    assert math.isnan(real_fidelity(judge, [white], [white.copy()]))


@pytest.mark.parametrize("held_back", [0, 1])
def test_scores_are_each_of_its_own_pictures(
    monkeypatch: pytest.MonkeyPatch, photos: ti.ConceptImages, held_back: int
) -> None:
    """The start's samples are white and the word's are grey; real pictures are black and grey."""
    model = ti.from_pipeline(pipeline("sd1"))
    start, word = (ti.initial_concept(model, "<new>", name) for name in ("animal", "penguin"))
    colours, asked = {id(start): 255, id(word): 128}, []

    def drawn(_: ti.Model, prompts: Any, concept: ti.Concept, *, seeds: int) -> list[ti.Sample]:
        asked.append((prompts, seeds))
        said = [prompts] if isinstance(prompts, str) else prompts
        image = Image.new("RGB", (8, 8), (colours[id(concept)],) * 3)
        return [ti.Sample(image, fill(text, "<new>"), seed) for text in said for seed in range(seeds)]

    monkeypatch.setattr(sampling, "sample", drawn)
    white, grey, black = (Image.new("RGB", (8, 8), (value,) * 3) for value in (255, 128, 0))
    judge = Known(None, None, 8, (0.5,), (0.5,))
    real = [white] * held_back
    scores = ti.score(model, judge, word, start, [grey, black], prompts=["a {} here"], held_back=real, seeds=3)
    assert scores.subject_fidelity == pytest.approx(
        {"initializer": (0.6 + 0) / 2, "word": (1 + 0.8) / 2, "real": (0.6 + 0) / 2 if held_back else 0.8}
    )
    assert scores.prompt_fidelity == pytest.approx({"initializer": 0.0, "word": 0.8})
    assert {s.image.getpixel((0, 0))[0] for s in scores.before} == {255} and len(scores.before) == 3
    assert {s.image.getpixel((0, 0))[0] for s in scores.after} == {128} and len(scores.after) == 3
    assert asked == [("a photo of a {}", 16), (["a {} here"], 3)] * 2


def test_the_judge_is_shown_pixels_as_its_own_processor_makes_them(tmp_path: Path, photos: ti.ConceptImages) -> None:
    """With the mean and spread of published CLIP models, which differ; tiny's are both 0.5."""
    from transformers import CLIPImageProcessor

    for path in (TINY / "judge").iterdir():
        (tmp_path / path.name).symlink_to(path)
    settings = tmp_path / "preprocessor_config.json"
    facts = json.loads(settings.read_text())
    settings.unlink()
    facts |= {"image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]}
    settings.write_text(json.dumps(facts))
    judge, shown = ti.load_judge(tmp_path), []
    judge.clip.vision_model.register_forward_pre_hook(lambda _, given: shown.append(given[0]))
    images = [image.convert("RGB").resize((judge.size, judge.size)) for image in photos.images]
    judge.embed_images(images)
    theirs = CLIPImageProcessor.from_pretrained(tmp_path)(images, return_tensors="pt").pixel_values
    torch.testing.assert_close(shown[0], theirs, atol=1e-4, rtol=1e-4)


def test_judge_knows_its_world() -> None:
    judge = ti.load_judge("tiny")
    names = [n.replace("-", " ") for n in ti.example_names()]
    right = 0
    for name in ti.example_names():
        seen = judge.embed_images(ti.example_images(name).images)
        best = (seen @ judge.embed_texts([f"a {n}" for n in names]).T).argmax(1)
        right += sum(names[i] == name.replace("-", " ") for i in best.tolist())
    assert right / (5 * len(names)) > 0.7


def test_a_model_s_name_in_files_tells_no_folders(model: ti.Model, photos: ti.ConceptImages, tmp_path: Path) -> None:
    folder = tmp_path / "someone" / "my-model"
    model.fresh_pipeline().save_pretrained(folder)
    own = ti.load_model(folder, dtype=torch.float32)
    concept = ti.train(own, photos, word="<new>", init="animal", steps=1).concept()
    assert own.shared_name == concept.facts["base"] == concept.facts["model"] == "my-model"
    assert b"someone" not in ti.save(concept, tmp_path / "new.safetensors").read_bytes()
    assert ti.Model("owner/name", own.encoders, own.unet, own.vae, own.scheduler).shared_name == "owner/name"


def test_loading_says_nothing_of_libraries_that_are_not_needed() -> None:
    code = "import ti_nb as ti; ti.load_model('tiny')"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "torchvision" not in out.stderr + out.stdout


def test_half_precision_fetches_the_half_sized_files(monkeypatch: pytest.MonkeyPatch) -> None:
    import diffusers

    asked: dict = {}

    class Enough(Exception):
        pass

    def stop(*args: object, **options: object) -> None:
        asked.update(options)
        raise Enough

    monkeypatch.setattr("ti_nb.models.loading._find", lambda name: (name, "StableDiffusionXLPipeline", None))
    monkeypatch.setattr(diffusers.StableDiffusionXLPipeline, "from_pretrained", stop)
    for dtype, variant in ((torch.float16, "fp16"), (torch.float32, None)):
        asked.clear()
        with pytest.raises(Enough):
            ti.load_model("sdxl", dtype=dtype)
        assert asked.get("variant") == variant
