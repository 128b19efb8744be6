"""The panels on the other ipywidgets: Colab's 7.7.1, in its own environment, warnings as errors there too."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tools import stacks

ROOT = Path(__file__).parents[1]


@pytest.mark.thorough
def test_panels_work_on_colabs_ipywidgets():
    colab = str(stacks.python("colab"))
    if not stacks.is_built("colab"):
        pytest.skip("needs Colab's versions beside ours: make stacks")
    version = "import ipywidgets; print(ipywidgets.__version__)"
    said = subprocess.run([colab, "-c", version], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "7.7.1"
    quick = ["-m", "not thorough"]
    panels = [f"tests/test_{name}_panel.py" for name in ("prepare", "train", "explore", "publish")]
    done = subprocess.run([colab, "-m", "pytest", *quick, *panels], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:]
    assert " passed" in done.stdout and "no tests ran" not in done.stdout
