"""Models of today: their own pipelines say how they encode, and a word goes all the way through each family."""

from __future__ import annotations

import inspect
import json
import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers.pipelines import auto_pipeline
from safetensors import safe_open
from transformers import Qwen3Config, Qwen3Model

import ti_nb as ti
from ti_nb.models.conditioning import condition, token_ids
from ti_nb.models.families import FAMILIES, RELEASES, SUPPORTED
from ti_nb.models.today import rows as rows_of_today
from ti_nb.models.today.latents import packed, unpacked
from ti_nb.models.today.memory import kept_for_backward
from ti_nb.models.today.pipeline_model import PipelineModel
from ti_nb.models.today.planned import GPUS, planned
from ti_nb.models.today.recorder import FIRST, record
from ti_nb.models.today.schedule import FlowSchedule
from ti_nb.training.losses import word_loss

from . import today_table
from .families import pipeline as classic
from .today import SIDE, TODAY, pipeline

pytestmark = pytest.mark.slow
SEVERAL = (
    "Z-Image",
    "FLUX.2 klein 4B",
    "Sana",
    "SD 3",
    "PixArt-Sigma",
    "Qwen-Image",
)  # each packs, encodes or counts its own way


def these_first(*first: str) -> list[Any]:
    """All families, of which some are for when there is time."""
    return [pytest.param(name, marks=[] if name in first else pytest.mark.thorough) for name in TODAY]


EACH, LONG = these_first(*SEVERAL), these_first(SEVERAL[0])


def made(family: str) -> PipelineModel:
    pipe, arguments = pipeline(family)
    model = ti.from_pipeline(pipe, name=f"tiny {family}", arguments=arguments)
    assert isinstance(model, PipelineModel) and model.family.name == family
    model.resize(SIDE)
    return model


def moved(model: ti.Model, init: str = "cat", vectors: int = 2) -> ti.Concept:
    """A word that no known one is like."""
    start, draw = ti.initial_concept(model, "<new>", init, vectors), torch.Generator().manual_seed(1)
    rows = {key: v + v.std() * torch.randn(v.shape, generator=draw) for key, v in start.vectors.items()}
    return ti.Concept("<new>", rows, start.facts)


def all_of(told: Any) -> list[torch.Tensor]:
    """Every tensor among the arguments."""
    if isinstance(told, dict):
        return [tensor for value in told.values() for tensor in all_of(value)]
    if isinstance(told, list | tuple):
        return [tensor for value in told for tensor in all_of(value)]
    return [told] if isinstance(told, torch.Tensor) else []


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_the_recorder_gives_what_is_written_out_for_sd(kind: str) -> None:
    model = ti.from_pipeline(classic(kind))
    pipe, prompts = model.pipeline(), ["a photo of a penguin", "a cat in the snow"]
    with torch.no_grad():
        size = {"height": model.resolution, "width": model.resolution}
        told = record(pipe, pipe.unet, prompts, {"guidance_scale": 1.0, "num_inference_steps": 2, **size})
    ours = ti.encode(model, prompts)
    assert torch.equal(told["encoder_hidden_states"], ours.states)
    if kind == "sdxl":
        added = told["added_cond_kwargs"]
        assert torch.equal(added["text_embeds"], ours.pooled)
        assert torch.equal(added["time_ids"], model.time_ids().expand(2, -1).to(added["time_ids"]))


@pytest.mark.parametrize("family", EACH)
def test_a_known_word_s_rows_as_a_new_word_s_tell_the_network_the_same(family: str) -> None:
    model = made(family)
    word = ti.initial_concept(model, "<new>", "cat", 1)
    ids = {
        text: token_ids(model, [f"a photo of a {text} on", f"the {text}"], {"<new>": 1}) for text in ("cat", "<new>")
    }
    with torch.no_grad():
        known, new = (all_of(condition(model, ids[text], word.vectors).arguments) for text in ("cat", "<new>"))
    for one, other in zip(known, new, strict=True):
        torch.testing.assert_close(other, one, rtol=0, atol=0, equal_nan=True)
    with torch.no_grad():
        other = all_of(condition(model, ids["<new>"], moved(model, vectors=1).vectors).arguments)
    assert any(a.shape != b.shape or not torch.equal(a, b) for a, b in zip(new, other, strict=True))


@pytest.mark.parametrize("family", EACH)
def test_the_gradient_reaches_every_encoder(family: str, photos: ti.ConceptImages) -> None:
    model = made(family)
    rows = {key: v.clone().requires_grad_() for key, v in moved(model).vectors.items()}
    run = ti.train(model, photos, word="<new>", init="cat", vectors=2, steps=1, watch=0)
    loss = word_loss(model, rows, run._draws.fixed(2))
    loss.sum().backward()
    assert tuple(rows) == model.family.encoders
    for key, row in rows.items():
        assert row.grad is not None and bool((row.grad.norm(dim=1) > 0).all()), key


@pytest.mark.parametrize("family", EACH)
def test_clock_sign_and_latents_are_the_pipeline_s_own(family: str) -> None:
    """One of its own denoising steps, in the middle of drawing, is the step that our prediction makes."""
    model = made(family)
    rows = {e.key: e.table[:1] for e in model.encoders}
    pipe, network, forward = model.own, model.unet, model.unet.forward
    seen: list[Any] = []
    stepped: list[torch.Tensor] = []

    def see(*given: Any, **named: Any) -> Any:
        seen.append(given[0] if given else named["hidden_states"])
        return forward(*given, **named)

    def keep(pipe: Any, step: int, t: Any, held: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        stepped.append(held["latents"].clone())
        return held

    network.forward = see
    with model.saying(rows):
        pipe(prompt=["a photo of a cat"], output_type="latent", **model.call(5) | at_each_step(pipe, keep))
    network.forward = forward
    scheduler = deepcopy(pipe.scheduler)  # the recorder sets it to other steps
    sigmas, t = getattr(pipe.scheduler, "sigmas", None), pipe.scheduler.timesteps[2]
    like = torch.zeros(1, *model.latent_shape)
    x, theirs = unpacked(seen[2], model.recipe, like), unpacked(as_given(stepped[2], model), model.recipe, like)
    torch.testing.assert_close(all_of(packed(x, model.recipe)), all_of(seen[2]))
    with torch.no_grad():
        told = condition(model, token_ids(model, ["a photo of a cat"], {}), rows)
        if not model.recipe.flow:
            ours = scheduler.step(model.predict(x, t.reshape(1), told), t, x).prev_sample
        else:
            assert float((model.scheduler.sigmas - sigmas[2]).abs().min()) < 2e-3
            model.scheduler = FlowSchedule(sigmas[2:3], scheduler.timesteps[2:3], model.recipe.sign)
            predicted = model.predict(x, torch.tensor([0]), told)
            ours = x + (sigmas[3] - sigmas[2]) * model.recipe.sign * predicted
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def at_each_step(pipe: Any, act: Any) -> dict[str, Any]:
    """The arguments that call `act` after each step, in the older pipelines' way where they have no other."""
    if "callback_on_step_end" in inspect.signature(type(pipe).__call__).parameters:
        return {"callback_on_step_end": act}
    return {"callback": lambda step, t, latents: act(pipe, step, t, {"latents": latents}) and None}


def as_given(latents: torch.Tensor, model: PipelineModel) -> Any:
    """The pipeline's latents as its network takes them: some keep them unpacked."""
    return packed(latents, model.recipe) if model.recipe.packed in ("", "list") else latents


@pytest.mark.parametrize("family", EACH)
def test_latents_come_back_as_the_pipeline_decodes_them(family: str, photos: ti.ConceptImages) -> None:
    """Our latents of a picture, given to the pipeline's own last lines, are what the VAE gives back of it."""
    from ti_nb.models.denoise import cache_latents

    model = made(family)
    pixels = photos.pixels(SIDE)[:1]
    mean, _ = cache_latents(model, pixels)
    assert tuple(mean.shape[1:]) == model.latent_shape
    model.pipeline()
    frames = model.recipe.frames
    with torch.no_grad():
        out = model.vae.encode(pixels.unsqueeze(2) if frames else pixels)
        plain = out.latent_dist.mean if hasattr(out, "latent_dist") else out.latent
        theirs = model.vae.decode(plain).sample
        ours = _decoded_by_the_pipeline(model, mean)
    theirs = theirs.squeeze(2) if frames else theirs
    expected = ((theirs / 2 + 0.5).clamp(0, 1) * 255).round()
    got = torch.from_numpy(np.array(ours)).permute(2, 0, 1)[None].float()
    assert float((got - expected).abs().max()) <= 1


def _decoded_by_the_pipeline(model: PipelineModel, latents: torch.Tensor) -> Any:
    """Its own call after the last step: the callback puts our latents in."""

    def put(pipe: Any, step: int, t: Any, held: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        held["latents"].copy_(packed(latents, model.recipe) if held["latents"].ndim in (3, 5) else latents)
        return held

    call = model.call(1) | at_each_step(model.own, put)
    return picture(model.own(prompt=["a cat"], output_type="pil", **call))


def picture(out: Any) -> Any:
    """The first one that a pipeline drew, or the first frame of a video."""
    return out.images[0] if hasattr(out, "images") else out.frames[0][0]


@pytest.mark.parametrize("family", LONG)
def test_forty_steps_lower_a_fixed_loss(family: str, photos: ti.ConceptImages) -> None:
    model = made(family)
    rate = {"rate": 0.3, "norm": "free", "decay": "constant"}
    run = ti.train(model, photos, word="<new>", init="cat", steps=40, batch=2, watch=20, **rate)
    list(run)
    assert run.records[-1].gain is not None and run.records[-1].gain > 0
    assert run.concept().nearest(model, 1)


@pytest.mark.parametrize("family", EACH)
def test_a_saved_word_draws_the_same_in_the_pipeline_itself(family: str, tmp_path: Path) -> None:
    model = made(family)
    word = moved(model)
    path = ti.save(word, tmp_path / "new.safetensors")
    with safe_open(str(path), framework="pt") as file:
        assert sorted(file.keys()) == sorted(model.family.encoders)
        said = json.loads(file.metadata()["ti_nb"])
    assert said["family"] == family and said["model"] == f"tiny {family}"
    again = ti.load(path)
    assert again == word and again.family == family
    prompt = "a photo of a <new> on"
    ours = ti.sample(model, prompt, again, seeds=[3], steps=2, guidance=1.0, progress=False)[0].image
    pipe = model.fresh_pipeline()
    before = drawn(pipe, model, "a photo of a cat on")
    assert ti.load_into(pipe, again) == "<new>"
    assert np.array_equal(ours, drawn(pipe, model, prompt))
    assert not np.array_equal(ours, before)
    assert np.array_equal(drawn(pipe, model, "a photo of a cat on"), before)
    with pytest.raises(ValueError, match="knows '<new>' already"):
        ti.load_into(pipe, again)
    with pytest.raises(ValueError, match="unload them first"):
        ti.from_pipeline(pipe)
    ti.unload(pipe, word)
    assert np.array_equal(drawn(pipe, model, "a photo of a cat on"), before)
    with pytest.raises(ValueError, match="does not know"):
        ti.unload(pipe, word)


def drawn(pipe: Any, model: PipelineModel, prompt: str) -> np.ndarray:
    call = model.call(2) | {"generator": torch.Generator().manual_seed(3)}
    return np.asarray(picture(pipe(prompt=prompt, output_type="pil", **call)))


@pytest.mark.parametrize("family", LONG)
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(
    family: str, photos: ti.ConceptImages, tmp_path: Path
) -> None:
    model = made(family)
    how = {"word": "<new>", "init": "cat", "steps": 4, "batch": 2, "watch": 2, "rate": 1.0}
    whole = ti.train(model, photos, **how)
    list(whole)
    run = ti.train(model, photos, out=tmp_path / "run", **how)
    next(run), next(run)
    run.save()
    run.folder.release()
    again = ti.train(made(family), photos, out=tmp_path / "run", **how)
    assert len(again.records) == 2
    list(again)
    for key, rows in whole.concept().vectors.items():
        assert torch.equal(again.concept().vectors[key], rows)
    assert [r.loss for r in again.records] == [r.loss for r in whole.records]


def test_runs_go_together(photos: ti.ConceptImages) -> None:
    model = made("Z-Image")
    how = {"word": "<new>", "init": "cat", "steps": 2, "batch": 2, "watch": 0, "rate": 1.0}
    alone = [ti.train(model, photos, seed=seed, **how) for seed in (3, 7)]
    for run in alone:
        list(run)
    both = ti.train_seeds(model, photos, seeds=[3, 7], **how)
    list(ti.together(both))
    for one, other in zip(alone, both):
        for key, rows in one.concept().vectors.items():
            torch.testing.assert_close(other.concept().vectors[key], rows, rtol=1e-3, atol=1e-4)


def test_what_means_nothing_is_refused(photos: ti.ConceptImages) -> None:
    model = made("Z-Image")
    for setting, reason in (({"snr_gamma": 5.0}, "flow matching"), ({"init_source": "output"}, "CLIP")):
        with pytest.raises(ValueError, match=reason):
            ti.train(model, photos, word="<new>", init="cat", **setting)
    with pytest.raises(ValueError, match="draw with ti"):
        ti.encode(model, ["a cat"])
    with pytest.raises(ValueError, match="cross-attention"):
        ti.attention(model, photos, "a cat")


def test_a_word_of_another_family_with_the_same_encoder_is_refused(photos: ti.ConceptImages) -> None:
    """Z-Image and klein have the same key and width, and read other layers of it."""
    word, model = moved(made("Z-Image")), made("FLUX.2 klein 4B")
    assert {key: v.shape[1] for key, v in word.vectors.items()} == {e.key: e.width for e in model.encoders}
    for use in (
        lambda: ti.sample(model, "a {word}", word, steps=2),
        lambda: ti.train(model, photos, word="<other>", init=word),
    ):
        with pytest.raises(ValueError, match=r"was learned on Z-Image.*is FLUX.2 klein 4B"):
            use()
    with pytest.raises(ValueError, match=r"is for Z-Image.*this pipeline is a FLUX.2 klein 4B"):
        ti.load_into(model.fresh_pipeline(), word)


def test_a_negative_prompt_that_would_do_nothing_is_refused(photos: ti.ConceptImages) -> None:
    flux = made("Flux")
    with pytest.raises(ValueError, match="which would do nothing: Flux was distilled"):
        ti.sample(flux, "a cat", negative="a dog", steps=2)
    with pytest.raises(ValueError, match="a negative word does nothing"):
        ti.train(flux, photos, word="<new>", init="cat", negative=1)
    model = made("Z-Image")
    run = ti.train(model, photos, word="<new>", init="cat", negative=1, steps=1, batch=1, watch=0)
    assert next(run).step == 1 and run.negative().family == "Z-Image"
    with_it, without = (
        ti.sample(model, "a cat", seeds=[1], steps=2, negative=text, progress=False)[0].image for text in ("a dog", "")
    )
    assert not np.array_equal(with_it, without)


def test_what_the_plan_counts_is_what_a_backward_pass_keeps() -> None:
    model = made("Sana")
    frozen = {p.untyped_storage()._cdata for part in (model.unet, model.text_encoder) for p in part.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if (storage := tensor.untyped_storage()._cdata) not in frozen:
            kept[storage] = tensor
        return tensor

    rows = {e.key: e.table[:1].clone().requires_grad_() for e in model.encoders}
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        told = model.condition(model.token_ids(["a photo of a <word>"], {"<word>": 1}), rows)
        model.predict(torch.zeros(1, *model.latent_shape), torch.zeros(1, dtype=torch.long), told)
    held = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    assert abs(kept_for_backward(model) - held) < 0.05 * held


def test_a_saved_folder_is_loaded_as_what_it_is(tmp_path: Path) -> None:
    pipeline("Sana")[0].save_pretrained(tmp_path)
    model = ti.load_model(tmp_path, dtype=torch.float32)
    assert isinstance(model, PipelineModel) and model.family.name == "Sana"
    assert torch.equal(model.encoders[0].table, made("Sana").encoders[0].table)


def others() -> list[str]:
    """Every class of diffusers' tables of automatic pipelines that is in no row."""
    tables = [getattr(auto_pipeline, name) for name in dir(auto_pipeline) if name.endswith("PIPELINES_MAPPING")]
    names = {kind.__name__ for table in tables if isinstance(table, dict) for kind in table.values()}
    return sorted(name for name in names if name not in SUPPORTED)


@pytest.mark.parametrize("how", ["by its index alone", "loaded"])
def test_a_class_in_no_row_is_refused_in_a_sentence(how: str, tmp_path: Path) -> None:
    assert len(others()) > 50
    for name in others():
        (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": name}))
        with pytest.raises(
            ValueError, match=rf"is a {name}, no text-to-image model of a kind that can be trained"
        ) as refused:
            if how == "loaded":
                ti.from_pipeline(object.__new__(getattr(diffusers, name, type(name, (), {}))))
            ti.load_model(tmp_path)
        said = str(refused.value)
        assert refused.value.__cause__ is None and "\n" not in said, said
        assert all(row.pipeline in said for row in FAMILIES if row.recipe)


def test_drawn_samples_say_what_the_encoder_reads(photos: ti.ConceptImages) -> None:
    model = made("Z-Image")
    samples = ti.drawn_samples(model, photos, word="<new>", init="cat", vectors=2, batch=2)
    assert all(sample.tokens.count("<new> 1") == sample.tokens.count("<new> 2") == 1 for sample in samples)
    assert chr(FIRST) not in "".join(sample.prompt for sample in samples)


def test_the_page_s_example_of_a_row_is_a_row_and_took_the_lines_that_it_says() -> None:
    page, rows = today_table.PAGE.read_text(), inspect.getsource(rows_of_today)
    (example,) = re.findall(r"```python\n(Family\(.*?)\n```", page)
    assert eval(example, vars(rows_of_today)) == next(row for row in FAMILIES if row.name == "AuraFlow")
    assert f"    {example},\n" in rows
    for name, said in (("AuraFlow", r"AuraFlow took (\d+) lines? and (\d+) "), ("Krea 2", r" took (\d+) and (\d+)\.")):
        match = re.search(rf'    Family\(\s*"{name}".*?\n(?=    Family|\))', rows, re.DOTALL)
        counts = re.search(said, page.split("## A seventeenth family")[1])
        assert match is not None and counts is not None
        assert [int(n) for n in counts.groups()] == [len(block.splitlines()) for block in (match[0], source(name))]


def source(family: str) -> str:
    return inspect.getsource(TODAY[family])


def test_what_is_planned_is_reckoned_from_what_is_said() -> None:
    for name, release in RELEASES.items():
        if not release.networks:
            continue
        said = ti.needs(name)
        assert release.repository in said and "by arithmetic, not measured" in said, said
        assert ("gated, licence" in said) and ("not gated" in said) != release.gated
        weights, table = (sum(getattr(n, what) for n in release.networks) for what in ("billions", "table"))
        sizes = re.findall(r"([\d.]+) GB in (?:16|8) bit", said)
        assert [float(size) for size in sizes] == pytest.approx([2 * weights, weights + table], abs=0.06)
        for gpu, bits in planned(release).items():
            assert f"{gpu} ({GPUS[gpu]:g} GB): {bits}" in said
    assert planned(RELEASES["klein"]) == {"T4": "8 bit", "L4": "16 bit", "A100": "16 bit"}
    assert planned(RELEASES["qwen-image"])["T4"] == "too large"


def test_the_weights_of_a_pipeline_are_those_that_are_counted() -> None:
    """The classes' own networks in full size, on no device: as many billions as the row says."""
    config = {"dim": 3840, "n_layers": 30, "n_refiner_layers": 2, "n_heads": 30, "n_kv_heads": 30, "cap_feat_dim": 2560}
    qwen3 = {"hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36, "num_attention_heads": 32}
    with torch.device("meta"):
        network = diffusers.ZImageTransformer2DModel(**config)
        encoder = Qwen3Model(Qwen3Config(**qwen3, num_key_value_heads=8, head_dim=128, vocab_size=151936))
    counted = RELEASES["z-image"].networks
    for real, said in zip((network, encoder), counted):
        assert abs(sum(p.numel() for p in real.parameters()) / 1e9 - said.billions) < 0.02
    assert abs(encoder.get_input_embeddings().weight.numel() / 1e9 - counted[1].table) < 0.01


def test_the_page_of_models_has_the_table() -> None:
    page = today_table.PAGE.read_text()
    assert today_table.table() in page, "python -m tests.today_table"
    assert {row.name for row in FAMILIES if row.recipe} - set(TODAY) == {"FLUX.2 klein 9B"}  # as 4B, but wider
