"""Model folders are checked before they are loaded; the judge is plain CLIP."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import ti_nb as ti
from ti_nb.models import TINY

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
