// Light or dark: the system's choice until the reader makes another, which is remembered where the browser allows it.
(() => {
  const root = document.documentElement, system = matchMedia("(prefers-color-scheme: dark)");
  let chosen = null;
  try { chosen = localStorage.getItem("s2-theme"); } catch { /* storage is off */ }
  const dark = () => (chosen ? chosen === "dark" : system.matches);
  if (chosen === "dark" || chosen === "light") root.dataset.theme = chosen; // before anything is drawn
  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const show = () => {
      button.textContent = dark() ? "Light" : "Dark";
      button.title = `Switch to ${dark() ? "light" : "dark"} colours`;
    };
    button.addEventListener("click", () => {
      root.dataset.theme = chosen = dark() ? "light" : "dark";
      try { localStorage.setItem("s2-theme", chosen); } catch { /* storage is off */ }
      show();
    });
    system.addEventListener("change", show);
    button.hidden = false;
    show();
  });
})();
