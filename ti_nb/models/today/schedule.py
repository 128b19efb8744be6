"""Flow matching: latents and noise are mixed in a straight line, and the network predicts the way from one to the other."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch

STEPS = 1000  # into which the line is divided, evenly in the pipeline's own time
USUAL_STEPS = 50  # of drawing; some families shift their timesteps by how many there are


class FlowSchedule:
    """The sigmas of a family's timesteps, in the manner of diffusers' schedulers with betas.

    Attributes:
        sigmas: (1000,), the share of noise at each timestep, rising.
        times: (1000,), the scheduler's own t, 0 to 1000.
        alphas_cumprod: (1000,), what a schedule of betas with the same ratio of signal to noise has.
    """

    def __init__(self, sigmas: torch.Tensor, times: torch.Tensor, sign: int) -> None:
        self.sigmas, self.times, self.sign = sigmas.float().cpu(), times.float().cpu(), sign
        signal = (1 - self.sigmas) ** 2
        self.alphas_cumprod = signal / (signal + self.sigmas**2)
        self.config = SimpleNamespace(prediction_type="flow")

    def sigma(self, timesteps: torch.Tensor) -> torch.Tensor:
        """The sigmas (b,) of timesteps (b,), on their device."""
        return self.sigmas.to(timesteps.device)[timesteps]

    def add_noise(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """(1 - sigma) latents + sigma noise."""
        sigma = self.sigma(timesteps)[:, None, None, None]
        return (1 - sigma) * latents + sigma * noise

    def get_velocity(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """What the network predicts: noise - latents, or the opposite where the pipeline negates it."""
        return self.sign * (noise - latents)


def flow_scheduler(scheduler: Any) -> Any:
    """The scheduler itself, if it is the one that flow matching is trained with; else that one with its shift.

    Sana's repositories have a solver of another kind (DPM-Solver), which draws in fewer steps.
    """
    from diffusers import FlowMatchEulerDiscreteScheduler

    if isinstance(scheduler, FlowMatchEulerDiscreteScheduler):
        return scheduler
    return FlowMatchEulerDiscreteScheduler(shift=scheduler.config.get("flow_shift", 3.0))


def given(clock: str, schedule: FlowSchedule, timesteps: torch.Tensor) -> torch.Tensor:
    """What a network is given for timesteps (b,)."""
    sigma, time = schedule.sigma(timesteps), schedule.times.to(timesteps.device)[timesteps]
    return {"t": sigma * STEPS, "t/1000": sigma, "1 - t/1000": 1 - sigma, "unshifted": time}[clock]
