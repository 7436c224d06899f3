// @ts-check
// Files as elements. One that was seen is kept, so that flipping back and forth takes no time.

import { ask, fileAddress } from "./api.js";
import { h } from "./dom.js";

const KEPT = 600;

/** @type {Map<string, HTMLElement>} */
const kept = new Map();

export const forget = () => kept.clear();

/**
 * @param {string} root
 * @param {import("./api.js").Cell & {}} cell
 * @param {boolean} scripts
 * @returns {HTMLElement} a new one, or the one that is kept
 */
export function fileElement(root, cell, scripts) {
  const [path, kind] = cell;
  const key = `${root}\0${path}\0${scripts}`;
  const known = kept.get(key);
  kept.delete(key);
  const element = known ?? made(root, path, kind, scripts);
  kept.set(key, element);
  for (const oldest of kept.keys()) {
    if (kept.size <= KEPT) break;
    kept.delete(oldest);
  }
  return element;
}

/** @param {string} root @param {string} path @param {string} kind @param {boolean} scripts */
export function made(root, path, kind, scripts) {
  if (kind === "image") return h("img", { src: fileAddress(root, path), alt: path, decoding: "sync" });
  if (kind === "pdf") return h("iframe", { src: `${fileAddress(root, path)}#toolbar=0&navpanes=0&view=Fit`, title: path });
  if (kind === "html") {
    const sandbox = scripts ? "allow-scripts" : "";
    return h("iframe", { sandbox, src: fileAddress(root, path, scripts), title: path, referrerpolicy: "no-referrer" });
  }
  const box = h("div.text", { tabindex: "0", role: "group", "aria-label": path });
  ask("api/cell", new URLSearchParams({ root, path }))
    .then((answer) => answer.text())
    .then((html) => (box.innerHTML = html)) // the server's own, of what is text in it
    .catch((error) => (box.textContent = error.message));
  return box;
}
