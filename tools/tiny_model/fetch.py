"""Step 1: fetch the drawings, by package name and version, from the npm registry (data only; no package code is run)."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

# set -> package, version, licence as the package states it. The 3D set ("glossy") names its files by code point.
PACKAGES = {
    "flat": ("@iconify-json/fluent-emoji-flat", "1.2.6", "MIT"),
    "glossy": ("@lobehub/fluent-emoji-3d", "1.1.0", "MIT"),
    "cartoon": ("@iconify-json/noto", "1.2.9", "Apache-2.0"),
    "blob": ("@iconify-json/noto-v1", "1.2.5", "Apache-2.0"),
}
# What the next tiny learns from besides (`tools/tiny_next`).
MORE = {
    "twemoji": ("@iconify-json/twemoji", "1.2.5", "CC-BY-4.0"),
    "fxemoji": ("@iconify-json/fxemoji", "1.2.2", "Apache-2.0"),
    "emojione": ("@iconify-json/emojione", "1.2.3", "CC-BY-4.0"),
    "streamline": ("@iconify-json/streamline-emojis", "1.2.4", "CC-BY-4.0"),
}


def fetch(folder: Path, packages: Mapping[str, tuple[str, str, str]] = PACKAGES) -> None:
    """Install the packages under `folder`/node_modules and check that each states the licence we rely on."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "package.json").write_text('{"name": "drawings", "private": true}\n')
    wanted = [f"{name}@{version}" for name, version, _ in packages.values()]
    subprocess.run(["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", *wanted], cwd=folder, check=True)
    for name, version, licence in packages.values():
        root = folder / "node_modules" / name
        package = json.loads((root / "package.json").read_text())
        info = root / "info.json"
        stated = json.loads(info.read_text())["license"]["spdx"] if info.exists() else package.get("license")
        if (package["version"], stated) != (version, licence):
            raise SystemExit(f"{name}: expected {version} under {licence}, found {package['version']} under {stated}")
