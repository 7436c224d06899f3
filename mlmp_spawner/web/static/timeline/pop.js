// @ts-check
// One small window beside what it is about. Escape and a click elsewhere close it, and the focus goes back.

import { h } from "./dom.js";

/** @type {(() => void) | null} */
let closeOpen = null;

/**
 * @param {string} title
 * @param {(Node | string | false | null)[]} content
 * @param {DOMRect | null} near where it belongs; null: the middle of the screen
 * @param {() => void} [onClose]
 * @returns {HTMLElement}
 */
export function pop(title, content, near, onClose = () => {}) {
  close();
  const back = document.activeElement;
  const box = h("div.tl-pop", { role: "dialog", "aria-label": title, tabindex: "-1" }, h("h2", {}, title), ...content);
  /** @param {Event} event */
  const outside = (event) => { if (event.target instanceof Node && !box.contains(event.target)) close(false); };
  /** @param {KeyboardEvent} event */
  const keys = (event) => {
    if (event.key === "Escape") { event.stopPropagation(); close(); }
    if (event.key === "Tab") around(event, box);
  };
  closeOpen = () => {
    removeEventListener("pointerdown", outside, true);
    box.remove();
    onClose();
    if (back instanceof HTMLElement && back.isConnected && near_(back)) back.focus({ preventScroll: true });
  };
  box.addEventListener("keydown", keys);
  addEventListener("pointerdown", outside, true);
  document.getElementById("timeline")?.append(box);
  place(box, near);
  const first = /** @type {HTMLElement | null} */ (box.querySelector("[data-first]"));
  (first ?? box).focus({ preventScroll: true });
  return box;
}

/** @param {Element} element */
const near_ = (element) => document.activeElement === document.body || !element.contains(document.activeElement);

/** @param {boolean} [focus] */
export function close(focus = true) {
  const last = closeOpen;
  closeOpen = null;
  const active = document.activeElement;
  last?.();
  if (!focus && active instanceof HTMLElement && active.isConnected) active.focus({ preventScroll: true });
}

export const isOpen = () => closeOpen !== null;

/** @param {HTMLElement} box @param {DOMRect | null} near */
function place(box, near) {
  const { offsetWidth: width, offsetHeight: height } = box;
  const left = near ? Math.min(Math.max(near.left, 8), innerWidth - width - 8) : (innerWidth - width) / 2;
  let top = near ? near.bottom + 8 : (innerHeight - height) / 2;
  if (near && top + height > innerHeight - 8) top = near.top - height - 8;
  box.style.left = `${left}px`;
  box.style.top = `${Math.max(8, Math.min(top, innerHeight - height - 8))}px`;
}

/** Keeps the tab key within. @param {KeyboardEvent} event @param {HTMLElement} box */
function around(event, box) {
  const all = /** @type {HTMLElement[]} */ ([...box.querySelectorAll("a, button, input, select, summary")])
    .filter((one) => one.offsetParent !== null && !(/** @type {HTMLButtonElement} */ (one)).disabled);
  const [first, last] = [all[0], all[all.length - 1]];
  if (!first) return;
  if (event.shiftKey && (document.activeElement === first || document.activeElement === box)) {
    event.preventDefault();
    last.focus();
  } else if (!event.shiftKey && document.activeElement === last) {
    event.preventDefault();
    first.focus();
  }
}
