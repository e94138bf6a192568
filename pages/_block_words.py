"""What each part of a block is for, in a sentence, and its formula with a model's sizes."""

from __future__ import annotations

from collections.abc import Mapping

from engine.anatomy import Part
from engine.ledger import Config
from pages._block_drawing import LABELS

CHAPTER = {
    "token embedding": "/embeddings", "position embedding": "/rope", "query": "/attention", "key": "/attention",
    "value": "/attention", "rope": "/rope", "attention": "/multi-head", "attention output": "/multi-head",
    "router": "/feed-forward", "gate": "/feed-forward", "up": "/feed-forward", "activation": "/activation",
    "down": "/feed-forward", "output layer": "/sampling",
}  # fmt: skip

TITLES = {
    "token embedding": "Token embedding", "position embedding": "Position embedding",
    "attention norm": "Norm before attention",
    "query": "Query projection", "key": "Key projection", "value": "Value projection", "rope": "Rotary positions",
    "attention": "Attention", "attention output": "Output projection", "attention post-norm": "Norm after attention",
    "attention sum": "Residual addition after attention", "feed-forward norm": "Norm before the feed-forward network",
    "router": "Router", "gate": "Gate projection", "up": "Up projection", "activation": "Activation",
    "down": "Down projection", "feed-forward post-norm": "Norm after the feed-forward network",
    "feed-forward sum": "Residual addition after the feed-forward network", "final norm": "Last norm",
    "output layer": "Output layer",
}  # fmt: skip
assert TITLES.keys() == LABELS.keys()


def roles(config: Config) -> Mapping[str, str]:
    """A sentence for each part that a model may have."""
    shared = config.heads // config.kv_heads
    group = (
        "each query head has a key head of its own"
        if shared == 1
        else f"{shared} query heads share one key head, which keeps the cache small"
    )
    size = "to zero mean and unit spread" if config.norm == "layer" else "to size 1"
    return {
        "token embedding": "Looks up one learned row for each token. That row is the start of the residual stream.",
        "position embedding": "Adds one learned row for each position, once, at the start. RoPE does without.",
        "attention norm": f"Brings each token's vector {size}, so that attention gets inputs of a known size.",
        "query": "Makes from each token what it is looking for, one query for each head.",
        "key": f"Makes from each token what it can be found by; {group}.",
        "value": "Makes from each token what it hands over to those who find it.",
        "rope": "Turns queries and keys by an angle that grows with the position. No parameters, nothing added.",
        "attention": "Every query meets every earlier key, and takes home a mix of the values. Here tokens exchange "
        "information, and nowhere else.",
        "attention output": "Mixes what the heads found into one vector as wide as the stream.",
        "attention post-norm": "Gemma 2 also brings what attention gives back to size 1 before it is added.",
        "attention sum": "Adds what attention found. What was in the stream stays in it.",
        "feed-forward norm": f"Brings the stream {size} again, for the feed-forward network.",
        "router": f"Scores {config.experts} experts for each token; only the best {config.top_k} of them work on it.",
        "gate": "Decides for each neuron, and each token, how far it opens.",
        "up": "What each neuron would pass on."
        if config.gated
        else "One weighted sum for each neuron of the hidden layer.",
        "activation": "The bend: opens or closes each neuron, and multiplies."
        if config.gated
        else "The bend: without it, the two matrices would be one.",
        "down": "Each open neuron adds its own row of the stream's width.",
        "feed-forward post-norm": "The same for what the feed-forward network gives back.",
        "feed-forward sum": "Adds what the neurons wrote. This is the stream that the next block reads.",
        "final norm": "The same norm once more, after the last block.",
        "output layer": "Compares each vector with one direction for each token of the vocabulary: the logits."
        + (" It is the embedding table again, so it costs nothing." if config.tied else ""),
    }


def exact(count: int) -> str:
    """A whole number in a formula, thousands apart."""
    return f"{count:,}".replace(",", r"\,")


def formula(config: Config, part: Part) -> str:
    """The part's equation in LaTeX, with this model's sizes."""
    makers = {
        "attention norm": _norm, "feed-forward norm": _norm, "final norm": _norm, "attention post-norm": _norm,
        "feed-forward post-norm": _norm, "rope": _rope, "attention": _attention, "activation": _activation,
    }  # fmt: skip
    if part.name in makers:
        return makers[part.name](config)
    if part.name.endswith("sum"):
        return rf"\resid{{x}} \leftarrow \resid{{x}} + {_adder(part.name)}"
    if part.name in ("token embedding", "position embedding"):
        what = r"\tokens{\text{id}_t}" if part.name == "token embedding" else "t"
        sign = "=" if part.name == "token embedding" else r"\leftarrow \resid{x_t} +"
        return rf"\resid{{x_t}} {sign} E_{{{what}}}, \quad E: {_times(part.arrays[0][1])}"
    return _product(config, part)


SYMBOLS = {
    "query": (r"\q{Q}", "W_Q"), "key": (r"\k{K}", "W_K"), "value": (r"\v{V}", "W_V"),
    "attention output": (r"\attn{A}", "W_O"), "gate": (r"\ffn{g}", r"W_{\text{gate}}"),
    "up": (r"\ffn{u}", r"W_{\text{up}}"), "down": (r"\ffn{F}", r"W_{\text{down}}"),
    "router": (r"\ffn{s}", r"W_{\text{router}}"), "output layer": (r"\logits{\text{logits}}", r"W_U"),
}  # fmt: skip
INPUTS = {"attention output": r"\attn{O}", "down": r"\ffn{h}"}


def _product(config: Config, part: Part) -> str:
    """out = in · W (+ b), the shapes below."""
    out, weight = SYMBOLS[part.name]
    given = INPUTS.get(part.name, r"\resid{n}")
    rows = part.ins[0][1][-2:]
    inner = (config.width, config.vocabulary) if part.name == "output layer" else part.arrays[0][1]
    bias = " + b" if any(name.endswith("bias") for name, _, _ in part.arrays) else ""
    copies = r" \text{ for each expert}" if part.arrays and part.arrays[0][2] > 1 else ""
    tied = r" = E^\top" if part.name == "output layer" and config.tied else ""
    return (
        rf"{out} = {given} \cdot {weight}{bias}, \quad ({_times(rows)}) \cdot ({_times(inner)}) = "
        rf"{_times((rows[0], inner[1]))}{copies}" + (rf", \quad {weight}{tied}" if tied else "")
    )


def _times(dimensions: tuple[int, ...]) -> str:
    return r" \times ".join(map(str, dimensions))


def _adder(name: str) -> str:
    return r"\attn{A}" if name == "attention sum" else r"\ffn{F}"


def _norm(config: Config) -> str:
    eps = rf"10^{{{-5 if config.eps > 5e-6 else -6}}}"
    if config.norm == "layer":
        return rf"\resid{{n}} = \frac{{\resid{{x}} - \mu}}{{\sqrt{{\sigma^2 + {eps}}}}} \cdot w + b"
    mean_square = rf"\frac{{1}}{{{config.width}}} \sum_i \resid{{x_i}}^2"
    return rf"\resid{{n}} = \frac{{\resid{{x}}}}{{\sqrt{{{mean_square} + {eps}}}}} \cdot w"


def _rope(config: Config) -> str:
    base = exact(round(config.rope_base or 0))
    return (
        rf"\text{{pair }} i \text{{ turns by }} t \cdot \theta_i, \quad \theta_i = {base}^{{-2i/{config.head_dim}}}, "
        rf"\quad i = 0, …, {config.head_dim // 2 - 1}"
    )


def _attention(config: Config) -> str:
    return (
        rf"\attn{{O}} = \attn{{\text{{softmax}}}} \left( \frac{{\q{{Q}} \k{{K}}^\top}}{{\sqrt{{{config.head_dim}}}}} + "
        rf"\text{{mask}} \right) \v{{V}}, \quad {config.heads} \text{{ heads}}"
    )


def _activation(config: Config) -> str:
    word = {"silu": "SiLU", "gelu": "GELU"}[config.activation]
    return (
        rf"\ffn{{h}} = \text{{{word}}}(\ffn{{g}}) \cdot \ffn{{u}}"
        if config.gated
        else rf"\ffn{{h}} = \text{{{word}}}(\ffn{{u}})"
    )


def character(config: Config) -> str:
    """What this model does otherwise than a plain Llama, in a sentence."""
    if config.name == "GPT-2":
        return (
            "GPT-2 is from 2019: learned positions are added once at the start, the norm is LayerNorm, every matrix "
            "has a bias, and the feed-forward network has no gate."
        )
    if config.experts > 1:
        return (
            f"Instead of one feed-forward network each block has {config.experts}; a router sends each token through "
            f"{config.top_k} of them."
        )
    if config.norms_per_block == 4:
        return "Gemma 2 has four norms in a block: it also normalises what each sublayer gives back."
    if config.qkv_bias:
        return "Queries, keys and values have a bias, as in no other model of this list but GPT-2."
    if config.kv_heads == 1:
        return (
            f"All {config.heads} query heads share a single key and value head, and GELU stands where Llama has SiLU."
        )
    if config.window:
        return f"The same block as Llama's; attention sees only the last {config.window:,} tokens in each layer."
    if config.name == "SmolLM2-135M":
        return "A small Llama: this is the model that runs on this site."
    return "The block that most open models since 2023 have copied."
