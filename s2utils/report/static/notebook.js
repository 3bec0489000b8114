// Show or fold all code at once; open what a link from elsewhere points into.
(() => {
  const blocks = [...document.querySelectorAll("details.code")], button = document.getElementById("unfold");
  if (blocks.length) {
    button.hidden = false;
    button.addEventListener("click", () => {
      const open = blocks.some((block) => !block.open);
      blocks.forEach((block) => { block.open = open; });
      button.textContent = open ? "Fold all code" : "Show all code";
    });
  }
  const reveal = () => {
    const cell = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const code = cell?.querySelector("details.code");
    if (code && cell.classList.contains("cell")) { code.open = true; cell.scrollIntoView(); }
  };
  addEventListener("hashchange", reveal);
  reveal();
})();
