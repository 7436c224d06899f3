// What a job measures, as small lines.
import { Series } from "./api";

const SVG = "http://www.w3.org/2000/svg";
const MOST = 6;

/** One plot for each of the first few metrics that have numbers. */
export function plots(series: Record<string, Series>): HTMLElement[] {
  return Object.entries(series)
    .sort(([a], [b]) => a.localeCompare(b))
    .map(([name, one]) => plot(name, one))
    .filter((one): one is HTMLElement => one !== null)
    .slice(0, MOST);
}

function plot(name: string, series: Series): HTMLElement | null {
  const points = series.values
    .map((value, n) => [series.steps[n] ?? n, value] as const)
    .filter((one): one is readonly [number, number] => one[1] !== null && Number.isFinite(one[1]));
  if (!points.length) return null;
  const figure = document.createElement("figure");
  figure.className = "mlmp-plot";
  const caption = document.createElement("figcaption");
  const last = points[points.length - 1];
  caption.textContent = `${name}: ${Number(last[1].toPrecision(4))} at step ${last[0]}`;
  figure.append(caption, drawn(points, caption.textContent));
  return figure;
}

function drawn(points: (readonly [number, number])[], label: string): SVGElement {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 100 100");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", label);
  const [x, y] = [0, 1].map((n) => scale(points.map((one) => one[n])));
  const line = document.createElementNS(SVG, "polyline");
  line.setAttribute("points", points.map(([a, b]) => `${x(a)},${100 - y(b)}`).join(" "));
  svg.append(line);
  return svg;
}

function scale(values: number[]): (value: number) => number {
  const least = values.reduce((a, b) => Math.min(a, b), Infinity);
  const most = values.reduce((a, b) => Math.max(a, b), -Infinity);
  return (value) => (most > least ? 4 + (92 * (value - least)) / (most - least) : 50);
}
