"""The recipe's optimiser does what its name says."""

from __future__ import annotations

import pytest
import torch

from tools.tiny_model.muon import Muon, orthogonal
from tools.tiny_model.runs import trapezoid_rate


@pytest.mark.parametrize("shape", [(32, 32), (16, 80), (80, 16)])
def test_orthogonal_brings_singular_values_near_one_and_keeps_directions(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape) + 0.5 * torch.eye(*shape)
    u, s, vt = torch.linalg.svd(matrix, full_matrices=False)
    found = orthogonal(matrix).float()
    inside = torch.diagonal(u.T @ found @ vt.T)
    kept = s > 0.05 * s.max()
    assert ((inside > 0.5) & (inside < 1.4))[kept].all()
    assert (found - u @ torch.diag(inside) @ vt).norm() < 0.05 * found.norm()


def test_every_matrix_has_one_worker_and_the_rest_go_to_adam() -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Flatten(), torch.nn.Linear(8, 8))
    one, two = Muon(module, 0, 2), Muon(module, 1, 2)
    assert one.owner == two.owner
    assert set(one.owner) == {0, 1}
    assert {p.shape for p in one.matrices} == {(8, 3, 3, 3), (8, 8)}
    assert len(one.adam.param_groups[0]["params"]) == 2


def test_trapezoid_rises_stays_and_falls_to_zero() -> None:
    rates = [trapezoid_rate(i, 1000, 1.0) for i in range(1000)]
    assert rates[0] == 0.01
    assert rates[99] == rates[599] == 1.0
    assert rates[800] == pytest.approx(0.5)
    assert rates[-1] == pytest.approx(1 / 400)
