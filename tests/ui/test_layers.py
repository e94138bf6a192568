"""The layout of computation graphs: nothing overlaps, edges go forward, long edges have a way of their own."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.expression import expression_graph
from ui.figures.layers import BEND_ROOM, layered


@st.composite
def graphs(draw: st.DrawFn) -> tuple[int, list[tuple[int, int]]]:
    count = draw(st.integers(1, 25))
    pairs = st.integers(0, count - 1).flatmap(
        lambda target: st.tuples(st.integers(0, max(target - 1, 0)), st.just(target))
    )
    return count, [pair for pair in draw(st.lists(pairs, max_size=40)) if pair[0] < pair[1]]


@settings(deadline=None)
@given(graphs())
def test_edges_go_forward_and_nothing_overlaps(graph: tuple[int, list[tuple[int, int]]]) -> None:
    count, edges = graph
    place = layered(count, edges)
    assert len(place.columns) == len(place.rows) == count
    assert min(place.rows) >= 0
    passing: dict[int, list[tuple[float, float]]] = {}
    for (source, target), bends in zip(edges, place.bends, strict=True):
        across = [place.columns[source], *(column for column, _ in bends), place.columns[target]]
        assert all(one < other for one, other in pairwise(across))
        if place.columns[target] - place.columns[source] > 1:
            assert across == list(range(place.columns[source], place.columns[target] + 1))
            for column, row in bends:
                passing.setdefault(int(column), []).append((row, BEND_ROOM))
    for column in set(place.columns):
        nodes = [(row, 1.0) for row, where in zip(place.rows, place.columns, strict=True) if where == column]
        for (one, room), (other, other_room) in combinations(nodes + passing.get(column, []), 2):
            assert abs(one - other) >= (room + other_room) / 2 - 1e-2


def test_the_same_graph_is_always_drawn_alike() -> None:
    edges = [(0, 2), (1, 2), (2, 3), (0, 3), (1, 4), (3, 4)]
    assert layered(5, edges) == layered(5, edges)


def test_a_tree_has_no_crossings() -> None:
    edges = [(0, 4), (1, 4), (2, 5), (3, 5), (4, 6), (5, 6)]
    place = layered(7, edges)
    for (a, b), (c, d) in combinations(edges, 2):
        if place.columns[a] == place.columns[c]:
            assert (place.rows[a] - place.rows[c]) * (place.rows[b] - place.rows[d]) >= 0


def test_two_uses_of_one_value_can_be_told_apart() -> None:
    bends = layered(2, [(0, 1), (0, 1)]).bends
    assert bends[0] != bends[1]


@pytest.mark.parametrize("text", ["a", "a*a", "+".join(["a"] * 30), "tanh(" * 20 + "a" + ")" * 20])
def test_extreme_expressions(text: str) -> None:
    graph = expression_graph(text, {"a": 0.5})
    place = layered(len(graph.nodes), [(edge.source, edge.target) for edge in graph.edges])
    assert max(place.columns) < len(graph.nodes)
