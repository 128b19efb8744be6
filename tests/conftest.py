"""Shared things to test with: the embedded model, loaded once, and three pictures."""

from __future__ import annotations

import pytest
import torch

import ti_nb as ti


@pytest.fixture(scope="session")
def model() -> ti.Model:
    return ti.load_model("tiny")


@pytest.fixture(scope="session")
def photos() -> ti.ConceptImages:
    return ti.example_images("penguin")


@pytest.fixture(autouse=True)
def same_state_for_each_test() -> None:
    torch.manual_seed(0)
