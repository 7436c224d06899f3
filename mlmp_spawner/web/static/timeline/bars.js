// @ts-check
// One bar: how it looks and what it is called. A pattern and a word, never a colour alone.

import { h } from "./dom.js";
import { hours, span } from "./clock.js";

/** @typedef {import("./types.js").Bar} Bar @typedef {import("./types.js").Lane} Lane */

const KINDS = /** @type {Record<string, string>} */ ({ class: "course", job: "job", maintenance: "maintenance" });

/** Titles of profiles by name; set once they are known. @type {Map<string, string>} */
export const titles = new Map();

/** Whether the person may change anything at all. */
export const rights = { change: true };

/** "2 × A100". @param {{ units: number, profile: string }} one */
export function what(one) {
  const title = titles.get(one.profile) ?? one.profile;
  return one.units > 1 ? `${one.units} × ${title}` : title;
}

/** @param {Bar} bar */
const who = (bar) => (bar.mine ? "you" : bar.owner ?? "taken");

/** What a bar shows. @param {Bar} bar */
export function words(bar) {
  if (bar.kind === "maintenance") return bar.title || "no bookings";
  return bar.mine || bar.kind === "class" ? bar.title || what(bar) : who(bar);
}

/** The mark in front of it: what colour and pattern say, as a word. @param {Bar} bar */
export function mark(bar) {
  if (bar.state === "waiting") return "waiting";
  return KINDS[bar.kind] ?? "";
}

/** What is said of a bar to those who don't see where it lies. @param {Bar} bar */
export function spoken(bar) {
  const shown = `${mark(bar)} ${words(bar)}`.trim(); // what is said begins with what is seen
  const parts = [bar.mine ? `Yours: ${shown}` : shown];
  if (bar.kind !== "maintenance" && !shown.includes(what(bar))) parts.push(what(bar));
  parts.push(bar.node ? `on ${bar.node}` : "no node yet", span(bar.start, bar.end));
  if (bar.state === "active") parts.push("now");
  return parts.join(", ");
}

/** Whether a bar may be taken elsewhere, or just its end. @param {Bar} bar @param {number} now @returns {"all" | "end" | ""} */
export function movable(bar, now) {
  if (!rights.change || !bar.mine || bar.kind !== "session" || bar.state === "ended" || bar.end <= now || bar.stopping) return "";
  return bar.state === "active" || (bar.node !== null && bar.start <= now) ? "end" : "all";
}

const MODEL = h("div.tl-bar", { role: "gridcell", tabindex: "-1" }, h("span"));
const LINKED = h("div.tl-bar.tl-linked", { "aria-hidden": "true" }, h("i"), h("span"));

/** @param {boolean} first whether it is the first part of its booking, which is the one that can be reached */
export function make(first) {
  return /** @type {HTMLElement} */ ((first ? MODEL : LINKED).cloneNode(true));
}

/**
 * Makes an element show a bar.
 * @param {HTMLElement} element @param {Bar} bar @param {boolean} first @param {{ start: number, end: number, now: number }} view
 */
export function fill(element, bar, first, view) {
  const move = movable(bar, view.now);
  let name = "tl-bar";
  if (!first) name += " tl-linked";
  name += bar.mine ? " tl-mine" : "";
  name += bar.kind === "session" ? "" : ` tl-${bar.kind}`;
  if (bar.state === "waiting" || bar.state === "ended") name += ` tl-${bar.state}`;
  if (move) name += ` tl-move-${move}`;
  if (bar.start < view.start) name += " tl-cut-start";
  if (bar.end > view.end) name += " tl-cut-end";
  if (element.className !== name) element.className = name;
  const kind = mark(bar);
  const text = /** @type {HTMLElement} */ (element.lastChild);
  if (kind) text.replaceChildren(h("em", {}, kind), ` ${words(bar)}`);
  else text.textContent = words(bar);
  if (!first) return;
  element.dataset.key = bar.key;
  element.setAttribute("aria-label", spoken(bar));
  element.title = `${kind ? `${kind} · ` : ""}${words(bar)}\n${hours(bar.start, bar.end)}`;
}

/** The parts of a bar that lie in rows side by side: first row, number of rows. @param {number[]} rows */
export function runs(rows) {
  /** @type {[number, number][]} */
  const found = [];
  for (const row of rows) {
    const last = found.at(-1);
    if (last && row === last[0] + last[1]) last[1] += 1;
    else found.push([row, 1]);
  }
  return found;
}
