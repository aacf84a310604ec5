"""Fixtures: pages of lessons, each made once by the command, and a browser that shows them; and what a test asks it."""

from dataclasses import dataclass
from pathlib import Path

import browser
import numpy as np
import pytest
from command_line import run_gradtwin
from reference_network import Network

from scratch.recipe import INPUTS, OUTPUTS, RECIPE_1, RECIPE_2

EPOCHS = 20
X = np.array([[1, -3], [2, 5], [-7, 4], [6, 1], [-2, -5]]) / 8
Y = np.eye(2)[[0, 1, 1, 0, 1]]
START = (
    [[3 / 8, -5 / 8, 7 / 8], [1 / 8, 9 / 8, -3 / 8]],
    [1 / 8, 0, 2 / 8],
    [[5 / 8, -1 / 8], [-3 / 8, 7 / 8], [2 / 8, 1 / 8]],
    [0, 1 / 8],
)
NETWORKS = {
    "recipe1": Network.of(INPUTS, OUTPUTS, RECIPE_1, 0.01),
    "recipe2": Network.of(INPUTS, OUTPUTS, RECIPE_2, 0.01),
    "classifier": Network.of(X, Y, START, 0.5, softmax=True),
}
FACTORY = f"""
import keras
import numpy as np

def build():
    layers = [keras.layers.Dense(3, "relu", name="hidden"), keras.layers.Dense(2, "softmax", name="out")]
    model = keras.Sequential([keras.Input((2,)), *layers], name="classifier")
    model.set_weights([np.array(w, dtype=float) for w in {START!r}])
    model.compile(optimizer=keras.optimizers.SGD(0.5), loss="categorical_crossentropy")
    return model
"""


@dataclass(frozen=True)
class Page:
    """A page, what the command printed, and the network that it is about."""

    name: str
    path: Path
    printed: str
    network: Network


@pytest.fixture(scope="session")
def pages(tmp_path_factory):
    """Pages by name, each made once by the command."""
    folder, made = tmp_path_factory.mktemp("pages"), {}
    (folder / "lesson_page_models.py").write_text(FACTORY)
    np.savez(folder / "data.npz", x=X, y=Y)

    def page(name):
        if name not in made:
            target = (
                ["lesson_page_models:build", "--data", str(folder / "data.npz")] if name == "classifier" else [name]
            )
            path = folder / f"{name}.html"
            made[name] = Page(
                name,
                path,
                _command(folder, "lesson", *target, "-o", str(path), "--epochs", str(EPOCHS)),
                NETWORKS[name],
            )
        return made[name]

    return page


def _command(folder, *arguments):
    """What `gradtwin …` prints; it must succeed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        done = run_gradtwin(*arguments)
    assert not done.status, done.err
    return done.out


@pytest.fixture(scope="session")
def driver(tmp_path_factory):
    if browser.missing():
        pytest.skip(browser.missing())
    started = browser.start(tmp_path_factory.mktemp("profile"))
    yield started
    started.quit()


@pytest.fixture(params=list(NETWORKS))
def shown(request, pages, driver):
    """A page, opened; afterwards: nothing complained, and nothing was loaded but the file itself."""
    page = pages(request.param)
    browser.emulate(driver, width=1600, scheme="light")
    browser.requests(driver)
    driver.get("about:blank")
    driver.get(page.path.as_uri())
    until(driver, "return document.documentElement.dataset.ready === 'yes'")
    yield page
    assert driver.get_log("browser") == []
    asked = [url for url in browser.requests(driver) if not url.startswith(("data:", "about:"))]
    assert set(asked) == {page.path.as_uri()}


def until(driver, script, seconds=20):
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(driver, seconds, poll_frequency=0.05).until(lambda d: d.execute_script(script))


def click(driver, element):
    driver.execute_script("document.getElementById(arguments[0]).click()", element)


def slide(driver, epoch, panel="epochs"):
    driver.execute_script(
        "const s = document.querySelector(`#panel-${arguments[0]} input.epoch`); s.value = arguments[1];"
        "for (const kind of ['input', 'change']) s.dispatchEvent(new Event(kind, {bubbles: true}));",
        panel,
        epoch,
    )


def rows(driver, table):
    """[(heading, [(text, data-value), …]), …] of a table's body."""
    return driver.execute_script(
        (
            "return [...document.querySelectorAll(arguments[0] + ' tbody tr')].map((r) => [r.cells[0].textContent, "
            "[...r.cells].slice(1).map((c) => [c.textContent, c.dataset.value ?? null])]);"
        ),
        table,
    )


def figure(driver, name):
    """The traces of a drawn figure, by name."""
    found = driver.execute_script(
        (
            "const p = document.getElementById(arguments[0]); return [p.querySelectorAll('.main-svg').length, "
            "p.data.map((t) => [t.name ?? '', [...t.x], [...t.y]])];"
        ),
        name,
    )
    assert found[0] > 0, f"{name} is not drawn"
    return {trace[0]: tuple(np.array(part, dtype=float) for part in trace[1:]) for trace in found[1]}
