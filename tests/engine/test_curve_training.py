"""Neurons that learn a curve: the gradient is right, descent descends, dead neurons get none."""

import numpy as np
import pytest

from engine.backpropagation import gradient_check, value_and_grad
from engine.curve_fit import TARGETS
from engine.curve_training import PLACES, loss, start, train

X = np.linspace(-3, 3, PLACES)
SINE = TARGETS["sine"](X)


@pytest.mark.parametrize("activation", ["tanh", "gelu", "silu"])
def test_the_gradient_equals_central_differences(activation):
    assert gradient_check(lambda p: loss(p, X, SINE, activation), (start(4, 1),)).worst < 1e-6


def test_the_first_step_is_plain_gradient_descent():
    run = train(SINE, 5, rate=0.01, steps=1, seed=2)
    _, gradient = value_and_grad(loss)(start(5, 2), X, SINE)
    for name, after in run.parameters[1].items():
        np.testing.assert_allclose(after, start(5, 2)[name] - 0.01 * gradient[name], atol=1e-15)


def test_losses_are_those_of_the_outputs():
    run = train(SINE, 6, steps=20)
    for step in (0, 7, 20):
        assert run.losses[step] == pytest.approx(np.mean((run.output(step) - SINE) ** 2))


def test_kinks_are_where_the_output_bends():
    run = train(SINE, 6, rate=0.02, steps=40)
    fine = np.linspace(-3, 3, 2401)
    p = run.parameters[-1]
    out = np.maximum(fine[:, None] @ p["w1"] + p["b1"], 0) @ p["w2"][:, 0]
    bends = fine[1:-1][np.abs(np.diff(out, 2)) > 1e-6]
    kinks = run.kinks(40)[np.abs(run.kinks(40)) < 3]
    assert len(bends)
    assert all(np.min(np.abs(kinks - at)) < 0.006 for at in bends)


def test_it_learns_where_the_rate_allows_and_kinks_move():
    run = train(TARGETS["zigzag"](X), 8, rate=0.03)
    assert run.losses[-1] < 1e-4 < 0.1 < run.losses[0]
    assert np.max(np.abs(run.kinks(300) - run.kinks(0))) > 0.3


def test_too_large_a_step_kills_every_relu_and_dead_ones_stay_as_they_are():
    run = train(TARGETS["bump"](X), 8, rate=0.1)
    assert run.deaths[-1] == 8
    assert np.all(np.diff(run.deaths[-50:]) == 0)
    _, gradient = value_and_grad(loss)(run.parameters[-1], X, run.y)
    assert all(np.all(gradient[name] == 0) for name in ("w1", "b1", "w2"))
    assert train(TARGETS["bump"](X), 8, rate=0.1, activation="tanh").deaths[-1] == 0


def test_momentum_brings_some_of_the_dead_back():
    run = train(SINE, 8, rate=0.1, seed=3)
    for step in (8, 16, 110, 299):
        dead, later = run.dead(step), run.parameters[step + 1 :]
        sums = [run.x[:, None] * p["w1"] + p["b1"] for p in later]
        assert run.returning(step) == sum(any(np.any(z[:, i] > 1e-6) for z in sums) for i in np.flatnonzero(dead))
    assert run.returning(8) > 0 == run.returning(300)


def test_a_descent_that_runs_away_ends_early():
    run = train(SINE, 8, rate=1.0)
    assert len(run.losses) < 20
    assert np.all(np.isfinite(run.losses))
    assert len(run.parameters) == len(run.losses)


def test_leaky_neurons_below_zero_everywhere_are_not_dead():
    run = train(TARGETS["bump"](X), 8, rate=0.1, activation="leaky_relu")
    assert run.deaths[-1] == 0
    assert np.sum(run.below(300)) >= 6
    np.testing.assert_array_equal(train(SINE, 4, steps=9).paths[3], train(SINE, 4, steps=9).kinks(3))
