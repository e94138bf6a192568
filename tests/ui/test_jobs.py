"""Long labs over HTTP, with Dash's two managers: processes over a disk cache, and Celery over Redis."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode

import numpy as np
import psutil
import pytest
from served import ROOT, free_port, jobs_of, served

from ui.jobs import line as jobs_line
from ui.jobs import managers, results, store
from ui.jobs.line import Line
from ui.jobs.store import KEEP, RESULT_BYTES, DiskStore, line_cache, result_cache

REDIS = shutil.which("redis-server")
DEMO = ROOT / "tests" / "demo_pages"
SECRET = "my secret sentence"


# --- a reader without a browser ---------------------------------------------------------------------------------------


@dataclass
class Page:
    """A tab: its reader's name, and what it asks the server."""

    address: str
    reader: str = field(default_factory=lambda: os.urandom(16).hex())

    def post(self, output: str, wanted: str, value: Any, **handles: str) -> tuple[int, Any]:
        """Status and answer of a callback request."""
        name, _, prop = output.rpartition(".")
        body = {
            "output": output,
            "outputs": {"id": name, "property": prop},
            "inputs": [{"id": wanted, "property": "data", "value": value}],
            "changedPropIds": [f"{wanted}.data"],
        }
        address = f"{self.address}/_dash-update-component?{urlencode(handles)}"
        request = urllib.request.Request(address, json.dumps(body).encode(), {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as problem:
            return problem.code, None

    def start(self, values: dict[str, Any], lab: str = "demo-count") -> dict[str, str]:
        """Start a job -> its handles."""
        asked = {"values": values, "reader": self.reader}
        status, answer = self.post(f"{lab}-job.data", f"{lab}-run", asked)
        assert status == 200
        return {"cacheKey": answer["cacheKey"], "job": answer["job"]}

    def look(self, handles: dict[str, str], lab: str = "demo-count") -> dict[str, Any]:
        """One question: {"progress": ...} or {"answer": ...}; {"status": ...} if there is no such job."""
        status, answer = self.post(f"{lab}-job.data", f"{lab}-run", None, **handles)
        if status != 200:
            return {"status": status}
        if "response" in answer:
            return {"answer": answer["response"][f"{lab}-job"]["data"]}
        return {"progress": answer.get("progress", {}).get(f"{lab}-progress.data")}

    def until(
        self,
        handles: dict[str, str],
        true: Callable[[dict[str, Any]], Any],
        seconds: float = 40,
        lab: str = "demo-count",
    ) -> Any:
        """Ask until something holds -> the answer then."""
        end = time.monotonic() + seconds
        while not true(news := self.look(handles, lab)):
            assert time.monotonic() < end, news
            time.sleep(0.1)
        return news

    def until_running(self, handles: dict[str, str]) -> dict[str, Any]:
        return self.until(handles, lambda news: (news.get("progress") or {}).get("words"))["progress"]

    def until_done(self, handles: dict[str, str], seconds: float = 40, lab: str = "demo-count") -> dict[str, Any]:
        return self.until(handles, lambda news: "answer" in news, seconds, lab)["answer"]

    def stop(self, handles: dict[str, str], lab: str = "demo-count") -> int:
        return self.post(f"{lab}-stop.id", f"{lab}-stop", 1, cancelJob=handles["job"])[0]

    def settings(self, values: dict[str, Any], lab: str = "demo-count") -> dict[str, Any]:
        """What the page is told when a control has moved."""
        _, answer = self.post(f"{lab}-answer.data", f"{lab}-asked", {"values": values})
        return answer["response"][f"{lab}-answer"]["data"]

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(self.address + path) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as problem:
            return problem.code, problem.read().decode()


@contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """Redis on a free port, keeping nothing on disk."""
    assert REDIS is not None
    port = free_port()
    command = [REDIS, "--port", str(port), "--save", "", "--appendonly", "no", "--dir", str(folder), "--bind"]
    process = subprocess.Popen([*command, "127.0.0.1"], stdout=subprocess.DEVNULL)
    try:
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait(10)


@contextmanager
def celery_worker(url: str) -> Iterator[subprocess.Popen[bytes]]:
    """The project's Celery worker with one process, on the tests' pages."""
    path = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
    environment = {**os.environ, "REDIS_URL": url, "GLASS_BOX_PAGES": str(DEMO), "PYTHONPATH": path}
    command = [sys.executable, "-m", "celery", "--app", "ui.jobs.worker", "worker", "--concurrency", "1"]
    process = subprocess.Popen([*command, "--loglevel", "ERROR"], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module", params=["disk", "redis"])
def where(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The demo pages under two workers, with each manager."""
    if request.param == "disk":
        with served("demo_app:server", workers=2) as address:
            yield address
        return
    if not REDIS and os.environ.get("CI") != "true":
        pytest.skip("There is no redis-server.")
    with (
        redis_server(tmp_path_factory.mktemp("redis")) as url,
        celery_worker(url),
        served("demo_app:server", workers=2, REDIS_URL=url) as address,
    ):
        yield address


@pytest.fixture
def page(where: str) -> Page:
    return Page(where)


# --- both managers ----------------------------------------------------------------------------------------------------


def test_a_job_tells_its_progress_and_ends_with_its_result(page: Page) -> None:
    job = page.start({"to": 5, "pause": 0.4})
    progress = page.until(job, lambda news: (news.get("progress") or {}).get("share", 0) >= 0.4)["progress"]
    assert 0 < progress["share"] < 1
    assert progress["words"].endswith("of 5")
    assert progress["shown"]["sentence"].startswith("Counted to {{n|")
    answer = page.until_done(job)
    assert answer["sentence"] == "Counted to {{n|5}}."
    assert answer["values"] == {"to": 5, "pause": 0.4, "way": "well"}
    assert answer["picture"]
    assert "<math" in answer["formula"]
    assert page.look(job) == {"answer": {"gone": True}}


def test_a_finished_result_is_kept_for_everybody(page: Page) -> None:
    values = {"to": 8, "pause": 0.0}
    assert "picture" not in page.settings(values)
    assert page.get("/lab/demo-count/data.json?count.to=8&count.pause=0")[0] == 422
    answer = page.until_done(page.start(values))
    other = Page(page.address)
    assert other.settings(values)["picture"] == answer["picture"]
    first = other.get("/?count.to=8&count.pause=0")[1].partition('<figcaption class="lab-sentence"')[2]
    assert "Counted to 8" in first[:80], "the link's first response shows it"
    status, data = other.get("/lab/demo-count/data.json?count.to=8&count.pause=0")
    assert (status, json.loads(data)["data"]) == (200, {"numbers": list(range(1, 9))})
    started = time.monotonic()
    assert other.until_done(other.start(values))["sentence"] == answer["sentence"]
    assert time.monotonic() - started < 10
    assert "picture" not in other.settings({"to": 9, "pause": 0.0})


def test_who_comes_later_waits_in_line(page: Page) -> None:
    first, second, third = page, Page(page.address), Page(page.address)
    running = first.start({"to": 100, "pause": 0.2})
    first.until_running(running)
    waiting = second.start({"to": 2, "pause": 0.0})
    last = third.start({"to": 3, "pause": 0.0})
    assert second.look(waiting)["progress"] == {"before": 1}
    assert third.look(last)["progress"] == {"before": 2}
    assert second.stop(waiting) in (200, 204)
    assert third.look(last)["progress"] == {"before": 1}
    assert first.stop(running) in (200, 204)
    assert third.until_done(last)["sentence"] == "Counted to {{n|3}}."


def test_a_stopped_job_ends_and_leaves_no_result(page: Page) -> None:
    values = {"to": 30, "pause": 0.2}
    job = page.start(values)
    page.until_running(job)
    page.stop(job)
    assert page.look(job) == {"answer": {"gone": True}}
    follower = page.start({"to": 1, "pause": 0.0})
    assert page.until_done(follower, 8)["sentence"] == "Counted to {{n|1}}."
    assert "picture" not in page.settings(values)


def test_a_reader_has_two_jobs_at_most(page: Page) -> None:
    jobs = [page.start({"to": 100, "pause": 0.2}), page.start({"to": 90, "pause": 0.2})]
    answer = page.until_done(page.start({"to": 80, "pause": 0.2}))
    assert answer["error"] == "You have 2 long jobs already. Stop one of them, or wait until one is finished."
    for job in jobs:
        page.stop(job)
    assert page.until_done(page.start({"to": 1, "pause": 0.0}))["picture"]


@pytest.mark.parametrize(
    ("way", "sentence"),
    [
        ("asks", "Count to what?"),
        ("fails", "This lab could not compute that. Change a control, or reset it."),
        ("dies", "The job's process ended before the job was finished."),
    ],
)
def test_what_goes_wrong_is_a_sentence_and_the_next_job_runs(page: Page, way: str, sentence: str) -> None:
    answer = page.until_done(page.start({"to": 3, "pause": 0.1, "way": way}), seconds=30)
    assert answer["error"].startswith(sentence)
    assert "picture" not in answer
    assert page.until_done(page.start({"to": 1, "pause": 0.0}))["sentence"] == "Counted to {{n|1}}."


@pytest.mark.parametrize("way", ["well", "hangs"])
def test_a_job_that_takes_too_long_is_ended(page: Page, way: str) -> None:
    """At its next step, or with its process if no step comes; either way the next job can run."""
    started = time.monotonic()
    answer = page.until_done(page.start({"way": way}, "demo-brief"), lab="demo-brief")
    assert answer["error"] == "The job was ended after its 2 seconds. What you see is how far it came."
    assert time.monotonic() - started < 25
    assert page.until_done(page.start({"to": 1, "pause": 0.0}))["sentence"] == "Counted to {{n|1}}."


def test_nobody_else_reads_or_stops_a_job(page: Page) -> None:
    mine, theirs = page.start({"to": 100, "pause": 0.2}), Page(page.address)
    other = theirs.start({"to": 99, "pause": 0.2})
    name = {which: handle.partition("~")[0] for which, handle in mine.items()}
    signed = {which: f"{name[which]}~{other[which].partition('~')[2]}" for which in name}
    for forged in (name, signed, {**other, "job": mine["job"]}, {**mine, "job": other["job"]}):
        assert theirs.look(forged) == {"status": 404}
    for forged in (name, signed):
        assert theirs.stop(forged) == 404
    assert theirs.look({**mine, "endId": "x~y"}, "demo-echo") != {"status": 500}
    assert page.until_running(mine)
    assert page.stop(mine) in (200, 204)
    assert theirs.stop(other) in (200, 204)


@pytest.mark.parametrize(
    "asked",
    [
        *(None, 1, "x", [], {}, {"values": {}}, {"values": 1, "reader": "0" * 32}, {"values": {}, "reader": 5}),
        *({"values": {}, "reader": "0" * 31}, {"values": {}, "reader": "0" * 33}, {"values": [], "reader": "0" * 32}),
        *({"values": {}, "reader": "G" * 32}, {"values": {}, "reader": "../" * 11}),
    ],
    ids=repr,
)
def test_what_starts_no_job_is_refused(page: Page, asked: Any) -> None:
    assert page.post("demo-count-job.data", "demo-count-run", asked)[0] == 400


@pytest.mark.parametrize("handle", ["", "~", "x", "x~y", "1~" + "0" * 64, "\0", "é~é", "~" * 100])
def test_broken_handles_name_no_job(page: Page, handle: str) -> None:
    for handles in ({"cacheKey": handle}, {"job": handle}, {"cacheKey": handle, "job": handle}):
        assert page.post("demo-count-job.data", "demo-count-run", None, **handles)[0] == 404
    assert page.post("demo-count-stop.id", "demo-count-stop", 1, cancelJob=handle)[0] == 404
    assert page.post("demo-count-stop.id", "demo-count-stop", 1)[0] == 404
    good = {"values": {"to": 1, "pause": 0}, "reader": page.reader}
    for name in ("oldJob", "endId"):
        assert page.post("demo-count-job.data", "demo-count-run", good, **{name: handle})[0] in (200, 404)


def test_values_of_the_wrong_kind_become_defaults_with_a_note(page: Page) -> None:
    answer = page.until_done(page.start({"to": "NaN", "pause": -5, "way": ["x"], "more": 1}))
    assert answer["values"] == {"to": 5, "pause": 0.0, "way": "well"}
    assert set(answer["notes"]) == {"to", "pause", "way"}


def test_awkward_text_goes_through(page: Page) -> None:
    for text in ("half \ud83d pair", "\0 nul", "<script>alert(1)</script>", "漢字 \u202e x", ""):
        assert "error" not in page.until_done(page.start({"text": text}, "demo-echo"), lab="demo-echo")


def test_two_readers_who_ask_the_same_have_a_job_each(page: Page) -> None:
    """What Dash's managers do by themselves: equal requests are one job, which each reader ends for the other."""
    values = {"to": 6, "pause": 0.1}
    readers = [page, Page(page.address), Page(page.address)]
    jobs = [reader.start(values) for reader in readers]
    assert len({job["cacheKey"] for job in jobs}) == 3
    answers: dict[int, Any] = {}
    end = time.monotonic() + 40
    while len(answers) < 3:
        assert time.monotonic() < end
        for number, (reader, job) in enumerate(zip(readers, jobs, strict=True)):
            if number not in answers and "answer" in (news := reader.look(job)):
                answers[number] = news["answer"]
        time.sleep(0.1)
    assert {answer["sentence"] for answer in answers.values()} == {"Counted to {{n|6}}."}


# --- processes of this machine ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def local() -> Iterator[str]:
    with served("demo_app:server", workers=1) as address:
        yield address


def test_a_job_is_a_process_of_low_priority_and_one_thread(local: str) -> None:
    page = Page(local)
    job = page.start({"to": 100, "pause": 0.2})
    page.until_running(job)
    [process] = jobs_of(local)
    assert process.nice() == 19
    assert process.environ()["OPENBLAS_NUM_THREADS"] == "1"
    page.stop(job)
    psutil.wait_procs([process], timeout=5)
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_as_many_jobs_run_as_leave_a_processor_free(local: str) -> None:
    from ui.jobs.managers import slots

    pages = [Page(local) for _ in range(slots() + 2)]
    jobs = [page.start({"to": 100, "pause": 0.2}) for page in pages]
    for page, job in zip(pages[: slots()], jobs[: slots()], strict=True):
        page.until_running(job)
    time.sleep(1)
    assert len(jobs_of(local)) == slots()
    for page, job in zip(pages, jobs, strict=True):
        page.stop(job)


def test_a_job_that_nobody_asks_about_ends() -> None:
    with served("demo_app:server", workers=2, DEMO_PATIENCE="2") as address:
        page, next_one = Page(address), Page(address)
        job = page.start({"to": 100, "pause": 0.2})
        page.until_running(job)
        [process] = jobs_of(address)
        end = time.monotonic() + 15
        while process in jobs_of(address):  # it ends by itself: nobody asks the server anything
            assert time.monotonic() < end
            time.sleep(0.1)
        assert page.look(job)["answer"]["error"] == jobs_line.ABANDONED
        assert next_one.until_done(next_one.start({"to": 1, "pause": 0.0}))["picture"]


def test_the_server_takes_its_jobs_and_its_folder_along() -> None:
    with served("demo_app:server", workers=2) as address:
        page = Page(address)
        page.until_running(page.start({"text": SECRET, "to": 100, "pause": 0.2}))
        [process] = jobs_of(address)
        folder = Path(process.cmdline()[-3])
        assert folder.is_dir()
        assert folder.stat().st_mode & 0o077 == 0
    psutil.wait_procs([process], timeout=5)
    assert not process.is_running()
    assert not folder.exists()


# --- Redis ------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not REDIS and os.environ.get("CI") != "true", reason="There is no redis-server.")
def test_redis_and_celery_may_go_away(tmp_path: Path) -> None:
    """Without a worker a waiting reader is told; without Redis hand-sized labs work and a job is not taken."""
    with redis_server(tmp_path) as url, served("demo_app:server", workers=1, REDIS_URL=url, DEMO_NOBODY="2") as address:
        page = Page(address)
        job = page.start({"to": 2, "pause": 0.0})
        assert page.look(job)["progress"] == {"before": 0}
        assert page.until_done(job, 10)["error"] == jobs_line.NOBODY_RUNS
        with celery_worker(url) as worker:
            job = page.start({"to": 100, "pause": 0.2})
            try:
                page.until_running(job)
            except AssertionError:  # on a busy machine the worker may come too late for the first job
                job = page.start({"to": 100, "pause": 0.2})
                page.until_running(job)
            for process in [*psutil.Process(worker.pid).children(recursive=True), psutil.Process(worker.pid)]:
                process.kill()
            assert page.until_done(job, 40)["error"] == jobs_line.LOST
        assert page.get("/")[0] == 200
        end_redis(url)
        assert page.settings({"number": 4}, "demo-double")["sentence"] == "Twice is 8."
        assert "picture" not in page.settings({"to": 3})
        asked = {"values": {}, "reader": page.reader}
        assert page.post("demo-count-job.data", "demo-count-run", asked)[0] == 204
        assert page.get("/")[0] == 200


def end_redis(url: str) -> None:
    """Ends the Redis server at an address."""
    import redis

    redis.Redis.from_url(url).shutdown(nosave=True)


# --- the line by itself -----------------------------------------------------------------------------------------------


@pytest.fixture
def line(tmp_path: Path) -> Line:
    """A line with room for one, over a disk cache."""
    return Line(DiskStore(line_cache(tmp_path)), slots=1)


def test_the_line_keeps_its_order_and_its_room(line: Line) -> None:
    assert [line.join(name, "reader " + name) for name in "abc"] == ["", "", ""]
    assert line.start_next() == ["a"]
    assert line.start_next() == []
    assert [line.before(name) for name in "abc"] == [0, 1, 2]
    line.end("a")
    assert line.before("b") == 0
    assert line.start_next() == ["b"]
    line.leave("b")
    assert line.start_next() == ["c"]
    assert line.leave("b") is None


def test_a_full_line_and_a_busy_reader_get_a_sentence(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_line, "MOST", 3)
    assert line.join("a", "one") == line.join("b", "one") == ""
    assert line.join("c", "one").startswith("You have 2 long jobs already.")
    assert line.join("d", "two") == ""
    assert line.join("e", "three").startswith("Too many long jobs")
    line.end("a")
    assert line.join("f", "one") == ""


def test_a_job_that_nobody_asks_about_is_abandoned(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_line, "PATIENCE", 0.3)
    assert line.join("a", "one") == line.join("b", "two") == ""
    time.sleep(0.2)
    line.look("b")
    time.sleep(0.2)
    assert line.abandoned() == ["a"]
    assert not line.wanted("a")
    assert line.wanted("b")
    assert not line.start("a")


def test_a_job_without_a_beat_is_lost(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_line, "BEAT", 0.2)
    line.join("a", "one")
    line.start_next()
    line.beat("a", 0.2)
    line.mark_lost()
    assert line.find("a")["ended"] == ""
    time.sleep(0.3)
    line.mark_lost()
    assert line.find("a")["ended"] == jobs_line.LOST


def test_where_nobody_runs_jobs_a_waiting_reader_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_line, "NOBODY", 0.2)
    line = Line(DiskStore(line_cache(tmp_path)), slots=None)
    line.join("a", "one")
    line.busy()
    line.mark_lost()
    assert line.find("a")["ended"] == ""
    time.sleep(0.3)
    line.mark_lost()
    assert line.find("a")["ended"] == jobs_line.NOBODY_RUNS


def test_the_line_serves_many_at_once(line: Line) -> None:
    """Readers of several threads join, look and leave; each job is started once, one at a time."""
    names = [f"job {number}" for number in range(24)]
    started: list[str] = []

    def reader(name: str) -> None:
        assert line.join(name, name) == ""
        while name not in started:
            chosen = line.start_next()
            started.extend(chosen)
            for one in chosen:
                running = [job for job in line._jobs().values() if job["started"] and not job["ended"]]
                assert len(running) == 1
                line.end(one)
            time.sleep(0.01)
        line.leave(name)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(reader, names))
    assert sorted(started) == sorted(names)
    assert line._jobs() == {}


# --- what is kept -----------------------------------------------------------------------------------------------------


def test_nothing_is_kept_for_good(tmp_path: Path) -> None:
    cache = line_cache(tmp_path)
    cache.set("result", "text")
    DiskStore(cache).set("other", 1, 5)
    for key in ("result", "other"):
        _, expires = cache.get(key, expire_time=True)
        assert expires is not None
        assert expires - time.time() <= KEEP


def test_kept_results_have_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = result_cache(tmp_path)
    monkeypatch.setattr(managers, "CURRENT", SimpleNamespace(results=DiskStore(cache)))
    results.keep("small", {"sentence": "x"}, {"n": np.arange(3)})
    results.keep("many numbers", {"sentence": "x"}, {"n": np.random.default_rng(0).random(400_000)})
    results.keep("huge", {"sentence": "x" * 5_000_000}, {})
    assert results.kept("small") == {"shown": {"sentence": "x"}, "data": {"n": [0, 1, 2]}}
    assert results.kept("many numbers") == {"shown": {"sentence": "x"}, "data": None}
    assert results.kept("huge") is None
    for number in range(40):
        results.keep(f"large {number}", {"sentence": "y" * 2_000_000}, {})
    assert cache.volume() < 1.3 * RESULT_BYTES


def test_a_folder_that_a_killed_server_left_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_base", lambda: tmp_path)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left, living = (tmp_path / f"glass-box-jobs-{pid}-x" for pid in (ended.pid, os.getpid()))
    left.mkdir()
    living.mkdir()
    mine = store.new_folder()
    assert not left.exists()
    assert living.exists()
    assert mine.is_dir()
    store._remove(mine, os.getpid() + 1)
    assert mine.exists(), "a forked worker that ends leaves it"
    store._remove(mine, os.getpid())
    assert not mine.exists()


def test_without_a_store_nothing_is_kept_and_nothing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def get(self, key: str) -> Any:
            raise ConnectionError(SECRET)

    for manager in (None, SimpleNamespace(results=Broken())):
        monkeypatch.setattr(managers, "CURRENT", manager)
        assert results.kept("x") is None
