"""gradtwin compare A B: where two programs part. Exit status: 0 they agree, 1 they part, 2 it could not run."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Annotated, Any

import typer
from rich.console import Console

from keras_ref.errors import CouldNotRun
from keras_ref.frontends.endings.exit_status import COULD_NOT, FINDING
from keras_ref.frontends.invocations.invocation import hash_file, read_versions
from keras_ref.frontends.invocations.recorded import describe_changes, refuse_library, require_valid
from keras_ref.options import FILE, OPTIONS, require_count, require_seconds
from keras_ref.reports.comparison import Comparison, Row
from keras_ref.reports.escaping import make_printable
from keras_ref.reports.files import Output, describe_writer, find_sources, is_plain_file, refuse_outputs, write
from keras_ref.reports.schema import (
    COUNT,
    HEADER,
    LARGEST,
    NUMBER,
    PATH,
    TEXT,
    describe_list,
    describe_record,
    describe_table,
)
from keras_ref.reports.terminal import make_console, make_ticker, show_progress
from keras_ref.reports.verdict import write_json_text
from keras_ref.undoing import staying_here
from scratch.progress import Progress

#: seconds that a program may take to answer, unless told otherwise
TIME_LIMIT = 300.0

PROGRAM = (
    "A program: package.module:factory, a .keras file, a module or file of NumPy functions. Before it may stand its "
    "kind: keras:, keras-jax:, keras-torch:, keras2:, torch:, jax:, numpy:, scratch:."
)


def _make_option(name: str) -> Any:
    return typer.Option(f"--{name}", help=OPTIONS[name].help, metavar=OPTIONS[name].metavar)


@dataclass(frozen=True, kw_only=True)
class ComparisonRun:
    """A comparison as a command: what it compares, and the options that are not the defaults."""

    a: str
    b: str
    data: str = ""
    steps: int = 3
    training: bool = False
    weight_map: tuple[str, ...] = ()
    seed: int = 0
    time_limit: float = TIME_LIMIT

    def replay(self) -> str:
        """The command as it is typed into a shell."""
        given = (("--data", self.data, ""), ("--steps", self.steps, 3), ("--seed", self.seed, 0))
        words = [w for name, value, usual in given if value != usual for w in (name, str(value))]
        words += ["--training"] * self.training + [w for one in self.weight_map for w in ("--map", one)]
        words += ["--time-limit", f"{self.time_limit:g}"] if self.time_limit != TIME_LIMIT else []
        return shlex.join(["gradtwin", "compare", self.a, self.b, *words])

    def run(self, progress: Progress | None = None) -> Comparison:
        """Compare. Raises: CouldNotRun or BadInput."""
        from keras_ref.checks.compare import compare as compare_programs
        from keras_ref.inputs.targets import load_data

        if self.steps:
            require_count("steps", self.steps)
        x, y, _ = load_data(self.data) if self.data else (None, None, None)
        return compare_programs(
            self.a,
            self.b,
            x,
            y,
            steps=self.steps,
            training=self.training,
            map=parse_map(self.weight_map),
            seed=self.seed,
            time_limit=self.time_limit,
            progress=progress,
            replay=self.replay(),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data, with the versions, and the digests of the files that the command reads."""
        files = [name for name in (*find_sources([self.a, self.b]), self.data) if name and is_plain_file(name)]
        options = {one.name: getattr(self, one.name) for one in fields(self) if one.name not in ("a", "b", "data")}
        return {
            "command": "compare",
            "targets": [self.a, self.b],
            "data": self.data,
            "options": {**options, "weight_map": list(self.weight_map)},
            "files": {name: hash_file(name) for name in files},
            "versions": read_versions(),
            "replay": self.replay(),
        }

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> ComparisonRun:
        """The run that to_dict wrote, of valid data."""
        a, b = data["targets"]
        options = {**data["options"], "weight_map": tuple(data["options"]["weight_map"])}
        return cls(a=a, b=b, data=data["data"], **options)


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help=PROGRAM)],
    b: Annotated[str, typer.Argument(metavar="B", help="The other program.")],
    data: Annotated[
        str, typer.Option("--data", metavar=FILE, help="An .npz file with x and y (x0, x1, … for several inputs).")
    ] = "",
    steps: Annotated[int, _make_option("steps")] = 3,
    training: Annotated[
        bool, typer.Option("--training", help="Compare the forward pass as it is in training.")
    ] = False,
    weight_map: Annotated[
        list[str] | None, typer.Option("--map", help="NAME_IN_A=NAME_IN_B: these two weights are the same.")
    ] = None,
    seed: Annotated[int, _make_option("seed")] = 0,
    time_limit: Annotated[
        float, typer.Option("--time-limit", help="Seconds that a program may take to answer.")
    ] = TIME_LIMIT,
    json: Annotated[str, typer.Option("--json", metavar=FILE, help="Write the comparison as JSON to this file.")] = "",
    html: Annotated[str, _make_option("html")] = "",
    junit: Annotated[
        str, typer.Option("--junit", metavar=FILE, help="Write a test for each place as JUnit XML to this file.")
    ] = "",
    force: Annotated[bool, _make_option("force")] = False,
) -> None:
    """Compare two programs with the same weights: the first place where they part, and which of the two is right."""
    run = ComparisonRun(
        a=a,
        b=b,
        data=data,
        steps=steps,
        training=training,
        weight_map=tuple(weight_map or ()),
        seed=seed,
        time_limit=time_limit,
    )
    require_seconds("--time-limit", time_limit)
    found = _run(run, json=json, html=html, junit=junit, force=force)
    raise typer.Exit(choose_status(found))


def _run(
    run: ComparisonRun, *, json: str, html: str, junit: str, force: bool, inputs: Iterable[str] = ()
) -> Comparison:
    """Compare, print, and write the files. `inputs` are files that must not be overwritten, beside those it reads."""
    outputs = [
        Output(option="--json", path=json, kind="report", command="compare"),
        Output(option="--html", path=html, kind="page", command="compare"),
        Output(option="--junit", path=junit, kind="junit", command="compare"),
    ]
    refuse_outputs(outputs, inputs=[run.data, *find_sources([run.a, run.b]), *inputs], force="" if force else "--force")
    out = make_console()
    with show_progress(out) as bar, staying_here():
        found = run.run(make_ticker(bar, f"{run.a} and {run.b}"))
    try:
        if json:
            write(
                "--json",
                json,
                write_json_text({**describe_writer("compare"), **found.to_dict(), "run": run.to_dict()}) + "\n",
            )
        if html:
            from keras_ref.reports.comparison import write_comparison_html

            write("--html", html, write_comparison_html(found))
        if junit:
            from keras_ref.reports.junit import build_comparison_suite, write_junit

            write("--junit", junit, write_junit("compare", [build_comparison_suite(found)]))
    finally:  # whether a file could be written or not; and last, for nobody may read this
        print_comparison(out, found)
    return found


def choose_status(found: Comparison) -> int:
    """The exit status of a comparison."""
    return COULD_NOT if found.errors else 0 if found.ok else FINDING


def is_comparison(data: Mapping[str, Any]) -> bool:
    """Whether a file that --json wrote is of a comparison."""
    run = data["run"]
    return isinstance(run, Mapping) and run.get("command") == "compare"


def read_run(path: str, data: Mapping[str, Any]) -> ComparisonRun:
    """The command in the data of a file that `compare --json` wrote.

    Raises: CouldNotRun where the data are not valid, or name a target of Python's own library.
    """
    from keras_ref.programs.targets import split_prefix

    require_valid(path, data, _make_validator())
    run = ComparisonRun.read(data["run"])
    refuse_library(split_prefix(target)[1] for target in (run.a, run.b))
    return run


def replay_comparison(path: str, data: Mapping[str, Any], *, json: str, html: str, junit: str, force: bool) -> None:
    """Run a recorded comparison again, and say whether the same places agree. Raises: typer.Exit; CouldNotRun."""
    run = read_run(path, data)
    out = make_console()
    out.print(f"replaying: {run.replay()}", markup=False, soft_wrap=True)
    found = _run(run, json=json, html=html, junit=junit, force=force, inputs=[path])
    changes = [*describe_changes(data["run"]), *_list_changes(data["rows"], found)]
    for line in changes:
        out.print(make_printable(line), markup=False, soft_wrap=True)
    same = not _list_changes(data["rows"], found)
    out.print("The same result as recorded." if same else "The result is not the one recorded.", soft_wrap=True)
    raise typer.Exit(choose_status(found) or (0 if same else FINDING))


def _list_changes(recorded: Iterable[Mapping[str, Any]], found: Comparison) -> list[str]:
    """A line for each place that agreed and does not now, or the other way round, or is there on one side only."""

    def agrees(row: Row) -> str:
        return "agrees" if row.agrees else "differs"

    before = {
        (one["stage"], one["a"], one["b"]): agrees(
            Row(
                stage=one["stage"],
                a=one["a"],
                b=one["b"],
                difference=float(one["difference"]),
                allowed=float(one["allowed"]),
            )
        )
        for one in recorded
    }
    now = {(row.stage, row.a, row.b): agrees(row) for row in found.rows}
    return [
        f"{place[1] or place[2]} ({place[0]}): {before.get(place, 'not there')} recorded, "
        f"{now.get(place, 'not there')} now"
        for place in dict.fromkeys((*before, *now))
        if before.get(place) != now.get(place)
    ]


@cache
def _make_validator() -> Any:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(build_comparison_schema())


def build_comparison_schema() -> dict[str, Any]:
    """The JSON Schema of what `compare --json` writes."""
    row = describe_record(
        {
            **dict.fromkeys(("stage", "a", "b", "right", "note"), TEXT),
            **dict.fromkeys(("difference", "allowed", "value_a", "value_b", "slope"), NUMBER),
            "worst": describe_list(COUNT),
        }
    )
    options = {
        "steps": COUNT,
        "training": {"type": "boolean"},
        "weight_map": describe_list(TEXT),
        "seed": COUNT,
        "time_limit": {"type": "number", "exclusiveMinimum": 0, "maximum": LARGEST},
    }
    run = describe_record(
        {
            "command": {"enum": ["compare"]},
            "targets": {**describe_list({**PATH, "minLength": 1}, least=2), "maxItems": 2},
            "data": PATH,
            "options": describe_record(options),
            "files": describe_table(TEXT),
            "versions": describe_table(TEXT),
            "replay": TEXT,
        }
    )
    return describe_record(
        {
            "ok": {"type": "boolean"},
            **dict.fromkeys(("sentence", "a", "b", "precision", "cause", "replay"), TEXT),
            "matched": describe_list(describe_record(dict.fromkeys(("a", "b", "layout"), TEXT))),
            "rows": describe_list(row),
            "parting": {"anyOf": [row, {"type": "null"}]},
            **dict.fromkeys(("notes", "errors"), describe_list(TEXT)),
            "seed": COUNT,
            "run": run,
        },
        HEADER,
    )


def parse_map(given: Iterable[str]) -> dict[str, str]:
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
