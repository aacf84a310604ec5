"""A network of Dense layers, trained twice without any of our engines: slopes by nudging, and gradients by the chain
rule.

ReLU between the layers; mean squared error of a linear output, or crossentropy of a softmax. What the lesson's page
shows is compared with this.
"""

from dataclasses import dataclass

import numpy as np

H = 1e-4


@dataclass(frozen=True)
class Network:
    """Data, start weights [kernel, bias, kernel, bias, …], learning rate, and whether the output is a softmax."""

    x: np.ndarray
    y: np.ndarray
    weights: tuple
    rate: float
    softmax: bool = False

    @classmethod
    def of(cls, x, y, weights, rate, softmax=False):
        return cls(
            np.asarray(x, float), np.asarray(y, float), tuple(np.asarray(w, float) for w in weights), rate, softmax
        )

    def signals(self, weights):
        """What goes into each layer, and the output before its softmax."""
        found = [self.x]
        for i in range(0, len(weights), 2):
            found.append((found[-1] if i == 0 else np.maximum(found[-1], 0)) @ weights[i] + weights[i + 1])
        return found

    def loss(self, weights):
        out = self.signals(weights)[-1]
        if self.softmax:
            out = out - out.max(axis=1, keepdims=True)
            return float(np.mean(np.log(np.sum(np.exp(out), axis=1)) - np.sum(self.y * out, axis=1)))
        return float(np.mean(np.square(out - self.y)))

    def chain_rule(self, weights):
        """Gradients by hand."""
        signals = self.signals(weights)
        out = signals[-1]
        share = np.exp(out) / np.sum(np.exp(out), axis=1, keepdims=True)
        upstream = (share - self.y) / len(self.x) if self.softmax else 2 * (out - self.y) / out.size
        found = [None] * len(weights)
        for i in reversed(range(0, len(weights), 2)):
            into = signals[i // 2] if i == 0 else np.maximum(signals[i // 2], 0)
            found[i], found[i + 1] = into.T @ upstream, upstream.sum(axis=0)
            upstream = (upstream @ weights[i].T) * (signals[i // 2] > 0)
        return found

    def nudged(self, weights, h=H):
        """Slopes: each weight pushed by h, change of the loss over h."""
        base, found = self.loss(weights), []
        for i, weight in enumerate(weights):
            slope = np.zeros_like(weight)
            for entry in np.ndindex(weight.shape):
                pushed = [w.copy() for w in weights]
                pushed[i][entry] += h
                slope[entry] = (self.loss(pushed) - base) / h
            found.append(slope)
        return found

    def path(self, epochs, slopes, rate=None):
        """Weights before the first epoch and after each, stepping against `slopes` (a function of the weights)."""
        rate, found = self.rate if rate is None else rate, [list(self.weights)]
        for _ in range(epochs):
            found.append([w - rate * g for w, g in zip(found[-1], slopes(found[-1]), strict=True)])
        return found

    def noise(self):
        """What rounding does to a nudged slope: a few units in the last place of the loss, over h."""
        return 16 * np.finfo(float).eps * max(abs(self.loss(self.weights)), 1.0) / H


def flat(arrays):
    """All entries as one vector."""
    return np.concatenate([np.ravel(a) for a in arrays])
