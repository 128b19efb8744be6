"""Looks inside: the losses are the training's own, attention is the UNet's own and changes nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

import ti_nb as ti
from ti_nb.models.denoise import cache_latents, predict
from ti_nb.results.look_inside import _mean_maps, _record_attention
from ti_nb.words.prompts import encode

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def few(photos: ti.ConceptImages) -> ti.ConceptImages:
    return replace(photos, images=photos.images[:2], names=photos.names[:2])


@pytest.fixture(scope="module")
def start(model: ti.Model) -> ti.Concept:
    return ti.initial_concept(model, "<new>", "animal", 1)


def test_a_band_s_loss_is_the_mean_squared_error_of_the_velocity(
    model: ti.Model, few: ti.ConceptImages, start: ti.Concept
) -> None:
    at, losses = ti.loss_by_timestep(model, few, [start], bands=2, draws=1, seed=3)
    assert at.tolist() == [250, 750]
    latents, _ = cache_latents(model, few.pixels(model.resolution))
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(3))
    alpha = model.scheduler.alphas_cumprod[250]
    noisy = alpha.sqrt() * latents + (1 - alpha).sqrt() * noise
    told = encode(model, ["a photo of a animal"]).states.expand(
        2, -1, -1
    )  # before training the word is its initializer
    with torch.no_grad():
        found = model.unet(noisy, torch.tensor([250, 250]), told).sample
    velocity = alpha.sqrt() * noise - (1 - alpha).sqrt() * latents  # tiny's prediction type
    assert losses[0, 0].item() == pytest.approx((found - velocity).square().mean().item(), rel=1e-4)


def test_attention_sums_to_one_and_names_every_token(model: ti.Model, few: ti.ConceptImages, start: ti.Concept) -> None:
    found = ti.attention(model, few, "a photo of a {word} in snow", start)
    assert found.tokens == ("a", "photo", "of", "a", "<new>", "in", "snow")
    assert found.maps.shape[:2] == (2, 7)
    assert found.maps.min() > 0 and found.maps.sum(1).max() < 1  # the rest is the start's and the padding's
    two = ti.initial_concept(model, "<new>", "animal", 2)
    assert ti.attention(model, few, "{word}", two).tokens == ("<new> 1", "<new> 2")


def test_before_training_the_word_is_attended_to_as_its_initializer(
    model: ti.Model, few: ti.ConceptImages, start: ti.Concept
) -> None:
    word = ti.attention(model, few, "a photo of a {word} in snow", start)
    known = ti.attention(model, few, "a photo of a animal in snow")
    assert known.tokens == ("a", "photo", "of", "a", "animal", "in", "snow")
    assert known.maps.equal(word.maps)


@pytest.mark.parametrize("vectors", [1, 2])
def test_each_tokens_map_is_the_softmax_of_the_unets_own_queries_and_keys(
    model: ti.Model, few: ti.ConceptImages, vectors: int
) -> None:
    """By hand, layer by layer, at the place in the 77 where the tokenizer puts the token."""
    word = ti.initial_concept(model, "<new>", "animal", vectors)
    found = ti.attention(model, few, "a photo of a {word} in snow", word, seed=4)
    layers = {name: layer for name, layer in model.unet.named_modules() if name.endswith("attn2")}
    seen: dict[str, list[torch.Tensor]] = {name: [] for name in layers}
    hooks = [
        part.register_forward_hook(lambda _, __, out, name=name: seen[name].append(out.detach()))
        for name, layer in layers.items()
        for part in (layer.to_q, layer.to_k)
    ]
    latents, _ = cache_latents(model, few.pixels(model.resolution))
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(4))
    step = torch.tensor([500, 500])
    try:
        with torch.no_grad():
            noisy = model.scheduler.add_noise(latents, noise, step)
            model.unet(noisy, step, encode(model, ["a photo of a <new> in snow"], [word]).states.expand(2, -1, -1))
    finally:
        for hook in hooks:
            hook.remove()
    maps = []
    for name, (queries, keys) in seen.items():
        heads = layers[name].heads
        queries, keys = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (queries, keys))
        shares = (queries @ keys.transpose(-1, -2) / queries.shape[-1] ** 0.5).softmax(-1).mean(1)  # (b, h x w, 77)
        side = int(shares.shape[1] ** 0.5)
        maps.append(shares.transpose(1, 2).unflatten(-1, (side, side)))
    finest = max(one.shape[-1] for one in maps)
    mean = sum(F.interpolate(one, size=finest, mode="bilinear") for one in maps) / len(maps)
    plain = model.tokenizer("a photo of a penguin in snow").input_ids
    at = plain.index(model.tokenizer("penguin").input_ids[1])
    for number, token in enumerate(found.tokens):
        place = number + 1
        torch.testing.assert_close(found.maps[:, number], mean[:, place], atol=1e-4, rtol=1e-3)
        assert ("<new>" in token) == (at <= place < at + vectors)
    apart = (found.maps[:, 1:] - found.maps[:, :-1]).abs().amax(dim=(0, 2, 3))
    assert apart.min() > 1e-3  # one token's map would not do for its neighbour's


def test_recording_leaves_the_unet_and_its_answer_as_they_were(model: ti.Model) -> None:
    noisy = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    step, told = torch.tensor([500, 500]), encode(model, ["a photo of a dog", "a cat"])
    with torch.no_grad():
        plain, before = predict(model, noisy, step, told), dict(model.unet.attn_processors)
        with _record_attention(model.unet) as layers:
            recorded = predict(model, noisy, step, told)
        again = predict(model, noisy, step, told)
    assert recorded.allclose(plain, atol=1e-5)
    assert again.equal(plain)
    assert model.unet.attn_processors == before
    assert not [name for name, m in model.unet.named_modules() if "get_attention_scores" in vars(m)]
    assert _mean_maps(layers, 2).sum(1).allclose(torch.ones(()), atol=1e-4)


def test_wrong_shares_are_refused(model: ti.Model, few: ti.ConceptImages, start: ti.Concept) -> None:
    with pytest.raises(ValueError, match=r"noise is 1.5"):
        ti.attention(model, few, "{word}", start, noise=1.5)


def test_the_path_starts_along_the_start_and_ends_in_its_plane() -> None:
    start, end = torch.tensor([2.0, 0, 0]), torch.tensor([1.0, 3.0, 0])
    axes = ti.plot_path([end], start, {"off": torch.tensor([0, 0, 5.0])}).axes[0]
    lines = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    assert lines["start"] == [[2.0, 0.0]]
    assert lines["learned"] == [[1.0, 3.0]]
    assert any(line.get_xydata().tolist() == [[0.0, 0.0]] for line in axes.lines)  # off the plane


def test_words_that_lie_side_by_side_can_both_be_read() -> None:
    start, end = torch.tensor([2.0, 0, 0]), torch.tensor([1.0, 3.0, 0])
    figure = ti.plot_path([end], start, {"guitar": torch.tensor([0.0, 0.3, 0]), "snowman": torch.tensor([0.1, 0.3, 0])})
    figure.draw_without_rendering()
    guitar, snowman = (text.get_window_extent() for text in figure.axes[0].texts)
    assert not guitar.overlaps(snowman)


def test_losses_are_said_in_plain_numbers() -> None:
    figure = ti.plot_timesteps([100, 900], [[0.15, 0.9], [0.14, 0.6]], ["animal", "<new>"])
    figure.draw_without_rendering()
    axis = figure.axes[0].yaxis
    said = [text.get_text() for text in (*axis.get_ticklabels(), *axis.get_ticklabels(minor=True))]
    assert {"0.2", "0.3", "0.5"} <= set(said) <= {"", "0.1", "0.2", "0.3", "0.5", "1"}


@pytest.mark.parametrize("size", [1.0, 1.5, 2.2])
def test_a_long_title_keeps_above_its_picture(few: ti.ConceptImages, size: float) -> None:
    title = "a photo of a <my-penguin> in the desert"
    figure = ti.show_images([few[0], few[1]], [title, "short"], size=size)
    figure.draw_without_rendering()
    first, second = figure.axes
    for axes in (first, second):
        box, words = axes.get_window_extent(), axes.title.get_window_extent()
        assert box.x0 - 2 <= words.x0 and words.x1 <= box.x1 + 2
    assert first.title.get_text().replace("\n", " ") == title
    assert first.get_window_extent().height > 0.85 * size * figure.dpi  # not pressed together by it


def test_a_record_is_read_at_a_glance() -> None:
    record = ti.StepRecord(7, 150, 0.42299, 0.00091, 0.62980, 0.99979, 0.5184, gain=0.0123)
    said = "step 7 of 150: loss 0.423, rate 0.00091, norm 0.630, cosine 1.000, gain +0.0123, 0.5 s"
    assert str(record) == said and str(replace(record, gain=None)) == said.replace("gain +0.0123, ", "")
