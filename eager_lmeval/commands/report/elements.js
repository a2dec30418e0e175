// Everything a model wrote becomes a text node (`append` of a string); nothing here builds HTML from text.
const NAMESPACE = "http://www.w3.org/2000/svg";
const byId = (id) => document.getElementById(id);

function furnish(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) if (value !== null && value !== undefined) made.setAttribute(name, value);
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}
const element = (tag, attributes = {}, ...children) => furnish(document.createElement(tag), attributes, children);
const drawn = (tag, attributes = {}, ...children) => furnish(document.createElementNS(NAMESPACE, tag), attributes, children);

async function unpack(id) {
  const bytes = Uint8Array.from(atob(byId(id).textContent), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return JSON.parse(await new Response(stream).text());
}

const number = (value, digits = 0) =>
  value === null || value === undefined ? "–" : value.toLocaleString("en", { maximumFractionDigits: digits, minimumFractionDigits: digits });
const percent = (part) => `${number(100 * part)} %`;
const visible = (text) => text.replaceAll("\n", "⏎").replaceAll("\t", "⇥");

// A text by code points: that is what the offsets of a record count.
class Letters {
  constructor(text) {
    this.text = text;
    this.points = /[\ud800-\udfff]/.test(text) ? Array.from(text) : null;
    this.length = this.points ? this.points.length : text.length;
  }
  slice(start, end) { return this.points ? this.points.slice(start, end).join("") : this.text.slice(start, end); }
}

const KINDS = {
  right: { sign: "✓", name: "right" },
  wrong: { sign: "✗", name: "wrong" },
  none: { sign: "–", name: "no answer" },
  cut: { sign: "✂", name: "cut when the vote was settled" },
  ungraded: { sign: "", name: "not graded" },
};
const kindOf = (one) => (one.finish === "cut" ? "cut" : one.correct === undefined ? "ungraded" : one.answer === null ? "none" : one.correct ? "right" : "wrong");
