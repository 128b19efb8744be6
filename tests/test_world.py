"""What the generator must never have seen is not in its world, by name or by caption."""

from __future__ import annotations

import json
import random
from hashlib import sha256

from ti_nb.models.model import TINY
from tools.tiny_model import world


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
