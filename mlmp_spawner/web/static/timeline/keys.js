// @ts-check
// The keyboard: arrows go from bar to bar, Enter shows one, b books, Alt and arrows move and resize one's own.

import { movable, spoken } from "./bars.js";
import { span, STEP } from "./clock.js";
import { announce } from "./dom.js";
import { soonest } from "./drag.js";

/** @typedef {import("./types.js").Bar} Bar @typedef {import("./grid.js").Grid} Grid */
/**
 * @typedef {object} Outcome
 * @property {(bar: Bar | null) => void} book asks for a booking, where the keyboard is
 * @property {(bar: Bar) => void} open
 * @property {(bar: Bar, to: { start: number, end: number, node: string | null }) => void} move
 */

const SETTLE = 700; // ms after the last key that a move is sent
const ARROWS = ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"];

export class Keys {
  /** @param {Grid} grid @param {Outcome} outcome */
  constructor(grid, outcome) {
    this.grid = grid;
    this.outcome = outcome;
    /** @type {{ bar: Bar, start: number, end: number, timer: number } | null} */ this.moving = null;
    grid.scroll.addEventListener("keydown", (event) => this.#key(event));
    grid.scroll.addEventListener("focusin", (event) => {
      const bar = grid.barOf(event.target);
      if (bar && bar.key !== grid.active) { grid.active = bar.key; grid.render(); }
    });
  }

  get #bar() {
    return this.grid.model.bars.get(this.grid.active) ?? null;
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const arrow = ARROWS.includes(event.key);
    if (event.ctrlKey || event.metaKey ? !["Home", "End"].includes(event.key) : false) return;
    if (arrow && event.altKey) this.#nudge(event.key, event.shiftKey);
    else if (event.altKey) return;
    else if (event.key === "Escape" && this.moving) this.#drop();
    else if (arrow) this.#go(event.key);
    else if (event.key === "Home" || event.key === "End") this.#far(event.key === "End", event.ctrlKey);
    else if ((event.key === "Enter" || event.key === " ") && this.#bar) this.outcome.open(this.#bar);
    else if (event.key === "b" || event.key === "B") this.outcome.book(this.#bar);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** All bars, from top to bottom. @returns {Bar[]} */
  #all() {
    return this.grid.model.lanes.flatMap((lane) => lane.bars);
  }

  /** Those in the row of this one. @param {Bar} bar */
  #row(bar) {
    return (this.grid.model.laneOf(bar)?.bars ?? []).filter((one) => one.rows[0] === bar.rows[0]);
  }

  /** @param {string} key */
  #go(key) {
    const bar = this.#bar;
    const all = this.#all();
    if (!bar) {
      const soon = all.filter((one) => one.end > this.grid.now);
      if (all.length) this.grid.go(soon.find((one) => one.mine) ?? soon[0] ?? all[0]);
      return;
    }
    const row = this.#row(bar);
    const at = row.indexOf(bar);
    const next = key === "ArrowRight" ? row[at + 1] : key === "ArrowLeft" ? row[at - 1] : this.#beside(bar, all, key === "ArrowDown");
    if (next) this.grid.go(next);
  }

  /** The bar in the next row that has any, nearest in time. @param {Bar} bar @param {Bar[]} all @param {boolean} down */
  #beside(bar, all, down) {
    const { model } = this.grid;
    const place = (/** @type {Bar} */ one) => {
      const lane = model.laneOf(one);
      return lane ? lane.top + one.rows[0] * lane.rowHeight : 0;
    };
    const here = place(bar);
    const others = all.map((one) => ({ one, y: place(one) })).filter(({ y }) => (down ? y > here : y < here));
    if (!others.length) return null;
    const row = down ? Math.min(...others.map(({ y }) => y)) : Math.max(...others.map(({ y }) => y));
    const middle = (bar.start + bar.end) / 2;
    const away = (/** @type {Bar} */ one) => Math.max(0, one.start - middle, middle - one.end);
    return others.filter(({ y }) => y === row).map(({ one }) => one).sort((a, b) => away(a) - away(b))[0];
  }

  /** @param {boolean} last @param {boolean} whole of all, not of the row */
  #far(last, whole) {
    const bar = this.#bar;
    const among = whole || !bar ? this.#all() : this.#row(bar);
    const next = last ? among[among.length - 1] : among[0];
    if (next) this.grid.go(next);
  }

  /** Moves or resizes one's own by a quarter of an hour; sent when no more keys come. @param {string} key @param {boolean} resize */
  #nudge(key, resize) {
    const bar = this.#bar;
    if (!bar) return;
    const { grid } = this;
    const can = movable(bar, grid.now);
    if (!can || (can === "end" && !resize)) {
      announce(can ? "It has begun: only its end can be changed, with Alt and Shift." : `This can't be moved: ${spoken(bar)}`);
      return;
    }
    const by = key === "ArrowRight" || key === "ArrowDown" ? STEP : -STEP;
    const from = this.moving?.bar.key === bar.key ? this.moving : { bar, start: bar.start, end: bar.end, timer: 0 };
    const start = resize ? from.start : Math.max(from.start + by, soonest(grid.now));
    const end = resize ? Math.max(from.end + by, start + STEP) : start + (from.end - from.start);
    clearTimeout(from.timer);
    const original = from.bar;
    this.moving = { bar: original, start, end, timer: window.setTimeout(() => this.#send(), SETTLE) };
    grid.model.put({ ...bar, start, end });
    grid.render();
    announce(span(start, end));
  }

  #send() {
    const { moving } = this;
    this.moving = null;
    if (!moving) return;
    const { bar, start, end } = moving;
    if (start !== bar.start || end !== bar.end) this.outcome.move(bar, { start, end, node: bar.node });
  }

  /** Back to where it was. */
  #drop() {
    const { moving } = this;
    this.moving = null;
    if (!moving) return;
    clearTimeout(moving.timer);
    this.grid.model.put(moving.bar);
    this.grid.render();
    announce("Nothing was changed.");
  }
}
