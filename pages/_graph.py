"""A computation graph, drawn: every step with its value and gradient, every use with its local derivative."""

from __future__ import annotations

from typing import Any

from engine.backpropagation import Edge, Graph, Node
from engine.formulas import number as plain
from ui.figures import Picture, network
from ui.figures.layers import layered
from ui.mathml import number

MOST_PARTS = 5
"""A sum of more parts than this is not written out."""


def drawn(graph: Graph) -> Picture:
    """A graph of single numbers as a network, inputs on the left and the result on the right."""
    place = layered(len(graph.nodes), [(edge.source, edge.target) for edge in graph.edges])
    nodes = [_node(graph, n) | {"column": place.columns[n.index], "row": place.rows[n.index]} for n in graph.nodes]
    edges = [_edge(graph, edge) | {"via": via} for edge, via in zip(graph.edges, place.bends, strict=True)]
    title = "Values in the circles, gradients (∂) below them, local derivatives (×) on the lines"
    return network(nodes, edges, title=title, gap=(150, 88))


def by_name(graph: Graph) -> str:
    """LaTeX: the gradient of the result by each name, as the sum of what came back along its lines."""
    inputs = [node for node in graph.nodes if not node.operation]
    return r",\quad ".join(rf"\grad{{\frac{{\partial f}}{{\partial {n.name}}}}} = {_sum(graph, n)}" for n in inputs)


def _sum(graph: Graph, node: Node) -> str:
    total, parts = rf"\grad{{{number(float(node.gradient))}}}", _passed(graph, node)
    if not 1 < len(parts) <= MOST_PARTS:
        return total
    return " + ".join(f"({number(part)})" if part < 0 else number(part) for part in parts) + f" = {total}"


def _passed(graph: Graph, node: Node) -> list[float]:
    return [float(edge.passed) for edge in graph.edges if edge.source == node.index]


def _node(graph: Graph, node: Node) -> dict[str, Any]:
    return {
        "id": node.index,
        "label": f"{node.name} = {node.operation}" if node.operation else node.name,
        "value": float(node.value),
        "grad": float(node.gradient),
        "tensor": "ffn" if node.operation else "resid",
        "state": "" if node.operation else "input",
        "key": f"node:{node.index}",
        "note": _node_note(graph, node),
    }


def _node_note(graph: Graph, node: Node) -> str:
    made = f"{node.name} = {plain(node.value)}"
    if node.operation:
        made = f"{node.name} = {node.operation} = {node.numbers} = {plain(node.value)}"
    parts = [plain(part) for part in _passed(graph, node)]
    if not parts:
        return f"{made}; it is the result, and its gradient by itself is 1"
    summed = " + ".join(f"({part})" if part.startswith("−") else part for part in parts)
    return f"{made}; gradient = {summed}" + (f" = {plain(node.gradient)}" if len(parts) > 1 else "")


def _edge(graph: Graph, edge: Edge) -> dict[str, Any]:
    local = float(edge.local) if edge.local is not None else float("nan")
    source, target = graph.nodes[edge.source], graph.nodes[edge.target]
    rule = f" = {edge.formula}" if edge.formula and edge.formula != plain(local) else ""
    note = (
        f"∂{target.name}/∂{source.name}{rule} = {plain(local)}; times the gradient of {target.name}, "
        f"{plain(target.gradient)}, it passes {plain(edge.passed)} back to {source.name}"
    )
    label = f"× {local + 0.0:.3g}".replace("-", "−")
    return {"from": edge.source, "to": edge.target, "value": local, "text": label, "note": note}
