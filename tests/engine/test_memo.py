"""Results are computed once, by one thread, and forgotten in the order of their use."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pytest

from engine.memo import Memo, memory


@dataclass(frozen=True)
class Kept:
    values: np.ndarray
    name: str


def numbers(kilobytes):
    return np.zeros(kilobytes * 128)


def test_computed_once_and_the_same_object():
    memo, calls = Memo(10_000), []
    first = memo.get("a", lambda: calls.append(1) or numbers(1))
    assert memo.get("a", lambda: pytest.fail("computed again")) is first
    assert memo.get("b", lambda: numbers(1)) is not first
    assert len(calls) == 1
    assert memo.bytes == 2048


def test_the_longest_unused_go_first():
    memo = Memo(3 * 1024)
    for key in "abc":
        memo.get(key, lambda: numbers(1))
    memo.get("a", lambda: pytest.fail("a is kept"))
    memo.get("d", lambda: numbers(1))
    assert memo.bytes == 3 * 1024
    memo.get("a", lambda: pytest.fail("a was used after b"))
    assert memo.get("b", lambda: "computed again") == "computed again"


def test_what_is_larger_than_the_memory_is_not_kept_and_drives_nothing_out():
    memo = Memo(2 * 1024)
    memo.get("small", lambda: numbers(1))
    assert memo.get("large", lambda: numbers(5)).nbytes == 5 * 1024
    memo.get("small", lambda: pytest.fail("small is kept"))
    assert memo.get("large", lambda: "again") == "again"


def test_threads_that_ask_together_wait_for_one():
    memo, calls, entered, may_go = Memo(10_000), [], threading.Event(), threading.Event()

    def slow():
        calls.append(1)
        entered.set()
        assert may_go.wait(10)
        return numbers(1)

    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(memo.get, "a", slow) for _ in range(8)]
        assert entered.wait(10)
        assert memo.get("b", lambda: "not held up") == "not held up"
        may_go.set()
        results = [job.result(10) for job in asked]
    assert len(calls) == 1
    assert all(result is results[0] for result in results)


def test_an_error_reaches_all_who_wait_and_is_not_kept():
    memo, entered, may_go = Memo(10_000), threading.Event(), threading.Event()

    def fails():
        entered.set()
        assert may_go.wait(10)
        raise ValueError("no")

    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(memo.get, "a", fails) for _ in range(3)]
        assert entered.wait(10)
        may_go.set()
        for job in asked:
            with pytest.raises(ValueError, match="no"):
                job.result(10)
    assert memo.get("a", lambda: "now") == "now"


def test_shared_memory_counts_once():
    whole = numbers(2)
    assert memory({"whole": whole, "view": whole[:10], "also": [whole.reshape(2, -1).T, (numbers(1), 3.0)]}) == 3 * 1024
    assert memory([Kept(whole, "name"), whole]) == memory(whole) > 0
    assert memory("text") == 0
