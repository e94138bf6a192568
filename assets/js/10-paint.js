// Painters: each draws one kind of picture from plain numbers, and updates in place when only the numbers changed.
(function () {
  "use strict";
  const G = window.glassbox;
  const { el, svg } = G;

  // Paint `picture` into `node`. `lab` is the lab's state (for picks and hovers).
  G.paint = function (node, picture, lab) {
    if (node._kind !== picture.kind) {
      node.replaceChildren();
      node.className = "picture pic-" + picture.kind;
      node._kind = picture.kind;
      node._shape = node._drawnAt = null;
    }
    node._picture = picture;
    node._lab = lab;
    if (picture.name) lab.named[picture.name] = node;
    if (picture.tensor) node.dataset.tensor = picture.tensor;
    G.painters[picture.kind](node, picture, lab);
  };

  function parts(node, picture, lab) {
    while (node.children.length > picture.parts.length) node.lastChild.remove();
    while (node.children.length < picture.parts.length) node.append(el("div", { class: "picture" }));
    picture.parts.forEach((part, index) => G.paint(node.children[index], part, lab));
    // What was drawn while its neighbours were still empty may have less room now.
    for (const child of node.children) if (child._drawnAt && Math.abs(body(child).clientWidth - child._drawnAt) > 2) G.paint(child, child._picture, lab);
  }
  G.painters.row = parts;
  G.painters.stack = parts;

  // One stage of a path: name, a line about it, the way to its chapter, and its own picture.
  G.painters.stage = function (node, picture, lab) {
    if (!node.firstChild) node.append(el("div", { class: "stage-head" }, el("h4"), el("p")), el("div", { class: "picture" }));
    const [name, note] = node.firstChild.children;
    if (name.dataset.link !== picture.link + picture.title) {
      name.dataset.link = picture.link + picture.title;
      name.replaceChildren(picture.link ? el("a", { href: picture.link }, picture.title) : picture.title);
    }
    note.textContent = picture.note;
    G.paint(node.lastChild, picture.part, lab);
  };

  // Formulas that belong to one part of a picture; the server's own MathML, as below every lab.
  G.painters.math = function (node, picture) {
    const markup = picture.lines.map((line) => "<div>" + line + "</div>").join("");
    if (node._shape !== markup) { node.innerHTML = markup; node._shape = markup; }
  };

  G.painters.sign = (node, picture) => { node.textContent = picture.symbol; };

  G.painters.words = function (node, picture) {
    titled(node, picture);
    body(node).textContent = picture.text;
    body(node).className = "body words " + (picture.style || "");
  };

  function titled(node, picture) {
    if (!node.querySelector(":scope > .pic-title")) {
      node.append(el("div", { class: "pic-title" }), el("div", { class: "body" }));
    }
    const title = node.firstChild;
    if (title.textContent !== (picture.title || "")) title.textContent = picture.title || "";
    title.hidden = !picture.title;
  }
  const body = (node) => node.children[1];
  G.titled = titled;
  G.body = body;

  // Rebuild only when the shape of the picture changed.
  function reshaped(node, ...shape) {
    const now = JSON.stringify(shape);
    if (node._shape === now) return false;
    node._shape = now;
    return true;
  }

  // Once for each kind of picture that the node ever was; only those of the present kind are heard.
  G.listen = function (node, handlers) {
    const kind = node._kind;
    node._listening = node._listening || new Set();
    if (node._listening.has(kind)) return;
    node._listening.add(kind);
    for (const [event, handler] of Object.entries(handlers)) node.addEventListener(event, (e) => { if (node._kind === kind) handler(e); });
  };

  // ---- grid: a small matrix as text -------------------------------------------------------------------------------

  G.painters.grid = function (node, p, lab) {
    titled(node, p);
    const R = p.values.length, C = p.values[0].length;
    if (reshaped(node, R, C, p.rows, p.columns, p.pick, p.title)) buildGrid(node, p, R, C);
    const limit = p.limit || (p.scale === "share" ? 1 : G.largest(p.values));
    const digits = p.digits !== undefined ? p.digits : G.decimals(p.values.flat());
    const cells = node._cells;
    for (let i = 0; i < R; i++) {
      for (let j = 0; j < C; j++) {
        const value = p.values[i][j], cell = cells[i][j], strength = G.strength(value, p.scale, limit);
        const text = G.number(value, digits);
        if (cell.textContent !== text) cell.textContent = text;
        G.tint(cell, strength, p.scale);
        cell.classList.toggle("masked", typeof value !== "number");
        if (p.keys) cell.dataset.key = p.keys[i][j];
      }
    }
    node._rows.forEach((row, i) => row.classList.toggle("picked", p.picked === i));
  };

  function buildGrid(node, p, R, C) {
    const table = el("table", { class: "grid" });
    if (p.columns) {
      const head = el("tr", {}, p.rows ? el("td", { class: "corner" }) : null);
      p.columns.forEach((name, j) => head.append(el("th", { scope: "col", "data-key": p.key_columns ? p.key_columns + ":" + j : null }, name)));
      table.append(el("thead", {}, head));
    }
    const tbody = el("tbody");
    node._cells = [];
    node._rows = [];
    for (let i = 0; i < R; i++) {
      const line = el("tr");
      if (p.rows) line.append(rowHead(p, i));
      node._cells.push([]);
      for (let j = 0; j < C; j++) {
        const cell = el("td", { tabindex: i + j ? -1 : 0, "data-i": i, "data-j": j });
        node._cells[i].push(cell);
        line.append(cell);
      }
      tbody.append(line);
      node._rows.push(line);
    }
    table.append(tbody);
    body(node).replaceChildren(el("div", { class: "scroll" }, table));
    G.listen(node, { pointerover: hover, focusin: hover, pointerleave: leave, focusout: leave, click: clickCell, keydown: arrows });
  }

  function rowHead(p, i) {
    const key = p.key_rows ? p.key_rows + ":" + i : null;
    if (!p.pick) return el("th", { scope: "row", "data-key": key }, p.rows[i]);
    return el("th", { scope: "row", "data-key": key }, el("button", { type: "button", class: "pick", "data-pick": i }, p.rows[i]));
  }

  function hover(event) {
    const cell = event.target.closest("td[data-i]");
    if (!cell) return;
    const node = event.currentTarget, p = node._picture;
    G.explain(node, +cell.dataset.i, +cell.dataset.j, p);
  }

  function leave(event) {
    if (event.pointerType === "touch") return; // a lifted finger leaves what it pointed at on show
    G.unmark(event.currentTarget._lab);
  }

  function clickCell(event) {
    const node = event.currentTarget, p = node._picture;
    const head = event.target.closest("[data-pick]"), cell = event.target.closest("td[data-i]");
    if (head) G.set(node._lab.id, { [[].concat(p.pick)[0]]: +head.dataset.pick });
    else if (cell && p.pick) pickCell(node, +cell.dataset.i, +cell.dataset.j);
  }

  function pickCell(node, i, j) {
    const [row, column] = [].concat(node._picture.pick);
    G.set(node._lab.id, column ? { [row]: i, [column]: j } : { [row]: i });
  }
  G.pickCell = pickCell;

  function arrows(event) {
    const cell = event.target.closest("td[data-i]"), moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    if (!cell) return;
    if (event.key === "Enter" && event.currentTarget._picture.pick) return pickCell(event.currentTarget, +cell.dataset.i, +cell.dataset.j);
    if (!moves[event.key]) return;
    const cells = event.currentTarget._cells, [di, dj] = moves[event.key];
    const next = (cells[+cell.dataset.i + di] || [])[+cell.dataset.j + dj];
    if (next) { cell.tabIndex = -1; next.tabIndex = 0; next.focus(); event.preventDefault(); }
  }

  // ---- how a cell was made ---------------------------------------------------------------------------------------

  // Write under the picture what the cell is and which products sum to it; outline the row and column it came from.
  G.explain = function (node, i, j, p) {
    const lab = node._lab, where = [p.rows && p.rows[i], p.columns && p.columns[j]].filter(Boolean).join(" × ");
    let text = `${p.title}${where ? ", " + where : ""}: ${G.number(p.values[i][j])}`;
    G.unmark(lab);
    if (p.product) text = explainProduct(lab, p, i, j) || text;
    if (p.key_rows) G.light(lab, p.key_rows + ":" + i);
    lab.explain(text);
  };

  function explainProduct(lab, p, i, j) {
    const [leftName, rightName] = p.product, byRows = rightName.endsWith(".T");
    const left = lab.named[leftName], right = lab.named[rightName.replace(".T", "")];
    if (!left || !right) return "";
    const a = left._picture.values[i], b = byRows ? right._picture.values[j] : right._picture.values.map((row) => row[j]);
    if (!a || !b || a.length !== b.length) return "";
    mark(left, i, null);
    mark(right, byRows ? j : null, byRows ? null : j);
    const sum = a.reduce((total, x, c) => total + x * b[c], 0);
    const terms = a.map((x, c) => ({ text: `${G.number(x)} × ${G.number(b[c])}`, size: Math.abs(x * b[c]) }));
    const shown = terms.length <= 8 ? terms : terms.slice(0, 6).concat({ text: `… (${terms.length} products)` });
    const divided = p.divide ? ` = ${G.number(sum)}, divided by ${G.number(p.divide)} = ${G.number(sum / p.divide)}` : ` = ${G.number(sum)}`;
    return shown.map((term) => term.text).join(" + ") + divided;
  }

  function mark(node, i, j) {
    if (!node._cells) return;
    node._cells.forEach((row, r) => row.forEach((cell, c) => cell.classList.toggle("factor", i === r || j === c)));
  }

  G.unmark = function (lab) {
    Object.values(lab.named).forEach((node) => mark(node, null, null));
    G.light(lab, null);
    lab.explain("");
  };

  // Light up every place in the lab that shows the quantity `key`.
  G.light = function (lab, key) {
    const section = G.section(lab.id);
    section.querySelectorAll("[data-key].lit").forEach((node) => node.classList.remove("lit"));
    if (key) section.querySelectorAll(`[data-key="${CSS.escape(key)}"]`).forEach((node) => node.classList.add("lit"));
  };

  // ---- heatmap: a larger matrix on a canvas ------------------------------------------------------------------------

  G.painters.heatmap = function (node, p) {
    titled(node, p);
    if (reshaped(node, "heatmap")) {
      const canvas = el("canvas", { tabindex: 0, role: "img" });
      body(node).replaceChildren(el("div", { class: "scroll" }, canvas));
      G.listen(node, { pointermove: hoverCanvas, pointerleave: leave, click: clickCanvas, keydown: keyCanvas, focusin: keyCanvas, focusout: leave });
    }
    const canvas = node.querySelector("canvas");
    canvas.setAttribute("aria-label", p.title + ". Arrow keys move over the cells" + (p.pick ? ", Enter chooses one." : "."));
    drawHeatmap(node, canvas, p);
  };

  function drawHeatmap(node, canvas, p) {
    const R = p.values.length, C = p.values[0].length, ratio = window.devicePixelRatio || 1;
    const css = getComputedStyle(node), font = `12px ${css.getPropertyValue("--sans")}`;
    const pen = canvas.getContext("2d");
    pen.font = font;
    const left = p.rows ? Math.min(110, Math.max(...p.rows.map((r) => pen.measureText(r).width)) + 8) : 2;
    const top = p.columns ? Math.min(90, Math.max(...p.columns.map((c) => pen.measureText(c).width)) + 8) : 2;
    canvas.style.width = "0"; // what was drawn before must not decide how much room there is
    node._drawnAt = body(node).clientWidth;
    const room = Math.max(240, (node.clientWidth || 600) - left - 4);
    const size = Math.max(C > 60 ? 6 : 13, Math.min(p.cell || 34, room / C)), high = C > 100 ? Math.max(3, size) : size;
    const width = left + C * size + 2, height = top + R * high + 2;
    canvas.width = width * ratio; canvas.height = height * ratio;
    canvas.style.width = width + "px"; canvas.style.height = height + "px";
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    const limit = p.limit || (p.scale === "share" ? 1 : G.largest(p.values));
    for (let i = 0; i < R; i++) for (let j = 0; j < C; j++) {
      const value = p.values[i][j];
      pen.fillStyle = G.css(typeof value === "number" ? G.mix(G.strength(value, p.scale, limit), p.scale) : G.masked());
      pen.fillRect(left + j * size, top + i * high, Math.ceil(size) - (size > 8 ? 1 : 0), Math.ceil(high) - (high > 8 ? 1 : 0));
    }
    pen.font = font; pen.fillStyle = css.getPropertyValue("--ink"); pen.textBaseline = "middle";
    if (p.rows && high >= 9) p.rows.forEach((name, i) => label(pen, name, left - 5, top + (i + 0.5) * high, 0, "right", left));
    if (p.columns && size >= 9) p.columns.forEach((name, j) => label(pen, name, left + (j + 0.5) * size, top - 4, -Math.PI / 2, "left", top));
    node._geometry = { left, top, size, high, R, C };
    if (p.picked !== undefined) outline(pen, node._geometry, [].concat(p.picked), css);
  }

  function label(pen, text, x, y, turn, align, room) {
    pen.save(); pen.translate(x, y); pen.rotate(turn); pen.textAlign = align; pen.fillText(text, 0, 0, room); pen.restore();
  }

  // A cell, or without `j` a whole row.
  function outline(pen, g, [i, j], css) {
    const from = j === undefined ? 0 : j, wide = j === undefined ? g.C : 1;
    pen.strokeStyle = css.getPropertyValue("--ink"); pen.lineWidth = 2;
    if (i < g.R && from < g.C) pen.strokeRect(g.left + from * g.size, g.top + i * g.high, wide * g.size - 1, g.high - 1);
  }

  function cellAt(node, event) {
    const box = node.querySelector("canvas").getBoundingClientRect(), g = node._geometry;
    const j = Math.floor((event.clientX - box.left - g.left) / g.size), i = Math.floor((event.clientY - box.top - g.top) / g.high);
    return i >= 0 && j >= 0 && i < g.R && j < g.C ? [i, j] : null;
  }

  function hoverCanvas(event) {
    const node = event.currentTarget, at = cellAt(node, event);
    if (at) G.explain(node, at[0], at[1], node._picture);
  }

  function clickCanvas(event) {
    const node = event.currentTarget, at = cellAt(node, event);
    if (at && node._picture.pick) pickCell(node, at[0], at[1]);
  }

  function keyCanvas(event) {
    const node = event.currentTarget, g = node._geometry, moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    node._cursor = node._cursor || [0, 0];
    const move = moves[event.key];
    if (event.key === "Enter" && node._picture.pick) return pickCell(node, ...node._cursor);
    if (event.type === "keydown" && !move) return;
    if (move) {
      node._cursor = [Math.max(0, Math.min(g.R - 1, node._cursor[0] + move[0])), Math.max(0, Math.min(g.C - 1, node._cursor[1] + move[1]))];
      event.preventDefault();
    }
    const canvas = node.querySelector("canvas");
    drawHeatmap(node, canvas, node._picture);
    outline(canvas.getContext("2d"), g, node._cursor, getComputedStyle(node));
    G.explain(node, node._cursor[0], node._cursor[1], node._picture);
  }

  // ---- places: a grid, each in one of a few states ------------------------------------------------------------------

  G.painters.places = function (node, p) {
    titled(node, p);
    const R = p.values.length, C = Math.max(0, ...p.values.map((line) => line.length));
    if (reshaped(node, R, C, p.rows, p.columns, p.legend, p.title)) buildPlaces(node, p, R, C);
    for (let i = 0; i < R; i++) for (let j = 0; j < C; j++) {
      const now = p.values[i][j] || {}, cell = node._cells[i][j], kind = "place" + (now.state ? " is-" + now.state : "");
      if (cell.textContent !== (now.text || "")) cell.textContent = now.text || "";
      if (cell.className !== kind && cell.className !== kind + " lit") cell.className = kind;
      if (now.key) cell.dataset.key = now.key; else delete cell.dataset.key;
      if (now.note) cell.setAttribute("aria-label", now.note); else cell.removeAttribute("aria-label");
    }
  };

  function buildPlaces(node, p, R, C) {
    const table = el("table", { class: "places" }), tbody = el("tbody");
    if (p.columns) table.append(el("thead", {}, el("tr", {}, p.rows ? el("td", { class: "corner" }) : null, ...p.columns.map((name) => el("th", { scope: "col" }, G.visible(name))))));
    node._cells = [];
    for (let i = 0; i < R; i++) {
      const line = el("tr", {}, p.rows ? el("th", { scope: "row" }, p.rows[i]) : null);
      node._cells.push(Array.from({ length: C }, (_, j) => el("td", { class: "place", tabindex: i + j ? -1 : 0, "data-i": i, "data-j": j })));
      line.append(...node._cells[i]);
      tbody.append(line);
    }
    table.append(tbody);
    table.setAttribute("aria-label", p.title);
    const legend = el("div", { class: "legend" }, ...(p.legend || []).map(([state, words]) => el("span", {}, el("i", { class: "place is-" + state }), words)));
    body(node).replaceChildren(el("div", { class: "scroll" }, table), legend);
    G.listen(node, { pointerover: notePlace, focusin: notePlace, pointerleave: leave, focusout: leave, keydown: arrows });
  }

  function notePlace(event) {
    const cell = event.target.closest("td[data-i]"), node = event.currentTarget;
    if (!cell) return;
    node._lab.explain(cell.getAttribute("aria-label") || "");
    G.light(node._lab, cell.dataset.key || null);
  }

  // ---- thumbnails: many small attention maps on one canvas -----------------------------------------------------------

  const LEVEL = Object.fromEntries([..."ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"].map((c, i) => [c, i]));

  G.painters.thumbnails = function (node, p) {
    titled(node, p);
    if (reshaped(node, "thumbnails", p.grid)) {
      node._cursor = null;
      body(node).replaceChildren(el("canvas", { tabindex: 0, role: "img" }));
      G.listen(node, {
        pointermove(event) { const at = mapAt(node, event); if (at) nameMap(node, at); },
        pointerleave: leave,
        focusout: leave,
        click(event) { const at = mapAt(node, event); if (at) pickMap(node, at); },
        keydown: keyMap,
        focusin() { drawMaps(node, node._cursor || node._picture.picked); nameMap(node, node._cursor || node._picture.picked); },
      });
    }
    const now = body(node).firstChild;
    now.setAttribute("aria-label", p.title + ". Arrow keys move over the maps, Enter opens one.");
    drawMaps(node, document.activeElement === now ? node._cursor : null);
  };

  // Layers run across where there is room for all of them, and down on a phone. What does not change with the picked
  // map is drawn once and kept.
  function drawMaps(node, cursor) {
    const p = node._picture, canvas = body(node).firstChild, pen = canvas.getContext("2d"), css = getComputedStyle(node);
    const [layers, heads] = p.grid, room = body(node).clientWidth || 640, ratio = window.devicePixelRatio || 1, left = 26, top = 20;
    node._drawnAt = room;
    const wide = room > 22 * layers, across = wide ? layers : heads, down = wide ? heads : layers;
    const step = Math.min(48, Math.floor((room - left) / across)), width = left + across * step, height = top + down * step;
    node._maps = { wide, step, left, top, across, down };
    const key = [p.maps, p.grid, p.size, width, ratio, css.getPropertyValue("--share"), css.getPropertyValue("--zero")].join();
    if (node._mapsKey !== key) { node._mapsKey = key; node._mapsSheet = sheet(p, node._maps, width, height, ratio, css); }
    canvas.width = width * ratio; canvas.height = height * ratio;
    canvas.style.width = width + "px"; canvas.style.height = height + "px";
    pen.drawImage(node._mapsSheet, 0, 0);
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    frame(pen, node._maps, p.picked, css.getPropertyValue("--ink"), 2.5);
    if (cursor) frame(pen, node._maps, cursor, css.getPropertyValue("--link"), 3);
  }

  function sheet(p, g, width, height, ratio, css) {
    const canvas = el("canvas", { width: width * ratio, height: height * ratio }), pen = canvas.getContext("2d"), n = p.size;
    const each = (n * (n + 1)) / 2, one = el("canvas", { width: n, height: n }), small = one.getContext("2d"), pixels = small.createImageData(n, n);
    const colours = Array.from({ length: 64 }, (_, level) => G.mix(level / 63, "share")), masked = G.masked();
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.imageSmoothingEnabled = false;
    pen.font = `11px ${css.getPropertyValue("--sans")}`; pen.fillStyle = css.getPropertyValue("--quiet"); pen.textBaseline = "middle";
    const number = (count, draw) => { for (let i = 0; i < count; i++) draw(String(i), i); };
    pen.textAlign = "center"; number(g.across, (name, i) => pen.fillText(name, g.left + (i + 0.5) * g.step, 10));
    pen.textAlign = "right"; number(g.down, (name, i) => pen.fillText(name, g.left - 6, g.top + (i + 0.5) * g.step));
    for (let layer = 0; layer < p.grid[0]; layer++) for (let head = 0; head < p.grid[1]; head++) {
      let at = (layer * p.grid[1] + head) * each;
      for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) pixels.data.set([...(j <= i ? colours[LEVEL[p.maps[at++]]] : masked), 255], 4 * (i * n + j));
      small.putImageData(pixels, 0, 0);
      const [x, y] = corner(g, [layer, head]);
      pen.drawImage(one, x, y, g.step - 3, g.step - 3);
    }
    return canvas;
  }

  const corner = (g, [layer, head]) => [g.left + (g.wide ? layer : head) * g.step, g.top + (g.wide ? head : layer) * g.step];

  function frame(pen, g, at, colour, wide) {
    const [x, y] = corner(g, at);
    pen.strokeStyle = colour; pen.lineWidth = wide;
    pen.strokeRect(x - 1, y - 1, g.step - 1, g.step - 1);
  }

  function mapAt(node, event) {
    const box = body(node).firstChild.getBoundingClientRect(), g = node._maps;
    const across = Math.floor((event.clientX - box.left - g.left) / g.step), down = Math.floor((event.clientY - box.top - g.top) / g.step);
    return across >= 0 && down >= 0 && across < g.across && down < g.down ? (g.wide ? [across, down] : [down, across]) : null;
  }

  function nameMap(node, at) { node._lab.explain(at.map((number, k) => `${node._picture.names[k]} ${number}`).join(", ")); }

  function pickMap(node, at) {
    node._cursor = at;
    G.set(node._lab.id, Object.fromEntries(node._picture.pick.map((name, k) => [name, at[k]])));
  }

  function keyMap(event) {
    const node = event.currentTarget, g = node._maps, move = { ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] }[event.key];
    const from = node._cursor || node._picture.picked;
    if (event.key === "Enter" || event.key === " ") { pickMap(node, from); event.preventDefault(); return; }
    if (!move) return;
    const [x, y] = g.wide ? move : [move[1], move[0]];
    node._cursor = [from[0] + x, from[1] + y].map((v, k) => Math.max(0, Math.min(node._picture.grid[k] - 1, v)));
    drawMaps(node, node._cursor);
    nameMap(node, node._cursor);
    event.preventDefault();
  }
  // An item was clicked: its control gets what the picture has for it, or else its index.
  const pick = (node, p, i) => G.set(node._lab.id, { [p.pick]: p.picks ? p.picks[i] : i });

  // ---- bars ---------------------------------------------------------------------------------------------------------

  G.painters.bars = function (node, p, lab) {
    titled(node, p);
    const still = (i) => !p.pick || (p.picks && p.picks[i] === null);
    if (reshaped(node, p.labels.map((_, i) => still(i)), p.keys)) {
      const list = el("div", { class: "bars" });
      p.labels.forEach((_, i) => {
        const name = still(i) ? el("span") : el("button", { type: "button", class: "pick" });
        name.classList.add("bar-label");
        list.append(el("div", { class: "bar", "data-key": (p.keys || [])[i] }, name, el("span", { class: "track" }, el("i", { class: "fill" })), el("span", { class: "bar-value" }), el("span", { class: "bar-note" })));
      });
      body(node).replaceChildren(list);
      G.listen(node, {
        click(event) {
          const button = event.target.closest(".pick"), now = node._picture;
          if (button) pick(node, now, [...body(node).firstChild.children].indexOf(button.parentNode));
        },
      });
    }
    const limit = p.limit || Math.max(1e-12, ...p.values.filter((v) => typeof v === "number").map(Math.abs));
    const signed = p.values.some((v) => v < 0), rows = body(node).firstChild.children;
    node.classList.toggle("signed", signed);
    p.values.forEach((value, i) => {
      const [name, track, shown, note] = rows[i].children, share = typeof value === "number" ? Math.min(1, Math.abs(value) / limit) : 0;
      if (name.textContent !== p.labels[i]) name.textContent = p.labels[i];
      const bar = track.firstChild;
      bar.style.width = (signed ? 50 : 100) * share + "%";
      bar.style.marginLeft = signed ? (value < 0 ? 50 - 50 * share : 50) + "%" : "0";
      bar.classList.toggle("negative", value < 0);
      shown.textContent = p.written ? p.written[i] : p.share ? G.percent(value) : G.number(value) + (p.unit ? " " + p.unit : "");
      note.textContent = (p.notes || [])[i] || "";
      rows[i].classList.toggle("picked", p.picked === i);
      rows[i].classList.toggle("marked", (p.marked || []).includes(i));
    });
  };

  // ---- cells: a table of words, each tinted by its share --------------------------------------------------------------

  G.painters.cells = function (node, p) {
    titled(node, p);
    const R = p.texts.length, C = p.texts[0].length;
    if (reshaped(node, R, C, p.rows, p.columns, p.pick)) buildCells(node, p, R, C);
    node.querySelector("table").setAttribute("aria-label", p.title);
    const marked = new Set((p.marked || []).map(String)), [i0, j0] = p.picked || [];
    node._cells.forEach((row, i) => row.forEach((cell, j) => {
      const text = G.visible(p.texts[i][j]);
      if (cell.textContent !== text) cell.textContent = text;
      G.tint(cell, G.strength(p.shares[i][j], "share", 1), "share");
      const on = i === i0 && j === j0;
      cell.classList.toggle("picked", on);
      cell.classList.toggle("marked", marked.has(`${i},${j}`));
      if (p.pick) cell.setAttribute("aria-selected", on);
    }));
    const chosen = p.picked && (node._cells[i0] || [])[j0];
    if (chosen) bringIntoView(chosen, node.querySelector(".scroll"));
  };

  // Sideways only: the page itself stays where it is.
  function bringIntoView(cell, room) {
    const [from, to] = [cell.offsetLeft, cell.offsetLeft + cell.offsetWidth], head = 50;
    if (to > room.scrollLeft + room.clientWidth) room.scrollLeft = to - room.clientWidth + 4;
    else if (from < room.scrollLeft + head) room.scrollLeft = Math.max(0, from - head);
  }

  function buildCells(node, p, R, C) {
    const table = el("table", { class: "cells", role: p.pick ? "grid" : null });
    if (p.columns) table.append(el("thead", {}, el("tr", {}, p.rows ? el("td", { class: "corner" }) : null, ...p.columns.map((name) => el("th", { scope: "col" }, G.visible(name))))));
    const tbody = el("tbody"), [i0, j0] = p.picked || [0, 0];
    node._rows = [];
    node._cells = p.texts.map((_, i) => {
      const line = el("tr", {}, p.rows ? el("th", { scope: "row" }, p.rows[i]) : null);
      const cells = Array.from({ length: C }, (_, j) => el("td", { tabindex: i === i0 && j === j0 ? 0 : -1, role: p.pick ? "gridcell" : null, dir: "auto", "data-i": i, "data-j": j }));
      line.append(...cells);
      tbody.append(line);
      return cells;
    });
    table.append(tbody);
    table.setAttribute("aria-label", p.title);
    body(node).replaceChildren(el("div", { class: "scroll" }, table));
    const tell = (event) => {
      const cell = event.target.closest("td[data-i]"), now = node._picture;
      if (!cell) return;
      const [i, j] = [+cell.dataset.i, +cell.dataset.j];
      node._lab.explain([now.rows && now.rows[i], now.columns && G.visible(now.columns[j])].filter(Boolean).join(" × ") + `: ${G.visible(now.texts[i][j])} ${G.percent(now.shares[i][j])}`);
    };
    G.listen(node, { pointerover: tell, focusin: tell, pointerleave: leave, focusout: leave, click: clickCell, keydown: arrows });
  }

  // ---- stacked: bars cut into the same parts --------------------------------------------------------------------------

  G.painters.stacked = function (node, p) {
    titled(node, p);
    if (reshaped(node, p.labels.length, p.items.length)) {
      const legend = el("div", { class: "legend" }, ...p.items.map((part) => el("span", { class: "t-" + part.tensor }, "■ " + part.name)));
      const list = el("div", { class: "stacked" });
      p.labels.forEach((_, i) => list.append(el("div", { class: "stacked-row", tabindex: 0, role: "img", "data-i": i }, el("span", { class: "bar-label" }), el("span", { class: "stacked-track" }, ...p.items.map((part) => el("i", { class: "t-" + part.tensor }))))));
      body(node).replaceChildren(legend, list);
      const tell = (event) => { const line = event.target.closest("[data-i]"); if (line) node._lab.explain(line.getAttribute("aria-label")); };
      G.listen(node, { pointerover: tell, focusin: tell, pointerleave: leave, focusout: leave });
    }
    [...body(node).lastChild.children].forEach((line, i) => {
      const [name, track] = line.children, said = p.items.filter((part) => part.values[i]).map((part) => `${part.name} ${G.percent(part.values[i])}`);
      name.textContent = p.labels[i];
      line.classList.toggle("picked", p.picked === i);
      line.setAttribute("aria-label", `${p.labels[i]}: ${said.join(", ")}`);
      p.items.forEach((part, k) => {
        const share = part.values[i], piece = track.children[k];
        piece.style.width = 100 * share + "%";
        piece.textContent = share >= 0.12 ? G.percent(share) : "";
      });
    });
  };

  // ---- tokens -------------------------------------------------------------------------------------------------------

  G.painters.tokens = function (node, p, lab) {
    titled(node, p);
    const show = p.show || [];
    if (reshaped(node, p.pieces, show, p.pick)) {
      const list = el("div", { class: "chips" + (p.pick ? " picking" : "") });
      p.pieces.forEach((piece, i) => list.append(chip(piece, i, p, show)));
      body(node).replaceChildren(list);
      G.listen(node, {
        click(event) {
          const at = event.target.closest("[data-pick]"), now = node._picture;
          if (at) pick(node, now, +at.dataset.pick);
        },
      });
    }
    const limit = p.scale === "signed" && p.shares ? G.largest([p.shares]) : p.shares ? Math.max(1e-12, ...p.shares) : 1;
    [...body(node).firstChild.children].forEach((node, i) => {
      if (p.shares) {
        G.tint(node, G.strength(p.shares[i], p.scale, limit), p.scale);
      }
      node.setAttribute("aria-pressed", p.picked === i);
      node.classList.toggle("picked", p.picked === i);
      node.classList.toggle("marked", (p.marked || []).includes(i));
      if (!p.pick) node.removeAttribute("aria-pressed");
    });
  };

  function chip(piece, i, p, show) {
    const inside = [el("span", { class: "chip-text", dir: "auto" }, piece.text === undefined ? piece.hex : show.includes("plain") ? piece.text : G.visible(piece.text))];
    if (piece.text === undefined) inside[0].classList.add("fragment");
    if (piece.id !== undefined && !show.includes("no-ids")) inside.push(el("span", { class: "chip-id" }, String(piece.id)));
    if (piece.hex && piece.text !== undefined && show.includes("bytes")) inside.push(el("span", { class: "chip-bytes" }, piece.hex));
    if (piece.note) inside.push(el("span", { class: "chip-note" }, piece.note));
    const attributes = { class: "chip" + (i % 2 ? " odd" : ""), "data-key": piece.key || "token:" + i };
    return p.pick ? el("button", { ...attributes, type: "button", "data-pick": i }, ...inside) : el("span", attributes, ...inside);
  }

  // ---- readouts and tables ---------------------------------------------------------------------------------------

  G.painters.readouts = function (node, p) {
    titled(node, p);
    if (reshaped(node, p.items.map((item) => item[0]))) {
      const list = el("dl", { class: "readouts" });
      p.items.forEach(([name]) => list.append(el("div", {}, el("dt", {}, name), el("dd"))));
      body(node).replaceChildren(list);
    }
    p.items.forEach(([, value], i) => { body(node).firstChild.children[i].lastChild.textContent = value; });
  };

  function shareCell(share) {
    const bar = el("i");
    bar.style.width = 100 * Math.max(0, Math.min(1, share)) + "%";
    return el("td", { class: "num share" }, bar, el("span", {}, G.percent(share)));
  }

  G.painters.table = function (node, p) {
    titled(node, p);
    const table = el("table", { class: "plain" }, el("thead", {}, el("tr", {}, ...p.columns.map((c) => el("th", { scope: "col" }, c)))));
    const tbody = el("tbody");
    p.rows.forEach((row, i) => {
      const cells = row.map((cell) => cell && cell.share !== undefined ? shareCell(cell.share) : el("td", { class: typeof cell === "number" ? "num" : null }, typeof cell === "number" ? G.number(cell) : String(cell)));
      tbody.append(el("tr", { class: (p.marked || []).includes(i) ? "marked" : null }, ...cells));
    });
    table.append(tbody);
    table.setAttribute("aria-label", p.title);
    body(node).replaceChildren(el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": p.title }, table));
  };
})();
