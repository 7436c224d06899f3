// One scan: a row of the table shows its line in the plot, and the arrow keys go from line to line.

const lines = () => [...document.querySelectorAll(".scan-line")];
let picked = null;

function pick(row) {
  picked = row;
  for (const line of lines()) line.classList.toggle("scan-picked", line.dataset.row === row);
  for (const one of document.querySelectorAll("#scan-table tbody tr")) {
    one.classList.toggle("scan-row-picked", row !== null && one.dataset.row === row);
  }
  const line = lines().find((one) => one.dataset.row === row);
  const read = document.getElementById("scan-read");
  if (read) read.textContent = line ? line.querySelector("title").textContent : "";
}

// What is new on the page knows nothing of it.
document.getElementById("mlmp").addEventListener("mlmp:fresh", () => {
  if (picked !== null) pick(picked);
});

for (const begin of ["pointerover", "focusin"]) {
  document.addEventListener(begin, (event) => {
    const one = event.target.closest("#scan-table tbody tr, .scan-line");
    if (one) pick(one.dataset.row);
  });
}

document.addEventListener("keydown", (event) => {
  if (!event.target.closest("[data-scan-plot]")) return;
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (event.key === "Escape") pick(null);
  if (!step || !lines().length) return;
  event.preventDefault();
  const rows = lines().map((one) => one.dataset.row).sort((a, b) => a - b);
  const at = rows.indexOf(picked);
  pick(rows[at < 0 ? (step > 0 ? 0 : rows.length - 1) : (at + step + rows.length) % rows.length]);
});
