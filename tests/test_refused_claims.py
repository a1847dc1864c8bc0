"""Claims that are refused: what is unknown, stands twice, or would break out of a table."""

import re
import shutil
from pathlib import Path

import pytest
import yaml
from conftest import PARAMS
from refusals import refusal

import claims
import page
from tla.report.hypotheses import load_summary, studied

ROOT = PARAMS.parent
SUMMARY = Path("experiments", "summary", "params.yaml")
C01, C02, C16A = "C01", "C02", "C16a"       # of PGD against AT and ALP, of AUC
NOTHING = ...


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """The committed tables, parameters and claims."""
    folder = tmp_path_factory.mktemp("claims")
    shutil.copy(ROOT / "params.yaml", folder)
    shutil.copytree(ROOT / "experiments", folder / "experiments")
    tables = [f"{study}/tables" for study in studied(load_summary(ROOT / SUMMARY))]
    for place in (*tables, "benchmarks"):
        shutil.copytree(ROOT / "reports" / place, folder / "reports" / place)
    return folder


@pytest.fixture
def write(repository, monkeypatch):
    """Writes claims with other values, of one claim or of the file."""
    monkeypatch.chdir(repository)
    before = SUMMARY.read_bytes()

    def written(claim, key, value):
        plain = yaml.safe_load(before)
        section = plain
        if claim is not None:
            (section,) = (each for each in plain["claims"] if each["id"] == claim)
        if value is NOTHING:
            del section[key]
        else:
            section[key] = value
        SUMMARY.write_text(yaml.safe_dump(plain))
    yield written
    SUMMARY.write_bytes(before)


WRONG = {
    "an unknown kind": (C01, "kind", "opinion", "claims.0.kind: "),
    "unknown data": (C01, "data", "svhn", "claims.0.data: "),
    "an unknown key": (C01, "verdict", "confirmed", "claims.0.verdict: unexpected keyword"),
    "an unknown model": (C01, "model", "tlaa", "'tlaa' in C01 is no model"),
    "an unknown baseline": (C01, "baseline", "at-b7", "'at-b7' in C01 is no model"),
    "a pool of none": (C01, "model", "tla-b0", "'tla-b0' in C01 is no model"),
    "a misspelt reading": (C01, "primary", "pgd-restart_last", "'pgd-restart_last' in C01 is no"),
    "no convention": (C01, "primary", "pgd_2000", "'pgd_2000' in C01 is no reading of accuracy"),
    "an area": (C01, "primary", "mixture, eps x 1.1", "accuracy; one is 'pgd-restarts_last'"),
    "a misspelt second": (C01, "secondary", ["cv_last"], "secondary: 'cv_last' in C01 is no"),
    "a reading twice": (C01, "secondary", ["pgd-restarts_last"], "of C01 stands twice"),
    "seconds twice": (C01, "secondary", ["cw_last", "cw_last"], "'cw_last' of C01 stands twice"),
    "a negative margin": (C01, "equal_within", -1.0, "claims.0.equal_within: "),
    "a margin of none": (C01, "equal_within", 0.0, "claims.0.equal_within: "),
    "an endless margin": (C01, "equal_within", float("inf"), "claims.0.equal_within: "),
    "a number as text": (C01, "published", "2.9", "claims.0.published: .*valid number"),
    "a cost by accuracy": (C01, "kind", "cost", "'pgd-restarts_last' in C01 is no reading of cost"),
    "an id twice": (C01, "id", "C02", "claims: the id C02 stands twice"),
    "an id for a table": (C01, "id", "C|1", "claims.0.id: .*pattern"),
    "an id for a page": (C01, "id", "<b>", "claims.0.id: .*pattern"),
    "an id of nothing": (C01, "id", "", "claims.0.id: .*pattern"),
    "an area of no eps": (C16A, "primary", "mixture", "'mixture' in C16a is no reading of auc"),
    "an unknown score": (C16A, "primary", "mixtures, eps x 1.1", "is no reading of auc"),
    "a second of accuracy": (C16A, "secondary", ["clean"], "'clean' in C16a is no reading of auc"),
    "no primary reading": (C01, "primary", NOTHING, "claims.0.primary: field required"),
    "no source": (C01, "source", NOTHING, "claims.0.source: field required"),
    "a cost of no margin": ("C25", "equal_within", NOTHING, "equal_within: is missing in C25"),
    "a line in a table": (C01, "says", "a | b", "claims.0.says: .*pattern"),
    "two lines": (C01, "says", "a\nb", "claims.0.says: .*pattern"),
    "code on the page": (C01, "says", "<script>alert(1)</script>", "claims.0.says: .*pattern"),
    "a link": (C01, "says", "[x](../../../etc/hostname)", "claims.0.says: .*pattern"),
    "a link in a source": (C01, "source", "[x](/etc/passwd)", "claims.0.source: .*pattern"),
    "a long text": (C01, "says", "a" * 301, "claims.0.says: .*300 characters"),
    "colours": (C01, "says", "\x1b[31mred", "claims.0.says: .*pattern"),
    "a reason for no study": (C01, "not_measured", {"nope": "why"}, "'nope' in C01 is no study"),
    "a reason of code": (C01, "not_measured", {"digits": "<i>"}, "claims.0.not_measured.digits"),
    "the same as none": (C02, "same_as", "C77", "C02: same_as: C77 is no claim of the same"),
    "the same as itself": (C02, "same_as", "C02", "C02: same_as: C02 is no claim of the same"),
    "the same unsaid": ("C22a", "same_as", NOTHING, "C22a: same_as: is missing; on mnist-"),
    "no reading there": (C01, "primary", "pgd_77_last", "C01: primary: mnist-.* has no"),
    "no model there": (C01, "model", "tla-b7", "C01: primary: mnist-.* has no .* of tla-b7"),
    "a level of one": (None, "level", 1.0, "level: .*less than 1"),
    "a single look": (None, "looks", {"mnist-small": 1}, "looks.mnist-small: .*equal to 2"),
    "looks at no study": (None, "looks", {"mnist": 2}, "looks: 'mnist' is none of the studies"),
    "another file": (None, "config", "params.yaml", "config: input should be 'experiments/summ"),
    "an unknown section": (None, "study", [], "study: unexpected keyword"),
    "no claims": (None, "claims", [], "claims: .*at least 1"),
    "claims as text": (None, "claims", "all", "claims: .*valid list"),
    "unknown data of studies": (None, "studies", {"svhn": []}, "studies.svhn"),
    "a study twice": (None, "beside", ["digits", "digits"], "beside: a value stands twice"),
    "a study of no file": (None, "beside", ["cifar1"], "experiments/cifar1/params.yaml: no such"),
    "a study elsewhere": (None, "beside", ["../../x"], "beside.0: .*pattern"),
    "other data": (None, "studies",
                   {"mnist": ["mnist-small", "digits"], "cifar10": ["cifar10-small"]},
                   "studies.mnist: digits is a study of"),
    "a reason of other data": (C01, "not_measured", {"cifar10-small": "why"},
                               "'cifar10-small' in C01 is no study of its data; there are mnist-"),
}


@pytest.mark.parametrize(("claim", "key", "value", "words"), WRONG.values(), ids=WRONG)
def test_what_claims_get_wrong_is_refused(claim, key, value, words, write):
    write(claim, key, value)
    assert re.search(words, refusal(claims.main, str(SUMMARY)))


@pytest.mark.parametrize("content", [b"", b"claims: [", b"\xff\xfe", b"- 1\n"], ids=str)
def test_a_file_that_holds_no_claims_is_refused(content, write):
    SUMMARY.write_bytes(content)
    assert refusal(claims.main, str(SUMMARY)).startswith(f"{SUMMARY}: ")


def test_the_page_refuses_them_too(write):
    write(C01, "says", "<script>alert(1)</script>")
    assert "claims.0.says: " in refusal(page.main, str(SUMMARY))
