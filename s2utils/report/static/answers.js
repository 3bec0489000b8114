// The answers to one question side by side. Whatever a model, a judge or a source wrote is put in as text, never as markup.
(() => {
  const began = performance.now(), $ = (id) => document.getElementById(id);
  const data = JSON.parse($("data").textContent), { models, metrics, questions } = data;
  const base = models.findIndex((m) => m.variant === "base");
  const fields = ["set", "text", "order", "metric", "min", "max"], checks = ["cut", "loops"], flags = { cut: 1, loops: 2 };
  const twins = new Map(); // fine-tune → its merges
  models.forEach((m, i) => { if (m.mode) twins.set(m.label, [...(twins.get(m.label) ?? []), i]); });
  let shown = [], at = 0, asked = "";

  // what a text holds and a reader does not see becomes a sign (as shell.visible does for the other pages)
  const unseen = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;
  const visible = (text) => text.replace(/\r\n/g, "\n").replace(unseen, (c) => (
    c < " " ? String.fromCharCode(0x2400 + c.charCodeAt(0)) : `⟨U+${c.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`));

  const make = (tag, content = "", name = "") => {
    const element = document.createElement(tag);
    if (name) element.className = name;
    if (typeof content === "string") element.textContent = visible(content);
    else element.append(...content);
    return element;
  };
  const option = (select, value, label) => { const o = make("option", label); o.value = value; select.append(o); };

  const value = (question, model, metric) => question.answers[model]?.m[metric] ?? null;
  const haystack = (q) => (q.hay ??= [q.q, q.ref, q.id, ...q.answers.map((a) => a?.t ?? "")].join("\n").toLowerCase());
  const spread = (values) => {
    const held = values.filter((v) => v !== null);
    return held.length > 1 ? Math.max(...held) - Math.min(...held) : null;
  };
  const largest = (values) => values.reduce((a, b) => (b !== null && (a === null || b > a) ? b : a), null);
  const orders = {
    asked: () => 0,
    merges: (q, m) => largest([...twins.values()].map((ids) => spread(ids.map((i) => value(q, i, m))))),
    drop: (q, m) => largest(models.map((row, i) => change(q, i, m, -1))),
    gain: (q, m) => largest(models.map((row, i) => change(q, i, m, 1))),
  };
  const change = (q, model, metric, sign) => {
    const one = value(q, model, metric), other = value(q, base, metric);
    if (models[model].variant !== "sft" || one === null || other === null) return null;
    return sign * (one - other) * (metrics[metric].better || 1);
  };
  const number = (id) => {
    const typed = $(id).value.trim().replace(",", ".");
    return typed === "" || Number.isNaN(Number(typed)) ? null : Number(typed);
  };

  const select = () => {
    const words = $("text").value.toLowerCase().split(/\s+/).filter(Boolean);
    const metric = Number($("metric").value), min = number("min"), max = number("max"), order = $("order").value;
    const wanted = checks.reduce((sum, id) => sum + ($(id).checked ? flags[id] : 0), 0), set = $("set").value;
    const inside = (v) => v !== null && v !== undefined && (min === null || v >= min) && (max === null || v <= max);
    const found = questions.filter((q) => (
      (!set || q.set === set)
      && (!wanted || q.answers.some((a) => a && (a.f & wanted)))
      && ((min === null && max === null) || q.answers.some((a) => a && inside(a.m[metric])))
      && words.every((word) => haystack(q).includes(word))));
    const keyed = found.map((q) => ({ q, key: orders[order](q, metric) }));
    if (order !== "asked") keyed.sort((a, b) => (a.key === null) - (b.key === null) || b.key - a.key);
    shown = keyed;
  };

  const list = () => {
    const digits = metrics[Number($("metric").value)]?.digits ?? 2, order = $("order").value;
    $("questions").replaceChildren(...shown.map(({ q, key }, i) => {
      const button = make("button", [make("span", q.q.slice(0, 240))]);
      button.type = "button";
      const note = order === "asked" ? "" : key === null ? "not measured" : key.toFixed(digits);
      button.append(make("small", [q.set, note].filter(Boolean).join(" · ")));
      button.addEventListener("click", () => go(i, false));
      return make("li", [button]);
    }));
    $("count").textContent = `${shown.length} of ${questions.length} questions`;
  };

  const judged = (judgements) => {
    const details = make("details", [], "judged");
    const given = judgements.map((j) => (j.r === null ? "no rating" : String(j.r)));
    details.append(make("summary", `Judge: ${given.join(", ")}`));
    for (const j of judgements) {
      const parts = Object.entries(j.d).map(([name, v]) => `${name} ${v}`);
      details.append(make("p", [j.who, ...parts, j.e].filter(Boolean).join(" · "), "quiet"));
      j.said.forEach((said, i) => details.append(make("p", i ? `Asked again: ${said}` : said, "prose")));
    }
    return details;
  };

  const card = (question, model) => {
    const answer = question.answers[model], { label, mode } = models[model];
    const head = make("h2", label);
    if (mode) head.append(" ", make("small", mode));
    const article = make("article", [head], "card");
    if (!answer) { article.append(make("p", "not asked", "quiet")); return article; }
    [["cut", 1], ["loops", 2], ["empty", 4]].forEach(([name, bit]) => { if (answer.f & bit) head.append(make("span", name, "flag")); });
    const text = make("p", answer.t, "prose");
    text.tabIndex = 0;
    article.append(text);
    const scores = make("dl", [], "scores"), chosen = Number($("metric").value);
    metrics.forEach((metric, i) => {
      const own = answer.m[i] ?? null, reference = value(question, base, i);
      if ((!metric.shown && i !== chosen) || (own === null && reference === null)) return;
      const mark = i === chosen ? "chosen" : "";
      const apart = own === null || reference === null || model === base ? "" : (own - reference).toFixed(metric.digits);
      scores.append(make("dt", metric.label, mark), make("dd", own === null ? "failed" : own.toFixed(metric.digits), mark));
      scores.append(make("dd", apart && (apart > 0 ? `+${apart}` : apart.replace("-", "−")), "apart"));
    });
    if (answer.j?.length) article.append(judged(answer.j));
    if (scores.children.length) article.append(scores);
    return article;
  };

  const draw = () => {
    const found = shown[at]?.q, parts = [];
    [...$("questions").querySelectorAll("[aria-current]")].forEach((b) => b.removeAttribute("aria-current"));
    $("previous").disabled = at <= 0;
    $("next").disabled = at >= shown.length - 1;
    $("position").textContent = found ? `${at + 1} of ${shown.length}` : "";
    if (!found) { $("view").replaceChildren(make("p", "No question is as chosen.", "gap")); return; }
    const button = $("questions").children[at].firstChild;
    button.setAttribute("aria-current", "true");
    if (found.before) parts.push(make("p", `First turn: ${found.before}`, "quiet"));
    const title = make("h1", found.q);
    if (found.q.length > 600) title.tabIndex = 0; // it may scroll
    parts.push(title);
    if (found.ref) {
      const title = found.set.startsWith("MT(S)") ? "A good answer" : "Reference, by a human";
      const text = make("p", found.ref, "prose");
      text.tabIndex = 0;
      parts.push(make("section", [make("h2", title), text], "reference"));
    }
    parts.push(make("div", models.map((_, i) => i).filter((i) => found.answers[i]).map((i) => card(found, i)), "cards"));
    $("view").replaceChildren(...parts);
    $("main").scrollTop = 0;
    // the list alone is scrolled: on a phone the page must stay where it is
    const box = $("questions"), top = button.offsetTop - box.offsetTop;
    if (top < box.scrollTop || top + button.offsetHeight > box.scrollTop + box.clientHeight) box.scrollTop = top - box.clientHeight / 3;
  };

  const address = () => {
    const said = new URLSearchParams();
    for (const id of fields) if ($(id).value && $(id).value !== defaults[id]) said.set(id, id === "metric" ? metrics[$(id).value].key : $(id).value);
    for (const id of checks) if ($(id).checked) said.set(id, "1");
    const found = shown[at]?.q;
    if (found) { said.set("set", found.set); said.set("q", found.id); }
    if (found && !$("set").value) said.set("all", "1");
    asked = `#${said}`;
    history.replaceState(null, "", asked);
  };
  const go = (to, focus = true) => {
    at = Math.max(0, Math.min(shown.length - 1, to));
    draw();
    address();
    if (focus && document.activeElement?.closest?.(".questions")) $("questions").children[at]?.firstChild.focus({ preventScroll: true });
  };
  const update = (id = "") => {
    select();
    list();
    const there = id ? shown.findIndex(({ q }) => q.id === id) : 0;
    go(Math.max(0, there), false);
  };
  const read = () => {
    const said = new URLSearchParams(location.hash.slice(1));
    for (const id of fields) $(id).value = said.get(id) ?? defaults[id];
    if (said.has("all")) $("set").value = "";
    const metric = metrics.findIndex((m) => m.key === said.get("metric"));
    if (metric >= 0) $("metric").value = String(metric);
    else $("metric").value = defaults.metric;
    if ($("set").selectedIndex < 0) $("set").value = defaults.set;
    if ($("order").selectedIndex < 0) $("order").value = defaults.order;
    for (const id of checks) $(id).checked = said.has(id);
    select();
    list();
    const there = shown.findIndex(({ q }) => q.id === said.get("q") && (!said.get("set") || q.set === said.get("set")));
    go(Math.max(0, there), false);
  };

  data.sets.forEach((name) => option($("set"), name, name));
  option($("set"), "", "all");
  metrics.forEach((metric, i) => option($("metric"), String(i), metric.label));
  const defaults = { set: data.sets[0] ?? "", text: "", order: "asked", metric: metrics.length ? "0" : "", min: "", max: "" };
  let waiting = 0;
  for (const id of [...fields, ...checks]) {
    $(id).addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(update, id === "text" ? 90 : 0, shown[at]?.q.id); });
  }
  $("filters").addEventListener("submit", (event) => event.preventDefault());
  $("previous").addEventListener("click", () => go(at - 1));
  $("next").addEventListener("click", () => go(at + 1));
  addEventListener("hashchange", () => { if (decodeURI(location.hash) !== decodeURI(asked)) read(); });
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target.closest("input, select, textarea");
    if (event.key === "Escape" && typing) typing.blur();
    if (typing) return;
    if (event.key === "j" || event.key === "k") go(at + (event.key === "j" ? 1 : -1));
    else if (event.key === "/") { event.preventDefault(); $("text").focus(); $("text").select(); }
  });
  read();
  document.body.dataset.ready = String(Math.round(performance.now() - began));
})();
