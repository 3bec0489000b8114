// Copy the table as text; where the clipboard is closed to pages, through a selected text field.
(() => {
  const held = document.getElementById("copies");
  if (!held) return;
  const texts = JSON.parse(held.textContent);
  const copy = async (text) => {
    try { return await navigator.clipboard.writeText(text); } catch { /* the old way */ }
    const field = document.createElement("textarea");
    field.value = text;
    document.body.append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    if (!done) throw new Error("refused");
  };
  for (const button of document.querySelectorAll("button[data-copy]")) {
    const label = button.textContent;
    button.hidden = false;
    button.addEventListener("click", async () => {
      try {
        await copy(texts[button.dataset.copy]);
        button.textContent = "Copied";
      } catch {
        button.textContent = "Not allowed";
      }
      setTimeout(() => { button.textContent = label; }, 1500);
    });
  }
})();
