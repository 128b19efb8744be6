"""Every example in the docstring of a public name runs, and prints what the docstring says."""

import doctest
from pathlib import Path

import pytest
from diffusers import DDIMScheduler

import ti_nb as ti

from .few_steps import at_most

FINDER = doctest.DocTestFinder(recurse=False)
EXAMPLES = [test for name in ti.__all__ for test in FINDER.find(getattr(ti, name), name) if test.examples]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_the_example_runs_as_written(example: doctest.DocTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(DDIMScheduler, "set_timesteps", at_most(2))
    output: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert runner.run(example, out=output.append).failed == 0, "".join(output)


@pytest.mark.parametrize("name", ["sample", "score"])
def test_what_a_user_looks_up_has_an_example(name: str) -> None:
    assert name in [example.name for example in EXAMPLES]
