// Parts of the page that views share, for Preact: what is drawn again keeps its elements, and with them focus and presses.

import { painted } from "./page.js";
import { number, shown } from "./values.js";
import htm from "./vendor/htm.mjs";
import { Component, h } from "./vendor/preact.mjs";

/** @typedef {import("./vendor/preact.mjs").Child} Child */

/** Markup in a template: html`<p class=${name}>…</p>`. */
export const html = /** @type {(parts: TemplateStringsArray, ...values: any[]) => any} */ (htm.bind(h));

/** A table from rows of cells; a row's first cell is its key. @param {{head: Child[], rows: Child[][], name?: string}} props */
export function Table({ head, rows, name = "" }) {
  return html`<table class="tsae-table ${name}">
    <thead><tr>${head.map((cell) => html`<th scope="col">${cell}</th>`)}</tr></thead>
    <tbody>${rows.map((row) => html`<tr>${row.map((cell) => html`<td>${cell}</td>`)}</tr>`)}</tbody>
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

/**
 * What was asked for, when it comes; while it is waited for, what was there before; and the reason if it fails.
 * `key` says when something else is asked; `draw` is a function of the answer.
 * @typedef {{asked: Promise<any>, draw: (answer: any) => Child, saying?: string, ondrawn?: () => void}} AwaitedProps
 * @extends {Component<AwaitedProps, {answer?: any, error?: Error | null, slow?: boolean}>}
 */
export class Awaited extends Component {
  /** @param {AwaitedProps} props */
  constructor(props) {
    super(props);
    this.state = {};
    /** @type {Promise<any> | null} */
    this.asked = null;
  }
  componentDidMount() { this.follow(); }
  componentDidUpdate() { this.follow(); }
  componentWillUnmount() { this.asked = null; }
  async follow() {
    const { asked, ondrawn } = this.props;
    if (asked === this.asked) return;
    this.asked = asked;
    const timer = setTimeout(() => { if (this.asked === asked) this.setState({ slow: true }); }, 150);
    /** @type {{answer?: any, error: Error | null}} */
    let changed;
    try {
      changed = { answer: await asked, error: null };
    } catch (error) {
      changed = { error: /** @type {Error} */ (error) };
    }
    clearTimeout(timer);
    if (this.asked !== asked) return;
    this.setState({ ...changed, slow: false });
    if (!ondrawn) return;
    await painted();
    if (this.asked === asked) ondrawn();
  }
  /** @param {AwaitedProps} props @param {{answer?: any, error?: Error | null, slow?: boolean}} state */
  render({ draw, saying = "waiting for the kernel …" }, { answer, error, slow }) {
    return html`<div class=${slow ? "tsae-waiting" : null} aria-busy=${slow ? "true" : null}>
      ${slow ? html`<p class="tsae-pending" role="status"><span>${saying}</span></p>` : null}
      ${error ? html`<p class="tsae-notice" role="alert">${error.message}</p>` : answer === undefined ? null : draw(answer)}
    </div>`;
  }
}

/**
 * Tokens as running text, the space before each outside of its frame. The activation fills a token from below (height and colour), so
 * that it can be read without colour; the peak has a frame; the number is in the title.
 * @param {{tokens: {text: string, value: number, peak: boolean}[], highest: number}} props
 */
export function Words({ tokens, highest }) {
  return tokens.map(({ text, value, peak }) => {
    const bare = text.trim() === "" ? text : text.trimStart(), part = highest > 0 && value > 0 ? Math.min(1, value / highest) : 0;
    return [text.slice(0, text.length - bare.length).replaceAll("\n", "↵"),
      html`<span class="tsae-token ${part > 0 ? "tsae-active" : ""} ${peak ? "tsae-peak" : ""}" dir="auto"
        title=${value > 0 ? `${text.trim()}  ${number(value)}` : null}
        style=${part > 0 ? `--part: ${Math.round(12 + 88 * part)}%` : null}>${shown(bare)}</span>`];
  });
}
