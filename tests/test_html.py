"""What a browser or a notebook shows of reports, verdicts, models, histories and lessons; `gradtwin check --html`."""

import json
import re
import sys

import numpy as np
import pytest
from command_line import Shell
from test_cli import RIGHT, WRONG

from keras_ref import check_gradients, check_updates
from keras_ref.reports.heat_map import WINDOW, ErrorWindow
from keras_ref.reports.html import find_worst_verdict, report_html
from keras_ref.reports.verdict import Report, Verdict
from scratch.layers.core import Dense
from scratch.model import Model
from scratch.training import fit

LIMIT = 2_000_000


@pytest.fixture(scope="module")
def wrong(tmp_path_factory):
    """The report on a layer whose gradient is half of what it should be in one column."""
    folder = tmp_path_factory.mktemp("wrong")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        Shell(folder).write_module("wrong_html_models", WRONG)
        import wrong_html_models

        return check_gradients(
            wrong_html_models.build(), np.arange(12.0).reshape(4, 3) / 8, np.arange(8.0).reshape(4, 2) / 8
        )


def cells_of(page, caption):
    """The numbers of the heat map with this caption, row by row, whole."""
    table = next(t for t in re.findall(r"<table>.*?</table>", page, re.DOTALL) if f"<caption>{caption}, up to" in t)
    body = table.split("<tbody>")[1]
    return np.array([[float(v) for v in re.findall(r'title="([^"]+)"', row)] for row in body.split("</tr>")[:-1]])


def test_a_failing_report(wrong):
    page = report_html(wrong)
    assert '<p class="state bad">1 of 4 verdicts fail.</p>' in page
    assert f'<pre tabindex="0">{wrong.failures[0].explain(wrong.replay)}</pre>'.replace("'", "&#x27;") in page
    for verdict in wrong.verdicts:
        assert f'<th scope="row">{verdict.name}</th>' in page
    assert re.search(
        (
            r'<tr class="bad"><th scope="row">sequential[^/]*/halved/kernel</th><td class="l">forward</td><td '
            r'class="l">mismatch</td><td class="n">8 of 8</td>'
        ),
        page,
    )
    numeric, autodiff, apart = (cells_of(page, name) for name in ("numeric", "autodiff", "numeric − autodiff"))
    assert numeric.shape == (4, 2)
    # the bug, entry by entry, to twice what this check allowed
    assert (np.abs(autodiff - numeric * [1.0, 0.5]) <= wrong.failures[0].visible).all()
    np.testing.assert_array_equal(apart, numeric - autodiff)
    worst = wrong.failures[0]
    assert (numeric[worst.worst], autodiff[worst.worst]) == (worst.numeric, worst.autodiff)
    assert page.count('worst"') == 3
    assert (
        re.findall(r"""(?:src|href)\s*=\s*["']?([^\s"'>]+)""", page) == ["data:,"]
        and "<script" not in page
        and "url(" not in page
    )


@pytest.mark.sampled
def test_check_html_from_the_command_line(gradtwin, tmp_path):
    status, out, err = gradtwin(
        "check", gradtwin.write_module("right_models", RIGHT), "--html", "report.html", "--json", "report.json"
    )
    assert (status, err) == (0, ""), out
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "All match." in page and "<h2>Failures</h2>" not in page
    assert "gradtwin check right_models:build</pre>" in page
    assert (
        page.count('<tr class=""><th scope="row">')
        == len(json.loads((tmp_path / "report.json").read_text())["verdicts"])
        == 10
    )
    assert "cells" not in (tmp_path / "report.json").read_text()
    status, out, _ = gradtwin("check", gradtwin.write_module("wrong_models", WRONG), "--html", "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert status == 1 and "1 of 4 verdicts fail." in page
    six = out[out.index("verdict    mismatch") :].splitlines()[:6]
    assert all(line.replace("'", "&#x27;") in page for line in six)
    status, _, err = gradtwin("check", "right_models:build", "--html", "no/such/folder.html")
    assert (status, err) == (
        2,
        (
            "gradtwin: --html must name a file that can be written. Received: no/such/folder.html: No such file or "
            "directory. Choose another path.\n"
        ),
    )


def test_the_report_of_a_large_model_stays_small():
    verdicts = tuple(
        Verdict(
            f"block_{i}/a_layer_with_a_long_name/kernel",
            "forward",
            "mismatch",
            10**6,
            10**6,
            {"mismatch": 10**6},
            (999, 999),
            1.0 + i,
            2.0,
            1.0,
            1.0,
            1e-12,
            1e-13,
            1e-9,
            cells=ErrorWindow.around(
                10**6 - 1,
                (1000, 1000),
                entries=np.arange(10**6),
                numeric=np.full(10**6, 2.0),
                autodiff=np.full(10**6, 1.0 + i),
            )
            if i == 0
            else None,
        )
        for i in range(5000)
    )
    page = report_html(Report("large", verdicts, replay="gradtwin check large:build"))
    assert len(page.encode()) <= LIMIT
    assert (
        "5000 of 5000 verdicts fail." in page
        and "Verdicts, failures first; the first 1000 of 5000" in page
        and "4950 more failures are in the table above." in page
    )


@pytest.mark.parametrize(
    ("shape", "worst"),
    [((), 0), ((1,), 0), ((5,), 3), ((3, 4), 7), ((100, 70), 6999), ((2, 3, 50), 149), ((40, 30), 600)],
)
def test_cells_around_the_worst(shape, worst):
    size = int(np.prod(shape))
    numeric = np.arange(size, dtype=float)
    entries = np.flatnonzero((np.arange(size) % 3 > 0) | (np.arange(size) == worst))  # some were not compared
    cells = ErrorWindow.around(worst, shape, entries=entries, numeric=numeric[entries], autodiff=-numeric[entries])
    width = shape[-1] if shape else 1
    whole = np.full(size, np.nan)
    whole[entries] = numeric[entries]
    whole = whole.reshape(-1, width)
    tall, wide = cells.numeric.shape
    assert (tall, wide) == (min(WINDOW, size // width), min(WINDOW, width))
    np.testing.assert_array_equal(cells.numeric, whole[cells.top : cells.top + tall, cells.left : cells.left + wide])
    np.testing.assert_array_equal(cells.difference, 2 * cells.numeric)
    assert (
        cells.numeric[cells.worst[0] - cells.top, cells.worst[1] - cells.left]
        == worst
        == cells.worst[0] * width + cells.worst[1]
    )


@pytest.mark.sampled
def test_nothing_compared_and_a_report_from_json(wrong):
    assert "Nothing was compared." in report_html(Report("empty", ()))
    assert find_worst_verdict(Report("empty", ())) is None
    bare = Report(
        "bare",
        (Verdict("w", "forward", "mismatch", 4, 4, {"mismatch": 1}, (1, 2), 0.5, 0.25, truncation=0.0, rounding=1e-9),),
    )
    page = report_html(bare)
    assert "this report kept only the worst entry" in page
    np.testing.assert_array_equal(cells_of(page, "numeric"), [[0.25]])


def test_an_update_shows_keras_and_its_twin(wrong):
    import keras

    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="dense")], name="mine")
    model.compile(optimizer=keras.optimizers.SGD(0.5), loss="mse")
    x, y = np.arange(12.0).reshape(4, 3) / 8, np.arange(8.0).reshape(4, 2) / 8
    report = check_updates(model, x, y, steps=1)
    page = report_html(report)
    worst = find_worst_verdict(report)
    assert cells_of(page, "Keras").shape == cells_of(page, "numeric").shape
    assert (
        cells_of(page, "Keras").ravel()[
            np.ravel_multi_index(
                worst.worst, worst.cells.numeric.shape if len(worst.worst) == 2 else (worst.cells.size,)
            )
        ]
        == worst.autodiff
    )


def test_reports_and_verdicts_in_notebooks(wrong):
    shown = wrong._repr_html_()
    assert shown.startswith(f"<p><b>{wrong.summary()}</b></p>")
    assert shown.count('<tr class="') == 4 and "mismatch" in shown
    assert wrong.failures[0].explain(wrong.replay).splitlines()[2].replace("'", "&#x27;") in shown
    one = wrong.failures[0]._repr_html_()
    assert "mismatch" in one and "numeric − autodiff" in one and f"{wrong.failures[0].autodiff!r}" in one
    assert "<b>" not in repr(wrong) and "mismatch" in repr(wrong)


def test_models_and_histories_in_notebooks():
    model = Model.chain({"hidden": Dense(2, "relu"), "output": Dense(1)}, (3,))
    shown = model._repr_html_()
    assert "<td>hidden</td>" in shown and "Dense(units=2, activation=&#x27;relu&#x27;, use_bias=True)" in shown
    assert "hidden/kernel 3 × 2" in shown or "hidden/kernel (3, 2)" in shown
    weights = {name: np.ones(shape) / 8 for name, shape in model.weight_shapes.items()}
    history = fit(model, weights, np.eye(3), np.ones((3, 1)), loss="MeanSquaredError", epochs=7, batch_size=None)
    shown = history._repr_html_()
    assert [float(v) for v in re.findall(r"<td>([^<]+)</td></tr>", shown)] == [
        float(f"{loss:.8g}") for loss in history.losses
    ]
    assert "History of 7 epochs" in repr(history) and f"{history.losses[-1]:.8g}" in repr(history)


@pytest.mark.sampled
def test_lessons_in_notebooks():
    from keras_ref.lesson import make

    lesson = make("recipe2", epochs=2)
    shown = lesson._repr_html_()
    assert "Recipe 2 of the book" in shown and "from epoch 2 on only the output bias learns" in shown
    assert f'data-value="{lesson.track.weights[2, -1]!r}"'.replace("np.float64(", "").replace(")", "") in shown
    assert "from epoch 2 on only the output bias learns" in repr(lesson)
    assert "tensorflow" in sys.modules
