// Shares laid end to end on a line from 0 to 1, and the number that was drawn: the longer a stretch, the likelier it is hit.
(function () {
  "use strict";
  const G = window.glassbox;
  const { svg, titled, body } = G;
  const HIGH = 34, TOP = 40; // pixels: the band, and the room above it for the draw

  G.painters.stretches = function (node, p) {
    titled(node, p);
    node._drawnAt = body(node).clientWidth;
    const width = Math.max(280, Math.min(900, node._drawnAt || 640)), side = 14, room = width - 2 * side;
    const at = (share) => side + Math.min(1, share) * room;
    const root = svg("svg", { viewBox: `0 0 ${width} 104`, width, height: 104, role: "img", "aria-label": p.title, class: "curve stretches" });
    let low = 0;
    p.values.forEach((share, i) => {
      const high = low + share, [from, to] = [at(low), at(high)], words = G.visible(p.labels[i]), percent = G.percent(share);
      const part = svg("g", { class: "stretch" + (i % 2 ? " odd" : "") + (p.chosen === i ? " chosen" : ""), "data-key": (p.keys || [])[i] });
      part.append(svg("rect", { x: from, y: TOP, width: Math.max(0.4, to - from - (to - from > 3 ? 1 : 0)), height: HIGH }));
      part.append(svg("title", {}, `${words}: ${low.toFixed(4)} to ${high.toFixed(4)}`));
      if (to - from > 7.4 * words.length + 8) part.append(svg("text", { x: (from + to) / 2, y: TOP + 15, "text-anchor": "middle", class: "stretch-name" }, words));
      if (to - from > 7.4 * Math.max(percent.length, 5)) part.append(svg("text", { x: (from + to) / 2, y: TOP + 29, "text-anchor": "middle", class: "stretch-share" }, percent));
      root.append(part);
      low = high;
    });
    [0, 0.25, 0.5, 0.75, 1].forEach((t) => root.append(
      svg("line", { x1: at(t), y1: TOP + HIGH, x2: at(t), y2: TOP + HIGH + 6, class: "rule" }),
      svg("text", { x: at(t), y: TOP + HIGH + 20, "text-anchor": t === 0 ? "start" : t === 1 ? "end" : "middle", class: "tick" }, String(t)),
    ));
    if (typeof p.draw === "number") drawMarker(root, at(p.draw), p, width);
    body(node).replaceChildren(root);
  };

  function drawMarker(root, x, p, width) {
    const hit = p.chosen === undefined ? "" : " → " + G.visible(p.labels[p.chosen]), words = p.draw.toFixed(4) + hit;
    const anchor = x > width - 90 ? "end" : x < 90 ? "start" : "middle";
    root.append(
      svg("line", { x1: x, y1: TOP - 12, x2: x, y2: TOP + HIGH + 4, class: "draw-line" }),
      svg("path", { d: `M${x - 6} ${TOP - 14} L${x + 6} ${TOP - 14} L${x} ${TOP - 3} Z`, class: "draw-tip" }),
      svg("text", { x: anchor === "middle" ? x : anchor === "end" ? x + 7 : x - 7, y: TOP - 20, "text-anchor": anchor, class: "draw-name" }, words),
    );
  }
})();
