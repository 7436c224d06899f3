// @ts-check
// Elements in one expression, and the few looks at the page that several parts take.

/**
 * @param {string} tag a tag, with classes: "div.tl-bar.mine"
 * @param {Record<string, unknown>} [properties] attributes; functions are listeners, null and false are left out
 * @param {...(Node | string | null | false)} children
 * @returns {HTMLElement}
 */
export function h(tag, properties = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  const element = document.createElement(name);
  if (classes.length) element.className = classes.join(" ");
  for (const [key, value] of Object.entries(properties)) {
    if (typeof value === "function") element.addEventListener(key, /** @type {EventListener} */ (value));
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(key, String(value));
  }
  for (const child of children) if (child) element.append(child);
  return element;
}

/** The page's main element, where the server says what scripts need to know. */
export function page() {
  return /** @type {HTMLElement} */ (document.getElementById("mlmp"));
}

/** @param {string} words for those who listen to the page */
export function announce(words) {
  const region = document.getElementById("tl-words");
  if (region) region.textContent = words;
}

/**
 * Shows a text for a while, with a button; it goes by itself, or when the next one comes.
 * @param {string} words
 * @param {{ label: string, act: () => void } | null} [button]
 * @param {number} [stay] ms
 */
export function toast(words, button = null, stay = 10_000) {
  document.querySelector(".tl-toast")?.remove();
  const close = () => box.remove();
  const box = h(
    "div.tl-toast",
    { role: "status" },
    h("span", {}, words),
    button && h("button.btn.btn-sm.btn-light", { type: "button", click: () => (close(), button.act()) }, button.label),
    h("button.btn-close.btn-close-white", { type: "button", "aria-label": "Close", click: close }),
  );
  (document.getElementById("timeline") ?? page()).append(box);
  const leave = () => (box.matches(":hover, :focus-within") ? setTimeout(leave, 2000) : close());
  setTimeout(leave, stay);
}
