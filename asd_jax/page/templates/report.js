"use strict";
// Moves a threshold through each histogram and counts the recordings above it.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  document.documentElement.classList.add("script");

  const percent = (part, whole) => (whole ? ((100 * part) / whole).toFixed(1) : "–");

  // Four digits, and powers of ten for small numbers, as in the rest of the page.
  function rounded(value) {
    const short = Number(value.toPrecision(4));
    return short && Math.abs(short) < 1e-4 ? short.toExponential() : String(short);
  }

  // Precision, recall and F1 where recordings of both classes are known.
  function rates(counts) {
    const { normal, anomalous } = counts;
    if (!normal || !anomalous || !normal.total || !anomalous.total) return "";
    const called = normal.above + anomalous.above;
    const f1 = (2 * anomalous.above) / (called + anomalous.total);
    return (
      `precision ${percent(anomalous.above, called)} %, ` +
      `recall ${percent(anomalous.above, anomalous.total)} %, F1 ${(100 * f1).toFixed(1)} %`
    );
  }

  function spoken(threshold, counts) {
    const parts = Object.values(counts).map((c) => `${c.text}: ${c.above} of ${c.total}`);
    return [`threshold ${threshold}`, ...parts].join(", ");
  }

  // What is folded is printed too.
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details:not([open])")];
    for (const part of folded) part.open = true;
  });
  addEventListener("afterprint", () => {
    for (const part of folded) part.open = false;
  });

  for (const panel of document.querySelectorAll("[data-chart]")) {
    const { thresholds, places, above, start, decided } = data[panel.dataset.chart];
    const slider = panel.querySelector("input");
    const cursor = panel.querySelector(".cursor");
    const width = Number(cursor.dataset.width);

    const show = () => {
      const at = Number(slider.value);
      const threshold = rounded(thresholds[at]);
      const counts = {};
      for (const row of panel.querySelectorAll("[data-class]")) {
        const total = Number(row.querySelector(".total").textContent);
        const count = above[row.dataset.class][at];
        row.querySelector(".above").textContent = count;
        row.querySelector(".share").textContent = percent(count, total);
        const text = row.querySelector("th").textContent;
        counts[row.dataset.class] = { text, above: count, total };
      }
      const isOwn = decided && at === start;
      panel.querySelector(".threshold").textContent =
        `${threshold}${isOwn ? ", the threshold of the run" : ""}`;
      const line = rates(counts);
      const element = panel.querySelector(".rates");
      element.textContent = line;
      element.hidden = !line;
      cursor.setAttribute("transform", `translate(${(places[at] * width).toFixed(2)} 0)`);
      panel.classList.toggle("moved", !isOwn);
      slider.setAttribute("aria-valuetext", spoken(threshold, counts));
    };

    slider.addEventListener("input", show);
    panel.querySelector("button").addEventListener("click", () => {
      slider.value = start;
      show();
    });
    slider.value = start; // browsers keep what was set before a reload
    show();
  }
})();
