// Shared by the widgets: elements, tokens, small charts with a table twin, and the two ways of asking for answers.

import { released } from "./page.js";
import { number, shown } from "./values.js";

/** Make an element. Attributes starting with "on" are listeners, `null`/`false` values are left out. */
export function h(tag, attributes = {}, ...children) {
  const svg = ["svg", "rect", "line", "path", "circle", "text", "g", "polyline", "title", "polygon"].includes(tag);
  const element = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export function fill(element, ...children) {
  element.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/**
 * One token. The activation fills it from below (height and colour), so that it can be read without colour; the peak has a frame;
 * the number is in the title.
 */
export function token(text, value, highest, options = {}) {
  const part = highest > 0 && value > 0 ? Math.min(1, value / highest) : 0;
  const element = h("span", {
    class: `tsae-token${options.peak ? " tsae-peak" : ""}${options.unknown ? " tsae-unknown" : ""}`,
    dir: "auto",
    title: value > 0 ? `${text.trim()}  ${number(value)}` : options.unknown ? `${text.trim()} (not in the vocabulary)` : null,
    "data-column": options.column,
  }, shown(text.trim() === "" ? text : text.trimStart()));
  element.leading = text.trim() === "" ? "" : text.slice(0, text.length - text.trimStart().length);
  if (part > 0) element.style.setProperty("--part", `${Math.round(12 + 88 * part)}%`);
  if (part > 0) element.classList.add("tsae-active");
  return element;
}

/** Tokens as running text, the space before each outside of its frame. */
export function flow(tokens) {
  return tokens.map((element) => (element.leading ? [element.leading.replaceAll("\n", "↵"), element] : element));
}

/** A table from rows of cells; the first row is the head. */
export function table(head, rows, attributes = {}) {
  return h("table", { class: "tsae-table", ...attributes },
    h("thead", {}, h("tr", {}, head.map((cell) => h("th", { scope: "col" }, cell)))),
    h("tbody", {}, rows.map((row) => h("tr", {}, row.map((cell) => h("td", {}, cell instanceof Node ? cell : String(cell)))))));
}

/** A chart and its table, one of them shown. */
export function withTable(title, chart, makeTable) {
  const drawn = h("div", { class: "tsae-drawn" }, chart), made = h("div", { class: "tsae-scroll", tabindex: 0, role: "group", "aria-label": "the numbers", hidden: true });
  const button = h("button", { class: "tsae-small", "aria-pressed": "false", title: "the same numbers as a table" }, "table");
  button.addEventListener("click", () => {
    const on = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(on));
    if (on) fill(made, makeTable());
    made.hidden = !on;
    drawn.hidden = on;
  });
  return h("figure", { class: "tsae-figure" }, h("figcaption", {}, title, " ", button), drawn, made);
}

/** Bars of counts over equal bins of (0, highest]; heights on a square-root scale so that rare ones stay visible. */
export function histogram(title, counts, highest) {
  const width = 260, height = 64, top = Math.max(1, ...counts);
  const bar = width / Math.max(1, counts.length);
  const edge = (bin) => number((highest * bin) / counts.length);
  const bars = counts.map((count, bin) => {
    const size = count ? Math.max(1, Math.sqrt(count / top) * (height - 2)) : 0;
    return h("rect", { x: bin * bar, y: height - size, width: Math.max(0.5, bar - 1), height: size },
      h("title", {}, `${edge(bin)} to ${edge(bin + 1)}: ${count} tokens`));
  });
  const chart = h("svg", { class: "tsae-bars", viewBox: `0 0 ${width} ${height + 12}`, role: "img", "aria-label": `${title}; heights are square roots, so that rare ones stay visible` }, bars,
    h("line", { x1: 0, x2: width, y1: height, y2: height }),
    h("text", { x: 0, y: height + 11 }, "0"), h("text", { x: width, y: height + 11, "text-anchor": "end" }, number(highest)));
  return withTable(title, chart, () => table(["from", "to", "tokens"],
    counts.map((count, bin) => [edge(bin), edge(bin + 1), count]).filter((row) => row[2] > 0)));
}

/** Shows a promise's result; while it lasts, what is waited for; and the reason if it fails. */
export async function into(element, promise, draw, saying = "waiting for the kernel …") {
  const mine = (element.tsaeTurn = (element.tsaeTurn || 0) + 1);
  const timer = setTimeout(() => {
    if (element.tsaeTurn !== mine) return;
    element.classList.add("tsae-waiting");
    element.setAttribute("aria-busy", "true");
    element.querySelector(":scope > .tsae-pending")?.remove();
    element.prepend(h("p", { class: "tsae-pending", role: "status" }, h("span", {}, saying))); // takes no room, so that nothing moves
  }, 150);
  let shown;
  try {
    const result = await promise;
    shown = () => draw(result);
  } catch (error) {
    shown = () => h("p", { class: "tsae-notice", role: "alert" }, error.message);
  }
  await released(element);
  clearTimeout(timer);
  if (element.tsaeTurn !== mine) return;
  element.classList.remove("tsae-waiting");
  element.removeAttribute("aria-busy");
  fill(element, shown());
}

let tabNumber = 0;

/** Tabs: buttons and panels, arrow keys between them. */
export function tabs(names, onchange) {
  const ids = names.map(() => `tsae-panel-${(tabNumber += 1)}-${Math.random().toString(36).slice(2, 8)}`);
  const panels = names.map((name, i) => h("div", { class: "tsae-panel", id: ids[i], role: "tabpanel", "aria-label": name, tabindex: 0, hidden: true }));
  const show = (chosen) => {
    buttons.forEach((button, i) => {
      button.setAttribute("aria-selected", String(i === chosen));
      button.tabIndex = i === chosen ? 0 : -1;
      panels[i].hidden = i !== chosen;
    });
    onchange(names[chosen]);
  };
  const buttons = names.map((name, i) => h("button", { role: "tab", "aria-selected": "false", "aria-controls": ids[i], tabindex: -1, onclick: () => show(i) }, name));
  const bar = h("div", { class: "tsae-tabs", role: "tablist", onkeydown: (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step || event.altKey) return;
    const next = (buttons.indexOf(document.activeElement) + step + names.length) % names.length;
    buttons[next].focus();
    show(next);
    event.stopPropagation();
  } }, buttons);
  return { bar, panels, show: (name) => show(names.indexOf(name)), current: () => names[panels.findIndex((panel) => !panel.hidden)] };
}
