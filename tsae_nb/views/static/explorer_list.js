// The feature explorer's list: only the rows in sight exist, one a feature; sorting and filtering never ask the kernel.

import { JUMP, download, kindOf, short } from "./explorer_parts.js";
import { drawnToFit, notDrawn, painted, released } from "./page.js";
import { html } from "./parts.js";
import { fixed, isolated, number, share } from "./values.js";
import { Component } from "./vendor/preact.mjs";

/** @typedef {import("./explorer.js").Explorer} Explorer */

const ROW = 22; // pixels
const WHICH = ["", "alive", "dead", "labelled", "explained", "chosen"];

/** What a word was looked for as: itself, or a part of which words. */
function matchedAs({ text: typed, words, occurrences }) {
  const text = isolated(typed);
  const times = occurrences === 1 ? "once" : `${occurrences.toLocaleString("en")} times`;
  const parts = words.filter((word) => !word.whole);
  const said = (word) => `${word.tokens.slice(0, 4).map(isolated).join(", ")}${word.several > 4 ? " …" : ""}`;
  if (!parts.length) return `“${text}” occurs ${times}${words.length > 1 ? "" : " as a whole word"}`;
  if (parts.some((word) => !word.several)) return `“${isolated(parts.find((word) => !word.several).word)}” is no word here, nor a part of one`;
  if (words.length === 1) return `“${text}” is no word of its own here; it occurs ${times} as a part of a word (${said(words[0])})`;
  return `“${text}” occurs ${times}, ${parts.map((word) => `“${isolated(word.word)}” as a part of a word (${said(word)})`).join(", ")}`;
}

/** @extends {Component<{explorer: Explorer}, {}>} */
export class FeatureList extends Component {
  constructor(props) {
    super(props);
    const explorer = this.explorer = props.explorer;
    explorer.list = this;
    const was = explorer.was.table || {}, groups = explorer.about.groups;
    this.sort = { column: "feature", down: false, chosen: false, ...was.sort };
    this.was = { search: was.search || "", densest: was.densest || "" };
    this.level = was.level || "";
    this.which = was.which || "";
    this.found = this.answer = null; // of a word: its rows by row of the table, and all that was said
    this.foot = "";
    this.turn = 0; // how often something else was typed or looked for
    this.seeking = false; // whether the feature on the card shall come into sight
    this.goal = null; // how far down it does
    this.first = this.last = this.turned = 0; // which rows are drawn, and by which elements: see `keyOf`
    this.id = `tsae-row-${Math.random().toString(36).slice(2, 8)}`;
    this.kind = kindOf(groups);
    this.heads = [["feature", "#"], ["level", this.kind], ["density", "density"], ["max", "max"], ["smoothness", "jump"], ["autocorrelation", "lag-1"]]
      .filter(([name]) => name !== "level" || groups.length > 1);
    const places = (name) => { // so that decimal points stand under each other
      const largest = explorer.columns[name].reduce((most, value) => (value > most ? value : most), 0);
      return largest >= 100 ? 0 : largest >= 10 ? 1 : largest >= 1 ? 2 : 3;
    };
    this.digits = { max: places("max"), smoothness: places("smoothness") };
    /** @type {{[name: string]: any}} elements */
    this.at = {};
    this.view = this.filtered();
  }
  componentDidMount() {
    drawnToFit(this.at.rows, () => this.forceUpdate());
  }
  componentDidUpdate() {
    if (this.goal === null) return;
    this.at.rows.scrollTop = this.goal;
    this.goal = null;
  }
  /** Drawn when it says so itself, not with every card. */
  shouldComponentUpdate() { return false; }
  componentWillUnmount() {
    notDrawn(this.at.rows);
  }
  ref(name) { return (element) => { this.at[name] = element; }; }

  // -- what others ask of it --------------------------------------------------------------------------------------------
  focus() { this.at.rows.focus({ preventScroll: true }); }
  focusSearch() { this.at.search.focus(); }
  /** The feature on the card comes into sight. */
  async mark() {
    if (this.at.list) await released(this.at.list); // a row that is pressed stays the feature that it is
    this.seeking = true;
    this.forceUpdate();
  }
  position() { return this.view.findIndex((row) => this.explorer.columns.feature[row] === this.explorer.get("feature")); }
  beside(step) {
    const feature = (place) => this.explorer.columns.feature[this.view[place]], here = this.position();
    if (!this.view.length || here < 0) return this.view.length ? feature(0) : null;
    const next = Math.min(this.view.length - 1, Math.max(0, here + step));
    return next === here ? null : feature(next);
  }
  step(step) {
    const next = this.beside(step);
    if (next !== null) this.explorer.open(next, { leafing: Math.abs(step) === 1 });
  }
  /** What the last word search says of a feature. */
  foundOf(feature) {
    const row = this.found?.get(this.explorer.rowOf.get(feature));
    return row ? { text: this.answer.text, occurrences: this.answer.occurrences, row } : null;
  }
  place() { return { sort: this.sort, search: this.found ? "" : this.text(), level: this.level, which: this.which, densest: this.densest() }; }

  // -- which rows, in which order ---------------------------------------------------------------------------------------
  text() { return this.at.search ? this.at.search.value : this.was.search; }
  densest() { return this.at.densest ? this.at.densest.value : this.was.densest; }
  filtered() {
    const { about, columns, lists } = this.explorer, found = this.found;
    const text = found ? "" : this.text().trim().toLowerCase().replace("#", "");
    if (!WHICH.includes(this.which) && !(this.which.slice(5) in lists)) this.which = "";
    const level = Number(this.level), which = this.which, listed = which.startsWith("list:"), most = this.densest() === "" ? Infinity : Number(this.densest()) / 100;
    const chosen = new Set(listed ? lists[which.slice(5)] : this.explorer.get("selected"));
    const keep = (row) => {
      const feature = columns.feature[row];
      if (level && columns.level[row] !== level) return false;
      if (columns.density[row] > most) return false;
      if (which === "alive" && columns.density[row] === 0) return false;
      if (which === "dead" && columns.density[row] > 0) return false;
      if (which === "labelled" && !this.explorer.own(feature)) return false;
      if (which === "explained" && !about.imported[feature]) return false;
      if ((which === "chosen" || listed) && !chosen.has(feature)) return false;
      return !text || String(feature).startsWith(text) || this.explorer.label(feature).toLowerCase().includes(text);
    };
    const view = (found ? [...found.keys()] : Array.from(columns.feature.keys())).filter(keep);
    if (!found || this.sort.chosen) {
      const values = columns[this.sort.column], way = this.sort.down ? -1 : 1;
      const rank = (row) => (Number.isNaN(values[row]) ? -Infinity : values[row]);
      view.sort((a, b) => (way * (rank(a) - rank(b))) || a - b);
    }
    if (text && !view.length) this.foot = `nothing listed is like “${isolated(this.text().trim())}”: Enter looks for it in the text`;
    else this.foot = `${view.length.toLocaleString("en")} of ${columns.feature.length.toLocaleString("en")} features${found ? "" : `, ${about.dead.toLocaleString("en")} dead`} · j k / Enter x`;
    return view;
  }
  /** Labels, lists or the chosen ones are others. */
  rebuild() {
    this.view = this.filtered();
    this.forceUpdate();
  }
  /** Somebody wants other rows. */
  changed() {
    this.rebuild();
    this.explorer.remember();
  }
  say(foot) {
    this.foot = foot;
    this.forceUpdate();
  }
  /** Other rows are in sight; those that it has scrolled to itself are drawn. */
  scrolled() {
    if (this.firstAt(this.at.rows.scrollTop) !== this.first) this.forceUpdate();
  }
  firstAt(top) { return Math.max(0, Math.floor(top / ROW) - 4); }
  toTop() { this.at.rows.scrollTop = 0; }
  sortBy(name) {
    this.sort = { column: name, down: this.sort.column === name ? !this.sort.down : name !== "feature", chosen: true };
    this.toTop();
    this.changed();
  }

  // -- a label, a number, or a word -------------------------------------------------------------------------------------
  /** The feature whose number stands in the field: null without a number, undefined where there is no such feature. */
  numbered() {
    const text = this.text().trim().replace(/^#/, ""), feature = Number(text);
    return /^\d+$/.test(text) ? this.explorer.rowOf.has(feature) ? feature : undefined : null;
  }
  typed() {
    const feature = this.numbered();
    if (feature !== null && feature !== undefined) this.explorer.foresee(feature); // so that Enter answers at once
    this.turn += 1;
    this.found = null;
    if (!this.text()) this.seeking = true;
    this.changed();
  }
  onSearchKey(event) {
    if (event.key === "Enter") this.search();
    if (event.key !== "Escape") return;
    this.at.search.value = ""; // the way out of a search leads to the whole list
    this.typed();
    this.focus();
    event.preventDefault();
    event.stopPropagation();
  }
  async search() {
    const { explorer } = this, { columns, rowOf } = explorer, text = this.text().trim(), feature = this.numbered(), turn = (this.turn += 1), here = explorer.get("feature");
    if (!text) return;
    if (feature !== null) {
      if (feature !== undefined) explorer.open(feature);
      else this.say(`There is no feature ${text.replace("#", "")} here.`);
      return;
    }
    try {
      this.say(`looking for “${isolated(text)}” …`);
      const answer = await explorer.backend.ask("search", { text });
      await released(this.at.list);
      if (turn !== this.turn) return; // somebody has left this search meanwhile
      if (!answer.rows.length && this.view.length) { // labels match, words do not
        this.say(`“${isolated(text)}” is no word here that a feature fires on; ${this.view.length} labels or numbers match.`);
        return;
      }
      this.answer = answer;
      this.found = new Map(answer.rows.filter((row) => rowOf.has(row.feature)).map((row) => [rowOf.get(row.feature), row]));
      this.sort.chosen = false; // best first, until a column is clicked
      this.toTop();
      this.rebuild();
      this.say(`${matchedAs(/** @type {any} */ (answer))}; ${answer.rows.length ? `${answer.rows.length} features, best first: F1 above each one's best threshold` : "no feature fires on it"}.`);
      const first = this.view.length ? columns.feature[this.view[0]] : null;
      if (first !== null && first === explorer.get("feature")) explorer.show(first); // the card says what was found
      else if (first !== null && here === explorer.get("feature")) explorer.open(first); // else somebody has opened another meanwhile
    } catch (error) {
      if (turn === this.turn) this.say(/** @type {Error} */ (error).message);
    }
    await painted();
    this.at.rows.dataset.searched = text;
  }

  // -- lists and explanations -------------------------------------------------------------------------------------------
  keepList() {
    const { explorer } = this, name = this.at.listName.value.trim(), selected = explorer.get("selected");
    if (!name || !selected.length) return this.say(name ? "Choose features first: ☆ or x." : "A list needs a name.");
    explorer.keepLists({ [name]: selected });
    this.at.listName.value = "";
    return this.forceUpdate();
  }
  forgetList(name) {
    this.explorer.keepLists({ [name]: null });
    this.rebuild();
  }
  async importFrom(field) {
    const [file] = field.files;
    if (!file) return;
    try {
      const kept = await this.explorer.backend.ask("import", { name: file.name, text: await file.text() });
      this.explorer.tell("");
      this.say(`${kept.explanations.toLocaleString("en")} explanations of ${kept.features.toLocaleString("en")} features imported (${kept.of})`);
    } catch (error) {
      this.explorer.tell(/** @type {Error} */ (error).message);
    }
    field.value = ""; // the same file may be chosen again
  }
  async exportExplanations() {
    try {
      const { rows } = await this.explorer.backend.ask("explanations", {});
      if (rows.length) download("explanations.json", JSON.stringify(rows, null, 1));
      else this.say("There is no label and no explanation yet.");
    } catch (error) {
      this.explorer.tell(/** @type {Error} */ (error).message);
    }
  }

  // -- what is drawn ----------------------------------------------------------------------------------------------------
  tools() {
    const { about, lists } = this.explorer;
    return html`<div class="tsae-tools">
      <input type="search" defaultValue=${this.was.search} placeholder="label, #, word ( / )" aria-label="search"
        title="a label or a number narrows the list; a word and Enter finds features on it in the text; / leads here" ref=${this.ref("search")}
        onInput=${() => this.typed()} onKeyDown=${(event) => this.onSearchKey(event)} />
      ${about.groups.length > 1 ? html`<select aria-label=${this.kind} value=${this.level} onChange=${(event) => { this.level = event.target.value; this.changed(); }}>
        <option value="">all ${this.kind}s</option>${about.groups.map((name, i) => html`<option value=${i + 1}>${name}</option>`)}</select>` : null}
      <select aria-label="which features" value=${this.which} onChange=${(event) => { this.which = event.target.value; this.changed(); }}>
        ${WHICH.map((name) => html`<option key=${name} value=${name}>${name || "all"}</option>`)}
        ${Object.keys(lists).map((name) => html`<option key=${`list:${name}`} value=${`list:${name}`}>list ${isolated(name)}</option>`)}</select>
      <details class="tsae-lists"><summary>more</summary>${this.menu()}</details></div>`;
  }
  menu() {
    const { explorer } = this;
    return html`<div class="tsae-menu">
      <label>density at most, in % <input type="number" min="0" max="100" step="any" defaultValue=${this.was.densest}
        aria-label="highest density in per cent" ref=${this.ref("densest")} onInput=${() => this.changed()} /></label>
      ${explorer.backend.stored ? null : html`
        <div class="tsae-row"><button title="keep the chosen features under this name" onClick=${() => this.keepList()}>keep chosen as list</button>
          <input placeholder="name" aria-label="name of the list" size="8" ref=${this.ref("listName")} /></div>
        <div>${Object.entries(explorer.lists).map(([name, features]) => html`<div class="tsae-row" key=${name}><span><bdi>${name}</bdi> (${features.length})</span>
          <button class="tsae-small" onClick=${() => explorer.choose(features)}>choose</button>
          <button class="tsae-small" aria-label="forget the list ${name}" onClick=${() => this.forgetList(name)}>forget</button></div>`)}</div>
        <div class="tsae-row"><span>explanations</span>
          <input type="file" hidden accept=".json,.jsonl" aria-label="file of explanations" ref=${this.ref("file")} onChange=${(event) => this.importFrom(event.target)} />
          <button class="tsae-small" aria-label="explanations from a file"
            title="show explanations of a file in Neuronpedia's format where a feature has no label" onClick=${() => this.at.file.click()}>from a file</button>
          <button class="tsae-small" aria-label="explanations to a file"
            title="labels and explanations as a file in Neuronpedia's format" onClick=${() => this.exportExplanations()}>to a file</button></div>`}</div>`;
  }
  head() {
    const { sort, found } = this;
    const explained = { level: this.kind === "level" ? "1 is the lowest" : "in the order of the groups", density: "share of tokens on which it is active", max: "largest activation",
      smoothness: JUMP, autocorrelation: "correlation of the activation with the one on the next token" };
    return html`<div class="tsae-head">${this.heads.map(([name, title]) => {
      const sorted = sort.column === name && (!found || sort.chosen);
      return html`<button class="tsae-cell tsae-${name} ${name === "level" ? "tsae-levelcell" : ""}"
        title="${explained[name] || "number"}; click to sort${sorted ? `, now ${sort.down ? "falling" : "rising"}` : ""}"
        onClick=${() => this.sortBy(name)}>${title}${sorted ? (sort.down ? " ▾" : " ▴") : ""}</button>`;
    })}<span class="tsae-cell tsae-name">${found ? "F1 · label" : "label"}</span></div>`;
  }
  line(i, current, chosen) {
    const { explorer, digits, found } = this, { columns, about } = explorer, row = this.view[i], feature = columns.feature[row], hit = found?.get(row);
    const group = about.groups[columns.level[row] - 1],
      title = hit && `F1 ${number(hit.f1, 2)} ${hit.threshold ? `above ${number(hit.threshold)}` : "wherever it fires"}: ${hit.hits} hits, ${hit.fired - hit.hits} other tokens`;
    return html`<div class="tsae-line ${columns.density[row] === 0 ? "tsae-dead" : ""}" role="option" key=${this.keyOf(i)} id="${this.id}-${feature}" data-id=${feature} style="top: ${i * ROW}px" title=${title}
      aria-selected=${String(feature === current)} aria-posinset=${i + 1} aria-setsize=${this.view.length} onPointerDown=${() => explorer.foresee(feature)} onClick=${() => { explorer.open(feature); this.focus(); }}>
      <span class="tsae-cell tsae-feature">${chosen.has(feature) ? "★" : ""}${feature}</span>
      ${about.groups.length > 1 ? html`<span class="tsae-cell tsae-levelcell" title=${group}>${short(group)}</span>` : null}
      <span class="tsae-cell tsae-density">${columns.density[row] === 0 ? "dead" : share(columns.density[row])}</span>
      <span class="tsae-cell tsae-max">${fixed(columns.max[row], digits.max)}</span>
      <span class="tsae-cell tsae-smoothness">${fixed(columns.smoothness[row], digits.smoothness)}</span>
      <span class="tsae-cell tsae-autocorrelation">${fixed(columns.autocorrelation[row])}</span>
      <span class="tsae-cell tsae-name">${hit ? `${number(hit.f1, 2)} ` : null}${explorer.named(feature)}</span></div>`;
  }
  /** As many elements as rows in sight: one that scrolls out of it comes in again on the other side, after a leap all stay where they are. */
  keyOf(i) { return (i + this.turned) % (this.last - this.first); }
  draws(first, last) {
    const size = last - first, before = this.last - this.first, leap = first >= this.last || last <= this.first;
    if (leap && size && size === before) this.turned = (((this.turned + this.first - first) % size) + size) % size;
    [this.first, this.last] = [first, last];
  }
  render() {
    const { view, explorer } = this, rows = this.at.rows, room = rows?.clientHeight || 480, current = explorer.get("feature"), chosen = new Set(explorer.get("selected"));
    const place = this.seeking ? this.position() * ROW : -1, most = Math.max(0, view.length * ROW - room);
    let top = Math.min(rows?.scrollTop || 0, most);
    if (place >= 0 && (place < top || place + ROW > top + room)) this.goal = top = Math.max(0, Math.min(place - room / 2, most));
    this.seeking = false;
    const first = this.firstAt(top), last = Math.min(view.length, first + Math.ceil(room / ROW) + 8);
    this.draws(first, last);
    const inSight = Array.from({ length: Math.max(0, last - first) }, (_, i) => first + i), here = inSight.some((i) => explorer.columns.feature[view[i]] === current);
    return html`<section class="tsae-left" aria-label="features" ref=${this.ref("list")}>
      ${this.tools()}${this.head()}
      <div class="tsae-rows" role="listbox" tabindex="0" aria-label="features; j and k move" aria-activedescendant=${here ? `${this.id}-${current}` : null}
        ref=${this.ref("rows")} onScroll=${() => this.scrolled()}>
        <div class="tsae-space" role="presentation" style="height: ${view.length * ROW}px">${inSight.map((i) => this.line(i, current, chosen))}</div></div>
      <p class="tsae-faint tsae-foot" aria-live="polite">${this.foot}</p></section>`;
  }
}
