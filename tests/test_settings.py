"""Settings check themselves; schedules and weights are what they say."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr

import ti_nb as ti


def test_presets_are_what_their_sources_say() -> None:
    paper, script = ti.PRESETS["paper"], ti.PRESETS["diffusers"]
    assert (paper.steps, paper.batch, paper.weight_decay, paper.norm) == (5000, 4, 0.01, "free")
    assert paper.rate_at(0, 0.014) == paper.rate_at(4999, 0.014) == pytest.approx(0.005 * 4)
    assert paper.template_list() == ti.OBJECT_TEMPLATES_CODE
    assert (script.steps, script.weight_decay, script.vectors, script.stratified) == (3000, 0.01, 1, False)
    assert script.rate_at(0, 0.014) == script.rate_at(2999, 0.014) == pytest.approx(5e-4 * 4)
    assert ti.PRESETS["fast"] == ti.TrainSettings()
    assert (ti.FAST.chosen_rate, replace(ti.FAST, norm="fixed").chosen_rate, paper.chosen_rate) == (0.45, 0.2, 0.005)


def test_automatic1111s_schedule_strings_mean_what_they_mean_there() -> None:
    settings = ti.TrainSettings(rate="0.005:100, 1e-3:1000, 1e-5", steps=2000)
    rates = [settings.rate_at(step, spread=0.014) for step in (0, 99, 100, 999, 1000, 1999)]
    assert rates == [0.005, 0.005, 1e-3, 1e-3, 1e-5, 1e-5]
    assert ti.TrainSettings(rate="0.01:5").rate_at(50) == 0.01


@pytest.mark.parametrize("rate", ["", "fast", "0.1:5, 0.2:3", "0.1:5,,0.2", "0.1, 0.2:5", "1e-3:-4", "20", "0:5"])
def test_strings_that_are_no_schedule_are_refused(rate: str) -> None:
    with pytest.raises(ValueError, match=r"write '0\.005:100"):
        ti.TrainSettings(rate=rate)


def test_rates_are_relative_to_the_vocabulary_warm_up_and_fall() -> None:
    settings = ti.TrainSettings(rate=0.2, steps=110, warmup=10, decay="cosine")
    assert settings.rate_at(10, 0.014) == pytest.approx(0.2 * 0.014)
    assert settings.rate_at(10, 0.028) == 2 * settings.rate_at(10, 0.014)
    rates = [settings.rate_at(step) for step in range(110)]
    assert rates[:12] == pytest.approx([0.2 * n / 11 for n in range(1, 12)] + [rates[11]]) and rates[10] > rates[11]
    assert rates[:11] == sorted(rates[:11]) and rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[60] == pytest.approx(0.2 * (0.1 + 0.9 * 0.5))
    linear = ti.TrainSettings(rate=0.2, steps=110, warmup=10, decay="linear")
    assert [linear.rate_at(s) for s in (35, 60)] == pytest.approx([0.2 * (0.1 + 0.9 * 0.75), 0.2 * (0.1 + 0.9 * 0.5)])


def test_timesteps_stay_in_their_part_and_spread() -> None:
    draw = torch.Generator().manual_seed(0)
    some = ti.TrainSettings(timesteps=(0.5, 0.9)).draw_timesteps(8, 1000, draw)
    assert int(some.min()) >= 500 and int(some.max()) < 900
    assert all(500 + 50 * i <= int(t) < 550 + 50 * i for i, t in enumerate(some))
    uniform = ti.TrainSettings(stratified=False).draw_timesteps(4000, 1000, draw).float()
    assert uniform.mean() == pytest.approx(499.5, abs=20) and uniform.std() == pytest.approx(288.7, abs=10)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_min_snr_weights_are_diffusers(prediction: str) -> None:
    """As its training scripts with --snr_gamma have it."""
    scheduler = DDPMScheduler(prediction_type=prediction)
    timesteps = torch.tensor([1, 100, 500, 900, 999])
    snr = compute_snr(scheduler, timesteps)
    theirs = torch.stack([snr, 5.0 * torch.ones_like(snr)], dim=1).min(dim=1)[0]
    theirs = theirs / snr if prediction == "epsilon" else theirs / (snr + 1)
    ours = ti.TrainSettings(snr_gamma=5.0).loss_weights(scheduler.alphas_cumprod[timesteps], prediction)
    torch.testing.assert_close(ours, theirs)
    assert torch.equal(ti.TrainSettings().loss_weights(scheduler.alphas_cumprod[timesteps], prediction), torch.ones(5))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (dict(rate=0.0), "0.05 to 0.5 is usual"),
        (dict(rate=50, relative=False), "0.0005 to 0.01 is usual"),
        (dict(timesteps=(0.5, 0.5)), "two shares"),
        (dict(timesteps=(500, 1000)), "two shares"),
        (dict(snr_gamma=0), "5 is usual"),
        (dict(ema=1.0), "give less"),
        (dict(dropout=2), "from 0 to 1"),
        (dict(negative=-1), "from 0 to 75"),
        (dict(stop="soon"), "'never', 'flat'"),
        (dict(stop="flat", watch=0), "needs 4 measurements .* watch=37 would do"),
        (dict(stop="flat", steps=100), "in 100 steps watch=25 makes too few: watch=24 would do"),
        (dict(rate=0.0, norm="fixed"), "an angle in radians, 0.1 to 0.2 is usual"),
        (dict(init_source="nowhere"), "'table', 'output'"),
    ],
)
def test_values_out_of_range_are_refused(changes: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        ti.TrainSettings(**changes)


def test_a_preset_goes_by_its_name_and_single_changes(model: ti.Model, photos: ti.ConceptImages) -> None:
    run = ti.train(model, photos, word="<new>", init="animal", settings="diffusers", steps=7)
    assert run.settings == ti.TrainSettings(**{**vars(ti.DIFFUSERS), "steps": 7})
    with pytest.raises(ValueError, match="no preset 'slow': there are fast, paper, diffusers"):
        ti.train(model, photos, word="<new>", init="animal", settings="slow")
