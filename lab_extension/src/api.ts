// What the user's own Jupyter server answers (mlmp_spawner/lab/desk). Times are ms UTC.
import { URLExt } from "@jupyterlab/coreutils";
import { ServerConnection } from "@jupyterlab/services";

export interface Booking {
  id: string;
  profile: string;
  title: string;
  units: number;
  nodes: string[];
  state: string;
  start: number;
  end: number;
  stops_at: number;
}

export interface Message {
  id: number;
  text: string;
}

export interface State {
  now: number;
  booking: Booking | null;
  messages?: Message[];
}

export interface Draft {
  manifest: string;
  command: string | null;
  folder: string;
  profile: string;
}

export interface Job {
  id: string;
  name: string;
  profile: string;
  state: string;
  outcome: string | null;
  message: string;
  why: string;
  attempt: number | null;
}

export interface LogPart {
  text: string;
  start: number;
  end: number;
  size: number;
}

export interface Series {
  steps: (number | null)[];
  values: (number | null)[];
}

function words(problem: Record<string, unknown>): string {
  return typeof problem.hint === "string" ? `${problem.detail} ${problem.hint}` : `${problem.detail}`;
}

/** A refusal in words; `problem` has what else the service says of it. */
export class Refused extends Error {
  constructor(
    readonly status: number,
    readonly problem: Record<string, unknown>,
  ) {
    super(words(problem));
  }
}

/** Neither this server nor the service behind it was there. */
export class Away extends Error {}

/** This server knows nothing of MLMP, as on a machine where nobody signed in. */
export class Absent extends Error {}

/** Whether it may be different in a moment. */
export function isAway(error: unknown): boolean {
  return error instanceof Away;
}

const AWAY = [502, 503, 504];

/** Asks the Jupyter server. @throws Refused, Away, Absent */
export async function ask<T>(path: string, method = "GET", body?: unknown): Promise<T> {
  const settings = ServerConnection.makeSettings();
  const url = URLExt.join(settings.baseUrl, "mlmp/api/") + path;
  let answer: Response;
  let text: string;
  try {
    const sent = body === undefined ? {} : { body: JSON.stringify(body) };
    answer = await ServerConnection.makeRequest(url, { method, ...sent }, settings);
    text = await answer.text();
  } catch {
    throw new Away("This server does not answer.");
  }
  let found: any = null;
  try {
    found = JSON.parse(text);
  } catch {
    // what comes from a proxy is HTML
  }
  if (answer.ok && found !== null) return found as T;
  if (AWAY.includes(answer.status) || found?.code === "not_reachable") {
    throw new Away(found?.detail ?? "MLMP does not answer.");
  }
  if (answer.status === 404 && found?.code === undefined) throw new Absent("MLMP is not switched on in this server.");
  if (found?.code === "not_signed_in") throw new Absent(words(found));
  if (found?.detail) throw new Refused(answer.status, found);
  if (answer.status === 403 || answer.status === 401) throw new Refused(answer.status, { detail: "Log in again." });
  throw new Away(`This server answers ${answer.status}.`);
}
