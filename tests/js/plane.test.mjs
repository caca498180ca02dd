// The plane of unlearning settings: node --test tests/js
import assert from "node:assert/strict";
import { test } from "node:test";

import { apart, forgetFirst, levelsOf, looksOf, nextOf, outline, piled, trajectories } from "../../tsae_nb/views/static/plane.js";

const settings = [0, 1].flatMap((control) => [0.01, 0.001].flatMap((retain_threshold) => [10, 20].flatMap((feature_count) => [2, 0.25, 1].map((multiplier_norms) =>
  ({ setting: 0, control, retain_threshold, feature_count, multiplier_norms, side_accuracy: 1, forget_accuracy: 1, passed: true })))));

test("multiplier, threshold and count each have a way of being seen of their own", () => {
  const { multipliers, thresholds, counts, lookOf } = looksOf(settings);
  assert.deepEqual([multipliers, thresholds, counts], [[0.25, 1, 2], [0.001, 0.01], [10, 20]]);
  const [first, , middle] = settings.map(lookOf), weak = lookOf(settings[1]);
  assert.ok(weak.radius < middle.radius && middle.radius < first.radius);
  assert.equal(new Set(settings.map((one) => JSON.stringify(lookOf(one)))).size, 12); // only controls look the same
  assert.equal(lookOf({ ...settings[0], retain_threshold: 0.001 }).shape, "circle");
  assert.equal(levelsOf([3, 1, 3]).length, 2);
});

test("marks that would lie on each other stand beside each other, in the room, and others stay", () => {
  const room = { left: 0, right: 400, top: 0, bottom: 300 };
  const points = [...Array.from({ length: 32 }, () => ({ x: 390, y: 290, radius: 8 })), { x: 50, y: 50, radius: 8 }];
  const places = apart(points, room);
  for (let i = 0; i < places.length; i += 1) {
    for (let j = 0; j < i; j += 1) assert.ok(Math.hypot(places[i].x - places[j].x, places[i].y - places[j].y) > 14, `${i} on ${j}`);
    assert.ok(places[i].x >= 8 && places[i].x <= 392 && places[i].y >= 8 && places[i].y <= 292);
  }
  assert.ok(!places[32].moved && Math.abs(places[32].x - 50) < 0.1);
  assert.ok(places.slice(0, 32).some((place) => place.moved));
});

test("a mark is not moved over an edge that it stands at", () => {
  const room = { left: 0, right: 400, top: 0, bottom: 300 };
  const points = Array.from({ length: 8 }, (_, i) => ({ x: 200, y: 150, radius: 8, ...(i % 2 ? { low: 200 } : { high: 199 }) }));
  apart(points, room).forEach((place, i) => assert.ok(i % 2 ? place.x >= 200 : place.x <= 199));
});

test("settings that differ in strength alone are one way through the plane, weakest first", () => {
  const ways = trajectories(settings);
  assert.equal(ways.length, 8);
  for (const way of ways) assert.deepEqual(way.map((one) => one.multiplier_norms), [0.25, 1, 2]);
});

test("many settings at one place are one mark, through which one goes; few stand beside each other", () => {
  const at = (/** @type {number[][]} */ ...places) => places.map(([side_accuracy, forget_accuracy], setting) => ({ setting, side_accuracy, forget_accuracy }));
  const same = Array.from({ length: 7 }, () => [1, 1]);
  assert.deepEqual(piled(at([1, 0.5], ...same, [0.9, 1])).map((pile) => pile.map((one) => one.setting)), [[0], [1, 2, 3, 4, 5, 6, 7], [8]]);
  assert.equal(piled(at(...same.slice(1))).length, 6);
  const [pile] = piled(at(...same));
  assert.deepEqual([-1, 0, 3, 6, 99].map((shown) => nextOf(pile, shown)), [0, 1, 4, 0, 0]);
});

test("the forget set comes first, the others as they were", () => {
  const sets = [{ role: "side", set: "a" }, { role: "forget", set: "b" }, { role: "side", set: "c" }];
  assert.deepEqual(forgetFirst(sets).map((one) => one.set), ["b", "a", "c"]);
  assert.equal(sets[0].set, "a");
});

test("an outline is around its point", () => {
  for (const shape of ["circle", "square", "triangle", "diamond"]) assert.match(outline(shape, 10, 20, 5), /^M[\d.,]+[aL].*Z$/);
});
