// @ts-check
// Times of the timeline, in the page's zone; from and to fields of the wall clock.

import { left, said, zone } from "../times.js";

export { left, zone };
export const MINUTE = 60_000;
export const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;
export const STEP = 15 * MINUTE;

const PARTS = new Intl.DateTimeFormat("en-GB", {
  timeZone: zone, year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", hourCycle: "h23",
});
const DAY_NAME = new Intl.DateTimeFormat("en-GB", { timeZone: zone, weekday: "short", day: "numeric", month: "short" });

/** @type {Map<number, { wall: string, clock: string, day: string }>} what an instant is called: bars share them */
const known = new Map();

/** @param {number} at */
function named(at) {
  let found = known.get(at);
  if (!found) {
    const part = Object.fromEntries(PARTS.formatToParts(at).map((one) => [one.type, one.value]));
    const clock = `${part.hour}:${part.minute}`;
    found = { wall: `${part.year}-${part.month}-${part.day}`, clock, day: DAY_NAME.format(at).replace(",", "") };
    if (known.size > 20_000) known.clear();
    known.set(at, found);
  }
  return found;
}

/** "Tue 24 Nov 14:00–18:00". @param {number} start @param {number} end */
export function span(start, end) {
  const [from, to] = [named(start), named(end)];
  const last = from.wall === to.wall || (to.clock === "00:00" && end - start <= DAY) ? "" : `${to.day} `;
  return `${from.day} ${from.clock}–${last}${to.clock}`;
}

/** "14:00–18:00". @param {number} start @param {number} end */
export function hours(start, end) {
  return `${named(start).clock}–${named(end).clock}`;
}

/** "tomorrow 14:00". @param {number} at @returns {string} */
export function clock(at) {
  return said(at, "clock");
}

/** The nearest step. @param {number} at @param {number} step */
export function snap(at, step = STEP) {
  return Math.round(at / step) * step;
}

/** As a datetime-local field takes it. @param {number} at */
export function toInput(at) {
  const { wall, clock: time } = named(at);
  return `${wall}T${time}`;
}

/** What a datetime-local field says, in ms; of an hour that is there twice the first. NaN for anything else.
 * @param {string} text */
export function fromInput(text) {
  const wall = Date.parse(`${text}Z`);
  if (Number.isNaN(wall)) return NaN;
  const off = (/** @type {number} */ at) => Date.parse(`${toInput(at)}Z`) - at;
  const candidates = [wall - off(wall - DAY), wall - off(wall + DAY)];
  const right = candidates.filter((at) => toInput(at) === text);
  return right.length ? Math.min(...right) : candidates[0]; // an hour that the clock skips: as if it had not yet
}
