// What every view needs of the page it is in: the kernel, keys, what is pressed, size and theme.

/**
 * What an anywidget is given.
 * @typedef {object} Model
 * @property {(name: string) => any} get
 * @property {(name: string, value: unknown) => void} set
 * @property {() => void} save_changes
 * @property {(content: object) => unknown} send
 * @property {(event: string, listener: (...what: any[]) => void) => void} on
 * @property {(event: string, listener: (...what: any[]) => void) => void} off
 */

/** @typedef {{buffers: DataView[], [name: string]: any}} Answer */

/** @typedef {object} Backend
 * @property {boolean} stored whether answers come from a page that was exported
 * @property {(kind: string, question?: object) => Promise<Answer>} ask
 * @property {() => void} close
 */

/** Asks the kernel over the widget's channel; answers are matched to questions by number. @param {Model} model @returns {Backend} */
export function kernelBackend(model) {
  let last = 0;
  /** @type {Map<string, {resolve: (answer: Answer) => void, reject: (error: Error) => void}>} */
  const waiting = new Map();
  /** @param {any} content @param {DataView[] | undefined} buffers */
  const receive = (content, buffers) => {
    const entry = waiting.get(content.number);
    if (!entry) return;
    waiting.delete(content.number);
    if (content.error) entry.reject(new Error(content.error));
    else entry.resolve({ ...content, buffers: buffers || [] });
  };
  model.on("msg:custom", receive);
  return {
    stored: false,
    ask(kind, question = {}) {
      last += 1;
      const number = `${last}-${Math.random()}`; // several views of one model each see all answers
      const gone = "The kernel is gone or was restarted: run the cell again.";
      return new Promise((resolve, reject) => {
        waiting.set(number, { resolve, reject });
        try {
          Promise.resolve(model.send({ number, kind, ...question })).catch(() => reject(new Error(gone)));
        } catch {
          waiting.delete(number);
          reject(new Error(gone));
        }
      });
    },
    close() { model.off("msg:custom", receive); },
  };
}

/** Keeps typed keys in the widget: JupyterLab listens on the document, and would take "dd" for "delete this cell". @param {HTMLElement} root */
export function ownKeys(root) {
  root.addEventListener("keydown", (event) => { if (!event.ctrlKey && !event.metaKey && !event.altKey) event.stopPropagation(); });
}

/** The element that a view draws in. @param {HTMLElement} el @param {string} name */
export function rootIn(el, name) {
  const root = document.createElement("div");
  root.className = `tsae ${name}`;
  root.tabIndex = 0;
  root.dataset.lmSuppressShortcuts = "true";
  el.append(root);
  ownKeys(root);
  return root;
}

/** Resolves when what was changed has been painted. @returns {Promise<void>} */
export function painted() {
  return new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve, 0)));
}

/** Resolves after so many milliseconds. @param {number} milliseconds @returns {Promise<void>} */
export function pause(milliseconds) {
  return new Promise((resolve) => { setTimeout(resolve, milliseconds); });
}

// What is pressed must still be there when it is let go: whoever changes a part of the page waits until it is `released`.
/** @type {EventTarget | null} */
let pressed = null;
/** @type {EventTarget | null} */
let held = null;
/** @type {Promise<void> | null} */
let whenReleased = null;
/** @type {(() => void) | null} */
let release = null;
function letGo() {
  pressed = null;
  setTimeout(() => { // after the click that follows
    if (pressed || !release) return;
    release();
    held = whenReleased = release = null;
  }, 0);
}
document.addEventListener("pointerdown", (event) => {
  pressed = held = event.target;
  whenReleased ||= new Promise((resolve) => { release = resolve; });
}, true);
for (const event of ["pointerup", "pointercancel"]) document.addEventListener(event, letGo, true);
document.addEventListener("pointermove", (event) => { if (pressed && !event.buttons) letGo(); }, true); // let go outside of the window
window.addEventListener("blur", letGo);

/** Resolves when nothing in the element is pressed, and its click is done. @param {Element} element @returns {Promise<void>} */
export function released(element) {
  return whenReleased && held instanceof Node && element.contains(held) ? whenReleased : Promise.resolve();
}

/** How an element is drawn again. @type {Map<Element, () => unknown>} */
const drawings = new Map();
const sizes = new ResizeObserver((entries) => entries.forEach(({ target }) => drawAgain(target)));
/** @param {Element} element */
function drawAgain(element) {
  if (element.isConnected) return drawings.get(element)?.();
  notDrawn(element);
  return null;
}
function drawAllAgain() {
  [...drawings.keys()].forEach(drawAgain);
}
function newLook() {
  drawAllAgain();
  setTimeout(drawAllAgain, 400); // a theme's colours may arrive after its name
}
for (const place of [document.documentElement, document.body]) new MutationObserver(newLook).observe(place, { attributes: true });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", newLook);

/** Draws when the element has a size, and again when that changes, or the theme. @param {Element} element @param {() => unknown} draw */
export function drawnToFit(element, draw) {
  drawings.set(element, draw);
  sizes.observe(element);
}

/** Ends that; what has left the page needs it not. @param {Element} element */
export function notDrawn(element) {
  drawings.delete(element);
  sizes.unobserve(element);
}

/** Colours looked up in this task: to ask the page is slow, and many curves are drawn in one. @type {Map<Element, Map<string, string>>} */
const colours = new Map();
/** The colour that a variable of the style sheet has in an element's view, as a canvas takes it. @param {Element} element @param {string} name */
export function colourAt(element, name) {
  const view = element.closest(".tsae") || element, known = colours.get(view) || new Map(), colour = known.get(name) || lookedUp(view, name);
  if (!colours.size) setTimeout(() => colours.clear(), 0);
  colours.set(view, known.set(name, colour));
  return colour;
}
/** @param {Element} view @param {string} name */
function lookedUp(view, name) {
  const probe = document.createElement("i");
  probe.hidden = true;
  probe.style.color = `var(${name})`;
  view.append(probe);
  const colour = getComputedStyle(probe).color;
  probe.remove();
  return colour;
}
