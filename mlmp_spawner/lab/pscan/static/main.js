// @ts-check
// PScan: the form, the keys, and what is asked of the server when.

import { address, ask, fileAddress } from "./api.js";
import { roleOf, sayValues, showAxes, sliders } from "./axes.js";
import { by, counted, h } from "./dom.js";
import { forget, made } from "./files.js";
import { cellAt, clearGrid, prepare, showGrid } from "./grid.js";
import { asked, read, write } from "./state.js";

const VIEWS = 50;
const REST = 100; // ms after which somebody looks rather than flips on

let state = read(location.search);
/** @type {import("./api.js").Found | null} */
let found = null;
let active = "";
let turn = 0;
let resting = 0;
/** @type {[row: number, column: number] | null} */
let zoomed = null;
/** @type {Map<string, Promise<import("./api.js").View>>} */
const views = new Map();

const form = /** @type {HTMLFormElement} */ (by("asked"));
const dialog = /** @type {HTMLDialogElement} */ (by("zoom"));

/** Looks at the folder anew. */
async function look() {
  views.clear();
  forget();
  const mine = ++turn;
  by("trouble").textContent = "";
  by("counts").textContent = "Looking …";
  const what = asked(state);
  what.set("fresh", "1");
  /** @type {import("./api.js").Found} */
  let answer;
  try {
    answer = await (await ask("api/look", what)).json();
    if (mine !== turn) return;
  } catch (error) {
    if (mine === turn) trouble(error);
    return;
  }
  found = answer;
  take(found.layout);
  state.pattern = found.pattern;
  clearGrid();
  fillForm();
  write(state, false);
  showCounts();
  by("tools").hidden = false;
  choose(active);
  showAxes(found.axes, state, active, acts);
  draw(found);
}

/** What else is shown of the same files. @param {boolean} [newAxes] */
async function show(newAxes = false) {
  if (!found) return;
  const mine = ++turn;
  if (newAxes) showAxes(found.axes, state, active, acts);
  else sayValues(found.axes, state, active);
  try {
    const view = await viewOf(state);
    if (mine !== turn) return;
    by("trouble").textContent = "";
    if (newAxes) {
      take(view.layout);
      choose(active);
      showAxes(found.axes, state, active, acts);
    }
    write(state, false);
    draw(view);
  } catch (error) {
    if (mine === turn) trouble(error, true);
  }
}

/** @param {import("./api.js").View} view */
function draw(view) {
  showGrid(view, state.root, state.scripts);
  by("export").setAttribute("href", address("export", asked(state)));
  sayKeys();
  if (zoomed) zoom(...zoomed);
  clearTimeout(resting);
  resting = setTimeout(prepareNeighbours, REST);
}

/** The values beside this one: who flips goes there next. */
function prepareNeighbours() {
  const mine = turn;
  const axis = found?.axes.find((one) => one.name === active);
  if (!axis || roleOf(state, active) !== "slider") return;
  const at = axis.values.indexOf(state.at[active]);
  for (const value of [axis.values[at + 1], axis.values[at - 1]]) {
    if (value === undefined) continue;
    const next = { ...state, at: { ...state.at, [active]: value } };
    viewOf(next).then((view) => mine === turn && prepare(view, state.root, state.scripts)).catch(() => {});
  }
}

/** @param {import("./state.js").State} wanted @returns {Promise<import("./api.js").View>} */
function viewOf(wanted) {
  const what = asked(wanted);
  const key = String(what);
  const known = views.get(key);
  if (known) return known;
  what.set("brief", "1");
  const asking = ask("api/look", what).then((answer) => answer.json());
  asking.catch(() => views.delete(key));
  views.set(key, asking);
  for (const oldest of views.keys()) {
    if (views.size <= VIEWS) break;
    views.delete(oldest);
  }
  return asking;
}

/** @param {import("./api.js").Layout} layout */
function take(layout) {
  state.rows = layout.rows;
  state.columns = layout.columns;
  state.at = { ...layout.at };
}

/** @param {unknown} error @param {boolean} [keep] whether what is shown stays */
function trouble(error, keep = false) {
  by("trouble").textContent = error instanceof Error ? error.message : String(error);
  if (keep) return;
  found = null;
  by("counts").textContent = "";
  by("axes").replaceChildren();
  by("tools").hidden = true;
  clearGrid();
}

function fillForm() {
  for (const name of /** @type {const} */ (["root", "pattern"])) {
    /** @type {HTMLInputElement} */ (form.elements.namedItem(name)).value = state[name];
  }
  const size = /** @type {HTMLInputElement} */ (by("size"));
  size.value = String(state.size);
  /** @type {HTMLInputElement} */ (by("scripts")).checked = state.scripts;
  by("grid").style.setProperty("--size", `${state.size}px`);
  document.title = state.root ? `${state.root} · PScan` : "PScan";
}

function showCounts() {
  if (!found) return;
  const { files, matched, unmatched, missing, links, unreadable, cut, examples } = found;
  const words = [`${matched.toLocaleString("en")} of ${counted(files, "file")} match`];
  words.push(missing ? `${counted(missing, "combination")} missing` : "no combination missing");
  if (links) words.push(`${counted(links, "link")} not followed`);
  if (unreadable) words.push(`${unreadable.toLocaleString("en")} not readable`);
  if (cut) words.push("there is more than was looked at");
  const again = h("button", { type: "button", id: "again", click: look }, "Look again");
  const rest = unmatched > 0 && h(
    "details", {}, h("summary", {}, `${unmatched.toLocaleString("en")} unmatched`),
    h("ul", {}, ...examples.map((path) => h("li", {}, h("code", {}, path))), unmatched > examples.length && h("li", {}, "…")),
  );
  by("counts").replaceChildren(h("span", {}, words.join(" · ")), rest || "", again);
}

/** @param {string} name the slider that keys flip, or another one where that is none */
function choose(name) {
  const flipped = sliders(found?.axes ?? [], state).map((axis) => axis.name);
  active = flipped.includes(name) ? name : (flipped[0] ?? "");
}

function sayKeys() {
  by("keys").textContent = active ? `← and → flip ${active}; a number chooses the slider` : "";
}

const acts = {
  /** @param {string} name @param {string} role */
  role(name, role) {
    state.rows = (state.rows ?? []).filter((one) => one !== name);
    state.columns = (state.columns ?? []).filter((one) => one !== name);
    state.fixed = state.fixed.filter((one) => one !== name);
    if (role === "rows") state.rows.push(name);
    if (role === "columns") state.columns.push(name);
    if (role === "fixed") state.fixed.push(name);
    choose(role === "slider" ? name : active);
    show(true);
  },
  /** @param {string} name @param {string} value */
  value(name, value) {
    state.at = { ...state.at, [name]: value };
    show();
  },
  /** @param {string} name */
  choose(name) {
    choose(name);
    if (found) sayValues(found.axes, state, active);
    sayKeys();
    prepareNeighbours();
  },
};

/** @param {number} step @param {boolean} end to the first or the last value */
function flip(step, end) {
  const axis = found?.axes.find((one) => one.name === active);
  if (!axis) return false;
  const last = axis.values.length - 1;
  const at = axis.values.indexOf(state.at[active]);
  const next = end ? (step < 0 ? 0 : last) : Math.min(last, Math.max(0, at + step));
  if (next !== at) acts.value(active, axis.values[next]);
  return true;
}

/** @type {Record<string, [step: number, end: boolean]>} */
const KEYS = { ArrowLeft: [-1, false], ArrowRight: [1, false], Home: [-1, true], End: [1, true] };

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const target = /** @type {Element} */ (event.target);
  if (target.matches("input:not([type]), select, .text")) return;
  const moves = target.matches("input[type=range]"); // by itself
  if (!moves && KEYS[event.key] && flip(...KEYS[event.key])) event.preventDefault();
  const chosen = sliders(found?.axes ?? [], state)[Number(event.key) - 1];
  if (chosen) acts.choose(chosen.name);
});

/** @param {number} row @param {number} column */
function zoom(row, column) {
  const cell = cellAt(row, column);
  zoomed = [row, column];
  by("zoom-path").textContent = cell ? cell[0] : "There is no file with these values";
  by("zoom-open").hidden = !cell;
  by("zoom-flip").hidden = !active;
  // Without scripts: in a tab of its own no frame holds them.
  if (cell) by("zoom-open").setAttribute("href", fileAddress(state.root, cell[0]));
  by("zoom-file").replaceChildren(cell ? made(state.root, cell[0], cell[1], state.scripts) : "—");
  if (!dialog.open) dialog.showModal();
}

by("zoom-back").addEventListener("click", () => flip(-1, false));
by("zoom-on").addEventListener("click", () => flip(1, false));

dialog.addEventListener("close", () => {
  zoomed = null;
  by("zoom-file").replaceChildren();
});

by("grid").addEventListener("click", (event) => {
  const target = /** @type {HTMLElement} */ (event.target);
  const place = /** @type {HTMLElement | null} */ (target.closest("td[data-row]"));
  if (place && target.matches(".enlarge, img")) zoom(Number(place.dataset.row), Number(place.dataset.column));
});

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const given = new FormData(form);
  start(String(given.get("root")).trim(), String(given.get("pattern")).trim());
});

by("propose").addEventListener("click", () => start(String(new FormData(form).get("root")).trim(), ""));

/** @param {string} root @param {string} pattern */
function start(root, pattern) {
  const same = root === state.root && pattern === state.pattern;
  state = same ? state : { ...state, root: root || ".", pattern, rows: null, columns: null, fixed: [], at: {} };
  write(state, !same);
  look();
}

by("size").addEventListener("input", (event) => {
  state.size = Number(/** @type {HTMLInputElement} */ (event.target).value);
  by("grid").style.setProperty("--size", `${state.size}px`);
  write(state, false);
});

by("scripts").addEventListener("change", (event) => {
  state.scripts = /** @type {HTMLInputElement} */ (event.target).checked;
  show();
});

addEventListener("popstate", begin);

function begin() {
  state = read(location.search);
  fillForm();
  if (state.root) look();
}

/** As JupyterLab around this page looks, where it is in one. */
function followTheme() {
  let lab;
  try {
    lab = parent.document.body.dataset.jpThemeLight === undefined ? null : parent.document.body;
  } catch {
    return; // somebody else's page
  }
  if (!lab) return;
  const body = lab;
  const follow = () => (document.documentElement.dataset.theme = body.dataset.jpThemeLight === "false" ? "dark" : "light");
  new MutationObserver(follow).observe(body, { attributes: true, attributeFilter: ["data-jp-theme-light"] });
  follow();
}

followTheme();
begin();
