import { AblateView } from "./explorer_ablate.js";
import { archived } from "./explorer_archive.js";
import { Card } from "./explorer_card.js";
import { CompareView } from "./explorer_compare.js";
import { FeatureList } from "./explorer_list.js";
import { Preview, Previews } from "./explorer_parts.js";
import { SteerView } from "./explorer_steer.js";
import { TraceView } from "./explorer_trace.js";
import { kernelBackend, painted, pause, released, rootIn } from "./page.js";
import { Pending, html } from "./parts.js";
import { floats, isolated, remembering } from "./values.js";
import { Component, render as place } from "./vendor/preact.mjs";

/** @typedef {import("./page.js").Answer} Answer */
/** @typedef {{get(name: string): any, set(name: string, value: unknown): void, on(name: string, listener: () => void): () => void}} Traits of feature, selected, _about, _table, _place */

/** The tabs: a name, and the component that draws it, a `View`. */
const TABS = [
  ["Trace", TraceView],
  ["Steer", SteerView],
  ["Ablate", AblateView],
  ["Compare", CompareView],
];
const RESTS = 1000, LATEST = 5000; // milliseconds without a change, or since the first one, after which a place is kept
const NAMES = TABS.map(([name]) => String(name));

/** What the widget knows of the index: the table's columns by name, and what the kernel described. */
function readTable(view, about) {
  const all = floats(view), size = all.length / about.columns.length;
  return Object.fromEntries(about.columns.map((name, i) => [name, all.subarray(i * size, (i + 1) * size)]));
}

/** The features opened one after the other, as a browser's pages; leafing through is one step. */
function history() {
  const past = [], future = [];
  let here = null, leafed = false, moving = false;
  return {
    opened(feature, leafing) {
      if (feature === here) return;
      if (!moving && here !== null && !(leafing && leafed)) past.push(here);
      if (!moving) future.length = 0;
      if (past.length > 200) past.shift();
      leafed = leafing && !moving;
      moving = false;
      here = feature;
    },
    back: () => past.at(-1),
    forward: () => future.at(-1),
    go(back) {
      const [from, to] = back ? [past, future] : [future, past];
      if (!from.length) return null;
      to.push(here);
      moving = true;
      return from.pop();
    },
  };
}

/** Lists of features with some changed; null ones are forgotten. */
function withLists(lists, changed) {
  return Object.fromEntries(Object.entries({ ...lists, ...changed }).filter(([, features]) => features));
}

/** Whether two tables of texts say the same. */
function sameTexts(one, other) {
  const said = Object.entries(one);
  return said.length === Object.keys(other).length && said.every(([feature, text]) => other[feature] === text);
}

/** The feature that the page's address names for this index, or null. */
function linked(about) {
  const found = new URLSearchParams(location.hash.slice(1));
  return /^\d+$/.test(found.get("feature") || "") && found.get("of") === about.id ? Number(found.get("feature")) : null;
}

/**
 * The whole explorer, and what its list, card and tabs share.
 * @extends {Component<{root: HTMLElement, traits: Traits, backend: import("./page.js").Backend}, {}>}
 */
export class Explorer extends Component {
  constructor(props) {
    super(props);
    const { root, traits, backend } = props;
    this.traits = traits;
    this.backend = backend;
    this.about = this.get("_about");
    this.columns = readTable(this.get("_table"), this.about);
    this.rowOf = new Map(Array.from(this.columns.feature, (feature, row) => [feature, row]));
    this.ask = remembering(backend.ask);
    this.imports = this.about.imported; // those that the answers know
    this.previews = new Previews(root, this.about.previews, backend);
    this.opened = history();
    this.was = this.get("_place") || {};
    this.place = this.was.where || null; // what the trace shows: {piece, start} or {text}
    this.follows = this.was.follows !== false; // the trace goes to the document of the feature that is opened, until somebody chooses one
    this.lists = this.was.lists || {};
    this.listed = /** @type {Record<string, number[] | null>} */ ({}); // lists that are to be kept, or (null) forgotten: others of this index may keep some too
    this.tab = NAMES.includes(this.was.tab) ? this.was.tab : NAMES[0];
    this.notice = this.about.notice;
    this.drawn = /** @type {{feature: number, answer: Answer | null, error: Error | null} | null} */ (null); // what the card shows
    this.waits = /** @type {number | null} */ (null); // the feature that a card is waited for
    this.turn = 0; // how often a card was wanted
    this.shown = Promise.resolve(null); // when the card that is wanted is painted
    this.leafing = this.staying = this.started = this.sayKept = false;
    this.keeping = 0;
    this.since = 0; // when something changed that is not kept yet
    this.ids = NAMES.map(() => `tsae-panel-${Math.random().toString(36).slice(2, 8)}`);
    this.panels = /** @type {Record<string, HTMLElement>} */ ({});
    this.views = /** @type {Record<string, import("./explorer_parts.js").View>} */ ({});
    /** @type {FeatureList} */
    this.list = /** @type {any} */ (null); // it says so itself, as views do
    /** @type {HTMLElement} */
    this.card = /** @type {any} */ (null);
    this.onKey = this.onKey.bind(this);
    this.astray = false; // whether the notice says that a link leads nowhere
    this.toLinked = this.toLinked.bind(this);
    this.onLeave = this.onLeave.bind(this);
    /** @type {(() => void)[]} */
    this.unfollow = [];
  }
  componentDidMount() {
    const { root } = this.props, at = linked(this.about);
    root.dataset.of = this.about.id; // so that other views of this index find it
    root.addEventListener("keydown", this.onKey);
    window.addEventListener("hashchange", this.toLinked);
    window.addEventListener("pagehide", this.onLeave);
    document.addEventListener("visibilitychange", this.onLeave);
    this.unfollow = [
      this.traits.on("feature", () => this.show(this.get("feature"))),
      this.traits.on("selected", () => this.renewed()),
      this.traits.on("_about", () => this.described()),
    ];
    if (this.about.features > 0) {
      if (at === null || !this.rowOf.has(at) || at === this.get("feature")) {
        this.toLinked(); // before the address keeps up with what is shown
        this.show(this.get("feature"));
      } else this.open(at);
    }
    this.started = true;
  }
  componentWillUnmount() {
    this.unfollow.forEach((stop) => stop());
    this.props.root.removeEventListener("keydown", this.onKey);
    window.removeEventListener("hashchange", this.toLinked);
    window.removeEventListener("pagehide", this.onLeave);
    document.removeEventListener("visibilitychange", this.onLeave);
    this.turn += 1; // no card is wanted any more
    if (this.keeping) this.keep();
    this.backend.close();
  }

  // -- features, and what they are called -------------------------------------------------------------------------------
  get(name) { return this.traits.get(name); }
  own(feature) { return this.about.labels[feature] || ""; }
  label(feature) { return this.own(feature) || this.about.imported[feature] || ""; }
  /** Where only text has room. */
  said(feature) { return this.label(feature) || this.previews.words(feature); }
  preview(feature) { return html`<${Preview} feature=${feature} previews=${this.previews} />`; }
  named(feature) {
    const own = this.own(feature), imported = this.about.imported[feature];
    return own ? html`<span dir="auto"> ${own}</span>` : imported ? html`<span dir="auto" class="tsae-imported" title="imported explanation: ${isolated(imported)}"> ⤓ ${imported}</span>` : this.preview(feature);
  }
  /** A feature's number with its label or preview; in a text that it was found in, `staying` keeps that text. */
  link(feature, how = {}) {
    const label = this.label(feature);
    return html`<button class="tsae-link" title="open feature ${feature}${label ? `: ${isolated(label)}` : ""}"
      disabled=${!this.rowOf.has(feature)} onPointerDown=${() => this.foresee(feature)} onClick=${() => this.open(feature, how)}>#${feature}${this.named(feature)}</button>`;
  }
  addressOf(feature) { return `#${new URLSearchParams({ feature, of: this.about.id })}`; }
  /** @returns {Promise<any>} */
  answerOf(feature) { return this.ask(`card:${feature}`, "card", { feature }); }
  /** A card that is likely to be wanted next is asked for, so that it is there when it is. */
  foresee(feature) {
    if (!this.backend.stored) this.answerOf(feature).catch(() => {});
  }

  // -- what a hand does -------------------------------------------------------------------------------------------------
  open(feature, { leafing = false, staying = false } = {}) {
    if (feature === this.get("feature") || !this.rowOf.has(feature)) return;
    this.leafing = leafing;
    this.staying = staying;
    if (this.astray) this.tell(this.about.notice);
    this.astray = false;
    this.traits.set("feature", feature);
    this.remember();
  }
  /** Where the page's address names a feature of this index. */
  toLinked() {
    const feature = linked(this.about);
    if (feature === null) return;
    if (this.rowOf.has(feature)) return this.open(feature);
    this.astray = true;
    this.tell(`The link is to feature ${feature}, which is not in this ${this.backend.stored ? "page" : "index"}: another is shown.`);
  }
  travel(back) {
    const feature = this.opened.go(back);
    if (feature !== null) this.open(feature);
  }
  toggle(feature) {
    const chosen = this.get("selected");
    this.choose(chosen.includes(feature) ? chosen.filter((other) => other !== feature) : [...chosen, feature]);
  }
  choose(features) {
    this.traits.set("selected", features);
    this.remember();
  }
  tell(notice) {
    this.notice = notice;
    this.forceUpdate();
  }
  field() { return /** @type {HTMLInputElement | null} */ (this.card?.querySelector(".tsae-label")); }
  saveLabel(feature, text) {
    this.backend.ask("label", { feature, text }).then(
      async (done) => { this.about.labels[feature] = done.label; await released(this.props.root); this.list.rebuild(); },
      (error) => this.tell(error.message));
  }
  useAsLabel(feature, text) {
    const name = this.field();
    if (name) name.value = text;
    this.saveLabel(feature, text);
  }
  onKey(event) {
    const { root } = this.props, typing = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName);
    if (event.altKey && !event.ctrlKey && !event.metaKey && !typing && ["ArrowLeft", "ArrowRight"].includes(event.key)) {
      this.travel(event.key === "ArrowLeft");
      event.preventDefault(); // the browser would leave the page
      event.stopPropagation();
      return;
    }
    if (event.key === "Escape" && typing) root.focus();
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    const step = (size) => () => this.list.step(size), atTable = event.target === root || event.target.matches(".tsae-rows");
    const actions = {
      j: step(1), k: step(-1), ArrowDown: step(1), ArrowUp: step(-1), PageDown: step(10), PageUp: step(-10), Home: step(-Infinity), End: step(Infinity),
      "/": () => this.list.focusSearch(), x: () => this.toggle(this.get("feature")), Enter: () => this.toStrongest(),
    };
    const elsewhere = event.key.length > 1 && !atTable; // there such a key scrolls, or presses a button
    if (!actions[event.key] || elsewhere) return;
    actions[event.key]();
    event.preventDefault();
    event.stopPropagation();
  }

  // -- what is kept of a person's place ---------------------------------------------------------------------------------
  /** Keeps lists, or forgets those that are null. */
  keepLists(changed) {
    Object.assign(this.listed, changed);
    this.lists = withLists(this.lists, changed);
    this.remember();
  }
  remember() {
    if (this.backend.stored || !this.started) return;
    clearTimeout(this.keeping);
    this.since ||= Date.now();
    // Writing to the disk takes its time, and nobody's next click shall wait for it; but who clicks on and on is not forgotten.
    this.keeping = setTimeout(() => this.keep(), Math.max(0, Math.min(RESTS, this.since + LATEST - Date.now())));
  }
  /** The page is closed, or another tab is looked at: perhaps nobody comes back. */
  onLeave(event) {
    if (this.keeping && (event.type === "pagehide" || document.hidden)) this.keep();
  }
  keep() {
    clearTimeout(this.keeping);
    this.keeping = this.since = 0;
    const kept = { feature: this.get("feature"), selected: this.get("selected"), tab: this.tab, where: this.place, follows: this.follows, table: this.list.place() };
    const listed = this.listed;
    this.listed = {};
    this.backend.ask("keep", { place: kept, lists: listed }).then(async ({ lists }) => {
      if (JSON.stringify(withLists(lists, this.listed)) === JSON.stringify(this.lists)) return; // as nearly always: no row is sorted again
      await released(this.props.root);
      this.lists = withLists(lists, this.listed);
      this.list.rebuild();
    }, (error) => {
      this.listed = { ...listed, ...this.listed };
      if (this.sayKept) return; // said once; what is asked next says it too
      this.sayKept = true;
      this.tell(error.message);
    });
  }

  // -- the text that trace and comparison show --------------------------------------------------------------------------
  moved(where) {
    this.place = where;
    this.remember();
  }
  trace(where, following) {
    this.follows = following;
    this.moved(where);
    if (this.tab === "Trace") this.refresh();
    else this.toTab("Trace");
  }
  follow(on) {
    this.follows = on;
    if (on) this.toStrongest();
    this.remember();
  }
  async toStrongest() {
    const answer = await this.answerOf(this.get("feature")).catch(() => null); // the card says why
    if (answer?.pieces.length) this.trace({ piece: answer.pieces[0], start: answer.begins[0] }, true);
  }
  toTab(name) {
    this.tab = name;
    this.forceUpdate(() => this.refresh());
    this.remember();
  }
  refresh() { this.views[this.tab].refresh(); }

  // -- the card ---------------------------------------------------------------------------------------------------------
  /** Opens a feature: its card is asked for first of all, the rest is done while the kernel answers. */
  async show(feature) {
    const { root } = this.props, turn = (this.turn += 1), stays = this.staying, asked = this.answerOf(feature);
    let done = () => {};
    this.shown = new Promise((resolve) => { done = () => resolve(null); });
    this.opened.opened(feature, this.leafing);
    this.leafing = this.staying = false;
    if (linked(this.about) !== null && linked(this.about) !== feature) window.history.replaceState(window.history.state, "", this.addressOf(feature)); // an address that names a feature keeps up
    const soon = setTimeout(() => { if (turn === this.turn) this.list.mark(); }, 100); // else when the card is painted: the card first
    const slow = setTimeout(() => {
      if (turn !== this.turn) return;
      this.waits = feature;
      this.forceUpdate();
    }, 150);
    const drawn = await asked.then((answer) => ({ feature, answer, error: null }), (error) => ({ feature, answer: null, error }));
    await released(this.card);
    clearTimeout(soon);
    clearTimeout(slow);
    if (turn !== this.turn) return done();
    this.keepTyped(feature);
    const active = document.activeElement, lost = feature !== this.drawn?.feature && active !== this.card && this.card.contains(active);
    this.drawn = drawn;
    this.waits = null;
    await new Promise((resolve) => { this.forceUpdate(() => resolve(null)); });
    if (lost || document.activeElement === null) this.list.focus(); // so that the keys go on working
    await painted();
    root.dataset.painted = String(feature);
    root.dispatchEvent(new CustomEvent("tsae:painted", { detail: feature }));
    this.list.mark();
    const next = drawn.answer ? this.list.beside(1) : null;
    if (next !== null) this.foresee(next); // so that j answers at once; before what else is asked of this feature
    done();
    if (!drawn.answer) return;
    await pause(this.backend.stored ? 0 : 120); // nobody reads a trace while leafing through
    if (turn !== this.turn) return;
    const there = !this.place || (this.follows && !stays && this.tab === "Trace");
    if ((there || this.backend.stored) && drawn.answer.pieces.length) this.moved({ piece: drawn.answer.pieces[0], start: drawn.answer.begins[0] });
    this.refresh();
  }
  /** What a hand has typed as a label is saved where another feature's card takes its place. */
  keepTyped(next) {
    const before = this.drawn?.feature, name = this.field();
    if (name && before !== undefined && before !== next && name.value !== this.own(before)) this.saveLabel(before, name.value);
  }
  /** Something has a new label or explanation, or another SAE stands beside this one. */
  async described() {
    const before = this.about.notice;
    this.about = { ...this.get("_about") };
    if (this.about.notice !== before) this.notice = this.about.notice;
    await released(this.props.root);
    const name = this.field();
    if (name && this.drawn && name !== document.activeElement) name.value = this.own(this.drawn.feature);
    if (!sameTexts(this.imports, this.about.imported)) { // what was imported stands in the card too
      this.imports = this.about.imported;
      this.ask = remembering(this.backend.ask);
      this.show(this.get("feature"));
    }
    this.renewed();
  }
  /** Labels, or the chosen features, are others. */
  async renewed() {
    await released(this.props.root);
    this.list.rebuild();
    this.forceUpdate();
    this.refresh();
  }

  // -- what is drawn ----------------------------------------------------------------------------------------------------
  tabs() {
    const onKey = (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key], buttons = event.currentTarget.children;
      if (!step || event.altKey) return;
      const next = (NAMES.indexOf(this.tab) + step + NAMES.length) % NAMES.length;
      buttons[next].focus();
      this.toTab(NAMES[next]);
      event.stopPropagation();
    };
    return html`<div class="tsae-tabs" role="tablist" onKeyDown=${onKey}>${NAMES.map((name, i) => html`<button key=${name} role="tab" aria-selected=${String(name === this.tab)} aria-controls=${this.ids[i]}
        tabindex=${name === this.tab ? 0 : -1} onClick=${() => this.toTab(name)}>${name}</button>`)}</div>
      ${TABS.map(([name, View], i) => html`<div key=${name} class="tsae-panel" id=${this.ids[i]} role="tabpanel" aria-label=${name} tabindex="0"
        hidden=${name !== this.tab} ref=${(panel) => { this.panels[String(name)] = panel; }}>
        <${View} explorer=${this} name=${name} /></div>`)}`;
  }
  render() {
    const { drawn, waits } = this, waiting = waits !== null;
    return html`<p class="tsae-notice" role="status" hidden=${!this.notice}>${this.notice}</p>
      <div class="tsae-explorer"><${FeatureList} explorer=${this} />
        <section class="tsae-card ${waiting ? "tsae-waiting" : ""}" aria-label="feature card" aria-busy=${waiting ? "true" : null} tabindex="0" ref=${(card) => { this.card = card; }}>
          ${waiting ? html`<${Pending} saying="opening #${waits} …" />` : null}
          ${this.about.features === 0 ? html`<p class="tsae-notice">This index has no features.</p>` : drawn?.error ? html`<p class="tsae-notice" role="alert">${drawn.error.message}</p>`
            : drawn ? html`<${Card} explorer=${this} answer=${drawn.answer} />` : null}</section>
        <section class="tsae-right" aria-label="trace, steer, ablate, compare">${this.tabs()}</section></div>`;
  }
}

/** anywidget's entry point. */
function render({ model, el }) {
  const root = rootIn(el, "");
  const traits = {
    get: (name) => model.get(name),
    set(name, value) {
      try {
        model.set(name, value);
        model.save_changes();
      } catch {
        // the kernel is gone; what is asked next says so
      }
    },
    on(name, listener) {
      model.on(`change:${name}`, listener);
      return () => model.off(`change:${name}`, listener);
    },
  };
  place(html`<${Explorer} root=${root} traits=${traits} backend=${kernelBackend(model)} />`, root);
  return () => place(null, root);
}

/** The entry point of an exported page. */
export async function openArchive(text, el) {
  const root = rootIn(el, "tsae-page");
  /** @type {Awaited<ReturnType<typeof archived>>} */
  let opened;
  try {
    opened = await archived(text);
  } catch {
    place(html`<p class="tsae-notice" role="alert">This page is damaged: what it should show cannot be read. Ask for it again, or export it again.</p>`, root);
    return;
  }
  const { traits, backend } = opened;
  place(html`<${Explorer} root=${root} traits=${traits} backend=${backend} />`, root);
  root.focus({ preventScroll: true }); // so that j and k work at once
}

export default { render };
