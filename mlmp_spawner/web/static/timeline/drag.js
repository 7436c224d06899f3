// @ts-check
// The pointer: free space is booked, one's own bars are moved and resized. A finger presses long first; else it scrolls.

import { movable } from "./bars.js";
import { MINUTE, snap, span, STEP, left as lengthOf } from "./clock.js";
import { h } from "./dom.js";
import { LABEL, makesWay } from "./model.js";

/** @typedef {import("./types.js").Bar} Bar @typedef {import("./types.js").Lane} Lane */
/** @typedef {import("./types.js").Profile} Profile @typedef {import("./types.js").Wish} Wish */
/** @typedef {import("./grid.js").Grid} Grid */
/**
 * @typedef {object} Drag what goes on
 * @property {"book" | "move" | "start" | "end"} mode
 * @property {Bar | null} bar
 * @property {Lane} lane where it began
 * @property {number} row
 * @property {number} grip the instant under the pointer as it began
 * @property {{ lane: Lane, row: number, units: number, start: number, end: number }} to
 *
 * @typedef {object} Outcome
 * @property {(wish: Wish, near: DOMRect, settled: () => void) => void} book
 * @property {(bar: Bar, to: { start: number, end: number, node: string | null, row: number }) => void} move
 * @property {(bar: Bar, near: DOMRect) => void} open
 */

const FAR = 4; // px after which a press is a drag
const LONG = 380; // ms that a finger rests
const FINE = 5 * MINUTE;
const EDGE = 8; // px at the ends of a bar that resize it

export class Dragging {
  /** @param {Grid} grid @param {Profile[]} profiles @param {Outcome} outcome */
  constructor(grid, profiles, outcome) {
    this.grid = grid;
    this.profiles = profiles;
    this.outcome = outcome;
    /** @type {Drag | null} */ this.drag = null;
    this.ghost = h("div.tl-ghost", {}, h("span"));
    const { body } = grid;
    body.addEventListener("pointerdown", (event) => this.#down(event));
    body.addEventListener("touchmove", (event) => { if (this.drag) event.preventDefault(); }, { passive: false });
    addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || !this.drag) return;
      event.stopPropagation();
      this.#end();
    }, true);
  }

  /** What a press at this place would begin. @param {PointerEvent} event @returns {Drag | null} */
  #begin(event) {
    const { grid } = this;
    if (event.target instanceof Element && event.target.closest(".tl-label")) return null;
    const grip = grid.timeAt(event.clientX);
    const place = grid.model.at(event.clientY - grid.body.getBoundingClientRect().top);
    const bar = grid.barOf(event.target) ?? this.#linked(event.target);
    if (!place) return null;
    const { lane, row } = place;
    if (!bar || makesWay(bar)) {
      const profile = this.#profile(lane);
      if (!profile) return null;
      return { mode: "book", bar: null, lane, row, grip, to: { lane, row, units: 1, start: grip, end: grip } };
    }
    const can = movable(bar, grid.now);
    const mode = can && this.#mode(event, bar, can);
    const home = grid.model.laneOf(bar);
    if (!mode || !home) return null;
    return { mode, bar, lane: home, row: bar.rows[0], grip, to: { lane: home, row: bar.rows[0], units: bar.units, start: bar.start, end: bar.end } };
  }

  /** A further part of a bar stands for the bar. @param {EventTarget | null} target */
  #linked(target) {
    return target instanceof Element && target.closest(".tl-linked") ? this.grid.barOf(target) : null;
  }

  /** @param {PointerEvent} event @param {Bar} bar @param {"all" | "end"} can @returns {Drag["mode"] | ""} */
  #mode(event, bar, can) {
    const { model } = this.grid;
    const box = /** @type {Element} */ (event.target).closest(".tl-bar")?.getBoundingClientRect();
    if (!box) return "";
    const edge = Math.min(event.pointerType === "touch" ? 16 : EDGE, box.width / 3);
    if (bar.end <= model.end && event.clientX > box.right - edge) return "end";
    if (can === "end") return "";
    return bar.start >= model.start && event.clientX < box.left + edge ? "start" : "move";
  }

  /** @param {PointerEvent} event */
  #down(event) {
    if (event.button !== 0 || this.drag || !event.isPrimary) return;
    const begun = this.#begin(event);
    const pressed = this.grid.barOf(event.target);
    const touch = event.pointerType === "touch";
    let timer = 0;
    const start = () => { if (begun) this.#start(begun, event.pointerId); };
    /** @param {PointerEvent} move */
    const moved = (move) => {
      if (move.pointerId !== event.pointerId) return;
      this.last = move;
      const far = Math.hypot(move.clientX - event.clientX, move.clientY - event.clientY) > (touch ? 10 : FAR);
      if (!this.drag && far) {
        if (touch || !begun) return finish();
        start();
      }
      if (this.drag) this.#to(move.clientX, move.clientY);
    };
    /** @param {PointerEvent} up */
    const released = (up) => {
      if (up.pointerId !== event.pointerId) return;
      finish();
      if (this.drag) this.#drop();
      else if (up.type === "pointerup") this.#press(pressed, begun, event);
    };
    const finish = () => {
      clearTimeout(timer);
      for (const [name, act] of heard) removeEventListener(name, /** @type {EventListener} */ (act));
      if (this.drag && touch) navigator.vibrate?.(0);
    };
    const heard = /** @type {[string, Function][]} */ ([["pointermove", moved], ["pointerup", released], ["pointercancel", (/** @type {PointerEvent} */ one) => { finish(); if (one.pointerId === event.pointerId) this.#end(); }]]);
    for (const [name, act] of heard) addEventListener(name, /** @type {EventListener} */ (act));
    if (touch && begun) timer = window.setTimeout(() => { start(); navigator.vibrate?.(15); this.#to(event.clientX, event.clientY); }, LONG);
    if (!touch && begun) event.preventDefault(); // no text is selected
  }

  /** A press that was no drag: shows a bar, or asks for the usual length from there. @param {Bar | null} bar @param {Drag | null} begun @param {PointerEvent} event */
  #press(bar, begun, event) {
    const { grid } = this;
    if (bar) {
      grid.go(bar);
      this.outcome.open(bar, /** @type {HTMLElement} */ (grid.elementOf(bar)).getBoundingClientRect());
    } else if (begun?.mode === "book") {
      const profile = this.#profile(begun.lane);
      if (!profile) return;
      const start = Math.max(Math.floor(begun.grip / STEP) * STEP, soonest(grid.now));
      this.drag = { ...begun, to: { ...begun.to, units: profile.units, start, end: start + profile.default_duration } };
      this.#show();
      grid.over.append(this.ghost);
      if (event.pointerType === "touch") this.#end(); // a tap is how one scrolls and looks
      else this.#drop();
    }
  }

  /** @param {Drag} drag @param {number} pointer */
  #start(drag, pointer) {
    this.drag = drag;
    this.grid.scroll.classList.add("tl-dragging");
    try { this.grid.body.setPointerCapture(pointer); } catch { /* it has gone up meanwhile */ }
    this.grid.over.append(this.ghost);
    this.#show();
    const glide = () => {
      if (!this.drag) return;
      this.#glide();
      requestAnimationFrame(glide);
    };
    requestAnimationFrame(glide);
  }

  /** At the edges of the view it moves along. */
  #glide() {
    const at = this.last;
    if (!at || !this.grid.scroll.classList.contains("tl-dragging")) return;
    const { scroll } = this.grid;
    const box = scroll.getBoundingClientRect();
    const speed = (/** @type {number} */ low, /** @type {number} */ high, /** @type {number} */ here) => (here < low + 28 ? -8 : here > high - 28 ? 8 : 0);
    const [x, y] = [speed(box.left + LABEL, box.right, at.clientX), speed(box.top + 40, box.bottom, at.clientY)];
    if (!x && !y) return;
    scroll.scrollBy(x, y);
    this.#to(at.clientX, at.clientY);
  }

  /** @param {number} clientX @param {number} clientY */
  #to(clientX, clientY) {
    const { drag, grid } = this;
    if (!drag) return;
    const at = grid.timeAt(clientX);
    const { bar } = drag;
    const profile = this.#profile(drag.lane, bar?.profile);
    const step = this.#step(profile);
    const least = Math.max(profile?.min_duration ?? step, step);
    const place = grid.model.at(clientY - grid.body.getBoundingClientRect().top);
    if (drag.mode === "book") {
      const row = place && place.lane === drag.lane ? place.row : drag.row;
      drag.to = { ...drag.to, ...between(drag.grip, at, step, least, grid.now), row: Math.min(row, drag.row),
        units: row === drag.row ? profile?.units ?? 1 : Math.min(Math.abs(row - drag.row) + 1, profile?.max_units ?? 1) };
    } else if (bar && drag.mode === "end") {
      drag.to.end = Math.max(snap(bar.end + at - drag.grip, step), (bar.start < grid.now ? soonest(grid.now, step) : bar.start + least));
    } else if (bar && drag.mode === "start") {
      drag.to.start = Math.max(Math.min(snap(bar.start + at - drag.grip, step), bar.end - least), soonest(grid.now, step));
    } else if (bar) {
      const start = Math.max(snap(bar.start + at - drag.grip, step), soonest(grid.now, step));
      drag.to = { ...drag.to, start, end: start + bar.end - bar.start, ...this.#target(bar, drag, place) };
    }
    this.#show();
  }

  /** A quarter of an hour; less only of what may be very short, and where it can be aimed at. @param {Profile} [profile] */
  #step(profile) {
    const { model, width } = this.grid;
    const aimed = (width / (model.end - model.start)) * FINE >= 3;
    return profile && profile.min_duration < 2 * FINE && aimed ? FINE : STEP;
  }

  /** The node that a bar is held over, if it can go there. @param {Bar} bar @param {Drag} drag @param {{ lane: Lane, row: number } | null} place */
  #target(bar, drag, place) {
    if (!place || !place.lane.group.node || place.lane === drag.lane) return { lane: drag.lane, row: drag.row };
    const profile = this.#profile(place.lane, bar.profile);
    if (!profile || profile.name !== bar.profile) return { lane: drag.lane, row: drag.row };
    return { lane: place.lane, row: Math.max(0, Math.min(place.row, place.lane.group.rows - bar.units)) };
  }

  /** What may be booked of a group. @param {Lane} lane @param {string} [wanted] */
  #profile({ group }, wanted) {
    const fitting = this.profiles.filter((one) => one.resource === group.resource && one.nodes.includes(group.node));
    return (wanted ? this.profiles.find((one) => one.name === wanted && (fitting.includes(one) || !group.node)) : undefined) ?? fitting[0];
  }

  #show() {
    const { drag, grid, ghost } = this;
    if (!drag) return;
    const { lane, row, units, start, end } = drag.to;
    const free = grid.model.free(lane, start, end, drag.bar?.id);
    const fits = free >= units || !lane.group.node;
    const [x, to] = [grid.x(start), grid.x(end)];
    const y = lane.top + row * lane.rowHeight;
    ghost.className = `tl-ghost${fits ? "" : " tl-full"}${y < grid.scroll.scrollTop + 30 ? " tl-below" : ""}${x > grid.width - 260 ? " tl-left" : ""}`;
    ghost.style.transform = `translate(${LABEL + x}px, ${y}px)`;
    ghost.style.width = `${Math.max(to - x, 3)}px`;
    ghost.style.height = `${Math.min(units, lane.group.rows - row) * lane.rowHeight - 1}px`;
    const how = fits ? "✓ free" : `✕ ${free === 0 ? "taken" : `only ${free} free`}`;
    const many = units > 1 ? `${units} × ` : "";
    /** @type {HTMLElement} */ (ghost.firstChild).textContent = `${many}${span(start, end)}, ${lengthOf(end - start)} · ${how}`;
  }

  #drop() {
    const { drag, grid } = this;
    if (!drag) return;
    const { lane, row, units, start, end } = drag.to;
    grid.scroll.classList.remove("tl-dragging");
    const near = this.ghost.getBoundingClientRect();
    if (drag.mode === "book") {
      const profile = this.#profile(lane);
      this.outcome.book({ profile: profile?.name ?? "", units, node: lane.group.node, start, end }, near, () => this.#end());
      return;
    }
    const { bar } = drag;
    this.#end();
    if (bar && (start !== bar.start || end !== bar.end || lane !== drag.lane)) {
      this.outcome.move(bar, { start, end, node: lane.group.node || null, row });
    }
  }

  #end() {
    this.drag = null;
    this.ghost.remove();
    this.grid.scroll.classList.remove("tl-dragging");
  }
}

/** The next minute: nothing is booked in the past. @param {number} now @param {number} [step] */
export function soonest(now, step = MINUTE) {
  return Math.ceil(now / Math.min(step, MINUTE)) * Math.min(step, MINUTE);
}

/** The stretch between two instants. @param {number} one @param {number} other @param {number} step @param {number} least @param {number} now */
function between(one, other, step, least, now) {
  let [start, end] = one <= other ? [snap(one, step), snap(other, step)] : [snap(other, step), snap(one, step)];
  start = Math.max(start, soonest(now));
  if (end - start < least) end = start + least;
  return { start, end };
}
