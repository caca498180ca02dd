// Curves of runs that log at steps of their own: node --test tests/js
import assert from "node:assert/strict";
import { test } from "node:test";

import { aside, drawnAs, endsOf, isCount, loggedAt, onAxis, placeOf, scaleOf, smoothed, termOrder, together } from "../../tsae_nb/views/static/curves.js";

test("of explained variance what is left is drawn, all else as it is logged", () => {
  const values = Float32Array.from([-0.5, 0.75, NaN]), [name, left] = drawnAs("explained_variance", values);
  assert.deepEqual([name, ...left], ["variance left", 1.5, 0.25, NaN]);
  assert.deepEqual(drawnAs("l0", values), ["l0", values]);
});

test("an axis of zeros ends at 1, any other where its values do; counts are whole", () => {
  assert.deepEqual([[0, 0], [null, null], [0, 3], [5, 5]].map(([low, high]) => endsOf(low, high)), [[0, 1], [0, 1], null, null]);
  assert.deepEqual(["dead_features", "dead_features/level1", "l0", "loss"].map(isCount), [true, true, false, false]);
});

test("the loss comes first, then its terms, what is watched, and weights last", () => {
  assert.deepEqual(termOrder(["weight/margin", "variance left", "dead_features", "l0", "term/margin", "density/p10", "loss", "term/adversary"]),
    ["loss", "variance left", "term/adversary", "term/margin", "l0", "dead_features", "density/p10", "weight/margin"]);
  assert.deepEqual(["weight/x", "learning_rate", "gradient_norm", "loss", "gradient"].map(aside), [true, true, true, false, false]);
});

test("the place of a step is the last that is not above it", () => {
  assert.deepEqual([0, 1, 9, 10, 11, 99].map((step) => placeOf([1, 10, 20], step)), [0, 0, 0, 1, 1, 2]);
  assert.equal(placeOf([], 5), 0);
});

test("a value not logged at a step is the last that was", () => {
  assert.equal(loggedAt([1, NaN, NaN], 2), 1);
  assert.equal(loggedAt([1, 2, 3], 99), 3);
  assert.ok(Number.isNaN(loggedAt([NaN, 2], 0)));
});

test("smoothing is the mean that its weights say, of what is there", () => {
  const random = Array.from({ length: 40 }, (_, i) => Math.sin(i * i)), weight = 0.8;
  random[7] = NaN;
  random[9] = Infinity;
  const found = smoothed(random, weight);
  let seen = [];
  random.forEach((value, i) => {
    if (!Number.isFinite(value)) return assert.equal(found[i], value);
    seen = [...seen, value];
    const weights = seen.map((_, k) => weight ** (seen.length - 1 - k)), total = weights.reduce((a, b) => a + b);
    return assert.ok(Math.abs(found[i] - seen.reduce((sum, one, k) => sum + one * weights[k], 0) / total) < 1e-12);
  });
  assert.deepEqual([...smoothed([3, 1], 0)], [3, 1]);
  assert.deepEqual([...smoothed([5, 5, 5], 0.97)], [5, 5, 5]); // it starts where the curve does
});

test("runs that log at other steps stand on one axis", () => {
  const { xs, at } = together([[1, 10, 20], [1, 4, 20, 24]]);
  assert.deepEqual(xs, [1, 4, 10, 20, 24]);
  assert.deepEqual(at.map((one) => [...one]), [[0, 2, 3], [0, 1, 3, 4]]);
  assert.deepEqual(onAxis(5, at[0], [7, 8, 9], false), [7, undefined, 8, 9, undefined]);
});

test("a line goes on over what was not logged, and breaks where its axis has no place", () => {
  const at = Int32Array.from([0, 1, 2, 3]);
  assert.deepEqual(onAxis(4, at, [1, NaN, Infinity, -2], false), [1, undefined, null, -2]);
  assert.deepEqual(onAxis(4, at, [1, 0, NaN, -2], true), [1, null, undefined, null]);
});

test("a scale is said, and never one that leaves a value out", () => {
  assert.deepEqual(scaleOf("loss", [[2, 1, NaN]], true), { logarithmic: true, said: "logarithmic" });
  assert.equal(scaleOf("loss", [[2, 1]], false).said, "linear");
  assert.equal(scaleOf("l0", [[2, 1]], true).said, "linear");
  assert.deepEqual(scaleOf("variance left", [[0.2, 0.9]], true), { logarithmic: true, said: "1 − explained variance, logarithmic" });
  assert.equal(scaleOf("dead_features/level1", [[2, 1]], true).said, "linear");
  assert.deepEqual(scaleOf("term/margin", [[2, 1], [0, 3]], true), { logarithmic: false, said: "linear, as it is not always above 0" });
});
