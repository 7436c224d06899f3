// The hub's spawn page: times in the browser's zone, and no second click.

import { countDown, localise } from "./times.js";

localise();
countDown();

const form = document.getElementById("spawn_form");
form?.addEventListener("submit", (event) => {
  if (form.dataset.sent) event.preventDefault();
  form.dataset.sent = "yes";
  event.submitter?.setAttribute("aria-busy", "true");
});
