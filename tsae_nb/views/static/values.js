// Numbers, text and buffers as the views show them: functions of their arguments alone, tried by tests/js without a browser.

/** @typedef {number | null | undefined} Maybe */

/** @param {Maybe} value @returns {value is null | undefined} also of NaN */
export function missing(value) {
  return value === null || value === undefined || Number.isNaN(value);
}

/** A number as people read it: three figures, a dash where there is none. @param {Maybe} value */
export function number(value, digits = 3) {
  if (missing(value)) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e5 || size < 1e-3) return value.toExponential(1);
  return String(Number(value.toPrecision(digits)));
}

/** So many decimals, and no minus before a zero. @param {Maybe} value */
export function fixed(value, digits = 2) {
  return missing(value) ? "–" : value.toFixed(digits).replace(/^-(0\.?0*)$/, "$1");
}

/** A share in per cent. @param {Maybe} value */
export function share(value) {
  if (missing(value)) return "–";
  return value === 0 ? "0 %" : value < 0.0001 ? "<0.01 %" : `${Number((100 * value).toPrecision(2))} %`;
}

/** A count with a letter for thousands, millions: 1,500,000 is 1.5 M. @param {Maybe} value */
export function amount(value) {
  if (missing(value)) return "–";
  for (const [size, letter] of /** @type {[number, string][]} */ ([[1e9, "G"], [1e6, "M"], [1e3, "k"]])) {
    if (Math.abs(value) >= size) return `${Number((value / size).toPrecision(3))} ${letter}`;
  }
  return String(Number(value.toPrecision(3)));
}

/** Seconds as somebody says them: 40 s, 12 min, 3 h 5 min. @param {Maybe} seconds */
export function duration(seconds) {
  if (missing(seconds) || !Number.isFinite(seconds)) return "–";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 90 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** The numbers in a buffer of an answer. @param {DataView} view */
export function floats(view) {
  return new Float32Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
}
/** @param {DataView} view */
export function integers(view) {
  return new Int32Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
}

/** The text of a token: new lines and spaces made visible where they are all there is. @param {string} text */
export function shown(text) {
  if (text === "") return "·";
  const visible = text.replaceAll("\n", "↵").replaceAll("\t", "⇥");
  return visible.trim() === "" ? visible.replaceAll(" ", "␣") : visible;
}

/**
 * Text that somebody else has written, inside a sentence or a title of ours: where it runs from right to left, or could turn round what
 * follows it (U+202E), it stands by itself. In elements of their own `bdi` and `dir="auto"` do so.
 * @param {string} text
 */
export function isolated(text) {
  if (!/[\u0590-\u08ff\u200e\u200f\u202a-\u202e\u2066-\u2069\ufb1d-\ufdff\ufe70-\ufefc\u{10800}-\u{10fff}\u{1e800}-\u{1efff}]/u.test(text)) return text;
  return `\u2068${text.replace(/[\u202a-\u202e\u2066-\u2069]/g, "")}\u2069`;
}

/**
 * Remembers the last answers, so that going back is immediate; what failed is asked again.
 * @template T
 * @param {(kind: string, question?: object) => Promise<T>} ask
 * @returns {(key: string, kind: string, question?: object) => Promise<T>}
 */
export function remembering(ask, room = 200) {
  /** @type {Map<string, Promise<T>>} */
  const kept = new Map();
  return (key, kind, question) => {
    const known = kept.get(key);
    if (known) return known;
    const promise = ask(kind, question);
    kept.set(key, promise);
    promise.catch(() => kept.delete(key));
    const [oldest] = kept.keys();
    if (kept.size > room) kept.delete(oldest);
    return promise;
  };
}

/**
 * Questions keep a distance in time: of those that come too soon only the last is asked, when it may be; the others fail.
 * @template T
 * @param {(kind: string, question?: object) => Promise<T>} ask
 * @param {number} milliseconds
 * @returns {(kind: string, question?: object) => Promise<T>}
 */
export function spaced(ask, milliseconds) {
  let next = -Infinity; // when the next one may be asked
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  /** @type {((error: Error) => void) | null} */
  let passed = null;
  return (kind, question) => new Promise((resolve, reject) => {
    passed?.(new Error("another question took its place"));
    passed = null;
    clearTimeout(timer);
    const send = () => {
      passed = null;
      next = performance.now() + milliseconds;
      ask(kind, question).then(resolve, reject);
    };
    const wait = next - performance.now();
    if (wait <= 0) return send();
    passed = reject;
    timer = setTimeout(send, wait);
  });
}
