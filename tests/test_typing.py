"""What the package says of its types holds for who uses it: mypy, strict, on a user's ten lines, by the types of `py.typed`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import ti_nb as ti

SCRIPT = """from pathlib import Path

import ti_nb as ti

model: ti.Model = ti.load_model("tiny")
images: ti.ConceptImages = ti.load_images("photos")
run: ti.Run = ti.train(model, images, word="<my-cat>", init="cat", settings=ti.FAST, steps=10)
losses: list[float] = [record.loss for record in run]
word: ti.Concept = ti.adjust(run.concept(), run.start, strength=0.9)
pictures: list[ti.Sample] = ti.sample(model, "a photo of {}", word, seeds=2)
ti.save(word, Path("cat.safetensors"))
"""
PACKAGE = Path(ti.__file__).parent


@pytest.mark.slow
def test_a_users_script_passes_mypy_strict(tmp_path: Path) -> None:
    """The package stands on the path as an installed one does; other packages' types, of torch above all, take minutes."""
    assert (PACKAGE / "py.typed").exists()
    right, wrong = tmp_path / "right.py", tmp_path / "wrong.py"
    right.write_text(SCRIPT)
    wrong.write_text(SCRIPT.replace('word="<my-cat>"', "word=3").replace("list[float]", "list[str]"))
    settings = tmp_path / "mypy.ini"
    settings.write_text(
        f"[mypy]\nstrict = true\nmypy_path = {PACKAGE.parent}\nfollow_imports = skip\nignore_missing_imports = true\n"
        "[mypy-ti_nb.*]\nfollow_imports = silent\n"
    )
    command = [sys.executable, "-m", "mypy", "--cache-dir", os.devnull, "--config-file", str(settings), right, wrong]
    told = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path).stdout
    errors = [line for line in told.splitlines() if "error:" in line]
    # Were the types all Any, nothing would contradict them.
    assert len(errors) == 2 and all(line.startswith("wrong.py") for line in errors), told
