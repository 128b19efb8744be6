"""Shared things to test with: the embedded model, loaded once, and three pictures."""

from __future__ import annotations

import pytest
import torch

import ti_nb as ti


@pytest.fixture(scope="session")
def model() -> ti.Model:
    """In float32 on every machine, as the tests compare to rounding."""
    return ti.load_model("tiny", dtype=torch.float32)


@pytest.fixture(scope="session")
def photos() -> ti.ConceptImages:
    return ti.example_images("penguin")


@pytest.fixture(autouse=True)
def same_state_for_each_test() -> None:
    torch.manual_seed(0)
