"""Everything that Keras exports is accounted for; what is new in it, or kills the process, shows itself."""

import io
import sys

import pytest
from rich.console import Console

from keras_ref.coverage import printing
from keras_ref.coverage import table as coverage
from keras_ref.coverage.examples import compare_example
from keras_ref.coverage.processes import ExampleResult, compare_examples
from scratch import registry


@pytest.mark.parametrize("kind", registry.KINDS)
def test_everything_has_a_twin(kind):
    """No name of the installed Keras is unknown, none of the inventory is gone, and all that need a twin have one."""
    table = coverage.cover(kind)
    open_rows = [row for row in table.rows if row.status in ("missing", "unknown", "gone")]
    assert not open_rows
    assert table.covered == table.owed > 0


def test_counts_are_those_of_the_inventory():
    """93 layers in 11 families, 32 activations, 22 losses, 16 optimizers, 6 schedules, 4 regularizers, 4
    constraints.
    """
    assert [coverage.cover(kind).owed for kind in registry.KINDS] == [93, 32, 22, 16, 6, 4, 4]
    assert len(coverage.read_inventory()["layer"]) == 11


def test_a_new_release_shows_itself():
    """A name that neither inventory nor exclusions know is unknown; one that Keras has no more is gone."""
    present = dict(coverage.list_exports("loss"))
    del present["Huber"]
    rows = {row.name: row.status for row in coverage.cover("loss", present | {"Wasserstein": ()}).rows}
    assert rows["Wasserstein"] == "unknown"
    assert rows["Huber"] == "gone"
    assert rows["Poisson"] == "twin"


def test_a_lost_twin_is_missing(monkeypatch):
    """A known name without twin is missing, and counts against the coverage."""
    names = tuple(n for n in registry.names("loss") if n != "Poisson")
    monkeypatch.setattr(registry, "names", lambda kind: names)
    table = coverage.cover("loss")
    assert {row.name for row in table.rows if row.status == "missing"} == {"Poisson"}
    assert (table.covered, table.owed) == (21, 22)


@pytest.mark.parametrize("kind", registry.KINDS)
def test_exclusions_have_reasons_and_exist(kind):
    """An exclusion says why, and is of something that Keras exports."""
    excluded = coverage.read_inventory()["excluded"].get(kind, {})
    present = {alias for name, names in coverage.list_exports(kind).items() for alias in (name, *names)}
    assert set(excluded) <= present
    assert all(len(reason) > 10 for reason in excluded.values())


def test_aliases_are_one_row():
    """AvgPool2D and AveragePooling2D are one layer."""
    rows = {row.name: row for row in coverage.cover("layer").rows}
    assert rows["AveragePooling2D"].aliases == ("AvgPool2D",)
    assert "AvgPool2D" not in rows


KILLED = """
import json, os, signal, sys
for argument in sys.argv[1:]:
    if argument == "loss:b":
        os.kill(os.getpid(), signal.SIGKILL)
    print(json.dumps({"name": argument, "compared": {"values": "match"}}), flush=True)
"""


def test_what_kills_the_process_is_reported_and_the_run_goes_on():
    """b kills its process; a before it and c behind it are compared."""
    wanted = [("loss", "a"), ("loss", "b"), ("loss", "c")]
    found = compare_examples(wanted, command=lambda names: [sys.executable, "-c", KILLED, *names])
    assert list(found) == [
        ExampleResult("loss", "a", {"values": "match"}),
        ExampleResult("loss", "b", {"values": "killed the process (signal 9)"}),
        ExampleResult("loss", "c", {"values": "match"}),
    ]


@pytest.mark.sampled
def test_what_hangs_is_ended():
    """A process that is silent for too long is killed, and counts as such."""
    script = "import time; time.sleep(60)"
    found = compare_examples([("loss", "a")], command=lambda names: [sys.executable, "-c", script], patience=0.5)
    assert list(found) == [ExampleResult("loss", "a", {"values": "was stopped after 0.5 s without a result"})]


@pytest.mark.parametrize(
    ("kind", "name", "columns"),
    [
        ("layer", "Dense", {"values", "float32", "weights", "inputs", "graph", "compiled"}),
        ("activation", "tanh", {"values", "float32", "inputs", "graph", "compiled"}),
        ("loss", "MeanSquaredError", {"values", "inputs", "graph", "compiled"}),
        ("optimizer", "SGD", {"updates"}),
        ("schedule", "InverseTimeDecay", {"values"}),
        ("constraint", "UnitNorm", {"values"}),
    ],
)
def test_example_run(kind, name, columns):
    """One small example of a definition is compared in every column that applies."""
    found = compare_example(kind, name)
    assert {column for column, said in found.items() if said == "match"} == columns
    assert set(found.values()) <= {"match", "-"}


def test_printed():
    """The tables end in one line of counts."""
    out = io.StringIO()
    complete = printing.print_coverage(Console(width=150, no_color=True, file=out))
    text = out.getvalue()
    assert complete
    assert (
        text.splitlines()[-1]
        == "layer 93/93, activation 32/32, loss 22/22, optimizer 16/16, schedule 6/6, regularizer 4/4, constraint 4/4"
    )
    assert text.splitlines()[0].startswith("What Keras 3.")
    assert "MultiHeadAttention" in text and "AveragePooling2D = AvgPool2D" in text
    assert sum(line.startswith("compared with --run: ") for line in text.splitlines()) == len(registry.KINDS)
    assert "no twin, on purpose: InputLayer" in text


def test_activations_have_their_departures():
    """A departure of an activation stands beside it."""
    rows = {row.name: row.departures for row in coverage.cover("activation").rows}
    assert rows["sparsemax"] == ("sparsemax-sums-the-sums",)
    assert rows["tanh"] == ()


def test_results_fit_in_columns():
    """A long answer is one word in the table; it is told in full below it."""
    out = io.StringIO()
    told = {"values": "ValueError: " + "so long " * 40, "float32": "match", "weights": "killed the process (signal 9)"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            printing,
            "compare_examples",
            lambda wanted: [ExampleResult(kind, name, told) for kind, name in wanted if kind == "constraint"],
        )
        assert not printing.print_coverage(Console(width=200, no_color=True, file=out), run=True)
    line = next(line for line in out.getvalue().splitlines() if line.startswith("constraints  MaxNorm"))
    assert line[line.index("twin") :].split()[:4] == ["twin", "ValueError", "match", "killed"]
    assert "constraint MaxNorm: values ValueError: so long so long" in out.getvalue()
