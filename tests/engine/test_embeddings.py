"""Lookup, similarity, neighbours and PCA by their definitions, and on awkward tables."""

import numpy as np
import pytest

from engine.backpropagation import gradient_check
from engine.embeddings import (
    analogy,
    cosine_matrix,
    cosine_similarity,
    largest,
    lookup,
    nearest,
    one_hot,
    pca,
    row_lengths,
    similarities,
)

rng = np.random.default_rng(2)


def test_lookup_equals_one_hot_times_table():
    table, ids = rng.normal(size=(7, 4)), np.array([[3, 0], [6, 3]])
    np.testing.assert_array_equal(lookup(table, ids), table[[[3, 0], [6, 3]]])
    np.testing.assert_allclose(lookup(table, ids), np.eye(7)[ids] @ table)
    assert lookup(table, np.array([], dtype=np.int64)).shape == (0, 4)
    assert lookup(table, np.array(2)).shape == (4,)
    np.testing.assert_array_equal(lookup(table, [5, 5]), table[[5, 5]])
    for wrong in ([7], [-1]):
        with pytest.raises(ValueError, match="between 0 and 6"):
            lookup(table, np.array(wrong))


def test_lookup_adds_up_gradients_of_repeated_ids():
    table, ids, weight = rng.normal(size=(5, 3)), np.array([1, 1, 4]), rng.normal(size=(3, 3))
    check = gradient_check(lambda table: np.sum(lookup(table, ids) ** 2 * weight), (table,))
    assert check.worst < 1e-6


def test_cosine_by_angle():
    angle = 0.7
    a, b = np.array([2.0, 0.0]), 5 * np.array([np.cos(angle), np.sin(angle)])
    assert cosine_similarity(a, b) == pytest.approx(np.cos(angle))
    assert cosine_similarity(a, -a) == pytest.approx(-1)
    assert cosine_similarity(a, np.zeros(2)) == 0
    pairs = rng.normal(size=(4, 1, 6)), rng.normal(size=(3, 6))
    grid = cosine_similarity(*pairs)
    assert grid.shape == (4, 3)
    assert grid[2, 1] == pytest.approx(1 - np.sum((unit(pairs[0][2, 0]) - unit(pairs[1][1])) ** 2) / 2)
    assert cosine_similarity(*(x.astype(np.float32) for x in pairs)).dtype == np.float32
    assert gradient_check(lambda a, b: np.sum(cosine_similarity(a, b)), pairs).worst < 1e-6


def unit(x):
    return x / np.linalg.norm(x)


def test_nearest_equals_sorting_all_cosines():
    table, vector = rng.normal(size=(50, 8)), rng.normal(size=8)
    cosines = cosine_similarity(table, vector)
    found = nearest(table, vector, 10)
    np.testing.assert_array_equal(found.ids, np.argsort(-cosines)[:10])
    np.testing.assert_allclose(found.similarities, cosines[found.ids])
    without = nearest(table, vector, 9, exclude=[int(found.ids[0])])
    np.testing.assert_array_equal(without.ids, found.ids[1:])


def test_a_row_is_nearest_to_itself_and_ties_keep_the_tables_order():
    table = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    found = nearest(table, table[2], 5)
    np.testing.assert_array_equal(found.ids, [0, 2, 4, 1, 3])
    np.testing.assert_allclose(found.similarities, [1, 1, np.sqrt(0.5), 0, 0])
    np.testing.assert_array_equal(nearest(table, table[2], 99, exclude=(0, 3)).ids, [2, 4, 1])
    assert nearest(table, table[2], 3, exclude=range(5)).ids.size == 0
    many = np.tile(np.eye(3), (100, 1))
    np.testing.assert_array_equal(nearest(many, np.array([2.0, 0, 1]), 150).ids, [*range(0, 300, 3), *range(2, 152, 3)])
    with pytest.raises(ValueError, match="At least one neighbour"):
        nearest(table, table[0], 0)


def test_analogy_with_and_without_its_inputs():
    """Rows built so that king − man + woman is queen, but woman itself lies nearer."""
    man, woman, king = np.array([1.0, 0, 0, 0]), np.array([1.0, 3, 0, 0]), np.array([1.0, 0, 1, 0])
    queen, other = king - man + woman + np.array([0, 0, 0, 1.3]), np.array([0, 0, 0, 1.0])
    table = np.stack([man, woman, king, queen, other])
    answer = analogy(table, 2, 0, 1, k=2)
    np.testing.assert_allclose(answer.target, [1, 3, 1, 0])
    assert answer.ids[0] == 3
    included = analogy(table, 2, 0, 1, k=2, exclude_inputs=False)
    np.testing.assert_array_equal(included.ids, [1, 3])


def test_pca_finds_a_known_direction():
    direction = unit(np.array([1.0, 2.0, -2.0]))
    x = np.outer(np.linspace(-3, 3, 9), direction) + 5
    found = pca(x, 2)
    assert abs(found.components[0] @ direction) == pytest.approx(1)
    np.testing.assert_allclose(found.explained_variance_ratio, [1, 0], atol=1e-12)
    np.testing.assert_allclose(found.projected @ found.components + found.mean, x, atol=1e-12)


def test_pca_equals_the_eigenvectors_of_the_covariance():
    x = rng.normal(size=(40, 5)) @ rng.normal(size=(5, 5))
    found = pca(x, 5)
    values, vectors = np.linalg.eigh(np.cov(x.T))
    np.testing.assert_allclose(found.explained_variance_ratio, values[::-1] / values.sum())
    np.testing.assert_allclose(np.abs(found.components @ vectors[:, ::-1]), np.eye(5), atol=1e-10)
    np.testing.assert_allclose(found.components @ found.components.T, np.eye(5), atol=1e-12)
    np.testing.assert_allclose(np.var(found.projected, axis=0, ddof=1), values[::-1])
    assert (found.components[np.arange(5), np.argmax(np.abs(found.components), axis=1)] > 0).all()


def test_pca_keeps_float32_and_bears_points_that_are_all_the_same():
    found = pca(np.ones((4, 6), np.float32))
    assert {array.dtype for array in vars(found).values()} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(found.projected, 0)
    np.testing.assert_array_equal(found.explained_variance_ratio, 0)
    with pytest.raises(ValueError, match="1 points of 6 numbers cannot be shown in 2 dimensions"):
        pca(np.ones((1, 6)))


def test_one_hot_times_table_is_the_row():
    table = rng.normal(size=(7, 4)).astype(np.float32)
    for token in range(7):
        hot = one_hot(token, 7)
        assert hot.dtype == np.float32
        assert hot.sum() == hot[token] == 1
        np.testing.assert_array_equal(hot @ table, lookup(table, np.array(token)))
    assert one_hot(np.array([[1, 2], [3, 0]]), 7).shape == (2, 2, 7)
    with pytest.raises(ValueError, match="between 0 and 6; got 7 to 7"):
        one_hot(7, 7)


def test_centred_similarities_equal_the_centred_table():
    table, vector = rng.normal(size=(60, 8)) + 3, rng.normal(size=8)
    centre = table.mean(axis=0)
    expected = cosine_similarity(table - centre, vector - centre)
    np.testing.assert_allclose(similarities(table, vector, centre), expected, atol=1e-12)
    np.testing.assert_allclose(row_lengths(table, centre), np.linalg.norm(table - centre, axis=1))
    np.testing.assert_allclose(row_lengths(table), np.linalg.norm(table, axis=1))
    found = nearest(table, vector, 5, centre=centre, lengths=row_lengths(table, centre))
    np.testing.assert_array_equal(found.ids, np.argsort(-expected)[:5])
    assert similarities(table.astype(np.float32), vector.astype(np.float32)).dtype == np.float32


def test_known_lengths_change_nothing():
    table = rng.normal(size=(60, 8))
    lengths = row_lengths(table)
    np.testing.assert_array_equal(nearest(table, table[3], 9).ids, nearest(table, table[3], 9, lengths=lengths).ids)
    one, other = analogy(table, 1, 2, 3, 9), analogy(table, 1, 2, 3, 9, lengths=lengths)
    np.testing.assert_array_equal(one.similarities, other.similarities)


def test_leaving_out_afterwards_equals_excluding():
    table = rng.normal(size=(60, 3))
    for a, b, c in [(1, 2, 3), (5, 5, 8), (7, 9, 7)]:
        included = analogy(table, a, b, c, 13, exclude_inputs=False)
        left = included.without((a, b, c))
        expected = analogy(table, a, b, c, 10)
        np.testing.assert_array_equal(left.ids[:10], expected.ids)
        np.testing.assert_array_equal(left.similarities[:10], expected.similarities)


@pytest.mark.parametrize("k", [1, 2, 7, 40])
def test_largest_equals_a_full_stable_sort(k):
    for values in (rng.integers(0, 5, 40).astype(float), np.zeros(40), rng.normal(size=40)):
        np.testing.assert_array_equal(largest(values, k), np.argsort(-values, kind="stable")[:k])
        kept = np.setdiff1d(np.argsort(-values, kind="stable"), [0, 39], assume_unique=True)
        np.testing.assert_array_equal(largest(values, k, exclude=(0, 39)), kept[:k])


def test_cosine_matrix_equals_cosines_one_by_one():
    a, b = rng.normal(size=(2, 4, 6)), rng.normal(size=(2, 3, 6))
    a[1, 2] = 0
    found = cosine_matrix(a, b)
    np.testing.assert_allclose(found, cosine_similarity(a[:, :, None], b[:, None]), atol=1e-12)
    assert not found[1, 2].any()
    assert gradient_check(lambda a, b: np.sum(cosine_matrix(a, b) ** 2), (a[:1], b[:1])).worst < 1e-6


def test_a_vector_is_exactly_like_itself():
    """√(s·s) is s in binary floating point, so nothing is lost by rounding."""
    x = (rng.normal(size=(200, 576)) * 10.0 ** rng.integers(-3, 5, (200, 1))).astype(np.float32)
    assert (cosine_similarity(x, x.copy()) == 1).all()
