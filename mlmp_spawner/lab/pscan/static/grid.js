// @ts-check
// Rows and columns. Only what is on the screen, or about to be, is loaded.

import { by, h } from "./dom.js";
import { fileElement } from "./files.js";

/** @typedef {import("./api.js").View} View */

/** @type {View | null} */
let shown = null;
let shape = "";
/** @type {HTMLElement[][]} */
let places = [];
/** @type {Set<HTMLElement>} */
const visible = new Set();
/** @type {{ root: string, scripts: boolean }} */
let how = { root: "", scripts: false };

const watcher = new IntersectionObserver(
  (entries) => {
    for (const entry of entries) {
      const place = /** @type {HTMLElement} */ (entry.target);
      if (entry.isIntersecting) visible.add(place);
      else visible.delete(place);
      if (entry.isIntersecting) fill(place);
    }
  },
  { rootMargin: "200px" },
);

/** @param {View} view @param {string} root @param {boolean} scripts */
export function showGrid(view, root, scripts) {
  const next = JSON.stringify([view.layout.rows, view.layout.columns, view.rows, view.columns]);
  shown = view;
  how = { root, scripts };
  if (next !== shape) build(view);
  shape = next;
  for (const place of visible) fill(place);
  for (const line of places) for (const place of line) if (!visible.has(place)) place.dataset.stale = "yes";
}

export function clearGrid() {
  watcher.disconnect();
  visible.clear();
  places = [];
  shape = "";
  shown = null;
  by("grid").replaceChildren();
}

/** Loads what another view would show where one looks now. @param {View} view @param {string} root @param {boolean} scripts */
export function prepare(view, root, scripts) {
  for (const place of visible) {
    const cell = view.cells[Number(place.dataset.row)]?.[Number(place.dataset.column)];
    if (cell && cell[1] === "image") fileElement(root, cell, scripts);
  }
}

/** @param {number} row @param {number} column */
export const cellAt = (row, column) => shown?.cells[row]?.[column] ?? null;

/** @param {View} view */
function build(view) {
  clearGrid();
  shown = view;
  const { rows, columns } = view.layout;
  const head = h("tr", {}, h("td"), ...view.columns.map((values) => h("th", { scope: "col" }, ...named(columns, values))));
  const body = h("tbody");
  view.rows.forEach((values, row) => {
    const line = h("tr", {}, h("th", { scope: "row" }, ...named(rows, values)));
    places.push(
      view.columns.map((_, column) => {
        const place = h("td", { "data-row": row, "data-column": column, "data-stale": "yes" });
        line.append(place);
        return place;
      }),
    );
    body.append(line);
  });
  by("grid").replaceChildren(h("table", {}, h("thead", {}, head), body));
  for (const line of places) for (const place of line) watcher.observe(place);
}

/** @param {string[]} names @param {string[]} values */
function named(names, values) {
  return names.map((name, at) => h("div", {}, h("span", {}, `${name} `), values[at]));
}

/** @param {HTMLElement} place */
function fill(place) {
  const cell = cellAt(Number(place.dataset.row), Number(place.dataset.column));
  const key = cell ? `${how.root}\0${cell[0]}\0${how.scripts}` : "";
  delete place.dataset.stale;
  if (place.dataset.shows === key && place.firstChild) return;
  place.dataset.shows = key;
  delete place.dataset.loading;
  if (!cell) {
    place.replaceChildren(h("span.missing", { title: "There is no file with these values" }, "—"));
    return;
  }
  const enlarge = h("button.enlarge", { type: "button", "aria-label": `Enlarge ${cell[0]}`, title: cell[0] }, "⤢");
  const more = cell[2] > 0 && h("span.more", { title: "More files have the same values" }, `and ${cell[2]} more`);
  const element = fileElement(how.root, cell, how.scripts);
  const put = () => {
    if (place.dataset.shows !== key) return; // flipped on meanwhile
    delete place.dataset.loading;
    place.replaceChildren(element, enlarge, more || "");
  };
  if (!(element instanceof HTMLImageElement) || element.complete || !place.firstChild) return put();
  place.dataset.loading = "yes"; // the last one stays, pale, until the next is there
  element.addEventListener("load", put, { once: true });
  element.addEventListener("error", put, { once: true });
}
