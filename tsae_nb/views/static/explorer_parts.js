// What the parts of the feature explorer share: groups, words for features without a label, the base of a tab.

import { released } from "./page.js";
import { html } from "./parts.js";
import { integers } from "./values.js";
import { Component } from "./vendor/preact.mjs";

/** @typedef {import("./explorer.js").Explorer} Explorer */
/** @typedef {import("./page.js").Answer} Answer */

export const JUMP = "largest |Δz|/‖Δh‖ in a document, mean over documents (the metric called smoothness); low is smooth";

// Groups of features are levels of a hierarchy, "level 1" shown as L1, or have names of their own; three colours in turn.
/** @param {string} name */
const isLevel = (name) => /^level \d+$/.test(name);
/** @param {string} name */
export function bare(name) { return isLevel(name) ? name.slice(6) : name; }
/** @param {string} name */
export function short(name) { return isLevel(name) ? `L${bare(name)}` : name; }
/** @param {number} group */
export function tint(group) { return ((group - 1) % 3) + 1; }
/** @param {string[]} groups */
export function kindOf(groups) { return groups.every(isLevel) ? "level" : "group"; }

/** @param {{group: number, groups: string[]}} props */
export function Badge({ group, groups }) {
  const name = groups[group - 1];
  return groups.length > 1 ? html`<span class="tsae-level tsae-level-${tint(group)}" title=${isLevel(name) ? `${name} of ${groups.length}, 1 is the lowest` : `group ${name}`}>${short(name)}</span>` : null;
}

/** Offers text as a file of that name. @param {string} name @param {string} text */
export function download(name, text) {
  const address = URL.createObjectURL(new Blob([text], { type: "application/json" })), link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

/** What features are about where they have no label: the words of their strongest tokens, asked for together when the page rests. */
export class Previews {
  /** @param {Element} root @param {Record<string, string>} known @param {import("./page.js").Backend} backend */
  constructor(root, known, backend) {
    this.root = root;
    this.backend = backend;
    this.known = new Map(Object.entries(known || {}).map(([feature, text]) => [Number(feature), text]));
    /** @type {Set<number>} */
    this.wanted = new Set();
    /** @type {Set<Preview>} those on the page */
    this.spots = new Set();
    this.timer = 0;
  }
  /** @param {number} feature */
  words(feature) { return this.known.get(feature) || ""; }
  /** @param {number} feature */
  want(feature) {
    if (this.backend.stored) return;
    this.wanted.add(feature);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.ask(), 400);
  }
  async ask() {
    const features = [...this.wanted].slice(-40); // a few at a time, those in sight first: a card that is opened meanwhile is answered in between
    features.forEach((feature) => this.wanted.delete(feature));
    try {
      const answer = await this.backend.ask("previews", { features });
      features.forEach((feature, i) => this.known.set(feature, answer.texts[i]));
      await released(this.root);
      for (const spot of this.spots) if (features.includes(spot.props.feature)) spot.forceUpdate();
    } catch {
      // the number stands without: what is asked next says what is wrong
    }
    if (this.wanted.size) this.timer = setTimeout(() => this.ask(), 0);
  }
}

/** @extends {Component<{feature: number, previews: Previews}, {}>} */
export class Preview extends Component {
  componentDidMount() {
    this.props.previews.spots.add(this);
    this.componentDidUpdate();
  }
  componentDidUpdate() {
    const { feature, previews } = this.props;
    if (!previews.known.has(feature)) previews.want(feature);
  }
  componentWillUnmount() { this.props.previews.spots.delete(this); }
  /** @param {{feature: number, previews: Previews}} props */
  render({ feature, previews }) {
    const text = previews.words(feature);
    return html`<span class="tsae-preview" dir="auto">${text ? ` ${text}` : null}</span>`;
  }
}

/**
 * A tab: drawn when it is refreshed or changes something itself, not with every card.
 * @typedef {{explorer: Explorer, name: string}} ViewProps
 * @extends {Component<ViewProps, any>}
 */
export class View extends Component {
  /** @param {ViewProps} props */
  constructor(props) {
    super(props);
    /** @type {any} */
    this.state = {};
    props.explorer.views[props.name] = this;
  }
  /** The panel that it is in says what is drawn. @param {Record<string, string>} said */
  say(said) { Object.assign(this.props.explorer.panels[this.props.name].dataset, said); }
  /** @param {ViewProps} _ @param {object} state */
  shouldComponentUpdate(_, state) { return state !== this.state; }
  /** Another feature is open, others are chosen, or something has a new label. */
  refresh() { this.forceUpdate(); }
}

/** The features that steering and ablation act on: the chosen ones, else the one on the card. @param {Explorer} explorer @returns {number[]} */
export function chosenFeatures(explorer) {
  const chosen = explorer.get("selected");
  return chosen.length ? chosen : [explorer.get("feature")];
}

/** @param {{explorer: Explorer}} props */
export function Chosen({ explorer }) {
  return html`<div class="tsae-row"><span class="tsae-faint">${explorer.get("selected").length ? "chosen:" : "on the card (choose others with ☆):"}</span>
    ${chosenFeatures(explorer).map((feature) => explorer.link(feature))}</div>`;
}

/** Says of which features an answer is, once others are chosen. @param {{explorer: Explorer, features: number[]}} props */
export function Of({ explorer, features }) {
  if (String(features) === String(chosenFeatures(explorer))) return null;
  return html`<div class="tsae-row tsae-of-others"><span class="tsae-notice">made with other features than those chosen now:</span>${features.map((feature) => explorer.link(feature))}</div>`;
}

/** A feature's strongest context as text to begin with: up to the peak, or whole. @param {Answer} card @param {boolean} toPeak */
export function strongestText(card, toPeak) {
  const numbers = integers(card.buffers[0]).subarray(0, toPeak ? card.peaks[0] - card.starts[0] + 1 : card.width);
  const words = Array.from(numbers).filter((word) => word >= 0).map((word) => card.words[word]);
  return words.join("").replace(/<[^>]*>/g, "").replaceAll("\n", " ").trim();
}

/** Text to begin with in a field, until somebody writes there. @param {HTMLInputElement | HTMLTextAreaElement | null} field @param {string} text */
export function suggest(field, text) {
  if (field && (!field.value || field.value === field.dataset.suggested)) field.value = field.dataset.suggested = text;
}
