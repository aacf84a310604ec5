// The present network as a program that stands on its own: NumPy, Keras, or both in a notebook.
"use strict";
const programs = (() => {
  const list = (values) => `[${values.join(", ")}]`;
  const column = (values) => `[${values.map((v) => `[${v}]`).join(", ")}]`;
  const float = (value) => (Number.isInteger(value) ? `${value}.0` : String(value));
  function arrays(state) { // [kernel, bias, kernel, bias, …] as scratch/recipe.py has them
    const n = state.units, w = state.weights.map(float);
    if (n === 0) return `[[[${w[0]}]], [${w[1]}]]`;
    return `[\n    [${list(w.slice(0, n))}],\n    ${list(w.slice(n, 2 * n))},\n    ${column(w.slice(2 * n, 3 * n))},\n    [${w[3 * n]}],\n]`;
  }
  const data = (state) => `INPUTS = ${column(state.x.map(float))}
OUTPUTS = ${column(state.y.map(float))}
WEIGHTS = ${arrays(state)}
LEARNING_RATE, BATCH = ${float(state.rate)}, ${state.batch || state.x.length}`;
  const PRINT = (names) => `NAMES = ${JSON.stringify(names)}


def show(title, arrays):
    for name, value in zip(NAMES, np.concatenate([np.ravel(array) for array in arrays])):
        print(f"{title} {name} {value:.10g}")
`;

  // NumPy, without calculus --------------------------------------------------------------------------------------------------
  const ACTIVATION = { linear: "z", relu: "np.maximum(z, 0)", leaky_relu: "np.where(z > 0, z, 0.2 * z)", tanh: "np.tanh(z)", sigmoid: "1 / (1 + np.exp(-z))" };
  const LOSS = { squared: "np.square(signal - outputs)", absolute: "np.abs(signal - outputs)" };
  const RULE = {
    sgd: "    return weight - LEARNING_RATE * slope",
    momentum: `    slots["momentum"] = 0.9 * slots.get("momentum", 0) - LEARNING_RATE * slope
    return weight + slots["momentum"]`,
    rmsprop: `    slots["velocity"] = 0.9 * slots.get("velocity", 0) + 0.1 * slope**2
    return weight - LEARNING_RATE * slope / np.sqrt(slots["velocity"] + 1e-7)`,
    adam: `    slots["momentum"] = m = 0.9 * slots.get("momentum", 0) + 0.1 * slope
    slots["velocity"] = v = 0.999 * slots.get("velocity", 0) + 0.001 * slope**2
    corrected = np.sqrt(1 - 0.999**k) / (1 - 0.9**k)
    return weight - LEARNING_RATE * corrected * m / (np.sqrt(v) + 1e-7)`,
  };
  const numpy = (state, names) => `"""A network trained without calculus: nudge every weight, look at the loss, step."""

import numpy as np

${data(state)}
NUDGE = ${state.nudge}
${PRINT(names)}

def feed_forward(inputs, outputs, weights):
    """The loss of every sample."""
    signal = inputs
    for layer in range(0, len(weights), 2):
        z = signal @ weights[layer] + weights[layer + 1]
        signal = ${ACTIVATION[state.activation]} if layer + 2 < len(weights) else z
    return ${LOSS[state.loss]}


def nudge_every_weight(inputs, outputs, weights):
    """The slope of each weight: the mean change of the loss, divided by the nudge."""
    before, slopes = feed_forward(inputs, outputs, weights), [np.zeros_like(weight) for weight in weights]
    for i, weight in enumerate(weights):
        for entry in np.ndindex(weight.shape):
            nudged = [other.copy() for other in weights]
            nudged[i][entry] += NUDGE
            slopes[i][entry] = np.mean(feed_forward(inputs, outputs, nudged) - before) / NUDGE
    return slopes


def update(weight, slope, slots, k):
    """The weight after step k, counted from 1."""
${RULE[state.optimizer]}


x, y = np.array(INPUTS), np.array(OUTPUTS)
weights = [np.array(weight) for weight in WEIGHTS]
print(f"loss {np.mean(feed_forward(x, y, weights)):.10g}")
show("nudged slope of", nudge_every_weight(x, y, weights))
slots = [{} for weight in weights]
for k, start in enumerate(range(0, len(x), BATCH), start=1):
    batch = slice(start, start + BATCH)
    slopes = nudge_every_weight(x[batch], y[batch], weights)
    weights = [update(*parts, k) for parts in zip(weights, slopes, slots)]
show("after one epoch:", weights)
`;

  // Keras, back-propagation -----------------------------------------------------------------------------------------------------
  const OPTIMIZER = { // Keras would round a plain 0.9 to float32
    sgd: "SGD(LEARNING_RATE)",
    momentum: "SGD(LEARNING_RATE, momentum=np.float64(0.9))",
    rmsprop: "RMSprop(LEARNING_RATE)",
    adam: "Adam(LEARNING_RATE, beta_1=np.float64(0.9), beta_2=np.float64(0.999))",
  };
  const KERAS_ACTIVATION = { leaky_relu: "lambda z: tf.where(z > 0, z, 0.2 * z)" }; // TensorFlow's own keeps 0.2 in float32
  const keras = (state, names) => `"""The same network in Keras, trained by back-propagation, in float64."""

import keras
import numpy as np
import tensorflow as tf

keras.config.set_floatx("float64")
keras.config.set_dtype_policy("float64")
${data(state)}
${PRINT(names)}

layers = [${state.units ? `keras.layers.Dense(${state.units}, activation=${KERAS_ACTIVATION[state.activation] || `"${state.activation}"`}), ` : ""}keras.layers.Dense(1)]
model = keras.Sequential([keras.Input((1,)), *layers])
model.set_weights([np.array(weight) for weight in WEIGHTS])
model.compile(optimizer=keras.optimizers.${OPTIMIZER[state.optimizer]}, loss="${state.loss === "squared" ? "mse" : "mae"}")

x, y = np.array(INPUTS), np.array(OUTPUTS)
with tf.GradientTape() as tape:
    loss = model.compute_loss(x, y, model(x))
print(f"loss {float(loss):.10g}")
show("back-propagation of", tape.gradient(loss, model.trainable_variables))
for start in range(0, len(x), BATCH):
    model.train_on_batch(x[start : start + BATCH], y[start : start + BATCH])
show("after one epoch:", model.get_weights())
`;

  function notebook(state, names) {
    const lines = (text) => text.match(/[^\n]*\n|[^\n]+$/g);
    const text = (id, source) => ({ cell_type: "markdown", id, metadata: {}, source: lines(source) });
    const code = (id, source) => ({ cell_type: "code", id, metadata: {}, execution_count: null, outputs: [], source: lines(source) });
    return JSON.stringify({
      cells: [text("numpy-text", "# Nudge every weight\n"), code("numpy", numpy(state, names)), text("keras-text", "# Back-propagate\n"), code("keras", keras(state, names))],
      metadata: { kernelspec: { name: "python3", display_name: "Python 3", language: "python" }, language_info: { name: "python" } },
      nbformat: 4, nbformat_minor: 5,
    }, null, 1);
  }
  return { numpy, keras, notebook };
})();
