"""Keys and values rounded: by hand, against one text at a time, and what the real model's keys look like."""

from __future__ import annotations

import numpy as np
import pytest

from engine.kv_quantization import (
    WAYS,
    cache_error,
    effects,
    outlier_channels,
    plain_loss,
    quantize_cache,
    rounded_cache,
)
from engine.tokenization import encode

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("axis", ["token", "channel"])
@pytest.mark.parametrize("spare", [0, 1, 2])
def test_rounded_line_by_line(axis, spare):
    x = RNG.normal(size=(2, 5, 8))
    found = quantize_cache(x, 3, axis, spare)
    np.testing.assert_array_equal(found[:, :spare], x[:, :spare])
    for head in range(2):
        rest = x[head, spare:] if axis == "token" else x[head, spare:].T
        for i, line in enumerate(rest):
            step = (line.max() - line.min()) / 7
            expected = np.round((line - line.min()) / step) * step + line.min()
            mine = found[head, spare:][i] if axis == "token" else found[head, spare:, i]
            np.testing.assert_allclose(mine, expected, atol=1e-12)


def test_nothing_is_left_to_round():
    x = RNG.normal(size=(1, 2, 8))
    np.testing.assert_array_equal(quantize_cache(x, 2, "token", 2), x)
    assert cache_error(x[:, :0], 2, "token") == 0 if x[:, :0].size else True
    with pytest.raises(ValueError, match="token or to a channel"):
        quantize_cache(x, 2, "head")


def test_outlier_channels_are_found_largest_first():
    x = RNG.normal(size=(6, 16)) * 0.1
    big = np.zeros(16)
    big[[3, 11]] = 5, 9
    assert outlier_channels(x + big).tolist() == [11, 3]
    assert outlier_channels(np.ones((4, 8))).size == 0


def test_a_scale_a_channel_bears_an_outlier_channel():
    x = RNG.normal(size=(12, 64))
    x = x + np.where(np.arange(64) == 7, 30.0, 0.0)
    assert cache_error(x, 4, "channel") < cache_error(x, 4, "token") / 3


@pytest.mark.model
def test_all_ways_at_once_are_each_way_alone(smollm2):
    ids = encode("The capital of France is Paris.", "smollm2")
    found = effects(smollm2, ids, 3)
    assert len(found) == len(WAYS)
    for way, (keys, values, raw) in zip(found, WAYS, strict=True):
        edit = rounded_cache(3, keys, values, raw, smollm2.config.layers)
        assert way.loss == pytest.approx(float(smollm2.loss(ids, edit)), rel=1e-3)
    assert plain_loss(smollm2, ids) == pytest.approx(float(smollm2.loss(ids)), rel=1e-5)


@pytest.mark.model
def test_keys_by_channel_are_better_as_kivi_found(smollm2):
    ids = encode("The old harbour lies below the town, where the river meets the sea.", "smollm2")
    trace = smollm2.trace(ids)
    errors = {
        (name, axis): np.mean([cache_error(trace[f"blk.{i}.attn.{name}"], 2, axis) for i in range(30)])
        for name in "kv"
        for axis in ("token", "channel")
    }
    assert errors["k", "channel"] < errors["k", "token"] / 2
    by_token, by_channel, *_ = effects(smollm2, ids, 2)
    assert by_channel.divergence < by_token.divergence / 2
