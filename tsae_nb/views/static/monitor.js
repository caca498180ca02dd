import { aside, drawnAs, endsOf, isCount, loggedAt, onAxis, placeOf, scaleOf, smoothed, termOrder, together } from "./curves.js";
import { colourAt, drawnToFit, kernelBackend, notDrawn, rootIn } from "./page.js";
import { Awaited, Figure, Table, html } from "./parts.js";
import { amount, duration, floats, isolated, missing, number } from "./values.js";
import { Component, render as place } from "./vendor/preact.mjs";
import uPlot from "./vendor/uPlot.js";

/** @typedef {import("./page.js").Model} Model */
/** @typedef {{name: string, look: number, stride: number, data: Record<string, Float32Array>, row: any}} Run */
/** @typedef {{term: string, x: number}} Pointed */
/** @typedef {{min: number, max: number} | null} Zoom */

// Colour and dashes differ together, so that curves can be told apart without colour; 64 runs have a style of their own.
const DASHES = [[], [7, 3], [2, 3], [9, 3, 2, 3], [4, 2, 1, 2, 1, 2], [12, 4], [1, 2], [6, 2, 6, 2, 2, 2]];
/** @param {number} look */
const colourOf = (look) => `--tsae-run${look % 8}`;
/** @param {number} look */
const dashOf = (look) => DASHES[(look + Math.floor(look / 8)) % 8];
/** @type {Record<string, string>} */
const STATES = { complete: "✓ complete", running: "▶ running", measuring: "… measuring", stopped: "■ stopped" };
const WHOLE = Array.from({ length: 9 }, (_, i) => 10 ** i).flatMap((one) => [one, 2 * one, 5 * one]); // between ticks of counts
const SMOOTHINGS = [[0, "as logged"], [0.6, "a little"], [0.9, "smooth"], [0.97, "very smooth"]];

/** What is on the axis: steps, or the tokens that were read until then. @param {Run} run @param {boolean} tokens */
function placesOf(run, tokens) {
  const steps = run.data.step || new Float32Array(0), each = run.row.tokens;
  if (!tokens) return steps;
  return each ? Float64Array.from(steps, (step) => step * each) : new Float64Array(0);
}

/** Whether two lists hold the very same things. @param {unknown[]} one @param {unknown[]} other */
function same(one, other) {
  return one.length === other.length && one.every((value, i) => Object.is(value, other[i]));
}

/**
 * One term's curves in a chart, of which `shown` says which are seen: ticking a run makes no new chart and no new data. Dragging along
 * the axis zooms all charts, a double click goes back; all show the same place.
 * @typedef {{term: string, runs: Run[], shown: boolean[], xs: number[], at: Int32Array[], logarithmic: boolean, weight: number, unit: string, zoom: Zoom,
 *   last: number, sync: string, point: (pointed: Pointed) => void, look: (zoom: Zoom) => void}} CurveProps
 * @extends {Component<CurveProps, {}>}
 */
class Curve extends Component {
  /** @param {CurveProps} props */
  constructor(props) {
    super(props);
    /** @type {HTMLElement | null} */
    this.element = null;
    /** @type {uPlot | null} */
    this.chart = null;
    this.made = "";
    /** @type {unknown[]} what the chart was last given */
    this.given = [];
  }
  componentDidMount() {
    if (!this.element) return;
    drawnToFit(this.element, () => this.fit());
    this.draw();
  }
  componentDidUpdate() { this.draw(); }
  componentWillUnmount() {
    if (this.element) notDrawn(this.element);
    this.chart?.destroy();
  }
  fit() {
    if (!this.chart || !this.element || !this.element.clientWidth) return;
    this.chart.setSize({ width: this.element.clientWidth, height: this.element.clientHeight }); // draws again, in the theme's colours
  }
  draw() {
    const { term, runs, shown, xs, logarithmic, weight, unit, zoom, last } = this.props;
    const given = [xs, weight, zoom?.min, zoom?.max, last, ...runs.map((run) => run.data[term])], renewed = !same(given, this.given);
    const kind = JSON.stringify([runs.map((run) => run.look), logarithmic, weight > 0, unit]);
    if (kind !== this.made) {
      this.chart?.destroy();
      this.chart = null;
    }
    this.made = kind;
    this.given = given;
    const chart = this.chart;
    if (!chart) {
      if (this.element) this.chart = new uPlot(this.options(this.element), this.data(), this.element);
      return;
    }
    const lines = weight > 0 ? 2 : 1, other = chart.series.flatMap((series, i) => (i && series.show !== shown[Math.floor((i - 1) / lines)] ? [i] : []));
    if (!renewed && !other.length) return; // as where somebody points
    chart.batch(() => {
      other.forEach((i) => chart.setSeries(i, { show: !chart.series[i].show }));
      if (renewed) chart.setData(this.data());
    });
  }
  /** @returns {uPlot.AlignedData} */
  data() {
    const { term, runs, xs, at, logarithmic, weight } = this.props;
    const columns = runs.flatMap((run, i) => {
      const values = run.data[term], column = onAxis(xs.length, at[i], values, logarithmic);
      return weight > 0 ? [onAxis(xs.length, at[i], smoothed(values, weight), logarithmic), column] : [column];
    });
    return /** @type {uPlot.AlignedData} */ (/** @type {unknown} */ ([xs, ...columns]));
  }
  /** @param {HTMLElement} element @returns {uPlot.Options} */
  options(element) {
    const { term, runs, shown, logarithmic, weight, unit, sync } = this.props;
    /** @param {string} name */
    const colour = (name) => () => colourAt(element, name);
    /** @param {number} i @param {Partial<uPlot.Series>} more @returns {uPlot.Series} */
    const series = (i, more) => ({ label: runs[i].name, show: shown[i], stroke: colour(colourOf(runs[i].look)), width: 1.6, dash: dashOf(runs[i].look), points: { show: false }, ...more });
    const axis = { stroke: colour("--tsae-faint"), font: "10px system-ui, sans-serif", grid: { stroke: colour("--tsae-line"), width: 0.5 },
      ticks: { stroke: colour("--tsae-line"), width: 0.5, size: 4 } };
    return {
      width: element.clientWidth || 300, height: element.clientHeight || 160, padding: [8, 18, 0, 0],
      legend: { show: false },
      cursor: {
        sync: { key: sync, scales: ["x", null], filters: { pub: (type) => type === "mousemove" || type === "mouseleave" } },
        drag: { x: true, y: false, setScale: false }, points: { show: false }, y: false,
        bind: { dblclick: () => () => { this.props.look(null); return null; } },
      },
      scales: {
        x: { time: false, range: () => { const { zoom, last } = this.props; return zoom ? [zoom.min, zoom.max] : [0, last]; } },
        y: logarithmic ? { distr: 3 } : { range: (_, low, high) => endsOf(low, high) || uPlot.rangeNum(low, high, 0.1, true) },
      },
      series: [{ label: unit }, ...runs.flatMap((_, i) => (weight > 0 ? [series(i, {}), series(i, { alpha: 0.25, width: 1, dash: [] })] : [series(i, {})]))],
      axes: [
        { ...axis, size: 18, label: unit, labelSize: 14, labelGap: 0, labelFont: axis.font, gap: 2, values: (_, ticks) => ticks.map((tick) => (unit === "step" ? tick.toLocaleString("en") : amount(tick))) },
        { ...axis, size: 48, gap: 3, ...(isCount(term) ? { incrs: WHOLE } : {}), values: (_, ticks) => ticks.map((tick) => (tick === null ? "" : number(tick))) },
      ],
      hooks: {
        setSelect: [(chart) => {
          const { left, width } = chart.select;
          if (width < 4) return;
          this.props.look({ min: chart.posToVal(left, "x"), max: chart.posToVal(left + width, "x") });
          chart.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
        }],
        ready: [(chart) => {
          chart.over.addEventListener("mousemove", (event) => {
            this.props.point({ term, x: chart.posToVal(event.offsetX, "x") });
          });
        }],
      },
    };
  }
  /** @param {CurveProps} props */
  render({ term, shown, at, unit, last, logarithmic }) {
    const seen = at.filter((_, i) => shown[i]), points = seen.reduce((sum, one) => sum + one.length, 0);
    return html`<div class="tsae-curve" role="img" aria-label="${term} over ${unit} of ${seen.length} runs; its table has the numbers"
      data-term=${term} data-points=${points} data-last=${last} data-scale=${logarithmic ? "logarithmic" : "linear"}
      ref=${(/** @type {HTMLElement | null} */ element) => { this.element = element; }}></div>`;
  }
}

/** @param {{run: Run}} props */
function Swatch({ run }) {
  return html`<svg class="tsae-swatch" viewBox="0 0 34 10" role="presentation">
    <polyline points="0,5 34,5" style="stroke: var(${colourOf(run.look)})" stroke-dasharray=${dashOf(run.look).join(" ")} stroke-width="2.5" /></svg>`;
}

/** `pace`: whether some run is under way, so that there are columns of speed and time left. @param {{run: Run, shown: boolean, pace: boolean, toggle: () => void}} props */
function RunRow({ run, shown, pace, toggle }) {
  const row = run.row;
  return html`<tr>
    <td><label><input type="checkbox" checked=${shown} aria-label="show ${run.name}" onChange=${toggle} /> <bdi>${run.name}</bdi></label></td>
    <td><${Swatch} run=${run} /></td>
    <td>${STATES[row.state] || ""}${row.resumed ? ` (resumed ${row.resumed}×)` : ""}</td>
    <td>${row.steps ? `${row.step}/${row.steps}` : row.step ?? ""}</td>
    ${pace ? html`<td>${missing(row.rate) ? "" : `${number(row.rate, 2)} steps/s${row.tokens ? `, ${amount(row.rate * row.tokens)} tokens/s` : ""}`}</td>
    <td>${missing(row.left) ? "" : duration(row.left)}</td>` : null}
    <td>${number(row.loss)}</td><td>${number(row.l0)}</td>
    <td>${missing(row.dead) ? "–" : `${number(row.dead)}${row.features ? `/${row.features}` : ""}`}</td>
    <td>${row.alerts.length ? html`<span class="tsae-alert">${row.alerts.join("; ")}</span>` : ""}</td>
  </tr>`;
}

/** The settings in which runs differ. @param {{names: string[], rows: [string, unknown[]][]}} answer */
function Differences({ names, rows }) {
  /** @param {unknown} value */
  const said = (value) => (value === null || value === undefined ? "–" : typeof value === "object" ? JSON.stringify(value).replaceAll('"', "").replaceAll(":", " ").replaceAll(",", ", ") : String(value));
  if (names.length < 2) return html`<p class="tsae-faint">Two runs with settings are needed to say in what they differ.</p>`;
  if (!rows.length) return html`<p class="tsae-faint">These ${names.length} runs have the same settings.</p>`;
  return html`<div class="tsae-scroll" tabindex="0" role="group" aria-label="settings that differ">
    <${Table} name="tsae-differ" head=${["setting", ...names]} rows=${rows.map(([key, values]) => [key, ...values.map(said)])} /></div>`;
}

/**
 * @typedef {{model: Model, root: HTMLElement}} MonitorProps
 * @typedef {{logarithmic: boolean, all: boolean, tokens: boolean, weight: number, zoom: Zoom, pointed: Pointed | null, news: string, open: boolean}} MonitorState
 * @extends {Component<MonitorProps, MonitorState>}
 */
class Monitor extends Component {
  /** @param {MonitorProps} props */
  constructor(props) {
    super(props);
    /** @type {MonitorState} */
    this.state = { logarithmic: true, all: false, tokens: false, weight: 0, zoom: null, pointed: null, news: "", open: false };
    /** @type {Map<string, Run>} */
    this.runs = new Map();
    /** @type {Set<string>} */
    this.hidden = new Set();
    this.about = props.model.get("_about");
    this.backend = kernelBackend(props.model);
    this.sync = `tsae-${Math.random()}`; // of this view's charts
    this.looks = this.drawn = this.ticks = 0;
    this.heard = Date.now();
    this.waiting = false;
    /** @type {{of: string, asked: Promise<any>}} */
    this.differing = { of: "", asked: Promise.resolve(null) };
    /** @type {{of: unknown[], xs: number[], at: Int32Array[]}} */
    this.axis = { of: [], xs: [], at: [] };
    this.receive = this.receive.bind(this);
    this.timer = this.frame = 0;
  }
  componentDidMount() {
    this.props.model.on("msg:custom", this.receive);
    this.ask("hello");
    this.timer = setInterval(() => {
      this.ask("alive");
      const silent = Math.round((Date.now() - this.heard) / 1000);
      this.setState({ news: silent > 8 ? `no news for ${silent} s: the kernel is busy or gone; run the cell again if it was restarted` : "" });
    }, 5000);
  }
  componentWillUnmount() {
    clearInterval(this.timer);
    cancelAnimationFrame(this.frame);
    this.props.model.off("msg:custom", this.receive);
    this.backend.close();
  }
  /** @param {string} kind */
  ask(kind) { this.backend.ask(kind).catch((error) => this.setState({ news: error.message })); }

  /** @param {any} content @param {DataView[]} buffers */
  receive(content, buffers) {
    if (content.kind === "trouble") this.setState({ news: content.error });
    if (content.kind !== "tick") return;
    this.heard = Date.now();
    for (const name of this.runs.keys()) if (!content.names.includes(name)) this.runs.delete(name);
    for (const row of content.rows) this.run(row.name).row = row;
    content.updates.forEach((/** @type {any} */ update, /** @type {number} */ i) => {
      const mine = this.run(update.name), part = floats(buffers[i]), names = ["step", ...update.terms];
      if (update.first) mine.data = {};
      mine.stride = update.stride;
      names.forEach((logged, row) => {
        const [name, values] = drawnAs(logged, part.subarray(row * update.points, (row + 1) * update.points));
        const old = mine.data[name] || new Float32Array(0), joined = new Float32Array(old.length + update.points);
        joined.set(old);
        joined.set(values, old.length);
        mine.data[name] = joined;
      });
    });
    if (content.rows.length || content.updates.length || !this.drawn) this.later();
    this.ticks += 1;
    this.props.root.dataset.ticks = String(this.ticks);
  }
  /** @param {string} name @returns {Run} */
  run(name) {
    const known = this.runs.get(name);
    if (known) return known;
    const made = { name, look: this.looks++, stride: 1, data: {}, row: { name, state: "", alerts: [] } };
    this.runs.set(name, made);
    return made;
  }
  later() { // at most a few times a second, however much arrives
    if (this.waiting) return;
    this.waiting = true;
    setTimeout(() => {
      this.waiting = false;
      this.drawn = Date.now();
      this.forceUpdate();
    }, Math.max(0, 250 - (Date.now() - this.drawn)));
  }

  /** A run is shown, or no longer; ticks that come together are drawn together. @param {string} name */
  toggle(name) {
    if (!this.hidden.delete(name)) this.hidden.add(name);
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => this.forceUpdate());
  }
  /** The places of all runs on one axis, hidden ones too; the same as before while no run has got a new one. @param {Run[]} runs @param {boolean} tokens */
  places(runs, tokens) {
    const of = [tokens, ...runs.flatMap((run) => [run.data.step, tokens && run.row.tokens])];
    if (!same(of, this.axis.of)) this.axis = { of, ...together(runs.map((run) => placesOf(run, tokens))) };
    return this.axis;
  }

  /** What the chart pointed at says of each run, at the place that all charts show. @param {Run[]} shown @param {string} unit */
  readout(shown, unit) {
    const { pointed, tokens, weight } = this.state;
    if (!pointed) return "Point at a curve: its values stand here, and all charts show the same place. Drag along an axis to zoom, double-click to go back.";
    const said = shown.filter((run) => run.data[pointed.term]).map((run) => {
      const at = placeOf(placesOf(run, tokens), pointed.x), values = run.data[pointed.term];
      return `${isolated(run.name)} ${number(loggedAt(values, at))}${weight > 0 ? ` (smoothed ${number(loggedAt(smoothed(values, weight), at))})` : ""}`;
    });
    return `${pointed.term} at ${unit === "step" ? `step ${Math.round(pointed.x)}` : `${amount(pointed.x)} tokens`}: ${said.join(" · ")}`;
  }
  /** @param {Run[]} shown */
  askDifferences(shown) {
    const names = shown.map((run) => run.name), of = JSON.stringify(names);
    if (of !== this.differing.of) this.differing = { of, asked: this.backend.ask("settings", { runs: names }) };
    return this.differing.asked;
  }

  /** @param {MonitorProps} _ @param {MonitorState} state */
  render(_, { logarithmic, all, weight, zoom, pointed, news, open, ...state }) {
    const folder = this.about.folder, runs = [...this.runs.values()];
    const shown = runs.filter((run) => !this.hidden.has(run.name)), pace = runs.some((run) => run.row.state === "running");
    const counted = shown.length > 0 && shown.every((run) => run.row.tokens), tokens = state.tokens && counted, unit = tokens ? "tokens" : "step";
    const names = new Set(shown.flatMap((run) => Object.keys(run.data)));
    names.delete("step");
    const terms = termOrder(names).filter((name) => all || !aside(name));
    const { xs, at } = this.places(runs, tokens), ends = runs.flatMap((run, i) => (at[i].length && !this.hidden.has(run.name) ? [xs[at[i][at[i].length - 1]]] : []));
    const last = Math.max(1, ...ends);
    /** @param {string} text @param {string} title @param {boolean} on @param {Partial<MonitorState>} changed @param {boolean} can */
    const toggle = (text, title, on, changed, can = true) => html`<button class="tsae-small" title=${title} aria-pressed=${String(on)} disabled=${!can}
      onClick=${() => this.setState(changed)}>${text}</button>`;
    const chart = (/** @type {string} */ term) => {
      const all = runs.map((run, i) => ({ run, i })).filter(({ run }) => run.data[term]), seen = all.map(({ run }) => !this.hidden.has(run.name));
      const mine = all.filter((_, i) => seen[i]), scale = scaleOf(term, mine.map(({ run }) => run.data[term]), logarithmic);
      return html`<${Figure} key=${term} about=${term} title=${html`${term} <span class="tsae-faint">${scale.said}</span>`} table=${() => html`<${Table}
          head=${["run", unit, term]} rows=${mine.map(({ run }) => {
            const places = placesOf(run, tokens), here = pointed ? placeOf(places, pointed.x) : places.length - 1;
            return [run.name, tokens ? amount(places[here]) : places[here], number(loggedAt(run.data[term], here))];
          })} />`}>
        <${Curve} term=${term} runs=${all.map(({ run }) => run)} shown=${seen} xs=${xs} at=${all.map(({ i }) => at[i])} logarithmic=${scale.logarithmic} weight=${weight} unit=${unit}
          zoom=${zoom} last=${last} sync=${this.sync} point=${(/** @type {Pointed} */ where) => this.setState({ pointed: where })}
          look=${(/** @type {Zoom} */ where) => this.setState({ zoom: where })} />
      <//>`;
    };
    return html`<div class="tsae-row">
        <h3 title=${folder}>runs below ${folder.replace(/^.*(?=(\/[^/]+){2}$)/, "…")}</h3>
        ${toggle("log", "logarithmic axes, where all values are above 0", logarithmic, { logarithmic: !logarithmic })}
        ${toggle("all terms", "weights, gradients and the rest too", all, { all: !all })}
        ${toggle("tokens", counted ? "tokens on the axis, in place of steps" : "some run does not say how many tokens a step has", tokens,
          { tokens: !tokens, zoom: null, pointed: null }, counted)}
        <label>curves <select aria-label="smoothing" value=${weight} onChange=${(/** @type {any} */ event) => this.setState({ weight: Number(event.target.value) })}>
          ${SMOOTHINGS.map(([value, name]) => html`<option value=${value}>${name}</option>`)}</select></label>
        ${zoom ? html`<button class="tsae-small" onClick=${() => this.setState({ zoom: null })}>show all (now ${unit} ${amount(zoom.min)} to ${amount(zoom.max)})</button>` : null}
        <span class="tsae-faint" role="status">${news}</span>
      </div>
      ${runs.length ? html`<div class="tsae-scroll" tabindex="0" role="group" aria-label="runs"><table class="tsae-table tsae-runs">
          <thead><tr>${["run", "", "state", "step", ...(pace ? ["speed", "left"] : []), "loss", "L0", "dead", "alerts"].map((name) => html`<th scope="col">${name}</th>`)}</tr></thead>
          <tbody>${runs.map((run) => html`<${RunRow} key=${run.name} run=${run} shown=${!this.hidden.has(run.name)} pace=${pace} toggle=${() => this.toggle(run.name)} />`)}</tbody></table></div>
        <details onToggle=${(/** @type {any} */ event) => this.setState({ open: event.target.open })}><summary>settings that differ</summary>
          ${open ? html`<${Awaited} asked=${this.askDifferences(shown)} draw=${(/** @type {any} */ answer) => Differences(answer)} saying="reading settings …" />` : null}</details>
        <p class="tsae-faint tsae-readout" aria-live="polite">${this.readout(shown, unit)}</p>`
        : html`<p class="tsae-notice">No run below ${folder} has written a step yet; this view waits for it.</p>`}
      <div class="tsae-curves">${runs.length ? terms.map(chart) : null}</div>`;
  }
}

/** anywidget's entry point. @param {{model: Model, el: HTMLElement}} given */
function render({ model, el }) {
  const root = rootIn(el, "tsae-monitor");
  place(html`<${Monitor} model=${model} root=${root} />`, root);
  return () => place(null, root);
}

export default { render };
