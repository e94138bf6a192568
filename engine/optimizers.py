"""Optimizers: from a gradient to new parameters. Definitions and defaults are those of `torch.optim`.

Each optimizer is one rule, `update`: (parameter, gradient, state) -> (new parameter, new state). It is plain
arithmetic, entry by entry, so one rule moves a point on a map (two Python numbers) and a network (arrays in dicts,
lists, tuples). `step` applies it to all of them and keeps each one's state, to be looked at in `.state`.

Sources: momentum Polyak 1964; Nesterov 1983, in the form of Sutskever et al. 2013; RMSProp Hinton 2012 (lecture 6e);
Adam Kingma and Ba, arXiv:1412.6980; AdamW Loshchilov and Hutter, arXiv:1711.05101; Lion Chen et al., arXiv:2302.06675;
Muon Jordan et al. 2024. Left out: AMSGrad, dampening, the centred RMSProp. The paths on surfaces that
`trajectory` walks are in `engine/descents.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from engine.arrays import Array
from engine.descents import trajectory

__all__ = [
    "NEWTON_SCHULZ", "SCHEDULES", "SGD", "Adam", "AdamW", "Lion", "Muon", "Optimizer", "RMSProp", "orthogonalise",
    "schedule", "singular_values", "trajectory",
]  # fmt: skip

Real = float | int
State = dict[str, Any]
Updated = tuple[Any, State]


class Optimizer:
    """What all have in common: a learning rate, a count of steps, and a state for each parameter.

    `state` maps the parameter's path (`blocks.0.w_q`; "" for a single array) to its named arrays. `lr` may be set
    between steps, which is all that a schedule does. Parameters given to `step` are never written into.
    """

    matrices = False
    """Whether it moves matrices only."""

    def __init__(self, lr: Real, weight_decay: Real = 0.0) -> None:
        self.lr = _at_least_zero("learning rate", lr)
        self.weight_decay = _at_least_zero("weight decay", weight_decay)
        self.steps = 0
        self.state: dict[str, State] = {}

    def update(self, p: Any, g: Any, state: State) -> Updated:
        raise NotImplementedError

    def step(self, params: Any, grads: Any) -> Any:
        """New parameters, of the same form and dtype. Raises ValueError where a gradient does not fit its parameter."""
        self.lr = float(self.lr)  # a NumPy float64 would turn float32 parameters into float64
        self.steps += 1
        return self._each(params, grads, "")

    def _each(self, p: Any, g: Any, path: str) -> Any:
        if isinstance(p, dict):
            return {key: self._each(item, g[key], f"{path}.{key}" if path else str(key)) for key, item in p.items()}
        if isinstance(p, (list, tuple)) and len(p) == len(g):
            return type(p)([self._each(p[i], g[i], f"{path}.{i}" if path else str(i)) for i in range(len(p))])
        if not isinstance(p, float) and np.shape(p) != np.shape(g):
            raise ValueError(f"The gradient of {path or 'the parameter'} has shape {np.shape(g)}, not {np.shape(p)}.")
        moved, self.state[path] = self._update_at(path, p, g, self.state.get(path, {}))
        return moved

    def _update_at(self, path: str, p: Any, g: Any, state: State) -> Updated:
        return self.update(p, g, state)


class SGD(Optimizer):
    """Against the gradient; with `momentum`, against a decaying sum of all gradients so far (the heavy ball).

    With `nesterov` the step looks ahead: the newest gradient counts once more, and the sum is damped once more.
    """

    def __init__(
        self,
        lr: Real = 1e-3,
        momentum: Real = 0.0,
        nesterov: bool = False,
        weight_decay: Real = 0.0,
    ) -> None:
        super().__init__(lr, weight_decay)
        self.momentum = _share("momentum", momentum)
        self.nesterov = nesterov
        if nesterov and not momentum:
            raise ValueError("Nesterov's step needs a momentum above 0.")

    def update(self, p: Any, g: Any, state: State) -> Updated:
        if self.weight_decay:
            g = g + self.weight_decay * p
        if not self.momentum:
            return p - self.lr * g, {}
        velocity = self.momentum * state["momentum_buffer"] + g if state else g
        direction = g + self.momentum * velocity if self.nesterov else velocity
        return p - self.lr * direction, {"momentum_buffer": velocity}


class RMSProp(Optimizer):
    """Each entry's gradient divided by the root of a running mean of its square."""

    def __init__(
        self,
        lr: Real = 1e-2,
        alpha: Real = 0.99,
        eps: Real = 1e-8,
        weight_decay: Real = 0.0,
        momentum: Real = 0.0,
    ) -> None:
        super().__init__(lr, weight_decay)
        self.alpha, self.eps = _share("alpha", alpha), _at_least_zero("eps", eps)
        self.momentum = _share("momentum", momentum)

    def update(self, p: Any, g: Any, state: State) -> Updated:
        if self.weight_decay:
            g = g + self.weight_decay * p
        square = self.alpha * state.get("square_avg", 0.0) + (1 - self.alpha) * (g * g)
        scaled = g / (square**0.5 + self.eps)
        if not self.momentum:
            return p - self.lr * scaled, {"square_avg": square}
        velocity = self.momentum * state.get("momentum_buffer", 0.0) + scaled
        return p - self.lr * velocity, {"square_avg": square, "momentum_buffer": velocity}


class Adam(Optimizer):
    """A running mean of the gradient, divided by the root of a running mean of its square.

    Both means start at 0 and are too small at first; `bias_correction` divides that out (1 − βᵗ). It is always on in
    PyTorch; switch it off to see what it is for. Weight decay is added to the gradient, and so is rescaled with it.
    """

    decoupled = False

    def __init__(
        self, lr: Real = 1e-3, betas: Sequence[Real] = (0.9, 0.999), eps: Real = 1e-8,
        weight_decay: Real = 0.0, bias_correction: bool = True,
    ) -> None:  # fmt: skip
        super().__init__(lr, weight_decay)
        self.betas = (_share("first beta", betas[0]), _share("second beta", betas[1]))
        self.eps, self.bias_correction = _at_least_zero("eps", eps), bias_correction

    def update(self, p: Any, g: Any, state: State) -> Updated:
        beta1, beta2 = self.betas
        if self.weight_decay and self.decoupled:
            p = p * (1 - self.lr * self.weight_decay)
        elif self.weight_decay:
            g = g + self.weight_decay * p
        mean = beta1 * state.get("exp_avg", 0.0) + (1 - beta1) * g
        square = beta2 * state.get("exp_avg_sq", 0.0) + (1 - beta2) * (g * g)
        part1, part2 = (1 - beta1**self.steps, 1 - beta2**self.steps) if self.bias_correction else (1.0, 1.0)
        scale = square**0.5 / part2**0.5 + self.eps
        return p - (self.lr / part1) * mean / scale, {"exp_avg": mean, "exp_avg_sq": square}


class AdamW(Adam):
    """Adam with decoupled weight decay: each step first shrinks the parameter itself by the factor 1 − lr · decay."""

    decoupled = True

    def __init__(
        self, lr: Real = 1e-3, betas: Sequence[Real] = (0.9, 0.999), eps: Real = 1e-8,
        weight_decay: Real = 1e-2, bias_correction: bool = True,
    ) -> None:  # fmt: skip
        super().__init__(lr, betas, eps, weight_decay, bias_correction)


class Lion(Optimizer):
    """Only the sign of a mix of momentum and gradient: every entry moves by lr. Weight decay is decoupled.

    Algorithm 2 and the defaults of arXiv:2302.06675 (PyTorch has no Lion). `betas`: the first mixes for this step, the
    second is how the momentum is remembered.
    """

    def __init__(self, lr: Real = 1e-4, betas: Sequence[Real] = (0.9, 0.99), weight_decay: Real = 0.0) -> None:
        super().__init__(lr, weight_decay)
        self.betas = (_share("first beta", betas[0]), _share("second beta", betas[1]))

    def update(self, p: Any, g: Any, state: State) -> Updated:
        beta1, beta2 = self.betas
        before = state.get("exp_avg", 0.0)
        sign = np.sign(beta1 * before + (1 - beta1) * g)
        decay = self.lr * self.weight_decay * p if self.weight_decay else 0.0
        return p - self.lr * sign - decay, {"exp_avg": beta2 * before + (1 - beta2) * g}


class Muon(Optimizer):
    """For matrices: the momentum, made orthogonal (all its singular values near 1), is the step. Decay is decoupled.

    As `torch.optim.Muon` with its defaults: the momentum is a running mean, and the step is scaled by
    √max(1, rows / columns), so that a matrix is to be laid out (out, in). PyTorch orthogonalises in bfloat16, here it
    is done in the gradient's own precision. Whatever is not a matrix, or has one of the names in `exclude` in its path
    (embeddings, the output head), goes to the optimizer `others`; without one that is a ValueError.
    """

    matrices = True

    def __init__(
        self, lr: Real = 1e-3, weight_decay: Real = 0.1, momentum: Real = 0.95, nesterov: bool = True,
        ns_steps: int = 5, eps: Real = 1e-7, others: Optimizer | None = None, exclude: Sequence[str] = (),
    ) -> None:  # fmt: skip
        super().__init__(lr, weight_decay)
        self.momentum, self.nesterov = _share("momentum", momentum), nesterov
        self.ns_steps, self.eps = ns_steps, _at_least_zero("eps", eps)
        self.others, self.exclude = others, frozenset(exclude)

    def step(self, params: Any, grads: Any) -> Any:
        if self.others is not None:
            self.others.lr, self.others.steps = float(self.others.lr), self.steps + 1
        return super().step(params, grads)

    def update(self, p: Any, g: Any, state: State) -> Updated:
        velocity = self.momentum * state.get("momentum_buffer", 0.0) + (1 - self.momentum) * g
        direction = self.momentum * velocity + (1 - self.momentum) * g if self.nesterov else velocity
        rows, columns = np.shape(p)
        scale = self.lr * math.sqrt(max(1.0, rows / columns))
        moved = p * (1 - self.lr * self.weight_decay) - scale * orthogonalise(direction, self.ns_steps, self.eps)
        return moved, {"momentum_buffer": velocity}

    def _update_at(self, path: str, p: Any, g: Any, state: State) -> Updated:
        if np.ndim(p) == 2 and self.exclude.isdisjoint(path.split(".")):
            return self.update(p, g, state)
        if self.others is None:
            raise ValueError(
                f"Muon moves matrices only, and {path or 'the parameter'} has shape {np.shape(p)}: give it another "
                "optimizer for the rest (others=)."
            )
        return self.others.update(p, g, state)


NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Keller Jordan's a, b, c: as steep at 0 as possible, at the price that values near 1 end between 0.7 and 1.2."""


def orthogonalise(x: Float[Array, "rows columns"], steps: int = 5, eps: Real = 1e-7) -> Float[Array, "rows columns"]:
    """Nearly U Vᵀ of x = U S Vᵀ without computing them: the Newton-Schulz iteration of Muon.

    x is divided by its length, so that no singular value is above 1; each step then sends every singular value s to
    a·s + b·s³ + c·s⁵. A single row or column has one singular value, exactly 1 after the division.
    """
    a, b, c = NEWTON_SCHULZ
    length = math.sqrt(np.vdot(x, x))
    x = x / max(length, eps)
    if min(x.shape) == 1:
        return x * _singular_value_after(steps, min(length / eps, 1.0) if eps else 1.0)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x.T if tall else x


def _singular_value_after(steps: int, s: float) -> float:
    """What the steps make of the one singular value s, divided by s."""
    a, b, c = NEWTON_SCHULZ
    factor = 1.0
    for _ in range(steps):
        square = (factor * s) ** 2
        factor = factor * (a + b * square + c * square * square)
    return factor


def singular_values(x: Float[Array, "rows columns"]) -> Float[Array, " n"]:
    """How far x stretches space in each of its own directions, largest first."""
    return np.linalg.svd(x, compute_uv=False)


# Learning rates over time --------------------------------------------------------------------------------------------

SCHEDULES = ("constant", "cosine", "linear", "wsd")


def schedule(
    name: str,
    step: int,
    *,
    peak: Real = 1.0,
    total: int = 1000,
    warmup: int = 0,
    floor: Real = 0.0,
    decay: int = 0,
) -> float:
    """The learning rate of step 0, 1, 2, …: a linear rise from 0 to `peak` over `warmup` steps, then by `name`

    - "constant": stays there;
    - "cosine": half a cosine down to `floor` · peak at step `total` (Loshchilov and Hutter, arXiv:1608.03983);
    - "linear": a straight line down to there;
    - "wsd": stays there, and falls in a straight line over the last `decay` steps (warm-up, stable, decay).

    The first three are as in Hugging Face's transformers. Raises ValueError for another name or negative steps.
    """
    if name not in SCHEDULES:
        raise ValueError(f"There is no schedule called {name}; there are {', '.join(SCHEDULES)}.")
    if min(step, total, warmup, decay) < 0:
        raise ValueError("Steps are counted from 0.")
    if step < warmup:
        return float(peak * step / warmup)
    start = max(warmup, total - decay) if name == "wsd" else warmup
    done = min(max(step - start, 0) / max(1, total - start), 1.0)
    falls: dict[str, Callable[[float], float]] = {
        "constant": lambda done: 1.0,
        "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
        "linear": lambda done: 1 - done,
        "wsd": lambda done: 1 - done,
    }
    left = falls[name](done)
    return float(peak * (left if name == "constant" else floor + (1 - floor) * left))


def _at_least_zero(name: str, value: Real) -> float:
    if not value >= 0:
        raise ValueError(f"The {name} must be 0 or more, not {value}.")
    return float(value)


def _share(name: str, value: Real) -> float:
    if not 0 <= value < 1:
        raise ValueError(f"The {name} must be at least 0 and below 1, not {value}.")
    return float(value)
