// The tab Trace: features along a text, as words and as lanes.

import { Badge, View, bare, kindOf, short, tint } from "./explorer_parts.js";
import { Graphs } from "./lanes.js";
import { Awaited, Figure, Table, Words, html } from "./parts.js";
import { fixed, floats, isolated, number, share, shown } from "./values.js";
import { Component } from "./vendor/preact.mjs";

/** @typedef {import("./explorer.js").Explorer} Explorer */
/** @typedef {import("./page.js").Answer} Answer */
/** @typedef {{answer: Answer, where: any, feature: number, selected: number[]}} Traced what was asked, and the answer */

const RANKS = { total: ["total", "by total activation"], peak: ["peak", "by peak"], length: ["run_length", "by run length"] };
const SHOWN = 40; // features at once

/** A text's name, so that a word's features are shown with that text only. */
function nameOf(answer) { return answer.piece === null ? answer.texts.join("") : `${answer.piece}:${answer.start}`; }

/**
 * The text, what stands at the word pointed at, and the features on one that was chosen.
 * @typedef {{answer: Answer, mine: any, point: (t: number) => void, choose: (t: number) => void, onToken: Promise<any> | null, drawToken: (found: any) => any,
 *   use: (reading: Reading | null) => void}} ReadingProps
 * @extends {Component<ReadingProps, {of: Answer | null, marked: number | null, said: string}>}
 */
class Reading extends Component {
  constructor(props) {
    super(props);
    this.state = { of: null, marked: null, said: "" };
  }
  componentDidMount() { this.props.use(this); }
  componentWillUnmount() { this.props.use(null); }
  marked() { return this.state.of === this.props.answer ? this.state.marked : null; }
  onKey(event) {
    const { answer, point, choose } = this.props, step = { ArrowRight: 1, ArrowLeft: -1 }[event.key], marked = this.marked();
    if (event.altKey || (!step && event.key !== "Enter")) return;
    if (step) {
      const t = Math.min(answer.texts.length - 1, Math.max(0, (marked ?? -step) + step));
      point(t);
      event.currentTarget.querySelector(`[data-column="${t}"]`).scrollIntoView({ block: "nearest" });
    }
    else if (marked !== null) choose(marked);
    event.preventDefault();
    event.stopPropagation();
  }
  at(event, use) {
    const word = event.target.closest("[data-column]");
    if (word) use(Number(word.dataset.column));
  }
  render({ answer, mine, point, choose, onToken, drawToken }) {
    const marked = this.marked();
    const tokens = answer.texts.map((text, t) => ({ text, value: mine ? mine.values[t] : 0, column: t, unknown: Boolean(answer.unknown && answer.unknown[t]), name: t === marked ? "tsae-marked" : "" }));
    return html`<div class="tsae-reading">
      <${Awaited} name="tsae-ontoken" asked=${onToken} draw=${drawToken} saying="looking what fires there …" />
      <div class="tsae-text tsae-tracetext" dir="auto" tabindex="0" role="group" aria-label="the text; arrows go from word to word, Enter shows all features on it"
        onKeyDown=${(event) => this.onKey(event)} onMouseOver=${(event) => this.at(event, point)}
          onClick=${(event) => this.at(event, choose)}><${Words} tokens=${tokens} highest=${mine ? mine.highest : 0} /></div>
      <p class="tsae-faint tsae-readout" aria-live="polite">${marked === null ? "Point at a bar or a word; click a word for all features on it." : this.state.said}</p></div>`;
  }
}

export class TraceView extends View {
  constructor(props) {
    super(props);
    this.state = { rank: "total", hidden: new Set() }; // levels that are not shown
    /** @type {Promise<Traced> | null} */
    this.asked = null;
    this.where = null;
    /** @type {{of: string, asked: Promise<any>} | null} the features on a word */
    this.onToken = null;
    /** @type {any} */
    this.reading = this.graphs = this.piece = this.text = null;
  }
  refresh() {
    const { explorer } = this.props, where = explorer.place;
    if (where) this.ask(where, explorer.get("feature"), explorer.get("selected"));
    this.forceUpdate();
  }
  ask(where, feature, selected) {
    const { explorer } = this.props, { backend } = explorer, question = { feature, pinned: selected, count: SHOWN, rank: this.state.rank, ...where };
    const asked = (where.text !== undefined ? backend.ask("prompt", question) : backend.ask("trace", question)).then(async (answer) => {
      await explorer.shown; // drawing takes longer than a card, which may have been asked for meanwhile
      if (this.asked === asked && this.piece) this.piece.value = where.text === undefined ? where.piece : "";
      return { answer, where, feature, selected };
    });
    asked.catch(() => {}); // said where it is drawn
    this.where = where;
    this.asked = asked;
  }
  choose(where) { this.props.explorer.trace(where, false); }
  chooseWord({ answer, where }, t) {
    const question = answer.piece === null ? { column: t, text: where.text } : { position: answer.start + t };
    this.onToken = { of: nameOf(answer), asked: this.props.explorer.backend.ask("token", question).then((found) => ({ ...found, t, text: answer.texts[t] })) };
    this.forceUpdate();
  }
  toggle(level) {
    const hidden = new Set(this.state.hidden);
    if (!hidden.delete(level)) hidden.add(level);
    this.setState({ hidden });
  }

  tools() {
    const { explorer } = this.props, { about, backend } = explorer, { hidden, rank } = this.state;
    return html`<div class="tsae-row tsae-tracetools">
      <label>document <input type="number" min="0" max=${about.pieces - 1} aria-label="document" ref=${(piece) => { this.piece = piece; }}
        onChange=${(event) => { if (event.target.value !== "") this.choose({ piece: Math.trunc(Number(event.target.value)), start: 0 }); }} /></label>
      <button title="any document" disabled=${backend.stored} onClick=${() => this.choose({ piece: Math.floor(Math.random() * about.pieces), start: 0 })}>random</button>
      ${backend.stored ? null : html`<button title="go to the strongest document of each feature that is opened; Enter does it once more" aria-pressed=${String(explorer.follows)}
        onClick=${() => { explorer.follow(!explorer.follows); this.forceUpdate(); }}>follow</button>`}
      <select aria-label="order of features" disabled=${backend.stored} value=${rank} onChange=${(event) => this.setState({ rank: event.target.value }, () => this.refresh())}>
        ${Object.entries(RANKS).map(([value, [, name]]) => html`<option value=${value}>${name}</option>`)}</select>
      ${about.groups.length > 1 ? about.groups.map((name, i) => html`<button key=${name} class="tsae-level tsae-level-${tint(i + 1)}" aria-pressed=${String(!hidden.has(i + 1))}
        title="show features of ${name}" onClick=${() => this.toggle(i + 1)}>${short(name)}</button>`) : null}
      ${about.live ? html`<div class="tsae-paste"><div class="tsae-growing"><textarea dir="auto" rows="1" placeholder="Paste a text and read it …" aria-label="text to read" ref=${(text) => { this.text = text; }} /></div>
        <button onClick=${() => this.choose({ text: this.text.value })}>Read</button></div>` : null}</div>`;
  }
  drawToken({ rows, t, text }) {
    const few = rows.slice(0, 12);
    return html`<h4>features on “<bdi>${shown(text).trim()}</bdi>” (token ${t}) <button class="tsae-small" aria-label="close" onClick=${() => { this.onToken = null; this.forceUpdate(); }}>×</button></h4>
      ${rows.length ? html`<${Table} head=${["activation", "feature"]} keys=${few.map((row) => row.feature)}
        rows=${few.map((row) => [number(row.activation), this.props.explorer.link(row.feature, { staying: true })])} />` : html`<p class="tsae-faint">none fires</p>`}`;
  }
  /** The features that are shown: the one on the card and the chosen ones first, then by rank. */
  rows({ answer, feature, selected }) {
    const { hidden, rank } = this.state, length = answer.texts.length, matrix = floats(answer.buffers[0]), pinned = new Set([feature, ...selected]), ranked = RANKS[rank][0];
    const all = answer.features.map((one, row) => ({
      feature: one, level: answer.levels[row], values: matrix.subarray(row * length, (row + 1) * length), highest: answer.statistics[row].peak,
      colour: `--tsae-level${tint(answer.levels[row])}`, statistics: answer.statistics[row],
    }));
    const rows = all.filter((row) => pinned.has(row.feature) || (!hidden.has(row.level) && row.statistics.total > 0))
      .sort((a, b) => Number(pinned.has(b.feature)) - Number(pinned.has(a.feature)) || b.statistics[ranked] - a.statistics[ranked]).slice(0, SHOWN);
    return { rows, mine: all.find((row) => row.feature === feature) };
  }
  /** What fires along the text. @param {Traced} traced */
  drawTrace(traced) {
    const { answer } = traced, { explorer } = this.props, groups = explorer.about.groups, kind = kindOf(groups);
    const notice = answer.notice ? html`<p class="tsae-notice">${answer.notice}</p>` : null;
    if (!answer.fired) {
      return html`${notice}<p class="tsae-notice">No feature fires on this text.</p><p class="tsae-text"><${Words} tokens=${answer.texts.map((text) => ({ text }))} /></p>`;
    }
    const { rows, mine } = this.rows(traced), length = answer.texts.length, shares = floats(answer.buffers[1]), deep = answer.levels_in_all;
    const levels = deep > 1 ? Array.from({ length: deep }, (_, i) => i + 1) : []; // in the order of the buttons
    const routes = levels.map((level) => ({ values: Float32Array.from({ length }, (_, t) => shares[t * deep + level - 1]), highest: 1, colour: `--tsae-level${tint(level)}` }));
    const graphs = [...(routes.length ? [{ name: `share of the activation on each ${kind} along the text`, lanes: routes }] : []),
      { name: `activation of ${rows.length} features along ${length} tokens`, lanes: rows }];
    const point = (t, row = /** @type {any} */ (null)) => {
      const said = `token ${t}: “${isolated(shown(answer.texts[t]).trim())}”${row ? ` · #${row.feature} ${isolated(explorer.said(row.feature))} ${number(row.values[t])}` : ""}${
        deep > 1 ? ` · ${kind}s ${levels.map((level) => share(shares[t * deep + level - 1])).join(" / ")}` : ""}`;
      this.reading?.setState({ of: answer, marked: t, said });
      this.graphs?.mark(t);
    };
    const against = (value, control, digits) => html`<span title="in shuffled order ${number(control)}">${fixed(value, digits)}<small class="tsae-faint"> (${fixed(control, digits)})</small></span>`;
    const link = (row) => explorer.link(row.feature, { staying: true });
    const table = () => html`<${Table} head=${["feature", kind, "total", "peak", "peak token", "active", "run length", "shuffled", "lag-1", "shuffled"]} keys=${rows.map((row) => row.feature)}
      rows=${rows.map((row) => [link(row), bare(groups[row.level - 1]), number(row.statistics.total), number(row.highest), shown(answer.texts[row.values.indexOf(Math.max(...row.values))] || ""),
        row.statistics.active, number(row.statistics.run_length), number(row.statistics.shuffled_run_length), number(row.statistics.autocorrelation), number(row.statistics.shuffled_autocorrelation)])} />`;
    const onToken = this.onToken && this.onToken.of === nameOf(answer) ? this.onToken.asked : null;
    return html`${notice}<div class="tsae-sides">
      <${Reading} use=${(reading) => { this.reading = reading; }} answer=${answer} mine=${mine}
        point=${point} choose=${(t) => this.chooseWord(traced, t)} onToken=${onToken} drawToken=${(found) => this.drawToken(found)} />
      <${Figure} title="${answer.fired} features fire; ${rows.length} shown" table=${table}><div class="tsae-lane-grid">
        <div class="tsae-lane-names"><div class="tsae-lane-head">feature</div>
          ${levels.map((level) => html`<div class="tsae-lane-name" key="level ${level}">${kind === "level" ? `routing L${level}` : groups[level - 1]}</div>`)}
          ${rows.map((row) => html`<div class="tsae-lane-name" key=${row.feature}><${Badge} group=${row.level} groups=${groups} />${link(row)}</div>`)}</div>
        <${Graphs} use=${(drawn) => { this.graphs = drawn; }} head="${length} tokens${answer.length > length ? ` of ${answer.length}` : ""}, bars relative to each row's highest"
          graphs=${graphs} length=${length} of=${answer}
          pointed=${(t, graph, lane) => point(t, graph === graphs.length - 1 ? rows[lane] : null)} />
        <div class="tsae-lane-stats"><div class="tsae-lane-head tsae-lane-numbers" title="in brackets: the same with the tokens in shuffled order"><span>run</span><span>lag-1</span></div>
          ${levels.map((level) => html`<div class="tsae-lane-name" key="level ${level}"></div>`)}
          ${rows.map(({ feature, statistics }) => html`<div class="tsae-lane-numbers" key=${feature}>${against(statistics.run_length, statistics.shuffled_run_length, 1)}${
            against(statistics.autocorrelation, statistics.shuffled_autocorrelation, 2)}</div>`)}</div></div><//></div>`;
  }
  render() {
    const where = this.where, of = where?.text !== undefined ? "text" : String(where?.piece);
    return html`${this.tools()}<${Awaited} name="tsae-trace" asked=${this.asked} draw=${(traced) => this.drawTrace(traced)}
      saying=${of === "text" ? "reading the text …" : `reading document ${of} …`} ondrawn=${() => { this.say({ traced: of }); }} />`;
  }
}
