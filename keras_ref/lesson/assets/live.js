// The live part: one present state, its history, and what the reader does to it. All numbers come from engine.js.
"use strict";
const live = (() => {
  const record = JSON.parse(document.getElementById("live-record").textContent); // { start, names, pair, recipes, exercise } or null
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  const LONGEST = 2000, DIVERGED = 1e12;

  // What there is: the history of states and which one is present; what the reader looks at -------------------------------
  const now = { history: [], at: 0, sample: 0, chosen: 0, turn: 0, chainNext: false, nudged: new Set(), exact: new Set(), lit: null, reveal: 0, timer: null, revealing: null, pair: [0, 1] };
  const present = () => now.history[now.at];
  const number = (value, digits = 6) => shown(Number.isFinite(value) ? value : null, digits);
  function label(i, state = present()) { // Keras's name of the weight
    const { layer, part, unit } = engine.place(state.units, i), name = layer === "hidden" ? record.names.hidden : state.units ? record.names.output : record.names.only;
    if (state.units < 2 || (layer === "output" && part === "bias")) return `${name}/${part}`;
    return part === "bias" ? `${name}/bias[${unit}]` : layer === "hidden" ? `${name}/kernel[0, ${unit}]` : `${name}/kernel[${unit}, 0]`;
  }
  function message(text, warn = false) {
    by("live-message").textContent = text;
    by("live-message").classList.toggle("warn", warn);
  }

  // Changes: each makes a new present state, or says why not -----------------------------------------------------------------
  function edit(state, text) { // replaces the present state; the epochs after it are gone
    if (!engine.finite(state)) { message(say("said_overflow"), true); render(); return false; }
    now.history = [...now.history.slice(0, now.at), state];
    if (now.sample >= state.x.length) now.sample = 0;
    settle(state);
    if (text) message(text);
    render();
    return true;
  }
  function settle(state) { // what is looked at must exist
    const count = state.weights.length;
    if (now.chosen >= count) now.chosen = 0;
    if (now.turn >= count) { now.turn = 0; now.chainNext = false; }
    now.pair = now.pair.map((i, k) => (i < count ? i : k ? count - 1 : 0));
    for (const known of [now.nudged, now.exact]) for (const i of [...known]) if (i >= count) known.delete(i);
    if (now.lit !== null && now.lit >= count) now.lit = null;
  }
  function load(state, text, warn = false) { // a new beginning
    pause();
    Object.assign(now, { history: [state], at: 0, sample: 0, turn: 0, chainNext: false, lit: null, pair: record.pair.slice() });
    now.nudged.clear();
    now.exact.clear();
    settle(state);
    message(text, warn);
    render();
  }
  function pushWeight(i, value) {
    now.chosen = i;
    return edit(engine.setWeight(present(), i, value), say("said_edit", { what: label(i), value: number(value), loss: number(engine.lossOf(engine.setWeight(present(), i, value))) }));
  }
  function typedNumber(text) { // a decimal comma and a real minus are taken too
    const plain = text.trim().replace("−", "-").replace(/^(-?\d*),(\d+)$/, "$1.$2");
    return plain === "" ? NaN : Number(plain);
  }

  // Nudge, then back-propagate, one weight after another -------------------------------------------------------------------------
  function nudgeOrChain() {
    const i = now.turn, state = present();
    now.chosen = i;
    if (!now.chainNext) {
      const { before, after, change, slope } = engine.nudge(state, i);
      now.nudged.add(i);
      now.lit = null;
      message(say("said_nudged", { weight: label(i), nudge: number(state.nudge, 3), before: number(before, 10), after: number(after, 10), change: number(change, 4), slope: number(slope, 8) }));
    } else {
      now.exact.add(i);
      now.lit = i;
      unveil(engine.factors(state, i, now.sample).length);
      message(say("said_chain", { weight: label(i), factors: engine.factors(state, i, now.sample).map((f) => factorText(f)).join(" "), exact: number(engine.backpropagate(state)[i], 8), slope: number(engine.nudge(state, i).slope, 8) }));
      now.turn = (i + 1) % state.weights.length;
    }
    now.chainNext = !now.chainNext;
    render();
  }
  function unveil(count) { // backwards along the edges, one factor after the other
    clearInterval(now.revealing);
    now.reveal = calm.matches ? count : 1;
    if (!calm.matches) now.revealing = setInterval(() => {
      now.reveal += 1;
      if (now.reveal >= count) clearInterval(now.revealing);
      render();
    }, 350);
  }
  function all() {
    present().weights.forEach((_, i) => { now.nudged.add(i); now.exact.add(i); });
    now.lit = now.chosen;
    now.reveal = 9;
    message(say("said_all"));
    render();
  }
  const factorText = (f) => ({ loss: "∂L/∂ŷ", kernel: "× w", activation: "× f′(z)", unit: "× a", x: "× x" }[f.of] + ` = ${network.brief(f.value)}`);
  function factorPlaces() { // {weight whose edge carries the text: text}
    if (now.lit === null) return {};
    const state = present(), n = state.units;
    return Object.fromEntries(engine.factors(state, now.lit, now.sample).slice(0, now.reveal).map((f) => [
      f.of === "loss" ? state.weights.length - 1 : f.of === "kernel" ? 2 * n + f.unit : f.of === "activation" ? n + f.unit : now.lit, factorText(f)]));
  }

  // Step, run, back, reset --------------------------------------------------------------------------------------------------------
  function stepOnce() { // false where the training has come to an end
    const state = present(), before = engine.lossOf(state);
    const next = engine.step(state, by("set-slopes").value === "exact" ? engine.backpropagate : engine.nudgeAll);
    if (!engine.finite(next)) { message(say("said_overflow"), true); return false; }
    const after = engine.lossOf(next), epoch = next.epoch;
    const dead = new Set(engine.deadUnits(state)), dying = engine.deadUnits(next).filter((j) => !dead.has(j));
    now.history = [...now.history.slice(0, now.at + 1), next];
    now.at += 1;
    const told = { epoch, before: number(before), after: number(after) };
    if (after > DIVERGED * Math.max(engine.lossOf(now.history[0]), Number.MIN_VALUE)) { message(say("said_diverges", told), true); return false; }
    if (dying.length) message(say("said_dies", { ...told, units: dying.map((j) => say("name_unit", { unit: j + 1 })).join(", ") }), true);
    else if (after > before) message(say("said_higher", told), true);
    else message(say("said_step", told));
    return now.history.length <= LONGEST;
  }
  function pause() {
    clearInterval(now.timer);
    now.timer = null;
    by("live-run").textContent = say("live_run");
  }
  function run() {
    if (now.timer !== null) { pause(); return; }
    by("live-message").setAttribute("aria-live", "off"); // not every epoch is read aloud
    if (calm.matches) { for (let k = 0; k < 100 && stepOnce(); k++); by("live-message").setAttribute("aria-live", "polite"); render(); return; }
    by("live-run").textContent = say("live_pause");
    now.timer = setInterval(() => {
      const going = stepOnce();
      if (!going) { pause(); by("live-message").setAttribute("aria-live", "polite"); }
      render();
    }, 80);
  }
  function goTo(at) {
    pause();
    now.at = Math.max(0, Math.min(at, now.history.length - 1));
    settle(present());
    message(say("said_back", { epoch: present().epoch }));
    render();
  }
  const reset = () => load(engine.begin(record.start), say("said_reset"));

  // Why: each sets the situation up ------------------------------------------------------------------------------------------------
  const book = () => engine.begin({ ...record.recipes.recipe1, units: 0 });
  const WHY = {
    kink: () => [engine.begin({ ...book(), units: 1, weights: [0, 0, 1, 0] }), 0],
    dead: () => [engine.step(engine.begin(record.recipes.recipe2)), 0],
    large: () => [engine.set(book(), "rate", 0.2), 8],
    rounding: () => [engine.set(book(), "nudge", 1e-12), 0],
  };
  function why(name) {
    const [state, epochs] = WHY[name]();
    load(state, "");
    all();
    now.chosen = 0;
    for (let k = 0; k < epochs; k++) stepOnce();
    message(say(`because_${name}`));
    by("live-because").textContent = say(`because_${name}`);
    render();
  }

  // A table of samples -----------------------------------------------------------------------------------------------------------------
  function readTable(text) { // { x, y } or { bad: sentence }
    const lines = text.split(/\r?\n/).map((line) => line.trim()).filter((line) => line && !/^x\s*[\t,; ]\s*y$/i.test(line));
    if (!lines.length) return { bad: say("bad_empty") };
    if (lines.length > engine.MAX_SAMPLES) return { bad: say("bad_many", { most: engine.MAX_SAMPLES, count: lines.length }) };
    const x = [], y = [];
    for (const [k, line] of lines.entries()) {
      const cells = line.split(/[\t;]/.test(line) ? /\s*[\t;]\s*/ : /\s*,\s*|\s+/).map(typedNumber);
      if (cells.length !== 2 || !cells.every(Number.isFinite)) return { bad: say("bad_line", { line: k + 1, text: line.slice(0, 40) }) };
      x.push(cells[0]);
      y.push(cells[1]);
    }
    return { x, y };
  }
  function useSamples(x, y) {
    const state = engine.setSamples(present(), x, y);
    return edit(state, say("said_samples", { count: x.length, loss: number(engine.lossOf(state)) }));
  }

  // A link that restores the state -------------------------------------------------------------------------------------------------------
  const FIELDS = ["units", "activation", "loss", "optimizer", "rate", "nudge", "batch", "x", "y", "weights", "slots", "iterations", "epoch"];
  function sumOf(text) { // FNV-1a, 32 bits: one changed character changes it
    let sum = 0x811c9dc5;
    for (const character of text) sum = Math.imul(sum ^ character.charCodeAt(0), 0x01000193) >>> 0;
    return sum.toString(36);
  }
  function writeLink(state) {
    const text = btoa(JSON.stringify(FIELDS.map((name) => state[name]))).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
    return `#try=${sumOf(text)}.${text}`;
  }
  function readLink(hash) { // a state, or null where the link is damaged
    const [, sum, text] = /^#try=([0-9a-z]+)\.([\w-]+)$/.exec(hash) || [];
    if (!text || sumOf(text) !== sum) return null;
    try {
      const values = JSON.parse(atob(text.replaceAll("-", "+").replaceAll("_", "/")));
      const state = Object.fromEntries(FIELDS.map((name, k) => [name, values[k]]));
      return legal(state) ? state : null;
    } catch { return null; } // not base64, or no JSON
  }
  function legal(s) {
    const numbers = (list) => Array.isArray(list) && list.every(Number.isFinite);
    const whole = (value, least, most) => Number.isInteger(value) && value >= least && value <= most;
    return whole(s.units, 0, engine.MAX_UNITS) && Object.hasOwn(engine.ACTIVATIONS, s.activation) && Object.hasOwn(engine.LOSSES, s.loss)
      && Object.hasOwn(engine.OPTIMIZERS, s.optimizer) && Number.isFinite(s.rate) && s.rate >= 0 && Number.isFinite(s.nudge) && s.nudge > 0
      && numbers(s.x) && numbers(s.y) && s.x.length === s.y.length && whole(s.x.length, 1, engine.MAX_SAMPLES) && whole(s.batch, 0, s.x.length)
      && numbers(s.weights) && s.weights.length === engine.count(s.units) && whole(s.iterations, 0, 1e9) && whole(s.epoch, 0, 1e9)
      && typeof s.slots === "object" && s.slots !== null
      && engine.OPTIMIZERS[s.optimizer].slots.every((name) => numbers(s.slots[name]) && s.slots[name].length === s.weights.length) && engine.finite(s);
  }

  let render = () => {}; // liveview.js draws
  return {
    record, now, present, number, label, message, edit, load, pushWeight, typedNumber, nudgeOrChain, all, stepOnce, run, pause, goTo, reset,
    why, WHY, readTable, useSamples, writeLink, readLink, factorText, factorPlaces, calm,
    drawnBy(draw) { render = draw; }, render: () => render(),
  };
})();
