"""Two linear layers and the one matrix: equal in exact arithmetic, equal to the last bit where every number fits."""

from fractions import Fraction

import numpy as np
import pytest

from engine.feed_forward import mlp
from engine.linear_layers import collapse, compare, drawn_layers

QUARTERS = (np.stack(np.meshgrid(np.arange(-12, 13), np.arange(-12, 13)), -1).reshape(-1, 2) / 4).astype(np.float32)


@pytest.mark.parametrize("seed", range(40))
def test_quarters_collapse_without_any_rounding(seed):
    layers = drawn_layers(seed)
    found = compare(QUARTERS, layers)
    assert found.difference == 0.0
    np.testing.assert_array_equal(found.output, found.collapsed)
    assert {a.dtype for a in (found.output, found.matrix, found.bias, found.collapsed)} == {np.dtype(np.float32)}


def test_the_collapsed_matrix_is_the_product_in_fractions():
    layers = drawn_layers(3)
    matrix, bias = collapse(layers)
    w1, b1, w2, b2 = ([[Fraction(float(v)) for v in row] for row in np.atleast_2d(a)]
                      for a in (layers.w1, layers.b1, layers.w2, layers.b2))  # fmt: skip
    for j in range(2):
        for i in range(2):
            assert Fraction(float(matrix[i, j])) == sum(w1[i][k] * w2[k][j] for k in range(3))
        assert Fraction(float(bias[j])) == sum(b1[0][k] * w2[k][j] for k in range(3)) + b2[0][j]


def test_other_numbers_differ_by_rounding_alone():
    differences = [compare(QUARTERS, drawn_layers(seed, quarters=False)).difference for seed in range(20)]
    assert 0 < max(differences) < 1e-5


@pytest.mark.parametrize("form", ["relu", "sigmoid", "gelu", "silu"])
def test_with_an_activation_they_part(form):
    layers = drawn_layers(1)
    found = compare(QUARTERS, layers, form)
    assert found.difference > 0.5
    np.testing.assert_array_equal(found.output, mlp(QUARTERS, layers.w1, layers.b1, layers.w2, layers.b2, form))


def test_a_relu_whose_sums_are_all_positive_changes_nothing():
    layers = drawn_layers(1)
    inside = QUARTERS[np.all(QUARTERS @ layers.w1 + layers.b1 >= 0, axis=1)]
    assert len(inside)
    assert compare(inside, layers, "relu").difference == 0.0
