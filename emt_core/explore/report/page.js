"use strict";
// Draws every figure of the report from the JSON beside it, in the colours of the reader's theme; prints in light ones.
(() => {
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const light = { ink: "#1e2430", grid: "#e3e6ec", line: "#c9ced8" };
  const night = { ink: "#e6e9ef", grid: "#2a303c", line: "#3c4452" };
  const axis = (c) => ({ gridcolor: c.grid, linecolor: c.line, zerolinecolor: c.line, tickcolor: c.line });
  const template = (c) => ({
    layout: {
      font: { color: c.ink, size: 12.5, family: '"Source Sans 3", "Segoe UI", system-ui, sans-serif' },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      xaxis: axis(c),
      yaxis: axis(c),
    },
  });
  const places = [...document.querySelectorAll(".figure")];
  const draw = (colours) =>
    places.forEach((place) => {
      const told = JSON.parse(document.getElementById(place.dataset.figure).textContent);
      const layout = { ...told.layout, template: template(colours), autosize: true };
      Plotly.react(place, told.data, layout, { displayModeBar: false, responsive: true });
    });
  const now = () => draw(dark.matches ? night : light);
  dark.addEventListener("change", now);
  window.addEventListener("beforeprint", () => draw(light));
  window.addEventListener("afterprint", now);
  now();
  document.documentElement.dataset.drawn = String(places.length);
})();
