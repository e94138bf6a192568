// The chapter around its labs: terms that open a definition, questions, progress.
(function () {
  "use strict";
  const G = window.glassbox;

  // ---- terms --------------------------------------------------------------------------------------------------------

  const box = document.getElementById("term");
  let open = null;

  function closeTerm() {
    if (open) open.setAttribute("aria-expanded", "false");
    open = null;
    box.hidden = true;
  }

  document.addEventListener("click", (event) => {
    const term = event.target.closest(".term");
    if (!term) { if (!event.target.closest("#term")) closeTerm(); return; }
    if (open === term) { closeTerm(); return; }
    closeTerm();
    open = term;
    term.setAttribute("aria-expanded", "true");
    box.textContent = G.boot.terms[term.dataset.term] || "";
    box.hidden = false;
    const at = term.getBoundingClientRect(), width = Math.min(340, innerWidth - 24);
    box.style.width = width + "px";
    box.style.left = Math.max(12, Math.min(at.left, innerWidth - width - 12)) + scrollX + "px";
    box.style.top = at.bottom + scrollY + 6 + "px";
  });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") closeTerm(); });

  // ---- check yourself -------------------------------------------------------------------------------------------------

  document.addEventListener("click", (event) => {
    const choice = event.target.closest("[data-choice]");
    if (!choice) return;
    const asked = choice.closest(".question"), lab = G.labs[asked.dataset.uses];
    asked.querySelectorAll("[data-choice]").forEach((node) => node.classList.remove("right", "wrong"));
    const values = lab ? { ...lab.values, sentence: G.sentence } : null;
    const line = asked.querySelector(".verdict"), late = setTimeout(() => { line.textContent = "Computing …"; }, 250);
    G.call(G.boot.chapter + "-verdict", G.boot.chapter + "-guess", { question: +asked.dataset.question, choice: +choice.dataset.choice, values })
      .then((verdict) => { clearTimeout(late); judged(asked, verdict); }, () => { clearTimeout(late); line.textContent = ""; G.say("The server did not answer."); });
  });

  function judged(asked, verdict) {
    const choices = asked.querySelectorAll("[data-choice]"), right = verdict.choice === verdict.right;
    if (choices[verdict.choice]) choices[verdict.choice].classList.add(right ? "right" : "wrong");
    const line = asked.querySelector(".verdict");
    line.innerHTML = verdict.say || "";
    if (verdict.computed) line.prepend(G.el("b", {}, `${right ? "Right." : "Not so."} ${verdict.computed}. `));
    if (right) G.progress((mine) => { mine.answered = { ...mine.answered, [verdict.question]: true }; });
  }

  // ---- progress ------------------------------------------------------------------------------------------------------

  G.progress = function (change) {
    const all = G.store.get("progress") || {}, mine = all[G.boot.chapter] || {};
    change(mine);
    all[G.boot.chapter] = mine;
    if (G.boot.chapter) G.store.set("progress", all);
    showProgress(all);
  };

  function showProgress(all) {
    document.querySelectorAll("[data-slug]").forEach((line) => {
      const mine = all[line.dataset.slug] || {};
      line.classList.toggle("visited", !!mine.visited);
      line.classList.toggle("finished", !!mine.finished);
    });
  }

  G.progress((mine) => { mine.visited = true; });
  G.watchEnd = function () {
    const end = document.querySelector("#live .turn");
    if (!end) return;
    new IntersectionObserver((entries) => { if (entries[0].isIntersecting) G.progress((mine) => { mine.finished = true; }); }).observe(end);
  };
})();
