// The tab Steer: what the model writes with the chosen features set or added, beside what it writes without.

import { Chosen, Of, View, chosenFeatures, strongestText, suggest } from "./explorer_parts.js";
import { released } from "./page.js";
import { Table, html } from "./parts.js";
import { isolated, number } from "./values.js";

/** The number that somebody typed, or an error that says what is allowed. */
function numberFrom(name, text, { low = -1e6, high = 1e6, whole = false } = {}) {
  const value = Number(text);
  if (text.trim() === "" || !(value >= low && value <= high) || (whole && !Number.isInteger(value))) {
    throw new Error(`${name} is “${isolated(text)}”: write a ${whole ? "whole " : ""}number from ${low.toLocaleString("en")} to ${high.toLocaleString("en")}.`);
  }
  return value;
}

/** What steering does to the residual stream: how it is called, what the strength is, and what stands above a column. */
const WAYS = {
  clamp: { name: "clamp where it fires",
    hint: "Where a chosen feature fires its activation is set to s, everywhere else nothing changes. The unlearning evaluation's multiplier m is s = −m.", column: (s) => `set to ${s}` },
  add: { name: "add everywhere",
    hint: "s times a chosen feature's decoder row is added to the residual stream: a positive s turns the feature on, also where it does not fire; a negative one pushes it down.", column: (s) => `${s < 0 ? "−" : "+"}${Math.abs(s)}` },
};
const WHERE = { all: "all tokens but the first", prompt: "the prompt", generated: "generated tokens", from: "from token …" };

/** What was written: where features fired, and which words differ from those of the untouched model. */
function Written({ made, other }) {
  const before = made.fired_in_prompt.filter(Boolean).length, touched = made.fired.filter(Boolean).length;
  return html`<div><div class="tsae-text" dir="auto">${made.texts.map((text, i) => html`<span class="tsae-made ${other && other.texts[i] !== text ? "tsae-changed" : ""}" dir="auto"
      title=${made.fired[i] ? "a chosen feature fires here" : null}>${text}${made.fired[i] ? html`<sup>●</sup>` : null}</span>`)}${made.ended ? html`<span class="tsae-faint"> ■ ended</span>` : null}</div>
    <p class="tsae-faint">● fires on ${before} tokens of the prompt, ${touched} new ones</p></div>`;
}

/** One row a prompt, one column a strength. */
function Steered({ explorer, answer: { features, rows, way, strengths, norm, finished } }) {
  const silent = rows.every((row) => row.cells.every((made) => !made.fired_in_prompt.some(Boolean) && !made.fired.some(Boolean)));
  return html`<${Of} explorer=${explorer} features=${features} />${rows.map((row) => (row.notice ? html`<p class="tsae-notice">${row.notice}</p>` : null))}
    ${way === "clamp" && finished && silent ? html`<p class="tsae-notice">No chosen feature fires on these prompts or what follows, so clamping changes nothing: “add everywhere” can turn it on.</p>` : null}
    <div class="tsae-scroll-x" tabindex="0" role="group" aria-label="what the model writes"><${Table} name="tsae-grid"
      head=${["prompt", "untouched", ...strengths.map((s) => `${WAYS[way].column(s)} (${number(s / norm, 2)} norms)`)]}
      rows=${rows.map((row) => [html`<span dir="auto">${row.prompt}</span>`, ...row.cells.map((made, i) => html`<${Written} made=${made} other=${i ? row.cells[0] : null} />`)])} /></div>`;
}

export class SteerView extends View {
  constructor(props) {
    super(props);
    this.state = { way: "clamp", where: "all", answer: null, error: null, busy: false, progress: "" };
    this.job = null; // the one that is under way
    /** @type {HTMLElement | null} */
    this.form = null;
  }
  field(name) { return /** @type {HTMLInputElement} */ (this.form?.querySelector(`[name=${name}]`)); }
  async refresh() {
    const { explorer } = this.props;
    this.forceUpdate(() => this.suggestStrengths());
    if (!explorer.about.predicts) return;
    const answer = await explorer.answerOf(explorer.get("feature")).catch(() => null);
    if (answer?.kinds.length) suggest(this.field("text"), strongestText(answer, true));
  }
  componentDidMount() { this.suggestStrengths(); }
  suggestStrengths() {
    const { columns, rowOf } = this.props.explorer, highest = Math.max(0, ...chosenFeatures(this.props.explorer).map((feature) => columns.max[rowOf.get(feature) ?? -1] || 0)) || 1;
    suggest(this.field("strengths"), this.state.way === "clamp" ? "-5, -25, -100" : [1, 4, -4].map((times) => number(times * highest, 2)).join(", "));
  }
  question() {
    const { way, where } = this.state, typed = (name) => this.field(name).value;
    const whole = (said, name, low, high) => numberFrom(said, typed(name), { low, high, whole: true });
    return {
      text: typed("text"), features: chosenFeatures(this.props.explorer), way, where, first: where === "from" ? whole("the token", "first", 0, 1e6) : 0,
      strengths: typed("strengths").split(/[\s,;]+/).filter(Boolean).map((part) => numberFrom("s", part.replace("−", "-"))),
      tokens: whole("tokens", "tokens", 1, 200), seed: whole("seed", "seed", 0, 2 ** 31), temperature: numberFrom("temperature", typed("temperature"), { low: 0, high: 100 }),
    };
  }
  /** A few tokens at a time, so that the kernel answers others meanwhile, and whoever has seen enough can stop. */
  async generate() {
    const mine = (this.job = {}), { backend } = this.props.explorer;
    this.setState({ busy: true, progress: "generating …", answer: null, error: null });
    try {
      const asked = this.question(), lines = asked.text.split("\n").filter((line) => line.trim()), rows = [];
      for (const line of lines.length ? lines : [""]) {
        let made = /** @type {any} */ (null);
        for (let answer = /** @type {any} */ ({}); !answer.finished;) {
          answer = await backend.ask("steer", { ...asked, text: line, made, step: 4 });
          if (this.form) await released(this.form);
          if (this.job !== mine) return;
          made = answer.made;
          const progress = `generating: token ${made[0][0].length} of ${asked.tokens}${lines.length > 1 ? `, prompt ${rows.length + 1} of ${lines.length}` : ""}`;
          this.setState({ progress, answer: { ...answer, rows: [...rows, ...answer.rows], finished: answer.finished && rows.length + 1 === (lines.length || 1) } });
          if (answer.finished) rows.push(...answer.rows);
        }
      }
      if (this.job === mine) this.end("done");
    } catch (error) {
      if (this.job !== mine) return;
      this.setState({ error: /** @type {Error} */ (error).message, answer: null });
      this.end("");
    }
  }
  end(progress) {
    this.job = null;
    this.setState({ busy: false, progress });
  }
  /** A double click, of habit, begins and does not cancel what it began. @param {MouseEvent} event */
  pressed(event) {
    if (!this.job) this.generate();
    else if (event.detail !== 2) this.cancel();
  }
  cancel() { this.end(`cancelled${this.state.answer ? ": what was made until then" : ""}`); }

  controls() {
    const { way, where } = this.state;
    const field = (name, value, title, size) => html`<input name=${name} defaultValue=${value} title=${title} aria-label=${title} size=${size} />`;
    const choice = (name, title, chosen, named) => html`<select name=${name} aria-label=${title} value=${chosen}
      onChange=${(event) => this.setState({ [name]: event.target.value }, () => this.suggestStrengths())}>
      ${Object.entries(named).map(([value, one]) => html`<option value=${value}>${one.name || one}</option>`)}</select>`;
    return html`<div class="tsae-row">${choice("way", "what is done", way, WAYS)}
      <label hidden=${way !== "add"}>at ${choice("where", "where it is added", where, WHERE)}</label>
      <input name="first" defaultValue="0" size="3" hidden=${way !== "add" || where !== "from"}
        title="the token from which on it is added; 0 is the first of the text" aria-label="the token from which on it is added; 0 is the first of the text" />
      <label>s ${field("strengths", "", "strengths s, in the unit of activations; one column each", 11)}</label>
      <label>tokens ${field("tokens", "24", "new tokens", 2)}</label><label>seed ${field("seed", "0", "seed, the same for all columns", 2)}</label>
      <label>temperature ${field("temperature", "0.7", "temperature; 0 takes the likeliest token", 2)}</label></div>`;
  }
  render({ explorer }, { way, answer, error, busy, progress }) {
    if (!explorer.about.predicts) {
      return html`<p class="tsae-notice">${explorer.backend.stored ? "A stored page has no model to steer." : "Steering needs the model and the SAE: FeatureExplorer(index, model=language_model, sae=sae)."}</p>`;
    }
    return html`<div ref=${(form) => { this.form = form; }}>
      <div class="tsae-row tsae-prompts"><textarea name="text" dir="auto" rows="2" aria-label="prompts, one a line" placeholder="Prompts, one a line" />
        <button class="tsae-run" onClick=${(event) => this.pressed(event)}>${busy ? "Cancel" : "Generate"}</button></div>
      <p class="tsae-faint tsae-status" role="status">${progress}</p>
      <${Chosen} explorer=${explorer} />${this.controls()}<p class="tsae-faint">${WAYS[way].hint}</p>
      <div class="tsae-steered">${error ? html`<p class="tsae-notice" role="alert">${error}</p>` : null}${answer ? html`<${Steered} explorer=${explorer} answer=${answer} />` : null}</div></div>`;
  }
}
