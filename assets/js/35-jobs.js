// Long labs: a job is started, watched and stopped through Dash's own background-callback requests. The signed handles
// that name a job stay in this tab's session, so a reload finds it again and nobody else can ask about it.
(function () {
  "use strict";
  const G = window.glassbox;
  const EVERY = 500, IN_LINE = 1500, LATER = 60, RARELY = 6000; // ms from one question about a job to the next; in a long line longer
  const SILENCE = 60000; // ms without any answer after which the job is given up
  const GONE = "The job is no longer there: the server was started again, or nobody had asked about the job for a while.";

  const session = {
    get(name) { try { return JSON.parse(sessionStorage.getItem("glassbox." + name)); } catch (e) { return null; } },
    set(name, value) { try { if (value) sessionStorage.setItem("glassbox." + name, JSON.stringify(value)); else sessionStorage.removeItem("glassbox." + name); } catch (e) { /* storage may be off */ } },
  };

  // Who this reader is: drawn once a tab, known to no other.
  let name = session.get("reader");
  if (!/^[0-9a-f]{32}$/.test(name)) session.set("reader", (name = [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("")));

  // Sent along where the server keeps runs for their own reader: by the lab itself, and by labs that look at its run.
  G.reader = (lab) => (lab.follows || (lab.long && lab.long.keeps) ? { reader: name } : {});
  const followers = (lab) => Object.values(G.labs).filter((other) => other.follows === lab.id);

  const find = (lab, what) => G.section(lab.id).querySelector(`.lab-job ${what}`);
  const settings = (values) => JSON.stringify(Object.entries(values).map(([key, value]) => [key, String(value)]).sort());
  const current = (lab) => (lab.real ? { ...lab.values, sentence: G.sentence } : { ...lab.values });

  // Words about the job; what changes twice a second is not read aloud.
  function say(lab, words, aloud = true) {
    const line = find(lab, ".job-words");
    line.setAttribute("aria-live", aloud ? "polite" : "off");
    if (line.textContent !== words) line.textContent = words;
  }

  // The bar: Run or Stop, how far the job is, and in words what there is to know.
  function showBar(lab, share) {
    const running = !!lab.job, bar = find(lab, "progress"), focused = document.activeElement;
    find(lab, "[data-job=run]").hidden = running;
    find(lab, "[data-job=run]").textContent = lab.long.keeps && lab.partly === settings(current(lab)) ? "Resume" : "Run";
    find(lab, "[data-job=stop]").hidden = !running;
    if (focused && focused.dataset.job && focused.hidden) find(lab, "button:not([hidden])").focus();
    bar.hidden = !running;
    if (share === undefined) bar.removeAttribute("value");
    else bar.value = share;
    G.section(lab.id).classList.toggle("working", running);
  }

  function hint(lab) {
    if (lab.job) return;
    if (lab.fits) say(lab, "");
    else if (lab.partly === settings(current(lab))) say(lab, "The picture shows how far it came. " + (lab.long.keeps ? "Resume goes on from there." : "Run starts it again."));
    else if (lab.shown) say(lab, `The picture shows other settings. Run computes these; it takes ${lab.long.takes}.`);
    else say(lab, `Run starts it; it takes ${lab.long.takes}.`);
  }

  // The server's answer to settings, without starting anything: a finished result that is kept, or no picture.
  G.jobAnswered = function (lab, answer) {
    lab.fits = !!answer.picture && !answer.partly;
    if (lab.fits) lab.partly = "";
    if (answer.picture && answer.partly) lab.partly = settings(current(lab));
    showBar(lab, lab.share);
    hint(lab);
  };

  // ---- one job ------------------------------------------------------------------------------------------------------

  const ask = (lab, job, handles) => G.post(`${lab.id}-job`, "data", `${lab.id}-run`, { values: job.values, reader: name }, handles);

  async function start(lab) {
    const job = (lab.job = { values: current(lab) });
    lab.share = undefined;
    G.section(lab.id).querySelector(".lab-message").textContent = "";
    showBar(lab);
    say(lab, "Asking for a place …");
    try {
      const given = await (await ask(lab, job)).json();
      Object.assign(job, { cacheKey: given.cacheKey, job: given.job });
      if (lab.job !== job) { stop(lab, job); return; } // stopped before it had a name
      session.set("job." + lab.id, job);
      if (lab.long.keeps) session.set("began." + lab.id, 1);
      watch(lab, job);
    } catch (problem) {
      if (lab.job === job) ended(lab, { error: "The server did not take the job. Try again in a moment." });
    }
  }

  async function watch(lab, job, heard = Date.now()) {
    let pause = EVERY;
    try {
      const response = await ask(lab, job, { cacheKey: job.cacheKey, job: job.job });
      if (response.status !== 200) throw new Error("no answer"); // the place where jobs stand in line is gone
      const news = await response.json();
      heard = Date.now();
      if (lab.job !== job) return;
      if (news.response) { ended(lab, news.response[`${lab.id}-job`].data); return; }
      const progress = (news.progress || {})[`${lab.id}-progress.data`];
      if (progress) pause = follow(lab, progress);
    } catch (problem) {
      if (lab.job !== job) return;
      if (/^4/.test(problem.message)) { ended(lab, { gone: true }); return; }
      if (Date.now() - heard > SILENCE) { ended(lab, { error: "The server does not answer. Run it again when it does." }); return; }
      say(lab, "The server does not answer; trying again …");
      pause = 3 * EVERY;
    }
    setTimeout(() => { if (lab.job === job) watch(lab, job, heard); }, pause);
  }

  // What is known of a job under way -> when to ask again.
  function follow(lab, progress) {
    if (progress.before !== undefined) {
      say(lab, progress.before === 1 ? "1 job is before yours." : `${progress.before} jobs are before yours.`);
      return Math.min(IN_LINE + LATER * progress.before, RARELY);
    }
    lab.share = progress.share;
    showBar(lab, lab.share);
    say(lab, progress.words === undefined ? "Starting …" : `${Math.round(100 * progress.share)} %: ${progress.words}`, false);
    const drawn = JSON.stringify(progress.shown || "");
    if (progress.shown && lab.job.drawn !== drawn && mayPaint(lab)) {
      lab.job.drawn = drawn;
      paint(lab, progress.shown);
    }
    return EVERY;
  }

  // A job's picture is not painted over a finished one that the reader has asked for meanwhile.
  const mayPaint = (lab) => !lab.fits || settings(lab.job.values) === settings(current(lab));

  function paint(lab, shown) {
    const { fits } = lab;
    G.show(lab, { ...shown, notes: {} });
    lab.fits = fits;
    lab.partly = settings(lab.job.values);
  }

  function ended(lab, answer) {
    const mine = settings(lab.job.values) === settings(current(lab)), may = mayPaint(lab);
    lab.job = null;
    session.set("job." + lab.id, null);
    if (answer.picture && may) { G.show(lab, answer); lab.fits = mine; }
    showBar(lab);
    hint(lab);
    followers(lab).forEach(G.ask);
    if (answer.error) { G.section(lab.id).querySelector(".lab-message").textContent = answer.error; say(lab, ""); }
    if (answer.gone) lookAgain(lab);
  }

  // The job is gone; its result may have been kept all the same.
  function lookAgain(lab) {
    G.call(`${lab.id}-answer`, `${lab.id}-asked`, { values: current(lab) }).then((answer) => {
      G.show(lab, answer);
      if (!answer.picture) G.section(lab.id).querySelector(".lab-message").textContent = GONE + " Run it again.";
    }, () => { G.section(lab.id).querySelector(".lab-message").textContent = GONE + " Run it again."; });
  }

  function stop(lab, job) {
    const told = job.job ? G.post(`${lab.id}-stop`, "id", `${lab.id}-stop`, 1, { cancelJob: job.job }).catch(() => {}) : Promise.resolve();
    if (lab.job !== job) return;
    lab.job = null;
    session.set("job." + lab.id, null);
    showBar(lab);
    hint(lab);
    told.then(() => followers(lab).forEach(G.ask));
    say(lab, "Stopped. " + find(lab, ".job-words").textContent);
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-job]"), section = button && button.closest("section.lab");
    if (!section) return;
    const lab = G.labs[section.id];
    if (button.dataset.job === "run" && !lab.job) start(lab);
    if (button.dataset.job === "stop" && lab.job) stop(lab, lab.job);
  });

  // After a reload: the jobs of this tab that were under way.
  G.resumeJobs = function () {
    for (const lab of Object.values(G.labs)) {
      if (lab.long && lab.long.keeps && session.get("began." + lab.id)) [lab, ...followers(lab)].forEach(G.ask); // what this tab's run has left
      const job = lab.long && session.get("job." + lab.id);
      if (!lab.long || !job || !job.cacheKey) continue;
      lab.job = job;
      showBar(lab);
      say(lab, "Looking for the job …");
      watch(lab, job);
    }
  };
})();
