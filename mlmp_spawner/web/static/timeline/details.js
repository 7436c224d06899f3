// @ts-check
// What a bar is, and what can be done with it.

import { movable, what } from "./bars.js";
import { left, span } from "./clock.js";
import { h, page } from "./dom.js";
import { wishOf } from "./form.js";
import { makesWay } from "./model.js";
import { pop } from "./pop.js";

/** @typedef {import("./types.js").Bar} Bar @typedef {import("./actions.js").Actions} Actions */
/** @typedef {import("./form.js").BookingForm} BookingForm */

const STATES = { waiting: "waiting for a place", booked: "booked", active: "going on", ended: "over" };
const KINDS = /** @type {Record<string, string>} */ ({ class: "a course", job: "a job", session: "" });

/** @param {Bar} bar @param {Actions} actions @param {BookingForm} form @param {DOMRect | null} near */
export function details(bar, actions, form, near) {
  const facts = bar.kind === "maintenance" ? maintenance(bar) : booking(bar);
  const list = h("dl", {}, ...facts.flatMap(([name, value]) => (value ? [h("dt", {}, name), h("dd", {}, value)] : [])));
  const buttons = bar.mine ? own(bar, actions, form, near) : [];
  const title = bar.kind === "maintenance" ? "Maintenance" : bar.mine ? bar.title || what(bar) : what(bar);
  pop(title, [list, buttons.length > 0 && h("div.tl-buttons", {}, ...buttons)], near);
}

/** @param {Bar} bar @returns {[string, string][]} */
function maintenance(bar) {
  return [["On", bar.node ?? ""], ["When", span(bar.start, bar.end)], ["Why", bar.title ?? ""]];
}

/** @param {Bar} bar @returns {[string, string][]} */
function booking(bar) {
  return [
    ["Who", bar.mine ? "you" : bar.owner ?? "somebody"],
    ["What", `${what(bar)}${KINDS[bar.kind] ? `, ${KINDS[bar.kind]}` : ""}`],
    ["On", bar.node ?? "no node yet"],
    ["When", span(bar.start, bar.end)],
    ["Length", left(bar.end - bar.start)],
    ["State", STATES[bar.state]],
    ["Makes way", makesWay(bar) && bar.state === "active" ? "for any booking of these units" : ""],
  ];
}

/** @param {Bar} bar @param {Actions} actions @param {BookingForm} form @param {DOMRect | null} near */
function own(bar, actions, form, near) {
  const move = movable(bar, actions.grid.now);
  const href = `${page().dataset.root}bookings/${bar.id}`;
  return [
    h("a.btn.btn-sm.btn-primary", { href, "data-first": "" }, bar.state === "active" && bar.kind !== "job" ? "Open, extend, release" : "Open"),
    ...(move === "all" ? [h("button.btn.btn-sm.btn-outline-secondary", {
      type: "button", click: () => form.open(wishOf(bar), near, { bar, whole: true }),
    }, "Move…")] : []),
    ...(move === "all" ? [h("button.btn.btn-sm.btn-outline-secondary", { type: "button", click: () => actions.cancel(bar) }, "Cancel booking")] : []),
  ];
}
