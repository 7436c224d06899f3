// @ts-check
// What the page asks of the server beside it.

/**
 * @typedef {[path: string, kind: string, more: number] | null} Cell
 * @typedef {{ name: string, numeric: boolean, values: string[] }} Axis
 * @typedef {{ rows: string[], columns: string[], at: Record<string, string> }} Layout
 * @typedef {{ layout: Layout, rows: string[][], columns: string[][], cells: Cell[][] }} View
 * @typedef {View & { root: string, pattern: string, files: number, matched: number, missing: number,
 *   unmatched: number, examples: string[], links: number, unreadable: number, cut: boolean, axes: Axis[] }} Found
 */

const BASE = new URL("../", import.meta.url);

/** @param {string} where @param {URLSearchParams} what */
export const address = (where, what) => `${new URL(where, BASE)}?${what}`;

/** @param {string} root @param {string} path @param {boolean} [scripts] */
export function fileAddress(root, path, scripts = false) {
  const what = new URLSearchParams({ root, path });
  if (scripts) what.set("scripts", "1");
  return address("file", what);
}

/**
 * @param {string} where
 * @param {URLSearchParams} what
 * @returns {Promise<Response>}
 * @throws {Error} in words for people
 */
export async function ask(where, what) {
  const xsrf = document.cookie.split("; ").find((one) => one.startsWith("_xsrf="))?.slice(6) ?? "";
  let answer;
  try {
    answer = await fetch(address(where, what), { headers: { "X-XSRFToken": xsrf } });
  } catch {
    throw new Error("The server does not answer. Is it still running?");
  }
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => ({}));
  throw new Error([problem.detail ?? problem.message ?? `The server said ${answer.status}.`, problem.hint].filter(Boolean).join(" "));
}
