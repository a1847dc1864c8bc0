"""The ledger: verdicts by hand, readings, what is not run, and agreement with the published numbers."""

import re
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from test_pipeline import closure

from claims import cells, counts, ledger, markdown, measured, outcome_label
from tla.ledger import Claim, Summary, load_summary, path_of, studied, verdict, with_holm
from tla.params import UserError

ROOT = Path(__file__).parents[1]
TEMPLATE = (ROOT / "stages" / "claims.md").read_text()
SUMMARY = ROOT / "experiments" / "summary" / "params.yaml"


@pytest.mark.parametrize(("low", "high", "direction", "expected"), [
    (0.1, 2.0, 1, "confirmed"), (-2.0, -0.1, 1, "contradicted"), (-0.1, 2.0, 1, "not resolved"),
    (-2.0, -0.1, -1, "confirmed"), (0.1, 2.0, -1, "contradicted"), (0.0, 2.0, 1, "not resolved")])
def test_verdicts(low, high, direction, expected):
    assert verdict(claim(published=float(direction)), low, high) == expected


@pytest.mark.parametrize(("low", "high", "expected"), [
    (-0.5, 0.9, "confirmed"), (0.2, 0.9, "confirmed"), (1.1, 3.0, "contradicted"), (-3.0, -1.1, "contradicted"),
    (0.5, 1.5, "not resolved"), (-2.0, 2.0, "not resolved"), (np.nan, np.nan, "undefined")])
def test_a_claim_of_hardly_any_difference_needs_the_interval_within_its_margin(low, high, expected):
    assert verdict(claim(published=0.1, equal_within=1.0), low, high) == expected


def claim(**changes):
    return Claim(**{"id": "C99", "data": "mnist", "says": "ahead", "kind": "accuracy", "model": "tla", "baseline": "at",
                    "published": 1.0, "source": "poster", "outcomes": ["b_last", "a_last"]} | changes)


@pytest.fixture
def study(params, tmp_path, monkeypatch):
    """A study of digits with a table of differences and one of AUC written by hand."""
    monkeypatch.chdir(tmp_path)
    tables = tmp_path / "reports" / "digits" / "tables"
    tables.mkdir(parents=True)
    tla = f"tla-b{params.mining.batch}"
    columns = ["model", "baseline", "outcome", "difference", "low", "high", "p", "seeds_won", "images", "seeds"]
    pd.DataFrame([[tla, "at", "a_last", 0.02, 0.01, 0.03, 0.01, 3, 100, 5],
                  [tla, "at", "b_last", -0.02, -0.03, -0.01, 0.02, 3, 100, 5],
                  [tla, "alp", "a_last", 0.01, -0.01, 0.03, 0.5, 3, 100, 5],
                  [tla, "um", "a_last", 0.5, 0.4, 0.6, 0.001, 1, 100, 1]], columns=columns).to_csv(
        tables / "differences.csv", index=False)
    pd.DataFrame({"model": [tla, "at"], "flag_cw": [False, False], "flag_rise": [False, True]}).to_csv(
        tables / "masking.csv", index=False)
    auc = ["model", "baseline", "score", "eps_factor", "difference", "low", "high", "p", "seeds_won", "images", "seeds"]
    pd.DataFrame([[tla, "at", "mixture", 1.0, 0.1, 0.05, 0.15, 0.001, 5, 100, 5],
                  [tla, "at", "mixture", 1.5, *[np.nan] * 5, 100, 5],
                  [tla, "at", "mixture", 1.33, 0.2, 0.15, 0.25, 0.001, 5, 100, 5]], columns=auc).to_csv(
        tables / "auc-differences.csv", index=False)
    return params


def test_a_claim_is_measured_by_its_readings_in_order(study):
    assert measured(claim(), study).outcome.tolist() == ["b_last", "a_last"]
    assert measured(claim(kind="unmeasured", outcomes=[]), study).empty


def test_detection_is_first_read_at_an_eps_larger_than_in_training(study):
    found = measured(claim(kind="auc", outcomes=["mixture"]), study)
    assert found.outcome.tolist() == [f"mixture, eps x {factor}" for factor in ("1.33", "1.5", "1")]


def test_a_flagged_model_is_marked(study):
    assert measured(claim(), study).masked.tolist() == [True, True]
    assert measured(claim(baseline="alp"), study).masked.tolist() == [False]
    table = ledger(Summary(studies={"mnist": ["digits"]}, beside=[], claims=[claim(), claim(baseline="alp")]),
                   {"digits": study})
    assert [cells(line)["ours"] for line in table.itertuples()] == ["-2.00 ⚑", "+2.00 ⚑", "+1.00"]


def test_one_training_seed_settles_nothing(study):
    table = ledger(Summary(studies={"mnist": ["digits"]}, beside=[], claims=[claim(baseline="um")]), {"digits": study})
    assert table.verdict.tolist() == ["agrees"]


def test_an_undefined_reading_stays_and_is_counted(study):
    undefined = claim(kind="auc", baseline="alp", outcomes=["mixture"])
    path = Path("reports", "digits", "tables", "auc-differences.csv")
    table = pd.read_csv(path)
    nothing = dict.fromkeys(["difference", "low", "high", "p", "seeds_won"], np.nan)
    table.assign(baseline="alp", **nothing).to_csv(path, index=False)
    summary = Summary(studies={"mnist": ["digits"]}, beside=[], claims=[undefined])
    table = ledger(summary, {"digits": study})
    assert set(table.verdict) == {"undefined"} and counts(table)["undefined"] == 1
    assert cells(next(table.itertuples()))["95 % interval"] == ""


def test_where_the_published_value_lies(study):
    table = ledger(Summary(studies={"mnist": ["digits"]}, beside=[], claims=[
        claim(baseline="alp", outcomes=["a_last"], published=value) for value in (1.0, 4.0, -2.0)]), {"digits": study})
    assert [cells(line)["published lies"] for line in table.itertuples()] == ["inside", "above", "below"]


def test_the_ledger_puts_own_data_first_and_other_data_beside(study):
    claims = [claim(), claim(id="C98", data="cifar10"), claim(id="C97", published=-1.0)]
    table = ledger(Summary(studies={"mnist": ["digits"], "cifar10": []}, beside=["other"], claims=claims),
                   {"digits": study, "other": study})
    found = table.groupby("claim").verdict.apply(list).to_dict()
    assert found == {"C99": ["contradicted", "confirmed", "disagrees", "agrees"],
                     "C98": ["not run", "disagrees", "agrees"],
                     "C97": ["confirmed", "contradicted", "agrees", "disagrees"]}
    assert table.ours[:2].tolist() == [-2.0, 2.0] and table.resolvable[0] == 1.0
    own = table[table.study == "digits"]
    assert sorted(set(own.p_holm)) == pytest.approx([0.02])     # two comparisons, each counts once


def test_a_study_speaks_once_of_its_own_data_and_beside_of_others(study):
    table = ledger(Summary(studies={"mnist": ["digits"], "cifar10": []}, beside=["digits"],
                           claims=[claim(), claim(id="C98", data="cifar10")]), {"digits": study})
    found = table.groupby("claim").verdict.apply(list).to_dict()
    assert found == {"C99": ["contradicted", "confirmed"], "C98": ["not run", "disagrees", "agrees"]}


def test_counts_take_the_first_reading_of_each_claim(study):
    summary = Summary(studies={"mnist": ["digits"]}, beside=[], claims=[claim(), claim(id="C98", outcomes=["a_last"])])
    found = counts(ledger(summary, {"digits": study}))
    assert found == {"confirmed": 1, "contradicted": 1, "not resolved": 0, "undefined": 0, "not run": 0}


@pytest.mark.parametrize(("stage", "files"), [
    ("claims", ["tables/differences.csv", "tables/auc-differences.csv", "tables/masking.csv"]),
    ("page", ["REPORT.md", "figures", "tables", "splits.csv", "tuning.csv"])])
def test_the_graph_lists_what_the_ledger_and_the_page_are_made_from(stage, files):
    deps = yaml.safe_load((SUMMARY.parent / "dvc.yaml").read_text())["stages"][stage]["deps"]
    code = {ROOT / dep for dep in deps if dep.endswith(".py")}
    assert code == closure(ROOT / "stages" / f"{stage}.py")[0] - {ROOT / "stages" / "tla" / "params.py"}
    summary = load_summary(SUMMARY)
    for study in studied(summary):
        assert path_of(study) in deps
        assert {f"reports/{study}/{file}" for file in files} <= set(deps)


def test_the_headline_is_first_and_what_was_not_run_is_named(study):
    summary = Summary(studies={"mnist": ["digits"], "cifar10": []}, beside=[],
                      claims=[claim(), claim(id="C98", data="cifar10", published=None)])
    text = markdown(TEMPLATE, ledger(summary, {"digits": study}), summary)
    assert "2 claims." in text and "0 confirmed, 1 contradicted, 0 not resolved, 0 undefined, 1 not run" in text
    brief, full = text.split("## Every claim, every reading")
    assert brief.count("| C99 ") == 1 and "want of a study of CIFAR-10: C98" in brief
    assert full.count("| C99 ") == 2 and full.count("| C98 ") == 1


def test_holm_is_within_a_study():
    table = with_holm(pd.DataFrame({"study": ["a", "a", "b", ""], "p": [0.01, 0.04, 0.03, np.nan],
                                    "model": "tla", "baseline": "at", "outcome": ["x", "y", "x", ""],
                                    "low": [0.0] * 4, "high": [1.0] * 4}))
    assert table.p_holm[:3].tolist() == pytest.approx([0.02, 0.04, 0.03])
    assert np.isnan(table.p_holm[3])


@pytest.mark.parametrize(("outcome", "label"), [
    ("pgd_400_last", "PGD-400, after the last step"), ("autoattack", "AutoAttack"),
    ("union_worst", "union of all, at every step"),
    ("mixture, eps x 1.5", "mixture, eps x 1.5")])
def test_outcomes_have_readable_labels(outcome, label):
    assert outcome_label(outcome) == label


def published_value(data, model, attack, figure):
    table = pd.read_csv(ROOT / "reports" / "published.csv")
    part = table[(table.dataset == data) & (table.figure == figure) & table.attack.str.fullmatch(attack)]
    pool = int(model.removeprefix("tla-b")) if figure == "pool sweep" else None
    part = part[part.pool == pool] if pool else part[part.model == NAMES[model]]
    return part.value.item()


NAMES = {"tla": "TLA", "at": "AT", "alp": "ALP", "um": "UM", "tla-b1": "TLA-RN", "tla-sa": "TLA-SA"}


@pytest.mark.parametrize("each", [c for c in load_summary(SUMMARY).claims if c.source.startswith("poster")
                                  and c.published is not None], ids=lambda c: c.id)
def test_published_differences_are_those_of_the_published_numbers(each):
    """Each claim's number is the difference of two lines of published.csv, to what digitising can tell."""
    data = {"mnist": "MNIST", "cifar10": "CIFAR-10"}[each.data]
    if each.kind == "auc":
        values = [published_value(data, m, "PGD", "ROC") if m != "chance" else 50 for m in (each.model, each.baseline)]
    else:
        attack = {"cw": "C&W", "mim": "MIM", "pgd": r"PGD.*"}[each.outcomes[0].split("_")[0]]
        figure = "pool sweep" if each.model.startswith("tla-b") else "bars"
        values = [published_value(data, m, attack, figure) for m in (each.model, each.baseline)]
    assert values[0] - values[1] == pytest.approx(each.published, abs=0.07 if each.source == "poster" else 0.006)


def test_claims_are_those_of_the_paper_and_bad_ones_are_refused(tmp_path):
    ids = {each.id[:3] for each in load_summary(SUMMARY).claims}
    assert ids == {f"C{k:02d}" for k in range(1, 27)}
    plain = yaml.safe_load(SUMMARY.read_text())
    plain["claims"][0]["kind"] = "opinion"
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(plain))
    with pytest.raises(UserError, match="claims.0.kind"):
        load_summary(tmp_path / "params.yaml")


def test_the_ledger_needs_no_study_to_run_where_data_are_absent(tmp_path):
    """A newcomer has the digits' data alone; what MNIST gave stands as recorded."""
    def run(*command):
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    run("git", "clone", "--quiet", str(ROOT), ".")
    recipe = re.search(r"claims: .*\n\tdvc (.*)", (ROOT / "Makefile").read_text())[1]
    target = recipe.replace("--quiet", "--dry").split()
    assert "Running stage" not in run("dvc", *target)
    with (tmp_path / "stages" / "tla" / "core" / "losses.py").open("a") as file:
        file.write("# another method\n")
    assert "Running stage" not in run("dvc", *target)
