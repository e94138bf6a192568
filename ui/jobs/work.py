"""Inside the job's process: run a lab's generator step by step, tell its progress, and end it when it must end."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ui.jobs.line import ABANDONED, Line

GRACE = 5.0
"""Seconds that a job may take from one step to the next after its end was called; then its process is ended."""
TELL_EVERY = 0.2
TIME_IS_UP = "The job was ended after its {seconds:.0f} seconds. What you see is how far it came."


@dataclass(frozen=True)
class Long:
    """Makes a lab a job: its function is a generator that yields `Progress` and returns what a lab returns."""

    seconds: float = 120.0
    """Its budget. A job that needs longer is ended, and the reader told."""
    quick: Mapping[str, Any] = field(default_factory=dict)
    """Control values with which it takes a few seconds at most; the tests run it with these."""
    takes: str = ""
    """What the reader should expect, in words: "about 40 seconds"."""
    keeps: bool = False
    """It keeps what it reaches, for its own reader: the function also takes `run` (ui/jobs/runs.py), goes on from what
    is kept there, and other labs may look at it. Its results are not shared between readers."""


class Progress(NamedTuple):
    """How far a job is."""

    share: float
    words: str
    shown: Any = None
    """The picture so far: the same tuple that the function returns in the end."""


Steps = Generator[Progress, None, Any]


class Watch(threading.Thread):
    """Tells the line that the job is alive, and sees when it has to end: stopped, abandoned, or its time is up."""

    def __init__(self, line: Line, job: str, seconds: float, last_words: Callable[[str], None]) -> None:
        super().__init__(daemon=True)
        self.line, self.job, self.until = line, job, time.monotonic() + seconds
        self.sentence = TIME_IS_UP.format(seconds=seconds)
        self.last_words = last_words
        self.reason = ""
        self.finished = threading.Event()

    def over(self) -> str:
        """Why the job has to end; "" if it may go on."""
        if time.monotonic() > self.until:
            return self.sentence
        return self.reason

    def run(self) -> None:
        called = 0.0
        while not self.finished.wait(1.0):
            self._look()
            called = called or (time.monotonic() if self.over() else 0.0)
            if called and time.monotonic() - called > GRACE and not self.finished.is_set():
                self._end_process()

    def _look(self) -> None:
        try:
            self.line.beat(self.job)
            self.line.busy()
            if not self.line.wanted(self.job):
                self.reason = ABANDONED
        except Exception:  # the server has ended and taken its folder along, or Redis is gone
            self.reason = "The server has ended."

    def _end_process(self) -> None:
        """A step that does not end: the process has to."""
        try:
            self.last_words(self.over())
        finally:
            os._exit(3)


def follow(steps: Steps, watch: Watch, tell: Callable[[Progress], None]) -> tuple[Any, str]:
    """Run the generator to its end -> (what it returned, ""), or (None, why it was ended). Quick steps are not all
    told; the last picture is."""
    told, picture = -TELL_EVERY, None
    while True:
        try:
            progress = Progress(*next(steps))
        except StopIteration as end:
            return end.value, ""
        picture = progress.shown or picture
        if why := watch.over():
            steps.close()
            return None, why
        if time.monotonic() - told >= TELL_EVERY:
            told = time.monotonic()
            tell(progress._replace(shown=picture))


def to_the_end(steps: Steps) -> Any:
    """What the generator returns, for tests and whoever has the time."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value
