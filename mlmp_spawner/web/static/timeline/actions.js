// @ts-check
// What can be done: book, move, give back. Drawn at once, sent, and drawn back with the reason where it is refused.

import * as api from "./api.js";
import { what } from "./bars.js";
import { clock, left, span } from "./clock.js";
import { announce, h, toast } from "./dom.js";
import { close, pop } from "./pop.js";

/** @typedef {import("./types.js").Bar} Bar @typedef {import("./types.js").Wish} Wish */
/** @typedef {import("./types.js").Alternative} Alternative @typedef {import("./grid.js").Grid} Grid */

/** @param {number} at */
const iso = (at) => new Date(at).toISOString();

/** "1 × A100 on gpu-2, Tue 24 Nov 14:00–18:00, 4 h". @param {Wish} wish */
export function sentence(wish) {
  const many = wish.units > 1 ? what(wish) : `1 × ${what(wish)}`;
  return `${many}${wish.node ? ` on ${wish.node}` : ""}, ${span(wish.start, wish.end)}, ${left(wish.end - wish.start)}`;
}

export class Actions {
  /** @param {Grid} grid @param {(nodes: string[]) => Promise<void>} refresh draws these nodes as they are now */
  constructor(grid, refresh) {
    this.grid = grid;
    this.refresh = refresh;
    this.lastKey = { body: "", key: "" };
  }

  /** @param {Wish} wish @param {{ title?: string, waitlist?: boolean }} [more] */
  async book(wish, more = {}) {
    const body = { profile: wish.profile, units: wish.units, start: iso(wish.start), end: iso(wish.end), ...more };
    if (wish.node) Object.assign(body, { node: wish.node });
    if (wish.start <= this.grid.now) Object.assign(body, { start: undefined }); // from now on
    await this.post(body);
  }

  /** @param {Record<string, unknown>} body */
  async post(body) {
    const text = JSON.stringify(body);
    if (this.lastKey.body !== text) this.lastKey = { body: text, key: api.key() };
    const made = await api.book(body, this.lastKey.key);
    this.lastKey = { body: "", key: "" };
    close();
    const nodes = made.allocations.map((one) => one.node);
    await this.refresh(nodes);
    const words = made.state === "waiting" ? "On the waitlist: it is booked as soon as something is free." :
      `Booked${nodes.length ? ` on ${nodes.join(", ")}` : ""}, ${span(Date.parse(made.start), Date.parse(made.end))}.`;
    toast(words, { label: "Undo", act: () => this.#undoing(async () => {
      await api.giveBack(made.id, null);
      await this.refresh(nodes);
    }) });
    const bar = [...this.grid.model.bars.values()].find((one) => one.id === made.id);
    if (bar) this.grid.go(bar);
    return made;
  }

  /**
   * Moves or resizes; drawn at once.
   * @param {Bar} bar as it is @param {{ start: number, end: number, node: string | null, row?: number }} to
   */
  async move(bar, to) {
    const moved = to.node !== bar.node && to.node !== null;
    const begun = bar.state === "active";
    const body = /** @type {Record<string, unknown>} */ ({ end: iso(to.end), ...(begun ? {} : { start: iso(to.start) }), ...(moved ? { node: to.node } : {}) });
    const rows = to.row === undefined ? bar.rows : bar.rows.map((row) => row - bar.rows[0] + (to.row ?? 0));
    this.grid.model.put({ ...bar, start: to.start, end: to.end, node: to.node, rows });
    this.grid.settle();
    this.grid.elementOf(bar)?.classList.add("tl-sent");
    await this.#change(bar, body, () => this.#moved(bar, moved));
  }

  /** @param {Bar} bar @param {Record<string, unknown>} body @param {(booking: api.Booking) => void} done */
  async #change(bar, body, done) {
    const from = bar.node ? [bar.node] : [];
    try {
      const booking = await api.change(bar.id, body, bar.etag);
      await this.refresh([...from, ...booking.allocations.map((one) => one.node)]);
      done(booking);
    } catch (error) {
      this.grid.model.put(bar); // back to where it was
      this.grid.settle();
      this.refused(error, bar, (request) => this.#change(bar, request, () => this.#moved(bar, true)));
      await this.refresh(from);
    }
    this.grid.elementOf(bar)?.classList.remove("tl-sent");
  }

  /** @param {Bar} old @param {boolean} elsewhere */
  #moved(old, elsewhere) {
    close();
    const now = [...this.grid.model.bars.values()].find((one) => one.id === old.id);
    if (!now) return;
    const words = `${elsewhere && now.node ? `Now on ${now.node}, ` : "Now "}${span(now.start, now.end)}.`;
    toast(words, { label: "Undo", act: () => this.#undoing(() => this.#back(old, now)) });
    this.grid.go(now, document.activeElement === document.body || this.grid.body.contains(document.activeElement));
  }

  /** As it was: times and node, and movable again where it was. @param {Bar} old @param {Bar} now */
  async #back(old, now) {
    const body = /** @type {Record<string, unknown>} */ ({ end: iso(old.end) });
    if (old.state !== "active") body.start = iso(old.start);
    if (old.node !== now.node && old.node) body.node = old.node;
    const booking = await api.change(old.id, body, now.etag);
    if (body.node && !old.pinned) await api.change(old.id, { node: null }, booking.etag);
    await this.refresh([old.node ?? "", now.node ?? ""].filter(Boolean));
    announce(`Back as it was: ${span(old.start, old.end)}.`);
  }

  /** Cancels what has not begun. @param {Bar} bar */
  async cancel(bar) {
    try {
      await api.giveBack(bar.id, bar.etag);
    } catch (error) {
      this.refused(error, bar, () => Promise.resolve());
      return;
    }
    close();
    await this.refresh(bar.node ? [bar.node] : []);
    const wish = { profile: bar.profile, units: bar.units, node: bar.pinned ? bar.node : null, start: bar.start, end: bar.end };
    toast(`Cancelled: ${span(bar.start, bar.end)}.`, {
      label: "Undo", act: () => this.#undoing(() => this.book(wish, bar.title ? { title: bar.title } : {})),
    });
  }

  /** @param {() => Promise<void>} work */
  async #undoing(work) {
    try {
      await work();
    } catch (error) {
      this.refused(error, null, (request) => this.post(request).then(() => {}));
    }
  }

  /**
   * Says why something did not work, and what would.
   * @param {unknown} error @param {Bar | null} bar where it belongs
   * @param {(request: Record<string, unknown>) => Promise<void>} instead does an alternative
   */
  refused(error, bar, instead) {
    const element = bar && this.grid.elementOf(bar);
    pop(bar ? "It stays as it was" : "That did not work", [refusal(error, bar?.profile ?? "", instead), dismiss()], element?.getBoundingClientRect() ?? null);
    announce(error instanceof Error ? error.message : "That did not work.");
  }
}

export function dismiss() {
  return h("div.tl-buttons", {}, h("button.btn.btn-sm.btn-outline-secondary", { type: "button", click: () => close(), "data-first": "" }, "Close"));
}

/**
 * @param {unknown} error @param {string} profile
 * @param {(request: Record<string, unknown>) => Promise<void>} instead @param {(Node | false)[]} more
 */
export function refusal(error, profile, instead, ...more) {
  const known = error instanceof api.Refusal ? error : new api.Refusal({});
  const box = h("div.tl-refusal", { role: "alert" }, h("p", {}, known.message));
  const buttons = known.alternatives.map((one) => h("button.btn.btn-sm.btn-primary", {
    type: "button",
    "data-first": "",
    click: (/** @type {Event} */ event) => {
      /** @type {HTMLButtonElement} */ (event.currentTarget).disabled = true;
      instead(one.request).catch((again) => box.replaceWith(refusal(again, profile, instead)));
    },
  }, alternative(one, profile)));
  if (buttons.length || more.length) box.append(h("p", {}, "Possible instead:"), h("div.tl-buttons", {}, ...buttons, ...more));
  else if (known.hint) box.append(h("p", {}, known.hint));
  return box;
}

/** @param {Alternative} one @param {string} profile */
function alternative({ request }, profile) {
  const [start, end] = [request.start, request.end].map((text) => (typeof text === "string" ? Date.parse(text) : null));
  const parts = [];
  if (request.units) parts.push(what({ units: Number(request.units), profile: String(request.profile ?? profile) }));
  if (start !== null && end !== null) parts.push(span(start, end));
  else if (end !== null) parts.push(`until ${clock(end)}`);
  else if (request.duration) parts.push(`now for ${request.duration}`);
  if (request.node) parts.push(`on ${request.node}`);
  return parts.join(", ");
}
