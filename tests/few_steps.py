"""Pictures of a few denoising steps, whatever is asked for, where how good they are is no matter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from diffusers import DDIMScheduler


def at_most(most: int) -> Callable[..., None]:
    """What to put in the place of `DDIMScheduler.set_timesteps`, with which all pictures are drawn."""
    asked = DDIMScheduler.set_timesteps

    def set_timesteps(self: Any, steps: int, *rest: Any, **named: Any) -> None:
        asked(self, min(steps, most), *rest, **named)

    return set_timesteps
