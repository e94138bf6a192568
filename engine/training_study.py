"""Looking at training: one batch token by token, one step, the curves of a run, what a model at a checkpoint does.

Nothing here trains in another way than `engine.training`; it only keeps what that yields, and asks the model questions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Int

from engine.arrays import Array
from engine.backpropagation import value_and_grad
from engine.corpora import Corpus
from engine.gpt import GPT, Parameters, loss
from engine.grammar import NAMES, STOP, THINGS, VERBS, grammar
from engine.sampling import sample, softmax, surprisal
from engine.training import Checkpoint, Step

# One batch, one step -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Batch:
    """Windows, what follows each of their tokens, and what the model makes of it."""

    inputs: Int[Array, "B T"]
    targets: Int[Array, "B T"]
    probabilities: Float[Array, "B T V"]  # of the next token, at every place
    surprisals: Float[Array, "B T"]  # −log of the target's probability, in nats
    loss: float  # their mean


def look_at(gpt: GPT, parameters: Parameters, inputs: Int[Array, "B T"], targets: Int[Array, "B T"]) -> Batch:
    """Run the model on the windows, and compare each guess with the token that follows."""
    logits = gpt.model(parameters).forward(inputs)
    lost = surprisal(logits, targets)
    return Batch(inputs, targets, softmax(logits), lost, float(np.mean(lost)))


@dataclass(frozen=True)
class OneStep:
    """A plain gradient step, parameter − rate · gradient, and what it did."""

    before: Batch
    after: Batch
    others_before: float  # loss on windows that the step has not seen
    others_after: float
    gradient_norm: float
    predicted: float  # the change of the loss if it were a straight line: −rate · norm²
    path: Float[Array, " n"]  # the loss of the batch at n equal parts of the way


def one_step(
    gpt: GPT, parameters: Parameters, batch: Batch, others: Batch, rate: float | int, parts: int = 4
) -> OneStep:
    """Take the gradient of the batch's loss, and walk against it, looking at the loss on the way."""
    inputs, targets = batch.inputs, batch.targets
    _, gradient = value_and_grad(loss)(parameters, gpt, inputs, targets)
    squared = sum(float(np.vdot(g, g)) for g in gradient.values())

    def moved(share: float) -> Parameters:
        return {name: p - share * rate * gradient[name] for name, p in parameters.items()}

    path = [float(loss(moved(part / parts), gpt, inputs, targets)) for part in range(parts)]
    after, elsewhere = look_at(gpt, moved(1.0), inputs, targets), loss(moved(1.0), gpt, others.inputs, others.targets)
    return OneStep(
        batch, after, others.loss, float(elsewhere), squared**0.5, -rate * squared, np.array([*path, after.loss])
    )


# The curves of a run -------------------------------------------------------------------------------------------------


@dataclass
class Curves:
    """What a run has shown so far, step by step; the number of a step is its place in `losses`."""

    losses: list[float] = field(default_factory=list)  # of each step's own batch
    norms: list[float] = field(default_factory=list)  # of the gradient, before clipping
    looks: list[int] = field(default_factory=list)  # the steps at which the held-out windows were measured
    validation: list[float] = field(default_factory=list)
    excess: list[list[float]] = field(default_factory=list)  # of the grammar: see `excess`; at the same steps

    def add(self, step: Step, above: Callable[[Parameters], list[float]] | None = None) -> None:
        """Take down a step. One that is known already (a run that goes on yields it again) is passed over."""
        if step.number < len(self.losses):
            return
        self.losses.append(step.loss)
        self.norms.append(step.gradient_norm)
        if step.validation is not None:
            self.looks.append(step.number)
            self.validation.append(step.validation)
            if above is not None:
                self.excess.append(above(step.checkpoint.parameters))

    def smooth(self, over: int = 10) -> tuple[Int[Array, " n"], Float[Array, " n"]]:
        """Training losses averaged over `over` steps in a row, each at the middle of its steps."""
        groups = [self.losses[i : i + over] for i in range(0, len(self.losses), over)]
        starts = np.arange(0, len(self.losses), over)
        return starts + np.array([len(g) // 2 for g in groups]), np.array([float(np.mean(g)) for g in groups])

    def arrays(self) -> dict[str, np.ndarray]:
        """To be kept; `from_arrays` makes the same curves of it."""
        return {f"curves/{name}": np.array(values) for name, values in vars(self).items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Curves:
        return cls(
            **{name.removeprefix("curves/"): array.tolist() for name, array in arrays.items() if "curves/" in name}
        )


def kept_steps(total: int) -> list[int]:
    """At which steps a run keeps its weights for a look back: 0, then each about 1.7 times the last, and the end."""
    found, step = [0], 8.0
    while step < 0.8 * total:
        found.append(round(step))
        step *= 1.7
    return [*found, total]


def checkpoint_arrays(checkpoint: Checkpoint) -> dict[str, np.ndarray]:
    """A checkpoint as named arrays; `checkpoint_from` makes the same checkpoint of them, to the last bit."""
    arrays = {f"parameters/{name}": array for name, array in checkpoint.parameters.items()}
    for name, state in checkpoint.state.items():
        arrays |= {f"state/{part}/{name}": np.asarray(array) for part, array in state.items()}
    return arrays | {"step": np.array(checkpoint.step)}


def checkpoint_from(arrays: Mapping[str, np.ndarray]) -> Checkpoint:
    """The inverse of `checkpoint_arrays`."""
    state: dict[str, dict[str, np.ndarray]] = {}
    for key, array in arrays.items():
        if key.startswith("state/"):
            _, part, name = key.split("/", 2)
            state.setdefault(name, {})[part] = array
    return Checkpoint(int(arrays["step"]), shortened(arrays, "parameters/"), state)


def shortened(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """The arrays whose names begin with the prefix, without it."""
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def halved(parameters: Parameters) -> Parameters:
    """In float16, for keeping many: half the room, three digits left."""
    return {name: array.astype(np.float16) for name, array in parameters.items()}


def widened(parameters: Mapping[str, np.ndarray]) -> Parameters:
    """Back in float32, to compute with."""
    return {name: array.astype(np.float32) for name, array in parameters.items()}


# What a model does ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reading:
    """A model on one text of T tokens."""

    ids: tuple[int, ...]
    probabilities: Float[Array, "V"]  # of the token after the text
    attention: Float[Array, "layers heads T T"]


def read(gpt: GPT, parameters: Parameters, ids: Sequence[int]) -> Reading:
    """The next-token distribution after the text, and every head's attention weights on the way."""
    trace = gpt.model(parameters).trace(ids)
    maps = np.stack([trace[f"blk.{layer}.attn.weights"] for layer in range(gpt.layers)])
    return Reading(tuple(map(int, ids)), softmax(trace["logits"][-1]), maps)


def looks_back(attention: Float[Array, "layers heads T T"]) -> Float[Array, "layers heads"]:
    """How sharply each head points further back: the largest weight that each token puts on one that is neither the
    first of the text, nor itself, nor the one before; averaged over all tokens that could."""
    tokens = attention.shape[-1]
    query, key = np.arange(tokens)[:, None], np.arange(tokens)
    far = (key >= 1) & (key <= query - 2)
    rows = max(int(np.sum(np.any(far, axis=1))), 1)
    return np.sum(np.max(attention * far, axis=-1), axis=-1) / rows


def continued(
    gpt: GPT, parameters: Parameters, prompt: Sequence[int], tokens: int, temperature: float | int = 1.0, seed: int = 0
) -> list[int]:
    """Up to `tokens` more tokens after the last of the prompt that fit, drawn one by one with a seed."""
    rng = np.random.default_rng(seed)
    start = list(prompt)[-max(1, gpt.context - tokens) :]
    steps = gpt.model(parameters).generate(
        start, tokens, lambda logits, _: sample(logits, rng, temperature).token, stop=()
    )
    return [step.id for step in steps]


def longest_copy(sample: Sequence[int], text: Sequence[int]) -> int:
    """How many tokens in a row the sample has from the text, at most."""
    runs, longest = np.zeros(len(text) + 1, int), 0
    whole = np.asarray(text)
    for token in sample:  # runs[i + 1]: how many tokens up to text[i] are those up to this token
        runs = np.concatenate([[0], np.where(whole == token, runs[:-1] + 1, 0)])
        longest = max(longest, int(runs.max()))
    return longest


SKILLS = {
    "verb agrees": "after a noun, the verb agrees with the first noun of the sentence",
    "names return": "“and …”, “gives …”: the two names come back",
    "thing returns": "“gives Ada the …”: the thing that was asked for comes back",
    "verb is repeated": "“who waits ? Ada …”: the answer repeats the verb of the question",
}
"""What there is to learn in the grammar beyond which word follows which."""


def skill_places(words: Sequence[str], inputs: Int[Array, "B T"], targets: Int[Array, "B T"]) -> Bool[Array, "4 B T"]:
    """Where each skill decides the next word, in the order of `SKILLS`."""
    before, after = np.array(words)[inputs], np.array(words)[targets]
    name_now, name_next = np.isin(before, NAMES), np.isin(after, NAMES)
    verb_next = np.isin(after, [*VERBS, *VERBS.values()])
    returning = grammar().surprisal(targets) < 1e-6  # the words before leave no choice
    nouns = np.isin(before, [*THINGS, *THINGS.values()])
    return np.stack(
        [verb_next & nouns, name_next & returning, returning & (before == "the"), verb_next & name_now & returning]
    )


def excess(gpt: GPT, parameters: Parameters, inputs: Int[Array, "B T"], targets: Int[Array, "B T"]) -> list[float]:
    """How many nats above the true surprisal the model loses where each skill of `SKILLS` decides: 0 is perfect."""
    words = grammar().vocabulary
    above = look_at(gpt, parameters, inputs, targets).surprisals - grammar().surprisal(targets)
    return [float(np.mean(above[places])) for places in skill_places(words, inputs, targets)]


def grammatical(corpus: Corpus, ids: Sequence[int]) -> tuple[int, int]:
    """Of the whole sentences in a text of the grammar: how many are possible in it, and how many there are."""
    rules, sentences, now = grammar(), [], []
    for i in ids:
        now.append(i)
        if corpus.vocabulary[i] == STOP:
            sentences.append(now)
            now = []
    whole = [np.array([sentence]) for sentence in sentences if len(sentence) > 1]  # a text may begin with a full stop
    return sum(bool(np.all(np.isfinite(rules.surprisal(one)))) for one in whole), len(whole)
