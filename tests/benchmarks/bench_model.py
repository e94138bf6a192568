"""How fast the real model runs, as ratios measured in one run: python tests/benchmarks/bench_model.py [--torch PYTHON]

Everything is interleaved (one round runs each thing once) and the median of the rounds' ratios is printed, so that
other work on the machine hits all alike. Without --torch only the comparison with reading memory is made. PYTHON is
the interpreter of an environment as in tests/references/smollm2_torch.py.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

DECODE_AT, PREFILL = (32, 256), (16, 32, 128)  # tokens
ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))


def main() -> None:
    """Parse, set the number of threads before NumPy is imported, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--torch", help="Python with torch and transformers")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = str(options.threads)
    jobs = engine_jobs()
    ratios = [(f"decode at {n} / reading the weights", f"decode {n}", "read") for n in DECODE_AT]
    if options.torch:
        jobs |= torch_jobs(options.torch, options.threads)
        ratios += [(f"{name} / PyTorch", name, f"torch {name}") for name in jobs if f"torch {name}" in jobs]
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(options.rounds + 1):
        for name, job in jobs.items():
            times[name].append(job())
    report(times, ratios)


def report(times: dict[str, list[float]], ratios: list[tuple[str, str, str]]) -> None:
    """Median milliseconds of each job, then the ratios; the first round warms up and is dropped."""
    import numpy as np

    kept = {name: np.array(values[1:]) for name, values in times.items()}
    for name, values in kept.items():
        print(f"{name:20} {np.median(values) * 1e3:8.1f} ms   (best {values.min() * 1e3:.1f})")
    for label, top, bottom in ratios:
        median, best = np.median(kept[top] / kept[bottom]), kept[top].min() / kept[bottom].min()
        print(f"{label:36} {median:.2f}   (best round to best round {best:.2f})")


def timed(run: Callable[[], object]) -> float:
    """Seconds that it takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def engine_jobs() -> dict[str, Callable[[], float]]:
    """Reading all weights once, decoding after 32 and 256 tokens, prefill; each returns its seconds."""
    import numpy as np

    from engine.model import load
    from engine.weights import matrices

    model = load()
    rows = [matrix.reshape(-1) for matrix in matrices(model.weights)]

    def read() -> None:  # a dot product with itself reads as fast as anything in NumPy does
        for row in rows:
            np.dot(row, row)

    ids = list(range(1000, 3048))
    caches = {n: model.new_cache(n + 1) for n in DECODE_AT}
    for n, cache in caches.items():
        model.forward(ids[:n], cache, last_only=True)

    def decode(n: int) -> float:
        seconds = timed(lambda: model.forward(ids[:1], caches[n], last_only=True))
        caches[n].rewind(n)
        return seconds

    def prefill(n: int) -> float:
        return timed(lambda: model.forward(ids[:n], model.new_cache(n), last_only=True))

    jobs = {"read": lambda: timed(read)}
    jobs |= {f"decode {n}": lambda n=n: decode(n) for n in DECODE_AT}
    return jobs | {f"prefill {n}": lambda n=n: prefill(n) for n in PREFILL}


def torch_jobs(python: str, threads: int) -> dict[str, Callable[[], float]]:
    """The same in PyTorch, run by another process that waits in between."""
    from engine.weights import gguf_path

    script = ROOT / "tests" / "benchmarks" / "torch_model.py"
    process = subprocess.Popen(
        [python, str(script), str(gguf_path()), str(threads)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin
    assert process.stdout
    while process.stdout.readline().strip() != "ready":
        pass

    def ask(*commands: str) -> float:
        answer = 0.0
        for command in commands:
            process.stdin.write(command + "\n")
            process.stdin.flush()
            answer = float(process.stdout.readline())
        return answer

    jobs = {f"torch decode {n}": lambda n=n: ask(f"context {n}", "decode", "decode") for n in DECODE_AT}
    return jobs | {f"torch prefill {n}": lambda n=n: ask(f"prefill {n}") for n in PREFILL}


if __name__ == "__main__":
    main()
