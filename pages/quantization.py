"""Quantization: fewer bits a number, from 25 numbers to a whole model. The labs of the page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from dash import register_page

from engine import kv_quantization as kv
from engine import quantization as engine
from engine import quantization_study as study
from engine import requantization as whole
from engine.ledger import CONFIGS, active_parameters, total_parameters
from engine.minilm_file import available as minilm_available
from engine.tokenization import encode
from engine.weights import STORED_AS
from pages._reading import ENCODING, piece, read, spoken, the_model, written
from pages._rounding import MINUS, cell_formula, half_formula, percent, scheme_words, shown
from ui.chapter import Chapter
from ui.controls import Choice, Pick, Slider, Text, Toggle, within
from ui.figures import bars, curve, histogram, matrix, readouts, row, sign, stack, table, tokens, words
from ui.jobs.work import Long, Progress, Steps
from ui.lab import Preset, ReaderError
from ui.mathml import number, signed

chapter = Chapter(__name__, Path(__file__).parent)
chapter.code["quantize"] = engine.quantize
chapter.code["read_q4_1"] = engine.read_q4_1

SMOLLM2 = CONFIGS["SmolLM2-135M"]
REAL = "SmolLM2's real weights"
GROUPS = {"tensor": "the whole matrix", "row": "each row", "3": "3 neighbours in a row"}


def grouped(group: str) -> engine.Group:
    """What a Choice says -> what the engine takes."""
    return int(group) if group.isdigit() else group


# --- 25 numbers ------------------------------------------------------------------------------------------------------


START = {"kind": "int4", "group": "tensor", "symmetric": True, "outlier": 1, "seed": 0, "own": ""}
"""What a preset of the first lab changes only in part."""


def numbers_of(seed: int, outlier: float, own: str) -> np.ndarray:
    """The reader's 25 numbers, or drawn ones."""
    return study.own_numbers(own) if own.strip() else study.example(seed, outlier)


@chapter.lab(
    "rounding",
    title="25 weights, nine ways to write them",
    controls=[
        Choice("kind", "Written as", "int4", dict(study.KINDS)),
        Choice("group", "One scale for", "tensor", GROUPS),
        Toggle("symmetric", "Symmetric (no minimum)", True),
        Slider("outlier", "One weight times", 1, 1, 40, 0.5),
        Slider("seed", "Seed", 0, 0, 30),
        Text("own", "Your own 25 numbers (empty: drawn ones)", "", limit=400, rows=1),
        Pick("line", "Row", 1, 24),
        Pick("place", "Column", 2, 24),
    ],
    runs=[engine.quantize, engine.cast, engine.nf4, engine.spacing, study.treat],
    snippet="""
        from engine.quantization_study import example, own_numbers, treat

        own, group = {own!r}, {group!r}
        x = own_numbers(own) if own.strip() else example({seed}, {outlier})
        kept = treat(x, {kind!r}, {symmetric}, int(group) if group.isdigit() else group)
        dequantized, error, step = kept.dequantized, kept.error, kept.step
        print(kept.codes, dequantized, kept.rms, sep="\\n")
    """,
    provenance="25 numbers from a normal distribution, or yours; rounded live",
    presets=[
        Preset("INT8", START | {"kind": "int8"}, "255 codes: you have to look for the error."),
        Preset("INT2", START | {"kind": "int2"}, "Three numbers are left: minus, zero, plus."),
        Preset(
            "An outlier",
            START | {"outlier": 20},
            "One large weight stretches the steps for all. Most of the others become 0.",
        ),
        Preset(
            "… and the cure",
            START | {"group": "3", "outlier": 20},
            "A scale for every three numbers: the outlier now spoils only its neighbours.",
        ),
        Preset(
            "A float does not mind",
            START | {"kind": "fp8_e4m3", "outlier": 20},
            "Each number has its own power of two, so its steps grow with it: the other 24 do not notice.",
        ),
        Preset(
            "All positive",
            START
            | {
                "kind": "int3",
                "symmetric": False,
                "own": "3.1 3.2 3.3 3.4 3.5 3.6 3.7 3.8 3.9 4.0 4.1 4.2 4.3 4.4 4.5 4.6 4.7 4.8 4.9 5.0 3.15 3.25 "
                "3.35 3.45 3.55",
            },
            "Numbers far from 0 want a minimum. Switch “symmetric” on and half of the codes are never used.",
        ),
    ],
    height=790,
)
def rounding(
    kind: str, group: str, symmetric: bool, outlier: float, seed: int, own: str, line: int, place: int
) -> tuple[Any, ...]:
    x, by = numbers_of(seed, outlier, own), grouped(group)
    at = within(line, study.SIDE), within(place, study.SIDE)
    every = study.compare(x, symmetric, by)
    now = every[kind]
    limit = float(np.max(np.abs(x))) or 1.0
    middle = (
        matrix(now.step, "Steps: how far to the next number", "tokens", "codes", scale="none", digits=5)
        if now.codes is None
        else matrix(now.codes, "Codes: what is stored", "tokens", "codes", digits=0)
    )
    mates = x[study.group_of((5, 5), *at, by)].reshape(-1)
    stairs = study.staircase(mates, kind, symmetric)
    kept = now.dequantized[study.group_of((5, 5), *at, by)].reshape(-1)
    picture = stack(
        row(
            matrix(
                x, "The weights; click one", "resid", "x", limit=limit, digits=2, pick=["line", "place"], picked=at[0]
            ),
            sign("→"),
            middle,
        ),
        row(
            matrix(now.dequantized, "What they stand for", "resid", "kept", limit=limit, digits=3),
            matrix(now.error, "The error: that minus the weights", "grad", "error", limit=limit / 4, digits=3),
        ),
        row(
            bars(
                list(study.KINDS.values()),
                [found.rms for found in every.values()],
                title="RMS error in every scheme",
                tensor="grad",
                marked=[list(study.KINDS).index(kind)],
                keys=[f"kind:{name}" for name in study.KINDS],
            ),
            curve(
                [("becomes", *stairs), ("the weights", mates, kept)],
                title="What becomes of a number in the clicked one's group",
                x_label="before",
                y_label="after",
                tensors=["tokens", "resid"],
                dots=[1],
                marker=(float(x[at]), float(now.dequantized[at])),
            ),
        ),
        readouts(
            [
                ("different numbers left", f"{now.unique} of {len(np.unique(x))}"),
                ("range", f"{shown(float(x.min()))} to {shown(float(x.max()))}"),
                ("RMS error", shown(now.rms, 3)),
                ("largest error", shown(float(np.max(np.abs(now.error))), 3)),
                *scale_readouts(now),
            ]
        ),
    )
    zeros = int(np.sum((now.dequantized == 0) & (x != 0)))
    sentence = (
        f"In {scheme_words(kind, symmetric)}, {{{{kind:{kind}|{now.unique} different numbers}}}} are left of "
        f"{len(np.unique(x))}, and they are off by {shown(now.rms, 2)} (RMS). "
        f"The clicked {shown(float(x[at]))} becomes {shown(float(now.dequantized[at]))}. "
        + ("None has become 0." if not zeros else f"{zeros} of the 25 {'has' if zeros == 1 else 'have'} become 0.")
    )
    formula = cell_formula(x, now, at, symmetric, by)
    return picture, sentence, formula, {
        "x": x, "dequantized": now.dequantized, "error": now.error, "step": np.array(now.step),
        "rms": [found.rms for found in every.values()],
    }  # fmt: skip


def scale_readouts(now: study.Treated) -> list[tuple[str, str]]:
    """How many scales there are, and the first."""
    if now.quantized is None:
        return [("scales", "none: every number has its own exponent")]
    scales = now.quantized.scale.reshape(-1)
    return [("scales", f"{len(scales)}" if len(scales) > 1 else shown(float(scales[0])))]


@chapter.lab(
    "outlier",
    title="What one large weight does to the other 24",
    controls=[
        Slider("outlier", "One weight times", 10, 1, 64, 0.5),
        Toggle("symmetric", "Symmetric (no minimum)", True),
        Slider("seed", "Seed", 0, 0, 30),
    ],
    runs=[study.outlier_costs, study.treat, engine.quantize],
    snippet="""
        from engine.quantization_study import outlier_costs

        sizes, costs = outlier_costs({seed}, {symmetric})
        int4 = costs["INT4, one scale"]
        print(sizes.round(1), int4.round(3))
    """,
    provenance="The matrix of the lab above, one weight of it growing; computed live",
    presets=[
        Preset("No outlier", {"outlier": 1}, "Here INT8 with one scale is the best of the eight-bit ways."),
        Preset("Target: where INT8 loses to FP8", {"outlier": 6}, "Find the factor at which the two lines cross."),
        Preset("Far out", {"outlier": 64}, "With one scale, INT4 has flattened: nothing is left to lose."),
    ],
    height=415,
)
def outlier(outlier: float, symmetric: bool, seed: int) -> tuple[Any, ...]:
    sizes, costs = study.outlier_costs(seed, symmetric)
    now = study.outlier_cost(seed, symmetric, outlier)
    at = int(np.searchsorted(sizes, outlier))
    shown_sizes = np.insert(sizes, at, outlier)  # the curves pass through what is shown beside them
    picture = row(
        curve(
            [(name, shown_sizes, np.maximum(np.insert(errors, at, now[name]), 1e-6)) for name, errors in costs.items()],
            title="RMS error of the other 24 weights, as one grows",
            x_label="the outlier, times its size",
            y_label="RMS error",
            tensors=["ffn", "grad", "attn", "q", "k", "v"],
            log_x=True,
            log_y=True,
            marker=(outlier, now["INT4, one scale"]),
        ),
        bars(
            list(now),
            list(now.values()),
            title=f"With the outlier at {outlier:g} times",
            tensor="grad",
            keys=[f"way:{i}" for i in range(len(now))],
        ),
    )
    one, rows_, float8 = now["INT4, one scale"], now["INT4 by row"], now["FP8"]
    start = costs["INT4, one scale"][0]
    better = "INT8" if now["INT8, one scale"] < float8 else "FP8"
    x = study.example(seed, outlier)
    low, high = float(np.min(x)), float(np.max(x))
    step = float(study.treat(x, "int4", symmetric).quantized.scale)  # type: ignore[union-attr]
    scale = (
        rf"\frac{{\max|x|}}{{7}} = \frac{{{number(max(high, -low))}}}{{7}}"
        if symmetric
        else rf"\frac{{\max x - \min x}}{{15}} = \frac{{{number(high)} {signed(-low)}}}{{15}}"
    )
    sentence = (
        f"At {outlier:g} times, INT4 with one scale is off by {{{{way:1|{shown(one, 3)}}}}} in the other 24 weights, "
        f"{one / start:.1f} times what it was without the outlier; with a scale a row by {shown(rows_, 3)}. "
        f"Of the two eight-bit formats, {better} is the more exact here."
    )
    formula = (
        rf"s = {scale} = {number(step)}, \quad \text{{even steps: }} \frac{{s}}{{\sqrt{{12}}}} = "
        rf"{number(step / np.sqrt(12))}, \quad \text{{here: }} {number(one)}"
    )
    return picture, sentence, formula, {"sizes": sizes, "int4": costs["INT4, one scale"], "now": list(now.values())}


# --- sizes -----------------------------------------------------------------------------------------------------------


@chapter.lab(
    "size",
    title="The size of a model, scales counted in",
    controls=[
        Choice("model", "Model", "Llama 3.1 8B", {name: name for name in CONFIGS}),
        Slider("bits", "Bits a code", 4, 2, 16),
        Choice(
            "group",
            "Weights that share a scale",
            "32",
            {"0": "a whole matrix", "16": "16", "32": "32", "64": "64", "128": "128", "256": "256"},
        ),
        Choice("scale", "Bits of a scale", "16", {"8": "8", "16": "16", "32": "32"}),
        Toggle("minimum", "A minimum beside each scale", True),
        Slider("bandwidth", "Memory reads (GB a second)", 100, 10, 3000, 10),
    ],
    runs=[engine.model_bytes, total_parameters],
    snippet="""
        from engine.ledger import CONFIGS
        from engine.quantization import Scheme, model_bytes

        beside = {scale} * (2 if {minimum} else 1)
        scheme = Scheme("mine", {bits}, {group}, beside if {group} else 0)
        size = model_bytes(CONFIGS[{model!r}], scheme)
        print(scheme.bits_per_weight, size / 1e9)
    """,
    provenance="Counted from the models' published dimensions, all parameters in one scheme",
    presets=[
        Preset("Q4_1", {"bits": 4, "group": "32", "scale": "16", "minimum": True}, "“4 bits”: in truth 5.0."),
        Preset("Q4_0", {"bits": 4, "group": "32", "scale": "16", "minimum": False}, "Without the minimum: 4.5."),
        Preset("Q8_0", {"bits": 8, "group": "32", "scale": "16", "minimum": False}, "8.5 bits a weight."),
        Preset(
            "As GPTQ and AWQ files",
            {"bits": 4, "group": "128", "scale": "16", "minimum": False},
            "A scale for 128 weights: 4.125 bits. Larger groups cost less and round worse.",
        ),
        Preset(
            "Target: Llama 3.1 70B in 24 GB",
            {"model": "Llama 3.1 70B", "bits": 4, "group": "32", "scale": "16", "minimum": False, "bandwidth": 1000},
            "One large graphics card. How few bits does it take, and what will the lab on the real model say to them?",
        ),
    ],
    height=610,
)
def size(model: str, bits: int, group: str, scale: str, minimum: bool, bandwidth: float) -> tuple[Any, ...]:
    config, beside = CONFIGS[model], int(scale) * (2 if minimum else 1)
    mine = engine.Scheme("yours", bits, int(group), beside if int(group) else 0)
    found, naive = engine.model_bytes(config, mine), total_parameters(config) * bits / 8
    named = {scheme.name: engine.model_bytes(config, scheme) for scheme in engine.SCHEMES.values()}
    read_bytes = found * active_parameters(config) / total_parameters(config)
    ordered = sorted([*named.items(), ("yours", found)], key=lambda entry: -entry[1])
    picture = stack(
        bars(
            [name for name, _ in ordered],
            [value / 1e9 for _, value in ordered],
            title=f"{model}: all {total_parameters(config):,} weights, in GB",
            tensor="ffn",
            unit=" GB",
            notes=[f"{bits_of(name, mine):.4g} bits a weight" for name, _ in ordered],
            marked=[[name for name, _ in ordered].index("yours")],
            keys=[f"scheme:{name}" for name, _ in ordered],
        ),
        readouts(
            [
                ("bits a weight", f"{mine.bits_per_weight:.5g}"),
                ("size", f"{found / 1e9:.3f} GB"),
                ("of that scales and minimums", f"{(found - naive) / 1e9:.3f} GB"),
                ("smaller than BF16", f"{named['BF16'] / found:.2f} times"),
                ("read for one token", f"{read_bytes / 1e9:.3f} GB"),
                ("tokens a second, at most", f"{bandwidth * 1e9 / read_bytes:.3g}"),
            ]
        ),
    )
    sentence = (
        f"With {bits} bits a code, {model} takes {{{{scheme:yours|{found / 1e9:.2f} GB}}}}: "
        f"{mine.bits_per_weight:.4g} bits a weight. In BF16, as models are published, it is "
        f"{{{{scheme:BF16|{named['BF16'] / 1e9:.2f} GB}}}}. A single reader's every token reads "
        f"{read_bytes / 1e9:.2f} GB of it, so memory of {bandwidth:g} GB/s gives at most "
        f"{bandwidth * 1e9 / read_bytes:.3g} tokens a second."
    )
    added = rf" + \frac{{{beside}}}{{{group}}}" if int(group) else ""
    all_weights, each = total_parameters(config), number(mine.bits_per_weight, 6)
    formula = rf"{bits}{added} = {each}, \quad \frac{{{thin(all_weights)} \cdot {each}}}{{8}} = {thin(found)}"
    return (
        picture,
        sentence,
        formula,
        {"size": found, "bits_per_weight": mine.bits_per_weight, "named": list(named.values())},
    )


def thin(count: int) -> str:
    """A count in a formula, in groups of three."""
    return f"{count:,}".replace(",", r"\\,")


def bits_of(name: str, mine: engine.Scheme) -> float:
    """Bits a weight of a scheme by its name."""
    return next((s.bits_per_weight for s in engine.SCHEMES.values() if s.name == name), mine.bits_per_weight)


# --- in the real model: the file -------------------------------------------------------------------------------------

PARTS = {
    "w_q": "query", "w_k": "key", "w_v": "value", "w_o": "attention output",
    "w_gate": "gate", "w_up": "up", "w_down": "down",
}  # fmt: skip
FILE_PARTS = {**PARTS, "embedding": "embedding table (Q8_0)"}


@chapter.lab(
    "block",
    title="Twenty bytes of the file",
    controls=[
        Choice("part", "Matrix", "w_up", FILE_PARTS),
        Slider("layer", "Layer", 3, 0, 29),
        Slider("line", "Row", 5, 0, 1535),
        Slider("block", "Block in the row", 7, 0, 47),
        Pick("byte", "Byte", 4),
    ],
    runs=[engine.read_q4_1, engine.read_half, engine.read_q8_0, study.stored_block],
    snippet="""
        from engine.quantization_study import stored_block, stored_tensor
        from engine.weights import STORED_AS

        name = "token_embd" if {part!r} == "embedding" else f"blk.{layer}.{{STORED_AS[{part!r}]}}"
        rows, width = stored_tensor(name).shape
        block = stored_block(name, min({line}, rows - 1), min({block}, width // 32 - 1))
        weights, codes = block.weights.dequantized, block.weights.codes
        print(block.data.hex(" "), weights)
    """,
    provenance="The bytes of SmolLM2's GGUF file, decoded by hand",
    presets=[
        Preset("The scale", {"byte": 0}, "Two bytes, the low one first: an IEEE half."),
        Preset("The minimum", {"part": "w_up", "byte": 2}, "Another half. Every weight of the block starts from it."),
        Preset("Two weights in a byte", {"part": "w_up", "byte": 4}, "Low half: weight 0. High half: weight 16."),
        Preset("The embedding", {"part": "embedding", "byte": 2}, "Kept in Q8_0: no minimum, a whole byte a weight."),
    ],
    real=True,
    height=(550, 820),
)
def block(sentence: str, part: str, layer: int, line: int, block: int, byte: int) -> tuple[Any, ...]:
    the_model()
    name = "token_embd" if part == "embedding" else f"blk.{layer}.{STORED_AS[part]}"
    tensor = study.stored_tensor(name)
    line, last = min(line, tensor.shape[0] - 1), tensor.shape[1] // engine.BLOCK - 1
    found = study.stored_block(name, line, min(block, last))
    at = within(byte, len(found.data))
    four_bits = found.kind == "Q4_1"
    picked = weights_of(at, four_bits)
    names = [f"{start} to {start + 7}" for start in range(0, 32, 8)]
    halves = 4 if four_bits else 2
    picture = stack(
        tokens(
            [
                {"text": f"{value:02x}", "note": byte_note(i, value, four_bits), "key": f"byte:{i}"}
                for i, value in enumerate(found.data)
            ],
            title=f"{len(found.data)} bytes, at byte {found.offset:,} of the file. Click one",
            pick="byte",
            picked=at,
            show=["no-ids", "plain"],
            marked=list(range(halves)),
        ),
        row(
            matrix(
                found.weights.codes.reshape(4, 8), "32 codes", "tokens", "codes", rows=names, digits=0, scale="signed",
            ),
            matrix(
                found.weights.dequantized.reshape(4, 8),
                "32 weights: scale · code" + (" + minimum" if four_bits else ""), "ffn", "weights",
                rows=names, digits=4,
            ),
        ),
        readouts(
            [
                ("format", found.kind),
                ("bits a weight", f"{8 * len(found.data) / 32:.1f}"),
                ("scale", shown(float(found.weights.scale), 5)),
                ("minimum", shown(float(found.weights.zero_point), 5) if four_bits else "none"),
                ("different weights", f"{len(np.unique(found.weights.dequantized))} of 32"),
            ]
        ),
    )  # fmt: skip
    return picture, block_sentence(found, name, line, at, picked), block_formula(found, at, picked), {
        "weights": found.weights.dequantized, "codes": found.weights.codes, "bytes": list(found.data),
    }  # fmt: skip


def weights_of(at: int, four_bits: bool) -> list[int]:
    """The weights that a byte holds: two of four bits, one of eight, none where it belongs to a scale."""
    first = 4 if four_bits else 2
    if at < first:
        return []
    return [at - first, at - first + 16] if four_bits else [at - first]


def byte_note(i: int, value: int, four_bits: bool) -> str:
    """What stands below a byte."""
    if i < 2:
        return "scale"
    if not four_bits:
        return str(value - 256 if value > 127 else value).replace("-", MINUS)
    return "min" if i < 4 else f"{value & 15} · {value >> 4}"


def block_sentence(found: study.StoredBlock, name: str, line: int, at: int, picked: list[int]) -> str:
    where = f"In row {line} of {name}, byte {{{{byte:{at}|{found.data[at]:02x}}}}} "
    if not picked:
        text = where + ("belongs to the minimum, " if at > 1 else "belongs to the scale, ") + "which has 16 bits."
    else:
        both = " and ".join(
            f"weight {i}: code {found.weights.codes[i]}, so {shown(float(found.weights.dequantized[i]))}"
            for i in picked
        ).replace("-", MINUS)
        text = f"{where}holds {both}."
    end = " In Q4_1 a block can hold 16 different weights at most." if found.kind == "Q4_1" else ""
    return text + end


def block_formula(found: study.StoredBlock, at: int, picked: list[int]) -> str:
    scale = engine.read_half(found.data[:2])
    if not picked:
        start = 0 if at < 2 else 2
        return half_formula(
            "s" if at < 2 else "m", engine.read_half(found.data[start : start + 2]), found.data[start : start + 2]
        )
    i = picked[0]
    code, value = int(found.weights.codes[i]), float(found.weights.dequantized[i])
    if found.kind == "Q8_0":
        return rf"\ffn{{w_{{{i}}}}} = s \cdot q_{{{i}}} = {number(scale.value, 6)} \cdot ({code}) = {number(value, 6)}"
    low, j = engine.read_half(found.data[2:4]), picked[1]
    other = int(found.weights.codes[j])
    lines = [
        rf"\ffn{{w_{{{k}}}}} = s \cdot q_{{{k}}} + m = "
        rf"{number(scale.value, 6)} \cdot {q} {signed(low.value, 6)} = {number(float(found.weights.dequantized[k]), 6)}"
        for k, q in ((i, code), (j, other))
    ]
    byte = found.data[at]
    head = rf"\text{{{byte:02x}}} = 16 \cdot {byte >> 4} + {byte & 15}"
    return r"\begin{array}{l} " + r" \\ ".join([head, *lines]) + r" \end{array}"


@chapter.lab(
    "weights",
    title="All weights of a matrix",
    controls=[Choice("part", "Matrix", "w_down", PARTS), Slider("layer", "Layer", 3, 0, 29)],
    runs=[study.weight_spread, study.levels_a_block],
    snippet="""
        from engine.model import load
        from engine.quantization_study import levels_a_block, weight_spread

        rows = getattr(load().weights.blocks[{layer}], {part!r}).rows
        spread = weight_spread(rows)
        counts, levels = spread.counts, levels_a_block(rows)
        print(spread.deviation, spread.largest, levels.mean())
    """,
    provenance=REAL + ", as the file has them",
    presets=[
        Preset("Layer 0, keys", {"part": "w_k", "layer": 0}, "Is the bell as smooth at the first layer?"),
        Preset("Layer 3, down", {"part": "w_down", "layer": 3}, "How many standard deviations away is the largest?"),
        Preset("Layer 29, down", {"part": "w_down", "layer": 29}, "The last layer."),
    ],
    real=True,
    height=(465, 809),
)
def weights(sentence: str, part: str, layer: int) -> tuple[Any, ...]:
    model = the_model()
    rows = getattr(model.weights.blocks[layer], part).rows
    spread, levels = model.memo.get(
        ("spread", layer, part), lambda: (study.weight_spread(rows), study.levels_a_block(rows))
    )
    found = np.bincount(levels, minlength=17)
    picture = stack(
        row(
            histogram(
                spread.edges,
                spread.counts,
                title=f"{rows.size:,} weights of the {PARTS[part]} matrix, layer {layer}",
                tensor="ffn" if part in ("w_gate", "w_up", "w_down") else "attn",
                x_label="weight (at the ends: all beyond 4 σ)",
                y_label="weights",
            ),
            histogram(
                np.arange(18) - 0.5,
                found[:18],
                title="How many different weights a block of 32 holds",
                tensor="tokens",
                x_label="different weights",
                y_label="blocks",
            ),
        ),
        readouts(
            [
                ("standard deviation", shown(spread.deviation)),
                ("largest", f"{shown(spread.largest)}, {spread.largest / spread.deviation:.1f} deviations away"),
                ("beyond three deviations", f"{100 * spread.beyond:.2f} % (normal: 0.27 %)"),
                ("different weights a block", f"{levels.mean():.1f} of 32"),
            ]
        ),
    )
    one_scale = spread.largest / 7
    sentence_ = (
        f"From afar the {rows.size:,} weights form a bell. Close by, each block of 32 holds {levels.mean():.1f} "
        f"different numbers on average and never more than {int(levels.max())}: they are 4-bit codes. The largest "
        f"weight lies {spread.largest / spread.deviation:.1f} standard deviations out; one scale for the whole matrix "
        f"would make INT4 steps of {shown(one_scale, 3)}, {one_scale / spread.deviation:.1f} standard deviations wide."
    )
    formula = (
        rf"\sigma = \sqrt{{\tfrac{{1}}{{{rows.size}}} \sum w^2}} = {number(spread.deviation)}, \quad "
        rf"\frac{{\max|w|}}{{\sigma}} = {number(spread.largest / spread.deviation)}"
    )
    return picture, sentence_, formula, {"counts": spread.counts, "levels": levels, "edges": spread.edges}


# --- weights that were never quantised -------------------------------------------------------------------------------

MINILM = {
    "query": "query", "key": "key", "value": "value", "out": "attention output", "up": "up", "down": "down",
}  # fmt: skip
AS_IN_SMOLLM2 = {"query": "w_q", "key": "w_k", "value": "w_v", "out": "w_o", "up": "w_up", "down": "w_down"}


@chapter.lab(
    "untouched",
    title="Weights that never were quantised",
    controls=[Choice("part", "Matrix", "up", MINILM), Slider("layer", "Layer of MiniLM", 2, 0, 5)],
    runs=[study.losses, study.rounded, study.minilm_matrix, engine.quantize, engine.nf4],
    snippet="""
        from engine.quantization_study import minilm_losses

        losses = minilm_losses({layer}, {part!r})
        errors, bits = [loss.error for loss in losses], [loss.bits for loss in losses]
        print([(loss.name, round(loss.error, 4)) for loss in losses])
    """,
    provenance="The float32 weights of the encoder all-MiniLM-L6-v2, and SmolLM2's of the same name; rounded live",
    presets=[
        Preset("Keys", {"part": "key", "layer": 2}, "Does the order of the schemes change?"),
        Preset("Down, last layer", {"part": "down", "layer": 5}, "Outliers: compare one scale with one a row."),
    ],
    real=True,
    height=(815, 1095),
)
def untouched(sentence: str, part: str, layer: int) -> tuple[Any, ...]:
    if not (found := minilm_available()):
        raise ReaderError(found.reason)
    model = the_model()
    here = study.minilm_losses(layer, part)
    there = model.memo.get(
        ("losses", layer, part),
        lambda: study.losses(getattr(model.weights.blocks[layer], AS_IN_SMOLLM2[part]).rows),
    )
    labels, sizes = [loss.name for loss in here], [f"{loss.bits:.4g} bits" for loss in here]
    spread = study.weight_spread(study.minilm_matrix(layer, part))
    limit = max(loss.error for loss in (*here, *there))  # one scale for both
    picture = stack(
        row(
            bars(
                labels,
                [loss.error for loss in here],
                title=f"MiniLM, {MINILM[part]} matrix of layer {layer}: RMS error ÷ RMS weight",
                tensor="ffn",
                share=True,
                limit=limit,
                notes=sizes,
                keys=[f"way:{i}" for i in range(len(here))],
            ),
            bars(
                labels,
                [loss.error for loss in there],
                title=f"SmolLM2's file, {PARTS[AS_IN_SMOLLM2[part]]} matrix of layer {layer}",
                tensor="grad",
                share=True,
                limit=limit,
                notes=sizes,
                keys=[f"way:{i}" for i in range(len(here))],
            ),
        ),
        histogram(
            spread.edges,
            spread.counts,
            title=f"MiniLM's {MINILM[part]} matrix: the largest weight is {spread.largest / spread.deviation:.1f} "
            "deviations out",
            tensor="ffn",
            x_label="weight (at the ends: all beyond 4 σ)",
            y_label="weights",
        ),
    )
    grid = next(i for i, loss in enumerate(here) if loss.name == "INT4 by 32, min")
    nf4, int4 = (next(loss for loss in here if loss.name.startswith(name)) for name in ("NF4", "INT4 by 32"))
    better = "NF4, at the same 4.5 bits, is" if nf4.error < int4.error else "NF4, at the same 4.5 bits, is not"
    text = (
        "INT4 in groups of 32 with a minimum changes MiniLM's weights by "
        f"{{{{way:{grid}|{percent(here[grid].error)}}}}}. SmolLM2's it changes by {percent(there[grid].error)}: "
        f"they lie on such a grid already. {better} more exact than INT4 in groups of 32 on "
        f"MiniLM ({percent(nf4.error)} against {percent(int4.error)})."
    )
    formula = (
        rf"\frac{{\mathrm{{rms}}(\hat{{w}} - w)}}{{\mathrm{{rms}}(w)}} = {number(here[grid].error)} "
        rf"\text{{ (MiniLM)}}, \quad {number(there[grid].error)} \text{{ (SmolLM2)}}"
    )
    return picture, text, formula, {
        "errors": [loss.error for loss in here], "bits": [loss.bits for loss in here],
        "smollm2": [loss.error for loss in there],
    }  # fmt: skip


# --- the whole model -------------------------------------------------------------------------------------------------

TEXT = (
    "The old harbour lies below the town, where the river meets the sea. In the morning the boats come back with "
    "fish, and the people wait on the stone wall to buy it. My grandfather worked there for forty years. He used "
    "to say that the sea gives and the sea takes, and that nobody should trust a quiet day. When I was a child I "
    "did not understand him. I thought that the water was only a place to swim. Then one winter a storm broke the "
    "wall, and half of the houses near the beach were lost. After that the town built a new wall, higher and "
    "stronger than the old one, and planted trees behind it."
)
TEXT_TOKENS, SAMPLE = 240, 24
WIDTHS = {"tensor": "the whole matrix", "row": "each row", "128": "128 weights", "64": "64 weights", "32": "32 weights"}
WAYS = {"int": "Integers", "nf4": "NF4", "fp8_e4m3": "FP8 E4M3, no scale", "bf16": "BF16"}
RECIPE = {"kind": "int", "bits": 4, "group": "32", "symmetric": True, "parts": "all"}
"""What a preset of the whole model changes only in part."""
WHICH = {"all": "all matrices of the blocks", "ffn": "feed-forward only", "attention": "attention only"}


def text_ids(text: str) -> list[int]:
    """The text to measure on. Raises ReaderError where there is nothing to predict."""
    ids = encode(text, ENCODING)[:TEXT_TOKENS]
    if len(ids) < 2:
        raise ReaderError("A loss needs a text of at least two tokens.")
    return ids


@chapter.lab(
    "whole",
    title="The whole model, rounded again",
    controls=[
        Choice("kind", "Written as", "int", WAYS),
        Slider("bits", "Bits (integers)", 4, 2, 8),
        Choice("group", "One scale for", "32", WIDTHS),
        Toggle("symmetric", "Symmetric (no minimum)", True),
        Choice("parts", "Rounded", "all", WHICH),
        Text("prompt", "The model goes on from", "The capital of France is", limit=120, rows=1),
        Text("text", f"Loss on this text (the first {TEXT_TOKENS} tokens)", TEXT, limit=1500, rows=4),
    ],
    runs=[whole.requantise, whole.pack, whole.Packed, engine.quantize],
    snippet="""
        from engine.model import load
        from engine.requantization import Recipe, requantise
        from engine.tokenization import encode

        group = int({group!r}) if {group!r}.isdigit() else {group!r}
        recipe = Recipe({kind!r}, {bits}, {symmetric}, group, {parts!r})
        *stages, rounded = requantise(load(), recipe, encode({text!r}, "smollm2")[:240])
        surprisals, before = rounded.surprisals, rounded.before
        print(rounded.loss_before, "->", rounded.loss)
    """,
    provenance=REAL + ", which were in 4 bits before; rounded once more now",
    presets=[
        Preset("8 bits", RECIPE | {"bits": 8}, "As good as untouched?"),
        Preset("4 bits, a scale a row", RECIPE | {"group": "row"}, "Groups matter: compare with 32."),
        Preset("NF4", RECIPE | {"kind": "nf4"}, "The same 4.5 bits a weight as INT4 in groups of 32."),
        Preset(
            "Its own grid",
            RECIPE | {"symmetric": False},
            "The file's scheme once more: 4 bits, groups of 32, a minimum. Predict the loss before you run it.",
        ),
        Preset("3 bits", RECIPE | {"bits": 3}, "It still speaks. Of what?"),
        Preset("2 bits", RECIPE | {"bits": 2}, "Every weight is minus, zero or plus."),
        Preset(
            "Target: 3 bits that work",
            RECIPE | {"bits": 3, "symmetric": False, "parts": "attention"},
            "Attention is a quarter of the blocks' weights. Which half of a block bears rounding better?",
        ),
    ],
    real=True,
    height=120,
    long=Long(seconds=150, takes="about 10 seconds", quick={"kind": "int", "text": "Two small words.", "prompt": "a"}),
)
def the_whole(
    sentence: str, kind: str, bits: int, group: str, symmetric: bool, parts: str, prompt: str, text: str
) -> Steps:
    model, ids, start = the_model(), text_ids(text), encode(prompt, ENCODING)[:48]
    if not start:
        raise ReaderError("The model needs a word to go on from.")
    recipe = whole.Recipe(kind, bits, symmetric, grouped(group), parts)
    stages: list[whole.Stage] = []
    for step in whole.requantise(model, recipe, ids):
        if isinstance(step, whole.Stage):
            stages.append(step)
            done = len(stages) / model.config.layers
            yield Progress(0.6 * done, f"Rounding block {step.block}", (drift_picture(stages), ROUNDING_NOW))
    assert isinstance(step, whole.Requantised)
    said: dict[str, list[int]] = {"shipped": [], "rounded": []}
    for i, (name, speaker) in enumerate((("shipped", model), ("rounded", step.model))):
        for token in whole.continuation(speaker, start, SAMPLE):
            said[name].append(token)
            share = 0.6 + 0.2 * i + 0.2 * len(said[name]) / SAMPLE
            yield Progress(share, f"Writing with the {name} weights", whole_shown(step, recipe, ids, prompt, said))
    return whole_shown(step, recipe, ids, prompt, said)


ROUNDING_NOW = "The text runs through the old blocks and the new ones, block by block."


def drift_picture(stages: list[whole.Stage]) -> Any:
    return curve(
        [("change of the stream", [s.block for s in stages], [s.drift for s in stages]),
         ("change of the weights", [s.block for s in stages], [s.error for s in stages])],
        title="How far the rounded model has moved away, block by block",
        x_label="after block",
        y_label="change ÷ size",
        tensors=["resid", "grad"],
        points=True,
    )  # fmt: skip


def whole_shown(
    found: whole.Requantised, recipe: whole.Recipe, ids: list[int], prompt: str, said: dict[str, list[int]]
) -> tuple[Any, ...]:
    worse = found.surprisals - found.before
    shapes = [SHAPES[part] for part in whole.PARTS[recipe.parts]]
    counted = sum(out * inner for out, inner in shapes) * SMOLLM2.layers
    bits = sum(recipe.stored_bits(out, inner) for out, inner in shapes) * SMOLLM2.layers
    picture = stack(
        row(
            bars(
                ["as shipped", "rounded"],
                [found.loss_before, found.loss],
                title="Loss on the text (nats a token)",
                tensor="logits",
                keys=["loss:before", "loss:after"],
            ),
            drift_picture(list(found.stages)),
        ),
        readouts(
            [
                ("bits a weight", f"{bits / counted:.4g}"),
                ("rounded weights", f"{bits / 8e6:.1f} MB of {counted:,} weights"),
                ("perplexity", f"{perplexity(found.loss_before)} → {perplexity(found.loss)}"),
                ("KL(shipped ‖ rounded)", f"{shown(found.divergence, 3)} nats a token"),
            ]
        ),
        words(prompt + written(said["shipped"]), title="As shipped, it says"),
        words(prompt + written(said["rounded"]), title="Rounded, it says"),
        tokens(
            [
                {"text": piece(i), "note": f"{change:+.1f}".replace("-", MINUS)}
                for i, change in zip(ids[1:], worse, strict=True)
            ],
            title="How much more (or less) each token of the text surprises the rounded model, in nats",
            shares=np.clip(worse / 4, -1, 1),
            show=["no-ids"],
            scale="signed",
        ),
    )
    change = found.loss - found.loss_before
    verdict = (
        "every guess is the same"
        if found.divergence == 0
        else "nothing that this text could show"
        if abs(change) < 0.02
        else f"{shown(change, 3)} nats a token {'more' if change > 0 else 'less'}"
    )
    sentence = (
        f"The loss goes from {{{{loss:before|{found.loss_before:.3f}}}}} to {{{{loss:after|{found.loss:.3f}}}}}: "
        f"{verdict}. The guesses move by {shown(found.divergence, 2)} nats (KL). All of it on top of what 4 bits had "
        "cost before: these weights were never shipped in anything finer."
    )
    formula = (
        rf"\Delta = {number(found.loss)} - {number(found.loss_before)} = {number(change)}, \quad "
        rf"e^{{{number(change)}}} = {number(float(np.exp(change)))} \text{{ times the perplexity}}"
    )
    data = {"surprisals": found.surprisals, "before": found.before, "drift": [s.drift for s in found.stages]}
    return picture, sentence, formula, data


SHAPES = {
    "w_q": (576, 576), "w_o": (576, 576), "w_k": (192, 576), "w_v": (192, 576),
    "w_gate": (1536, 576), "w_up": (1536, 576), "w_down": (576, 1536),
}  # fmt: skip
"""(out, in) of the matrices of a block."""


def perplexity(loss: float) -> str:
    """e to the power of a loss, with four significant digits and no exponent."""
    value = float(f"{np.exp(loss):.4g}")
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


@chapter.lab(
    "ladder",
    title="Bit after bit: 8 to 2",
    controls=[
        Choice("group", "One scale for", "32", WIDTHS),
        Toggle("symmetric", "Symmetric (no minimum)", True),
        Text("text", f"Loss on this text (the first {TEXT_TOKENS} tokens)", TEXT, limit=1500, rows=4),
    ],
    runs=[whole.ladder, whole.requantise, whole.divergence],
    snippet="""
        from engine.model import load
        from engine.requantization import Recipe, Requantised, ladder
        from engine.tokenization import encode

        group = int({group!r}) if {group!r}.isdigit() else {group!r}
        recipes = [Recipe("int", bits, {symmetric}, group) for bits in range(8, 1, -1)]
        steps = ladder(load(), encode({text!r}, "smollm2")[:240], recipes)
        losses = [step.loss for _, step in steps if isinstance(step, Requantised)]
        print(losses)
    """,
    provenance=REAL + ", rounded seven times over",
    presets=[
        Preset("A scale a row", {"group": "row", "symmetric": True}, "Where does it break now?"),
        Preset(
            "With a minimum",
            {"group": "32", "symmetric": False},
            "A strange dip: 8 bits and 4 bits cost nothing, 5 bits do. 255 and 15 steps fit the file's own grid.",
        ),
    ],
    real=True,
    height=120,
    long=Long(seconds=150, takes="about 20 seconds", quick={"text": "Two small words."}),
)
def bit_after_bit(sentence: str, group: str, symmetric: bool, text: str) -> Steps:
    model, ids = the_model(), text_ids(text)
    recipes = [whole.Recipe("int", bits, symmetric, grouped(group)) for bits in range(8, 1, -1)]
    found: list[tuple[int, whole.Requantised]] = []
    for recipe, step in whole.ladder(model, ids, recipes):
        if isinstance(step, whole.Requantised):
            found.append((recipe.bits, replace(step, model=model)))
        done = len(found) + (step.block / 30 if isinstance(step, whole.Stage) else 0)
        yield Progress(done / len(recipes), f"{recipe.bits} bits", ladder_shown(found) if found else None)
    return ladder_shown(found)


def ladder_shown(found: list[tuple[int, whole.Requantised]]) -> tuple[Any, ...]:
    bits, losses = [b for b, _ in found], np.array([f.loss for _, f in found])
    shipped, moved = found[0][1].loss_before, np.array([f.divergence for _, f in found])
    picture = stack(
        row(
            curve(
                [("rounded", bits, losses), ("as shipped", [2, 8], [shipped, shipped])],
                title="Loss on the text",
                x_label="bits a code",
                y_label="nats a token",
                tensors=["logits", "resid"],
                points=True,
            ),
            curve(
                [("KL(shipped ‖ rounded)", bits, np.maximum(moved, 1e-9))],
                title="How far the guesses move" + (" (0 is drawn at 1e−9)" if np.min(moved) < 1e-9 else ""),
                x_label="bits a code",
                y_label="nats a token",
                tensors=["grad"],
                log_y=True,
                points=True,
            ),
        ),
        table(
            ["bits", "loss", "more than shipped", "perplexity", "KL"],
            [[b, f.loss, f.loss - shipped, float(np.exp(f.loss)), f.divergence] for b, f in found],
            title="In numbers",
        ),
    )
    worst = found[-1]
    lower = [i for i in range(1, len(bits)) if losses[i] < losses[i - 1]]
    lucky = [bits[i] for i in lower if moved[i] >= moved[i - 1]]
    own = [bits[i] for i in lower if moved[i] < moved[i - 1]]
    luck = (
        f" At {' and '.join(map(str, lucky))} bits the loss is lower than with one bit more: on a text this short, "
        "small changes of the loss go either way. The KL tells them apart."
        if lucky
        else ""
    )
    if own:
        luck += (
            f" With {' and '.join(map(str, own))} bits the KL is smaller, too: that is no luck, the weights stand on "
            "nearly the same grid already."
        )
    sentence = (
        f"As shipped the loss is {shipped:.3f}. With {worst[0]} bits it is {worst[1].loss:.3f}, a perplexity of "
        f"{perplexity(worst[1].loss)}; a guess among all {SMOLLM2.vocabulary:,} tokens would have a loss "
        f"of {np.log(SMOLLM2.vocabulary):.2f}.{luck}"
    )
    before, after = float(np.exp(shipped)), float(np.exp(worst[1].loss))
    formula = (
        rf"e^{{{number(shipped)}}} = {number(before)} \quad \to \quad e^{{{number(worst[1].loss)}}} = {number(after)}"
    )
    return picture, sentence, formula, {"losses": losses, "divergences": moved, "bits": bits}


# --- the cache -------------------------------------------------------------------------------------------------------


@chapter.lab(
    "cache",
    title="Keys and values with fewer bits",
    controls=[
        Choice("bits", "Bits", "2", {"8": "8", "4": "4", "3": "3", "2": "2"}),
        Slider("layer", "Layer", 10, 0, 29),
        Slider("head", "Key/value head", 0, 0, 2),
        Toggle("spare", "Leave the first token as it is", False),
    ],
    runs=[kv.quantize_cache, kv.effects, kv.cache_error, kv.outlier_channels],
    snippet="""
        from engine.kv_quantization import effects
        from engine.model import load
        from engine.tokenization import encode

        found = effects(load(), encode({sentence!r}, "smollm2")[:48], {bits}, int({spare}))
        losses, divergences = [way.loss for way in found], [way.divergence for way in found]
        print([(way.keys, way.values, round(way.divergence, 4)) for way in found])
    """,
    provenance=REAL + ", on the sentence at the top of the page",
    presets=[
        Preset("4 bits", {"bits": "4"}, "A quarter of 16 bits. Which way is the least harm?"),
        Preset("8 bits", {"bits": "8"}, "Here it hardly matters which way."),
        Preset("2 bits, first token spared", {"bits": "2", "spare": True}, "Its key is unlike all others."),
        Preset("Layer 0", {"layer": 0, "head": 2}, "Has every head such channels?"),
    ],
    real=True,
    height=(1105, 1161),
)
def cache(sentence: str, bits: str, layer: int, head: int, spare: bool) -> tuple[Any, ...]:
    reading, few = read(sentence, least=2), int(bits)
    keys, values = (reading.trace[f"blk.{layer}.attn.{name}"][head] for name in "kv")
    found = kv.effects(reading.model, reading.ids, few, int(spare))
    plain = kv.plain_loss(reading.model, reading.ids)
    outliers = kv.outlier_channels(keys[1:] if len(keys) > 1 else keys)
    ways = [kv_words(way) for way in found]
    short = [f"{'pre-RoPE' if way.before_rope else way.keys} · {way.values}" for way in found]
    names = [spoken(text) for text in reading.pieces]
    cell = 13 if len(names) <= 20 else 9  # wide enough for the names, and not taller than the screen
    errors = [[kv.cache_error(x, few, axis, int(spare)) for x in (keys, values)] for axis in kv.AXES]
    picture = stack(
        matrix(
            keys, f"Keys of head {head}, layer {layer}: a token a row, 64 channels", "k", "keys", rows=names, cell=cell
        ),
        matrix(values, "Its values", "v", "values", rows=names, cell=cell),
        row(
            curve(
                [("keys", np.arange(64), np.max(np.abs(keys), axis=0)),
                 ("values", np.arange(64), np.max(np.abs(values), axis=0))],
                title="The largest |number| in each channel",
                x_label="channel",
                y_label="largest",
                tensors=["k", "v"],
            ),
            matrix(
                errors,
                f"Error at {few} bits, as a share of the size (this head)",
                "grad",
                "errors",
                rows=list(kv.AXES.values()),
                columns=["keys", "values"],
                scale="share",
                digits=3,
            ),
        ),
        bars(
            short,
            [way.divergence for way in found],
            title=f"All {SMOLLM2.layers} layers at {few} bits, a scale by (keys · values): how far the guesses move, "
            "KL in nats a token",
            tensor="logits",
            notes=[f"loss {way.loss:.3f}, next “{spoken(piece(way.guess))}”" for way in found],
            keys=[f"way:{i}" for i in range(len(ways))],
        ),
        readouts(
            [
                ("loss, cache in 32 bits", f"{plain:.3f}"),
                ("next token, cache in 32 bits", f"“{spoken(piece(int(np.argmax(reading.trace['logits'][-1]))))}”"),
                ("outlier channels, first token aside", ", ".join(map(str, outliers[:6])) or "none"),
            ]
        ),
    )  # fmt: skip
    best = int(np.argmin([way.divergence for way in found]))
    text = (
        f"{reading.note}At {few} bits, keys by token and values by token move the guesses by "
        f"{{{{way:0|{shown(found[0].divergence, 2)}}}}} nats; keys by channel, with values by token, by "
        f"{{{{way:1|{shown(found[1].divergence, 2)}}}}}. The best of the four is: {ways[best]}. "
        + channel_words(outliers, layer, head)
    )
    rounded_keys = keys[int(spare) :]  # at least one: the sentence has two tokens
    channel = int(np.argmax(np.max(np.abs(rounded_keys), axis=0)))
    low, high = float(np.min(rounded_keys[:, channel])), float(np.max(rounded_keys[:, channel]))
    formula = (
        rf"c = {channel}: \quad s_c = \frac{{\max_t \k{{k_{{t,c}}}} - \min_t \k{{k_{{t,c}}}}}}{{2^{few} - 1}} = "
        rf"\frac{{{number(high)} {signed(-low)}}}{{{2**few - 1}}} = {number((high - low) / (2**few - 1))}"
    )
    return picture, text, formula, {
        "losses": [way.loss for way in found], "divergences": [way.divergence for way in found],
        "keys": keys, "values": values,
    }  # fmt: skip


def kv_words(way: kv.Effect) -> str:
    """A way to round a cache, in words."""
    first = f"keys by {way.keys}" + (" before RoPE" if way.before_rope else "")
    return f"{first}, values by {way.values}"


def channel_words(outliers: np.ndarray, layer: int, head: int) -> str:
    """Which channels of these keys stand out."""
    where = f"The first token aside, the keys of head {head} in layer {layer}"
    if not len(outliers):
        return f"{where} have no channel that reaches four times as far as the usual one; look at other heads."
    several = "s that reach" if len(outliers) > 1 else " that reaches"
    named = ", ".join(map(str, outliers[:4]))
    more = " …" if len(outliers) > 4 else ""
    return (
        f"{where} have {len(outliers)} channel{several} more than four times as far as the usual one ({named}{more})."
    )


# --- numbers in the prose, answers -----------------------------------------------------------------------------------


def size_of(model: str, scheme: str) -> float:
    return engine.model_bytes(CONFIGS[model], scheme) / 1e9


@chapter.number
def llama_bf16() -> str:
    return f"{size_of('Llama 3.1 8B', 'bf16'):.2f}"


@chapter.number
def llama_q4() -> str:
    return f"{size_of('Llama 3.1 8B', 'q4_0'):.2f}"


@chapter.number
def llama_q8() -> str:
    return f"{size_of('Llama 3.1 8B', 'q8_0'):.2f}"


@chapter.number
def q4_1_bits() -> str:
    return f"{engine.SCHEMES['q4_1'].bits_per_weight:.1f}"


@chapter.number
def nf4_double_bits() -> str:
    return f"{engine.SCHEMES['nf4_double'].bits_per_weight:.3f}"


@chapter.number
def zeros_with_outlier() -> str:
    kept = study.treat(study.example(0, 20), "int4")
    return str(int(np.sum(kept.dequantized == 0)))


@chapter.number
def largest_fp8() -> str:
    return f"{engine.FLOATS['fp8_e4m3'].largest:.0f}"


@chapter.answer
def llama_in_q4_1() -> float:
    return size_of("Llama 3.1 8B", "q4_1")


@chapter.answer
def zeros_left(**values: Any) -> str:
    """Which single scheme has the least error on the lab's numbers, of those with four bits."""
    x, by = numbers_of(values["seed"], values["outlier"], values["own"]), grouped(values["group"])
    found = study.compare(x, values["symmetric"], by)
    return min(("int4", "nf4"), key=lambda kind: found[kind].rms)


@chapter.answer
def own_grid() -> str:
    """Is a 4-bit grid of its own kind the dearest, the cheapest, or neither, of 4, 5 and 6 bits?"""
    x = study.example(3)
    once = engine.quantize(x, 4, symmetric=False, group="row").dequantized
    errors = [
        float(np.max(np.abs(engine.quantize(once, bits, symmetric=False, group="row").dequantized - once)))
        for bits in (4, 5, 6)
    ]
    return str((4, 5, 6)[int(np.argmin(errors))])


register_page(__name__, path=chapter.entry.path, title=chapter.entry.title, layout=chapter.layout)
