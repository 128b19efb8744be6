"""Which program reads which of our files: the table of `docs/sharing.md`. Written anew by `python -m tests.reader_table`."""

from __future__ import annotations

import functools
import itertools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import CLIPTextModel, CLIPTextModelWithProjection

import ti_nb as ti
from tests.families import pipeline, text_config
from tests.readers import PROGRAMS, Refused, Vectors, Widths
from ti_nb.files.formats import FORMATS

PAGE = Path(__file__).parents[1] / "docs/sharing.md"
BEGIN, END = "<!-- the readers' table: python -m tests.reader_table -->\n", "<!-- end of the table -->\n"
WIDTHS: dict[str, Widths] = {
    "SD 1.x": {"clip_l": 768},
    "SD 2.x": {"clip_h": 1024},
    "SDXL": {"clip_l": 768, "clip_g": 1280},
}
Pipes = Callable[[str], Any]


def pipe_of(family: str) -> Any:
    """A pipeline with text encoders as wide as the real ones."""
    pipe = pipeline({"SD 1.x": "sd1", "SD 2.x": "sd2", "SDXL": "sdxl"}[family])
    if family != "SD 2.x":
        pipe.text_encoder = CLIPTextModel(text_config(768))
    if family == "SDXL":
        pipe.text_encoder_2 = CLIPTextModelWithProjection(text_config(1280, "gelu"))
    for name in ("text_encoder", "text_encoder_2")[: 1 + (family == "SDXL")]:
        network = getattr(
            pipe, name
        )  # whose new rows are set at once: to draw them by the others' spread takes seconds
        network.resize_token_embeddings = functools.partial(network.resize_token_embeddings, mean_resizing=False)
    return pipe


def word(family: str, count: int, text: str = "<my-cat>") -> ti.Concept:
    rows = {key: 0.02 * torch.randn(count, width) for key, width in WIDTHS[family].items()}
    return ti.Concept(text, rows, {"init": "cat", "steps": 150, "base": "some/model", "license": "openrail++"})


def diffusers(path: Path, widths: Widths, pipe: Any) -> Vectors:
    """By its own loader, each encoder told apart; of a pair the second file is the second encoder's."""
    found = {}
    for key in widths:
        second = "_2" if key == "clip_g" else ""
        beside = path.with_stem(f"{path.stem}{second}")
        network, tokenizer = (getattr(pipe, f"{part}{second}") for part in ("text_encoder", "tokenizer"))
        known = len(tokenizer)
        ask = {"text_encoder": network, "tokenizer": tokenizer}
        try:
            pipe.load_textual_inversion(str(beside if beside.is_file() else path), token="<a-word>", **ask)
        except Exception as error:
            raise Refused(f"{type(error).__name__}") from error
        ids = range(known, len(tokenizer))
        found[key] = network.get_input_embeddings().weight[list(ids)].detach().clone()
        pipe.unload_textual_inversion(tokenizer.convert_ids_to_tokens(list(ids)), **ask)
    return found


def reads(program: str, path: Path, concept: ti.Concept, pipes: Pipes) -> bool:
    """Whether the program gets all of the word's vectors, to the bit."""
    widths = {key: rows.shape[1] for key, rows in concept.vectors.items()}
    try:
        if program == "diffusers":
            found = diffusers(path, widths, pipes(concept.family))
        else:
            found = PROGRAMS[program](path, widths)
    except Refused:
        return False
    return found.keys() == concept.vectors.keys() and all(
        torch.equal(found[key], concept.vectors[key]) for key in found
    )


def rows() -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Format, ending and families of each kind of file."""
    for name, endings in FORMATS.items():
        for ending in endings:
            yield name, ending, ("SD 1.x", "SD 2.x")
            if name != "emb_params":
                yield name, ending, ("SDXL",)


def table(folder: Path, pipes: Pipes) -> str:
    """The table in Markdown, from files written into `folder` and read by each program."""
    programs = [*PROGRAMS, "diffusers"]
    lines = [f"| format | for | {' | '.join(programs)} |", "| --- " * (len(programs) + 2) + "|"]
    for name, ending, families in rows():
        cells = dict.fromkeys(programs, 0)
        tried = list(itertools.product(families, (1, 4)))
        for family, count in tried:
            concept = word(family, count)
            path = folder / family / str(count) / name / f"my-cat{ending}"
            ti.save(concept, path, format=name, picture=Image.new("RGB", (64, 64), "teal"))
            for program in programs:
                cells[program] += reads(program, path, concept, pipes)
        said = ["yes" if n == len(tried) else "-" if not n else f"{n} of {len(tried)}" for n in cells.values()]
        kind = "SDXL, two files" if name == "diffusers" and families == ("SDXL",) else ", ".join(families)
        lines.append(f"| `{name}` {ending} | {kind} | {' | '.join(said)} |")
    return "\n".join(lines) + "\n"


def of_page() -> str:
    """The table as the page has it."""
    return PAGE.read_text().partition(BEGIN)[2].partition(END)[0]


if __name__ == "__main__":
    made = {family: pipe_of(family) for family in WIDTHS}
    with tempfile.TemporaryDirectory() as scratch:
        new = table(Path(scratch), made.__getitem__)
    PAGE.write_text(PAGE.read_text().replace(BEGIN + of_page() + END, BEGIN + new + END))
    print(new)
