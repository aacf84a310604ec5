// What the live part shows: it writes the present state into the page and turns the reader's gestures into edits.
"use strict";
const liveview = (() => {
  const { now, present, number, label } = live;
  const PLOT = { responsive: true, displaylogo: false, displayModeBar: false };
  let shape = "", later = 0, landscapeOf = null;

  // Formulas with the present numbers in them -----------------------------------------------------------------------------
  const term = (value) => (value < 0 ? `(${number(value, 5)})` : number(value, 5));
  function describe(what) { // a weight's index or a node's name
    const state = present(), run = engine.forward(state, now.sample), n = state.units, w = state.weights;
    if (typeof what === "number") what = network.nodeOf(n, what);
    if (what === "x") return `x = ${number(run.x)}`;
    if (what.startsWith("unit-")) {
      const j = Number(what.slice(5));
      return `z = x·w + b = ${term(run.x)} · ${term(w[j])} + ${term(w[n + j])} = ${number(run.z[j])};  a = ${say(`activation_${state.activation}`)}(z) = ${number(run.a[j])}`;
    }
    const sum = n === 0 ? `x·w + b = ${term(run.x)} · ${term(w[0])}` : `Σ a·w + b = ${run.a.map((a, j) => `${term(a)} · ${term(w[2 * n + j])}`).join(" + ")}`;
    const loss = state.loss === "squared" ? `(ŷ − y)² = (${term(run.prediction)} − ${term(run.y)})²` : `|ŷ − y| = |${term(run.prediction)} − ${term(run.y)}|`;
    return `ŷ = ${sum} + ${term(w[w.length - 1])} = ${number(run.prediction)};  ${loss} = ${number(run.loss)};  ${say("formula_mean")}: ${number(engine.lossOf(state))}`;
  }

  // Everything, from the state ------------------------------------------------------------------------------------------------
  function render() {
    const state = present(), known = slopes(state);
    build(state);
    put(by("live-loss"), engine.lossOf(state));
    by("live-epoch-now").textContent = say("live_epoch", { epoch: state.epoch, last: now.history[now.history.length - 1].epoch });
    by("live-nudge").textContent = say(now.chainNext ? "live_chain_one" : "live_nudge_one", { weight: label(now.turn) });
    network.refresh(by("live-network"), {
      state, sample: now.sample, label, describe, nudged: known.nudged, exact: known.exact, factors: live.factorPlaces(), chosen: now.chosen,
      active: new Set(now.lit === null ? (now.chainNext ? [now.turn] : []) : Object.keys(live.factorPlaces()).map(Number)),
      names: (node) => (node === "x" ? say("name_input") : node === "output" ? say("name_output") : say("name_node", { unit: Number(node.slice(5)) + 1, index: Number(node.slice(5)) })),
      spoken: (i) => (known.nudged[i] === undefined ? say("spoken", { value: number(state.weights[i]) }) : say("spoken_slopes", { value: number(state.weights[i]), nudged: number(known.nudged[i]), exact: known.exact[i] === undefined ? "?" : number(known.exact[i]) })),
    });
    by("live-formula").textContent = `${label(now.chosen)}: ${describe(now.chosen)}`;
    writeWeights(state, known);
    writeChain(state, known);
    writeSamples(state);
    writeSettings(state);
    const epochs = by("live-epoch");
    epochs.max = String(now.history.length - 1);
    epochs.value = String(now.at);
    by("live-epoch-text").textContent = by("live-epoch-now").textContent;
    epochs.setAttribute("aria-valuetext", by("live-epoch-now").textContent);
    by("live-back").disabled = now.at === 0;
    cancelAnimationFrame(later);
    later = requestAnimationFrame(() => drawPlots(state));
  }
  function slopes(state) { // of the weights that were nudged, and of those that the chain rule has reached
    const exact = engine.backpropagate(state);
    return { nudged: state.weights.map((_, i) => (now.nudged.has(i) ? engine.nudge(state, i).slope : undefined)), exact: exact.map((g, i) => (now.exact.has(i) ? g : undefined)) };
  }

  // Rows and options of this shape of network -------------------------------------------------------------------------------------
  function build(state) {
    const wanted = `${state.units} ${state.x.length}`;
    if (shape === wanted) return;
    shape = wanted;
    const options = (labels) => labels.map((text, value) => new Option(text, value));
    const names = state.weights.map((_, i) => label(i));
    by("live-weights").tBodies[0].replaceChildren(...names.map((name, i) => {
      const row = document.createElement("tr");
      row.innerHTML = `<th scope="row"></th><td><input class="n" inputmode="decimal" size="12" data-i="${i}"></td><td class="n mine"></td><td class="n theirs"></td><td class="n"></td><td class="reason"></td>`;
      row.cells[0].textContent = name;
      row.querySelector("input").setAttribute("aria-label", name);
      [...by("live-weights").tHead.rows[0].cells].forEach((head, k) => { row.cells[k].dataset.head = head.textContent; }); // for a phone
      return row;
    }));
    by("live-samples").tBodies[0].replaceChildren(...state.x.map((_, k) => {
      const row = document.createElement("tr");
      row.innerHTML = `<th scope="row">${k + 1}</th>${["x", "y"].map((part) => `<td><input class="n" inputmode="decimal" size="7" data-k="${k}" data-part="${part}" aria-label="${part} ${k + 1}"></td>`).join("")}<td class="n"></td><td class="n"></td><td><button type="button" class="small" data-remove="${k}">×</button></td>`;
      row.querySelector("button").setAttribute("aria-label", say("live_remove_one", { sample: k + 1 }));
      return row;
    }));
    for (const id of ["live-across", "live-up"]) by(id).replaceChildren(...options(names));
    by("live-sample").replaceChildren(...options(state.x.map((_, k) => k + 1)));
    by("set-batch").replaceChildren(...state.x.map((_, k) => new Option(k ? k : say("live_batch_all"), k)));
  }
  function fill(input, text) { if (document.activeElement !== input || input.dataset.typed !== "yes") input.value = text; }
  function writeWeights(state, known) {
    [...by("live-weights").tBodies[0].rows].forEach((row, i) => {
      const found = known.nudged[i] !== undefined && known.exact[i] !== undefined ? engine.difference(state, i) : null;
      fill(row.cells[1].firstChild, String(state.weights[i]));
      for (const [k, value, digits] of [[2, known.nudged[i], 10], [3, known.exact[i], 10], [4, found ? found.difference : undefined, 3]]) {
        if (value === undefined) { row.cells[k].textContent = ""; delete row.cells[k].dataset.value; } else put(row.cells[k], value, digits);
      }
      row.cells[5].textContent = found ? say(`reason_${found.reason}`, { curvature: number(found.curvature, 3), rounding: number(found.rounding, 2) }) : "";
      row.classList.toggle("chosen", i === now.chosen);
    });
  }
  function writeChain(state, known) { // the rule and its factors at once; products and sum when the chain rule has reached the weight
    const i = now.chosen, table = by("live-chain");
    const HEAD = { loss: state.loss === "squared" ? "2(ŷ − y)/n" : "sign(ŷ − y)/n", kernel: "w", activation: "f′(z)", unit: "a", x: "x" };
    const rows = engine.everySample(state).map((s) => engine.factors(state, i, s)), reached = known.exact[i] !== undefined;
    by("live-chain-formula").textContent = say("live_chain_lead", { weight: label(i), factors: rows[0].map((f) => HEAD[f.of]).join(" · ") });
    const cells = (values) => values.map((v) => `<td class="n" data-value="${v}">${number(v, 7)}</td>`).join("");
    const result = (value) => (reached ? cells([value]) : `<td class="n">?</td>`);
    table.innerHTML = `<thead><tr><th scope="col">${say("live_sample")}</th>${rows[0].map((f) => `<th scope="col">${HEAD[f.of]}</th>`).join("")}<th scope="col">${say("live_part")}</th></tr></thead><tbody>${rows.map((row, s) => `<tr><th scope="row">${s + 1}</th>${cells(row.map((f) => f.value))}${result(engine.product(row))}</tr>`).join("")}<tr><th scope="row">${say("live_factor_sum")}</th>${"<td></td>".repeat(rows[0].length)}${result(known.exact[i])}</tr></tbody>`;
  }
  function writeSamples(state) {
    [...by("live-samples").tBodies[0].rows].forEach((row, k) => {
      const run = engine.forward(state, k);
      fill(row.cells[1].firstChild, String(state.x[k]));
      fill(row.cells[2].firstChild, String(state.y[k]));
      put(row.cells[3], run.prediction, 6);
      put(row.cells[4], run.loss, 6);
    });
  }
  function writeSettings(state) {
    for (const name of ["nudge", "rate"]) fill(by(`set-${name}`), String(state[name]));
    for (const name of ["batch", "units", "activation", "loss", "optimizer"]) by(`set-${name}`).value = String(state[name]);
    by("live-sample").value = String(now.sample);
    by("live-across").value = String(now.pair[0]);
    by("live-up").value = String(now.pair[1]);
  }

  // The parabola and the landscape, in the next frame --------------------------------------------------------------------------------
  function drawPlots(state) {
    if (typeof Plotly === "undefined" || by("panel-live").hidden) return;
    drawCurve(state);
    drawPath(state);
  }
  const lineOf = (x, y, name, color, dash, width = 3) => ({ type: "scatter", mode: "lines", x, y, name, line: { color, dash, width }, hoverinfo: "skip" });
  function drawCurve(state) {
    const i = now.chosen, w = state.weights[i], span = Math.max(1, 0.5 * Math.abs(w), 2 * state.nudge);
    const xs = [...Array(81).keys()].map((k) => w + span * (k / 40 - 1)), { before, after, slope } = engine.nudge(state, i), exact = engine.backpropagate(state)[i];
    const straight = (g) => [xs[0], xs[80]].map((x) => before + g * (x - w)), hidden = document.documentElement.dataset.locked === "yes";
    const data = [lineOf(xs, xs.map((x) => engine.lossOf(engine.setWeight(state, i, x))), say("live_curve_name"), "#2f9e77", "solid")];
    if (!hidden) data.push(lineOf([xs[0], xs[80]], straight(exact), say("live_tangent"), "#3d8fd6", "solid", 6), lineOf([xs[0], xs[80]], straight(slope), say("live_secant"), "#e07b1f", "6px,5px"));
    data.push({ type: "scatter", mode: "markers", x: [w, w + state.nudge], y: [before, after], name: say("live_here"), marker: { size: 10, color: "#ffffff", line: { color: "#000000", width: 2 } } });
    by("live-curve-caption").textContent = hidden ? "" : say("live_curve_caption", { weight: label(i), nudged: number(slope, 8), exact: number(exact, 8) });
    Plotly.react(by("live-curve"), data, merged({ ...plain(label(i), say("live_loss")), showlegend: true }), PLOT);
    drawn.add("live-curve");
  }
  const plain = (x, y) => ({ xaxis: { title: { text: x } }, yaxis: { title: { text: y }, automargin: true }, margin: { l: 55, r: 10, t: 10, b: 50 }, legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)" });
  function pathTrace() {
    const [a, b] = now.pair, path = now.history.slice(0, now.at + 1).filter((s) => s.weights.length === present().weights.length);
    const x = path.map((s) => s.weights[a]), y = path.map((s) => s.weights[b]);
    return { x, y, colour: x.map((_, k) => (k === x.length - 1 ? "#ffffff" : "#ff9330")), size: x.map((_, k) => (k === x.length - 1 ? 13 : 6)) };
  }
  function drawPath(state) {
    const [a, b] = now.pair, path = pathTrace(), base = now.history[0].weights.length === state.weights.length ? now.history[0] : state;
    const inside = landscapeOf && path.x.every((x) => x >= landscapeOf.x[0] && x <= landscapeOf.x[40]) && path.y.every((y) => y >= landscapeOf.y[0] && y <= landscapeOf.y[40]);
    const key = JSON.stringify([a, b, base.x, base.y, base.units, base.activation, base.loss, base.weights]);
    if (landscapeOf && landscapeOf.key === key && inside) {
      Plotly.restyle(by("live-path"), { x: [path.x], y: [path.y], "marker.color": [path.colour], "marker.size": [path.size] }, [1]);
      return;
    }
    const axis = (values) => {
      const low = Math.min(...values), high = Math.max(...values), room = Math.max(0.6 * (high - low), 0.75);
      return [...Array(41).keys()].map((k) => low - room + (high - low + 2 * room) * k / 40);
    };
    const x = axis(path.x), y = axis(path.y);
    const heights = y.map((up) => x.map((across) => engine.lossOf(engine.setWeight(engine.setWeight(base, a, across), b, up))));
    const z = heights.map((row) => row.map((loss) => Math.log10(Math.max(loss, 1e-6))));
    landscapeOf = { key, x, y };
    Plotly.react(by("live-path"), [
      { type: "contour", x, y, z, colorscale: "Viridis", showscale: false, hoverinfo: "skip", contours: { coloring: "heatmap" }, line: { width: 0.6, color: "rgba(255,255,255,.45)" } },
      { type: "scatter", mode: "lines+markers", x: path.x, y: path.y, name: say("live_path_name"), line: { color: "#ff9330", width: 3 }, marker: { color: path.colour, size: path.size, line: { color: "#000000", width: 1 } }, hoverinfo: "skip" },
    ], merged({ ...plain(label(a), label(b)), showlegend: false }), PLOT);
    drawn.add("live-path");
  }
  return { render, describe };
})();
