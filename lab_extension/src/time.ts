// Times as people say them.

export const SECOND = 1000;
export const MINUTE = 60 * SECOND;
export const HOUR = 60 * MINUTE;

/** What is left, for example `1 h 12`, `9 min`, `48 s`. */
export function left(ms: number): string {
  if (ms <= 0) return "0 s";
  if (ms < 2 * MINUTE) return `${Math.ceil(ms / SECOND)} s`;
  const minutes = Math.floor(ms / MINUTE);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${minutes % 60 ? `${minutes % 60} min` : ""}`.trim();
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** The time of day, with the day where that is another one. */
export function clock(at: number, now: number): string {
  const day = (ms: number): string => new Date(ms).toDateString();
  const time = new Date(at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false });
  if (day(at) === day(now)) return time;
  return `${new Date(at).toLocaleDateString([], { weekday: "short", day: "numeric", month: "short" })} ${time}`;
}

/** What to offer as an extension of a booking that lasts so long; durations as the API takes them. */
export function steps(length: number): { duration: string; label: string }[] {
  const minutes = length < 30 * MINUTE ? [1, 5, 15] : [30, 60, 120];
  return minutes.map((n) => ({ duration: `${n}m`, label: n % 60 ? `${n} min` : `${n / 60} h` }));
}

/** When to warn, in ms before the stop: longest first. Shorter bookings are warned nearer to their end. */
export function warnings(length: number): [first: number, last: number] {
  return [Math.min(10 * MINUTE, length / 2), Math.min(2 * MINUTE, length / 4)];
}
