"""The ledger: verdicts by hand, corrected and not, readings, what is not run, the committed one."""

import re
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats
from test_pipeline import FLOORS, NEUTRAL, closure, floor

from claims import boxes, called, cells, counted, markdown
from tla.files import read_metrics, write_table
from tla.params import UserError
from tla.report.hypotheses import (
    Claim,
    Summary,
    load_studies,
    load_summary,
    model_of,
    path_of,
    studied,
)
from tla.report.intact import seal
from tla.report.ledger import (
    corrected,
    counts,
    headline,
    ledger,
    left_out,
    measured,
    unread,
    verdict,
)
from tla.report.statistics import margin_p
from tla.train.methods import load_study

ROOT = Path(__file__).parents[1]
TEMPLATE = (ROOT / "stages" / "claims.md").read_text()
SUMMARY = ROOT / "experiments" / "summary" / "params.yaml"
COLUMNS = ["model", "baseline", "outcome", "difference", "low", "high", "p", "standard_error",
           "degrees_of_freedom", "seeds_won", "images", "seeds"]
AUC = ["model", "baseline", "score", "eps_factor", *COLUMNS[3:]]


@pytest.mark.parametrize(("ours", "p", "direction", "expected"), [
    (1.0, 0.04, 1, "confirmed"), (-1.0, 0.04, 1, "contradicted"), (1.0, 0.06, 1, "not resolved"),
    (-1.0, 0.04, -1, "confirmed"), (1.0, 0.04, -1, "contradicted"), (1.0, 0.05, 1, "not resolved"),
    (np.nan, np.nan, 1, "undefined")])
def test_a_verdict_needs_a_small_p_and_goes_by_the_sign(ours, p, direction, expected):
    assert verdict(claim(published=float(direction)), ours, p, 0.05) == expected


@pytest.mark.parametrize(("ours", "p", "expected"), [
    (0.5, 0.04, "confirmed"), (-0.9, 0.04, "confirmed"), (1.1, 0.04, "contradicted"),
    (-3.0, 0.04, "contradicted"), (0.5, 0.06, "not resolved"), (3.0, 0.06, "not resolved")])
def test_a_claim_of_hardly_any_difference_goes_by_the_side_of_its_margin(ours, p, expected):
    assert verdict(claim(published=0.1, equal_within=1.0), ours, p, 0.05) == expected


def claim(**changes):
    return Claim(**{
        "id": "C99", "data": "mnist", "says": "ahead", "kind": "accuracy", "model": "tla",
        "baseline": "at", "published": 1.0, "source": "poster", "primary": "mim_last",
        "secondary": ["cw_last"]} | changes)


def summary_of(*claims, studies=("digits",), beside=()):
    """A summary whose MNIST studies are these; no study has CIFAR-10."""
    return Summary(config="experiments/summary/params.yaml", level=0.05, looks={},
                   studies={"mnist": list(studies), "cifar10": []}, beside=list(beside),
                   claims=list(claims))


def verdicts(table, column):
    """The verdicts on each claim, in the order of the ledger."""
    return table.groupby("claim")[column].apply(list).to_dict()


@pytest.fixture
def study(params, tmp_path, monkeypatch):
    """A study of digits with a table of differences and one of AUC written by hand."""
    monkeypatch.chdir(tmp_path)
    tables = tmp_path / "reports" / "digits" / "tables"
    tables.mkdir(parents=True)
    pd.DataFrame([["tla", "at", "cw_last", 0.02, 0.01, 0.03, 0.01, 0.004, 4, 3, 100, 5],
                  ["tla", "at", "mim_last", -0.02, -0.03, -0.01, 0.02, 0.004, 4, 3, 100, 5],
                  ["tla", "alp", "cw_last", 0.01, -0.01, 0.03, 0.5, 0.008, 4, 3, 100, 5],
                  ["tla", "um", "cw_last", 0.5, 0.4, 0.6, 0.001, 0.04, 99, 1, 100, 1]],
                 columns=COLUMNS).to_csv(tables / "differences.csv", index=False)
    pd.DataFrame({"model": ["tla", "at"], "flag_cw": [False, False],
                  "flag_rise": [False, True]}).to_csv(tables / "masking.csv", index=False)
    pd.DataFrame([["tla", "at", "mixture", 1.0, 0.1, 0.05, 0.15, 0.001, 0.02, 4, 5, 100, 5],
                  ["tla", "at", "mixture", 1.5, *[np.nan] * 7, 100, 5],
                  ["tla", "at", "mixture", 1.33, 0.2, 0.15, 0.25, 0.001, 0.02, 4, 5, 100, 5]],
                 columns=AUC).to_csv(tables / "auc-differences.csv", index=False)
    seal(tables)
    return params


def of_area(eps, **changes):
    """A claim of detection by the mixture, decided at this multiple of the training eps."""
    return claim(kind="auc", primary=f"mixture, eps x {eps}", secondary=["mixture"], **changes)


def test_a_claim_is_measured_by_its_primary_reading_and_then_by_others_in_order(study):
    assert measured(claim(), study).outcome.tolist() == ["mim_last", "cw_last"]
    assert measured(claim(secondary=[]), study).outcome.tolist() == ["mim_last"]


@pytest.mark.parametrize(("eps", "order"), [("1.33", ("1.33", "1.5", "1")),
                                            ("1.5", ("1.5", "1.33", "1")),
                                            ("1", ("1", "1.33", "1.5"))])
def test_further_eps_of_a_score_follow_the_primary_one_those_of_training_last(eps, order, study):
    found = measured(of_area(eps), study)
    assert found.outcome.tolist() == [f"mixture, eps x {at}" for at in order]


def test_a_pool_that_a_study_has_as_its_default_is_that_of_tla(study):
    assert study.mining.batch == 300 and model_of("tla-b300", study) == "tla"
    assert model_of("tla-b30", study) == "tla-b30" and model_of("chance", study) == "chance"
    assert len(measured(claim(model="tla-b300"), study)) == 2
    assert measured(claim(model="tla-b30"), study).empty


def test_a_line_knows_whether_a_model_of_it_is_flagged(study):
    assert measured(claim(), study).masked.tolist() == [True, True]
    of_alp = claim(id="C98", baseline="alp", primary="cw_last", secondary=[])
    assert measured(of_alp, study).masked.tolist() == [False]
    table = ledger(summary_of(claim(), of_alp), {"digits": study})
    assert table.masked.tolist() == [True, True, False]


def test_one_training_seed_settles_nothing(study):
    summary = summary_of(claim(baseline="um", primary="cw_last", secondary=[]))
    table = ledger(summary, {"digits": study})
    assert table.verdict.tolist() == ["not resolved"] and table.p_holm[0] == 0.001
    assert table.uncorrected.tolist() == ["agrees"]
    assert counts(table, "verdict")["not resolved"] == 1
    assert counts(table, "uncorrected")["not resolved"] == 1


def test_an_undefined_reading_stays_and_is_counted_but_not_in_the_correction(study):
    path = Path("reports", "digits", "tables", "auc-differences.csv")
    nothing = dict.fromkeys(["difference", "low", "high", "p", "seeds_won"], np.nan)
    pd.read_csv(path).assign(baseline="alp", **nothing).to_csv(path, index=False)
    seal(path.parent)
    summary = summary_of(of_area("1.33", baseline="alp"), claim(id="C98"))
    table = ledger(summary, {"digits": study})
    assert table.verdict[:3].tolist() == ["undefined", "exploratory", "exploratory"]
    assert counts(table, "verdict")["undefined"] == 1
    assert cells(next(table.itertuples()))["95 % interval"] == ""
    assert table.p_holm[table.claim == "C98"].max() == 0.02     # alone


def test_where_the_published_value_lies(study):
    claims = [claim(id=f"C9{at}", baseline="alp", primary="cw_last", secondary=[], published=value,
                    same_as="C90" if at else None)
              for at, value in enumerate((1.0, 4.0, -2.0))]
    table = ledger(summary_of(*claims), {"digits": study})
    lies = [cells(line)["published lies"] for line in table.itertuples()]
    assert lies == ["inside", "above", "below"]


@pytest.mark.parametrize(("of_um", "outside"), [
    (50.0, (1, 2)), (99.0, (2, 2)), (1.0, (2, 2)), (None, (1, 1))])
def test_unresolved_comparisons_that_leave_the_published_value_out_are_counted_once(
        of_um, outside, study):
    """One outside, the same under another number, one of UM, and a resolved one outside."""
    of_alp = {"baseline": "alp", "primary": "cw_last", "secondary": []}
    claims = [claim(id="C96", published=4.0, **of_alp),
              claim(id="C97", published=5.0, same_as="C96", **of_alp),
              claim(id="C98", published=of_um, **of_alp | {"baseline": "um"}),
              claim(id="C99", published=9.0)]
    table = ledger(summary_of(*claims), {"digits": study})
    assert headline(table).verdict.tolist() == [*["not resolved"] * 3, "contradicted"]
    assert left_out(table) == outside


def test_the_ledger_puts_own_data_first_and_other_data_beside(study):
    claims = [claim(), claim(id="C98", data="cifar10"),
              claim(id="C97", published=-1.0, same_as="C99")]
    table = ledger(summary_of(*claims, beside=["other"]), {"digits": study, "other": study})
    assert verdicts(table, "uncorrected") == {
        "C99": ["contradicted", "confirmed", "disagrees", "agrees"],
        "C98": ["not run", "disagrees", "agrees"],
        "C97": ["confirmed", "contradicted", "agrees", "disagrees"]}
    assert table.ours[:2].tolist() == [-2.0, 2.0] and table.resolvable[0] == 1.0


def test_a_study_speaks_once_of_its_own_data_and_beside_of_others(study):
    table = ledger(summary_of(claim(), claim(id="C98", data="cifar10"), beside=["digits"]),
                   {"digits": study})
    assert verdicts(table, "uncorrected") == {"C99": ["contradicted", "confirmed"],
                                              "C98": ["not run", "disagrees", "agrees"]}


def test_every_reading_names_its_network_and_what_was_not_run_none(study):
    table = ledger(summary_of(claim(), claim(id="C98", data="cifar10"), beside=["digits"]),
                   {"digits": study})
    layers = "-".join(str(width) for width in study.model.widths)
    assert layers and verdicts(table, "network") == {
        "C99": [f"mlp {layers}"] * 2, "C98": ["", *[f"mlp {layers}"] * 2]}
    assert [cells(line)["network"] for line in table.itertuples()] == table.network.tolist()


# Correction

def test_another_primary_reading_is_another_verdict(study):
    for primary, secondary, expected in (("mim_last", "cw_last", "contradicted"),
                                         ("cw_last", "mim_last", "confirmed")):
        summary = summary_of(claim(primary=primary, secondary=[secondary]))
        assert headline(ledger(summary, {"digits": study})).verdict.tolist() == [expected]


def test_only_the_primary_reading_decides_and_others_keep_an_uncorrected_verdict(study):
    table = ledger(summary_of(claim(), beside=["other"]), {"digits": study, "other": study})
    assert table.verdict.tolist() == ["contradicted", *["exploratory"] * 3]
    assert table.uncorrected.tolist() == ["contradicted", "confirmed", "disagrees", "agrees"]
    assert table.p_holm.notna().tolist() == [True, False, False, False]


def test_holm_runs_over_the_primary_readings_alone_and_can_take_a_verdict_away(study):
    """p of 0.01, 0.02 and 0.5, each also a secondary one: times 3, 2 and 1."""
    claims = [claim(), claim(id="C98", primary="cw_last", secondary=["mim_last"]),
              claim(id="C97", baseline="alp", primary="cw_last", secondary=[])]
    table = headline(ledger(summary_of(*claims), {"digits": study}))
    assert table.p_holm.tolist() == pytest.approx([0.04, 0.03, 0.5])
    assert table.verdict.tolist() == ["contradicted", "confirmed", "not resolved"]

    path = Path("reports", "digits", "tables", "differences.csv")
    lines = pd.read_csv(path)
    lines.loc[lines.outcome == "mim_last", "p"] = 0.03
    lines.to_csv(path, index=False)
    seal(path.parent)
    table = headline(ledger(summary_of(*claims), {"digits": study}))
    assert table.p_holm.tolist() == pytest.approx([0.06, 0.03, 0.5])
    assert table.verdict.tolist() == ["not resolved", "confirmed", "not resolved"]
    assert table.uncorrected.tolist() == ["contradicted", "confirmed", "not resolved"]


def test_a_claim_that_is_the_comparison_of_another_takes_its_p_and_is_counted_once(study):
    alone = ledger(summary_of(claim()), {"digits": study})
    summary = summary_of(claim(), claim(id="C98", says="again", same_as="C99"))
    both = ledger(summary, {"digits": study})
    first = headline(both)
    assert first.p_holm.tolist() == [0.02, 0.02] and first.verdict.nunique() == 1
    for column in ("verdict", "uncorrected"):
        assert counts(both, column) == counts(alone, column)
    assert [called(line) for line in first.itertuples()] == ["C99", "C98 = C99"]
    assert "under two numbers is counted once: C98 = C99." in markdown(
        TEMPLATE, both, summary, {})


def test_holm_is_within_a_study():
    table = corrected(pd.DataFrame({
        "claim": ["A", "B", "A", "C"], "same_as": [None] * 4, "study": ["a", "a", "b", ""],
        "p": [0.01, 0.04, 0.03, np.nan], "own_data": True, "seeds": [3, 3, 3, np.nan],
        "verdict": ["confirmed"] * 3 + ["not run"], "uncorrected": ["confirmed"] * 3 + ["not run"],
        "low": [0.0] * 4, "high": [1.0] * 4, "standard_error": [0.4, 0.4, 0.4, np.nan],
        "degrees_of_freedom": [4.0, 4.0, 4.0, np.nan]}), summary_of(claim()))
    assert table.p_holm[:3].tolist() == pytest.approx([0.02, 0.04, 0.03])
    assert np.isnan(table.p_holm[3])
    assert table.verdict.tolist() == ["confirmed"] * 3 + ["not run"]
    of_two, alone = 0.4 * stats.t.ppf([1 - 0.05 / 2 / 2, 1 - 0.05 / 2], 4)
    assert table.resolvable_corrected[:3].tolist() == pytest.approx([of_two, of_two, alone])


def test_a_study_that_was_looked_at_twice_has_twice_the_p(study):
    """0.04, 0.03 and 0.5 at the first look."""
    claims = [claim(), claim(id="C98", primary="cw_last", secondary=[]),
              claim(id="C97", baseline="alp", primary="cw_last", secondary=[])]
    once = summary_of(*claims)
    twice = replace(once, looks={"digits": 2})
    found, first = (headline(ledger(summary, {"digits": study})) for summary in (twice, once))
    assert first.p_holm.tolist() == pytest.approx([0.04, 0.03, 0.5])
    assert found.p_holm.tolist() == pytest.approx([0.08, 0.06, 1.0])
    assert set(found.verdict) == {"not resolved"} and set(first.verdict) != {"not resolved"}
    wide = 0.4 * stats.t.ppf(1 - 0.05 / 2 / 6, 4)
    assert found.resolvable_corrected.tolist() == pytest.approx([wide, wide, 2 * wide])
    assert found.uncorrected.tolist() == first.uncorrected.tolist()


def test_a_comparison_still_to_come_counts_as_one_without_effect(study):
    """So that no verdict can be unsettled by what is measured later."""
    missing = claim(id="C98", primary="fgsm_last", not_measured={"digits": "it is too weak"})
    again = claim(id="C97", primary="fgsm_last", same_as="C98",
                  not_measured={"digits": "it is too weak"})
    table = ledger(summary_of(claim(), missing, again), {"digits": study})
    assert headline(table).p_holm.tolist()[0] == pytest.approx(2 * 0.02)
    wide = 0.4 * stats.t.ppf(1 - 0.05 / 2 / 2, 4)
    assert headline(table).resolvable_corrected[0] == pytest.approx(wide)
    assert headline(table).verdict.tolist() == ["contradicted", "not run", "not run"]


def test_a_reason_beside_the_reading_is_refused(study):
    with pytest.raises(UserError, match="C99: not_measured.digits: it has 'mim_last'"):
        ledger(summary_of(claim(not_measured={"digits": "it is slow"})), {"digits": study})


def test_hardly_any_difference_has_the_p_of_its_margin_and_a_place_in_the_correction(study):
    equal = claim(id="C98", published=0.1, primary="cw_last", secondary=[], equal_within=5.0)
    table = ledger(summary_of(claim(secondary=[]), equal), {"digits": study})
    p = margin_p(0.02, 0.05, 0.004, 4)
    assert table.p.tolist() == pytest.approx([0.02, p]) and p < 0.01
    assert table.p_holm.tolist() == pytest.approx([0.02, 2 * p])
    assert table.verdict.tolist() == ["contradicted", "confirmed"]
    # It is told from its margin: no difference from none would have settled it.
    assert table.resolvable.isna().tolist() == [False, True]
    assert table.resolvable_corrected.isna().tolist() == [False, True]


def test_counts_are_after_correction_and_the_uncorrected_ones_beside(study):
    path = Path("reports", "digits", "tables", "differences.csv")
    pd.read_csv(path).assign(p=0.03).to_csv(path, index=False)
    seal(path.parent)
    claims = [claim(secondary=[]), claim(id="C98", primary="cw_last", secondary=[]),
              claim(id="C97", baseline="um", primary="cw_last", secondary=[]),
              claim(id="C96", data="cifar10")]
    numbers = counted(ledger(summary_of(*claims), {"digits": study}))
    assert numbers == {
        "confirmed": 0, "contradicted": 0, "not_resolved": 3, "undefined": 0, "not_run": 1,
        "uncorrected_confirmed": 1, "uncorrected_contradicted": 1, "uncorrected_not_resolved": 1}


# Readings that are missing, and claims that are one

@pytest.mark.parametrize("claims", [[claim(primary="cw_2000_last")], [claim(model="tla-b7")]])
def test_a_primary_reading_that_the_study_lacks_is_no_other_one(claims, study):
    """Not even a secondary one that is there."""
    with pytest.raises(UserError, match="params.yaml: C99: primary: digits has no .*not_measured"):
        ledger(summary_of(*claims), {"digits": study})


def test_without_the_primary_reading_for_a_stated_reason_a_claim_is_not_run(study):
    summary = summary_of(claim(primary="fgsm_last", not_measured={"digits": "it is too weak"}))
    table = ledger(summary, {"digits": study})
    assert table.verdict.tolist() == ["not run", "exploratory"]
    assert table.outcome.tolist()[1:] == ["cw_last"]
    text = markdown(TEMPLATE, table, summary, {})
    assert "- C99, not measured by digits: it is too weak\n" in text and "want of" not in text


def test_a_reason_is_said_where_another_study_has_the_reading_too(study):
    """Else the headline would be of another study without a word."""
    summary = summary_of(claim(not_measured={"mnist-small": "it is too slow"}),
                         studies=["mnist-small", "digits"])
    table = ledger(summary_of(claim()), {"digits": study})
    text = markdown(TEMPLATE, table, summary, {})
    assert "- C99, not measured by mnist-small: it is too slow\n" in text

def test_other_data_need_not_have_the_primary_reading(study):
    summary = summary_of(claim(data="cifar10", primary="fgsm_last"), beside=["digits"])
    table = ledger(summary, {"digits": study})
    assert table.verdict.tolist() == ["not run", "exploratory"]


@pytest.mark.parametrize(("second", "said"), [
    ({}, "C98: same_as: is missing; on digits this is the comparison of C99"),
    ({"model": "tla-b300"}, "C98: same_as: is missing; on digits this is the comparison of C99"),
    ({"same_as": "C99", "primary": "cw_last", "secondary": []}, "C98: same_as: C99 is no claim"),
    ({"same_as": "C99", "baseline": "alp"}, "C98: same_as: C99 is no claim"),
    ({"same_as": "C99", "equal_within": 2.0}, "C98: same_as: C99 is no claim"),
    ({"same_as": "C98"}, "C98: same_as: C98 is no claim"),
    ({"same_as": "C97"}, "C98: same_as: C97 is no claim")])
def test_claims_are_one_comparison_where_they_say_so_and_nowhere_else(second, said, study):
    """tla-b300 is the tla of a study whose pool that is."""
    summary = summary_of(claim(), claim(id="C98", **second))
    with pytest.raises(UserError, match=said):
        ledger(summary, {"digits": study})


def test_claims_of_data_that_no_study_has_are_told_apart_too(study):
    claims = [claim(), claim(id="C98", data="cifar10"), claim(id="C97", data="cifar10")]
    with pytest.raises(UserError, match="C97: same_as: is missing; on cifar10"):
        ledger(summary_of(*claims), {"digits": study})


# The page

def test_claims_md_puts_the_headline_first_and_names_what_was_not_run(study):
    summary = summary_of(claim(), claim(id="C98", data="cifar10", published=None))
    text = markdown(TEMPLATE, ledger(summary, {"digits": study}), summary, {"digits": "> box\n"})
    numbers = "0 confirmed, 1 contradicted, 0 not resolved, 0 undefined, 1 not run"
    assert f"**{numbers}**, of 2 comparisons." in text and "These are 2 claims" in text
    assert "> box\n" in text.partition("| C99 ")[0]
    brief, full = text.split("## Every claim, every reading")
    assert brief.count("| C99 ") == 1 and "want of a study of CIFAR-10: C98\n" in brief
    assert "want of a study of MNIST" not in brief
    assert full.count("| C99 ") == 2 and full.count("| C98 ") == 1


def test_readings_that_no_study_has_are_named(study):
    """A misspelt one would otherwise only be missing."""
    few = claim(secondary=["pgd_200_last", "cw_last"])
    table = ledger(summary_of(few), {"digits": study})
    assert unread(summary_of(few), table) == {"C99": ["pgd_200_last"]}
    assert unread(summary_of(claim(secondary=[])), table) == {}


def test_a_study_under_other_data_than_its_own_is_refused(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert list(load_studies(summary_of(claim(), studies=["mnist-fast"]))) == ["mnist-fast"]
    with pytest.raises(UserError, match="studies.mnist: digits is a study of digits"):
        load_studies(summary_of(claim(), studies=["digits"]))


# The committed ledger

@pytest.mark.parametrize(("stage", "files"), [
    ("claims", ["tables"]), ("page", ["REPORT.md", "figures", "tables", "examples",
                                      "splits.csv", "tuning.csv"])])
def test_the_graph_lists_what_the_ledger_and_the_page_are_made_from(stage, files):
    deps = yaml.safe_load((SUMMARY.parent / "dvc.yaml").read_text())["stages"][stage]["deps"]
    for study in studied(load_summary(SUMMARY)):
        assert path_of(study) in deps
        assert {f"reports/{study}/{file}" for file in files} <= set(deps)


@pytest.mark.parametrize("stage", ["claims", "page"])
def test_the_graph_lists_the_code_of_the_ledger_and_of_the_page(stage):
    """The report floor and what lies beside it; earlier floors reach it through files."""
    deps = yaml.safe_load((SUMMARY.parent / "dvc.yaml").read_text())["stages"][stage]["deps"]
    named = [ROOT / dep for dep in deps if dep.startswith("stages/")]
    for path in closure(ROOT / "stages" / f"{stage}.py") - NEUTRAL:
        listed = any(path == dep or path.is_relative_to(dep) for dep in named)
        assert listed or floor(path) in FLOORS[:2], f"{stage} imports {path}, and does not list it"


def test_the_committed_ledger_is_fresh(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    summary = load_summary(SUMMARY)
    studies = {name: load_study(path_of(name)) for name in studied(summary)}
    table = ledger(summary, studies)
    write_table(tmp_path / "claims.csv", table, exact=True)
    reports = ROOT / "reports"
    assert (tmp_path / "claims.csv").read_text() == (reports / "claims.csv").read_text()
    said = markdown(TEMPLATE, table, summary, boxes(summary, studies))
    assert said == (reports / "claims.md").read_text()
    found, first = read_metrics(reports / "claims.json"), headline(table)
    assert found == counted(table)
    assert sum(counts(table, "verdict").values()) == first.same_as.isna().sum() < len(first)


def test_every_reading_of_a_claim_that_was_run_stands_in_the_committed_ledger():
    """A misspelt outcome, or a pair that compare does not make, would read as not run."""
    table = pd.read_csv(ROOT / "reports" / "claims.csv", keep_default_na=False)
    own = table[table.own_data]
    for each in load_summary(SUMMARY).claims:
        if each.data == "mnist":
            found = own[own.claim == each.id]
            found = found.outcome[found.study == found.study.iloc[0]]
            assert found.iloc[0] == each.primary
            others = found[1:].str.split(",").str[0]
            assert list(dict.fromkeys(others)) == each.secondary, each.id


def test_the_ledger_needs_no_study_to_run_where_data_are_absent(tmp_path):
    """A newcomer has the digits' data alone; what MNIST gave stands as recorded."""
    def run(*command):
        done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
        return done.stdout

    run("git", "clone", "--quiet", str(ROOT), ".")
    recipe = re.search(r"claims: .*\n\tdvc (.*)", (ROOT / "Makefile").read_text())[1]
    target = recipe.replace("--quiet", "--dry").split()
    assert "Running stage" not in run("dvc", *target)
    with (tmp_path / "stages" / "tla" / "train" / "losses.py").open("a") as file:
        file.write("# another method\n")
    assert "Running stage" not in run("dvc", *target)
