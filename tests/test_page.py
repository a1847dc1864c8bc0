"""The page: fresh, complete; in a browser no request, in light, dark and narrow."""

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

from page import body, render, with_pills
from tla.files import read_metrics
from tla.report.hypotheses import load_summary, studied

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "reports" / "index.html"
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--hide-scrollbars", "--disable-background-networking", "--disable-component-update",
         "--disable-sync")
browses = pytest.mark.skipif(not (shutil.which("chromium") and shutil.which("chromedriver")),
                             reason="needs Debian's packages chromium and chromium-driver")


def test_the_page_is_fresh():
    fresh = render("experiments/summary/params.yaml", ROOT)
    assert PAGE.read_text() == fresh, "run make claims"


def test_the_page_has_every_study_its_parameters_and_a_count_of_every_verdict():
    text = PAGE.read_text()
    for name in studied(load_summary(ROOT / "experiments" / "summary" / "params.yaml")):
        assert f'<section id="{name}">' in text and f'<a href="#{name}">' in text
        assert f"\ndataset: {name}\n" in text
    counts = read_metrics(ROOT / "reports" / "claims.json")
    for verdict in ("confirmed", "contradicted", "not_resolved", "undefined", "not_run"):
        tile = f"<b>{counts[verdict]}</b> {verdict.replace('_', ' ')}"
        before = counts.get(f"uncorrected_{verdict}")
        tile += "" if before is None else f" <small>({before} uncorrected)</small>"
        assert f"{tile}</li>" in text


def test_no_markup_of_ours_is_shown_as_text_and_verdicts_are_marked():
    assert "&lt;td" not in PAGE.read_text() and "&lt;span" not in PAGE.read_text()
    assert '<td><span class="pill resolved">not resolved</span></td>' in PAGE.read_text()


@pytest.mark.parametrize(("verdict", "mark"), [
    ("confirmed", "confirmed"), ("contradicted", "contradicted"), ("not resolved", "resolved"),
    ("undefined", "undefined"), ("not run", "run"), ("agrees", "agrees"),
    ("disagrees", "disagrees")])
def test_every_verdict_in_a_cell_is_marked_and_no_other_text(verdict, mark):
    marked = f'<td><span class="pill {mark}">{verdict}</span></td>'
    assert with_pills(f'<td style="text-align:left">{verdict}</td>') == marked
    assert with_pills(f"<td>{verdict} it is</td>") == f"<td>{verdict} it is</td>"
    assert f".{mark}" in (ROOT / "stages" / "page.html").read_text()


def test_a_link_to_a_missing_file_is_refused(tmp_path):
    (tmp_path / "REPORT.md").write_text("[gone](tables/gone.csv)")
    with pytest.raises(FileNotFoundError):
        body(tmp_path / "REPORT.md")


def test_text_of_a_report_cannot_add_markup(tmp_path):
    (tmp_path / "REPORT.md").write_text(
        "<script>alert(1)</script>\n\n| a |\n|---|\n| <b>x</b> |\n")
    html = body(tmp_path / "REPORT.md")
    assert "<script>" not in html and "<b>" not in html


def test_pictures_and_linked_files_stand_inside_the_page_under_names_of_their_study(tmp_path):
    report = tmp_path / "digits" / "REPORT.md"
    (report.parent / "figures").mkdir(parents=True)
    report.with_name("splits.csv").write_text("a,b\n")
    (report.parent / "figures" / "bars.svg").write_text("<svg/>")
    report.write_text("# Digits\n\n[splits](splits.csv)\n\n![Bars](figures/bars.png)\n")
    html = body(report)
    assert 'href="data:text/csv;base64,YSxiCg==" download="digits-splits.csv"' in html
    assert '<figure><img src="data:image/svg+xml;base64,PHN2Zy8+" alt="Bars"' in html
    assert "<h2>Digits</h2>" in html        # below the heading of the page


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
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
        "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia",
                            {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
    browser.get(PAGE.as_uri())
    # On a busy machine `get` comes back before a page of megabytes is whole.
    WebDriverWait(browser, 60).until(is_whole)
    return browser


def is_whole(browser):
    """Loaded, and every picture decoded: else a busy machine shows some of them blank."""
    return browser.execute_async_script("""
        const done = arguments[0], decoded = [...document.images].map(image => image.decode());
        Promise.all(decoded).then(() => done(document.readyState == "complete"),
                                  () => done(false));""")


@browses
def test_no_request_leaves_the_page_and_nothing_is_reported(browser):
    browser.get("about:blank")
    # Forget what the browser asked when it started.
    browser.get_log("performance"), browser.get_log("browser")
    opened(browser)
    asked = []
    for entry in browser.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            asked.append(message["params"]["request"]["url"])
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
    style = "getComputedStyle(document.body)"
    paper, ink = (brightness(browser.execute_script(f"return {style}.{of}"))
                  for of in ("backgroundColor", "color"))
    assert (paper < ink) == dark and abs(paper - ink) > 150


def brightness(colour):
    return np.mean([int(c) for c in re.findall(r"\d+", colour)[:3]])


@browses
def test_a_table_is_sorted_from_the_keyboard_by_the_column_that_is_chosen(browser):
    opened(browser)
    table = browser.find_element(By.CSS_SELECTOR, "#digits table")
    heads = [head.text.rstrip(" ↕") for head in table.find_elements(By.CSS_SELECTOR, "thead th")]
    column = heads.index("white-box union")
    button = table.find_elements(By.CSS_SELECTOR, "thead button")[column]
    for direction, order in (("ascending", 1), ("descending", -1)):
        button.send_keys(Keys.ENTER)
        values = [float(row.find_elements(By.TAG_NAME, "td")[column].text)
                  for row in table.find_elements(By.CSS_SELECTOR, "tbody tr")]
        assert values == sorted(values)[::order] and len(set(values)) > 5
        head = table.find_elements(By.CSS_SELECTOR, "thead th")[column]
        assert head.get_attribute("aria-sort") == direction


@browses
def test_linked_tables_are_inside_the_page(browser):
    opened(browser)
    links = browser.find_elements(By.CSS_SELECTOR, "main a")
    assert len(links) > 10
    for link in links:
        assert link.get_attribute("href").startswith("data:") and link.get_attribute("download")
