// What the pages do beyond showing themselves. Without it they still work.

import { book } from "./book.js";
import { copying } from "./copy.js";
import { keepRight, refreshSoon } from "./live.js";
import { preferences } from "./notices.js";
import { listen } from "./swap.js";
import { browserZone, countDown, localise, setNow, zone } from "./times.js";

const root = document.getElementById("mlmp");

if (root) {
  setNow(Number(root.dataset.now));
  document.cookie = `mlmp-zone=${browserZone}; path=${root.dataset.root}; max-age=31536000; samesite=lax`;
  localise();
  countDown();
  if (document.getElementById("live")) {
    settleAddress();
    listen();
    book();
    keepRight();
    preferences();
    copying();
    moveAlong();
    if (root.dataset.zoneKnown !== zone) refreshSoon(0); // the server says times in our zone from now on
  }
  // One menu at a time; Escape and a click elsewhere close it.
  const menus = () => document.querySelectorAll("details.mlmp-menu[open]");
  document.addEventListener("click", (event) => {
    for (const menu of menus()) if (!menu.contains(event.target)) menu.open = false;
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    for (const menu of menus()) {
      menu.open = false;
      menu.querySelector("summary").focus();
    }
  });
}

/** The address by which this page can be had again: not that of a form, nor with what was done just now. */
function settleAddress() {
  const url = new URL(location.href);
  if (root.dataset.self && url.pathname !== root.dataset.self) url.pathname = root.dataset.self;
  for (const name of ["did", "id", "done", "added"]) url.searchParams.delete(name);
  if (url.href !== location.href) history.replaceState(null, "", url);
}

/** A start that is moved takes the end with it, so that the length stays; the end can then be moved by itself. */
function moveAlong() {
  const known = new WeakMap();
  document.addEventListener("focusin", ({ target }) => {
    if (target.dataset.moves) known.set(target, target.valueAsNumber);
  });
  document.addEventListener("change", ({ target }) => {
    const end = target.dataset.moves && document.getElementById(target.dataset.moves);
    const moved = target.valueAsNumber - known.get(target);
    if (!end || Number.isNaN(moved)) return;
    end.valueAsNumber += moved;
    known.set(target, target.valueAsNumber);
  });
}
