"""`make stacks`: small environments with other versions of the notebook packages, in which the tests click on the panels.

Each is a virtual environment under outputs/stacks/ with only the notebook packages of its stack. A .pth file appends this
interpreter's packages and the project to its path: torch is not installed again, and the pinned packages come first.
"""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import tomllib
import venv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[1]
DECLARED = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
LOWEST = [
    bound.replace(">=", "==") for bound in DECLARED if not bound.startswith("torch>")
]  # torch would be a second copy
STACKS = ROOT / "outputs" / "stacks"
COLAB = "constraints-colab.txt"

NOTEBOOK = [
    "anywidget",
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
    "today": ["anywidget", "ipykernel", "ipywidgets>=8", "jupyterlab>=4"],
    "ipykernel-6.17.1": ["ipykernel==6.17.1", "ipywidgets>=8"],
    "ipykernel-7.3.0": ["ipykernel==7.3.0", "ipywidgets>=8"],
    "ipykernel-7.4.0": ["ipykernel==7.4.0", "ipywidgets>=8"],
    "colab": ["-c", COLAB, *NOTEBOOK, *MODEL],
    "lowest": [bound for bound in LOWEST if not bound.startswith("accelerate")],
}
WITHOUT_DEPENDENCIES = {  # accelerate depends on torch
    "colab": ["-c", COLAB, "accelerate"],
    "lowest": [bound for bound in LOWEST if bound.startswith("accelerate")],
}


def python(name: str) -> Path:
    """The stack's interpreter, which `build` makes."""
    return STACKS / name / "bin" / "python"


def is_built(name: str) -> bool:
    """Whether the stack was built from the current list and constraints."""
    stamp = STACKS / name / "wanted.json"
    return stamp.exists() and stamp.read_text() == _stamp(name)


def build(name: str) -> None:
    """Build the stack, unless it is up to date."""
    if is_built(name):
        return
    folder = STACKS / name
    venv.create(folder, clear=True, with_pip=False, symlinks=True)
    for options, wanted in ([], WANTED[name]), (["--no-deps"], WITHOUT_DEPENDENCIES.get(name)):
        if wanted:
            pip = [sys.executable, "-m", "pip", "--python", str(python(name)), "install", "-q", "--no-compile"]
            subprocess.run([*pip, *options, *wanted], check=True, cwd=ROOT)
    _site_packages(name).joinpath("behind.pth").write_text(f"{sysconfig.get_path('purelib')}\n{ROOT}\n")
    _write_kernel(name)
    (folder / "wanted.json").write_text(_stamp(name))


def versions(name: str) -> dict[str, str]:
    """The versions of the main packages, as imported in the stack."""
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
    """The folder of the stack's kernel spec, which is named python3 as in every notebook."""
    return STACKS / name / "share" / "jupyter" / "kernels"


def _write_kernel(name: str) -> None:
    """Write a kernel spec with the interpreter's full path: "python" would be that of the process that starts the kernel."""
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
    stacks = sys.argv[1:] or list(WANTED)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(build, stacks))
    for stack in stacks:
        print(stack, *(f"{name} {version}" for name, version in versions(stack).items()), sep=" · ")
