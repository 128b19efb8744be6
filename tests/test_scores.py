"""Scores reproduce known values: other libraries' on the same pictures, closed forms, identical pictures; and say their cost."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers
from PIL import Image

import ti_nb as ti
from tests.families import pipeline
from ti_nb.models import TINY
from ti_nb.results import judge as judges
from ti_nb.results.drawing import sampling
from ti_nb.results.measures import interval, real_fidelity
from ti_nb.results.scores import PROTOCOLS
from ti_nb.words.prompts import DREAMBOOTH_PROMPTS, PAPER_PROMPTS, fill

pytestmark = pytest.mark.slow

TEXTS = ["a Teapot", "a cat on the beach"]


@pytest.fixture(scope="module")
def squares() -> list[Image.Image]:
    """Three pictures of fine detail, so that another size or resampling shows."""
    draw = np.random.default_rng(0)
    return [Image.fromarray(draw.integers(0, 255, (96, 96, 3), dtype=np.uint8)) for _ in range(3)]


def small(**more: Any) -> dict[str, Any]:
    """The sizes of a very small transformer."""
    return dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4) | more


def save_random(kind: str, folder: Path) -> tuple[Any, Any]:
    """A network of random weights with its processor, both saved as transformers saves them."""
    torch.manual_seed(0)
    text, vision = small(vocab_size=3562, max_position_embeddings=77), small(image_size=32, patch_size=8)
    sizes: dict[str, Any] = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    if kind == "clip":
        ends = {"bos_token_id": 3560, "eos_token_id": 3561}
        config = transformers.CLIPConfig(text_config=text | ends, vision_config=vision, projection_dim=16)
        network, processor = transformers.CLIPModel(config), transformers.CLIPImageProcessor(**sizes)
    elif kind == "siglip":
        config = transformers.SiglipConfig(text_config=text | {"max_position_embeddings": 64}, vision_config=vision)
        network = transformers.SiglipModel(config)
        processor = transformers.SiglipImageProcessor(size={"height": 32, "width": 32}, resample=2)
    else:
        network = transformers.Dinov2Model(transformers.Dinov2Config(**vision, mlp_ratio=2))
        sizes["size"] = {"shortest_edge": 40}  # of which the middle is cut out, as DINOv2 does with 256 and 224
        spread = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
        processor = transformers.BitImageProcessor(**sizes, **spread)
    network.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    if kind != "dinov2":
        for path in (TINY / "judge").glob("tokenizer*"):
            (folder / path.name).symlink_to(path)
    return network, processor


@pytest.mark.parametrize("kind", ["clip", "siglip", "dinov2"])
def test_a_judge_gives_what_transformers_gives(kind: str, squares: list[Image.Image], tmp_path: Path) -> None:
    network, processor = save_random(kind, tmp_path)
    judge = ti.load_judge(tmp_path)
    seen = judge.embed_images(squares)
    with torch.no_grad():
        pixels = processor(squares, return_tensors="pt").pixel_values
        if kind == "dinov2":
            told = network(pixel_values=pixels).pooler_output
            assert judge.embed_texts(TEXTS) is None
        else:
            long = {"padding": "max_length", "max_length": 64} if kind == "siglip" else {"padding": True}
            texts = [text.lower() for text in TEXTS] if kind == "siglip" else TEXTS
            tokens = judge.tokenizer(texts, return_tensors="pt", **long)
            given = {"input_ids": tokens.input_ids} if kind == "siglip" else dict(tokens)
            out = network(pixel_values=pixels, **given)
            told = out.image_embeds
            read, tokenizer = [], judge.tokenizer
            judge.tokenizer = lambda texts, **options: read.extend(texts) or tokenizer(texts, **options)
            said = judge.embed_texts(TEXTS)
            torch.testing.assert_close(said, F.normalize(out.text_embeds, dim=-1), atol=1e-5, rtol=0)
            assert read == texts  # tiny's tokenizer would make small letters of them, and SigLIP's does not
    torch.testing.assert_close(seen, F.normalize(told, dim=-1), atol=1e-5, rtol=0)


def test_a_model_of_another_kind_judges_nothing(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ValueError, match="is bert: a judge is one of clip, siglip, dinov2"):
        ti.load_judge(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no config\.json"):
        ti.load_judge(tmp_path / "..")


def test_a_judge_that_reads_no_texts_says_so(tmp_path: Path, squares: list[Image.Image]) -> None:
    save_random("dinov2", tmp_path)
    judge = ti.load_judge(tmp_path)
    with pytest.raises(ValueError, match="reads no texts"):
        ti.prompt_fidelity(judge, [ti.Sample(squares[0], "a <x>", 0)], "<x>")
    with pytest.raises(ValueError, match="reads no texts"):
        ti.suggest_words(judge, squares, ["cat"])


def test_no_judge_is_fetched_unasked(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What is at hand is taken: DINOv2 with SigLIP 2, else CLIP; with nothing at hand the sizes are said, and nothing happens."""
    model, here, loaded = ti.from_pipeline(pipeline("sd1")), set(), []
    monkeypatch.setattr(judges, "is_at_hand", lambda repository: repository in here)
    monkeypatch.setattr(judges, "from_folder", lambda source, name: loaded.append(source) or name)
    with pytest.raises(FileNotFoundError, match=r"download=True\) fetches .*dinov2-base and .*siglip2.*1\.8 GB"):
        ti.load_judges(model)
    assert loaded == []
    here.add("openai/clip-vit-base-patch32")
    assert ti.load_judges(model) == ("clip", "clip")
    assert ti.load_judges(model, download=True) == ("dinov2", "siglip2")
    assert "facebook/dinov2-base (0.3 GB)" in capsys.readouterr().out
    here.update(("facebook/dinov2-base", "google/siglip2-base-patch16-224"))
    assert ti.load_judges(model) == ("dinov2", "siglip2")
    assert capsys.readouterr().out == ""


def test_identical_pictures_are_alike_by_one(squares: list[Image.Image]) -> None:
    judge = ti.load_judge("tiny")
    copies = [squares[0].copy() for _ in range(3)]
    assert ti.subject_fidelity(judge, copies, squares[:1]) == pytest.approx(1, abs=1e-5)
    assert ti.diversity(judge, copies) == pytest.approx(0, abs=1e-5)
    assert ti.background_likeness(judge, copies, squares) == pytest.approx(1, abs=1e-5)
    assert math.isnan(ti.diversity(judge, copies[:1]))


TABLE = {255: [1.0, 0.0], 128: [0.6, 0.8], 0: [0.0, 1.0]}


class Colours:
    """Embeds a picture by the colour of its first pixel, and every text alike; a judge by its two calls alone."""

    def embed_images(self, images: Sequence[Image.Image], /) -> torch.Tensor:
        return torch.tensor([TABLE[image.convert("RGB").getpixel((0, 0))[0]] for image in images])

    def embed_texts(self, texts: Sequence[str], /) -> torch.Tensor:
        return torch.tensor([[0.0, 1.0]]).repeat(len(texts), 1)


def plain(value: int) -> Image.Image:
    return Image.new("RGB", (8, 8), (value,) * 3)


WHITE, GREY, BLACK = (plain(value) for value in (255, 128, 0))


def test_fidelities_are_mean_cosines() -> None:
    class Fixed:
        def embed_images(self, images: Any, /) -> torch.Tensor:
            return torch.tensor([[1.0, 0.0], [0.6, 0.8]])[: len(images)]

        def embed_texts(self, texts: Any, /) -> torch.Tensor:
            table = {"a photo of a": [0.0, 1.0], "a in the snow": [0.8, 0.6], "a photo of a cat": [1.0, 0.0]}
            return torch.tensor([table[t] for t in texts])

    samples = [ti.Sample(WHITE, "a photo of a <x>", 0), ti.Sample(WHITE, "a <x> in the snow", 0)]
    assert ti.subject_fidelity(Fixed(), samples, [WHITE]) == pytest.approx((1 + 0.6) / 2)
    assert ti.prompt_fidelity(Fixed(), samples, "<x>") == pytest.approx((0 + (0.6 * 0.8 + 0.8 * 0.6)) / 2)
    assert ti.prompt_fidelity(Fixed(), samples[:1], "<x>", instead="cat") == 1
    assert ti.gap_closed(0.2, 0.5, 0.8) == pytest.approx(0.5)


def test_diversity_is_what_pairs_lack_in_likeness() -> None:
    assert ti.diversity(Colours(), [WHITE, GREY, BLACK]) == pytest.approx(1 - (0.6 + 0 + 0.8) / 3)


def test_a_copied_background_is_found_whatever_stands_before_it() -> None:
    """Of noise, each its own; the things differ from all."""
    draw, judge = np.random.default_rng(1), ti.load_judge("tiny")
    places = [draw.integers(0, 255, (64, 64, 3), dtype=np.uint8) for _ in range(4)]

    def with_thing(place: np.ndarray, value: int) -> Image.Image:
        pixels = place.copy()
        pixels[16:48, 16:48] = value
        return Image.fromarray(pixels)

    pictures = [with_thing(place, 20) for place in places[:2]]
    copied, own = [with_thing(places[1], 250)], [with_thing(places[3], 20)]
    assert ti.background_likeness(judge, copied, pictures) == pytest.approx(1, abs=1e-4)
    assert ti.background_likeness(judge, own, pictures) < 0.999


def test_what_leaks_into_prompts_without_the_word_is_seen() -> None:
    def drawn(image: Image.Image, prompt: str = "a cat") -> list[ti.Sample]:
        return [ti.Sample(image, prompt, seed) for seed in range(2)]

    assert ti.leak(Colours(), drawn(BLACK), drawn(BLACK), [WHITE]) == 0
    assert ti.leak(Colours(), drawn(BLACK), drawn(GREY), [WHITE]) == pytest.approx(0.6)
    with pytest.raises(ValueError, match="other prompts or seeds"):
        ti.leak(Colours(), drawn(BLACK), drawn(GREY, "a dog"), [WHITE])


def test_an_interval_is_as_wide_as_theory_says() -> None:
    """Of a normal mean: 1.96 standard errors to each side; of ones and zeros as many as there are."""
    values = torch.randn(200, generator=torch.Generator().manual_seed(3)).double()
    low, high = interval(values.tolist())
    expected = 1.96 * float(values.std(correction=0)) / 200**0.5
    assert low == pytest.approx(float(values.mean()) - expected, abs=0.1 * expected)
    assert high == pytest.approx(float(values.mean()) + expected, abs=0.1 * expected)
    assert interval([0.3] * 5) == pytest.approx((0.3, 0.3))
    assert all(math.isnan(edge) for edge in interval([0.3]))


def test_a_real_picture_is_not_compared_with_itself() -> None:
    """Among themselves, pictures would look alike by the share of pairs that are one picture; copies are one as well."""
    judge, pictures = Colours(), [WHITE, GREY, BLACK]
    assert real_fidelity(judge, pictures, pictures) == pytest.approx((0.6 + 0 + 0.8) / 3)
    assert real_fidelity(judge, [WHITE, GREY], [GREY.copy(), BLACK]) == pytest.approx((0.6 + 0 + 0.8) / 3)
    assert real_fidelity(judge, [WHITE, WHITE.copy()], [BLACK]) == 0
    assert math.isnan(real_fidelity(judge, [WHITE], [WHITE.copy()]))


class Drawn:
    """Stands in for `sample`: each concept has its colour, what has no concept is grey; remembers what was asked."""

    def __init__(self, colours: dict[int, int]) -> None:
        self.colours, self.asked = colours, []

    def __call__(self, model: Any, prompts: Any, concept: Any, *, seeds: int, **options: Any) -> list[ti.Sample]:
        self.asked.append((list(prompts), seeds, options["steps"], options["guidance"]))
        image = plain(self.colours.get(id(concept), 128))
        return [ti.Sample(image, fill(text, "<new>"), seed) for text in prompts for seed in range(seeds)]


@pytest.fixture
def drawing(monkeypatch: pytest.MonkeyPatch) -> tuple[ti.Model, ti.Concept, ti.Concept, Drawn]:
    """A model, a start whose samples are white, a word whose samples are grey, and who draws them."""
    model = ti.from_pipeline(pipeline("sd1"))
    start, word = (ti.initial_concept(model, "<new>", name) for name in ("animal", "penguin"))
    drawn = Drawn({id(start): 255, id(word): 128})
    monkeypatch.setattr(sampling, "sample", drawn)
    return model, start, word, drawn


@pytest.mark.parametrize("held_back", [0, 1])
def test_scores_are_each_of_its_own_pictures(drawing: Any, held_back: int) -> None:
    """The start's samples are white and the word's are grey; real pictures are black and grey."""
    model, start, word, drawn = drawing
    real = [WHITE] * held_back
    scores = ti.score(model, Colours(), word, start, [GREY, BLACK], prompts=["a {} here"], held_back=real, seeds=3)
    assert scores.subject_fidelity == pytest.approx(
        {"initializer": (0.6 + 0) / 2, "word": (1 + 0.8) / 2, "real": (0.6 + 0) / 2 if held_back else 0.8}
    )
    assert scores.prompt_fidelity == pytest.approx({"initializer": 0.0, "word": 0.8})
    assert {s.image.getpixel((0, 0))[0] for s in scores.before} == {255} and len(scores.before) == 3
    assert {s.image.getpixel((0, 0))[0] for s in scores.after} == {128} and len(scores.after) == 3
    assert drawn.asked == [(["a photo of a {}"], 16, 25, 5.0), (["a {} here"], 3, 25, 5.0)] * 2
    assert scores.interval("subject", "word") == pytest.approx((0.9, 0.9))
    assert scores.diversity == pytest.approx({"initializer": 0, "word": 0}, abs=1e-6)


def test_two_judges_have_an_axis_each(drawing: Any) -> None:
    class Opposite(Colours):
        name = "the other"

        def embed_texts(self, texts: Sequence[str], /) -> torch.Tensor:
            return torch.tensor([[1.0, 0.0]]).repeat(len(texts), 1)

    class Blind(Colours):
        def embed_texts(self, texts: Sequence[str], /) -> None:
            return None

    model, start, word, _ = drawing
    scores = ti.score(model, (Blind(), Opposite()), word, start, [GREY], prompts=["a {} here"], seeds=1)
    assert scores.judges == ("Blind", "the other")
    assert scores.subject_fidelity["word"] == pytest.approx(1)
    assert scores.prompt_fidelity == pytest.approx({"initializer": 1, "word": 0.6})


def test_the_papers_protocol_draws_what_the_paper_drew(drawing: Any) -> None:
    """64 samples of "a photo of S*" and of each prompt, in 50 steps; the prompts also without the word."""
    model, start, word, drawn = drawing
    scores = ti.score(model, Colours(), word, start, [GREY, BLACK], protocol="paper")
    of_word = [(["a photo of {}"], 64, 50, 5.0), *((([text]), 64, 50, 5.0) for text in PAPER_PROMPTS)]
    without = ["a photo of on the moon", "an oil painting of", "Elmo holding a"]
    assert drawn.asked == [*of_word, *of_word, *(([text], 64, 50, 5.0) for text in without)]
    assert scores.prompt_fidelity["no word"] == pytest.approx(0.8)
    assert len(scores.each["subject", "word"]) == 64 and len(scores.each["prompt", "word"]) == 3 * 64


def test_dreambooths_protocols_have_25_prompts_of_4_which_judge_likeness_too(drawing: Any) -> None:
    model, start, word, drawn = drawing
    scores = ti.score(model, Colours(), word, start, [GREY, BLACK], protocol="dreambooth")
    assert len(scores.each["subject", "word"]) == len(scores.each["prompt", "word"]) == 100
    assert {(steps, guidance) for _, _, steps, guidance in drawn.asked} == {(50, 7.5)}
    for prompts in DREAMBOOTH_PROMPTS.values():
        assert len(set(prompts)) == 25 and all(text.count("{}") == 1 for text in prompts)
    assert PROTOCOLS["dreambooth-alive"].prompts != PROTOCOLS["dreambooth"].prompts


def test_the_judge_may_read_the_class_in_the_words_place(drawing: Any) -> None:
    read: list[str] = []

    class Reader(Colours):
        def embed_texts(self, texts: Sequence[str], /) -> torch.Tensor:
            read.extend(texts)
            return super().embed_texts(texts)

    model, start, word, _ = drawing
    ti.score(model, Reader(), word, start, [GREY], protocol=ti.ScoreProtocol(("a {} here",), 1, instead="penguin"))
    assert set(read) == {"a penguin here"}


def test_what_is_to_be_drawn_is_checked_first(drawing: Any) -> None:
    model, start, word, drawn = drawing
    for options, said in (
        ({}, "no prompts to score"),
        ({"protocol": "gal"}, "no protocol 'gal': there are quick, paper"),
    ):
        with pytest.raises(ValueError, match=said):
            ti.score(model, Colours(), word, start, [GREY], **options)
    assert drawn.asked == []


def test_the_cost_is_said_before_anything_is_drawn(drawing: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from ti_nb.results import scores as module

    model, start, word, drawn = drawing
    said: list[tuple[str, int]] = []

    class Bar:
        def __init__(self, *, desc: str, total: int, disable: bool) -> None:
            said.append((desc, len(drawn.asked)))
            self.done, self.total = 0, total

        def __enter__(self) -> Bar:
            return self

        def __exit__(self, *_: object) -> None:
            assert self.done == self.total

        def update(self, count: int) -> None:
            self.done += count

    monkeypatch.setattr(module, "tqdm", Bar)
    monkeypatch.setattr(sampling, "seconds_to_draw", lambda m, count, steps, guidance: count * steps / 10)
    plan = ti.ScoreProtocol(("a {} here", "a {} there"), 3, subject_seeds=5, steps=20, without_word=True)
    ti.score(model, Colours(), word, start, [GREY], protocol=plan)
    pictures = 2 * (2 * 3 + 5) + 2 * 3
    assert said == [(f"{pictures} pictures, about {pictures * 2} s", 0)]


def test_the_cost_grows_with_pictures_steps_and_guidance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pass takes a second on this clock."""
    clock = iter(range(100))
    monkeypatch.setattr(sampling.time, "perf_counter", lambda: float(next(clock)))
    model = ti.from_pipeline(pipeline("sd1"))
    passes = []
    model.unet.register_forward_pre_hook(lambda _, given: passes.append(len(given[0])))
    assert sampling.seconds_to_draw(model, 64, steps=10) == 4 * 10
    assert sampling.seconds_to_draw(model, 8, steps=10, guidance=1) == 10
    assert passes == [32] * 3 + [8] * 3


@pytest.mark.slow
def test_the_embedded_judge_gives_what_clip_model_gives() -> None:
    judge = ti.load_judge("tiny")
    tokens = judge.tokenizer(TEXTS, padding=True, return_tensors="pt")
    pixels = ti.example_images("penguin").pixels(judge.recipe.size)  # mean and spread 0.5 are [-1, 1]
    with torch.no_grad():
        out = judge.network(pixel_values=pixels, **tokens)
    images = list(ti.example_images("penguin").images)
    torch.testing.assert_close(judge.embed_images(images), F.normalize(out.image_embeds, dim=-1), atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(judge.embed_texts(TEXTS), F.normalize(out.text_embeds, dim=-1), atol=1e-5, rtol=1e-4)


def test_many_pictures_are_judged_a_few_at_once(squares: list[Image.Image], monkeypatch: pytest.MonkeyPatch) -> None:
    judge = ti.load_judge("tiny")
    whole = judge.embed_images(squares)
    monkeypatch.setattr(judges, "AT_ONCE", 2)
    torch.testing.assert_close(judge.embed_images(squares), whole, atol=1e-5, rtol=1e-5)


def test_a_protocol_can_be_changed_in_parts() -> None:
    from ti_nb.results.scores import protocol_of

    changed = protocol_of("paper", seeds=2, prompts=None)
    assert changed == replace(PROTOCOLS["paper"], seeds=2)


@pytest.mark.parametrize(("count", "total"), [(0, 10), (3, 10), (95, 100), (200, 200)])
def test_a_shares_interval_ends_where_what_was_seen_is_just_likely_enough(count: int, total: int) -> None:
    """Its ends are the shares from which the count is 1.96 of their own standard deviations away, Wilson's definition."""
    low, high = ti.share_interval(count, total)
    for end in (low, high):
        away = abs(count / total - end)
        assert away == pytest.approx(1.959964 * (end * (1 - end) / total) ** 0.5, abs=1e-6)
    assert low <= count / total <= high
    with pytest.raises(ValueError, match="count is 11, of a total of 10"):
        ti.share_interval(11, 10)
