// The shell: theme, the sentence that every page shares, and the moment when the live page takes over from the first response.
(function () {
  "use strict";
  const G = window.glassbox;

  // ---- theme --------------------------------------------------------------------------------------------------------

  document.querySelector("[data-theme-switch]").addEventListener("click", () => {
    const root = document.documentElement, next = root.dataset.theme === "dark" ? "light" : "dark";
    root.dataset.theme = next;
    try { localStorage.setItem("glassbox.theme", next); } catch (e) { /* storage may be off */ }
    G.repaint();
  });

  let width = innerWidth, resize = 0;
  addEventListener("resize", () => {
    if (innerWidth === width) return;
    width = innerWidth;
    clearTimeout(resize);
    resize = setTimeout(G.repaint, 150);
  });

  // ---- the sentence ---------------------------------------------------------------------------------------------------

  const field = document.getElementById("sentence"), linked = new URLSearchParams(location.search).has("s");
  const kept = G.store.get("sentence");
  G.sentence = linked ? G.boot.sentence : typeof kept === "string" ? kept : G.boot.sentence;
  field.value = G.sentence;
  if (linked) G.store.set("sentence", G.sentence); // a class that follows a link keeps its sentence in the next chapter

  function sentenceChanged() {
    if (field.value === G.sentence) return;
    G.sentence = field.value;
    G.store.set("sentence", G.sentence);
    document.getElementById("sentence-note").textContent = "";
    for (const lab of Object.values(G.labs)) if (lab.real && lab.seen) G.ask(lab);
    G.rememberLink();
  }

  let pause = 0;
  field.addEventListener("input", () => { clearTimeout(pause); pause = setTimeout(sentenceChanged, 500); });
  field.addEventListener("change", sentenceChanged);
  field.form.addEventListener("submit", (event) => { event.preventDefault(); sentenceChanged(); });

  // ---- first pictures ---------------------------------------------------------------------------------------------------

  const unpainted = new Set();
  for (const lab of Object.values(G.labs)) {
    const section = G.section(lab.id);
    section.querySelector(".lab-figure").after(G.el("p", { class: "explain", "aria-live": "polite" }));
    if (lab.first.picture || lab.first.error) unpainted.add(lab);
    else section.classList.add("unseen");
  }
  G.paintFirst = (lab) => { if (unpainted.delete(lab)) G.show(lab, lab.first); };
  G.inTurn(G.paintFirst).then(ready);

  // Canvases and arcs were drawn with whatever font was there: again, once theirs has come.
  const late = ['12px "Glass Box Sans"', '12px "Glass Box Mono"'].filter((font) => !document.fonts.check(font));
  if (late.length) Promise.all(late.map((font) => document.fonts.load(font))).then(G.repaint, () => {});

  // ---- taking over ------------------------------------------------------------------------------------------------------

  const first = document.getElementById("first"), live = document.getElementById("live");
  const slots = [...first.querySelectorAll("[data-move]")];

  function takeOver() {
    const page = live.querySelector("#page");
    if (!page) return;
    const targets = slots.map((slot) => page.querySelector(`[data-move="${CSS.escape(slot.dataset.move)}"]`));
    if (targets.some((target) => !target)) return;
    watching.disconnect();
    const focused = first.contains(document.activeElement) ? document.activeElement : null, moved = earlyChanges();
    slots.forEach((slot, i) => targets[i].replaceChildren(...slot.childNodes));
    first.remove();
    live.classList.add("on");
    live.removeAttribute("aria-hidden");
    for (const [id, values] of moved) G.set(id, values);
    for (const lab of Object.values(G.labs)) G.limit(lab);
    if (focused) (focused.isConnected ? focused : document.getElementById(focused.id) || live).focus({ preventScroll: true });
    for (const lab of Object.values(G.labs)) {
      if (!lab.turn) G.showNotes(lab, lab.first.notes);
      if (!lab.first.picture && !lab.first.error) whenSeen(lab);
    }
    G.resumeJobs();
    G.watchEnd();
    G.rememberLink();
    ready();
  }

  function ready() {
    if (live.classList.contains("on") && !unpainted.size) document.documentElement.dataset.ready = "1";
  }

  // What the reader moved before the app was there.
  function earlyChanges() {
    const changes = [];
    for (const lab of Object.values(G.labs)) if (lab.turn) changes.push([lab.id, Object.fromEntries(Object.keys(lab.controls).filter((n) => n !== "sentence").map((n) => [n, lab.values[n]]))]);
    return changes;
  }

  function whenSeen(lab) {
    const near = new IntersectionObserver((entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      near.disconnect();
      lab.seen = true;
      G.ask(lab);
    }, { rootMargin: "250px" });
    near.observe(G.section(lab.id));
  }

  const watching = new MutationObserver(takeOver);
  if (slots.length) watching.observe(live, { childList: true, subtree: true });
})();
