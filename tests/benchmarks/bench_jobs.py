"""What long jobs cost everybody else: python tests/benchmarks/bench_jobs.py [--jobs 10] [--rounds 5] [--requests 150]

One reader moves the controls of a hand-sized lab, 25 settings a second, first while nothing else goes on, then while
ten others have long jobs, which multiply matrices as large as the model's without a pause and whose pages ask for
progress as a browser does. Both kinds alternate in one run, on one server with two workers.

Printed: median and 95th percentile of the answers' times of both kinds, and the ratio of the 95th percentiles (wanted:
below 2).
"""

from __future__ import annotations

import argparse
import atexit
import http.client
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from statistics import median, quantiles
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests"
sys.path[:0] = [str(ROOT), str(TESTS), str(Path(__file__).parent)]

PACE = 0.04
ASK = 0.5


def server() -> Any:
    """The book with the tests' long labs as one more chapter."""
    from ui.server import create_app

    folder = Path(tempfile.mkdtemp(prefix="bench-jobs-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    pages = folder / "pages"
    shutil.copytree(ROOT / "pages", pages)
    (folder / "data").symlink_to(ROOT / "data")
    for path in (TESTS / "demo_pages").glob("demo.*"):
        shutil.copy(path, pages)
    line = (TESTS / "demo_pages" / "contents.toml").read_text("utf-8").replace('path = "/"', 'path = "/demo"')
    with (pages / "contents.toml").open("a", encoding="utf-8") as contents:
        contents.write("\n" + line)
    return create_app(pages).server


class Caller:
    """One connection to the server."""

    def __init__(self, address: str) -> None:
        self.connection = http.client.HTTPConnection(address.removeprefix("http://"))

    def call(self, output: str, wanted: str, value: Any, query: str = "") -> Any:
        name, _, prop = output.rpartition(".")
        body = {
            "output": output,
            "outputs": {"id": name, "property": prop},
            "inputs": [{"id": wanted, "property": "data", "value": value}],
            "changedPropIds": [f"{wanted}.data"],
        }
        headers = {"Content-Type": "application/json"}
        self.connection.request("POST", f"/_dash-update-component{query}", json.dumps(body), headers)
        answer = self.connection.getresponse()
        content = answer.read()
        assert answer.status in (200, 204), (answer.status, output)
        return json.loads(content or b"null")


class Owner(threading.Thread):
    """A reader with a long job, whose page asks for progress until told to stop it."""

    def __init__(self, address: str, number: int) -> None:
        super().__init__(daemon=True)
        self.caller, self.number, self.over = Caller(address), number, threading.Event()
        self.running = threading.Event()

    def run(self) -> None:
        asked = {"values": {"to": 1000 - self.number, "pause": 2.0, "way": "busy"}, "reader": os.urandom(16).hex()}
        job = self.caller.call("demo-count-job.data", "demo-count-run", asked)
        handles = f"?cacheKey={job['cacheKey']}&job={job['job']}"
        while not self.over.wait(ASK):
            news = self.caller.call("demo-count-job.data", "demo-count-run", asked, handles)
            progress = news.get("progress", {}).get("demo-count-progress.data") or {}
            if "words" in progress:
                self.running.set()
        self.caller.call("demo-count-stop.id", "demo-count-stop", 1, f"?cancelJob={job['job']}")


@contextmanager
def busy(address: str, jobs: int) -> Iterator[None]:
    """That many readers with a long job each; the first ones run."""
    from ui.jobs.managers import slots

    owners = [Owner(address, number) for number in range(jobs)]
    for owner in owners:
        owner.start()
    while sum(owner.running.is_set() for owner in owners) < min(jobs, slots()):
        time.sleep(0.1)
    try:
        yield
    finally:
        for owner in owners:
            owner.over.set()
        for owner in owners:
            owner.join()


def times(caller: Caller, lab_id: str, settings: Iterator[dict[str, Any]], requests: int) -> list[float]:
    """Milliseconds of that many answers of the hand-sized lab, one setting after the other at a reader's pace."""
    spent = []
    for _ in range(requests):
        values = next(settings)
        started = time.perf_counter()
        caller.call(f"{lab_id}-answer.data", f"{lab_id}-asked", {"values": values})
        spent.append(1000 * (time.perf_counter() - started))
        time.sleep(max(0.0, PACE - (time.perf_counter() - started)))
    return spent


def main() -> None:
    """Serve, alternate, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=10, help="long jobs at the same time")
    parser.add_argument("--rounds", type=int, default=5, help="of both kinds")
    parser.add_argument("--requests", type=int, default=150, help="of each kind a round")
    parser.add_argument("--lab", default="attention-meeting", help="the hand-sized lab")
    options = parser.parse_args()

    from bench_slider import distinct
    from served import served

    from app import app
    from ui.lab import LABS

    assert app
    settings = cycle(distinct(LABS[options.lab]))
    idle: list[float] = []
    loaded: list[float] = []
    with served("bench_jobs:server()", 2) as address:
        caller = Caller(address)
        times(caller, options.lab, settings, 250)  # every setting once: later rounds are alike
        for _ in range(options.rounds):
            idle += times(caller, options.lab, settings, options.requests)
            with busy(address, options.jobs):
                loaded += times(caller, options.lab, settings, options.requests)
    for kind, spent in (("idle", idle), (f"{options.jobs} long jobs", loaded)):
        print(f"{options.lab} {kind:14} median {median(spent):6.2f} ms   p95 {quantiles(spent, n=20)[-1]:6.2f} ms")
    ratio = quantiles(loaded, n=20)[-1] / quantiles(idle, n=20)[-1]
    print(f"ratio of the 95th percentiles: {ratio:.2f} (wanted: below 2)")


if __name__ == "__main__":
    main()
