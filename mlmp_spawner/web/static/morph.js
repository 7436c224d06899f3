// Makes a part of the page like a fresh one, without taking away focus, scroll, open menus or what is being typed.

const OWN = new Set(["open"]); // attributes that belong to the person

export function morph(from, to) {
  if (from.isEqualNode(to)) return;
  attributes(from, to);
  children(from, to);
}

function attributes(from, to) {
  for (const { name } of [...from.attributes]) {
    if (!to.hasAttribute(name) && !OWN.has(name)) from.removeAttribute(name);
  }
  for (const { name, value } of [...to.attributes]) {
    if (from.getAttribute(name) !== value && !OWN.has(name)) from.setAttribute(name, value);
  }
}

const keyOf = (node) => (node.nodeType === Node.ELEMENT_NODE && node.id ? node.id : null);

const same = (one, other) =>
  one.nodeType === other.nodeType && one.nodeName === other.nodeName && keyOf(one) === keyOf(other);

/** A field keeps what the person put in; in a sentence that the server has read, only the one the person is in. */
function field(current, fresh) {
  const value = current.value;
  const changed = current.matches("select")
    ? current.selectedIndex !== Math.max([...current.options].findIndex((option) => option.defaultSelected), 0)
    : value !== current.defaultValue;
  const mine = current === document.activeElement || (changed && !current.closest("[data-sentence]"));
  morph(current, fresh);
  if (mine) current.value = value;
  if (!mine || current.value !== value) current.value = fresh.value;
}

function children(from, to) {
  const keyed = new Map([...from.children].filter(keyOf).map((child) => [keyOf(child), child]));
  let at = from.firstChild;
  for (const fresh of [...to.childNodes]) {
    const known = keyOf(fresh) && keyed.get(keyOf(fresh));
    if (known && known.nodeName === fresh.nodeName) {
      if (known === at) at = at.nextSibling;
      else from.insertBefore(known, at);
      update(known, fresh);
    } else if (at && same(at, fresh)) {
      const current = at;
      at = at.nextSibling;
      update(current, fresh);
    } else {
      from.insertBefore(document.importNode(fresh, true), at);
    }
  }
  while (at) {
    const gone = at;
    at = at.nextSibling;
    gone.remove();
  }
}

function update(current, fresh) {
  if (current.nodeType !== Node.ELEMENT_NODE) {
    if (current.nodeValue !== fresh.nodeValue) current.nodeValue = fresh.nodeValue;
  } else if (current.dataset.own && current.dataset.own === fresh.dataset.own) {
    return; // a script writes in it, and what it is about is still the same
  } else if (current.matches("select, textarea, input:not([type=hidden])")) {
    field(current, fresh);
  } else {
    morph(current, fresh);
  }
}
