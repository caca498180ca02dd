// Bars along a text on canvases: one lane a row, the height of a bar is the activation relative to the lane's highest.

import { colourAt, drawnToFit, notDrawn } from "./page.js";
import { html } from "./parts.js";
import { Component } from "./vendor/preact.mjs";

/** @typedef {{values: ArrayLike<number>, highest: number, colour: string}} Lane */

const HEIGHT = 16; // pixels, of a lane

/** Draws a graph; one token of all may be marked. @param {HTMLCanvasElement} canvas @param {Lane[]} lanes @param {number} length @param {number} cell @param {number | null} mark */
function drawn(canvas, lanes, length, cell, mark) {
  const ratio = window.devicePixelRatio || 1, pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  /** @type {Record<string, string>} */
  const colours = {};
  const colour = (/** @type {string} */ variable) => (colours[variable] ??= colourAt(/** @type {Element} */ (canvas.parentElement), variable));
  canvas.width = Math.ceil(length * cell * ratio);
  canvas.height = lanes.length * HEIGHT * ratio;
  canvas.style.width = `${length * cell}px`;
  canvas.style.height = `${lanes.length * HEIGHT}px`;
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  lanes.forEach((lane, i) => {
    pen.fillStyle = colour(lane.colour);
    for (let t = 0; t < length; t += 1) {
      const part = lane.highest > 0 ? lane.values[t] / lane.highest : 0;
      if (part > 0) pen.fillRect(t * cell, (i + 1) * HEIGHT - Math.max(1, part * (HEIGHT - 2)), Math.max(1, cell - (cell > 3 ? 1 : 0)), Math.max(1, part * (HEIGHT - 2)));
    }
    pen.fillStyle = colour("--tsae-line");
    pen.fillRect(0, (i + 1) * HEIGHT - 0.5, length * cell, 0.5);
  });
  if (mark === null) return;
  pen.strokeStyle = colour("--tsae-text");
  pen.strokeRect(mark * cell, 0, cell, lanes.length * HEIGHT);
}

/**
 * Graphs above each other in the room that is left beside names and numbers, as wide as it allows. `pointed` is told the token, and
 * graph and lane; `of` is the text: another one has no mark yet.
 * @typedef {{head?: string, graphs: {name: string, lanes: Lane[]}[], length: number, of: unknown, pointed: (t: number, graph: number, lane: number) => void,
 *   use: (graphs: Graphs | null) => void}} GraphsProps
 * @extends {Component<GraphsProps, {}>}
 */
export class Graphs extends Component {
  /** @param {GraphsProps} props */
  constructor(props) {
    super(props);
    /** @type {HTMLElement | null} */
    this.box = null;
    this.cell = 0;
    /** @type {number | null} */
    this.marked = null;
  }
  componentDidMount() {
    this.props.use(this);
    if (this.box) drawnToFit(this.box, () => this.fit());
  }
  /** @param {GraphsProps} before */
  componentDidUpdate(before) {
    if (before.of !== this.props.of) this.marked = null;
    this.fit();
  }
  componentWillUnmount() {
    this.props.use(null);
    if (this.box) notDrawn(this.box);
  }
  fit() {
    if (!this.box?.clientWidth) return; // not in sight
    this.cell = Math.max(1, Math.min(16, Math.floor((4 * this.box.clientWidth) / Math.max(1, this.props.length)) / 4));
    this.draw();
  }
  draw() {
    const { graphs, length } = this.props;
    [...(this.box?.querySelectorAll("canvas") || [])].forEach((canvas, i) => drawn(canvas, graphs[i].lanes, length, this.cell, this.marked));
  }
  /** @param {number} t */
  mark(t) {
    this.marked = t;
    if (this.cell) this.draw();
  }
  /** @param {MouseEvent} event @param {number} graph */
  point(event, graph) {
    const at = /** @type {Element} */ (event.currentTarget).getBoundingClientRect(), t = Math.floor((event.clientX - at.left) / this.cell);
    this.props.pointed(Math.min(this.props.length - 1, Math.max(0, t)), graph, Math.floor((event.clientY - at.top) / HEIGHT));
  }
  /** @param {GraphsProps} props */
  render({ head, graphs }) {
    return html`<div class="tsae-lane-scroll" ref=${(/** @type {HTMLElement | null} */ box) => { this.box = box; }}>
      ${head ? html`<div class="tsae-lane-head">${head}</div>` : null}
      ${graphs.map(({ name }, i) => html`<canvas class="tsae-lanes" role="img" aria-label=${name} tabindex="0" onMouseMove=${(/** @type {MouseEvent} */ event) => this.point(event, i)} />`)}
    </div>`;
  }
}
