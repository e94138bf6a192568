"""Fits by ReLU neurons: the least squares are the least, lines are met exactly, error falls as theory says."""

import itertools

import numpy as np
import pytest

from engine.curve_fit import (
    COUNTS,
    MOST,
    TARGETS,
    Kinks,
    chosen,
    errors,
    even,
    fit,
    grid,
    own_curve,
    random,
    rms,
)

X = grid()
CURVES = {name: target(X) for name, target in TARGETS.items()}
each_curve = pytest.mark.parametrize("y", CURVES.values(), ids=CURVES)


@each_curve
@pytest.mark.parametrize("kinks", [even(5), even(MOST), random(9, 3), random(20, 1)], ids=["5", "64", "r9", "r20"])
def test_no_other_output_weights_do_better(y, kinks):
    found = fit(y, kinks)
    np.testing.assert_allclose(found.fitted, found.parts.sum(1) + found.constant, atol=1e-8)
    columns = np.column_stack([kinks.neurons(X), np.ones_like(X)])
    assert np.max(np.abs(columns.T @ (found.fitted - y))) < 1e-7, "what is left stands at right angles to every neuron"
    rng = np.random.default_rng(0)
    for _ in range(20):
        other = found.fitted + columns @ rng.normal(0, 1e-3, columns.shape[1])
        assert rms(other - y) >= found.error - 1e-12


@each_curve
def test_a_straight_piece_for_each_neuron(y):
    found = fit(y, even(8))
    bends = np.abs(np.diff(found.fitted, 2)) > 1e-9
    inner = even(8).at[1:]
    assert set(np.flatnonzero(bends)) <= {int(np.argmin(np.abs(X - at))) - 1 for at in inner}


def test_lines_with_kinks_where_the_neurons_have_them_are_met_exactly():
    at, heights = even(6).at, np.array([0.3, -1.0, 2.0, 0.5, 0.5, -2.0])
    y = np.interp(X, [*at, 3.0], [*heights, 1.0])
    assert fit(y, even(6)).error < 1e-13
    assert fit(CURVES["zigzag"], even(3)).error < 1e-13
    assert fit(CURVES["zigzag"], even(4)).error > 0.1


def test_interpolating_at_the_kinks_is_never_better():
    y = CURVES["sine"]
    for n in (4, 8, 16, 40):
        nodes = [*even(n).at, 3.0]
        joined = np.interp(X, nodes, np.sin(2 * np.array(nodes)))
        assert fit(y, even(n)).error <= rms(joined - y) + 1e-12


def test_the_error_of_a_smooth_curve_falls_with_the_square_of_the_neurons_and_of_a_step_with_the_root():
    for name, low, high in (("sine", 1.8, 2.3), ("chirp", 1.8, 2.4), ("step", 0.3, 0.8)):
        from16, from48 = fit(CURVES[name], even(16)).error, fit(CURVES[name], even(48)).error
        assert low < np.log(from16 / from48) / np.log(3) < high, name


@each_curve
def test_errors_of_all_counts_from_one_decomposition(y):
    for kinks in (random(MOST, 0), random(30, 7), chosen(y)):
        found = errors(y, kinks)
        assert np.all(np.diff(found) <= 1e-12), "one more neuron never makes it worse"
        for n in [c for c in COUNTS if c <= len(kinks.at)]:
            assert found[n - 1] == pytest.approx(fit(y, kinks.first(n)).error, rel=1e-6, abs=1e-9)


@each_curve
def test_the_first_neuron_chosen_is_the_best_single_one(y):
    every = [
        fit(y, Kinks(np.array([at]), np.array([side]))).error for at, side in itertools.product(X[1:-1:4], (1.0, -1.0))
    ]
    assert fit(y, chosen(y, 1)).error <= min(every) + 1e-12


def test_the_second_one_is_the_best_beside_the_first():
    y = CURVES["bump"]
    first, both = chosen(y, 1), chosen(y, 2)
    assert (both.at[0], both.side[0]) == (first.at[0], first.side[0])
    tried = [
        fit(y, Kinks(np.append(first.at, at), np.append(first.side, side))).error
        for at, side in itertools.product(X[1:-1:5], (1.0, -1.0))
    ]
    assert fit(y, both).error <= min(tried) + 1e-12


def test_choosing_stops_when_nothing_is_left():
    assert len(chosen(np.full_like(X, 2.0)).at) == 0
    assert len(chosen(np.maximum(X - X[60], 0.0)).at) == 1
    straight = fit(CURVES["step"], chosen(CURVES["step"]))
    assert straight.error < 1e-10


def test_two_neurons_side_by_side_would_make_the_step():
    at = int(np.argmax(CURVES["step"] > 0))
    ramp = Kinks(X[at - 1 : at + 1], np.ones(2))
    assert fit(CURVES["step"], ramp).error < 1e-12
    found = fit(CURVES["step"], chosen(CURVES["step"]))
    assert len(found.weights) == 11, "choosing one at a time does not find them at once"
    assert found.carrying == 2, "but in the end they do all the work"


def test_fits_of_nothing_and_of_a_level_line():
    none = fit(CURVES["sine"], even(4).first(0))
    assert none.constant == pytest.approx(CURVES["sine"].mean())
    assert fit(np.full_like(X, 2.0), even(3)).error < 1e-14


# --- the reader's own curve -------------------------------------------------------------------------------------------


def test_own_points_and_own_expressions():
    np.testing.assert_array_equal(own_curve("(-2, 0) (0, 1.5), (2; −1)"), np.interp(X, [-2, 0, 2], [0, 1.5, -1]))
    np.testing.assert_array_equal(own_curve("(2,-1)(0,1.5)(-2,0)"), np.interp(X, [-2, 0, 2], [0, 1.5, -1]))
    np.testing.assert_array_equal(own_curve("sin(2*x) + x**2/4"), np.sin(2 * X) + X**2 / 4)
    np.testing.assert_allclose(own_curve("(x + 1) * relu(x)"), (X + 1) * np.maximum(X, 0))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("1/x", r"At x = 0 the expression is infinite"),
        ("log(x)", r"At x = −3 the expression is infinite or undefined"),
        ("x + y", "Only x can be used"),
        ("3", "at least one name"),
        ("x**x**x**x", "infinite|Exponents"),
        ("exp(x*9)", "beyond a million"),
        ("(1, 2)", "At least two points"),
        ("(1, 2) (1, 3)", "another x"),
        ("(1, 2) (3, )", "pairs of numbers"),
        ("(1, 2) (1.2.3, 4)", "not a number"),
        ("(-2, 0) (0, 9e999)", "pairs of numbers"),
        ("__import__('os')", "not part of the grammar"),
        ("(1, " * 50, "pairs of numbers"),
    ],
)
def test_what_is_no_curve_gets_a_sentence(text, said):
    with pytest.raises(ValueError, match=said):
        own_curve(text)
