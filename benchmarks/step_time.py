"""Our optimiser step against that of diffusers' textual inversion scripts: seconds, memory, bytes of a run's state.

`python -m benchmarks.step_time [networks]` measures `tiny`, and SD 1.5 and SDXL at full size with random weights, and
writes `step_time.md`. Each measurement runs in a process of its own, so that its peak memory is its own; the sides
take turns. Results are kept in `outputs/step_time.json`, so networks can be measured one at a time.

The other side is a rewrite of the loops of `examples/textual_inversion/textual_inversion.py` and `_sdxl.py` in
huggingface/diffusers (Apache-2.0, The HuggingFace Inc. team), on the same networks: it keeps what they compute for
each picture and step, in the same order, and leaves out command line, trackers, previews, saving and resuming.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count
from tqdm.auto import tqdm

import ti_nb as ti
from ti_nb.host import devices
from ti_nb.host.devices import default_dtype
from ti_nb.models import TINY
from ti_nb.models.denoise import activation_bytes
from ti_nb.pictures.concept_images import EXAMPLES
from ti_nb.training.losses import ROOM

ROOT = Path(__file__).parents[1]
RESULTS, TABLES = ROOT / "outputs/step_time.json", ROOT / "benchmarks/step_time.md"
WORD, INIT, THING = "<new>", "animal", "penguin"
VOCABULARY = 49408  # of CLIP's text encoders; tiny's has 3562
RATE = 5e-4  # of the READMEs, which scale it by the pictures per step (--scale_lr)

SIDES = {
    "ours": "ti_nb",
    "best": "diffusers, best flags",
    "readme": "diffusers, its README",
    "ours-compiled": "ti_nb, UNet compiled",
    "best-compiled": "diffusers, best flags, UNet compiled",
    "ours-float32": "ti_nb, float32",
    "plain": "diffusers, no flags",
}
NETWORKS = ("tiny", "sd15", "sdxl")
STEPS = {"cpu": {"tiny": 20, "sd15": 2, "sdxl": 1}, "gpu": {"tiny": 100, "sd15": 20, "sdxl": 10}}
ROUNDS = {"tiny": 3, "sd15": 2, "sdxl": 1}
SIZES = {"cpu": {"tiny": 64, "sd15": 512, "sdxl": 512}, "gpu": {"tiny": 64, "sd15": 512, "sdxl": 1024}}

# The published networks, from the configuration files of stable-diffusion-v1-5 and stable-diffusion-xl-base-1.0.
CROSS = ("CrossAttnDownBlock2D", "CrossAttnUpBlock2D")
SD15_UNET = {
    "block_out_channels": (320, 640, 1280, 1280),
    "down_block_types": (CROSS[0], CROSS[0], CROSS[0], "DownBlock2D"),
    "up_block_types": ("UpBlock2D", CROSS[1], CROSS[1], CROSS[1]),
    "attention_head_dim": 8,
    "cross_attention_dim": 768,
}
SDXL_UNET = {
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", CROSS[0], CROSS[0]),
    "up_block_types": (CROSS[1], CROSS[1], "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
CLIP_L = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
CLIP_G = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20}
VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
}


@dataclass(frozen=True)
class Shape:
    """The configurations of a network's UNet, text encoders (SDXL has two) and VAE."""

    unet: dict[str, Any]
    texts: tuple[dict[str, Any], ...]
    vae: dict[str, Any]
    scaling: float


SHAPES = {
    "sd15": Shape(SD15_UNET, ({**CLIP_L, "projection_dim": 768},), VAE, 0.18215),
    "sdxl": Shape(
        SDXL_UNET,
        ({**CLIP_L, "projection_dim": 768}, {**CLIP_G, "projection_dim": 1280, "hidden_act": "gelu"}),
        VAE,
        0.13025,
    ),
}
# The same classes, very small, for rehearsals on any CPU.
SMALL_TEXT = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
SMALL_TEXT["projection_dim"] = 32
SMALL_UNET = {
    "block_out_channels": (16, 32),
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "attention_head_dim": 2,
    "down_block_types": ("DownBlock2D", CROSS[0]),
    "up_block_types": (CROSS[1], "UpBlock2D"),
}
SMALL_XL = {"addition_embed_type": "text_time", "addition_time_embed_dim": 8, "use_linear_projection": True}
SMALL_VAE = {
    "block_out_channels": (8, 16),
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "layers_per_block": 1,
    "latent_channels": 4,
    "norm_num_groups": 8,
}
SHAPES["toy-sd15"] = Shape({**SMALL_UNET, "cross_attention_dim": 32}, (SMALL_TEXT,), SMALL_VAE, 0.18215)
SHAPES["toy-sdxl"] = Shape(
    {**SMALL_UNET, **SMALL_XL, "cross_attention_dim": 64, "projection_class_embeddings_input_dim": 6 * 8 + 32},
    (SMALL_TEXT, {**SMALL_TEXT, "hidden_act": "gelu"}),
    SMALL_VAE,
    0.13025,
)
SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "prediction_type": "epsilon"}


def pipeline_of(network: str, size: int, device: str, dtype: torch.dtype, text_dtype: torch.dtype) -> Any:
    """A network as a diffusers pipeline: UNet and VAE in `dtype`, text encoders in `text_dtype`."""
    import diffusers
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    unused = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    if network == "tiny":
        pipeline = diffusers.StableDiffusionPipeline.from_pretrained(TINY, use_safetensors=True, **unused)
        for part, part_dtype in ((pipeline.unet, dtype), (pipeline.vae, dtype), (pipeline.text_encoder, text_dtype)):
            torch.nn.Module.to(part, device, part_dtype)
        return pipeline
    shape = SHAPES[network]
    is_xl = len(shape.texts) == 2

    def text(kind: Any, config: dict[str, Any]) -> Any:
        common = {"vocab_size": VOCABULARY, "max_position_embeddings": 77, "eos_token_id": 2, "pad_token_id": 1}
        whole = CLIPTextConfig(**{"hidden_act": "quick_gelu", **config}, **common, bos_token_id=0)
        return _random_weights(lambda: kind(whole), device, text_dtype)

    parts = {
        "text_encoder": text(CLIPTextModel, shape.texts[0]),
        "tokenizer": _tokenizer(),
        "scheduler": diffusers.DDIMScheduler(**SCHEDULE, clip_sample=False, set_alpha_to_one=False, steps_offset=1),
    }
    if is_xl:
        parts["text_encoder_2"] = text(CLIPTextModelWithProjection, shape.texts[1])
        parts["tokenizer_2"] = _tokenizer()
    factor = 2 ** (len(shape.vae["block_out_channels"]) - 1)
    unet = {**shape.unet, "sample_size": size // factor}
    parts["unet"] = _random_weights(lambda: diffusers.UNet2DConditionModel(**unet), device, dtype)
    scale = {"scaling_factor": shape.scaling, "sample_size": size, "force_upcast": is_xl}
    parts["vae"] = _random_weights(lambda: diffusers.AutoencoderKL(**shape.vae, **scale), device, dtype)
    if is_xl:
        return diffusers.StableDiffusionXLPipeline(**parts, add_watermarker=False)
    return diffusers.StableDiffusionPipeline(**parts, **unused)


def _tokenizer() -> Any:
    """tiny's, with as many tokens as CLIP's has: a tokenizer without its vocabulary is refused."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(TINY / "tokenizer")
    tokenizer.add_tokens([f"<|unused{i}|>" for i in range(VOCABULARY - len(tokenizer))])
    return tokenizer


@torch.no_grad()
def _random_weights(make: Callable[[], torch.nn.Module], device: str, dtype: torch.dtype) -> Any:
    """The module of `make`, created in `dtype`, with uniform random weights that keep activations in range."""
    with torch.device("meta"):
        net = make()
    torch.nn.Module.to(net, dtype)  # diffusers' own `to` warns of parts to keep in float32; these have none
    torch.nn.Module.to_empty(net, device=device)
    for name, weight in net.named_parameters():
        if weight.ndim == 1:
            weight.fill_(1.0 if name.endswith("weight") else 0.0)
        else:
            bound = 0.03 if "embedding" in name and weight.ndim == 2 else weight[0].numel() ** -0.5
            weight.uniform_(-bound, bound)
    for name, values in net.named_buffers():
        if not name.endswith("position_ids"):
            raise ValueError(f"no values are known for buffer {name}")
        values.copy_(torch.arange(values.shape[-1]).expand_as(values))
    return net.eval()


@dataclass(frozen=True)
class Flags:
    """Arguments of diffusers' script: `--mixed_precision`, batch, accumulation, `--allow_tf32`."""

    precision: str
    batch: int
    accumulation: int
    tf32: bool = False


def flags_of(network: str, side: str, device: str, pictures: int) -> Flags:
    """The flags of a side, for `pictures` per step (4 in the READMEs); only SDXL's README asks for half precision."""
    half = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "no"}[default_dtype(device)]
    if side.startswith("best"):
        return Flags(half, pictures, 1, tf32=True)
    return Flags(half if side == "readme" and network.endswith("sdxl") else "no", 1, pictures)


class Pictures(torch.utils.data.Dataset):
    """The script's dataset: opens, resizes and maybe mirrors the picture and tokenises a template on each access."""

    def __init__(self, tokenizers: list[Any], placeholder: int, size: int) -> None:
        self.paths = sorted((EXAMPLES / THING / "pictures").iterdir())
        self.tokenizers, self.placeholder, self.size = tokenizers, placeholder, size

    def __len__(self) -> int:
        return 100 * len(self.paths)  # its --repeats

    def __getitem__(self, index: int) -> dict[str, Any]:
        picture = Image.open(self.paths[index % len(self.paths)]).convert("RGB")
        caption = random.choice(ti.OBJECT_TEMPLATES).format(WORD)
        ids = [
            t(
                caption, padding="max_length", truncation=True, max_length=t.model_max_length, return_tensors="pt"
            ).input_ids
            for t in self.tokenizers
        ]
        sizes = (picture.height, picture.width)
        picture = picture.resize((self.size, self.size), Image.Resampling.BICUBIC)
        if random.random() < 0.5:
            picture = ImageOps.mirror(picture)
        pixels = (np.asarray(picture) / 127.5 - 1.0).astype(np.float32)
        # The word's id in tiny's tokenizer becomes that of the row added to the encoder's table.
        ids = [torch.where(i[0] == len(t) - 1, self.placeholder, i[0]) for i, t in zip(ids, self.tokenizers)]
        return {"ids": ids, "original": sizes, "corner": (0, 0), "pixels": torch.from_numpy(pixels).permute(2, 0, 1)}


class Rival:
    """diffusers' script up to its loop; `step` does one optimiser step of the loop."""

    def __init__(self, pipeline: Any, flags: Flags, device: str, size: int) -> None:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState
        from diffusers import DDPMScheduler
        from diffusers.optimization import get_scheduler

        self.flags, self.size = flags, size
        AcceleratorState._reset_state()  # it would keep the first precision used in this process
        self.accelerator = Accelerator(
            gradient_accumulation_steps=flags.accumulation, mixed_precision=flags.precision, cpu=device == "cpu"
        )
        torch.backends.cuda.matmul.allow_tf32 = flags.tf32
        self.is_xl = hasattr(pipeline, "text_encoder_2")
        self.unet, self.vae = pipeline.unet.requires_grad_(False), pipeline.vae.requires_grad_(False)
        self.schedule = DDPMScheduler.from_config(pipeline.scheduler.config)
        encoders = [pipeline.text_encoder, *([pipeline.text_encoder_2] if self.is_xl else [])]
        tokenizers = [pipeline.tokenizer, *([pipeline.tokenizer_2] if self.is_xl else [])]
        for encoder, tokenizer in zip(encoders, tokenizers):
            self.placeholder = encoder.get_input_embeddings().num_embeddings
            init_id = tokenizer(INIT, add_special_tokens=False).input_ids[0]
            tokenizer.add_tokens(WORD)
            encoder.resize_token_embeddings(self.placeholder + 1, mean_resizing=False)
            encoder.get_input_embeddings().weight.data[self.placeholder] = encoder.get_input_embeddings().weight[
                init_id
            ]
            _freeze_all_but_tokens(encoder)
        optimizer = torch.optim.AdamW(
            [encoder.get_input_embeddings().weight for encoder in encoders],
            lr=RATE * flags.batch * flags.accumulation,
            betas=(0.9, 0.999),
            weight_decay=1e-2,
            eps=1e-8,
        )
        pictures = Pictures(tokenizers, self.placeholder, size)
        data = torch.utils.data.DataLoader(pictures, batch_size=flags.batch, shuffle=True)
        rates = get_scheduler("constant", optimizer=optimizer)
        *self.encoders, self.optimizer, self.data, self.rates = self.accelerator.prepare(
            *(encoder.train() for encoder in encoders), optimizer, data, rates
        )
        self.dtype = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[flags.precision]
        # SDXL's script casts the second encoder after giving its table to the optimiser: it trains that table in half precision.
        for part in (self.unet, self.vae, *self.encoders[1:]):
            torch.nn.Module.to(part, self.accelerator.device, self.dtype)
        self.original = [self._table(encoder).data.clone() for encoder in self.encoders]
        self._batches = self._forever()

    def step(self) -> float:
        """Do micro-steps until the optimiser has stepped; returns the last one's loss."""
        while True:
            loss = self._micro_step(next(self._batches))
            if self.accelerator.sync_gradients:
                return loss

    def _micro_step(self, batch: dict[str, Any]) -> float:
        with self.accelerator.accumulate(*self.encoders):
            latents = self.vae.encode(batch["pixels"].to(dtype=self.dtype)).latent_dist.sample().detach()
            latents = latents * self.vae.config.scaling_factor
            noise = torch.randn_like(latents)
            total = self.schedule.config.num_train_timesteps
            timesteps = torch.randint(0, total, (len(latents),), device=latents.device).long()
            noisy = self.schedule.add_noise(latents, noise, timesteps)
            states, added = self._condition(batch)
            predicted = self.unet(noisy, timesteps, states, **added).sample
            is_noise = self.schedule.config.prediction_type == "epsilon"
            target = noise if is_noise else self.schedule.get_velocity(latents, noise, timesteps)
            loss = torch.nn.functional.mse_loss(predicted.float(), target.float(), reduction="mean")
            self.accelerator.backward(loss)
            self.optimizer.step()
            self.rates.step()
            self.optimizer.zero_grad()
            for encoder, original in zip(self.encoders, self.original):  # in every micro-step, as in the script
                others = torch.ones(len(original), dtype=torch.bool)
                others[self.placeholder] = False
                with torch.no_grad():
                    self._table(encoder)[others] = original[others]
        return float(loss.detach().item())

    def _condition(self, batch: dict[str, Any]) -> tuple[torch.Tensor, dict[str, Any]]:
        if not self.is_xl:
            return self.encoders[0](batch["ids"][0])[0].to(dtype=self.dtype), {}
        outputs = [encoder(ids, output_hidden_states=True) for encoder, ids in zip(self.encoders, batch["ids"])]
        states = [out.hidden_states[-2].to(dtype=self.dtype) for out in outputs]
        sizes = [
            [batch[key][axis][i].item() for key in ("original", "corner") for axis in (0, 1)] + [self.size] * 2
            for i in range(self.flags.batch)
        ]
        # The script concatenates the rows into one vector; the UNet reshapes it to these six columns.
        time_ids = torch.tensor(sizes).to(self.accelerator.device, dtype=self.dtype)
        return torch.cat(states, dim=-1), {"added_cond_kwargs": {"text_embeds": outputs[1][0], "time_ids": time_ids}}

    def state_bytes(self) -> int:
        """Bytes of the tensors that `accelerator.save_state` writes: text encoders and the optimiser's moments."""
        tensors = [t for e in self.encoders for t in self.accelerator.unwrap_model(e).state_dict().values()]
        tensors += [t for state in self.optimizer.state_dict()["state"].values() for t in state.values()]
        return sum(t.numel() * t.element_size() for t in tensors if isinstance(t, torch.Tensor))

    def _table(self, encoder: Any) -> torch.nn.Parameter:
        table: torch.nn.Parameter = self.accelerator.unwrap_model(encoder).get_input_embeddings().weight
        return table

    def _forever(self) -> Iterator[dict[str, Any]]:
        while True:
            yield from self.data


def _freeze_all_but_tokens(encoder: Any) -> None:
    """Freeze what the script freezes, which is not the projection of SDXL's second encoder."""
    for name, weight in encoder.named_parameters():
        weight.requires_grad_("token_embedding" in name or name == "text_projection.weight")


@dataclass
class Measured:
    """The measurement of one side on one network.

    Attributes:
        precision, batch, accumulation: of a step. seconds: of each step.
        flops: of a step, counted. peak: FLOP/s of a large matrix product in the same precision.
        memory: peak bytes, on a GPU as allocated, else of the process. state: bytes of a run's state.
        before: seconds from the loaded network to the first step, in which ours encodes the pictures.
        note: what was changed from the defaults.
    """

    precision: str
    batch: int
    accumulation: int
    seconds: list[float]
    flops: int
    peak: float
    memory: int
    state: int
    before: float
    note: str = ""

    @property
    def pictures(self) -> int:
        """Pictures per step."""
        return self.batch * self.accumulation

    @property
    def number(self) -> str:
        """The dtype it computes in."""
        return self.precision.split()[0]


def measure(network: str, side: str, device: str, size: int, steps: int, pictures: int) -> Measured:
    """Measure one side on one network in this process: count the operations of one step, then time `steps` others."""
    if side.startswith("ours"):
        return _measure_ours(network, side, device, size, steps, pictures)
    return _measure_rival(network, side, device, size, steps, pictures)


def _measure_ours(network: str, side: str, device: str, size: int, steps: int, pictures: int) -> Measured:
    dtype = torch.float32 if side == "ours-float32" else default_dtype(device)
    peak = matmul_peak(device, dtype)
    if network == "tiny":
        model = ti.load_model("tiny", device=device, dtype=dtype)
    else:
        model = ti.from_pipeline(pipeline_of(network, size, device, dtype, dtype), name=network)
    note = _compile(model.unet, side, device)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        changes = {"batch": pictures, "watch": 0, "steps": max(150, steps + 2)}
        images = ti.example_images(THING)
        run = ti.train(model, images, word=WORD, init=INIT, out=folder, save_every=10**9, **changes)
        before, used = time.perf_counter() - began, peak_memory(device)
        seconds, flops = _timed(lambda: next(run), steps, device, warm=_warm(side, device))
        used = max(used, peak_memory(device))
        run.save()
        state = (Path(folder) / "state.safetensors").stat().st_size
    micro = run.plan.micro
    peak = max(peak, matmul_peak(device, dtype))
    name = str(dtype).removeprefix("torch.")
    note = ", ".join(filter(None, (note, "activations recomputed" if run.plan.checkpointing else "")))
    return Measured(name, micro, -(-pictures // micro), seconds, flops, peak, used, state, before, note)


def _measure_rival(network: str, side: str, device: str, size: int, steps: int, pictures: int) -> Measured:
    flags = flags_of(network, side, device, pictures)
    dtype = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[flags.precision]
    peak = matmul_peak(device, dtype)
    pipeline = pipeline_of(network, size, device, dtype, torch.float32)
    note = _compile(pipeline.unet, side, device)
    began = time.perf_counter()
    fits = _fits(network, pipeline, flags)
    if fits < flags.batch:
        note = ", ".join(filter(None, (note, f"{flags.batch} at once don't fit")))
        flags = Flags(flags.precision, fits, flags.batch * flags.accumulation // fits, flags.tf32)
    rival = Rival(pipeline, flags, device, size)
    before, used = time.perf_counter() - began, peak_memory(device)
    seconds, flops = _timed(rival.step, steps, device, warm=_warm(side, device))
    used, state = max(used, peak_memory(device)), rival.state_bytes()
    peak = max(peak, matmul_peak(device, dtype))
    name = str(dtype).removeprefix("torch.") + ("" if flags.precision == "no" else " mixed")
    return Measured(name, flags.batch, flags.accumulation, seconds, flops, peak, used, state, before, note)


def _fits(network: str, pipeline: Any, flags: Flags) -> int:
    """The largest divisor of the batch that fits in memory together with the optimiser.

    Raises:
        MemoryError: one picture does not fit.
    """
    encoders = [pipeline.text_encoder, *([pipeline.text_encoder_2] if network.endswith("sdxl") else [])]
    tables = sum(e.get_input_embeddings().weight.numel() * 4 * 4 for e in encoders)  # gradient, two moments, originals
    keys = [ti.TextEncoder(str(i), None, e) for i, e in enumerate(encoders)]
    model = ti.Model(network, tuple(keys), pipeline.unet, pipeline.vae, pipeline.scheduler)
    free = devices.free_memory(model.device)
    one = activation_bytes(model, False)
    if free is None:
        return flags.batch
    count = int((free * ROOM - tables) // one)
    if count < 1:
        raise MemoryError(f"one picture needs {(one + tables) / 2**30:.1f} GiB, {free / 2**30:.1f} are free")
    return max(n for n in range(1, flags.batch + 1) if flags.batch % n == 0 and n <= count)


def _compile(unet: Any, side: str, device: str) -> str:
    """Compile the UNet if the side says so, on a CPU without a real compiler; returns a note."""
    if not side.endswith("-compiled"):
        return ""
    unet.compile(backend="inductor" if device.startswith("cuda") else "eager")
    return "compiled"


def _warm(side: str, device: str) -> int:
    """Warm-up steps, besides the one whose operations are counted."""
    return 2 if device.startswith("cuda") or side.endswith("-compiled") else 0


def _timed(step: Callable[[], Any], steps: int, device: str, *, warm: int) -> tuple[list[float], int]:
    """Seconds of each of `steps` steps after `warm` others, and the operations of a first one.

    Operations are counted without torch.compile, whose kernels hide them.
    """
    aten = torch.ops.aten
    unknown = {  # torch counts only the attention kernels of GPUs
        aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *a, out_shape=None, **kw: sdpa_flop_count(
            q, k, v
        ),
        aten._scaled_dot_product_flash_attention_for_cpu_backward: lambda g, q, k, v, *a, out_shape=None, **kw: (
            sdpa_backward_flop_count(g, q, k, v)
        ),
    }
    counter = FlopCounterMode(display=False, custom_mapping=unknown)
    with torch.compiler.set_stance("force_eager"), counter:
        step()
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()  # a compiled step needs less memory than that one
    for _ in range(warm):
        step()
    seconds = []
    for _ in tqdm(range(steps), desc="steps", leave=False, position=1):
        _wait(device)
        began = time.perf_counter()
        step()
        _wait(device)
        seconds.append(time.perf_counter() - began)
    return seconds, counter.get_total_flops()


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def matmul_peak(device: str, dtype: torch.dtype, repeats: int = 6) -> float:
    """FLOP/s of a product of two large square matrices, the best of `repeats`."""
    side = 8192 if device.startswith("cuda") else 2048
    a, b = torch.randn(2, side, side, device=device).to(dtype)
    best = float("inf")
    for _ in range(repeats):
        _wait(device)
        began = time.perf_counter()
        a @ b
        _wait(device)
        best = min(best, time.perf_counter() - began)
    return 2 * side**3 / best


def peak_memory(device: str) -> int:
    """Peak bytes: allocated on a GPU, else in this process's memory."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated()
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024


def in_a_process(
    network: str, side: str, options: argparse.Namespace, size: int, steps: int, limit: float | None = None
) -> dict[str, Any]:
    """`measure` in a process of its own; {"failed": why} if it died or took more than `limit` seconds."""
    command = [sys.executable, "-m", "benchmarks.step_time", "--one", network, side, "--device", options.device]
    command += ["--size", str(size), "--steps", str(steps), "--pictures", str(options.pictures)]
    quiet = {**os.environ, "TRANSFORMERS_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    try:
        done = subprocess.run(command, cwd=ROOT, env=quiet, stdout=subprocess.PIPE, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return {"failed": f"stopped after {limit:.0f} s"}
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return json.loads(lines[-1]) if lines else {"failed": f"the process ended with {done.returncode}"}


def compare(network: str, options: argparse.Namespace) -> dict[str, Any]:
    """Measure all sides on a network, taking turns; each side's results are joined over the rounds."""
    kind = "cpu" if options.device == "cpu" else "gpu"
    size = SIZES[kind][network] if network == "tiny" else options.size or SIZES[kind][network]
    steps, rounds = options.steps or STEPS[kind][network], options.rounds or ROUNDS[network]
    skipped = {"readme": "--skip-readme"} if options.skip_readme else {}
    if not options.compile:
        skipped |= {"ours-compiled": "", "best-compiled": ""}
    if not options.float32:
        skipped |= {"ours-float32": "", "plain": ""}
    if network != "sdxl":
        skipped["plain"] = ""  # the same as "readme"
    sides = [side for side in SIDES if side not in skipped]
    rows: dict[str, Any] = {side: {"failed": f"not measured ({why})"} for side, why in skipped.items() if why}
    jobs = [(side, number) for number in range(rounds) for side in sides]
    for side, number in (bar := tqdm(jobs, desc=network)):
        bar.set_postfix_str(f"{side}, round {number + 1}")
        if number and "failed" in rows[side]:
            continue
        result = in_a_process(network, side, options, size, steps)
        if not number:
            rows[side] = result
        elif "failed" not in result:
            rows[side] = _joined(rows[side], result)
    return {"network": network, "size": size, "rounds": rounds, "steps": steps, **_facts(options.device), "rows": rows}


def _joined(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    """The seconds of both; of the other measurements, the larger."""
    larger = {key: max(a[key], b[key]) for key in ("peak", "memory", "before")}
    return {**a, **larger, "seconds": a["seconds"] + b["seconds"]}


def _facts(device: str) -> dict[str, str]:
    name = f"{platform.machine()} CPU, threads: {torch.get_num_threads()}"
    if device.startswith("cuda"):
        name = torch.cuda.get_device_name()
    return {"device": name if device.startswith(("cpu", "cuda")) else device, "torch": torch.__version__}


def table(results: dict[str, Any]) -> str:
    """A network's results as a Markdown section."""
    kind = "its own weights" if results["network"] == "tiny" else "full size, random weights"
    kind = "very small, random weights" if results["network"].startswith("toy") else kind
    lines = [
        f"## {results['network']}, {results['size']} px, {results['device']}",
        "",
        f"{kind}; torch {results['torch']}; {results['rounds']} x {results['steps']} steps, median.",
        "",
        "| | precision | batch x accumulation | s/step | s/picture | over ours | TFLOP/picture | floor/measured | "
        "peak memory | run state |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    rows = {side: row if "failed" in row else Measured(**row) for side, row in results["rows"].items()}
    ours = rows.get("ours")
    measured = [row for row in rows.values() if isinstance(row, Measured)]
    peaks = {name: max(r.peak for r in measured if r.number == name) for name in {r.number for r in measured}}
    for side in (s for s in SIDES if s in rows):
        row = rows[side]
        if not isinstance(row, Measured):
            lines.append(f"| {SIDES[side]} | {row['failed']} | | | | | | | | |")
            continue
        step = statistics.median(row.seconds)
        over = ""
        if isinstance(ours, Measured):
            over = f"{step / row.pictures / (statistics.median(ours.seconds) / ours.pictures):.2f}"
        share = row.flops / peaks[row.number] / step
        batches = f"{row.batch} x {row.accumulation}" + (f" ({row.note})" if row.note else "")
        lines.append(
            f"| {SIDES[side]} | {row.precision} | {batches} | {step:.3g} | {step / row.pictures:.3g} | {over} | "
            f"{row.flops / row.pictures / 1e12:.3g} | {share:.0%} | {in_bytes(row.memory)} | "
            f"{in_bytes(row.state)} |"
        )
    if isinstance(ours, Measured):
        lines += ["", f"Ours takes {ours.before:.2g} s before its first step, to encode the five pictures and to plan."]
    return "\n".join(lines)


def in_bytes(count: int) -> str:
    """A number of bytes, such as "1.5 GiB"."""
    for unit, size in (("GiB", 2**30), ("MiB", 2**20)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count / 2**10:.3g} KiB"


def write(results: dict[str, Any]) -> str:
    """Write `step_time.md` with all results so far; returns its tables."""
    order = sorted(results.values(), key=lambda r: (r["device"], NETWORKS.index(r["network"]), r["size"]))
    text = "\n\n".join(map(table, order))
    TABLES.write_text(PREFACE + text + "\n")
    return text


PREFACE = """# A step of ours and of diffusers' scripts

`python -m benchmarks.step_time`. The same networks on the same device, each side in a process of its own, by turns.
diffusers: a rewrite of the loops of its `textual_inversion.py` and `textual_inversion_sdxl.py`, with its data loading,
without trackers, previews and saving. "its README" has the flags its READMEs give (SD: none, batch 1 x accumulation 4;
SDXL: the same with half precision); "best flags" half precision where the device computes in it, TF32 and a batch of 4.
Ours: `ti.train` as it comes, in the model's default precision.

Over ours: seconds a picture, over those of the first row. TFLOP: floating point operations of matrix products,
convolutions and attention in forward and backward passes, counted while a step ran. Floor/measured: the time they
would take at the rate of a large matrix product in the same precision on this device (the best seen in any row), over
the time taken. Peak memory: on a GPU what was allocated, else the process's, weights included. Run state: what is
written to go on with a run; ours the size of `state.safetensors`, diffusers' the bytes of the tensors that
`accelerator.save_state` writes.

These rows are of CPUs with matrix tiles (AMX), where bfloat16 is fast. On one without, SD 1.5 at 512 px was 1.67 times as
fast as diffusers with its best flags and 1.52 times as with its README's, at more memory than the latter (11.8 against
7.75 GiB); and on tiny, at a batch of 4 without accumulation, the script's step was within 9 % of ours (its README's
1 x 4 took 2.2 times as long). Nothing was measured on a GPU yet: `python -m benchmarks.gpu`.

"""


def main() -> None:
    """Measure the given networks, or with `--one` one side on one network in this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=list(NETWORKS), metavar="network", help=", ".join(NETWORKS))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, help="processes for each side")
    parser.add_argument("--steps", type=int, help="steps timed in each, after one to warm up")
    parser.add_argument(
        "--size", type=int, help="side of sd15's and sdxl's pictures in px: 512, on a GPU 1024 for sdxl"
    )
    parser.add_argument("--pictures", type=int, default=4, help="pictures per step")
    parser.add_argument("--skip-readme", action="store_true", help="leave out diffusers with its README's flags")
    parser.add_argument("--float32", action="store_true", help="also ours in float32; for sdxl also diffusers'")
    parser.add_argument("--compile", action="store_true", help="also both with the UNet in torch.compile")
    parser.add_argument("--one", nargs=2, metavar=("NETWORK", "SIDE"), help="print one measurement as JSON")
    options = parser.parse_args()
    if options.one:
        network, side = options.one
        if network not in ("tiny", *SHAPES) or side not in SIDES:
            parser.error(f"--one: choose from tiny, {', '.join(SHAPES)}, and from {', '.join(SIDES)}")
        try:
            result = asdict(
                measure(network, side, options.device, options.size or 64, options.steps or 1, options.pictures)
            )
        except (RuntimeError, ValueError, MemoryError) as error:
            result = {"failed": f"{type(error).__name__}: {str(error).splitlines()[0]}"}
        print(json.dumps(result))
        return
    for network in options.networks:
        if network not in NETWORKS:
            parser.error(f"no network {network!r}: choose from {', '.join(NETWORKS)}")
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for network in options.networks:
        result = compare(network, options)
        results[f"{network}, {result['size']} px, {result['device']}"] = result
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        write(results)
    print(write(results))


if __name__ == "__main__":
    main()
