"""Embeddings: every token id names a row of a table, and the directions between rows carry meaning.

The measures here are the plain ones: cosine similarity, vector offsets (Mikolov et al. 2013, arXiv:1301.3781), and
principal components. Approximate neighbour search is left out: 49 152 rows are few enough to compare them all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from engine.arrays import Array


def lookup(table: Float[Array, "V D"], ids: Int[Array, "..."] | Sequence[int]) -> Float[Array, "... D"]:
    """Row `id` of the table for each id; the same as one-hot rows times the table, without the multiplication.

    Raises ValueError for an id that the table has no row for.
    """
    return table[_checked(ids, len(table))]


def cosine_similarity(a: Float[Array, "*#batch D"], b: Float[Array, "*#batch D"]) -> Float[Array, "..."]:
    """Cosine of the angle between vectors along the last axis, −1 to 1; 0 where one of them is all zeros."""
    lengths = np.sqrt(np.sum(a * a, axis=-1) * np.sum(b * b, axis=-1))
    return np.sum(a * b, axis=-1) / np.where(lengths > 0, lengths, 1.0)


def cosine_matrix(a: Float[Array, "*batch T D"], b: Float[Array, "*batch S D"]) -> Float[Array, "*batch T S"]:
    """The cosine of every row of `a` with every row of `b`; 0 where one of them is all zeros."""
    products = a @ np.swapaxes(b, -1, -2)
    lengths = np.sqrt(np.sum(a * a, axis=-1))[..., :, None] * np.sqrt(np.sum(b * b, axis=-1))[..., None, :]
    return products / np.where(lengths > 0, lengths, 1.0)


def one_hot(ids: Int[Array, "..."] | Sequence[int] | int, rows: int) -> Float[Array, "... V"]:
    """For each id a row of zeros with a single 1 in the place of that id; V = `rows`, float32.

    Raises ValueError for an id outside 0 to rows - 1.
    """
    return (_checked(ids, rows)[..., None] == np.arange(rows)).astype(np.float32)


def _checked(ids: Int[Array, "..."] | Sequence[int] | int, rows: int) -> Int[Array, "..."]:
    ids = np.asarray(ids)
    if ids.size and not 0 <= np.min(ids) <= np.max(ids) < rows:
        raise ValueError(f"Token ids must lie between 0 and {rows - 1}; got {np.min(ids)} to {np.max(ids)}.")
    return ids


def row_lengths(table: Float[Array, "V D"], centre: Float[Array, "D"] | None = None) -> Float[Array, "V"]:
    """The length of every row; with `centre`, its distance from there. One pass over the table, no copy of it."""
    squares = np.vecdot(table, table)
    if centre is not None:
        squares = squares - 2 * np.vecdot(table, centre) + np.sum(centre * centre)
    return np.sqrt(np.maximum(squares, 0))


def similarities(
    table: Float[Array, "V D"],
    vector: Float[Array, "D"],
    centre: Float[Array, "D"] | None = None,
    lengths: Float[Array, "V"] | None = None,
) -> Float[Array, "V"]:
    """The cosine of every row with `vector`; with `centre`, after that was subtracted from both.

    `lengths`, if they are known, are `row_lengths(table, centre)`: without them the table is read twice.
    """
    lengths = row_lengths(table, centre) if lengths is None else lengths
    if centre is None:
        products = np.vecdot(table, vector)
    else:
        vector = vector - centre
        products = np.vecdot(table, vector) - np.sum(centre * vector)
    sizes = lengths * np.sqrt(np.sum(vector * vector))
    return products / np.where(sizes > 0, sizes, 1)


def largest(values: Float[Array, "V"], k: int, exclude: Iterable[int] = ()) -> Int[Array, "k"]:
    """Places of the k largest values, the largest first, skipping those in `exclude`; equal ones keep their order.

    Only those at least as large as the k-th are sorted: of 49 152, a few.
    """
    if k < 1:
        raise ValueError(f"At least one neighbour must be asked for, not {k}.")
    skipped = np.isin(np.arange(len(values)), list(exclude))
    k = min(k, len(values) - int(np.count_nonzero(skipped)))
    if k == 0:
        return np.zeros(0, dtype=np.int64)
    open_to = np.where(skipped, -np.inf, values)
    floor = np.partition(open_to, len(values) - k)[len(values) - k]
    candidates = np.flatnonzero(open_to >= floor)
    return candidates[np.argsort(-open_to[candidates], kind="stable")][:k]


@dataclass(frozen=True)
class Neighbours:
    """Rows of a table by their cosine similarity to a vector, the most similar first."""

    target: Float[Array, "D"]  # the vector they are compared with
    ids: Int[Array, "k"]
    similarities: Float[Array, "k"]

    def without(self, ids: Iterable[int]) -> Neighbours:
        """The same list with some rows left out."""
        kept = ~np.isin(self.ids, list(ids))
        return Neighbours(self.target, self.ids[kept], self.similarities[kept])


def nearest(
    table: Float[Array, "V D"],
    vector: Float[Array, "D"],
    k: int,
    exclude: Iterable[int] = (),
    *,
    centre: Float[Array, "D"] | None = None,
    lengths: Float[Array, "V"] | None = None,
) -> Neighbours:
    """The k rows most similar to `vector` (fewer if the table runs out), skipping the ids in `exclude`.

    Equal similarities keep the order of the table. `centre` and `lengths` as in `similarities`.
    """
    found = similarities(table, vector, centre, lengths)
    ids = largest(found, k, exclude)
    return Neighbours(vector, ids, found[ids])


def analogy(
    table: Float[Array, "V D"],
    a: int,
    b: int,
    c: int,
    k: int,
    exclude_inputs: bool = True,
    *,
    lengths: Float[Array, "V"] | None = None,
) -> Neighbours:
    """The rows nearest to table[a] − table[b] + table[c], as in king − man + woman; a, b, c are ids.

    Papers leave the three inputs out of the answer; `exclude_inputs=False` shows that they often are the nearest.
    """
    target = table[a] - table[b] + table[c]
    return nearest(table, target, k, exclude=(a, b, c) if exclude_inputs else (), lengths=lengths)


@dataclass(frozen=True)
class PCA:
    """n points seen along the directions in which they differ most."""

    mean: Float[Array, "D"]
    components: Float[Array, "dims D"]  # unit rows at right angles, the widest direction first
    projected: Float[Array, "n dims"]  # coordinates of the points along the components
    explained_variance_ratio: Float[Array, "dims"]  # each direction's share of all variance


def pca(x: Float[Array, "n D"], dims: int = 2) -> PCA:
    """Principal components by singular value decomposition of the centred rows.

    A component's sign is free; its entry of largest size is made positive. Raises ValueError when there are fewer
    points or columns than `dims`.
    """
    if not 1 <= dims <= min(x.shape):
        raise ValueError(f"{x.shape[0]} points of {x.shape[1]} numbers cannot be shown in {dims} dimensions.")
    mean = np.mean(x, axis=0)
    _, stretch, directions = np.linalg.svd(x - mean, full_matrices=False)
    components = directions[:dims]
    largest = components[np.arange(dims), np.argmax(np.abs(components), axis=1)]
    components = components * np.where(largest < 0, -1, 1).astype(x.dtype)[:, None]
    total = np.sum(stretch * stretch)
    ratio = stretch[:dims] ** 2 / (total if total > 0 else x.dtype.type(1))
    return PCA(mean, components, (x - mean) @ components.T, ratio)
