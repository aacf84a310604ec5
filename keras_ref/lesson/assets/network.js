// The network as SVG: every weight on its edge, activations in the nodes, slopes beside the edges once they are known.
// build() makes the elements of one shape of network; refresh() writes the present numbers into them.
"use strict";
const network = (() => {
  const SVG = "http://www.w3.org/2000/svg";
  let svg = null, parts = null, places = null;

  function make(name, attributes, parent, text) {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    if (parent) parent.append(element);
    return element;
  }

  // Where everything is, in pixels of the drawing -----------------------------------------------------------------------
  function arrange(units, width, em) {
    const rows = Math.max(units, 1), gap = 6.9 * em, height = rows * gap + 1.6 * em, middle = height / 2 - 0.4 * em;
    const r = 1.55 * em, left = r + 0.4 * em, right = width - 3.4 * em;
    const nodes = { x: [left, middle], output: [right, middle] };
    for (let j = 0; j < units; j++) nodes[`unit-${j}`] = [left + 0.5 * (right - left), (j + 0.5) * gap + 0.4 * em];
    return { nodes, height, r, em, width };
  }
  function edgeOf(units, i) { // [from, to] of a kernel entry, null of a bias
    const { layer, part, unit } = engine.place(units, i);
    if (part === "bias") return null;
    return layer === "hidden" ? ["x", `unit-${unit}`] : [units ? `unit-${unit}` : "x", "output"];
  }
  const nodeOf = (units, i) => { // the node that a bias belongs to
    const { layer, unit } = engine.place(units, i);
    return layer === "hidden" ? `unit-${unit}` : "output";
  };

  // The elements ----------------------------------------------------------------------------------------------------------
  function build(target, units, editable) {
    svg = target;
    svg.replaceChildren();
    const em = parseFloat(getComputedStyle(svg).fontSize), width = Math.max(svg.clientWidth, 19 * em);
    places = arrange(units, width, em);
    svg.setAttribute("viewBox", `0 0 ${width} ${places.height}`);
    svg.style.height = `${places.height * (svg.clientWidth || width) / width}px`;
    parts = { edges: [], nodes: {}, units, editable, width: svg.clientWidth };
    const order = [...Array(engine.count(units)).keys()];
    node("x");
    for (const i of order.filter((k) => edgeOf(units, k) && engine.place(units, k).layer === "hidden")) edge(i);
    for (let j = 0; j < units; j++) { node(`unit-${j}`); bias(units + j); }
    for (const i of order.filter((k) => edgeOf(units, k) && engine.place(units, k).layer === "output")) edge(i);
    node("output");
    bias(order.length - 1);
  }
  const narrow = () => places.width < 32 * places.em; // a phone: texts are short
  function handle(i, parent) { // what can be focused and pushed
    const group = make("g", { class: "weight", "data-i": i, tabindex: 0 }, parent);
    group.setAttribute("role", parts.editable ? "slider" : "img");
    return group;
  }
  function texts(group, x, y, anchor = "middle") { // value, nudged slope, exact slope, factor: a line each
    const { em } = places, line = (name, k) => make("text", { class: name, x, y: y + k * em, "text-anchor": anchor }, group);
    return { value: line("value", 0), mine: line("mine", 0.98), theirs: line("theirs", 1.9), factor: line("factor", -1.15) };
  }
  function edge(i) {
    const [from, to] = edgeOf(parts.units, i).map((name) => places.nodes[name]);
    const { layer } = engine.place(parts.units, i), group = handle(i, svg);
    const ends = { x1: from[0] + places.r, y1: from[1], x2: to[0] - places.r, y2: to[1] };
    make("line", { ...ends, class: "hit" }, group);
    const line = make("line", { ...ends, class: "line" }, group);
    const at = parts.units === 0 || narrow() ? 0.5 : layer === "hidden" ? 0.66 : 0.34;
    const [x, y] = [ends.x1 + at * (ends.x2 - ends.x1), ends.y1 + at * (ends.y2 - ends.y1)];
    parts.edges[i] = { group, line, ...texts(group, x, y - 0.25 * places.em) };
  }
  function bias(i) {
    const [x, y] = places.nodes[nodeOf(parts.units, i)], group = handle(i, svg), { em, r } = places;
    const half = (narrow() ? 1.8 : 2.6) * em;
    const box = make("rect", { x: x - half, y: y + r + 0.15 * em, width: 2 * half, height: 1.25 * em, rx: 0.4 * em, class: "line" }, group);
    const text = (name, dx, dy, anchor) => make("text", { class: name, x: x + dx * em, y: y + r + dy * em, "text-anchor": anchor }, group);
    const factor = nodeOf(parts.units, i) === "output" ? text("factor", 3.2, -4.5, "end") : text("factor", 1.8, -2.6, "start");
    parts.edges[i] = { group, line: box, value: text("value", 0, 1.1, "middle"), mine: text("mine", -0.3, 2.35, "end"), theirs: text("theirs", 0.3, 2.35, "start"), factor };
  }
  function node(name) {
    const [x, y] = places.nodes[name], group = make("g", { class: "node", "data-node": name, tabindex: 0, role: "img" }, svg);
    make("circle", { cx: x, cy: y, r: places.r }, group);
    const value = make("text", { class: "value", x, y: y + 0.35 * places.em, "text-anchor": "middle" }, group);
    const title = make("text", { class: "name", x, y: y - places.r - 0.35 * places.em, "text-anchor": "middle" }, group);
    parts.nodes[name] = { group, value, title };
  }

  // The present numbers -----------------------------------------------------------------------------------------------------
  // view: { state, sample, label(i), describe(what), nudged[i], exact[i], factors {i: text}, chosen, active: Set of i, names }
  function refresh(target, view) {
    const { state } = view, width = target.clientWidth;
    if (svg !== target || !parts || parts.units !== state.units || parts.width !== width) build(target, state.units, true);
    const run = engine.forward(state, view.sample), dead = new Set(engine.deadUnits(state));
    const largest = Math.max(...state.weights.map(Math.abs), 1e-9);
    state.weights.forEach((weight, i) => {
      const part = parts.edges[i], { layer, unit } = engine.place(state.units, i);
      const off = state.units > 0 && dead.has(unit) && !(layer === "output" && i === state.weights.length - 1);
      part.line.style.strokeWidth = edgeOf(state.units, i) ? 1 + 6 * Math.min(Math.abs(weight) / largest, 1) : "";
      part.group.setAttribute("class", `weight ${edgeOf(state.units, i) ? "edge" : "bias"} ${weight < 0 ? "minus" : "plus"}${off ? " dead" : ""}${i === view.chosen ? " chosen" : ""}${view.active.has(i) ? " active" : ""}`);
      part.value.textContent = brief(weight);
      part.mine.textContent = view.nudged[i] === undefined ? "" : brief(view.nudged[i]);
      part.theirs.textContent = view.exact[i] === undefined ? "" : brief(view.exact[i]);
      part.factor.textContent = narrow() ? (view.factors[i] || "").replace(/^(×)?.*= /, "$1 ") : view.factors[i] || "";
      part.group.setAttribute("aria-label", `${view.label(i)}: ${view.describe(i)}`);
      part.group.setAttribute("aria-valuenow", weight);
      part.group.setAttribute("aria-valuetext", view.spoken(i));
    });
    const values = { x: run.x, output: run.prediction, ...Object.fromEntries(run.a.map((a, j) => [`unit-${j}`, a])) };
    for (const [name, part] of Object.entries(parts.nodes)) {
      part.value.textContent = brief(values[name]);
      part.title.textContent = view.names(name);
      const off = name.startsWith("unit-") && dead.has(Number(name.slice(5)));
      part.group.setAttribute("class", `node${off ? " dead" : ""}`);
      part.group.setAttribute("aria-label", `${view.names(name)}: ${view.describe(name)}`);
    }
  }
  function brief(value) { // four characters or so: what fits on an edge
    if (!Number.isFinite(value)) return "∞";
    const size = Math.abs(value);
    if (size !== 0 && (size < 0.001 || size >= 10000)) return value.toExponential(1).replace("e+", "e");
    return String(Number(value.toPrecision(3))).replace("-", "−");
  }

  // Other models of Dense layers, or of any: drawn once, not edited -------------------------------------------------------------
  // layers: [{ name, text, units, kernel: rows or null, bias }], at most LARGEST nodes in a layer, else a box
  const LARGEST = 8;
  function drawModel(target, layers) {
    const em = parseFloat(getComputedStyle(target).fontSize), width = Math.max(target.clientWidth, (layers.length + 1) * 7 * em);
    const inputs = layers[0].kernel ? layers[0].kernel.length : 1;
    const small = layers.every((layer) => layer.kernel && layer.units <= LARGEST) && inputs <= LARGEST;
    const columns = small ? [inputs, ...layers.map((layer) => layer.units)] : layers.map(() => 1);
    const gap = (small ? 3.4 : 5) * em, height = Math.max(...columns) * gap + 2.5 * em;
    const at = (c, j) => [(c + 0.5) * width / columns.length, height / 2 + 0.6 * em + (j - (columns[c] - 1) / 2) * gap];
    target.replaceChildren();
    target.setAttribute("viewBox", `0 0 ${width} ${height}`);
    target.style.height = `${height}px`;
    target.style.minWidth = `${width}px`;
    if (!small) {
      layers.forEach((layer, c) => {
        const [x, y] = at(c, 0), half = width / columns.length / 2 - 0.6 * em;
        if (c) make("line", { x1: at(c - 1, 0)[0] + half, y1: y, x2: x - half, y2: y, class: "line" }, target);
        make("rect", { x: x - half, y: y - 1.8 * em, width: 2 * half, height: 3.6 * em, rx: 0.6 * em, class: "box" }, target);
        make("text", { x, y: y - 0.2 * em, "text-anchor": "middle", class: "value" }, target, layer.name);
        make("text", { x, y: y + 1.1 * em, "text-anchor": "middle", class: "name" }, target, layer.text);
      });
      return;
    }
    layers.forEach((layer, c) => {
      const largest = Math.max(...layer.kernel.flat().map(Math.abs), 1e-9);
      layer.kernel.forEach((row, i) => row.forEach((weight, j) => {
        const [x1, y1] = at(c, i), [x2, y2] = at(c + 1, j);
        const group = make("g", { class: `weight edge ${weight < 0 ? "minus" : "plus"}` }, target);
        make("line", { x1: x1 + 1.3 * em, y1, x2: x2 - 1.3 * em, y2, class: "line" }, group).style.strokeWidth = 1 + 5 * Math.abs(weight) / largest;
        make("title", {}, group, `${layer.name}/kernel[${i}, ${j}] = ${weight}`);
      }));
    });
    columns.forEach((units, c) => {
      for (let j = 0; j < units; j++) {
        const [x, y] = at(c, j), group = make("g", { class: "node" }, target);
        make("circle", { cx: x, cy: y, r: 1.3 * em }, group);
        make("text", { class: "value", x, y: y + 0.35 * em, "text-anchor": "middle" }, group, c ? brief(layers[c - 1].bias[j] || 0) : `x${j + 1}`);
      }
      make("text", { class: "name", x: at(c, 0)[0], y: 1.1 * em, "text-anchor": "middle" }, target, c ? `${layers[c - 1].name}, ${layers[c - 1].text}` : "input");
    });
  }
  return { refresh, brief, drawModel, edgeOf, nodeOf };
})();
