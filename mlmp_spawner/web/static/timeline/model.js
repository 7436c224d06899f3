// @ts-check
// What is drawn: groups under one another, the bars of each, and what follows from where they lie.

/** @typedef {import("./types.js").Timeline} Timeline @typedef {import("./types.js").Bar} Bar */
/** @typedef {import("./types.js").Group} Group @typedef {import("./types.js").Lane} Lane */

export const LABEL = 148; // px: the column of the nodes' names
const LOWEST = 46; // px: a group has room for a name and a model
const ROW = [26, 20, 16]; // px: few rows, many, very many

/** @param {Bar} bar */
export const laneKey = (bar) => `${bar.node ?? ""}\n${bar.node === null ? "" : bar.resource}`;
/** Whether a booking takes the units of a bar when it wants to. @param {Bar} bar */
export const makesWay = (bar) => bar.kind === "job" && bar.preemptible;
/** @param {Group} group */
const keyOf = (group) => `${group.node}\n${group.resource}`;

export class Model {
  constructor() {
    this.start = 0;
    this.end = 1;
    /** @type {Lane[]} */ this.lanes = [];
    /** @type {Map<string, Lane>} */ this.byKey = new Map();
    /** @type {Map<string, Bar>} */ this.bars = new Map();
    this.height = 0;
  }

  /** A whole new window. @param {Timeline} answer */
  show(answer) {
    this.start = answer.start;
    this.end = answer.end;
    this.#build(answer.groups, answer.bars, answer.waiting);
  }

  /** The same window again, of some nodes only. @param {Timeline} answer @param {Set<string>} nodes */
  merge(answer, nodes) {
    const groups = this.lanes.map((lane) => lane.group).filter((group) => group.node);
    const fresh = new Map(answer.groups.map((group) => [keyOf(group), group]));
    const others = [...this.bars.values()].filter((bar) => bar.node && !nodes.has(bar.node) && bar.kind !== "maintenance");
    this.#build(groups.map((group) => fresh.get(keyOf(group)) ?? group), [...others, ...answer.bars], answer.waiting);
  }

  /** Puts one bar elsewhere, until the service has answered. @param {Bar} bar */
  put(bar) {
    const all = [...this.bars.values()].filter((one) => one.key !== bar.key && one.kind !== "maintenance");
    const placed = [...all, bar];
    this.#build(this.lanes.map((lane) => lane.group).filter((group) => group.node),
      placed.filter((one) => one.node), placed.filter((one) => !one.node));
  }

  /** @param {Group[]} groups @param {Bar[]} bars @param {Bar[]} waiting */
  #build(groups, bars, waiting) {
    const old = this.bars;
    this.bars = new Map();
    this.byKey = new Map();
    this.lanes = [];
    let top = 0;
    const before = waiting.length ? [waitingGroup(waiting)] : [];
    for (const group of [...before, ...groups]) {
      const rowHeight = Math.max(ROW[group.rows > 16 ? 2 : group.rows > 8 ? 1 : 0], Math.ceil(LOWEST / group.rows));
      const lane = { group, bars: outages(group), top, rowHeight, height: rowHeight * group.rows };
      this.lanes.push(lane);
      this.byKey.set(keyOf(group), lane);
      top += lane.height;
    }
    this.height = top;
    const waitingRows = waiting.map((bar, row) => ({ ...bar, rows: [row] }));
    for (const bar of [...waitingRows, ...bars]) this.byKey.get(laneKey(bar))?.bars.push(bar);
    for (const lane of this.lanes) {
      lane.bars = lane.bars.map((bar) => same(old.get(bar.key), bar));
      lane.bars.sort((a, b) => a.rows[0] - b.rows[0] || a.start - b.start || (a.key < b.key ? -1 : 1));
      for (const bar of lane.bars) this.bars.set(bar.key, bar);
    }
  }

  /** @param {Bar} bar */
  laneOf(bar) {
    return this.lanes.find((lane) => lane.bars.includes(bar)) ?? this.byKey.get(laneKey(bar));
  }

  /** The group and the row at a height, in px; the nearest one. @param {number} y */
  at(y) {
    const lane = this.lanes.find((one) => y < one.top + one.height) ?? this.lanes.at(-1);
    if (!lane) return null;
    const row = Math.floor((y - lane.top) / lane.rowHeight);
    return { lane, row: Math.min(Math.max(row, 0), lane.group.rows - 1) };
  }

  /**
   * The fewest units free at any moment, less what `without` takes; none while the node is away. Jobs make way.
   * @param {Lane} lane @param {number} start @param {number} end @param {string} [without] id of a booking
   */
  free(lane, start, end, without = "") {
    const there = lane.bars.filter((bar) => bar.start < end && bar.end > start && bar.id !== without && !makesWay(bar));
    if (there.some((bar) => bar.kind === "maintenance")) return 0;
    let most = 0;
    for (const at of [start, ...there.map((bar) => bar.start).filter((one) => one > start)]) {
      let taken = 0;
      for (const bar of there) if (bar.start <= at && bar.end > at) taken += bar.units;
      most = Math.max(most, taken);
    }
    return Math.max(0, lane.group.capacity - most);
  }
}

/** Keeps the object of what has not changed, so that nothing is drawn anew for it.
 * @param {Bar | undefined} old @param {Bar} bar */
function same(old, bar) {
  return old && JSON.stringify(old) === JSON.stringify(bar) ? old : bar;
}

/** @param {Bar[]} waiting @returns {Group} */
function waitingGroup(waiting) {
  const { resource } = waiting[0];
  return { node: "", resource: "", model: resource, simulated: false, capacity: 0, rows: waiting.length, outages: [] };
}

/** @param {Group} group @returns {Bar[]} */
function outages(group) {
  return group.outages.map((one) => ({
    key: `${one.id} ${group.resource}`, id: one.id, node: group.node, resource: group.resource, profile: "", units: group.capacity,
    rows: Array.from({ length: group.rows }, (_, row) => row), start: one.start, end: one.end, owner: null, mine: false,
    kind: "maintenance", preemptible: false, state: "booked", title: one.reason, pinned: true, stopping: false, etag: null,
  }));
}
