"""`make stacks`: small environments of other notebook versions, in which the tests click on the panels.

Each is a virtual environment under outputs/stacks/ with the notebook packages of its name and nothing else. A .pth
file puts this interpreter's packages and the project behind its own: torch is not installed again, the pinned ones win.
"""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
STACKS = ROOT / "outputs" / "stacks"
COLAB = "constraints-colab.txt"

NOTEBOOK = [
    "ipykernel",
    "ipython",
    "ipywidgets",
    "jupyter_client",
    "matplotlib",
    "notebook",
    "pyzmq",
    "tornado",
    "traitlets",
]
MODEL = ["diffusers", "huggingface_hub", "safetensors", "tokenizers", "transformers"]

WANTED: dict[str, list[str]] = {
    "today": ["ipykernel", "ipywidgets>=8", "jupyterlab>=4"],
    "ipykernel-6.17.1": ["ipykernel==6.17.1", "ipywidgets>=8"],
    "ipykernel-7.3.0": ["ipykernel==7.3.0", "ipywidgets>=8"],
    "ipykernel-7.4.0": ["ipykernel==7.4.0", "ipywidgets>=8"],
    "colab": ["-c", COLAB, *NOTEBOOK, *MODEL],
}
WITHOUT_DEPENDENCIES = {"colab": ["-c", COLAB, "accelerate"]}  # it would bring torch


def python(name: str) -> Path:
    """The stack's interpreter; not there before `build`."""
    return STACKS / name / "bin" / "python"


def is_built(name: str) -> bool:
    """Whether the stack stands, made from today's list and constraints."""
    stamp = STACKS / name / "wanted.json"
    return stamp.exists() and stamp.read_text() == _stamp(name)


def build(name: str) -> None:
    """Make the stack anew, unless it stands."""
    if is_built(name):
        return
    folder = STACKS / name
    venv.create(folder, clear=True, with_pip=False, symlinks=True)
    for extra, wanted in ([], WANTED[name]), (["--no-deps"], WITHOUT_DEPENDENCIES.get(name)):
        if wanted:
            pip = [sys.executable, "-m", "pip", "--python", str(python(name)), "install", "-q", *extra, *wanted]
            subprocess.run(pip, check=True, cwd=ROOT)
    _site_packages(name).joinpath("behind.pth").write_text(f"{sysconfig.get_path('purelib')}\n{ROOT}\n")
    _write_kernel(name)
    (folder / "wanted.json").write_text(_stamp(name))


def versions(name: str) -> dict[str, str]:
    """The versions that a program of the stack sees."""
    code = (
        "import json, importlib.metadata as m; names = ('ipykernel', 'ipywidgets', 'ipython', 'jupyter_client',"
        "'jupyterlab', 'notebook', 'torch', 'diffusers', 'transformers'); have = {};\n"
        "for n in names:\n"
        "    try: have[n] = m.version(n)\n"
        "    except m.PackageNotFoundError: pass\n"
        "print(json.dumps(have))"
    )
    out = subprocess.run([str(python(name)), "-c", code], check=True, capture_output=True, text=True).stdout
    return dict(json.loads(out))


def kernels(name: str) -> Path:
    """The folder of the stack's kernel specification, named python3 as in every notebook."""
    return STACKS / name / "share" / "jupyter" / "kernels"


def _write_kernel(name: str) -> None:
    """Name the interpreter in full: "python" would be that of whoever starts the kernel."""
    command = [str(python(name)), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": command, "display_name": f"Python 3 ({name})", "language": "python"}
    (kernels(name) / "python3").mkdir(parents=True, exist_ok=True)
    (kernels(name) / "python3" / "kernel.json").write_text(json.dumps(spec))


def _site_packages(name: str) -> Path:
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return STACKS / name / "lib" / version / "site-packages"


def _stamp(name: str) -> str:
    constraints = (ROOT / COLAB).read_text() if COLAB in WANTED[name] else ""
    return json.dumps([sys.prefix, WANTED[name], WITHOUT_DEPENDENCIES.get(name), constraints])


if __name__ == "__main__":
    unknown = set(sys.argv[1:]) - set(WANTED)
    if unknown:
        raise SystemExit(f"no stack is named {', '.join(sorted(unknown))}: choose from {', '.join(WANTED)}")
    for stack in sys.argv[1:] or WANTED:
        build(stack)
        print(stack, *(f"{name} {version}" for name, version in versions(stack).items()), sep=" · ")
