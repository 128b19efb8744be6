"""What the package says of its types holds for who uses it: mypy, strict, on a user's ten lines, by the types of `py.typed`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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


def mypy(script: Path, text: str) -> str:
    script.write_text(text)
    # The package stands on the path as an installed one does: only its types are read, its own errors are not said.
    settings = script.with_name("mypy.ini")
    settings.write_text(
        f"[mypy]\nstrict = true\nmypy_path = {PACKAGE.parent}\n[mypy-ti_nb.*]\nfollow_imports = silent\n"
    )
    command = [sys.executable, "-m", "mypy", "--config-file", str(settings), str(script)]
    return subprocess.run(command, capture_output=True, text=True, cwd=script.parent).stdout


def test_a_users_script_passes_mypy_strict(tmp_path: Path) -> None:
    assert (PACKAGE / "py.typed").exists()
    assert "Success: no issues found" in mypy(tmp_path / "mine.py", SCRIPT)
    wrong = mypy(tmp_path / "mine.py", SCRIPT.replace('word="<my-cat>"', "word=3").replace("list[float]", "list[str]"))
    assert wrong.count("error:") == 2, wrong  # or the types would all be Any, which nothing contradicts
