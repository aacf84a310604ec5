"""gradtwin compare A B: where two programs part. Exit status: 0 they agree, 1 they part, 2 it could not run."""

from __future__ import annotations

import shlex
from typing import Annotated, Any

import typer
from rich.console import Console

from keras_ref.errors import CouldNotRun
from keras_ref.options import OPTIONS, require_minimum
from keras_ref.reports.comparison import Comparison
from keras_ref.reports.files import Output, refuse_outputs, sources_of, write
from keras_ref.reports.terminal import console

PROGRAM = (
    "A program: package.module:factory, a .keras file, a module or file of NumPy functions. Before it may stand its "
    "kind: keras:, keras-jax:, keras-torch:, keras2:, torch:, jax:, numpy:, scratch:."
)


def _option(name: str) -> Any:
    return typer.Option(f"--{name}", help=OPTIONS[name].help)


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help=PROGRAM)],
    b: Annotated[str, typer.Argument(metavar="B", help="The other program.")],
    data: Annotated[str, typer.Option("--data", help="An .npz file with x and y (x0, x1, … for several inputs).")] = "",
    steps: Annotated[int, _option("steps")] = 3,
    training: Annotated[
        bool, typer.Option("--training", help="Compare the forward pass as it is in training.")
    ] = False,
    weight_map: Annotated[
        list[str] | None, typer.Option("--map", help="NAME_IN_A=NAME_IN_B: these two weights are the same.")
    ] = None,
    seed: Annotated[int, _option("seed")] = 0,
    time_limit: Annotated[
        float, typer.Option("--time-limit", help="Seconds that a program may take to answer.")
    ] = 300.0,
    json: Annotated[str, typer.Option("--json", help="Write the comparison as JSON to this file.")] = "",
    html: Annotated[str, _option("html")] = "",
    force: Annotated[bool, _option("force")] = False,
) -> None:
    """Compare two programs with the same weights: the first place where they part, and which of the two is right."""
    from keras_ref.checks.compare import compare as compare_programs
    from keras_ref.inputs.targets import load_data

    if weight_map is None:
        weight_map = []
    outputs = [
        Output(option="--json", path=json, kind="report"),
        Output(option="--html", path=html, kind="page"),
    ]
    refuse_outputs(outputs, inputs=[data, *sources_of([a, b])], force="" if force else "--force")
    if steps:
        require_minimum("steps", steps)
    x, y, _ = load_data(data) if data else (None, None, None)
    given: list[tuple[str, Any, Any]] = [("--data", data, ""), ("--steps", steps, 3), ("--seed", seed, 0)]
    words = [w for name, value, usual in given if value != usual for w in (name, str(value))]
    words += ["--training"] * training + [w for one in weight_map for w in ("--map", one)]
    found = compare_programs(
        a,
        b,
        x,
        y,
        steps=steps,
        training=training,
        map=parse_map(weight_map),
        seed=seed,
        time_limit=time_limit,
        replay=shlex.join(["gradtwin", "compare", a, b, *words]),
    )
    print_comparison(console(), found)
    if json:
        write("--json", json, found.to_json() + "\n")
    if html:
        from keras_ref.reports.comparison import comparison_html

        write("--html", html, comparison_html(found))
    raise typer.Exit(2 if found.errors else 0 if found.ok else 1)


def parse_map(given: list[str]) -> dict[str, str]:
    """{name in A: name in B} of --map, given any number of times. Raises: CouldNotRun."""
    pairs = {}
    for one in given:
        name_a, equals, name_b = one.partition("=")
        if not (equals and name_a and name_b):
            raise CouldNotRun(
                f"--map must be NAME_IN_A=NAME_IN_B. Received: {one!r}. Pass dense/kernel=fc/kernel, say."
            )
        pairs[name_a] = name_b
    return pairs


def print_comparison(out: Console, found: Comparison) -> None:
    """The lines of a comparison; a row that differs in red on a terminal."""
    for line in found.lines():
        out.print(line, markup=False, soft_wrap=True, style="red" if line.endswith("←") else "")
