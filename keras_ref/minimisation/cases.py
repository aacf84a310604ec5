"""A case: what is built, at which point, and what is claimed of it. Its script builds it, and prints both values.

The text of a case is run as it is written, by the search too, so that what was checked is what the script shows.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from keras_ref.minimisation.expressions import (
    Call,
    Expression,
    Imported,
    Inline,
    Item,
    Listing,
    Named,
    Table,
    Values,
    Writer,
    replace_node,
    walk,
)

#: the first line of a script that TensorFlow's faster kernels hide the fault from
PLAIN = "os.environ['TF_ENABLE_ONEDNN_OPTS'] = '0'; "
HOOK = "sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))  # exit status 2: it could not run"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What is claimed of the function f at its points, as lines that assign `got` and `want`.

    what        what is wrong where it does not hold
    got, want   what both values are called where they are printed
    lines       {h} is the step of a difference, {at} the place of the entry that is shown, {point} which argument
    options     of check_function, by which the finding was made
    """

    what: str
    got: str
    want: str
    lines: str
    options: Mapping[str, Any]


CLAIMS = {
    "slope": Claim(
        what="autodiff is not the slope of what is computed",
        got="autodiff",
        want="difference quotient",
        lines="got, want = (j{at} for j in tf.test.compute_gradient(f, {points}, delta={h}))",
        options={},
    ),
    "function": Claim(
        what="a tf.function has another gradient than eager execution",
        got="as a tf.function",
        want="eager",
        lines=(
            "traced = tf.function(f, autograph=False)\n"
            "got, want = (tf.test.compute_gradient(g, {points})[0]{at} for g in (traced, f))"
        ),
        options={"modes": ("eager", "function")},
    ),
    "jit_compile": Claim(
        what="compiled, it has another gradient than eagerly",
        got="compiled",
        want="eager",
        lines=(
            "compiled = tf.function(f, jit_compile=True, autograph=False)\n"
            "got, want = (tf.test.compute_gradient(g, {points})[0]{at} for g in (compiled, f))"
        ),
        options={"modes": ("eager", "jit_compile")},
    ),
    "forward-mode": Claim(
        what="forward mode is not the slope of what is computed",
        got="forward mode",
        want="difference quotient",
        lines=(
            "p = [tf.constant(x) for x in {points}]\n"
            "with tf.autodiff.ForwardAccumulator(p[{point}], tf.ones_like(p[{point}])) as forward:\n    y = f(*p)\n"
            "got = np.ravel(forward.jvp(y)){at}\n"
            "up, down = (f(*p[:{point}], p[{point}] + s, *p[{point} + 1 :]) for s in ({h}, -{h}))\n"
            "want = np.ravel((up - down) / (2 * {h})){at}"
        ),
        options={"forward_mode": True},
    ),
    "hessian": Claim(
        what="autodiff of the gradient is not the slope of the gradient",
        got="autodiff of the gradient",
        want="difference quotient",
        lines=(
            "def gradient(*p):\n    with tf.GradientTape() as tape:\n        tape.watch(p)\n"
            "        y = tf.reduce_sum(f(*p))\n"
            "    return tape.gradient(y, p[{point}])\n"
            "got, want = (j{at} for j in tf.test.compute_gradient(gradient, {points}, delta={h}))"
        ),
        options={"order": 2},
    ),
    "definition": Claim(
        what="what is computed is not what the definition says",
        got="Keras",
        want="definition",
        lines="got = np.ravel(f({given})){at}\nwant = {want}  # by the definition",
        options={},
    ),
}


NO_KEYWORDS = Table(())
#: characters of a lambda that is named by its text
SHORT = 60


@dataclass(frozen=True, kw_only=True)
class CallCase:
    """A call: of a function or a layer, on points at which a derivative is taken.

    subject     the function, or the layer (a model is one)
    tree        (arguments, keywords, loss, targets, weights): see the properties
    wrt         "inputs", or "weights" of the layer
    claim       a key of CLAIMS
    output      where a call has several outputs, "[1]" for one of them; "*" for all, put together
    seeded      whether what the layer draws is drawn with a seed
    stateless   whether the layer is called as a function of its state too: one that draws anew in each call
    """

    subject: Expression
    is_layer: bool
    arguments: tuple[Expression, ...]
    keywords: Table = NO_KEYWORDS
    loss: Expression = None
    targets: Expression = None
    weights: Expression = None
    wrt: str = "inputs"
    claim: str = "slope"
    output: str = ""
    seeded: bool = True
    stateless: bool = False

    @property
    def tree(self) -> Expression:
        """All that the passes reduce."""
        return (self.subject, self.arguments, self.keywords, self.loss, self.targets, self.weights)

    def with_tree(self, tree: Expression) -> CallCase:
        """The case with another tree."""
        subject, arguments, keywords, loss, targets, weights = tree
        return replace(
            self, subject=subject, arguments=arguments, keywords=keywords, loss=loss, targets=targets, weights=weights
        )

    @property
    def what(self) -> str:
        """What is shown to be wrong."""
        return f"{describe(self.subject)}: {CLAIMS[self.claim].what}"

    def simpler(self) -> Iterator[CallCase]:
        """What the passes over the tree do not try: without loss, weights, state and seed; one of several outputs."""
        if self.loss is not None:
            yield replace(self, loss=None, targets=None)
        if self.weights is not None:
            yield replace(self, weights=None)
        if self.stateless and self.wrt == "inputs":
            yield replace(self, stateless=False)
        if self.is_layer and self.seeded:
            yield replace(self, seeded=False)
        if self.output == "*":
            yield from (replace(self, output=f"[{i}]") for i in range(4))
        yield from self._of_function()

    def _of_function(self) -> Iterator[CallCase]:
        """A function that the layer was given (its activation, say), by itself."""
        for _, node in walk(self.subject) if self.is_layer else ():
            if isinstance(node, Call):
                for _, value in node.keywords:
                    if isinstance(value, (Inline, Imported)):
                        points = [a for a in self.arguments if isinstance(a, Values) and a.is_point]
                        for point in points[:1]:
                            yield CallCase(subject=value, is_layer=False, arguments=(point,), claim=self.claim)

    def setup(self) -> Setup:
        """The lines that build it and assign f."""
        writer, by_weights = Writer(), self.wrt == "weights"
        points, arguments = name_points(self.arguments, keep=by_weights)
        options = [writer.write_keyword(name, value) for name, value in self.keywords.items]
        given = [*map(writer.write, arguments), *options]
        subject = writer.write(self.subject)
        lines = self._build(writer, subject, options) if self.is_layer else ()
        names = ["*w"] if by_weights else ["x"] if len(points) == 1 else [f"x{i}" for i in range(len(points))]
        own = _own_lambda(self, names)
        if own:
            writer.definitions.pop(subject)
        call = self._finish(writer, self._call("layer" if self.is_layer else subject, given))
        values = f"[{', '.join(map(writer.write, points))}]"
        writer.modules |= {"tensorflow"} | ({"keras"} if self.is_layer or self.loss is not None else set())
        return Setup(
            writer=writer,
            lines=tuple(lines),
            function=own or f"lambda {', '.join(names)}: {call}",
            points="[v.numpy() for v in layer.trainable_variables]" if by_weights else values,
            in_float64="keras" in writer.modules,
        )

    def _build(self, writer: Writer, subject: str, options: list[str]) -> Iterator[str]:
        """The lines that make the layer; it is called once where its weights must be there."""
        if self.seeded:
            yield "keras.utils.set_random_seed(0)"
        yield f"layer = {subject}"
        if self.wrt == "weights" or self.stateless or self.weights is not None:
            yield f"layer({', '.join([*map(writer.write, self.arguments), *options])})"
        if self.weights is not None:
            yield f"layer.set_weights({writer.write(self.weights)})"

    def _call(self, subject: str, given: list[str]) -> str:
        """The call: of the layer as a function of its weights, of its state too, or as it is."""
        if not self.is_layer or not (self.stateless or self.wrt == "weights"):
            return f"{subject}({', '.join(given)})"
        weights = "w" if self.wrt == "weights" else "layer.trainable_variables"
        return f"layer.stateless_call({', '.join([weights, 'layer.non_trainable_variables', *given])})[0]"

    def _finish(self, writer: Writer, call: str) -> str:
        """One output of a call, or all put together; the loss of it."""
        if self.output == "*":
            call = f"tf.concat([tf.reshape(y, [-1]) for y in tf.nest.flatten({call})], 0)"
        elif self.output:
            call += self.output
        return call if self.loss is None else f"{writer.write(self.loss)}({writer.write(self.targets)}, {call})"


def name_points(arguments: Expression, *, keep: bool) -> tuple[list[Values], Expression]:
    """The points among arguments, and the arguments with the names x, or x0, x1, … in their places.

    keep   whether there are no points, since the derivative is taken elsewhere
    """
    found = [] if keep else [(p, node) for p, node in walk(arguments) if isinstance(node, Values) and node.is_point]
    for number, (path, _) in enumerate(found):
        arguments = replace_node(arguments, path, Named("x" if len(found) == 1 else f"x{number}"))
    return [node for _, node in found], arguments


@dataclass(frozen=True, kw_only=True)
class Setup:
    """The parts of a script: what is imported and defined, the lines that build, the function, its points."""

    writer: Writer
    lines: tuple[str, ...]
    function: str
    points: str
    in_float64: bool

    @property
    def head(self) -> list[str]:
        """Imports, definitions, and the float type."""
        kind = ['keras.config.set_floatx("float64")'] * self.in_float64
        definitions = [line for text in self.writer.definitions.values() for line in text.split("\n") if line.strip()]
        return [*self.writer.imports(), *kind, *definitions]

    def search_path(self) -> str:
        """The statement by which the modules of the user are found, "" where they are installed."""
        folders = dict.fromkeys(
            root for module in self.writer.names.values() if (root := _find_root(module)) is not None
        )
        return "".join(f"sys.path.append({folder!r}); " for folder in folders)


def _own_lambda(case: CallCase, names: list[str]) -> str:
    """The text of a lambda that is the whole function of the points, "" where the subject is none."""
    subject = case.subject
    _, _, text = subject.source.partition(" = ") if isinstance(subject, Inline) else ("", "", "")
    plain = all(isinstance(a, Values) and a.is_point for a in case.arguments) and not case.keywords.items
    is_whole = plain and not case.output and case.loss is None and len(names) == len(case.arguments)
    return text if is_whole and text.startswith("lambda ") else ""


def _find_root(module: str) -> str | None:
    """The folder from which a user's module is imported, relative to the working directory where it lies below."""
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None:
        return None
    path = Path(file).resolve()
    if any(path.is_relative_to(Path(place).resolve()) for place in set(sysconfig.get_paths().values()) if place):
        return None
    up = module.count(".") + (path.name == "__init__.py")
    root = path.parents[up]
    here = Path.cwd()
    return os.path.relpath(root, here) if root.is_relative_to(here) else str(root)


def describe(node: Expression) -> str:
    """A subject in a few words: the name of its class or function, of a model those of its layers."""
    if isinstance(node, Call):
        inner = node.arguments[0] if node.arguments else None
        if isinstance(inner, Listing) and len(inner.items) < 4:
            return f"{describe(node.function)} of {', '.join(map(describe, inner.items))}"
        return describe(node.function)
    if isinstance(node, Item):
        return describe(node.of)
    if isinstance(node, Imported):
        return Writer().write(node)
    if isinstance(node, Inline):
        text = node.source.rpartition(": ")[2]
        return text if "lambda" in node.source and "\n" not in node.source and len(text) <= SHORT else node.name
    return str(node)
