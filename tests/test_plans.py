"""What many words take, reckoned: hours and dollars by hand, steps measured by a clock that is ours."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

import ti_nb as ti
from tests.many import jobs
from ti_nb.errors import HubError
from ti_nb.jobs.plans import _machine, measure_step, packing
from ti_nb.jobs.rented.prices import price

Hardware = ti.jobs.Hardware


def test_minutes_hours_and_dollars_are_those_reckoned_by_hand() -> None:
    """5 words of 100 steps of 0.5 s on 2 workers: 3 and 2 of 50 s, after 10 s until the model is there."""
    todo = [replace(job, settings=replace(job.settings, steps=100)) for job in jobs(5)]
    machine = Hardware("two", workers=2, price=3.6, seconds_per_step=0.5, start=10)
    (estimate,) = ti.plan_many(todo, machine, seconds_per_step=9).estimates
    assert (estimate.seconds, estimate.busy, estimate.cost) == pytest.approx((160, 320, 0.32))
    (packed,) = ti.plan_many(todo, replace(machine, together=4), seconds_per_step=9).estimates
    assert packed.seconds == pytest.approx(10 + 4 * 50)  # the first four in one


def test_more_workers_than_words_do_not_cost() -> None:
    (estimate,) = ti.plan_many(jobs(2), Hardware("many", workers=50, start=0), seconds_per_step=1).estimates
    assert (estimate.seconds, estimate.busy) == (4, 8)


def test_the_table_says_what_was_measured_elsewhere_and_what_is_unknown() -> None:
    plan = ti.plan_many(
        jobs(2),
        ["here", "l4x1", Hardware("<theirs>", price=None, seconds_per_step=0.2)],
        seconds_per_step=0.5,
        prices={"l4x1": 1},
    )
    assert [row[3] for row in plan.rows()[1:]] == ["0.5", "0.5 (as here)", "0.2"]
    assert [row[-1] for row in plan.rows()[1:]] == ["0.00", "0.02", "unknown"]
    assert "&lt;theirs&gt;" in plan._repr_html_() and "<theirs>" not in plan._repr_html_()
    assert "2 words, 8 steps in all" in str(plan)


def test_what_can_not_be_reckoned_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to reckon with"):
        ti.plan_many(jobs(1))
    with pytest.raises(ValueError, match="no hardware 'h1'"):
        _machine("h1", {"here": 0.0}, 1)
    with pytest.raises(ValueError, match="can't be"):
        Hardware("none", workers=0)
    with pytest.raises(ValueError, match="both learn"):
        ti.plan_many([*jobs(1), *jobs(1)], seconds_per_step=1)


def test_prices_are_dollars_an_hour_whatever_they_are_said_by() -> None:
    def machine(label: str) -> SimpleNamespace:
        return SimpleNamespace(name="m", unit_cost_usd=0.01, unit_label=label)

    assert [price(machine(label)) for label in ("minute", "second", "hour")] == pytest.approx([0.6, 36, 0.01])
    with pytest.raises(HubError, match="by the fortnight"):
        price(machine("fortnight"))


@pytest.mark.slow
def test_a_step_is_measured_without_the_first_and_shared_among_words(model: ti.Model) -> None:
    ticks = iter([100.0, 104.0, 108.0])
    assert measure_step(model, jobs(2), 2, steps=3, clock=lambda: next(ticks)) == 2.0
    assert 1 <= packing(model, jobs(1)[0]) <= 16
    assert packing(model, jobs(1, negative=1)[0]) == 1
