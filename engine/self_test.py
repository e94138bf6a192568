"""A self-test over the chapters: questions drawn with a seed, every answer and every wrong answer computed.

A chapter adds a question with one function below, marked `@about(chapter)`: it draws its numbers, asks the engine, and
says for each choice why it is right or which mistake leads to it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np

from engine.activation import ACTIVATIONS
from engine.attention import attention
from engine.backpropagation import value_and_grad
from engine.embeddings import cosine_similarity
from engine.feed_forward import parameter_count
from engine.kv_cache import bytes_per_token, positions_computed
from engine.ledger import CONFIGS, active_parameters, total_parameters
from engine.mistakes import MISTAKES, with_mistake
from engine.multi_head import grouped_query_attention
from engine.optimizers import SGD, Adam
from engine.post_training import kl_regularised_policy
from engine.proofs import GRADIENT, REFERENCE, TWO_WAYS
from engine.quantization import quantize
from engine.rope import frequencies, rotate
from engine.sampling import cross_entropy, min_p, softmax, top_p
from engine.tokenization import ENCODINGS, tokens

Rng = np.random.Generator


@dataclass(frozen=True)
class Choice:
    """One answer to choose, and the reply to who chooses it."""

    say: str
    why: str


@dataclass(frozen=True)
class Question:
    """A question with its choices; `right` is the place of the right one."""

    chapter: str
    ask: str
    choices: tuple[Choice, ...]
    right: int = 0

    @property
    def answer(self) -> str:
        """The right choice's words."""
        return self.choices[self.right].say


Asked = tuple[str, list[Choice]]  # the question, and its choices with the right one first
QUESTIONS: dict[str, list[Callable[[Rng], Asked]]] = {}


def about(chapter: str) -> Callable[[Callable[[Rng], Asked]], Callable[[Rng], Asked]]:
    """Register a question of a chapter."""

    def register(question: Callable[[Rng], Asked]) -> Callable[[Rng], Asked]:
        QUESTIONS.setdefault(chapter, []).append(question)
        return question

    return register


def drawn(seed: int) -> list[Question]:
    """One question for each chapter that has some, the same for everyone with this seed."""
    return [question(chapter, seed) for chapter in QUESTIONS]


def question(chapter: str, seed: int) -> Question:
    """A chapter's question for this seed, its choices shuffled. Raises ValueError for a chapter without any."""
    if chapter not in QUESTIONS:
        raise ValueError(f"There are no questions on a chapter called {chapter}.")
    rng = np.random.default_rng([seed, *chapter.encode()])
    for _ in range(100):
        ask, choices = pick(rng, QUESTIONS[chapter])(rng)
        if apart([choice.say for choice in choices]):  # two wrong ways may lead to one number
            break
    order = rng.permutation(len(choices))
    return Question(chapter, ask, tuple(choices[i] for i in order), int(np.flatnonzero(order == 0)[0]))


def apart(says: list[str]) -> bool:
    """Whether no two choices are alike, and shares at least one point of a hundred apart."""
    shares = sorted(float(say[:-1]) for say in says if say.endswith("%"))
    return len(set(says)) == len(says) and all(b - a >= 1 for a, b in pairwise(shares))


def pick(rng: Rng, items: Any) -> Any:
    """One of a sequence."""
    return items[int(rng.integers(len(items)))]


def shown(value: float | int) -> str:
    """A number as a choice has it: three digits, no minus sign on zero."""
    return f"{value + 0.0:.3g}".replace("-", "−")


# The questions --------------------------------------------------------------------------------------------------------

WORDS = ("unbelievable", "Maschinenbau", "photosynthesis", "antidisestablishmentarianism", "strawberry", "Zürich",
         "3.14159", "deoxyribonucleic", "gut gemacht", "overfitting")  # fmt: skip


@about("tokenization")
def tokens_of_a_word(rng: Rng) -> Asked:
    word, name = pick(rng, WORDS), pick(rng, list(ENCODINGS))
    found = [token.text or token.bytes.hex(" ") for token in tokens(word, name)]
    pieces = "·".join(found)
    right = len(found)
    return f"Into how many tokens does `{name}` cut “{word}”?", [
        Choice(str(right), f"It comes out as {pieces}."),
        Choice(str(len(word)), f"That would be one for each character. Frequent pieces were merged: {pieces}."),
        Choice(str(right + 1 + int(rng.integers(2))), f"Fewer: {pieces}."),
    ]


@about("tokenization")
def bytes_of_a_word(rng: Rng) -> Asked:
    word = pick(rng, ("Zürich", "naïve", "漢字", "été", "🙂", "Łódź", "мир"))
    right = len(word.encode())
    return f"A byte-level tokenizer has no token for “{word}” and must spell it. From how many bytes does it start?", [
        Choice(str(right), "UTF-8 spends one byte on ASCII and two to four on every other character."),
        Choice(str(len(word)), f"That is the number of characters. In UTF-8 they take {right} bytes."),
        Choice(str(4 * len(word)), f"Four bytes each would be UTF-32. UTF-8 takes {right}."),
    ]


@about("embeddings")
def cosine_of_two(rng: Rng) -> Asked:
    a, b = rng.integers(-4, 5, 2).astype(float), rng.integers(-4, 5, 2).astype(float)
    a, b = (v if np.any(v) else np.array([1.0, 2.0]) for v in (a, b))
    found, dot = float(cosine_similarity(a, b)), float(a @ b)
    names = [f"({shown(v[0])}, {shown(v[1])})" for v in (a, b)]
    return f"What is the cosine similarity of {names[0]} and {names[1]}?", [
        Choice(shown(found), f"The dot product {shown(dot)}, divided by both lengths."),
        Choice(shown(dot), f"That is the dot product. Divided by both lengths it is {shown(found)}."),
        Choice(shown(float(np.linalg.norm(a - b))), f"That is their distance. The cosine is {shown(found)}."),
    ]


@about("activation")
def activated(rng: Rng) -> Asked:
    name, x = pick(rng, ("silu", "gelu", "leaky_relu", "sigmoid")), float(pick(rng, (-3.0, -2.0, -1.0, 0.5, 1.0, 2.0)))
    names = {"silu": "SiLU", "gelu": "GELU (exact)", "leaky_relu": "leaky ReLU (slope 0.01)",
             "sigmoid": "the sigmoid", "relu": "ReLU"}  # fmt: skip
    rules = {"silu": "x times the sigmoid of x", "gelu": "x times the share of the bell curve to the left of x",
             "leaky_relu": "x itself, and a hundredth of it below zero", "sigmoid": "1 / (1 + e^(−x))"}  # fmt: skip
    value = {key: float(ACTIVATIONS[key](np.array(x))) for key in names}
    others = [key for key in names if key != name]
    wrong = [others[i] for i in rng.permutation(len(others))[:2]]
    return f"What does {names[name]} make of {shown(x)}?", [
        Choice(shown(value[name]), f"That is the definition: {rules[name]}."),
        *(
            Choice(
                shown(value[key]), f"That is {names[key]} of {shown(x)}. Wanted is {rules[name]}: {shown(value[name])}."
            )
            for key in wrong
        ),
    ]


@about("feed-forward")
def parameters_of_a_layer(rng: Rng) -> Asked:
    name = pick(rng, ("SmolLM2-135M", "Llama 3.1 8B", "Mistral 7B", "GPT-2", "Qwen2.5 7B"))
    config = CONFIGS[name]
    right, product = parameter_count(config), config.width * config.hidden
    matrices = 3 if config.gated else 2
    sizes = f"width {config.width:,}, feed-forward width {config.hidden:,}"
    return f"{name}: {sizes}. How many parameters has one feed-forward network?", [
        Choice(f"{right:,}", f"{'Gate, up and down' if config.gated else 'Up and down'}: {matrices} matrices"
               + (", and their biases." if config.bias else ".")),
        Choice(f"{(5 - matrices) * product:,}", f"That counts {5 - matrices}. There are {matrices}: {right:,}."),
        Choice(f"{product:,}", f"That is a single matrix. There are {matrices}: {right:,}."),
    ]  # fmt: skip


@about("feed-forward")
def active_of_mixtral(rng: Rng) -> Asked:
    config = replace(CONFIGS["Mixtral 8x7B"], top_k=int(rng.integers(2, 5)))
    right, total = active_parameters(config), total_parameters(config)
    return (
        f"Mixtral 8x7B has 8 experts a layer and {total / 1e9:.1f} billion parameters. If {config.top_k} of 8 experts "
        "worked on each token, how many parameters would?"
    ), [
        Choice(f"{right / 1e9:.1f} billion", "Attention, norms and embeddings work on every token; only experts rest."),
        Choice(f"{total * config.top_k / 8e9:.1f} billion", f"That lets attention rest too. It is {right / 1e9:.1f}."),
        Choice(f"{config.top_k * 7} billion", f"The 7 in the name counts shared parts again. It is {right / 1e9:.1f}."),
    ]  # fmt: skip


@about("sampling")
def share_at_a_temperature(rng: Rng) -> Asked:
    logits, t = rng.integers(-2, 5, 3).astype(float), float(pick(rng, (0.5, 2.0)))
    right, plain = float(softmax(logits, t)[0]), float(softmax(logits)[0])
    inverse = float(softmax(logits, 1 / t)[0])
    named = ", ".join(shown(z) for z in logits)
    return f"Logits {named}; temperature {t:g}. What share does the first token get?", [
        Choice(f"{right:.1%}", "Divide by the temperature, take exponentials, divide by their sum."),
        Choice(f"{plain:.1%}", f"That is at temperature 1. At {t:g} it is {right:.1%}."),
        Choice(f"{inverse:.1%}", f"That multiplies by {t:g} instead of dividing: {right:.1%}."),
    ]


@about("sampling")
def kept_by_top_p(rng: Rng) -> Asked:
    p = np.sort(np.diff([0, *np.sort(rng.choice(np.arange(1, 100), 5, replace=False)), 100]))[::-1] / 100
    limit = float(pick(rng, (0.5, 0.7, 0.9)))
    right, other = (int(np.sum(np.isfinite(kept(np.log(p), limit)))) for kept in (top_p, min_p))
    shares = ", ".join(f"{share:.0%}" for share in p)
    return f"Six tokens have {shares}. How many does top-p with p = {limit:g} keep?", [
        Choice(str(right), "From the likeliest down, until the sum reaches p. The one that reaches it stays."),
        Choice(str(right - 1), f"The one that crosses p belongs to it: {right}."),
        Choice(
            str(other),
            f"That is min-p: so many have at least {limit:g} times the largest share. Top-p adds up: {right}.",
        ),
    ]


@about("backpropagation")
def slope_of_an_expression(rng: Rng) -> Asked:
    x, y = (float(v) for v in rng.integers(-3, 6, 2))
    value, (dx, dy) = value_and_grad(lambda x, y: x * y + x * x, (0, 1))(np.array(x), np.array(y))
    return f"f = x · y + x², at x = {shown(x)} and y = {shown(y)}. What is ∂f/∂x?", [
        Choice(
            shown(float(dx)),
            f"y from the product, 2x from the square: {shown(y)} + 2 · {f'({shown(x)})' if x < 0 else shown(x)}.",
        ),
        Choice(shown(float(value)), f"That is f itself. Its slope in x is {shown(float(dx))}."),
        Choice(shown(float(dy)), f"That is ∂f/∂y. x is used twice, and both uses add up to {shown(float(dx))}."),
    ]


@about("optimizers")
def a_first_step(rng: Rng) -> Asked:
    rate, gradient = float(pick(rng, (0.001, 0.01, 0.1))), float(pick(rng, (0.02, 0.5, 4.0, 30.0)))
    start, slope = np.zeros(1), np.array([gradient])
    right = abs(float(Adam(rate).step(start, slope)[0]))
    plain = abs(float(SGD(rate).step(start, slope)[0]))
    uncorrected = abs(float(Adam(rate, bias_correction=False).step(start, slope)[0]))
    return f"Adam, learning rate {rate:g}. The first gradient is {gradient:g}. How far does the first step go?", [
        Choice(shown(right), "The gradient is divided by its own size: the first step is the learning rate."),
        Choice(shown(plain), f"That is plain gradient descent. Adam divides the size away: {shown(right)}."),
        Choice(shown(uncorrected), f"So it would be without bias correction. With it: {shown(right)}."),
    ]


@about("training")
def loss_of_guessing(rng: Rng) -> Asked:
    words = int(pick(rng, (27, 34, 65, 256, 50_257, 49_152)))
    right = float(cross_entropy(np.zeros((1, words)), np.array([0])))
    ask = f"A model that has learned nothing gives all {words:,} tokens the same share. What is its loss?"
    return ask, [
        Choice(f"{right:.2f} nats", f"The negative logarithm of 1/{words:,}."),
        Choice(f"{math.log2(words):.2f} nats", f"That many bits. In nats, with the natural logarithm: {right:.2f}."),
        Choice("1.00 nats", f"A loss has no such ceiling; this one is the logarithm of {words:,}: {right:.2f}."),
    ]


@about("post-training")
def tilted_policy(rng: Rng) -> Asked:
    share, beta, reward = float(pick(rng, (0.2, 0.4, 0.7))), float(pick(rng, (0.5, 2.0))), float(rng.integers(1, 4))

    def best(first: float, strength: float) -> float:
        return float(kl_regularised_policy(np.array([first, 1 - first]), np.array([reward, 0.0]), strength)[0])

    right = best(share, beta)
    return (
        f"A reference gives an answer {share:.0%}. Its reward is {reward:g}, the other answer's 0, and β = {beta:g}. "
        "What share has it in the best policy under the KL penalty?"
    ), [
        Choice(f"{right:.1%}", f"The share times e^({reward:g} / {beta:g}); then both are divided by their sum."),
        Choice(f"{best(share, 1 / beta):.1%}", f"That multiplies by β. The reward is divided by it: {right:.1%}."),
        Choice(f"{best(0.5, beta):.1%}", f"That forgets the reference, which starts at {share:.0%}: {right:.1%}."),
    ]


@about("attention")
def weight_of_two(rng: Rng) -> Asked:
    width, (a, b) = int(pick(rng, (4, 16, 64))), rng.integers(0, 9, 2)
    k = np.zeros((2, width))
    k[:, 0] = a, b
    q = np.eye(1, width)
    right = float(attention(q, k, k).weights[0, 0])
    raw = float(attention(q, k, k, scale=1.0).weights[0, 0])
    even = a / (a + b) if a + b else 0.25
    return (
        f"A query of width {width} has the dot products {a} and {b} with two keys. What weight does the first get?",
        [
            Choice(f"{right:.1%}", f"Divide by √{width} = {math.sqrt(width):g}, then softmax."),
            Choice(f"{raw:.1%}", f"That forgets to divide by √{width}. With it: {right:.1%}."),
            Choice(f"{even:.1%}", f"Weights are no shares of the scores; exponentials come first: {right:.1%}."),
        ],
    )


@about("multi-head")
def which_shared_head(rng: Rng) -> Asked:
    shared = int(pick(rng, (2, 3, 4)))
    heads = shared * int(pick(rng, (2, 3, 4)))
    h = int(rng.integers(1, heads))
    values = np.broadcast_to(np.arange(float(shared))[:, None, None], (shared, 1, 1))
    found = grouped_query_attention(np.zeros((heads, 1, 2)), np.zeros((shared, 1, 2)), np.array(values))
    right, group = int(found.output[h, 0, 0]), heads // shared
    ask = f"{heads} query heads share {shared} key/value heads. Which one does query head {h} read, counted from 0?"
    return ask, [
        Choice(str(right), f"Neighbours share: {group} query heads each, so {h} // {group} = {right}."),
        Choice(str(h % shared), f"They do not take turns. Groups of {group} share: {h} // {group} = {right}."),
        Choice(str(h), f"Only without sharing. Here groups of {group} share one: {right}."),
    ]  # fmt: skip


@about("rope")
def same_score(rng: Rng) -> Asked:
    q, k = rng.normal(size=(1, 8)), rng.normal(size=(1, 8))
    a = int(rng.integers(5, 20))
    b, shift = int(rng.integers(0, a - 2)), int(rng.integers(3, 90))

    def score(m: int, n: int) -> float:
        return float((rotate(q, np.array([m])) @ rotate(k, np.array([n])).T)[0, 0])

    pairs = [(a + shift, b + shift), (2 * a, 2 * b), (b, a)]
    assert abs(score(*pairs[0]) - score(a, b)) < 1e-9
    return (
        f"A query at position {a} meets a key at position {b}. At which positions is their score exactly the same?",
        [
            Choice(f"{pairs[0][0]} and {pairs[0][1]}", f"Only the distance counts, and it is {a - b} again."),
            Choice(f"{pairs[1][0]} and {pairs[1][1]}", f"The distance doubles: {2 * (a - b)} instead of {a - b}."),
            Choice(f"{b} and {a}", "The distance turns its sign, and the rotation its direction."),
        ],
    )


@about("rope")
def slowest_pair(rng: Rng) -> Asked:
    base, d = float(pick(rng, (10_000.0, 100_000.0, 500_000.0))), int(pick(rng, (64, 128)))
    turns = 2 * math.pi / frequencies(d, base)[-1]
    fastest, plain = 2 * math.pi, base
    ask = f"RoPE with base {base:,.0f}, heads {d} wide. After how many positions has the slowest pair turned once?"
    return ask, [
        Choice(f"about {turns:,.0f}", f"Its angle a position is base^(−{d - 2}/{d}); 2π divided by that."),
        Choice(f"about {fastest:.1f}", f"That is the fastest pair: 1 radian a position. The slowest: {turns:,.0f}."),
        Choice(f"{plain:,.0f}", f"Angles are in radians, and the last exponent is not quite 1: {turns:,.0f}."),
    ]  # fmt: skip


@about("block")
def total_of_a_model(rng: Rng) -> Asked:
    names = [list(CONFIGS)[i] for i in rng.permutation(len(CONFIGS))[:3]]
    totals = [total_parameters(CONFIGS[name]) for name in names]
    c = CONFIGS[names[0]]
    each = f" in each of {c.experts} experts" if c.experts > 1 else ""
    sizes = (
        f"{c.layers} blocks of width {c.width:,}, feed-forward width {c.hidden:,}{each}, vocabulary {c.vocabulary:,}"
    )
    return f"A published model has {sizes}. How many parameters has it in all?", [
        Choice(f"{totals[0]:,}", f"It is {names[0]}, and the ledger of its arrays adds up to this exactly."),
        *(Choice(f"{n:,}", f"That is {name}. This one is {names[0]}, with {totals[0]:,}.")
          for name, n in zip(names[1:], totals[1:], strict=True)),
    ]  # fmt: skip


@about("kv-cache")
def positions_without_a_cache(rng: Rng) -> Asked:
    p, g = int(rng.integers(5, 400)), int(rng.integers(3, 60))
    right, cached = positions_computed(p, g, False), positions_computed(p, g, True)
    return (
        f"A prompt of {p} tokens, {g} tokens generated, no cache. A step computes the text with its new token. How "
        "many positions are computed in all?"
    ), [
        Choice(f"{right:,}", f"Each step reads everything again: the sum of {p} + i for i from 1 to {g}."),
        Choice(f"{cached:,}", f"That is with the cache, each position once. Without it: {right:,}."),
        Choice(f"{(p + g) ** 2:,}", f"There are {g} steps, and only the last has the full length: {right:,}."),
    ]  # fmt: skip


@about("kv-cache")
def cache_of_a_text(rng: Rng) -> Asked:
    name = pick(rng, ("Llama 3.1 8B", "Qwen2.5 7B", "Llama 3.1 70B"))
    config, n = CONFIGS[name], int(pick(rng, (1000, 8000, 100_000)))
    right, shared = n * bytes_per_token(config), config.kv_heads
    every = n * bytes_per_token(replace(config, kv_heads=config.heads))
    return f"{name} keeps keys and values in 16 bits. How much memory do {n:,} tokens take?", [
        Choice(f"{right / 1e9:.3g} GB", f"A token takes 2 · {config.layers} · {shared} · {config.head_dim} · 2 bytes."),
        Choice(f"{every / 1e9:.3g} GB", f"That counts all {config.heads} query heads. Keys and values have {shared}."),
        Choice(f"{right / 2e9:.3g} GB", f"Keys and values both are kept: {right / 1e9:.3g} GB."),
    ]  # fmt: skip


@about("quantization")
def a_code(rng: Rng) -> Asked:
    bits = int(pick(rng, (3, 4, 8)))
    x = np.round(rng.normal(size=4), 2)
    at = int(np.argmin(np.abs(x)))
    found = quantize(x, bits)
    right, scale = int(np.reshape(found.codes, -1)[at]), float(np.reshape(found.scale, -1)[0])
    largest = float(np.max(np.abs(x)))
    cut, unsigned = int(x[at] / scale), round((x[at] - x.min()) / (np.ptp(x) / (2**bits - 1)))
    no_sign = round(x[at] / (largest / (2**bits - 1)))
    numbers = ", ".join(shown(v) for v in x)
    return f"{numbers} are quantized together, symmetrically, to {bits} bits. Which code does {shown(x[at])} get?", [
        Choice(shown(right), f"The scale is {shown(largest)} / {2 ** (bits - 1) - 1} = {shown(scale)}."),
        Choice(shown(unsigned), f"That counts from the smallest number up: asymmetric. Here: {shown(right)}."),
        Choice(shown(cut), f"That cuts the decimals of {shown(x[at] / scale)} off. The nearest code is {shown(right)}.")
        if cut != right and bits < 8
        else Choice(shown(no_sign), f"That spends no bit on the sign. The scale is {shown(scale)}: {shown(right)}."),
    ]  # fmt: skip


@lru_cache
def noticed_by(mistake: str) -> frozenset[str]:
    """The kinds of check that notice a mistake."""
    return frozenset(found.check.kind for found in with_mistake(mistake) if not found.passed)


WHY_SEEN = {
    "gate": "The gradient check compares a function with its own slope, and the wrong function has a good one.",
    "gelu": "The gradient check compares a function with its own slope; both forms of GELU have a good one.",
    "constant": "All values are right. Only the gradient check, which moves the inputs, sees the wrong slope.",
    "centre": "The wrong norm has a right slope and mean square 1. Only PyTorch knows that no mean belongs there.",
    "scale": "Undivided attention has a right slope and agrees with itself. Only PyTorch says that it must divide.",
    "half": "The second way rounds as the first does, so the two agree. In the other two checks the rounding shows.",
    "maximum": "On ordinary numbers the maximum cancels. Only a second way has scores that no float can exponentiate.",
}


@about("proof")
def who_is_blind(rng: Rng) -> Asked:
    name = pick(rng, list(WHY_SEEN))
    kinds = {REFERENCE: "The comparison with PyTorch", GRADIENT: "The gradient check", TWO_WAYS: "The second way"}
    sees = {kind: kind in noticed_by(name) for kind in kinds}
    ask = "Who notices" if list(sees.values()).count(True) == 1 else "Who does not notice"
    wanted = ask == "Who notices"
    right = next(kind for kind, seen in sees.items() if seen == wanted)
    return f"{ask} this mistake: {MISTAKES[name].what}?", [
        Choice(kinds[right], WHY_SEEN[name]),
        *(Choice(words, f"It {'notices' if sees[kind] else 'does not notice'}. {WHY_SEEN[name]}")
          for kind, words in kinds.items() if kind != right),
    ]  # fmt: skip
