"""The typed network: numbers read as written, and what it computes by hand."""

import numpy as np
import pytest

from engine.typed_network import places, read_layer, run_typed


def test_lines_of_numbers():
    w, b = read_layer(" 1 -2.5  .5\n\n+3, 4,5.", 2, 3, "W")
    np.testing.assert_array_equal(w, [[1, -2.5, 0.5], [3, 4, 5]])
    np.testing.assert_array_equal(b, [0, 0, 0])
    w, b = read_layer("1 2 3; 4 5 6; −7 8 9", 2, 3, "W")
    np.testing.assert_array_equal(b, [-7, 8, 9])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "it has 0"),
        ("1 2 3", "it has 1"),
        ("1 2 3\n4 5", "Line 2 of W needs 3 numbers"),
        ("1 2 3\n4 5 nan", "Line 2"),
        ("1 2 3\n4 5 1e9", "Line 2"),
        ("1 2 3\n4 5 ٣", "Line 2"),
        ("1 2 3\n4 5 6000", "beyond"),
        ("1 2 3\n" * 4, "it has 4"),
    ],
)
def test_anything_else_gets_a_sentence(text, says):
    with pytest.raises(ValueError, match=says):
        read_layer(text, 2, 3, "W")


def test_xor_by_hand():
    """Exclusive or and "and" of two bits: what no network without a bend can do."""
    for a in (0, 1):
        for b in (0, 1):
            run = run_typed(a, b, "1 1 0\n1 1 0\n0 -1 0", "1 0\n-2 1\n0 0")
            np.testing.assert_array_equal(run.steps.output, [a ^ b, a & b])


def test_nudges_and_suppression():
    base = run_typed(1.0, 2.0, "1 -1 0\n0 0 -1", "1 0\n0 1\n1 1")
    np.testing.assert_array_equal(base.steps.hidden, [1, -1, -2])
    np.testing.assert_array_equal(base.suppressed, [False, True, True])
    for place in places():
        moved = run_typed(1.0, 2.0, "1 -1 0\n0 0 -1", "1 0\n0 1\n1 1", place=place, nudge=0.5)
        changed = [np.sum(getattr(moved, n) != getattr(base, n)) for n in ("w1", "b1", "w2", "b2")]
        assert sum(changed) == 1, "one weight moves"
    assert not run_typed(1.0, 2.0, "1 -1 0\n0 0 -1", "1 0\n0 1\n1 1", "tanh").suppressed[1], "tanh lets −0.76 through"
    assert run_typed(1.0, 2.0, "1 -1 0\n0 0 -1", "1 0\n0 1\n1 1", "silu").suppressed[1]
