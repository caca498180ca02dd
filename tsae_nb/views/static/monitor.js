import { fill, h, table, withTable } from "./common.js";
import { kernelBackend, ownKeys } from "./page.js";
import { floats, number } from "./values.js";

// Colour and dashes differ together, so that curves can be told apart without colour; 64 runs have a style of their own.
const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a7a7a", "#8c6d1f"];
const DASHES = ["", "7 3", "2 3", "9 3 2 3", "4 2 1 2 1 2", "12 4", "1 2", "6 2 6 2 2 2"];
const STATES = { complete: "✓ complete", running: "▶ running", measuring: "… measuring", stopped: "■ stopped" };

/** Terms in the order of interest: the loss, what it is made of, then what is watched. */
function termOrder(names) {
  const rank = (name) => (name === "loss" ? 0 : name.startsWith("term/") ? 1 : /^l0/.test(name) ? 2 : /^dead/.test(name) ? 3 : name.startsWith("weight/") || name.startsWith("gradient/") ? 5 : 4);
  return [...names].sort((a, b) => rank(a) - rank(b) || a.localeCompare(b));
}

/** One chart: a line per run over the steps; `cursor` is the step pointed at in any chart. */
function curve(term, runs, { logarithmic, cursor, point, last }) {
  const width = 320, height = 150, left = 54, bottom = 18, top = 6;
  const series = runs.filter((run) => run.data[term]).map((run) => ({ run, steps: run.data.step, values: run.data[term] }));
  let low = Infinity, high = -Infinity;
  for (const { values } of series) {
    for (let i = 0; i < values.length; i += 1) {
      const value = values[i];
      if (!Number.isFinite(value) || (logarithmic && value <= 0)) continue;
      if (value < low) low = value;
      if (value > high) high = value;
    }
  }
  if (low > high) return h("p", { class: "tsae-faint" }, logarithmic ? "no positive values" : "no values yet");
  const scale = logarithmic ? Math.log10 : (value) => value;
  const [bottomValue, topValue] = [scale(low), scale(high)], range = topValue - bottomValue || 1;
  const x = (step) => left + (step / last) * (width - left - 4), y = (value) => height - bottom - ((scale(value) - bottomValue) / range) * (height - bottom - top);
  const lines = series.map(({ run, steps, values }) => {
    const skip = Math.max(1, Math.floor(values.length / 600));
    let path = "", pen = "M"; // lifted at an infinite value, and at one that a logarithmic axis lacks
    for (let i = 0; i < values.length; i += skip) {
      if (Number.isNaN(values[i])) continue; // not logged at every step
      const drawn = Number.isFinite(values[i]) && (!logarithmic || values[i] > 0);
      if (drawn) path += `${pen}${x(steps[i]).toFixed(1)},${y(values[i]).toFixed(1)}${pen === "M" ? "h.01" : ""}`;
      pen = drawn ? "L" : "M";
    }
    return h("path", { d: path, stroke: run.colour, "stroke-dasharray": run.dash, "data-run": run.name });
  });
  const middle = logarithmic ? 10 ** ((bottomValue + topValue) / 2) : (low + high) / 2;
  const chart = h("svg", { class: "tsae-curve", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${term} over steps`, "data-term": term, "data-last": last, "data-points": Math.max(...series.map(({ values }) => values.length)) },
    [...new Set([low, middle, high])].map((value) => [h("line", { x1: left, x2: width - 4, y1: y(value), y2: y(value) }), h("text", { x: left - 4, y: y(value) + 3, "text-anchor": "end" }, number(value))]),
    h("text", { x: left, y: height - 5 }, "0"), h("text", { x: width - 4, y: height - 5, "text-anchor": "end" }, `step ${Math.round(last)}`), lines,
    cursor !== null ? h("line", { class: "tsae-cursor", x1: x(Math.min(cursor, last)), x2: x(Math.min(cursor, last)), y1: top, y2: height - bottom }) : null);
  chart.addEventListener("mousemove", (event) => {
    const box = chart.getBoundingClientRect();
    const place = ((event.clientX - box.left) / box.width) * width;
    point(Math.max(0, Math.min(last, Math.round(((place - left) / (width - left - 4)) * last))));
  });
  return chart;
}

function render({ model, el }) {
  const about = model.get("_about"), runs = new Map(), hidden = new Set();
  let placed = 0, logarithmic = true, cursor = null, heard = Date.now(), all = false, drawn = 0, waiting = false, tabled = "";
  const root = h("div", { class: "tsae tsae-monitor", tabindex: 0, "data-lm-suppress-shortcuts": "true" });
  const head = h("div", { class: "tsae-row" }), runTable = h("div", {}), readout = h("p", { class: "tsae-faint", "aria-live": "polite" }, "Point at a curve: all charts show the same step."), charts = h("div", { class: "tsae-curves" });
  const news = h("span", { class: "tsae-faint", role: "status" });
  const toggle = (text, title, get, set) => {
    const button = h("button", { class: "tsae-small", title, "aria-pressed": String(get()), onclick: () => { set(!get()); button.setAttribute("aria-pressed", String(get())); draw(); } }, text);
    return button;
  };
  fill(head, h("h3", { title: about.folder }, `runs below ${about.folder.replace(/^.*(?=(\/[^/]+){2}$)/, "…")}`), toggle("log", "logarithmic axes", () => logarithmic, (on) => { logarithmic = on; }),
    toggle("all terms", "weights, gradients and the rest too", () => all, (on) => { all = on; }), news);
  fill(root, head, runTable, readout, charts);
  el.append(root);
  const backend = kernelBackend(model);

  function receive(content, buffers) {
    if (content.kind === "trouble") news.textContent = content.error;
    if (content.kind !== "tick") return;
    heard = Date.now();
    for (const name of runs.keys()) if (!content.names.includes(name)) runs.delete(name);
    for (const row of content.rows) Object.assign(run(row.name), { row });
    content.updates.forEach((update, i) => {
      const mine = run(update.name), part = floats(buffers[i]), names = ["step", ...update.terms];
      if (update.first) mine.data = {};
      mine.stride = update.stride;
      names.forEach((name, row) => {
        const old = mine.data[name] || new Float32Array(0), joined = new Float32Array(old.length + update.points);
        joined.set(old);
        joined.set(part.subarray(row * update.points, (row + 1) * update.points), old.length);
        mine.data[name] = joined;
      });
    });
    if (content.rows.length || content.updates.length || !drawn) later();
    root.dataset.ticks = String(Number(root.dataset.ticks || 0) + 1);
  }
  function run(name) {
    if (!runs.has(name)) {
      const place = placed++;
      runs.set(name, { name, data: {}, colour: COLOURS[place % 8], dash: DASHES[(place + Math.floor(place / 8)) % 8], row: { name, state: "", alerts: [] } });
    }
    return runs.get(name);
  }
  function later() { // at most a few times a second, however much arrives
    if (waiting) return;
    waiting = true;
    setTimeout(() => { waiting = false; draw(); }, Math.max(0, 250 - (Date.now() - drawn)));
  }

  function draw() {
    drawn = Date.now();
    if (!runs.size) {
      fill(runTable, h("p", { class: "tsae-notice" }, `No run below ${about.folder} has written a step yet; this view waits for it.`));
      fill(charts);
      tabled = "";
      return;
    }
    const described = JSON.stringify([...runs.values()].map((one) => [one.row, hidden.has(one.name)]));
    if (described !== tabled) drawTable();
    tabled = described;
    drawCharts();
  }
  function drawTable() {
    const focused = runTable.contains(document.activeElement) ? document.activeElement.getAttribute("aria-label") : null;
    const top = runTable.firstChild?.scrollTop || 0;
    fill(runTable, h("div", { class: "tsae-scroll", tabindex: 0, role: "group", "aria-label": "runs" }, table(["run", "", "state", "step", "loss", "L0", "dead", "alerts"], [...runs.values()].map((one) => {
      const row = one.row;
      const box = h("input", { type: "checkbox", checked: !hidden.has(one.name), "aria-label": `show ${one.name}`, onchange: (event) => { event.target.checked ? hidden.delete(one.name) : hidden.add(one.name); draw(); } });
      return [h("label", {}, box, ` ${one.name}`),
        h("svg", { class: "tsae-swatch", viewBox: "0 0 34 10", role: "presentation" }, h("polyline", { points: "0,5 34,5", stroke: one.colour, "stroke-dasharray": one.dash, "stroke-width": 2.5 })),
        `${STATES[row.state] || ""}${row.resumed ? ` (resumed ${row.resumed}×)` : ""}`, row.steps ? `${row.step}/${row.steps}` : row.step ?? "", number(row.loss), number(row.l0),
        row.dead === null || row.dead === undefined ? "–" : `${number(row.dead)}${row.features ? `/${row.features}` : ""}`, row.alerts.length ? h("span", { class: "tsae-alert" }, row.alerts.join("; ")) : ""];
    }), { class: "tsae-table tsae-runs" })));
    runTable.firstChild.scrollTop = top;
    if (focused) [...runTable.querySelectorAll("input")].find((box) => box.getAttribute("aria-label") === focused)?.focus();
  }
  function drawCharts() {
    const shown = [...runs.values()].filter((one) => !hidden.has(one.name));
    const names = new Set(shown.flatMap((one) => Object.keys(one.data)));
    names.delete("step");
    const terms = termOrder(names).filter((name) => all || !/^(weight|gradient)\/|^learning_rate$|^gradient_norm$/.test(name));
    const last = Math.max(1, ...shown.map((one) => one.data.step?.at(-1) || 1));
    const focused = charts.contains(document.activeElement) ? document.activeElement.closest("[data-chart]")?.dataset.chart : null;
    const open = new Set([...charts.querySelectorAll('button[aria-pressed="true"]')].map((button) => button.closest("[data-chart]").dataset.chart));
    fill(charts, terms.map((term) => {
      const figure = withTable(term, curve(term, shown, { logarithmic: logarithmic && !/^dead|^l0|entropy/.test(term), cursor, point, last }), () => table(["run", "step", term],
        shown.filter((one) => one.data[term]).map((one) => {
          const at = cursor === null ? one.data.step.length - 1 : Math.max(0, one.data.step.findLastIndex((step) => step <= cursor));
          return [one.name, one.data.step[at], number(one.data[term][at])];
        })));
      figure.dataset.chart = term;
      if (open.has(term)) figure.querySelector("button").click();
      return figure;
    }));
    if (focused) charts.querySelector(`[data-chart="${focused}"] button`)?.focus();
  }
  function point(step) {
    cursor = step;
    readout.textContent = `step ${step}: ` + [...runs.values()].filter((one) => !hidden.has(one.name) && one.data.loss).map((one) => {
      const at = Math.max(0, one.data.step.findLastIndex((other) => other <= step));
      return `${one.name} ${number(one.data.loss[at])}`;
    }).join(" · ");
    for (const cursorLine of charts.querySelectorAll("svg.tsae-curve")) {
      const last = Number(cursorLine.dataset.last), place = 54 + (Math.min(step, last) / last) * 262;
      let line = cursorLine.querySelector(".tsae-cursor");
      if (!line) cursorLine.append((line = h("line", { class: "tsae-cursor", y1: 6, y2: 132 })));
      line.setAttribute("x1", place);
      line.setAttribute("x2", place);
    }
  }

  ownKeys(root);
  model.on("msg:custom", receive);
  const ask = (kind) => backend.ask(kind).catch((error) => { news.textContent = error.message; });
  ask("hello");
  const timer = setInterval(() => {
    ask("alive");
    const silent = Math.round((Date.now() - heard) / 1000);
    news.textContent = silent > 8 ? `no news for ${silent} s: the kernel is busy or gone; run the cell again if it was restarted` : "";
  }, 5000);
  return () => { clearInterval(timer); model.off("msg:custom", receive); backend.close(); };
}

export default { render };
