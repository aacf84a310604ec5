"""What `gradtwin` alone shows: both recipes of the book beside Keras, and a gallery of small models on real data.

One screen of at most 30 lines and 100 columns; with --verbose every weight and every variable has a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich.console import Console
from rich.table import Table

from keras_ref.checks.gradients import check_gradients
from keras_ref.checks.updates import check_updates
from keras_ref.frontends.command_line.gallery import Exhibit, exhibits
from keras_ref.lesson.recipe_table import RECIPES, RecipeRow, compare_recipe
from keras_ref.reports.terminal import format_number, make_ticker, report_table, show_progress
from keras_ref.reports.verdict import Report, find_worst
from scratch.progress import Progress
from scratch.recipe import LEARNING_RATE

#: training steps of the gallery's check of updates, as check_updates takes them by default
STEPS = 3


@dataclass(frozen=True)
class Checked:
    """A model of the gallery with the reports on its gradients and on its training steps."""

    exhibit: Exhibit
    gradients: Report
    updates: Report

    @property
    def reports(self) -> tuple[Report, Report]:
        """Both reports."""
        return self.gradients, self.updates


def show_overview(out: Console, *, seed: int, verbose: bool) -> bool:
    """Compare the recipes, check the gallery, print it all. Returns whether everything matches."""
    recipes = {name: compare_recipe(weights) for name, (weights, _) in RECIPES.items()}
    with show_progress(out) as bar:
        checked = [_check(exhibit, seed, make_ticker(bar, exhibit.name)) for exhibit in exhibits()]
    if verbose:
        _print_every_weight(out, recipes)
        _print_every_variable(out, checked)
    else:
        _print_recipes(out, recipes)
        out.print()
        out.print(_build_gallery_table(checked))
        out.print()
    reports = [report for one in checked for report in one.reports]
    failed = [report for report in reports if not report.ok]
    for report in failed:
        out.print(report.explain(), markup=False, soft_wrap=True)
    variables, entries = sum(len(r.verdicts) for r in reports), sum(v.compared for r in reports for v in r.verdicts)
    if not verbose:
        out.print("Every number: gradtwin --verbose. Your own model: gradtwin check --help.")
    out.print(
        f"{len(reports) - len(failed)} of {len(reports)} checks match: {variables} verdicts on {entries} entries, "
        f"seed {seed}. " + ("See the six lines of each mismatch above." if failed else "NumPy and Keras agree."),
        soft_wrap=True,
    )
    return not failed


def _check(exhibit: Exhibit, seed: int, progress: Progress | None) -> Checked:
    batch = exhibit.model, exhibit.x, exhibit.y
    options: dict[str, Any] = {
        "loss": exhibit.loss,
        "weights": exhibit.weights,
        "seed": seed,
        "progress": progress,
    }
    gradients = check_gradients(*batch, **options)
    updates = check_updates(*batch, optimizer=exhibit.optimizer, steps=STEPS, **options)
    name = f"iris, {exhibit.name}"
    steps = f"{name}, {STEPS} steps of {type(exhibit.optimizer).__name__}"
    return Checked(exhibit, replace(gradients, subject=name), replace(updates, subject=steps))


# One screen -----------------------------------------------------------------------------------------------------------


def _print_recipes(out: Console, recipes: Mapping[str, Sequence[RecipeRow]]) -> None:
    out.print("One step of Neural Networks with Keras Cookbook: NumPy nudges by 0.0001, Keras back-propagates.")
    for i, (name, rows) in enumerate(recipes.items()):
        table = Table(
            title=f"Recipe {name[-1]}: {RECIPES[name][1]}",
            title_justify="left",
            box=None,
            pad_edge=False,
            show_header=i == 0,
        )
        table.add_column("weight", min_width=20, no_wrap=True)
        for column in ("before", "after, NumPy", "after, Keras", "difference", "caused by the nudge"):
            table.add_column(column, justify="right", no_wrap=True, min_width=max(len(column), 12))
        for row in rows:
            values = (f"{row.start:.8f}", f"{row.nudged:.9f}", f"{row.keras:.9f}")
            # + 0.0 makes a 0 of -0
            table.add_row(row.name, *values, f"{row.difference + 0.0:+.2e}", f"{row.explained + 0.0:+.2e}")
        out.print(table)


def _build_gallery_table(checked: Sequence[Checked]) -> Table:
    """One line per model."""
    table = Table(title="Small models on the iris data", title_justify="left", box=None, pad_edge=False)
    table.add_column("model", no_wrap=True)
    for column in ("entries", "gradients", f"{STEPS} training steps", "smallest error it would have seen"):
        table.add_column(column, justify="right", no_wrap=True)
    for one in checked:
        visible = [v.visible for v in one.gradients.verdicts if v.visible == v.visible]
        table.add_row(
            one.exhibit.name,
            str(sum({v.name: v.total for v in one.gradients.verdicts}.values())),
            _describe_worst(one.gradients),
            f"{_describe_worst(one.updates)} ({type(one.exhibit.optimizer).__name__})",
            format_number(max(visible, default=float("nan"))),
            style="" if all(report.ok for report in one.reports) else "red",
        )
    return table


def _describe_worst(report: Report) -> str:
    return find_worst(v.verdict for v in report.verdicts)


# --verbose ------------------------------------------------------------------------------------------------------------


def _print_every_weight(out: Console, recipes: Mapping[str, Sequence[RecipeRow]]) -> None:
    for name, rows in recipes.items():
        title = f"{name}, 1 epoch: {RECIPES[name][1]}"
        table = Table(title=title, title_justify="left", box=None, pad_edge=False)
        table.add_column("weight", no_wrap=True)
        for column in ("start", "nudged (NumPy)", "back-propagated (Keras)", "difference", "explained by h/2·f''"):
            table.add_column(column, justify="right", no_wrap=True)
        for row in rows:
            values = (f"{row.start:.8f}", f"{row.nudged:.12f}", f"{row.keras:.12f}")
            table.add_row(row.name, *values, f"{row.difference:+.3e}", f"{row.explained:+.3e}")
        out.print(table)
        if name == "recipe1":
            error = -rows[0].explained / LEARNING_RATE
            out.print(
                f"The forward difference errs by h·mean(x²) = {error:.2e} in the slope of the weight, hence by "
                f"{error * LEARNING_RATE:.2e} in the weight.",
                soft_wrap=True,
            )
        out.print()


def _print_every_variable(out: Console, checked: Iterable[Checked]) -> None:
    for one in checked:
        for report in one.reports:
            out.print(report_table(report, out.width))
            out.print()
