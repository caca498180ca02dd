// Curves of runs that log at steps of their own, on one axis: functions of numbers alone, tried by tests/js.

const VARIANCE_LEFT = "variance left";

/**
 * What is drawn of a logged term: its name and values. Explained variance is near 1 soon; what it leaves has a logarithmic axis.
 * @param {string} term @param {Float32Array} values @returns {[string, Float32Array]}
 */
export function drawnAs(term, values) {
  return term === "explained_variance" ? [VARIANCE_LEFT, values.map((value) => 1 - value)] : [term, values];
}

/** Whether a term's values are whole numbers: then ticks are, too. @param {string} term */
export function isCount(term) {
  return /^dead/.test(term);
}

/**
 * The values at the ends of a linear axis; null where those of the data decide. One of zeros, or of nothing, ends at 1.
 * @param {number | null} low @param {number | null} high @returns {[number, number] | null}
 */
export function endsOf(low, high) {
  return low === null || high === null || (low === 0 && high === 0) ? [0, 1] : null;
}

/** The terms in the order of interest: the loss, what is left of variance, what the loss is made of, then what is watched. @param {Iterable<string>} names */
export function termOrder(names) {
  /** @param {string} name */
  const rank = (name) => (name === "loss" ? 0 : name === VARIANCE_LEFT ? 0.5 : name.startsWith("term/") ? 1 : /^l0/.test(name) ? 2 : isCount(name) ? 3
    : /^(weight|gradient)\//.test(name) ? 5 : 4);
  return [...names].sort((a, b) => rank(a) - rank(b) || a.localeCompare(b));
}

/** Terms that are shown only when all are asked for. @param {string} name */
export function aside(name) {
  return /^(weight|gradient)\/|^learning_rate$|^gradient_norm$/.test(name);
}

/** The last place in rising numbers that is not above a value; 0 where all are. @param {ArrayLike<number>} rising @param {number} value */
export function placeOf(rising, value) {
  let low = 0, high = rising.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (rising[middle] <= value) low = middle;
    else high = middle - 1;
  }
  return low;
}

/** The value at, or last logged before, a place; NaN where there is none. @param {ArrayLike<number>} values @param {number} place */
export function loggedAt(values, place) {
  let at = Math.min(place, values.length - 1);
  while (at >= 0 && Number.isNaN(values[at])) at -= 1;
  return at < 0 ? NaN : values[at];
}

/**
 * Exponential mean of what is logged, each value weighted (1 − weight) · weight^age over those that there are; an infinite one stays
 * itself and is in no mean.
 * @param {ArrayLike<number>} values @param {number} weight from 0, as it is, to below 1
 */
export function smoothed(values, weight) {
  const result = Float64Array.from(values);
  if (weight <= 0) return result;
  let sum = 0, total = 0;
  for (let i = 0; i < result.length; i += 1) {
    if (!Number.isFinite(result[i])) continue;
    sum = weight * sum + (1 - weight) * result[i];
    total = weight * total + (1 - weight);
    result[i] = sum / total;
  }
  return result;
}

/**
 * Rising places of several runs on one axis: all that occur, and where each run's are among them.
 * @param {ArrayLike<number>[]} places of each run, rising
 * @returns {{xs: number[], at: Int32Array[]}}
 */
export function together(places) {
  const all = new Set();
  for (const one of places) for (let i = 0; i < one.length; i += 1) all.add(one[i]);
  const xs = /** @type {number[]} */ ([...all]).sort((a, b) => a - b);
  const index = new Map(xs.map((x, i) => [x, i]));
  return { xs, at: places.map((one) => Int32Array.from(one, (x) => /** @type {number} */ (index.get(x)))) };
}

/**
 * A run's values on the axis of all: undefined where it has none (the line goes on), null where the line breaks, at an infinite
 * value and at one that a logarithmic axis lacks.
 * @param {number} length of the axis @param {Int32Array} at @param {ArrayLike<number>} values @param {boolean} logarithmic
 * @returns {(number | null | undefined)[]}
 */
export function onAxis(length, at, values, logarithmic) {
  const result = new Array(length).fill(undefined);
  for (let i = 0; i < at.length; i += 1) {
    const value = values[i];
    if (Number.isNaN(value)) continue; // not logged at every step
    result[at[i]] = Number.isFinite(value) && (!logarithmic || value > 0) ? value : null;
  }
  return result;
}

/**
 * The scale that a chart's axis has, and how it is said. Counts and shares are read on linear axes, and what is zero or negative
 * somewhere has no place on another.
 * @param {string} term @param {ArrayLike<number>[]} curves @param {boolean} wanted whether logarithmic axes are
 */
export function scaleOf(term, curves, wanted) {
  const of = term === VARIANCE_LEFT ? "1 − explained variance, " : "";
  if (!wanted || isCount(term) || /^l0|entropy|^density/.test(term)) return { logarithmic: false, said: `${of}linear` };
  for (const values of curves) {
    for (let i = 0; i < values.length; i += 1) if (values[i] <= 0) return { logarithmic: false, said: `${of}linear, as it is not always above 0` };
  }
  return { logarithmic: true, said: `${of}logarithmic` };
}
