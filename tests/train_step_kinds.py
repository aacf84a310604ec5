"""Train steps of a model's own, registered beside the kinds of model_kinds.py: right, or with an error planted in
them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from model_kinds import Made, Scaled, X, Y, dense, drawn, kind

from keras_ref import check_updates


def made(model: keras.Model, x: Any = X, y: Any = Y, *, steps: int = 2, **compiled: Any) -> Made:
    """A model that is called, compiled, and checked by its updates."""
    model(x)
    model.compile(**({"optimizer": keras.optimizers.Adam(0.01)} | compiled))
    return Made(model, x, y, {"steps": steps}, check_updates)


def applied(optimizer: Any, gradients: Any, variables: Any) -> None:
    optimizer.apply_gradients(zip(gradients, variables, strict=True))


class Regression(keras.Model):
    """Two dense layers, the mean square, and no loss that is returned; `take` is what a step makes of the gradients."""

    def __init__(
        self,
        wrong: float = 0.0,
        *,
        take: Callable[[list[Any]], list[Any]] = list,
        inside: float = 0.0,
        called: str = "mse",
    ) -> None:
        super().__init__(name="mine")
        self.wrong, self.take, self.called = wrong, take, called
        self.first, self.inside, self.last = dense(3), Scaled(inside), dense(2, None)

    def call(self, x: Any) -> Any:
        return self.last(self.inside(self.first(x)))

    def gradients(self, x: Any, y: Any) -> Any:
        """(the loss, its gradients), each gradient off by `wrong`."""
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((self(x, training=True) - y) ** 2)
        found = tape.gradient(loss, self.trainable_variables)
        return loss, [g * (1 + self.wrong) if self.wrong else g for g in found]

    def train_step(self, data: Any) -> Any:
        loss, gradients = self.gradients(*data)
        applied(self.optimizer, self.take(gradients), self.trainable_variables)
        return {self.called: loss}


@kind("a train_step whose loss has a name of its own")
def _(wrong: float) -> Made:
    return made(Regression(wrong))


@kind("a train_step whose loss has a name of its own, an error inside a layer")
def _(wrong: float) -> Made:
    return made(Regression(inside=wrong))


@kind("gradients clipped by hand to a norm each")
def _(wrong: float) -> Made:
    return made(Regression(wrong, take=lambda gradients: [tf.clip_by_norm(g, 0.05) for g in gradients], inside=wrong))


@kind("gradients clipped by hand to a norm of all")
def _(wrong: float) -> Made:
    return made(Regression(take=lambda found: tf.clip_by_global_norm(found, 0.125)[0], inside=wrong, called="loss"))


@kind("gradients clipped by hand to values")
def _(wrong: float) -> Made:
    return made(Regression(wrong, take=lambda gradients: [tf.clip_by_value(g, -0.02, 0.02) for g in gradients]))


class Gathering(Regression):
    """The mean of the gradients of two steps, or of the halves of a batch, is applied."""

    def __init__(self, wrong: float, *, divisor: float = 2.0, halves: bool = False):
        super().__init__(wrong)
        self.divisor, self.halves, self.sums, self.count = divisor, halves, None, tf.Variable(0, trainable=False)

    def train_step(self, data: Any) -> Any:
        x, y = data
        if self.halves:
            half = len(x) // 2
            found = [self.gradients(x[part], y[part])[1] for part in (slice(None, half), slice(half, None))]
            mean = [tf.add_n(pair) / self.divisor for pair in zip(*found, strict=True)]
            applied(self.optimizer, mean, self.trainable_variables)
            return {}
        loss, gradients = self.gradients(x, y)
        if self.sums is None:
            self.sums = [tf.Variable(tf.zeros_like(g), trainable=False) for g in gradients]
        for total, g in zip(self.sums, gradients, strict=True):
            total.assign_add(g)
        self.count.assign_add(1)
        tf.cond(self.count % 2 == 0, self.apply_sums, lambda: None)
        return {"loss": loss}

    def apply_sums(self) -> None:
        mean = [tf.convert_to_tensor(total) / self.divisor for total in self.sums]
        applied(self.optimizer, mean, self.trainable_variables)
        for total in self.sums:
            total.assign(tf.zeros_like(total))


@kind("gradients gathered over two steps")
def _(wrong: float) -> Made:
    return made(Gathering(wrong))


@kind("gradients gathered over the halves of a batch")
def _(wrong: float) -> Made:
    return made(Gathering(wrong, halves=True))


class Terms(Regression):
    """The gradients of two terms, each from a tape of its own, are added."""

    def train_step(self, data: Any) -> Any:
        x, y = data
        with tf.GradientTape() as tape:
            fit = tf.reduce_mean((self(x, training=True) - y) ** 2)
        first = tape.gradient(fit, self.trainable_variables)
        with tf.GradientTape() as tape:
            penalty = tf.add_n([tf.reduce_sum(tf.convert_to_tensor(v) ** 2) for v in self.trainable_variables]) / 8
        second = tape.gradient(penalty, self.trainable_variables)
        total = [a + b * (1 + self.wrong) for a, b in zip(first, second, strict=True)]
        applied(self.optimizer, total, self.trainable_variables)
        return {"fit": fit, "penalty": penalty}


@kind("gradients of two terms added")
def _(wrong: float) -> Made:
    model = made(Terms(wrong))
    for variable in model.model.trainable_variables:  # a bias of 0 has no penalty
        variable.assign(variable + 0.25)
    return model


class Adversarial(keras.Model):
    """Two networks, two optimizers, two losses: each steps on its own, or both after both gradients are taken."""

    def __init__(self, wrong: float, *, at_once: bool = False, penalty: float = 0.0, critics: int = 1):
        super().__init__(name="mine")
        self.at_once, self.penalty, self.critics = at_once, penalty, critics
        self.maker = keras.Sequential([keras.Input((2,)), dense(3), Scaled(wrong), dense(3, None)], name="maker")
        self.judge = keras.Sequential([keras.Input((3,)), dense(3), Scaled(wrong), dense(1, None)], name="judge")
        self.seeds = keras.random.SeedGenerator(3)

    def compile(self, optimizer: Any) -> None:
        super().compile()
        self.first, self.second = optimizer, keras.optimizers.SGD(0.02)

    def call(self, x: Any) -> Any:
        return self.judge(x)

    def draw(self, real: Any) -> Any:
        return keras.random.normal((tf.shape(real)[0], 2), dtype=real.dtype, seed=self.seeds)

    def penalty_of(self, real: Any, made: Any) -> Any:
        between = (real + made) / 2
        with tf.GradientTape() as tape:
            tape.watch(between)
            judged = self.judge(between, training=True)
        slopes = tape.gradient(judged, between)
        return tf.reduce_mean((tf.sqrt(tf.reduce_sum(slopes**2, 1)) - 1) ** 2)

    def judge_gradients(self, real: Any) -> Any:
        made = self.maker(self.draw(real), training=True)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(self.judge(made, training=True)) - tf.reduce_mean(self.judge(real, training=True))
            if self.penalty:
                loss += self.penalty * self.penalty_of(real, made)
        return loss, tape.gradient(loss, self.judge.trainable_variables)

    def maker_gradients(self, real: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = -tf.reduce_mean(self.judge(self.maker(self.draw(real), training=True), training=True))
        return loss, tape.gradient(loss, self.maker.trainable_variables)

    def train_step(self, real: Any) -> Any:
        logs = {}
        for _ in range(self.critics):
            logs["judge_loss"], judging = self.judge_gradients(real)
            if not self.at_once:
                applied(self.first, judging, self.judge.trainable_variables)
        logs["maker_loss"], making = self.maker_gradients(real)
        if self.at_once:
            applied(self.first, judging, self.judge.trainable_variables)
        applied(self.second, making, self.maker.trainable_variables)
        return logs


@kind("two networks, two optimizers (GAN)")
def _(wrong: float) -> Made:
    return made(Adversarial(wrong), y=None)


@kind("two networks, both gradients taken before both steps")
def _(wrong: float) -> Made:
    return made(Adversarial(wrong, at_once=True), y=None)


@kind("two steps of a critic with a gradient penalty, one of a maker (WGAN-GP)")
def _(wrong: float) -> Made:
    return made(Adversarial(wrong, penalty=10.0, critics=2), y=None, steps=1)


class Autoencoder(keras.Model):
    """A variational autoencoder whose losses live in its train_step, returned by metrics."""

    def __init__(self, wrong: float, *, sign: float = 1.0):
        super().__init__(name="mine")
        self.sign, self.wrong = sign, wrong
        self.hidden, self.mean, self.log_var, self.decoder = dense(3), dense(2, None), dense(2, None), dense(3, None)
        self.inside, self.seeds = Scaled(wrong), keras.random.SeedGenerator(3)
        self.trackers = {name: keras.metrics.Mean(name=name) for name in ("loss", "fit", "kl")}

    @property
    def metrics(self) -> list[Any]:
        return list(self.trackers.values())

    def call(self, x: Any) -> Any:
        hidden = self.inside(self.hidden(x))
        mean, log_var = self.mean(hidden), self.log_var(hidden)
        noise = keras.random.normal(tf.shape(mean), dtype=mean.dtype, seed=self.seeds)
        return mean, log_var, self.decoder(mean + tf.exp(log_var / 2) * noise)

    def train_step(self, x: Any) -> Any:
        with tf.GradientTape() as tape:
            mean, log_var, made = self(x, training=True)
            fit = tf.reduce_mean(tf.reduce_sum((x - made) ** 2, 1))
            kl = -tf.reduce_mean(tf.reduce_sum(1 + log_var - mean**2 - tf.exp(log_var), 1)) / 2
            loss = fit + self.sign * kl
        applied(self.optimizer, tape.gradient(loss, self.trainable_variables), self.trainable_variables)
        for name, value in {"loss": fit + kl, "fit": fit, "kl": kl}.items():
            self.trackers[name].update_state(value)
        return {name: tracker.result() for name, tracker in self.trackers.items()}


@kind("a variational autoencoder by its train_step")
def _(wrong: float) -> Made:
    return made(Autoencoder(wrong), y=None)


class Averaging(Regression):
    """A second network follows the first as a moving average."""

    def __init__(self, wrong: float, *, decay: float = 0.99):
        super().__init__(inside=wrong)
        self.decay = decay
        self.online = keras.Sequential([keras.Input((3,)), dense(3), Scaled(wrong), dense(2, None)], name="online")
        self.mean = keras.models.clone_model(self.online)
        self.mean.name = "mean"

    def call(self, x: Any) -> Any:
        return self.online(x)

    def train_step(self, data: Any) -> Any:
        x, y = data
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((self.online(x, training=True) - y) ** 2)
        variables = self.online.trainable_variables
        applied(self.optimizer, tape.gradient(loss, variables), variables)
        for slow, fast in zip(self.mean.weights, self.online.weights, strict=True):
            slow.assign(self.decay * slow + (1 - self.decay) * fast)
        return {"loss": loss}


@kind("a moving average of the weights by its train_step")
def _(wrong: float) -> Made:
    model = Averaging(wrong)
    model(X)
    return made(model)


class Descending(Regression):
    """The step of the book, by hand: no optimizer."""

    def train_step(self, data: Any) -> Any:
        loss, gradients = self.gradients(*data)
        for variable, gradient in zip(self.trainable_variables, gradients, strict=True):
            variable.assign_sub(0.125 * gradient)
        return {"loss": loss}


@kind("weights moved by hand, without an optimizer")
def _(wrong: float) -> Made:
    return made(Descending(inside=wrong), optimizer="sgd")


class Denoising(Regression):
    """Noise is drawn in the train step, and predicted; there are no targets."""

    def train_step(self, x: Any) -> Any:
        noise = keras.random.normal(tf.shape(x), dtype=x.dtype, seed=self.seeds)[:, :2]
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.abs(self(x + tf.pad(noise, [[0, 0], [0, 1]]), training=True) - noise))
        applied(self.optimizer, tape.gradient(loss, self.trainable_variables), self.trainable_variables)
        return {"noise_loss": loss}


@kind("noise that is drawn in the train step, and no targets (diffusion)")
def _(wrong: float) -> Made:
    model = Denoising(inside=wrong)
    model.seeds = keras.random.SeedGenerator(5)
    return made(model, drawn(4, 3), None)


class Distilling(Regression):
    """A frozen teacher's outputs beside the targets."""

    def __init__(self, wrong: float):
        super().__init__(inside=wrong)
        self.teacher = keras.Sequential([keras.Input((3,)), dense(4), dense(2, None)], name="teacher")
        self.teacher.trainable = False

    def train_step(self, data: Any) -> Any:
        x, y = data
        taught = self.teacher(x, training=False)
        with tf.GradientTape() as tape:
            told = self(x, training=True)
            hard = self.compute_loss(y=y, y_pred=told)
            soft = keras.losses.kl_divergence(tf.nn.softmax(taught / 3), tf.nn.softmax(told / 3))
            loss = 0.25 * hard + 0.75 * tf.reduce_mean(soft) * 9
        applied(self.optimizer, tape.gradient(loss, self.trainable_variables), self.trainable_variables)
        return {"loss": loss, "hard": hard}


@kind("distillation by a train_step")
def _(wrong: float) -> Made:
    return made(Distilling(wrong), loss="mse")
