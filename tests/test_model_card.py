"""The page of a published word: its front matter is the Hub's, its lines run as they stand, nobody's text is markup."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image

import ti_nb as ti
from tests.families import pipeline
from tests.hub_server import HubServer, client_environment
from ti_nb.hub.page import PEOPLE, Terms, model_card
from ti_nb.models import TINY
from ti_nb.models.families import living
from ti_nb.results.drawing.samples import Sample

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
TOKEN = "hf_test_alice_write"


def of(family: str, count: int = 1, text: str = "<my-cat>") -> ti.Concept:
    widths = {
        "SD 1.x": {"clip_l": 768},
        "SD 2.x": {"clip_h": 1024},
        "SDXL": {"clip_l": 64, "clip_g": 96},
        "tiny": {"clip_l": 192},
    }
    return ti.Concept(text, {k: 0.02 * torch.randn(count, w) for k, w in widths[family].items()}, {"init": "cat"})


@pytest.mark.parametrize("family", ["SD 1.x", "SD 2.x", "SDXL", "tiny"])
def test_its_front_matter_is_what_the_hub_takes(family: str, hub: HubServer) -> None:
    base = {"SD 1.x": "sd15", "SD 2.x": "stabilityai/stable-diffusion-2-1", "SDXL": "sdxl", "tiny": "tiny"}[family]
    shown = [Sample(Image.new("RGB", (64, 64)), "a <my-cat>", 3)]
    text = ti.publish(of(family), "my-cat", samples=shown, base=base, dry_run=True).card
    card = ModelCard(text)
    card.validate()
    about = card.data.to_dict()
    assert about.get("base_model") == (None if family == "tiny" else living(base))
    licences = {"SD 1.x": "creativeml-openrail-m", "SD 2.x": "openrail++", "SDXL": "openrail++", "tiny": "apache-2.0"}
    assert about["license"] == licences[family]
    assert about["instance_prompt"] == "<my-cat>" and about["pipeline_tag"] == "text-to-image"
    assert {"textual_inversion", "text-to-image", "ti_nb"} <= set(about["tags"])
    assert about["widget"] == [{"text": "a <my-cat>", "output": {"url": "gallery/01.png"}}]
    ti.publish(of(family), "my-cat", samples=shown, base=base)
    assert ModelCard.load("alice/my-cat").data.to_dict() == about


def served(hub: HubServer, folder: Path) -> None:
    files = {f.relative_to(folder).as_posix(): f.read_bytes() for f in folder.rglob("*") if f.is_file()}
    hub.add("alice/base", files)


EACH_ALONE = """
import os, sys

for number, block in enumerate(sys.argv[1:]):  # in one process, as importing torch takes longer than all else
    os.mkdir(str(number))
    os.chdir(str(number))
    exec(block, {"__name__": "__main__"})
    os.chdir("..")
"""


@pytest.mark.thorough
@pytest.mark.parametrize("family", ["tiny", "SDXL"])
def test_its_lines_run_when_they_are_pasted(family: str, hub: HubServer, tmp_path: Path, monkeypatch: Any) -> None:
    if family == "SDXL":
        pipeline("sdxl").save_pretrained(tmp_path / "base")
    served(hub, tmp_path / "base" if family == "SDXL" else TINY)
    ti.publish(of(family, 2), "my-cat", base="alice/base")
    card = hub.repos["alice/my-cat"].files["README.md"].decode()
    blocks = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert len(blocks) == 2 and "load_textual_inversion" in blocks[0] and "ti.fetch" in blocks[1]
    environment = {**os.environ, **client_environment(hub, tmp_path / "other", token=TOKEN), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", EACH_ALONE, *blocks], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for number in range(2):
        with Image.open(tmp_path / str(number) / "picture.png") as picture:
            picture.verify()


def test_a_word_of_tiny_says_how_to_use_it_with_the_model_that_comes_along() -> None:
    card = model_card(of("tiny"), "alice/my-cat", terms=Terms("apache-2.0"))
    (block,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert 'ti.load_model("tiny")' in block and "library_name: ti_nb" in card


@pytest.mark.parametrize(
    "init, asks",
    [("woman", True), ("a Boy's face", True), ("cat", False), ("manatee", False), ("mannequin", False), (None, False)],
)
def test_consent_is_asked_of_words_for_people_before_everybody_may_see_them(init: str | None, asks: bool) -> None:
    concept = ti.Concept("<x>", {"clip_l": torch.ones(1, 768)}, {"init": init, "base": "sd15"})
    ti.publish(concept, "x", license="mit", dry_run=True)
    if asks:
        with pytest.raises(ValueError, match="people='with consent'"):
            ti.publish(concept, "x", license="mit", private=False, dry_run=True)
    for people, told in PEOPLE.items():
        card = ti.publish(concept, "x", license="mit", private=False, people=people, dry_run=True).card
        assert told in card and not [other for other in PEOPLE.values() if other != told and other in card]
    with pytest.raises(ValueError, match="people is 'yes'"):
        ti.publish(concept, "x", license="mit", people="yes", dry_run=True)


def test_nobodys_text_becomes_markup() -> None:
    hostile = 'a <my-cat> <img src=x onerror=alert(1)> | ](https://evil) `rm`\n# title "'
    shown = [("gallery/01.png", Sample(Image.new("RGB", (8, 8)), hostile, 0))]
    card = model_card(of("SD 1.x"), "alice/my-cat", base="sd/base", samples=shown, terms=Terms("mit"))
    page = card.split("---", 2)[2]
    assert "<img" not in page and "\n# title" not in page
    (row,) = [line for line in page.splitlines() if line.startswith("| ![")]
    assert len(re.findall(r"(?<!\\)\|", row)) == 2
    assert re.findall(r"(?<!\\)\]\(([^)]*)\)", row) == ["gallery/01.png"]
    assert ModelCard(card).data.widget[0]["text"] == hostile  # as text, in YAML


def test_the_scores_and_settings_of_the_run_are_told(model: ti.Model, photos: ti.ConceptImages) -> None:
    run = ti.train(model, photos, word="<new>", init="animal", steps=2, batch=1)
    list(run)
    scores = ti.Scores({"initializer": 0.1, "word": 0.7, "real": 0.8}, {"initializer": 0.4, "word": 0.39}, [], [])
    plan = ti.publish(run.concept(), "new", run=run, scores=scores, dry_run=True)
    assert "| steps | 2 |" in plan.card and "batch 1" in plan.card and "started from | animal" in plan.card
    assert "0.70; what it started from 0.10" in plan.card
    assert model.name in plan.card or "tiny" in plan.card
