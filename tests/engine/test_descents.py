"""Surfaces and walks: written-out slopes against backpropagation, and figures that can be worked out by hand."""

import numpy as np
import pytest

from engine.backpropagation import value_and_grad
from engine.descents import BATCH, EXAMPLES, SURFACES, best_line, examples, moments, trajectory
from engine.optimizers import SGD, Adam, AdamW, Lion, Muon, RMSProp

rng = np.random.default_rng(4)
EVERY = (SGD, lambda: SGD(1e-3, 0.9), lambda: SGD(1e-3, 0.9, True), RMSProp, Adam, AdamW, Lion, Muon)


@pytest.mark.parametrize("name", SURFACES)
def test_slopes_equal_backpropagation(name):
    surface = SURFACES[name]
    for point in rng.uniform(-2, 2, (50, 2)):
        value, gradient = value_and_grad(surface)(point)
        assert value == pytest.approx(float(surface.height(*point.tolist())), rel=1e-12)
        np.testing.assert_allclose(surface.slope(*point.tolist(), -1), gradient, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", SURFACES)
def test_minima_are_level_and_in_view(name):
    surface = SURFACES[name]
    x0, x1, y0, y1 = surface.view
    for x, y in (*surface.minima, surface.start):
        assert x0 < x < x1
        assert y0 < y < y1
    for x, y in surface.minima:
        np.testing.assert_allclose(surface.slope(x, y, -1), 0, atol=1e-12)
        around = np.array([x, y]) + rng.normal(0, 0.1, (100, 2))
        assert np.all(surface(around) >= surface.height(x, y))


def test_the_samples_together_are_the_whole():
    """The mean slope over many batches is the slope over all examples; one batch alone is the loss of four of them."""
    t, z = examples()
    assert len(t) == EXAMPLES
    slopes = np.array([SURFACES["noisy"].slope(0.3, 0.2, step) for step in range(4000)])
    np.testing.assert_allclose(slopes.mean(axis=0), SURFACES["noisy"].slope(0.3, 0.2, -1), atol=0.03)
    assert slopes.std(axis=0).min() > 0.1
    assert float(SURFACES["noisy"].height(0.3, 0.2)) == pytest.approx(0.5 * np.mean((0.3 * t + 0.2 - z) ** 2))
    assert moments(3) == moments(3)
    assert BATCH == 4
    np.testing.assert_allclose(best_line(), np.linalg.lstsq(np.stack([t, np.ones_like(t)], 1), z)[0])


def test_the_ravine_by_hand():
    """Each coordinate of gradient descent shrinks by 1 − lr · curvature a step."""
    walk = trajectory(SGD(0.015), "ravine", (1.0, 1.0), 100)
    np.testing.assert_allclose(walk.points[-1], [(1 - 0.015) ** 100, (1 - 1.5) ** 100], rtol=1e-12)
    assert f"{walk.losses[-1]:.3g}" == "0.0243"
    heavy = trajectory(SGD(0.015, momentum=0.9), "ravine", (1.0, 1.0), 100)
    assert f"{heavy.losses[-1]:.2g}" == "6.3e-05"
    matrix = np.array([[1 + 0.9 - 0.015 * 100, -0.9], [1, 0]])  # y_{t+1} = (1 + μ − lr·100) y_t − μ y_{t−1}
    y = np.linalg.matrix_power(matrix, 99) @ [1 - 1.5, 1.0]
    assert heavy.points[-1][1] == pytest.approx(y[0], rel=1e-9)


@pytest.mark.parametrize("make", EVERY)
@pytest.mark.parametrize("name", ["ravine", "turned", "rosenbrock", "saddle"])
def test_a_walk_with_backpropagation_is_the_same_walk(make, name):
    """Numbers with a written-out slope, and NumPy points through value_and_grad."""
    by_hand = trajectory(make(), name, SURFACES[name].start, 30)
    height = SURFACES[name].height
    traced = trajectory(make(), lambda point: height(point[0], point[1]), SURFACES[name].start, 30)
    np.testing.assert_allclose(by_hand.points, traced.points, rtol=1e-9)
    np.testing.assert_allclose(by_hand.losses, traced.losses, rtol=1e-9)


def test_divergence_ends_the_walk():
    walk = trajectory(SGD(0.021), "ravine", (1.0, 1.0), 200)
    assert walk.diverged == len(walk.losses) - 1 < 200
    assert walk.losses[-1] > 1e6 > walk.losses[-2] / 100
    assert trajectory(SGD(0.0199), "ravine", (1.0, 1.0), 200).diverged is None


@pytest.mark.parametrize("make", EVERY)
@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid")
def test_absurd_rates_end_without_an_exception(make):
    optimizer = make()
    optimizer.lr = 1e200
    walk = trajectory(optimizer, "rosenbrock", (-1.2, 1.0), 50)
    assert walk.diverged == 1


def test_noise_is_the_same_for_all_and_by_seed():
    seen = [trajectory(make(), "bowl", (1, 1), 5, noise=0.5, seed=3).gradients[0] for make in EVERY]
    np.testing.assert_array_equal(seen, np.tile(seen[0], (len(EVERY), 1)))
    other = trajectory(SGD(), "bowl", (1, 1), 5, noise=0.5, seed=4)
    assert not np.allclose(other.gradients[0], seen[0])


def test_rates_and_steps_to():
    walk = trajectory(SGD(5.0), "bowl", (1.0, 0.0), 3, rates=[0.05, 0.0, 0.05])
    np.testing.assert_allclose(walk.points[:, 0], [1, 0.5, 0.5, 0.25])
    assert walk.steps_to(2.0) == 1
    assert walk.steps_to(0.0) is None
    assert trajectory(SGD(), "bowl", (1.0, 0.0), 0).points.shape == (1, 2)


def test_no_such_surface():
    with pytest.raises(ValueError, match="no surface called"):
        trajectory(SGD(), "sphere", (0, 0), 1)


@pytest.mark.parametrize("make", EVERY)
def test_only_rates_for_each_parameter_notice_that_the_ravine_was_turned(make):
    """The same two points in either frame: a rotation takes one walk to the other, or does not."""
    straight = trajectory(make(), "ravine", (-1.0, 1.0), 60)
    turned = trajectory(make(), "turned", SURFACES["turned"].start, 60)
    same = turned.points @ np.array([[0.8, -0.6], [0.6, 0.8]])
    close = len(same) == len(straight.points) and np.allclose(same, straight.points, atol=1e-6)
    assert close == isinstance(make(), SGD | Muon)
