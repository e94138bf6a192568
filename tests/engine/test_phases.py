"""Phases by the stated rule, on curves made for it."""

from itertools import pairwise

import numpy as np
import pytest

from engine.phases import Curves, detect_phases
from engine.training import detect_phases as exported


def found(training, validation, every=10):
    steps = np.arange(len(training)) * every
    return [
        (p.name, p.start, p.end)
        for p in detect_phases(Curves(steps, np.array(training, float), np.array(validation, float)))
    ]


def test_late_generalisation():
    assert exported is detect_phases
    training = [0, 0.5, 1, 1, 1, 1, 1, 1, 1]
    validation = [0, 0, 0.1, 0.3, 0.2, 0.4, 0.8, 0.96, 1]
    assert found(training, validation) == [
        ("memorising", 0, 20), ("plateau", 20, 50), ("generalising", 50, 70), ("general", 70, 80),
    ]  # fmt: skip


def test_what_was_not_reached_is_not_named():
    assert found([0, 0.2, 0.4], [0, 0, 0.1]) == [("memorising", 0, 20)]
    assert found([0, 1, 1], [0, 0, 0.1]) == [("memorising", 0, 10), ("plateau", 10, 20)]
    assert found([0, 1, 1, 1], [0, 0, 0.5, 0.6]) == [
        ("memorising", 0, 10), ("plateau", 10, 20), ("generalising", 20, 30),
    ]  # fmt: skip


def test_a_run_that_generalises_while_it_learns_has_no_plateau():
    assert found([0, 0.5, 1, 1], [0, 0.5, 0.97, 1]) == [("memorising", 0, 20), ("general", 20, 30)]
    assert found([1.0, 1.0], [1.0, 1.0]) == [("general", 0, 10)]


def test_a_short_rise_does_not_end_the_plateau():
    names = [name for name, *_ in found([1, 1, 1, 1, 1], [0, 0.6, 0.1, 0.1, 0.2])]
    assert names == ["plateau"]


@pytest.mark.parametrize("seed", range(5))
def test_the_phases_follow_each_other_without_a_gap(seed):
    rng = np.random.default_rng(seed)
    training, validation = np.sort(rng.random(30)), np.sort(rng.random(30)) ** 2
    phases = found(training, validation)
    assert phases[0][1] == 0
    assert phases[-1][2] == 290
    assert all(a[2] == b[1] for a, b in pairwise(phases))
