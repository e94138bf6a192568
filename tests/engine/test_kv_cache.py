"""Bytes of the KV cache: published figures, and the arrays themselves."""

from __future__ import annotations

import numpy as np
import pytest

from engine.kv_cache import KVCache, bytes_per_token, with_every_sharing
from engine.ledger import CONFIGS


def test_published_sizes():
    assert bytes_per_token(CONFIGS["Llama 3.1 8B"], 2) == 128 * 1024
    assert bytes_per_token(CONFIGS["Llama 3.1 8B"], 2) * 10_644 == pytest.approx(1.395e9, rel=1e-3)
    assert bytes_per_token(CONFIGS["SmolLM2-135M"], 4) == 46_080
    assert bytes_per_token(CONFIGS["GPT-2"], 2) == 2 * 12 * 768 * 2
    assert bytes_per_token(CONFIGS["Gemma 2B"], 0.5) == 2 * 18 * 256 / 2


@pytest.mark.parametrize("name", CONFIGS)
def test_equals_the_arrays_of_a_cache(name):
    config = CONFIGS[name]
    cache = KVCache(config.layers, config.kv_heads, 4, config.head_dim, np.float16)
    cache.advance(3)
    assert cache.nbytes == 3 * bytes_per_token(config, 2)


def test_sharing_only_divides_the_cache():
    options = with_every_sharing(CONFIGS["Llama 3.1 8B"])
    assert [option.kv_heads for option in options] == [32, 16, 8, 4, 2, 1]
    sizes = [bytes_per_token(option) for option in options]
    assert sizes == [sizes[-1] * option.kv_heads for option in options]
    assert CONFIGS["Llama 3.1 8B"] in options
