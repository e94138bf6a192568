"""Chi-square against its definition by integration, and against draws that really are drawn."""

from __future__ import annotations

import math

import numpy as np
import pytest

from engine.draws import chi_square_tail, compare, convergence
from engine.sampling import sample_many

P = np.array([0.35, 0.235, 0.174, 0.117, 0.071, 0.041, 0.012])


@pytest.mark.parametrize("degrees", range(1, 12))
@pytest.mark.parametrize("x", [0.3, 2.0, 7.5, 18.0])
def test_tail_equals_the_integral_of_the_density(degrees, x):
    s = np.linspace(math.sqrt(x), 14, 200_001)  # substituted x = s², so that one degree has no pole at 0
    density = 2 * s * s ** (degrees - 2) * np.exp(-(s**2) / 2) / (2 ** (degrees / 2) * math.gamma(degrees / 2))
    assert chi_square_tail(x, degrees) == pytest.approx(float(np.trapezoid(density, s)), rel=1e-6, abs=1e-12)


@pytest.mark.parametrize(("x", "degrees"), [(3.841, 1), (5.991, 2), (12.592, 6), (18.307, 10)])
def test_tail_at_the_five_percent_points_of_the_tables(x, degrees):
    assert chi_square_tail(x, degrees) == pytest.approx(0.05, abs=1e-4)


def test_edges():
    assert chi_square_tail(0, 3) == 1
    assert chi_square_tail(5, 0) == 1
    assert chi_square_tail(4000, 5) == 0
    with pytest.raises(ValueError, match="0 or more"):
        chi_square_tail(-1, 2)


def test_compare_by_hand():
    found = compare(np.array([0, 0, 0, 1]), np.array([0.5, 0.5, 0.0]))
    np.testing.assert_array_equal(found.counts, [3, 1, 0])
    np.testing.assert_allclose(found.expected, [2, 2, 0])
    np.testing.assert_allclose(found.standard_error, [1, 1, 0])
    assert (found.chi_square, found.degrees) == (1.0, 1)
    assert found.chance == pytest.approx(math.erfc(math.sqrt(0.5)))
    with pytest.raises(ValueError, match="no probability"):
        compare(np.array([2]), np.array([0.5, 0.5, 0.0]))
    with pytest.raises(ValueError, match="at least one draw"):
        compare(np.array([], int), np.array([1.0]))


def test_true_draws_look_like_chance_and_biased_ones_do_not():
    """Over many seeds the chance of honest draws is spread evenly over 0 to 1; that of a wrong model is near 0."""
    logits = np.log(P / P.sum())
    chances = [
        compare(sample_many(logits, np.random.default_rng(seed), 2000), P / P.sum()).chance for seed in range(400)
    ]
    shares = np.histogram(chances, bins=4, range=(0, 1))[0] / 400
    np.testing.assert_allclose(shares, 0.25, atol=0.07)  # 3 standard errors
    wrong = compare(sample_many(logits, np.random.default_rng(0), 2000), np.full(7, 1 / 7))
    assert wrong.chance < 1e-6


def test_standard_errors_are_the_spread_over_many_seeds():
    logits = np.log(P / P.sum())
    runs = [compare(sample_many(logits, np.random.default_rng(s), 300), P / P.sum()) for s in range(600)]
    spread = np.std([run.counts for run in runs], axis=0)
    np.testing.assert_allclose(spread, runs[0].standard_error, rtol=0.12)


def test_convergence_by_counting():
    drawn = sample_many(np.log(P), np.random.default_rng(2), 500)
    p, at = P / P.sum(), np.array([1, 10, 500])
    by_hand = [max(abs(np.mean(drawn[:n] == token) - p[token]) for token in range(7)) for n in at]
    np.testing.assert_allclose(convergence(drawn, p, at), by_hand)
