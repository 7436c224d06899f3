// Times as people say them, in the browser's zone; the same words as web/times.py.

export const browserZone = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";

/** The zone of this page: the browser's, unless the page names another. */
export const zone = document.getElementById("mlmp")?.dataset.zoneFixed || browserZone;

let ahead = 0; // how far the server's clock is ahead of this one, ms

/** Takes the server's clock as the right one. */
export function setNow(serverNow) {
  if (serverNow) ahead = serverNow - Date.now();
}

export function now() {
  return Date.now() + ahead;
}

const format = (options) => new Intl.DateTimeFormat("en-GB", { timeZone: zone, ...options });
const CLOCK = format({ hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const WEEKDAY = format({ weekday: "short" });
const DAY_MONTH = format({ day: "numeric", month: "short" });
const YEAR = format({ year: "numeric" });
const DATE = format({ year: "numeric", month: "2-digit", day: "2-digit" });
const EXACT = format({ dateStyle: "full", timeStyle: "long" });

/** Days since the epoch on the viewer's calendar. */
function dayNumber(ms) {
  const part = Object.fromEntries(DATE.formatToParts(ms).map((p) => [p.type, p.value]));
  return Date.UTC(+part.year, +part.month - 1, +part.day) / 86400000;
}

function day(ms) {
  const days = dayNumber(ms) - dayNumber(now());
  if (days === 0) return "";
  if (days === 1) return "tomorrow";
  if (days === -1) return "yesterday";
  if (days > 0 && days < 7) return WEEKDAY.format(ms);
  return DAY_MONTH.format(ms).replace("Sept", "Sep") + (Math.abs(days) > 300 ? ` ${YEAR.format(ms)}` : "");
}

export function said(ms, show) {
  if (show === "left") return left(ms - now());
  if (show === "date") return `${WEEKDAY.format(ms)} ${DAY_MONTH.format(ms).replace("Sept", "Sep")}`;
  if (show === "end") return CLOCK.format(ms);
  return `${day(ms)} ${CLOCK.format(ms)}`.trim();
}

/** "1 h 12 min"; seconds only in the last two minutes, minutes only in the last two days. */
export function left(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const days = seconds >= 172800 ? Math.floor(seconds / 86400) : 0;
  const hours = Math.floor((seconds - days * 86400) / 3600);
  const minutes = days ? 0 : Math.floor((seconds % 3600) / 60);
  const parts = [[days, "d"], [hours, "h"], [minutes, "min"], [seconds < 120 ? seconds % 60 : 0, "s"]];
  return parts.filter(([n]) => n).map(([n, unit]) => `${n} ${unit}`).join(" ") || "0 s";
}

/** Writes every time below `root` anew, and where the page names its zone, this one. */
export function localise(root = document) {
  for (const element of root.querySelectorAll("time[datetime]")) {
    const ms = Date.parse(element.dateTime);
    if (Number.isNaN(ms)) continue;
    const text = said(ms, element.dataset.show);
    if (element.textContent !== text) element.textContent = text;
    const exact = EXACT.format(ms);
    if (element.title !== exact) element.title = exact;
  }
  for (const element of root.querySelectorAll("[data-zone]")) {
    if (element.textContent !== `times in ${zone}`) element.textContent = `times in ${zone}`;
  }
}

/** Keeps countdowns going. */
export function countDown() {
  const tick = () => {
    for (const element of document.querySelectorAll('time[data-show="left"]')) {
      const text = left(Date.parse(element.dateTime) - now());
      if (element.textContent !== text) element.textContent = text;
    }
  };
  setInterval(tick, 1000);
}
