"""What optimizers are called and coloured, and a step of each as formulas with the reader's numbers."""

from __future__ import annotations

from engine.optimizer_study import WrittenStep
from engine.optimizers import NEWTON_SCHULZ, SCHEDULES
from ui.mathml import bracketed, number, signed

TITLES = {
    "sgd": "SGD",
    "momentum": "momentum",
    "nesterov": "Nesterov",
    "rmsprop": "RMSProp",
    "adam": "Adam",
    "adamw": "AdamW",
    "lion": "Lion",
    "muon": "Muon",
}
COLOURS = {
    "sgd": "resid",
    "momentum": "q",
    "nesterov": "tokens",
    "rmsprop": "k",
    "adam": "v",
    "adamw": "attn",
    "lion": "ffn",
    "muon": "grad",
}
SURFACE_TITLES = {
    "bowl": "a bowl (condition 2)",
    "ravine": "a ravine (condition 100)",
    "turned": "the ravine, turned by 37°",
    "rosenbrock": "Rosenbrock's valley",
    "saddle": "a saddle",
    "noisy": "a line fitted to samples (noisy)",
}
SCHEDULE_TITLES = dict(
    zip(
        SCHEDULES,
        ("constant", "warm-up + cosine", "warm-up + linear decay", "warm-up, stable, decay"),
        strict=True,
    )
)
STATE_TITLES = {
    "momentum_buffer": "momentum",
    "square_avg": "mean square",
    "exp_avg": "mean",
    "exp_avg_sq": "mean square",
}


def listed(items: list[str]) -> str:
    """a, b and c."""
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]


class Lines:
    """The formulas of one step, for the first of the two parameters; Muon's for both, which are one row."""

    def __init__(self, step: WrittenStep, lr: float, beta1: float, beta2: float, weight_decay: float) -> None:
        self.step, self.lr, self.beta1, self.beta2, self.decay = step, lr, beta1, beta2, weight_decay
        self.x, self.slope, self.after = (float(v[0]) for v in (step.before, step.gradient, step.after))
        self.g = self.slope

    def old(self, name: str) -> float:
        return float(self.step.state_before[name][0])

    def new(self, name: str) -> float:
        return float(self.step.state_after[name][0])

    def written(self) -> tuple[list[str], str]:
        """How the state came about, line by line, and the update."""
        rule = {"nesterov": self.momentum, "adamw": self.adam}.get(self.step.name) or getattr(self, self.step.name)
        before = [] if self.step.name in ("adamw", "lion", "muon") or not self.decay else [self.added()]
        lines, update = rule()
        return before + lines, update

    def added(self) -> str:
        self.g = self.slope + self.decay * self.x
        return (
            r"\grad{g} = \frac{\partial L}{\partial x} + \lambda x = "
            rf"{number(self.slope)} + {number(self.decay)} \cdot {bracketed(self.x)} = {number(self.g)}"
        )

    def moved(self, what: str, length: str) -> str:
        return rf"x \leftarrow x - {what} = {number(self.x)} - {length} = {number(self.after)}"

    def sgd(self) -> tuple[list[str], str]:
        return [], self.moved(r"\eta\,\grad{g}", rf"{number(self.lr)} \cdot {bracketed(self.g)}")

    def momentum(self) -> tuple[list[str], str]:
        old, new, mu = self.old("momentum_buffer"), self.new("momentum_buffer"), number(self.beta1)
        lines = [rf"b \leftarrow \mu b + \grad{{g}} = {mu} \cdot {bracketed(old)} {signed(self.g)} = {number(new)}"]
        if self.step.number == 1:
            lines = [rf"b \leftarrow \grad{{g}} = {number(new)} \quad \text{{(the first step has no past)}}"]
        if self.step.name == "momentum":
            return lines, self.moved(r"\eta\,b", rf"{number(self.lr)} \cdot {bracketed(new)}")
        ahead = self.g + self.beta1 * new
        lines.append(rf"d = \grad{{g}} + \mu b = {number(self.g)} + {mu} \cdot {bracketed(new)} = {number(ahead)}")
        return lines, self.moved(r"\eta\,d", rf"{number(self.lr)} \cdot {bracketed(ahead)}")

    def mean(self, sign: str, name: str, beta: float, index: str, squared: bool) -> str:
        power, value = ("^2", rf"{bracketed(self.g)}^2") if squared else ("", bracketed(self.g))
        return (
            rf"{sign} \leftarrow \beta_{index} {sign} + (1 - \beta_{index})\,\grad{{g}}{power} = {number(beta)} \cdot "
            rf"{bracketed(self.old(name))} + {number(1 - beta)} \cdot {value} = {number(self.new(name))}"
        )

    def rmsprop(self) -> tuple[list[str], str]:
        square = self.new("square_avg")
        return [self.mean("v", "square_avg", self.beta2, "2", True)], self.moved(
            r"\eta\,\frac{\grad{g}}{\sqrt{v} + \varepsilon}",
            rf"{number(self.lr)} \cdot \frac{{{number(self.g)}}}{{{number(square**0.5)} + 10^{{-8}}}}",
        )

    def adam(self) -> tuple[list[str], str]:
        t, mean, square = self.step.number, self.new("exp_avg"), self.new("exp_avg_sq")
        part1, part2 = 1 - self.beta1**t, 1 - self.beta2**t
        lines = [self.mean("m", "exp_avg", self.beta1, "1", False), self.mean("v", "exp_avg_sq", self.beta2, "2", True)]
        lines.append(
            rf"\hat m = \frac{{m}}{{1 - \beta_1^{{{t}}}}} = \frac{{{number(mean)}}}{{{number(part1)}}} = "
            rf"{number(mean / part1)}, \quad \hat v = \frac{{v}}{{1 - \beta_2^{{{t}}}}} = "
            rf"\frac{{{number(square)}}}{{{number(part2)}}} = {number(square / part2)}"
        )
        ratio = rf"\frac{{{number(mean / part1)}}}{{{number((square / part2) ** 0.5)} + 10^{{-8}}}}"
        what, length = r"\eta\,\frac{\hat m}{\sqrt{\hat v} + \varepsilon}", rf"{number(self.lr)} \cdot {ratio}"
        if self.step.name == "adamw" and self.decay:
            shrunk = self.x * (1 - self.lr * self.decay)
            return lines, (
                rf"x \leftarrow (1 - \eta\lambda)\,x - {what} = {number(shrunk)} - {length} = {number(self.after)}"
            )
        return lines, self.moved(what, length)

    def lion(self) -> tuple[list[str], str]:
        old = self.old("exp_avg")
        mixed = self.beta1 * old + (1 - self.beta1) * self.g
        lines = [
            rf"c = \beta_1 m + (1 - \beta_1)\,\grad{{g}} = {number(self.beta1)} \cdot {bracketed(old)} + "
            rf"{number(1 - self.beta1)} \cdot {bracketed(self.g)} = {number(mixed)}",
            self.mean("m", "exp_avg", self.beta2, "2", False),
        ]
        sign = "0" if mixed == 0 else "1" if mixed > 0 else "(-1)"
        decay = rf" - {number(self.lr * self.decay * self.x)}" if self.decay else ""
        what = r"\eta\,\mathrm{sign}(c)" + (r" - \eta\lambda x" if self.decay else "")
        return lines, self.moved(what, rf"{number(self.lr)} \cdot {sign}{decay}")

    def muon(self) -> tuple[list[str], str]:
        mu, step = self.beta1, self.step
        old, new, g = step.state_before["momentum_buffer"], step.state_after["momentum_buffer"], step.gradient
        ahead = mu * new + (1 - mu) * g
        turned = (step.before * (1 - self.lr * self.decay) - step.after) / self.lr if self.lr else 0 * ahead
        a, b, c = NEWTON_SCHULZ

        def pair(values: object) -> str:
            return r"\left(" + r",\ ".join(number(float(v)) for v in values) + r"\right)"  # type: ignore[attr-defined]

        lines = [
            rf"b \leftarrow \mu b + (1 - \mu)\,\grad{{g}} = {number(mu)}\,{pair(old)} + {number(1 - mu)}\,{pair(g)} = "
            rf"{pair(new)}",
            rf"d = \mu b + (1 - \mu)\,\grad{{g}} = {pair(ahead)}",
            rf"O = \mathrm{{NS}}_5(d) = {pair(turned)} \quad \text{{five times }} "
            rf"s \leftarrow {a} s {signed(b)} s^3 + {c} s^5",
        ]
        shrink = rf"(1 - \eta\lambda)\,{pair(step.before)}" if self.decay else pair(step.before)
        return lines, rf"x \leftarrow {shrink} - {number(self.lr)} \cdot {pair(turned)} = {pair(step.after)}"
