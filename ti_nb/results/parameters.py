"""How a picture was drawn, as AUTOMATIC1111 writes it into its pictures."""

from __future__ import annotations

import json
import re
from typing import Any


def as_parameters(settings: dict[str, Any]) -> str:
    """Settings in AUTOMATIC1111's "parameters" format, which many programs and sites read."""
    facts = {
        "Steps": settings["steps"],
        "Sampler": settings["sampler"],
        "CFG scale": None if settings["guidance"] is None else f"{settings['guidance']:g}",
        "Seed": settings["seed"],
        "Size": f"{settings['width']}x{settings['height']}",
        "Model": settings["model"] or None,
        "TI hashes": ", ".join(f"{word}: {facts['sha256'][:12]}" for word, facts in settings["words"].items()) or None,
    }
    line = ", ".join(f"{name}: {_quoted(str(value))}" for name, value in facts.items() if value is not None)
    negative = [f"Negative prompt: {settings['negative']}"] if settings["negative"] else []
    return "\n".join([settings["prompt"], *negative, line])


def _quoted(value: str) -> str:
    """`value`, quoted if it has a comma, colon or line break, which separate the fields."""
    return json.dumps(value) if re.search(r"[,:\n]", value) else value
