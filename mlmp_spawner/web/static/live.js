// Keeps an open page right: it is fetched again when something changes, and when the time alone changes it.

import { mayNotify, tell } from "./notices.js";
import { swap } from "./swap.js";
import { left, now } from "./times.js";

const SETTLE = 120; // ms: several changes at once are one
const HIDDEN_FOR = 60000; // ms after which a page that nobody sees lets go of its connection
const OF_JOBS = "#job, #job-summary"; // what a page has that shows jobs

let timer = null;
let source = null;
let letGo = null;

export function refreshSoon(delay = SETTLE) {
  clearTimeout(timer);
  timer = setTimeout(refresh, delay);
}

async function refresh() {
  try {
    await swap(location.href);
  } catch {
    refreshSoon(5000); // the service is away: what is shown stays
  }
}

function open() {
  if (source) return;
  const root = document.getElementById("mlmp");
  source = new EventSource(`${root.dataset.api}stream?_xsrf=${encodeURIComponent(root.dataset.xsrf)}`);
  source.addEventListener("hello", (event) => {
    // What happened while nobody listened, between the page and its connection too.
    if (JSON.parse(event.data).latest !== Number(document.getElementById("live").dataset.latest)) refreshSoon();
    root.dataset.live = "yes";
  });
  source.addEventListener("reservation", told);
  source.addEventListener("availability", told);
  source.addEventListener("job", () => {
    if (document.querySelector(OF_JOBS)) refreshSoon();
  });
  source.addEventListener("notice", (event) => {
    tell(JSON.parse(event.data));
    refreshSoon(); // the bell
  });
  source.onerror = () => {
    delete root.dataset.live;
    if (source && source.readyState === EventSource.CLOSED) {
      source = null;
      setTimeout(open, 5000 + Math.random() * 5000);
    }
  };
}

/** A page that draws changes by itself prevents that it is fetched anew. */
function told(event) {
  const change = new CustomEvent(`mlmp:${event.type}`, { cancelable: true, detail: JSON.parse(event.data) });
  if (document.getElementById("mlmp").dispatchEvent(change)) refreshSoon();
}

function close() {
  if (source) source.close();
  source = null;
}

/** Looks again when the page says that the time will change it. */
function plan() {
  const at = Number(document.getElementById("live").dataset.next);
  clearTimeout(plan.timer);
  if (at) plan.timer = setTimeout(() => refreshSoon(0), Math.min(Math.max(at - now() + 200, 500), 2 ** 31 - 1));
}

/** The end is near: the tab says so too. */
function title() {
  const end = Number(document.getElementById("live").dataset.titlewarn);
  const plain = document.title.replace(/^\(.*? left\) /, "");
  const text = end > now() ? `(${left(end - now())} left) ${plain}` : plain;
  if (document.title !== text) document.title = text;
}

export function keepRight() {
  open();
  plan();
  title();
  setInterval(title, 1000);
  document.getElementById("mlmp").addEventListener("mlmp:fresh", () => {
    plan();
    title();
  });
  document.addEventListener("visibilitychange", () => {
    clearTimeout(letGo);
    if (document.hidden) {
      if (!mayNotify()) letGo = setTimeout(close, HIDDEN_FOR);
    } else if (!source) {
      open();
      refreshSoon(0);
    }
  });
}
