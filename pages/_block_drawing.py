"""The drawing of a block: where each part of a model stands, and which wires run between them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.anatomy import Part
from engine.ledger import Config
from ui.figures import Picture, diagram

WIDTH = 340
STREAM, MIDDLE, WIDE = 36, 206, 244  # the residual line; the middle and the width of the boxes beside it

LABELS = {
    "token embedding": "Token embedding", "position embedding": "+ learned position", "attention norm": "norm",
    "query": "Q", "key": "K", "value": "V", "rope": "RoPE: turn by position", "attention": "attention",
    "attention output": "output projection", "attention post-norm": "norm once more", "attention sum": "+",
    "feed-forward norm": "norm", "router": "router", "gate": "gate", "up": "up", "activation": "activation",
    "down": "down", "feed-forward post-norm": "norm once more", "feed-forward sum": "+", "final norm": "last norm",
    "output layer": "output layer",
}  # fmt: skip
NAMES = tuple(LABELS)
"""Every part that any of the models has; the place in this list is what a link says."""
TENSORS = {
    "token embedding": "tokens", "position embedding": "tokens", "query": "q", "key": "k", "value": "v", "rope": "attn",
    "attention": "attn", "attention output": "attn", "router": "ffn", "gate": "ffn", "up": "ffn", "activation": "ffn",
    "down": "ffn", "output layer": "logits",
}  # fmt: skip


def shape(dimensions: tuple[int, ...]) -> str:
    """(9, 5, 64) -> "9×5×64"."""
    return "×".join(map(str, dimensions))


def short(count: int) -> str:
    """A count that fits into a small box: 884,736 or 58.7 M."""
    return f"{count:,}" if count < 1e6 else f"{count / 1e6:.4g} M" if count < 1e9 else f"{count / 1e9:.4g} B"


class _Pen:
    """Boxes and wires as they are drawn from top to bottom; `y` is where the next one starts."""

    def __init__(self, parts: Mapping[str, Part], roles: Mapping[str, str], picked: str) -> None:
        self.parts, self.roles, self.picked = parts, roles, picked
        self.boxes: list[dict[str, Any]] = []
        self.wires: list[dict[str, Any]] = []
        self.y = 6.0

    def box(self, name: str, x: float, w: float, h: float = 36, **more: Any) -> None:
        part = self.parts[name]
        sub = short(part.parameters) if part.parameters else ""
        self.boxes.append({
            "id": name, "label": LABELS[name], "sub": sub, "x": x, "y": self.y + h / 2, "w": w, "h": h,
            "tensor": TENSORS.get(name, "resid"), "key": name, "pick": NAMES.index(name), "note": self.roles[name],
            **({"picked": True} if name == self.picked else {}), **more,
        })  # fmt: skip

    def wire(self, *points: tuple[float, float], text: str = "", at: tuple[float, float] = (0, 0), **more: Any) -> None:
        self.wires.append({"points": [list(p) for p in points], "text": text, "at": list(at), **more})

    def down(self, gap: float = 24, x: float = MIDDLE, text: str = "", tensor: str = "resid") -> None:
        """An arrow from what was drawn last, and its shape beside it."""
        self.wire(
            (x, self.y), (x, self.y + gap), text=text, at=(x + 8, self.y + gap / 2 + 4), anchor="start", tensor=tensor
        )
        self.y += gap

    def full(self, name: str, gap: float, text: str = "", tensor: str = "", **more: Any) -> None:
        """A box of full width, and the arrow that leaves it."""
        self.box(name, **{"x": MIDDLE, "w": WIDE, **more})
        self.y += 36
        if gap:
            self.down(gap, text=text, tensor=tensor or TENSORS.get(name, "resid"))

    def branch(self, text: str) -> None:
        """The stream is read: a copy of it leaves the line."""
        self.y += 18
        self.wire((STREAM, self.y), (MIDDLE, self.y), (MIDDLE, self.y + 18), text=text, at=(MIDDLE - 70, self.y - 5))
        self.y += 18

    def add(self, name: str, text: str) -> None:
        """What was found is added to the line."""
        turn = self.y + 18
        self.wire((MIDDLE, self.y), (MIDDLE, turn), (STREAM + 13, turn), text=text, at=(MIDDLE - 70, turn - 5))
        self.y = turn - 12
        self.box(name, STREAM, 24, 24, form="plus")
        self.y += 24


def drawing(config: Config, parts: Mapping[str, Part], roles: Mapping[str, str], picked: str, title: str) -> Picture:
    """The whole model as a picture: one block in a frame, and what stands before and after all of them."""
    pen = _Pen(parts, roles, picked)
    stream = shape(parts["attention sum"].outs[0][1])
    pen.box("token embedding", WIDTH / 2, WIDTH - 24)
    pen.y += 36
    if "position embedding" in parts:
        pen.y += 8
        pen.box("position embedding", WIDTH / 2, WIDTH - 24)
        pen.y += 36
    start = pen.y
    pen.y += 22
    top = pen.y
    pen.y += 10
    _attention(pen, config, stream)
    _feed_forward(pen, config, stream)
    pen.y += 12
    frame = {"x": 6, "y": top, "w": WIDTH - 12, "h": pen.y - top, "label": f"one block, {config.layers} times"}
    pen.y += 22
    pen.wires.insert(
        0, {"points": [[STREAM, start], [STREAM, pen.y]], "form": "stream", "tensor": "resid", "at": [0, 0]}
    )
    pen.box("final norm", WIDTH / 2, WIDTH - 24)
    pen.y += 36
    pen.down(20, x=WIDTH / 2)
    pen.box(
        "output layer",
        WIDTH / 2,
        WIDTH - 24,
        sub=short(parts["output layer"].parameters)
        if parts["output layer"].parameters
        else "the embedding table again",
    )
    pen.y += 42
    return diagram(pen.boxes, pen.wires, title=title, size=(WIDTH, round(pen.y)), frames=[frame], pick="part")


def _attention(pen: _Pen, config: Config, stream: str) -> None:
    parts = pen.parts
    pen.branch(stream)
    pen.full("attention norm", 0)
    columns = {"query": MIDDLE - 84, "key": MIDDLE, "value": MIDDLE + 84}
    for x in columns.values():
        pen.wire((x, pen.y), (x, pen.y + 18))
    pen.y += 18
    for name, x in columns.items():
        pen.box(name, x, 76)
    pen.y += 36
    below = pen.y
    for place, (name, x) in enumerate(columns.items()):
        turned = "rope" in parts and name != "value"
        high = 40 if turned else 40 + (28 + 22 if "rope" in parts else 0)
        y = below + 15 + (11 if place % 2 else 0)
        pen.wire((x, below), (x, below + high), text=shape(parts[name].outs[0][1]), at=(x, y), tensor=TENSORS[name])
    pen.y += 40
    if "rope" in parts:
        pen.box("rope", MIDDLE - 42, 160, 28)
        pen.y += 28
        for name in ("query", "key"):
            pen.wire((columns[name], pen.y), (columns[name], pen.y + 22), tensor=TENSORS[name])
        pen.y += 22
    pen.full("attention", 24, shape(parts["attention"].outs[0][1]))
    last = "attention post-norm" in parts
    pen.full("attention output", 20 if last else 0, "", "attn")
    if last:
        pen.full("attention post-norm", 0)
    pen.add("attention sum", stream)


def _feed_forward(pen: _Pen, config: Config, stream: str) -> None:
    parts = pen.parts
    pile: dict[str, Any] = {"form": "pile"} if config.experts > 1 else {}
    room = 8 if pile else 0  # for the experts behind the first
    hidden, chosen = shape(parts["up"].outs[0][1]), f"best {config.top_k} of {config.experts}"
    pen.branch(stream)
    pen.full("feed-forward norm", 20 if "router" in parts else 0)
    if "router" in parts:
        pen.full("router", 0)
    if "gate" in parts:
        columns = {"gate": MIDDLE - 63, "up": MIDDLE + 63 - room}
        start, pen.y = pen.y, pen.y + (26 if pile else 20)
        for x in columns.values():
            pen.wire((x, start), (x, pen.y), tensor="ffn" if pile else "resid")
        if pile:
            pen.wires[-1] |= {"text": chosen, "at": [MIDDLE - 4, start + 15]}
        pen.y += room
        for name, x in columns.items():
            pen.box(name, x, 116 - room, **pile)
        pen.y += 36
        for x in columns.values():
            pen.wire((x, pen.y), (x, pen.y + 26), tensor="ffn")
        pen.wires[-1] |= {"text": hidden, "at": [MIDDLE - room / 2, pen.y + 16]}
        pen.y += 26
    else:
        pen.down(20)
        pen.full("up", 26, hidden)
    word = {"silu": "SiLU", "gelu": "GELU"}[config.activation]
    pen.full("activation", 24, hidden, label=f"{word}(gate) · up" if config.gated else word)
    pen.y += room
    last = "feed-forward post-norm" in parts
    pen.full("down", 20 if last else 0, "", "ffn", w=WIDE - room, x=MIDDLE - room / 2, **pile)
    if last:
        pen.full("feed-forward post-norm", 0)
    pen.add("feed-forward sum", stream)
