"""The page: fresh, complete; in a browser no request, ledger, explorer; dark, narrow, in print."""

import base64
import gzip
import io
import json
import re
import shutil
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
from committed import ROOT, STUDIES
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from page import as_script, body, ledger, render, with_pills, words
from tla.files import read_metrics
from tla.params import UserError
from tla.report.hypotheses import load_summary, studied
from tla.train.methods import load_study

PAGE = ROOT / "reports" / "index.html"
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--hide-scrollbars", "--disable-background-networking", "--disable-component-update",
         "--disable-sync")
browses = pytest.mark.skipif(not (shutil.which("chromium") and shutil.which("chromedriver")),
                             reason="needs Debian's packages chromium and chromium-driver")


def test_the_page_is_fresh(monkeypatch):
    monkeypatch.chdir(ROOT)
    fresh = render("experiments/summary/params.yaml")
    assert PAGE.read_text() == fresh, "run make claims"


def test_the_page_has_every_study_its_parameters_and_a_count_of_every_verdict():
    text = PAGE.read_text()
    for name in studied(load_summary(ROOT / "experiments" / "summary" / "params.yaml")):
        assert f'<h2 id="{name}">' in text and f'<a href="#{name}">' in text
        assert f"\ndataset: {name}\n" in text
    counts = read_metrics(ROOT / "reports" / "claims.json")
    for verdict in ("confirmed", "contradicted", "not_resolved", "undefined", "not_run"):
        tile = f"<b>{counts[verdict]}</b> {verdict.replace('_', ' ')}"
        before = counts.get(f"uncorrected_{verdict}")
        tile += "" if before is None else f" <small>({before} uncorrected)</small>"
        assert f"{tile}</li>" in text


def test_no_markup_of_ours_is_shown_as_text_and_verdicts_are_marked():
    assert "&lt;td" not in PAGE.read_text() and "&lt;span" not in PAGE.read_text()
    assert '<td><span class="pill resolved">not resolved</span>' in PAGE.read_text()


@pytest.mark.parametrize(("verdict", "mark"), [
    ("confirmed", "confirmed"), ("contradicted", "contradicted"), ("not resolved", "resolved"),
    ("undefined", "undefined"), ("not run", "run"), ("agrees", "agrees"),
    ("disagrees", "disagrees")])
def test_every_verdict_in_a_cell_is_marked_and_no_other_text(verdict, mark):
    marked = f'<td><span class="pill {mark}">{verdict}</span></td>'
    assert with_pills(f'<td style="text-align:left">{verdict}</td>') == marked
    assert with_pills(f"<td>{verdict} it is</td>") == f"<td>{verdict} it is</td>"
    assert f".{mark}" in (ROOT / "stages" / "page.css").read_text()


def test_a_link_to_a_missing_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        body("[gone](tables/gone.csv)", tmp_path, "digits", {})


def test_a_link_to_another_site_is_left_and_one_into_a_section_leads_to_its_file(tmp_path):
    text = "[a](https://example.org/x) [b](../digits/REPORT.md#words)"
    html = body(text, tmp_path, "mnist-small", {})
    assert 'href="https://example.org/x"' in html and 'href="#digits"' in html


def test_a_page_of_methods_without_its_words_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "methods.md").write_text("# Methods\n\n## Wording\n")
    with pytest.raises(UserError, match="docs/methods.md: lacks its heading 'Words'"):
        words({})


def test_text_of_a_report_cannot_add_markup(tmp_path):
    text = "<script>alert(1)</script>\n\n| a |\n|---|\n| <b>x</b> |\n"
    html = body(text, tmp_path, "digits", {})
    assert "<script>" not in html and "<b>" not in html


def test_text_of_a_name_cannot_end_the_script_that_holds_it():
    assert as_script({"a": "</script><script>alert(1)"}) == (
        '{"a":"<\\/script><script>alert(1)"}')


def test_pictures_and_linked_files_stand_inside_the_page_under_names_of_their_study(tmp_path):
    folder, files = tmp_path / "digits", {}
    (folder / "figures").mkdir(parents=True)
    (folder / "splits.csv").write_text("a,b\n")
    drawn = '<svg width="1">\n  <text x="1.234567" fill="#fff">0.9876 %25 &lt; "ä"</text></svg>'
    shown = '<svg width="1"> <text x="1.23" fill="#fff">0.9876 %25 &lt; "ä"</text></svg>'
    (folder / "figures" / "bars.svg").write_text(drawn)
    text = ("# Digits\n\n## Two, or more\n\n[splits](splits.csv), [here](#two-or-more), "
            "[claims](../claims.md)\n\n![Bars](figures/bars.png)\n")
    html = body(text, folder, "digits", files)
    assert gzip.decompress(base64.b64decode(files["digits-splits.csv"])) == b"a,b\n"
    assert '<a href="#" data-file="digits-splits.csv">' in html and 'href="#claims"' in html
    # Below the heading of the page; a link within a report leads to its own section.
    assert '<h2 id="digits">Digits</h2>' in html
    assert '<h3 id="digits-two-or-more">' in html and 'href="#digits-two-or-more"' in html
    address = re.search(r'<figure><img src="data:image/svg\+xml,([^"<>#&\n]*)" alt="Bars"', html)[1]
    start, style, end = re.split(r"(<style>.*</style>)", unquote(address))
    assert style and start + end == shown


def test_every_link_within_the_page_leads_somewhere_and_every_claim_and_section_has_an_anchor():
    text = PAGE.read_text().partition("<script")[0]
    anchors = re.findall(r'\bid="(.*?)"', text)
    assert len(anchors) == len(set(anchors))
    assert set(re.findall(r'href="#([^"]+)"', text)) <= set(anchors)
    summary = load_summary(ROOT / "experiments" / "summary" / "params.yaml")
    assert {claim.id for claim in summary.claims} <= set(anchors)
    sections = re.findall(r"<h[23](.*?)>", text)
    assert sections and all(' id="' in section for section in sections)


def test_words_stand_on_the_page_where_reports_lead_to_them():
    text = PAGE.read_text()
    words = text[text.index('<h2 id="words">'):text.index('<h2 id="mnist-small">')]
    for word in ("UM", "AT", "ALP", "TLA", "TLA-RN", "TLA-SA", "<em>pool</em>", "<em>robust</em>"):
        assert f">{word}</td>" in words, word
    assert text.count('href="#words">words</a>') > len(studied(load_summary(
        ROOT / "experiments" / "summary" / "params.yaml")))


def test_the_head_of_the_page_has_a_line_for_each_comparison_of_a_study():
    text = PAGE.read_text()
    head = text[text.index('<h2 id="claims">'):text.index('id="filter"')]
    assert "<blockquote>" in head and "sign of masking</th>" in head
    assert head.count("<td") > 5 * 8 and "under AutoAttack</th>" in head


def test_the_ledger_has_every_line_of_the_claims_once():
    table = pd.read_csv(ROOT / "reports" / "claims.csv", keep_default_na=False)
    claims = ledger(ROOT / "reports" / "claims.csv")
    assert [each["id"] for each in claims] == list(dict.fromkeys(table.claim))
    assert sum(1 + len(each["readings"]) for each in claims) == len(table)
    for each in claims:
        first = table[(table.claim == each["id"]) & (table.verdict != "exploratory")].iloc[0]
        assert each["line"]["verdict"] == first.verdict


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


def contrast(figure):
    """Standard deviation of the grey levels, 0 to 255, that are seen of an image."""
    pixels = Image.open(io.BytesIO(figure.screenshot_as_png)).convert("L")
    return np.asarray(pixels).std()


@browses
@pytest.mark.parametrize("width", [1200, 390])
def test_figures_are_drawn_and_the_page_is_as_wide_as_the_screen(browser, width):
    opened(browser, width)
    figures = browser.find_elements(By.TAG_NAME, "img")
    assert figures
    for figure in figures:      # a busy machine paints a large one later than it decodes it
        WebDriverWait(browser, 20).until(lambda _, figure=figure: contrast(figure) > 5,
                                         f"{figure.get_attribute('alt')[:60]} is blank")
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
    table = browser.find_element(By.XPATH, "//table[.//th[normalize-space()='white-box union']]")
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
def test_a_linked_file_is_inside_the_page_and_comes_out_as_it_is(browser, tmp_path):
    opened(browser)
    browser.execute_cdp_cmd("Browser.setDownloadBehavior",
                            {"behavior": "allow", "downloadPath": str(tmp_path)})
    link = browser.find_element(By.CSS_SELECTOR, 'a[data-file="digits-differences.csv"]')
    browser.execute_script("arguments[0].click()", link)
    saved = tmp_path / "digits-differences.csv"
    WebDriverWait(browser, 60).until(lambda _: saved.exists())
    assert saved.read_bytes() == (
        ROOT / "reports" / "digits" / "tables" / "differences.csv").read_bytes()


@browses
def test_the_page_takes_under_two_seconds_of_a_processor(browser):
    """As long as it would load on a machine with nothing else to do."""
    assert PAGE.stat().st_size < 10e6
    browser.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
    opened(browser)
    metrics = browser.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
    browser.execute_cdp_cmd("Performance.disable", {})
    assert {each["name"]: each["value"] for each in metrics}["TaskDuration"] < 2


# The ledger

def shown_claims(browser):
    """Ids of the claims in sight."""
    return browser.execute_script("""return [...document.querySelectorAll("#ledger > tbody")]
        .filter(claim => claim.offsetHeight > 0).map(claim => claim.id)""")


@browses
def test_the_ledger_is_filtered_by_verdict_data_and_words(browser):
    opened(browser)
    table = pd.read_csv(ROOT / "reports" / "claims.csv", keep_default_na=False)
    first = table[table.verdict != "exploratory"].drop_duplicates("claim").set_index("claim")
    assert shown_claims(browser) == first.index.tolist()
    form = browser.find_element(By.ID, "filter")
    for name, column, value, said in (("verdict", "verdict", "not run", "not run"),
                                      ("data", "data", "mnist", "MNIST")):
        select = Select(form.find_element(By.NAME, name))
        select.select_by_visible_text(said)
        expected = first.index[first[column] == value].tolist()
        assert shown_claims(browser) == expected and expected
        counted = form.find_element(By.TAG_NAME, "output").text
        assert counted == f"{len(expected)} of {len(first)} claims"
        select.select_by_index(0)
    form.find_element(By.NAME, "text").send_keys("hard NEGATIVES")
    expected = [name for name in first.index if "hard negatives" in first.says[name]]
    assert shown_claims(browser) == expected and expected


@browses
def test_the_address_of_a_claim_shows_it_and_its_readings_whatever_was_filtered(browser):
    opened(browser)
    claim, fold = '#ledger tbody[id="C01"]', ' .readings[hidden]'
    assert browser.find_elements(By.CSS_SELECTOR, claim + fold)
    browser.find_element(By.NAME, "text").send_keys("no claim says this")
    assert shown_claims(browser) == []
    browser.execute_script("location.hash = '#C01'")
    WebDriverWait(browser, 60).until(lambda _: "C01" in shown_claims(browser))
    assert not browser.find_elements(By.CSS_SELECTOR, claim + fold)
    top = browser.execute_script(
        "return document.getElementById('C01').getBoundingClientRect().top")
    assert 0 <= top < 300


@browses
def test_readings_are_folded_and_unfolded_from_the_keyboard(browser):
    opened(browser)
    button = browser.find_element(By.CSS_SELECTOR, "#C02 .fold")
    readings = browser.find_element(By.CSS_SELECTOR, "#C02 .readings")
    for expanded in (True, False):
        button.send_keys(Keys.ENTER)
        assert readings.is_displayed() == expanded
        assert button.get_attribute("aria-expanded") == str(expanded).lower()


@browses
@pytest.mark.parametrize("width", [1400, 1280, 1073, 390])
def test_the_contents_stay_in_sight_and_the_ledger_needs_no_scroll_bar(browser, width):
    opened(browser, width)
    browser.execute_script("scrollTo(0, document.scrollingElement.scrollHeight / 2)")
    top, bottom = browser.execute_script("""
        const {top, bottom} = document.querySelector("nav").getBoundingClientRect();
        return [top, bottom]""")
    assert top == 0 and 30 < bottom <= 900
    table, room = browser.execute_script("""const table = document.getElementById("ledger");
        return [table.scrollWidth, table.parentElement.clientWidth]""")
    assert table <= room
    short, whole = (browser.find_elements(By.CSS_SELECTOR, f"nav {place} a")
                    for place in ("p", "details"))
    assert len(short) >= 5 and len(whole) > 30
    assert all(link.is_displayed() == (width < 1344) for link in short)
    assert all(link.is_displayed() == (width >= 1344) for link in whole[:5])


@browses
@pytest.mark.parametrize("width", [1900, 1400, 1350, 1280, 1073])
def test_neither_the_page_nor_a_table_of_results_or_of_a_verdict_needs_a_scroll_bar(browser, width):
    opened(browser, width)
    wide, room = browser.execute_script("""const page = document.documentElement;
        return [page.scrollWidth, page.clientWidth]""")
    assert wide <= room
    for head in ("under AutoAttack", "robust, over seeds"):
        place = f"//div[@class='scroll'][.//th[normalize-space()='{head}']]"
        boxes = browser.find_elements(By.XPATH, place)
        assert boxes
        for box in boxes:
            wide, room = (box.get_property(name) for name in ("scrollWidth", "clientWidth"))
            assert wide <= room, f"{head}: {wide} pixels in {room}"


# The explorer

def choose(browser, **values):
    for name, value in values.items():
        Select(browser.find_element(By.CSS_SELECTOR, f"#choice [name={name}]")).select_by_value(
            value)
    return browser.find_element(By.ID, "said").text


@browses
@pytest.mark.parametrize("study", [load_study(ROOT / path).dataset for path in STUDIES])
@pytest.mark.parametrize(("model", "other"), [("tla", "at"), ("at", "tla"), ("um", "alp")])
def test_the_explorer_says_how_many_images_each_model_alone_survives(study, model, other, browser):
    opened(browser)
    said = choose(browser, study=study, model=model, other=other)
    table = pd.read_csv(ROOT / "reports" / study / "tables" / "survivors.csv").set_index(
        ["outcome", "model", "other"])
    order = (model, other) if ("clean", model, other) in table.index else (other, model)
    line = table.loc[("pgd-restarts_last", *order)]
    here, there = ((line.model_only, line.other_only) if order[0] == model
                   else (line.other_only, line.model_only))
    total = line.both + here + there + line.neither
    assert f"of {total:,} pairs of a test image and a training seed" in said
    assert f"{model.upper()} alone survives {here:,}, {other.upper()} alone {there:,}," in said
    assert f"both {line.both:,}, neither {line.neither:,}:" in said
    assert f"{100 * (here - there) / total:+.2f} points." in said.replace(" 0.00", " +0.00")


@browses
def test_the_explorer_shows_images_that_one_model_survives_and_what_the_other_reads(browser):
    opened(browser)
    choose(browser, study="digits", model="tla", other="at")
    lines = pd.read_csv(ROOT / "reports" / "digits" / "examples" / "examples.csv")
    alive = lines.survived_by.str.split().map(lambda models: "tla" in models)
    expected = lines[(lines.model == "at") & alive]
    tiles = browser.find_elements(By.CSS_SELECTOR, "#pictures .tilesheet")[0]
    captions = [each.text for each in tiles.find_elements(By.TAG_NAME, "figcaption")]
    assert captions == [f"{line.label}; AT reads {line.pred}" for line in expected.itertuples()]
    assert captions and all(caption[0] != caption[-1] for caption in captions)
    sheet = np.asarray(Image.open(ROOT / "reports" / "digits" / "examples" / "at.png"))
    place = np.flatnonzero(lines[lines.model == "at"].index == expected.index[0])[0]
    for column, canvas in enumerate(tiles.find_elements(By.TAG_NAME, "canvas")[:2]):
        pixels = WebDriverWait(browser, 60).until(lambda _, canvas=canvas: browser.execute_script(
            "const c = arguments[0]; const p = c.getContext('2d').getImageData(0, 0, c.width, "
            "c.height).data; return p[3] ? [...p].filter((_, i) => i % 4 == 0) : null", canvas))
        part = sheet[8 * place: 8 * place + 8, 8 * column: 8 * column + 8]
        assert pixels == part.ravel().tolist()


@browses
def test_the_explorer_says_where_there_is_nothing_to_show(browser):
    opened(browser)
    assert choose(browser, model="at", other="at") == "Choose two models."
    choose(browser, other="tla", attack="square_worst")
    assert "are kept of PGD, restarts alone" in browser.find_element(By.ID, "pictures").text


# Dark, and paper

@browses
@pytest.mark.parametrize(("scheme", "dark"), [("light", False), ("dark", True)])
def test_figures_follow_dark_and_light(browser, scheme, dark):
    opened(browser, scheme=scheme)
    for figure in browser.find_elements(By.CSS_SELECTOR, "figure img"):
        pixels = np.asarray(Image.open(io.BytesIO(figure.screenshot_as_png)).convert("L"))
        border = np.concatenate([pixels[3], pixels[-4], pixels[:, 3], pixels[:, -4]])
        assert (np.median(border) < 60) == dark, figure.get_attribute("alt")[:60]


@browses
def test_it_prints_on_a4_with_nothing_cut_off_and_no_buttons(browser):
    opened(browser, 718)        # 190 mm at 96 dots an inch
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    wide = browser.execute_script("""return [...document.querySelectorAll("table, img")]
        .filter(each => each.getBoundingClientRect().right > 719).length""")
    controls = browser.find_elements(By.CSS_SELECTOR, "nav, .controls, .fold")
    assert wide == 0 and controls and not any(each.is_displayed() for each in controls)
    # A head with a button in it is not repeated on the next sheet.
    heads = browser.find_elements(By.CSS_SELECTOR, "th button")
    assert heads and {each.value_of_css_property("display") for each in heads} == {"contents"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    printed = browser.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})["data"]
    pages = base64.b64decode(printed)
    assert pages.startswith(b"%PDF") and re.search(rb"/MediaBox \[0 0 59[45][.\d]* 84[12]", pages)
