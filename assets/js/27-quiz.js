// Questions that are judged in the browser: the answers came with them. The first choice counts; the score of each set of
// questions stays in this browser.
(function () {
  "use strict";
  const G = window.glassbox;
  const { el, titled, body } = G;

  G.painters.quiz = function (node, p) {
    titled(node, p);
    const shape = JSON.stringify(p.items);
    if (node._shape === shape) return;
    node._shape = shape;
    const given = (G.store.get("quiz") || {})[p.name] || {};
    const again = el("button", { type: "button", class: "again" }, "Start again");
    const score = el("p", { class: "score", role: "status" });
    again.addEventListener("click", () => { keep(p.name, {}); node._shape = null; G.painters.quiz(node, p); });
    const asked = p.items.map((item, i) => question(item, i, given, () => tell(score, p, given), p.name));
    body(node).replaceChildren(...asked, el("div", { class: "quiz-end" }, score, again));
    tell(score, p, given);
  };

  function question(item, index, given, changed, name) {
    const reply = el("p", { class: "verdict", role: "status" }), legend = el("legend"), choices = el("div", { class: "choices" });
    legend.innerHTML = item.ask;
    const buttons = item.choices.map((words) => { const button = el("button", { type: "button" }); button.innerHTML = words; return button; });
    const show = (chosen) => {
      buttons.forEach((button) => button.classList.remove("right", "wrong"));
      buttons[chosen].classList.add(chosen === item.right ? "right" : "wrong");
      reply.innerHTML = item.replies[chosen];
      reply.prepend(el("b", {}, chosen === item.right ? "Right. " : "Not so. "));
      reply.append(" ", el("a", { href: item.link }, item.chapter));
    };
    buttons.forEach((button, chosen) => button.addEventListener("click", () => {
      if (given[index] === undefined) { given[index] = chosen; keep(name, given); }
      show(chosen);
      changed();
    }));
    choices.append(...buttons);
    if (buttons[given[index]]) show(given[index]);
    return el("fieldset", { class: "question" }, legend, choices, reply);
  }

  function keep(name, given) { G.store.set("quiz", { ...G.store.get("quiz"), [name]: given }); }

  function tell(line, p, given) {
    const answered = p.items.filter((_, i) => given[i] !== undefined).length, right = p.items.filter((item, i) => given[i] === item.right).length;
    line.textContent = answered ? `${right} right at the first try, of ${answered} answered. ${p.items.length - answered ? p.items.length - answered + " to go." : "That was all."}` : `${p.items.length} questions. Nothing is sent anywhere: the score stays in this browser.`;
  }
})();
