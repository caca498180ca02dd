// Equations by KaTeX, and figures that have no stored picture by plotly, which is loaded only where there is one.
const here = document.currentScript.src;

function equations() {
  for (const element of document.querySelectorAll(".arithmatex")) {
    const text = element.textContent.trim();
    try {
      katex.render(text.slice(2, -2), element, { displayMode: text.startsWith("\\[") });
    } catch (error) {
      console.error(`${error.message}: ${text}`);
    }
  }
}

function draw(place) {
  const dark = document.body.dataset.mdColorScheme === "slate";
  const figure = JSON.parse(place.querySelector("script").textContent);
  const target = place.appendChild(document.createElement("div"));
  const colours = dark ? { paper_bgcolor: "white", plot_bgcolor: "white" } : {};
  Plotly.newPlot(target, figure.data, { ...figure.layout, ...colours, width: undefined }, { responsive: true, displaylogo: false });
}

function figures() {
  const places = document.querySelectorAll(".figure");
  if (places.length === 0) return;
  const script = document.createElement("script");
  script.src = new URL("plotly.min.js", here);
  script.onload = () => places.forEach(draw);
  document.head.append(script);
}

equations();
figures();
