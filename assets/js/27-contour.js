// A landscape of two numbers as contour lines, and the paths that were walked in it. A click says where to start.
(function () {
  "use strict";
  const G = window.glassbox;
  const { el, svg, titled, body } = G;
  const CODE = Object.fromEntries([..."ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"].map((c, i) => [c, i]));

  G.painters.contour = function (node, p) {
    titled(node, p);
    node._drawnAt = body(node).clientWidth;
    const width = Math.max(280, Math.min(760, node._drawnAt || 640)), box = { left: 46, right: 10, top: 8, bottom: 38 };
    const [x0, x1, y0, y1] = p.view, room = width - box.left - box.right, high = Math.round((room * (y1 - y0)) / (x1 - x0)), height = high + box.top + box.bottom;
    const at = { x: (share) => box.left + share * room, y: (share) => box.top + (1 - share) * high };
    const frame = { box, room, high, width, height, at };
    node._frame = frame;
    const key = [p.heights, p.view, p.columns, width, G.css(G.mix(1, "share")), p.x_label, p.y_label].join();
    if (node._shape !== key) {
      node._shape = key;
      const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, class: "curve contour" + (p.pick ? " picking" : ""), role: "img" });
      root.append(ground(node, p, frame), svg("g", { class: "walks" }));
      body(node).replaceChildren(root, el("div", { class: "legend" }));
      G.listen(node, { click: (event) => begin(node, event) });
    }
    const [root, legend] = body(node).children;
    root.setAttribute("aria-label", p.title + (p.pick ? ". A click says where to start; the sliders of the start do the same." : "."));
    root.lastChild.replaceWith(walks(p, at, node));
    const names = p.paths.map((path, k) => el("span", { class: "t-" + path.tensor }, (k % 2 ? "╌ " : "─ ") + path.name));
    legend.replaceChildren(...(p.legend ? names : []));
  };

  // What does not change with the paths: shading, contour lines, axes.
  function ground(node, p, { box, room, high, width, height, at }) {
    const group = svg("g"), C = p.columns, R = p.heights.length / 2 / C, [x0, x1, y0, y1] = p.view;
    const level = Float64Array.from({ length: R * C }, (_, i) => ((CODE[p.heights[2 * i]] * 64 + CODE[p.heights[2 * i + 1]]) / 4095) * p.levels);
    const small = el("canvas", { width: C, height: R }), pen = small.getContext("2d"), pixels = pen.createImageData(C, R);
    level.forEach((value, i) => { const row = R - 1 - Math.floor(i / C); pixels.data.set([...G.mix((0.3 * value) / p.levels, "share"), 255], 4 * (row * C + (i % C))); });
    pen.putImageData(pixels, 0, 0);
    group.append(svg("image", { href: small.toDataURL(), x: box.left, y: box.top, width: room, height: high, preserveAspectRatio: "none" }));
    let d = "";
    const point = (c, r) => `${at.x(c / (C - 1)).toFixed(1)} ${at.y(r / (R - 1)).toFixed(1)}`;
    for (let r = 0; r < R - 1; r++) for (let c = 0; c < C - 1; c++) {
      const corners = [[c, r], [c + 1, r], [c + 1, r + 1], [c, r + 1]], values = corners.map(([i, j]) => level[j * C + i]);
      for (let line = Math.floor(Math.min(...values)) + 0.5; line < Math.max(...values); line++) {
        const cuts = [];
        corners.forEach(([i, j], k) => {
          const a = values[k], b = values[(k + 1) % 4], [m, n] = corners[(k + 1) % 4];
          if ((a < line) !== (b < line)) { const t = (line - a) / (b - a); cuts.push(point(i + t * (m - i), j + t * (n - j))); }
        });
        for (let k = 0; k + 1 < cuts.length; k += 2) d += `M${cuts[k]}L${cuts[k + 1]}`;
      }
    }
    const id = "inside-" + node._lab.id, { scale, axes } = G.drawing;
    const clip = svg("clipPath", { id }, svg("rect", { x: box.left, y: box.top, width: room, height: high }));
    group.append(svg("defs", {}, clip), svg("path", { d, class: "level" }));
    const shrink = (a, b) => [a + (b - a) * 0.037037, b - (b - a) * 0.037037]; // `scale` adds 4 % on both sides
    axes(group, p, scale(shrink(x0, x1), box.left, width - box.right), scale(shrink(y0, y1), height - box.bottom, box.top), box, width, height);
    return group;
  }

  function walks(p, at, node) {
    const group = svg("g", { class: "walks" }), inside = svg("g", { "clip-path": `url(#inside-${node._lab.id})` });
    group.append(inside);
    (p.marks || []).forEach(([x, y]) => { const [u, v] = [at.x(x / 1000), at.y(y / 1000)]; inside.append(svg("path", { d: `M${u - 6} ${v - 6}L${u + 6} ${v + 6}M${u - 6} ${v + 6}L${u + 6} ${v - 6}`, class: "lowest" })); });
    p.paths.forEach((path, k) => {
      const points = path.x.map((x, i) => [at.x(x / 1000).toFixed(1), at.y(path.y[i] / 1000).toFixed(1)]), [u, v] = points[points.length - 1];
      inside.append(svg("g", { class: "walk t-" + path.tensor, "data-key": path.key || null },
        svg("polyline", { points: points.map((q) => q.join(",")).join(" "), class: "series", "stroke-dasharray": k % 2 ? "7 3" : null }),
        svg("path", { d: points.map((q) => `M${q.join(" ")}h0`).join(""), class: "stops" }),
        svg("circle", { cx: u, cy: v, r: 5, class: "dot" }), svg("title", {}, path.name)));
    });
    if (p.start) inside.append(svg("circle", { cx: at.x(p.start[0] / 1000), cy: at.y(p.start[1] / 1000), r: 6.5, class: "marker" }));
    return group;
  }

  function begin(node, event) {
    const p = node._picture, { box, room, high, width } = node._frame, edge = body(node).firstChild.getBoundingClientRect(), unit = width / edge.width;
    const across = ((event.clientX - edge.left) * unit - box.left) / room, up = 1 - ((event.clientY - edge.top) * unit - box.top) / high;
    if (!p.pick || across < 0 || across > 1 || up < 0 || up > 1) return;
    const [x0, x1, y0, y1] = p.view, round = (v) => Math.round(v * 100) / 100;
    G.set(node._lab.id, { [p.pick[0]]: round(x0 + across * (x1 - x0)), [p.pick[1]]: round(y0 + up * (y1 - y0)) });
  }
})();
