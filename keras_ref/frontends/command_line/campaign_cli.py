"""gradtwin campaign: the operations of Keras and TensorFlow at points where derivatives go wrong.

Exit status: 0 nothing is accused, 1 an operation is accused.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keras_ref.errors import CouldNotRun
from keras_ref.options import FILE, OPTIONS
from keras_ref.reports.files import refuse_unwritable
from keras_ref.reports.terminal import make_console, make_ticker, show_progress

#: the backends of Keras whose gradients a campaign checks
BACKENDS = ("tensorflow", "jax")

if TYPE_CHECKING:
    from keras_ref.campaign.results import Result


def campaign(
    patterns: Annotated[
        list[str],
        typer.Argument(metavar="[PATTERN]…", help="Operations, such as 'keras.ops.*' or 'tensorflow.math.xlogy'."),
    ] = [],
    file: Annotated[
        str,
        typer.Option(
            "--file", metavar=FILE, help="Write results to this file; a campaign that was stopped goes on from it."
        ),
    ] = "",
    deep: Annotated[
        bool, typer.Option("--deep", help="Second derivatives, forward mode and compiled execution too.")
    ] = False,
    workers: Annotated[int, typer.Option("--workers", help="How many processes check.")] = 2,
    backend: Annotated[
        str,
        typer.Option(
            "--backend", help="The backend of Keras whose gradients of keras.ops are checked: tensorflow or jax."
        ),
    ] = "tensorflow",
    seed: Annotated[int, typer.Option("--seed", help=OPTIONS["seed"].help)] = 0,
    table: Annotated[
        str,
        typer.Option(
            "--table", metavar=FILE, help="Print the tables of a campaign from its file, in Markdown; check nothing."
        ),
    ] = "",
    show: Annotated[bool, typer.Option("--list", help="List the operations; check nothing.")] = False,
) -> None:
    """Check every operation of keras.ops, tf.math, tf.linalg, tf.nn, tf.signal, tf.image and tf.sparse.

    Each at generic points and at zeros, ties, edges of its domain, singular matrices, huge and subnormal numbers.
    """
    if workers < 1:
        raise CouldNotRun(f"--workers must be at least 1. Received: {workers}. Pass a number of processes.")
    if backend not in BACKENDS or (deep and backend != "tensorflow"):
        raise CouldNotRun(
            f"--backend must be tensorflow, or jax without --deep. Received: {backend}{' --deep' if deep else ''}. "
            "Choose one."
        )
    if table:
        from keras_ref.campaign.records import read_record, tabulate

        for line in tabulate(read_record(table)[1]):
            _say(line)
        return
    from keras_ref.campaign.subjects import list_names

    every = list_names()
    if backend != "tensorflow":
        every = tuple(name for name in every if name.startswith("keras.ops."))
    names = [name for name in every if not patterns or any(fnmatch.fnmatchcase(name, p) for p in patterns)]
    if not names:
        raise CouldNotRun(
            f"A pattern must match an operation. Received: {', '.join(patterns)}. `gradtwin campaign --list` has all."
        )
    if show:
        for name in names:
            _say(name)
        return
    from keras_ref.campaign.records import list_accusations, summarize

    results = _run(names, file=file, deep=deep, workers=workers, seed=seed, backend=backend)
    for line in summarize(results):
        _say(line)
    raise typer.Exit(1 if list_accusations(results) else 0)


def _run(names: list[str], *, file: str, deep: bool, workers: int, seed: int, backend: str) -> list[Result]:
    from keras_ref.campaign import records
    from keras_ref.campaign.standing import describe_installed

    head = {"seed": seed, "deep": deep, "versions": describe_installed()}
    if backend != "tensorflow":
        head["backend"] = backend
    if not file:
        return _check(names, [], file="", workers=workers, head=head)
    refuse_unwritable("--file", file)
    with records.claim(file):
        results = records.read_results(file, head=head)
        records.begin(file, head=head, results=results)
        with records.claim(file):  # another one than before
            return _check(names, results, file=file, workers=workers, head=head)


def _check(
    names: list[str], results: list[Result], *, file: str, workers: int, head: Mapping[str, Any]
) -> list[Result]:
    """All results, those that there are among them; each new one is added to the file."""
    from keras_ref.campaign import records
    from keras_ref.campaign.run import run_campaign

    done = {result.name for result in results}
    left = [name for name in names if name not in done]
    if done:
        _say(f"{len(done)} operations are in {file}; {len(left)} are left.")
    running = run_campaign(
        left,
        seed=head["seed"],
        deep=head["deep"],
        workers=min(workers, max(1, len(left))),
        backend=head.get("backend", "tensorflow"),
    )
    with show_progress(make_console()) as bar, closing(running):
        progress = make_ticker(bar, "campaign")
        for result in running:
            results.append(result)
            if file:
                records.append(file, result)
            progress(len(results), len(names), result.name)
    return results


def _say(text: str) -> None:
    make_console().print(text, markup=False, highlight=False, soft_wrap=True)
