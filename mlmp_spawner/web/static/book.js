// Book's sentence: each change shows at once what would come of it; a click on the strip chooses the start.

import { swap } from "./swap.js";

const STEP = 15 * 60000; // a click on the strip chooses a quarter of an hour

function go(url) {
  const book = document.getElementById("book");
  if (book) book.disabled = true; // until it says what is now to be booked
  history.replaceState(null, "", url);
  swap(url).catch(() => location.assign(url));
}

function said(form) {
  const fields = new FormData(form);
  if (fields.get("when") !== "at") fields.delete("at");
  for (const [name, value] of [...fields]) if (!value) fields.delete(name);
  return `${form.action}?${new URLSearchParams(fields)}`;
}

/** The start that a click at this place of a stretch means. */
function startAt(event, link) {
  const box = link.ownerSVGElement.getBoundingClientRect();
  const window_ = Number(link.closest("#strip").dataset.length) || 2 * 86400000;
  const from = Number(document.getElementById("mlmp").dataset.now);
  const at = from + ((event.clientX - box.left) / box.width) * window_;
  const quarter = Math.round(at / STEP) * STEP;
  const spans = link.dataset.starts.trim().split(" ").map((span) => span.split("-").map(Number));
  const nearest = spans.map(([first, last]) => Math.min(Math.max(quarter, first), last));
  return nearest.sort((one, other) => Math.abs(one - quarter) - Math.abs(other - quarter))[0];
}

export function book() {
  const form = document.querySelector("form[data-sentence]");
  if (!form) return;
  document.documentElement.classList.add("mlmp-script");
  form.addEventListener("change", (event) => {
    if (event.target.name === "at" || event.target.name === "when") {
      form.at.toggleAttribute("data-only-at", form.when.value !== "at");
    }
    go(said(form));
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    go(said(form));
  });
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-swap-link]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    const url = new URL(link.getAttribute("href"), location.href);
    if (link.dataset.starts && event.clientX) url.searchParams.set("at", new Date(startAt(event, link)).toISOString());
    go(url.href);
    choose(form, url.searchParams);
  });
}

/** The sentence says what was clicked. */
function choose(form, query) {
  for (const name of ["units", "duration"]) if (query.has(name)) form[name].value = query.get(name);
  if (!query.has("at")) return;
  const at = new Date(query.get("at"));
  const local = new Date(at.getTime() - at.getTimezoneOffset() * 60000);
  form.when.value = "at";
  form.at.value = local.toISOString().slice(0, 16);
  form.at.removeAttribute("data-only-at");
}
