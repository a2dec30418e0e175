"use strict";
// Everything a model wrote becomes a text node (`append` of a string); nothing here builds HTML from text.
(() => {
  const LISTED = 400; // rows of the list drawn at once
  const CONTEXT = 48, NEXT = 28; // characters around a fork
  const NAMESPACE = "http://www.w3.org/2000/svg";
  const byId = (id) => document.getElementById(id);
  const [runSelect, search, list, panel, count] = ["run", "search", "list", "document", "count"].map(byId);
  const filters = [...document.querySelectorAll("#controls input[type=checkbox]")];
  let runs = [], shown = [], limit = LISTED, opened = null;

  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children.filter((child) => child !== null && child !== undefined));
    return made;
  }

  async function unpack(id) {
    const bytes = Uint8Array.from(atob(byId(id).textContent), (character) => character.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return JSON.parse(await new Response(stream).text());
  }

  const number = (value, digits = 0) =>
    value === null || value === undefined ? "–" : value.toLocaleString("en", { maximumFractionDigits: digits, minimumFractionDigits: digits });
  const visible = (text) => text.replaceAll("\n", "⏎").replaceAll("\t", "⇥");

  // ---- the list -------------------------------------------------------------------------------------------------

  function matches(entry) {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    return filters.every((box) => !box.checked || entry.flags[box.name]) && words.every((word) => entry.search.includes(word));
  }

  function drawList() {
    const all = runs[runSelect.value].documents;
    shown = all.filter(matches);
    count.textContent = `${shown.length} of ${all.length} documents`;
    const rows = shown.slice(0, limit).map((entry) => {
      const verdict = entry.c === null ? "" : `${entry.c} of ${entry.n} right`;
      const parts = [`#${entry.id}`, verdict || `${entry.n} sequences`, `${number(entry.tokens)} tokens`, ...Object.keys(entry.flags)];
      const row = element("button", { type: "button", "data-id": entry.id },
        element("span", { class: "snippet" }, visible(entry.snippet) || "(empty prompt)"), element("span", { class: "line" }, parts.join(" · ")));
      if (opened === entry.id) row.setAttribute("aria-current", "true");
      row.addEventListener("click", () => open(entry));
      return element("li", {}, row);
    });
    if (shown.length > limit) {
      const more = element("button", { type: "button" }, `show ${Math.min(LISTED, shown.length - limit)} more`);
      more.addEventListener("click", () => { limit += LISTED; drawList(); });
      rows.push(element("li", {}, more));
    }
    list.replaceChildren(...rows);
  }

  // ---- one document ---------------------------------------------------------------------------------------------

  async function open(entry) {
    opened = entry.id;
    for (const row of list.querySelectorAll("button")) row.toggleAttribute("aria-current", false);
    list.querySelector(`button[data-id="${Number(entry.id)}"]`)?.setAttribute("aria-current", "true");
    const run = runSelect.value;
    const detail = await unpack(`d-${run}-${entry.id}`);
    if (opened !== entry.id || run !== runSelect.value) return; // another one was chosen while this one unpacked
    drawDocument(entry, detail);
  }

  function drawDocument(entry, detail) {
    const sequences = detail.sequences, texts = [];
    for (const [place, one] of sequences.entries()) texts[place] = one.parent === null ? one.text : texts[one.parent].slice(0, one.cut) + one.text;
    const children = sequences.map(() => []);
    for (const [place, one] of sequences.entries()) if (one.parent !== null) children[one.parent].push(place);
    for (const some of children) some.sort((a, b) => sequences[a].at - sequences[b].at);
    const branch = (place) => {
      const below = children[place].map(branch);
      return element("li", {}, forkLine(sequences, texts, place), leaf(sequences, texts, place), below.length ? element("ul", {}, ...below) : null);
    };
    const roots = sequences.flatMap((one, place) => (one.parent === null ? [branch(place)] : []));
    const grant = entry.grant ? `, ${entry.grant} of them granted` : "";
    panel.replaceChildren(...[
      element("h3", {}, `Document ${entry.id}`),
      element("pre", { class: "question" }, detail.question),
      detail.label === null ? null : element("p", {}, "label ", element("b", {}, detail.label)),
      element("p", { class: "note" }, `${entry.n} sequences${grant}; ${number(entry.tokens)} tokens. A branch stands below the sequence that it left: marked is the text it took, struck out what its parent went on with. Open a sequence for its text and its entropy.`),
      ...voteTable(sequences),
      element("h4", {}, "Tree"),
      element("ul", { class: "tree" }, ...roots),
    ].filter(Boolean));
    panel.scrollTop = 0;
    if (matchMedia("(max-width: 760px)").matches) panel.scrollIntoView();
    panel.focus({ preventScroll: true });
  }

  function forkLine(sequences, texts, place) {
    const one = sequences[place];
    if (one.parent === null) return null;
    const parent = texts[one.parent];
    const id = (token) => (token === null || token === undefined ? "" : ` (token id ${token})`);
    return element("div", { class: "fork" },
      `at token ${one.at}, entropy ${number(one.entropy, 3)}: …${visible(parent.slice(Math.max(0, one.cut - CONTEXT), one.cut))}`,
      element("span", { class: "took", title: `taken${id(one.taken)}` }, visible(one.text.slice(0, NEXT)) || "(end)"), " ",
      element("span", { class: "left", title: `not taken${id(one.notTaken)}` }, visible(parent.slice(one.cut, one.cut + NEXT)) || "(end)"),
      one.taken === undefined ? "" : ` token ids: taken ${one.taken}, not taken ${one.notTaken}`);
  }

  function leaf(sequences, texts, place) {
    const one = sequences[place];
    const verdict = one.correct === undefined ? null : element("span", { class: one.correct ? "right" : "wrong" }, one.correct ? "✓ right" : "✗ wrong");
    const answer = one.correct === undefined ? null : element("span", {}, one.answer === null ? "no answer" : `answer ${one.answer}`);
    const made = element("details", {}, element("summary", {},
      element("b", {}, `sequence ${place}`), verdict, answer,
      element("small", {}, [`finish ${one.finish ?? "–"}`, `${number(one.tokens)} tokens`, `weight ${number(one.weight, 4)}`].join(" · "))));
    made.addEventListener("toggle", () => {
      if (made.open && made.childElementCount === 1) made.append(...sequenceText(one, texts[place], sequences, place));
    });
    return made;
  }

  function sequenceText(one, text, sequences, place) {
    const answerAt = one.answerAt === null ? text.length : one.answerAt;
    const cuts = [...new Set([0, Math.min(one.cut, text.length), Math.min(answerAt, text.length), text.length])].sort((a, b) => a - b);
    const parts = cuts.slice(1).map((end, index) => {
      const start = cuts[index];
      return element("span", { class: start >= answerAt ? "answer" : start < one.cut ? "shared" : "own" }, text.slice(start, end));
    });
    const about = element("p", { class: "note" }, `path ${one.path.join(" · ")}; mean entropy ${number(one.meanEntropy, 3)} nats` + (one.parent === null ? "" : "; grey text is shared with its parent") + (answerAt > 0 && answerAt < text.length ? "; marked is the answer" : ""));
    return [about, curve(one, sequences, place), element("pre", {}, ...parts)].filter(Boolean);
  }

  // Entropy by token index, from where the sequence began to decode on its own; red lines are forks that left it.
  function curve(one, sequences, place) {
    if (!one.curve.length) return null;
    const highest = Math.max(100, ...one.curve), width = one.curve.length;
    const start = one.at === null ? 0 : one.at + 1;
    const svg = document.createElementNS(NAMESPACE, "svg");
    const draw = (tag, attributes) => {
      const part = document.createElementNS(NAMESPACE, tag);
      for (const [name, value] of Object.entries(attributes)) part.setAttribute(name, value);
      svg.append(part);
    };
    svg.setAttribute("class", "curve");
    svg.setAttribute("viewBox", `0 0 ${width} 100`);
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", `entropy by token, highest ${number(Math.max(...one.curve) / 100, 2)} nats`);
    for (const child of sequences.filter((other) => other.parent === place)) {
      const x = ((child.at - start) / Math.max(1, one.tokens - start)) * width;
      draw("line", { x1: x, x2: x, y1: 0, y2: 100 });
    }
    draw("path", { d: one.curve.map((value, x) => `${x ? "L" : "M"}${x + 0.5} ${98 - (96 * value) / highest}`).join("") });
    return svg;
  }

  function voteTable(sequences) {
    if (sequences.every((one) => one.correct === undefined)) return [];
    const classes = new Map();
    let silent = 0;
    for (const one of sequences) {
      if (one.answer === null || one.answer === undefined) { silent += 1; continue; }
      const vote = classes.get(one.class) ?? { answer: one.answer, votes: 0, weight: 0, correct: one.correct };
      classes.set(one.class, { ...vote, votes: vote.votes + 1, weight: vote.weight + (one.weight ?? 0) });
    }
    const rows = [...classes.values()].sort((a, b) => b.votes - a.votes).map((vote) => element("tr", {},
      element("td", {}, vote.answer), element("td", { class: "n" }, number(vote.votes)), element("td", { class: "n" }, number(vote.weight, 4)),
      element("td", { class: vote.correct ? "right" : "wrong" }, vote.correct ? "✓ right" : "✗ wrong")));
    if (silent) rows.push(element("tr", {}, element("td", {}, "no answer"), element("td", { class: "n" }, number(silent)), element("td"), element("td")));
    const heading = element("tr", {}, ...["answer", "votes", "weight", ""].map((name, place) => element("th", place % 3 ? { class: "n" } : {}, name)));
    return [element("h4", {}, "Votes"), element("div", { class: "scroll", id: "votes" }, element("table", {}, element("thead", {}, heading), element("tbody", {}, ...rows)))];
  }

  // ---- start ----------------------------------------------------------------------------------------------------

  function changed() { limit = LISTED; drawList(); }

  function moveInList(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const rows = [...list.querySelectorAll("button")], place = rows.indexOf(document.activeElement);
    if (!step || place < 0) return;
    event.preventDefault();
    rows[place + step]?.focus();
  }

  async function start() {
    if (!("DecompressionStream" in window)) {
      count.textContent = "This browser is too old to unpack the documents (it has no DecompressionStream).";
      return;
    }
    runs = await unpack("index");
    runSelect.addEventListener("change", () => { opened = null; changed(); });
    for (const box of filters) box.addEventListener("change", changed);
    search.addEventListener("input", changed);
    byId("controls").addEventListener("submit", (event) => event.preventDefault());
    list.addEventListener("keydown", moveInList);
    document.addEventListener("keydown", (event) => {
      if (event.key === "/" && !/^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName)) { event.preventDefault(); search.focus(); }
    });
    changed();
    document.documentElement.dataset.ready = "true";
  }

  start();
})();
