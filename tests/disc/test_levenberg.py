"""Bounded least squares in a batch: minima inside and at the ends, each problem for itself."""

import pytest
import torch

from tullyflow.disc.levenberg import Coordinates, State, minimise

K = 2
LOOSE = torch.full((K,), 50.0, dtype=torch.float64)


def space(low=-LOOSE, high=LOOSE, longest=LOOSE):
    def same(at):
        return at

    return Coordinates(same, same, torch.ones_like, low, high, longest)


def rosenbrock(rows, given):
    """Residuals 10 (y - x^2) and 1 - x; the minimum is at (1, 1)."""
    x, y = given.unbind(1)
    residual = torch.stack([10 * (y - x**2), 1 - x], dim=1)
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    jacobian = torch.stack([torch.stack([-20 * x, 10 * one], 1), torch.stack([-one, zero], 1)], dim=1)
    gradient = -(jacobian.mT @ residual.unsqueeze(-1)).squeeze(-1)
    return State(residual.square().sum(1) / 2, gradient, jacobian.mT @ jacobian)


def tilted(rows, given):
    """A quadratic whose valley is oblique: minimum at (3, 1), and for x held at 2 it is at y = 1.8."""
    curvature = torch.tensor([[1.0, 0.8], [0.8, 1.0]], dtype=torch.float64).repeat(len(given), 1, 1)
    off = torch.tensor([3.0, 1.0], dtype=torch.float64) - given
    gradient = (curvature @ off.unsqueeze(-1)).squeeze(-1)
    return State((gradient * off).sum(1) / 2, gradient, curvature)


def run(evaluate, start, where=None, moving=(True, True), steps=60):
    start = torch.tensor(start, dtype=torch.float64)
    tolerance, measured = torch.full((len(start),), 1e-6, dtype=torch.float64), torch.full((len(start),), 10)
    return minimise(evaluate, start, where or space(), torch.tensor(moving), tolerance, measured, steps)


def test_a_bent_valley_is_followed_to_its_minimum_from_either_side():
    found = run(rosenbrock, [[-1.2, 1.0], [4.0, -3.0], [1.0, 1.0]])
    assert torch.allclose(found.parameters, torch.ones_like(found.parameters), atol=1e-5)
    assert (found.left <= 1e-6).all()
    assert found.evaluations[2] == 1
    assert found.within.all()


def test_at_the_end_of_a_range_the_others_answer_to_it():
    """Cutting the step off at the end of x would leave y where the unbounded minimum has it."""
    high = torch.tensor([2.0, 50.0], dtype=torch.float64)
    found = run(tilted, [[0.0, 0.0], [1.9, 9.0]], space(high=high))
    assert found.parameters[:, 0].tolist() == [2, 2]
    assert found.parameters[:, 1].tolist() == pytest.approx([1.8, 1.8], abs=1e-5)
    assert not found.within.any()


def test_a_start_outside_its_range_comes_in_and_leaves_the_end_again():
    low = torch.tensor([-50.0, 2.0], dtype=torch.float64)
    found = run(tilted, [[80.0, -9.0]], space(low=low))
    assert found.parameters[0].tolist() == pytest.approx([2.2, 2.0], abs=1e-5)
    inside = run(tilted, [[80.0, 60.0]])
    assert inside.parameters[0].tolist() == pytest.approx([3.0, 1.0], abs=1e-5)
    assert inside.within.all()


def test_what_is_held_does_not_move_and_has_no_range():
    low = torch.tensor([10.0, -50.0], dtype=torch.float64)
    found = run(tilted, [[2.0, 0.0]], space(low=low), moving=(False, True))
    assert found.parameters[0].tolist() == pytest.approx([2.0, 1.8], abs=1e-5)
    assert found.within.all()


def test_one_problems_nan_is_its_own():
    found = run(rosenbrock, [[-1.2, 1.0], [torch.nan, 1.0]])
    assert torch.allclose(found.parameters[0], torch.ones(K, dtype=torch.float64), atol=1e-5)
    assert found.left[1].isinf()
    assert found.evaluations[1] == 1


def test_no_problem_is_evaluated_more_often_than_allowed():
    found = run(rosenbrock, [[-1.2, 1.0]], steps=4)
    assert found.evaluations[0] <= 4
    assert found.left[0] > 1e-6
