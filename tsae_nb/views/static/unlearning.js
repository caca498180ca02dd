import { fill, flow, h, into, table, token, withTable } from "./common.js";
import { kernelBackend, ownKeys, painted } from "./page.js";
import { fixed, floats, integers, number, share, shown } from "./values.js";

const REASONS = {
  nothing_selected: "no feature passed the selection", gate: "no setting keeps the side effects small enough",
  forget_unchanged: "settings pass, but nothing is forgotten", no_qualifying_question: "no question could be asked",
};

function render({ model, el }) {
  const about = model.get("_about"), settings = about.settings;
  const root = h("div", { class: "tsae tsae-unlearning", tabindex: 0, "data-lm-suppress-shortcuts": "true" });
  el.append(root);
  const backend = kernelBackend(model);
  const cards = new Map();
  const choose = (setting) => { model.set("selected", setting); model.save_changes(); };
  const detail = h("section", { "aria-label": "setting" });
  const left = h("div", {});
  let own = true;

  /** Points that coincide are one mark with a count; choosing it again goes through them. */
  function groups() {
    const found = new Map();
    for (const setting of settings) {
      if (setting.side_accuracy === null || setting.forget_accuracy === null || (!own && setting.control)) continue;
      const key = `${setting.side_accuracy} ${setting.forget_accuracy} ${Boolean(setting.control)}`;
      found.set(key, [...(found.get(key) || []), setting]);
    }
    return [...found.values()];
  }
  function plane() {
    const width = 460, height = 380, margin = { left: 46, right: 30, top: 14, bottom: 36 };
    const sides = settings.filter((setting) => setting.side_accuracy !== null).map((setting) => setting.side_accuracy);
    const lowest = Math.max(0, Math.min(about.gate - 0.03, ...sides) - 0.01);
    const lost = (value) => Math.sqrt(Math.max(0, 1 - value)); // what is lost, on a square-root scale: near 1 every question counts
    const x = (value) => margin.left + (1 - lost(value) / lost(lowest)) * (width - margin.left - margin.right);
    const y = (value) => height - margin.bottom - (value / 1.03) * (height - margin.bottom - margin.top);
    const ticks = [0, 0.25, 0.5, 0.75, 1];
    const front = settings.filter((setting) => setting.pareto).sort((a, b) => a.side_accuracy - b.side_accuracy);
    const marks = groups().map((group) => {
      const here = group.some((setting) => setting.setting === model.get("selected")), first = group[0], [cx, cy] = [x(first.side_accuracy), y(first.forget_accuracy)];
      const name = `tsae-mark${first.passed ? " tsae-passed" : ""}${first.control ? " tsae-control" : ""}${here ? " tsae-here" : ""}`;
      const next = () => {
        const at = group.findIndex((setting) => setting.setting === model.get("selected"));
        choose(group[(at + 1) % group.length].setting);
      };
      const shape = first.control ? h("path", { class: name, d: `M${cx - 5},${cy - 5}L${cx + 5},${cy + 5}M${cx - 5},${cy + 5}L${cx + 5},${cy - 5}` }) : h("circle", { class: name, cx, cy, r: 6 });
      return h("g", { role: "button", tabindex: 0, "data-setting": first.setting, "aria-label": `setting ${first.setting}: side ${number(first.side_accuracy)}, forget ${number(first.forget_accuracy)}`,
        onclick: next, onkeydown: (event) => { if (event.key === "Enter" || event.key === " ") { next(); event.preventDefault(); event.stopPropagation(); } } },
      h("circle", { cx, cy, r: 10, fill: "transparent" }), shape, group.length > 1 ? h("text", { x: cx + 8, y: cy - 6 }, `×${group.length}`) : null,
      h("title", {}, group.map((setting) => `${setting.control ? "control, " : ""}${setting.features} features, m ${number(setting.multiplier)} (${number(setting.multiplier_norms, 2)} norms), τ ${setting.retain_threshold}: forget ${number(setting.forget_accuracy)}, side ${number(setting.side_accuracy)}`).join("\n")));
    });
    return h("svg", { class: "tsae-plane", viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": "settings: forget accuracy over side accuracy" },
      h("rect", { class: "tsae-pass", x: x(about.gate), y: margin.top, width: width - margin.right + 8 - x(about.gate), height: height - margin.top - margin.bottom }),
      ticks.map((value) => [h("line", { x1: margin.left, x2: width - margin.right, y1: y(value), y2: y(value) }), h("text", { x: margin.left - 5, y: y(value) + 3, "text-anchor": "end" }, value)]),
      [1, 0.95, 0.9, 0.8, 0.6, 0.4, 0.2, 0].filter((value) => value >= lowest).map((value) => h("text", { x: x(value), y: height - margin.bottom + 13, "text-anchor": "middle" }, value)),
      h("line", { class: "tsae-gate", x1: x(about.gate), x2: x(about.gate), y1: margin.top, y2: height - margin.bottom }),
      h("text", { x: x(about.gate) - 4, y: margin.top + 8, "text-anchor": "end" }, `gate ${about.gate} ▸ kept`),
      h("text", { x: width / 2, y: height - 6, "text-anchor": "middle" }, "side accuracy (what should be kept, square-root scale) →"),
      h("text", { x: 12, y: height / 2, "text-anchor": "middle", transform: `rotate(-90 12 ${height / 2})` }, "← forget accuracy (lower forgets more)"),
      h("polyline", { class: "tsae-front", points: front.map((setting) => `${x(setting.side_accuracy)},${y(setting.forget_accuracy)}`).join(" ") }),
      marks);
  }
  function settingsTable() {
    const made = table(["", "τ", "features", "m", "norms", "forget", "side", "gate", "front"], settings.filter((setting) => own || !setting.control).map((setting) => [
      setting.control ? "control" : "setting", setting.retain_threshold, `${setting.features}/${setting.feature_count}`, number(setting.multiplier), number(setting.multiplier_norms, 2),
      fixed(setting.forget_accuracy, 3), fixed(setting.side_accuracy, 3), setting.stopped ? "stopped" : setting.passed ? "✓ passes" : "✗ fails", setting.pareto ? "Pareto" : ""]), { class: "tsae-table tsae-settings" });
    const listed = settings.filter((setting) => own || !setting.control);
    [...made.tBodies[0].rows].forEach((row, i) => {
      row.tabIndex = 0;
      row.dataset.setting = listed[i].setting;
      row.addEventListener("click", () => choose(listed[i].setting));
      row.addEventListener("keydown", (event) => { if (event.key === "Enter") choose(listed[i].setting); });
      row.classList.toggle("tsae-here", listed[i].setting === model.get("selected"));
    });
    return made;
  }
  function drawPlane() {
    const asTable = left.querySelector('figure button[aria-pressed="true"]');
    const focused = left.contains(document.activeElement) ? document.activeElement.dataset.setting : undefined;
    const figure = withTable(`${settings.length} settings: ● passes ○ fails the gate × control`, plane(), settingsTable);
    fill(left, figure, settings.some((setting) => setting.control) ? h("label", { class: "tsae-faint" }, h("input", { type: "checkbox", checked: own, onchange: (event) => { own = event.target.checked; drawPlane(); } }), " controls") : null);
    if (asTable) figure.querySelector("button").click();
    if (focused !== undefined) left.querySelector(`[data-setting="${focused}"]`)?.focus(); // drawn again, it would lose it
  }

  function mini(feature) {
    const place = h("div", { class: "tsae-mini", "data-feature": feature }, `#${feature}`);
    if (!about.cards) return place;
    if (!cards.has(feature)) cards.set(feature, backend.ask("card", { feature }));
    into(place, cards.get(feature), (answer) => {
      const numbers = integers(answer.buffers[0]), values = floats(answer.buffers[1]), width = answer.width;
      return [h("b", {}, `#${feature} ${about.labels[feature] || ""}`), h("span", { class: "tsae-faint" }, ` density ${share(answer.statistics.density)}`),
        answer.kinds.slice(0, 3).map((_, row) => {
          const peak = answer.peaks[row] - answer.starts[row];
          return h("div", { class: "tsae-text", dir: "auto" }, flow(Array.from({ length: 16 }, (_, i) => peak - 11 + i).filter((i) => i >= 0 && i < width && numbers[row * width + i] >= 0)
            .map((i) => token(answer.words[numbers[row * width + i]], values[row * width + i], answer.statistics.max, { peak: i === peak }))));
        }),
        answer.logits.length ? h("div", { class: "tsae-faint" }, `promotes ${answer.logits.slice(0, 4).map((row) => shown(row.text)).join(", ")}`) : null];
    });
    return place;
  }
  function flip(name, [row, letter]) {
    const asked = (about.questions[name] || {})[row];
    if (!asked) return h("div", { class: "tsae-flip" }, `question ${row} → ${letter}`);
    return h("div", { class: "tsae-flip", dir: "auto" }, h("b", {}, asked.question), " ", asked.choices.map((choice, i) => {
      const mark = i === asked.answer ? "✓" : "ABCD"[i] === letter ? "✗" : "";
      return h("span", { class: mark ? "" : "tsae-faint", title: { "✓": "right", "✗": "answered now" }[mark] }, ` ${"ABCD"[i]}. ${choice}${mark}`);
    }));
  }
  function bars(setting) {
    return h("div", {}, setting.sets.map((one) => h("div", { class: "tsae-setbar" }, h("span", {}, `${one.role === "forget" ? "forget: " : ""}${one.set}`),
      h("div", { class: "tsae-track", title: `untouched ${fixed(one.baseline, 3)}` }, h("span", { class: one.role === "forget" ? "tsae-forgets" : "", style: `width:${100 * (one.accuracy || 0)}%` }), h("i", { style: `left:${100 * (one.baseline || 0)}%` })),
      h("span", {}, `${fixed(one.accuracy, 3)} of ${one.questions}; ${one.flipped} flipped`))));
  }
  function drawDetail() {
    const setting = settings.find((one) => one.setting === model.get("selected"));
    if (!setting) {
      fill(detail, h("p", { class: "tsae-notice" }, settings.length ? "Choose a point." : "There is no setting to show: no question could be asked."));
      return;
    }
    fill(detail,
      h("h3", { "data-setting": setting.setting }, `${setting.control ? "control" : "setting"} ${setting.setting}: ${setting.features} features to −${number(setting.multiplier)}`),
      h("p", { class: "tsae-faint" }, `${number(setting.multiplier_norms, 2)} × the residual norm · retain threshold ${setting.retain_threshold} · ${setting.stopped ? "stopped at the error that fails the gate" : setting.passed ? "passes the gate" : "fails the gate"}${setting.setting === about.best ? " · the best setting" : ""}`),
      withTable("accuracy by set (| untouched)", bars(setting), () => table(["set", "role", "questions", "a feature fires in", "accuracy", "untouched", "flipped", "repaired"],
        setting.sets.map((one) => [one.set, one.role, one.questions, one.touched, fixed(one.accuracy, 3), fixed(one.baseline, 3), one.flipped, one.repaired]))),
      h("h4", {}, `${setting.feature_ids.length} clamped features`), setting.feature_ids.length ? h("div", { class: "tsae-cards", tabindex: 0, role: "group", "aria-label": "clamped features" }, setting.feature_ids.map(mini)) : h("p", { class: "tsae-notice" }, "No feature passed the selection at this threshold, so nothing is clamped."),
      h("h4", {}, "answers that flipped (✓ right, ✗ answered now)"),
      h("div", { class: "tsae-flips" }, setting.sets.filter((one) => one.flips.length).map((one) => h("details", { open: one.role === "side" || one.flips.length < 6 }, h("summary", {}, `${one.set}: ${one.flips.length} of ${one.questions}`), one.flips.map((entry) => flip(one.set, entry)))),
        setting.sets.every((one) => !one.flips.length) ? h("p", { class: "tsae-faint" }, "none") : null));
    painted().then(() => { root.dataset.shown = String(setting.setting); });
  }

  const interval = about.interval ? ` (95 % ${fixed(about.interval.low)} to ${fixed(about.interval.high)})` : "";
  fill(root, about.notice ? h("p", { class: "tsae-notice" }, about.notice) : null,
    h("h3", {}, `${about.name}: unlearning score ${fixed(about.score, 3)}${interval}`),
    h("p", {}, about.reason ? h("b", {}, `${REASONS[about.reason] || about.reason}: `) : null, about.explanation, "."),
    h("p", { class: "tsae-faint" }, [about.held_out ? `chosen on one half, scored on the other: ${fixed(about.held_out.score, 3)}` : null, about.controls.length ? `random features: ${about.controls.map((value) => fixed(value, 3)).join(", ")}` : null,
      `questions that qualify: ${Object.entries(about.asked).map(([name, one]) => `${name} ${one.qualifying}/${one.asked}`).join(", ")}`].filter(Boolean).join(" · ")),
    h("div", { class: "tsae-two" }, left, detail));
  const follow = () => { drawPlane(); drawDetail(); };
  model.on("change:selected", follow);
  follow();
  ownKeys(root);
  return () => { model.off("change:selected", follow); backend.close(); };
}

export default { render };
