"""What a model of today needs of memory, reckoned from what its networks weigh before anything is fetched; not measured."""

from __future__ import annotations

from collections.abc import Mapping

from ...host.frontend import in_colab
from .recipe import Network, Release

GPUS = {"T4": 15.8, "L4": 24.1, "A100": 42.5}  # GB of memory
BYTES = {16: 2.0, 8: 1.0, 4: 0.55}  # of a weight; in 4 bit the scale of each block of 64 is among them
INNER = 34  # bytes that a layer keeps of each number of its width, in 16 bit (Korthikanti et al. 2022, without attention maps)
REST = 1.0  # GB, for kernels and the allocator


def weights(networks: tuple[Network, ...], bits: int) -> float:
    """GB of the weights, embedding tables in 16 bit."""
    return sum((n.billions - n.table) * BYTES[bits] + n.table * BYTES[16] for n in networks)


def activations(networks: tuple[Network, ...]) -> float:
    """GB that one picture's step keeps: of the denoiser, which recomputes, each layer's input and one layer's inside; of
    text encoders all layers'."""
    denoiser, *encoders = networks
    kept = (2 * denoiser.layers + INNER) * denoiser.tokens * denoiser.width
    return (kept + sum(INNER * e.layers * e.tokens * e.width for e in encoders)) / 1e9


def fitting(networks: tuple[Network, ...], memory: float) -> int | None:
    """The most bits a weight with which a step fits into so many GB; None if it does not in 4."""
    rest = activations(networks) + REST
    return next((bits for bits in BYTES if weights(networks, bits) + rest <= memory), None)


def planned(release: Release) -> Mapping[str, str]:
    """For each GPU with how many bits a weight it trains: "16 bit", or "too large"."""
    if not release.networks:
        return {gpu: "16 bit" if release.memory <= memory else "too large" for gpu, memory in GPUS.items()}
    return {gpu: _bits(fitting(release.networks, memory)) for gpu, memory in GPUS.items()}


def plan_in_words(name: str, release: Release, device: str, memory: float) -> str:
    """What is fetched, under which terms, and what is reckoned of memory, on usual GPUs and on this machine."""
    networks = release.networks
    gated = "; ask for it on its page on the Hub, and log in, before it can be fetched" if release.gated else ""
    sizes = ", ".join(f"{weights(networks, bits):.1f} GB in {bits} bit" for bits in BYTES)
    billions = " + ".join(f"{network.billions:g}" for network in networks)
    gpus = ", ".join(f"{gpu} ({GPUS[gpu]:g} GB): {found}" for gpu, found in planned(release).items())
    if memory:
        here = f"This machine has {device} with {memory:.0f} GB: {_bits(fitting(networks, memory))}."
    else:
        colab = " In Colab: Runtime > Change runtime type." if in_colab() else ""
        here = f"This machine has {device}: it would take days.{colab}"
    return (
        f"{name}: {release.repository}, {'gated' if release.gated else 'not gated'}, licence: {release.terms}{gated}. It "
        f"downloads about {release.full:g} GB once. Memory to train with one picture of 512 px, by arithmetic, not measured: "
        f"{billions} billion weights, {sizes}; activations {activations(networks):.1f} GB; the rest {REST:g} GB. So {gpus}. {here}"
    )


def _bits(bits: int | None) -> str:
    return f"{bits} bit" if bits else "too large"
