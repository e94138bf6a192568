"""The line of jobs: who runs, who waits at which place, and which jobs nobody wants any more.

Everything is in the store, so any number of server processes can ask. There is no master: each look of a reader sweeps
the line. Two marks that expire by themselves say who is alive: `seen`, renewed by the reader's page, and `beat`,
renewed by the job's process.
"""

from __future__ import annotations

import time
from typing import Any

from ui.jobs.store import KEEP, Store

PER_READER = 2
MOST = 250
"""A class of two hundred who all start one job, and some more. Each waits, tells its place, and costs a look a few
seconds apart; who comes after them is told to try later, so that the line cannot grow without end."""
PATIENCE = 75.0
"""Seconds without a look until a job is ended. Browsers wake a hidden page at least once a minute."""
BEAT = 20.0
"""Seconds without a beat until a job counts as lost. Jobs have low priority and may wait for the processor."""
FIRST_BEAT = 60.0
"""The same from the start of a process to its first beat: it has to import everything."""
NOBODY = 30.0
"""Seconds that the line may stand still before a reader is told that nobody runs jobs."""

YOURS = "You have {n} long jobs already. Stop one of them, or wait until one is finished."
FULL = "Too many long jobs are waiting already. Try again in a few minutes."
LOST = "The job's process ended before the job was finished. Run it again; with smaller settings if it ends again."
ABANDONED = "The job was ended because its page had not asked about it for a while. Run it again."
NOBODY_RUNS = "Nobody runs long jobs at the moment: the machine that does does not answer. Try again later."

Job = dict[str, Any]


class Line:
    """The jobs in order. `slots` is how many may run; None where Celery's workers decide."""

    def __init__(self, store: Store, slots: int | None) -> None:
        self.store, self.slots = store, slots

    # -- joining and leaving -------------------------------------------------------------------------------------------

    def join(self, job: str, reader: str) -> str:
        """Stand at the end of the line -> "" or why not."""
        with self.store.lock():
            jobs = self._jobs()
            open_jobs = [one for one in jobs.values() if not one["ended"]]
            if sum(one["reader"] == reader for one in open_jobs) >= PER_READER:
                return YOURS.format(n=PER_READER)
            if len(open_jobs) >= MOST:
                return FULL
            self.look(job)
            self._write(jobs | {job: {"reader": reader, "queued": time.time(), "started": 0, "ended": ""}})
        return ""

    def leave(self, job: str) -> Job | None:
        """Take the job out of the line: finished and told, stopped, or abandoned."""
        with self.store.lock():
            jobs = self._jobs()
            found = jobs.pop(job, None)
            if found is not None:
                self._write(jobs)
        for mark in ("seen", "beat"):
            self.store.delete(f"{job}-{mark}")
        return found

    def change(self, job: str, **changes: Any) -> bool:
        """Write down something about a job -> is it still in the line?"""
        with self.store.lock():
            jobs = self._jobs()
            if job not in jobs:
                return False
            jobs[job] |= changes
            self._write(jobs)
        return True

    def start(self, job: str) -> bool:
        """The job's process begins its work -> is it still wanted?"""
        self.beat(job)
        return self.wanted(job) and self.change(job, started=time.time())

    def end(self, job: str, why: str = "finished") -> None:
        """The job runs no more; its reader has yet to be told."""
        self.change(job, ended=why)

    def start_next(self) -> list[str]:
        """Mark as many waiting jobs as there is room for as started -> these jobs."""
        with self.store.lock():
            jobs = self._jobs()
            running = sum(bool(one["started"]) and not one["ended"] for one in jobs.values())
            waiting = [job for job, one in jobs.items() if not one["started"] and not one["ended"]]
            chosen = waiting[: max(0, (self.slots or 0) - running)]
            for job in chosen:
                jobs[job]["started"] = time.time()
                self.beat(job, FIRST_BEAT)
            if chosen:
                self._write(jobs)
        return chosen

    # -- marks of life -------------------------------------------------------------------------------------------------

    def look(self, job: str) -> None:
        """The reader's page has asked about the job."""
        self.store.set(f"{job}-seen", 1, PATIENCE)

    def beat(self, job: str, seconds: float = BEAT) -> None:
        """The job's process is alive."""
        self.store.set(f"{job}-beat", 1, seconds)

    def wanted(self, job: str) -> bool:
        """Is the job in the line, and has somebody asked about it lately?"""
        return self.find(job) is not None and self.store.get(f"{job}-seen") is not None

    # -- looking -------------------------------------------------------------------------------------------------------

    def find(self, job: str) -> Job | None:
        return self._jobs().get(job)

    def before(self, job: str) -> int:
        """How many unfinished jobs stand before a waiting job."""
        jobs = self._jobs()
        place = list(jobs).index(job) if job in jobs else 0
        return sum(not one["ended"] for one in list(jobs.values())[:place])

    def abandoned(self) -> list[str]:
        return [job for job in self._jobs() if self.store.get(f"{job}-seen") is None]

    def mark_lost(self) -> None:
        """End, with a sentence, the jobs whose process is gone, and those that wait while nobody runs any."""
        jobs = self._jobs()
        running = [job for job, one in jobs.items() if one["started"] and not one["ended"]]
        for job in running:
            if not self.alive(job, jobs[job]):
                self.end(job, LOST)
        if self.slots is None and not running:
            for job, one in jobs.items():
                if not one["ended"] and time.time() - one["queued"] > NOBODY and self._idle():
                    self.end(job, NOBODY_RUNS)

    def alive(self, job: str, one: Job) -> bool:
        return self.store.get(f"{job}-beat") is not None

    def busy(self) -> None:
        """Somebody runs jobs."""
        self.store.set("busy", 1, NOBODY)

    def _idle(self) -> bool:
        return self.store.get("busy") is None

    def _jobs(self) -> dict[str, Job]:
        return self.store.get("line") or {}

    def _write(self, jobs: dict[str, Job]) -> None:
        self.store.set("line", jobs, KEEP)
