"""Where the code runs is told by what is there, and what Colab can do fails in words everywhere else."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

import ti_nb as ti
from ti_nb.host import frontend
from ti_nb.models import families
from ti_nb.pictures import sources

VSCODE = ("VSCODE_PID", "VSCODE_CWD", "JPY_SESSION_NAME")


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VSCODE:
        monkeypatch.delenv(name, raising=False)


def colab(monkeypatch: pytest.MonkeyPatch, **parts: object) -> None:
    """A google.colab that has `files` and `drive` with these functions."""
    package = ModuleType("google.colab")
    package.files = SimpleNamespace(upload=parts.get("upload"), download=parts.get("download"))
    package.drive = SimpleNamespace(mount=parts.get("mount"))
    monkeypatch.setitem(sys.modules, "google.colab", package)


def kernel(monkeypatch: pytest.MonkeyPatch, message: str = "execute_request", **names: object) -> None:
    """An IPython whose shell is in a kernel that handles `message`."""
    shell = SimpleNamespace(
        kernel=SimpleNamespace(get_parent=lambda: {"header": {"msg_type": message}}), user_ns=dict(names)
    )
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))


def ui_poll(monkeypatch: pytest.MonkeyPatch, ipykernel: str) -> list[int]:
    """A jupyter_ui_poll that notes how many events it was asked for."""
    pumped: list[int] = []

    @contextmanager
    def ui_events():
        yield pumped.append
        pumped.append(-1)

    module = ModuleType("jupyter_ui_poll")
    module.ui_events = ui_events
    module.__spec__ = SimpleNamespace(name="jupyter_ui_poll")
    monkeypatch.setitem(sys.modules, "jupyter_ui_poll", module)
    monkeypatch.setattr(frontend, "version", lambda _: ipykernel)
    return pumped


def test_the_frontend_is_told_by_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: None))
    assert (frontend.frontend(), frontend.in_cell()) == ("terminal", False)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: SimpleNamespace(user_ns={})))
    assert frontend.frontend() == "terminal"  # IPython without a kernel
    monkeypatch.delitem(sys.modules, "IPython")
    assert frontend.frontend() == "terminal"
    kernel(monkeypatch)
    assert (frontend.frontend(), frontend.in_cell(), frontend.prefers_foreground()) == ("jupyter", True, False)
    monkeypatch.setenv("VSCODE_CWD", "/x")
    assert frontend.frontend() == "vscode"
    monkeypatch.setenv("JPY_SESSION_NAME", "a.ipynb")  # JupyterLab, started in VS Code's terminal
    assert frontend.frontend() == "jupyter"
    kernel(monkeypatch, __vsc_ipynb_file__="a.ipynb")
    assert frontend.frontend() == "vscode"
    colab(monkeypatch)
    assert (frontend.frontend(), frontend.in_colab(), frontend.prefers_foreground()) == ("colab", True, True)


def test_clicks_are_let_through_where_that_can_work(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel(monkeypatch)
    pumped = ui_poll(monkeypatch, "6.17.1")
    with frontend.clicks() as let_through:
        let_through()
        let_through()
    assert pumped == [10, 10, -1]
    poll = frontend.poll()
    poll()
    poll()
    assert pumped[3:] == [10, -1, 10, -1]


@pytest.mark.parametrize(
    "case", ["ipykernel 7.4", "ipykernel 10", "VS Code", "a callback", "no kernel", "not installed"]
)
def test_elsewhere_they_are_not(monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    """In a widget's callback above all: jupyter_ui_poll would hold back all cells, waiting for the end of one."""
    kernel(monkeypatch, "comm_msg" if case == "a callback" else "execute_request")
    versions = {"ipykernel 7.4": "7.4.0", "ipykernel 10": "10.0"}
    pumped = ui_poll(monkeypatch, versions.get(case, "7.3.0"))
    if case == "VS Code":
        monkeypatch.setenv("VSCODE_PID", "1")
    if case == "no kernel":
        monkeypatch.delitem(sys.modules, "IPython")
    if case == "not installed":
        monkeypatch.delitem(sys.modules, "jupyter_ui_poll")
        monkeypatch.setattr(frontend.importlib.util, "find_spec", lambda _: None)
    frontend.poll()()
    with frontend.clicks() as let_through:
        let_through()
    assert pumped == []


def upload(*names: str) -> Callable[..., dict]:
    def put(target_dir: str = "") -> dict:
        for name in names:
            Path(target_dir, name).write_bytes(name.encode())
        return {}

    return put


def test_chosen_pictures_arrive_in_a_fresh_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    colab(monkeypatch, upload=upload("b.png", "a.jpg"))
    first = sources.choose_pictures(tmp_path / "cats")
    assert first == [tmp_path / "cats/a.jpg", tmp_path / "cats/b.png"]
    again = sources.choose_pictures(tmp_path / "cats")
    assert again == [tmp_path / "cats-2/a.jpg", tmp_path / "cats-2/b.png"]
    assert again[0].read_bytes() == b"a.jpg"
    assert {p.parent.name for p in sources.choose_pictures(tmp_path / "cats")} == {"cats-3"}


def raising(error: BaseException) -> Callable[..., None]:
    def act(*_: object, **__: object) -> None:
        raise error

    return act


def test_an_upload_that_fails_says_what_to_do_instead(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="in Colab only: give load_images the path"):
        sources.choose_pictures(tmp_path / "x")
    assert not (tmp_path / "x").exists()
    for failure, said in ((TypeError("no element\nmore"), "no element"), (KeyboardInterrupt(), "KeyboardInterrupt")):
        colab(monkeypatch, upload=raising(failure))
        with pytest.raises(RuntimeError, match=rf"\({said}\): give load_images the path of a folder"):
            sources.choose_pictures(tmp_path / "x")
    colab(monkeypatch, upload=upload())
    with pytest.raises(RuntimeError, match="no picture was chosen"):
        sources.choose_pictures(tmp_path / "x")


def test_drive_is_mounted_or_says_why_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="in Colab only: give a folder"):
        sources.mount_drive()
    monkeypatch.setattr(sources, "DRIVE", tmp_path / "drive")
    mounted = []
    colab(monkeypatch, mount=lambda where: mounted.append(where))
    with pytest.raises(RuntimeError, match="is not there: go on without"):
        sources.mount_drive()
    (tmp_path / "drive/MyDrive").mkdir(parents=True)
    assert sources.mount_drive() == tmp_path / "drive/MyDrive"
    assert mounted == [str(tmp_path / "drive")] * 2
    for failure, reason in (
        (ValueError("mount failed: timeout during initial read of root folder"), "did not answer in time"),
        (ValueError("Error: credential propagation was unsuccessful"), "permission is refused"),
        (NotImplementedError("Enterprise"), "was not connected"),
        (KeyboardInterrupt(), "was not connected"),
    ):
        colab(monkeypatch, mount=raising(failure))
        with pytest.raises(RuntimeError, match=f"{reason}.*: run the cell again and allow it, or go on without"):
            sources.mount_drive()


def test_a_run_and_pictures_reach_another_machine_whole(
    tmp_path: Path, model: ti.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = replace(ti.example_images("penguin"), captions=[f"a {{}} {i}" for i in range(5)])
    run = ti.train(model, photos, word="<new>", init="bird", steps=2, batch=1, watch=0, out=tmp_path / "work/run")
    list(run)
    ti.save_images(photos, tmp_path / "work/pictures")
    (tmp_path / "work/elsewhere").symlink_to("/etc/hostname")
    archive = ti.pack(tmp_path / "work")
    assert archive == tmp_path / "work.zip" and not [n for n in zipfile.ZipFile(archive).namelist() if "lock" in n]
    there = ti.unpack(archive, tmp_path / "there")
    assert not (there / "elsewhere").exists()
    again = ti.load_images(there / "pictures", captions="files")
    assert list(again.captions) == list(photos.captions)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(again.images, photos.images, strict=True))
    assert ti.read_run(there / "run").concept().vectors["clip_l"].equal(run.concept().vectors["clip_l"])
    assert ti.unpack(archive, tmp_path / "there") == tmp_path / "there-2"  # nothing is overwritten
    given = []
    colab(monkeypatch, upload=lambda: {str(archive): b""}, download=given.append)
    assert ti.pack(there, tmp_path / "again.zip") == tmp_path / "again.zip" and given == [str(tmp_path / "again.zip")]
    assert ti.unpack(None, tmp_path / "asked") == tmp_path / "asked"


@pytest.mark.parametrize(
    "case", ["no zip", "cut", "damaged", "up", "absolute", "backslash", "drive", "link", "large", "locked"]
)
def test_a_zip_that_is_not_ours_leaves_nothing(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"up": "a/../../x", "absolute": "/tmp/x", "backslash": "..\\x", "drive": "C:x"}
    path, inside = tmp_path / "in/a.zip", zipfile.ZipInfo(names.get(case, "x.txt"))
    path.parent.mkdir()
    if case == "link":
        inside.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "w") as writer:
        writer.writestr("first.txt", "a")
        writer.writestr(inside, bytes(range(256)) * 40)
    data = bytearray(path.read_bytes())
    if case == "no zip":
        data = bytearray(b"GIF89a")
    if case == "cut":
        data = data[:-30]
    if case == "damaged":
        data[200] ^= 255
    if case == "locked":
        data = bytearray(bytes(data).replace(b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01"))
    path.write_bytes(data)
    if case == "large":
        monkeypatch.setattr(sources, "MAX_UNPACKED", 1000)
    with pytest.raises(ti.errors.InvalidValue, match=r"can't be unpacked|written elsewhere|more than"):
        ti.unpack(path)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a.zip", "in"]


def test_what_can_t_be_packed_is_said(tmp_path: Path) -> None:
    for folder, said in ((tmp_path / "none", "no such folder"), (tmp_path, "holds no file")):
        with pytest.raises(ValueError if folder == tmp_path else FileNotFoundError, match=said):
            ti.pack(folder)
    with pytest.raises(FileNotFoundError, match="no such file"):
        ti.unpack(tmp_path / "none.zip")
    with pytest.raises(RuntimeError, match="in Colab only: give the path"):
        ti.unpack()


def gpu(monkeypatch: pytest.MonkeyPatch, gigabytes: float | None) -> None:
    facts = SimpleNamespace(name="Tesla T4", total_memory=int((gigabytes or 0) * 1e9))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gigabytes is not None)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: facts)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


def test_what_a_model_needs_is_said_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "nothing is downloaded" in families.needs("tiny")
    assert "not known here" in families.needs("someone/else")
    with pytest.raises(ValueError, match=r"no model 'sd35' \(did you mean 'sd3.5'\?\): give tiny, sd15"):
        families.needs("sd35")
    gpu(monkeypatch, 15.8)
    assert "about 4 GB once (2 GB in half precision)" in families.needs("sd15")
    assert families.needs("sd15").endswith("This machine has Tesla T4 with 16 GB: enough.")
    gpu(monkeypatch, 8)
    assert "too little" in families.needs("sdxl") and "about 14 GB once (7 GB" in families.needs("sdxl")
    gpu(monkeypatch, None)
    assert "has no GPU: it will work, but take hours" in families.needs("sd21")
    assert "Runtime >" not in families.needs("sd21")
    colab(monkeypatch)
    assert "Runtime > Change runtime type > T4 GPU" in families.needs("sd21")


def test_every_short_name_has_its_needs() -> None:
    assert all("downloads about" in families.needs(name) for name in families.RELEASES)
