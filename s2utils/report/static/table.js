// Sort a table by a column, and show only the rows (or list items) that hold what is typed.
(() => {
  for (const table of document.querySelectorAll("table.sortable")) {
    const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells], rows = [...body.rows];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const numeric = !head.classList.contains("text"), key = (row) => row.cells[column].dataset.sort ?? "";
        const compare = (a, b) => {
          const one = key(a), other = key(b);
          if (one === "" || other === "") return (one === "") - (other === ""); // what is missing stays last
          const order = numeric ? one - other : one.localeCompare(other, "en", { numeric: true });
          return down ? -order : order;
        };
        body.append(...[...rows].sort(compare));
      });
    });
  }
  for (const input of document.querySelectorAll("input[data-search]")) {
    const name = input.dataset.search, held = document.getElementById(name);
    const items = held.tBodies ? [...held.tBodies[0].rows] : [...held.querySelectorAll("[data-item]")];
    const texts = items.map((item) => item.textContent.toLowerCase());
    const count = document.querySelector(`[data-count="${name}"]`);
    const show = () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      items.forEach((item, i) => {
        item.hidden = !words.every((word) => texts[i].includes(word));
        shown += !item.hidden;
      });
      for (const group of held.querySelectorAll("[data-group]")) {
        const some = [...group.querySelectorAll("[data-item]")].some((item) => !item.hidden);
        group.hidden = !some;
        if (words.length) group.open = some;
      }
      if (count) count.textContent = words.length ? `${shown} of ${items.length}` : `${items.length} in all`;
    };
    input.addEventListener("input", show);
    show();
  }
})();
