// @ts-check
// The axes: rows, columns, a slider, or one value for good.

import { by, h } from "./dom.js";

/**
 * @typedef {import("./api.js").Axis} Axis
 * @typedef {import("./state.js").State} State
 * @typedef {{ role: (name: string, role: string) => void, value: (name: string, value: string) => void,
 *   choose: (name: string) => void }} Acts
 */

const MOST_OPTIONS = 500; // of a list in which one still finds something

const ROLES = [
  ["rows", "Rows"],
  ["columns", "Columns"],
  ["slider", "Slider"],
  ["fixed", "Fixed"],
];

/** @param {State} state @param {string} name */
export function roleOf(state, name) {
  if (state.rows?.includes(name)) return "rows";
  if (state.columns?.includes(name)) return "columns";
  return state.fixed.includes(name) ? "fixed" : "slider";
}

/** @param {Axis[]} axes @param {State} state the axes that keys flip */
export const sliders = (axes, state) => axes.filter((axis) => roleOf(state, axis.name) === "slider" && axis.values.length > 1);

/**
 * @param {Axis[]} axes
 * @param {State} state
 * @param {string} active the name of the slider that keys flip
 * @param {Acts} acts
 */
export function showAxes(axes, state, active, acts) {
  const flipped = sliders(axes, state);
  const focused = document.activeElement?.id ?? "";
  by("axes").replaceChildren(...axes.map((axis) => row(axis, state, active, flipped.indexOf(axis) + 1, acts)));
  if (focused.startsWith("axis-")) by(focused)?.focus();
}

/** @param {Axis} axis @param {State} state @param {string} active @param {number} number @param {Acts} acts */
function row(axis, state, active, number, acts) {
  const { name, values } = axis;
  const role = roleOf(state, name);
  const options = ROLES.map(([key, words]) => h("option", { value: key, selected: key === role }, words));
  const roles = h("select", { id: `axis-role-${name}`, "aria-label": `Role of ${name}`, change: (/** @type {Event} */ event) => acts.role(name, of(event)) }, ...options);
  const line = h(
    "div.axis",
    { "data-axis": name, "data-active": name === active && number > 0 ? "yes" : null },
    h("span.name", { title: values.length > 1 ? `${values.length} values` : "one value" }, number > 0 && number < 10 && h("kbd", {}, String(number)), name),
    roles,
  );
  if (role === "slider" || (role === "fixed" && values.length > MOST_OPTIONS)) line.append(...slider(axis, state, acts));
  else if (role === "fixed") line.append(choice(axis, state, acts));
  else line.append(h("span.values", {}, `${values.length}: ${values.slice(0, 12).join(", ")}${values.length > 12 ? ", …" : ""}`));
  return line;
}

/** @param {Axis} axis @param {State} state @param {Acts} acts */
function slider({ name, values }, state, acts) {
  const at = Math.max(0, values.indexOf(state.at[name]));
  const input = h("input", {
    type: "range", id: `axis-value-${name}`, min: 0, max: Math.max(0, values.length - 1), value: at, "aria-label": name,
    "aria-valuetext": values[at], disabled: values.length < 2,
    input: (/** @type {Event} */ event) => acts.value(name, values[Number(of(event))]), focus: () => acts.choose(name),
  });
  return [input, h("output", { id: `axis-output-${name}` }, values[at] ?? "")];
}

/** @param {Axis} axis @param {State} state @param {Acts} acts */
function choice({ name, values }, state, acts) {
  const options = values.map((value) => h("option", { value, selected: value === state.at[name] }, value));
  return h("select", { id: `axis-value-${name}`, "aria-label": name, change: (/** @type {Event} */ event) => acts.value(name, of(event)) }, ...options);
}

/** Says the values without making anything anew: a slider that is dragged stays in one's hand. @param {Axis[]} axes @param {State} state @param {string} active */
export function sayValues(axes, state, active) {
  for (const { name, values } of axes) {
    const input = /** @type {HTMLInputElement | null} */ (by(`axis-value-${name}`));
    const line = input?.closest(".axis");
    if (!input || !line) continue;
    const output = by(`axis-output-${name}`);
    line.toggleAttribute("data-active", Boolean(output) && name === active);
    if (!output) continue;
    input.value = String(values.indexOf(state.at[name]));
    input.setAttribute("aria-valuetext", state.at[name]);
    output.textContent = state.at[name];
  }
}

/** @param {Event} event */
const of = (event) => /** @type {HTMLInputElement} */ (event.target).value;
