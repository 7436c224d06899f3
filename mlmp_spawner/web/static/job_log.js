// A job's log as it is printed. The server wrote what there was (web/job_log.py); what comes is added here.

const KEPT = 1 << 20; // characters that stay on the page; what is before is in the download
const AGAIN = 2000; // ms until a lost connection is opened again
const NEAR = 40; // px from the end at which one still follows

// eslint-disable-next-line no-control-regex
const ESCAPE = /\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[ -/]*[0-~]?/g;
// eslint-disable-next-line no-control-regex
const CONTROL = /[\x00-\x07\x0b\x0c\x0e-\x1f\x7f-\x9f]/g;

let source = null;
let shown = null; // the log that is followed: its key, its last, unfinished line, and how long that is on the page

/** Follows the log of this page, and the next one when another try begins. */
export function follow() {
  open();
  document.getElementById("mlmp").addEventListener("mlmp:fresh", open);
  document.addEventListener("change", (event) => {
    if (event.target.id === "follow" && event.target.checked) toEnd();
  });
  document.addEventListener("scroll", scrolled, { capture: true, passive: true });
}

const log = () => document.getElementById("log");
const box = () => document.getElementById("follow");

function open() {
  const place = log();
  if (!place || shown?.key === place.dataset.own) return;
  source?.close();
  source = null;
  shown = { key: place.dataset.own, last: "", length: 0 };
  if (!place.dataset.stream) return;
  const end = place.textContent.lastIndexOf("\n") + 1;
  shown.last = place.textContent.slice(end);
  shown.length = shown.last.length;
  toEnd();
  listen(place, Number(place.dataset.at));
}

/** From this byte on; a lost connection goes on where it was. */
function listen(place, from) {
  const url = new URL(place.dataset.stream, location.href);
  url.searchParams.set("start", from);
  url.searchParams.set("_xsrf", document.getElementById("mlmp").dataset.xsrf);
  const mine = new EventSource(url);
  source = mine;
  let at = from;
  mine.addEventListener("log", (event) => {
    const part = JSON.parse(event.data);
    if (part.end <= at) return;
    at = part.end;
    add(place, part.text);
  });
  mine.addEventListener("end", () => {
    mine.close();
    const label = document.getElementById("follow-label");
    if (label) label.hidden = true;
  });
  mine.onerror = () => {
    mine.close(); // by itself it would begin again where it began
    setTimeout(() => {
      if (source === mine) listen(place, at);
    }, AGAIN);
  };
}

function add(place, text) {
  if (!place.isConnected || text === "") return;
  const following = box()?.checked ?? false;
  const lines = (shown.last + text).split("\n");
  drop(place, shown.length);
  const last = lines.pop();
  shown.last = last.split("\r").slice(-2).join("\r").slice(-KEPT); // a colour may be cut in two: kept as it came
  const standing = leftStanding(last);
  shown.length = standing.length;
  place.append(document.createTextNode(lines.map((line) => `${leftStanding(line)}\n`).join("") + standing));
  trim(place);
  if (following) toEnd();
}

/** What a terminal would show of a line: no colours, and only what stays where it was written over. */
function leftStanding(line) {
  const plain = line.replace(ESCAPE, "").replace(CONTROL, "");
  const text = plain.split("\r").filter(Boolean).at(-1) ?? "";
  if (!text.includes("\b")) return text;
  const left = [];
  for (const char of text) {
    if (char === "\b") left.pop();
    else left.push(char);
  }
  return left.join("");
}

/** Takes back the last characters: the line that is not finished is written anew. */
function drop(place, count) {
  let left = count;
  while (left > 0 && place.lastChild) {
    const text = place.lastChild.data;
    if (text.length > left) {
      place.lastChild.data = text.slice(0, text.length - left);
      return;
    }
    left -= text.length;
    place.lastChild.remove();
  }
}

function trim(place) {
  let size = 0;
  for (let node = place.lastChild; node; node = node.previousSibling) {
    size += node.data.length;
    if (size <= KEPT) continue;
    while (node.previousSibling) node.previousSibling.remove();
    return;
  }
}

function toEnd() {
  const place = log();
  if (place) place.scrollTop = place.scrollHeight;
}

/** Who scrolls up wants to read; who comes back to the end follows again. */
function scrolled(event) {
  if (event.target !== log() || !box()) return;
  const place = event.target;
  box().checked = place.scrollHeight - place.scrollTop - place.clientHeight < NEAR;
}
