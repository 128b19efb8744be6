"""The notebooks run in every place: here, and in a Colab whose users say yes, no or nothing."""

from __future__ import annotations

import ast
import builtins
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.utils import run_sync
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from PIL import Image

import ti_nb as ti
from tests.hub_server import HubServer, client_environment
from tests.kernels import ROOT, manager
from tests.test_notebook_files import code
from tools import stacks

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
STUB = ROOT / "tests" / "colab_stub"
SECONDS, BYTES = 900, 1_000_000  # at most: for a cell, which then hangs, and for a notebook's outputs
EVERY = os.environ.get("TI_NB_NOTEBOOKS") == "all"
ANSWERS = ("succeed", "refuse", "timeout")
LONG = ("06_applications", "07_experiments", "09_many_words")  # minutes, even with few steps
LATER = ("03_look_inside", "04_create", *LONG)  # not in `make test`
FEW = dict(STEPS=8, COUNT=10, denoising=1)  # those that a notebook has no use for do nothing there
pytestmark = pytest.mark.slow
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=nbformat.NO_CONVERT)


# In a Colab


@pytest.mark.thorough
@pytest.mark.parametrize("answer", [*ANSWERS, "unsupported"])
def test_the_stand_in_for_colab_answers_as_told(answer: str, tmp_path: Path) -> None:
    told = ask_for_pictures_drive_and_token(answer, tmp_path)
    if answer == "succeed":
        assert told == [f"{tmp_path}/drive/MyDrive", "5 pictures", "hf_not_a_token"]
    else:
        assert told[0].startswith("NotPossible: Google Drive")
        assert ("did not answer in time" in told[0]) == (answer == "timeout")
        assert told[1].startswith(
            "NotPossible: no picture was chosen" if answer == "refuse" else "NotPossible: the page"
        )
        assert told[2] == "None"


def ask_for_pictures_drive_and_token(answer: str, folder: Path) -> list[str]:
    """What ti_nb and huggingface_hub make of it, in a new interpreter."""
    program = f"""
import pathlib, warnings, ti_nb.pictures.sources as sources
from huggingface_hub.utils import _auth
_auth.is_google_colab = lambda: True  # it looks at IPython's shell, which is Colab's own there
warnings.simplefilter("ignore")
sources.DRIVE = pathlib.Path({str(folder / "drive")!r})
asks = sources.mount_drive, lambda: f"{{len(sources.choose_pictures('new'))}} pictures", _auth.get_token
for ask in asks:
    try:
        print("told", ask())
    except Exception as error:
        print("told", type(error).__name__ + ":", error)
"""
    out = subprocess.run(
        [sys.executable, "-c", program], env=environment(answer), cwd=folder, capture_output=True, text=True, check=True
    )
    return [line.removeprefix("told ") for line in out.stdout.splitlines() if line.startswith("told ")]


def environment(answer: str | None) -> dict[str, str]:
    """For an interpreter that finds the project, and the stand-in for Colab if it is to answer."""
    path = [str(STUB), str(ROOT)] if answer else [str(ROOT)]
    new = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path),
        "OMP_NUM_THREADS": "1",
        "TI_NB_COLAB": answer or "succeed",
    }
    if answer:
        new.update(TI_NB_COLAB_SECONDS="0.2", HF_TOKEN_PATH="/nonexistent/token")
    return {name: value for name, value in new.items() if name not in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")}


def place(stack: str | None, answer: str | None) -> Any:
    """A parameter: where to run the notebooks. By default here is left to nbval, and in Colab everybody says yes, in few steps."""
    name = f"{stack or 'here'}-{answer or 'jupyter'}"
    if stack and not stacks.is_built(stack):
        return pytest.param(stack, answer, id=name, marks=pytest.mark.skip(reason="run `make stacks` first"))
    wanted = EVERY or (stack and answer == "succeed")
    return pytest.param(
        stack, answer, id=name, marks=pytest.mark.skipif(not wanted, reason="set TI_NB_NOTEBOOKS=all to run it")
    )


@pytest.fixture(scope="module")
def kernels() -> Iterator[Callable[[str | None, str | None], AsyncKernelManager]]:
    """One for all notebooks in a place, as most of a short notebook's time goes into what it imports."""
    made: dict[Any, AsyncKernelManager] = {}

    def kernel(stack: str | None, answer: str | None) -> AsyncKernelManager:
        return made.setdefault((stack, answer), manager(stack, AsyncKernelManager))

    yield kernel
    for each in made.values():
        run_sync(each.shutdown_kernel)(now=True)


@pytest.mark.parametrize(
    "path", [pytest.param(p, id=p.stem, marks=[pytest.mark.thorough] * (p.stem in LATER)) for p in NOTEBOOKS]
)
def test_it_runs_with_few_steps(path: Path, kernels: Any, tmp_path: Path) -> None:
    """Every cell; how good words and pictures are is no matter here. In full it takes minutes, which nbval gives it when there is time."""
    execute(path, tmp_path, kernel=kernels(None, None), **FEW)


@pytest.mark.thorough
@each_notebook
@pytest.mark.parametrize(
    ("stack", "answer"), [place(stack, answer) for stack in (None, "colab") for answer in (None, *ANSWERS)]
)
def test_it_runs_top_to_bottom(path: Path, stack: str | None, answer: str | None, kernels: Any, tmp_path: Path) -> None:
    if path.stem in LONG and not EVERY:
        pytest.skip("it runs here, with few steps; set TI_NB_NOTEBOOKS=all to run it elsewhere too")
    began = time.monotonic()
    how = {} if EVERY else {"kernel": kernels(stack, answer), **FEW}
    done = execute(path, tmp_path, stack=stack, answer=answer, **how)
    seconds, size = time.monotonic() - began, sum(len(str(cell.get("outputs", ""))) for cell in done.cells)
    print(f"{path.name} on {stack or 'here'}, {answer or 'jupyter'}: {seconds:.0f} s, {size / 1000:.0f} kB of outputs")
    assert size < BYTES


SOURCES = [(source, answer) for source in ("upload", "drive") for answer in ANSWERS if EVERY or answer != "timeout"]


@pytest.mark.thorough
@pytest.mark.parametrize(("source", "answer"), SOURCES)
def test_pictures_come_from_colab_or_the_notebook_stops(answer: str, source: str, tmp_path: Path) -> None:
    """The first cells of 01, until the pictures are shown: never somebody else's under the user's word."""
    path = ROOT / "notebooks" / "01_prepare_pictures.ipynb"
    if answer != "succeed":
        with pytest.raises(CellExecutionError, match="NotPossible"):
            execute(path, tmp_path, answer=answer, until="source", SOURCE=source, FOLDER="pictures")
        return
    done = execute(path, tmp_path, answer=answer, until="source", SOURCE=source, FOLDER="pictures")
    assert any("image/jpeg" in o.get("data", {}) for o in done.cells[-1].outputs)


def test_cells_that_may_be_skipped_break_nothing_after_them() -> None:
    """In 01 a picture that only such a cell made, and an import, were missed by cells after it."""
    cells, led = [], ""
    for cell in read(ROOT / "notebooks" / "01_prepare_pictures.ipynb").cells:
        if cell.cell_type == "markdown":
            led = cell.source
        elif "nbval-skip" not in cell.metadata.get("tags", ()):
            cells.append((cell.source, "may be skipped" in led or "Without this cell" in led))
    assert sum(skipped for _, skipped in cells) >= 2
    there: set[str] = set(dir(builtins))
    for source, skipped in cells:
        names = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)]
        made = {n.id for n in names if isinstance(n.ctx, ast.Store)} | {
            alias.asname or alias.name.split(".")[0]
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        assert not (missing := {n.id for n in names} - made - there), f"{missing} in: {source}"
        there |= set() if skipped else made


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["nowhere", "empty", "others"])
def test_a_folder_that_is_wrong_or_empty_stops_the_notebook(folder: str, tmp_path: Path) -> None:
    """01 used to go on with the example's penguins under the user's word."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "list.txt").write_text("not a picture")
    cells = {
        cell.source.split(" ", 1)[0]: cell.source for cell in code(ROOT / "notebooks" / "01_prepare_pictures.ipynb")
    }
    names = {"ti": ti, "SOURCE": str(tmp_path / folder), "FOLDER": ""}
    with pytest.raises((FileNotFoundError, ValueError), match=folder):
        exec(cells["source"], names)  # its whole cell, as in the notebook


@pytest.mark.thorough
def test_own_pictures_and_words_go_from_notebook_to_notebook(kernels: Any, tmp_path: Path) -> None:
    """Three photographs of three shapes through 01; what it wrote, with a caption and a mask added, into 02.

    A word's file that says nothing of its beginnings into 04, and into 05 with the pictures it was learned from.
    """
    prepared, learned = tmp_path / "prepared", tmp_path / "my-taco.safetensors"
    own = tmp_path / "own"
    own.mkdir()
    how = {"kernel": kernels(None, None), "denoising": 1}
    for number, drawing in enumerate(ti.example_images("taco").images[:3]):
        side = 300 + 10 * number
        photo = Image.new("RGB", (450, side), drawing.getpixel((2, 2)))
        photo.paste(drawing.resize((side, side)), ((450 - side) // 2, 0))
        photo.save(own / f"photo-{number}.jpg")
    execute(NOTEBOOKS[1], tmp_path, **how, SOURCE="own", OUT=str(prepared), WORD="<my-taco>", INIT="food")
    assert [Image.open(path).size for path in sorted(prepared.glob("*.png"))] == [(300, 300), (310, 310), (320, 320)]

    first = prepared / "01-photo-0.png"
    first.with_suffix(".txt").write_text("a photo of a {} on a table")
    (prepared / "masks").mkdir()
    Image.new("L", (300, 300), 255).save(prepared / "masks" / first.name)
    loaded = execute(NOTEBOOKS[2], tmp_path, **how, until="pictures", PICTURES=str(prepared)).cells[-1]
    assert "01-photo-0.png: 300 x 300, a caption, a mask" in "".join(o.get("text", "") for o in loaded.outputs)

    ti.save(replace(ti.initial_concept(ti.load_model("tiny"), "<my-taco>", "food"), facts={}), learned)
    slow = ("variations", "scenes", "styles", "mix")
    drawn = execute(NOTEBOOKS[4], tmp_path, **how, until="draw", without=slow, FILES=str(learned)).cells[-1]
    assert any("image/jpeg" in o.get("data", {}) for o in drawn.outputs)
    given = {"FILE": str(learned), "FOLDER": "own", "PICTURES": True}
    plan = execute(NOTEBOOKS[5], tmp_path, **how, until="plan", **given).cells[-1]
    assert str(plan.outputs).count("concept_images/") == 3


@pytest.mark.thorough
@each_notebook
def test_it_runs_again_where_it_has_run(path: Path, tmp_path: Path) -> None:
    """Run all, twice; the second time most of it is there already."""
    if not EVERY:
        pytest.skip("set TI_NB_NOTEBOOKS=all to run it")
    for _ in range(2):
        execute(path, tmp_path)


@pytest.mark.thorough
def test_a_word_is_shared_and_fetched_back_by_the_real_client(tmp_path: Path) -> None:
    """All of 05, told to publish, against a Hub on this machine."""
    with HubServer() as hub:
        client = client_environment(hub, tmp_path / "client", token="hf_test_alice_write")
        done = execute(ROOT / "notebooks" / "05_share.ipynb", tmp_path, env=client, PUBLISH=True, STEPS=20)
        repo = hub.repos["alice/my-penguin"]
        assert repo.private and [commit.title for commit in repo.commits[1:]] == ["The word <my-penguin>"]
        assert not [path for path in repo.files if path.startswith("concept_images/")]
    (drawn,) = [cell for cell in done.cells if cell.id == "again"]
    assert "here and fetched are equal: True" in "".join(o.get("text", "") for o in drawn.outputs)


AFRESH = """
import os
os.chdir({folder!r})
os.environ["TI_NB_OUT"] = {out!r}
%reset -f
"""
FEWER_STEPS = """
import diffusers, tests.few_steps
diffusers.DDIMScheduler.set_timesteps = tests.few_steps.at_most({})
del diffusers, tests
"""


def execute(
    path: Path,
    folder: Path,
    *,
    stack: str | None = None,
    answer: str | None = None,
    until: str = "",
    without: Sequence[str] = (),
    env: dict[str, str] | None = None,
    kernel: AsyncKernelManager | None = None,
    denoising: int = 0,
    **parameters: Any,
) -> Any:
    """Run every cell, or those up to cell `until`, but those `without`, with `folder` as the working directory; a cell that fails raises.

    Args:
        env: more of the kernel's environment. kernel: one to use, made to look new; by default it is, and ends. denoising: steps of each picture at most, whatever is asked for; 0 for as asked.
        parameters: set after the parameters cell, as papermill does.
    """
    notebook = read(path)
    ids = [cell.id for cell in notebook.cells]
    if until:
        del notebook.cells[ids.index(until) + 1 :]
    notebook.cells = [cell for cell in notebook.cells if cell.id not in without]
    if parameters:
        given = nbformat.v4.new_code_cell("\n".join(f"{name} = {value!r}" for name, value in parameters.items()))
        notebook.cells.insert(ids.index("parameters") + 1, given)
    if denoising:
        notebook.cells.insert(0, nbformat.v4.new_code_cell(FEWER_STEPS.format(denoising)))
    if answer:
        where = f"import pathlib, ti_nb.pictures.sources as p; p.DRIVE = pathlib.Path({str(folder / 'drive')!r})"
        notebook.cells.insert(0, nbformat.v4.new_code_cell(where))
    out = str(folder / "out")
    if kernel:
        notebook.cells.insert(0, nbformat.v4.new_code_cell(AFRESH.format(folder=str(folder), out=out)))
    client = NotebookClient(
        notebook,
        km=kernel or manager(stack, AsyncKernelManager),
        timeout=SECONDS,
        resources={"metadata": {"path": str(folder)}},
        store_widget_state=False,
    )
    client.owns_km = kernel is None  # or its kernel would stay, with its gigabyte, until the last test
    client.execute(env={**environment(answer), "TI_NB_OUT": out, **(env or {})})
    folder.joinpath("executed.ipynb").write_text(nbformat.writes(notebook))  # where no token may be, see conftest
    return notebook
