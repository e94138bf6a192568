// What every painter uses: numbers as text, colours of values, small DOM helpers. One global: window.glassbox.
(function () {
  "use strict";
  const G = (window.glassbox = { painters: {}, labs: {}, boot: {} });

  G.boot = JSON.parse(document.getElementById("boot").textContent);

  G.el = function (tag, attributes, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (value === null || value === undefined || value === false) continue;
      if (name === "class") node.className = value;
      else node.setAttribute(name, value === true ? "" : value);
    }
    node.append(...children.filter((child) => child !== null && child !== undefined));
    return node;
  };

  G.svg = function (tag, attributes, ...children) {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes || {})) if (value !== null && value !== undefined) node.setAttribute(name, value);
    node.append(...children);
    return node;
  };

  const WORDS = { nan: "not a number", inf: "∞", "-inf": "−∞" };

  // A number with `digits` decimals, or four significant digits; a real minus sign; "−∞" for what is masked.
  G.number = function (value, digits) {
    if (typeof value !== "number") return WORDS[value] || String(value);
    const size = Math.abs(value);
    let text;
    if (digits !== undefined) text = value.toFixed(digits);
    else if (value === 0) text = "0";
    else if (size >= 1e6 || size < 1e-4) text = value.toExponential(2).replace("e+", "e");
    else if (Number.isInteger(value)) text = String(value);
    else text = value.toFixed(Math.max(0, Math.min(6, 3 - Math.floor(Math.log10(size)))));
    if (Number(text) === 0 && digits !== undefined) text = (0).toFixed(digits);
    return text.replace("-", "−");
  };

  G.percent = (value) => (typeof value === "number" ? (100 * value).toFixed(value !== 0 && Math.abs(value) < 0.1 ? 2 : 1) + "%" : "");

  // Decimals that give the largest value of a matrix four significant digits, so that points align.
  G.decimals = function (values) {
    const finite = values.filter((v) => typeof v === "number");
    if (!finite.length || finite.every(Number.isInteger)) return 0;
    const largest = Math.max(...finite.map(Math.abs), 1e-9);
    return Math.max(0, Math.min(4, 3 - Math.floor(Math.log10(Math.max(largest, 0.1)))));
  };

  // Share of full colour, -1 to 1. "signed" runs both ways from zero; "share" runs from 0 to 1.
  G.strength = function (value, scale, limit) {
    if (typeof value !== "number" || scale === "none") return 0;
    const x = value / (limit || 1);
    return scale === "share" ? Math.max(0, Math.min(1, x)) : Math.max(-1, Math.min(1, x));
  };

  // The theme's ends of the scales as red, green, blue; read once a theme.
  let ends = null;
  G.themeChanged = () => { ends = null; };
  function scaleEnds() {
    if (ends) return ends;
    const css = getComputedStyle(document.documentElement);
    ends = {};
    for (const name of ["zero", "positive", "negative", "share", "masked"]) {
      const hex = css.getPropertyValue("--" + name).trim().replace("#", "");
      ends[name] = [0, 2, 4].map((k) => parseInt(hex.slice(k, k + 2), 16));
    }
    return ends;
  }

  // Colour of a value: between zero's colour and the end of its scale.
  G.mix = function (strength, scale) {
    const all = scaleEnds(), end = scale === "share" ? all.share : strength < 0 ? all.negative : all.positive, a = Math.abs(strength);
    return all.zero.map((z, k) => Math.round(z + (end[k] - z) * a));
  };
  G.masked = () => scaleEnds().masked;
  G.css = (rgb) => `rgb(${rgb.join(",")})`;

  // Black or white, whichever reads better on a colour (WCAG relative luminance; never below 4.5 : 1).
  G.ink = function (rgb) {
    const [r, g, b] = rgb.map((c) => { const x = c / 255; return x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? "#000" : "#fff";
  };

  G.tint = function (node, strength, scale) {
    const rgb = G.mix(strength, scale), ground = G.css(rgb);
    if (node._ground === ground) return;
    node._ground = ground;
    node.style.background = ground;
    node.style.color = G.ink(rgb);
  };

  G.largest = (rows) => Math.max(1e-12, ...rows.flat().filter((v) => typeof v === "number").map(Math.abs));

  G.visible = (text) => text.replace(/ /g, "·").replace(/\n/g, "↵").replace(/\t/g, "⇥").replace(/\r/g, "␍");

  // Sentences may name a quantity: "{{score:2:1|0.82}}" lights up with every other place that shows it.
  G.rich = function (node, text) {
    const parts = String(text).split(/\{\{([^|{}]+)\|([^{}]*)\}\}/);
    node.replaceChildren();
    for (let i = 0; i < parts.length; i += 3) {
      node.append(parts[i]);
      if (i + 1 < parts.length) node.append(G.el("span", { class: "quantity", "data-key": parts[i + 1], tabindex: 0 }, parts[i + 2]));
    }
  };
  G.plain = (text) => String(text).replace(/\{\{[^|{}]+\|([^{}]*)\}\}/g, "$1");

  G.toast = function (text) {
    const banner = document.getElementById("banner");
    banner.textContent = text;
    banner.hidden = !text;
  };

  let heads = 0;
  G.say = function (text) {
    // A short confirmation that goes away by itself.
    G.toast(text);
    const mine = ++heads;
    setTimeout(() => { if (mine === heads) G.toast(""); }, 2500);
  };

  G.store = {
    get(name) { try { return JSON.parse(localStorage.getItem("glassbox." + name)); } catch (e) { return null; } },
    set(name, value) { try { localStorage.setItem("glassbox." + name, JSON.stringify(value)); } catch (e) { /* storage may be off */ } },
  };
})();
