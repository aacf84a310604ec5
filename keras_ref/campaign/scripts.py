"""A finding as a script that runs without gradtwin, prints both values, and exits with 1 while the fault is there."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

#: what is imported where a script uses it, and as what
IMPORTS = {
    "keras": "keras",
    "np": "numpy as np",
    "tf": "tensorflow as tf",
    "partial": "functools",
}
#: what a script begins with that is about TensorFlow without oneDNN
PLAIN = "import os; os.environ['TF_ENABLE_ONEDNN_OPTS'] = '0'"
#: how both values are compared: text as text, numbers to 64 units (2**-46) in the last place of the largest number, as
#: in keras_ref/translation/departures/examples.py
NUMBERS = """\
got, want = (np.asarray(np.nan if v is None else v, float) for v in (got, want))
rounding = 2**-46 * np.abs(want[np.isfinite(want)]).max(initial=0)
{show}
sys.exit(not (got.shape == want.shape and np.allclose(got, want, 0, rounding, equal_nan=True)))
"""
TEXT = """\
got, want = (np.asarray(v) if isinstance(v, str) else np.asarray(v, float) for v in (got, want))
alike = got.dtype.kind == want.dtype.kind and got.shape == want.shape
{show}
sys.exit(not (alike and (np.allclose(got, want, 1.5e-14) if got.dtype.kind == "f" else got.tolist() == want.tolist())))
"""
SHOW = (
    'print(keras.__version__, tf.__version__, "said:", got.ravel()[:9].tolist(), "right:", want.ravel()[:9].tolist())'
)
#: characters of a line
WIDTH = 120
#: lines of a script, at most: a longer one has statements of one line behind their colon
LINES = 15


def write_example_script(finding_id: str, source: str, example: Callable[[], Any], *, kernels: str = "") -> str:
    """The example of a departure as a script: its own lines, without the function around them.

    Raises: ValueError for an example that does not end in `return Answers(…)`.
    """
    module = inspect.getmodule(example)
    tree = ast.parse(textwrap.dedent(inspect.getsource(example)))
    function = next(node for node in tree.body if isinstance(node, ast.FunctionDef))
    body, answers = function.body[:-1], function.body[-1]
    if not (isinstance(answers, ast.Return) and isinstance(answers.value, ast.Call)):
        raise ValueError(  # noqa: TRY004 (the text of the example is wrong)
            f"An example must end in `return Answers(…)`. Received: {finding_id!r}. Rewrite it."
        )
    given = [*answers.value.args, *(k.value for k in answers.value.keywords)]
    ends = [ast.Assign([ast.Name(name)], value) for name, value in zip(("got", "want"), given, strict=True)]
    statements: list[ast.stmt] = [node for node in (*body, *ends) if not _is_docstring(node)]
    statements = [_Shorter().visit(_strip_annotations(node)) for node in statements]
    lines = [line for line in map(_unparse, statements) if line not in ("got = got", "want = want")]
    text = "\n".join(lines)
    helpers = [_read_source(vars(module), name) for name in _find_used_names(text) if name in vars(module)]
    refuses = "refusal" in text or "want = '" in text
    found = _write_script(finding_id, source, "\n".join([*filter(None, helpers), text]), text=refuses)
    return found.replace("\nimport sys,", f"\n{PLAIN}\nimport sys,", 1) if kernels == "plain" else found


class _Shorter(ast.NodeTransformer):
    """The names of a script for those of an example, and `try` for the call that names a refusal."""

    def visit_Name(self, node: ast.Name) -> ast.Name:
        """keras_value is got, definition is want."""
        node.id = {"keras_value": "got", "definition": "want"}.get(node.id, node.id)
        return node

    def visit_Assign(self, node: ast.Assign) -> Any:
        """got = compute_or_name_refusal(compute), as a `try` with the call of compute."""
        self.generic_visit(node)
        call = node.value
        if not (isinstance(call, ast.Call) and ast.unparse(call.func) == "compute_or_name_refusal"):
            return node
        compute = call.args[0]
        node.value = compute.body if isinstance(compute, ast.Lambda) else ast.Call(compute, [], [])
        named = ast.parse(f"{ast.unparse(node.targets[0])} = type(refusal).__name__").body
        handler = ast.ExceptHandler(ast.Name("Exception"), "refusal", list(named))
        return ast.Try([node], [handler], [], [])


def _unparse(node: ast.stmt) -> str:
    return ast.unparse(ast.fix_missing_locations(node))


def write_derivative_script(entry: Mapping[str, Any]) -> str:
    """A wrong derivative as a script: the function, its arguments, and the true slopes.

    With `order = 2` they are those of the sum of the first derivatives by the first argument; with `mode = "forward"`
    those along ones, in forward mode. An entry with `got` says itself what is compared.
    """
    setup = f"{entry['setup'].strip()}\n" if entry.get("setup") else ""
    body = f"{setup}{_list_statements(entry)}\nwant = np.ravel({entry['truth']}).astype(float)"
    return _write_script(entry["id"], entry["source"], body, text=False)


def _list_statements(entry: Mapping[str, Any]) -> str:
    """The statements that make `got`."""
    if "got" in entry:
        return f"got = np.ravel({entry['got']})"
    point = f"x = [tf.constant(a, tf.float64) for a in ({', '.join(entry['arguments'])},)]\n"
    return point + DERIVATIVES[entry.get("mode", "reverse"), entry.get("order", 1)].format(y=entry["function"])


#: (mode, order) → the statements that differentiate {y}, of the tensors x
_TAKEN = 'got = np.concatenate([np.ravel(g) for g in tape.gradient(y, x, unconnected_gradients="zero")])'
DERIVATIVES = {
    ("reverse", 1): "with tf.GradientTape() as tape:\n    tape.watch(x); y = {y}\n" + _TAKEN,
    ("reverse", 2): "with tf.GradientTape() as tape, tf.GradientTape() as inner:\n"
    "    tape.watch(x); inner.watch(x); y = tf.reduce_sum(inner.gradient({y}, x)[0])\n" + _TAKEN,
    ("forward", 1): "with tf.autodiff.ForwardAccumulator(x, [tf.ones_like(a) for a in x]) as forward: y = {y}\n"
    "got = np.ravel(forward.jvp(y))",
    ("forward", 2): "forward = lambda: tf.autodiff.ForwardAccumulator(x, [tf.ones_like(a) for a in x])\n"
    "with forward() as outer, forward() as inner: y = inner.jvp({y})\n"
    "got = np.ravel(outer.jvp(y))",
}


def _write_script(finding_id: str, source: str, body: str, *, text: bool) -> str:
    end = (TEXT if text else NUMBERS).replace("{show}", SHOW)
    used = _find_used_names(body + "\n" + end) | {"keras", "np", "tf"}
    names = ", ".join(value for name, value in IMPORTS.items() if name in used and name != "partial")
    imports = f"import sys, {names}" + ("\nfrom functools import partial" if "partial" in used else "")
    lines = [line for line in f"{imports}\n{body}\n{end}".splitlines() if line.strip()]
    if len(lines) >= LINES:
        lines = list(_join_lines(lines))
    return "\n".join([f"# {finding_id}; right: {source}", *lines, ""])


def _join_lines(lines: Sequence[str]) -> Iterator[str]:
    """The lines, each statement that is alone in a block behind the colon of the block."""
    depths = [len(line) - len(line.lstrip()) for line in lines] + [0]
    skip = False
    for i, line in enumerate(lines):
        if skip:
            skip = False
            continue
        inner = lines[i + 1].strip() if i + 1 < len(lines) else ""
        alone = depths[i + 1] > depths[i] and (i + 2 >= len(lines) or depths[i + 2] <= depths[i])
        skip = line.endswith(":") and alone and not inner.endswith(":") and len(line) + len(inner) < WIDTH
        yield f"{line} {inner}" if skip else line


def _find_used_names(text: str) -> set[str]:
    return {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _strip_annotations(node: ast.stmt) -> ast.stmt:
    """A statement without annotations, which need imports of their own."""
    for part in ast.walk(node):
        if isinstance(part, ast.FunctionDef):
            part.returns = None
        elif isinstance(part, ast.arg):
            part.annotation = None
    return node


def _read_source(namespace: Mapping[str, Any], name: str) -> str:
    """The source of a helper function of the departures' modules; "" for what is imported from elsewhere."""
    value = namespace[name]
    if not inspect.isfunction(value) or not value.__module__.startswith("keras_ref."):
        return ""
    function = ast.parse(inspect.getsource(value)).body[0]
    if isinstance(function, ast.FunctionDef):
        function.body = [node for node in function.body if not _is_docstring(node)]
    return ast.unparse(_strip_annotations(function))
