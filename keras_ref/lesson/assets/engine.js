// The networks of scratch/recipe.py, computed in the page: one input, 0 to 6 hidden units, one output.
// Pure functions over a plain object, the state; none of them changes its argument.
//
//   state = { units, activation, loss, optimizer, rate, nudge, batch, x, y, weights, slots, iterations, epoch }
//   x, y       numbers, one per sample
//   weights    without hidden units [kernel, bias]; with n of them [n kernels, n biases, n kernels, bias]
//   batch      samples of a training step, taken in order; 0 for all of them
//   slots      what the optimizer remembers: arrays as long as weights;   iterations  its steps so far
"use strict";
const engine = (() => {
  const MAX_UNITS = 6, MAX_SAMPLES = 64, EPSILON = 2 ** -52;

  // The parts to choose from: a function and its derivative ---------------------------------------------------------
  const sigmoid = (z) => (z > 0 ? 1 / (1 + Math.exp(-z)) : Math.exp(z) / (1 + Math.exp(z)));
  const ACTIVATIONS = {
    linear: { of: (z) => z, slope: () => 1 },
    relu: { of: (z) => Math.max(z, 0), slope: (z) => (z > 0 ? 1 : 0), bends: true },
    leaky_relu: { of: (z) => (z > 0 ? z : 0.2 * z), slope: (z) => (z > 0 ? 1 : 0.2), bends: true },
    tanh: { of: Math.tanh, slope: (z) => 1 / Math.cosh(z) ** 2 }, // = 1 - tanh², which loses digits near 1
    sigmoid: { of: sigmoid, slope: (z) => sigmoid(z) * sigmoid(-z) }, // = s · (1 - s), likewise
  };
  const LOSSES = { // of the error, prediction - y
    squared: { of: (error) => error * error, slope: (error) => 2 * error },
    absolute: { of: Math.abs, slope: Math.sign, bends: true },
  };
  const OPTIMIZERS = { // (weight, gradient, old slots, rate, step counted from 1) → [weight, new slots]
    sgd: { slots: [], update: (w, g, s, rate) => [w - rate * g, {}] },
    momentum: {
      slots: ["momentum"],
      update: (w, g, s, rate) => { const m = 0.9 * s.momentum - rate * g; return [w + m, { momentum: m }]; },
    },
    rmsprop: {
      slots: ["velocity"],
      update: (w, g, s, rate) => {
        const v = 0.9 * s.velocity + (1 - 0.9) * g * g;
        return [w - rate * g / Math.sqrt(v + 1e-7), { velocity: v }];
      },
    },
    adam: {
      slots: ["momentum", "velocity"],
      update: (w, g, s, rate, k) => {
        const m = 0.9 * s.momentum + (1 - 0.9) * g, v = 0.999 * s.velocity + (1 - 0.999) * g * g;
        const corrected = Math.sqrt(1 - 0.999 ** k) / (1 - 0.9 ** k);
        return [w - rate * corrected * m / (Math.sqrt(v) + 1e-7), { momentum: m, velocity: v }];
      },
    },
  };

  // Where a weight is in the flat list -------------------------------------------------------------------------------
  function place(units, i) { // { layer, part, unit } of weight i
    if (units === 0) return { layer: "output", part: i === 0 ? "kernel" : "bias", unit: 0 };
    if (i === 3 * units) return { layer: "output", part: "bias", unit: 0 };
    return { layer: i < 2 * units ? "hidden" : "output", part: Math.floor(i / units) === 1 ? "bias" : "kernel", unit: i % units };
  }
  const count = (units) => (units === 0 ? 2 : 3 * units + 1);

  // Forward ------------------------------------------------------------------------------------------------------------
  function forward(state, sample, weights = state.weights) { // one sample through the network
    const n = state.units, x = state.x[sample], y = state.y[sample];
    const z = [], a = [];
    let prediction = 0;
    if (n === 0) prediction = x * weights[0];
    for (let j = 0; j < n; j++) {
      z.push(x * weights[j] + weights[n + j]);
      a.push(ACTIVATIONS[state.activation].of(z[j]));
      prediction += a[j] * weights[2 * n + j];
    }
    prediction += weights[weights.length - 1];
    const error = prediction - y;
    return { x, y, z, a, prediction, error, loss: LOSSES[state.loss].of(error) };
  }
  const everySample = (state) => state.x.map((_, sample) => sample);
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const lossOf = (state, weights = state.weights, samples = everySample(state)) =>
    mean(samples.map((sample) => forward(state, sample, weights).loss));

  // Backward without calculus: nudge one weight, look at the loss, divide ----------------------------------------------
  function pushed(weights, i, by) {
    const moved = weights.slice();
    moved[i] += by;
    return moved;
  }
  function nudge(state, i, samples = everySample(state)) {
    const moved = pushed(state.weights, i, state.nudge);
    const change = mean(samples.map((s) => forward(state, s, moved).loss - forward(state, s).loss));
    return { before: lossOf(state, state.weights, samples), after: lossOf(state, moved, samples), change, slope: change / state.nudge };
  }
  const nudgeAll = (state, samples) => state.weights.map((_, i) => nudge(state, i, samples).slope);

  // Backward with the chain rule: from the loss to weight i, factor by factor -------------------------------------------
  function factors(state, i, sample, samples = everySample(state)) { // their product is this sample's part of the gradient
    const run = forward(state, sample), { layer, part, unit } = place(state.units, i), n = state.units;
    const found = [{ of: "loss", value: LOSSES[state.loss].slope(run.error) / samples.length }];
    if (layer === "hidden") {
      found.push({ of: "kernel", unit, value: state.weights[2 * n + unit] });
      found.push({ of: "activation", unit, value: ACTIVATIONS[state.activation].slope(run.z[unit]) });
    }
    if (part === "kernel") found.push(layer === "output" && n > 0 ? { of: "unit", unit, value: run.a[unit] } : { of: "x", value: run.x });
    return found;
  }
  const product = (parts) => parts.reduce((all, part) => all * part.value, 1);
  function backpropagate(state, samples = everySample(state)) { // the gradient: one number per weight
    return state.weights.map((_, i) => samples.reduce((sum, s) => sum + product(factors(state, i, s, samples)), 0));
  }

  // Why the two differ ---------------------------------------------------------------------------------------------------
  function difference(state, i) { // { nudged, exact, difference, curvature, rounding, reason }
    const { before, after, slope } = nudge(state, i), exact = backpropagate(state)[i], h = state.nudge;
    const below = lossOf(state, pushed(state.weights, i, -h));
    const curvature = (after - 2 * before + below) / h / 2; // h/2 · f″, measured
    const moved = pushed(state.weights, i, h);
    // each of the losses that are subtracted is off by some units in its last place
    const scale = (r) => r.loss + Math.abs(LOSSES[state.loss].slope(r.error)) * (Math.abs(r.prediction) + Math.abs(r.y));
    const rounding = 8 * EPSILON * mean(everySample(state).map((s) => scale(forward(state, s)))) / h;
    const found = { nudged: slope, exact, difference: slope - exact, curvature, rounding };
    const gap = Math.abs(slope - exact);
    if (slope === 0 && exact === 0) return { ...found, reason: "flat" };
    if (!Number.isFinite(gap)) return { ...found, reason: "overflow" };
    if (crossesKink(state, moved)) return { ...found, reason: "kink" };
    if (gap > rounding) return { ...found, reason: "curvature" };
    return { ...found, reason: rounding > 1e-6 * Math.abs(exact) ? "rounding" : "straight" }; // fewer than six digits, or more
  }
  function crossesKink(state, moved) { // does any bend lie between the weights and the moved ones, or at either?
    return everySample(state).some((s) => {
      const from = forward(state, s), to = forward(state, s, moved);
      const bends = ACTIVATIONS[state.activation].bends && from.z.some((z, j) => z !== to.z[j] && (z > 0) !== (to.z[j] > 0));
      return bends || (LOSSES[state.loss].bends && from.error !== to.error && Math.sign(from.error) !== Math.sign(to.error));
    });
  }

  // Step -----------------------------------------------------------------------------------------------------------------
  function fresh(optimizer, length) {
    return Object.fromEntries(OPTIMIZERS[optimizer].slots.map((name) => [name, new Array(length).fill(0)]));
  }
  function update(state, gradient) { // one training step along a gradient
    const { slots: names, update: rule } = OPTIMIZERS[state.optimizer];
    const weights = [], slots = fresh(state.optimizer, state.weights.length);
    state.weights.forEach((weight, i) => {
      const old = Object.fromEntries(names.map((name) => [name, state.slots[name][i]]));
      const [moved, kept] = rule(weight, gradient[i], old, state.rate, state.iterations + 1);
      weights.push(moved);
      for (const name of names) slots[name][i] = kept[name];
    });
    return { ...state, weights, slots, iterations: state.iterations + 1 };
  }
  function step(state, slopes = nudgeAll) { // one epoch: every batch, in order; slopes is nudgeAll or backpropagate
    const all = everySample(state), size = state.batch || all.length;
    let now = state;
    for (let start = 0; start < all.length; start += size) now = update(now, slopes(now, all.slice(start, start + size)));
    return { ...now, epoch: state.epoch + 1 };
  }

  // What has happened ----------------------------------------------------------------------------------------------------
  const finite = (state) => state.weights.every(Number.isFinite) && Number.isFinite(lossOf(state));
  function deadUnits(state) { // ReLU units that are 0 for all samples
    if (state.activation !== "relu") return [];
    const runs = everySample(state).map((s) => forward(state, s));
    return [...Array(state.units).keys()].filter((j) => runs.every((run) => !(run.z[j] > 0)));
  }

  // Edits: a new state ---------------------------------------------------------------------------------------------------
  function begin(given) { // a state whose optimizer has not begun
    return { ...given, slots: fresh(given.optimizer, given.weights.length), iterations: 0, epoch: 0 };
  }
  function setWeight(state, i, value) { return { ...state, weights: state.weights.map((w, k) => (k === i ? value : w)) }; }
  function setSample(state, sample, x, y) {
    return { ...state, x: state.x.map((v, k) => (k === sample ? x : v)), y: state.y.map((v, k) => (k === sample ? y : v)) };
  }
  function setSamples(state, x, y) { return { ...state, x, y, batch: state.batch >= x.length ? 0 : state.batch }; }
  function set(state, name, value) { // a choice; another optimizer begins anew
    const changed = { ...state, [name]: value };
    return name === "optimizer" ? { ...changed, slots: fresh(value, state.weights.length), iterations: 0 } : changed;
  }
  function setUnits(state, units) { // the first units stay; new ones get small weights of both signs
    const n = state.units, old = state.weights, bias = old[old.length - 1];
    const each = (offset, made) => [...Array(units).keys()].map((j) => (j < n ? old[offset + j] : made(j)));
    const sign = (j) => (j % 2 ? -1 : 1);
    const weights = units === 0 ? [n === 0 ? old[0] : 1, bias]
      : [...each(0, (j) => sign(j) * (6 + j) / 8), ...each(n, () => 0), ...each(2 * n, (j) => sign(j) * (3 + j) / 8), bias];
    return { ...state, units, weights, slots: fresh(state.optimizer, weights.length), iterations: 0 };
  }

  return {
    MAX_UNITS, MAX_SAMPLES, ACTIVATIONS, LOSSES, OPTIMIZERS, place, count, forward, lossOf, nudge, nudgeAll, factors, product,
    backpropagate, difference, crossesKink, update, step, finite, deadUnits, begin, setWeight, setSample, setSamples, set, setUnits, everySample, pushed,
  };
})();
