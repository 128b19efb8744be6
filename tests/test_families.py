"""SD 1.x, SD 2.x and SDXL: each learns, and what it learned is what diffusers then draws with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import ti_nb as ti
from ti_nb.models.conditioning import condition, token_ids
from ti_nb.models.denoise import predict
from ti_nb.training.losses import word_loss

from .families import pipeline

pytestmark = pytest.mark.slow
FAMILIES = {"sd1": ["clip_l"], "sd2": ["clip_h"], "sdxl": ["clip_l", "clip_g"]}


@pytest.fixture(scope="module", params=list(FAMILIES))
def family(request: pytest.FixtureRequest) -> tuple[str, ti.Model]:
    return request.param, ti.from_pipeline(pipeline(request.param), name=request.param)


def test_a_word_learns_on_every_family(family: tuple[str, ti.Model], photos: ti.ConceptImages) -> None:
    """Its loss on noise it was not trained with falls below the initializer's."""
    name, model = family
    assert [e.key for e in model.encoders] == FAMILIES[name]
    assert (model.device, model.dtype) == (model.unet.device, model.unet.dtype)
    run = ti.train(model, photos, word="<new>", init="animal", steps=6, batch=4, rate=2.0, norm="free", watch=6)
    held = run._draws.fixed(16)
    with torch.no_grad():
        before = word_loss(model, run.start.vectors, held).mean()
        list(run)
        after = word_loss(model, run.concept().vectors, held).mean()
    assert after < before
    assert run.records[-1].gain is not None and run.records[-1].gain > 0
    moved = {key: float((v - run.start.vectors[key]).norm()) for key, v in run.concept().vectors.items()}
    assert list(moved) == FAMILIES[name] and min(moved.values()) > 0.01


def test_a_saved_word_draws_in_diffusers_what_it_draws_here(family: tuple[str, ti.Model], tmp_path: Path) -> None:
    _, model = family
    start = ti.initial_concept(model, "<new>", "penguin", 2)
    word = ti.Concept("<new>", {k: v + 0.02 * torch.randn_like(v) for k, v in start.vectors.items()})
    again = ti.load(ti.save(word, tmp_path / "new.safetensors"))
    assert again.word == "<new>" and all(torch.equal(again.vectors[k], v) for k, v in word.vectors.items())
    prompt = "a photo of a <new> on the beach"
    ours = ti.sample(model, prompt, word, seeds=[3], steps=3, guidance=4.0, negative="a cat", progress=False)[0].image
    pipe = model.fresh_pipeline()
    ti.load_into(pipe, again)
    generator = torch.Generator().manual_seed(3)
    theirs = pipe(
        prompt, negative_prompt="a cat", num_inference_steps=3, guidance_scale=4.0, generator=generator
    ).images[0]
    assert np.abs(np.asarray(ours, int) - np.asarray(theirs, int)).max() <= 1


def test_an_sdxl_file_has_the_two_keys_other_tools_read(tmp_path: Path) -> None:
    """And the plain call in diffusers' documentation loads each half into its own encoder."""
    model = ti.from_pipeline(pipeline("sdxl"))
    word = ti.initial_concept(model, "<new>", "penguin", 2)
    state = load_file(ti.save(word, tmp_path / "new.safetensors"))
    assert sorted(state) == ["clip_g", "clip_l"]
    pipe = model.fresh_pipeline()
    pipe.load_textual_inversion(
        state["clip_l"], token=["<a>", "<b>"], text_encoder=pipe.text_encoder, tokenizer=pipe.tokenizer
    )
    pipe.load_textual_inversion(
        state["clip_g"], token=["<a>", "<b>"], text_encoder=pipe.text_encoder_2, tokenizer=pipe.tokenizer_2
    )
    for encoder, tokenizer, key in (
        (pipe.text_encoder, pipe.tokenizer, "clip_l"),
        (pipe.text_encoder_2, pipe.tokenizer_2, "clip_g"),
    ):
        ids = tokenizer.convert_tokens_to_ids(["<a>", "<b>"])
        assert torch.equal(encoder.get_input_embeddings().weight[ids], word.vectors[key])


def test_pooled_text_is_the_end_tokens_with_new_words_too() -> None:
    """Published configurations make transformers pool at the highest id, which a new word's is."""
    pipe = pipeline("sdxl")
    encoder, tokens = pipe.text_encoder_2, pipe.tokenizer_2("a photo of a penguin", padding="max_length")
    known = encoder(torch.tensor([tokens.input_ids])).text_embeds
    model = ti.from_pipeline(pipe)
    torch.testing.assert_close(ti.encode(model, ["a photo of a penguin"]).pooled, known)
    start = ti.initial_concept(model, "<new>", "penguin")
    as_word = condition(model, token_ids(model, ["a photo of a <new>"], {"<new>": 1}), start.vectors)
    torch.testing.assert_close(as_word.pooled, known)


def test_sdxl_conditioning_is_diffusers_own() -> None:
    model = ti.from_pipeline(pipeline("sdxl"))
    states, _, pooled, _ = model.pipeline().encode_prompt("a cat in the snow", do_classifier_free_guidance=False)
    ours = ti.encode(model, ["a cat in the snow"])
    torch.testing.assert_close(ours.states, states)
    torch.testing.assert_close(ours.pooled, pooled)
    ids = model.pipeline()._get_add_time_ids((16, 16), (0, 0), (16, 16), torch.float32, 32)
    assert torch.equal(model.time_ids().float(), ids)


def test_training_tells_sdxls_unet_what_its_pipeline_tells_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pooled text and sizes as diffusers' own call gives them, for the same prompt."""
    model = ti.from_pipeline(pipeline("sdxl"))
    told, forward = [], model.unet.forward

    def seen(sample: torch.Tensor, timesteps: torch.Tensor, states: torch.Tensor | None = None, **more: Any) -> Any:
        told.append({**more["added_cond_kwargs"], "states": more.get("encoder_hidden_states", states)})
        given = {"encoder_hidden_states": states} if states is not None else {}
        return forward(sample, timesteps, **given, **more)

    monkeypatch.setattr(model.unet, "forward", seen)
    model.pipeline()("a cat in the snow", num_inference_steps=1, guidance_scale=1.0, height=16, width=16)
    with torch.no_grad():
        predict(model, torch.zeros(1, 4, 8, 8), torch.tensor([5]), ti.encode(model, ["a cat in the snow"]))
    theirs, ours = told
    assert theirs["time_ids"].tolist() == [[16, 16, 0, 0, 16, 16]]
    assert torch.equal(ours["time_ids"], theirs["time_ids"])
    torch.testing.assert_close(ours["text_embeds"], theirs["text_embeds"])
    torch.testing.assert_close(ours["states"], theirs["states"])


def test_a_vae_that_overflows_in_half_encodes_in_float32(
    photos: ti.ConceptImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SDXL's: weights stay float16 afterwards, latents are those of float32 weights of the same values."""
    from ti_nb.models.denoise import _answers, cache_latents

    model = ti.from_pipeline(pipeline("sdxl"))
    model.vae.half()
    seen = []
    encode = model.vae.encode
    monkeypatch.setattr(model.vae, "encode", lambda x: (seen.append(x.dtype), encode(x))[1])
    mean, _ = cache_latents(model, photos.pixels(model.resolution))
    assert set(seen) == {torch.float32} and model.vae.dtype == torch.float16
    model.vae.float()
    _answers.clear()
    again, _ = cache_latents(model, photos.pixels(model.resolution))
    assert torch.equal(mean, again)


def test_latents_that_are_not_finite_are_refused(photos: ti.ConceptImages) -> None:
    model = ti.from_pipeline(pipeline("sd1"))
    torch.nn.init.constant_(model.vae.encoder.conv_in.weight, float("inf"))
    with pytest.raises(FloatingPointError, match="dtype=float32"):
        ti.train(model, photos, word="<new>", init="animal")


def test_a_concept_of_another_family_is_refused(photos: ti.ConceptImages) -> None:
    one, xl = ti.from_pipeline(pipeline("sd1")), ti.from_pipeline(pipeline("sdxl"))
    with pytest.raises(
        ValueError, match=r"vectors for clip_l of width 64.*needs clip_l of width 64, clip_g of width 96"
    ):
        ti.sample(xl, "a {word}", ti.initial_concept(one, "<new>", "penguin"))


@pytest.mark.parametrize("kind", ["StableDiffusionPipeline", "StableDiffusionXLPipeline"])
def test_saved_folders_load_as_what_they_are(tmp_path: Path, kind: str) -> None:
    pipeline("sdxl" if "XL" in kind else "sd2").save_pretrained(tmp_path)
    model = ti.load_model(tmp_path, dtype=torch.float32)
    assert type(model.pipeline()).__name__ == kind
    assert model.is_xl == ("XL" in kind)


def test_the_vae_waits_off_the_device_while_a_word_is_learned(
    photos: ti.ConceptImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ti_nb.models.denoise import cache_latents

    model, moves = ti.from_pipeline(pipeline("sd1")), []
    move = model.vae.to
    monkeypatch.setattr(model.vae, "to", lambda where: (moves.append(str(where)), move(where))[1])
    cache_latents(model, photos.pixels(model.resolution))
    assert moves == [*[str(model.device)] * len(photos), "cpu"]
    model.pipeline()
    assert moves[-1] == str(model.device)


def test_a_picture_is_encoded_once_by_a_vae_until_its_weights_change(photos: ti.ConceptImages) -> None:
    from ti_nb.models.denoise import cache_latents

    model, pixels, asked = ti.from_pipeline(pipeline("sd1")), photos.pixels(64), []
    model.vae.encoder.register_forward_hook(lambda *_: asked.append(1))
    first, _ = cache_latents(model, pixels)
    same, _ = cache_latents(model, pixels.flip(0)[:2])
    assert len(asked) == len(pixels) and torch.equal(same, first.flip(0)[:2])
    with torch.no_grad():
        model.vae.encoder.conv_in.weight.mul_(2)
    other, _ = cache_latents(model, pixels)
    assert len(asked) == 2 * len(pixels) and not torch.equal(other, first)
