import { fill, h, into, table, withTable } from "./common.js";
import { kernelBackend, ownKeys, painted } from "./page.js";
import { fixed, floats, remembering } from "./values.js";

const ORACLES = { token: "oracle, this token", past: "oracle, and the past" };
const KINDS = ["slow", "fast"];

function render({ model, el }) {
  const root = h("div", { class: "tsae tsae-time", tabindex: 0, "data-lm-suppress-shortcuts": "true" });
  el.append(root);
  const backend = kernelBackend(model), ask = remembering((kind, question) => backend.ask(kind, question));
  let kind = 0, made = 0; // which features the numbers are of; how often a world of one's own was trained

  const about = () => model.get("_about"), plain = () => about().plain, own = () => about().own;
  const world = () => about().worlds.find((one) => one.name === model.get("world")) || about().worlds[0];
  const grid = () => about().worlds.filter((one) => one.name !== own());
  const taps = (variant) => about().variants[variant];
  const named = (reader) => ORACLES[reader] || (reader === "truth" ? "truth" : taps(reader) ? (taps(reader) === 1 ? "second look, no time" : `second look, ${taps(reader)} taps`) : "plain SAE");
  const short = (reader) => ({ truth: "truth", token: "token", past: "past" }[reader] || (taps(reader) ? `K = ${taps(reader)}` : "plain"));
  const values = (name) => [...new Set(grid().map((one) => one[name]))].sort((a, b) => a - b);
  const variants = (here) => Object.keys(about().variants).filter((name) => taps(name) && name in here.found).sort((a, b) => taps(a) - taps(b));
  const f1 = (here, reader) => (here.found[reader] || [])[kind];
  const move = (changes) => {
    for (const [name, value] of Object.entries(changes)) model.set(name, value);
    const there = world(), can = variants(there);
    if (!can.includes(model.get("variant"))) model.set("variant", can.at(-1));
    model.save_changes();
  };

  // -- what is moved ----------------------------------------------------------------------------------------------------
  function slider(label, count, at, said, set, title) {
    const output = h("output", {});
    const input = h("input", { type: "range", min: 0, step: 1, "aria-label": label, title, oninput: () => set(Number(input.value)) });
    return { element: h("label", { class: "tsae-slider" }, h("span", {}, label, " ", output), input), draw() {
      input.max = count() - 1;
      input.value = at();
      input.setAttribute("aria-valuetext", said());
      output.textContent = said();
    } };
  }
  const onGrid = (run_length, noise) => grid().find((one) => one.run_length === run_length && one.noise === noise);
  const nearest = (name) => values(name).reduce((best, value, i, all) => (Math.abs(value - world()[name]) < Math.abs(all[best] - world()[name]) ? i : best), 0);
  const axis = (label, name, title) => slider(label, () => values(name).length, () => nearest(name), () => String(world()[name]), (i) => {
    const point = { run_length: values("run_length")[nearest("run_length")], noise: values("noise")[nearest("noise")], [name]: values(name)[i] };
    move({ world: onGrid(point.run_length, point.noise).name });
  }, title);
  const sliders = [
    axis("run length", "run_length", "tokens for which a slow feature stays on, in the mean"),
    axis("noise", "noise", "standard deviation of each number that is seen"),
    slider("taps K", () => variants(world()).length, () => variants(world()).indexOf(model.get("variant")), () => (taps(model.get("variant")) === 1 ? "1, no time" : String(taps(model.get("variant")))), (i) => move({ variant: variants(world())[i] }), "tokens that the second look reads, its own and those before"),
    slider("document", () => world().documents, () => model.get("document") % world().documents, () => String(model.get("document") % world().documents), (i) => move({ document: i }), "held-out documents: no SAE was trained on them"),
  ];
  const ownButton = h("button", { class: "tsae-small", onclick: () => move({ world: own() }) }, "own world");

  // -- one document -----------------------------------------------------------------------------------------------------
  const lanes = h("div", { class: "tsae-lanes-of-time" });
  function drawing(answer) {
    const codes = floats(answer.buffers[0]), { readers, features, tokens } = answer, rowHeight = 9, gap = 8, left = 86, width = 520, cell = (width - left) / tokens;
    const at = (reader, feature, token) => codes[(reader * features.length + feature) * tokens + token];
    const truth = readers.indexOf("truth"), block = readers.length * rowHeight + gap, parts = [];
    features.forEach((feature, f) => {
      parts.push(h("text", { class: "tsae-of", x: 0, y: f * block + rowHeight }, feature));
      readers.forEach((reader, r) => {
        const y = f * block + r * rowHeight, strongest = Math.max(1e-9, ...Array.from({ length: tokens }, (_, t) => at(r, f, t)));
        parts.push(h("text", { x: left - 4, y: y + rowHeight - 2, "text-anchor": "end" }, short(reader)));
        parts.push(h("line", { x1: left, x2: width, y1: y + rowHeight - 0.5, y2: y + rowHeight - 0.5 }));
        for (let t = 0; t < tokens; t += 1) {
          const said = at(r, f, t) > 0, is = at(truth, f, t) > 0;
          if (!said && !is) continue;
          const name = r === truth ? "tsae-true" : said && is ? "tsae-hit" : said ? "tsae-false" : "tsae-missed";
          const size = { "tsae-false": 0.5, "tsae-missed": 0.22 }[name] || 0.45 + 0.55 * (at(r, f, t) / strongest);
          parts.push(h("rect", { class: name, x: left + t * cell, y: y + (rowHeight - 1) * (1 - size), width: Math.max(1, cell - 1), height: (rowHeight - 1) * size }));
        }
      });
    });
    return h("svg", { viewBox: `0 0 ${width} ${Math.max(20, features.length * block)}`, role: "img", "aria-label": `${features.length} planted features along document ${model.get("document")}, token by token` }, parts);
  }
  function mistakes(answer) {
    return table(["tokens, over all slow features", "missed", "in vain"], Object.entries(answer.mistakes).map(([reader, both]) => [named(reader), ...both]));
  }
  function drawLanes() {
    const question = { world: world().name, variant: model.get("variant"), document: model.get("document") };
    const key = JSON.stringify([question, question.world === own() ? made : 0]);
    root.dataset.asked = key;
    into(lanes, ask(key, "look", question), (answer) => {
      painted().then(() => { root.dataset.shown = key; });
      const chart = answer.features.length ? drawing(answer) : h("p", { class: "tsae-notice" }, "No feature is on in this document: take another.");
      const figure = withTable("along the document", chart, () => mistakes(answer));
      figure.querySelector("button").textContent = "mistakes";
      figure.querySelector("button").title = "counted over all slow features of this document";
      return figure;
    });
  }

  // -- in all -----------------------------------------------------------------------------------------------------------
  const numbers = h("div", {}), phases = h("div", { class: "tsae-phases" }), sentence = h("p", { class: "tsae-said", role: "status" });
  const signed = (value) => (Number.isNaN(value) ? "–" : `${value <= -0.0005 ? "−" : "+"}${Math.abs(value).toFixed(3).replace(/^0/, "")}`);
  const gains = (here, variant) => { // of the whole, by looking again, by time, and how much room a past-only oracle has
    const [simple, again, reads, token, past] = [plain(), "taps-1", variant, "token", "past"].map((reader) => f1(here, reader));
    return { whole: reads - simple, again: again - simple, time: reads - again, room: past - token };
  };
  function drawNumbers() {
    const here = world(), variant = model.get("variant");
    const readers = [...new Set([plain(), "taps-1", variant, "token", "past"])];
    fill(numbers, h("table", { class: "tsae-table tsae-found" }, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "F1, all held-out documents"), KINDS.map((name, i) => h("th", { scope: "col" },
      h("button", { class: "tsae-small", "aria-pressed": String(kind === i), title: `show the gains for ${name} features`, onclick: () => { kind = i; draw(); numbers.querySelectorAll("button")[i].focus(); } }, name))))),
    h("tbody", {}, readers.map((reader) => h("tr", { class: reader === variant ? "tsae-here" : null }, h("td", {}, named(reader)), (here.found[reader] || []).map((value) => h("td", {},
      h("span", { class: `tsae-f1${reader in ORACLES ? " tsae-oracle" : ""}`, style: `--part: ${(100 * value).toFixed(1)}%` }, fixed(value, 3)))))))));
    const gain = gains(here, variant), k = taps(variant);
    sentence.textContent = `Runs of ${here.run_length} tokens, noise ${here.noise}, ${KINDS[kind]} features: ${signed(gain.whole)} over the plain SAE; ${signed(gain.again)} of it by looking again`
      + (k > 1 ? `, ${signed(gain.time)} by time (K = ${k}).` : ", K = 1 has no time.") + ` An oracle gains ${signed(gain.room)} by the past.`;
  }
  const onAll = () => { const all = variants(grid()[0]); return all.includes(model.get("variant")) ? model.get("variant") : all.at(-1); }; // an own K is not on the grid
  function phase(title, which, hint) {
    const variant = onAll(), lengths = values("run_length"), noises = values("noise");
    return h("table", { class: "tsae-phase", "aria-label": title }, h("caption", { title: hint }, title),
      h("tbody", {}, [...noises].reverse().map((noise) => h("tr", {}, h("th", { scope: "row" }, noise), lengths.map((length) => {
        const there = onGrid(length, noise), value = gains(there, variant)[which];
        const chosen = there.name === world().name, part = Math.min(1, Math.abs(value || 0) / 0.3);
        return h("td", {}, h("button", { class: value <= -0.0005 ? "tsae-loss" : null, style: `--part: ${Math.round(60 * part)}%`, "aria-pressed": String(chosen), "data-cell": `${which} ${there.name}`, title: `run length ${length}, noise ${noise}`, onclick: () => move({ world: there.name }) }, signed(value)));
      }))), h("tr", {}, h("th", {}), lengths.map((length) => h("th", { scope: "col" }, length)))));
  }
  function drawPhases() {
    const focused = phases.contains(document.activeElement) ? document.activeElement.dataset.cell : null, k = taps(onAll());
    fill(phases, phase(`K = ${k} over plain`, "whole", "gain in F1 over the plain SAE"), phase("by a second look", "again", "K = 1 over plain: no time in it"), phase(`by time, K = ${k}`, "time", "over K = 1"), phase("an oracle, by the past", "room", "the past-only oracle over the one that reads token by token"));
    if (focused) phases.querySelector(`[data-cell="${focused}"]`)?.focus();
  }

  // -- a world of one's own ---------------------------------------------------------------------------------------------
  const field = (label, value, step, min) => h("label", {}, label, " ", h("input", { type: "number", value, step, min, "aria-label": `own ${label}` }));
  const fields = { run_length: field("run length", 20, 1, 1), noise: field("noise", 0.3, 0.05, 0), taps: field("K", 4, 1, 1), steps: field("steps", 500, 50, 2) };
  const news = h("span", { class: "tsae-faint", role: "status" }), bar = h("progress", { max: 1, value: 0, hidden: true, "aria-label": "training" });
  const busy = () => ["training", "measuring"].includes(model.get("_progress").state);
  const button = h("button", { onclick: () => {
    const stop = busy(), question = Object.fromEntries(Object.entries(fields).map(([name, label]) => [name, label.querySelector("input").valueAsNumber]));
    backend.ask(stop ? "stop" : "train", stop ? {} : question).catch((error) => { news.textContent = error.message; });
  } }, "Train");
  function drawProgress() {
    const now = model.get("_progress"), part = now.steps ? now.step / now.steps : 0;
    button.textContent = busy() ? "Stop" : "Train";
    bar.hidden = !busy();
    bar.value = part;
    news.textContent = { training: `step ${now.step} of ${now.steps}`, measuring: "measuring, with the oracles", stopped: now.text, done: "done: shown above as own world" }[now.state] || "Three SAEs: plain, second look, and with K taps.";
    root.dataset.training = now.state || "";
  }

  function draw() {
    sliders.forEach((one) => one.draw());
    const there = about().worlds.find((one) => one.name === own());
    ownButton.hidden = !there;
    if (there) ownButton.textContent = `own: length ${there.run_length}, noise ${there.noise}`;
    ownButton.setAttribute("aria-pressed", String(world().name === own()));
    drawNumbers();
    drawPhases();
    drawLanes();
  }
  const legend = h("p", { class: "tsae-faint tsae-legend" }, h("i", { class: "tsae-hit" }), " found ", h("i", { class: "tsae-missed" }), " missed ", h("i", { class: "tsae-false" }), " said in vain");
  fill(root, h("div", { class: "tsae-row tsae-moved" }, sliders.map((one) => one.element), ownButton), sentence,
    h("div", { class: "tsae-sides" }, h("section", { "aria-label": "document" }, lanes, legend), h("section", { "aria-label": "numbers" }, numbers, h("h4", {}, "gain in F1: run length → noise ↑"), phases)),
    h("div", { class: "tsae-row tsae-own" }, h("b", {}, "your own world"), Object.values(fields), button, bar, news));
  let waiting = false; // several of these change together
  const later = () => { if (!waiting) { waiting = true; queueMicrotask(() => { waiting = false; draw(); }); } };
  const renewed = () => { made += 1; later(); };
  const follow = { "change:world": later, "change:variant": later, "change:document": later, "change:_about": renewed, "change:_progress": drawProgress };
  for (const [event, listener] of Object.entries(follow)) model.on(event, listener);
  draw();
  drawProgress();
  ownKeys(root);
  return () => { for (const [event, listener] of Object.entries(follow)) model.off(event, listener); backend.close(); };
}

export default { render };
