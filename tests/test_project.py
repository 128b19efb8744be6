"""What README and the notebooks promise holds: addresses, commands, imports, cells a reader can follow."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest

import ti_nb as ti
from tests import few_steps
from tools import address

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def test_every_link_to_the_project_has_its_one_address() -> None:
    owner_and_name = address.current()
    pattern = re.compile(r"(?:github\.com|colab\.research\.google\.com/github)/([\w.-]+/ti[_-]nb)\b")
    found = {str(path.relative_to(ROOT)): set(pattern.findall(path.read_text())) for path in address.texts()}
    assert all(names <= {owner_and_name} for names in found.values()), found
    assert found["README.md"] == {owner_and_name}
    assert all(found[f"notebooks/{path.name}"] == {owner_and_name} for path in NOTEBOOKS)


def test_make_address_rewrites_every_one_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in address.texts():
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(path.read_text())
    old = address.current()
    monkeypatch.setattr(address, "ROOT", tmp_path)
    address.rewrite("some-one/else.where")
    assert address.current() == "some-one/else.where"
    assert not [p for p in tmp_path.rglob("*.*") if f"github.com/{old}" in p.read_text()]
    assert "colab.research.google.com/github/some-one/else.where" in (tmp_path / "README.md").read_text()
    with pytest.raises(SystemExit, match="owner/name"):
        address.rewrite("nonsense")


def test_import_is_light_and_so_quick() -> None:
    code = "import sys; before = set(sys.modules); import ti_nb; print(*set(sys.modules) - before)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    names = {name.partition(".")[0] for name in out.split()}
    assert names - set(sys.stdlib_module_names) == {"ti_nb", "lazy_loader"}


def test_every_public_name_is_there_and_documented() -> None:
    names = [name for name in dir(ti) if name != "__version__"]
    assert len(names) > 50
    assert [n for n in names if callable(getattr(ti, n)) and not inspect.getdoc(getattr(ti, n))] == []


def test_what_is_no_public_name_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="trian"):
        ti.trian  # noqa: B018


def test_readme_speaks_of_files_and_commands_that_exist() -> None:
    text = (ROOT / "README.md").read_text()
    for target in re.findall(r"\]\((?!https?:|#)([^)]+)\)", text):
        assert (ROOT / target).exists(), target
    makefile = (ROOT / "Makefile").read_text()
    for command in set(re.findall(r"`make (\w+)", text)) | set(re.findall(r"^make (\w+)", text, re.MULTILINE)):
        assert re.search(rf"^{command}:", makefile, re.MULTILINE), command


@pytest.mark.slow
def test_readme_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)  # whoever runs this
    monkeypatch.setattr("diffusers.DDIMScheduler.set_timesteps", few_steps.at_most(2))
    space: dict = {}
    exec(block.replace("init=", "steps=4, init="), space)
    assert (tmp_path / "my-penguin.safetensors").exists()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_installs_from_the_projects_address(path: Path) -> None:
    assert f"git+https://github.com/{address.current()}" in path.read_text()


def test_demo_report_has_the_promised_form() -> None:
    """The quickstart writes what `make demo` promises; read from its own source, run by nbval."""
    source = "\n".join(c.source for c in nbformat.read(NOTEBOOKS[0], as_version=4).cells if c.cell_type == "code")
    keys = re.search(r"report = \{(.*?)\n\}", source, re.DOTALL)
    assert keys
    named = re.findall(r'^    "(\w+)":', keys[1], re.MULTILINE)
    assert named == ["word", "steps", "train_seconds", "subject_fidelity", "prompt_fidelity", "files"]


def test_version_and_licences_are_stated_once() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "version" in project["dynamic"]
    assert f"version: {ti.__version__}" in (ROOT / "CITATION.cff").read_text()
    assert f"## {ti.__version__}" in (ROOT / "CHANGELOG.md").read_text()
    assert "Apache License" in (ROOT / "LICENSE").read_text()
    licences = (ROOT / "ti_nb/tiny/LICENSES.md").read_text()
    from tools.tiny_model.fetch import PACKAGES

    for name, version, licence in PACKAGES.values():
        assert name in licences
        assert version in licences
        assert licence in licences or licence == "CC-BY-4.0"


def test_figures_in_the_card_are_the_measured_ones() -> None:
    figures = json.loads((ROOT / "docs/pictures/tiny_figures.json").read_text())
    card = (ROOT / "ti_nb/tiny/README.md").read_text()
    for key in ("thing_top5", "background_top1", "style_top1"):
        assert f"{figures[key]:.0%}" in card, (key, figures[key])


def test_the_notebooks_are_copied_and_none_of_yours_is_written_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ti_nb import __main__ as program

    mine = tmp_path / NOTEBOOKS[0].name
    mine.write_text("mine")
    monkeypatch.setattr(sys, "argv", ["ti_nb", "notebooks", str(tmp_path)])
    program.main()
    assert sorted(p.name for p in tmp_path.iterdir()) == [p.name for p in NOTEBOOKS]
    assert mine.read_text() == "mine"
    assert f"{mine}: there already" in capsys.readouterr().out
