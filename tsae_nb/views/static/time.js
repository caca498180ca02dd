import { kernelBackend, rootIn } from "./page.js";
import { Awaited, Figure, Table, html } from "./parts.js";
import { fixed, floats, remembering, spaced } from "./values.js";
import { Component, render as place } from "./vendor/preact.mjs";

/** @typedef {import("./page.js").Model} Model */
/** @typedef {import("./page.js").Answer} Answer */
/** @typedef {{name: string, run_length: number, noise: number, documents: number, found: Record<string, number[]>}} World */
/** @typedef {"run_length" | "noise"} Axis */

/** @type {Record<string, string>} */
const ORACLES = { token: "oracle, this token", past: "oracle, and the past" };
const KINDS = ["slow", "fast"];

/** A gain with its sign, and no zero before the point. @param {number} value */
const signed = (value) => (Number.isNaN(value) ? "–" : `${value <= -0.0005 ? "−" : "+"}${Math.abs(value).toFixed(3).replace(/^0/, "")}`);

/** A range with what its value says. @param {{label: string, count: number, at: number, said: string, set: (i: number) => void, title: string}} props */
function Slider({ label, count, at, said, set, title }) {
  return html`<label class="tsae-slider"><span>${label} <output>${said}</output></span>
    <input type="range" min="0" step="1" max=${count - 1} value=${at} aria-label=${label} aria-valuetext=${said} title=${title}
      onInput=${(/** @type {any} */ event) => set(Number(event.target.value))} /></label>`;
}

/** Slow features along a document: what is, what is found, missed, and said in vain. @param {{answer: Answer, document: number, short: (reader: string) => string}} props */
function Lanes({ answer, document, short }) {
  const { readers, features, tokens } = answer, codes = floats(answer.buffers[0]);
  const rowHeight = 9, left = 86, width = 520, cell = (width - left) / tokens, block = readers.length * rowHeight + 8;
  const at = (/** @type {number} */ reader, /** @type {number} */ feature, /** @type {number} */ t) => codes[(reader * features.length + feature) * tokens + t];
  const truth = readers.indexOf("truth"), all = Array.from({ length: tokens }, (_, t) => t);
  const row = (/** @type {string} */ reader, /** @type {number} */ r, /** @type {number} */ f) => {
    const y = f * block + r * rowHeight, strongest = Math.max(1e-9, ...all.map((t) => at(r, f, t)));
    return [html`<text x=${left - 4} y=${y + rowHeight - 2} text-anchor="end">${short(reader)}</text>`,
      html`<line x1=${left} x2=${width} y1=${y + rowHeight - 0.5} y2=${y + rowHeight - 0.5} />`,
      all.map((t) => {
        const said = at(r, f, t) > 0, is = at(truth, f, t) > 0;
        if (!said && !is) return null;
        const name = r === truth ? "tsae-true" : said && is ? "tsae-hit" : said ? "tsae-false" : "tsae-missed";
        const size = name === "tsae-false" ? 0.5 : name === "tsae-missed" ? 0.22 : 0.45 + 0.55 * (at(r, f, t) / strongest);
        return html`<rect class=${name} x=${left + t * cell} y=${y + (rowHeight - 1) * (1 - size)} width=${Math.max(1, cell - 1)} height=${(rowHeight - 1) * size} />`;
      })];
  };
  return html`<svg viewBox="0 0 ${width} ${Math.max(20, features.length * block)}" role="img" aria-label="${features.length} planted features along document ${document}, token by token">
    ${features.map((/** @type {string} */ feature, /** @type {number} */ f) => [html`<text class="tsae-of" x="0" y=${f * block + rowHeight}>${feature}</text>`,
      readers.map((/** @type {string} */ reader, /** @type {number} */ r) => row(reader, r, f))])}</svg>`;
}

/**
 * @typedef {{model: Model, root: HTMLElement}} Props
 * @typedef {{kind: number, said: string}} State
 * @extends {Component<Props, State>}
 */
class Time extends Component {
  /** @param {Props} props */
  constructor(props) {
    super(props);
    /** @type {State} which features the numbers are of; what training says */
    this.state = { kind: 0, said: "" };
    this.backend = kernelBackend(props.model);
    this.ask = remembering(spaced((kind, question) => this.backend.ask(kind, question), 150)); // a slider passes many
    this.made = 0; // how often a world of one's own was trained
    this.waiting = false;
    const later = () => { // several of these change together
      if (this.waiting) return;
      this.waiting = true;
      queueMicrotask(() => { this.waiting = false; this.forceUpdate(); });
    };
    /** @type {Record<string, () => void>} */
    this.follow = { "change:world": later, "change:variant": later, "change:document": later, "change:_progress": () => { this.setState({ said: "" }); later(); },
      "change:_about": () => { this.made += 1; later(); } };
    for (const [event, listener] of Object.entries(this.follow)) props.model.on(event, listener);
  }
  componentWillUnmount() {
    for (const [event, listener] of Object.entries(this.follow)) this.props.model.off(event, listener);
    this.backend.close();
  }

  // -- what is where ----------------------------------------------------------------------------------------------------
  /** @param {string} name */
  get(name) { return this.props.model.get(name); }
  about() { return this.get("_about"); }
  /** @returns {World} */
  world() { return this.about().worlds.find((/** @type {World} */ one) => one.name === this.get("world")) || this.about().worlds[0]; }
  /** @returns {World[]} */
  grid() { return this.about().worlds.filter((/** @type {World} */ one) => one.name !== this.about().own); }
  /** @param {number} run_length @param {number} noise @returns {World} */
  onGrid(run_length, noise) { return /** @type {World} */ (this.grid().find((one) => one.run_length === run_length && one.noise === noise)); }
  /** @param {Axis} name */
  values(name) { return [...new Set(this.grid().map((one) => one[name]))].sort((a, b) => a - b); }
  /** @param {Axis} name */
  nearest(name) {
    const here = this.world()[name];
    return this.values(name).reduce((best, value, i, all) => (Math.abs(value - here) < Math.abs(all[best] - here) ? i : best), 0);
  }
  /** @param {string} variant @returns {number} */
  taps(variant) { return this.about().variants[variant]; }
  /** @param {World} here @returns {string[]} */
  variants(here) {
    return Object.keys(this.about().variants).filter((name) => this.taps(name) && name in here.found).sort((a, b) => this.taps(a) - this.taps(b));
  }
  /** @param {string} reader */
  named(reader) {
    if (ORACLES[reader]) return ORACLES[reader];
    if (reader === "truth") return "truth";
    const taps = this.taps(reader);
    return !taps ? "plain SAE" : taps === 1 ? "second look, no time" : `second look, ${taps} taps`;
  }
  /** @param {string} reader */
  short(reader) { return ["truth", "token", "past"].includes(reader) ? reader : this.taps(reader) ? `K = ${this.taps(reader)}` : "plain"; }
  /** @param {Record<string, unknown>} changes */
  move(changes) {
    const { model } = this.props;
    for (const [name, value] of Object.entries(changes)) model.set(name, value);
    const can = this.variants(this.world());
    if (!can.includes(this.get("variant"))) model.set("variant", can.at(-1));
    model.save_changes();
  }
  /** Of the whole, by looking again, by time, and how much room a past-only oracle has. @param {World} here @param {string} variant */
  gains(here, variant) {
    const [simple, again, reads, token, past] = [this.about().plain, "taps-1", variant, "token", "past"].map((reader) => (here.found[reader] || [])[this.state.kind]);
    return /** @type {Record<string, number>} */ ({ whole: reads - simple, again: again - simple, time: reads - again, room: past - token });
  }

  // -- what is moved ----------------------------------------------------------------------------------------------------
  sliders() {
    const here = this.world(), can = this.variants(here), variant = this.get("variant"), document = this.get("document") % here.documents;
    const axis = (/** @type {string} */ label, /** @type {Axis} */ name, /** @type {string} */ title) => {
      const values = this.values(name);
      return html`<${Slider} label=${label} count=${values.length} at=${this.nearest(name)} said=${String(here[name])} title=${title} set=${(/** @type {number} */ i) => {
        const point = { run_length: this.values("run_length")[this.nearest("run_length")], noise: this.values("noise")[this.nearest("noise")], [name]: values[i] };
        this.move({ world: this.onGrid(point.run_length, point.noise).name });
      }} />`;
    };
    return html`${axis("run length", "run_length", "tokens for which a slow feature stays on, in the mean")}
      ${axis("noise", "noise", "standard deviation of each number that is seen")}
      <${Slider} label="taps K" count=${can.length} at=${can.indexOf(variant)} said=${this.taps(variant) === 1 ? "1, no time" : String(this.taps(variant))}
        set=${(/** @type {number} */ i) => this.move({ variant: can[i] })} title="tokens that the second look reads, its own and those before" />
      <${Slider} label="document" count=${here.documents} at=${document} said=${String(document)} set=${(/** @type {number} */ i) => this.move({ document: i })}
        title="held-out documents: no SAE was trained on them" />`;
  }

  // -- one document -----------------------------------------------------------------------------------------------------
  lanes() {
    const { root } = this.props, question = { world: this.world().name, variant: this.get("variant"), document: this.get("document") };
    const key = JSON.stringify([question, question.world === this.about().own ? this.made : 0]);
    root.dataset.asked = key;
    const draw = (/** @type {Answer} */ answer) => html`<${Figure} title="along the document" button="mistakes" hint="counted over all slow features of this document"
        table=${() => html`<${Table} head=${["tokens, over all slow features", "missed", "in vain"]}
          rows=${Object.entries(answer.mistakes).map(([reader, both]) => [this.named(reader), ...both])} />`}>
      ${answer.features.length ? html`<${Lanes} answer=${answer} document=${question.document} short=${(/** @type {string} */ reader) => this.short(reader)} />`
        : html`<p class="tsae-notice">No feature is on in this document: take another.</p>`}<//>`;
    return html`<${Awaited} asked=${this.ask(key, "look", question)} draw=${draw} ondrawn=${() => { root.dataset.shown = key; }} />`;
  }

  // -- in all -----------------------------------------------------------------------------------------------------------
  numbers() {
    const here = this.world(), variant = this.get("variant"), readers = [...new Set([this.about().plain, "taps-1", variant, "token", "past"])];
    return html`<table class="tsae-table tsae-found"><thead><tr><th scope="col">F1, all held-out documents</th>
        ${KINDS.map((name, i) => html`<th scope="col"><button class="tsae-small" aria-pressed=${String(this.state.kind === i)} title="show the gains for ${name} features"
          onClick=${() => this.setState({ kind: i })}>${name}</button></th>`)}</tr></thead>
      <tbody>${readers.map((reader) => html`<tr key=${reader} class=${reader === variant ? "tsae-here" : null}><td>${this.named(reader)}</td>
        ${(here.found[reader] || []).map((value) => html`<td><span class="tsae-f1${reader in ORACLES ? " tsae-oracle" : ""}" style="--part: ${(100 * value).toFixed(1)}%">${fixed(value, 3)}</span></td>`)}</tr>`)}</tbody></table>`;
  }
  sentence() {
    const here = this.world(), variant = this.get("variant"), gain = this.gains(here, variant), k = this.taps(variant);
    return `Runs of ${here.run_length} tokens, noise ${here.noise}, ${KINDS[this.state.kind]} features: ${signed(gain.whole)} over the plain SAE; ${signed(gain.again)} of it by looking again`
      + (k > 1 ? `, ${signed(gain.time)} by time (K = ${k}).` : ", K = 1 has no time.") + ` An oracle gains ${signed(gain.room)} by the past.`;
  }
  phases() {
    const all = this.variants(this.grid()[0]), variant = all.includes(this.get("variant")) ? this.get("variant") : all.at(-1); // an own K is not on the grid
    const lengths = this.values("run_length"), noises = [...this.values("noise")].reverse(), k = this.taps(variant), here = this.world().name;
    const cell = (/** @type {string} */ which, /** @type {World} */ there) => {
      const value = this.gains(there, variant)[which], part = Math.min(1, Math.abs(value || 0) / 0.3);
      return html`<td><button class=${value <= -0.0005 ? "tsae-loss" : null} style="--part: ${Math.round(60 * part)}%" aria-pressed=${String(there.name === here)} data-cell="${which} ${there.name}"
        title="run length ${there.run_length}, noise ${there.noise}" onClick=${() => this.move({ world: there.name })}>${signed(value)}</button></td>`;
    };
    return [[`K = ${k} over plain`, "whole", "gain in F1 over the plain SAE"], ["by a second look", "again", "K = 1 over plain: no time in it"], [`by time, K = ${k}`, "time", "over K = 1"],
      ["an oracle, by the past", "room", "the past-only oracle over the one that reads token by token"]].map(([title, which, hint]) => html`<table class="tsae-phase" aria-label=${title} key=${which}>
      <caption title=${hint}>${title}</caption>
      <tbody>${noises.map((noise) => html`<tr key=${noise}><th scope="row">${noise}</th>${lengths.map((length) => cell(which, this.onGrid(length, noise)))}</tr>`)}
        <tr><th></th>${lengths.map((length) => html`<th scope="col">${length}</th>`)}</tr></tbody></table>`);
  }

  // -- a world of one's own ---------------------------------------------------------------------------------------------
  own() {
    const now = this.get("_progress"), busy = ["training", "measuring"].includes(now.state);
    const field = (/** @type {string} */ name, /** @type {string} */ label, /** @type {number} */ value, /** @type {number} */ step, /** @type {number} */ min) => html`<label>${label} <input type="number" name=${name}
      defaultValue=${value} step=${step} min=${min} aria-label="own ${label}" /></label>`;
    const act = (/** @type {any} */ event) => {
      const inputs = /** @type {HTMLInputElement[]} */ ([...event.currentTarget.parentElement.querySelectorAll("input")]);
      const question = Object.fromEntries(inputs.map((input) => [input.name, input.valueAsNumber]));
      this.backend.ask(busy ? "stop" : "train", busy ? {} : question).catch((error) => this.setState({ said: error.message }));
    };
    /** @type {Record<string, string>} */
    const news = { training: `step ${now.step} of ${now.steps}`, measuring: "measuring, with the oracles", stopped: now.text, done: "done: shown above as own world" };
    this.props.root.dataset.training = now.state || "";
    return html`<div class="tsae-row tsae-own"><b>your own world</b>
      ${field("run_length", "run length", 20, 1, 1)}${field("noise", "noise", 0.3, 0.05, 0)}${field("taps", "K", 4, 1, 1)}${field("steps", "steps", 500, 50, 2)}
      <button onClick=${act}>${busy ? "Stop" : "Train"}</button>
      <progress max="1" value=${now.steps ? now.step / now.steps : 0} hidden=${!busy} aria-label="training"></progress>
      <span class="tsae-faint" role="status">${this.state.said || news[now.state] || "Three SAEs: plain, second look, and with K taps."}</span></div>`;
  }

  render() {
    const { own, worlds } = this.about(), there = worlds.find((/** @type {World} */ one) => one.name === own);
    return html`<div class="tsae-row tsae-moved">${this.sliders()}
        ${there ? html`<button class="tsae-small" aria-pressed=${String(this.world().name === own)} onClick=${() => this.move({ world: own })}>own: length ${there.run_length}, noise ${there.noise}</button>` : null}</div>
      <p class="tsae-said" role="status">${this.sentence()}</p>
      <div class="tsae-sides">
        <section aria-label="document"><div class="tsae-lanes-of-time">${this.lanes()}</div>
          <p class="tsae-faint tsae-legend"><i class="tsae-hit"></i> found <i class="tsae-missed"></i> missed <i class="tsae-false"></i> said in vain</p></section>
        <section aria-label="numbers"><div>${this.numbers()}</div><h4>gain in F1: run length → noise ↑</h4><div class="tsae-phases">${this.phases()}</div></section>
      </div>
      ${this.own()}`;
  }
}

/** anywidget's entry point. @param {{model: Model, el: HTMLElement}} given */
function render({ model, el }) {
  const root = rootIn(el, "tsae-time");
  place(html`<${Time} model=${model} root=${root} />`, root);
  return () => place(null, root);
}

export default { render };
