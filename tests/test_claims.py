"""The ledger: verdicts by hand, readings, what is not run, and agreement with the published numbers."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from test_pipeline import closure

from claims import counts, ledger, markdown, measured, outcome_label
from tla.ledger import Claim, Summary, load_summary, path_of, verdict, with_holm
from tla.params import UserError

ROOT = Path(__file__).parents[1]
SUMMARY = ROOT / "experiments" / "summary" / "params.yaml"


@pytest.mark.parametrize(("low", "high", "direction", "expected"), [
    (0.1, 2.0, 1, "confirmed"), (-2.0, -0.1, 1, "contradicted"), (-0.1, 2.0, 1, "not resolved"),
    (-2.0, -0.1, -1, "confirmed"), (0.1, 2.0, -1, "contradicted"), (0.0, 2.0, 1, "not resolved")])
def test_verdicts(low, high, direction, expected):
    assert verdict(low, high, direction) == expected


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
    columns = ["model", "baseline", "outcome", "difference", "low", "high", "p", "images", "seeds"]
    pd.DataFrame([[tla, "at", "a_last", 0.02, 0.01, 0.03, 0.01, 100, 5],
                  [tla, "at", "b_last", -0.02, -0.03, -0.01, 0.02, 100, 5],
                  [tla, "alp", "a_last", 0.01, -0.01, 0.03, 0.5, 100, 5]], columns=columns).to_csv(
        tables / "differences.csv", index=False)
    pd.DataFrame([[tla, "at", "mixture", 1.5, 0.1, 0.05, 0.15, 0.001, 5]], columns=[
        "model", "baseline", "score", "eps_factor", "difference", "low", "high", "p", "seeds"]).to_csv(
        tables / "auc-differences.csv", index=False)
    return params


def test_a_claim_is_measured_by_its_readings_in_order(study):
    assert measured(claim(), study).outcome.tolist() == ["b_last", "a_last"]
    assert measured(claim(kind="auc", outcomes=["mixture"]), study).outcome.tolist() == ["mixture, eps x 1.5"]
    assert measured(claim(kind="unmeasured"), study).empty


def test_the_ledger_puts_own_data_first_and_other_data_beside(study):
    claims = [claim(), claim(id="C98", data="cifar10"), claim(id="C97", published=-1.0)]
    table = ledger(Summary(studies={"mnist": ["digits"], "cifar10": []}, beside=["other"], claims=claims),
                   {"digits": study, "other": study})
    found = table.groupby("claim").verdict.apply(list).to_dict()
    assert found == {"C99": ["contradicted", "confirmed", "disagrees", "agrees"],
                     "C98": ["not run", "disagrees", "agrees"],
                     "C97": ["confirmed", "contradicted", "agrees", "disagrees"]}
    assert table.ours[:2].tolist() == [-2.0, 2.0] and table.resolvable[0] == 1.0
    assert table.p_holm[:2].tolist() == pytest.approx([0.04, 0.04])     # four lines of the study: 2 x .02, 4 x .01


def test_counts_take_the_first_reading_of_each_claim(study):
    summary = Summary(studies={"mnist": ["digits"]}, beside=[], claims=[claim(), claim(id="C98", outcomes=["a_last"])])
    found = counts(ledger(summary, {"digits": study}), summary)
    assert found == {"confirmed": 1, "contradicted": 1, "not resolved": 0, "not run": 0}


@pytest.mark.parametrize(("stage", "files"), [
    ("claims", ["tables/differences.csv", "tables/auc-differences.csv", "metrics/detect-um.json"]),
    ("page", ["REPORT.md", "figures", "tables", "splits.csv", "tuning.csv"])])
def test_the_graph_lists_what_the_ledger_and_the_page_are_made_from(stage, files):
    deps = yaml.safe_load((SUMMARY.parent / "dvc.yaml").read_text())["stages"][stage]["deps"]
    code = {ROOT / dep for dep in deps if dep.endswith(".py")}
    assert code == closure(ROOT / "stages" / f"{stage}.py")[0] - {ROOT / "stages" / "tla" / "params.py"}
    summary = load_summary(SUMMARY)
    for study in [*sum(summary.studies.values(), []), *summary.beside]:
        assert path_of(study) in deps
        assert {f"reports/{study}/{file}" for file in files} <= set(deps)


def test_the_headline_is_first_and_what_was_not_run_is_named(study):
    summary = Summary(studies={"mnist": ["digits"], "cifar10": []}, beside=[],
                      claims=[claim(), claim(id="C98", data="cifar10", published=None)])
    text = markdown(ledger(summary, {"digits": study}), summary)
    assert "2 claims." in text and "0 confirmed, 1 contradicted, 0 not resolved, 1 not run" in text
    brief, full = text.split("## Every claim, every reading")
    assert brief.count("| C99 ") == 1 and "- CIFAR-10: C98" in brief
    assert full.count("| C99 ") == 2 and full.count("| C98 ") == 1


def test_holm_is_within_a_study():
    table = with_holm(pd.DataFrame({"study": ["a", "a", "b", ""], "p": [0.01, 0.04, 0.03, np.nan],
                                    "low": [0.0] * 4, "high": [1.0] * 4}))
    assert table.p_holm[:3].tolist() == pytest.approx([0.02, 0.04, 0.03])
    assert np.isnan(table.p_holm[3])


@pytest.mark.parametrize(("outcome", "label"), [
    ("pgd_400_last", "PGD-400, after the last step"), ("autoattack", "AutoAttack"),
    ("union_worst", "union of all, at every step"),
    ("mixture, eps x 1.5", "mixture, eps x 1.5")])
def test_outcomes_have_readable_labels(outcome, label):
    assert outcome_label(outcome) == label


def test_published_differences_are_those_of_the_published_numbers():
    """Bars and sweeps: each claim's number is the difference of two lines of published.csv."""
    bars = pd.read_csv(ROOT / "reports" / "published.csv").query("figure == 'bars' and dataset == 'MNIST'")
    names = {"tla": "TLA", "at": "AT", "alp": "ALP", "tla-b1": "TLA-RN", "tla-sa": "TLA-SA"}
    attacks = {"cw": "C&W", "mim": "MIM", "pgd": "PGD-2000"}
    checked = 0
    for each in load_summary(SUMMARY).claims:
        if each.source == "poster, digitised" and each.data == "mnist":
            attack = attacks[each.outcomes[0].split("_")[0]]
            value = bars[bars.attack == attack].set_index("model").value
            assert value[names[each.model]] - value[names[each.baseline]] == pytest.approx(each.published, abs=0.006)
            checked += 1
    assert checked == 10


def test_claims_are_those_of_the_paper_and_bad_ones_are_refused(tmp_path):
    ids = {each.id[:3] for each in load_summary(SUMMARY).claims}
    assert ids == {f"C{k:02d}" for k in range(1, 27)}
    plain = yaml.safe_load(SUMMARY.read_text())
    plain["claims"][0]["kind"] = "opinion"
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(plain))
    with pytest.raises(UserError, match="claims.0.kind"):
        load_summary(tmp_path / "params.yaml")
