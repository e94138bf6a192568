// Painters that draw lines: curves, arcs between tokens, networks; and Plotly where a reader explores.
(function () {
  "use strict";
  const G = window.glassbox;
  const { el, svg, titled, body } = G;

  const SERIES = ["q", "k", "v", "grad", "attn", "ffn", "logits", "tokens"];

  // ---- curve --------------------------------------------------------------------------------------------------------

  G.painters.curve = function (node, p) {
    titled(node, p);
    const width = Math.max(280, Math.min(900, body(node).clientWidth || 640)), height = Math.round(Math.min(340, width * 0.55));
    const box = { left: 58, right: 14, top: 12, bottom: 42, width, height };
    const all = (axis) => p.series.flatMap((s) => s[axis]).filter((v) => typeof v === "number");
    const x = scale(all("x").concat(p.marker ? [p.marker[0]] : []), box.left, width - box.right, p.log_x);
    const y = scale(all("y").concat(p.marker ? [p.marker[1]] : []), height - box.bottom, box.top, p.log_y);
    const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": p.title, class: "curve" });
    x.ticks.forEach((t) => root.append(line(x.at(t), box.top, x.at(t), height - box.bottom, "rule"), text(x.at(t), height - box.bottom + 16, short(t), "middle")));
    y.ticks.forEach((t) => root.append(line(box.left, y.at(t), width - box.right, y.at(t), "rule"), text(box.left - 7, y.at(t) + 4, short(t), "end")));
    root.append(text((box.left + width - box.right) / 2, height - 6, p.x_label, "middle", "axis"));
    const side = text(0, 0, p.y_label, "middle", "axis");
    side.setAttribute("transform", `translate(13 ${(box.top + height - box.bottom) / 2}) rotate(-90)`);
    root.append(side);
    p.series.forEach((s, k) => {
      const tensor = (p.tensors || [])[k] || SERIES[k % SERIES.length];
      const at = s.x.map((v, i) => [x.at(v), y.at(s.y[i])]).filter((q) => isFinite(q[0]) && isFinite(q[1]));
      if (at.length > 1) root.append(svg("polyline", { points: at.map((q) => q.map((v) => v.toFixed(1)).join(",")).join(" "), class: "series t-" + tensor, "stroke-dasharray": k % 2 ? "7 3" : null }));
      if (p.points || at.length === 1) at.forEach((q) => root.append(svg("circle", { cx: q[0], cy: q[1], r: 3.5, class: "dot t-" + tensor })));
    });
    if (p.marker && isFinite(y.at(p.marker[1]))) root.append(svg("circle", { cx: x.at(p.marker[0]), cy: y.at(p.marker[1]), r: 6, class: "marker" }));
    const names = p.series.length > 1 ? el("div", { class: "legend" }, ...p.series.map((s, k) => el("span", { class: "t-" + ((p.tensors || [])[k] || SERIES[k % SERIES.length]) }, (k % 2 ? "╌ " : "─ ") + s.name))) : "";
    body(node).replaceChildren(root, names);
  };

  function scale(values, from, to, log) {
    const usable = values.filter((v) => isFinite(v) && (!log || v > 0));
    let low = Math.min(...usable), high = Math.max(...usable);
    if (!usable.length) [low, high] = log ? [1, 10] : [0, 1];
    if (low === high) [low, high] = log ? [low / 2, high * 2] : [low - 0.5, high + 0.5];
    if (log) {
      const a = Math.log10(low), b = Math.log10(high), ticks = [];
      for (let e = Math.floor(a); e <= Math.ceil(b); e++) [1, ...(b - a < 1.5 ? [2, 5] : [])].forEach((m) => { const t = m * 10 ** e; if (t >= low * 0.999 && t <= high * 1.001) ticks.push(t); });
      return { ticks, at: (v) => from + ((Math.log10(v) - a) / (b - a)) * (to - from) };
    }
    const pad = (high - low) * 0.04;
    low -= pad; high += pad;
    const raw = (high - low) / 5, power = 10 ** Math.floor(Math.log10(raw)), step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw), ticks = [];
    for (let t = Math.ceil(low / step) * step; t <= high + 1e-12; t += step) ticks.push(Math.abs(t) < step / 1e6 ? 0 : t);
    return { ticks, at: (v) => from + ((v - low) / (high - low)) * (to - from) };
  }

  const short = (v) => (Math.abs(v) >= 10000 || (v !== 0 && Math.abs(v) < 0.001) ? v.toExponential(0).replace("e+", "e") : String(+v.toPrecision(4))).replace("-", "−");
  const line = (x1, y1, x2, y2, kind) => svg("line", { x1, y1, x2, y2, class: kind });
  const text = (x, y, words, anchor, kind) => svg("text", { x, y, "text-anchor": anchor, class: kind || "tick" }, words);

  // ---- arcs: where one token looks -----------------------------------------------------------------------------------

  G.painters.arcs = function (node, p) {
    titled(node, p);
    const shape = JSON.stringify([p.labels, p.pick]);
    if (node._shape !== shape) {
      node._shape = shape;
      const chips = p.labels.map((name, i) => el(p.pick ? "button" : "span", { class: "chip", type: p.pick ? "button" : null, "data-pick": i, "data-key": "token:" + i }, G.visible(name), el("span", { class: "arc-share" })));
      const overlay = svg("svg", { class: "arc-lines", "aria-hidden": "true" });
      body(node).replaceChildren(el("div", { class: "scroll" }, el("div", { class: "arc-row" }, overlay, ...chips)));
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
    const high = 110, middles = chips.map((c) => c.offsetLeft + c.offsetWidth / 2);
    overlay.setAttribute("width", row.scrollWidth);
    overlay.setAttribute("height", high);
    overlay.replaceChildren();
    const from = middles[p.selected], far = Math.max(1, ...middles.map((m) => Math.abs(m - from)));
    chips.forEach((chip, i) => {
      const share = typeof p.weights[i] === "number" ? p.weights[i] : 0;
      chip.classList.toggle("picked", i === p.selected);
      if (p.pick) chip.setAttribute("aria-pressed", i === p.selected);
      chip.lastChild.textContent = share ? G.percent(share) : "";
      if (share < 0.004) return;
      const to = middles[i], lift = i === p.selected ? 26 : 30 + 70 * (Math.abs(to - from) / far), base = high - 2;
      const d = i === p.selected ? `M${from - 9} ${base} C${from - 24} ${base - lift * 1.4} ${from + 24} ${base - lift * 1.4} ${from + 9} ${base}` : `M${from} ${base} C${from} ${base - lift} ${to} ${base - lift} ${to} ${base}`;
      overlay.append(svg("path", { d, class: "arc", "stroke-width": (1 + 9 * share).toFixed(2), opacity: (0.25 + 0.75 * share).toFixed(2) }));
    });
  }

  // ---- network --------------------------------------------------------------------------------------------------------

  G.painters.network = function (node, p) {
    titled(node, p);
    const columns = Math.max(...p.nodes.map((n) => n.column)) + 1, rows = Math.max(...p.nodes.map((n) => n.row)) + 1;
    const gapX = Math.max(118, Math.min(190, (Math.max(320, body(node).clientWidth || 640) - 60) / columns)), gapY = p.gap || 76, top = p.columns ? 30 : 8;
    const width = columns * gapX, height = top + rows * gapY;
    const place = {};
    p.nodes.forEach((n) => { place[n.id] = [(n.column + 0.5) * gapX, top + (n.row + 0.5) * gapY]; });
    const shape = JSON.stringify([p.nodes.map((n) => [n.id, n.column, n.row, n.label]), p.edges.map((e) => [e.from, e.to]), width]);
    if (node._shape !== shape) {
      node._shape = shape;
      const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, class: "network", role: "group", "aria-label": p.title });
      (p.columns || []).forEach((name, c) => root.append(text((c + 0.5) * gapX, 16, name, "middle", "axis")));
      node._edges = p.edges.map((e) => {
        const [x1, y1] = place[e.from], [x2, y2] = place[e.to], wire = svg("line", { x1: x1 + 30, y1, x2: x2 - 30, y2, class: "edge" });
        const hit = svg("line", { x1: x1 + 30, y1, x2: x2 - 30, y2, class: "edge-hit" });
        const words = svg("text", { class: "edge-label", x: x1 + 30 + (x2 - x1 - 60) * (e.at || 0.3), y: y1 + (y2 - y1) * (e.at || 0.3) - 4, "text-anchor": "middle" });
        root.append(wire, hit, words);
        return { wire, hit, words };
      });
      node._nodes = p.nodes.map((n) => {
        const [x, y] = place[n.id], group = svg("g", { class: "node", tabindex: 0, role: p.pick ? "button" : "img", transform: `translate(${x} ${y})` });
        const label = svg("text", { class: "node-label", y: -24, "text-anchor": "middle" }, n.label), value = svg("text", { class: "node-value", y: 5, "text-anchor": "middle" });
        const grad = svg("text", { class: "node-grad", y: 31, "text-anchor": "middle" });
        const shapeNode = svg("rect", { x: -30, y: -17, width: 60, height: 34, rx: 17, class: "node-body" });
        group.append(shapeNode, label, value, grad);
        root.append(group);
        return { group, value, grad, shape: shapeNode, label };
      });
      body(node).replaceChildren(el("div", { class: "scroll" }, root));
      const say = (event) => {
        const n = node._nodes.findIndex((o) => o.group.contains(event.target)), e = node._edges.findIndex((o) => o.hit === event.target);
        const item = n >= 0 ? node._picture.nodes[n] : e >= 0 ? node._picture.edges[e] : null;
        if (!item) return;
        node._lab.explain(item.note || "");
        if (item.key) G.light(node._lab, item.key);
      };
      G.listen(node, {
        pointerover: say, focusin: say,
        pointerleave: () => G.unmark(node._lab), focusout: () => G.unmark(node._lab),
        click(event) {
          const n = node._nodes.findIndex((o) => o.group.contains(event.target));
          if (n >= 0 && node._picture.pick) G.set(node._lab.id, { [node._picture.pick]: n });
        },
        keydown(event) {
          const n = node._nodes.findIndex((o) => o.group.contains(event.target));
          if (n >= 0 && node._picture.pick && event.key === "Enter") G.set(node._lab.id, { [node._picture.pick]: n });
        },
      });
    }
    const most = Math.max(1e-9, ...p.edges.map((e) => Math.abs(e.value || 0)));
    p.edges.forEach((e, k) => {
      const { wire, words } = node._edges[k], value = e.value;
      wire.style.strokeWidth = value === undefined ? 1.2 : 0.8 + 4 * Math.min(1, Math.abs(value) / most);
      wire.setAttribute("class", "edge" + (value < 0 ? " negative" : value > 0 ? " positive" : "") + (e.active === false ? " off" : ""));
      words.textContent = e.text || "";
    });
    p.nodes.forEach((n, k) => {
      const o = node._nodes[k];
      o.value.textContent = n.value === undefined ? "" : G.number(n.value);
      o.grad.textContent = n.grad === undefined ? "" : "∂ " + G.number(n.grad);
      o.group.setAttribute("class", "node t-" + (n.tensor || "resid") + (p.picked === k ? " picked" : "") + (n.state ? " " + n.state : ""));
      o.group.setAttribute("aria-label", n.note || n.label + " " + G.number(n.value));
      if (n.key) o.group.dataset.key = n.key;
    });
  };

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

  G.repaint = function () {
    // After a change of theme or width: pictures that hold pixels are drawn anew from the same numbers.
    document.querySelectorAll(".pic-heatmap, .pic-curve, .pic-arcs, .pic-chart, .pic-network").forEach((node) => {
      if (node._picture) G.painters[node._picture.kind](node, node._picture, node._lab);
    });
  };
})();
