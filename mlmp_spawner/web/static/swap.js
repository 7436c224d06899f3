// The page's own forms and links without a reload: the answer is the same page that a reload would bring.

import { morph } from "./morph.js";
import { localise, setNow } from "./times.js";

const PARTS = ["warnings", "live", "bell"];
let turn = 0; // only the newest answer counts

/** Fetches a page and puts its parts in place. `flash`: also what was done or refused. */
export async function swap(url, { method = "GET", body, flash = false } = {}) {
  const mine = ++turn;
  const root = document.getElementById("mlmp");
  root.setAttribute("aria-busy", "true");
  try {
    const headers = { Accept: "text/html", "X-XSRFToken": root.dataset.xsrf };
    const answer = await fetch(url, { method, body, headers, credentials: "same-origin" });
    const type = answer.headers.get("Content-Type") || "";
    if (!type.includes("text/html")) throw new Error(`answered ${answer.status}`);
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    const main = fresh.getElementById("mlmp");
    const whole = main !== null && main.querySelector("#live") !== null;
    const here = pathOf(answer.url) === location.pathname;
    if ((!here || !whole) && (method === "GET" || answer.redirected)) {
      location.assign(answer.url); // another page: the login, or where the action leads
      return;
    }
    if (!whole) {
      complain(fresh.querySelector(".mlmp-detail")?.textContent || `The server answered ${answer.status}.`);
      return;
    }
    if (!here) {
      apply(main, ["flash"]); // a refusal, on the page of what was refused
      return;
    }
    if (mine !== turn && method === "GET") return;
    apply(main, flash ? [...PARTS, "flash"] : PARTS);
  } finally {
    if (mine === turn) root.removeAttribute("aria-busy");
  }
}

const pathOf = (url) => new URL(url, location.href).pathname;

function apply(main, parts) {
  const root = document.getElementById("mlmp");
  root.dataset.now = main.dataset.now;
  setNow(Number(main.dataset.now));
  localise(main);
  for (const id of parts) {
    morph(document.getElementById(id), main.querySelector(`#${id}`));
  }
  unsay();
  root.dispatchEvent(new CustomEvent("mlmp:fresh"));
}

/** "On the waitlist" is said as long as it is so: the bookings on the page know. */
function unsay() {
  const said = document.querySelector("#flash [data-waits]");
  const booking = said && document.getElementById(`booking-${said.dataset.waits}`);
  if (booking && !booking.querySelector(".mlmp-mark-waiting")) said.remove();
}

/** Says that something failed that should not have. */
export function complain(text) {
  const flash = document.getElementById("flash");
  const box = document.createElement("div");
  box.className = "alert alert-danger";
  box.textContent = text;
  flash.replaceChildren(box);
}

async function submit(form, button) {
  const body = new URLSearchParams(new FormData(form, button));
  for (const one of form.querySelectorAll("button")) one.disabled = true;
  for (const menu of document.querySelectorAll("details.mlmp-menu[open]")) menu.open = false;
  try {
    await swap(form.action, { method: "POST", body, flash: true });
    const done = document.querySelector("#flash .alert");
    if (done) done.scrollIntoView({ block: "nearest" });
  } catch {
    complain("That did not reach the server. Look whether you are online, and try again.");
  } finally {
    for (const one of form.querySelectorAll("button")) one.disabled = false;
  }
}

/** Takes over the forms and links that ask for it. */
export function listen() {
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.matches("form[data-swap]")) {
      event.preventDefault();
      submit(form, event.submitter);
    } else if (form.matches("form[data-once]")) {
      if (form.dataset.sent) event.preventDefault();
      form.dataset.sent = "yes"; // a second click books nothing twice
      event.submitter?.setAttribute("aria-busy", "true");
    }
  });
  document.addEventListener("click", (event) => {
    const dismiss = event.target.closest("[data-dismiss-notice]");
    if (dismiss) {
      event.preventDefault();
      document.getElementById("flash").replaceChildren();
    }
  });
  addEventListener("pageshow", () => {
    for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
  });
}
