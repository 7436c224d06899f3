// Says the values of a plot where the pointer is, or step by step by the keyboard. The server drew it (web/job_plots.py).

const WIDTH = 1000;
const POINT = /(-?[\d.]+),(-?[\d.]+)/g;

const drawn = new WeakMap(); // a path -> [what was drawn, its points]

/** Listens for all plots there are and will be. */
export function readPlots() {
  document.addEventListener("pointermove", (event) => {
    const lines = event.target.closest?.(".job-plot-lines");
    if (!lines) return;
    const box = lines.getBoundingClientRect();
    read(lines, ((event.clientX - box.left) / box.width) * WIDTH);
  });
  document.addEventListener("pointerout", (event) => {
    const lines = event.target.closest?.(".job-plot-lines");
    if (lines && !lines.contains(event.relatedTarget)) silence(lines);
  });
  document.addEventListener("focusout", (event) => {
    if (event.target.matches?.(".job-plot-lines")) silence(event.target);
  });
  document.addEventListener("keydown", (event) => {
    if (event.target.matches?.(".job-plot-lines")) move(event);
  });
}

function points(path) {
  const text = path.getAttribute("d");
  const known = drawn.get(path);
  if (known && known[0] === text) return known[1];
  const found = [...text.matchAll(POINT)].map((match) => [Number(match[1]), Number(match[2])]);
  drawn.set(path, [text, found]);
  return found;
}

const paths = (lines) => [...lines.querySelectorAll("path.job-line")];

/** The point of a line that is nearest to a place from the left. */
function nearest(path, x) {
  let best = null;
  for (const point of points(path)) {
    if (best === null || Math.abs(point[0] - x) < Math.abs(best[0] - x)) best = point;
  }
  return best;
}

function move(event) {
  const lines = event.target;
  const all = [...new Set(paths(lines).flatMap((path) => points(path).map(([x]) => x)))].sort((a, b) => a - b);
  const at = Number(lines.dataset.at ?? NaN);
  const next = {
    ArrowRight: all.find((x) => x > at) ?? (Number.isNaN(at) ? all[0] : all.at(-1)),
    ArrowLeft: all.findLast((x) => x < at) ?? (Number.isNaN(at) ? all.at(-1) : all[0]),
    Home: all[0],
    End: all.at(-1),
  }[event.key];
  if (next === undefined) return;
  event.preventDefault();
  read(lines, next);
}

function read(lines, wanted) {
  const figure = lines.closest(".job-plot");
  const found = paths(lines).map((path) => [path, nearest(path, wanted)]).filter(([, point]) => point);
  if (!found.length) return;
  const x = found.map(([, point]) => point[0]).reduce((a, b) => (Math.abs(b - wanted) < Math.abs(a - wanted) ? b : a));
  const { left, right, low, high, kind, timed } = figure.dataset;
  const height = lines.querySelector("svg").viewBox.baseVal.height;
  const at = Number(left) + (x / WIDTH) * (Number(right) - Number(left));
  const range = Number(high) - Number(low);
  const exact = 10 ** Math.ceil(Math.log10((0.001 * range) / height)); // as exact as it was drawn
  const said = found.map(([path, [, y]]) => {
    const drawn = Number(high) - (y / height) * range;
    const value = SAID[kind](Number((Math.round(drawn / exact) * exact).toPrecision(12)));
    return found.length > 1 ? `${path.dataset.number}: ${value}` : value;
  });
  const where = timed === undefined ? `step ${number(Math.round(at))}` : length(at);
  lines.dataset.at = x;
  figure.querySelector(".job-plot-read").textContent = `${where} · ${said.join("  ")}`;
  const cursor = lines.querySelector(".job-plot-cursor");
  for (const name of ["x1", "x2"]) cursor.setAttribute(name, `${(x / WIDTH) * 100}%`);
  cursor.setAttribute("visibility", "visible");
}

function silence(lines) {
  delete lines.dataset.at;
  lines.closest(".job-plot").querySelector(".job-plot-read").textContent = "";
  lines.querySelector(".job-plot-cursor").setAttribute("visibility", "hidden");
}

// As web/job_plots.py says them.

function number(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e6 || size < 1e-4) return value.toPrecision(3).replace("e+", "e");
  return size < 1e4 ? String(Number(value.toPrecision(4))) : Math.round(value).toLocaleString("en");
}

function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  while (Math.abs(value) >= 1024 && at < units.length - 1) {
    value /= 1024;
    at += 1;
  }
  return `${Number(value.toPrecision(3))} ${units[at]}`;
}

function length(ms) {
  const whole = Math.round(ms / 1000);
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor((whole % 3600) / 60);
  const parts = [hours ? `${hours} h` : "", minutes ? `${minutes} min` : ""];
  if (!hours && (whole % 60 || !minutes)) parts.push(`${whole % 60} s`);
  return parts.filter(Boolean).join(" ");
}

const SAID = { number, amount: number, bytes, percent: (value) => `${Math.round(value)} %` };
