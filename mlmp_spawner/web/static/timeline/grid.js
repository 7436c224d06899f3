// @ts-check
// The grid: time from left to right, one row per unit from top to bottom. Only what is in view is in the page.

import { fill, make, runs } from "./bars.js";
import { HOUR } from "./clock.js";
import { h } from "./dom.js";
import { LABEL, Model } from "./model.js";

/** @typedef {import("./types.js").Timeline} Timeline @typedef {import("./types.js").Bar} Bar */
/** @typedef {import("./types.js").Lane} Lane */
/** @typedef {{ lane: HTMLElement, rows: Map<number, HTMLElement>, shape: string }} Drawn */
/** @typedef {{ top: number, bottom: number, from: number, to: number, start: number, end: number, now: number, left: number }} View */

const THIN = 26; // px in which no name can be read
const MARGIN = 160; // px around the view that are drawn too
const NARROWEST = /** @type {[number, number][]} */ ([[30, 36], [80, 15], [800, 5.2]]); // hours up to: px for each

export class Grid {
  /** @param {HTMLElement} host */
  constructor(host) {
    this.host = host;
    this.model = new Model();
    this.width = 1; // px of the whole time
    this.now = 0;
    /** The bar that the keyboard is at. */
    this.active = "";
    /** @type {Map<string, Drawn>} */ this.drawn = new Map();
    /** @type {Map<string, { element: HTMLElement, bar: Bar, at: string }>} */ this.parts = new Map();
    this.lines = h("div.tl-lines", { "aria-hidden": "true" });
    this.past = h("div.tl-past", { "aria-hidden": "true" });
    this.nowLine = h("div.tl-now", { "aria-hidden": "true" });
    this.over = h("div.tl-over", { "aria-hidden": "true" });
    this.head = h("div.tl-head", { role: "row", "aria-rowindex": "1" });
    this.body = h("div.tl-body", { role: "presentation" }, this.lines, this.past, this.nowLine, this.over);
    this.scroll = h("div.tl-scroll", { role: "grid", "aria-label": "Bookings by node and time", "aria-describedby": "tl-help" },
      this.head, this.body);
    const help = h("p.visually-hidden", { id: "tl-help" }, "Arrow keys go from booking to booking, Enter shows one, b books, " +
      "Alt with arrows moves your own, Alt and Shift with arrows changes its end.");
    host.append(help, this.scroll);
    let planned = 0;
    const soon = () => { planned ||= requestAnimationFrame(() => { planned = 0; this.render(); }); };
    this.scroll.addEventListener("scroll", soon, { passive: true });
    let width = 0;
    new ResizeObserver(() => {
      if (this.scroll.clientWidth !== width) this.layout();
      else soon();
      width = this.scroll.clientWidth;
    }).observe(this.scroll);
  }

  /** A window. @param {Timeline} answer */
  show(answer) {
    this.now = answer.now;
    this.ticks = answer.ticks;
    this.model.show(answer);
    this.layout();
    this.scroll.scrollLeft = Math.max(0, answer.now < answer.end ? this.x(answer.now) - 120 : 0);
  }

  /** @param {Timeline} answer @param {Set<string>} nodes */
  merge(answer, nodes) {
    this.now = answer.now;
    this.model.merge(answer, nodes);
    this.settle();
  }

  /** @param {number} at */
  x(at) {
    const { start, end } = this.model;
    return ((Math.min(Math.max(at, start), end) - start) / (end - start)) * this.width;
  }

  /** The instant at a place on the screen. @param {number} clientX */
  timeAt(clientX) {
    const { start, end } = this.model;
    const part = (clientX - this.body.getBoundingClientRect().left - LABEL) / this.width;
    return start + part * (end - start);
  }

  /** Widths, lines and labels anew, then everything in view. */
  layout() {
    const { start, end } = this.model;
    const length = (end - start) / HOUR;
    const least = (NARROWEST.find(([upTo]) => length <= upTo) ?? [0, 8])[1] * length;
    this.width = Math.max(this.scroll.clientWidth - LABEL - 1, Math.ceil(least), 200);
    for (const element of [this.head, this.body]) element.style.width = `${this.width + LABEL}px`;
    this.#ticks();
    this.settle();
  }

  /** Heights anew, and everything in view. */
  settle() {
    this.body.style.height = `${this.model.height}px`;
    this.scroll.setAttribute("aria-rowcount", String(1 + this.model.lanes.reduce((sum, lane) => sum + lane.group.rows, 0)));
    this.tick(this.now);
    this.render();
  }

  /** Where now is. @param {number} now */
  tick(now) {
    this.now = now;
    const { start, end } = this.model;
    this.past.style.width = `${this.x(now)}px`;
    this.nowLine.hidden = now < start || now >= end;
    this.nowLine.style.transform = `translateX(${LABEL + this.x(now)}px)`;
  }

  #ticks() {
    /** @type {HTMLElement[]} */ const days = [];
    /** @type {HTMLElement[]} */ const labels = [];
    /** @type {HTMLElement[]} */ const lines = [];
    const ticks = this.ticks ?? [];
    const tight = ticks.length > 1 && this.x(ticks[1].at) - this.x(ticks[0].at) < 38; // then "06" has to do for "06:00"
    for (const tick of ticks) {
      const left = `${LABEL + this.x(tick.at)}px`;
      const line = h(`i.tl-line.tl-${tick.kind}`);
      line.style.left = left;
      lines.push(line);
      const label = h(`div.tl-tick.tl-tick-${tick.kind}`, { role: "columnheader" }, h("span", {}, tight && tick.kind === "hour" ? tick.label.slice(0, 2) : tick.label));
      label.style.left = left;
      (tick.kind === "day" ? days : labels).push(label);
    }
    // The name of a day stays in view until the next day's pushes it out.
    days.forEach((day, at) => {
      const next = days[at + 1] ? parseFloat(days[at + 1].style.left) : this.width + LABEL;
      day.style.width = `${next - parseFloat(day.style.left)}px`;
    });
    this.lines.replaceChildren(...lines);
    this.head.replaceChildren(h("div.tl-corner", { role: "columnheader" }, h("span.visually-hidden", {}, "Node")), ...days, ...labels);
  }

  /** Brings the page to what is in view. */
  render() {
    const focused = document.activeElement;
    const view = this.#view();
    /** @type {Set<string>} */ const wanted = new Set();
    /** @type {Set<string>} */ const lanes = new Set();
    let index = 2;
    for (const lane of this.model.lanes) {
      const first = index;
      index += lane.group.rows;
      const visible = lane.top < view.bottom && lane.top + lane.height > view.top;
      const holds = !visible && this.active && lane.bars.some((bar) => bar.key === this.active);
      if (!visible && !holds) continue;
      const id = `${lane.group.node}\n${lane.group.resource}`;
      lanes.add(id);
      this.#lane(lane, id, view, wanted, first);
    }
    for (const [key, part] of this.parts) {
      if (wanted.has(key)) continue;
      part.element.remove();
      this.parts.delete(key);
    }
    for (const [id, { lane }] of this.drawn) {
      if (lanes.has(id)) continue;
      lane.remove();
      this.drawn.delete(id);
    }
    const reached = this.model.bars.has(this.active) ? -1 : 0;
    if (this.scroll.tabIndex !== reached) this.scroll.tabIndex = reached;
    // What moves to another row loses the focus on its way.
    if (focused instanceof HTMLElement && focused !== document.activeElement && this.body.contains(focused)) {
      focused.focus({ preventScroll: true });
    }
  }

  /** What is in view, with a margin. @returns {View} */
  #view() {
    const { scrollTop, scrollLeft, clientHeight, clientWidth } = this.scroll;
    const { start, end } = this.model;
    const perPx = (end - start) / this.width;
    return {
      top: scrollTop - MARGIN,
      bottom: scrollTop + clientHeight + MARGIN,
      from: start + (scrollLeft - MARGIN) * perPx,
      to: start + (scrollLeft + clientWidth - LABEL + MARGIN) * perPx,
      start, end, now: this.now, left: scrollLeft,
    };
  }

  /** @param {Lane} lane @param {string} id @param {View} view @param {Set<string>} wanted @param {number} index of its first row */
  #lane(lane, id, view, wanted, index) {
    let drawn = this.drawn.get(id);
    const { group } = lane;
    const shape = `${lane.top} ${lane.rowHeight} ${group.rows} ${group.capacity} ${group.model} ${index}`;
    const old = drawn;
    const fresh = drawn?.shape !== shape;
    if (!drawn || fresh) {
      drawn = { lane: frame(lane), rows: new Map(), shape };
      for (let row = 0; row < lane.group.rows; row++) drawn.rows.set(row, rowOf(lane, row, index + row));
      drawn.lane.append(...drawn.rows.values());
      this.drawn.set(id, drawn);
    }
    for (const bar of lane.bars) {
      if (bar.key !== this.active && (bar.start >= view.to || bar.end <= view.from)) continue;
      let before = -1;
      for (const [row, count] of runs(bar.rows)) {
        const y = lane.top + row * lane.rowHeight;
        const shown = y < view.bottom && y + count * lane.rowHeight > view.top;
        if (shown || (bar.key === this.active && before < 0)) this.#part(lane, drawn, bar, row, count, before, view, wanted);
        before = row + count - 1;
      }
    }
    if (fresh) this.body.append(drawn.lane);
    if (fresh) old?.lane.remove();
  }

  /**
   * @param {Lane} lane @param {Drawn} drawn @param {Bar} bar @param {number} row @param {number} count
   * @param {number} before the last row of the part before, -1 for none @param {View} view @param {Set<string>} wanted
   */
  #part(lane, drawn, bar, row, count, before, view, wanted) {
    const first = before < 0;
    const key = first ? bar.key : `${bar.key} ${row}`;
    wanted.add(key);
    const home = drawn.rows.get(row);
    if (!home) return;
    const known = this.parts.get(key);
    const left = this.x(bar.start);
    const width = Math.max(this.x(bar.end) - left - 1, 2);
    // Of what begins left of the view, the name stands where it can be read.
    const aside = Math.max(0, Math.min(view.left - left, width - 40));
    const at = `${left.toFixed(1)} ${width.toFixed(1)} ${aside} ${row} ${count} ${lane.rowHeight} ${view.start}`;
    const element = known?.element ?? make(first);
    if (known?.bar !== bar || known.at !== at) {
      fill(element, bar, first, view);
      if (width < THIN) element.classList.add("tl-thin");
      const height = count * lane.rowHeight - 2;
      const line = bar.kind === "maintenance" ? 20 : height - 2;
      element.style.cssText = `left:${LABEL + left}px;width:${width}px;height:${height}px;line-height:${line}px;text-indent:${aside}px`;
      if (!first) /** @type {HTMLElement} */ (element.firstChild).style.height = `${(row - before - 1) * lane.rowHeight + 2}px`;
      this.parts.set(key, { element, bar, at });
    }
    if (first && element.tabIndex !== (bar.key === this.active ? 0 : -1)) element.tabIndex = bar.key === this.active ? 0 : -1;
    if (element.parentNode !== home) home.append(element);
  }

  /** Brings a bar into view and the keyboard to it. @param {Bar} bar @param {boolean} [focus] */
  go(bar, focus = true) {
    this.active = bar.key;
    const lane = this.model.laneOf(bar);
    if (lane) {
      const top = lane.top + bar.rows[0] * lane.rowHeight;
      const { scrollTop, clientHeight, scrollLeft, clientWidth } = this.scroll;
      const room = clientHeight - this.head.offsetHeight - lane.rowHeight;
      if (top < scrollTop || top > scrollTop + room) this.scroll.scrollTop = top - room / 2;
      const [left, right] = [this.x(bar.start), this.x(bar.end)];
      if (right < scrollLeft || left > scrollLeft + clientWidth - LABEL - 40) this.scroll.scrollLeft = left - 60;
    }
    this.render();
    if (focus) this.elementOf(bar)?.focus({ preventScroll: true });
  }

  /** @param {Bar} bar */
  elementOf(bar) {
    return this.parts.get(bar.key)?.element ?? null;
  }

  /** @param {EventTarget | null} target @returns {Bar | null} */
  barOf(target) {
    const element = target instanceof Element ? target.closest(".tl-bar") : null;
    if (!element) return null;
    for (const part of this.parts.values()) if (part.element === element) return part.bar;
    return null;
  }
}

/** @param {Lane} lane */
function frame(lane) {
  const { group } = lane;
  const name = group.node || "Waiting";
  const kind = group.node ? group.model || group.resource : "for a free place";
  const label = h("div.tl-label", { "aria-hidden": "true" }, h("strong", {}, name), h("span", {}, group.simulated && kind !== "simulated" ? `${kind} · simulated` : kind));
  const element = h("div.tl-lane", { role: "rowgroup", "aria-label": `${name}, ${kind}` }, label);
  element.style.cssText = `top:${lane.top}px;height:${lane.height}px;--tl-row:${lane.rowHeight}px`;
  return element;
}

/** @param {Lane} lane @param {number} row @param {number} index */
function rowOf(lane, row, index) {
  const { group } = lane;
  const lost = row >= group.capacity && group.node;
  const says = `${group.node || "Waiting"}, row ${row + 1} of ${group.rows}${lost ? ", lost" : ""}`;
  const element = h(lost ? "div.tl-row.tl-lost" : "div.tl-row", { role: "row", "aria-rowindex": String(index) },
    h("span.visually-hidden", { role: "rowheader" }, says));
  element.style.top = `${row * lane.rowHeight}px`;
  element.style.height = `${lane.rowHeight}px`;
  return element;
}
