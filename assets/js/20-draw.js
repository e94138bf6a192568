// Painters that draw lines: curves, arcs between tokens, networks; and Plotly where a reader explores.
(function () {
  "use strict";
  const G = window.glassbox;
  const { el, svg, titled, body } = G;

  const SERIES = ["q", "k", "v", "grad", "attn", "ffn", "logits", "tokens"];

  // ---- curve --------------------------------------------------------------------------------------------------------

  G.painters.curve = function (node, p) {
    const { root, box, width, height } = canvas(node, p, 0.55);
    const all = (axis) => p.series.flatMap((s) => s[axis]).filter((v) => typeof v === "number");
    const y = scale(all("y").concat(p.marker ? [p.marker[1]] : []), height - box.bottom, box.top, p.log_y);
    box.left = Math.max(box.left, 27 + 7 * Math.max(0, ...y.ticks.map((t) => short(t).length))); // the axis' name stands beside its longest number
    const x = scale(all("x").concat(p.marker ? [p.marker[0]] : []), box.left, width - box.right, p.log_x);
    axes(root, p, x, y, box, width, height);
    p.series.forEach((s, k) => {
      const tensor = (p.tensors || [])[k] || SERIES[k % SERIES.length];
      const at = s.x.map((v, i) => [x.at(v), y.at(s.y[i])]).filter((q) => isFinite(q[0]) && isFinite(q[1]));
      const alone = (p.dots || []).includes(k);
      if (at.length > 1 && !alone) root.append(svg("polyline", { points: at.map((q) => q.map((v) => v.toFixed(1)).join(",")).join(" "), class: "series t-" + tensor, "stroke-dasharray": k % 2 && !p.family ? "7 3" : null, style: p.family ? "stroke-width:1.3" : null }));
      if (p.points || alone || at.length === 1) at.forEach((q) => root.append(svg("circle", { cx: q[0], cy: q[1], r: 3.5, class: "dot t-" + tensor })));
    });
    if (p.marker && isFinite(y.at(p.marker[1]))) root.append(svg("circle", { cx: x.at(p.marker[0]), cy: y.at(p.marker[1]), r: 6, class: "marker" }));
    const names = p.series.length > 1 && !p.family ? el("div", { class: "legend" }, ...p.series.map((s, k) => el("span", { class: "t-" + ((p.tensors || [])[k] || SERIES[k % SERIES.length]) }, ((p.dots || []).includes(k) ? "● " : k % 2 ? "╌ " : "─ ") + s.name))) : "";
    body(node).replaceChildren(root, names);
  };

  function scale(values, from, to, log) {
    const usable = values.filter((v) => isFinite(v) && (!log || v > 0));
    let low = Math.min(...usable), high = Math.max(...usable);
    if (!usable.length) [low, high] = log ? [1, 10] : [0, 1];
    // What differs only by rounding is one value: steps that small would never reach the end.
    if (high - low <= 1e-9 * Math.max(Math.abs(low), Math.abs(high))) [low, high] = log ? [low / 2, high * 2] : [low - 0.5, high + 0.5];
    if (log) {
      const a = Math.log10(low), b = Math.log10(high), ticks = [], room = to > from ? 46 : 17; // pixels that a label needs
      const every = Math.max(1, Math.ceil(room / (Math.abs(to - from) / (b - a || 1))));
      for (let e = Math.floor(a); e <= Math.ceil(b); e++) {
        if (e % every) continue;
        [1, ...(b - a < 2 && 0.3 * Math.abs(to - from) > (room / 1.5) * (b - a) ? [2, 5] : [])].forEach((m) => { const t = m * 10 ** e; if (t >= low * 0.999 && t <= high * 1.001) ticks.push(t); });
      }
      return { ticks, at: (v) => from + ((Math.log10(v) - a) / (b - a)) * (to - from) };
    }
    const pad = (high - low) * 0.04;
    low -= pad; high += pad;
    const raw = (high - low) / 5, power = 10 ** Math.floor(Math.log10(raw)), step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw), ticks = [];
    for (let t = Math.ceil(low / step) * step; t <= high + step / 1e6; t += step) ticks.push(Math.abs(t) < step / 1e6 ? 0 : t);
    return { ticks, at: (v) => from + ((v - low) / (high - low)) * (to - from) };
  }

  const short = (v) => (typeof v !== "number" ? G.number(v) : Math.abs(v) >= 1e6 || (v !== 0 && Math.abs(v) < 0.001) ? v.toExponential(0).replace("e+", "e") : Math.abs(v) >= 1e4 ? Math.round(v).toLocaleString("en-US") : String(+v.toPrecision(4))).replace("-", "−");
  const line = (x1, y1, x2, y2, kind) => svg("line", { x1, y1, x2, y2, class: kind });
  const text = (x, y, words, anchor, kind) => svg("text", { x, y, "text-anchor": anchor, class: kind || "tick" }, words);

  G.drawing = { scale, axes };

  // ---- histogram ----------------------------------------------------------------------------------------------------

  G.painters.histogram = function (node, p) {
    const { root, box, width, height } = canvas(node, p, 0.45);
    const x = scale(p.edges.concat(p.marker === undefined ? [] : [p.marker]), box.left, width - box.right);
    const y = scale([0, ...p.values], height - box.bottom, box.top);
    axes(root, p, x, y, box, width, height);
    const ground = y.at(0), ranges = p.shade && (Array.isArray(p.shade[0]) ? p.shade : [p.shade]);
    p.values.forEach((count, i) => {
      const from = x.at(p.edges[i]), to = x.at(p.edges[i + 1]), top = y.at(count), middle = (p.edges[i] + p.edges[i + 1]) / 2;
      if (![from, to, top].every(isFinite)) return;
      const chosen = !ranges || ranges.some(([low, high]) => middle >= low && middle <= high);
      root.append(svg("rect", { x: from, y: top, width: Math.max(0.5, to - from - 0.6), height: Math.max(0, ground - top), class: "upright" + (chosen ? "" : " faint") }, svg("title", {}, `${short(p.edges[i])} to ${short(p.edges[i + 1])}: ${G.number(count)}`)));
    });
    if (typeof p.marker === "number") root.append(line(x.at(p.marker), box.top, x.at(p.marker), ground, "marker-line"));
    body(node).replaceChildren(root);
  };

  // A drawing as wide as there is room, with margins for its axes.
  function canvas(node, p, shape, least) {
    titled(node, p);
    node._drawnAt = body(node).clientWidth;
    const width = Math.max(280, Math.min(900, node._drawnAt || 640)), height = Math.round(Math.min(least || 340, width * shape));
    const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": p.title, class: "curve" });
    return { root, width, height, box: { left: 58, right: 14, top: 12, bottom: 42, width, height } };
  }

  function axes(root, p, x, y, box, width, height) {
    x.ticks.forEach((t) => {
      const words = short(t), cut = x.at(t) + words.length * 3.5 > width; // half of the words' width: the last may not fit
      root.append(line(x.at(t), box.top, x.at(t), height - box.bottom, "rule"), text(cut ? width : x.at(t), height - box.bottom + 16, words, cut ? "end" : "middle"));
    });
    y.ticks.forEach((t) => root.append(line(box.left, y.at(t), width - box.right, y.at(t), "rule"), text(box.left - 7, y.at(t) + 4, short(t), "end")));
    root.append(text((box.left + width - box.right) / 2, height - 6, p.x_label || "", "middle", "axis"));
    const side = text(0, 0, p.y_label || "", "middle", "axis");
    side.setAttribute("transform", `translate(13 ${(box.top + height - box.bottom) / 2}) rotate(-90)`);
    root.append(side);
  }

  // ---- plane: points and arrows in two dimensions ---------------------------------------------------------------------

  G.painters.plane = function (node, p, lab) {
    const { root, box, width, height } = canvas(node, p, 0.75, 460);
    const all = (one, two, three) => [...p.points.map((q) => q[one]), ...p.arrows.flatMap((a) => [a[two], a[three]])];
    const ends = p.limit ? [-p.limit, p.limit] : null, round = p.circle ? [-p.circle, p.circle] : [];
    const spans = [ends || [...all("x", "x0", "x1"), ...round], ends || [...all("y", "y0", "y1"), ...round]].map((v) => v.filter((n) => typeof n === "number"));
    const room = [width - box.right - box.left, height - box.bottom - box.top];
    const [x, y] = p.equal ? evenly(spans, room, box, width, height) : [scale(spans[0], box.left, width - box.right), scale(spans[1], height - box.bottom, box.top)];
    axes(root, p, x, y, box, width, height);
    [[x.at(0), box.top, x.at(0), height - box.bottom], [box.left, y.at(0), width - box.right, y.at(0)]].forEach((l, i) => {
      const at = i ? l[1] : l[0];
      if (at >= (i ? box.top : box.left) && at <= (i ? height - box.bottom : width - box.right)) root.append(line(...l, "zero"));
    });
    if (p.circle) root.append(svg("ellipse", { cx: x.at(0), cy: y.at(0), rx: Math.abs(x.at(p.circle) - x.at(0)), ry: Math.abs(y.at(p.circle) - y.at(0)), class: "ring" }));
    const labels = [];
    p.arrows.forEach((a) => {
      const [x0, y0, x1, y1] = [x.at(a.x0), y.at(a.y0), x.at(a.x1), y.at(a.y1)];
      if (![x0, y0, x1, y1].every(isFinite)) return;
      root.append(svg("g", { class: "vector t-" + (a.tensor || "resid"), "data-key": a.key || null }, svg("path", { d: arrow(x0, y0, x1, y1), class: "shaft" + (a.dashed ? " dashed" : "") })));
      if (a.label) labels.push({ x: x1, y: y1, from: [x0, y0], words: a.label, tensor: a.tensor });
    });
    node._points = p.points.map((q, i) => {
      const at = [x.at(q.x), y.at(q.y)].map((v) => (isFinite(v) ? v : -99));
      const group = svg("g", { class: "spot t-" + (q.tensor || "resid") + (p.picked === i ? " picked" : ""), "data-key": q.key || null, tabindex: p.pick ? 0 : null, role: p.pick ? "button" : null, "aria-label": p.pick ? q.label || "point " + (i + 1) : null, "data-pick": p.pick ? i : null }, svg("circle", { cx: at[0], cy: at[1], r: 4.5, class: "dot" }), q.note ? svg("title", {}, q.note) : "");
      root.append(group);
      if (q.label) labels.push({ x: at[0], y: at[1], words: q.label, tensor: q.tensor });
      return group;
    });
    placeWords(root, labels, p.points.map((q) => [x.at(q.x), y.at(q.y)]), width, height);
    const focused = node.contains(document.activeElement) && document.activeElement.dataset.pick;
    body(node).replaceChildren(root);
    if (focused) node._points[+focused]?.focus();
    const choose = (event) => { const at = event.target.closest("[data-pick]"), now = node._picture; if (at && now.pick) G.set(node._lab.id, { [now.pick]: +at.dataset.pick }); };
    G.listen(node, { click: choose, keydown: (event) => { if (event.key === "Enter" || event.key === " ") { choose(event); event.preventDefault(); } } });
  };

  // Both axes with one unit: the tighter one decides, the other shows more around its middle.
  function evenly(spans, room, box, width, height) {
    const middle = spans.map((v) => (v.length ? (Math.min(...v) + Math.max(...v)) / 2 : 0));
    const half = spans.map((v) => (v.length ? (Math.max(...v) - Math.min(...v)) / 2 : 1) || 1);
    const unit = Math.min(room[0] / half[0], room[1] / half[1]);
    const [low, high] = [0, 1].map((i) => room[i] / unit).reduce((all, h, i) => [[...all[0], middle[i] - h], [...all[1], middle[i] + h]], [[], []]);
    return [scale([low[0], high[0]], box.left, width - box.right), scale([low[1], high[1]], height - box.bottom, box.top)];
  }

  function arrow(x0, y0, x1, y1) {
    const long = Math.hypot(x1 - x0, y1 - y0);
    if (long < 1) return `M${x0} ${y0}`;
    const head = Math.min(10, long * 0.4), [ux, uy] = [(x1 - x0) / long, (y1 - y0) / long], [bx, by] = [x1 - head * ux, y1 - head * uy], wide = head * 0.45;
    return `M${x0} ${y0} L${x1} ${y1} M${bx - wide * uy} ${by + wide * ux} L${x1} ${y1} L${bx + wide * uy} ${by - wide * ux}`.replace(/-?\d+\.\d+/g, (v) => (+v).toFixed(1));
  }

  // Each label on the side of its point where it covers the least of what is there already.
  function placeWords(root, labels, points, width, height) {
    const taken = points.map(([x, y]) => [x - 6, y - 6, x + 6, y + 6]);
    const cover = (a, b) => Math.max(0, Math.min(a[2], b[2]) - Math.max(a[0], b[0])) * Math.max(0, Math.min(a[3], b[3]) - Math.max(a[1], b[1]));
    for (const item of labels) {
      const wide = 7 * item.words.length + 4, away = item.from && Math.hypot(item.x - item.from[0], item.y - item.from[1]) > 1 ? [item.x - item.from[0], item.y - item.from[1]] : null;
      const sides = [["start", 8, 4], ["end", -8, 4], ["middle", 0, -9], ["middle", 0, 18], ["start", 7, -8], ["end", -7, -8], ["start", 7, 16], ["end", -7, 16]];
      let best = null;
      sides.forEach(([anchor, dx, dy], order) => {
        const left = item.x + dx - (anchor === "end" ? wide : anchor === "middle" ? wide / 2 : 0), b = [left, item.y + dy - 11, left + wide, item.y + dy + 3];
        const out = Math.max(0, -b[0]) + Math.max(0, b[2] - width) + Math.max(0, -b[1]) + Math.max(0, b[3] - height + 40);
        const back = away && dx * away[0] + dy * away[1] < 0 ? 60 : 0;
        const cost = taken.reduce((sum, t) => sum + cover(b, t), 0) + 40 * out + back + order;
        if (!best || cost < best.cost) best = { cost, anchor, dx, dy, b };
      });
      taken.push(best.b);
      root.append(svg("text", { x: item.x + best.dx, y: item.y + best.dy, "text-anchor": best.anchor, class: "word t-" + (item.tensor || "resid") }, item.words));
    }
  }

  // ---- arcs: where one token looks -----------------------------------------------------------------------------------

  G.painters.arcs = function (node, p) {
    titled(node, p);
    const shape = JSON.stringify([p.labels, p.pick]);
    if (node._shape !== shape) {
      node._shape = shape;
      const chips = p.labels.map((name, i) => el(p.pick ? "button" : "span", { class: "chip", type: p.pick ? "button" : null, "data-pick": i, "data-key": "token:" + i }, G.visible(name), el("span", { class: "arc-share" })));
      const overlay = svg("svg", { class: "arc-lines", "aria-hidden": "true" });
      body(node).replaceChildren(el("div", p.pick ? { class: "scroll" } : { class: "scroll", tabindex: 0, role: "region", "aria-label": p.title }, el("div", { class: "arc-row" }, overlay, ...chips)));
      G.listen(node, {
        click(event) {
          const at = event.target.closest("[data-pick]"), now = node._picture;
          if (at && now.pick) G.set(node._lab.id, { [now.pick]: +at.dataset.pick });
        },
      });
    }
    drawArcs(node, p);
  };

  function drawArcs(node, p) {
    const row = node.querySelector(".arc-row"), overlay = row.firstChild, chips = [...row.children].slice(1);
    const shares = chips.map((_, i) => (typeof p.weights[i] === "number" ? p.weights[i] : 0));
    chips.forEach((chip, i) => { chip.lastChild.textContent = shares[i] ? G.percent(shares[i]) : ""; });
    // Measured with the numbers in place: they make a chip wider.
    const high = 110, middles = chips.map((c) => c.offsetLeft + c.offsetWidth / 2);
    overlay.setAttribute("width", row.scrollWidth);
    overlay.setAttribute("height", high);
    overlay.replaceChildren();
    const room = row.parentNode;
    if (row.scrollWidth > room.clientWidth) room.scrollLeft = middles[p.selected] - 0.7 * room.clientWidth;
    const from = middles[p.selected], far = Math.max(1, ...middles.map((m) => Math.abs(m - from)));
    chips.forEach((chip, i) => {
      const share = shares[i];
      chip.classList.toggle("picked", i === p.selected);
      if (p.pick) chip.setAttribute("aria-pressed", i === p.selected);
      if (share < 0.004) return;
      const to = middles[i], lift = i === p.selected ? 26 : 30 + 70 * (Math.abs(to - from) / far), base = high - 2;
      const d = i === p.selected ? `M${from - 9} ${base} C${from - 24} ${base - lift * 1.4} ${from + 24} ${base - lift * 1.4} ${from + 9} ${base}` : `M${from} ${base} C${from} ${base - lift} ${to} ${base - lift} ${to} ${base}`;
      overlay.append(svg("path", { d, class: "arc", "stroke-width": (1 + 9 * share).toFixed(2), opacity: (0.25 + 0.75 * share).toFixed(2) }));
    });
  }

  // ---- network --------------------------------------------------------------------------------------------------------

  const PILL = 30; // half the width of a node

  G.painters.network = function (node, p) {
    titled(node, p);
    node._drawnAt = body(node).clientWidth;
    const last = Math.max(...p.nodes.map((n) => n.column)), rows = Math.max(...p.nodes.map((n) => n.row)) + 1;
    const [leastX, gapY] = p.gap || [118, 76], margin = 62, room = Math.max(320, node._drawnAt || 640) - 8 - 2 * margin;
    const gapX = Math.max(leastX, Math.min(leastX * 1.6, room / Math.max(1, last))), top = p.columns ? 34 : 12;
    const width = Math.ceil(2 * margin + last * gapX), height = Math.ceil(top + rows * gapY);
    const at = (column, row) => [margin + column * gapX, top + (row + 0.5) * gapY];
    const shape = JSON.stringify([p.nodes.map((n) => [n.id, n.column, n.row, n.label]), p.edges.map((e) => [e.from, e.to, e.via]), width, height]);
    if (node._shape !== shape) {
      node._shape = shape;
      buildNetwork(node, p, at, width, height);
    }
    const most = Math.max(1e-9, ...p.edges.map((e) => Math.abs(e.value || 0)));
    p.edges.forEach((e, k) => {
      const { wire, hit, words } = node._edges[k], value = e.value;
      if (e.key) wire.dataset.key = hit.dataset.key = e.key;
      wire.style.strokeWidth = value === undefined ? 1.2 : 0.8 + 4 * Math.min(1, Math.abs(value) / most);
      wire.setAttribute("class", "edge" + (value < 0 ? " negative" : value > 0 ? " positive" : "") + (e.active === false ? " off" : ""));
      const shown = e.text !== undefined ? e.text : p.edge_values && value !== undefined ? brief(value) : "";
      const grad = p.edge_values && e.grad !== undefined ? " ∂ " + brief(e.grad) : "";
      if (words._shown === shown + grad) return;
      words._shown = shown + grad;
      words.replaceChildren(shown, svg("tspan", { class: "edge-grad" }, grad));
    });
    placeLabels(node, gapX);
    p.nodes.forEach((n, k) => {
      const o = node._nodes[k];
      o.value.textContent = n.value === undefined ? "" : G.number(n.value);
      o.grad.textContent = n.grad === undefined ? "" : "∂ " + G.number(n.grad);
      o.group.setAttribute("class", "node t-" + (n.tensor || "resid") + (p.picked === k ? " picked" : "") + (n.state ? " " + n.state : ""));
      o.group.setAttribute("aria-label", n.note || n.label + (n.value === undefined ? "" : " " + G.number(n.value)));
      if (n.key) o.group.dataset.key = n.key;
    });
  };

  const brief = (v) => (typeof v !== "number" ? G.number(v) : v !== 0 && (Math.abs(v) < 1e-4 || Math.abs(v) >= 1e4) ? v.toExponential(0).replace("e+", "e") : String(+v.toPrecision(2))).replace(/-/g, "−");

  function buildNetwork(node, p, at, width, height) {
    const index = Object.fromEntries(p.nodes.map((n, k) => [n.id, k]));
    const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, class: "network", role: "group", "aria-label": p.title + ". Up and down arrow keys move between the nodes, left and right between the connections of one." });
    const wires = svg("g"), names = svg("g"), bodies = svg("g");
    (p.columns || []).forEach((name, c) => root.append(text(at(c, 0)[0], 16, name, "middle", "axis")));
    node._edges = p.edges.map((e) => {
      const ends = [p.nodes[index[e.from]], p.nodes[index[e.to]]].map((n) => at(n.column, n.row));
      const points = [[ends[0][0] + PILL, ends[0][1]], ...(e.via || []).map(([c, r]) => at(c, r)), [ends[1][0] - PILL, ends[1][1]]];
      const d = route(points), wire = svg("path", { d, class: "edge" }), hit = svg("path", { d, class: "edge-hit" });
      const words = svg("text", { class: "edge-label", "text-anchor": "middle" });
      wires.append(wire, hit);
      names.append(words);
      return { wire, hit, words, ends: [index[e.from], index[e.to]], length: wire.getTotalLength() };
    });
    node._nodes = p.nodes.map((n, k) => {
      const [x, y] = at(n.column, n.row), group = svg("g", { class: "node", tabindex: k ? -1 : 0, role: p.pick ? "button" : "img", transform: `translate(${x} ${y})` });
      const label = svg("text", { class: "node-label", y: -23, "text-anchor": "middle" }, n.label), value = svg("text", { class: "node-value", y: 5, "text-anchor": "middle" });
      const grad = svg("text", { class: "node-grad", y: 31, "text-anchor": "middle" });
      group.append(svg("rect", { x: -PILL, y: -16, width: 2 * PILL, height: 32, rx: 16, class: "node-body" }), label, value, grad);
      bodies.append(group);
      return { group, value, grad, x, y };
    });
    node._bucket = null;
    root.append(wires, names, bodies);
    body(node).replaceChildren(el("div", { class: "scroll" }, root));
    listenNetwork(node);
  }

  // Straight from node to node; through its bends as a smooth line.
  function route(points) {
    const [first, ...rest] = points.map((q) => q.map((v) => +v.toFixed(1)));
    if (rest.length === 1) return `M${first} L${rest[0]}`;
    let from = first;
    return `M${first}` + rest.map((to) => { const middle = (from[0] + to[0]) / 2, part = ` C${middle} ${from[1]} ${middle} ${to[1]} ${to}`; from = to; return part; }).join("");
  }

  // Where along its line each label stands: wherever it covers the least of nodes and other labels.
  function placeLabels(node, gapX) {
    const edges = node._edges.filter((o) => o.words.textContent), longest = Math.max(0, ...edges.map((o) => o.words.textContent.length));
    const bucket = [edges.length, Math.ceil(longest / 3), gapX].join();
    if (node._bucket === bucket) return;
    node._bucket = bucket;
    const high = 13, solid = node._nodes.flatMap((o) => [[o.x - PILL - 4, o.y - 19, o.x + PILL + 4, o.y + 19], [o.x - 34, o.y - 36, o.x + 34, o.y - 19], [o.x - 34, o.y + 19, o.x + 34, o.y + 36]]);
    const cover = (a, b) => Math.max(0, Math.min(a[2], b[2]) - Math.max(a[0], b[0])) * Math.max(0, Math.min(a[3], b[3]) - Math.max(a[1], b[1]));
    edges.forEach((o) => { o.box = null; });
    for (let round = 0; round < 3; round++) edges.forEach((o) => {
      const wide = 6.7 * o.words.textContent.length + 6, others = edges.filter((q) => q !== o && q.box).map((q) => q.box);
      let best = null;
      for (let t = 0.14; t < 0.87; t += 0.03) {
        const at = o.wire.getPointAtLength(t * o.length), box = [at.x - wide / 2, at.y - high / 2, at.x + wide / 2, at.y + high / 2];
        const cost = solid.reduce((sum, b) => sum + 4 * cover(box, b), 0) + others.reduce((sum, b) => sum + cover(box, b), 0) + 12 * Math.abs(t - 0.45);
        if (!best || cost < best.cost) best = { cost, at, box };
      }
      o.box = best.box;
      o.words.setAttribute("x", best.at.x.toFixed(1));
      o.words.setAttribute("y", (best.at.y + 4).toFixed(1));
    });
  }

  // What is under the pointer, or has the focus, is written out below the picture; the rest steps back.
  function pointOut(node, n, e) {
    const root = node.querySelector(".network"), item = e >= 0 ? node._picture.edges[e] : node._picture.nodes[n];
    root.classList.toggle("tracing", !!item);
    node._edges.forEach((o, k) => {
      const on = e >= 0 ? k === e : o.ends.includes(n);
      o.wire.classList.toggle("on", on);
      o.words.classList.toggle("on", on);
    });
    if (!item) return;
    node._lab.explain(item.note || "");
    G.light(node._lab, item.key || null);
  }

  function listenNetwork(node) {
    const nodeAt = (target) => node._nodes.findIndex((o) => o.group.contains(target));
    const over = (event) => {
      const n = nodeAt(event.target), e = node._edges.findIndex((o) => o.hit === event.target);
      if (n >= 0 || e >= 0) { node._walk = -1; pointOut(node, n, e); }
    };
    const leave = (event) => {
      if (event.pointerType === "touch") return; // a lifted finger leaves what it pointed at on show
      pointOut(node, -1, -1);
      G.unmark(node._lab);
    };
    const pick = (n) => { if (n >= 0 && node._picture.pick) G.set(node._lab.id, { [node._picture.pick]: n }); };
    G.listen(node, {
      pointerover: over, focusin: over, pointerleave: leave, focusout: leave,
      click: (event) => pick(nodeAt(event.target)),
      keydown(event) {
        const n = nodeAt(event.target), move = { ArrowUp: -1, ArrowDown: 1 }[event.key], turn = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
        if (n < 0) return;
        if (event.key === "Enter" || event.key === " ") pick(n);
        else if (move && node._nodes[n + move]) {
          node._nodes[n].group.setAttribute("tabindex", -1);
          node._nodes[n + move].group.setAttribute("tabindex", 0);
          node._nodes[n + move].group.focus();
        } else if (turn) {
          const own = node._edges.flatMap((o, k) => (o.ends.includes(n) ? [k] : []));
          if (own.length) { node._walk = (((node._walk ?? -1) < 0 && turn < 0 ? 0 : node._walk ?? -1) + turn + own.length) % own.length; pointOut(node, n, own[node._walk]); }
        } else return;
        event.preventDefault();
      },
    });
  }

  // ---- diagram: boxes and wires ----------------------------------------------------------------------------------------

  G.painters.diagram = function (node, p) {
    titled(node, p);
    const shape = JSON.stringify([p.size, p.frames, p.wires, p.boxes.map(({ picked, note, ...box }) => box)]);
    if (node._shape !== shape) {
      const held = node.contains(document.activeElement) && document.activeElement.dataset.id;
      node._shape = shape;
      buildDiagram(node, p);
      const again = held && node._boxes.find((group) => group.dataset.id === held);
      if (again) again.focus({ preventScroll: true });
    }
    const chosen = p.boxes.findIndex((b) => b.picked);
    p.boxes.forEach((b, k) => {
      const group = node._boxes[k];
      group.classList.toggle("picked", !!b.picked);
      group.setAttribute("aria-label", [b.label, b.sub, b.note].filter(Boolean).join(". "));
      if (p.pick) group.setAttribute("aria-pressed", !!b.picked);
      if (!node.contains(document.activeElement)) group.setAttribute("tabindex", k === Math.max(0, chosen) ? 0 : -1);
    });
  };

  function buildDiagram(node, p) {
    const [width, height] = p.size;
    const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, class: "diagram", role: "group", "aria-label": p.title + ". Arrow keys move between the boxes" + (p.pick ? ", Enter chooses one." : ".") });
    const head = "head-" + node._lab.id;
    root.append(svg("defs", {}, svg("marker", { id: head, viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto-start-reverse", markerUnits: "userSpaceOnUse" }, svg("path", { d: "M0 0.5 L8 4 L0 7.5 z", class: "arrow-head" }))));
    (p.frames || []).forEach((f) => root.append(svg("rect", { x: f.x, y: f.y, width: f.w, height: f.h, rx: 10, class: "diagram-frame" }), text(f.x + f.w - 10, f.y + 17, f.label || "", "end", "frame-label")));
    p.wires.forEach((w) => root.append(svg("polyline", { points: w.points.map((q) => q.join(",")).join(" "), class: "wire " + (w.form || "arrow") + " t-" + (w.tensor || "resid"), "marker-end": (w.form || "arrow") === "arrow" || w.form === "dashed" ? `url(#${head})` : null })));
    p.wires.forEach((w) => { if (w.text) root.append(text(w.at[0], w.at[1], w.text, w.anchor || "middle", "wire-text")); });
    node._boxes = p.boxes.map((b, k) => {
      const group = svg("g", { class: "box t-" + (b.tensor || "resid") + (b.form ? " " + b.form : ""), role: p.pick ? "button" : "img", tabindex: k ? -1 : 0, transform: `translate(${b.x} ${b.y})`, "data-id": b.id, "data-key": b.key });
      if (b.form === "plus") group.append(svg("circle", { r: b.w / 2 }), text(0, 6, b.label, "middle", "plus-sign"));
      else {
        const at = { x: -b.w / 2, y: -b.h / 2, width: b.w, height: b.h, rx: 6 };
        if (b.form === "pile") [8, 4].forEach((shift) => group.append(svg("rect", { ...at, x: at.x + shift, y: at.y - shift, class: "behind" })));
        group.append(svg("rect", at), text(0, b.sub ? -2 : 5, b.label, "middle", "box-label"));
        if (b.sub) group.append(text(0, 13, b.sub, "middle", "box-sub"));
      }
      root.append(group);
      return group;
    });
    body(node).replaceChildren(root);
    const at = (target) => node._boxes.findIndex((group) => group.contains(target));
    const over = (event) => { const b = node._picture.boxes[at(event.target)]; if (b) { node._lab.explain(b.note || ""); G.light(node._lab, b.key || null); } };
    const leave = (event) => { if (event.pointerType !== "touch") G.unmark(node._lab); };
    const choose = (k) => { if (k >= 0 && node._picture.pick) G.set(node._lab.id, { [node._picture.pick]: node._picture.boxes[k].pick }); };
    G.listen(node, {
      pointerover: over, focusin: over, pointerleave: leave, focusout: leave,
      click: (event) => choose(at(event.target)),
      keydown(event) {
        const k = at(event.target), move = { ArrowUp: -1, ArrowLeft: -1, ArrowDown: 1, ArrowRight: 1 }[event.key], next = node._boxes[k + move];
        if (k < 0 || !(move || event.key === "Enter" || event.key === " ")) return;
        event.preventDefault();
        if (!move) return choose(k);
        if (!next) return;
        node._boxes[k].setAttribute("tabindex", -1);
        next.setAttribute("tabindex", 0);
        next.focus();
      },
    });
  }

  // ---- Plotly, loaded only where a chart is ---------------------------------------------------------------------------

  let loading = null;
  function plotly() {
    loading = loading || new Promise((done, failed) => {
      const script = el("script", { src: G.boot.plotly });
      script.onload = () => done(window.Plotly);
      script.onerror = failed;
      document.head.append(script);
    });
    return loading;
  }

  G.painters.chart = function (node, p) {
    titled(node, p);
    if (!node._plot) { node._plot = el("div", { class: "plotly-box" }); body(node).replaceChildren(node._plot); }
    const seen = new IntersectionObserver((entries) => {
      if (!entries.some((e) => e.isIntersecting)) return;
      seen.disconnect();
      plotly().then((Plotly) => Plotly.react(node._plot, coloured(node, node._picture.data), themed(node, node._picture.layout), { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["lasso2d", "select2d"] }));
    }, { rootMargin: "200px" });
    seen.observe(node);
  };

  function coloured(node, data) {
    const css = getComputedStyle(document.documentElement);
    return data.map((trace) => {
      const colour = trace.tensor && css.getPropertyValue("--t-" + trace.tensor).trim();
      const { tensor, ...rest } = trace;
      return colour ? { ...rest, line: { ...rest.line, color: colour }, marker: { ...rest.marker, color: colour } } : rest;
    });
  }

  function themed(node, layout) {
    const css = getComputedStyle(document.documentElement), ink = css.getPropertyValue("--ink").trim(), rule = css.getPropertyValue("--rule").trim();
    const axis = (given) => ({ gridcolor: rule, zerolinecolor: rule, linecolor: rule, automargin: true, ...given });
    return { paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { family: css.getPropertyValue("--sans"), color: ink, size: 13 }, margin: { l: 55, r: 15, t: 10, b: 45 }, height: 340, ...layout, xaxis: axis(layout.xaxis), yaxis: axis(layout.yaxis) };
  }

  // After a change of theme or width: every picture is painted anew from the same numbers.
  G.repaint = function () {
    G.themeChanged();
    G.inTurn((lab) => {
      const stage = lab.shown && lab.shown.picture && G.section(lab.id).querySelector(".lab-figure").firstElementChild;
      if (stage) G.paint(stage, lab.shown.picture, lab);
    });
  };
})();
