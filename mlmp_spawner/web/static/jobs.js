// The pages of jobs: the log as it is printed, values under the pointer, what is chosen to be compared.

import { follow } from "./job_log.js";
import { readPlots } from "./job_plot.js";

follow();
readPlots();

/** The list: how many are chosen. */
const MOST = 20;
const help = () => document.getElementById("compare-help");

function count() {
  if (!help()) return;
  const chosen = document.querySelectorAll('input[form="compare"]:checked').length;
  const button = document.getElementById("compare-button");
  const fits = chosen >= 2 && chosen <= MOST;
  button.disabled = !fits;
  const text = chosen > MOST ? `${chosen} chosen: at most ${MOST}` : chosen ? `${chosen} chosen` : "choose 2 to 20 by their boxes";
  if (help().textContent !== text) help().textContent = text;
}

document.addEventListener("change", (event) => {
  if (event.target.matches('input[form="compare"]')) count();
});
document.getElementById("mlmp").addEventListener("mlmp:fresh", count);
addEventListener("pageshow", count);
count();

/** Several side by side: a name in the list shows its line in every plot. */
function pick(number) {
  for (const plots of document.querySelectorAll(".job-plots")) {
    if (number) plots.dataset.picked = number;
    else delete plots.dataset.picked;
    for (const line of plots.querySelectorAll(".job-line")) {
      line.classList.toggle("job-picked", line.dataset.number === number);
    }
  }
}

for (const [begin, end] of [["pointerover", "pointerout"], ["focusin", "focusout"]]) {
  document.addEventListener(begin, (event) => {
    const entry = event.target.closest(".job-legend li");
    if (entry) pick(entry.dataset.number);
  });
  document.addEventListener(end, (event) => {
    if (event.target.closest(".job-legend li")) pick(null);
  });
}
