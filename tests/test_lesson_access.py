"""The lesson's page for everybody: keyboard, screen reader, dark and light, a phone and a projector; and recipe 2's
warning.
"""

import re
from itertools import pairwise

import browser
import numpy as np
import pytest
from lesson_pages import EPOCHS, click, rows, slide, until

from keras_ref.lesson import page as page_module


@pytest.mark.sampled
@pytest.mark.parametrize("shown", ["recipe1"], indirect=True)
def test_tabs_by_mouse_and_keyboard(shown, driver):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    def selected():
        return driver.execute_script(
            "return [...document.querySelectorAll('[role=tab][aria-selected=true]')].map((t) => t.id)"
        )

    def visible():
        return driver.execute_script(
            "return [...document.querySelectorAll('[role=tabpanel]')].filter((p) => p.offsetHeight).map((p) => p.id)"
        )

    names = ["live", *page_module.TABS]
    for name in names:
        driver.find_element(By.ID, f"tab-{name}").click()
        assert (selected(), visible()) == ([f"tab-{name}"], [f"panel-{name}"])
    for key, name in (
        (Keys.ARROW_RIGHT, "live"),
        (Keys.ARROW_RIGHT, "step"),
        (Keys.END, "code"),
        (Keys.ARROW_LEFT, "what-if"),
        (Keys.HOME, "live"),
    ):
        driver.switch_to.active_element.send_keys(key)
        assert (selected(), visible(), driver.switch_to.active_element.get_attribute("id")) == (
            [f"tab-{name}"],
            [f"panel-{name}"],
            f"tab-{name}",
        )
        outline = driver.execute_script("return getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid", "the focus must be seen"
    driver.find_element(By.ID, "tab-epochs").click()
    slider = driver.find_element(By.ID, "slider")
    for key, epoch in ((Keys.END, EPOCHS), (Keys.ARROW_LEFT, EPOCHS - 1), (Keys.HOME, 0), (Keys.ARROW_RIGHT, 1)):
        slider.send_keys(key)
        assert slider.get_attribute("aria-valuetext") == f"epoch {epoch} of {EPOCHS}"
        assert driver.find_element(By.ID, "said").get_attribute("textContent").startswith(f"Epoch {epoch}: ")


@pytest.mark.sampled
@pytest.mark.parametrize("shown", ["recipe2"], indirect=True)
def test_themes(shown, driver):
    def look():
        return driver.execute_script(
            "const c = getComputedStyle(document.body); return [document.documentElement.dataset.theme, "
            "c.backgroundColor, c.color, document.getElementById('theme').textContent];"
        )

    click(driver, "tab-epochs")
    light = look()
    click(driver, "theme")
    dark = look()
    click(driver, "theme")
    assert (light[0], dark[0], look()) == ("light", "dark", light)
    assert (light[3], dark[3]) == ("Dark theme", "Light theme")
    for _, background, ink, _ in (light, dark):
        assert _contrast(background, ink) >= 7  # WCAG 2.1, level AAA
    browser.emulate(driver, scheme="dark")
    until(driver, "return document.documentElement.dataset.theme === 'dark'")
    assert driver.execute_script("return document.getElementById('loss').layout.font.color") == "#e9e7e1"
    for selector in (".note", ".verdict", "figcaption", "caption", ".mine", ".theirs", '[role="tab"]', "pre"):
        for scheme in ("light", "dark"):
            browser.emulate(driver, scheme=scheme)
            until(driver, f"return document.documentElement.dataset.theme === '{scheme}'")
            ink, background = driver.execute_script(
                "let e = document.querySelector(arguments[0]); const ink = getComputedStyle(e).color;"
                "while (e && getComputedStyle(e).backgroundColor === 'rgba(0, 0, 0, 0)') e = e.parentElement;"
                "return [ink, getComputedStyle(e ?? document.body).backgroundColor];",
                selector,
            )
            assert _contrast(background, ink) >= 4.5, (selector, scheme, background, ink)  # level AA


def _contrast(one, other):
    """The contrast ratio of two CSS colours, WCAG 2.1."""

    def luminance(color):
        channels = np.array([int(c) for c in re.findall(r"\d+", color)[:3]]) / 255
        return float(
            np.where(channels <= 0.03928, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
            @ [0.2126, 0.7152, 0.0722]
        )

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.sampled
@pytest.mark.parametrize("width", [375, 1600])
def test_nothing_is_cut(shown, driver, width):
    """On a phone and on a projector: no part is wider than the screen, and every figure is drawn in its frame."""
    browser.emulate(driver, width=width)
    driver.refresh()
    until(driver, "return document.documentElement.dataset.ready === 'yes'")
    names = ["live"] * (shown.name != "classifier") + list(page_module.TABS)
    for name in names:
        click(driver, f"tab-{name}")
        assert driver.execute_script("return document.documentElement.scrollWidth") <= width
        outside = driver.execute_script(
            "return [...document.querySelectorAll('p, h1, h2, h3, figure, pre, .controls, .controls *, .walk, "
            ".main-svg')].filter((e) => e.offsetParent && e.getBoundingClientRect().right > innerWidth + "
            "0.5).map((e) => e.outerHTML.slice(0, 80))"
        )
        assert outside == [], name
        tab, bar = driver.execute_script(
            "const t = document.querySelector('[aria-selected=true]'); return [t, t.parentElement].map((e) => { "
            "const r = e.getBoundingClientRect(); return [r.left, r.right]; });"
        )
        assert bar[0] - 0.5 <= tab[0] and tab[1] <= bar[1] + 0.5, "the chosen tab is seen whole"
        empty = driver.execute_script(
            "return [...document.querySelectorAll('.plot')].filter((p) => p.offsetHeight && "
            "!p.querySelector('.cartesianlayer path')).map((p) => p.id)"
        )
        assert empty == []


@pytest.mark.sampled
@pytest.mark.parametrize("shown", ["recipe2", "classifier"], indirect=True)
def test_a_screen_reader_finds_its_way(shown, driver):
    for name in ["live"] * (shown.name != "classifier") + list(page_module.TABS):
        click(driver, f"tab-{name}")
    assert driver.execute_script(
        "return [document.documentElement.lang, document.querySelectorAll('h1').length, "
        "document.querySelectorAll('main').length]"
    ) == ["en", 1, 1]
    levels = [
        int(tag[1])
        for tag in driver.execute_script(
            "return [...document.querySelectorAll('h1, h2, h3, h4')].map((h) => h.tagName)"
        )
    ]
    assert all(b <= a + 1 for a, b in pairwise(levels)), "a level of headings is left out"
    nameless = driver.execute_script(
        "const named = (e) => (e.getAttribute('aria-label') || (e.labels && e.labels.length && "
        "e.labels[0].textContent) || e.textContent).trim();"
        "return [...document.querySelectorAll('button, select, input, summary, textarea')]"
        ".filter((e) => !named(e)).map((e) => e.outerHTML);"
    )
    assert nameless == []
    figures = driver.execute_script(
        "return [...document.querySelectorAll('.plot')].map((p) => [p.id, p.getAttribute('role'), "
        "(document.getElementById(p.getAttribute('aria-labelledby')) ?? {}).textContent])"
    )
    assert {role for _, role, _ in figures} == {"img"}
    assert all(caption and caption.startswith(("See ", "Read ")) for _, _, caption in figures), figures
    assert driver.execute_script("return document.getElementById('said').getAttribute('role')") == "status"


@pytest.mark.sampled
@pytest.mark.parametrize("shown", ["recipe2"], indirect=True)
def test_what_to_know_of_recipe_2(shown, driver):
    """Two units start dead, the third dies in the first step, and from epoch 2 on only the output bias learns."""
    assert (
        "Two of its three ReLU units start dead and the third dies in the first step: from epoch 2 on only the "
        "output bias learns."
    ) in shown.printed
    click(driver, "tab-epochs")
    said = driver.execute_script(
        "return [...document.querySelectorAll('.note, .units li')].filter((e) => e.offsetHeight).map((e) => "
        "e.textContent.trim())"
    )
    assert said == [
        (
            "Two of its three ReLU units start dead and the third dies in the first step: from epoch 2 on only the "
            "output bias learns. Source: V. Kishore Ayyadevara, Neural Networks with Keras Cookbook (2019), chapter 1."
        ),
        *(
            (
                f"hidden, unit {i} of 3 is dead from the start and stays dead through epoch 20: it is 0 for every "
                f"sample, so its weights get a slope of exactly 0."
            )
            for i in (1, 2)
        ),
        (
            "hidden, unit 3 of 3 dies in epoch 1 and stays dead through epoch 20: it is 0 for every sample, so its "
            "weights get a slope of exactly 0."
        ),
    ]
    for epoch, dead in (
        (0, "hidden, unit 1 of 3; hidden, unit 2 of 3"),
        (1, "hidden, unit 1 of 3; hidden, unit 2 of 3; hidden, unit 3 of 3"),
    ):
        slide(driver, epoch)
        assert (
            driver.execute_script("return document.getElementById('dead-now').textContent")
            == f"Dead at this epoch: {dead}."
        )
    assert driver.execute_script(
        "return document.getElementById('loss').layout.annotations.map((a) => [a.x, a.text])"
    ) == [[1, " ✝ hidden, unit 3 of 3 "]]
    assert driver.execute_script("return document.getElementById('loss').layout.xaxis.range") == [0, EPOCHS]
    found = dict(rows(driver, "#epoch-table"))
    assert [label for label, cells in found.items() if cells[4][0] != "0"] == ["output/bias"]
