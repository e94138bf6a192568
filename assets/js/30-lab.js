// A lab in the browser: reads its controls, asks the server (one request in flight, the newest value wins), shows the answer.
(function () {
  "use strict";
  const G = window.glassbox;
  const LATE = 250; // ms after which a reader is told that something is being computed

  G.section = (id) => document.querySelector(`#live.on section#${CSS.escape(id)}`) || document.querySelector(`#first section#${CSS.escape(id)}`) || document.getElementById(id);

  for (const [id, declared] of Object.entries(G.boot.labs)) {
    G.labs[id] = { id, ...declared, linkNotes: declared.first.notes, values: { ...declared.first.values }, named: {}, turn: 0, inFlight: 0, waiting: false, seen: false,
      explain(text) { const line = G.section(id).querySelector(".explain"); if (line) line.textContent = text; } };
  }

  // ---- controls -----------------------------------------------------------------------------------------------------

  G.field = (id, name) => G.section(id) && G.section(id).querySelector("#" + CSS.escape(`${id}-${name}`));

  function read(node) {
    if (node.dataset.value !== undefined) return Number(node.dataset.value);
    if (node.type === "checkbox") return node.checked;
    if (node.type === "range" || node.type === "number") return node.valueAsNumber;
    return node.value;
  }

  // Set a control as if the reader had moved it; React hears the event and keeps its own copy right.
  function write(node, value) {
    if (node.dataset.value !== undefined) { node.dataset.value = value; return; }
    if (node.type === "checkbox") {
      const on = value === true || value === "1" || value === 1 || value === "true";
      if (node.checked !== on) node.click();
      return;
    }
    if (node._declared && +value > +node.max) node.max = node._declared;
    const kind = node.tagName === "SELECT" ? HTMLSelectElement : node.tagName === "TEXTAREA" ? HTMLTextAreaElement : HTMLInputElement;
    Object.getOwnPropertyDescriptor(kind.prototype, "value").set.call(node, value);
    node.dispatchEvent(new Event(node.tagName === "SELECT" ? "change" : "input", { bubbles: true }));
  }

  let batch = false;

  G.set = function (id, values) {
    const lab = G.labs[id];
    if (!lab) return;
    batch = true;
    for (const [name, value] of Object.entries(values)) {
      const node = G.field(id, name);
      if (node) { write(node, value); lab.values[name] = read(node); }
    }
    batch = false;
    changed(lab);
  };

  function noted(event) {
    const node = event.target, section = node.closest && node.closest("section.lab");
    if (!section || !node.id || !G.labs[section.id]) return;
    const lab = G.labs[section.id], name = node.id.slice(section.id.length + 1);
    if (!(name in lab.controls)) return;
    lab.values[name] = read(node);
    written(node);
    if (!batch) reason(section, "");
    if (!batch) changed(lab, node.type === "text" || node.tagName === "TEXTAREA");
  }
  // In the capture phase: the request leaves before React does its own bookkeeping, and both go on side by side.
  document.addEventListener("input", (event) => { if (event.target.tagName !== "SELECT") noted(event); }, true);
  document.addEventListener("change", (event) => { if (event.target.tagName === "SELECT") noted(event); }, true);

  // A slider ends where the lab says that nothing more happens; the value that was asked for is kept.
  G.limit = function (lab) {
    for (const [name, high] of Object.entries((lab.shown && lab.shown.most) || {})) {
      const node = G.field(lab.id, name);
      if (!node || +node.max === high) continue;
      node._declared = node._declared || node.max;
      node.max = high;
      Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set.call(node, Math.min(high, lab.values[name]));
      written(node);
    }
  };

  // The number beside a slider follows the finger without waiting for anyone.
  function written(node) {
    const shown = node.type === "range" && node.parentNode.querySelector(".control-value");
    if (shown) shown.textContent = String(node.value).replace("-", "−");
  }

  // Why an example is worth a look: told when it is chosen, gone when the reader goes on alone.
  function reason(section, text) {
    const line = section && section.querySelector(".preset-why");
    if (line && line.textContent !== text) line.textContent = text;
  }

  let typing = {};
  function changed(lab, typed) {
    lab.linkNotes = {};
    clearTimeout(typing[lab.id]);
    if (typed) typing[lab.id] = setTimeout(() => G.ask(lab), 120);
    else G.ask(lab);
    G.rememberLink();
  }

  // ---- asking -------------------------------------------------------------------------------------------------------

  // One Dash callback, called with the renderer's own request but without its two passes through the page's state,
  // which cost a dragged slider more than the server does. Resolves with the new value of the callback's output.
  G.call = async (to, from, value) => (await (await G.post(to, "data", from, value)).json()).response[to].data;

  // The request itself; `handles` name a job. An answer other than 200 is an error with its status, except 204: no news.
  G.post = async function (to, property, from, value, handles) {
    const response = await fetch("/_dash-update-component" + (handles ? "?" + new URLSearchParams(handles) : ""), {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ output: `${to}.${property}`, outputs: { id: to, property }, inputs: [{ id: from, property: "data", value }], changedPropIds: [`${from}.data`] }),
    });
    if (response.status !== 200 && !(handles && response.status === 204)) throw new Error(String(response.status));
    return response;
  };

  // At most one request of a lab is in flight; what the reader does meanwhile waits as one newest value.
  G.ask = function (lab) {
    G.paintFirst(lab); // if it still waits for its turn
    lab.turn += 1;
    if (lab.inFlight) lab.waiting = true;
    else send(lab);
  };

  function send(lab) {
    lab.waiting = false;
    lab.inFlight = lab.turn;
    if (lab.real) lab.values.sentence = G.sentence;
    clearTimeout(lab.late);
    lab.late = setTimeout(() => G.section(lab.id).classList.add("busy"), LATE);
    G.call(`${lab.id}-answer`, `${lab.id}-asked`, { values: lab.values, ...G.reader(lab) }).then(
      (answer) => { G.toast(""); try { G.show(lab, answer); } finally { settled(lab, 0); } },
      (problem) => {
        G.toast(problem.message === "413" ? "That was too much at once for the server. Shorten the text." : "The server did not answer. What you see may be out of date; move a control to try again.");
        settled(lab, 800);
      },
    );
  }

  function settled(lab, pause) {
    clearTimeout(lab.late);
    if (pause) { setTimeout(() => settled(lab, 0), pause); return; }
    lab.inFlight = 0;
    if (lab.waiting) send(lab);
    else G.section(lab.id).classList.remove("busy");
  }

  // Work on every lab: those in view at once, each other one as a task of its own, so that nobody waits for what is not seen.
  G.inTurn = async function (work) {
    const all = Object.values(G.labs).map((lab) => [lab, G.section(lab.id).getBoundingClientRect()]);
    const near = ([, box]) => box.top < innerHeight && box.bottom > 0;
    for (const [lab] of all.filter(near)) work(lab);
    for (const [lab] of all.filter((one) => !near(one))) {
      await new Promise((now) => setTimeout(now));
      work(lab);
    }
  };

  // ---- showing ------------------------------------------------------------------------------------------------------

  G.show = function (lab, answer) {
    const section = G.section(lab.id), find = (name) => section.querySelector("." + name);
    G.showNotes(lab, { ...lab.linkNotes, ...answer.notes }); // what was wrong with a link stays until a control is moved
    find("lab-message").textContent = answer.error || "";
    section.classList.toggle("failed", !!answer.error);
    section.classList.remove("unseen");
    if (lab.long) G.jobAnswered(lab, answer);
    if (answer.error || !answer.picture) return;
    lab.shown = answer;
    G.limit(lab);
    lab.named = {};
    const stage = find("lab-figure").firstElementChild;
    G.paint(stage, answer.picture, lab);
    // On a phone the height kept free is a guess: pictures that are lower would leave a gap.
    if (innerWidth <= 700) stage.parentNode.style.setProperty("--phone", 0);
    G.rich(find("lab-sentence"), answer.sentence);
    // A quantity that the picture does not show now is an ordinary word: nothing would light up with it.
    find("lab-sentence").querySelectorAll(".quantity").forEach((node) => {
      if (section.querySelectorAll(`[data-key="${CSS.escape(node.dataset.key)}"]`).length < 2) node.replaceWith(node.textContent);
    });
    const formula = find("lab-formula");
    if (formula._latex !== answer.formula) { formula.innerHTML = answer.formula; formula._latex = answer.formula; }
    find("lab-time").textContent = answer.ms === undefined ? "" : `computed in ${duration(answer.ms)}`;
    // The picture's text alternative is the sentence that says what it shows now.
    stage.setAttribute("aria-label", G.plain(answer.sentence));
    stage.setAttribute("role", "group");
  };

  const duration = (ms) => (ms < 10 ? ms.toFixed(1) + " ms" : ms < 10000 ? Math.round(ms) + " ms" : Math.round(ms / 1000) + " s");

  // Beside each control: what was wrong with its value, and what was done instead.
  G.showNotes = function (lab, notes) {
    const section = G.section(lab.id);
    section.querySelectorAll(".controls .control-note").forEach((node) => { node.textContent = ""; });
    for (const [name, note] of Object.entries(notes || {})) {
      const node = name === "sentence" ? document.getElementById("sentence-note") : section.querySelector(`[id="${lab.id}-${name}-note"]`);
      if (node) node.textContent = note;
    }
  };

  // ---- links --------------------------------------------------------------------------------------------------------

  const same = (a, b) => a === b || String(a) === String(b);
  const inLink = (value) => (value === true ? "1" : value === false ? "0" : String(value));

  G.link = function (only) {
    const query = new URLSearchParams();
    for (const lab of Object.values(G.labs)) {
      if (only && lab !== only) continue;
      for (const [name, key] of Object.entries(lab.controls)) {
        if (name !== "sentence" && !same(lab.values[name], lab.defaults[name])) query.set(key, inLink(lab.values[name]));
      }
    }
    if (G.sentence !== G.boot.defaultSentence && (!only || only.real)) query.set("s", G.sentence);
    const present = new URLSearchParams(location.search).get("present");
    if (present !== null && !only) query.set("present", present);
    const text = query.toString();
    return location.pathname + (text ? "?" + text : "") + (only ? "#" + only.id : location.hash);
  };

  let linkTimer = 0;
  G.rememberLink = function () {
    clearTimeout(linkTimer);
    linkTimer = setTimeout(() => history.replaceState(history.state, "", G.link()), 250);
  };

  // A link to another place on the page. Dash must not hear of it: it would find our changed address and draw the page
  // anew, without the prose. The address of an older entry is brought up to what is on the screen.
  addEventListener("popstate", (event) => { event.stopImmediatePropagation(); G.rememberLink(); }, true);

  // ---- tools --------------------------------------------------------------------------------------------------------

  const tools = {
    reset(lab) { G.set(lab.id, Object.fromEntries(Object.entries(lab.defaults).filter(([name]) => name !== "sentence"))); },
    link(lab) {
      const address = location.origin + G.link(lab);
      const done = () => G.say("Link copied: it opens this lab with these settings.");
      if (navigator.clipboard) navigator.clipboard.writeText(address).then(done, () => window.prompt("Copy this link:", address));
      else window.prompt("Copy this link:", address);
    },
    code(lab, button) {
      const drawer = G.section(lab.id).querySelector(".lab-code"), open = drawer.hidden;
      drawer.hidden = !open;
      button.setAttribute("aria-expanded", open);
      if (open) fetch(`/lab/${lab.id}/code?${query(lab)}`).then((r) => r.text()).then((html) => { drawer.innerHTML = html; }, () => { drawer.textContent = "The server did not answer."; });
    },
    csv(lab) { download(lab, "csv"); },
    json(lab) { download(lab, "json"); },
    picture(lab) { G.savePicture(lab).catch(() => G.say("This browser cannot turn the picture into a file.")); },
  };

  const query = (lab) => new URLSearchParams(Object.entries(lab.controls).map(([name, key]) => [key, inLink(name === "sentence" ? G.sentence : lab.values[name])])).toString();

  function download(lab, kind) {
    const headers = Object.fromEntries(Object.values(G.reader(lab)).map((reader) => ["Glass-Box-Reader", reader]));
    fetch(`/lab/${lab.id}/data.${kind}?${query(lab)}`, { headers }).then(async (response) => {
      if (!response.ok) return G.say(await response.text());
      G.save(await response.blob(), `${lab.id}.${kind}`);
    }, () => G.say("The server did not answer."));
  }

  G.save = function (blob, name) {
    const link = G.el("a", { href: URL.createObjectURL(blob), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };

  document.addEventListener("click", (event) => {
    const tool = event.target.closest("[data-tool]"), section = tool && tool.closest("section.lab");
    if (section) tools[tool.dataset.tool](G.labs[section.id], tool);
    const setter = event.target.closest("[data-set]");
    if (setter) {
      G.set(setter.dataset.set, JSON.parse(setter.dataset.values));
      reason(G.section(setter.dataset.set), setter.title);
      const target = G.section(setter.dataset.set);
      if (!setter.closest("section.lab")) target.scrollIntoView({ block: "nearest", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
    }
  });

  // Hovering or focusing a quantity lights it up wherever else it stands in the lab.
  for (const event of ["pointerover", "focusin"]) document.addEventListener(event, (e) => {
    const node = e.target.closest && e.target.closest("[data-key]"), section = node && node.closest("section.lab");
    if (section && G.labs[section.id]) G.light(G.labs[section.id], node.dataset.key);
  });
  for (const event of ["pointerout", "focusout"]) document.addEventListener(event, (e) => {
    const node = e.target.closest && e.target.closest("[data-key]"), section = node && node.closest("section.lab");
    if (section && G.labs[section.id]) G.light(G.labs[section.id], null);
  });

  // ---- pictures as files ----------------------------------------------------------------------------------------------

  // The picture as it stands on the page, its styles and fonts written into it: a PNG at twice its size.
  G.savePicture = async function (lab) {
    const source = G.section(lab.id).querySelector(".lab-figure"), box = source.getBoundingClientRect();
    const width = Math.ceil(box.width) + 32, height = Math.ceil(box.height) + 32;
    const picture = await loaded(standalone(source, width, height, await fonts()));
    const canvas = G.el("canvas", { width: 2 * width, height: 2 * height });
    canvas.getContext("2d").drawImage(picture, 0, 0, 2 * width, 2 * height);
    canvas.toBlob((blob) => G.save(blob, lab.id + ".png"));
  };

  function standalone(source, width, height, faces) {
    const copy = source.cloneNode(true);
    inline(source, copy);
    const drawn = [...copy.querySelectorAll("canvas")];
    source.querySelectorAll("canvas").forEach((canvas, i) => drawn[i].replaceWith(G.el("img", { src: canvas.toDataURL(), width: canvas.clientWidth, height: canvas.clientHeight })));
    copy.style.margin = "16px";
    const ground = getComputedStyle(document.body).backgroundColor, page = new XMLSerializer().serializeToString(copy);
    const text = `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}"><style>${faces}</style><rect width="100%" height="100%" fill="${ground}"/><foreignObject width="100%" height="100%">${page}</foreignObject></svg>`;
    return "data:image/svg+xml;charset=utf-8," + encodeURIComponent(text);
  }

  const loaded = (address) => new Promise((done, failed) => {
    const image = new Image();
    image.onload = () => done(image);
    image.onerror = failed;
    image.src = address;
  });

  async function fonts() {
    const faces = await Promise.all([["Glass Box Serif", "serif"], ["Glass Box Sans", "sans"], ["Glass Box Mono", "mono"]].map(async ([family, file]) => {
      const bytes = new Uint8Array(await (await fetch(`/assets/fonts/${file}.woff2`)).arrayBuffer());
      let text = "";
      for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode(...bytes.subarray(i, i + 8192));
      return `@font-face{font-family:"${family}";font-weight:400 700;src:url(data:font/woff2;base64,${btoa(text)})}`;
    }));
    return faces.join("");
  }

  const KEPT = ["box-sizing", "border-spacing", "min-width", "min-height", "flex", "overflow", "color", "background-color", "font-family", "font-size", "font-weight", "font-style", "display", "padding", "margin", "border", "border-radius", "text-align", "white-space", "fill", "stroke", "stroke-width", "stroke-dasharray", "opacity", "width", "height", "flex-direction", "flex-wrap", "gap", "align-items", "justify-content", "position", "left", "top", "grid-template-columns", "border-collapse", "line-height", "paint-order", "stroke-linejoin", "stroke-linecap", "grid-column-start", "grid-column-end", "max-width", "box-shadow", "outline"];
  function inline(from, to) {
    const style = getComputedStyle(from);
    to.setAttribute("style", KEPT.map((name) => `${name}:${style.getPropertyValue(name)}`).join(";"));
    [...from.children].forEach((child, i) => to.children[i] && inline(child, to.children[i]));
  }
})();
