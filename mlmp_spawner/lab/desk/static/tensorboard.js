// @ts-check
// Starts TensorBoard over what the address names, and goes there.
const { way = "path", said = "", xsrf = "", atOnce } = document.body.dataset;
const going = /** @type {HTMLElement} */ (document.getElementById("going"));
const trouble = /** @type {HTMLElement} */ (document.getElementById("trouble"));
const button = /** @type {HTMLButtonElement} */ (document.getElementById("start"));

/** @param {string[]} lines */
function refuse(...lines) {
  going.textContent = "";
  trouble.replaceChildren(
    ...lines.filter(Boolean).map((line) => Object.assign(document.createElement("p"), { textContent: line })),
  );
  button.textContent = "Try again";
  button.hidden = false;
}

async function start() {
  trouble.replaceChildren();
  button.hidden = true;
  going.textContent = "Starting, which takes some seconds …";
  try {
    const answer = await fetch("api/tensorboards", {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-XSRFToken": xsrf },
      body: JSON.stringify({ [way]: said }),
    });
    const found = await answer.json().catch(() => ({}));
    if (answer.ok) location.replace(found.url);
    else if (found.detail) refuse(found.detail, found.hint ?? "");
    else refuse(`This server answers ${answer.status}.`, "Load this page again; you may have to log in.");
  } catch {
    refuse("This server does not answer.", "Your booking may be over.");
  }
}

button.addEventListener("click", () => void start());
if (atOnce === "yes") void start();
else button.hidden = false;
