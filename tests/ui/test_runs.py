"""Runs kept for their own reader: stopped, found again, gone on with, looked at; and a class of two hundred."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from test_jobs import Page, page, where  # noqa: F401 - fixtures

from ui.jobs import line as jobs_line
from ui.jobs import managers, runs
from ui.jobs.line import Line
from ui.jobs.store import DiskStore, MemoryStore, line_cache

LAB = "demo-tally"


def ask(asking: Page, lab: str, values: dict[str, Any], reader: str) -> dict[str, Any]:
    """What a lab shows this reader."""
    _, answer = asking.post(f"{lab}-answer.data", f"{lab}-asked", {"values": values, "reader": reader})
    return answer["response"][f"{lab}-answer"]["data"]


def reached(shown: dict[str, Any]) -> int:
    return int(shown["sentence"].partition("|")[2].partition("}}")[0])


def test_a_stopped_run_is_found_again_and_gone_on_with(page: Page) -> None:  # noqa: F811
    values = {"to": 30, "pause": 0.1}
    job = page.start(values, LAB)
    page.until(job, lambda news: (news.get("progress") or {}).get("share", 0) >= 0.3, lab=LAB)
    page.stop(job, LAB)
    time.sleep(0.5)
    shown = ask(page, LAB, values, page.reader)
    assert shown["partly"] is True
    assert 5 <= reached(shown) < 30
    assert "partly" not in ask(page, LAB, {"to": 31, "pause": 0.1}, page.reader)
    answer = page.until_done(page.start(values, LAB), lab=LAB)
    assert reached(answer) == 30
    again = ask(page, LAB, values, page.reader)
    assert reached(again) == 30
    assert "partly" not in again
    recalled = ask(page, "demo-recall", {}, page.reader)["sentence"]
    assert recalled.startswith("It was at 30")
    assert int(recalled.split("after ")[1].strip(".")) >= 5  # it did not begin again


def test_nobody_sees_another_readers_run(page: Page) -> None:  # noqa: F811
    values = {"to": 4, "pause": 0.0}
    assert reached(page.until_done(page.start(values, LAB), lab=LAB)) == 4
    other = Page(page.address)
    for reader in (other.reader, "", page.reader[:-1], "%"):
        assert "picture" not in ask(page, LAB, values, reader)
        assert ask(page, "demo-recall", {}, reader)["sentence"].startswith("It was at 0")
    assert "picture" not in page.settings(values, LAB)
    assert page.get(f"/lab/{LAB}/data.json?tally.to=4&tally.pause=0")[0] == 422
    mine = other.until_done(other.start({"to": 2, "pause": 0.0}, LAB), lab=LAB)
    assert reached(mine) == 2
    assert ask(page, "demo-recall", {}, page.reader)["sentence"].startswith("It was at 4")
    assert ask(page, "demo-recall", {}, other.reader)["sentence"].startswith("It was at 2")


def test_two_readers_at_once_with_the_same_settings_have_a_run_each(page: Page) -> None:  # noqa: F811
    values, other = {"to": 6, "pause": 0.05}, Page(page.address)
    jobs = [(reader, reader.start(values, LAB)) for reader in (page, other)]
    page.stop(jobs[0][1], LAB)
    assert reached(other.until_done(jobs[1][1], lab=LAB)) == 6
    assert "picture" not in ask(page, LAB, values, page.reader) or ask(page, LAB, values, page.reader)["partly"]


def test_a_class_of_two_hundred_gets_places_while_other_labs_answer(page: Page) -> None:  # noqa: F811
    readers = [Page(page.address) for _ in range(200)]
    with ThreadPoolExecutor(8) as pool:
        handles = list(pool.map(lambda reader: reader.start({"to": 1000, "pause": 1.0}), readers))
    try:
        with ThreadPoolExecutor(8) as pool:
            looks = list(pool.map(lambda pair: pair[0].look(pair[1]), zip(readers, handles, strict=True)))
        places = [look["progress"]["before"] for look in looks if "before" in (look.get("progress") or {})]
        assert len(places) >= 195
        assert len(set(places)) > 0.9 * len(places)
        assert max(places) >= 195
        times = []
        for number in range(40):
            start = time.perf_counter()
            assert page.settings({"number": number}, "demo-double")["picture"]
            times.append(time.perf_counter() - start)
        assert sorted(times)[36] < 0.25
    finally:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda pair: pair[0].stop(pair[1]), zip(readers, handles, strict=True)))


# --- without a server -------------------------------------------------------------------------------------------------


def test_two_hundred_join_and_each_has_a_place(tmp_path: Path) -> None:
    line = Line(DiskStore(line_cache(tmp_path)), slots=1)
    assert {line.join(f"job {i}", f"reader {i}") for i in range(200)} == {""}
    assert line.start_next() == ["job 0"]
    assert [line.before(f"job {i}") for i in (1, 100, 199)] == [1, 100, 199]
    for i in range(200, jobs_line.MOST):
        assert line.join(f"job {i}", f"reader {i}") == ""
    assert line.join("one more", "another").startswith("Too many long jobs")


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    store = MemoryStore()
    monkeypatch.setattr(managers, "CURRENT", SimpleNamespace(runs=store))
    return store


def test_arrays_come_back_to_the_last_bit(kept: MemoryStore) -> None:
    run = runs.begun("reader", "lab", "values")
    arrays = {"a/b": np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32), "n": np.array(7)}
    run.keep("last", arrays)
    again = runs.latest("reader", "lab")
    assert again is not None
    found = again.load("last")
    assert found is not None
    assert found.keys() == arrays.keys()
    assert all(
        np.array_equal(found[name], array) and found[name].dtype == array.dtype for name, array in arrays.items()
    )
    assert again.load("first") is None
    run.drop("last")
    assert run.load("last") is None
    assert run.noted()["parts"] == []


def test_a_reader_keeps_a_few_runs_of_a_lab_and_the_oldest_is_forgotten(kept: MemoryStore) -> None:
    begun = []
    for i in range(runs.PER_READER + 2):
        begun.append(runs.begun("reader", "lab", f"values {i}"))
        begun[-1].keep("last", {"i": np.array(i)})
    assert [run.load("last") is None for run in begun] == [True, True] + [False] * runs.PER_READER
    other = runs.begun("another", "lab", "values 4")
    assert other.load("last") is None
    assert len(kept.values) == 2 * runs.PER_READER + 1 + 1  # parts and notes, and a shelf each


def test_what_a_run_keeps_has_bounds(kept: MemoryStore) -> None:
    run = runs.begun("reader", "lab", "values")
    with pytest.raises(ValueError, match="room"):
        run.keep("large", {"a": np.zeros(runs.MOST_ARRAYS // 8 + 1)})
    for i in range(runs.MOST_PARTS):
        run.keep(str(i), {"a": np.zeros(1)})
    with pytest.raises(ValueError, match="room"):
        run.keep("one more", {"a": np.zeros(1)})
    run.keep("0", {"a": np.ones(1)})


def test_without_an_app_nothing_is_kept_and_nothing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(managers, "CURRENT", None)
    assert runs.latest("reader", "lab") is None
    assert runs.noted("reader", "lab", "values") == {}
    run = runs.nowhere()
    run.keep("last", {"a": np.ones(2)})
    assert run.load("last") is not None
