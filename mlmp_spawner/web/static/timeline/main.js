// @ts-check
// The timeline's page: which window it shows, and what happens to it elsewhere. Without it the list does all.

import { swap } from "../swap.js";
import { now } from "../times.js";
import { Actions } from "./actions.js";
import * as api from "./api.js";
import { rights, titles } from "./bars.js";
import { HOUR, STEP, zone } from "./clock.js";
import { details } from "./details.js";
import { h, page } from "./dom.js";
import { Dragging, soonest } from "./drag.js";
import { BookingForm } from "./form.js";
import { Grid } from "./grid.js";
import { Keys } from "./keys.js";
import { laneKey } from "./model.js";
import { isOpen } from "./pop.js";

/** @typedef {import("./types.js").Bar} Bar @typedef {import("./types.js").Profile} Profile */

const VIEWS = /** @type {Record<string, number>} */ ({ day: 1, "3days": 3, week: 7 });
const SETTLE = 60; // ms: several changes at once are one look
const AWHILE = 30_000; // ms after which the now-line has moved

/** What the address asks for, as the API takes it. @returns {Record<string, string>} */
function asked() {
  const query = new URLSearchParams(location.search);
  /** @type {Record<string, string>} */
  const wanted = { zone, days: String(VIEWS[query.get("view") ?? ""] ?? 1) };
  for (const name of ["date", "profile", "model"]) {
    const value = query.get(name);
    if (value) wanted[name] = value;
  }
  return wanted;
}

class Page {
  /** @param {HTMLElement} host */
  constructor(host) {
    this.host = host;
    this.grid = new Grid(host);
    /** @type {Profile[]} */ this.profiles = [];
    this.actions = new Actions(this.grid, (nodes) => this.refresh(nodes));
    this.form = new BookingForm(this.actions, this.profiles);
    rights.change = this.mayBook = host.dataset.canBook === "yes";
    /** @type {Set<string>} */ this.stale = new Set();
    this.timer = 0;
    this.turn = 0;
    this.#legend();
    this.#hear();
  }

  /** Draws the window of the address. */
  async load() {
    const mine = ++this.turn;
    this.grid.scroll.setAttribute("aria-busy", "true");
    const [answer, profiles] = await Promise.all([api.timeline(asked()), this.profiles.length ? this.profiles : api.profiles()]);
    if (mine !== this.turn) return;
    if (!this.profiles.length) {
      if (this.mayBook) this.profiles.push(...profiles);
      for (const one of profiles) titles.set(one.name, one.title);
    }
    this.grid.show(answer);
    this.#say(answer);
    this.#room();
    this.grid.scroll.removeAttribute("aria-busy");
  }

  /** Draws these nodes as they are now. @param {string[]} nodes */
  async refresh(nodes) {
    const wanted = new Set([...nodes, ...this.stale]);
    this.stale.clear();
    clearTimeout(this.timer);
    this.timer = 0;
    const mine = this.turn;
    const answer = await api.timeline({ ...asked(), nodes: [...wanted].join(",") });
    if (mine !== this.turn) return;
    if (answer.start !== this.grid.model.start) return this.load(); // midnight has passed
    this.grid.merge(answer, wanted);
    this.#say(answer);
  }

  /** @param {{ summary: string }} answer */
  #say(answer) {
    const line = document.querySelector("#tl-summary strong");
    if (line && line.textContent !== answer.summary) line.textContent = answer.summary;
  }

  /** The grid takes what the window leaves below what is above it. */
  #room() {
    const top = this.grid.scroll.getBoundingClientRect().top + scrollY;
    this.host.style.setProperty("--tl-above", `${Math.ceil(Math.min(top, 380) + 64)}px`);
  }

  /** What a change elsewhere touches is looked at again, soon and at once. @param {string[]} nodes */
  changed(nodes) {
    for (const node of nodes) this.stale.add(node);
    this.timer ||= window.setTimeout(() => {
      this.timer = 0;
      this.refresh([]).catch(() => this.#later());
    }, SETTLE);
  }

  /** The service is away: what is shown stays, and is right again when it is back. */
  #later() {
    setTimeout(() => this.load().catch(() => this.#later()), 5000);
  }

  #hear() {
    const root = page();
    root.addEventListener("mlmp:reservation", (event) => {
      const { id, mine, allocations } = /** @type {CustomEvent} */ (event).detail;
      const was = [...this.grid.model.bars.values()].filter((bar) => bar.id === id).map((bar) => bar.node ?? "");
      this.changed([...was, ...allocations.map((/** @type {{ node: string }} */ one) => one.node)].filter(Boolean));
      if (!mine) event.preventDefault(); // the rest of the page is about oneself
    });
    root.addEventListener("mlmp:availability", (event) => {
      this.changed(/** @type {CustomEvent} */ (event).detail.nodes);
      event.preventDefault();
    });
    setInterval(() => this.grid.tick(now()), AWHILE);
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) this.load().catch(() => this.#later());
    });
  }

  /** @param {Wish} wish @param {DOMRect | null} near @param {{ whole?: boolean, onClose?: () => void }} [how] */
  book(wish, near, how) {
    if (this.profiles.length) this.form.open(wish, near, how);
  }

  /** @typedef {import("./types.js").Wish} Wish */

  /** The form, as it stands where the keyboard is. @param {Bar | null} bar */
  bookHere(bar) {
    const lane = bar && bar.node ? this.grid.model.byKey.get(laneKey(bar)) : null;
    const profile = this.profiles.find((one) => lane && one.resource === lane.group.resource && one.nodes.includes(lane.group.node)) ?? this.profiles[0];
    if (!profile) return;
    const { model } = this.grid;
    const moment = now();
    const from = moment >= model.start && moment < model.end ? moment : Math.max(model.start + 9 * HOUR, moment);
    const start = from === moment ? soonest(moment) : Math.ceil(from / STEP) * STEP;
    const wish = { profile: profile.name, units: profile.units, node: lane?.group.node ?? null, start, end: start + profile.default_duration };
    const near = (bar && this.grid.elementOf(bar)) ?? document.getElementById("tl-book");
    this.book(wish, near?.getBoundingClientRect() ?? null, { whole: true });
  }

  #legend() {
    const key = (/** @type {string} */ name, /** @type {string} */ text) => h("span", {}, h(`i.tl-bar${name}`, { "aria-hidden": "true" }), text);
    const button = this.mayBook && h("button.btn.btn-sm.btn-primary", { type: "button", id: "tl-book", click: () => this.bookHere(null) }, "Book…");
    this.host.append(h("div.tl-legend", {}, key(".tl-mine", "yours"), key("", "somebody's"), key(".tl-class", "course"), key(".tl-job", "job"),
      key(".tl-waiting", "waiting"), key(".tl-maintenance", "maintenance"), button));
  }
}

/** Other days without a reload: the address changes, the server's part is swapped, the grid loads.
 * @param {() => Promise<void>} load */
function turnPages(load) {
  let turning = Promise.resolve(); // one after the other: links are those of the page as it was turned last
  const turn = (/** @type {() => string} */ where, push = true) => {
    turning = turning.then(async () => {
      const url = where();
      if (push) history.pushState(null, "", url);
      await Promise.all([load(), swap(url)]).catch(() => location.assign(url));
    });
  };
  document.addEventListener("click", (event) => {
    const link = event.target instanceof Element ? event.target.closest("a[data-tl-link]") : null;
    if (!(link instanceof HTMLAnchorElement) || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    turn(() => (/** @type {HTMLAnchorElement} */ (document.getElementById(link.id) ?? link)).href);
  });
  document.addEventListener("change", (event) => {
    const form = event.target instanceof Element ? /** @type {HTMLFormElement | null} */ (event.target.closest("#tl-choose")) : null;
    if (!form) return;
    const said = new URLSearchParams();
    new FormData(form).forEach((value, name) => { if (value) said.set(name, String(value)); });
    turn(() => `${form.action}?${said}`);
  });
  addEventListener("popstate", () => turn(() => location.href, false));
}

function begin() {
  const host = document.getElementById("timeline");
  const { classList } = document.documentElement;
  const list = new URLSearchParams(location.search).get("show") === "list";
  classList.add("tl-script", "mlmp-script");
  classList.toggle("tl-list", list);
  if (!host || list || !matchMedia("(min-width: 40.01rem)").matches) {
    turnPages(() => Promise.resolve());
    return;
  }
  const timeline = new Page(host);
  const { grid, actions, form } = timeline;
  const move = (/** @type {Bar} */ bar, /** @type {{ start: number, end: number, node: string | null, row?: number }} */ to) => {
    actions.move(bar, to);
  };
  const open = (/** @type {Bar} */ bar, /** @type {DOMRect | null} */ near = null) =>
    details(bar, actions, form, near ?? grid.elementOf(bar)?.getBoundingClientRect() ?? null);
  new Dragging(grid, timeline.profiles, { move, open, book: (wish, near, onClose) => timeline.book(wish, near, { onClose }) });
  new Keys(grid, { move, open, book: (bar) => timeline.bookHere(bar) });
  document.addEventListener("keydown", (event) => {
    const free = event.target === document.body && !event.ctrlKey && !event.metaKey && !event.altKey && !isOpen();
    if (free && event.key === "b") { event.preventDefault(); timeline.bookHere(null); }
  });
  turnPages(() => timeline.load());
  timeline.load().catch(() => classList.add("tl-list")); // the list is there in any case
}

begin();

