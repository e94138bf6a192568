"""How long a training step takes, against PyTorch, and how soon the default run is near the entropy floor.

    python tests/benchmarks/bench_training.py --torch PYTHON    the step: same model, batch, threads; rounds interleaved
    python tests/benchmarks/bench_training.py --run             the default live run, on one thread

PYTHON is the interpreter of an environment with PyTorch. Both take whole steps: forward, backward, clipping, AdamW.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))
STEPS = 5  # in a row, in one round
BATCH = 16


def main() -> None:
    """Parse, set the number of threads before NumPy is imported, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch", help="Python with torch")
    parser.add_argument("--run", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = str(options.threads)
    if options.torch:
        compare(options.torch, options.threads, options.rounds)
    if options.run:
        default_run()


def compare(python: str, threads: int, rounds: int) -> None:
    """Interleaved rounds of the engine and PyTorch, from the same weights on the same batch."""
    import numpy as np

    from engine.corpora import corpus
    from engine.training import GPT, Checkpoint, Plan, batch_step
    from engine.weights import keep_freed_memory

    keep_freed_memory()  # as `train` does
    text = corpus("grammar")
    gpt = GPT(len(text.vocabulary))
    plan = Plan(learning_rate=1e-3, weight_decay=0.01, betas=(0.9, 0.999))
    now = Checkpoint(0, gpt.start(0))
    optimizer = plan.optimizer(now)
    inputs, targets = text.windows([0], BATCH, gpt.context)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "start.npz")
        np.savez(path, batch=np.concatenate([inputs, targets[:, -1:]], axis=1), **now.parameters)
        script = ROOT / "tests" / "benchmarks" / "torch_training.py"
        process = subprocess.Popen(
            [python, str(script), str(path), str(gpt.heads), str(threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdin
        assert process.stdout
        while process.stdout.readline().strip() != "ready":
            pass
        ours, theirs, parameters = [], [], now.parameters
        for _ in range(rounds + 1):
            start = time.perf_counter()
            for _ in range(STEPS):
                parameters, loss, _ = batch_step(gpt, parameters, optimizer, inputs, targets, plan.clip)
            ours.append((time.perf_counter() - start) / STEPS)
            process.stdin.write(f"{STEPS}\n")
            process.stdin.flush()
            seconds, their_loss = map(float, process.stdout.readline().split())
            theirs.append(seconds / STEPS)
        process.terminate()
    a, b = np.array(ours[1:]) * 1e3, np.array(theirs[1:]) * 1e3
    print(f"{gpt.parameter_count} parameters, {BATCH} x {gpt.context} tokens, {threads} thread(s), {rounds} rounds")
    print(f"loss after {(rounds + 1) * STEPS} steps: {loss:.5f}, PyTorch {their_loss:.5f}")
    print(f"engine  {np.median(a):6.1f} ms a step   (best {a.min():.1f})")
    print(f"PyTorch {np.median(b):6.1f} ms a step   (best {b.min():.1f})")
    print(f"ratio   {np.median(a / b):6.2f}             (best round to best round {a.min() / b.min():.2f})")


def default_run() -> None:
    """Seconds (of the clock, and of this process) until validation is within 0.1 nats of the floor, and to the end."""
    from engine.corpora import corpus
    from engine.training import GPT, Plan, train

    text = corpus("grammar")
    gpt, plan = GPT(len(text.vocabulary)), Plan()
    floor, near = text.floor(gpt.context), False
    print(f"{gpt.parameter_count} parameters, {plan.steps} steps, entropy floor {floor:.4f}")
    clock, own = time.perf_counter(), time.process_time()
    for step in train(gpt, text, plan):
        if step.validation is None:
            continue
        last = step.number == plan.steps
        if last or (not near and step.validation < floor + 0.1):
            near = True
            above, seconds = step.validation - floor, time.perf_counter() - clock
            print(f"step {step.number}: validation {step.validation:.4f}, {above:.4f} above the floor, after")
            print(f"    {seconds:.1f} s of the clock, {time.process_time() - own:.1f} s of processor time")


if __name__ == "__main__":
    main()
