"""What people ask for most: layers left out, long prompts, other shapes, models of one file. Each equal to diffusers' own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

import ti_nb as ti
from ti_nb.models.checks.single_file import family_of_file
from ti_nb.models.conditioning import token_ids
from ti_nb.models.denoise import cache_latents, predict

from .families import pipeline
from .single_files import write

pytestmark = pytest.mark.slow
LONG = "a photo of a {}, " + ", ".join(["a red cat in the snow"] * 24)  # about 150 tokens
WIDE = (16, 24)  # of a model of 16 x 16


def made(kind: str, **how: Any) -> ti.Model:
    return ti.from_pipeline(pipeline(kind), name=kind, **how)


def learned(model: ti.Model, photos: ti.ConceptImages, **how: Any) -> ti.Concept:
    run = ti.train(model, photos, **{"word": "<new>", "init": "cat", "steps": 2, "batch": 2, "watch": 0, **how})
    list(run)
    return run.concept()


def same(one: Any, other: Any) -> bool:
    return bool(np.array_equal(np.asarray(one), np.asarray(other)))


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_layers_that_are_left_out_are_those_that_diffusers_leaves_out(
    kind: str, photos: ti.ConceptImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, pipe = made(kind, clip_skip=1), made(kind).pipeline()
    clip = type(pipe.text_encoder)
    if not hasattr(
        pipe.text_encoder, "text_model"
    ):  # where diffusers looks for its last norm, as transformers 4 had it
        monkeypatch.setattr(clip, "text_model", property(lambda self: self), raising=False)
    call = {"num_inference_steps": 2, "guidance_scale": 3.0, "height": 16, "width": 16}
    theirs, usual = (
        pipe("a cat in the snow", clip_skip=skip, generator=torch.Generator().manual_seed(3), **call).images[0]
        for skip in (1, None)
    )
    ours = ti.sample(model, "a cat in the snow", seeds=[3], steps=2, guidance=3.0, progress=False)[0].image
    assert same(ours, theirs) and not same(ours, usual)
    assert torch.equal(ti.encode(model, ["a cat"]).states, pipe.encode_prompt("a cat", clip_skip=1, **device(kind))[0])
    assert learned(model, photos).facts["clip_skip"] == 1
    with pytest.raises(ValueError, match="clip_skip is 2: its text encoders have 2 layers, give 0 to 1"):
        made(kind, clip_skip=2)


def device(kind: str) -> dict[str, Any]:
    both: dict[str, Any] = {"device": "cpu", "num_images_per_prompt": 1, "do_classifier_free_guidance": False}
    return both


def chunked(model: ti.Model, prompt: str) -> tuple[torch.Tensor, torch.Tensor | None]:
    """A prompt's states, chunk by chunk and encoder by encoder, and the pooled text of the first chunk."""
    states, pooled = [], None
    for encoder in model.encoders:
        tokenizer = encoder.tokenizer
        ids = tokenizer(prompt, add_special_tokens=False).input_ids
        parts = []
        for at in range(0, len(ids), 75):
            chunk = ids[at : at + 75]
            row = [tokenizer.bos_token_id, *chunk, tokenizer.eos_token_id]
            out = encoder.network(
                torch.tensor([row + [tokenizer.pad_token_id] * (77 - len(row))]), output_hidden_states=True
            )
            parts.append(out.hidden_states[-2] if model.is_xl else out.last_hidden_state)
            pooled = out[0] if model.is_xl and at == 0 else pooled
        states.append(torch.cat(parts, 1))
    return torch.cat(states, -1), pooled


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_a_long_prompt_is_encoded_in_chunks(kind: str) -> None:
    model = made(kind)
    prompt = LONG.format("cat")
    with torch.no_grad():
        states, pooled = chunked(model, prompt)
    ours = ti.encode(model, [prompt, "a cat"])
    assert ours.states.shape[1] == 77 * 3
    torch.testing.assert_close(ours.states[:1], states)
    torch.testing.assert_close(ours.states[1:, :77], ti.encode(model, ["a cat"]).states)
    torch.testing.assert_close(ours.states[1:, 77:154], ti.encode(model, [""]).states)
    if pooled is not None and ours.pooled is not None:
        torch.testing.assert_close(ours.pooled[:1], pooled)


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_a_long_caption_trains_and_draws_what_diffusers_draws(kind: str, photos: ti.ConceptImages) -> None:
    model = made(kind)
    captioned = ti.load_images(photos.images, captions=[LONG, "", *[LONG] * 3])
    word = learned(model, captioned, batch=5, rate=5.0)
    assert not torch.equal(word.vectors["clip_l"], ti.initial_concept(model, "<new>", "cat").vectors["clip_l"])
    prompt = LONG.format("<new>")
    ours = ti.sample(model, [prompt, "a <new>"], word, seeds=[3], steps=2, guidance=1.0, progress=False)
    told = ti.encode(model, [prompt], [word])
    extra = {} if told.pooled is None else {"pooled_prompt_embeds": told.pooled}
    theirs = model.pipeline()(
        prompt_embeds=told.states,
        num_inference_steps=2,
        guidance_scale=1.0,
        generator=torch.Generator().manual_seed(3),
        width=16,
        height=16,
        **extra,
    ).images[0]
    assert same(ours[0].image, theirs)
    alone = ti.sample(model, "a <new>", word, seeds=[3], steps=2, guidance=1.0, progress=False)[0]
    assert same(ours[1].image, alone.image)  # no longer for the other prompt
    drawn = ti.drawn_samples(model, captioned, word="<new>", init="cat", batch=5)
    assert {len(sample.ids) > 77 for sample in drawn} == {True, False}
    assert all(sample.tokens.count("<new>") == 1 for sample in drawn)
    with pytest.raises(ValueError, match="more than 75 tokens can't go together"):
        next(ti.together(ti.train_seeds(model, captioned, seeds=2, word="<new>", init="cat")))
    with pytest.raises(ValueError, match="longer than 75 tokens"):
        ti.attention(model, photos, prompt, word)


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_other_shapes_are_learned_and_drawn_as_diffusers_draws_them(kind: str, photos: ti.ConceptImages) -> None:
    model, plain = made(kind, resolution=WIDE), made(kind)
    assert (model.size, model.latent_shape, plain.size) == (WIDE, (4, 12, 8), (16, 16))
    word = learned(model, photos)
    assert word.facts["resolution"] == "16 x 24" and plain.used_as == {}
    ours = ti.sample(model, "a {word}", word, seeds=[3], steps=2, guidance=3.0, progress=False)[0].image
    pipe = plain.fresh_pipeline()
    ti.load_into(pipe, word)
    call = {"num_inference_steps": 2, "guidance_scale": 3.0, "width": 16, "height": 24}
    theirs = pipe("a <new>", generator=torch.Generator().manual_seed(3), **call).images[0]
    assert ours.size == WIDE and same(ours, theirs)
    assert ti.attention(model, photos, "a cat").maps.shape[-2:] == (6, 4)
    if kind == "sdxl":
        ids = pipe._get_add_time_ids((24, 16), (0, 0), (24, 16), torch.float32, 32)
        assert torch.equal(model.time_ids().float(), ids)
    for wrong, match in (((16, 25), "multiples of 2"), (0, "multiples of 2"), ("wide", "give"), ((16, 24, 2), "give")):
        with pytest.raises(ValueError, match=f"resolution is .*{match}"):
            made(kind, resolution=wrong)


def test_pictures_are_cropped_to_the_shape_in_the_middle(photos: ti.ConceptImages) -> None:
    whole, cut = photos.pixels(64), photos.pixels((32, 64))
    assert cut.shape == (5, 3, 64, 32)
    assert torch.equal(cut, whole[..., 16:48])
    masks = [picture.convert("L") for picture in photos.images]
    masked = ti.load_images(photos.images, masks=masks)
    kept = masked.mask_pixels((32, 64))
    assert kept is not None and torch.equal(kept, masked.mask_pixels(64)[..., 16:48])  # type: ignore[index]


def test_a_run_of_another_shape_or_other_layers_is_another_run(photos: ti.ConceptImages, tmp_path: Path) -> None:
    how = {"word": "<new>", "init": "cat", "steps": 2, "watch": 0, "out": tmp_path / "run"}
    run = ti.train(made("sd1", resolution=WIDE), photos, **how)
    list(run)
    assert len(ti.train(made("sd1", resolution=WIDE), photos, **how).records) == 2
    with pytest.raises(ValueError, match="resolution: '16 x 24' in the folder, None requested"):
        ti.train(made("sd1"), photos, **how)
    with pytest.raises(ValueError, match=r"clip_skip: None in the folder, 1 requested"):
        ti.train(made("sd1", resolution=WIDE, clip_skip=1), photos, **how)


def test_the_plan_counts_the_shape() -> None:
    from ti_nb.models.denoise import activation_bytes

    square, wide = (activation_bytes(made("sd1", resolution=size), False) for size in (16, (16, 32)))
    assert 1.5 * square < wide < 2.5 * square


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_a_file_trains_and_what_it_learned_loads_in_diffusers(
    kind: str, photos: ti.ConceptImages, tmp_path: Path
) -> None:
    pipe = pipeline(kind)
    pipe.save_pretrained(tmp_path / "config")
    for weights in (tmp_path / "config").rglob("*.safetensors"):
        weights.unlink()  # only the small files are needed
    path = write(pipe, tmp_path / "my-model.safetensors")
    model = ti.load_model(path, config=tmp_path / "config", dtype=torch.float32)
    for one, other in ((pipe.unet, model.unet), (pipe.vae, model.vae), (pipe.text_encoder, model.text_encoder)):
        assert all(torch.equal(one.state_dict()[key], value) for key, value in other.state_dict().items())
    assert model.shared_name == "my-model.safetensors"
    word = learned(model, photos)
    again = ti.load(ti.save(word, tmp_path / "new.safetensors"))
    theirs = type(pipe).from_single_file(str(path), config=str(tmp_path / "config"))
    assert isinstance(
        theirs, diffusers.StableDiffusionXLPipeline if kind == "sdxl" else diffusers.StableDiffusionPipeline
    )
    ti.load_into(theirs, again)
    for module in theirs.components.get("text_encoder_2", torch.nn.Module()).modules():
        if hasattr(module, "eos_token_id"):  # else its pooled text is that of the highest id, the word's
            module.eos_token_id = theirs.tokenizer_2.eos_token_id
    theirs.scheduler = diffusers.DDIMScheduler.from_config(model.scheduler.config)
    call = {"num_inference_steps": 2, "guidance_scale": 1.0, "width": 16, "height": 16}
    drawn = theirs("a <new>", generator=torch.Generator().manual_seed(3), **call).images[0]
    assert same(ti.sample(model, "a <new>", again, seeds=[3], steps=2, guidance=1.0, progress=False)[0].image, drawn)


def test_a_file_that_says_so_predicts_the_velocity(tmp_path: Path) -> None:
    pipe = pipeline("sdxl")
    pipe.save_pretrained(tmp_path / "config")
    path = write(pipe, tmp_path / "v.safetensors", v_pred=torch.zeros(0), ztsnr=torch.zeros(0))
    model = ti.load_model(path, config=tmp_path / "config", dtype=torch.float32)
    assert model.prediction_type == "v_prediction" and float(model.scheduler.alphas_cumprod[-1]) == 0


def test_files_that_hold_no_whole_model_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors.torch import load_file, save_file

    whole = load_file(write(pipeline("sd1"), tmp_path / "whole.safetensors"))
    first = "model.diffusion_model.input_blocks.0.0.weight"
    files = {
        "word": ({"emb_params": torch.zeros(1, 64)}, "has no UNet of SD 1.x, 2.x or SDXL. A word is loaded by ti.load"),
        "alone": ({first: whole[first]}, "has no text encoder"),
        "inpaint": ({**whole, first: torch.zeros(32, 9, 3, 3)}, "takes 9 channels, an inpainting model"),
    }
    for name, (tensors, match) in files.items():
        save_file(tensors, tmp_path / f"{name}.safetensors")
        with pytest.raises(ValueError, match=match):
            ti.load_model(tmp_path / f"{name}.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "whole.safetensors").read_bytes()[:1000])
    with pytest.raises(ValueError, match="is damaged"):
        ti.load_model(tmp_path / "cut.safetensors")
    assert family_of_file(tmp_path / "whole.safetensors")[0].name == "SD 1.x"
    with pytest.raises(ValueError, match="no such file"):
        ti.load_model(tmp_path / "none.safetensors")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(OSError, match=r"small files .* are not on this machine .*config="):
        ti.load_model(tmp_path / "whole.safetensors")


def test_today_s_models_take_other_shapes_and_leave_layers_out_where_their_call_does() -> None:
    from .today import pipeline as today

    pipe, arguments = today("SD 3")
    model = ti.from_pipeline(pipe, arguments=arguments, resolution=(16, 32), clip_skip=1)
    assert model.latent_shape == (4, 16, 8)
    assert ti.sample(model, "a cat", seeds=1, steps=1, progress=False)[0].image.size == (16, 32)
    ids, rows = token_ids(model, ["a cat"], {}), {e.key: e.table[:1] for e in model.encoders}
    told = model.condition(ids, rows).arguments["encoder_hidden_states"]  # type: ignore[attr-defined]
    theirs = pipe.encode_prompt(
        "a cat", None, None, clip_skip=1, do_classifier_free_guidance=False, max_sequence_length=64
    )
    assert torch.equal(told, theirs[0])
    pipe, arguments = today("Z-Image")
    with pytest.raises(ValueError, match="Z-Image leaves out no layers"):
        ti.from_pipeline(pipe, arguments=arguments, clip_skip=1)


def test_the_network_sees_what_is_asked_for(photos: ti.ConceptImages) -> None:
    """Latents of the shape, in and out, with float32 predictions."""
    model = made("sdxl", resolution=WIDE)
    mean, std = cache_latents(model, photos.pixels(model.size))
    assert mean.shape == std.shape == (5, 4, 12, 8)
    with torch.no_grad():
        assert predict(model, mean[:1], torch.tensor([5]), ti.encode(model, ["a cat"])).shape == (1, 4, 12, 8)
