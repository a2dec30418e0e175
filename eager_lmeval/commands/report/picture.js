// A document's tree: time goes to the right, a line is a sequence, its width what of the document still goes along it.
// Of a race: a line is a lane from its start on, its colour the class of its answer.

const WIDEST = 13, LEAST = 1.6, LANE = 4, COLOURS = 6;

// What is drawn: rows from top to bottom, the splits on each, and who is below whom.
function layOut(detail, grant, atLeast) {
  const sequences = detail.sequences;
  const inTokens = sequences.every((one) => one.tokens !== null && one.tokens !== undefined);
  const races = inTokens && sequences.every((one) => typeof one.start === "number");
  const ends = sequences.map((one) => (inTokens ? (races ? one.start : 0) + one.tokens : one.cut + one.text.length));
  const children = sequences.map(() => []), roots = [];
  for (const [place, one] of sequences.entries()) (one.parent === null ? roots : children[one.parent]).push(place);
  const weight = sequences.map((one) => one.weight ?? 1 / sequences.length);
  const kinds = sequences.map((one) => new Set([kindOf(one)])), total = [...weight], units = sequences.map((one) => one.copies ?? 1);
  for (let place = sequences.length - 1; place >= 0; place -= 1) { // a child comes after its parent
    const parent = sequences[place].parent;
    if (parent === null) continue;
    total[parent] += total[place];
    units[parent] += units[place];
    for (const kind of kinds[place]) kinds[parent].add(kind);
  }
  const late = new Set(); // stage 2 grew the last roots, as many as were granted
  for (let left = grant, place = roots.length - 1; left > 0 && place > 0; place -= 1) { late.add(roots[place]); left -= units[roots[place]]; }
  const rows = [];
  const walk = (root) => {
    const waiting = [root];
    while (waiting.length) {
      const place = waiting.pop();
      rows.push(place);
      waiting.push(...[...children[place]].sort((a, b) => sequences[a].at - sequences[b].at || b - a)); // the latest fork nearest
    }
  };
  const groups = [];
  const early = roots.filter((root) => !late.has(root));
  const byRound = detail.strategy === "consistency" && detail.rounds === early.length && early.length > 1;
  const rounds = detail.rounds > 1 ? `, ${detail.rounds} rounds` : "";
  for (const [index, root] of roots.entries()) {
    const name = late.has(root) ? (roots.indexOf([...late].at(-1)) === index ? "stage 2: granted budget" : "") : byRound ? `round ${index + 1}` : index === 0 && (late.size || rounds) ? `stage 1${rounds}` : "";
    groups.push({ root, name, late: late.has(root), from: rows.length, forked: children[root].length > 0 });
    walk(root);
  }
  const segments = sequences.map((one, place) => {
    const parts = [], at = [...new Set(children[place].map((child) => sequences[child].at))].sort((a, b) => a - b);
    let start = one.at ?? (races ? one.start : 0), share = total[place];
    for (const stop of [...at, ends[place]]) {
      const going = new Set([kindOf(one)]);
      for (const child of children[place]) if (sequences[child].at >= stop) for (const kind of kinds[child]) going.add(kind);
      parts.push({ start, stop, share, kind: going.size > 1 ? "mixed" : [...going][0] });
      start = stop;
      for (const child of children[place]) if (sequences[child].at === stop) share -= total[child];
    }
    return parts;
  });
  const splits = sequences.map((one, place) => segments[place].slice(0, -1).map((part, index) => {
    const leaving = children[place].filter((child) => sequences[child].at === part.stop);
    const after = segments[place].slice(index + 1);
    const goingRight = kindOf(one) === "right" || children[place].some((child) => sequences[child].at > part.stop && kinds[child].has("right"));
    const ways = [goingRight, ...leaving.map((child) => kinds[child].has("right"))];
    return { place, at: part.stop, leaving, share: after[0].share, decisive: ways.includes(true) && ways.includes(false), goingRight };
  }));
  const wrong = [...new Set(sequences.filter((one) => kindOf(one) === "wrong").map((one) => one.class))];
  const lane = (place) => (races ? ` lane${kindOf(sequences[place]) === "wrong" ? ` c-${wrong.indexOf(sequences[place].class) % COLOURS}` : ""}` : "");
  return { races, lane, settled: races ? detail.settledTime ?? null : null, sequences, rows, groups, segments, splits, children, total, units, kinds, inTokens, longest: Math.max(1, atLeast, ...ends), ends, graded: sequences.some((one) => one.correct !== undefined) };
}

function sequenceName(plan, place) {
  const one = plan.sequences[place], kind = KINDS[kindOf(one)];
  const left = one.parent === null ? "" : `, left sequence ${one.parent} at token ${one.at}`;
  const answer = one.answer === null || one.answer === undefined ? "" : `, answer ${one.answer}`;
  return `sequence ${place}: ${kind.name}${answer}, ${number(one.tokens ?? plan.ends[place])} ${plan.inTokens ? "tokens" : "characters"}${plan.races && one.start ? `, from ${number(one.start)} on` : ""}${left}`;
}

// The sides of a split: the sequence that went on, then those that left it.
function sides(plan, split) {
  const first = plan.sequences[split.leaving[0]].fork;
  const copies = plan.sequences[split.place].copies;
  const units = (place) => (copies === null || copies === undefined ? null : plan.units[place]);
  const below = plan.children[split.place].filter((child) => plan.sequences[child].at > split.at);
  const goingUnits = units(split.place) === null ? null : copies + below.reduce((sum, child) => sum + plan.units[child], 0);
  const whole = split.share + split.leaving.reduce((sum, child) => sum + plan.total[child], 0);
  const shareOf = (weight) => (whole > 0 ? weight / whole : null);
  // Both probabilities of a fork into two are known: the child's, and how the weights were shared out.
  const pairs = copies === null && split.leaving.length === 1 && first.p !== null && plan.total[split.leaving[0]] > 0;
  return [
    { place: split.place, text: first.wentOn, right: split.goingRight, share: shareOf(split.share), copies: goingUnits, p: pairs ? Math.min(1, (first.p * split.share) / plan.total[split.leaving[0]]) : null },
    ...split.leaving.map((child) => ({ place: child, text: plan.sequences[child].fork.took, right: plan.kinds[child].has("right"), share: shareOf(plan.total[child]), copies: units(child), p: plan.sequences[child].fork.p })),
  ];
}

function sideFigures(side, all) {
  const parts = [];
  if (side.p !== null) parts.push(`p ${number(side.p, 3)}`);
  if (side.copies !== null) parts.push(`${side.copies} of ${all.reduce((sum, one) => sum + one.copies, 0)} copies`);
  else if (side.share !== null) parts.push(`${percent(side.share)} of the weight`);
  return parts.join(", ");
}

function splitSaid(plan, split, threshold) {
  const first = plan.sequences[split.leaving[0]].fork, all = sides(plan, split);
  const entropy = `H ${number(first.entropy, 2)} nats` + (typeof threshold === "number" ? `, θ ${number(threshold, 2)}` : "");
  const line = (side, index) => element("li", { class: side.right ? "to-right" : null },
    element("span", { class: "token" }, visible(side.text[0]) || (side.text[1] ? "" : "(end)")), element("span", { class: "after" }, visible(side.text[1])), " ",
    element("small", {}, `${index ? `sequence ${side.place}` : `${side.place} went on`}; ${sideFigures(side, all)}${plan.graded ? (side.right ? "; ✓ leads to right" : "; leads to no right answer") : ""}`));
  const spoken = `split of sequence ${split.place} at token ${split.at}, ${entropy}: ` + all.map((side) => `${visible(side.text.join("")) || "end"} (sequence ${side.place}, ${sideFigures(side, all)}${plan.graded ? (side.right ? ", leads to right" : "") : ""})`).join("; ");
  return { spoken, shown: [element("div", {}, element("b", {}, `token ${number(split.at)}`), ` · ${entropy}`), element("div", { class: "before" }, `…${visible(first.before)}`), element("ul", {}, ...all.map(line))] };
}

function legend(plan) {
  const used = new Set(plan.segments.flatMap((parts) => parts.map((part) => part.kind)));
  const chips = Object.entries(KINDS).filter(([kind]) => used.has(kind)).map(([kind, { sign, name }]) => element("li", {}, element("span", { class: `chip k-${kind}` }), `${sign} ${name}`));
  if (used.has("mixed")) chips.push(element("li", {}, element("span", { class: "chip k-mixed" }), "shared by several outcomes"));
  if (plan.splits.some((some) => some.length)) chips.push(element("li", {}, element("span", { class: "dot plain" }), "split"));
  if (plan.splits.some((some) => some.some((split) => split.decisive))) chips.push(element("li", {}, element("span", { class: "dot decisive" }), "split that decided between right and not"));
  if (plan.races) {
    if (plan.settled !== null) chips.push(element("li", {}, element("span", { class: "chip settled" }), `vote settled at ${number(plan.settled)} tokens`));
    return element("ul", { class: "legend" }, ...chips, element("li", {}, "another colour: another wrong answer"));
  }
  const width = plan.sequences.some((one) => one.copies !== null && one.copies !== undefined) ? "copies" : "weight";
  return element("ul", { class: "legend" }, ...chips, element("li", {}, `width: ${width}`));
}

// The figure, with room for `atLeast` tokens; `choose` is called with the place of a sequence that was chosen. `mark` says
// which one is shown.
function picture(detail, grant, atLeast, choose) {
  const plan = layOut(detail, grant, atLeast);
  const tip = element("div", { class: "tip", hidden: "" });
  const holder = element("div", { class: "canvas" });
  const forks = plan.splits.reduce((sum, some) => sum + some.length, 0);
  const figure = element("figure", { class: "picture" }, holder, tip, legend(plan));
  let chosen = null, current = null;

  function draw(width) {
    const count = plan.rows.length, row = count <= 16 ? 22 : count <= 40 ? 16 : 11;
    const left = 10, right = width < 480 ? 62 : 128, top = 20, widest = Math.min(WIDEST, row - 3);
    const x = (token) => left + ((width - left - right) * token) / plan.longest;
    const y = [], bands = [], parts = [];
    let below = top;
    for (const group of plan.groups) {
      const next = plan.groups[plan.groups.indexOf(group) + 1], until = next ? next.from : count;
      if (group.name) { below += 4; parts.push(drawn("text", { class: "group", x: left, y: below + 12 }, group.name)); below += 17; } else if (group.from && group.forked) below += 6;
      if (group.late) bands.push({ from: group.name ? below - 19 : below - 6, to: below + (until - group.from) * row + 2 });
      for (let index = group.from; index < until; index += 1) { y[plan.rows[index]] = below + row / 2; below += row; }
    }
    const height = below + 24, thick = (share) => number(plan.races ? Math.min(LANE, widest) : Math.max(LEAST, share * widest), 2);
    const svg = drawn("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": `${plan.races ? `Race of ${plan.sequences.length} sequences` : `Tree of ${plan.sequences.length} sequences and ${forks} splits`}. Arrow keys move, Enter shows a sequence.` });
    for (const band of bands) svg.append(drawn("rect", { class: "late", x: 0, y: band.from, width, height: band.to - band.from }));
    const step = [1, 2, 5].flatMap((base) => [0, 1, 2, 3, 4, 5].map((power) => base * 10 ** power)).sort((a, b) => a - b).find((size) => plan.longest / size <= Math.max(2, width / 110)) ?? plan.longest;
    for (let tick = 0; tick <= plan.longest; tick += step) svg.append(drawn("line", { class: "tick", x1: x(tick), x2: x(tick), y1: top - 4, y2: below }), drawn("text", { class: "axis", x: x(tick), y: 11, "text-anchor": tick ? "middle" : "start" }, number(tick)));
    if (plan.settled !== null) svg.append(drawn("line", { class: "settled", x1: x(plan.settled), x2: x(plan.settled), y1: top - 4, y2: below }));
    svg.append(drawn("text", { class: "axis", x: width - 4, y: 11, "text-anchor": "end" }, plan.inTokens ? "tokens" : "characters"), ...parts);

    const items = []; // by row: the sequence, then its splits
    for (const place of plan.rows) {
      const one = plan.sequences[place], kind = kindOf(one), at = y[place], parts = plan.segments[place];
      const line = drawn("g", { class: "course", role: "button", tabindex: "-1", "data-place": place, "aria-label": sequenceName(plan, place), "aria-pressed": "false" });
      line.append(drawn("rect", { class: "hit", x: x(parts[0].start), y: at - row / 2, width: Math.max(8, width - x(parts[0].start) - 2), height: row }));
      if (one.parent !== null) {
        const from = y[one.parent], begin = x(one.at), bend = Math.min(8, (at - from) / 2);
        line.append(drawn("path", { class: `k-${parts[0].kind}`, "stroke-width": thick(parts[0].share), d: `M${begin} ${from}V${at - bend}Q${begin} ${at} ${Math.min(begin + bend, x(parts[0].stop))} ${at}` }));
      }
      for (const [index, part] of parts.entries()) line.append(drawn("path", { class: `k-${part.kind}${plan.lane(place)}`, "stroke-width": thick(part.share), d: `M${x(part.start) + (index || one.parent === null ? 0 : Math.min(8, x(part.stop) - x(part.start)))} ${at}H${x(part.stop)}` }));
      const said = one.answer === null || one.answer === undefined ? "" : visible(one.answer), room = width < 480 ? 6 : 14;
      line.append(drawn("text", { class: row > 12 ? `end k-${kind}` : `end dense k-${kind}`, x: x(plan.ends[place]) + 6, y: at + 4 }, `${KINDS[kind].sign} ${said.length > room ? `${said.slice(0, room - 1)}…` : said}`));
      svg.append(line);
      items.push([line]);
    }
    for (const [index, place] of plan.rows.entries()) {
      for (const split of plan.splits[place]) {
        const said = splitSaid(plan, split, detail.threshold);
        const dot = drawn("g", { class: split.decisive ? "split decisive" : "split", role: "button", tabindex: "-1", "aria-label": said.spoken }, drawn("circle", { class: "hit", cx: x(split.at), cy: y[place], r: Math.min(11, row / 2 + 2) }), drawn("circle", { class: "shape", cx: x(split.at), cy: y[place], r: row > 12 ? 4.5 : 3.5 }));
        const show = () => showTip(said.shown, x(split.at), y[place], width);
        dot.addEventListener("pointerenter", show);
        dot.addEventListener("pointerleave", () => { if (document.activeElement !== dot) tip.hidden = true; });
        dot.addEventListener("focus", show);
        dot.addEventListener("blur", () => { tip.hidden = true; });
        dot.addEventListener("click", (event) => { event.stopPropagation(); reach(dot); show(); });
        dot.target = split.leaving[0];
        svg.append(dot);
        items[index].push(dot);
      }
    }
    for (const [line] of items) line.addEventListener("click", () => { reach(line); choose(Number(line.dataset.place)); });
    svg.addEventListener("keydown", (event) => {
      const rowOf = items.findIndex((some) => some.includes(document.activeElement));
      if (rowOf < 0) return;
      const some = items[rowOf], column = some.indexOf(document.activeElement);
      const next = { ArrowDown: items[rowOf + 1]?.[0], ArrowUp: items[rowOf - 1]?.[0], ArrowRight: some[column + 1], ArrowLeft: some[column - 1], Home: items[0][0], End: items.at(-1)[0] };
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); choose(document.activeElement.target ?? Number(document.activeElement.dataset.place)); } else if (event.key === "Escape") tip.hidden = true;
      else if (event.key in next) { event.preventDefault(); if (next[event.key]) reach(next[event.key]); }
    });
    function reach(item) {
      current?.setAttribute("tabindex", "-1");
      current = item;
      item.setAttribute("tabindex", "0");
      item.focus({ preventScroll: false });
    }
    const drawnBefore = [...holder.querySelectorAll("[role=button]")], all = [...svg.querySelectorAll("[role=button]")];
    const place = Math.max(0, drawnBefore.indexOf(current)), focused = current !== null && current === document.activeElement;
    current = all[place];
    current.setAttribute("tabindex", "0");
    tip.hidden = true;
    holder.replaceChildren(svg);
    if (focused) current.focus({ preventScroll: true });
    mark(chosen);
  }

  function showTip(content, x, y, width) {
    tip.replaceChildren(...content);
    tip.hidden = false;
    const wide = Math.min(460, width - 8);
    tip.style.width = `${wide}px`;
    tip.style.left = `${Math.max(4, Math.min(x - 40, width - wide - 4))}px`;
    tip.style.top = `${y - holder.scrollTop + 14}px`;
  }

  function mark(place) {
    chosen = place;
    for (const line of holder.querySelectorAll(".course")) line.setAttribute("aria-pressed", String(Number(line.dataset.place) === place));
  }

  let drawnAt = 0;
  new ResizeObserver(() => {
    const width = Math.floor(holder.clientWidth);
    if (width > 60 && width !== drawnAt) { drawnAt = width; draw(width); }
  }).observe(holder);
  return { figure, mark };
}
