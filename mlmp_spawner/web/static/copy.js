// Buttons that copy a text: [data-copy-text]. They may come and go with the page's parts.

const SAID_FOR = 2500; // ms

export function copying() {
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy-text]");
    if (!button || button.dataset.said) return;
    const done = await put(button.dataset.copyText);
    const before = button.innerHTML;
    button.dataset.said = "yes";
    button.textContent = done ? "Copied" : "Copy it by hand";
    say(done ? `Copied: ${button.dataset.copyText}` : "The browser does not let this page copy.");
    setTimeout(() => {
      delete button.dataset.said;
      if (button.isConnected) button.innerHTML = before;
    }, SAID_FOR);
  });
}

/** Puts a text on the clipboard; without https, browsers leave only the old way. */
async function put(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const field = document.createElement("textarea");
    field.value = text;
    field.className = "visually-hidden";
    document.body.append(field);
    const focused = document.activeElement;
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    focused?.focus();
    return done;
  }
}

/** For those who listen to the page. */
function say(text) {
  const place = document.getElementById("copied") || document.createElement("p");
  place.id = "copied";
  place.className = "visually-hidden";
  place.setAttribute("role", "status");
  document.getElementById("mlmp").append(place);
  place.textContent = text;
}
