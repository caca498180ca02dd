// Parts of the page that views share, for Preact: what is drawn again keeps its elements, and with them focus and presses.

import { painted, released } from "./page.js";
import { isolated, number, shown } from "./values.js";
import htm from "./vendor/htm.mjs";
import { Component, h } from "./vendor/preact.mjs";

/** @typedef {import("./vendor/preact.mjs").Child} Child */

/** Markup in a template: html`<p class=${name}>…</p>`. */
export const html = /** @type {(parts: TemplateStringsArray, ...values: any[]) => any} */ (htm.bind(h));

/** A table from rows of cells; rows that may change places have keys. @param {{head: Child[], rows: Child[][], name?: string, keys?: (string | number)[]}} props */
export function Table({ head, rows, name = "", keys = [] }) {
  return html`<table class="tsae-table ${name}">
    <thead><tr>${head.map((cell) => html`<th scope="col">${cell}</th>`)}</tr></thead>
    <tbody>${rows.map((row, i) => html`<tr key=${keys[i]}>${row.map((cell) => html`<td>${cell}</td>`)}</tr>`)}</tbody>
  </table>`;
}

/**
 * A chart and its table, one of them shown.
 * @typedef {{title: Child, children?: Child, table: () => Child, button?: string, hint?: string, about?: string}} FigureProps
 * @extends {Component<FigureProps, {tabled: boolean}>}
 */
export class Figure extends Component {
  /** @param {FigureProps} props */
  constructor(props) {
    super(props);
    this.state = { tabled: false };
  }
  /** @param {FigureProps} props @param {{tabled: boolean}} state */
  render({ title, children, table, button = "table", hint = "the same numbers as a table", about }, { tabled }) {
    return html`<figure class="tsae-figure" data-chart=${about}>
      <figcaption>${title} <button class="tsae-small" aria-pressed=${String(tabled)} title=${hint}
        onClick=${() => this.setState({ tabled: !tabled })}>${button}</button></figcaption>
      ${tabled ? html`<div class="tsae-scroll" tabindex="0" role="group" aria-label="the numbers">${table()}</div>`
        : html`<div class="tsae-drawn">${children}</div>`}
    </figure>`;
  }
}

/** Bars of counts over equal bins of (0, highest]; heights are square roots. @param {{title: string, counts: number[], highest: number}} props */
export function Histogram({ title, counts, highest }) {
  const width = 260, height = 64, top = Math.max(1, ...counts), bar = width / Math.max(1, counts.length);
  const edge = (/** @type {number} */ bin) => number((highest * bin) / counts.length);
  const table = () => html`<${Table} head=${["from", "to", "tokens"]} rows=${counts.map((count, bin) => [edge(bin), edge(bin + 1), count]).filter((row) => Number(row[2]) > 0)} />`;
  return html`<${Figure} title=${title} table=${table}>
    <svg class="tsae-bars" viewBox="0 0 ${width} ${height + 12}" role="img" aria-label="${title}; heights are square roots, so that rare ones stay visible">
      ${counts.map((count, bin) => {
        const size = count ? Math.max(1, Math.sqrt(count / top) * (height - 2)) : 0;
        return html`<rect x=${bin * bar} y=${height - size} width=${Math.max(0.5, bar - 1)} height=${size}><title>${edge(bin)} to ${edge(bin + 1)}: ${count} tokens</title></rect>`;
      })}
      <line x1="0" x2=${width} y1=${height} y2=${height} /><text x="0" y=${height + 11}>0</text><text x=${width} y=${height + 11} text-anchor="end">${number(highest)}</text>
    </svg><//>`;
}

/**
 * What was asked for, when it comes and nothing in it is pressed; while it is waited for, what was there before; and the reason if it
 * fails. Another promise is another question, `null` is none; `draw` is a function of the answer.
 * @typedef {{asked: Promise<any> | null, draw: (answer: any) => Child, name?: string, saying?: string, ondrawn?: () => void}} AwaitedProps
 * @extends {Component<AwaitedProps, {answer?: any, error?: Error | null, slow?: boolean}>}
 */
export class Awaited extends Component {
  /** @param {AwaitedProps} props */
  constructor(props) {
    super(props);
    this.state = {};
    /** @type {Promise<any> | null} */
    this.asked = null;
    /** @type {HTMLElement | null} */
    this.element = null;
  }
  componentDidMount() { this.follow(); }
  componentDidUpdate() { this.follow(); }
  componentWillUnmount() { this.asked = null; }
  async follow() {
    const { asked, ondrawn } = this.props;
    if (asked === this.asked) return;
    this.asked = asked;
    if (!asked) return this.setState({ answer: undefined, error: null, slow: false });
    const timer = setTimeout(() => { if (this.asked === asked) this.setState({ slow: true }); }, 150);
    /** @type {{answer?: any, error: Error | null}} */
    let changed;
    try {
      changed = { answer: await asked, error: null };
    } catch (error) {
      changed = { error: /** @type {Error} */ (error) };
    }
    if (this.element) await released(this.element);
    clearTimeout(timer);
    if (this.asked !== asked) return;
    this.setState({ ...changed, slow: false });
    if (!ondrawn) return;
    await painted();
    if (this.asked === asked) ondrawn();
  }
  /** @param {AwaitedProps} props @param {{answer?: any, error?: Error | null, slow?: boolean}} state */
  render({ draw, name = "", saying = "waiting for the kernel …" }, { answer, error, slow }) {
    return html`<div class="${name} ${slow ? "tsae-waiting" : ""}" aria-busy=${slow ? "true" : null}
      ref=${(/** @type {HTMLElement | null} */ element) => { this.element = element; }}>
      ${slow ? html`<${Pending} saying=${saying} />` : null}
      ${error ? html`<p class="tsae-notice" role="alert">${error.message}</p>` : answer === undefined ? null : draw(answer)}
    </div>`;
  }
}

/** What is waited for; it takes no room, so that nothing moves. @param {{saying: string}} props */
export function Pending({ saying }) {
  return html`<p class="tsae-pending" role="status"><span>${saying}</span></p>`;
}

/** The space before a word, outside of its frame, and the word. @param {string} text @returns {[string, string]} */
function parted(text) {
  const bare = text.trim() === "" ? text : text.trimStart();
  return [text.slice(0, text.length - bare.length).replaceAll("\n", "↵"), bare];
}
/** @param {string} bare @param {string} name @param {number} part @param {string | null} title @param {number} [column] */
function spanned(bare, name, part, title, column) {
  return html`<span class="tsae-token ${name}" dir="auto" title=${title} data-column=${column} style=${part > 0 ? `--part: ${Math.round(part)}%` : null}>${shown(bare)}</span>`;
}

/**
 * A word, the space before it outside of its frame; `part` of it, in per cent, is filled.
 * @param {string} text
 * @param {{name?: string, part?: number, title?: string | null, column?: number}} how
 */
export function word(text, { name = "", part = 0, title = null, column } = {}) {
  const [space, bare] = parted(text);
  return [space, spanned(bare, name, part, title, column)];
}

/**
 * Tokens as running text. The activation fills a token from below (height and colour), so that it can be read without colour; the peak
 * has a frame; the number is in the title. Tokens of which nothing is to be said share an element.
 * @typedef {{text: string, value?: number, peak?: boolean, unknown?: boolean, name?: string, column?: number}} Token
 * @param {{tokens: Token[], highest?: number}} props
 */
export function Words({ tokens, highest = 0 }) {
  /** @type {Child[]} */
  const drawn = [];
  let silent = "";
  const close = () => {
    if (silent) drawn.push(html`<span class="tsae-token" dir="auto">${silent}</span>`);
    silent = "";
  };
  for (const { text, value = 0, peak = false, unknown = false, name = "", column } of tokens) {
    const part = highest > 0 && value > 0 ? Math.min(1, value / highest) : 0, names = [part > 0 && "tsae-active", peak && "tsae-peak", unknown && "tsae-unknown", name].filter(Boolean).join(" ");
    const title = value > 0 ? `${isolated(text.trim())}  ${number(value)}` : unknown ? `${isolated(text.trim())} (not in the vocabulary)` : null;
    const [space, bare] = parted(text);
    if (!names && !title && column === undefined) silent += space + shown(bare);
    else {
      close();
      drawn.push(space, spanned(bare, names, part > 0 ? 12 + 88 * part : 0, title, column));
    }
  }
  close();
  return drawn;
}
