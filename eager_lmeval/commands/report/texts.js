// The text of a sequence, shaded by the entropy of its tokens where the record says which token wrote what.

const SCALE = [0.1, 0.25, 0.5, 1, 2]; // of θ: where the shades begin
const edges = (threshold) => SCALE.map((part) => part * (threshold > 0 ? threshold : 1));

function buildTexts(sequences) {
  const texts = [];
  for (const one of sequences) texts.push(new Letters(one.parent === null || one.cut === 0 ? one.text : texts[one.parent].slice(0, one.cut) + one.text));
  return texts;
}

// Characters and entropies of all its tokens, those of its ancestors first; null where they are not known.
function tokensOf(sequences, place) {
  const one = sequences[place];
  if (!one.chars || one.bin !== 1) return null;
  if (one.parent === null) return { chars: one.chars, entropies: one.entropies };
  const before = tokensOf(sequences, one.parent);
  if (!before) return null;
  const shared = Array.from({ length: one.at }, (_, index) => before.entropies[index]);
  return { chars: [...before.chars.slice(0, one.at), ...one.chars], entropies: [...shared, Math.round(100 * one.fork.entropy), ...one.entropies] };
}

function shadeOf(hundredths, threshold) {
  if (hundredths === undefined) return 0;
  return edges(threshold).filter((edge) => hundredths / 100 >= edge).length;
}

function shadedText(sequences, text, place, threshold) {
  const one = sequences[place], tokens = tokensOf(sequences, place);
  const answerAt = one.answerAt === null || one.answerAt === undefined ? text.length : one.answerAt;
  const from = one.parent === null ? 0 : one.cut;
  if (!tokens) {
    const cuts = [...new Set([0, Math.min(from, text.length), Math.min(answerAt, text.length), text.length])].sort((a, b) => a - b);
    return cuts.slice(1).map((end, index) => element("span", { class: cuts[index] >= answerAt && answerAt ? "answer" : cuts[index] < from ? "shared" : "own" }, text.slice(cuts[index], end)));
  }
  const splits = new Set(sequences.flatMap((other) => (other.parent === place ? [other.at] : [])));
  const parts = [];
  let start = 0, end = 0, style = null;
  const close = (until) => { if (until > start) parts.push(element("span", { class: style }, text.slice(start, until))); start = until; };
  for (const [index, length] of tokens.chars.entries()) {
    const now = `e${shadeOf(tokens.entropies[index], threshold)}${answerAt && end >= answerAt ? " answer" : ""}`;
    const here = index === one.at ? `here it left sequence ${one.parent}` : splits.has(index) ? "here others left it" : null;
    if (now !== style || here) { close(end); style = now; }
    if (here) parts.push(element("span", { class: index === one.at ? "mark own-start" : "mark", title: here }));
    end = Math.min(text.length, end + length);
  }
  close(text.length);
  return parts;
}

function scale(threshold, one) {
  const limits = edges(threshold), swatch = (shade, name) => element("li", {}, element("span", { class: `swatch e${shade}` }), name);
  const names = limits.map((edge, index) => (index === 3 && threshold > 0 ? `θ = ${number(edge, 2)}` : number(edge, edge < 0.1 ? 3 : 2)));
  return element("ul", { class: "scale" }, element("li", {}, "entropy in nats from"), swatch(0, "0"), ...names.map((name, index) => swatch(index + 1, name)), element("li", {}, "▾ others left here"), one.parent === null ? null : element("li", {}, element("span", { class: "mark own-start" }), " from here on its own"));
}

// Entropy by token index, from where the sequence began to decode on its own; vertical lines are forks that left it.
function curve(one, sequences, place, threshold) {
  if (!one.entropies.length) return null;
  const size = Math.max(1, Math.ceil(one.entropies.length / 600)), points = [];
  for (let index = 0; index < one.entropies.length; index += size) points.push(Math.max(...one.entropies.slice(index, index + size)));
  const highest = Math.max(100, 110 * (threshold || 0), ...points), width = points.length, height = (value) => 98 - (96 * value) / highest;
  const start = one.at === null || one.at === undefined ? 0 : one.at + 1, steps = one.entropies.length * one.bin;
  const svg = drawn("svg", { class: "curve", viewBox: `0 0 ${width} 100`, preserveAspectRatio: "none", role: "img", "aria-label": `entropy by token, highest ${number(Math.max(...points) / 100, 2)} nats` });
  for (const child of sequences.filter((other) => other.parent === place)) {
    const x = ((child.at - start) / steps) * width;
    svg.append(drawn("line", { class: "fork", x1: x, x2: x, y1: 0, y2: 100 }));
  }
  if (threshold > 0) svg.append(drawn("line", { class: "threshold", x1: 0, x2: width, y1: height(100 * threshold), y2: height(100 * threshold) }));
  svg.append(drawn("path", { d: points.map((value, x) => `${x ? "L" : "M"}${x + 0.5} ${height(value)}`).join("") }));
  return svg;
}

function sequenceBox(detail, texts, place) {
  const sequences = detail.sequences, one = sequences[place], kind = KINDS[kindOf(one)], text = texts[place];
  const facts = [`finish ${one.finish ?? "–"}`, `${number(one.tokens)} tokens`, one.copies ? `${one.copies} ${one.copies === 1 ? "copy" : "copies"}` : null, `weight ${number(one.weight, 4)}`, `mean entropy ${number(one.meanEntropy, 3)} nats`, `path ${one.path.join(" · ")}`];
  const shaded = tokensOf(sequences, place);
  const said = detail.shortened ? "The page would be too big with all texts: this is the end of this one. The samples file has the whole." : shaded ? null : one.entropies.length ? "The record does not say which token wrote which characters, so the text is not shaded; the curve is by token." : null;
  return [
    element("h5", {}, `Sequence ${place} `, element("span", { class: `verdict k-${kindOf(one)}` }, `${kind.sign} ${kind.name}`), one.answer === null || one.answer === undefined ? "" : ` answer ${one.answer}`),
    element("p", { class: "note" }, facts.filter(Boolean).join(" · ")),
    said ? element("p", { class: "note" }, said) : null,
    curve(one, sequences, place, detail.threshold),
    shaded ? scale(detail.threshold, one) : null,
    element("pre", { class: "text", tabindex: "0", role: "group", "aria-label": `Text of sequence ${place}` }, ...(detail.shortened ? [element("span", {}, `…${one.text}`)] : shadedText(sequences, text, place, detail.threshold))),
  ];
}
