// @ts-check
// What is shown, as the page's address tells it: whoever has the address sees the same.

/**
 * @typedef {object} State
 * @property {string} root
 * @property {string} pattern empty: one is proposed
 * @property {string[] | null} rows null with columns null: a first layout is chosen
 * @property {string[] | null} columns
 * @property {string[]} fixed axes that keys leave alone
 * @property {Record<string, string>} at the value of each axis that is neither row nor column
 * @property {number} size of a cell, in pixels
 * @property {boolean} scripts whether HTML files run theirs
 */

const SIZE = innerWidth < 640 ? 140 : 200; // two side by side on a phone

/** @param {string} search @returns {State} */
export function read(search) {
  const given = new URLSearchParams(search);
  const names = (/** @type {string} */ key) => given.get(key)?.split(",").filter(Boolean) ?? null;
  const at = [...given].filter(([key]) => key.startsWith("at.")).map(([key, value]) => [key.slice(3), value]);
  const size = Math.round(Number(given.get("size")));
  return {
    root: given.get("root") ?? "",
    pattern: given.get("pattern") ?? "",
    rows: names("rows"),
    columns: names("columns"),
    fixed: names("fixed") ?? [],
    at: Object.fromEntries(at),
    size: size >= 80 && size <= 640 ? size : SIZE,
    scripts: given.get("scripts") === "1",
  };
}

/** @param {State} state @returns {URLSearchParams} what the server needs to know of it */
export function asked(state) {
  const made = new URLSearchParams({ root: state.root });
  if (state.pattern) made.set("pattern", state.pattern);
  if (state.rows) made.set("rows", state.rows.join(","));
  if (state.columns) made.set("columns", state.columns.join(","));
  for (const [name, value] of Object.entries(state.at)) made.set(`at.${name}`, value);
  return made;
}

/** @param {State} state @param {boolean} step whether Back leads to what was before */
export function write(state, step) {
  const made = asked(state);
  if (state.fixed.length) made.set("fixed", state.fixed.join(","));
  if (state.size !== SIZE) made.set("size", String(state.size));
  if (state.scripts) made.set("scripts", "1");
  const address = `?${made}`;
  if (parent !== window) parent.postMessage({ pscan: address, title: document.title }, location.origin);
  if (address === location.search) return;
  if (step) history.pushState(null, "", address);
  else history.replaceState(null, "", address);
}
