"""What REPORT.md, the headline and the verdicts say of rows that were drawn at random."""

import copy
import dataclasses
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import PARAMS
from sklearn.metrics import roc_auc_score

import compare
import report
from report import headline_metrics
from tla.files import read_rows, write_arrays, write_metrics, write_rows, write_table
from tla.measure.norms import ATTACKS as NORM_ATTACKS
from tla.measure.norms import at_radius, with_unions
from tla.outcomes import Outcome
from tla.params import Variant
from tla.report.intact import seal
from tla.report.labels import eps_label, flagged, model_labels, outcome_label, percent
from tla.report.ledger import Claim, Summary, ledger
from tla.report.signs import SIGNS
from tla.report.text import (
    area,
    of_trained,
    read_tables,
    report_text,
    resolved,
    results_table,
    sample_heads,
    seed_facts,
    shown_outcomes,
    spread,
)
from tla.report.tuning import COLUMNS
from tla.train.methods import label, load_study

TEMPLATE = (PARAMS.parent / "stages" / "report.md").read_text()
MODELS = ["um", "at", "alp", "kurakin", "tla-sa", "tla-b1", "tla-b30", "tla"]
SCORED = ["um", "at", "alp", "tla"]
ATTACKS = ("fgsm", "pgd", "pgd-restarts", "cw", "mim", "autoattack", "square")
IMAGES = 100                # in five folds
CLASSES = 3                 # few, so that guesses are often right
DISTANCES = {f"{kind}_{other}_class_distance": 0.5
             for kind in ("clean", "adv") for other in ("same", "other")}


# A study of random rows

def drawn(rng, share, n):
    """n outcomes, 1 with the chance `share`."""
    return (rng.random(n) < share).astype(float)


def suite_rows(rng, params):
    """A row of every image; Square and AutoAttack saw the second seed, Square half of it."""
    seeds = params.seeds
    idx = np.arange(IMAGES).reshape(-1, len(seeds)).T.ravel()
    seed = np.repeat(seeds, IMAGES // len(seeds))
    found = pd.DataFrame({"seed": seed, "idx": idx, "label": rng.integers(0, CLASSES, IMAGES),
                          "clean": drawn(rng, 0.9, IMAGES)})
    second = seed == seeds[1]
    few = second & (idx < IMAGES // 2)
    for name, attack in params.evaluate.attacks.items():
        budgets = [str(steps) for steps in attack.steps] if attack.kind == "gradient" else []
        for budget in budgets if len(budgets) > 1 else budgets and [None]:
            for convention in ("last", "worst"):
                outcome = str(Outcome(name, budget, convention))
                found[outcome] = drawn(rng, 0.7, IMAGES)
    for after in ("apgd-ce_", "apgd-t_", "fab-t_", ""):
        found[f"autoattack_{after}worst"] = np.where(second, drawn(rng, 0.6, IMAGES), np.nan)
    for complaint in ("random", "probabilities", "dynamic", "square"):
        found[f"complaint_{complaint}"] = np.where(second, 0, np.nan)
    found["square_worst"] = np.where(few, drawn(rng, 0.6, IMAGES), np.nan)
    found["white-box"] = drawn(rng, 0.6, IMAGES)
    found["robust"] = np.where(few, drawn(rng, 0.5, IMAGES), np.nan)
    return found


def broken_arrays(suite, params):
    """What evaluate keeps of the first images that PGD with restarts broke on the first seed."""
    lost = suite[(suite.seed == params.seeds[0]) & (suite["pgd-restarts_last"] == 0)][:5]
    tiles = np.zeros((len(lost), 1, 8, 8), np.uint8)
    return {"idx": lost.idx.to_numpy(), "label": lost.label.to_numpy(),
            "pred": lost.label.to_numpy(), "x": tiles, "x_adv": tiles}


def textbook_rows(rng, n=10):
    found = {"label": 1, "chosen": 2, "least_likely": 0, "domain_linf": 0.5,
             "clean_pred": rng.integers(0, CLASSES, n), "smallest_linf": rng.random(n),
             "smallest_l2": rng.random(n)}
    for name in ("domain", "chosen_one_step", "chosen_iterative", "least_likely_one_step",
                 "least_likely_iterative"):
        found[f"{name}_pred"] = rng.integers(0, CLASSES, n)
    return pd.DataFrame(found)


def leaking_rows(rng, params, n=10):
    found = {"part": ["train"] * n + ["test"] * n, "label": 1,
             "clean_pred": rng.integers(0, CLASSES, 2 * n)}
    for factor in params.textbook.leaking_factors:
        found[f"fgsm_{factor:g}_pred"] = rng.integers(0, CLASSES, 2 * n)
    return pd.DataFrame(found)


def masking_rows(rng, suite, params):
    """Of the images of the second seed; HopSkipJump saw three."""
    idx = suite.idx[suite.seed == params.seeds[1]].to_numpy()
    found = pd.DataFrame({"idx": idx, "zero_gradient": rng.random(len(idx))})
    for factor in params.masking.eps_factors:
        found[f"eps_{factor * params.attack.eps:g}"] = drawn(rng, 0.5, len(idx))
    three = found.index < 3
    return found.assign(eps_1=0, hop_skip_distance=np.where(three, rng.random(len(idx)), np.nan),
                        hop_skip_queries=np.where(three, 100, np.nan))


def norm_rows(rng, suite, params):
    """L2 and L0 of half of the images of each seed."""
    norms, seen, found = params.norms, suite[suite.idx < IMAGES // 2], {}
    for norm, radii in (("l2", norms.l2_radii), ("l0", norms.l0_radii)):
        for attack in NORM_ATTACKS[norm]:
            found[f"{attack}_distance"] = rng.random(len(seen))
            for radius in radii:
                found[at_radius(attack, radius)] = drawn(rng, 0.8, len(seen))
    rows = seen[["seed", "idx", "label"]].reset_index(drop=True)
    return with_unions(rows.assign(**found), norms)


def transfer_rows(rng, params):
    parts = []
    for source in params.models:
        idx = np.arange(1, IMAGES, 5)[:10]
        parts.append(pd.DataFrame({"source": source, "idx": idx, "label": 1}))
        for judge in params.models:
            parts[-1][f"pred_{judge}"] = rng.integers(0, 2, len(idx))
    return pd.concat(parts)


def embedding_rows(rng, suite, params):
    """Rows of detect, aware, neighbors, mismatch and ood of one model."""
    seen = suite[["seed", "idx", "label"]]
    detect = []
    for factor in params.detect.eps_factors:
        detect.append(seen.assign(eps_factor=factor))
        for name in ("clean_pred", "adv_pred"):
            detect[-1][name] = (seen.label + (rng.random(IMAGES) < 0.4)) % CLASSES
        for score in ("softmax", "neighbors", "mixture"):
            for kind in ("clean", "adv"):
                detect[-1][f"{kind}_{score}"] = rng.random(IMAGES)
    neighbors = seen.assign(clean_precision=0.9, adv_precision=0.5)
    for kind in ("clean", "adv"):
        neighbors[f"{kind}_knn"] = rng.integers(0, CLASSES, IMAGES)
    ood = pd.DataFrame({"source": np.tile(["test", *params.ood.sources], 10), "seed": 0})
    for score in ("softmax", "neighbors", "mixture"):
        ood[score] = rng.random(len(ood))
    mismatch = seen.assign(target_label=0, moved_knn=rng.integers(0, CLASSES, IMAGES))
    for kind in ("clean", "moved"):
        mismatch = mismatch.assign(**{f"{kind}_distance": 0.5, f"{kind}_precision": 0.5})
    return {"detect": pd.concat(detect), "aware": aware_rows(rng, seen, params),
            "neighbors": neighbors, "mismatch": mismatch.assign(clean_knn=1), "ood": ood}


def aware_rows(rng, seen, params):
    """Scores at random, of every attacker."""
    found = []
    for factor in params.detect.aware.eps_factors:
        rows = seen.assign(eps_factor=factor, clean_pred=seen.label)
        rows["unaware_pred"] = (seen.label + (rng.random(IMAGES) < 0.4)) % CLASSES
        for score in ("softmax", "neighbors", "mixture"):
            rows[f"aware_{score}_pred"] = rows.unaware_pred
            for attacker in ("clean", "unaware", "aware"):
                rows[f"{attacker}_{score}"] = rng.random(IMAGES)
        found.append(rows)
    return pd.concat(found)


def training_log(params):
    """Of three epochs, the first of which was not validated; the second has the best network."""
    parts = [pd.DataFrame({"seed": seed, "epoch": [1, 2, 3], "loss": 1.0,
                           "validation_robust_accuracy": [np.nan, 0.7, 0.7],
                           "validation_clean_accuracy": [np.nan, 0.9, 0.8]})
             for seed in params.seeds]
    return pd.concat(parts)


def write_random_rows(folder, raw_params, models):
    """Random rows of a study of these models, and its params.yaml; returns the parameters."""
    plain = copy.deepcopy(raw_params)
    plain["compare"] |= {"least": 1, "resamples": 5}
    plain["models"], plain["represent"]["models"] = models, SCORED
    attacks = plain["evaluate"]["attacks"]
    plain["evaluate"]["attacks"] = {name: attacks[name] for name in ATTACKS}
    (folder / "params.yaml").write_text(yaml.safe_dump(plain))
    params, rng = load_study(folder / "params.yaml"), np.random.default_rng(0)
    data = folder / "data" / "digits"
    for model in params.models:
        suite = suite_rows(rng, params)
        for name, rows in {"suite": suite, "textbook": textbook_rows(rng),
                           "leaking": leaking_rows(rng, params),
                           "masking": masking_rows(rng, suite, params),
                           "norms": norm_rows(rng, suite, params),
                           "cost": pd.DataFrame({"images": [8], "forward": [64],
                                                 "backward": [40]})}.items():
            write_rows(data / "rows" / model / f"{name}.csv.gz", rows)
        write_arrays(data / "rows" / model / "broken.npz", broken_arrays(suite, params))
        if model in params.represent.models:
            for name, rows in embedding_rows(rng, suite, params).items():
                write_rows(data / "embedding" / model / f"{name}.csv.gz", rows)
        write_table(folder / "reports" / "digits" / "training" / f"{model}.csv",
                    training_log(params))
    write_rows(data / "rows" / "transfer.csv.gz", transfer_rows(rng, params))
    return params


@pytest.fixture(scope="module")
def study(tmp_path_factory, raw_params):
    """The parameters and the folder of a study whose rows are random; `compare` was run there."""
    folder = tmp_path_factory.mktemp("study")
    params = write_random_rows(folder, raw_params, MODELS)
    shutil.copy(PARAMS.parent / "reports" / "published.csv", folder / "reports")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        compare.main(["params.yaml"])
    return SimpleNamespace(params=params, folder=folder, data=folder / "data" / "digits")


@pytest.fixture
def tables(study, monkeypatch):
    """The tables of the study, in whose folder the test runs."""
    monkeypatch.chdir(study.folder)
    return read_tables(study.params)


@pytest.fixture
def suites(study):
    """The suite's rows by model."""
    return {name: read_rows(study.data / "rows" / name / "suite.csv.gz")
            for name in study.params.models}


def page(params, tables):
    """REPORT.md."""
    distances = dict.fromkeys(params.represent.models, DISTANCES)
    return report_text(TEMPLATE, params, tables, distances, "> in short\n")


def flag(tables, *models, sign="square"):
    """The tables with no model flagged but these."""
    masking = tables["masking"].copy()
    masking[masking.filter(like="flag_").columns] = False
    masking.loc[masking.model.isin(models), f"flag_{sign}"] = True
    return tables | {"masking": masking}


def markdown_tables(text):
    """The tables of a page, each a list of lines, each a list of cells."""
    found = []
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        found.append([[cell.strip() for cell in line.strip("|").split("|")]
                      for line in table.splitlines()])
    return found


# Marks

def tables_with(text, called):
    """Positions of the tables of a page that have the label in a cell, alone or in a pair."""
    found = []
    for i, table in enumerate(markdown_tables(text)):
        if called in {part for line in table for cell in line for part in cell.split(" − ")}:
            found.append(i)
    return found


def test_a_flagged_model_and_no_other_is_named_once_and_marked_in_the_table_of_masking(
        study, tables):
    params = study.params
    plain, labels = page(params, flag(tables)), {m: label(m, params) for m in params.models}
    for name in labels:
        marked = page(params, flag(tables, name))
        assert f"Flagged models: {labels[name]}." in marked
        assert f"\n{labels[name]} shows\na [sign of gradient masking](#signs-of" in marked
        assert marked.count("⚑") == 2, "what it means, and the sign itself"
        for other in labels.values():
            shown = tables_with(plain, other)
            assert len(shown) >= 7, "the report has lost its tables"
            assert tables_with(marked, other) == shown


def test_flagged_models_are_named_together_and_none_where_there_is_none(study, tables):
    assert "\nAT, ALP show\na [sign of" in page(study.params, flag(tables, "at", "alp"))
    text = page(study.params, flag(tables))
    assert "Flagged models: none." in text and text.count("⚑") == 1     # what it means
    assert "No model shows\na [sign of" in text


def test_no_table_calls_a_model_by_the_name_of_its_files(study, tables):
    text = page(study.params, tables)
    assert [name for name in study.params.models if tables_with(text, name)] == []


@pytest.mark.parametrize("sign", SIGNS)
def test_any_one_sign_flags_a_model_and_is_marked_where_it_stands(sign, study, tables):
    found = flag(tables, "alp", sign=sign)
    assert flagged(found["masking"]) == ["alp"]
    signs = next(table for table in markdown_tables(page(study.params, found))
                 if table[0][-1] == "pixels without gradient")
    marked = [(line[0], head) for line in signs[2:]
              for head, cell in zip(signs[0], line, strict=True) if cell.endswith("⚑") and
              head != "model"]
    assert marked == [("ALP", sign.replace("_", " "))]


# Labels

def test_models_are_called_by_their_labels_in_the_order_of_the_study(study, tables):
    params = study.params
    found = model_labels(params)
    assert list(found) == params.models
    assert (found["tla-b1"], found["tla"]) == ("TLA-RN", "TLA")
    assert found["tla-b30"] == "TLA, pool 30"


@pytest.mark.parametrize(("outcome", "expected"), [
    ("clean", "clean"), ("white-box", "white-box union"), ("robust", "robust (everything tried)"),
    ("knn", "k-NN of the adversarial query"), ("pgd_400_last", "PGD-400, after the last step"),
    ("pgd-restarts_worst", "PGD, restarts, at every step"), ("autoattack_worst", "AutoAttack"),
    ("square_worst", "Square"), ("l2_0.5_worst", "L2 up to 0.5"),
    ("l0_mean_worst", "L0, mean over radii"), ("my-own_last", "my-own, after the last step"),
    ("mixture, eps x 1.5", "mixture, eps x 1.5")])
def test_outcomes_have_readable_labels(outcome, expected):
    assert outcome_label(outcome) == expected


@pytest.mark.parametrize(("eps", "expected"), [
    (0.3, "0.3"), (0.1, "0.1"), (0.2, "0.2"), (8 / 255, "8/255"), (0.03137254901960784, "8/255"),
    (0.0315, "0.0315")])
def test_eps_is_short_or_so_many_grey_levels(eps, expected):
    assert eps_label(eps) == expected


def test_every_outcome_of_the_suite_has_a_label_of_its_own(tables):
    outcomes = set(tables["differences"].outcome) | set(tables["accuracy"].outcome)
    labels = {outcome_label(outcome) for outcome in outcomes}
    assert "knn" in outcomes and len(labels) == len(outcomes)
    assert not [text for text in labels if "_" in text]


# Hyper-parameter trials

def trials_of(scores):
    """Lines of trials: method -> what its trials change -> robust accuracy and edge."""
    found = []
    for method, own in scores.items():
        for number, (settings, (robust, edge)) in enumerate(own.items()):
            found.append((method, number, settings, 0.9, robust, 0.01, 2, edge))
    return pd.DataFrame(found, columns=COLUMNS)


DRAWN = trials_of({
    "tla": {"methods.tla.lr=0.002 mining.batch=10": (0.7, ""),
            "methods.tla.lr=0.01 mining.batch=50": (0.8, "methods.tla.lr"),
            "methods.tla.lr=0.005 mining.batch=50": (0.6, "")},
    "trades": {"methods.trades.lr=0.002": (0.9, ""), "methods.trades.lr=0.004": (0.8, "")},
    "at": {"methods.at.lr=0.004": (0.5, ""), "methods.at.lr=0.002": (0.6, "")}})
LISTED = trials_of({    # before every method had a learning rate of its own
    "at": {"train.epochs=4 train.lr=0.01 train.weight_decay=0.0": (0.5, ""),
           "train.epochs=4 train.lr=0.02 train.weight_decay=0.1": (0.6, "")},
    "tla": {"methods.tla.margin_class=None methods.tla.lambda1=2.0": (0.5, ""),
            "methods.tla.margin_class=0.1 methods.tla.lambda1=4.0": (0.4, "")}})


def test_a_pilot_links_to_the_tables_that_a_study_has_and_no_other(study, tables):
    tried = Variant(models=["at"], seeds=[0], changes={"train.epochs": 1})
    variants = dataclasses.replace(study.params.variants, part="validation", scale=None, gain=None,
                                   attacks={"pgd": 9}, trained={"short": tried})
    table = pd.DataFrame([{"variant": "short", "model": "at", "compute": 1e9, "outcome": "clean",
                           "accuracy": 0.5, "images": 9, "seeds": 1}])
    text = page(dataclasses.replace(study.params, variants=variants), tables | {"variants": table})
    assert "[variants](tables/variants.csv) |" in text


def test_without_trials_the_report_does_not_speak_of_any(study, tables):
    assert tables["trials"].empty
    text = page(study.params, tables)
    assert "tuning.png" not in text and "## Choice of hyper-parameters" not in text


def test_the_report_shows_the_best_trial_of_each_method_in_the_order_of_the_models(study, tables):
    """TRADES is not among them."""
    text = page(study.params, flag(tables) | {"trials": DRAWN})
    (table,) = [found for found in markdown_tables(text) if "the best" in found[0]]
    assert table[2:] == [
        ["AT", "2", "2", "methods.at.lr=0.002", "60.0", "1.0", "–"],
        ["TLA", "3", "2", "methods.tla.lr=0.01, mining.batch=50", "80.0", "1.0", "methods.tla.lr"]]
    assert "](figures/tuning.png)" in text and "is what params.yaml holds.\n" in text


def test_what_all_trials_have_alike_is_said_once_and_not_of_the_best(study, tables):
    short = DRAWN.assign(settings=DRAWN.settings + " train.epochs=5")
    text = page(study.params, flag(tables) | {"trials": short})
    assert "holds, but for what all trials have alike, to be short: train.epochs=5.\n" in text
    assert text.count("train.epochs=5") == 1 and "| methods.at.lr=0.002 |" in text


@pytest.mark.parametrize(("trials", "expected"), [
    (DRAWN, {"AT": ("methods.at.lr", [0.004], [0.002]),
             "TLA": ("methods.tla.lr", [0.002, 0.005], [0.01])}),
    (LISTED, {"AT": ("train.lr", [0.01], [0.02]),
              "TLA": ("methods.tla.lambda1", [4.0], [2.0])})], ids=["drawn", "listed"])
def test_every_trial_is_a_point_and_the_best_of_its_method_is_marked(
        trials, expected, study, monkeypatch, tmp_path):
    figures = []
    monkeypatch.setattr(report.figures, "save", lambda figure, *_: figures.append(figure))
    report.draw_trials(tmp_path, study.params, trials)
    found = {}
    for axes in figures[0].axes:
        others, best = ([float(x) for x in line.get_xdata()] for line in axes.lines
                        if line.get_marker() in "o*")
        found[axes.get_title(loc="left")] = axes.get_xlabel(), others, best
    assert found == expected


# Results

def test_the_results_table_by_hand(study, tables, suites):
    text = results_table(study.params, tables)
    (table,) = markdown_tables(text + "\n")
    assert len(table) == 2 + len(study.params.models)
    line = dict(zip(table[0], table[2 + study.params.models.index("alp")], strict=True))
    rows = suites["alp"]
    per_seed = rows.clean.groupby(rows.seed).mean()
    assert line["method"] == "ALP" and line["clean"] == f"{100 * per_seed.mean():.1f}"
    assert line["PGD-2000"] == f"{100 * rows['pgd_2000_last'].mean():.1f}"
    assert line["AutoAttack (20; 1 seed)"] == f"{100 * rows['autoattack_worst'].mean():.1f}"
    assert line["robust (10; 1 seed)"] == f"{100 * rows.robust.mean():.1f}"
    robust = tables["accuracy"].query("model == 'alp' and outcome == 'robust'").iloc[0]
    interval = f"{100 * robust.low:.1f}–{100 * robust.high:.1f}"
    assert line["robust, 95 % interval"] == interval
    assert line["robust, over seeds"] == "–"        # of one seed


def test_heads_count_images_and_seeds_where_an_attack_saw_not_all(study, tables):
    heads = sample_heads(study.params, tables["accuracy"])
    assert list(heads) == list(shown_outcomes(study.params)) and list(heads)[-1] == "robust"
    assert (heads["autoattack_worst"], heads["robust"]) == (
        "AutoAttack (20; 1 seed)", "robust (10; 1 seed)")
    assert heads["clean"] == "clean" and heads["white-box"] == "white-box union"


def test_each_training_seed_stands_by_itself_with_the_epoch_of_its_checkpoint(study, tables):
    """The log has the best network in the second of three epochs."""
    suite, params = read_rows(study.data / "rows" / "tla" / "suite.csv.gz"), study.params
    means = suite.groupby("seed")[["clean", "pgd-restarts_last"]].mean()
    line = next(each for each in seed_facts(params, tables) if each["model"] == "tla")
    assert line["epochs"] == "2, 2, 2, 2, 2" and set(tables["epochs"].epochs) == {3}
    assert line["clean"] == ", ".join(percent(means.clean[seed]) for seed in params.seeds)
    attacked = means["pgd-restarts_last"]
    assert line["attacked"] == ", ".join(percent(attacked[seed]) for seed in params.seeds)
    assert f"| TLA | {line['epochs']} | {line['clean']} |" in page(params, tables)


def test_every_line_of_a_table_has_as_many_cells_as_its_head(study, tables):
    found = markdown_tables(page(study.params, tables))
    assert len(found) >= 13
    for table in found:
        assert {len(line) for line in table} == {len(table[0])}, table[0]


def test_the_tables_of_l2_and_l0_by_hand(study, tables):
    """Every radius, the mean over all and the median change of a model; and of a pair."""
    params = study.params
    found = [table for table in markdown_tables(page(params, flag(tables)))
             if table[0][-1] == "median change"]
    rows = read_rows(study.data / "rows" / "alp" / "norms.csv.gz")
    for table, norm, radii in zip(found, ("l2", "l0"), ([0.2, 0.4, 0.6, 0.8, 1.0], [1, 2, 3]),
                                  strict=True):
        assert len(table) == 2 + len(params.models) and len(table[0]) == len(radii) + 3
        names = [*(at_radius(norm, radius) for radius in radii), f"{norm}_mean_worst"]
        expected = [f"{100 * rows[name].mean():.1f}" for name in names]     # each seed has its own
        line = table[2 + params.models.index("alp")]
        assert line[:-1] == ["ALP", *expected]
    line = tables["differences"].query(
        "model == 'tla' and baseline == 'at' and outcome == 'l0_mean_worst'").iloc[0]
    (pairs,) = [table for table in markdown_tables(page(params, flag(tables)))
                if table[0][1:4:2] == ["L2", "L0"]]
    (said,) = [cells[3] for cells in pairs if cells[0] == "TLA − AT"]
    assert said == f"{100 * line.difference:+.1f} [{100 * line.low:+.1f}, {100 * line.high:+.1f}]"


def test_the_report_names_the_pools_of_highest_and_lowest_accuracy(study, tables):
    accuracy = tables["accuracy"].copy()
    for model, share in (("tla-b30", 0.91), ("tla", 0.5), ("tla-b1", 0.09), ("at", 0.95)):
        line = (accuracy.model == model) & (accuracy.outcome == "white-box")
        accuracy.loc[line, "accuracy"] = share
    text = " ".join(page(study.params, tables | {"accuracy": accuracy}).split())
    said = "under the white-box union is at a pool of 30 (91.0 %), the lowest at 1 (9.0 %)"
    assert f"highest accuracy {said}" in text


def test_the_report_says_which_detector_only_works_against_the_unaware(study, tables):
    """Of each score and eps, by whom: here one of AT's does, and every other against neither."""
    aware = tables["aware"].copy()
    decided = aware.task == "misclassified"
    aware["above_chance"] = aware.above_chance.astype(object)
    aware.loc[decided, "above_chance"] = False
    one = decided & (aware.model == "at") & (aware.score == "mixture") & (aware.eps_factor == 1.33)
    aware.loc[one & (aware.attacker == "unaware"), "above_chance"] = True
    text = " ".join(page(study.params, flag(tables) | {"aware": aware}).split())
    assert text.count("only against the one who does not know of it") == 1
    assert ("- Gaussian-mixture likelihood, 1.33 x training: against neither: UM, ALP, TLA; **only "
            "against the one who does not know of it**: AT." in text)
    aware.loc[one, "above_chance"] = True
    assert "against both attackers: AT;" in page(study.params, flag(tables) | {"aware": aware})


@pytest.mark.parametrize(("low", "high", "said"), [
    (0.01, 0.2, "more often than AT's, +10.0"), (-0.2, -0.01, "less often than AT's, +10.0"),
    (-0.1, 0.3, "as often, as far as the interval tells, as AT's, +10.0")])
def test_the_report_says_what_moved_queries_show_of_the_metric(low, high, said, study, tables):
    table = tables["differences"].copy()
    line = (table.model == "tla") & (table.baseline == "at") & (table.outcome == "mismatch_last")
    table.loc[line, ["difference", "low", "high"]] = 0.1, low, high
    assert line.sum() == 1
    text = " ".join(page(study.params, tables | {"differences": table}).split())
    assert f"keep neighbours of their own class {said}" in text


# The headline

def test_the_headline_by_hand(study, tables, suites, tmp_path):
    found, rows = headline_metrics(study.params, tables), suites
    detect = read_rows(study.data / "embedding" / "tla" / "detect.csv.gz")
    areas = []
    for _, part in detect[detect.eps_factor == 1.33].groupby("seed"):   # the smallest above 1
        areas.append(roc_auc_score(part.adv_pred != part.label, -part.adv_mixture))
    expected = {"mining_batch": 300, "tla_auc": np.mean(areas)}
    for model in ("at", "alp", "tla"):
        expected[f"{model}_clean_accuracy"] = rows[model].clean.mean()
        expected[f"{model}_robust_accuracy"] = rows[model].robust.mean()
    for model in ("at", "alp"):
        expected[f"tla_minus_{model}"] = (rows["tla"].robust - rows[model].robust).mean()
    assert len(found) == 10 and found == pytest.approx(expected, abs=5e-5)
    write_metrics(tmp_path / "headline.json", found)        # plain numbers


def test_an_undefined_area_is_left_out_of_the_headline(study, tables):
    auc = tables["auc"]
    is_it = (auc.model == "tla") & (auc.score == "mixture") & (auc.eps_factor == 1.33)
    empty = tables | {"auc": auc.assign(auc=auc.auc.mask(is_it))}
    missing = headline_metrics(study.params, tables).keys()
    missing -= headline_metrics(study.params, empty).keys()
    assert missing == {"tla_auc"}


# Tables of the whole study

def test_signs_of_masking_are_of_all_seeds_but_transfer_and_of_the_longest_run(
        study, tables, suites):
    transfer = read_rows(study.data / "rows" / "transfer.csv.gz")
    for line in tables["masking"].to_dict("records"):
        rows = suites[line["model"]]
        second = rows[rows.seed == study.params.seeds[1]].set_index("idx")
        gaps = {"square": rows["pgd_2000_worst"] - rows["square_worst"],
                "cw": rows["pgd_2000_worst"] - rows["cw_worst"],
                "restarts": rows["pgd_2000_worst"] - rows["pgd-restarts_worst"],
                "autoattack": rows["white-box"] - rows["autoattack_worst"]}
        right = transfer[f"pred_{line['model']}"] == transfer.label
        gaps["transfer"] = second["pgd_2000_worst"] - right.groupby(transfer.idx).all().astype(int)
        for sign, gap in gaps.items():
            assert line[sign] == pytest.approx(gap.mean(), abs=5e-5), sign
            assert line[f"flag_{sign}"] == (gap.mean() > 0.05 + 1e-9), sign


def test_label_leaking_is_at_the_shares_of_eps_of_the_parameters(study, tables):
    expected = [share * study.params.attack.eps for share in study.params.textbook.leaking_factors]
    for _, lines in tables["label-leaking"].groupby(["model", "part"]):
        assert lines.eps.tolist() == pytest.approx(expected, abs=5e-5)


# Verdicts are taken from unrounded numbers

CLOSE = 1e-5        # rounds to zero at four places, and in the printed points


def with_close_calls(differences):
    """`differences`, where TLA is ahead of AT by a hair, and behind ALP by one, surely."""
    def made(*arguments):
        table = differences(*arguments)
        for baseline, low, high, p in (("at", CLOSE, 0.02, 1.5e-9), ("alp", -0.02, -CLOSE, 0.02)):
            line = ((table.model == "tla") & (table.baseline == baseline)
                    & (table.outcome == "robust"))
            assert line.sum() == 1
            table.loc[line, ["difference", "low", "high", "p"]] = (low + high) / 2, low, high, p
        return table
    return made


@pytest.fixture
def close_calls(study, monkeypatch, tmp_path):
    """Tables that `compare` writes where two intervals end next to zero, in the current folder."""
    (tmp_path / "data").symlink_to(study.folder / "data")
    shutil.copytree(study.folder / "reports", tmp_path / "reports")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(compare.tables, "differences", with_close_calls(compare.tables.differences))
    for others in ("beyond_tables", "embedding_tables"):        # they were made already
        monkeypatch.setattr(compare, others, lambda *_: {})
    compare.main([str(study.folder / "params.yaml")])
    tables = Path("reports", "digits", "tables")
    for made in (study.folder / tables).iterdir():
        if not (tables / made.name).exists():
            shutil.copy(made, tables)
    seal(tables)
    return read_tables(study.params)


def test_a_bound_that_rounds_to_zero_is_on_its_side_of_zero_in_report_and_ledger(
        study, close_calls):
    text = page(study.params, flag(close_calls))
    found = {line[0]: line[3::3] for table in markdown_tables(text) for line in table
             if line[0].startswith("TLA − A") and line[1].startswith("robust")}
    assert found == {"TLA − AT": ["[+0.0, +2.0]", "yes, higher"],
                     "TLA − ALP": ["[-2.0, -0.0]", "yes, lower"]}

    claims = []
    for baseline in ("at", "alp"):
        claims.append(Claim(id=baseline, data="mnist", says="ahead", kind="accuracy", model="tla",
                            baseline=baseline, published=1.0, source="poster", primary="robust",
                            secondary=[]))
    path = Path("reports", "digits", "tables", "differences.csv")
    pd.read_csv(path).assign(seeds=2).to_csv(path, index=False)     # one seed settles nothing
    seal(path.parent)
    summary = Summary(config="experiments/summary/params.yaml", level=0.05, looks={},
                      studies={"mnist": ["digits"]}, beside=[], claims=claims)
    table = ledger(summary, {"digits": study.params})
    assert table.verdict.tolist() == ["confirmed", "contradicted"]
    assert table.p_holm.tolist() == pytest.approx([3e-9, 0.02])


@pytest.mark.parametrize(("low", "high", "expected"), [
    (CLOSE, 1.0, "yes, higher"), (-1.0, -CLOSE, "yes, lower"), (-CLOSE, CLOSE, "no"),
    (0.0, 1.0, "no"), (-1.0, 0.0, "no")])
def test_a_difference_is_resolved_where_its_interval_excludes_zero(low, high, expected):
    assert resolved({"low": low, "high": high}) == expected


def test_what_is_resolved_among_trained_models_leaves_the_undefended_one_out():
    lines = []
    for model, baseline, low, high in (("at", "um", 0.1, 0.9), ("tla", "at", -0.01, 0.03),
                                       ("alp", "at", 0.01, 0.02), ("kurakin", "um", 0.1, 0.3)):
        lines.append({"model": model, "baseline": baseline, "low": low, "high": high,
                      "outcome": "robust", "seeds": 3})
    found = of_trained([*lines, lines[1] | {"outcome": "clean", "high": 0.9, "seeds": 5}], "robust")
    assert [line["model"] for line in found["yes"]] == ["alp"]
    assert [line["model"] for line in found["no"]] == ["tla"]
    assert found["half_width"] == pytest.approx(2.0)        # points
    assert found["seeds"] == 3


def test_what_is_missing_is_said_and_not_printed_as_a_number():
    assert spread({"std": np.nan}) == "–" and spread({"std": 0.0144}) == "± 1.4"
    assert area({"auc": np.nan}) == "undefined" and area({"auc": 0.5}) == "0.500"


def test_classes_of_figures_are_those_of_the_maps_and_of_the_neighbours():
    maps = {"UM": pd.DataFrame({"x": [99.0], "label": [3]}), "AT": pd.DataFrame({"label": [2]})}
    captions = {"AT": pd.DataFrame({"label": [1], "clean_1": [1], "adv_1": [2]})}
    assert report.classes_in(maps, captions) == 4
    captions["TLA"] = pd.DataFrame({"label": [1], "clean_1": [1], "adv_1": [7]})
    assert report.classes_in(maps, captions) == 8
