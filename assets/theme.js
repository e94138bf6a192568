// Before first paint: the theme the reader chose, or the system's; and presenter view where the link asks for it.
(function () {
  var chosen = null;
  try { chosen = localStorage.getItem("glassbox.theme"); } catch (e) { /* storage may be off */ }
  var dark = chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  document.documentElement.classList.add("js");
})();
