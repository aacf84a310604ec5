"""The lesson's page in headless Chromium: what it shows is what the engine computed, and what a hand computes too."""

import re

import numpy as np
import pytest
from lesson_pages import EPOCHS, click, figure, rows, slide, until
from reference_network import H, flat

from keras_ref.lesson import page as page_module
from scratch.differences import UNIT

#: how far paths of EPOCHS steps may drift apart, computed in another order, relative: a slope by nudges carries the
#: rounding of a loss over H, one by the chain rule that of some dozens of operations
NUDGED, EXACT = 16 * EPOCHS * UNIT / H, 128 * EPOCHS * UNIT
LABELS = {"recipe1": ["dense/kernel", "dense/bias"]}


def _agrees(text, value, expected, digits=10, noise=0.0):
    """What is shown is the engine's number, rounded; and the engine's number is the one computed by hand.

    Differences, shown with 3 digits, are kept with 6.
    """
    value = float(value)
    noise += 5e-6 * abs(value) if digits == 3 else 0.0
    assert text.lstrip("+") == (f"{value:.{digits}g}" if value else "0"), (text, value)
    assert abs(value - expected) <= noise + 64 * np.finfo(float).eps * max(abs(value), 1.0), (text, value, expected)


@pytest.mark.sampled
def test_one_file(shown):
    text = shown.path.read_text(encoding="utf-8")
    assert shown.path.stat().st_size <= page_module.LIMIT
    assert f"{shown.path}: open it in a browser; it needs nothing else." in shown.printed
    assert "are within what is allowed." in shown.printed and " exceed " not in shown.printed
    assert (
        re.findall(
            r"""(?:src|href|url)\s*[=(]\s*["']?(?!#|data:)[^\s"'>)]+""",
            text.split('<script type="application/json"')[0],
        )
        == []
    )
    assert "@import" not in text and "<iframe" not in text and '<link rel="stylesheet"' not in text


@pytest.mark.sampled
def test_one_epoch(shown, driver):
    network, start = shown.network, list(shown.network.weights)
    tables = driver.execute_script(
        "return [...document.querySelectorAll('.tensors table')].map((t) => "
        "[...t.querySelectorAll('td.n')].map((c) => [c.textContent, c.dataset.value]));"
    )
    signals = network.signals(start)
    np.testing.assert_allclose([float(v) for _, v in tables[0]], signals[0].ravel(), rtol=4 * UNIT)
    for signal in signals[1:]:
        assert any(
            len(t) == signal.size
            and np.allclose([float(v) for _, v in t], signal.ravel(), rtol=256 * UNIT, atol=4 * UNIT)
            for t in tables
        )
    for element in ("first-loss", "first-keras-loss"):
        _agrees(
            *driver.execute_script(
                "const e = document.getElementById(arguments[0]); return [e.textContent, e.dataset.value];", element
            ),
            network.loss(start),
        )
    slopes, exact = flat(network.nudged(start)), flat(network.chain_rule(start))
    second = (slopes - flat(network.nudged(start, -H))) / 2
    stepped, beside = flat(start) - network.rate * slopes, flat(start) - network.rate * exact
    noise = network.noise()
    first = driver.execute_script("return document.querySelector('.walk:not([hidden])').id")
    seen = set()
    for _ in range(len(slopes)):
        told = driver.execute_script(
            "const w = document.querySelector('.walk:not([hidden])'); return [w.id, "
            "[...w.querySelectorAll('b')].map((b) => [b.dataset.name, b.textContent, b.dataset.value])];"
        )
        i = int(told[0].removeprefix("walk-"))
        numbers = {name: (text, value) for name, text, value in told[1]}
        _agrees(*numbers["weight"], flat(start)[i])
        _agrees(*numbers["loss"], network.loss(start))
        _agrees(*numbers["slope"], slopes[i], noise=noise)
        _agrees(*numbers["autodiff"], exact[i])
        _agrees(*numbers["difference"], slopes[i] - exact[i], digits=3, noise=noise)
        _agrees(*numbers["explained"], second[i], digits=3, noise=noise)
        _agrees(*numbers["updated"], stepped[i], noise=network.rate * noise)
        _agrees(*numbers["keras_updated"], beside[i])
        assert abs(float(numbers["difference"][1])) <= float(numbers["allowed"][1])
        seen.add(i)
        click(driver, "walk-on")
    assert seen == set(range(len(slopes)))
    assert driver.execute_script("return document.querySelector('.walk:not([hidden])').id") == first
    table = rows(driver, "#panel-step .tight")
    for (_, cells), slope, back in zip(table, slopes, exact, strict=True):
        _agrees(*cells[2], slope, noise=noise)
        _agrees(*cells[3], back)


@pytest.mark.sampled
def test_the_reason_stands_beside_the_difference(pages):
    text = pages("recipe1").path.read_text(encoding="utf-8")
    assert (
        "a nudge to one side measures its slope half a nudge further on: too large by h · mean(x²) = 0.00075." in text
    )
    assert "too large by h = 0.0001." in text


@pytest.mark.sampled
def test_slider_play_and_table(shown, driver):
    network = shown.network
    click(driver, "tab-epochs")
    nudged, beside = network.path(EPOCHS, network.nudged), network.path(EPOCHS, network.chain_rule)
    noise = network.noise() * network.rate * EPOCHS
    for epoch in (0, 1, 7, EPOCHS):
        slide(driver, epoch)
        assert (
            driver.execute_script("return [...document.querySelectorAll('.epoch-number')].map((e) => e.textContent)")
            == [f"epoch {epoch} of {EPOCHS}"] * 2
        )
        for element, weights in (("loss-nudged", nudged[epoch]), ("loss-keras", beside[epoch])):
            told = driver.execute_script(
                "const e = document.getElementById(arguments[0]); return [e.textContent, e.dataset.value];", element
            )
            _agrees(*told, network.loss(weights), noise=noise)
        found = rows(driver, "#epoch-table")
        exact = flat(network.chain_rule(nudged[epoch]))
        for i, (label, cells) in enumerate(found):
            assert label == LABELS.get(shown.name, [r[0] for r in found])[i]
            _agrees(*cells[0], flat(nudged[epoch])[i], noise=noise)
            _agrees(*cells[1], flat(beside[epoch])[i], noise=noise)
            _agrees(*cells[2], abs(flat(nudged[epoch])[i] - flat(beside[epoch])[i]), digits=3, noise=noise)
            _agrees(*cells[5], exact[i], noise=noise)
            assert float(cells[2][1]) <= float(cells[3][1]) and float(cells[6][1]) <= float(cells[7][1])
        said = driver.execute_script("return document.getElementById('said').textContent")
        assert said.startswith(
            f"Epoch {epoch}: loss {network.loss(nudged[epoch]):.6g} nudged, {network.loss(beside[epoch]):.6g} "
            f"back-propagated; "
        )
    slide(driver, EPOCHS - 3)
    click(driver, "play")
    assert driver.execute_script("return document.getElementById('play').textContent") == "Pause"
    until(
        driver,
        (
            f"return document.getElementById('slider').value === '{EPOCHS}' && "
            f"document.getElementById('play').textContent === 'Play'"
        ),
    )
    click(driver, "play")  # from the end it starts again
    until(driver, "return Number(document.getElementById('slider').value) >= 1")
    click(driver, "play")
    assert driver.execute_script("return document.getElementById('play').textContent") == "Play"
    assert 1 <= int(driver.execute_script("return document.getElementById('slider').value")) < EPOCHS


@pytest.mark.sampled
def test_figures_of_epochs(shown, driver):
    network = shown.network
    nudged, beside = network.path(EPOCHS, network.nudged), network.path(EPOCHS, network.chain_rule)
    click(driver, "tab-epochs")
    loss = figure(driver, "loss")
    np.testing.assert_allclose(loss["nudged (NumPy)"][1], [network.loss(w) for w in nudged], rtol=NUDGED)
    np.testing.assert_allclose(loss["back-propagated (Keras)"][1], [network.loss(w) for w in beside], rtol=EXACT)
    for i in (0, len(flat(network.weights)) - 1):
        driver.execute_script(
            (
                "const s = document.getElementById('entry'); s.value = String(arguments[0]); s.dispatchEvent(new "
                "Event('change'));"
            ),
            i,
        )
        np.testing.assert_allclose(
            figure(driver, "weight")["back-propagated (Keras)"][1], [flat(w)[i] for w in beside], rtol=EXACT
        )
        np.testing.assert_allclose(
            figure(driver, "weight")["nudged (NumPy)"][1], [flat(w)[i] for w in nudged], rtol=NUDGED
        )
        np.testing.assert_allclose(
            figure(driver, "slope")["nudged (NumPy)"][1],
            [flat(network.nudged(w))[i] for w in nudged],
            atol=network.noise(),
        )
        apart = figure(driver, "difference")
        below = apart["|slopes| differ by"][1], apart["slopes may differ by"][1]
        assert np.all((below[0] <= below[1]) | np.isnan(below[0]))
    assert driver.execute_script("return document.getElementById('difference').layout.yaxis.type") == "log"


@pytest.mark.sampled
def test_landscape(shown, driver):
    network = shown.network
    click(driver, "tab-landscape")
    slide(driver, 4, "landscape")
    some = ((0, 0), (0, 100), (50, 13), (100, 100))
    (a, b), heights = driver.execute_script(
        (
            "const c = document.getElementById('landscape-0').data[0]; return [lesson.landscapes[0].entries, "
            "arguments[0].map(([i, j]) => [c.x[j], c.y[i], c.customdata[i][j]])];"
        ),
        some,
    )
    for across, up, height in heights:
        moved = flat(network.weights)
        moved[a], moved[b] = across, up
        expected = network.loss(_shaped(moved, network.weights))
        assert abs(height - expected) <= 0.5000001 * 10 ** (np.floor(np.log10(expected)) - 4)  # five digits
    there = flat(network.path(4, network.nudged)[4])
    traces = figure(driver, "landscape-0")
    np.testing.assert_allclose(np.ravel(traces["this epoch"]), [there[a], there[b]], rtol=NUDGED)
    name = next(name for name in traces if name.startswith("nudges, "))
    times = [float(number) for number in re.findall(r"[0-9]+", name)]
    right, high = times[0] * H, times[-1] * H
    np.testing.assert_allclose(
        traces[name], [[there[a] + right, there[a], there[a]], [there[b], there[b], there[b] + high]], rtol=NUDGED
    )


def _shaped(vector, like):
    edges = np.cumsum([w.size for w in like])[:-1]
    return [part.reshape(w.shape) for part, w in zip(np.split(vector, edges), like, strict=True)]


@pytest.mark.sampled
def test_what_if(shown, driver):
    network, start = shown.network, list(shown.network.weights)
    click(driver, "tab-what-if")
    i = int(np.argmax(np.abs(flat(network.nudged(start)))))
    exact = flat(network.chain_rule(start))[i]
    precision = figure(driver, "precision")
    steps, errors = precision["forward"]
    assert (steps[0], steps[-1]) == (0.1, 1e-15)
    for k in (0, 8, 20, 28):  # 1e-1, 1e-3, 1e-6, 1e-8: before rounding is all there is
        mine = abs(flat(network.nudged(start, steps[k]))[i] - exact)
        assert abs(errors[k] - mine) <= network.noise() * H / steps[k]
    assert set(precision) >= {"forward", "central", "Richardson", "complex step", "best h of forward"}
    assert precision["best h of forward"][0][0] == steps[np.nanargmin(errors)]
    rates = figure(driver, "rates")
    for name, (_, losses) in rates.items():
        path = network.path(3, network.nudged, rate=float(name.removesuffix(" ↗")))
        tame = np.logical_and.accumulate(losses[:4] < 1e6)  # above that the slopes drown in the noise of the loss
        # errors grow with a path that runs away
        np.testing.assert_allclose(
            losses[:4][tame], np.array([network.loss(w) for w in path])[tame], rtol=1000 * NUDGED
        )
    away = [name for name in rates if name.endswith(" ↗")]
    assert len(away) == (0 if shown.name == "classifier" else 2)
    ends = dict(rows(driver, "div:has(> figure > #rates) > .scroll"))
    assert [
        f"{label} ↗" for label, cells in ends.items() if cells[1][0].startswith("diverges: stopped in epoch ")
    ] == away
    batches = figure(driver, "batches")
    full = next(name for name in batches if name.endswith("(all)"))
    np.testing.assert_allclose(
        batches[full][1], [network.loss(w) for w in network.path(EPOCHS, network.nudged)], rtol=NUDGED
    )
    assert len(batches["1"][0]) == EPOCHS * len(network.x) + 1
    optimizers = figure(driver, "optimizers")
    velocity, weights, expected = [0.0] * len(start), start, [network.loss(start)]
    for _ in range(EPOCHS):
        velocity = [0.9 * v - network.rate * g for v, g in zip(velocity, network.nudged(weights), strict=True)]
        weights = [w + v for w, v in zip(weights, velocity, strict=True)]
        expected.append(network.loss(weights))
    # 1 / (1 - 0.9): each step carries ten slopes
    np.testing.assert_allclose(optimizers["momentum 0.9"][1], expected, rtol=10 * NUDGED)
    assert set(optimizers) == {"SGD", "momentum 0.9", "Nesterov 0.9", "Adagrad", "RMSprop", "Adam"}


@pytest.mark.sampled
@pytest.mark.parametrize("shown", ["classifier"], indirect=True)
def test_numbers_of_a_figure(shown, driver):
    """Lines with points of their own keep them apart: batches of 1, of 2 and of all samples are looked at in different
    places.
    """
    click(driver, "tab-what-if")
    driver.execute_script("document.querySelector('details[data-of=batches]').open = true")
    until(driver, "return document.querySelector('details[data-of=batches] tbody tr') !== null")
    found, batches = rows(driver, "details[data-of=batches]"), figure(driver, "batches")
    assert len(found) == len(set(np.concatenate([x for x, _ in batches.values()])))
    for (where, cells), (x, y) in (
        (r, xy) for k, xy in enumerate(batches.values()) for r in [(row[0], row[1][k]) for row in found]
    ):
        near = np.flatnonzero([f"{v:.4g}" == where for v in x])
        assert (cells[0] == "") == (len(near) == 0)
        assert cells[0] == "" or cells[0] == f"{y[near[0]]:.6g}"


@pytest.mark.sampled
@pytest.mark.parametrize("shown", ["recipe1"], indirect=True)
def test_code(shown, driver):
    click(driver, "tab-code")
    source, printed, keras_source, keras_printed = driver.execute_script(
        "return [...document.querySelectorAll('#panel-code pre')].map((p) => p.textContent)"
    )
    assert "nudged[i][entry] += NUDGE" in source and "train_on_batch" in keras_source
    assert "1.556179450000008" in printed and "1.5561869" in keras_printed
    assert "only the output bias learns" in printed
