// The tab Ablate: how much worse each next token is predicted without the chosen features.

import { Chosen, Of, View, chosenFeatures, strongestText, suggest } from "./explorer_parts.js";
import { Awaited, Table, html, word } from "./parts.js";
import { number } from "./values.js";

const signed = (value) => `${value >= 0 ? "+" : ""}${number(value)}`;

/** A text, each word with what the features do to its prediction. */
function Ablated({ answer, explorer }) {
  if (answer.loss === null) return html`<p class="tsae-notice">There is no next token to predict in this text: write a few words.</p>`;
  const most = Math.max(1e-6, ...answer.change.map((value) => Math.abs(value || 0)));
  const each = [...answer.each].sort((a, b) => Math.abs(b.change) - Math.abs(a.change));
  const words = answer.texts.map((text, i) => {
    const change = answer.change[i] || 0, part = Math.abs(change) / most;
    return part > 0.05 ? word(text, { name: change > 0 ? "tsae-worse" : "tsae-better", part: 100 * part, title: `${change > 0 ? "+" : ""}${number(change)} nats` }) : word(text, {});
  });
  return html`<${Of} explorer=${explorer} features=${answer.features} />${answer.notice ? html`<p class="tsae-notice">${answer.notice}</p>` : null}
    ${answer.fired ? null : html`<p class="tsae-notice">No such feature fires on this text, so nothing changes.</p>`}
    <p>Loss ${number(answer.loss)} nats a token; without ${answer.features.length > 1 ? "these features" : `#${answer.features[0]}`} ${signed(answer.together)}.</p>
    <div class="tsae-text" dir="auto">${words}</div>
    <p class="tsae-faint">filled from below ▂ orange: predicted worse · from above ▔ blue: predicted better</p>
    <h4>one feature at a time</h4>
    <div class="tsae-scroll" tabindex="0" role="group" aria-label="one feature at a time"><${Table} head=${["Δ loss (nats)", "feature", "fires on"]} keys=${each.map((row) => row.feature)}
      rows=${each.map((row) => [signed(row.change), explorer.link(row.feature), `${row.active} tokens`])} /></div>`;
}

export class AblateView extends View {
  constructor(props) {
    super(props);
    this.state = { asked: null, busy: false };
    /** @type {HTMLTextAreaElement | null} */
    this.text = null;
  }
  async refresh() {
    const { explorer } = this.props;
    this.forceUpdate();
    if (!explorer.about.predicts) return;
    const answer = await explorer.answerOf(explorer.get("feature")).catch(() => null);
    if (answer?.kinds.length) suggest(this.text, strongestText(answer, false));
  }
  run() { // one at a time
    const { explorer } = this.props, asked = explorer.backend.ask("ablate", { text: this.text?.value, features: chosenFeatures(explorer) });
    this.setState({ asked, busy: true });
    const done = () => this.setState({ busy: false });
    asked.then(done, done);
  }
  render({ explorer }, { asked, busy }) {
    if (!explorer.about.predicts) {
      return html`<p class="tsae-notice">${explorer.backend.stored ? "A stored page has no model to ablate in." : "Ablation needs the model and the SAE: FeatureExplorer(index, model=language_model, sae=sae)."}</p>`;
    }
    return html`<p class="tsae-faint">How much worse is each next token predicted when the chosen features are set to 0 wherever they fire?</p>
      <div class="tsae-row tsae-prompts"><textarea dir="auto" rows="2" aria-label="text" placeholder="A text …"
        ref=${(text) => { this.text = text; }} /><button class="tsae-run" disabled=${busy} onClick=${() => this.run()}>Ablate</button></div>
      <${Chosen} explorer=${explorer} />
      <${Awaited} name="tsae-ablated" asked=${asked} saying="predicting without the features …" draw=${(answer) => html`<${Ablated} answer=${answer} explorer=${explorer} />`} />`;
  }
}
