// One document as one run, or two runs, saw it.

function promptBox(detail) {
  const prompt = new Letters(detail.prompt), [start, end] = detail.question;
  const part = (from, to, kind) => (to > from ? element("span", { class: kind }, prompt.slice(from, to)) : null);
  return element("pre", { class: "prompt", tabindex: "0", role: "group", "aria-label": "Prompt" }, part(0, start, "template"), part(start, end, "question"), part(end, prompt.length, "template"));
}

function savedSaid(tokens, independent) {
  if (tokens === null || tokens === undefined) return "tokens not recorded";
  const shared = independent && independent > tokens ? `, ${number(independent)} had nothing been shared: ${percent(1 - tokens / independent)} saved` : "";
  return `${number(tokens)} tokens decoded${shared}`;
}

function voteTable(sequences) {
  if (sequences.every((one) => one.correct === undefined)) return [];
  const classes = new Map();
  let silent = 0;
  for (const one of sequences) {
    if (one.finish === "cut") continue;
    if (one.answer === null || one.answer === undefined) { silent += 1; continue; }
    const vote = classes.get(one.class) ?? { answer: one.answer, votes: 0, weight: 0, correct: one.correct };
    classes.set(one.class, { ...vote, votes: vote.votes + 1, weight: vote.weight + (one.weight ?? 0) });
  }
  const rows = [...classes.values()].sort((a, b) => b.weight - a.weight || b.votes - a.votes).map((vote) => element("tr", {},
    element("td", {}, vote.answer), element("td", { class: "n" }, number(vote.votes)), element("td", { class: "n" }, number(vote.weight, 4)),
    element("td", { class: vote.correct ? "right" : "wrong" }, vote.correct ? "✓ right" : "✗ wrong")));
  if (silent) rows.push(element("tr", {}, element("td", {}, "no answer"), element("td", { class: "n" }, number(silent)), element("td"), element("td")));
  const heading = element("tr", {}, ...["answer", "sequences", "weight", "verdict"].map((name, place) => element("th", { class: place % 3 ? "n" : null, scope: "col" }, name)));
  return [element("details", { class: "votes" }, element("summary", {}, `Votes: ${classes.size} ${classes.size === 1 ? "answer" : "answers"}`), element("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Votes" }, element("table", {}, element("thead", {}, heading), element("tbody", {}, ...rows))))];
}

// One run's view: figures, picture, the chosen sequence, votes.
function view({ name, entry, detail }, atLeast) {
  if (!entry) return element("section", { class: "view" }, element("h4", {}, name), element("p", { class: "note" }, "This run has no such document."));
  const texts = buildTexts(detail.sequences), box = element("div", { class: "sequence" });
  const drawnTree = picture(detail, entry.grant, atLeast, choose);
  function choose(place) {
    box.replaceChildren(...sequenceBox(detail, texts, place).filter(Boolean));
    drawnTree.mark(place);
  }
  choose(Math.max(0, detail.sequences.findIndex((one) => one.correct)));
  const right = entry.c === null ? `${entry.n} sequences` : `${entry.c} of ${entry.n} sequences right`;
  const grant = entry.grant ? ` · ${entry.grant} granted in stage 2` : "";
  const cut = detail.sequences.filter((one) => one.finish === "cut").length, cutSaid = cut ? ` · ${cut} cut` : "";
  const settled = detail.settled === null || detail.settled === undefined ? "" : ` · vote ${detail.settled ? "settled" : "not settled"}${detail.rounds ? ` after ${detail.rounds} ${detail.rounds === 1 ? "round" : "rounds"}` : typeof detail.settledTime === "number" ? ` at ${number(detail.settledTime)} tokens` : ""}`;
  return element("section", { class: "view" }, element("h4", {}, name), element("p", { class: "facts" }, `${right} · ${savedSaid(entry.tokens, entry.independent)}${grant}${settled}${cutSaid}`), drawnTree.figure, box, ...voteTable(detail.sequences));
}

function drawDocument(panel, views, link, change) {
  const { entry, detail } = views[0];
  const longest = Math.max(...views.flatMap((one) => (one.detail?.sequences ?? []).map((sequence) => (sequence.start ?? 0) + (sequence.tokens ?? 0)))); // of both, so that they compare
  panel.replaceChildren(...[
    element("h3", {}, visible(entry.title) || "(empty prompt)"),
    element("p", { class: "facts" }, `Document ${entry.id}`, detail.label === null ? "" : " · label ", detail.label === null ? null : element("b", {}, detail.label), " · ", element("a", { href: link }, "link to it"), change ? ` · ${change}` : ""),
    promptBox(detail),
    element("div", { class: views.length > 1 ? "views pair" : "views" }, ...views.map((one) => view(one, longest))),
  ]);
}
