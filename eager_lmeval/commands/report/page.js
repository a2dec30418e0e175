// The list of documents, two runs beside each other, links, keys.
const LISTED = 400; // rows of the list drawn at once
const [runSelect, withSelect, search, list, panel, count, nextFlipped, comparison] = ["run", "with", "search", "list", "document", "count", "flipped", "comparison"].map(byId);
const filters = [...document.querySelectorAll("#controls input[type=checkbox]")];
let runs = [], shown = [], limit = LISTED, opened = null;

const other = () => (withSelect.value === "" ? null : runs[withSelect.value]);

// What the second run did to a document of the first one: by the metric that the plots show.
function changeOf(entry) {
  const run = runs[runSelect.value], partner = other()?.byKey.get(entry.key);
  if (!other()) return null;
  if (!partner) return "missing";
  if (entry.value === null || partner.value === null) return "unknown";
  const step = (partner.value - entry.value) * run.better;
  return step > 0 ? "fixed" : step < 0 ? "broken" : "same";
}

function matches(entry) {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  const change = changeOf(entry);
  const passes = (box) => (box.name === "flipped" ? change === "fixed" || change === "broken" : entry.flags[box.name]);
  return filters.every((box) => !box.checked || passes(box)) && words.every((word) => entry.search.includes(word));
}

function drawList() {
  const all = runs[runSelect.value].documents;
  shown = all.filter(matches);
  count.textContent = `${shown.length} of ${all.length} documents`;
  const rows = shown.slice(0, limit).map((entry) => {
    const verdict = entry.c === null ? `${entry.n} sequences` : `${entry.c} of ${entry.n} right`, change = changeOf(entry);
    const parts = [`#${entry.id}`, verdict, `${number(entry.tokens)} tokens`, ...Object.keys(entry.flags)];
    const row = element("button", { type: "button", "data-id": entry.id, "aria-current": opened === entry.id ? "true" : null },
      element("span", { class: "snippet" }, visible(entry.title) || "(empty prompt)"),
      element("span", { class: "line" }, change && change !== "same" ? element("b", { class: `change ${change}` }, change) : null, parts.join(" · ")));
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

function linkTo(entry) {
  const partner = other() ? `&with=${other().number}` : "";
  return `#run=${runs[runSelect.value].number}&document=${entry.id}${partner}`;
}

async function open(entry, move = true) {
  opened = entry.id;
  for (const row of list.querySelectorAll("button[aria-current]")) row.removeAttribute("aria-current");
  list.querySelector(`button[data-id="${Number(entry.id)}"]`)?.setAttribute("aria-current", "true");
  const asked = `${runSelect.value} ${withSelect.value} ${entry.id}`;
  const views = [{ name: runs[runSelect.value].name, entry, at: `d-${runSelect.value}-${entry.id}` }];
  if (other()) {
    const partner = other().byKey.get(entry.key);
    views.push({ name: other().name, entry: partner, at: partner ? `d-${withSelect.value}-${partner.id}` : null });
  }
  for (const one of views) one.detail = one.at ? await unpack(one.at) : null;
  if (asked !== `${runSelect.value} ${withSelect.value} ${opened}`) return; // another one was chosen while this one unpacked
  const link = linkTo(entry), change = changeOf(entry), metric = runs[runSelect.value].metric;
  const said = { fixed: `fixed: ${metric} is better in ${other()?.name}`, broken: `broken: ${metric} is worse in ${other()?.name}`, same: `same ${metric} in both` }[change];
  drawDocument(panel, views, link, said);
  if (!move) return;
  history.replaceState(null, "", link);
  if (matchMedia("(max-width: 760px)").matches) panel.scrollIntoView();
  panel.focus({ preventScroll: true });
}

const entryOf = (id) => runs[runSelect.value].documents.find((entry) => entry.id === id);

function changed() { limit = LISTED; drawList(); }

function offerPartners() {
  const run = runs[runSelect.value], before = withSelect.value;
  const options = runs.flatMap((one, place) => (one !== run && one.task === run.task ? [element("option", { value: place }, one.name)] : []));
  withSelect.replaceChildren(element("option", { value: "" }, "nothing"), ...options);
  withSelect.value = options.some((option) => option.value === before) ? before : "";
  withSelect.disabled = !options.length;
  compare();
}

function compare() {
  const all = runs[runSelect.value].documents.map(changeOf), counted = (name) => all.filter((change) => change === name).length;
  for (const part of document.querySelectorAll(".compared")) part.hidden = !other();
  if (!other()) for (const box of filters) if (box.name === "flipped") box.checked = false;
  comparison.textContent = other() ? `${other().name} against ${runs[runSelect.value].name} by ${runs[runSelect.value].metric}: ${counted("fixed")} fixed, ${counted("broken")} broken, ${counted("same")} same${counted("missing") ? `, ${counted("missing")} not in both` : ""}` : "";
}

function openNextFlipped() {
  const at = shown.findIndex((entry) => entry.id === opened), inTurn = [...shown.slice(at + 1), ...shown.slice(0, at + 1)];
  const next = inTurn.find((entry) => ["fixed", "broken"].includes(changeOf(entry)));
  if (!next) return;
  open(next);
  list.querySelector(`button[data-id="${Number(next.id)}"]`)?.scrollIntoView({ block: "nearest" });
}

function moveInList(event) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  const rows = [...list.querySelectorAll("button")], place = rows.indexOf(document.activeElement);
  if (!step || place < 0) return;
  event.preventDefault();
  rows[place + step]?.focus();
}

// `#run=2&document=17&with=3`, numbers as they stand in the table; anything else opens what failed first.
function followLink() {
  const asked = new URLSearchParams(location.hash.slice(1)), placeOf = (name) => runs.findIndex((run) => String(run.number) === asked.get(name));
  if (!asked.has("document") || placeOf("run") < 0) return false;
  runSelect.value = placeOf("run");
  offerPartners();
  if (placeOf("with") >= 0 && [...withSelect.options].some((option) => option.value === String(placeOf("with")))) withSelect.value = placeOf("with");
  compare();
  changed();
  const entry = entryOf(Number(asked.get("document")));
  if (!entry) return false;
  open(entry, false);
  byId("documents").scrollIntoView();
  return true;
}

function openFirst() {
  const all = runs[runSelect.value].documents, first = all.find((entry) => entry.flags.failing) ?? all[0];
  if (first) open(first, false);
}

async function start() {
  if (!("DecompressionStream" in window)) {
    count.textContent = "This browser is too old to unpack the documents (it has no DecompressionStream).";
    return;
  }
  runs = await unpack("index");
  for (const run of runs) run.byKey = new Map(run.documents.map((entry) => [entry.key, entry]));
  runSelect.addEventListener("change", () => { opened = null; offerPartners(); changed(); openFirst(); });
  withSelect.addEventListener("change", () => { compare(); changed(); const entry = entryOf(opened); if (entry) open(entry); });
  nextFlipped.addEventListener("click", openNextFlipped);
  for (const box of filters) box.addEventListener("change", changed);
  search.addEventListener("input", changed);
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  list.addEventListener("keydown", moveInList);
  window.addEventListener("hashchange", followLink);
  document.addEventListener("keydown", (event) => {
    if (/^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName) || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "/") { event.preventDefault(); search.focus(); }
    if (event.key === "f" && other()) openNextFlipped();
  });
  offerPartners();
  changed();
  if (!followLink()) openFirst();
  document.documentElement.dataset.ready = "true";
}

start();
