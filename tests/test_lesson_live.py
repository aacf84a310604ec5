"""The live part of the lesson's page in headless Chromium: pushed, nudged, stepped, taken home, and given bad input."""

import contextlib
import io
import json
from itertools import pairwise

import browser
import numpy as np
import pytest
from lesson_pages import NETWORKS, click, until
from reference_network import flat

from keras_ref.lesson import make
from keras_ref.lesson.live import read_questions
from keras_ref.lesson.page import build_page
from keras_ref.lesson.words import read_words
from scratch.recipe import INPUTS, OUTPUTS, RECIPE_1, RECIPE_2, update_weights

#: digits of a number that the page shows in full
SHOWN = 1e-9


def _text(driver, element):
    return driver.execute_script("return document.getElementById(arguments[0]).textContent", element)


def _table(driver):
    """[(weight, value, nudged slope, slope by the chain rule, reason), …] of the table of weights."""
    return driver.execute_script(
        "return [...document.querySelectorAll('#live-weights tbody tr')].map((r) => [r.cells[0].textContent, "
        "Number(r.querySelector('input').value), ...[2, 3].map((k) => r.cells[k].dataset.value ?? null), "
        "r.cells[5].textContent])"
    )


def _type(driver, selector, text):
    driver.execute_script(
        "const e = document.querySelector(arguments[0]); e.value = arguments[1];"
        "for (const kind of ['input', 'change']) e.dispatchEvent(new Event(kind, {bubbles: true}));",
        selector,
        text,
    )


def _present(driver):
    return driver.execute_script("return live.present()")


@pytest.mark.sampled
@pytest.mark.parametrize("shown", ["recipe2"], indirect=True)
def test_push_nudge_and_back_propagate(shown, driver):
    from selenium.webdriver.common.keys import Keys

    network = NETWORKS["recipe2"]
    driver.execute_script("document.querySelector('#live-network [data-i=\"2\"]').focus()")
    for key, value in ((Keys.ARROW_UP, 0.13494298), (Keys.PAGE_DOWN, -0.86505702), (Keys.PAGE_UP, 0.13494298)):
        driver.switch_to.active_element.send_keys(key)
        assert _table(driver)[2][1] == value
        assert _present(driver)["weights"][2] == value
        assert driver.switch_to.active_element.get_attribute("aria-valuenow") == str(value)
    assert "1 · 0.13494 + 0 = 0.134943" in _text(driver, "live-formula")
    _type(driver, '#live-weights [data-i="2"]', "0,03494298")  # a decimal comma
    assert _present(driver)["weights"] == list(flat(network.weights))
    assert not any(nudged or exact for _, _, nudged, exact, _ in _table(driver))
    slopes, exact = flat(network.nudged(list(network.weights))), flat(network.chain_rule(list(network.weights)))
    noise = network.noise()
    for i, (slope, back) in enumerate(zip(slopes, exact, strict=True)):
        click(driver, "live-nudge")
        assert abs(float(_table(driver)[i][2]) - slope) <= noise and _table(driver)[i][3] is None
        assert "was nudged by 0.0001" in _text(driver, "live-message")
        click(driver, "live-nudge")
        label, _, _, found, reason = _table(driver)[i]
        assert abs(float(found) - back) <= SHOWN * max(abs(back), 1.0)
        assert _text(driver, "live-message").startswith(
            f"The chain rule for {label}, from the loss backwards: ∂L/∂ŷ = "
        )
        assert reason.startswith("the loss does not depend" if back == 0 else "the loss is curved: h/2·f″ = ")
        total = driver.execute_script(
            "return document.querySelector('#live-chain tr:last-child td:last-child').dataset.value"
        )
        assert float(total) == float(found)
    drawn = driver.execute_script(
        "return [...document.querySelectorAll('#live-network .weight')].map((g) => "
        "['mine', 'theirs'].map((name) => g.querySelector(`text.${name}`).textContent))"
    )
    assert len(drawn) == len(slopes) and all(mine and theirs for mine, theirs in drawn)
    dead = driver.execute_script("return [...document.querySelectorAll('.node.dead')].map((g) => g.dataset.node)")
    assert dead == ["unit-0", "unit-1"]


@pytest.mark.sampled
@pytest.mark.parametrize("shown", ["recipe1"], indirect=True)
def test_the_chain_rule_is_there_before_the_first_nudge(shown, driver):
    """The rule and its factors, for the weight that is looked at; products and sum when it has been applied."""
    (kernel,), (bias,) = RECIPE_1

    def chain():
        return driver.execute_script(
            "return [...document.querySelectorAll('#live-chain tr')].map((row) => [...row.cells].map((cell) => "
            "cell.dataset.value === undefined ? cell.textContent : Number(cell.dataset.value)))"
        )

    assert "the slope is Σ 2(ŷ − y)/n · x." in _text(driver, "live-chain-formula")
    head, *rows, total = chain()
    assert head[1:-1] == ["2(ŷ − y)/n", "x"] and total[-1] == "?"
    for (_, loss, factor, product), (x,), (y,) in zip(rows, INPUTS, OUTPUTS, strict=True):
        assert (factor, product) == (x, "?")
        assert abs(loss - 2 * (x * kernel[0] + bias - y) / len(INPUTS)) <= NETWORKS["recipe1"].noise()
    click(driver, "live-nudge")
    click(driver, "live-nudge")
    _, *rows, total = chain()
    assert all(product == loss * factor for _, loss, factor, product in rows)
    assert abs(total[-1] - sum(product for *_, product in rows)) <= NETWORKS["recipe1"].noise()


@pytest.mark.sampled
@pytest.mark.parametrize("shown", ["recipe1", "recipe2"], indirect=True)
def test_step_back_and_reset(shown, driver):
    start = {"recipe1": RECIPE_1, "recipe2": RECIPE_2}[shown.name]
    rounding = NETWORKS[shown.name].noise() * 0.01 * 4
    for epochs in (1, 2, 3):
        click(driver, "live-step")
        wanted = flat([np.array(w) for w in update_weights(INPUTS, OUTPUTS, start, epochs)])
        np.testing.assert_allclose(_present(driver)["weights"], wanted, rtol=0, atol=rounding)
        if epochs == 1 and shown.name == "recipe2":
            assert _text(driver, "live-message").startswith("Epoch 1: unit 3 dies: 0 for every sample")
    _type(driver, "#live-epoch", "1")
    wanted = flat([np.array(w) for w in update_weights(INPUTS, OUTPUTS, start, 1)])
    np.testing.assert_allclose(_present(driver)["weights"], wanted, rtol=0, atol=rounding)
    assert _text(driver, "live-epoch-now") == "epoch 1 of 3"
    until(driver, "return document.getElementById('live-path').data[1].x.length === 2")
    click(driver, "live-back")
    assert _present(driver)["weights"] == flat(start).tolist()
    click(driver, "live-run")
    until(driver, "return live.present().epoch >= 5")
    click(driver, "live-run")
    click(driver, "live-reset")
    assert (_present(driver)["weights"], _present(driver)["epoch"]) == (flat(start).tolist(), 0)


@pytest.mark.sampled
@pytest.mark.parametrize("shown", ["recipe1"], indirect=True)
def test_why(shown, driver):
    """Each button sets up what it speaks of."""

    def why(name):
        driver.execute_script(f"document.querySelector('[data-why={name}]').click()")
        return _present(driver), _table(driver)

    _, table = why("kink")
    assert float(table[0][2]) < 0 == float(table[0][3]) and table[0][4] == "a kink lies within the nudge"
    state, table = why("dead")
    assert driver.execute_script("return engine.deadUnits(live.present())") == [0, 1, 2]
    assert all(float(row[2]) == float(row[3]) == 0 for row in table[:-1]) and float(table[-1][3]) != 0
    state, _ = why("large")
    losses = driver.execute_script("return live.now.history.map((state) => engine.lossOf(state))")
    assert state["epoch"] == 8 and all(after > before for before, after in pairwise(losses))
    _, table = why("rounding")
    assert abs(float(table[0][2]) / float(table[0][3]) - 1) > 1e-5 and table[0][4].startswith("rounding: ")
    _type(driver, "#set-nudge", "0.0001")
    _type(driver, "#set-rate", "0.2")
    for _ in range(40):
        click(driver, "live-step")
    assert "The training diverges: at epoch" in _text(driver, "live-message")


@pytest.mark.sampled
@pytest.mark.parametrize("shown", ["recipe1"], indirect=True)
def test_bad_input_and_links(shown, driver):
    """A sentence, and the state before it."""
    before = _present(driver)

    def refused(sentence):
        assert _text(driver, "live-message") == sentence
        assert _present(driver) == before

    _type(driver, '#live-weights [data-i="0"]', "abc")
    refused("“abc” is not a number. dense/kernel stays 1.47787.")
    assert driver.execute_script("return document.querySelector('#live-weights [data-i=\"0\"]').value") == "1.477867"
    _type(driver, "#set-nudge", "0")
    refused("nudge h must be a number above 0. “0” is not. It stays 0.0001.")
    _type(driver, '#live-weights [data-i="0"]', "1e200")
    refused("This would overflow: the loss is no finite number any more. The state before it is kept.")
    for table, sentence in (
        ("1 2\nthree 4", "Line 2, “three 4”, is not two numbers. The samples stay as they are."),
        ("", "There are no numbers in this table. The samples stay as they are."),
        ("1 2\n" * 65, "At most 64 samples can be shown; this table has 65. The samples stay as they are."),
    ):
        driver.execute_script("document.getElementById('live-table').value = arguments[0]", table)
        click(driver, "live-use")
        refused(sentence)
    driver.execute_script("document.getElementById('live-table').value = 'x\\ty\\n1,5\\t-2\\n3\\t4'")
    click(driver, "live-use")
    click(driver, "live-step")
    kept = _present(driver)
    assert (kept["x"], kept["y"]) == ([1.5, 3], [-2, 4])
    click(driver, "live-link")
    link = driver.execute_script("return document.getElementById('live-address').value.split('#')[1]")
    click(driver, "live-reset")
    for broken in (link[:-3], link[:40] + ("A" if link[40] != "A" else "B") + link[41:], "try=", "try=1.{}"):
        driver.execute_script("location.hash = arguments[0]", broken)
        until(driver, "return document.getElementById('live-message').textContent.startsWith('This link is damaged')")
        assert _present(driver) == before
        click(driver, "live-reset")
    driver.execute_script("location.hash = arguments[0]", link)
    until(driver, "return document.getElementById('live-message').textContent.startsWith('The state of the link')")
    assert _present(driver) == kept


@pytest.mark.slow
@pytest.mark.parametrize("shown", ["recipe2"], indirect=True)
def test_an_edit_is_answered_at_once(shown, driver):
    """Everything that the page computes and writes, with the layout, in the 95th of 100 edits, in ms.

    A browser has no clock of its own processor time, so this needs a machine at rest: it is not in the default run.
    """
    click(driver, "live-all")
    times = driver.execute_script(
        "return [...Array(100).keys()].map((k) => { const from = performance.now();"
        "live.pushWeight(k % 10, live.present().weights[k % 10] + (k % 2 ? 0.25 : -0.25));"
        "document.body.offsetHeight; return performance.now() - from; })"
    )
    assert np.percentile(times, 95) <= 50


@pytest.mark.sampled
@pytest.mark.parametrize("shown", ["recipe2"], indirect=True)
@pytest.mark.parametrize("setting", ["as it is", "tanh, absolute error, Adam, batches of 3"])
def test_programs_print_what_the_page_shows(shown, driver, setting):
    import keras

    if setting != "as it is":
        for name, value in {"activation": "tanh", "loss": "absolute", "optimizer": "adam", "batch": "3"}.items():
            _type(driver, f"#set-{name}", value)
    driver.execute_script("document.querySelector('[data-program=notebook]').click()")
    notebook = json.loads(_text(driver, "live-source"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    click(driver, "live-all")
    loss = driver.execute_script("return document.getElementById('live-loss').textContent")
    table = _table(driver)
    for kind, column, words in (("numpy", 2, "nudged slope of"), ("keras", 3, "back-propagation of")):
        driver.execute_script(f"document.querySelector('[data-program={kind}]').click()")
        source = _text(driver, "live-source")
        assert source in cells
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            try:
                exec(compile(source, kind, "exec"), {"__name__": "__main__"})
            finally:
                keras.config.set_floatx("float32")  # as a test finds them
                keras.config.set_dtype_policy("float32")
        lines = printed.getvalue().splitlines()
        assert abs(float(lines[0].removeprefix("loss ")) - float(loss)) <= SHOWN * float(loss)
        got = [line.removeprefix(f"{words} ").rsplit(" ", 1) for line in lines[1 : 1 + len(table)]]
        assert [name for name, _ in got] == [row[0] for row in table]
        noise = SHOWN + NETWORKS["recipe2"].noise() * (column == 2)
        np.testing.assert_allclose([float(v) for _, v in got], [float(row[column]) for row in table], SHOWN, noise)
        _type(driver, "#set-slopes", "nudged" if kind == "numpy" else "exact")
        click(driver, "live-step")
        after = [float(line.rsplit(" ", 1)[1]) for line in lines[1 + len(table) :]]
        np.testing.assert_allclose(after, [row[1] for row in _table(driver)], SHOWN, noise)
        click(driver, "live-back")


@pytest.mark.sampled
def test_no_violation_of_axe(pages, driver):
    """The rules of axe-core, in every part, in both themes, on a phone's width and a projector's."""
    axe = pytest.importorskip("axe_core_python", reason="needs gradtwin[test]")
    from pathlib import Path

    source = (Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
    for name, width, scheme in (("recipe1", 375, "light"), ("recipe2", 1600, "dark")):
        browser.emulate(driver, width=width, scheme=scheme)
        driver.get("about:blank")
        driver.get(pages(name).path.as_uri())
        until(driver, "return document.documentElement.dataset.ready === 'yes'")
        driver.execute_script(source)
        for part in ("live", "step", "epochs", "landscape", "what-if", "code")[: 6 if name == "recipe2" else 1]:
            click(driver, f"tab-{part}")
            if part == "live":
                for button in ("live-all", "live-link"):
                    click(driver, button)
            found = driver.execute_async_script(
                "const done = arguments[0]; axe.run(document, {resultTypes: ['violations']}).then((r) => done("
                "r.violations.map((v) => [v.id, v.nodes.map((n) => n.html.slice(0, 120))])))"
            )
            assert found == [], (name, part)


@pytest.mark.sampled
def test_an_exercise_in_german(driver, tmp_path):
    """Answers are hidden until they were predicted; all strings of the live part are those of one file."""
    german, path = read_words("de").texts, tmp_path / "exercise.html"
    path.write_text(build_page(make("recipe2", epochs=1), language="de", questions=read_questions()), encoding="utf-8")
    browser.emulate(driver, width=1280, scheme="light")
    driver.get(path.as_uri())
    until(driver, "return document.documentElement.dataset.ready === 'yes'")
    assert driver.execute_script("return document.documentElement.lang") == "de"
    assert _text(driver, "tab-live") == german["tab_live"]
    visible = (
        "return [...document.querySelectorAll(arguments[0])]"
        ".filter((e) => e.checkVisibility({visibilityProperty: true})).length"
    )
    answers = driver.execute_script(
        "return live.record.exercise.map((q) => exercise.KINDS[q.kind](q, exercise.situation(q)).right)"
    )
    assert answers == [[1], [1], [0], [1], [1], [0], [0, 1], [2], [0], [2], [0, 1, 2], [0, 1]]
    for k, right in enumerate(answers):
        assert german["exercise_count"].format(number=k + 1, count=12) in _text(driver, "exercise")
        assert driver.execute_script(visible, "[role=tab], .bar button, [data-program]") == 0
        assert not any(nudged or exact for _, _, nudged, exact, _ in _table(driver))
        wanted = right if k else [0]  # the first prediction is wrong
        driver.execute_script(
            "for (const k of arguments[0]) document.querySelector(`#exercise input[value='${k}']`).click();"
            "document.querySelector('#exercise button').click()",
            wanted,
        )
        told = driver.execute_script("return document.querySelector('#exercise .told').textContent")
        assert told.startswith(german["exercise_right" if k else "exercise_wrong"])
        assert driver.execute_script(visible, ".bar button") == 6
        assert all(nudged and exact for _, _, nudged, exact, _ in _table(driver))
        driver.execute_script("document.querySelector('#exercise button').click()")
    assert german["exercise_done"].format(right=11, count=12) in _text(driver, "exercise")
    assert driver.execute_script(visible, "[role=tab]") == 6
    assert driver.get_log("browser") == []


def test_what_is_drawn_of_a_model(monkeypatch):
    """A chain of Dense layers with its weights; of more layers than fit side by side none, and a sentence instead."""
    from keras_ref.lesson import live
    from keras_ref.lesson.lesson_model import make_recipe_model

    hidden, output = live.draw_layers(make_recipe_model("recipe2"))
    assert [list(hidden.kernel[0]), list(hidden.bias)] == [list(RECIPE_2[0][0]), RECIPE_2[1]]
    assert (hidden.text, output.text, hidden.units) == ("relu", "linear", 3)
    monkeypatch.setattr(live, "LAYERS", 1)
    assert live.draw_layers(make_recipe_model("recipe2")) == ()


@pytest.mark.sampled
@pytest.mark.parametrize("shown", ["classifier"], indirect=True)
def test_other_models_are_drawn_and_not_edited(shown, driver):
    assert driver.execute_script(
        "return [document.getElementById('panel-live'), document.getElementById('live-nudge')]"
    ) == [None, None]
    drawn = driver.execute_script(
        "return [...document.querySelectorAll('#model-drawing .weight title')].map((t) => t.textContent)"
    )
    kernels = [NETWORKS["classifier"].weights[k] for k in (0, 2)]
    assert sorted(float(text.split(" = ")[1]) for text in drawn) == sorted(
        float(w) for k in kernels for w in np.ravel(k)
    )
    assert driver.execute_script("return document.querySelectorAll('#model-drawing circle').length") == 2 + 3 + 2
    assert driver.execute_script("return document.querySelectorAll('#model-drawing [tabindex]').length") == 0
