// @ts-check
// The calls that the timeline makes. A refusal is a `Refusal`, with all that the service says of it.

import { page } from "./dom.js";

/** @typedef {import("./types.js").Timeline} Timeline @typedef {import("./types.js").Bar} Bar */
/** @typedef {import("./types.js").Profile} Profile @typedef {import("./types.js").Alternative} Alternative */

export class Refusal extends Error {
  /** @param {{ detail?: string, hint?: string, code?: string, alternatives?: Alternative[] }} problem */
  constructor(problem) {
    super(problem.detail ?? "That did not work. Try again.");
    this.hint = problem.hint ?? "";
    this.code = problem.code ?? "";
    this.alternatives = problem.alternatives ?? [];
  }
}

/**
 * @param {string} method @param {string} path @param {unknown} [body] @param {Record<string, string>} [headers]
 * @returns {Promise<Response>}
 */
async function call(method, path, body, headers = {}) {
  const { api, xsrf } = page().dataset;
  /** @type {Record<string, string>} */
  const sent = { "X-XSRFToken": xsrf ?? "", ...headers };
  if (body !== undefined) sent["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(`${api}${path}`, {
      method, headers: sent, credentials: "same-origin", body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new Refusal({ detail: "The service can't be reached just now.", hint: "Try again in a moment." });
  }
  if (!answer.ok && answer.status !== 304) throw new Refusal(await answer.json().catch(() => ({})));
  return answer;
}

/** @template T @param {T} value @returns {any} */
function instants(value) {
  if (Array.isArray(value)) return value.map(instants);
  if (value === null || typeof value !== "object") return value;
  const found = /** @type {Record<string, any>} */ ({ ...value });
  for (const name of ["start", "end", "at", "now"]) if (typeof found[name] === "string") found[name] = Date.parse(found[name]);
  for (const name of ["ticks", "groups", "bars", "waiting", "outages"]) if (name in found) found[name] = instants(found[name]);
  return found;
}

/** The window that `query` names. @param {Record<string, string>} query @returns {Promise<Timeline>} */
export async function timeline(query) {
  return instants(await (await call("GET", `timeline?${new URLSearchParams(query)}`)).json());
}

const LENGTHS = /(\d+)([dhms])/g;
const IN_MS = /** @type {Record<string, number>} */ ({ d: 86_400_000, h: 3_600_000, m: 60_000, s: 1000 });

/** "1h30m" in ms. @param {string} text */
const length = (text) => [...text.matchAll(LENGTHS)].reduce((sum, [, n, unit]) => sum + Number(n) * IN_MS[unit], 0);

/** What may be booked. @returns {Promise<Profile[]>} */
export async function profiles() {
  const { profiles: found } = await (await call("GET", "catalog")).json();
  return found.map((/** @type {any} */ one) => ({
    ...one,
    min_duration: length(one.min_duration),
    default_duration: length(one.default_duration),
    max_duration: length(one.max_duration),
  }));
}

/** A name for one request, so that its repetition books nothing twice. */
export function key() {
  return [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** @typedef {{ id: string, start: string, end: string, state: string, etag: string, pinned: boolean,
 *   allocations: { node: string }[] }} Booking */

/** @param {Record<string, unknown>} body @param {string} idempotency @returns {Promise<Booking>} */
export async function book(body, idempotency) {
  return (await call("POST", "reservations", body, { "Idempotency-Key": idempotency })).json();
}

/** @param {string} id @param {Record<string, unknown>} body @param {string | null} etag @returns {Promise<Booking>} */
export async function change(id, body, etag) {
  return (await call("PATCH", `reservations/${id}`, body, etag ? { "If-Match": etag } : {})).json();
}

/** Cancels or releases. @param {string} id @param {string | null} etag @returns {Promise<Booking>} */
export async function giveBack(id, etag) {
  return (await call("DELETE", `reservations/${id}`, undefined, etag ? { "If-Match": etag } : {})).json();
}
