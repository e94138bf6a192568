"""PyTorch's side of bench_model.py: waits for a line on standard input, runs what it names, answers with seconds."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "references"))
import smollm2_torch


def main(path: str, threads: str) -> None:
    """Commands: `prefill N`, `context N` (fill a cache), `decode` (one step from it). Each is answered with seconds."""
    torch.set_num_threads(int(threads))
    model = smollm2_torch.load(path)
    ids = torch.arange(1000, 3048)[None]
    cache = None
    print("ready", flush=True)
    for line in sys.stdin:
        command, *size = line.split()
        count = int(size[0]) if size else 1
        with torch.inference_mode():
            start = time.perf_counter()
            if command == "decode":
                model(ids[:, :1], past_key_values=cache, use_cache=True, logits_to_keep=1)
            else:
                result = model(ids[:, :count], use_cache=True, logits_to_keep=1)
            seconds = time.perf_counter() - start
        if command == "decode":
            cache.crop(-1)
        elif command == "context":
            cache = result.past_key_values
        print(seconds, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
