// What the views show as numbers and text: node --test tests/js
import assert from "node:assert/strict";
import { test } from "node:test";

import { amount, duration, fixed, floats, integers, isolated, missing, number, remembering, share, shown, spaced } from "../../tsae_nb/views/static/values.js";

test("a number has three figures, a dash where there is none, and no long tail of zeros", () => {
  assert.deepEqual([0, 1.23456, -0.012345, 99999, 123456, 0.00012, NaN, null].map((value) => number(value)),
    ["0", "1.23", "-0.0123", "100000", "1.2e+5", "1.2e-4", "–", "–"]);
  assert.equal(number(1.23456, 2), "1.2");
});

test("decimals stand under each other, and nothing is a negative zero", () => {
  assert.deepEqual([1.005, -0.001, -0.5, undefined].map((value) => fixed(value)), ["1.00", "0.00", "-0.50", "–"]);
  assert.equal(fixed(-0.4, 0), "0");
});

test("a share that is small is not said to be nothing", () => {
  assert.deepEqual([0, 0.00001, 0.1234, 1, NaN].map(share), ["0 %", "<0.01 %", "12 %", "100 %", "–"]);
});

test("amounts and durations are said in units of their size", () => {
  assert.deepEqual([0, 999, 1500, 1.5e6, -2e9, null].map(amount), ["0", "999", "1.5 k", "1.5 M", "-2 G", "–"]);
  assert.deepEqual([0.4, 89, 90, 3600, 5400, 11100, Infinity].map(duration), ["0 s", "89 s", "2 min", "60 min", "1 h 30 min", "3 h 5 min", "–"]);
});

test("only null, undefined and NaN are missing", () => {
  assert.deepEqual([null, undefined, NaN, 0, Infinity].map(missing), [true, true, true, false, false]);
});

test("a buffer is read at its own place, which need not be aligned", () => {
  const bytes = new Uint8Array(9);
  new DataView(bytes.buffer).setFloat32(1, 1.5, true);
  new DataView(bytes.buffer).setInt32(5, -7, true);
  assert.deepEqual([...floats(new DataView(bytes.buffer, 1, 4))], [1.5]);
  assert.deepEqual([...integers(new DataView(bytes.buffer, 5, 4))], [-7]);
});

test("tokens of nothing but space are visible", () => {
  assert.deepEqual(["", " ", "\n", "\t", " king", "a\nb"].map(shown), ["·", "␣", "↵", "⇥", " king", "a↵b"]);
});

test("an answer is remembered, a failure is not, and the oldest is forgotten", async () => {
  let asked = 0, fails = true;
  const ask = remembering(async (kind) => {
    asked += 1;
    if (kind === "bad" && fails) throw new Error("no");
    return kind;
  }, 2);
  assert.equal(await ask("a", "card"), "card");
  await ask("a", "card");
  assert.equal(asked, 1);
  await assert.rejects(ask("b", "bad"));
  fails = false;
  assert.equal(await ask("b", "bad"), "bad");
  assert.equal(asked, 3);
  await ask("c", "card"); // a is the oldest of three
  await ask("a", "card");
  assert.equal(asked, 5);
});

test("of questions that come too soon only the last is asked, and the one that was passed can be asked again", async () => {
  const asked = [];
  const ask = remembering(spaced(async (kind) => { asked.push(kind); return kind; }, 40));
  const answers = ["a", "b", "c", "d"].map((kind) => ask(kind, kind));
  assert.deepEqual(asked, ["a"]);
  await assert.rejects(answers[1]);
  await assert.rejects(answers[2]);
  assert.deepEqual([await answers[0], await answers[3]], ["a", "d"]);
  assert.equal(await ask("b", "b"), "b");
  assert.deepEqual(asked, ["a", "d", "b"]);
});

test("foreign text in a sentence stands by itself where it could turn others round", () => {
  for (const text of ["", "bark", "Ökologie 日本 🦩", "a\u00a0b"]) assert.equal(isolated(text), text);
  assert.equal(isolated("שלום"), "\u2068שלום\u2069");
  assert.equal(isolated("a\u202eb"), "\u2068ab\u2069");
  assert.equal(isolated("a\u2069\u202eb"), "\u2068ab\u2069"); // it does not end what it stands in
});
