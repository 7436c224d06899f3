// @ts-check
// The form that books, or moves a booking: what a drag has chosen, or everything by keyboard.

import { refusal, sentence } from "./actions.js";

import { DAY, fromInput, HOUR, left, MINUTE, toInput } from "./clock.js";
import { h } from "./dom.js";
import { close, pop } from "./pop.js";

/** @typedef {import("./types.js").Profile} Profile @typedef {import("./types.js").Wish} Wish */
/** @typedef {import("./types.js").Bar} Bar @typedef {import("./actions.js").Actions} Actions */
/** @typedef {HTMLSelectElement & { value: string }} Select */

const LENGTHS = [15 * MINUTE, 30 * MINUTE, HOUR, 2 * HOUR, 3 * HOUR, 4 * HOUR, 6 * HOUR, 8 * HOUR, 12 * HOUR, DAY, 2 * DAY, 3 * DAY, 7 * DAY];

/** @param {string} label @param {HTMLElement} control @param {boolean} [wide] */
const field = (label, control, wide = false) => h(wide ? "label.tl-wide" : "label", {}, label, control);

/** @param {string} name @param {[string, string][]} options @param {string} value @param {() => void} change */
function choice(name, options, value, change) {
  const select = h("select.form-select.form-select-sm", { name, change },
    ...options.map(([key, text]) => h("option", { value: key, ...(key === value ? { selected: "" } : {}) }, text)));
  return /** @type {Select} */ (select);
}

export class BookingForm {
  /** @param {Actions} actions @param {Profile[]} profiles what may be booked */
  constructor(actions, profiles) {
    this.actions = actions;
    this.profiles = profiles;
    /** @type {Bar | null} */ this.bar = null;
  }

  /**
   * @param {Wish} wish @param {DOMRect | null} near
   * @param {{ bar?: Bar, whole?: boolean, onClose?: () => void }} [how] `bar`: is to be moved; `whole`: with the times
   */
  open(wish, near, { bar, whole = false, onClose } = {}) {
    this.wish = { ...wish };
    this.bar = bar ?? null;
    this.title = /** @type {HTMLInputElement} */ (h("input.form-control.form-control-sm", { name: "title", maxlength: "200", placeholder: "only you see it" }));
    this.fields = h("div.tl-fields");
    this.times = h("details", whole ? { open: "" } : {}, h("summary.small.mb-2", {}, "Other times"));
    this.fits = h("p.tl-fits", { "aria-live": "polite" });
    this.said = h("p.tl-said.mb-2.fw-semibold");
    this.problem = h("div");
    const button = h("button.btn.btn-primary", { "data-first": "", type: "submit" }, bar ? "Move" : "Book");
    const form = h("form", { novalidate: "", submit: (/** @type {Event} */ event) => { event.preventDefault(); this.#send(); } },
      this.said, this.fits, this.problem, this.fields, this.times,
      h("div.tl-buttons", {}, button, h("button.btn.btn-outline-secondary", { type: "button", click: () => close() }, "Cancel")));
    this.#build();
    pop(bar ? "Move this booking" : "Book", [form], near, onClose);
  }

  get #profile() {
    return this.profiles.find((one) => one.name === this.wish?.profile) ?? this.profiles[0];
  }

  #build() {
    const { wish, fields, times } = this;
    if (!wish || !fields || !times) return;
    const profile = this.#profile;
    const again = () => this.#read();
    const here = this.profiles.filter((one) => !wish.node || one.nodes.includes(wish.node) || one.name === wish.profile);
    const many = Array.from({ length: Math.min(profile?.max_units ?? 1, 64) }, (_, at) => /** @type {[string, string]} */ ([String(at + 1), String(at + 1)]));
    this.inputs = {
      profile: choice("profile", here.map((one) => [one.name, one.title]), wish.profile, again),
      units: choice("units", many, String(wish.units), again),
      node: choice("node", [["", "any node"], ...(profile?.nodes ?? []).map((one) => /** @type {[string, string]} */ ([one, one]))], wish.node ?? "", again),
      start: /** @type {HTMLInputElement} */ (h("input.form-control.form-control-sm", { type: "datetime-local", name: "start", value: toInput(wish.start), change: again })),
      length: choice("length", this.#lengths(wish.end - wish.start), String(wish.end - wish.start), again),
    };
    const { inputs } = this;
    if (this.bar) fields.replaceChildren(field("Node", inputs.node, true));
    else fields.replaceChildren(field("What", inputs.profile), field("How many", inputs.units), field("Node", inputs.node, true), field("Title", /** @type {HTMLElement} */ (this.title), true));
    times.replaceChildren(/** @type {Node} */ (times.firstChild), h("div.tl-fields", {}, field("Start", inputs.start, true), field("Length", inputs.length, true)));
    this.#say();
  }

  /** @param {number} length @returns {[string, string][]} */
  #lengths(length) {
    const { min_duration: least, max_duration: most } = this.#profile ?? { min_duration: 0, max_duration: DAY };
    const usual = LENGTHS.filter((one) => one >= least && one <= most);
    return [...new Set([...usual, length])].sort((a, b) => a - b).map((one) => [String(one), left(one)]);
  }

  /** What the fields say now. */
  #read() {
    const { wish, inputs } = this;
    if (!wish || !inputs) return;
    const other = inputs.profile.value !== wish.profile;
    wish.profile = inputs.profile.value;
    wish.units = Number(inputs.units.value);
    wish.node = inputs.node.value || null;
    const start = fromInput(inputs.start.value);
    if (!Number.isNaN(start)) wish.start = start;
    wish.end = wish.start + Number(inputs.length.value);
    if (!other) return this.#say();
    wish.units = Math.min(Math.max(wish.units, 1), this.#profile?.max_units ?? 1);
    if (wish.node && !this.#profile?.nodes.includes(wish.node)) wish.node = null;
    const focused = document.activeElement instanceof HTMLSelectElement ? document.activeElement.name : "";
    this.#build();
    /** @type {HTMLElement | null | undefined} */ (this.fields?.querySelector(`[name=${focused || "profile"}]`))?.focus();
  }

  #say() {
    const { wish, said, fits } = this;
    if (!wish || !said || !fits) return;
    said.textContent = sentence(wish);
    const { model } = this.actions.grid;
    const inView = wish.start >= model.start && wish.end <= model.end;
    const rooms = model.lanes.filter((lane) => lane.group.resource === this.#profile?.resource && this.#profile.nodes.includes(lane.group.node) &&
      (!wish.node || lane.group.node === wish.node)).map((lane) => model.free(lane, wish.start, wish.end, this.bar?.id));
    const most = Math.max(0, ...rooms);
    fits.textContent = !inView || !rooms.length ? "" :
      most >= wish.units ? `✓ Free all that time${wish.node ? "" : " on one node at least"}.` :
      `✕ Not free all that time: at most ${most} of ${wish.units}.`;
  }

  async #send() {
    const { wish, bar, problem } = this;
    if (!wish || !problem) return;
    problem.replaceChildren();
    if (bar) {
      close();
      await this.actions.move(bar, wish);
      return;
    }
    const title = this.title?.value.trim();
    try {
      await this.actions.book(wish, title ? { title } : {});
    } catch (error) {
      const wait = h("button.btn.btn-sm.btn-outline-primary", { type: "button", click: () => this.actions.book(wish, { waitlist: true, ...(title ? { title } : {}) }) }, "Wait for it");
      const isFull = error instanceof Error && "code" in error && error.code === "no_capacity";
      problem.replaceChildren(refusal(error, wish.profile, (request) => this.actions.post(request).then(() => {}), ...(isFull ? [wait] : [])));
    }
  }
}

/** @param {Bar} bar @returns {Wish} */
export function wishOf(bar) {
  return { profile: bar.profile, units: bar.units, node: bar.node, start: bar.start, end: bar.end };
}


