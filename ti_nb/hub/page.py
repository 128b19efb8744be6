"""The model card of a published word: what it is, how to use it (runnable code), how it was made."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isnan
from typing import TYPE_CHECKING, Any

from ..host.plain_text import plain
from ..models.families import COMFYUI, USUAL, family, living
from ..words.concept import Concept
from ..words.prompts import TEMPLATES, fill

if TYPE_CHECKING:
    from ..results.drawing.samples import Sample
    from ..results.scores import Scores
    from ..training.settings import TrainSettings

PROJECT = "https://github.com/ti-nb/ti_nb"
SAFE_NAME = r"[\w+-][\w.+-]{0,95}(/[\w+-][\w.+-]{0,95})?"  # a name of a licence, a model or a repository
SHOWN_SETTINGS = ("steps", "batch", "rate", "decay", "warmup", "norm", "init_source", "templates", "seed")

# Whether a real person is shown, as `publish` takes it: what the page says of it.
PEOPLE = {
    "none": "It shows no real person.",
    "with consent": "It shows a real person, who agreed to its being made and published.",
}
A_PERSON = (
    "actor actress baby bloke boy bride celebrity child children couple dude face family father female gentleman girl guy head "
    "human kid lady male man men mother people person portrait selfie singer teen teenager woman women"
)


@dataclass(frozen=True)
class Terms:
    """A licence as on a model's page; "other" comes with a name and a link."""

    license: str | None = None
    license_name: str | None = None
    license_link: str | None = None


def license_of(concept: Concept) -> str | None:
    """The licence that a word inherits: in its facts, or that of its family's usual models.

    None for a word learned on another model, whose page has to be read.
    """
    own, base = concept.facts.get("license"), base_of(concept)
    if isinstance(own, str) and re.fullmatch(SAFE_NAME, own):
        return own
    return family(concept.family).license if base is None or base in USUAL else None


def base_of(concept: Concept) -> str | None:
    """The repository of the model a word was learned on; if unknown, its family's usual one, or None."""
    base = living(str(concept.facts.get("base") or concept.facts.get("model") or ""))
    # It may be a folder's name, or anything from an untrusted file.
    return base if "/" in base and re.fullmatch(SAFE_NAME, base) else family(concept.family).usual


def began_as_a_person(concept: Concept) -> str:
    """What the word began as, if that names a person ("young woman"); else ""."""
    init = str(concept.facts.get("init") or "")
    return init if set(A_PERSON.split()) & set(re.findall(r"[a-z]+", init.lower())) else ""


def model_card(
    concept: Concept,
    repo: str,
    *,
    kind: str = "object",
    samples: Sequence[tuple[str, Sample]] = (),
    pictures: int = 0,
    settings: TrainSettings | None = None,
    scores: Scores | None = None,
    terms: Terms | None = None,
    base: str | None = None,
    people: str | None = None,
) -> str:
    """The README.md for `repo`, front matter included.

    Args:
        samples: each with its path in the repository. pictures: number of training pictures published along.
        base: the repository of the base model; None for `tiny`, which is on no hub. people: a key of `PEOPLE`.
    """
    from huggingface_hub import ModelCardData

    is_tiny = base is None
    data = ModelCardData(
        base_model=base,
        **asdict(terms or Terms()),
        library_name="ti_nb" if is_tiny else "diffusers",
        pipeline_tag="text-to-image",
        tags=_tags(concept, is_tiny),
        instance_prompt=concept.word,
        widget=[{"text": s.prompt, "output": {"url": path}} for path, s in samples] or None,
        **({} if is_tiny else {"base_model_relation": "adapter"}),
    )
    parts = [
        f"# {_escaped(concept.word.strip('<>'))}",
        _introduction(concept, kind, base),
        _gallery(samples),
        "## Use it",
        _usage(concept, repo, kind, base),
        "## How it was made",
        _table(concept, settings, scores),
        _pictures(pictures),
        PEOPLE.get(people or "", ""),
        _license_note(terms or Terms()),
    ]
    return f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(part for part in parts if part) + "\n"


def _tags(concept: Concept, is_tiny: bool) -> list[str]:
    of_family = [] if is_tiny else [family(concept.family).tag, "diffusers"]
    return ["textual_inversion", "text-to-image", "ti_nb", *of_family]


def _introduction(concept: Concept, kind: str, base: str | None) -> str:
    model = f"[{base}](https://huggingface.co/{base})" if base else "the tiny model that comes with `ti_nb`"
    count = f"{len(concept)} vectors" if len(concept) > 1 else "one vector"
    noun = "a style" if kind == "style" else "a thing"
    return (
        f"`{concept.word}` is a word for {noun}, learned from pictures by Textual Inversion: {count} in the embedding space "
        f"of {model}. Write it in a prompt as you would any word. It fits {concept.family if base else 'that model only'}."
    )


def _gallery(samples: Sequence[tuple[str, Sample]]) -> str:
    """A table of four pictures per row, prompt and seed below each."""
    tables = []
    for at in range(0, len(samples), 4):
        some = samples[at : at + 4]
        pictures = " | ".join(f"![{_escaped(s.prompt)}]({path})" for path, s in some)
        words = " | ".join(f"{_escaped(s.prompt)}, seed {s.seed}" for _, s in some)
        tables.append(f"| {pictures} |\n|{' --- |' * len(some)}\n| {words} |")
    return "\n\n".join(tables)


def _usage(concept: Concept, repo: str, kind: str, base: str | None) -> str:
    prompt = fill(
        "a painting of a house in the style of {}" if kind == "style" else "a photo of {} on the beach", concept.word
    )
    ours = f"""import ti_nb as ti

model = ti.load_model("{base or "tiny"}")
concept = ti.fetch("{repo}")
ti.sample(model, "{prompt}", concept, seeds=1)[0].save("picture.png")"""
    blocks = [f"With [ti_nb]({PROJECT}):\n\n```python\n{ours}\n```"]
    if base is not None and family(concept.family).recipe is not None:
        blocks.insert(0, f"With diffusers:\n\n```python\n{_with_own_call(concept, repo, base, prompt)}\n```")
        if set(concept.vectors) <= set(COMFYUI):
            blocks.append(
                "In ComfyUI: put `learned_embeds.safetensors` into the folder `embeddings`, under a name of your own, and say "
                "`embedding:name`."
            )
    elif base is not None and "t5xxl" not in concept.vectors:
        blocks.insert(0, f"With diffusers:\n\n```python\n{_with_diffusers(concept, repo, base, prompt)}\n```")
        blocks.append(
            "In AUTOMATIC1111 and ComfyUI: put `learned_embeds.safetensors` into the folder `embeddings`, under a name of your "
            "own, and say that name (in ComfyUI `embedding:name`)."
        )
    return "\n\n".join(blocks)


def _with_own_call(concept: Concept, repo: str, base: str, prompt: str) -> str:
    """For pipelines most of which have no loader for words."""
    pipeline = family(concept.family).pipeline
    return f"""import torch
import ti_nb as ti
from diffusers import {pipeline}

pipe = {pipeline}.from_pretrained("{base}", torch_dtype=torch.bfloat16).to("cuda")
ti.load_into(pipe, ti.fetch("{repo}"))
pipe("{prompt}").images[0].save("picture.png")"""


def _with_diffusers(concept: Concept, repo: str, base: str, prompt: str) -> str:
    pipeline = family(concept.family).pipeline
    head = ["import torch", f"from diffusers import {pipeline}"]
    load = [f'pipe.load_textual_inversion("{repo}", weight_name="learned_embeds.safetensors")']
    if len(concept.vectors) > 1:
        head += ["from huggingface_hub import hf_hub_download", "from safetensors.torch import load_file"]
        load = [
            f'vectors = load_file(hf_hub_download("{repo}", "learned_embeds.safetensors"))',
            f'pipe.load_textual_inversion(vectors["clip_l"], token="{concept.word}")',
            f'pipe.load_textual_inversion(vectors["clip_g"], token="{concept.word}", '
            "text_encoder=pipe.text_encoder_2, tokenizer=pipe.tokenizer_2)",
        ]
    lines = [
        *head,
        "",
        'device = "cuda" if torch.cuda.is_available() else "cpu"',
        'dtype = torch.float16 if device == "cuda" else torch.float32',
        f'pipe = {pipeline}.from_pretrained("{base}", torch_dtype=dtype).to(device)',
        *load,
        f'image = pipe("{prompt}").images[0]',
        'image.save("picture.png")',
    ]
    return "\n".join(lines)


def _table(concept: Concept, settings: TrainSettings | None, scores: Scores | None) -> str:
    from importlib.metadata import version

    from .._version import __version__

    widths = ", ".join(f"{key} {v.shape[1]}" for key, v in concept.vectors.items())
    facts: dict[str, Any] = {
        "vectors": f"{len(concept)} ({widths})",
        "started from": concept.facts.get("init"),
        "steps": concept.facts.get("steps"),
        "seed": concept.facts.get("seed"),
        "changed afterwards": concept.facts.get("edits"),
    }
    if settings is not None:
        every = {**asdict(settings), "rate": settings.chosen_rate}
        chosen = {k: v for k, v in every.items() if k in SHOWN_SETTINGS and k not in ("steps", "seed")}
        facts["settings"] = ", ".join(f"{key} {_named_templates(key, value)}" for key, value in chosen.items())
    facts |= _score_rows(scores)
    facts["made with"] = ", ".join([f"ti_nb {__version__}", *(f"{n} {version(n)}" for n in ("torch", "diffusers"))])
    rows = [f"| {name} | {_escaped(value)} |" for name, value in facts.items() if value not in (None, "")]
    return "\n".join([f"| word | `{concept.word}` |", "| --- | --- |", *rows])


def _named_templates(key: str, value: Any) -> Any:
    return f"{len(value)} of one's own" if key == "templates" and value not in TEMPLATES else value


def _score_rows(scores: Scores | None) -> Mapping[str, str]:
    if scores is None:
        return {}
    subject, prompt = scores.subject_fidelity, scores.prompt_fidelity
    real = subject["real"]
    among = "" if isnan(real) else f", the pictures among themselves {real:.2f}"
    return {
        "looks like the pictures": f"{subject['word']:.2f}; what it started from {subject['initializer']:.2f}{among} "
        "(subject fidelity)",
        "does what the prompt says": f"{prompt['word']:.2f}; what it started from {prompt['initializer']:.2f} (prompt fidelity)",
    }


def _pictures(count: int) -> str:
    if not count:
        return "The pictures it was learned from are not published."
    shown = "picture is" if count == 1 else "pictures are"
    return f"The {count} {shown} in `concept_images`, published by the author's own choice; what they said of place and camera is gone."


def _license_note(terms: Terms) -> str:
    name = terms.license_name or terms.license
    inherited = f"The word is under the licence of the model it was learned on ({_escaped(name)}). " if name else ""
    return f"{inherited}Use it only in ways that respect the rights of whoever made or is shown in the pictures it was learned from."


def _escaped(value: Any) -> str:
    """Text escaped for Markdown and table cells: no HTML, links, code or formulas."""
    text = plain(re.sub(r"\s+", " ", str(value)))
    return re.sub(r"([\\`*_\[\]|~$])", r"\\\1", text.replace("&", "&amp;").replace("<", "&lt;"))
