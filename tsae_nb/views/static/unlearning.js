import { kernelBackend, painted, rootIn } from "./page.js";
import { Awaited, Figure, Table, Words, html } from "./parts.js";
import { apart, forgetFirst, looksOf, nextOf, outline, piled, trajectories } from "./plane.js";
import { fixed, floats, integers, isolated, number, remembering, share, shown } from "./values.js";
import { Component, render as place } from "./vendor/preact.mjs";

/** @typedef {import("./page.js").Model} Model */
/** @typedef {import("./plane.js").Setting & {[name: string]: any}} Setting */
/** @typedef {(setting: number) => void} Choose */

/** @type {Record<string, string>} */
const REASONS = {
  nothing_selected: "no feature passed the selection", gate: "no setting keeps the side effects small enough",
  forget_unchanged: "settings pass, but nothing is forgotten", no_qualifying_question: "no question could be asked",
};

/** A setting in words. @param {Setting} one */
const worded = (one) => `${one.control ? "control" : "setting"} ${one.setting}: threshold ${one.retain_threshold}, ${one.features} of ${one.feature_count} features, `
  + `multiplier ${number(one.multiplier)} (${number(one.multiplier_norms, 2)} norms); forget ${fixed(one.forget_accuracy, 3)}, side ${fixed(one.side_accuracy, 3)}, `
  + `${one.passed ? "passes" : "fails"} the gate`;

/** A mark in words: its setting, or how many lie there. @param {Setting[]} pile @param {number} selected */
function wordedPile(pile, selected) {
  if (pile.length === 1) return worded(pile[0]);
  const [one] = pile, at = pile.findIndex((other) => other.setting === selected), controls = pile.filter((other) => other.control).length;
  return `${pile.length} settings at one place${controls ? `, ${controls} of them controls` : ""}: forget ${fixed(one.forget_accuracy, 3)}, side ${fixed(one.side_accuracy, 3)}, `
    + `${one.passed ? "pass" : "fail"} the gate; ${at < 0 ? "a click shows the first" : `the ${at + 1}. is shown, a click shows the next`}`;
}

/** What Enter and the space bar do on what is no button. @param {() => void} act */
const pressing = (act) => (/** @type {KeyboardEvent} */ event) => {
  if (event.key !== "Enter" && event.key !== " ") return;
  act();
  event.preventDefault();
  event.stopPropagation();
};

const PILE = { radius: 14, shape: "circle", tint: 0 }; // of settings at one place
const SIZE = { width: 460, height: 380 }, ROOM = { left: 46, right: 448, top: 20, bottom: 344 };

/**
 * The settings over side and forget accuracy. Size is the multiplier, shape the threshold, colour the count of features, full what passes.
 * @param {{settings: Setting[], all: Setting[], gate: number, selected: number, choose: Choose, point: (pile: Setting[] | null) => void,
 *   layout: typeof apart}} props
 */
function Plane({ settings, all, gate, selected, choose, point, layout }) {
  const drawn = settings.filter((one) => one.side_accuracy !== null && one.forget_accuracy !== null);
  const sides = all.filter((one) => one.side_accuracy !== null).map((one) => Number(one.side_accuracy));
  const lowest = Math.max(0, Math.min(gate - 0.03, ...sides) - 0.01);
  const lost = (/** @type {number} */ value) => Math.sqrt(Math.max(0, 1 - value)); // what is lost, on a square-root scale: near 1 every question counts
  const x = (/** @type {number} */ value) => ROOM.left + 12 + (1 - lost(value) / lost(lowest)) * (ROOM.right - ROOM.left - 42);
  const y = (/** @type {number} */ value) => ROOM.bottom - (value / 1.06) * (ROOM.bottom - ROOM.top);
  const { lookOf } = looksOf(all), piles = piled(drawn);
  const looks = piles.map((pile) => (pile.length > 1 ? PILE : lookOf(pile[0])));
  const belongs = piles.map(([one]) => ({ x: x(Number(one.side_accuracy)), y: y(Number(one.forget_accuracy)) }));
  const edge = x(gate), side = (/** @type {Setting} */ one) => (one.passed ? { low: edge } : { high: edge - 1 }); // none is moved over the gate
  const places = layout(belongs.map((where, i) => ({ ...where, radius: looks[i].radius, ...(Number(piles[i][0].side_accuracy) >= gate === piles[i][0].passed ? side(piles[i][0]) : {}) })), ROOM);
  const at = new Map(piles.flatMap((pile, i) => pile.map((one) => [one, places[i]])));
  const ways = trajectories(drawn).map((way) => way.map((one) => at.get(one)).map((where) => `${where?.x},${where?.y}`).join(" "));
  const front = all.filter((one) => one.pareto).sort((a, b) => Number(a.side_accuracy) - Number(b.side_accuracy))
    .map((one) => `${x(Number(one.side_accuracy))},${y(Number(one.forget_accuracy))}`).join(" ");
  const mark = (/** @type {Setting[]} */ pile, /** @type {number} */ i) => {
    const where = places[i], look = looks[i], [one] = pile, here = pile.find((other) => other.setting === selected);
    const name = `tsae-mark tsae-tint${look.tint}${one.passed ? " tsae-passed" : ""}${one.control && pile.length === 1 ? " tsae-control" : ""}${here ? " tsae-here" : ""}`;
    const act = () => choose(nextOf(pile, selected)), tell = () => point(pile);
    return html`<g key=${one.setting} role="button" tabindex="0" data-setting=${one.setting} data-count=${pile.length} aria-label=${wordedPile(pile, selected)} aria-pressed=${String(Boolean(here))}
      onClick=${act} onKeyDown=${pressing(act)} onMouseEnter=${tell} onFocus=${tell} onMouseLeave=${() => point(null)} onBlur=${() => point(null)}>
      ${where.moved ? html`<line class="tsae-from" x1=${where.x} y1=${where.y} x2=${belongs[i].x} y2=${belongs[i].y} />` : null}
      <circle cx=${where.x} cy=${where.y} r=${look.radius + 3} fill="transparent" />
      <path class=${name} d=${outline(look.shape, where.x, where.y, look.radius)} />
      ${pile.length > 1 ? html`<text class="tsae-count" x=${where.x} y=${where.y + 3.5} text-anchor="middle">×${pile.length}</text>` : null}
    </g>`;
  };
  return html`<svg class="tsae-plane" viewBox="0 0 ${SIZE.width} ${SIZE.height}" role="group" aria-label="settings: forget accuracy over side accuracy">
    <rect class="tsae-pass" x=${x(gate)} y=${ROOM.top} width=${ROOM.right - x(gate)} height=${ROOM.bottom - ROOM.top} />
    ${[0, 0.25, 0.5, 0.75, 1].map((value) => html`<line x1=${ROOM.left} x2=${ROOM.right} y1=${y(value)} y2=${y(value)} /><text x=${ROOM.left - 5} y=${y(value) + 3} text-anchor="end">${value}</text>`)}
    ${[1, 0.95, 0.9, 0.8, 0.6, 0.4, 0.2, 0].filter((value) => value >= lowest).map((value) => html`<text x=${x(value)} y=${ROOM.bottom + 13} text-anchor="middle">${value}</text>`)}
    <line class="tsae-gate" x1=${x(gate)} x2=${x(gate)} y1=${ROOM.top} y2=${ROOM.bottom} />
    <text x=${x(gate)} y=${ROOM.top - 6} text-anchor="middle">gate ${gate} ▸ kept</text>
    <text x=${SIZE.width / 2} y=${SIZE.height - 6} text-anchor="middle">side accuracy (what should be kept, square-root scale) →</text>
    <text x="12" y=${SIZE.height / 2} text-anchor="middle" transform="rotate(-90 12 ${SIZE.height / 2})">← forget accuracy (lower forgets more)</text>
    <polyline class="tsae-front" points=${front} />
    ${ways.map((points) => html`<polyline class="tsae-way" points=${points} />`)}
    ${piles.map(mark)}
  </svg>`;
}

/** What shapes, sizes and colours say. @param {{settings: Setting[]}} props */
function Legend({ settings }) {
  const { multipliers, thresholds, counts, lookOf } = looksOf(settings), most = Math.max(...piled(settings).map((pile) => pile.length));
  const sample = (/** @type {Partial<Setting>} */ change, /** @type {string} */ more = "") => {
    const look = lookOf({ ...settings[0], multiplier_norms: multipliers[Math.floor(multipliers.length / 2)], ...change });
    return html`<svg viewBox="0 0 24 24" role="presentation"><path class="tsae-mark tsae-tint${more === "any" ? "0" : look.tint} ${more}" d=${outline(look.shape, 12, 12, look.radius)} /></svg>`;
  };
  return html`<dl class="tsae-key">
    <dt>multiplier, in norms</dt><dd>${multipliers.map((value) => html`<span>${sample({ multiplier_norms: value, retain_threshold: thresholds[0] }, "any")}${number(value, 2)}</span>`)}</dd>
    <dt>retain threshold</dt><dd>${thresholds.map((value) => html`<span>${sample({ retain_threshold: value }, "any")}${value}</span>`)}</dd>
    <dt>features asked for</dt><dd>${counts.map((value) => html`<span>${sample({ feature_count: value, retain_threshold: thresholds[0] }, "tsae-passed")}${value}</span>`)}</dd>
    <dt>full, hollow</dt><dd>passes the gate, fails; dashed: random features. A thin line goes from the weakest multiplier to the strongest; dotted: the Pareto front.
      Marks that would cover one another stand aside, with a dotted line to their place: a table has the numbers.</dd>
    ${most > 1 ? html`<dt>×${most}</dt><dd>so many settings at one place: a click shows the first, another the next</dd>` : null}
  </dl>`;
}

/** @param {{settings: Setting[], selected: number, choose: Choose}} props */
function SettingsTable({ settings, selected, choose }) {
  return html`<table class="tsae-table tsae-settings">
    <thead><tr>${["", "τ", "features", "m", "norms", "forget", "side", "gate", "front"].map((name) => html`<th scope="col">${name}</th>`)}</tr></thead>
    <tbody>${settings.map((one) => {
      const act = () => choose(one.setting);
      return html`<tr key=${one.setting} tabindex="0" data-setting=${one.setting} class=${one.setting === selected ? "tsae-here" : null} onClick=${act} onKeyDown=${pressing(act)}>
        ${[one.control ? "control" : "setting", one.retain_threshold, `${one.features}/${one.feature_count}`, number(one.multiplier), number(one.multiplier_norms, 2),
          fixed(one.forget_accuracy, 3), fixed(one.side_accuracy, 3), one.stopped ? "stopped" : one.passed ? "✓ passes" : "✗ fails", one.pareto ? "Pareto" : ""].map((cell) => html`<td>${cell}</td>`)}</tr>`;
    })}</tbody></table>`;
}

/** Accuracies of a setting, what should be forgotten first. @param {{setting: Setting}} props */
function Bars({ setting }) {
  return forgetFirst(setting.sets).map((/** @type {any} */ one) => html`<div class="tsae-setbar" key=${one.set}>
    <span>${one.role === "forget" ? html`<b>forget: ${one.set}</b>` : one.set}</span><span>${fixed(one.accuracy, 3)} of ${one.questions}; ${one.flipped} flipped</span>
    <div class="tsae-track" title="untouched ${fixed(one.baseline, 3)}"><span class=${one.role === "forget" ? "tsae-forgets" : ""} style="width: ${100 * (one.accuracy || 0)}%"></span>
      <i style="left: ${100 * (one.baseline || 0)}%"></i></div></div>`);
}

/** A question whose answer flipped. @param {{asked: any, row: number, letter: string}} props */
function Flip({ asked, row, letter }) {
  if (!asked) return html`<div class="tsae-flip">question ${row} → ${letter}</div>`;
  return html`<div class="tsae-flip" dir="auto"><b><bdi>${asked.question}</bdi></b> ${asked.choices.map((/** @type {string} */ choice, /** @type {number} */ i) => {
    const right = i === asked.answer, now = "ABCD"[i] === letter;
    return html`<span class=${right || now ? "" : "tsae-faint"} title=${right ? "right" : now ? "answered now" : null}> ${"ABCD"[i]}. <bdi>${choice}</bdi>${right ? "✓" : now ? "✗" : ""}</span>`;
  })}</div>`;
}

/** @param {{setting: Setting, about: any}} props */
function Flips({ setting, about }) {
  const flipped = forgetFirst(setting.sets).filter((/** @type {any} */ one) => one.flips.length);
  if (!flipped.length) return html`<p class="tsae-faint">none</p>`;
  return html`<div class="tsae-flips" tabindex="0" role="group" aria-label="answers that flipped">${flipped.map((/** @type {any} */ one) => html`<details key=${one.set} open=${one.role === "forget" || one.flips.length < 6}>
    <summary>${one.role === "forget" ? "forget: " : ""}${one.set}: ${one.flips.length} of ${one.questions}</summary>
    ${one.flips.map((/** @type {[number, string]} */ [row, letter]) => html`<${Flip} key=${row} asked=${(about.questions[one.set] || {})[row]} row=${row} letter=${letter} />`)}</details>`)}</div>`;
}

/**
 * @typedef {{model: Model, root: HTMLElement}} Props
 * @typedef {{own: boolean, pointed: Setting[] | null, said: string}} State
 * @extends {Component<Props, State>}
 */
class Unlearning extends Component {
  /** @param {Props} props */
  constructor(props) {
    super(props);
    /** @type {State} */
    this.state = { own: true, pointed: null, said: "" };
    this.backend = kernelBackend(props.model);
    this.ask = remembering(this.backend.ask, 2000);
    /** @type {Map<string, ReturnType<typeof apart>>} */
    this.layouts = new Map();
    /** @type {typeof apart} */
    this.layout = (points, room) => { // of the same points once: pointing draws again
      const key = JSON.stringify(points), known = this.layouts.get(key);
      if (known) return known;
      const made = apart(points, room);
      this.layouts.set(key, made);
      return made;
    };
    this.follow = () => this.setState({ said: "" });
    /** @type {Choose} */
    this.choose = (setting) => { props.model.set("selected", setting); props.model.save_changes(); };
  }
  componentDidMount() {
    for (const name of ["change:selected", "change:_about"]) this.props.model.on(name, this.follow);
    this.told();
  }
  componentDidUpdate() { this.told(); }
  componentWillUnmount() {
    for (const name of ["change:selected", "change:_about"]) this.props.model.off(name, this.follow);
    this.backend.close();
  }
  async told() {
    const setting = this.props.model.get("selected");
    await painted();
    if (setting === this.props.model.get("selected")) this.props.root.dataset.shown = String(setting);
  }

  /** Asks every feature explorer of this index on the page to open a feature: its address names it. @param {number} feature @param {string} of */
  open(feature, of) {
    const explorer = document.querySelector(`.tsae[data-of="${of}"]`);
    explorer?.scrollIntoView({ block: "nearest" });
    this.setState({ said: explorer ? `#${feature} is open in the feature explorer on this page.`
      : `There is no feature explorer of this index in sight: FeatureExplorer(index) in a cell shows #${feature}.` });
  }
  /** @param {number} feature @param {any} about */
  card(feature, about) {
    if (!about.cards) return html`<div class="tsae-mini" data-feature=${feature} key=${feature}>#${feature}</div>`;
    const label = about.labels[feature];
    const draw = (/** @type {any} */ answer) => {
      const numbers = integers(answer.buffers[0]), values = floats(answer.buffers[1]), width = answer.width;
      const context = (/** @type {number} */ row) => {
        const peak = answer.peaks[row] - answer.starts[row];
        return Array.from({ length: 16 }, (_, i) => peak - 11 + i).filter((i) => i >= 0 && i < width && numbers[row * width + i] >= 0)
          .map((i) => ({ text: answer.words[numbers[row * width + i]], value: values[row * width + i], peak: i === peak }));
      };
      return html`<b><a class="tsae-link" href="#${new URLSearchParams({ feature: String(feature), of: about.id })}" title="open in a feature explorer on this page"
          onClick=${() => this.open(feature, about.id)}>#${feature}</a> <span dir="auto">${label || html`<i class="tsae-faint">${answer.preview}</i>`}</span></b>
        <span class="tsae-faint"> on ${share(answer.statistics.density)} of tokens</span>
        ${answer.kinds.slice(0, 3).map((/** @type {string} */ _, /** @type {number} */ row) => html`<div class="tsae-text" dir="auto"><${Words} tokens=${context(row)} highest=${answer.statistics.max} /></div>`)}
        ${answer.logits.length ? html`<div class="tsae-faint">promotes ${answer.logits.slice(0, 4).map((/** @type {any} */ one) => isolated(shown(one.text))).join(", ")}</div>` : null}`;
    };
    return html`<div class="tsae-mini" data-feature=${feature} key=${feature}><${Awaited} asked=${this.ask(`card:${feature}`, "card", { feature })} draw=${draw} /></div>`;
  }
  /** @param {Setting | undefined} setting @param {any} about */
  detail(setting, about) {
    if (!setting) return html`<p class="tsae-notice">${about.settings.length ? "Choose a point." : "There is no setting to show: no question could be asked."}</p>`;
    const verdict = setting.stopped ? "stopped at the error that fails the gate" : setting.passed ? "passes the gate" : "fails the gate";
    return html`<h3 data-setting=${setting.setting}>${setting.control ? "control" : "setting"} ${setting.setting}: ${setting.features} features to −${number(setting.multiplier)}</h3>
      <p class="tsae-faint">${number(setting.multiplier_norms, 2)} × the residual norm · retain threshold ${setting.retain_threshold} · ${verdict}${setting.setting === about.best ? " · the best setting" : ""}</p>
      <${Figure} title="accuracy by set (| untouched)" table=${() => html`<${Table} head=${["set", "role", "questions", "a feature fires in", "accuracy", "untouched", "flipped", "repaired"]}
        rows=${forgetFirst(setting.sets).map((/** @type {any} */ one) => [one.set, one.role, one.questions, one.touched, fixed(one.accuracy, 3), fixed(one.baseline, 3), one.flipped, one.repaired])} />`}>
        <${Bars} setting=${setting} /><//>
      <h4>answers that flipped (✓ right, ✗ answered now)</h4>
      <${Flips} key=${setting.setting} setting=${setting} about=${about} />
      <h4>${setting.feature_ids.length} clamped features</h4>
      <p class="tsae-faint" role="status">${this.state.said}</p>
      ${setting.feature_ids.length ? html`<div class="tsae-cards" tabindex="0" role="group" aria-label="clamped features">${setting.feature_ids.map((/** @type {number} */ feature) => this.card(feature, about))}</div>`
        : html`<p class="tsae-notice">No feature passed the selection at this threshold, so nothing is clamped.</p>`}`;
  }
  /** @param {Props} props @param {State} state */
  render({ model }, { own, pointed }) {
    const about = model.get("_about"), selected = model.get("selected"), all = /** @type {Setting[]} */ (about.settings);
    const settings = all.filter((one) => own || !one.control);
    const interval = about.interval ? ` (95 % ${fixed(about.interval.low)} to ${fixed(about.interval.high)})` : "";
    const facts = [about.held_out ? `chosen on one half, scored on the other: ${fixed(about.held_out.score, 3)}` : null,
      about.controls.length ? `random features: ${about.controls.map((/** @type {number} */ value) => fixed(value, 3)).join(", ")}` : null,
      `questions that qualify: ${Object.entries(about.asked).map(([name, one]) => `${name} ${one.qualifying}/${one.asked}`).join(", ")}`].filter(Boolean);
    return html`${about.notice ? html`<p class="tsae-notice">${about.notice}</p>` : null}
      <h3>${about.name}: unlearning score ${fixed(about.score, 3)}${interval}</h3>
      <p>${about.reason ? html`<b>${REASONS[about.reason] || about.reason}: </b>` : null}${about.explanation}.</p>
      <p class="tsae-faint">${facts.join(" · ")}</p>
      <div class="tsae-two">
        <div>
          <${Figure} title="${all.length} settings" table=${() => html`<${SettingsTable} settings=${settings} selected=${selected} choose=${this.choose} />`}>
            <${Plane} settings=${settings} all=${all} gate=${about.gate} selected=${selected} choose=${this.choose} layout=${this.layout} point=${(/** @type {Setting[] | null} */ pile) => this.setState({ pointed: pile })} /><//>
          <p class="tsae-faint tsae-pointed">${pointed ? wordedPile(pointed, selected) : "Point at a mark: what it is stands here."}</p>
          ${all.length ? html`<${Legend} settings=${all} />` : null}
          ${about.best !== null && about.best !== selected ? html`<button class="tsae-small" onClick=${() => this.choose(about.best)}>best setting</button> ` : null}
          ${all.some((one) => one.control) ? html`<label class="tsae-faint"><input type="checkbox" checked=${own} onChange=${() => this.setState({ own: !own })} /> controls</label>` : null}
        </div>
        <section aria-label="setting">${this.detail(all.find((one) => one.setting === selected), about)}</section>
      </div>`;
  }
}

/** anywidget's entry point. @param {{model: Model, el: HTMLElement}} given */
function render({ model, el }) {
  const root = rootIn(el, "tsae-unlearning");
  place(html`<${Unlearning} model=${model} root=${root} />`, root);
  return () => place(null, root);
}

export default { render };
