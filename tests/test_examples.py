"""Every example in the docstring of a public name runs, and prints what the docstring says."""

import doctest
from pathlib import Path

import pytest

import ti_nb as ti
from tests import few_steps

FINDER = doctest.DocTestFinder(recurse=False)
EXAMPLES = [test for name in ti.__all__ for test in FINDER.find(getattr(ti, name), name) if test.examples]


SLOW = (
    "train",
    "train_seeds",
    "load_into",
    "plan_memory",
    "loss_by_timestep",
    "leak",
    "tune",
)  # they train, or draw many pictures
THOROUGH = (
    "score",
    "score_steps",
    "together",
    "train_many",
    "compare_words",
    "read_run",
    "train_progressively",
)  # they do much of it


def marks(name: str) -> list[pytest.MarkDecorator]:
    return [pytest.mark.slow] * (name in SLOW) + [pytest.mark.slow, pytest.mark.thorough] * (name in THOROUGH)


@pytest.mark.parametrize(
    "example",
    [pytest.param(one, id=one.name, marks=marks(one.name)) for one in EXAMPLES],
)
def test_the_example_runs_as_written(
    example: doctest.DocTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: ti.Model
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ti, "load_model", lambda name, **options: model)  # loaded once; all examples take tiny
    monkeypatch.setattr("diffusers.DDIMScheduler.set_timesteps", few_steps.at_most(2))
    output: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert runner.run(example, out=output.append).failed == 0, "".join(output)


@pytest.mark.parametrize("name", ["sample", "score"])
def test_what_a_user_looks_up_has_an_example(name: str) -> None:
    assert name in [example.name for example in EXAMPLES]
