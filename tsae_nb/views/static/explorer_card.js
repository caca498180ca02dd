// The feature explorer's card: what one feature is, where it fires, and what is near it.

import { Badge, JUMP, download } from "./explorer_parts.js";
import { pause } from "./page.js";
import { Awaited, Histogram, Table, Words, html } from "./parts.js";
import { fixed, floats, integers, isolated, number, share, shown } from "./values.js";
import { Component } from "./vendor/preact.mjs";

/** @typedef {import("./explorer.js").Explorer} Explorer */
/** @typedef {import("./page.js").Answer} Answer */

const KINDS = { top: "strongest contexts, apart from each other", fifths: "some of each fifth of the activations, weakest first", random: "at random" };
const FEW = 7; // contexts, so that what stands below is in sight

/** A card for programs, from its answer and that of co-activation: the fields are those of `card_json` in the explorer's notebook. */
function cardForPrograms(answer, coactive, about, label) {
  const width = answer.width, half = answer.logits.length / 2, numbers = integers(answer.buffers[0]), values = floats(answer.buffers[1]);
  const contexts = answer.kinds.map((kind, row) => {
    const inside = Array.from({ length: width }, (_, i) => row * width + i).filter((i) => numbers[i] >= 0);
    return { kind, document: answer.pieces[row], start: answer.begins[row], peak: answer.peaks[row] - answer.starts[row],
      tokens: inside.map((i) => answer.words[numbers[i]]), activations: inside.map((i) => Number(values[i].toPrecision(3))) };
  });
  return {
    format: "tsae_nb.card", version: 1, sae: about.id, layer: about.layer, feature: answer.feature, label, explanations: answer.explanations,
    group: about.groups[answer.statistics.level - 1], statistics: answer.statistics, histogram: { upper: answer.statistics.max, counts: answer.histogram }, contexts,
    promotes: answer.logits.slice(0, half), suppresses: answer.logits.slice(half), neighbours: answer.neighbours,
    coactive: coactive.rows.map(({ feature, phi, given_this, given_other }) => ({ feature, phi, given_this, given_other })),
  };
}

/**
 * One context: the peak and what is around it, the whole window at a press, and the way to the trace. The next answer's is drawn with
 * the same elements.
 * @typedef {{of: Answer, tokens: {text: string, value: number, peak: boolean}[], peak: number, highest: number, kind: string, document: number, trace: (() => void) | null}} ContextProps
 * @extends {Component<ContextProps, {whole: Answer | null}>}
 */
class Context extends Component {
  constructor(props) {
    super(props);
    this.state = { whole: null }; // the answer whose window is shown whole
  }
  render({ of, tokens, peak, highest, kind, document, trace }, state) {
    const whole = state.whole === of, [first, last] = whole ? [0, tokens.length] : [Math.max(0, peak - 18), Math.min(tokens.length, peak + 9)];
    return html`<div class="tsae-context">
      <button class="tsae-small" aria-expanded=${String(whole)} title="the whole window" aria-label="the whole window" onClick=${() => this.setState({ whole: whole ? null : of })}>↔</button>
      ${trace ? html`<button class="tsae-small" title="trace document ${document}" aria-label="trace document ${document}" onClick=${trace}>⇢</button>` : html`<span></span>`}
      <span class="tsae-faint tsae-value" title="activation at the framed token">${kind === "top" || kind === "random" ? "" : `${kind} · `}${number(tokens[peak]?.value)}</span>
      <div class="tsae-text" dir="auto">${first > 0 ? "… " : ""}<${Words} tokens=${tokens.slice(first, last)} highest=${highest} />${last < tokens.length ? " …" : ""}</div></div>`;
  }
}

/** The contexts of a card's answer of the kinds that are wanted, the first few of them. */
export function Contexts({ explorer, answer, wanted = Boolean, few = Infinity, canTrace = true }) {
  const numbers = integers(answer.buffers[0]), values = floats(answer.buffers[1]), width = answer.width;
  return answer.kinds.map((kind, row) => ({ kind, row })).filter(({ kind }) => wanted(kind)).slice(0, few).map(({ kind, row }) => {
    const peak = answer.peaks[row] - answer.starts[row], places = Array.from({ length: width }, (_, i) => row * width + i).filter((i) => numbers[i] >= 0);
    const tokens = places.map((place, i) => ({ text: answer.words[numbers[place]], value: values[place], peak: i === peak }));
    return html`<${Context} key=${row} of=${answer} tokens=${tokens} peak=${peak} highest=${answer.statistics.max} kind=${kind} document=${answer.pieces[row]}
      trace=${canTrace ? () => explorer.trace({ piece: answer.pieces[row], start: answer.begins[row] }, false) : null} />`;
  });
}

/** Numbers of a feature that every card begins with. */
export function active({ dead, active, density }) {
  return dead ? "dead" : `active on ${active.toLocaleString("en")} tokens (${share(density)})`;
}

/** What the last word search says of a feature. */
function Found({ found: { text, occurrences, row } }) {
  return html`<p class="tsae-found-here"><b>“<bdi>${text}</bdi>”</b>${row.threshold ? `: fires above ${number(row.threshold)} on ` : ": fires on "}${
    `${row.hits.toLocaleString("en")} of its ${occurrences.toLocaleString("en")} occurrences and ${(row.fired - row.hits).toLocaleString("en")} other tokens, F1\u00a0${number(row.f1, 2)}`}${
    row.threshold ? html`<span class="tsae-faint"> (firing at all: ${number(row.f1_any, 2)})</span>` : null}</p>`;
}

/** @extends {Component<{explorer: Explorer, answer: Answer}, {kind: string, wide: boolean, copied: {of: number, said: string} | null}>} */
export class Card extends Component {
  constructor(props) {
    super(props);
    this.state = { kind: "top", wide: false, copied: /** @type {{of: number, said: string} | null} */ (null) };
    this.related = new Set(); // the features whose relations were asked for
    this.turned = -Infinity; // when the last card came
    this.relations = { of: /** @type {Answer | null} */ (null), asked: /** @type {Promise<any> | null} */ (null) };
  }
  /** Asked when the card is painted, else the kernel counts while it is to be; and where somebody leafs through, not at all. */
  askRelations(answer) {
    const { explorer } = this.props, feature = answer.feature;
    if (this.relations.of === answer) return this.relations.asked;
    const now = performance.now(), leafing = now - this.turned < 150;
    this.turned = now;
    const before = this.related.has(feature) || explorer.backend.stored ? Promise.resolve() : explorer.shown.then(() => (leafing ? pause(60) : undefined));
    const ask = () => {
      if (this.props.answer !== answer) return new Promise(() => {}); // nobody waits for it any more
      this.related.add(feature);
      return explorer.ask(`coactive:${feature}`, "coactive", { feature });
    };
    this.relations = { of: answer, asked: before.then(ask) };
    return this.relations.asked;
  }
  async copyLink(event, of) {
    let said = "link copied";
    try {
      await navigator.clipboard.writeText(event.currentTarget.href);
    } catch {
      said = "link is in the address bar"; // where a page may not write to the clipboard
    }
    this.setState({ copied: { of, said } });
    setTimeout(() => this.setState({ copied: null }), 2000);
  }
  async save(answer) {
    const { explorer } = this.props, feature = answer.feature;
    try {
      const together = await explorer.ask(`coactive:${feature}`, "coactive", { feature });
      download(`feature-${feature}.json`, JSON.stringify(cardForPrograms(answer, together, explorer.about, explorer.own(feature)), null, 1));
    } catch (error) {
      explorer.tell(/** @type {Error} */ (error).message);
    }
  }

  travel(back) {
    const { explorer } = this.props, to = back ? explorer.opened.back() : explorer.opened.forward(), name = back ? "back" : "forward";
    const title = to === undefined ? (back ? "back: nothing was opened before" : "forward") : `${name} to #${to} ${isolated(explorer.label(to))} (alt ${back ? "←" : "→"})`;
    return html`<button class="tsae-small" disabled=${to === undefined} aria-label=${name} title=${title} onClick=${() => explorer.travel(back)}>${back ? "←" : "→"}</button>`;
  }
  head(answer) {
    const { explorer } = this.props, feature = answer.feature, chosen = explorer.get("selected").includes(feature), copied = this.state.copied;
    return html`<div class="tsae-row">${this.travel(true)}${this.travel(false)}
      <h3 data-feature=${feature}>#${feature}</h3><${Badge} group=${answer.statistics.level} groups=${explorer.about.groups} />
      <input class="tsae-label" dir="auto" key=${feature} defaultValue=${explorer.own(feature)} placeholder="label" aria-label="label of this feature" disabled=${explorer.backend.stored}
        onChange=${(event) => explorer.saveLabel(feature, event.target.value)} />
      <button class="tsae-star" aria-pressed=${String(chosen)} title="choose for steering, ablation and traces (x)" onClick=${() => explorer.toggle(feature)}>${chosen ? "★ chosen" : "☆ choose"}</button>
      <a class="tsae-link" href=${explorer.addressOf(feature)} title="copy the address of this feature" onClick=${(event) => this.copyLink(event, feature)}>${copied && copied.of === feature ? copied.said : "link"}</a>
      <button class="tsae-small" title="this card as a JSON file" aria-label="card as JSON" onClick=${() => this.save(answer)}>JSON</button></div>`;
  }
  imported({ feature, explanations }) {
    const { explorer } = this.props;
    if (!explanations.length) return null;
    return html`<p class="tsae-imported" tabindex="0">imported: ${explanations.map((one, i) => [i ? " · " : "", html`<bdi>${one.description}</bdi>`])}
      <small class="tsae-faint"> (<bdi>${explanations[0].explanationModelName || "by a person"}</bdi>) </small>
      ${explorer.backend.stored ? null : html`<button class="tsae-small" title="make it this feature's label"
        onClick=${() => explorer.useAsLabel(feature, explanations[0].description)}>use as label</button>`}</p>`;
  }
  numbers({ feature, statistics }) {
    const { explorer } = this.props;
    return html`<p class="tsae-faint">${explorer.label(feature) ? null : explorer.preview(feature)}${` ${active(statistics)} · max ${number(statistics.max)} · mean ${number(statistics.mean)} · `}
      <span title="correlation of the activation with the one on the next token">lag-1 ${fixed(statistics.autocorrelation)}</span>${" · "}
      <span title="mean tokens in a row">run ${number(statistics.run_length, 2)}</span>${" · "}
      <span title=${JUMP}>jump ${number(statistics.smoothness, 2)}</span></p>`;
  }
  contexts(answer) {
    const { kind, wide } = this.state, wanted = (name) => name.startsWith({ top: "top", fifths: "fifth", random: "random" }[kind]), all = answer.kinds.filter(wanted).length;
    const few = kind === "fifths" || wide ? all : FEW;
    return html`<div class="tsae-row"><h4>contexts</h4>${Object.entries(KINDS).map(([name, title]) => html`<button class="tsae-small" key=${name} aria-pressed=${String(kind === name)} title=${title}
        onClick=${() => this.setState({ kind: name })}>${name}</button>`)}</div>
      <div class="tsae-contexts">${all ? html`<${Contexts} explorer=${this.props.explorer} answer=${answer} wanted=${wanted} few=${few} />`
        : html`<p class="tsae-notice">This feature is dead: it is active on none of the tokens, so there is no context to show.</p>`}
        ${all > few ? html`<button class="tsae-small" onClick=${() => this.setState({ wide: true })}>${all - few} more</button>` : null}</div>`;
  }
  logits(rows, title) {
    return html`<div><h4>${title}</h4><${Table} head=${["logit", "token"]} rows=${rows.map((row) => [number(row.logit, 2), shown(row.text)])} /></div>`;
  }
  relatives(answer, found) {
    const { explorer } = this.props, { neighbours } = answer, together = found.rows.slice(0, 10), features = (rows) => rows.map((row) => row.feature);
    return html`<div><h4 title="correlation of being active">fires together with${found.sampled ? html`<small class="tsae-faint"> (on ${found.sampled.toLocaleString("en")} of its tokens)</small>` : null}</h4>
        <${Table} head=${["φ", "feature", "", "given this", "given other"]} keys=${features(together)} rows=${together.map((row) => [number(row.phi, 2), explorer.link(row.feature),
          html`<${Badge} group=${row.level} groups=${explorer.about.groups} />`, share(row.given_this), share(row.given_other)])} /></div>
      <div><h4>nearest decoder rows</h4>${neighbours.length
        ? html`<${Table} head=${["cosine", "feature"]} keys=${features(neighbours)} rows=${neighbours.map((row) => [number(row.cosine, 2), explorer.link(row.feature)])} />`
        : html`<p class="tsae-faint">no decoder in this index</p>`}</div>`;
  }
  render({ explorer, answer }) {
    const found = explorer.list?.foundOf(answer.feature), half = answer.logits.length / 2;
    return html`${this.head(answer)}${found ? html`<${Found} found=${found} />` : null}${this.imported(answer)}${this.numbers(answer)}${this.contexts(answer)}
      <div class="tsae-columns">
        ${answer.histogram.length ? html`<${Histogram} title="activations, √ heights" counts=${answer.histogram} highest=${answer.statistics.max} />` : null}
        ${half ? this.logits(answer.logits.slice(0, half), "promotes") : null}${half ? this.logits(answer.logits.slice(half), "suppresses") : null}</div>
      <${Awaited} key=${answer.feature} name="tsae-columns" asked=${this.askRelations(answer)} draw=${(together) => this.relatives(answer, together)} />`;
  }
}
