"""Labs for the tests of long labs: one that counts slowly and can go wrong in every way, a quick one, a text."""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from dash import register_page

from engine.activation import relu
from ui.chapter import Chapter
from ui.controls import Choice, Slider, Text
from ui.figures import readouts
from ui.jobs.runs import Run
from ui.jobs.work import Long, Progress, Steps
from ui.lab import ReaderError

chapter = Chapter(__name__, Path(__file__).parent)

WAYS = {
    "well": "Ends well",
    "asks": "Has a question",
    "fails": "Fails",
    "dies": "Its process is killed",
    "hangs": "Takes one step that never ends",
    "busy": "Keeps a processor busy",
}


def counted(number: int) -> Any:
    data = {"numbers": np.arange(1, number + 1)}
    return readouts([("Counted to", str(number))]), f"Counted to {{{{n|{number}}}}}.", rf"n = {number}", data


@chapter.lab(
    "count",
    title="Count slowly",
    controls=[
        Slider("to", "Count to", 5, 1, 1000),
        Slider("pause", "Pause", 0.2, 0.0, 2.0, 0.05),
        Choice("way", "How it goes", "well", options=WAYS),
    ],
    runs=[relu],
    snippet="import numpy as np\n\nnumbers = np.arange(1, {to} + 1)",
    provenance="A test",
    long=Long(seconds=60, takes="a few seconds", quick={"to": 3, "pause": 0.0}),
)
def count(to: float, pause: float, way: str) -> Steps:
    for number in range(1, int(to) + 1):
        yield Progress((number - 1) / to, f"number {number} of {to:.0f}", counted(number) if number % 2 else None)
        if number == 2:
            go_wrong(way)
        pass_time(pause, busy=way == "busy")
    return counted(int(to))


@chapter.lab(
    "brief",
    title="Count slowly, in two seconds",
    controls=[Choice("way", "How it goes", "well", options=WAYS)],
    runs=[relu],
    snippet="numbers = [1, 2]",
    provenance="A test",
    long=Long(seconds=2),
)
def brief(way: str) -> Steps:
    return (yield from count(100, 0.2, way))


def pass_time(seconds: float, *, busy: bool) -> None:
    until = time.monotonic() + seconds
    states, weights = np.ones((256, 576), np.float32), np.ones((576, 1536), np.float32)
    while busy and time.monotonic() < until:
        np.tanh(states @ weights)
    time.sleep(max(0.0, until - time.monotonic()))


def go_wrong(way: str) -> None:
    if way == "asks":
        raise ReaderError("Count to what?")
    if way == "fails":
        raise RuntimeError("an accident with my secret sentence")
    if way == "dies":
        os.kill(os.getpid(), 9)
    if way == "hangs":
        time.sleep(600)


@chapter.lab(
    "double",
    title="Double",
    controls=[Slider("number", "Number", 3, 0, 1000)],
    runs=[relu],
    snippet="twice = 2 * {number}",
    provenance="A test",
)
def double(number: float) -> Any:
    return readouts([("Twice", str(2 * number))]), f"Twice is {2 * number:.0f}.", "", {"twice": np.array(2 * number)}


@chapter.lab(
    "echo",
    title="Say it slowly",
    controls=[Text("text", "Text", "a b c", limit=100)],
    runs=[relu],
    snippet="words = {text!r}.split()",
    provenance="A test",
    long=Long(seconds=60),
)
def echo(text: str) -> Steps:
    words = text.split()
    for number, _ in enumerate(words):
        yield Progress(number / len(words), f"word {number + 1}")
    return readouts([("Words", text)]), f"{len(words)} words.", "", {"words": np.array(words)}


@chapter.lab(
    "tally",
    title="Count, and remember how far it was",
    controls=[Slider("to", "Count to", 5, 1, 1000), Slider("pause", "Pause", 0.1, 0.0, 2.0, 0.05)],
    runs=[relu],
    snippet="import numpy as np\n\nnumbers = np.arange(1, {to} + 1)",
    provenance="A test",
    long=Long(seconds=60, keeps=True, quick={"to": 3, "pause": 0.0}),
)
def tally(to: float, pause: float, run: Run) -> Steps:
    kept = run.load("last")
    begun = int(kept["number"]) if kept else 0
    for number in range(begun + 1, int(to) + 1):
        run.keep("last", {"number": np.array(number)})
        run.note(begun=begun)
        yield Progress(number / to, f"number {number} of {to:.0f}", counted(number))
        pass_time(pause, busy=False)
    return counted(int(to))


@chapter.lab(
    "recall",
    title="How far it was",
    runs=[relu],
    snippet="number = 0",
    provenance="A test",
    follows="tally",
)
def recall(run: Run | None) -> Any:
    kept = run.load("last") if run is not None else None
    number = int(kept["number"]) if kept else 0
    begun = run.noted().get("begun", 0) if run is not None else 0
    data = {"number": np.array(number)}
    return readouts([("Number", str(number))]), f"It was at {number}, and had begun after {begun}.", "", data


register_page(__name__, path=chapter.entry.path, title=chapter.entry.title, layout=chapter.layout)
