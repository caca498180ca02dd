import { fill, flow, h, histogram, into, table, tabs, token, withTable } from "./common.js";
import { colourAt, drawnToFit, kernelBackend, ownKeys, painted, pause, released } from "./page.js";
import { fixed, floats, integers, number, remembering, share, shown } from "./values.js";

const ROW = 22; // pixels, of the feature table
const JUMP = "largest |Δz|/‖Δh‖ in a document, mean over documents (the metric called smoothness); low is smooth";

/** What the widget knows of the index: the table's columns by name, and what the kernel described. */
function readTable(view, about) {
  const all = floats(view), size = all.length / about.columns.length;
  return Object.fromEntries(about.columns.map((name, i) => [name, all.subarray(i * size, (i + 1) * size)]));
}

/** Groups of features are levels of a hierarchy, "level 1" shown as L1, or have names of their own; three colours in turn. */
const isLevel = (name) => /^level \d+$/.test(name);
const bare = (name) => (isLevel(name) ? name.slice(6) : name);
const short = (name) => (isLevel(name) ? `L${bare(name)}` : name);
const tint = (group) => ((group - 1) % 3) + 1;
const kindOf = (groups) => (groups.every(isLevel) ? "level" : "group");

function groupBadge(group, groups) {
  const name = groups[group - 1];
  return groups.length > 1 ? h("span", { class: `tsae-level tsae-level-${tint(group)}`, title: isLevel(name) ? `${name} of ${groups.length}, 1 is the lowest` : `group ${name}` }, short(name)) : null;
}

/** The tabs: a name, and the function of (panel, what all views share) that draws it and returns {refresh}. */
/** @type {[string, (panel: HTMLElement, shared: any) => {refresh(): void}][]} */
const TABS = [
  ["Trace", traceView],
  ["Steer", steerView],
  ["Ablate", ablateView],
  ["Compare", compareView],
];

/** What a feature is about where it has no label: the words of its strongest tokens, asked for together when the page rests. */
function previewsOf(root, about, backend) {
  const known = new Map(Object.entries(about().previews || {}).map(([feature, text]) => [Number(feature), text])), wanted = new Set();
  let timer = null;
  const tell = (spot) => {
    const text = known.get(Number(spot.dataset.preview));
    if (text) spot.textContent = ` ${text}`;
  };
  async function ask() {
    timer = null;
    const features = [...wanted].slice(-40); // a few at a time, those in sight first: a card that is opened meanwhile is answered in between
    features.forEach((feature) => wanted.delete(feature));
    try {
      const answer = await backend.ask("previews", { features });
      features.forEach((feature, i) => known.set(feature, answer.texts[i]));
      await released(root);
      root.querySelectorAll(".tsae-preview:empty").forEach(tell);
    } catch {
      // the number stands without: what is asked next says what is wrong
    }
    if (wanted.size) timer = setTimeout(ask, 0);
  }
  const preview = (feature) => {
    const spot = h("span", { class: "tsae-preview", dir: "auto", "data-preview": feature });
    if (known.has(feature)) tell(spot);
    else if (!backend.stored) {
      wanted.add(feature);
      clearTimeout(timer);
      timer = setTimeout(ask, 400);
    }
    return spot;
  };
  return { preview, words: (feature) => known.get(feature) || "" };
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

/** Offers text as a file of that name. */
function download(name, text) {
  const address = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  h("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

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

/** What a word was looked for as: itself, or a part of which words. */
function matchedAs({ text, words, occurrences }) {
  const times = occurrences === 1 ? "once" : `${occurrences.toLocaleString("en")} times`;
  const parts = words.filter((word) => !word.whole);
  const said = (word) => `${word.tokens.slice(0, 4).join(", ")}${word.several > 4 ? " …" : ""}`;
  if (!parts.length) return `“${text}” occurs ${times}${words.length > 1 ? "" : " as a whole word"}`;
  if (parts.some((word) => !word.several)) return `“${parts.find((word) => !word.several).word}” is no word here, nor a part of one`;
  if (words.length === 1) return `“${text}” is no word of its own here; it occurs ${times} as a part of a word (${said(words[0])})`;
  return `“${text}” occurs ${times}, ${parts.map((word) => `“${word.word}” as a part of a word (${said(word)})`).join(", ")}`;
}

/** The feature that the page's address names for this index, or null. */
function linked(about) {
  const found = new URLSearchParams(location.hash.slice(1));
  return /^\d+$/.test(found.get("feature") || "") && found.get("of") === about.id ? Number(found.get("feature")) : null;
}

/** The explorer over a backend; `state` is {get, set, on} of feature, selected, _about, _table, _place. */
function explore(root, state, backend) {
  let about = state.get("_about");
  const columns = readTable(state.get("_table"), about);
  const rowOf = new Map(Array.from(columns.feature, (feature, row) => [feature, row]));
  let ask = remembering(backend.ask), sameImports = about.imported;
  const forget = () => { ask = remembering(backend.ask); };
  const own = (feature) => about.labels[feature] || "";
  const imported = (feature) => about.imported[feature] || "";
  const label = (feature) => own(feature) || imported(feature);
  const card = (feature) => ask(`card:${feature}`, "card", { feature });
  const related = new Set(); // the features whose relations were asked for
  const { preview, words } = previewsOf(root, () => about, backend);
  const opened = history();
  const was = state.get("_place") || {};
  const parts = {};
  let place = was.where || null; // what the trace shows: {piece, start} or {text}
  let follows = was.follows !== false; // the trace goes to the document of the feature that is opened, until somebody chooses one
  let leafing = false, staying = false;

  const open = (feature, how = {}) => {
    if (feature === state.get("feature") || !rowOf.has(feature)) return;
    leafing = Boolean(how.leafing);
    staying = Boolean(how.staying);
    state.set("feature", feature);
    remember();
  };
  const named = (feature) => (own(feature) ? h("span", { dir: "auto" }, ` ${own(feature)}`)
    : imported(feature) ? h("span", { dir: "auto", class: "tsae-imported", title: `imported explanation: ${imported(feature)}` }, ` ⤓ ${imported(feature)}`) : preview(feature));
  const said = (feature) => label(feature) || words(feature); // where only text has room
  /** A feature's number with its label or preview; in a text that it was found in, `staying` keeps that text. */
  const featureLink = (feature, how = {}) => h("button", {
    class: "tsae-link", title: `open feature ${feature}${label(feature) ? `: ${label(feature)}` : ""}`, disabled: !rowOf.has(feature), onclick: () => open(feature, how),
  }, `#${feature}`, named(feature));

  // ---- what is kept of a person's place --------------------------------------------------------------------------------------------
  let lists = was.lists || {}, keeping = null, sayKept = false, started = false;
  function remember() {
    if (backend.stored || !started) return;
    clearTimeout(keeping);
    keeping = setTimeout(() => {
      const kept = { feature: state.get("feature"), selected: state.get("selected"), lists, tab: panels.current(), where: place, follows, table: order.place() };
      backend.ask("keep", { place: kept }).catch((error) => { // said once; what is asked next says it too
        if (sayKept) return;
        sayKept = true;
        tell(error.message);
      });
    }, 1000); // writing to the disk takes its time, and nobody's next click shall wait for it
  }
  function tell(text) {
    parts.notice.textContent = text;
    parts.notice.hidden = !text;
  }

  // ---- left: the table ------------------------------------------------------------------------------------------------------------
  const order = featureTable(parts, { about: () => about, columns, rowOf, label, own, named, tell, state, backend, open, remember, was: was.table || {},
    lists: () => lists, setLists: (changed) => { lists = changed; remember(); } });

  // ---- centre: the card -----------------------------------------------------------------------------------------------------------
  parts.card = h("section", { class: "tsae-card", "aria-label": "feature card", tabindex: 0 });
  let kind = "top", wide = false;

  /** Makes rows of contexts of a card's answer: the peak and what is around it, the whole window at a press, and the way to the trace. */
  function contextRows(answer, canTrace = true) {
    const numbers = integers(answer.buffers[0]), values = floats(answer.buffers[1]), width = answer.width, highest = answer.statistics.max;
    return ([name, row]) => {
      const peak = answer.peaks[row] - answer.starts[row];
      const length = Array.from({ length: width }).filter((_, i) => numbers[row * width + i] >= 0).length;
      const part = (first, last) => flow(Array.from({ length: last - first }, (_, i) => first + i).map((i) =>
        token(answer.words[numbers[row * width + i]], values[row * width + i], highest, { peak: i === peak })));
      const near = [Math.max(0, peak - 18), Math.min(length, peak + 9)];
      const text = h("div", { class: "tsae-text", dir: "auto" });
      const more = h("button", { class: "tsae-small", "aria-expanded": "false", title: "the whole window", "aria-label": "the whole window", onclick: () => {
        const whole = more.getAttribute("aria-expanded") !== "true";
        more.setAttribute("aria-expanded", String(whole));
        fill(text, whole ? part(0, length) : [near[0] > 0 ? "… " : "", ...part(...near), near[1] < length ? " …" : ""]);
      } }, "↔");
      fill(text, near[0] > 0 ? "… " : "", part(...near), near[1] < length ? " …" : "");
      return h("div", { class: "tsae-context" }, more,
        canTrace ? h("button", { class: "tsae-small", title: `trace document ${answer.pieces[row]}`, "aria-label": `trace document ${answer.pieces[row]}`, onclick: () => trace({ piece: answer.pieces[row], start: answer.begins[row] }, false) }, "⇢") : h("span", {}),
        h("span", { class: "tsae-faint tsae-value", title: "activation at the framed token" }, `${name === "top" || name === "random" ? "" : `${name} · `}${number(values[row * width + peak])}`),
        text);
    };
  }

  function drawContexts(answer, part) {
    const group = kind === "top" ? (name) => name === "top" : kind === "random" ? (name) => name === "random" : (name) => name.startsWith("fifth");
    const context = contextRows(answer);
    const rows = answer.kinds.map((name, row) => [name, row]).filter(([name]) => group(name));
    const few = kind === "fifths" || wide ? rows.length : 7; // so that what stands below is in sight
    const rest = h("button", { class: "tsae-small", onclick: () => { wide = true; rest.replaceWith(...rows.slice(few).map(context)); } }, `${rows.length - few} more`);
    fill(part, rows.length ? [rows.slice(0, few).map(context), rows.length > few ? rest : null] : h("p", { class: "tsae-notice" }, "This feature is dead: it is active on none of the tokens, so there is no context to show."));
  }

  function drawnFeature() { return Number(parts.card.querySelector("h3")?.dataset.feature ?? -1); }

  function saveLabel(feature, text) {
    backend.ask("label", { feature, text }).then(
      async (done) => { about.labels[feature] = done.label; await released(root); order.redraw(); },
      (error) => tell(error.message));
  }

  /** The label that the feature's card opens with: what a hand has typed is carried on, and saved where another feature's card takes its place. */
  function typed(feature) {
    const name = parts.card.querySelector(".tsae-label"), before = drawnFeature();
    if (!name) return own(feature);
    if (before === feature) return name.value;
    if (name.value !== own(before)) saveLabel(before, name.value);
    return own(feature);
  }

  /** What the last word search says of a feature. */
  function found(feature) {
    const about_ = order.found(feature);
    if (!about_) return null;
    const { text, occurrences, row } = about_;
    return h("p", { class: "tsae-found-here" }, h("b", {}, `“${text}”`), row.threshold ? `: fires above ${number(row.threshold)} on ` : ": fires on ",
      `${row.hits.toLocaleString("en")} of its ${occurrences.toLocaleString("en")} occurrences and ${(row.fired - row.hits).toLocaleString("en")} other tokens, F1\u00a0${number(row.f1, 2)}`,
      row.threshold ? h("span", { class: "tsae-faint" }, ` (firing at all: ${number(row.f1_any, 2)})`) : null);
  }

  const addressOf = (feature) => `#${new URLSearchParams({ feature, of: about.id })}`;
  async function copyLink(event) {
    const link = event.currentTarget;
    try {
      await navigator.clipboard.writeText(link.href);
      link.textContent = "link copied";
    } catch {
      link.textContent = "link is in the address bar"; // where a page may not write to the clipboard
    }
    setTimeout(() => { link.textContent = "link"; }, 2000);
  }

  function travel(back) {
    const feature = opened.go(back);
    if (feature !== null) open(feature);
  }
  function travelButton(back) {
    const to = back ? opened.back() : opened.forward();
    return h("button", { class: "tsae-small", disabled: to === undefined, "aria-label": back ? "back" : "forward", title: to === undefined ? (back ? "back: nothing was opened before" : "forward")
      : `${back ? "back" : "forward"} to #${to} ${label(to)} (alt ${back ? "←" : "→"})`, onclick: () => travel(back) }, back ? "←" : "→");
  }

  function drawCard(answer) {
    const feature = answer.feature, statistics = answer.statistics;
    const contexts = h("div", { class: "tsae-contexts" });
    const kinds = ["top", "fifths", "random"].map((name) => h("button", {
      class: "tsae-small", "aria-pressed": String((kind === name)), title: { top: "strongest contexts, apart from each other", fifths: "some of each fifth of the activations, weakest first", random: "at random" }[name],
      onclick: (event) => {
        kind = name;
        kinds.forEach((button) => button.setAttribute("aria-pressed", String(button === event.currentTarget)));
        drawContexts(answer, contexts);
      },
    }, name));
    drawContexts(answer, contexts);
    const name = h("input", {
      class: "tsae-label", value: typed(feature), placeholder: "label", "aria-label": "label of this feature", disabled: backend.stored,
      onchange: (event) => saveLabel(feature, event.target.value),
    });
    const chosen = state.get("selected").includes(feature);
    const relations = h("div", { class: "tsae-columns" });
    const before = related.has(feature) || backend.stored ? Promise.resolve() : painted(); // else the kernel counts while the card is to be painted
    related.add(feature);
    into(relations, before.then(() => ask(`coactive:${feature}`, "coactive", { feature })), (found) => [
      h("div", {}, h("h4", { title: "correlation of being active" }, "fires together with", found.sampled ? h("small", { class: "tsae-faint" }, ` (on ${found.sampled.toLocaleString("en")} of its tokens)`) : null),
        table(["φ", "feature", "", "given this", "given other"], found.rows.slice(0, 10).map((row) => [
          number(row.phi, 2), featureLink(row.feature), groupBadge(row.level, about.groups) || "", share(row.given_this), share(row.given_other)]))),
      h("div", {}, h("h4", {}, "nearest decoder rows"), answer.neighbours.length
        ? table(["cosine", "feature"], answer.neighbours.map((row) => [number(row.cosine, 2), featureLink(row.feature)]))
        : h("p", { class: "tsae-faint" }, "no decoder in this index")),
    ]);
    const logits = (rows, title) => h("div", {}, h("h4", {}, title), table(["logit", "token"], rows.map((row) => [number(row.logit, 2), shown(row.text)])));
    return [
      h("div", { class: "tsae-row" }, travelButton(true), travelButton(false),
        h("h3", { "data-feature": feature }, `#${feature}`), groupBadge(statistics.level, about.groups), name,
        h("button", { class: "tsae-star", "aria-pressed": String(chosen), title: "choose for steering, ablation and traces (x)", onclick: () => toggle(feature) }, chosen ? "★ chosen" : "☆ choose"),
        h("a", { class: "tsae-link", href: addressOf(feature), title: "copy the address of this feature", onclick: copyLink }, "link"),
        h("button", { class: "tsae-small", title: "this card as a JSON file", "aria-label": "card as JSON", onclick: async () => {
          try {
            const together = await ask(`coactive:${feature}`, "coactive", { feature });
            download(`feature-${feature}.json`, JSON.stringify(cardForPrograms(answer, together, about, own(feature)), null, 1));
          } catch (error) {
            tell(error.message);
          }
        } }, "JSON")),
      found(feature),
      answer.explanations.length ? h("p", { class: "tsae-imported" }, "imported: ", h("span", { dir: "auto" }, answer.explanations.map((one) => one.description).join(" · ")),
        h("small", { class: "tsae-faint" }, ` (${answer.explanations[0].explanationModelName || "by a person"}) `),
        backend.stored ? null : h("button", { class: "tsae-small", title: "make it this feature's label", onclick: () => { name.value = answer.explanations[0].description; saveLabel(feature, name.value); } }, "use as label")) : null,
      h("p", { class: "tsae-faint" }, label(feature) ? null : preview(feature), " ",
        `${statistics.dead ? "dead" : `active on ${statistics.active.toLocaleString("en")} tokens (${share(statistics.density)})`} · max ${number(statistics.max)} · mean ${number(statistics.mean)} · `,
        h("span", { title: "correlation of the activation with the one on the next token" }, `lag-1 ${fixed(statistics.autocorrelation)}`), " · ",
        h("span", { title: "mean tokens in a row" }, `run ${number(statistics.run_length, 2)}`), " · ",
        h("span", { title: JUMP }, `jump ${number(statistics.smoothness, 2)}`)),
      h("div", { class: "tsae-row" }, h("h4", {}, "contexts"), kinds),
      contexts,
      h("div", { class: "tsae-columns" },
        answer.histogram.length ? histogram("activations, √ heights", answer.histogram, statistics.max) : null,
        answer.logits.length ? logits(answer.logits.slice(0, answer.logits.length / 2), "promotes") : null,
        answer.logits.length ? logits(answer.logits.slice(answer.logits.length / 2), "suppresses") : null),
      relations,
    ];
  }

  function toggle(feature) {
    const chosen = state.get("selected");
    choose(chosen.includes(feature) ? chosen.filter((other) => other !== feature) : [...chosen, feature]);
  }
  function choose(features) {
    state.set("selected", features);
    remember();
  }
  parts.choose = choose;
  parts.again = () => show(state.get("feature"));

  // ---- below: trace, steer, ablate, compare ---------------------------------------------------------------------------------------
  const shared = {
    about: () => about, state, backend, featureLink, label, said, named, contextRows, card, columns, rowOf,
    place: () => place, moved: (where) => { place = where; remember(); },
    follows: () => follows, follow(on) {
      follows = on;
      if (on) toStrongest();
      remember();
    },
  };
  const panels = tabs(TABS.map(([name]) => name), (name) => { refresh(name); remember(); });
  const views = Object.fromEntries(TABS.map(([name, view], i) => [name, view(panels.panels[i], shared)]));

  function trace(where, following) {
    place = where;
    follows = following;
    if (panels.current() !== "Trace") panels.show("Trace");
    else refresh("Trace");
  }
  async function toStrongest() {
    const answer = await card(state.get("feature"));
    if (answer.pieces.length) trace({ piece: answer.pieces[0], start: answer.begins[0] }, true);
  }
  function refresh(name) { views[name].refresh(); }

  // ---- the whole -------------------------------------------------------------------------------------------------------------------
  let wanted = 0;
  const keepFocus = () => { // what is drawn again loses it; a label that is typed keeps it, else the table takes it, so that the keys go on working
    const active = document.activeElement, inside = active !== parts.card && parts.card.contains(active);
    const typing = inside && active.matches(".tsae-label"), feature = drawnFeature(), at = typing ? /** @type {HTMLInputElement} */ (active).selectionStart : 0;
    return () => {
      if (typing && drawnFeature() === feature) {
        const name = parts.card.querySelector(".tsae-label");
        name.focus();
        name.setSelectionRange(at, at);
      }
      else if (inside || document.activeElement === null) parts.rows.focus({ preventScroll: true });
    };
  };
  async function show(feature) {
    const turn = (wanted += 1), stays = staying;
    opened.opened(feature, leafing);
    leafing = staying = false;
    const asked = card(feature); // first of all: the rest is done while the kernel answers
    if (linked(about) !== null && linked(about) !== feature) window.history.replaceState(window.history.state, "", addressOf(feature)); // an address that names a feature keeps up
    let refocus = () => {};
    const marked = Promise.race([asked.catch(() => null), pause(40)]).then(() => { if (turn === wanted) order.mark(); }); // in one frame with the card, if that comes soon
    await into(parts.card, asked, (answer) => { refocus = keepFocus(); return drawCard(answer); }, `opening #${feature} …`);
    if (turn !== wanted) return;
    await marked;
    refocus();
    await painted();
    root.dataset.painted = String(feature);
    root.dispatchEvent(new CustomEvent("tsae:painted", { detail: feature }));
    const answer = await asked.catch(() => null);
    if (!answer) return;
    const next = order.beside(1);
    if (next !== null && !backend.stored) card(next).catch(() => {}); // so that j answers at once
    await pause(backend.stored ? 0 : 120); // nobody reads a trace while leafing through
    if (turn !== wanted) return;
    const there = !place || (follows && !stays && panels.current() === "Trace");
    if ((there || backend.stored) && answer.pieces.length) place = { piece: answer.pieces[0], start: answer.begins[0] };
    refresh(panels.current());
  }

  parts.notice = h("p", { class: "tsae-notice", role: "status", hidden: !about.notice }, about.notice);
  root.dataset.of = about.id; // so that other views of this index find it
  fill(root, parts.notice, h("div", { class: "tsae-explorer" },
    h("section", { class: "tsae-left", "aria-label": "features" }, parts.tools, parts.head, parts.rows, parts.foot),
    parts.card, h("section", { class: "tsae-right", "aria-label": "trace, steer, ablate, compare" }, panels.bar, ...panels.panels)));
  root.addEventListener("keydown", (event) => {
    const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName);
    if (event.altKey && !event.ctrlKey && !event.metaKey && !typing && ["ArrowLeft", "ArrowRight"].includes(event.key)) {
      travel(event.key === "ArrowLeft");
      event.preventDefault(); // the browser would leave the page
      event.stopPropagation();
      return;
    }
    if (event.key === "Escape" && typing) root.focus();
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    const atTable = event.target === root || event.target === parts.rows;
    const actions = {
      j: () => order.step(1), k: () => order.step(-1), ArrowDown: () => order.step(1), ArrowUp: () => order.step(-1),
      PageDown: () => order.step(10), PageUp: () => order.step(-10), Home: () => order.step(-Infinity), End: () => order.step(Infinity),
      "/": () => parts.search.focus(), x: () => toggle(state.get("feature")), Enter: toStrongest,
    };
    const elsewhere = event.key.length > 1 && !atTable; // there such a key scrolls, or presses a button
    if (!actions[event.key] || elsewhere) return;
    actions[event.key]();
    event.preventDefault();
    event.stopPropagation();
  });
  const toLinked = () => { const feature = linked(about); if (feature !== null) open(feature); };
  window.addEventListener("hashchange", toLinked);
  const unfollow = [
    () => window.removeEventListener("hashchange", toLinked),
    state.on("feature", () => show(state.get("feature"))),
    state.on("selected", async () => {
      const answer = await card(state.get("feature"));
      await released(root);
      order.redraw();
      refresh(panels.current());
      if (answer.feature !== state.get("feature")) return; // another one was opened meanwhile, and is drawn by then
      const refocus = keepFocus();
      fill(parts.card, drawCard(answer));
      refocus();
    }),
    state.on("_about", async () => {
      about = { ...state.get("_about") };
      await released(root);
      const name = parts.card.querySelector(".tsae-label");
      if (name && name !== document.activeElement) name.value = own(drawnFeature());
      if (sameImports !== about.imported) { // what was imported stands in the card too
        sameImports = about.imported;
        forget();
        show(state.get("feature"));
      }
      order.redraw();
      refresh(panels.current());
    }),
  ];
  panels.show(TABS.some(([name]) => name === was.tab) ? was.tab : "Trace");
  order.redraw();
  if (about.features === 0) fill(parts.card, h("p", { class: "tsae-notice" }, "This index has no features."));
  else if (linked(about) !== null && rowOf.has(linked(about)) && linked(about) !== state.get("feature")) open(linked(about));
  else show(state.get("feature"));
  started = true;
  return () => unfollow.forEach((stop) => stop());
}

/** The virtualised table: only the rows in sight exist, and stay while they are; sorting and filtering never ask the kernel. */
function featureTable(parts, { about, columns, rowOf, label, own, named, tell, state, backend, open, remember, was, lists, setLists }) {
  let sort = { column: "feature", down: false, ...was.sort }, found = null, asked = null, view = [];
  const shownColumns = [["feature", "#"], ["level", kindOf(about().groups)], ["density", "density"], ["max", "max"], ["smoothness", "jump"], ["autocorrelation", "lag-1"]]
    .filter(([name]) => name !== "level" || about().groups.length > 1);
  const explained = { level: kindOf(about().groups) === "level" ? "1 is the lowest" : "in the order of the groups", density: "share of tokens on which it is active", max: "largest activation",
    smoothness: JUMP, autocorrelation: "correlation of the activation with the one on the next token" };
  const places = (name) => { // so that decimal points stand under each other
    const largest = columns[name].reduce((most, value) => (value > most ? value : most), 0);
    return largest >= 100 ? 0 : largest >= 10 ? 1 : largest >= 1 ? 2 : 3;
  };
  const digits = { max: places("max"), smoothness: places("smoothness") };
  const id = `tsae-row-${Math.random().toString(36).slice(2, 8)}`;
  const changed = () => { rebuild(); remember(); };
  parts.search = h("input", { type: "search", value: was.search || "", placeholder: "label, #id, or a word + Enter  ( / )", "aria-label": "search", oninput: () => { found = null; changed(); if (!parts.search.value) toCurrent(); }, onkeydown: (event) => {
    if (event.key === "Enter") searchToken();
    if (event.key !== "Escape") return;
    parts.search.value = ""; // the way out of a search leads to the whole list
    found = null;
    changed();
    toCurrent();
    parts.rows.focus({ preventScroll: true });
    event.preventDefault();
    event.stopPropagation();
  } });
  parts.level = h("select", { "aria-label": kindOf(about().groups), onchange: changed },
    h("option", { value: "" }, `all ${kindOf(about().groups)}s`), ...about().groups.map((name, i) => h("option", { value: i + 1 }, name)));
  parts.alive = h("select", { "aria-label": "which features", onchange: changed });
  parts.densest = h("input", { type: "number", min: 0, max: 100, step: "any", value: was.densest || null, "aria-label": "highest density in per cent", oninput: changed });
  const listName = h("input", { placeholder: "name", "aria-label": "name of the list", size: 10 }), listed = h("div", {});
  const menu = h("details", { class: "tsae-lists" }, h("summary", {}, "more"), h("div", { class: "tsae-menu" },
    h("label", {}, "density at most, in % ", parts.densest),
    backend.stored ? null : h("div", { class: "tsae-row" }, h("button", { title: "keep the chosen features under this name", onclick: () => {
      const name = listName.value.trim();
      if (!name || !state.get("selected").length) { parts.foot.textContent = name ? "Choose features first: ☆ or x." : "A list needs a name."; return; }
      setLists({ ...lists(), [name]: state.get("selected") });
      listName.value = "";
      drawLists();
    } }, "keep chosen as list"), listName), backend.stored ? null : listed,
    backend.stored ? null : h("div", { class: "tsae-row" }, h("span", {}, "explanations"),
      h("label", { class: "tsae-file", title: "show explanations of a file in Neuronpedia's format where a feature has no label" }, "in ",
        h("input", { type: "file", accept: ".json,.jsonl", "aria-label": "file of explanations", onchange: (event) => importFrom(event.target) })),
      h("button", { class: "tsae-small", "aria-label": "explanations as a file", title: "labels and explanations as a file in Neuronpedia's format", onclick: exportExplanations }, "out"))));
  async function importFrom(field) {
    const [file] = field.files;
    if (!file) return;
    try {
      const kept = await backend.ask("import", { name: file.name, text: await file.text() });
      tell("");
      parts.foot.textContent = `${kept.explanations.toLocaleString("en")} explanations of ${kept.features.toLocaleString("en")} features imported (${kept.of})`;
    } catch (error) {
      tell(error.message);
    }
    field.value = ""; // the same file may be chosen again
  }
  async function exportExplanations() {
    try {
      const { rows } = await backend.ask("explanations", {});
      if (rows.length) download("explanations.json", JSON.stringify(rows, null, 1));
      else parts.foot.textContent = "There is no label and no explanation yet.";
    } catch (error) {
      tell(error.message);
    }
  }
  function drawLists() {
    const way = parts.alive.options.length ? parts.alive.value : was.which;
    fill(parts.alive, [["", "all"], ["alive", "alive"], ["dead", "dead"], ["labelled", "labelled"], ["explained", "explained"], ["chosen", "chosen"], ...Object.keys(lists()).map((name) => [`list:${name}`, `list ${name}`])]
      .map(([value, text]) => h("option", { value }, text)));
    parts.alive.value = [...parts.alive.options].some((option) => option.value === way) ? way : "";
    fill(listed, Object.entries(lists()).map(([name, features]) => h("div", { class: "tsae-row" }, h("span", { dir: "auto" }, `${name} (${features.length})`),
      h("button", { class: "tsae-small", onclick: () => parts.choose(features) }, "choose"),
      h("button", { class: "tsae-small", "aria-label": `forget the list ${name}`, onclick: () => {
        const { [name]: _, ...left } = lists();
        setLists(left);
        drawLists();
        rebuild();
      } }, "forget"))));
  }
  drawLists();
  parts.level.value = was.level || "";
  parts.tools = h("div", { class: "tsae-tools" }, parts.search, about().groups.length > 1 ? parts.level : null, parts.alive, menu);
  parts.head = h("div", { class: "tsae-head" });
  parts.space = h("div", { class: "tsae-space", role: "presentation" });
  parts.rows = h("div", { class: "tsae-rows", role: "listbox", tabindex: 0, "aria-label": "features; j and k move", onscroll: () => draw() }, parts.space);
  parts.foot = h("p", { class: "tsae-faint tsae-foot", "aria-live": "polite" });
  const lines = new Map(); // feature → its row, while in sight
  drawnToFit(parts.rows, () => draw());

  async function searchToken() {
    const text = parts.search.value.trim();
    if (!text) return;
    if (/^#?\d+$/.test(text)) {
      const feature = Number(text.replace("#", ""));
      if (rowOf.has(feature)) open(feature);
      else parts.foot.textContent = `There is no feature ${feature} here.`;
      return;
    }
    try {
      parts.foot.textContent = `looking for “${text}” …`;
      const answer = await backend.ask("search", { text });
      await released(parts.rows.parentElement);
      if (!answer.rows.length && view.length) { // labels match, words do not
        parts.foot.textContent = `“${text}” is no word here that a feature fires on; ${view.length} labels or numbers match.`;
        return;
      }
      asked = answer;
      found = new Map(answer.rows.filter((row) => rowOf.has(row.feature)).map((row) => [rowOf.get(row.feature), row]));
      sort.chosen = false; // best first, until a column is clicked
      parts.rows.scrollTop = 0;
      rebuild();
      parts.foot.textContent = `${matchedAs(answer)}; ${answer.rows.length
        ? `${answer.rows.length} features, best first: F1 above each one's best threshold` : "no feature fires on it"}.`;
      if (view.length && columns.feature[view[0]] === state.get("feature")) parts.again(); // the card says what was found
      else if (view.length) open(columns.feature[view[0]]);
    } catch (error) {
      parts.foot.textContent = error.message;
    }
    await painted();
    parts.rows.dataset.searched = text;
  }

  function rebuild() {
    const text = found ? "" : parts.search.value.trim().toLowerCase().replace("#", "");
    const level = Number(parts.level.value), alive = parts.alive.value, most = parts.densest.value === "" ? Infinity : Number(parts.densest.value) / 100;
    const chosen = new Set(alive.startsWith("list:") ? lists()[alive.slice(5)] : state.get("selected"));
    const keep = (row) => {
      const feature = columns.feature[row];
      if (level && columns.level[row] !== level) return false;
      if (columns.density[row] > most) return false;
      if (alive === "alive" && columns.density[row] === 0) return false;
      if (alive === "dead" && columns.density[row] > 0) return false;
      if (alive === "labelled" && !own(feature)) return false;
      if (alive === "explained" && !about().imported[feature]) return false;
      if ((alive === "chosen" || alive.startsWith("list:")) && !chosen.has(feature)) return false;
      return !text || String(feature).startsWith(text) || label(feature).toLowerCase().includes(text);
    };
    const rows = found ? [...found.keys()] : Array.from(columns.feature.keys());
    view = rows.filter(keep);
    if (!found || sort.chosen) {
      const values = columns[sort.column], way = sort.down ? -1 : 1;
      const rank = (row) => (Number.isNaN(values[row]) ? -Infinity : values[row]);
      view.sort((a, b) => (way * (rank(a) - rank(b))) || a - b);
    }
    parts.space.style.height = `${view.length * ROW}px`;
    drawHead();
    if (text && !view.length) parts.foot.textContent = `nothing listed is like “${parts.search.value.trim()}”: Enter looks for it in the text`;
    else parts.foot.textContent = `${view.length.toLocaleString("en")} of ${columns.feature.length.toLocaleString("en")} features${found ? "" : `, ${about().dead.toLocaleString("en")} dead`} · j k / Enter x`;
    draw();
  }

  const heads = shownColumns.map(([name]) => h("button", {
    class: `tsae-cell tsae-${name}${name === "level" ? " tsae-levelcell" : ""}`,
    onclick: () => { sort = { column: name, down: sort.column === name ? !sort.down : name !== "feature", chosen: true }; parts.rows.scrollTop = 0; changed(); },
  }));
  const nameHead = h("span", { class: "tsae-cell tsae-name" });
  fill(parts.head, heads, nameHead);
  function drawHead() {
    shownColumns.forEach(([name, title], i) => {
      const sorted = sort.column === name && (!found || sort.chosen);
      heads[i].textContent = `${title}${sorted ? (sort.down ? " ▾" : " ▴") : ""}`;
      heads[i].title = `${explained[name] || "number"}; click to sort${sorted ? `, now ${sort.down ? "falling" : "rising"}` : ""}`;
    });
    nameHead.textContent = found ? "F1 · label" : "label";
  }

  function makeLine(row, feature) {
    const cell = (name) => h("span", { class: `tsae-cell tsae-${name}` });
    const element = h("div", { class: "tsae-line", role: "option", id: `${id}-${feature}`, "data-id": feature,
      onclick: () => { open(feature); parts.rows.focus({ preventScroll: true }); } });
    const group = about().groups[columns.level[row] - 1];
    element.append(cell("feature"), ...(about().groups.length > 1 ? [h("span", { class: "tsae-cell tsae-levelcell", title: group }, short(group))] : []),
      ...["density", "max", "smoothness", "autocorrelation", "name"].map(cell));
    element.querySelector(".tsae-density").textContent = columns.density[row] === 0 ? "dead" : share(columns.density[row]);
    element.querySelector(".tsae-max").textContent = fixed(columns.max[row], digits.max);
    element.querySelector(".tsae-smoothness").textContent = fixed(columns.smoothness[row], digits.smoothness);
    element.querySelector(".tsae-autocorrelation").textContent = fixed(columns.autocorrelation[row]);
    element.classList.toggle("tsae-dead", columns.density[row] === 0);
    return element;
  }

  function draw() {
    const first = Math.max(0, Math.floor(parts.rows.scrollTop / ROW) - 4), last = Math.min(view.length, first + Math.ceil((parts.rows.clientHeight || 480) / ROW) + 8);
    const current = state.get("feature"), chosen = new Set(state.get("selected")), inSight = new Set();
    for (let i = first; i < last; i += 1) inSight.add(columns.feature[view[i]]);
    for (const [feature, element] of lines) {
      if (inSight.has(feature)) continue;
      element.remove();
      lines.delete(feature);
    }
    for (let i = first; i < last; i += 1) {
      const row = view[i], feature = columns.feature[row];
      if (!lines.has(feature)) lines.set(feature, makeLine(row, feature));
      const element = lines.get(feature), star = `${chosen.has(feature) ? "★" : ""}${feature}`;
      const f1 = found && found.has(row) ? `${number(found.get(row).f1, 2)} ` : "", says = `${f1}${own(feature)}|${label(feature)}`;
      if (element.firstChild.textContent !== star) element.firstChild.textContent = star;
      if (element.dataset.says !== says) {
        element.dataset.says = says;
        fill(element.lastChild, f1, named(feature));
        const row_ = found?.get(row);
        element.title = row_ ? `F1 ${number(row_.f1, 2)} ${row_.threshold ? `above ${number(row_.threshold)}` : "wherever it fires"}: ${row_.hits} hits, ${row_.fired - row_.hits} other tokens` : "";
      }
      for (const [name, value] of [["aria-selected", String(feature === current)], ["aria-posinset", String(i + 1)], ["aria-setsize", String(view.length)]]) {
        if (element.getAttribute(name) !== value) element.setAttribute(name, value); // else its style is computed again for nothing
      }
      if (element.style.top !== `${i * ROW}px`) element.style.top = `${i * ROW}px`;
      if (parts.space.children[i - first] !== element) parts.space.insertBefore(element, parts.space.children[i - first] || null);
    }
    if (lines.has(current)) parts.rows.setAttribute("aria-activedescendant", `${id}-${current}`);
    else parts.rows.removeAttribute("aria-activedescendant");
  }

  const at = () => view.findIndex((row) => columns.feature[row] === state.get("feature"));
  function toCurrent() {
    const where = at();
    if (where >= 0) {
      const top = where * ROW, room = parts.rows.clientHeight;
      if (top < parts.rows.scrollTop || top + ROW > parts.rows.scrollTop + room) parts.rows.scrollTop = Math.max(0, top - room / 2);
    }
    draw();
  }
  const beside = (step) => {
    const here = at();
    if (!view.length || here < 0) return view.length ? columns.feature[view[0]] : null;
    const next = Math.min(view.length - 1, Math.max(0, here + step));
    return next === here ? null : columns.feature[view[next]];
  };
  return {
    redraw: rebuild,
    beside,
    found(feature) { return found?.has(rowOf.get(feature)) ? { ...asked, row: found.get(rowOf.get(feature)) } : null; },
    place: () => ({ sort, search: found ? "" : parts.search.value, level: parts.level.value, which: parts.alive.value, densest: parts.densest.value }),
    step(step) { const next = beside(step); if (next !== null) open(next, { leafing: Math.abs(step) === 1 }); },
    mark: toCurrent,
  };
}

/** Bars along a text on a canvas: one lane per row; the height of a bar is the activation relative to the row's highest. */
function lanes(rows, length, name) {
  const lane = 16, canvas = h("canvas", { class: "tsae-lanes", role: "img", "aria-label": name, tabindex: 0 });
  const draw = (cell, mark) => {
    const ratio = window.devicePixelRatio || 1, pen = canvas.getContext("2d"), colours = {};
    const colour = (variable) => (colours[variable] ??= colourAt(canvas.parentElement, variable));
    canvas.width = Math.ceil(length * cell * ratio);
    canvas.height = rows.length * lane * ratio;
    canvas.style.width = `${length * cell}px`;
    canvas.style.height = `${rows.length * lane}px`;
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    rows.forEach((row, i) => {
      pen.fillStyle = colour(row.colour);
      for (let t = 0; t < length; t += 1) {
        const part = row.highest > 0 ? row.values[t] / row.highest : 0;
        if (part > 0) pen.fillRect(t * cell, (i + 1) * lane - Math.max(1, part * (lane - 2)), Math.max(1, cell - (cell > 3 ? 1 : 0)), Math.max(1, part * (lane - 2)));
      }
      pen.fillStyle = colour("--tsae-line");
      pen.fillRect(0, (i + 1) * lane - 0.5, length * cell, 0.5);
    });
    if (mark !== null) {
      pen.strokeStyle = colour("--tsae-text");
      pen.strokeRect(mark * cell, 0, cell, rows.length * lane);
    }
  };
  return { canvas, draw, lane };
}

/** Graphs above each other in the room that is left beside names and numbers, as wide as it allows; one token of all is marked. */
function graphsToFit(head, graphs, length, pointed) {
  const box = h("div", { class: "tsae-lane-scroll" }, head, graphs.map((graph) => graph.canvas));
  let cell = 0, marked = null;
  const draw = () => {
    if (!box.clientWidth) return; // not in sight
    cell = Math.max(1, Math.min(16, Math.floor((4 * box.clientWidth) / Math.max(1, length)) / 4));
    graphs.forEach((graph) => graph.draw(cell, marked));
  };
  const mark = (t) => {
    marked = t;
    if (cell) graphs.forEach((graph) => graph.draw(cell, marked));
  };
  for (const graph of graphs) {
    graph.canvas.addEventListener("mousemove", (event) => {
      const at = graph.canvas.getBoundingClientRect();
      pointed(Math.min(length - 1, Math.max(0, Math.floor((event.clientX - at.left) / cell))), graph, Math.floor((event.clientY - at.top) / graph.lane));
    });
  }
  drawnToFit(box, draw);
  return { box, mark };
}

function traceView(panel, { about, state, backend, featureLink, said, place, moved, follows, follow }) {
  let rank = "total", hidden = new Set(), last = null, askedOf = null; // the word whose features are shown: {text, t}
  const text = h("textarea", { rows: 1, placeholder: "Paste a text and read it …", "aria-label": "text to read" });
  const chosen = (where) => { setFollowing(false); show(where); };
  const read = h("button", { onclick: () => chosen({ text: text.value }) }, "Read");
  const piece = h("input", { type: "number", min: 0, max: about().pieces - 1, "aria-label": "document", onchange: () => { if (piece.value !== "") chosen({ piece: Math.trunc(Number(piece.value)), start: 0 }); } });
  const any = h("button", { title: "any document", disabled: backend.stored, onclick: () => chosen({ piece: Math.floor(Math.random() * about().pieces), start: 0 }) }, "random");
  const following = h("button", { title: "go to the strongest document of each feature that is opened; Enter does it once more", onclick: () => setFollowing(!follows(), true) }, "follow");
  function setFollowing(on, goes = false) {
    if (on !== follows() || goes) follow(on);
    following.setAttribute("aria-pressed", String(follows()));
  }
  const levels = about().groups.map((name, i) => [name, i + 1]).map(([name, level]) => h("button", {
    class: `tsae-level tsae-level-${tint(level)}`, "aria-pressed": "true", title: `show features of ${name}`,
    onclick: (event) => {
      hidden.has(level) ? hidden.delete(level) : hidden.add(level);
      event.currentTarget.setAttribute("aria-pressed", String(!hidden.has(level)));
      if (last) fill(body, traceBody(last.answer));
    },
  }, short(name)));
  const ranks = h("select", { "aria-label": "order of features", disabled: backend.stored, onchange: () => { rank = ranks.value; if (last) show(last.where); } },
    ...[["total", "by total activation"], ["peak", "by peak"], ["length", "by run length"]].map(([value, name]) => h("option", { value }, name)));
  const body = h("div", { class: "tsae-trace" });
  fill(panel, h("div", { class: "tsae-row tsae-tracetools" }, h("label", {}, "document ", piece), any, backend.stored ? null : following, ranks, levels.length > 1 ? levels : null,
    about().live ? h("div", { class: "tsae-paste" }, h("div", { class: "tsae-growing" }, text), read) : null), body);

  function show(where) {
    moved(where);
    setFollowing(follows());
    const question = { feature: state.get("feature"), pinned: state.get("selected"), count: 40, rank, ...where };
    const asked = where.text !== undefined ? backend.ask("prompt", question) : backend.ask("trace", question);
    return into(body, asked, (answer) => {
      last = { answer, where };
      piece.value = where.text === undefined ? where.piece : "";
      return traceBody(answer);
    }, where.text !== undefined ? "reading the text …" : `reading document ${where.piece} …`).then(painted).then(() => { panel.dataset.traced = where.text !== undefined ? "text" : String(where.piece); });
  }

  function traceBody(answer) {
    const length = answer.texts.length, matrix = floats(answer.buffers[0]), shares = floats(answer.buffers[1]), deep = answer.levels_in_all;
    const statistics = answer.statistics, current = state.get("feature"), groups = kindOf(about().groups);
    const pinned = new Set([current, ...state.get("selected")]);
    const all = answer.features.map((feature, row) => ({
      feature, level: answer.levels[row], values: matrix.subarray(row * length, (row + 1) * length), highest: statistics[row].peak,
      colour: `--tsae-level${tint(answer.levels[row])}`, statistics: statistics[row],
    }));
    const ranked = { total: "total", peak: "peak", length: "run_length" }[rank];
    const rows = all.filter((row) => pinned.has(row.feature) || (!hidden.has(row.level) && row.statistics.total > 0))
      .sort((a, b) => Number(pinned.has(b.feature)) - Number(pinned.has(a.feature)) || b.statistics[ranked] - a.statistics[ranked]).slice(0, 40);
    if (!answer.fired) {
      return [answer.notice ? h("p", { class: "tsae-notice" }, answer.notice) : null,
        h("p", { class: "tsae-notice" }, "No feature fires on this text."), h("p", { class: "tsae-text" }, flow(answer.texts.map((word) => token(word, 0, 0))))];
    }
    const mine = all.find((row) => row.feature === current);
    const words = answer.texts.map((word, t) => token(word, mine ? mine.values[t] : 0, mine ? mine.highest : 0, { column: t, unknown: answer.unknown && answer.unknown[t] }));
    const readout = h("p", { class: "tsae-faint tsae-readout", "aria-live": "polite" }, "Point at a bar or a word; click a word for all features on it.");
    const onToken = h("div", { class: "tsae-ontoken" });
    let marked = null;
    const point = (t, row = null) => {
      if (marked !== null) words[marked].classList.remove("tsae-marked");
      marked = t;
      words[t].classList.add("tsae-marked");
      graphs.mark(t);
      readout.textContent = `token ${t}: “${shown(answer.texts[t]).trim()}”${row ? ` · #${row.feature} ${said(row.feature)} ${number(row.values[t])}` : ""}${
        deep > 1 ? ` · ${groups}s ${Array.from({ length: deep }, (_, i) => share(shares[t * deep + i])).join(" / ")}` : ""}`;
    };
    const textKey = answer.piece === null ? answer.texts.join("") : `${answer.piece}:${answer.start}`;
    const askToken = (t) => { askedOf = { text: textKey, t }; showToken(t); };
    const showToken = (t) => into(onToken, backend.ask("token", answer.piece === null ? { column: t } : { position: answer.start + t }), (found) => [
      h("h4", {}, `features on “${shown(answer.texts[t]).trim()}” (token ${t}) `, h("button", { class: "tsae-small", "aria-label": "close", onclick: () => { askedOf = null; fill(onToken); } }, "×")),
      found.rows.length ? table(["activation", "feature"], found.rows.slice(0, 12).map((row) => [number(row.activation), featureLink(row.feature, { staying: true })]))
        : h("p", { class: "tsae-faint" }, "none fires")], `looking what fires on “${shown(answer.texts[t]).trim()}” …`);
    const main = lanes(rows, length, `activation of ${rows.length} features along ${length} tokens`);
    const routes = deep > 1 ? lanes(Array.from({ length: deep }, (_, i) => deep - i).map((level) => ({
      values: Float32Array.from({ length }, (_, t) => shares[t * deep + level - 1]), highest: 1, colour: `--tsae-level${tint(level)}`,
    })), length, `share of the activation on each ${groups} along the text`) : null;
    const graphs = graphsToFit(h("div", { class: "tsae-lane-head" }, `${length} tokens${answer.length > length ? ` of ${answer.length}` : ""}, bars relative to each row's highest`),
      routes ? [routes, main] : [main], length, (t, graph, row) => point(t, graph === main ? rows[row] : null));
    words.forEach((word, t) => {
      word.addEventListener("mouseenter", () => point(t));
      word.addEventListener("click", () => askToken(t));
    });
    const reading = h("div", { class: "tsae-text tsae-tracetext", dir: "auto", tabindex: 0, role: "group", "aria-label": "the text; arrows go from word to word, Enter shows all features on it", onkeydown: (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (event.altKey || (!step && event.key !== "Enter")) return;
      if (step) point(Math.min(length - 1, Math.max(0, (marked ?? -step) + step)));
      else if (marked !== null) askToken(marked);
      if (marked !== null) words[marked].scrollIntoView({ block: "nearest" });
      event.preventDefault();
      event.stopPropagation();
    } }, flow(words));
    if (askedOf && askedOf.text === textKey) showToken(askedOf.t); // drawn again, as when a feature is chosen
    const names = rows.map((row) => h("div", { class: "tsae-lane-name" }, groupBadge(row.level, about().groups), featureLink(row.feature, { staying: true })));
    const against = (value, control, digits) => h("span", { title: `in shuffled order ${number(control)}` }, fixed(value, digits), h("small", { class: "tsae-faint" }, ` (${fixed(control, digits)})`));
    const numbers = rows.map((row) => h("div", { class: "tsae-lane-numbers" },
      against(row.statistics.run_length, row.statistics.shuffled_run_length, 1), against(row.statistics.autocorrelation, row.statistics.shuffled_autocorrelation, 2)));
    const chart = h("div", { class: "tsae-lane-grid" },
      h("div", { class: "tsae-lane-names" }, h("div", { class: "tsae-lane-head" }, "feature"), routes ? Array.from({ length: deep }, (_, i) => h("div", { class: "tsae-lane-name" }, groups === "level" ? `routing L${deep - i}` : about().groups[deep - i - 1])) : null, names),
      graphs.box,
      h("div", { class: "tsae-lane-stats" }, h("div", { class: "tsae-lane-head tsae-lane-numbers", title: "in brackets: the same with the tokens in shuffled order" }, h("span", {}, "run"), h("span", {}, "lag-1")),
        routes ? Array.from({ length: deep }, () => h("div", { class: "tsae-lane-name" })) : null, numbers));
    return [
      answer.notice ? h("p", { class: "tsae-notice" }, answer.notice) : null,
      h("div", { class: "tsae-sides" }, h("div", { class: "tsae-reading" }, onToken, reading, readout),
        withTable(`${answer.fired} features fire; ${rows.length} shown`, chart, () => table(
          ["feature", groups, "total", "peak", "peak token", "active", "run length", "shuffled", "lag-1", "shuffled"],
          rows.map((row) => [featureLink(row.feature, { staying: true }), bare(about().groups[row.level - 1]), number(row.statistics.total), number(row.highest), shown(answer.texts[row.values.indexOf(Math.max(...row.values))] || ""),
            row.statistics.active, number(row.statistics.run_length), number(row.statistics.shuffled_run_length), number(row.statistics.autocorrelation), number(row.statistics.shuffled_autocorrelation)])))),
    ];
  }
  return { refresh() { if (place()) show(place()); } };
}

/** The features that steering and ablation act on: the chosen ones, else the one on the card. */
function chosenFeatures(state) {
  return state.get("selected").length ? state.get("selected") : [state.get("feature")];
}
function chips(state, featureLink) {
  return h("div", { class: "tsae-row" }, h("span", { class: "tsae-faint" }, state.get("selected").length ? "chosen:" : "on the card (choose others with ☆):"), chosenFeatures(state).map((feature) => featureLink(feature)));
}

/** The number that somebody typed, or an error that says what is allowed. */
function numberFrom(name, text, { low = -1e6, high = 1e6, whole = false } = {}) {
  const value = Number(text);
  if (text.trim() === "" || !(value >= low && value <= high) || (whole && !Number.isInteger(value))) {
    throw new Error(`${name} is “${text}”: write a ${whole ? "whole " : ""}number from ${low.toLocaleString("en")} to ${high.toLocaleString("en")}.`);
  }
  return value;
}

/** What steering does to the residual stream: how it is called, what the strength is, and what stands above a column. */
const WAYS = {
  clamp: { name: "clamp where it fires", hint: "Where a chosen feature fires its activation is set to s, everywhere else nothing changes. The unlearning evaluation's multiplier m is s = −m.", column: (s) => `set to ${s}` },
  add: { name: "add everywhere", hint: "s times a chosen feature's decoder row is added to the residual stream: a positive s turns the feature on, also where it does not fire; a negative one pushes it down.", column: (s) => `${s < 0 ? "−" : "+"}${Math.abs(s)}` },
};
const WHERE = { all: "all tokens but the first", prompt: "the prompt", generated: "generated tokens", from: "from token …" };

function steerView(panel, { about, state, backend, featureLink, card, columns, rowOf }) {
  const text = h("textarea", { rows: 2, "aria-label": "prompts, one a line", placeholder: "Prompts, one a line" });
  const field = (name, value, title, width = 6) => h("input", { value, title, "aria-label": title, size: width, name });
  const options = (named) => Object.entries(named).map(([value, one]) => h("option", { value }, one.name || one));
  const way = h("select", { name: "way", "aria-label": "what is done", onchange: () => drawWay() }, options(WAYS));
  const where = h("select", { name: "where", "aria-label": "where it is added", onchange: () => drawWay() }, options(WHERE));
  const first = field("first", "0", "the token from which on it is added; 0 is the first of the text", 3);
  const strengths = field("strengths", "", "strengths s, in the unit of activations; one column each", 11);
  const tokens = field("tokens", "24", "new tokens", 2), seed = field("seed", "0", "seed, the same for all columns", 2), heat = field("temperature", "0.7", "temperature; 0 takes the likeliest token", 2);
  const hint = h("p", { class: "tsae-faint" }), progress = h("span", { class: "tsae-faint", role: "status" });
  const result = h("div", { class: "tsae-steered" }), chosen = h("div", {});
  let job = null; // the one that is under way

  const question = () => ({
    text: text.value, features: chosenFeatures(state), way: way.value, where: where.value, first: where.value === "from" ? numberFrom("the token", first.value, { low: 0, high: 1e6, whole: true }) : 0,
    strengths: strengths.value.split(/[\s,;]+/).filter(Boolean).map((part) => numberFrom("s", part.replace("−", "-"))),
    tokens: numberFrom("tokens", tokens.value, { low: 1, high: 200, whole: true }), seed: numberFrom("seed", seed.value, { low: 0, high: 2 ** 31, whole: true }),
    temperature: numberFrom("temperature", heat.value, { low: 0, high: 100 }),
  });
  /** A few tokens at a time, so that the kernel answers others meanwhile, and whoever has seen enough can stop. */
  async function generate() {
    const mine = (job = {});
    run.textContent = "Cancel";
    progress.textContent = "generating …";
    fill(result);
    try {
      const asked = question(), lines = asked.text.split("\n").filter((line) => line.trim()), rows = [];
      for (const line of lines.length ? lines : [""]) {
        let made = null;
        for (let answer = {}; !answer.finished;) {
          answer = await backend.ask("steer", { ...asked, text: line, made, step: 4 });
          await released(result);
          if (job !== mine) return;
          made = answer.made;
          progress.textContent = `generating: token ${made[0][0].length} of ${asked.tokens}${lines.length > 1 ? `, prompt ${rows.length + 1} of ${lines.length}` : ""}`;
          fill(result, draw({ ...answer, rows: [...rows, ...answer.rows], finished: answer.finished && rows.length + 1 === (lines.length || 1) }));
          if (answer.finished) rows.push(...answer.rows);
        }
      }
    } catch (error) {
      if (job === mine) fill(result, h("p", { class: "tsae-notice", role: "alert" }, error.message));
    }
    if (job === mine) done("");
  }
  function done(said) {
    job = null;
    run.textContent = "Generate";
    progress.textContent = said;
  }
  const run = h("button", { class: "tsae-run", onclick: () => (job ? done(`cancelled${result.childElementCount ? ": what was made until then" : ""}`) : generate()) }, "Generate");
  const placed = h("label", {}, "at ", where);
  function suggestStrengths() { // until somebody writes
    if (strengths.value && strengths.value !== strengths.dataset.suggested) return;
    const highest = Math.max(0, ...chosenFeatures(state).map((feature) => columns.max[rowOf.get(feature)] || 0)) || 1;
    strengths.value = strengths.dataset.suggested = way.value === "clamp" ? "-5, -25, -100" : [1, 4, -4].map((times) => number(times * highest, 2)).join(", ");
  }
  function drawWay() {
    hint.textContent = WAYS[way.value].hint;
    placed.hidden = way.value !== "add";
    first.hidden = way.value !== "add" || where.value !== "from";
    suggestStrengths();
  }
  fill(panel, about().predicts ? [
    h("div", { class: "tsae-row tsae-prompts" }, text, run, progress), chosen,
    h("div", { class: "tsae-row" }, way, placed, first, h("label", {}, "s ", strengths), h("label", {}, "tokens ", tokens), h("label", {}, "seed ", seed), h("label", {}, "temperature ", heat)),
    hint, result,
  ] : h("p", { class: "tsae-notice" }, backend.stored ? "A stored page has no model to steer." : "Steering needs the model and the SAE: FeatureExplorer(index, model=language_model, sae=sae)."));

  function cell(made, other) {
    let touched = 0;
    const words = made.texts.map((word, i) => {
      touched += made.fired[i] ? 1 : 0;
      const changed = other && other.texts[i] !== word;
      return h("span", { class: `tsae-made${changed ? " tsae-changed" : ""}`, dir: "auto", title: made.fired[i] ? "a chosen feature fires here" : null }, word, made.fired[i] ? h("sup", {}, "●") : null);
    });
    const before = made.fired_in_prompt.filter(Boolean).length;
    return h("div", {}, h("div", { class: "tsae-text", dir: "auto" }, words, made.ended ? h("span", { class: "tsae-faint" }, " ■ ended") : null),
      h("p", { class: "tsae-faint" }, `● fires on ${before} tokens of the prompt, ${touched} new ones`));
  }
  function draw(answer) {
    return [answer.rows.map((row) => row.notice).filter(Boolean).map((notice) => h("p", { class: "tsae-notice" }, notice)),
      answer.way === "clamp" && answer.finished && answer.rows.every((row) => row.cells.every((made) => !made.fired_in_prompt.some(Boolean) && !made.fired.some(Boolean)))
        ? h("p", { class: "tsae-notice" }, "No chosen feature fires on these prompts or what follows, so clamping changes nothing: “add everywhere” can turn it on.") : null,
      h("div", { class: "tsae-scroll-x", tabindex: 0, role: "group", "aria-label": "what the model writes" }, table(["prompt", "untouched", ...answer.strengths.map((s) => `${WAYS[answer.way].column(s)} (${number(s / answer.norm, 2)} norms)`)], answer.rows.map((row) => [
        h("span", { dir: "auto" }, row.prompt), ...row.cells.map((made, i) => cell(made, i ? row.cells[0] : null))]), { class: "tsae-table tsae-grid" }))];
  }
  return { refresh() {
    fill(chosen, chips(state, featureLink));
    drawWay();
    if (about().predicts) suggest(text, card(state.get("feature")), true);
  } };
}

/** Offer a feature's strongest context as text (up to the peak, or whole), until somebody writes. */
async function suggest(field, card, toPeak) {
  const answer = await card;
  if ((field.value && field.value !== field.dataset.suggested) || !answer.kinds.length) return;
  const numbers = integers(answer.buffers[0]).subarray(0, toPeak ? answer.peaks[0] - answer.starts[0] + 1 : answer.width);
  const words = Array.from(numbers).filter((word) => word >= 0).map((word) => answer.words[word]);
  field.value = field.dataset.suggested = words.join("").replace(/<[^>]*>/g, "").replaceAll("\n", " ").trim();
}

function ablateView(panel, { about, state, backend, featureLink, card }) {
  const text = h("textarea", { rows: 2, "aria-label": "text", placeholder: "A text …" });
  const result = h("div", { class: "tsae-ablated" }), chosen = h("div", {});
  const run = h("button", { class: "tsae-run", onclick: () => {
    run.disabled = true; // one at a time
    into(result, backend.ask("ablate", { text: text.value, features: chosenFeatures(state) }), draw, "predicting without the features …").then(() => { run.disabled = false; });
  } }, "Ablate");
  fill(panel, about().predicts ? [
    h("p", { class: "tsae-faint" }, "How much worse is each next token predicted when the chosen features are set to 0 wherever they fire?"),
    h("div", { class: "tsae-row tsae-prompts" }, text, run), chosen, result,
  ] : h("p", { class: "tsae-notice" }, backend.stored ? "A stored page has no model to ablate in." : "Ablation needs the model and the SAE: FeatureExplorer(index, model=language_model, sae=sae)."));

  function draw(answer) {
    if (answer.loss === null) return h("p", { class: "tsae-notice" }, "There is no next token to predict in this text: write a few words.");
    const most = Math.max(1e-6, ...answer.change.map((value) => Math.abs(value || 0)));
    return [
      answer.notice ? h("p", { class: "tsae-notice" }, answer.notice) : null,
      answer.fired ? null : h("p", { class: "tsae-notice" }, "The chosen features do not fire on this text, so nothing changes."),
      h("p", {}, `Loss ${number(answer.loss)} nats a token; without the chosen features ${answer.together >= 0 ? "+" : ""}${number(answer.together)}.`),
      h("div", { class: "tsae-text", dir: "auto" }, flow(answer.texts.map((word, i) => {
        const change = answer.change[i] || 0, part = Math.abs(change) / most;
        const element = token(word, 0, 0);
        if (part > 0.05) {
          element.classList.add(change > 0 ? "tsae-worse" : "tsae-better");
          element.style.setProperty("--part", `${Math.round(100 * part)}%`);
          element.title = `${change > 0 ? "+" : ""}${number(change)} nats`;
        }
        return element;
      }))),
      h("p", { class: "tsae-faint" }, "filled from below ▂ orange: predicted worse · from above ▔ blue: predicted better"),
      h("h4", {}, "one feature at a time"),
      h("div", { class: "tsae-scroll", tabindex: 0, role: "group", "aria-label": "one feature at a time" }, table(["Δ loss (nats)", "feature", "fires on"], [...answer.each].sort((a, b) => Math.abs(b.change) - Math.abs(a.change))
        .map((row) => [`${row.change >= 0 ? "+" : ""}${number(row.change)}`, featureLink(row.feature), `${row.active} tokens`]))),
    ];
  }
  return { refresh() {
    fill(chosen, chips(state, featureLink));
    if (about().predicts) suggest(text, card(state.get("feature")), false);
  } };
}

function compareView(panel, { about, state, backend, featureLink, contextRows, place, moved }) {
  const head = h("div", {}), found = h("div", { class: "tsae-matches" }), pairs = h("div", { class: "tsae-pairs" }), theirs = h("div", { class: "tsae-other" });
  const text = h("textarea", { rows: 1, placeholder: "Paste a text and read it with both …", "aria-label": "text to read with both" });
  const reading = h("div", { class: "tsae-row tsae-paste" }, h("div", { class: "tsae-growing" }, text), h("button", { onclick: () => { moved({ text: text.value }); drawText(); } }, "Read in both"));
  let chosen = null; // the other SAE's feature that is open: {of, feature}
  fill(panel, head, h("div", { class: "tsae-compared" }, h("div", {}, found, theirs), h("div", {}, reading, pairs)));
  const openOther = (feature) => {
    chosen = { of: state.get("feature"), feature };
    found.querySelectorAll("[data-other]").forEach((line) => line.setAttribute("aria-pressed", String(Number(line.dataset.other) === feature)));
    return into(theirs, backend.ask("other", { feature }), drawOther, `opening #${feature} of the other SAE …`);
  };
  const otherLink = (feature, name) => h("button", { class: "tsae-link", "data-other": feature, "aria-pressed": String(chosen?.feature === feature), title: `open feature ${feature} of the other SAE: ${name}`, onclick: () => openOther(feature) },
    `#${feature}`, h("span", { dir: "auto" }, ` ${name}`));
  function drawMatches(answer) {
    const groups = about().other.groups;
    if (chosen?.of !== answer.feature) chosen = { of: answer.feature, feature: answer.rows[0].feature };
    openOther(chosen.feature);
    return [h("h4", {}, `nearest to #${answer.feature} in the other SAE`),
      table(["cosine", "feature", ...(groups.length > 1 ? [kindOf(groups)] : []), "density", "lag-1"], answer.rows.map((row) => [number(row.cosine, 3), otherLink(row.feature, row.name),
        ...(groups.length > 1 ? [bare(groups[row.level - 1])] : []), share(row.density), fixed(row.autocorrelation)]))];
  }
  function drawOther(answer) {
    const feature = answer.feature, statistics = answer.statistics, current = state.get("feature");
    const context = contextRows(answer, about().other.same_text);
    const label = h("input", { class: "tsae-otherlabel", value: answer.label, placeholder: "label", "aria-label": "label of the other SAE's feature", onchange: () => {
      backend.ask("label_other", { feature, text: label.value }).then(() => { drawFound(); drawText(); }, (error) => fill(said, h("span", { class: "tsae-notice", role: "alert" }, error.message)));
    } });
    const said = h("p", { class: "tsae-faint" }, `${statistics.dead ? "dead" : `active on ${statistics.active.toLocaleString("en")} tokens (${share(statistics.density)})`} · max ${number(statistics.max)} · lag-1 ${fixed(statistics.autocorrelation)} · run ${number(statistics.run_length, 2)}`);
    return h("section", { "aria-label": "card of the other SAE's feature", "data-feature": feature },
      h("div", { class: "tsae-row" }, h("h4", {}, `other #${feature}`), groupBadge(statistics.level, about().other.groups), label), said,
      h("h4", {}, "nearest to it in this SAE"),
      table(["cosine", "feature"], answer.reverse.map((row) => [number(row.cosine, 3), h("span", {}, featureLink(row.feature), row.feature === current ? " ← the one on the card" : null)])),
      h("h4", {}, "contexts"), answer.kinds.length ? answer.kinds.map((name, row) => context([name, row])) : h("p", { class: "tsae-notice" }, "This feature is dead."));
  }
  const drawFound = () => into(found, backend.ask("matches", { feature: state.get("feature") }), drawMatches, "looking for the nearest …");
  function drawText() {
    const feature = state.get("feature"), where = place(), other = about().other, both = about().live && other.live;
    reading.hidden = !both;
    const done = () => { panel.dataset.compared = String(feature); };
    if (where?.text !== undefined) {
      if (!text.value) text.value = where.text;
      if (both) into(pairs, backend.ask("pairs", { feature, text: where.text }), drawPairs, "reading with both …").then(painted).then(done);
      else fill(pairs, h("p", { class: "tsae-notice" }, "A text of one's own needs the other SAE too: explorer.compare(index, sae=its_sae). Documents stand side by side: choose one in the tab Trace (⇢ beside a context)."));
    }
    else if (!other.same_text) fill(pairs, h("p", { class: "tsae-notice" }, `The two indexes were made from different text, so documents cannot stand side by side${both ? "; a text of your own can" : ""}.`));
    else if (where?.piece !== undefined) into(pairs, backend.ask("pairs", { feature, piece: where.piece }), drawPairs, "tracing both …").then(painted).then(done);
  }
  function drawPairs(answer) {
    const length = answer.texts.length, mine = floats(answer.buffers[0]), theirs = floats(answer.buffers[1]);
    const rows = answer.features.flatMap((feature, i) => [[mine, answer.levels[i]], [theirs, answer.other_levels[i]]].map(([matrix, level]) => {
      const values = matrix.subarray(i * length, (i + 1) * length);
      return { values, highest: Math.max(...values), colour: `--tsae-level${tint(level)}` };
    }));
    const readout = h("p", { class: "tsae-faint" }, "Each pair: this SAE above, the other below.");
    const graphs = graphsToFit(null, [lanes(rows, length, "matched features along the same text, in pairs: this SAE above, the other below")], length, (t) => {
      graphs.mark(t);
      readout.textContent = `token ${t}: “${shown(answer.texts[t]).trim()}”`;
    });
    const chart = h("div", { class: "tsae-lane-grid" },
      h("div", { class: "tsae-lane-names" }, answer.features.flatMap((feature, i) => [h("div", { class: "tsae-lane-name" }, featureLink(feature)), h("div", { class: "tsae-lane-name" }, h("span", { class: "tsae-faint" }, "other"), otherLink(answer.others[i], answer.other_names[i]))])),
      graphs.box,
      h("div", { class: "tsae-lane-stats" }, answer.features.flatMap((_, i) => [h("div", { class: "tsae-lane-name" }, `cos ${number(answer.cosines[i], 2)}`), h("div", { class: "tsae-lane-name", title: "correlation of the two on this text" }, `r ${number(answer.correlations[i], 2)}`)])));
    return [withTable(`${answer.piece === null ? "your text" : `document ${answer.piece}`}, features in pairs`, chart, () => table(["feature", "other", "cosine", "r on this text"],
      answer.features.map((feature, i) => [featureLink(feature), otherLink(answer.others[i], answer.other_names[i]), number(answer.cosines[i]), number(answer.correlations[i])]))), readout];
  }
  return { refresh() {
    const other = about().other;
    if (!other) {
      reading.hidden = true;
      fill(head, h("p", { class: "tsae-notice" }, backend.stored ? "A stored page holds one SAE." : "Nothing to compare with yet: explorer.compare(\"path/of/another/index\")."));
      return;
    }
    fill(head, h("p", {}, `${other.folder}: ${other.features.toLocaleString("en")} features, ${other.dead.toLocaleString("en")} dead. Median best cosine ${number(other.median)} over ${other.matched} features of this SAE.`),
      other.layer !== about().layer ? h("p", { class: "tsae-notice" }, `The other SAE reads layer ${other.layer}, this one layer ${about().layer}: the same direction need not mean the same there.`) : null,
      h("details", {}, h("summary", {}, "best cosines of all features"), histogram("best cosines, √ heights", other.cosines, 1)));
    drawFound();
    drawText();
  } };
}

/** anywidget's entry point. */
function render({ model, el }) {
  const root = h("div", { class: "tsae", tabindex: 0, "data-lm-suppress-shortcuts": "true" });
  el.append(root);
  const backend = kernelBackend(model);
  const state = {
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
  const stop = explore(root, state, backend);
  ownKeys(root);
  return () => { stop(); backend.close(); };
}

/** The numbers of a stored buffer as the kernel would have sent them: int16 → int32, float16 shares of the largest → float32. */
function widened(view, type, largest) {
  const size = view.byteLength / 2, result = type === "int" ? new Int32Array(size) : new Float32Array(size);
  for (let i = 0; i < size; i += 1) {
    if (type === "int") result[i] = view.getInt16(2 * i, true);
    else {
      const bits = view.getUint16(2 * i, true), exponent = (bits >> 10) & 31, fraction = bits & 1023;
      result[i] = largest * (exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24); // never negative
    }
  }
  return result;
}

/** The entry point of an exported page: answers come from the archive in it. */
export async function openArchive(text, el) {
  const bytes = Uint8Array.from(atob(text.trim()), (letter) => letter.charCodeAt(0));
  const plain = new Uint8Array(await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer());
  const size = new DataView(plain.buffer).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(plain.subarray(4, 4 + size)));
  const cut = (offset, length) => new DataView(plain.buffer, 4 + size + offset, length);
  const values = { feature: 0, selected: [], _about: head.about, _table: cut(0, head.table), _place: {} }, listeners = {};
  values.feature = new Float32Array(plain.buffer.slice(4 + size, 8 + size))[0] || 0;
  const missing = { trace: "This part of the text is not stored in this page.", card: "This feature is not stored in this page.", search: "Searching the text needs the notebook; labels and numbers can be searched here.", token: "All features of one token need the notebook." };
  const part = (start) => Math.floor((start || 0) / head.about.part) * head.about.part;
  const backend = {
    stored: true,
    async ask(kind, question) {
      const stored = head.answers[kind === "trace" ? `trace:${question.piece}:${part(question.start)}` : `${kind}:${question.feature}`];
      if (!stored) throw new Error(missing[kind] || "This needs the notebook.");
      return { ...stored.reply, buffers: stored.spans.map(([offset, length, type, largest]) => widened(cut(offset, length), type, largest)) };
    },
  };
  const state = {
    get: (name) => values[name],
    set(name, value) { values[name] = value; (listeners[name] || []).forEach((listener) => listener()); },
    on(name, listener) { (listeners[name] ||= []).push(listener); return () => {}; },
  };
  const root = h("div", { class: "tsae tsae-page", tabindex: 0 });
  el.append(root);
  explore(root, state, backend);
  root.focus({ preventScroll: true }); // so that j and k work at once
}

export default { render };
