"""What the generator must never have seen is not in its world, by name or by caption."""

from __future__ import annotations

import json
import random
from hashlib import sha256

import pytest
from transformers import CLIPTokenizer

from ti_nb.models import TINY
from tools.tiny_model import world
from tools.tiny_next import captions


def test_training_things_hash_outside_the_held_out_range() -> None:
    for name in world.training_things():
        assert int(sha256(name.replace("-", " ").encode()).hexdigest()[:2], 16) >= 26
    for name in world.held_out_things("dev"):
        assert int(sha256(name.replace("-", " ").encode()).hexdigest()[:2], 16) < 13


def test_no_caption_says_a_held_out_name() -> None:
    rng = random.Random(0)
    categories = {world.plain(k): v for k, v in world.training_things().items()}
    things = list(categories)
    held_out = [world.plain(n) for n in world.held_out_things()]
    for i in range(20_000):
        scene = world.random_scene(things[i % len(things)], rng.choice(list(world.STYLES)), rng, things)
        text = f" {world.caption(scene, rng, categories)} "
        assert not [n for n in held_out if f" {n} " in text], text


def test_a_tenth_of_captions_is_empty_and_factors_are_named() -> None:
    rng = random.Random(0)
    scene = world.Scene("teapot", "glossy", "snow")
    said = [world.caption(scene, rng) for _ in range(4000)]
    assert 0.08 < said.count("") / len(said) < 0.12
    assert "a glossy render of a teapot in the snow" in said
    assert any(t.startswith("a photo of my teapot") for t in said)


def test_examples_are_of_the_dev_split() -> None:
    for facts in sorted(TINY.glob("pictures/*/facts.json")):
        assert world.split(json.loads(facts.read_text())["name"]) == "dev"


@pytest.mark.parametrize("name", ["penguin", "penguin-1", "fireengine", "see-no-evil-monkey", "oncoming-bus", "brooms"])
def test_a_held_out_thing_is_held_out_in_every_artist_s_spelling(name: str) -> None:
    assert world.is_held_out(name)


def test_what_the_generator_learns_is_not_held_out() -> None:
    assert not any(world.is_held_out(name) for name in world.training_things())


def test_marks_in_a_caption_become_ids_past_the_vocabulary() -> None:
    """The text around a vector is tokenised as it is without one."""
    tokenizer = CLIPTokenizer.from_pretrained(TINY / "tokenizer")
    text = f"a cartoon of a {captions.WORD} in the style of {captions.STYLE} on the beach"
    ids = captions.tokenise(["", text], tokenizer, 24)[1].tolist()
    plain = tokenizer("a cartoon of a in the style of on the beach", padding="max_length", max_length=22).input_ids
    assert ids.index(len(tokenizer) + 2) == 5 and ids.index(len(tokenizer) + 3) == 10
    assert [one for one in ids if one < len(tokenizer)] == plain
