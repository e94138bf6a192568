"""Record the run of modular addition that the chapter on training shows: data/modular_addition.npz.

Run in the project's folder, some minutes on one core: python -m scripts.record_modular_addition
With --compare it runs everything again and says how far the new numbers are from the recorded ones; the file stays.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import numpy as np

from engine.modular_addition import Look, run
from engine.recorded_addition import EVERY, FILE, SETTING, load, write

COMMAND = "python -m scripts.record_modular_addition"


def told(looks: Iterator[Look]) -> Iterator[Look]:
    """The same, with a line in the terminal now and then."""
    for now in looks:
        if now.step % 200 == 0:
            print(f"step {now.step:5d}  accuracy {now.accuracy[0]:.3f} {now.accuracy[1]:.3f}", flush=True)
        yield now


def compare(looks: list[Look]) -> None:
    """How far a new run is from the recorded one."""
    kept = load()
    loss, accuracy = (np.array([getattr(now, name) for now in looks]) for name in ("loss", "accuracy"))
    print("largest difference of a loss", np.max(np.abs(loss - kept.loss)))
    print("largest difference of an accuracy", np.max(np.abs(accuracy - kept.accuracy)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--compare", action="store_true")
    again, started = parser.parse_args().compare, time.perf_counter()
    looks = list(told(run(SETTING, EVERY)))
    seconds = round(time.perf_counter() - started)
    if again:
        compare(looks)
    else:
        date = datetime.now(UTC).date().isoformat()
        write(FILE, SETTING, looks, {"command": COMMAND, "date": date, "seconds": seconds})
