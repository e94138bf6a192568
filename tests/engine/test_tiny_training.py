"""The tiny network trained on a text: its gradient, its floor, and what learning rates do."""

import numpy as np
import pytest

from engine.backpropagation import gradient_check, worst_errors
from engine.tiny_network import loss_of, tiny_network, trajectory
from engine.tiny_training import descend, floor_of, mean_loss

MOSTLY = ("liftoff", "liftoff", "liftoff", "three")


def test_mean_loss_against_central_difference():
    check = gradient_check(lambda parameters: mean_loss(parameters, MOSTLY), (tiny_network(3),))
    assert len(check.rows) == 45
    assert check.worst < 1e-6


def test_mean_loss_is_the_mean_of_the_single_losses():
    parameters = tiny_network(1)
    single = [float(loss_of(parameters, target=target)) for target in MOSTLY]
    assert float(mean_loss(parameters, MOSTLY)) == pytest.approx(np.mean(single), rel=1e-12)


def test_one_continuation_is_the_single_training_step_again_and_again():
    run = descend(tiny_network(0), ["liftoff"], steps=5, learning_rate=0.5)
    steps = trajectory(tiny_network(0), 6, target="liftoff", learning_rate=0.5)
    np.testing.assert_allclose(run.losses, [step.loss_before for step in steps], rtol=1e-12)
    np.testing.assert_allclose(run.probabilities, [step.values.probabilities for step in steps], rtol=1e-12)
    for name, array in run.parameters.items():
        np.testing.assert_allclose(array, steps[-1].parameters[name], rtol=1e-12)


def test_gradient_norm_is_the_slope_along_the_gradient():
    """One small step against the gradient lowers the loss by step times the squared norm."""
    rate = 1e-6
    run = descend(tiny_network(2), MOSTLY, steps=1, learning_rate=rate)
    assert run.losses[0] - run.losses[1] == pytest.approx(rate * run.gradient_norms[0] ** 2, rel=1e-4)


def test_floor_is_reached_and_never_passed():
    for seed in range(4):
        run = descend(tiny_network(seed), MOSTLY, steps=3000, learning_rate=0.5)
        assert np.all(run.losses >= run.floor)
        assert run.losses[-1] == pytest.approx(run.floor, abs=2e-4)
        np.testing.assert_allclose(run.probabilities[-1], [0.25, 0, 0, 0.75], atol=2e-3)


def test_floor_is_the_entropy():
    assert floor_of(["liftoff"] * 3) == 0
    assert floor_of(["three", "liftoff"]) == pytest.approx(np.log(2))
    assert floor_of(MOSTLY) == pytest.approx(0.75 * np.log(4 / 3) + 0.25 * np.log(4))


def test_a_large_rate_bounces_and_a_small_one_creeps():
    start = tiny_network(0)
    steady, small, large = (descend(start, MOSTLY, 60, rate).losses for rate in (0.5, 0.02, 8.0))
    assert np.all(np.diff(steady) < 0)
    assert np.all(np.diff(small) < 0)
    assert small[-1] > steady[-1] + 0.3
    assert np.sum(np.diff(large) > 0) > 10
    assert large[-20:].mean() > np.log(4)  # worse than knowing nothing at all


def test_refusals():
    with pytest.raises(ValueError, match="At least one continuation"):
        floor_of([])
    with pytest.raises(ValueError, match="vocabulary"):
        descend(tiny_network(0), ["four"], 1, 0.5)


def test_rounding_on_one_side_truncation_on_the_other():
    """The error of the difference quotient falls as eps², then rises as 1/eps."""
    steps = [1e-1, 1e-2, 1e-5, 1e-10, 1e-12]
    coarse, finer, best, fine, finest = worst_errors(loss_of, (tiny_network(0),), steps)
    assert coarse / finer == pytest.approx(100, rel=0.2)
    assert best < 1e-7
    assert best < finer
    assert best < fine < finest
