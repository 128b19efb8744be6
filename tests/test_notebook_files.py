"""The notebooks as files: of the format, ready for Colab and GitHub, cells that a reader can follow, no outputs."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement

from tools import address

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=nbformat.NO_CONVERT)


def code(path: Path) -> list[Any]:
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


@each_notebook
def test_a_notebook_is_of_the_format_with_ids_and_holds_no_state_of_a_session(path: Path) -> None:
    notebook = read(path)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    ids = Counter(cell.id for cell in notebook.cells)
    assert max(ids.values()) == 1
    assert "widgets" not in notebook.metadata  # without its "state" GitHub shows nothing (colabtools #5288)
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code(path))
    assert not [cell.id for cell in notebook.cells if {"executionInfo", "outputId", "id"} & set(cell.metadata)]


@each_notebook
def test_colab_gives_it_a_gpu_a_kernel_and_a_table_of_contents(path: Path) -> None:
    metadata = read(path).metadata
    assert metadata.get("accelerator") == "GPU"
    assert metadata.get("colab") == {"provenance": [], "gpuType": "T4", "toc_visible": True}
    assert metadata.kernelspec.name == "python3"


@each_notebook
def test_its_badge_opens_this_very_notebook(path: Path) -> None:
    first = read(path).cells[0]
    assert first.cell_type == "markdown"
    link = f"https://colab.research.google.com/github/{address.current()}/blob/main/notebooks/{path.name}"
    assert f"(https://colab.research.google.com/assets/colab-badge.svg)]({link})" in first.source


@each_notebook
def test_its_cells_are_short_and_each_is_led_by_a_few_words(path: Path) -> None:
    before = None
    for cell in read(path).cells:
        if cell.cell_type == "code":
            assert len(cell.source.splitlines()) <= 15, cell.id
            assert before is not None and before.cell_type == "markdown", f"no words before cell {cell.id}"
            assert len(re.sub(r"\(http\S+\)", "", before.source).split()) <= 120, f"too many words in {before.id}"
        before = cell


@each_notebook
def test_it_has_one_parameters_cell(path: Path) -> None:
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in code(path)) == 1


@each_notebook
def test_its_first_cell_installs_only_what_is_missing_and_upgrades_nothing(path: Path) -> None:
    first, *others = [cell.source for cell in code(path)]
    assert re.search(r"^if .*find_spec\(.ti_nb.\) is None:\n +%pip install ", first, re.MULTILINE)
    assert not re.search(r"(^|\s)(-U|--upgrade|--force-reinstall|--pre)\b", first)
    assert not any(re.search(r"^\s*[%!]\s*(pip|conda|apt)", source, re.MULTILINE) for source in others)


def test_environment_yml_lists_what_pyproject_asks_for() -> None:
    """Conda's channels can't be asked here: names and bounds are compared, not resolved."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = yaml.safe_load((ROOT / "environment.yml").read_text())
    has = {r.name: r.specifier for r in (Requirement(d) for d in listed["dependencies"] if isinstance(d, str))}
    asked = [Requirement(d) for d in [*project["dependencies"], *project["optional-dependencies"]["test"]]]
    wants = {CONDA.get(r.name, r.name): r.specifier for r in asked}
    assert listed["channels"] == ["conda-forge"]
    assert {name: has.get(name) for name in wants} == wants
    assert set(has) - set(wants) == {"python", "pip", "jupyterlab"}
    assert project["requires-python"] in str(has["python"])


CONDA = {"torch": "pytorch", "opencv-python-headless": "py-opencv"}  # PyPI's name: conda-forge's, where they differ
