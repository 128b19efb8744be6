"""Pivotal tuning: the word first, then a LoRA around it (Roich et al. 2021; the paper, appendix A).

It is what people ask for when one word's likeness is not enough, and no longer textual inversion of a frozen model: what it makes
are changes to the UNet's weights, which are many times a word's size, work with that model only, and cost editability.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tqdm.auto import tqdm

from ..errors import InvalidValue, NotPossible, NotWritten
from ..host.arguments import checked
from ..host.atomic import replacing
from ..host.plain_text import place
from ..models.today.pipeline_model import PipelineModel
from ..training.batches import Draws
from ..training.losses import plan_memory
from ..training.optimiser import Learner, gradients
from ..training.run import Run
from ..training.settings import as_settings
from ..words.concept import Concept, check_fits
from .twins import twin

if TYPE_CHECKING:
    from ..models.model import Model
    from ..pictures.concept_images import ConceptImages

FILE = "pytorch_lora_weights.safetensors"  # where diffusers looks
TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]  # of every attention layer, as diffusers' own examples
NAME = "around_word"
MOST_BAD = 8  # steps in a row whose gradients are not finite


@dataclass(frozen=True, eq=False)
class Tuned:
    """A word and a LoRA around it.

    Attributes:
        model: the model with the LoRA in it, to draw with; it shares the frozen weights with the model that was tuned.
        concept: the word, as it was. losses: of each step.
        weights: the LoRA, by diffusers' names: "down_blocks...to_q.lora_A.weight" (rank, in) and "lora_B" (out, rank).
    """

    model: Model
    concept: Concept
    losses: tuple[float, ...]
    weights: dict[str, torch.Tensor]

    @checked()
    def save(self, folder: str | Path) -> Path:
        """Write the LoRA as `pytorch_lora_weights.safetensors` into a folder, and return the file's path.

        Its names are kohya's, the only ones that diffusers' `load_lora_weights`, ComfyUI and AUTOMATIC1111 all read: ComfyUI
        knows diffusers' own names only as they were before peft. The word is saved by `ti.save`, as ever.

        Raises:
            OSError: it can't be written, or diffusers reads it otherwise than it was written.
        """
        from diffusers.utils import convert_state_dict_to_kohya
        from safetensors.torch import load_file, save_file

        path = Path(folder).expanduser() / FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        named = {f"unet.{name}": rows for name, rows in self.weights.items()}
        tensors = {name: rows.float().contiguous() for name, rows in convert_state_dict_to_kohya(named).items()}
        with replacing(path) as temporary:
            save_file(tensors, temporary, {"format": "pt"})
            if not self._is_read_back(load_file(temporary)):
                raise NotWritten(f"{place(path)} did not read back as it was written: is the disk full?")
        return path

    def _is_read_back(self, tensors: dict[str, torch.Tensor]) -> bool:
        """Whether diffusers makes the same LoRA of the file's tensors."""
        from diffusers import StableDiffusionPipeline
        from diffusers.utils import convert_unet_state_dict_to_peft

        read = convert_unet_state_dict_to_peft(StableDiffusionPipeline.lora_state_dict(tensors)[0])
        own = {name.removeprefix("unet.").replace(".processor", ""): rows for name, rows in read.items()}
        return own.keys() == self.weights.keys() and all(torch.equal(v, own[name]) for name, v in self.weights.items())


@checked(rank=(1, 1024), steps=(1, 10**6), rate=(0, 1))
def tune(
    model: Model,
    images: ConceptImages,
    word: Concept | Run,
    *,
    rank: int = 4,
    steps: int = 100,
    rate: float = 1e-3,
    progress: bool = True,
    **changes: Any,
) -> Tuned:
    """Tune a LoRA around a learned word, which stays as it is; so does the model, whose weights the result shares.

    This is no longer a frozen model: expect more likeness, and less of the prompt. Needs peft (`pip install ti_nb[lora]`).

    Args:
        images: those the word was learned from. rank: of the LoRA. rate: of AdamW, in plain units.
        changes: of the training settings: `batch`, `templates`, `timesteps`, `seed`, ...

    Raises:
        RuntimeError: peft is not installed. ValueError: a word of another model, a model without a UNet, one with a LoRA in it.

    Examples:
        >>> import ti_nb as ti
        >>> model, photos = ti.load_model("tiny"), ti.example_images("penguin")
        >>> word = ti.initial_concept(model, "<my-penguin>", "animal")
        >>> tuned = ti.tune(model, photos, word, rank=1, steps=1, progress=False)
        >>> ti.sample(tuned.model, "a {word} in the snow", tuned.concept, seeds=1, steps=2)[0].model
        'tiny + LoRA'
    """
    concept = word.concept() if isinstance(word, Run) else word
    _check(model, concept)
    settings = as_settings(None, {"steps": steps, **changes})
    draws = Draws(
        model, images, replace(settings, negative=0, per_picture=False), {concept.word: len(concept)}, settings.seed
    )
    own = replace(model, name=f"{model.name} + LoRA", unet=twin(model.unet))
    parameters = _add_lora(own.unet, rank, settings.seed)
    learner = Learner(own, concept.vectors, settings)  # it never steps: the word is the pivot
    optimiser = torch.optim.AdamW(parameters, lr=rate)
    step = partial(_step, own, learner, parameters, optimiser, plan_memory(own, settings))
    losses = tuple(step(draws) for _ in tqdm(range(steps), desc="LoRA", disable=not progress))
    for parameter in parameters:  # as precise as they will be when they are loaded from the file
        parameter.data = parameter.data.to(model.dtype)
    own.unet.requires_grad_(False)
    return Tuned(own, concept, losses, _weights(own.unet))


def _check(model: Model, concept: Concept) -> None:
    if isinstance(model, PipelineModel):
        raise InvalidValue(f"{model.name!r} has no UNet to tune: that is for SD 1.x, SD 2.x and SDXL")
    check_fits(concept, model)
    if getattr(model.unet, "peft_config", None):
        raise InvalidValue(f"{model.name!r} has a LoRA in it already: load it afresh, or model.unet.unload_lora()")
    if not is_installed("peft"):
        raise NotPossible("peft, which puts the LoRA into the model, is not installed: pip install peft")


def is_installed(name: str) -> bool:
    """Whether a package can be imported."""
    try:
        import_module(name)
    except ImportError:
        return False
    return True


def _add_lora(unet: Any, rank: int, seed: int) -> list[torch.nn.Parameter]:
    """Put one into the UNet that changes nothing yet; returns what is trained, float32."""
    from diffusers.training_utils import cast_training_params
    from peft import LoraConfig

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=TARGETS), NAME)
    cast_training_params(unet)
    return [parameter for parameter in unet.parameters() if parameter.requires_grad]


def _step(model: Any, learner: Learner, parameters: Any, optimiser: Any, plan: Any, draws: Draws) -> float:
    """One step of the optimiser; returns the loss. The gradients come with those of the word, which are left."""
    batch = draws.draw()
    for _ in range(MOST_BAD):
        optimiser.zero_grad()
        (loss,), done = gradients(model, plan, [learner], [batch])
        if done != plan:  # out of memory on the way, where some of it was added up
            plan = done
            continue
        for parameter in parameters:
            parameter.grad.div_(learner.loss_scale)
        if all(bool(parameter.grad.isfinite().all()) for parameter in parameters):
            optimiser.step()
            return loss
        learner.loss_scale = max(1.0, learner.loss_scale / 2)
    raise NotPossible("the LoRA's gradients are not finite: lower the rate, or load the model with dtype=torch.float32")


def _weights(unet: Any) -> dict[str, torch.Tensor]:
    from peft import get_peft_model_state_dict

    return {
        name: rows.detach().float().cpu() for name, rows in get_peft_model_state_dict(unet, adapter_name=NAME).items()
    }
