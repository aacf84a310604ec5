// Shows the numbers in this page's JSON; none is computed here. The live part has programs of its own.
"use strict";
async function unpack(id) { // Plotly is in the page, compressed
  const bytes = Uint8Array.from(atob(document.getElementById(id).textContent), (c) => c.charCodeAt(0));
  const script = document.createElement("script");
  script.textContent = await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
  document.head.append(script);
}
const lesson = JSON.parse(document.getElementById("records").textContent);
const figures = JSON.parse(document.getElementById("figures").textContent);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const by = (id) => document.getElementById(id);
const drawn = new Set();
const state = { epoch: 0, timer: null };

function shown(value, digits = 10) { // as in tables.py: so many significant digits, no trailing zeros
  if (value === null || value === undefined) return say("not_finite");
  if (value === 0) return "0";
  const [digitsPart, exponent] = value.toPrecision(digits).split("e");
  const short = digitsPart.includes(".") ? digitsPart.replace(/\.?0+$/, "") : digitsPart;
  return exponent ? `${short}e${exponent.replace(/^([+-])(\d)$/, "$10$2")}` : Math.abs(value) < 1e-4 && value !== 0 ? value.toExponential(digits - 1).replace(/\.?0+e/, "e").replace(/e([+-])(\d)$/, "e$10$2") : short;
}
function put(element, value, digits) { element.textContent = shown(value, digits); element.dataset.value = value === null ? "NaN" : String(value); }

// Theme ------------------------------------------------------------------------------------------------------------
const dark = () => document.documentElement.dataset.theme === "dark";
function colours() {
  const [ink, line] = dark() ? ["#e9e7e1", "#38404a"] : ["#1c2127", "#d9d6cd"];
  const axis = { gridcolor: line, linecolor: line, tickcolor: line };
  const size = parseFloat(getComputedStyle(document.documentElement).fontSize) * 0.85;
  return { font: { color: ink, size, family: "system-ui, sans-serif" }, xaxis: axis, yaxis: axis, hoverlabel: { bgcolor: dark() ? "#1c2127" : "#ffffff", font: { color: ink } } };
}
function merged(layout) {
  const own = colours();
  return { ...layout, ...own, xaxis: { ...layout.xaxis, ...own.xaxis }, yaxis: { ...layout.yaxis, ...own.yaxis } };
}
function setTheme(name) {
  document.documentElement.dataset.theme = name;
  by("theme").textContent = say(name === "dark" ? "page_light" : "page_dark");
  for (const id of drawn) Plotly.relayout(by(id), { "font.color": colours().font.color, ...Object.fromEntries(["xaxis", "yaxis"].flatMap((a) => Object.entries(colours()[a]).map(([k, v]) => [`${a}.${k}`, v]))), hoverlabel: colours().hoverlabel });
}

// Figures ----------------------------------------------------------------------------------------------------------
function draw(panel) {
  for (const plot of typeof Plotly === "undefined" ? [] : all(".plot", panel)) {
    if (drawn.has(plot.id) || !figures[plot.id]) continue;
    const spec = figures[plot.id];
    spec.layout = merged(spec.layout);
    spec.own = spec.layout.shapes || [];
    Plotly.newPlot(plot, spec.data, spec.layout, { responsive: true, displaylogo: false, displayModeBar: false });
    drawn.add(plot.id);
  }
  showEpoch(state.epoch);
  if (panel.id === "panel-live") live.render();
  if (by("model-drawing") && panel.id === "panel-step") network.drawModel(by("model-drawing"), lesson.network);
}
function numbersOf(plot) { // the figure as a table, for a screen reader too: a row for every x of any line
  const traces = plot.data.filter((t) => t.type === "scatter" && t.x && t.x.length > 1 && t.hoverinfo !== "skip");
  const columns = traces.map((t) => new Map([...t.x].map((x, i) => [x, t.y[i]])));
  const xs = [...new Set(traces.flatMap((t) => [...t.x]))].sort((a, b) => a - b);
  if (plot.layout.xaxis.autorange === "reversed") xs.reverse();
  const cells = (x) => columns.map((c) => `<td class="n">${c.has(x) ? shown(c.get(x), 6) : ""}</td>`).join("");
  const rows = xs.map((x) => `<tr><th scope="row">${shown(x, 4)}</th>${cells(x)}</tr>`);
  return `<div class="scroll" tabindex="0" role="region" aria-label="${say("numbers_of_figure")}"><table><thead><tr><th scope="col">${plot.layout.xaxis.title.text}</th>${traces.map((t) => `<th scope="col">${t.name}</th>`).join("")}</tr></thead><tbody>${rows.join("")}</tbody></table></div>`;
}
for (const box of all("details.numbers")) box.addEventListener("toggle", () => { if (box.open) box.querySelector("div").innerHTML = numbersOf(by(box.dataset.of)); });

// Tabs: arrows, Home and End move; one tab stop -------------------------------------------------------------------
const tabs = all('[role="tab"]');
function choose(tab, focus = false) {
  for (const other of tabs) {
    const on = other === tab;
    other.setAttribute("aria-selected", on);
    other.tabIndex = on ? 0 : -1;
    by(other.getAttribute("aria-controls")).hidden = !on;
  }
  if (focus) tab.focus();
  tab.scrollIntoView({ block: "nearest", inline: "center" });
  if (tab.id !== "tab-epochs" && tab.id !== "tab-landscape") stop();
  draw(by(tab.getAttribute("aria-controls")));
  try { history.replaceState(null, "", "#" + tab.id.slice(4)); } catch { /* a page in a frame has no address of its own */ }
}
tabs.forEach((tab, i) => {
  tab.addEventListener("click", () => choose(tab));
  tab.addEventListener("keydown", (event) => {
    const to = { ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: tabs.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    choose(tabs[(to + tabs.length) % tabs.length], true);
  });
});

// One epoch: a weight at a time ------------------------------------------------------------------------------------
const walks = all(".walk");
function walkTo(i) {
  const at = (i + walks.length) % walks.length;
  walks.forEach((walk, k) => { walk.hidden = k !== at; });
  by("walk-choice").value = String(at);
  by("walk-count").textContent = say("step_count", { number: at + 1, count: walks.length });
}
const walkAt = () => walks.findIndex((walk) => !walk.hidden);
by("walk-back").addEventListener("click", () => walkTo(walkAt() - 1));
by("walk-on").addEventListener("click", () => walkTo(walkAt() + 1));
by("walk-choice").addEventListener("change", (event) => walkTo(Number(event.target.value)));

// Epochs -----------------------------------------------------------------------------------------------------------
const track = lesson.track;
const entry = () => Number(by("entry").value);
const sliders = all("input.epoch");
function cursor(id) {
  if (!drawn.has(id)) return;
  const line = { type: "line", x0: state.epoch, x1: state.epoch, yref: "paper", y0: 0, y1: 1, line: { color: dark() ? "#e9e7e1" : "#1c2127", width: 1 } };
  Plotly.relayout(by(id), { shapes: [...figures[id].own, line] });
}
function showEpoch(epoch) {
  state.epoch = epoch;
  for (const slider of sliders) { slider.value = String(epoch); slider.setAttribute("aria-valuetext", say("epoch_of", { epoch, last: lesson.epochs })); }
  for (const out of all(".epoch-number")) out.textContent = say("epoch_of", { epoch, last: lesson.epochs });
  put(by("loss-nudged"), track.losses[epoch]);
  put(by("loss-keras"), track.keras_losses[epoch]);
  all("#epoch-table tbody tr").forEach((row, i) => {
    ["weights", "keras_weights", "weight_difference", "weight_allowed", "slopes", "same_point", "slope_difference", "slope_allowed"].forEach((name, k) => put(row.cells[k + 1], track[name][epoch][i], name.includes("_d") || name.includes("_a") ? 3 : 10));
  });
  const dead = lesson.units.filter((unit) => unit.since <= epoch && (unit.until < 0 || epoch <= unit.until)).map((unit) => unit.name);
  by("dead-now").textContent = dead.length ? say("epochs_dead", { units: dead.join("; ") }) : "";
  ["loss", "weight", "slope", "difference"].forEach(cursor);
  moveLandscape();
}
function stop() {
  if (state.timer === null) return;
  clearInterval(state.timer);
  state.timer = null;
  for (const button of all("button.play")) button.textContent = say("play");
  sayEpoch();
}
function sayEpoch() { // to a screen reader, when the slider stops: the numbers of the epoch
  const e = state.epoch, i = entry(), name = track.labels[i];
  by("said").textContent = say("epochs_spoken", { epoch: e, loss: shown(track.losses[e], 6), keras_loss: shown(track.keras_losses[e], 6), weight: name, value: shown(track.weights[e][i], 6), keras_value: shown(track.keras_weights[e][i], 6), apart: shown(track.weight_difference[e][i], 3) });
}
function play() {
  if (state.timer !== null) { stop(); return; }
  if (state.epoch >= lesson.epochs) showEpoch(0);
  for (const button of all("button.play")) button.textContent = say("pause");
  state.timer = setInterval(() => { if (state.epoch >= lesson.epochs) stop(); else showEpoch(state.epoch + 1); }, 120);
}
for (const button of all("button.play")) button.addEventListener("click", play);
for (const slider of sliders) {
  slider.addEventListener("input", () => { stop(); showEpoch(Number(slider.value)); });
  slider.addEventListener("change", sayEpoch);
}
const logarithmic = (id) => figures[id].layout.yaxis.type === "log";
by("entry").addEventListener("change", () => {
  for (const id of ["weight", "slope", "difference"]) {
    if (!drawn.has(id)) continue;
    const y = by(id).data.map((trace) => track[trace.meta.source].map((row) => (logarithmic(id) && !(row[entry()] > 0) ? null : row[entry()])));
    Plotly.restyle(by(id), { y });
  }
  sayEqual();
});
function sayEqual() {
  const never = track.slope_difference.every((row) => row[entry()] === 0) && track.weight_difference.every((row) => row[entry()] === 0);
  by("equal").textContent = never ? say("epochs_equal") : "";
}

// Landscape ---------------------------------------------------------------------------------------------------------
function moveLandscape() {
  lesson.landscapes.forEach((scene, k) => {
    const id = `landscape-${k}`;
    if (!drawn.has(id)) return;
    const [x, y] = scene.entries.map((i) => track.weights[state.epoch][i]);
    const [across, up] = figures[id].lengths;
    Plotly.restyle(by(id), { x: [[x + across, x, x], [x]], y: [[y, y, y + up], [y]] }, [3, 4]);
  });
}
const pair = by("pair");
if (pair) pair.addEventListener("change", () => {
  all(".scene").forEach((figure, k) => { figure.hidden = k !== Number(pair.value); });
  draw(by("panel-landscape"));
  window.dispatchEvent(new Event("resize"));
});

// What if: another weight ------------------------------------------------------------------------------------------
by("precise-entry").addEventListener("change", (event) => {
  const i = Number(event.target.value), plot = by("precision");
  lesson.precisions.forEach((one, k) => {
    const error = one.error.map((row) => row[i]);
    const best = one.steps.findIndex((step) => step === one.best[i]);
    Plotly.restyle(plot, { y: [error.map((e) => (e > 0 ? e : null))] }, [k]);
    Plotly.restyle(plot, { x: [[one.best[i]]], y: [[error[best] > 0 ? error[best] : null]] }, [lesson.precisions.length + k]);
  });
  showBest(i);
});
function showBest(i) {
  all("#best tbody tr").forEach((row, k) => {
    const one = lesson.precisions[k], at = one.steps.findIndex((step) => step === one.best[i]);
    put(row.cells[1], one.best[i], 3);
    put(row.cells[2], one.error[at][i], 3);
  });
}

// Start ------------------------------------------------------------------------------------------------------------
by("theme").addEventListener("click", () => setTheme(dark() ? "light" : "dark"));
const preferred = matchMedia("(prefers-color-scheme: dark)");
setTheme(preferred.matches ? "dark" : "light");
preferred.addEventListener("change", (event) => setTheme(event.matches ? "dark" : "light"));
for (const id of ["walk-choice", "precise-entry"]) by(id).value = String(lesson.steepest);
by("entry").value = String(lesson.farthest);
walkTo(lesson.steepest);
showBest(lesson.steepest);
sayEqual();
livehands.start();
unpack("plotly").catch(() => { by("no-figures").hidden = false; }).then(() => {
  choose(by("tab" + (location.hash || "#").replace("#", "-")) || tabs[0]);
  document.documentElement.dataset.ready = "yes";
});
