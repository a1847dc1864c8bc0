"""Committed text agrees with committed numbers."""

import json
import re
import shutil
from math import nan
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from committed import ROOT, STUDIES

from readme import beside, pages, updated
from report import headline_metrics
from tla.files import read_metrics, write_metrics
from tla.params import UserError
from tla.report.text import read_tables, report_text
from tla.report.tuning import read_trials, settings_of, winners
from tla.report.verdicts import verdict_text
from tla.train.methods import load_study
from tla.train.models import network_of
from tune import all_trials

studies = pytest.mark.parametrize("study", STUDIES)


@pytest.fixture(autouse=True)
def repository(monkeypatch):
    monkeypatch.chdir(ROOT)


def reports(study):
    return ROOT / "reports" / load_study(ROOT / study).dataset


def test_the_results_in_the_readme_and_of_the_benchmarks_are_fresh():
    for path, fresh in pages().items():
        assert path.read_text() == fresh, "run python stages/readme.py"


def test_a_page_without_the_markers_of_a_block_is_refused():
    with pytest.raises(UserError, match="table of digits"):
        updated("# Results\n", "table of digits", "a table")


def test_the_readme_is_short_before_its_links():
    before, _, after = (ROOT / "README.md").read_text().partition("## Further")
    assert len(before.splitlines()) <= 120 and after


def test_the_readme_says_how_many_weights_the_networks_have():
    """Ours of each data set, and the authors', in millions."""
    found = {}
    for study, shape in (("mnist-small", (1, 28, 28)), ("cifar10-small", (3, 32, 32)),
                         ("mnist-paper", (1, 28, 28)), ("cifar10-paper", (3, 32, 32))):
        params = load_study(ROOT / "experiments" / study / "params.yaml")
        network = network_of(params, "tla", shape, 10, seed=0)
        found[study] = sum(weights.numel() for weights in network.parameters()) / 1e6
    said = ("{mnist-small:.2f} million weights on MNIST and {cifar10-small:.2f} million on "
            "CIFAR-10; the authors' have {mnist-paper:.0f} and {cifar10-paper:.0f} million")
    assert said.format(**found) in " ".join((ROOT / "README.md").read_text().split())


def test_the_readme_names_every_claim_that_is_decided():
    text = (ROOT / "README.md").read_text()
    claims = pd.read_csv(ROOT / "reports" / "claims.csv")
    for verdict in ("confirmed", "contradicted"):
        decided = claims[(claims.verdict == verdict) & claims.same_as.isna()]
        decided = [f"{line.claim}: {line.says}{beside(claims, line)}"
                   for line in decided.drop_duplicates("claim").itertuples()]
        named = re.search(rf"\n- \*\*{len(decided)} {verdict}\*\*(?:: (.*))?\n", text)[1]
        assert (named or "") == "; ".join(decided)


def test_what_other_readings_of_a_decided_claim_say_stands_beside_it():
    lines = [("C1", "small", "a", 0.01, "contradicted"), ("C1", "small", "b", 0.02, "contradicted"),
             ("C1", "small", "c", 0.03, "confirmed"), ("C1", "small", "d", nan, "undefined"),
             ("C1", "large", "a", 0.01, "confirmed"), ("C2", "small", "a", 0.01, "confirmed"),
             ("C3", "mnist-fast", "time", nan, "contradicted"),
             ("C4", "small", "a", 0.01, "confirmed"), ("C4", "small", "b", 0.01, "disagrees"),
             ("C4", "small", "c", 0.01, "agrees"), ("C4", "digits", "a", 0.5, "not resolved")]
    table = pd.DataFrame(lines, columns=["claim", "study", "outcome", "p", "uncorrected"])
    table = table.assign(own_data=table.study != "digits", seeds=3, ours=8.0, low=0.25, high=16.0)
    said = {line.Index: beside(table, line) for line in table.drop(3).itertuples()}
    others = "other readings there, uncorrected: "
    assert said[0] == f" ({others}1 against it, 1 for it; large, 3 seeds: +8.0 [+0.2, +16.0])"
    assert said[2] == f" ({others}2 against it)"
    assert said[4] == " (small, 3 seeds: +8.0 [+0.2, +16.0])" and said[5] == ""
    assert said[6] == " (by a benchmark, at 7 attack steps, without a test)"
    assert said[7] == f" ({others}1 against it, of one seed, 1 for it, of one seed)"


def test_words_of_the_readme_are_defined_before_they_are_used():
    text = (ROOT / "README.md").read_text()
    for word, meaning in (("TLA", "**TLA**, the paper's method"), ("AT", "(**AT**: cross-entropy"),
                          ("pool", "a *pool* drawn"), ("[Mm]asking", "*Masking*: gradients"),
                          ("UM", "UM: no defence")):
        prose = re.sub(r"(?m)^\|.*$|<!--.*?-->|\]\(.*?\)|!\[.*?\]", "", text)
        used, defined = re.search(rf"(?<![\w-]){word}(?![\w-])", prose), prose.index(meaning)
        assert defined <= used.start() <= defined + len(meaning), word


@pytest.fixture
def fetched(tmp_path, monkeypatch):
    """Puts what dvc.lock asks for, a path, out of artifacts/ into its place in an empty folder."""
    monkeypatch.chdir(tmp_path)
    artifacts = ROOT / "artifacts" / "files" / "md5"

    def fetch(folder):
        study = Path(folder).parts[1]
        lock = yaml.safe_load((ROOT / "experiments" / study / "dvc.lock").read_text())
        md5, = {out["md5"] for stage in lock["stages"].values() for out in stage.get("outs", [])
                if out["path"].endswith(folder)}
        for file in json.loads((artifacts / md5[:2] / md5[2:]).read_text()):
            place = tmp_path / folder / file["relpath"]
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(artifacts / file["md5"][:2] / file["md5"][2:], place)
    return fetch


def test_the_three_lines_of_the_readme_load_a_stored_model(fetched):
    lines = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]
    assert len(lines.splitlines()) == 3
    fetched(re.search(r'"(data/.*)/seed', lines)[1])
    found = {"images": torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))}
    exec(lines, found)
    assert found["logits"].shape == (2, 10) and len(found["embedding"]) == 2


def test_the_readme_says_what_its_commands_take():
    text = (ROOT / "README.md").read_text()
    spent = pd.read_csv(ROOT / "reports" / "benchmarks" / "pipeline.csv").set_index("kind").wall
    assert "about ten minutes" in text and 600 / 2 < spent["total"] < 600 * 2
    assert "9 MB; no network" in text
    assert 8e6 < (ROOT / "reports" / "index.html").stat().st_size < 10e6


def test_the_prose_on_speed_has_the_numbers_of_the_benchmarks():
    text = " ".join((ROOT / "docs" / "speed.md").read_text().split())
    folder = ROOT / "reports" / "benchmarks"
    steps = pd.read_csv(folder / "training.csv").set_index(["network", "model", "precision"]).of_at
    said = [steps["digits", "tla", "float32"], steps["mnist", "tla", "float32"],
            steps["mnist", "tla-b2000", "float32"], steps["mnist", "tla-b2000", "bfloat16"]]
    assert ("a step of TLA takes {:.1f} times as long on digits, {:.1f} times on MNIST, {:.1f} "
            "times with a pool of 2000 ({:.1f} in bfloat16)").format(*said) in text
    runs = pd.read_csv(folder / "attacks.csv").query("attack == 'PGD-100'")
    runs = runs.sort_values("images", ascending=False, kind="stable")
    value = runs.groupby(["network", "peer"]).value.last()
    slower = [value[name, "ours worst bfloat16"] / value[name, "ours worst float32"]
              for name in ("mnist", "cifar10")]
    assert ("took {:.1f} times as long there on the MNIST network and {:.1f} times on the "
            "residual one").format(*slower) in text


def test_every_link_of_the_readme_and_the_docs_leads_somewhere():
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for link in re.findall(r"\]\(([^)#]+)", page.read_text()):
            assert link.startswith("http") or (page.parent / link).exists(), f"{page}: {link}"
        prose = [line for line in page.read_text().splitlines() if not line.startswith("|")]
        assert len(" ".join(prose).split()) <= 1000, f"{page} is no short page"


@studies
def test_a_committed_report_is_made_from_the_committed_tables(study):
    params = load_study(ROOT / study)
    distances = {}
    for name in params.represent.models:
        path = reports(study) / "metrics" / f"represent-{name}.json"
        distances[name] = read_metrics(path)
    template = (ROOT / "stages" / "report.md").read_text()
    said = verdict_text(params, whole=True)
    text = report_text(template, params, read_tables(params), distances, said)
    assert text == (reports(study) / "REPORT.md").read_text()


@studies
def test_a_committed_headline_has_few_numbers_and_they_are_of_the_committed_tables(
        study, tmp_path):
    params, path = load_study(ROOT / study), reports(study) / "headline.json"
    write_metrics(tmp_path / "headline.json", headline_metrics(params, read_tables(params)))
    assert path.read_text() == (tmp_path / "headline.json").read_text()
    assert 9 <= len(read_metrics(path)) <= 10       # detection may be undefined


@studies
def test_the_tables_of_a_study_have_every_model_once_and_no_other(study):
    params, folder = load_study(ROOT / study), reports(study) / "tables"
    for name in ("autoattack", "queries", "textbook", "masking", "cost"):
        assert pd.read_csv(folder / f"{name}.csv").model.tolist() == params.models, name
    for name in ("accuracy", "label-leaking"):
        found = pd.read_csv(folder / f"{name}.csv").model
        assert list(dict.fromkeys(found)) == params.models, name
    for name in ("auc", "aware", "ood", "retrieval", "mismatch"):
        found = pd.read_csv(folder / f"{name}.csv").model
        assert list(dict.fromkeys(found)) == params.represent.models, name


@studies
def test_params_hold_the_values_that_won_on_validation_images(study):
    """But for what no trial varies: trials may be shorter than the study, all of them alike."""
    plain, params = yaml.safe_load((ROOT / study).read_text()), load_study(ROOT / study)
    for best in winners(read_trials(params)).itertuples():
        space = params.tune.space[best.method]
        for key, value in settings_of(best.settings).items():
            section = plain
            for part in key.split("."):
                section = section[part]
            alike = isinstance(space, dict) and isinstance(space[key], list)
            if not alike or len(space[key]) > 1:
                assert str(section) == value, f"{key}: trial {best.trial} of {best.method} won"


@studies
def test_every_trial_was_scored_and_every_method_had_as_many(study):
    params = load_study(ROOT / study)
    expected = [(trial.method, trial.number, trial.settings) for trial in all_trials(params)]
    scored = read_trials(params)
    found = scored[["method", "trial", "settings"]].itertuples(index=False, name=None)
    assert sorted(found) == (sorted(expected) if len(scored) else [])
    for _, own in scored.groupby("method"):
        assert sum(own.seeds == len(params.tune.seeds)) == left_of(params.tune)


def left_of(tune):
    """How many trials of a method are left on the last seed."""
    left = tune.trials
    for _ in tune.seeds[1:] if tune.halving else []:
        left = (left + 1) // 2
    return left


@studies
@pytest.mark.parametrize("outcome", ["white-box", "robust"])
def test_adversarially_trained_models_are_far_above_the_undefended_one(study, outcome):
    accuracy = pd.read_csv(reports(study) / "tables" / "accuracy.csv")
    left = accuracy[accuracy.outcome == outcome].set_index("model")
    # Kurakin trains on one-step images; that this need not hold against many is its point.
    assert (left.drop(["um", "kurakin"], errors="ignore").low > left.high["um"] + 0.25).all()


@studies
def test_the_headline_is_at_most_the_accuracy_under_any_attack_on_the_same_images(study):
    """Each image of `robust` is left by every attack that saw it."""
    accuracy = pd.read_csv(reports(study) / "tables" / "accuracy.csv")
    for model, lines in accuracy.set_index("outcome").groupby("model"):
        robust = lines.loc["robust"]
        same = lines[(lines.images == robust.images) & (lines.seeds == robust.seeds)]
        assert len(same) > 1 and (robust.accuracy <= same.accuracy).all(), model
