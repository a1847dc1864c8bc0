"""The ledger: verdicts by hand, readings, what is not run, agreement with the published numbers."""

import re
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from test_pipeline import FLOORS, NEUTRAL, closure, floor

from claims import cells, markdown
from tla.files import read_metrics, write_table
from tla.measure.norms import at_radius, over_radii
from tla.params import UserError
from tla.report.ledger import (
    Claim,
    Summary,
    counts,
    headline,
    ledger,
    load_summary,
    measured,
    model_of,
    path_of,
    studied,
    verdict,
    with_holm,
)
from tla.train.methods import load_study

ROOT = Path(__file__).parents[1]
TEMPLATE = (ROOT / "stages" / "claims.md").read_text()
SUMMARY = ROOT / "experiments" / "summary" / "params.yaml"
COLUMNS = ["model", "baseline", "outcome", "difference", "low", "high", "p", "seeds_won", "images",
           "seeds"]
AUC = ["model", "baseline", "score", "eps_factor", *COLUMNS[3:]]


@pytest.mark.parametrize(("low", "high", "direction", "expected"), [
    (0.1, 2.0, 1, "confirmed"), (-2.0, -0.1, 1, "contradicted"), (-0.1, 2.0, 1, "not resolved"),
    (-2.0, -0.1, -1, "confirmed"), (0.1, 2.0, -1, "contradicted"), (0.0, 2.0, 1, "not resolved"),
    (1e-5, 2.0, 1, "confirmed"), (-2.0, -1e-5, 1, "contradicted"), (-1e-5, 2.0, 1, "not resolved")])
def test_verdicts(low, high, direction, expected):
    assert verdict(claim(published=float(direction)), low, high) == expected


@pytest.mark.parametrize(("low", "high", "expected"), [
    (-0.5, 0.9, "confirmed"), (0.2, 0.9, "confirmed"), (1.1, 3.0, "contradicted"),
    (-3.0, -1.1, "contradicted"), (0.5, 1.5, "not resolved"), (-2.0, 2.0, "not resolved"),
    (-1.0, 1.0, "confirmed"), (-0.5, 1.0001, "not resolved"), (np.nan, np.nan, "undefined")])
def test_a_claim_of_hardly_any_difference_needs_the_interval_in_its_margin(low, high, expected):
    assert verdict(claim(published=0.1, equal_within=1.0), low, high) == expected


def claim(**changes):
    return Claim(**{
        "id": "C99", "data": "mnist", "says": "ahead", "kind": "accuracy", "model": "tla",
        "baseline": "at", "published": 1.0, "source": "poster",
        "outcomes": ["b_last", "a_last"]} | changes)


def summary_of(*claims, studies=("digits",), beside=()):
    """A summary whose MNIST studies are these; no study has CIFAR-10."""
    return Summary(studies={"mnist": list(studies), "cifar10": []}, beside=list(beside),
                   claims=list(claims))


def verdicts(table):
    """The verdicts on each claim, in the order of the ledger."""
    return table.groupby("claim").verdict.apply(list).to_dict()


@pytest.fixture
def study(params, tmp_path, monkeypatch):
    """A study of digits with a table of differences and one of AUC written by hand."""
    monkeypatch.chdir(tmp_path)
    tables = tmp_path / "reports" / "digits" / "tables"
    tables.mkdir(parents=True)
    pd.DataFrame([["tla", "at", "a_last", 0.02, 0.01, 0.03, 0.01, 3, 100, 5],
                  ["tla", "at", "b_last", -0.02, -0.03, -0.01, 0.02, 3, 100, 5],
                  ["tla", "alp", "a_last", 0.01, -0.01, 0.03, 0.5, 3, 100, 5],
                  ["tla", "um", "a_last", 0.5, 0.4, 0.6, 0.001, 1, 100, 1]],
                 columns=COLUMNS).to_csv(tables / "differences.csv", index=False)
    pd.DataFrame({"model": ["tla", "at"], "flag_cw": [False, False],
                  "flag_rise": [False, True]}).to_csv(tables / "masking.csv", index=False)
    pd.DataFrame([["tla", "at", "mixture", 1.0, 0.1, 0.05, 0.15, 0.001, 5, 100, 5],
                  ["tla", "at", "mixture", 1.5, *[np.nan] * 5, 100, 5],
                  ["tla", "at", "mixture", 1.33, 0.2, 0.15, 0.25, 0.001, 5, 100, 5]],
                 columns=AUC).to_csv(tables / "auc-differences.csv", index=False)
    return params


def test_a_claim_is_measured_by_its_readings_in_order(study):
    assert measured(claim(), study).outcome.tolist() == ["b_last", "a_last"]
    assert measured(claim(kind="unmeasured", outcomes=[]), study).empty


def test_detection_is_first_read_at_an_eps_larger_than_in_training(study):
    found = measured(claim(kind="auc", outcomes=["mixture"]), study)
    assert found.outcome.tolist() == [f"mixture, eps x {at}" for at in ("1.33", "1.5", "1")]


def test_a_pool_that_a_study_has_as_its_default_is_that_of_tla(study):
    assert study.mining.batch == 300 and model_of("tla-b300", study) == "tla"
    assert model_of("tla-b30", study) == "tla-b30" and model_of("chance", study) == "chance"
    assert measured(claim(model="tla-b300"), study).outcome.tolist() == ["b_last", "a_last"]
    assert measured(claim(model="tla-b30"), study).empty


def test_a_pool_that_a_study_lists_by_name_is_itself(make_params):
    params = make_params({"models": ["um", "at", "alp", "trades", "tla-b300", "tla"]})
    assert model_of("tla-b300", params) == "tla-b300" and model_of("tla", params) == "tla"


def test_a_flagged_model_is_marked(study):
    assert measured(claim(), study).masked.tolist() == [True, True]
    assert measured(claim(baseline="alp"), study).masked.tolist() == [False]
    table = ledger(summary_of(claim(), claim(baseline="alp")), {"digits": study})
    ours = [cells(line)["ours"] for line in table.itertuples()]
    assert ours == ["-2.00 ⚑", "+2.00 ⚑", "+1.00"]


def test_one_training_seed_settles_nothing(study):
    table = ledger(summary_of(claim(baseline="um")), {"digits": study})
    assert table.verdict.tolist() == ["agrees"]


def test_an_undefined_reading_stays_and_is_counted(study):
    undefined = claim(kind="auc", baseline="alp", outcomes=["mixture"])
    path = Path("reports", "digits", "tables", "auc-differences.csv")
    nothing = dict.fromkeys(["difference", "low", "high", "p", "seeds_won"], np.nan)
    pd.read_csv(path).assign(baseline="alp", **nothing).to_csv(path, index=False)
    table = ledger(summary_of(undefined), {"digits": study})
    assert table.verdict.tolist() == ["undefined"] * 3 and counts(table)["undefined"] == 1
    assert cells(next(table.itertuples()))["95 % interval"] == ""


def test_where_the_published_value_lies(study):
    claims = [claim(baseline="alp", outcomes=["a_last"], published=value)
              for value in (1.0, 4.0, -2.0)]
    table = ledger(summary_of(*claims), {"digits": study})
    lies = [cells(line)["published lies"] for line in table.itertuples()]
    assert lies == ["inside", "above", "below"]


def test_the_ledger_puts_own_data_first_and_other_data_beside(study):
    claims = [claim(), claim(id="C98", data="cifar10"), claim(id="C97", published=-1.0)]
    table = ledger(summary_of(*claims, beside=["other"]), {"digits": study, "other": study})
    assert verdicts(table) == {
        "C99": ["contradicted", "confirmed", "disagrees", "agrees"],
        "C98": ["not run", "disagrees", "agrees"],
        "C97": ["confirmed", "contradicted", "agrees", "disagrees"]}
    assert table.ours[:2].tolist() == [-2.0, 2.0] and table.resolvable[0] == 1.0
    own = table[table.study == "digits"]
    assert sorted(set(own.p_holm)) == pytest.approx([0.02])     # two comparisons, once each


def test_a_study_speaks_once_of_its_own_data_and_beside_of_others(study):
    table = ledger(summary_of(claim(), claim(id="C98", data="cifar10"), beside=["digits"]),
                   {"digits": study})
    assert verdicts(table) == {"C99": ["contradicted", "confirmed"],
                               "C98": ["not run", "disagrees", "agrees"]}


def test_counts_take_the_first_reading_of_each_claim(study):
    summary = summary_of(claim(), claim(id="C98", outcomes=["a_last"]))
    assert counts(ledger(summary, {"digits": study})) == {
        "confirmed": 1, "contradicted": 1, "not resolved": 0, "undefined": 0, "not run": 0}


def test_every_claim_is_counted_also_one_that_a_single_seed_speaks_to(study):
    claims = [claim(), claim(id="C98", baseline="um", outcomes=["a_last"])]
    assert sum(counts(ledger(summary_of(*claims), {"digits": study})).values()) == len(claims)


def test_claims_md_puts_the_headline_first_and_names_what_was_not_run(study):
    summary = summary_of(claim(), claim(id="C98", data="cifar10", published=None),
                         claim(id="C97", kind="unmeasured", says="is fast", outcomes=[]))
    text = markdown(TEMPLATE, ledger(summary, {"digits": study}), summary)
    counted = "0 confirmed, 1 contradicted, 0 not resolved, 0 undefined, 2 not run"
    assert "3 claims." in text and counted in text
    brief, full = text.split("## Every claim, every reading")
    assert brief.count("| C99 ") == 1 and "want of a study of CIFAR-10: C98\n" in brief
    assert "not measured by any stage: C97 (is fast)\n" in brief
    assert "want of a study of MNIST" not in brief
    assert full.count("| C99 ") == 2 and full.count("| C98 ") == 1


def test_holm_is_within_a_study():
    table = with_holm(pd.DataFrame({
        "study": ["a", "a", "b", ""], "p": [0.01, 0.04, 0.03, np.nan], "model": "tla",
        "baseline": "at", "outcome": ["x", "y", "x", ""], "low": [0.0] * 4, "high": [1.0] * 4}))
    assert table.p_holm[:3].tolist() == pytest.approx([0.02, 0.04, 0.03])
    assert np.isnan(table.p_holm[3])


# The committed ledger

@pytest.mark.parametrize(("stage", "files"), [
    ("claims", ["tables"]), ("page", ["REPORT.md", "figures", "tables", "splits.csv",
                                      "tuning.csv"])])
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
    table = ledger(summary, {name: load_study(path_of(name)) for name in studied(summary)})
    write_table(tmp_path / "claims.csv", table, exact=True)
    reports = ROOT / "reports"
    assert (tmp_path / "claims.csv").read_text() == (reports / "claims.csv").read_text()
    assert markdown(TEMPLATE, table, summary) == (reports / "claims.md").read_text()
    found = {name.replace("_", " "): n for name, n in read_metrics(reports / "claims.json").items()}
    assert found == counts(table) and sum(found.values()) == len(headline(table))


def test_every_reading_of_a_claim_that_was_run_stands_in_the_committed_ledger():
    """A misspelt outcome, or a pair that compare does not make, would read as not run."""
    table = pd.read_csv(ROOT / "reports" / "claims.csv", keep_default_na=False)
    own = table[table.own_data]
    for each in load_summary(SUMMARY).claims:
        if each.data == "mnist" and each.kind != "unmeasured":
            found = own[own.claim == each.id].outcome.str.split(",").str[0]
            assert list(dict.fromkeys(found)) == each.outcomes, each.id


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


def test_unseen_norms_are_read_over_all_radii_first_and_then_at_each_of_every_study():
    """The paper's radii are unknown: no study has one that the ledger leaves out."""
    claims = {each.id: each.outcomes for each in load_summary(SUMMARY).claims}
    for path in [ROOT / "params.yaml", *ROOT.glob("experiments/*-*/params.yaml")]:
        norms = load_study(path).norms
        for norm, radii, said in (("l2", norms.l2_radii, claims["C23a"]),
                                  ("l0", norms.l0_radii, claims["C23b"])):
            assert said[0] == over_radii(norm)
            assert {at_radius(norm, radius) for radius in radii} <= set(said), path


# The claims

NAMES = {"tla": "TLA", "at": "AT", "alp": "ALP", "um": "UM", "tla-b1": "TLA-RN",
         "tla-sa": "TLA-SA"}
DATA = {"mnist": "MNIST", "cifar10": "CIFAR-10"}
ATTACKS = {"cw": "C&W", "mim": "MIM", "pgd": r"PGD.*"}
ON_THE_POSTER = [each for each in load_summary(SUMMARY).claims
                 if each.source.startswith("poster") and each.published is not None]


def published_value(data, model, attack, figure):
    """A value of published.csv, in percent; chance is a half."""
    if model == "chance":
        return 50
    table = pd.read_csv(ROOT / "reports" / "published.csv")
    part = table[(table.dataset == data) & (table.figure == figure)]
    part = part[part.attack.str.fullmatch(attack)]
    if figure == "pool sweep":
        return part[part.pool == int(model.removeprefix("tla-b"))].value.item()
    return part[part.model == NAMES[model]].value.item()


@pytest.mark.parametrize("each", ON_THE_POSTER, ids=lambda each: each.id)
def test_published_differences_are_those_of_the_published_numbers(each):
    """Each claim's number is that of two lines of published.csv, to what digitising can tell."""
    if each.kind == "auc":
        attack, figure = "PGD", "ROC"
    else:
        attack = ATTACKS[each.outcomes[0].split("_")[0].split("-")[0]]
        figure = "pool sweep" if each.model.startswith("tla-b") else "bars"
    ahead, behind = (published_value(DATA[each.data], name, attack, figure)
                     for name in (each.model, each.baseline))
    blur = 0.07 if each.source == "poster" else 0.006
    assert ahead - behind == pytest.approx(each.published, abs=blur)


def test_claims_are_those_of_the_paper_and_bad_ones_are_refused(tmp_path):
    ids = {each.id[:3] for each in load_summary(SUMMARY).claims}
    assert ids == {f"C{k:02d}" for k in range(1, 27)}
    plain = yaml.safe_load(SUMMARY.read_text())
    plain["claims"][0]["kind"] = "opinion"
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(plain))
    with pytest.raises(UserError, match="claims.0.kind"):
        load_summary(tmp_path / "params.yaml")
