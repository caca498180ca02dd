import { fill, fixed, floats, flow, h, histogram, integers, into, kernelBackend, number, ownKeys, painted, remembering, share, shown, table, tabs, token, withTable } from "./common.js";

const ROW = 24; // pixels, of the feature table

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
const TABS = [
  ["Trace", traceView],
  ["Steer", steerView],
  ["Ablate", ablateView],
  ["Compare", compareView],
];

/** The explorer over a backend; `state` is {get, set, on} of feature, selected, _about, _table. */
function explore(root, state, backend) {
  let about = state.get("_about");
  const columns = readTable(state.get("_table"), about);
  const rowOf = new Map(Array.from(columns.feature, (feature, row) => [feature, row]));
  const ask = remembering(backend.ask);
  const label = (feature) => about.labels[feature] || "";
  const card = (feature) => ask(`card:${feature}`, "card", { feature });
  const parts = {};
  let place = null; // what the trace shows: {piece, start} or {text}

  const open = (feature) => { if (feature !== state.get("feature")) state.set("feature", feature); };
  const featureLink = (feature) => h("button", {
    class: "tsae-link", title: label(feature) || `feature ${feature}`, disabled: !rowOf.has(feature), onclick: () => open(feature),
  }, `#${feature}`, label(feature) ? ` ${label(feature)}` : "");

  // ---- left: the table ------------------------------------------------------------------------------------------------------------
  const order = featureTable(parts, { about: () => about, columns, rowOf, label, state, backend, open });

  // ---- centre: the card -----------------------------------------------------------------------------------------------------------
  parts.card = h("section", { class: "tsae-card", "aria-label": "feature card", tabindex: -1 });
  let kind = "top", wide = false;

  function drawContexts(answer, part) {
    const group = kind === "top" ? (name) => name === "top" : kind === "random" ? (name) => name === "random" : (name) => name.startsWith("fifth");
    const numbers = integers(answer.buffers[0]), values = floats(answer.buffers[1]), width = answer.width;
    const highest = answer.statistics.max;
    const context = ([name, row]) => {
      const peak = answer.peaks[row] - answer.starts[row];
      const length = Array.from({ length: width }).filter((_, i) => numbers[row * width + i] >= 0).length;
      const words = (first, last) => flow(Array.from({ length: last - first }, (_, i) => first + i).map((i) =>
        token(answer.words[numbers[row * width + i]], values[row * width + i], highest, { peak: i === peak })));
      const near = [Math.max(0, peak - 18), Math.min(length, peak + 9)];
      const text = h("div", { class: "tsae-text", dir: "auto" });
      const more = h("button", { class: "tsae-small", "aria-expanded": "false", title: "the whole window", onclick: () => {
        const whole = more.getAttribute("aria-expanded") !== "true";
        more.setAttribute("aria-expanded", String(whole));
        fill(text, whole ? words(0, length) : [near[0] > 0 ? "… " : "", ...words(...near), near[1] < length ? " …" : ""]);
      } }, "↔");
      fill(text, near[0] > 0 ? "… " : "", words(...near), near[1] < length ? " …" : "");
      return h("div", { class: "tsae-context" }, more,
        h("button", { class: "tsae-small", title: `trace document ${answer.pieces[row]}`, onclick: () => trace({ piece: answer.pieces[row], start: answer.begins[row] }) }, "⇢"),
        h("span", { class: "tsae-faint tsae-value", title: "activation at the framed token" }, `${name === "top" || name === "random" ? "" : `${name} · `}${number(values[row * width + peak])}`),
        text);
    };
    const rows = answer.kinds.map((name, row) => [name, row]).filter(([name]) => group(name));
    const few = kind === "fifths" || wide ? rows.length : 7; // so that what stands below is in sight
    const rest = h("button", { class: "tsae-small", onclick: () => { wide = true; rest.replaceWith(...rows.slice(few).map(context)); } }, `${rows.length - few} more`);
    fill(part, rows.length ? [rows.slice(0, few).map(context), rows.length > few ? rest : null] : h("p", { class: "tsae-notice" }, "This feature is dead: it is active on none of the tokens, so there is no context to show."));
  }

  function drawnFeature() { return Number(parts.card.querySelector("h3")?.dataset.feature ?? -1); }

  function saveLabel(feature, text) {
    backend.ask("label", { feature, text }).then(
      (done) => { about.labels[feature] = done.label; order.redraw(); },
      (error) => { parts.notice.textContent = error.message; parts.notice.hidden = false; });
  }

  /** The label that the feature's card opens with: what a hand has typed is carried on, and saved where another feature's card takes its place. */
  function typed(feature) {
    const name = parts.card.querySelector(".tsae-label"), before = drawnFeature();
    if (!name) return label(feature);
    if (before === feature) return name.value;
    if (name.value !== label(before)) saveLabel(before, name.value);
    return label(feature);
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
    into(relations, ask(`coactive:${feature}`, "coactive", { feature }), (found) => [
      h("div", {}, h("h4", { title: "correlation of being active" }, "fires together with", found.sampled ? h("small", { class: "tsae-faint" }, ` (on ${found.sampled.toLocaleString("en")} of its tokens)`) : null),
        table(["φ", "feature", "", "given this", "given other"], found.rows.slice(0, 10).map((row) => [
          number(row.phi, 2), featureLink(row.feature), groupBadge(row.level, about.groups) || "", share(row.given_this), share(row.given_other)]))),
      h("div", {}, h("h4", {}, "nearest decoder rows"), answer.neighbours.length
        ? table(["cosine", "feature"], answer.neighbours.map((row) => [number(row.cosine, 2), featureLink(row.feature)]))
        : h("p", { class: "tsae-faint" }, "no decoder in this index")),
    ]);
    const logits = (rows, title) => h("div", {}, h("h4", {}, title), table(["logit", "token"], rows.map((row) => [number(row.logit, 2), shown(row.text)])));
    return [
      h("div", { class: "tsae-row" },
        h("h3", { "data-feature": feature }, `#${feature}`), groupBadge(statistics.level, about.groups), name,
        h("button", { class: "tsae-star", "aria-pressed": String(chosen), title: "choose for steering, ablation and traces (x)", onclick: () => toggle(feature) }, chosen ? "★ chosen" : "☆ choose")),
      h("p", { class: "tsae-faint" },
        `${statistics.dead ? "dead" : `active on ${statistics.active.toLocaleString("en")} tokens (${share(statistics.density)})`} · max ${number(statistics.max)} · mean ${number(statistics.mean)} · `,
        h("span", { title: "correlation of the activation with the one on the next token" }, `lag-1 ${fixed(statistics.autocorrelation)}`), " · ",
        h("span", { title: "mean tokens in a row" }, `run ${number(statistics.run_length, 2)}`), " · ",
        h("span", { title: "largest |Δz|/‖Δh‖ in a document, mean over documents; low is smooth" }, `smoothness ${number(statistics.smoothness, 2)}`)),
      h("div", { class: "tsae-row" }, h("h4", {}, "contexts"), kinds),
      contexts,
      h("div", { class: "tsae-columns" },
        answer.histogram.length ? histogram("activations", answer.histogram, statistics.max) : null,
        answer.logits.length ? logits(answer.logits.slice(0, answer.logits.length / 2), "promotes") : null,
        answer.logits.length ? logits(answer.logits.slice(answer.logits.length / 2), "suppresses") : null),
      relations,
    ];
  }

  function toggle(feature) {
    const chosen = state.get("selected");
    state.set("selected", chosen.includes(feature) ? chosen.filter((other) => other !== feature) : [...chosen, feature]);
  }

  // ---- right: trace, steer, ablate, compare ---------------------------------------------------------------------------------------
  const shared = { about: () => about, state, backend, featureLink, label, card, place: () => place, moved: (where) => { place = where; } };
  const panels = tabs(TABS.map(([name]) => name), (name) => refresh(name));
  const views = Object.fromEntries(TABS.map(([name, view], i) => [name, view(panels.panels[i], shared)]));

  function trace(where) {
    place = where;
    if (panels.current() !== "Trace") panels.show("Trace");
    else refresh("Trace");
  }
  function refresh(name) { views[name].refresh(); }

  // ---- the whole -------------------------------------------------------------------------------------------------------------------
  let wanted = 0;
  const keepFocus = () => { // what is drawn again loses it; a label that is typed keeps it, else the table takes it, so that the keys go on working
    const active = document.activeElement, inside = parts.card.contains(active);
    const typing = inside && active.matches(".tsae-label"), feature = drawnFeature(), at = typing ? active.selectionStart : 0;
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
    const turn = (wanted += 1);
    order.mark(feature);
    const asked = card(feature);
    let refocus = () => {};
    await into(parts.card, asked, (answer) => { refocus = keepFocus(); return drawCard(answer); });
    if (turn !== wanted) return;
    refocus();
    await painted();
    root.dataset.painted = String(feature);
    root.dispatchEvent(new CustomEvent("tsae:painted", { detail: feature }));
    const answer = await asked.catch(() => null);
    if (!answer) return;
    const next = order.beside(1);
    if (next !== null && !backend.stored) card(next).catch(() => {}); // so that j answers at once
    await new Promise((resolve) => setTimeout(resolve, backend.stored ? 0 : 120)); // nobody reads a trace while leafing through
    if (turn !== wanted) return;
    if ((!place || backend.stored) && answer.pieces.length) trace({ piece: answer.pieces[0], start: answer.begins[0] });
    else refresh(panels.current());
  }

  parts.notice = h("p", { class: "tsae-notice", role: "status", hidden: !about.notice }, about.notice);
  fill(root, parts.notice, h("div", { class: "tsae-explorer" },
    h("section", { class: "tsae-left", "aria-label": "features" }, parts.tools, parts.head, parts.rows, parts.foot),
    parts.card, h("section", { class: "tsae-right" }, panels.bar, ...panels.panels)));
  root.addEventListener("keydown", (event) => {
    const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName);
    if (event.key === "Escape" && typing) root.focus();
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    const actions = {
      j: () => order.step(1), k: () => order.step(-1), ArrowDown: () => order.step(1), ArrowUp: () => order.step(-1),
      "/": () => parts.search.focus(), x: () => toggle(state.get("feature")),
      Enter: () => event.target === root || event.target === parts.rows ? card(state.get("feature")).then((answer) => answer.pieces.length && trace({ piece: answer.pieces[0], start: answer.begins[0] })) : null,
    };
    const scrolls = event.key.startsWith("Arrow") && event.target !== root && event.target !== parts.rows;
    if (!actions[event.key] || scrolls || (event.key === "Enter" && event.target.tagName === "BUTTON")) return;
    actions[event.key]();
    event.preventDefault();
    event.stopPropagation();
  });
  const unfollow = [
    state.on("feature", () => show(state.get("feature"))),
    state.on("selected", () => {
      card(state.get("feature")).then((answer) => {
        if (answer.feature !== state.get("feature")) return; // another one was opened meanwhile, and is drawn by then
        const refocus = keepFocus();
        fill(parts.card, drawCard(answer));
        refocus();
      });
      order.redraw();
      refresh(panels.current());
    }),
    state.on("_about", () => {
      about = { ...state.get("_about") };
      const name = parts.card.querySelector(".tsae-label");
      if (name && name !== document.activeElement) name.value = label(state.get("feature"));
      order.redraw();
      refresh(panels.current());
    }),
  ];
  panels.show("Trace");
  if (about.features > 0) show(state.get("feature"));
  else fill(parts.card, h("p", { class: "tsae-notice" }, "This index has no features."));
  order.redraw();
  return () => unfollow.forEach((stop) => stop());
}

/** The virtualised table: only the rows in sight exist; sorting and filtering never ask the kernel. */
function featureTable(parts, { about, columns, rowOf, label, state, backend, open }) {
  let sort = { column: "feature", down: false }, found = null, view = [];
  const shownColumns = [["feature", "#"], ["level", kindOf(about().groups)], ["density", "density"], ["max", "max"], ["smoothness", "smooth"], ["autocorrelation", "lag-1"]]
    .filter(([name]) => name !== "level" || about().groups.length > 1);
  const explained = { level: kindOf(about().groups) === "level" ? "1 is the lowest" : "in the order of the groups", density: "share of tokens on which it is active", max: "largest activation",
    smoothness: "largest |Δz|/‖Δh‖ in a document, mean over documents; low is smooth", autocorrelation: "correlation of the activation with the one on the next token" };
  parts.search = h("input", { type: "search", placeholder: "label, #id, or a word + Enter  ( / )", "aria-label": "search", oninput: () => { found = null; rebuild(); }, onkeydown: (event) => {
    if (event.key === "Enter") searchToken();
  } });
  parts.level = h("select", { "aria-label": kindOf(about().groups), onchange: () => rebuild() },
    h("option", { value: "" }, `all ${kindOf(about().groups)}s`), ...about().groups.map((name, i) => h("option", { value: i + 1 }, name)));
  parts.alive = h("select", { "aria-label": "which features", onchange: () => rebuild() },
    ...[["", "all"], ["alive", "alive"], ["dead", "dead"], ["labelled", "labelled"], ["chosen", "chosen"]].map(([value, text]) => h("option", { value }, text)));
  parts.densest = h("input", { type: "number", min: 0, max: 100, step: "any", placeholder: "max %", title: "highest density, in per cent", "aria-label": "highest density in per cent", oninput: () => rebuild() });
  parts.tools = h("div", { class: "tsae-tools" }, parts.search, h("div", { class: "tsae-row" }, about().groups.length > 1 ? parts.level : null, parts.alive, parts.densest));
  parts.head = h("div", { class: "tsae-head", role: "row" });
  parts.space = h("div", { class: "tsae-space" });
  parts.rows = h("div", { class: "tsae-rows", role: "grid", tabindex: 0, "aria-label": "features; j and k move", onscroll: () => draw() }, parts.space);
  parts.foot = h("p", { class: "tsae-faint tsae-foot", "aria-live": "polite" });

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
      const answer = await backend.ask("search", { text });
      if (!answer.rows.length && view.length) { // labels match, words do not
        parts.foot.textContent = `“${text}” is no word here that a feature fires on; ${view.length} labels or numbers match.`;
        return;
      }
      found = new Map(answer.rows.filter((row) => rowOf.has(row.feature)).map((row) => [rowOf.get(row.feature), row]));
      sort.chosen = false; // best first, until a column is clicked
      parts.rows.scrollTop = 0;
      rebuild();
      parts.foot.textContent = answer.rows.length
        ? `“${text}” occurs ${answer.occurrences.toLocaleString("en")} times; ${answer.rows.length} features about it, best first (F1)`
        : `No feature fires on “${text}” (${answer.occurrences.toLocaleString("en")} occurrences).`;
      if (view.length) open(columns.feature[view[0]]);
    } catch (error) {
      parts.foot.textContent = error.message;
    }
    await painted();
    parts.rows.dataset.searched = text;
  }

  function rebuild() {
    const text = found ? "" : parts.search.value.trim().toLowerCase().replace("#", "");
    const level = Number(parts.level.value), alive = parts.alive.value, most = parts.densest.value === "" ? Infinity : Number(parts.densest.value) / 100;
    const chosen = new Set(state.get("selected"));
    const keep = (row) => {
      const feature = columns.feature[row];
      if (level && columns.level[row] !== level) return false;
      if (columns.density[row] > most) return false;
      if (alive === "alive" && columns.density[row] === 0) return false;
      if (alive === "dead" && columns.density[row] > 0) return false;
      if (alive === "labelled" && !label(feature)) return false;
      if (alive === "chosen" && !chosen.has(feature)) return false;
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
    fill(parts.head, shownColumns.map(([name, title]) => h("button", {
      class: `tsae-cell tsae-${name}${name === "level" ? " tsae-levelcell" : ""}`, title: explained[name], "aria-sort": sort.column === name ? (sort.down ? "descending" : "ascending") : null,
      onclick: () => { sort = { column: name, down: sort.column === name ? !sort.down : name !== "feature", chosen: true }; parts.rows.scrollTop = 0; rebuild(); },
    }, title, sort.column === name && (!found || sort.chosen) ? (sort.down ? " ▾" : " ▴") : "")), h("span", { class: "tsae-cell tsae-name" }, found ? "F1 · label" : "label"));
    parts.foot.textContent = `${view.length.toLocaleString("en")} of ${columns.feature.length.toLocaleString("en")} features${found ? "" : `, ${about().dead.toLocaleString("en")} dead`} · j k / Enter x`;
    draw();
  }

  function draw() {
    const first = Math.max(0, Math.floor(parts.rows.scrollTop / ROW) - 4), last = Math.min(view.length, first + Math.ceil((parts.rows.clientHeight || 480) / ROW) + 8);
    const current = state.get("feature"), chosen = new Set(state.get("selected"));
    fill(parts.space, Array.from({ length: Math.max(0, last - first) }, (_, i) => {
      const row = view[first + i], feature = columns.feature[row];
      const element = h("div", {
        class: `tsae-line${columns.density[row] === 0 ? " tsae-dead" : ""}`, role: "row", "aria-selected": String(feature === current), "data-id": feature,
        onclick: () => { open(feature); parts.rows.focus({ preventScroll: true }); },
      },
      h("span", { class: "tsae-cell tsae-feature" }, `${chosen.has(feature) ? "★" : ""}${feature}`),
      about().groups.length > 1 ? h("span", { class: "tsae-cell tsae-levelcell", title: about().groups[columns.level[row] - 1] }, short(about().groups[columns.level[row] - 1])) : null,
      h("span", { class: "tsae-cell tsae-density" }, columns.density[row] === 0 ? "dead" : share(columns.density[row])),
      h("span", { class: "tsae-cell tsae-max" }, number(columns.max[row], 2)),
      h("span", { class: "tsae-cell tsae-smoothness" }, number(columns.smoothness[row], 2)),
      h("span", { class: "tsae-cell tsae-autocorrelation" }, fixed(columns.autocorrelation[row])),
      h("span", { class: "tsae-cell tsae-name" }, found && found.has(row) ? `${number(found.get(row).f1, 2)} ` : "", label(feature)));
      element.style.top = `${(first + i) * ROW}px`;
      return element;
    }));
  }

  const at = () => view.findIndex((row) => columns.feature[row] === state.get("feature"));
  const beside = (step) => {
    const next = at() + step;
    return next >= 0 && next < view.length ? columns.feature[view[next]] : null;
  };
  return {
    redraw: rebuild,
    beside,
    step(step) { const next = beside(step); if (next !== null) open(next); },
    mark() {
      const where = at();
      if (where >= 0) {
        const top = where * ROW, room = parts.rows.clientHeight;
        if (top < parts.rows.scrollTop || top + ROW > parts.rows.scrollTop + room) parts.rows.scrollTop = Math.max(0, top - room / 2);
      }
      draw();
    },
  };
}

/** Bars along a text on a canvas: one lane per row; the height of a bar is the activation relative to the row's highest. */
function lanes(rows, length, options = {}) {
  const cell = options.cell, lane = 20, ratio = window.devicePixelRatio || 1;
  const canvas = h("canvas", { class: "tsae-lanes", role: "img", "aria-label": options.name, tabindex: 0 });
  canvas.width = Math.ceil(length * cell * ratio);
  canvas.height = rows.length * lane * ratio;
  canvas.style.width = `${length * cell}px`;
  canvas.style.height = `${rows.length * lane}px`;
  const draw = (style, mark) => {
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, length * cell, rows.length * lane);
    rows.forEach((row, i) => {
      pen.fillStyle = style(row.colour);
      for (let t = 0; t < length; t += 1) {
        const part = row.highest > 0 ? row.values[t] / row.highest : 0;
        if (part > 0) pen.fillRect(t * cell, (i + 1) * lane - Math.max(1, part * (lane - 3)), Math.max(1, cell - (cell > 3 ? 1 : 0)), Math.max(1, part * (lane - 3)));
      }
      pen.fillStyle = style("--tsae-line");
      pen.fillRect(0, (i + 1) * lane - 0.5, length * cell, 0.5);
    });
    if (mark !== null) {
      pen.strokeStyle = style("--tsae-text");
      pen.strokeRect(mark * cell, 0, cell, rows.length * lane);
    }
  };
  return { canvas, draw, lane };
}

/** Pixels a token gets: the room beside names and numbers, in steps of a half, at least 2. */
function cellWidth(panel, length) {
  return Math.max(2, Math.min(16, Math.floor((2 * ((panel.clientWidth || 700) - 275)) / Math.max(1, length)) / 2));
}

function traceView(panel, { about, state, backend, featureLink, label, place, moved }) {
  let rank = "total", hidden = new Set(), last = null;
  const text = h("textarea", { rows: 2, placeholder: "Paste a text and read it …", "aria-label": "text to read" });
  const read = h("button", { onclick: () => show({ text: text.value }) }, "Read");
  const piece = h("input", { type: "number", min: 0, max: about().pieces - 1, "aria-label": "document", onchange: () => { if (piece.value !== "") show({ piece: Math.trunc(Number(piece.value)), start: 0 }); } });
  const any = h("button", { title: "any document", disabled: backend.stored, onclick: () => show({ piece: Math.floor(Math.random() * about().pieces), start: 0 }) }, "random");
  const levels = about().groups.map((name, i) => [name, i + 1]).map(([name, level]) => h("button", {
    class: `tsae-level tsae-level-${tint(level)}`, "aria-pressed": "true", title: `show features of ${name}`,
    onclick: (event) => {
      hidden.has(level) ? hidden.delete(level) : hidden.add(level);
      event.currentTarget.setAttribute("aria-pressed", String(!hidden.has(level)));
      if (last) draw(last);
    },
  }, short(name)));
  const ranks = h("select", { "aria-label": "order of features", disabled: backend.stored, onchange: () => { rank = ranks.value; if (last) show(last.where); } },
    ...[["total", "by total activation"], ["peak", "by peak"], ["length", "by run length"]].map(([value, name]) => h("option", { value }, name)));
  const body = h("div", { class: "tsae-trace" });
  fill(panel, about().live ? h("div", { class: "tsae-paste" }, text, read) : null,
    h("div", { class: "tsae-row" }, h("span", {}, "document"), piece, any, ranks, levels.length > 1 ? levels : null), body);

  function show(where) {
    moved(where);
    const question = { feature: state.get("feature"), pinned: state.get("selected"), count: 40, rank, ...where };
    const asked = where.text !== undefined ? backend.ask("prompt", question) : backend.ask("trace", question);
    return into(body, asked, (answer) => {
      last = { answer, where };
      piece.value = where.text === undefined ? where.piece : "";
      return traceBody(answer);
    }).then(painted).then(() => { panel.dataset.traced = where.text !== undefined ? "text" : String(where.piece); });
  }
  const draw = ({ answer }) => { fill(body, traceBody(answer)); };

  function traceBody(answer) {
    const length = answer.texts.length, matrix = floats(answer.buffers[0]), shares = floats(answer.buffers[1]), deep = answer.levels_in_all;
    const statistics = answer.statistics, current = state.get("feature");
    const pinned = new Set([current, ...state.get("selected")]);
    const all = answer.features.map((feature, row) => ({
      feature, level: answer.levels[row], values: matrix.subarray(row * length, (row + 1) * length), highest: statistics[row].peak,
      colour: `--tsae-level${tint(answer.levels[row])}`, statistics: statistics[row],
    }));
    const ranked = { total: "total", peak: "peak", length: "run_length" }[rank];
    const rows = all.filter((row) => pinned.has(row.feature) || (!hidden.has(row.level) && row.statistics.total > 0))
      .sort((a, b) => pinned.has(b.feature) - pinned.has(a.feature) || b.statistics[ranked] - a.statistics[ranked]).slice(0, 40);
    if (!answer.fired) {
      return [answer.notice ? h("p", { class: "tsae-notice" }, answer.notice) : null,
        h("p", { class: "tsae-notice" }, "No feature fires on this text."), h("p", { class: "tsae-text" }, flow(answer.texts.map((word) => token(word, 0, 0))))];
    }
    const mine = all.find((row) => row.feature === current);
    const words = answer.texts.map((word, t) => token(word, mine ? mine.values[t] : 0, mine ? mine.highest : 0, { column: t, unknown: answer.unknown && answer.unknown[t] }));
    const readout = h("p", { class: "tsae-faint tsae-readout", "aria-live": "polite" }, "Point at a bar or a word; click a word for all features on it.");
    const onToken = h("div", {});
    const cell = cellWidth(panel, length);
    const graph = lanes(rows, length, { cell, name: `activation of ${rows.length} features along ${length} tokens` });
    const routes = deep > 1 ? lanes(Array.from({ length: deep }, (_, i) => deep - i).map((level) => ({
      values: Float32Array.from({ length }, (_, t) => shares[t * deep + level - 1]), highest: 1, colour: `--tsae-level${tint(level)}`,
    })), length, { cell, name: `share of the activation on each ${kindOf(about().groups)} along the text` }) : null;
    const style = (name) => getComputedStyle(panel).getPropertyValue(name);
    const mark = (t) => {
      graph.draw(style, t);
      if (routes) routes.draw(style, t);
      words.forEach((word, i) => word.classList.toggle("tsae-marked", i === t));
    };
    const point = (event) => {
      const box = graph.canvas.getBoundingClientRect();
      const t = Math.min(length - 1, Math.max(0, Math.floor((event.clientX - box.left) / cell)));
      const row = rows[Math.floor((event.clientY - box.top) / graph.lane)];
      mark(t);
      readout.textContent = `token ${t}: “${shown(answer.texts[t]).trim()}”${row ? ` · #${row.feature} ${label(row.feature)} ${number(row.values[t])}` : ""}${
        deep > 1 ? ` · ${kindOf(about().groups)}s ${Array.from({ length: deep }, (_, i) => share(shares[t * deep + i])).join(" / ")}` : ""}`;
    };
    graph.canvas.addEventListener("mousemove", point);
    if (routes) routes.canvas.addEventListener("mousemove", point);
    words.forEach((word, t) => {
      word.addEventListener("mouseenter", () => mark(t));
      word.addEventListener("click", () => into(onToken, backend.ask("token", answer.piece === null ? { column: t } : { position: answer.start + t }), (found) => [
        h("h4", {}, `features on “${shown(answer.texts[t]).trim()}” (token ${t})`),
        found.rows.length ? table(["activation", "feature"], found.rows.slice(0, 12).map((row) => [number(row.activation), featureLink(row.feature)]))
          : h("p", { class: "tsae-faint" }, "none fires")]));
    });
    requestAnimationFrame(() => mark(null));
    const names = rows.map((row) => h("div", { class: "tsae-lane-name" }, featureLink(row.feature), groupBadge(row.level, about().groups)));
    const against = (value, control, digits) => h("span", { title: `in shuffled order ${number(control)}` }, fixed(value, digits), h("small", { class: "tsae-faint" }, ` (${fixed(control, digits)})`));
    const numbers = rows.map((row) => h("div", { class: "tsae-lane-numbers" },
      against(row.statistics.run_length, row.statistics.shuffled_run_length, 1), against(row.statistics.autocorrelation, row.statistics.shuffled_autocorrelation, 2)));
    const chart = h("div", { class: "tsae-lane-grid" },
      h("div", { class: "tsae-lane-names" }, h("div", { class: "tsae-lane-head" }, "feature"), routes ? Array.from({ length: deep }, (_, i) => h("div", { class: "tsae-lane-name" }, kindOf(about().groups) === "level" ? `routing L${deep - i}` : about().groups[deep - i - 1])) : null, names),
      h("div", { class: "tsae-lane-scroll" }, h("div", { class: "tsae-lane-head" }, `${length} tokens${answer.length > length ? ` of ${answer.length}` : ""}, bars relative to each row's highest`), routes ? routes.canvas : null, graph.canvas),
      h("div", { class: "tsae-lane-stats" }, h("div", { class: "tsae-lane-head tsae-lane-numbers", title: "in brackets: the same with the tokens in shuffled order" }, h("span", {}, "run"), h("span", {}, "lag-1")),
        routes ? Array.from({ length: deep }, () => h("div", { class: "tsae-lane-name" })) : null, numbers));
    return [
      answer.notice ? h("p", { class: "tsae-notice" }, answer.notice) : null,
      h("div", { class: "tsae-text tsae-tracetext", dir: "auto" }, flow(words)), readout,
      withTable(`${answer.fired} features fire; ${rows.length} shown`, chart, () => table(
        ["feature", kindOf(about().groups), "label", "total", "peak", "peak token", "active", "run length", "shuffled", "lag-1", "shuffled"],
        rows.map((row) => [`#${row.feature}`, bare(about().groups[row.level - 1]), label(row.feature), number(row.statistics.total), number(row.highest), shown(answer.texts[row.values.indexOf(Math.max(...row.values))] || ""),
          row.statistics.active, number(row.statistics.run_length), number(row.statistics.shuffled_run_length), number(row.statistics.autocorrelation), number(row.statistics.shuffled_autocorrelation)]))),
      onToken,
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

function steerView(panel, { about, state, backend, featureLink, card }) {
  const text = h("textarea", { rows: 3, "aria-label": "prompts, one a line", placeholder: "Prompts, one a line" });
  const field = (name, value, title, width = 6) => h("input", { value, title, "aria-label": title, size: width, name });
  const strengths = field("strengths", "5, 25, 100", "multipliers m: an active feature is set to −m (raw units)", 14);
  const tokens = field("tokens", "24", "new tokens", 3), seed = field("seed", "0", "seed, the same for all columns", 4), heat = field("temperature", "0.7", "temperature; 0 takes the likeliest token", 3);
  const result = h("div", { class: "tsae-steered" }), chosen = h("div", {});
  const ask = async () => backend.ask("steer", {
    text: text.value, features: chosenFeatures(state),
    strengths: strengths.value.split(/[\s,;]+/).filter(Boolean).map((part) => numberFrom("m", part)),
    tokens: numberFrom("tokens", tokens.value, { low: 1, high: 200, whole: true }), seed: numberFrom("seed", seed.value, { low: 0, high: 2 ** 31, whole: true }),
    temperature: numberFrom("temperature", heat.value, { low: 0, high: 100 }),
  });
  const run = h("button", { class: "tsae-run", onclick: () => into(result, ask(), draw) }, "Generate");
  fill(panel, about().predicts ? [
    h("p", { class: "tsae-faint" }, "Clamp when active, as the unlearning evaluation does it: where a chosen feature fires it is set to −m (a negative m turns it up). Same seed in every column; ● marks tokens on which a chosen feature fires."),
    chosen, text, h("div", { class: "tsae-row" }, h("label", {}, "m ", strengths), h("label", {}, "tokens ", tokens), h("label", {}, "seed ", seed), h("label", {}, "temperature ", heat), run), result,
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
      h("p", { class: "tsae-faint" }, `fires on ${before} tokens of the prompt, ${touched} new ones`));
  }
  function draw(answer) {
    return [answer.rows.map((row) => row.notice).filter(Boolean).map((notice) => h("p", { class: "tsae-notice" }, notice)),
      h("div", { class: "tsae-scroll-x" }, table(["prompt", "untouched", ...answer.strengths.map((m) => `clamped, m = ${m} (${number(m / answer.norm, 2)} norms)`)], answer.rows.map((row) => [
        h("span", { dir: "auto" }, row.prompt), ...row.cells.map((made, i) => cell(made, i ? row.cells[0] : null))]), { class: "tsae-table tsae-grid" })),
      answer.rows.every((row) => row.cells.every((made) => !made.fired_in_prompt.some(Boolean) && !made.fired.some(Boolean)))
        ? h("p", { class: "tsae-notice" }, "No chosen feature fires on these prompts or what follows, so clamping changes nothing.") : null];
  }
  return { refresh() {
    fill(chosen, chips(state, featureLink));
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
  const text = h("textarea", { rows: 3, "aria-label": "text", placeholder: "A text …" });
  const result = h("div", { class: "tsae-ablated" }), chosen = h("div", {});
  const run = h("button", { class: "tsae-run", onclick: () => into(result, backend.ask("ablate", { text: text.value, features: chosenFeatures(state) }), draw) }, "Ablate");
  fill(panel, about().predicts ? [
    h("p", { class: "tsae-faint" }, "How much worse is each next token predicted when the chosen features are set to 0 wherever they fire?"),
    chosen, text, h("div", { class: "tsae-row" }, run), result,
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
      h("div", { class: "tsae-scroll" }, table(["Δ loss (nats)", "feature", "fires on"], [...answer.each].sort((a, b) => Math.abs(b.change) - Math.abs(a.change))
        .map((row) => [`${row.change >= 0 ? "+" : ""}${number(row.change)}`, featureLink(row.feature), `${row.active} tokens`]))),
    ];
  }
  return { refresh() {
    fill(chosen, chips(state, featureLink));
    if (about().predicts) suggest(text, card(state.get("feature")), false);
  } };
}

function compareView(panel, { about, state, backend, featureLink, place }) {
  const head = h("div", {}), found = h("div", {}), pairs = h("div", {});
  fill(panel, head, found, pairs);
  function drawMatches(answer) {
    const numbers = integers(answer.buffers[0]), values = floats(answer.buffers[1]), other = answer.card;
    return [h("h4", {}, `nearest to #${answer.feature} in the other SAE`),
      table(["cosine", "feature", "label", kindOf(about().other.groups), "density", "lag-1"], answer.rows.map((row) => [number(row.cosine, 3), `#${row.feature}`, row.label, bare(about().other.groups[row.level - 1]), share(row.density), fixed(row.autocorrelation)])),
      h("h4", {}, `contexts of its #${other.feature}`),
      other.kinds.map((_, row) => h("div", { class: "tsae-text", dir: "auto" }, flow(Array.from({ length: other.width }, (_, i) => row * other.width + i).filter((i) => numbers[i] >= 0)
        .map((i) => token(other.words[numbers[i]], values[i], other.statistics.max, { peak: i - row * other.width === other.peaks[row] - other.starts[row] })))))];
  }
  function drawPairs(answer) {
    const length = answer.texts.length, mine = floats(answer.buffers[0]), theirs = floats(answer.buffers[1]);
    const rows = answer.features.flatMap((feature, i) => [[mine, answer.levels[i]], [theirs, answer.other_levels[i]]].map(([matrix, level]) => {
      const values = matrix.subarray(i * length, (i + 1) * length);
      return { values, highest: Math.max(...values), colour: `--tsae-level${tint(level)}` };
    }));
    const cell = cellWidth(panel, length);
    const graph = lanes(rows, length, { cell, name: "matched features along the same text, in pairs: this SAE above, the other below" });
    requestAnimationFrame(() => graph.draw((name) => getComputedStyle(panel).getPropertyValue(name), null));
    const readout = h("p", { class: "tsae-faint" }, "Each pair: this SAE above, the other below.");
    graph.canvas.addEventListener("mousemove", (event) => {
      const box = graph.canvas.getBoundingClientRect(), t = Math.min(length - 1, Math.max(0, Math.floor((event.clientX - box.left) / cell)));
      graph.draw((name) => getComputedStyle(panel).getPropertyValue(name), t);
      readout.textContent = `token ${t}: “${shown(answer.texts[t]).trim()}”`;
    });
    const chart = h("div", { class: "tsae-lane-grid" },
      h("div", { class: "tsae-lane-names" }, answer.features.flatMap((feature, i) => [h("div", { class: "tsae-lane-name" }, featureLink(feature)), h("div", { class: "tsae-lane-name" }, `other #${answer.others[i]}`)])),
      h("div", { class: "tsae-lane-scroll" }, graph.canvas),
      h("div", { class: "tsae-lane-stats" }, answer.features.flatMap((_, i) => [h("div", { class: "tsae-lane-name" }, `cos ${number(answer.cosines[i], 2)}`), h("div", { class: "tsae-lane-name", title: "correlation of the two on this text" }, `r ${number(answer.correlations[i], 2)}`)])));
    return [readout, withTable(`document ${answer.piece}, features in pairs`, chart, () => table(["feature", "other", "cosine", "r on this text"],
      answer.features.map((feature, i) => [`#${feature}`, `#${answer.others[i]}`, number(answer.cosines[i]), number(answer.correlations[i])])))];
  }
  return { refresh() {
    const other = about().other;
    if (!other) {
      fill(head, h("p", { class: "tsae-notice" }, backend.stored ? "A stored page holds one SAE." : "Nothing to compare with yet: explorer.compare(\"path/of/another/index\")."));
      return;
    }
    fill(head, h("p", {}, `${other.folder}: ${other.features.toLocaleString("en")} features, ${other.dead.toLocaleString("en")} dead. Median best cosine ${number(other.median)} over ${other.matched} features of this SAE.`),
      other.layer !== about().layer ? h("p", { class: "tsae-notice" }, `The other SAE reads layer ${other.layer}, this one layer ${about().layer}: the same direction need not mean the same there.`) : null,
      histogram("best cosines", other.cosines, 1));
    const feature = state.get("feature"), where = place();
    into(found, backend.ask("matches", { feature }), drawMatches);
    if (!other.same_text) fill(pairs, h("p", { class: "tsae-notice" }, "The two indexes were made from different text, so traces cannot stand side by side."));
    else if (where && where.text !== undefined) fill(pairs, h("p", { class: "tsae-notice" }, "Traces side by side need a stored document: choose one in the tab Trace (⇢ beside a context)."));
    else if (where && where.piece !== undefined) into(pairs, backend.ask("pairs", { feature, piece: where.piece }), drawPairs).then(painted).then(() => { panel.dataset.compared = String(feature); });
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
async function openArchive(text, el) {
  const bytes = Uint8Array.from(atob(text.trim()), (letter) => letter.charCodeAt(0));
  const plain = new Uint8Array(await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer());
  const size = new DataView(plain.buffer).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(plain.subarray(4, 4 + size)));
  const cut = (offset, length) => new DataView(plain.buffer, 4 + size + offset, length);
  const values = { feature: 0, selected: [], _about: head.about, _table: cut(0, head.table) }, listeners = {};
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
