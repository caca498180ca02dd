// The tab Compare: another SAE beside this one, its features, and both along one text.

import { Badge, View, bare, kindOf, tint } from "./explorer_parts.js";
import { Contexts, active } from "./explorer_card.js";
import { Graphs } from "./lanes.js";
import { Awaited, Figure, Histogram, Table, html } from "./parts.js";
import { fixed, floats, isolated, number, share, shown } from "./values.js";
import { Component } from "./vendor/preact.mjs";

/** @typedef {import("./explorer.js").Explorer} Explorer */
/** @typedef {import("./page.js").Answer} Answer */

/**
 * Matched features along one text, in pairs.
 * @typedef {{answer: Answer, explorer: Explorer, otherLink: (feature: number, name: string) => any}} PairsProps
 * @extends {Component<PairsProps, {of: Answer | null, t: number}>}
 */
class Pairs extends Component {
  constructor(props) {
    super(props);
    this.state = { of: null, t: 0 };
    /** @type {Graphs | null} */
    this.graphs = null;
  }
  render({ answer, explorer, otherLink }, { of, t }) {
    const length = answer.texts.length, mine = floats(answer.buffers[0]), theirs = floats(answer.buffers[1]);
    const lanes = answer.features.flatMap((_, i) => [[mine, answer.levels[i]], [theirs, answer.other_levels[i]]].map(([matrix, level]) => {
      const values = matrix.subarray(i * length, (i + 1) * length);
      return { values, highest: Math.max(...values), colour: `--tsae-level${tint(level)}` };
    }));
    const rows = answer.features.map((feature, i) => ({ feature, link: explorer.link(feature), other: otherLink(answer.others[i], answer.other_names[i]),
      cosine: answer.cosines[i], correlation: answer.correlations[i] }));
    const table = () => html`<${Table} head=${["feature", "other", "cosine", "r on this text"]} keys=${answer.features}
      rows=${rows.map(({ link, other, cosine, correlation }) => [link, other, number(cosine), number(correlation)])} />`;
    const pointed = (at) => {
      this.graphs?.mark(at);
      this.setState({ of: answer, t: at });
    };
    return html`<${Figure} title="${answer.piece === null ? "your text" : `document ${answer.piece}`}, features in pairs" table=${table}><div class="tsae-lane-grid">
        <div class="tsae-lane-names">${rows.flatMap(({ feature, link, other }) => [html`<div class="tsae-lane-name" key=${feature}>${link}</div>`,
          html`<div class="tsae-lane-name" key="other of ${feature}"><span class="tsae-faint">other</span>${other}</div>`])}</div>
        <${Graphs} use=${(graphs) => { this.graphs = graphs; }} graphs=${[{ name: "matched features along the same text, in pairs: this SAE above, the other below", lanes }]}
          length=${length} of=${answer} pointed=${pointed} />
        <div class="tsae-lane-stats">${rows.flatMap(({ feature, cosine, correlation }) => [html`<div class="tsae-lane-name" key=${feature}>cos ${number(cosine, 2)}</div>`,
          html`<div class="tsae-lane-name" key="other of ${feature}" title="correlation of the two on this text">r ${number(correlation, 2)}</div>`])}</div></div><//>
      <p class="tsae-faint">${of === answer ? `token ${t}: “${isolated(shown(answer.texts[t]).trim())}”` : "Each pair: this SAE above, the other below."}</p>`;
  }
}

export class CompareView extends View {
  constructor(props) {
    super(props);
    this.state = { trouble: null }; // of a label
    this.matches = this.other = this.pairs = null; // what was asked
    this.of = this.opened = null; // the feature whose matches are shown, and the other SAE's that is open
    /** @type {HTMLTextAreaElement | null} */
    this.text = null;
  }
  refresh() {
    if (this.props.explorer.about.other) {
      this.askMatches();
      this.askPairs();
    }
    this.forceUpdate();
  }
  askMatches() {
    const { explorer } = this.props, feature = explorer.get("feature");
    const asked = explorer.backend.ask("matches", { feature }).then((answer) => {
      if (this.matches !== asked) return answer;
      if (this.of !== feature) this.opened = answer.rows[0].feature;
      this.of = feature;
      this.open(this.opened);
      return answer;
    });
    asked.catch(() => {}); // said where it is drawn
    this.matches = asked;
  }
  open(feature) {
    this.opened = feature;
    this.other = this.props.explorer.backend.ask("other", { feature });
    this.other.catch(() => {});
    this.setState({ trouble: null });
  }
  askPairs() {
    const { explorer } = this.props, { backend, place, about } = explorer, feature = explorer.get("feature");
    this.pairs = null;
    if (place?.text !== undefined) {
      if (this.text && !this.text.value) this.text.value = place.text;
      if (this.both()) this.pairs = backend.ask("pairs", { feature, text: place.text });
    }
    else if (about.other.same_text && place?.piece !== undefined) this.pairs = backend.ask("pairs", { feature, piece: place.piece });
    this.pairs?.catch(() => {});
  }
  both() { return this.props.explorer.about.live && this.props.explorer.about.other?.live; }
  readBoth() {
    this.props.explorer.moved({ text: this.text?.value });
    this.askPairs();
    this.forceUpdate();
  }
  label(feature, text) {
    this.props.explorer.backend.ask("label_other", { feature, text }).then(() => this.refresh(), (error) => this.setState({ trouble: error.message }));
  }

  link(feature, name) {
    return html`<button class="tsae-link" data-other=${feature} aria-pressed=${String(this.opened === feature)}
      title="open feature ${feature} of the other SAE: ${isolated(name)}" onClick=${() => this.open(feature)}>#${feature}<span dir="auto"> ${name}</span></button>`;
  }
  drawMatches({ feature, rows }) {
    const { groups } = this.props.explorer.about.other;
    return html`<h4>nearest to #${feature} in the other SAE</h4>
      <${Table} head=${["cosine", "feature", ...(groups.length > 1 ? [kindOf(groups)] : []), "density", "lag-1"]}
        keys=${rows.map((row) => row.feature)} rows=${rows.map((row) => [number(row.cosine, 3), this.link(row.feature, row.name),
        ...(groups.length > 1 ? [bare(groups[row.level - 1])] : []), share(row.density), fixed(row.autocorrelation)])} />`;
  }
  drawOther(answer) {
    const { explorer } = this.props, { feature, statistics, reverse } = answer, { groups, same_text } = explorer.about.other, current = explorer.get("feature");
    return html`<section aria-label="card of the other SAE's feature" data-feature=${feature}>
      <div class="tsae-row"><h4>other #${feature}</h4><${Badge} group=${statistics.level} groups=${groups} />
        <input class="tsae-otherlabel" dir="auto" key=${feature} defaultValue=${answer.label} placeholder="label" aria-label="label of the other SAE's feature"
          onChange=${(event) => this.label(feature, event.target.value)} /></div>
      <p class="tsae-faint">${this.state.trouble ? html`<span class="tsae-notice" role="alert">${this.state.trouble}</span>`
        : `${active(statistics)} · max ${number(statistics.max)} · lag-1 ${fixed(statistics.autocorrelation)} · run ${number(statistics.run_length, 2)}`}</p>
      <h4>nearest to it in this SAE</h4>
      <${Table} head=${["cosine", "feature"]} keys=${reverse.map((row) => row.feature)}
        rows=${reverse.map((row) => [number(row.cosine, 3), html`<span>${explorer.link(row.feature)}${row.feature === current ? " ← the one on the card" : null}</span>`])} />
      <h4>contexts</h4>${answer.kinds.length ? html`<${Contexts} explorer=${explorer} answer=${answer} canTrace=${same_text} />` : html`<p class="tsae-notice">This feature is dead.</p>`}</section>`;
  }
  /** Why nothing stands side by side. */
  excuse() {
    const { place, about } = this.props.explorer;
    if (place?.text !== undefined) return this.both() ? "" : "A text of one's own needs the other SAE too: explorer.compare(index, sae=its_sae). Documents stand side by side: choose one in the tab Trace (⇢ beside a context).";
    return about.other.same_text ? "" : `The two indexes were made from different text, so documents cannot stand side by side${this.both() ? "; a text of your own can" : ""}.`;
  }
  render({ explorer }) {
    const { about, backend } = explorer, { other } = about;
    if (!other) return html`<p class="tsae-notice">${backend.stored ? "A stored page holds one SAE." : "Nothing to compare with yet: explorer.compare(\"path/of/another/index\")."}</p>`;
    const feature = String(explorer.get("feature")), excuse = this.excuse();
    return html`<div><p>${other.folder}: ${other.features.toLocaleString("en")} features, ${other.dead.toLocaleString("en")} dead. Median best cosine ${number(other.median)} over ${other.matched} features of this SAE.</p>
        ${other.layer !== about.layer ? html`<p class="tsae-notice">The other SAE reads layer ${other.layer}, this one layer ${about.layer}: the same direction need not mean the same there.</p>` : null}
        <details><summary>best cosines of all features</summary><${Histogram} title="best cosines, √ heights" counts=${other.cosines} highest=${1} /></details></div>
      <div class="tsae-compared"><div>
          <${Awaited} name="tsae-matches" asked=${this.matches} draw=${(answer) => this.drawMatches(answer)} saying="looking for the nearest …" />
          <${Awaited} name="tsae-other" asked=${this.other} draw=${(answer) => this.drawOther(answer)} saying="opening #${this.opened} of the other SAE …" /></div>
        <div><div class="tsae-row tsae-paste" hidden=${!this.both()}>
            <div class="tsae-growing"><textarea dir="auto" rows="1" placeholder="Paste a text and read it with both …" aria-label="text to read with both" ref=${(text) => { this.text = text; }} /></div>
            <button onClick=${() => this.readBoth()}>Read in both</button></div>
          ${excuse ? html`<p class="tsae-notice">${excuse}</p>` : null}
          <${Awaited} name="tsae-pairs" asked=${this.pairs} saying=${explorer.place?.text === undefined ? "tracing both …" : "reading with both …"} ondrawn=${() => { this.say({ compared: feature }); }}
            draw=${(answer) => html`<${Pairs} answer=${answer} explorer=${explorer} otherLink=${(of, name) => this.link(of, name)} />`} /></div></div>`;
  }
}
