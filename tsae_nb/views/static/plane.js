// How settings of an unlearning evaluation look in the plane: functions of numbers alone, tried by tests/js.

/** @typedef {{setting: number, control: number, retain_threshold: number, feature_count: number, multiplier_norms: number,
 *   side_accuracy: number | null, forget_accuracy: number | null, passed: boolean}} Setting */
/** @typedef {{radius: number, shape: string, tint: number}} Look */

const SHAPES = ["circle", "square", "triangle", "diamond"];

/** The distinct values, rising. @param {number[]} values */
export function levelsOf(values) {
  return [...new Set(values)].sort((a, b) => a - b);
}

/**
 * The ranks that decide a setting's look: multipliers by size, thresholds by shape, counts of features by colour.
 * @param {Setting[]} settings
 */
export function looksOf(settings) {
  const multipliers = levelsOf(settings.map((one) => one.multiplier_norms)), thresholds = levelsOf(settings.map((one) => one.retain_threshold));
  const counts = levelsOf(settings.map((one) => one.feature_count));
  /** @param {Setting} one @returns {Look} */
  const lookOf = (one) => ({
    radius: 3.5 + (5 * multipliers.indexOf(one.multiplier_norms)) / Math.max(1, multipliers.length - 1),
    shape: SHAPES[thresholds.indexOf(one.retain_threshold) % SHAPES.length],
    tint: (counts.indexOf(one.feature_count) % 3) + 1,
  });
  return { multipliers, thresholds, counts, lookOf };
}

/** A shape's outline around a point. @param {string} shape @param {number} x @param {number} y @param {number} r */
export function outline(shape, x, y, r) {
  const corners = { square: [[-0.9, -0.9], [0.9, -0.9], [0.9, 0.9], [-0.9, 0.9]], triangle: [[0, -1.2], [1.1, 0.8], [-1.1, 0.8]], diamond: [[0, -1.3], [1.2, 0], [0, 1.3], [-1.2, 0]] }[shape];
  if (!corners) return `M${x - r},${y}a${r},${r} 0 1 0 ${2 * r},0a${r},${r} 0 1 0 ${-2 * r},0Z`;
  return `M${corners.map(([dx, dy]) => `${(x + dx * r).toFixed(2)},${(y + dy * r).toFixed(2)}`).join("L")}Z`;
}

/**
 * Places so that marks do not lie on each other: those whose marks would cover each other stand around their middle, and `from` says
 * where each belongs. Far ones are not moved.
 * @param {{x: number, y: number, radius: number, low?: number, high?: number}[]} points `low` and `high`: where the mark's middle may be moved along x
 * @param {{left: number, right: number, top: number, bottom: number}} room
 * @returns {{x: number, y: number, moved: boolean}[]}
 */
export function apart(points, room, gap = 2, rounds = 200) {
  /** @type {Map<string, number>} */
  const met = new Map(); // how many there were at a place already: those of one place start as the seeds of a sunflower
  const places = points.map(({ x, y, radius }) => {
    const key = `${x.toFixed(1)} ${y.toFixed(1)}`, k = met.get(key) || 0, out = 1.1 * radius * Math.sqrt(k);
    met.set(key, k + 1);
    return { x: x + out * Math.cos(2.4 * k), y: y + out * Math.sin(2.4 * k), moved: false };
  });
  for (let round = 0; round < rounds; round += 1) {
    let touched = false;
    for (let i = 0; i < points.length; i += 1) {
      for (let j = 0; j < i; j += 1) {
        let dx = places[i].x - places[j].x, dy = places[i].y - places[j].y, far = Math.hypot(dx, dy);
        const missing = points[i].radius + points[j].radius + gap - far;
        if (missing <= 0.05) continue;
        touched = true;
        if (far < 1e-3) [dx, dy, far] = [Math.cos(2.4 * i), Math.sin(2.4 * i), 1]; // pushed onto each other, as in a corner
        for (const [k, way] of /** @type {[number, number][]} */ ([[i, 1], [j, -1]])) {
          places[k].x += (way * missing * dx) / far / 2;
          places[k].y += (way * missing * dy) / far / 2;
        }
      }
    }
    places.forEach((place, i) => {
      const { radius: r, low = room.left + r, high = room.right - r } = points[i];
      place.x = Math.min(high, Math.max(low, place.x));
      place.y = Math.min(room.bottom - r, Math.max(room.top + r, place.y));
    });
    if (!touched) break;
  }
  return places.map(({ x, y }, i) => ({ x, y, moved: Math.hypot(x - points[i].x, y - points[i].y) > points[i].radius }));
}

/**
 * What has the same key, in the order in which keys come. @template T @param {T[]} all @param {(one: T) => unknown[]} keyOf @returns {T[][]}
 */
function grouped(all, keyOf) {
  /** @type {Map<string, T[]>} */
  const found = new Map();
  for (const one of all) {
    const key = JSON.stringify(keyOf(one));
    found.set(key, [...(found.get(key) || []), one]);
  }
  return [...found.values()];
}

/**
 * Settings by mark: where more than so many have the same accuracies they are one mark, as no shift says where they are.
 * @template {{side_accuracy: number | null, forget_accuracy: number | null}} T @param {T[]} settings
 * @returns {T[][]}
 */
export function piled(settings, most = 6) {
  return grouped(settings, (one) => [one.side_accuracy, one.forget_accuracy]).flatMap((pile) => (pile.length > most ? [pile] : pile.map((one) => [one])));
}

/** The setting of a pile that comes after the one shown, from the last the first. @param {{setting: number}[]} pile @param {number} shown */
export function nextOf(pile, shown) {
  return pile[(pile.findIndex((one) => one.setting === shown) + 1) % pile.length].setting;
}

/** The sets of a setting with what should be forgotten first. @template {{role: string}} T @param {T[]} sets */
export function forgetFirst(sets) {
  return [...sets].sort((a, b) => Number(b.role === "forget") - Number(a.role === "forget"));
}

/** The settings that differ in the multiplier only, weakest first. @param {Setting[]} settings */
export function trajectories(settings) {
  return grouped(settings, (one) => [Boolean(one.control), one.retain_threshold, one.feature_count]).map((group) => group.sort((a, b) => a.multiplier_norms - b.multiplier_norms));
}
