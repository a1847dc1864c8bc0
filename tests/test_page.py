"""The page: fresh, complete, and in a browser drawn without a single request, in light, dark and narrow."""

import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from page import body, render

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "reports" / "index.html"
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
         "--disable-background-networking", "--disable-component-update", "--disable-sync")
browses = pytest.mark.skipif(not (shutil.which("chromium") and shutil.which("chromedriver")),
                             reason="needs Debian's packages chromium and chromium-driver")


def test_the_page_is_fresh():
    assert PAGE.read_text() == render("experiments/summary/params.yaml", ROOT), \
        "run make claims"


def test_no_markup_of_ours_is_shown_as_text_and_verdicts_are_marked():
    assert "&lt;td" not in PAGE.read_text() and "&lt;span" not in PAGE.read_text()
    assert '<td><span class="pill resolved">not resolved</span></td>' in PAGE.read_text()


def test_a_link_to_a_missing_file_is_refused(tmp_path):
    (tmp_path / "REPORT.md").write_text("[gone](tables/gone.csv)")
    with pytest.raises(FileNotFoundError):
        body(tmp_path / "REPORT.md")


def test_text_of_a_report_cannot_add_markup(tmp_path):
    (tmp_path / "REPORT.md").write_text("<script>alert(1)</script>\n\n| a |\n|---|\n| <b>x</b> |\n")
    assert "<script>" not in body(tmp_path / "REPORT.md") and "<b>" not in body(tmp_path / "REPORT.md")


def test_every_picture_has_a_text_that_says_what_it_shows():
    alts = re.findall(r'<img[^>]* alt="(.*?)"', PAGE.read_text())
    assert len(alts) == PAGE.read_text().count("<img") > 6
    assert all(len(alt) > 40 for alt in alts)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService("/usr/bin/chromedriver"))
    yield driver
    driver.quit()


def opened(browser, width=1200, scheme="light"):
    """The page, freshly loaded."""
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                            {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia",
                            {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
    browser.get(PAGE.as_uri())
    # On a busy machine `get` comes back before a page of megabytes is whole.
    WebDriverWait(browser, 60).until(lambda b: b.execute_script("return document.readyState") == "complete")
    return browser


@browses
def test_no_request_leaves_the_page_and_nothing_is_reported(browser):
    browser.get("about:blank")
    browser.get_log("performance"), browser.get_log("browser")      # forget what the browser asked when it started
    opened(browser)
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert asked and all(url == PAGE.as_uri() or url.startswith("data:") for url in asked)
    assert browser.get_log("browser") == []


@browses
@pytest.mark.parametrize("width", [1200, 390])
def test_figures_are_drawn_and_the_page_is_as_wide_as_the_screen(browser, width):
    opened(browser, width)
    figures = browser.find_elements(By.TAG_NAME, "img")
    assert figures
    for figure in figures:
        pixels = np.asarray(Image.open(io.BytesIO(figure.screenshot_as_png)).convert("L"))
        assert pixels.std() > 5, f"{figure.get_attribute('alt')[:60]} is blank"
    assert browser.execute_script("return document.scrollingElement.scrollWidth") <= width


@browses
@pytest.mark.parametrize(("scheme", "dark"), [("light", False), ("dark", True)])
def test_light_and_dark_can_both_be_read(browser, scheme, dark):
    opened(browser, scheme=scheme)
    colours = browser.execute_script("const s = getComputedStyle(document.body); return [s.backgroundColor, s.color]")
    paper, ink = (np.mean([int(c) for c in re.findall(r"\d+", colour)[:3]]) for colour in colours)
    assert (paper < ink) == dark and abs(paper - ink) > 150


@browses
def test_a_table_is_sorted_from_the_keyboard_by_the_column_that_is_chosen(browser):
    opened(browser)
    table = browser.find_element(By.CSS_SELECTOR, "#digits table")
    heads = [head.text.rstrip(" ↕") for head in table.find_elements(By.CSS_SELECTOR, "thead th")]
    column = heads.index("union")
    button = table.find_elements(By.CSS_SELECTOR, "thead button")[column]
    for direction, order in (("ascending", 1), ("descending", -1)):
        button.send_keys(Keys.ENTER)
        values = [float(row.find_elements(By.TAG_NAME, "td")[column].text)
                  for row in table.find_elements(By.CSS_SELECTOR, "tbody tr")]
        assert values == sorted(values)[::order] and len(set(values)) > 5
        assert table.find_elements(By.CSS_SELECTOR, "thead th")[column].get_attribute("aria-sort") == direction


@browses
def test_linked_tables_are_inside_the_page(browser):
    opened(browser)
    links = browser.find_elements(By.CSS_SELECTOR, "main a")
    assert len(links) > 10
    assert all(link.get_attribute("href").startswith("data:") and link.get_attribute("download") for link in links)
