"""What can't be trained is refused in one sentence, from a pipeline and from a folder; whatever else a user changed is no matter."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel, CLIPTextModelWithProjection

import ti_nb as ti
from ti_nb.host import turns
from ti_nb.models.model import TINY, ExtendedEmbedding

from .families import pipeline, text_config

pytestmark = pytest.mark.slow

WEIGHTS = "diffusion_pytorch_model.safetensors"


def scheduled(kind: str, **said: Any) -> Callable[[Any], None]:
    """The scheduler a user put in its place."""

    def change(pipe: Any) -> None:
        pipe.scheduler = getattr(diffusers, kind)(**said)

    return change


def swapped(kind: str) -> Callable[[Any], None]:
    """As diffusers' documentation swaps schedulers: what the new one does not know is kept in its configuration."""

    def change(pipe: Any) -> None:
        pipe.scheduler = getattr(diffusers, kind).from_config(pipe.scheduler.config)

    return change


def config(part: str, **said: Any) -> Callable[[Any], None]:
    return lambda pipe: getattr(pipe, part).register_to_config(**said)


def put(part: str, value: Any) -> Callable[[Any], None]:
    return lambda pipe: setattr(pipe, part, value() if callable(value) else value)


def offloaded(pipe: Any) -> None:
    from accelerate import cpu_offload

    cpu_offload(pipe.unet, execution_device="cpu")


def damaged(pipe: Any) -> None:
    torch.nn.init.constant_(pipe.text_encoder.get_input_embeddings().weight[3:4], float("nan"))


def quantised(pipe: Any) -> None:
    pipe.text_encoder = torch.ao.quantization.quantize_dynamic(pipe.text_encoder, {torch.nn.Linear})


def bert() -> BertModel:
    return BertModel(
        BertConfig(vocab_size=10, hidden_size=64, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64)
    )


def tiny_vae() -> diffusers.AutoencoderTiny:
    few = {"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8)}
    return diffusers.AutoencoderTiny(**few, num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1))


REFUSED = {
    "sample": (scheduled("DDIMScheduler", prediction_type="sample"), "prediction_type is 'sample'"),
    "EDM": (scheduled("EDMEulerScheduler"), "has no betas"),
    "flow": (scheduled("FlowMatchEulerDiscreteScheduler"), "has no betas"),
    "swapped for flow": (swapped("FlowMatchEulerDiscreteScheduler"), "has no betas"),
    "swapped for EDM": (swapped("EDMEulerScheduler"), "has no betas"),
    "flow sigmas": (scheduled("UniPCMultistepScheduler", use_flow_sigmas=True), "continuous time"),
    "continuous": (scheduled("EulerDiscreteScheduler", timestep_type="continuous"), "continuous time"),
    "shifted": (scheduled("CogVideoXDDIMScheduler"), "another noise schedule"),
    "inpainting": (config("unet", in_channels=9), "9 channels, an inpainting model: use its text-to-image base"),
    "edits": (config("unet", in_channels=8), "8 channels"),
    "depth": (config("unet", in_channels=5), "5 channels"),
    "upscaler": (config("unet", in_channels=7), "7 channels"),
    "other latents": (config("vae", latent_channels=16), "don't belong together"),
    "other width": (config("unet", cross_attention_dim=768), "don't belong together"),
    "consistency": (config("unet", time_cond_proj_dim=256), "distilled"),
    "adapter": (config("unet", encoder_hid_dim_type="ip_image_proj"), "unload_ip_adapter"),
    "class": (config("unet", class_embed_type="timestep"), "more than a prompt"),
    "two sizes": (config("unet", sample_size=[8, 12]), "square"),
    "no size": (config("unet", sample_size=None), "square"),
    "FreeU": (lambda pipe: pipe.enable_freeu(0.9, 0.2, 1.1, 1.2), "disable_freeu"),
    "offloaded": (offloaded, "offloading"),
    "meta": (lambda pipe: pipe.unet.to("meta"), "without .* weights"),
    "int8": (quantised, "quantised"),
    "float8": (lambda pipe: pipe.unet.to(torch.float8_e4m3fn), "quantised"),
    "damaged": (damaged, "not finite"),
    "BERT": (put("text_encoder", bert), "BertModel"),
    "projected": (put("text_encoder", lambda: CLIPTextModelWithProjection(text_config(64))), "WithProjection"),
    "tiny VAE": (put("vae", tiny_vae), "AutoencoderTiny"),
    "long tokenizer": (lambda pipe: setattr(pipe.tokenizer, "model_max_length", 10**30), "model_max_length"),
    "more tokens": (lambda pipe: pipe.tokenizer.add_tokens([f"<w{i}>" for i in range(9)]), "don't belong together"),
    **{
        f"no {part}": (put(part, None), f"has no {part}")
        for part in ("text_encoder", "vae", "unet", "tokenizer", "scheduler")
    },
}


@pytest.mark.parametrize("what", list(REFUSED))
def test_a_pipeline_that_can_t_be_trained_is_refused(what: str) -> None:
    change, reason = REFUSED[what]
    pipe = pipeline("sd1")
    change(pipe)
    with pytest.raises(ValueError, match=reason):
        ti.from_pipeline(pipe)


@pytest.mark.parametrize("thing", [None, "tiny", 3, object()])
def test_what_is_no_pipeline_is_refused(thing: Any) -> None:
    with pytest.raises(ValueError, match="supported today"):
        ti.from_pipeline(thing)


def test_sdxl_s_refiner_is_refused_by_name() -> None:
    pipe = pipeline("sdxl")
    pipe.text_encoder = pipe.tokenizer = None
    with pytest.raises(ValueError, match="refiner"):
        ti.from_pipeline(pipe)


@pytest.mark.parametrize(
    "kind",
    ["LCMScheduler", "HeunDiscreteScheduler", "EulerDiscreteScheduler", "PNDMScheduler", "DPMSolverMultistepScheduler"],
)
def test_a_scheduler_s_own_noise_schedule_is_kept(kind: str) -> None:
    """`from_config` puts DDPM's defaults in place of those of the scheduler's class."""
    for change in (scheduled(kind), swapped(kind)):
        pipe = pipeline("sd1")
        change(pipe)
        model = ti.from_pipeline(pipe)
        torch.testing.assert_close(model.scheduler.alphas_cumprod, pipe.scheduler.alphas_cumprod)
        assert model.pipeline().scheduler.config.clip_sample is False


@pytest.mark.parametrize("change", ["enable_attention_slicing", "fuse_qkv_projections"])
@pytest.mark.parametrize("after", [False, True])
def test_the_user_s_attention_does_not_matter(photos: ti.ConceptImages, change: str, after: bool) -> None:
    pipe = pipeline("sd1")
    pipe.unet.register_to_config(sample_size=40)  # above 32, as every published model's
    if not after:
        getattr(pipe, change)()
    model = ti.from_pipeline(pipe)
    if after:
        getattr(pipe, change)()
    assert next(ti.train(model, photos, word="<new>", init="animal", steps=1, batch=1, watch=0)).step == 1


def test_a_compiled_part_is_trained_as_it_is(photos: ti.ConceptImages) -> None:
    pipe = pipeline("sd1")
    unet, pipe.unet = pipe.unet, torch.compile(pipe.unet)
    assert ti.from_pipeline(pipe).unet is unet


# -- folders ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(TINY, tmp_path / "model", ignore=shutil.ignore_patterns("judge", "pictures")))


def without(part: str, file: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        held = load_file(folder / part / file)
        held.pop(sorted(held)[3])
        save_file(held, folder / part / file, {"format": "pt"})

    return change


def said(file: str, **more: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        facts = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps({**facts, **more}))

    return change


def renamed(suffix: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for path in list(folder.rglob("*.safetensors")):
            path.rename(path.with_name(path.stem + suffix))

    return change


def cut(folder: Path) -> None:
    path = folder / "vae" / WEIGHTS
    path.write_bytes(path.read_bytes()[:5000])


DAMAGED = {
    "no weights": (lambda folder: (folder / "unet" / WEIGHTS).unlink(), "unet has no weights"),
    "a part missing": (lambda folder: shutil.rmtree(folder / "vae"), "nothing of its vae"),
    "cut": (cut, "damaged"),
    "pointer": (
        lambda folder: (folder / "unet" / WEIGHTS).write_text("version https://git-lfs.github.com/spec/v1\n"),
        "git-lfs",
    ),
    "lacks of unet": (without("unet", WEIGHTS), "without .* weights"),
    "lacks of text encoder": (without("text_encoder", "model.safetensors"), "lacks 1 of its weights"),
    "pickles": (renamed(".bin"), "is a pickle"),
    "half a shard": (renamed("-00001-of-00002.safetensors"), "not all"),
    "no vocabulary": (lambda folder: (folder / "tokenizer/tokenizer.json").unlink(), "vocabulary missing"),
    "index": (lambda folder: (folder / "model_index.json").write_text("{"), "can't be read"),
    "index of another kind": (lambda folder: (folder / "model_index.json").write_text("[]"), "no table"),
    "T5": (said("model_index.json", text_encoder=["transformers", "T5EncoderModel"]), "T5EncoderModel"),
    "transformer": (said("model_index.json", unet=["diffusers", "SD3Transformer2DModel"]), "SD3Transformer2DModel"),
    "own code": (said("model_index.json", unet=["os", "system"]), "code of its own"),
    "no unet": (said("model_index.json", unet=[None, None]), "has no unet"),
    "inpainting": (said("model_index.json", _class_name="StableDiffusionInpaintPipeline"), "Inpaint"),
    "prediction": (said("scheduler/scheduler_config.json", prediction_type="sample"), "'sample'"),
    "betas": (said("scheduler/scheduler_config.json", beta_start="x"), "damaged"),
}


@pytest.mark.parametrize("what", list(DAMAGED))
def test_a_folder_that_can_t_be_trained_is_refused(folder: Path, what: str) -> None:
    change, reason = DAMAGED[what]
    change(folder)
    with pytest.raises(ValueError, match=reason):
        ti.load_model(folder)


def test_a_folder_of_half_precision_files_only_is_loaded(folder: Path, model: ti.Model) -> None:
    renamed(".fp16.safetensors")(folder)
    loaded = ti.load_model(folder, dtype=torch.float32)
    assert torch.equal(loaded.encoders[0].table, model.encoders[0].table)


@pytest.mark.parametrize("name", ["models/dream.safetensors", "./dream.safetensors", "dream.safetensors", "dream.CKPT"])
@pytest.mark.parametrize("there", [True, False])
def test_a_checkpoint_s_name_is_a_file(name: str, there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    if there:
        Path(name).write_bytes(b"x")
    reason = "pickles" if name.endswith("CKPT") else "damaged" if there else "no such file"
    with pytest.raises(ValueError, match=reason):
        ti.load_model(name)


@pytest.mark.parametrize(
    "name", ["", " ", None, 3, ["tiny"], b"tiny", "a" * 5000, "x\0y", "no/such/model", "C:\\models\\x"]
)
def test_what_is_no_name_of_a_model_is_refused(name: Any) -> None:
    with pytest.raises(ValueError, match=r"no model|model_index"):
        ti.load_model(name)


@pytest.mark.parametrize(
    "given",
    [
        {"dtype": "float16"},
        {"dtype": torch.int8},
        {"dtype": 16},
        {"device": "gpu"},
        {"device": "meta"},
        {"device": 3.5},
    ],
)
def test_devices_and_precisions_that_can_t_be_used_are_refused(given: dict) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(given))} is"):
        ti.load_model("tiny", **given)


# -- what a model does ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zeros", [True, False])
def test_without_a_negative_prompt_sdxl_is_told_what_its_pipeline_tells_it(zeros: bool) -> None:
    pipe = pipeline("sdxl")
    pipe.register_to_config(force_zeros_for_empty_prompt=zeros)
    model = ti.from_pipeline(pipe)
    ours = ti.sample(model, "a cat", seeds=[3], steps=3, guidance=4.0, progress=False)[0].image
    theirs = model.pipeline()(
        "a cat", num_inference_steps=3, guidance_scale=4.0, generator=torch.Generator().manual_seed(3)
    ).images[0]
    assert np.abs(np.asarray(ours, int) - np.asarray(theirs, int)).max() <= 1
    told = ti.encode(model, [""])
    other = model.pipeline()(
        "a cat",
        negative_prompt_embeds=told.states * (not zeros),
        negative_pooled_prompt_embeds=told.pooled * (not zeros),
        num_inference_steps=3,
        guidance_scale=4.0,
        generator=torch.Generator().manual_seed(3),
    ).images[0]
    assert np.abs(np.asarray(ours, int) - np.asarray(other, int)).max() <= 1


def test_a_fresh_pipeline_has_no_word_that_is_being_trained(model: ti.Model) -> None:
    """Neither one that an interrupt left in the encoder, nor one of a thread whose turn it is."""
    network, plain = model.text_encoder, model.text_encoder.get_input_embeddings()
    rows = torch.nn.Parameter(torch.randn(1, model.encoders[0].width)) * 2  # not a leaf: it can't be copied
    network.set_input_embeddings(ExtendedEmbedding(plain, rows))
    try:
        copied = model.fresh_pipeline().text_encoder.get_input_embeddings()
    finally:
        network.set_input_embeddings(plain)
    assert type(copied) is type(plain) and torch.equal(copied.weight, plain.weight)


def test_a_fresh_pipeline_waits_for_its_turn(model: ti.Model) -> None:
    import threading

    made = threading.Event()
    with turns.turn:
        thread = threading.Thread(target=lambda: (model.fresh_pipeline(), made.set()), daemon=True)
        thread.start()
        thread.join(0.2)
        assert not made.is_set()
    thread.join()
    assert made.is_set()


def test_concepts_and_models_can_be_compared_and_kept_in_sets(model: ti.Model) -> None:
    one, same = (ti.initial_concept(model, "<new>", "animal", 2) for _ in range(2))
    other = ti.Concept("<new>", {"clip_l": one.vectors["clip_l"] + 1}, one.facts)
    shorter = ti.initial_concept(model, "<new>", "animal", 1)
    assert one == same and hash(one) == hash(same) and len({one, same, other, shorter}) == 3
    assert one != other and one != shorter and one != "<new>" and one != ti.rename(one, "<other>")
    told = ti.encode(model, ["a cat"])
    assert (told == told) is True and (told == ti.encode(model, ["a dog"])) is False
    assert model in {model} and model.encoders[0] in {model.encoders[0]}


def test_needs_promises_half_precision_only_where_it_is_fetched() -> None:
    from ti_nb.models.families import RELEASES

    assert [name for name in RELEASES if "in half precision" in ti.needs(name)] == ["sd15", "sdxl"]
