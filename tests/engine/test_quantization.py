"""Rounding: codes and scales by definition, floats by their bits, blocks as the package `gguf` reads them, sizes."""

from __future__ import annotations

import struct
from itertools import pairwise

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.ledger import CONFIGS, total_parameters
from engine.quantization import (
    FLOATS,
    SCHEMES,
    Scheme,
    cast,
    model_bytes,
    nf4,
    nf4_table,
    quantize,
    read_half,
    read_q4_1,
    read_q8_0,
    spacing,
)
from engine.weights import layout, read_tensor

RNG = np.random.default_rng(0)
# The 16 numbers of NF4 as published: Dettmers et al. 2023, arXiv:2305.14314, appendix E.
NF4 = [
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
]  # fmt: skip


def groups_of(x, group):
    """Each group's numbers, one by one, with their places."""
    rows = x.reshape(-1, x.shape[-1])
    if group == "tensor":
        return [(np.arange(x.size), x.reshape(-1))]
    size = x.shape[-1] if group == "row" else group
    return [
        (np.arange(r * rows.shape[1] + c, r * rows.shape[1] + min(c + size, rows.shape[1])), rows[r, c : c + size])
        for r in range(len(rows))
        for c in range(0, rows.shape[1], size)
    ]


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("group", ["tensor", "row", 2, 3, 4, 100])
def test_codes_and_scales_are_those_of_the_definition(bits, symmetric, group):
    x = RNG.normal(size=(3, 7))
    found = quantize(x, bits, symmetric=symmetric, group=group)
    scales, zeros = np.reshape(found.scale, -1), np.reshape(found.zero_point, -1)
    groups = groups_of(x, group)
    assert len(scales) == len(zeros) == len(groups)
    for (places, values), scale, zero in zip(groups, scales, zeros, strict=True):
        low = 0.0 if symmetric else min(values)
        span = max(abs(v) for v in values) / (2 ** (bits - 1) - 1) if symmetric else (max(values) - low) / (2**bits - 1)
        assert scale == pytest.approx(span, rel=1e-15)
        assert zero == low
        for place, value in zip(places, values, strict=True):
            code = round((value - low) / span) if span else 0  # Python rounds half to even
            assert found.codes.reshape(-1)[place] == code
            assert found.dequantized.reshape(-1)[place] == pytest.approx(span * code + low, rel=1e-12, abs=1e-15)


def test_half_goes_to_even():
    x = np.array([0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 7.0])  # scale 1 with 4 bits
    assert quantize(x, 4).codes.tolist() == [0, 2, 2, 0, -2, -2, 7]
    x = np.array([0.0, 0.5, 1.5, 2.5, 15.0])
    assert quantize(x, 4, symmetric=False).codes.tolist() == [0, 0, 2, 2, 15]


@given(st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=20), st.integers(2, 8), st.booleans())
@settings(max_examples=150, deadline=None)
def test_no_number_moves_further_than_half_a_step(values, bits, symmetric):
    x = np.array(values, np.float32)
    found = quantize(x, bits, symmetric=symmetric)
    steps = 2 ** (bits - 1) - 1 if symmetric else 2**bits - 1
    assert np.abs(found.codes).max() <= steps
    assert found.dequantized.dtype == found.scale.dtype == np.float32
    rounding = 4e-7 * np.abs(x).max() + 1e-37  # of float32, whose smallest numbers are coarse
    assert np.abs(found.dequantized - x).max() <= found.scale * 0.5 * (1 + 1e-5) + rounding


def test_zeros_stay_zeros_and_constants_stay_constant():
    assert quantize(np.zeros(4, np.float32), 4).dequantized.tolist() == [0] * 4
    assert nf4(np.zeros((2, 4), np.float32), group="row").dequantized.tolist() == [[0] * 4] * 2
    assert quantize(np.full(4, 2.5), 3, symmetric=False).dequantized.tolist() == [2.5] * 4
    assert quantize(np.array([[1.0, 0.0], [0.0, 3.0]]), 4, group="row").dequantized[0, 1] == 0


def test_shapes_of_scales():
    x = RNG.normal(size=(2, 3, 8)).astype(np.float32)
    assert quantize(x, 4).scale.shape == ()
    assert quantize(x, 4, group="row").scale.shape == (2, 3, 1)
    assert quantize(x, 4, group=3).scale.shape == (2, 3, 3)
    np.testing.assert_array_equal(np.asarray(quantize(x, 4)), quantize(x, 4).dequantized)


@pytest.mark.parametrize("bits", [0, 1, 17])
def test_bits_that_there_are_not(bits):
    with pytest.raises(ValueError, match="bits here"):
        quantize(np.ones(3), bits)


@pytest.mark.parametrize("x", [np.array([]), np.array([1, np.inf]), np.array([np.nan])])
def test_numbers_that_cannot_be_quantised(x):
    with pytest.raises(ValueError, match="finite numbers"):
        quantize(x, 4)
    with pytest.raises(ValueError, match="finite numbers"):
        nf4(x)


@pytest.mark.parametrize("group", [0, -1, "column"])
def test_groups_that_there_are_not(group):
    with pytest.raises(ValueError, match="scale belongs"):
        quantize(np.ones((2, 4)), 4, group=group)


# --- floats --------------------------------------------------------------------------------------------------------


def every_number(kind):
    """All finite numbers of a float format, with their bit patterns: decoded from the bits, one by one."""
    form = FLOATS[kind]
    bias = 2 ** (form.exponent - 1) - 1
    for bits in range(2 ** (form.exponent + form.mantissa)):
        exponent, mantissa = bits >> form.mantissa, bits & (2**form.mantissa - 1)
        value = 2.0 ** (max(exponent, 1) - bias) * ((exponent > 0) + mantissa / 2**form.mantissa)
        if value <= form.largest:
            yield bits, value


def nearest(kind, x):
    """The nearest number of the format; of two equally near ones, that with an even pattern."""
    return min(every_number(kind), key=lambda entry: (abs(entry[1] - abs(x)), entry[0] % 2))[1] * (-1 if x < 0 else 1)


def test_fp8_has_the_numbers_of_its_definition():
    values = dict(every_number("fp8_e4m3"))
    assert len(values) == 127  # and as many negative ones; the last pattern is NaN
    assert max(values.values()) == 448  # Micikevicius et al. 2022, arXiv:2209.05433, table 1
    assert values[1] == 2.0**-9
    assert values[8] == 2.0**-6
    kept = cast(np.array(list(values.values())), "fp8_e4m3")
    np.testing.assert_array_equal(kept, list(values.values()))


@pytest.mark.parametrize("scale", [1e-3, 0.02, 1.0, 100.0])
def test_fp8_takes_the_nearest(scale):
    for x in RNG.normal(size=60) * scale:
        assert cast(np.array([x]), "fp8_e4m3")[0] == nearest("fp8_e4m3", min(max(x, -448), 448))
    between = [v for _, v in every_number("fp8_e4m3")]
    for low, high in pairwise(between):
        tie = (low + high) / 2
        assert cast(np.array([tie]), "fp8_e4m3")[0] == nearest("fp8_e4m3", tie)


def test_fp8_stops_at_448():
    assert cast(np.float32([1e9, -449.0, 460.0]), "fp8_e4m3").tolist() == [448, -448, 448]


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
@settings(max_examples=300, deadline=None)
def test_fp16_is_numpys(x):
    with np.errstate(over="ignore"):
        assert cast(np.float32([x]), "fp16")[0] == np.float32(x).astype(np.float16).astype(np.float32)


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
@settings(max_examples=300, deadline=None)
def test_bf16_is_the_upper_half_of_a_float_rounded_to_even(x):
    (bits,) = struct.unpack("<I", struct.pack("<f", x))
    upper = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16 << 16
    (expected,) = struct.unpack("<f", struct.pack("<I", upper))
    assert cast(np.float32([x]), "bf16")[0] == expected


def test_bf16_is_that_of_the_gguf_package():
    x = RNG.normal(size=(4, 64)).astype(np.float32)
    kind = gguf.GGMLQuantizationType.BF16
    np.testing.assert_array_equal(cast(x, "bf16"), gguf.dequantize(gguf.quantize(x, kind), kind))


def test_fp32_changes_nothing():
    x = RNG.normal(size=50).astype(np.float32)
    np.testing.assert_array_equal(cast(x, "fp32"), x)


@pytest.mark.parametrize("kind", ["fp16", "bf16", "fp8_e4m3"])
def test_spacing_leads_to_the_next_number(kind):
    for x in (0.0, 0.3, 1.0, 1.9, 5.0, 300.0):
        kept = cast(np.array([x]), kind)
        step = spacing(kept, kind)
        np.testing.assert_array_equal(cast(kept + step, kind), kept + step)
        if x:
            assert cast(kept + step * 0.4, kind) == kept


def test_there_is_no_such_format():
    with pytest.raises(ValueError, match="no format 'fp6'"):
        cast(np.ones(2), "fp6")


def test_nf4_has_the_published_numbers():
    np.testing.assert_allclose(nf4_table(), NF4, atol=1e-6)


@pytest.mark.parametrize("group", ["tensor", "row", 4, 3])
def test_nf4_takes_the_nearest_of_its_numbers(group):
    x = RNG.normal(size=(3, 8))
    found = nf4(x, group=group)
    for (places, values), scale in zip(groups_of(x, group), np.reshape(found.scale, -1), strict=True):
        assert scale == max(abs(values))
        for place, value in zip(places, values, strict=True):
            code = int(np.argmin(np.abs(nf4_table() - value / scale)))
            assert found.codes.reshape(-1)[place] == code
            assert found.dequantized.reshape(-1)[place] == pytest.approx(nf4_table()[code] * scale)
    np.testing.assert_array_equal(cast(x, "nf4", group=group), found.dequantized)


def test_nf4_uses_its_codes_more_evenly_than_int4():
    x = RNG.normal(size=(1000, 64))
    share = np.bincount(nf4(x, group="row").codes.reshape(-1), minlength=16) / x.size
    straight = np.bincount(quantize(x, 4, group="row").codes.reshape(-1) + 7, minlength=15) / x.size
    assert share.std() < straight.std()


# --- blocks of a GGUF file -----------------------------------------------------------------------------------------


def test_every_half_is_that_of_the_ieee():
    for bits in range(2**16):
        data = bits.to_bytes(2, "little")
        (expected,) = struct.unpack("<e", data)
        found = read_half(data).value
        assert found == expected or (found != found and expected != expected)


@pytest.mark.parametrize(("kind", "read"), [("Q4_1", read_q4_1), ("Q8_0", read_q8_0)])
def test_blocks_are_read_as_the_package_reads_them(kind, read):
    kind = gguf.GGMLQuantizationType[kind]
    data = gguf.quantize(RNG.normal(size=(20, 32)).astype(np.float32), kind)
    for block, expected in zip(data, gguf.dequantize(data, kind), strict=True):
        np.testing.assert_array_equal(read(block.tobytes()).dequantized, expected)


@pytest.mark.parametrize("read", [read_q4_1, read_q8_0])
@pytest.mark.parametrize("block", [b"", b"\0" * 19, b"\0" * 40])
def test_a_block_of_another_length(read, block):
    with pytest.raises(ValueError, match="bytes, not"):
        read(block)


@pytest.mark.model
@pytest.mark.parametrize(("name", "read", "size"), [("blk.17.attn_k", read_q4_1, 20), ("token_embd", read_q8_0, 34)])
def test_blocks_of_the_real_file(name, read, size):
    tensor = read_tensor(name)
    expected = tensor.dequantized()[:192].reshape(-1, 32)
    data = tensor.data[:192].reshape(-1, size)
    for block, values in zip(data[::7], expected[::7], strict=True):
        np.testing.assert_array_equal(read(block.tobytes()).dequantized, values)


# --- sizes ---------------------------------------------------------------------------------------------------------


def test_scales_are_counted():
    bits = {name: scheme.bits_per_weight for name, scheme in SCHEMES.items()}
    assert bits["q4_1"] == 5.0
    assert (bits["q4_0"], bits["q8_0"], bits["q5_1"], bits["nf4"]) == (4.5, 8.5, 6.0, 4.5)
    assert bits["nf4_double"] == pytest.approx(4.127, abs=5e-4)  # Dettmers et al. 2023, section 3


@pytest.mark.parametrize("name", ["Q8_0", "Q6_K", "Q5_1", "Q4_1", "Q4_0", "Q4_K", "Q3_K", "Q2_K", "BF16", "F16", "F32"])
def test_bits_are_those_of_the_format(name):
    size, in_bytes = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]]
    ours = {"BF16": "bf16", "F16": "fp16", "F32": "fp32"}.get(name, name.lower())
    assert SCHEMES[ours].bits_per_weight == 8 * in_bytes / size


def test_sizes_of_llama():
    llama = CONFIGS["Llama 3.1 8B"]
    assert model_bytes(llama, "bf16") / 1e9 == pytest.approx(16.06, abs=0.005)
    assert model_bytes(llama, "q4_0") / 1e9 == pytest.approx(4.52, abs=0.005)
    assert model_bytes(llama, "q8_0") / 1e9 == pytest.approx(8.53, abs=0.005)
    assert model_bytes(llama, Scheme("", 4, 32, 32)) == model_bytes(llama, "q4_1")
    with pytest.raises(ValueError, match="no scheme 'q1'"):
        model_bytes(llama, "q1")


@pytest.mark.model
def test_the_size_of_the_real_file():
    config = CONFIGS["SmolLM2-135M"]
    stored = sum(read_tensor(name).data.nbytes for name in ("blk.0.attn_q", "blk.29.ffn_down"))
    assert stored == (576 * 576 + 576 * 1536) * SCHEMES["q4_1"].bits_per_weight / 8
    embedding = read_tensor("token_embd").data.nbytes
    assert embedding == 49152 * 576 * SCHEMES["q8_0"].bits_per_weight / 8
    norms = sum(shape[0] for shape in layout(config).values() if len(shape) == 1)
    counted = model_bytes(config, "q4_1", embedding="q8_0")
    matrices = (total_parameters(config) - norms - 49152 * 576) * 5 / 8
    assert counted == round(matrices + embedding + norms * 5 / 8)
