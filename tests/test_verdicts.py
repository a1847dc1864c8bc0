"""The box at the head of a report, whatever the verdicts are."""

import dataclasses
import shutil

import pandas as pd
import pytest
from conftest import PARAMS
from test_claims import AUC, COLUMNS, claim
from test_gain import TRAINED, reading, table_of
from test_scale import TRAINED as SCALED
from test_scale import table_of as scale_table_of
from test_scale import trends_of

from tla.report import verdicts
from tla.report.hypotheses import Summary
from tla.report.intact import seal
from tla.report.verdicts import topic_of, verdict_text

PGD = "pgd-restarts_last"
CLAIMS = (claim(primary="pgd-restarts_last", secondary=[]),)


def line(outcome, difference, p, baseline="at", model="tla", seeds=5):
    """A line of a table of differences whose interval is 1 point to either side."""
    return [model, baseline, outcome, difference, difference - 0.01, difference + 0.01, p, 0.004, 4,
            3, 1500, seeds]


@pytest.fixture
def study(params, tmp_path, monkeypatch):
    """Writes the tables of a study of digits and gives its box; `summary` are its claims."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "reports" / "digits" / "tables"
    folder.mkdir(parents=True)

    def box(lines, claims=CLAIMS, flags=(), whole=False, own=True, seen=1500,
            architecture="mlp", params=params):
        differences = pd.DataFrame(lines, columns=COLUMNS)
        masking = pd.DataFrame([{"model": name, "cw": 0.0} | {
            f"flag_{sign}": (name, sign) in flags for sign in verdicts.SIGNS}
            for name in ("um", "at", "alp", "tla")])
        accuracy = pd.DataFrame({"model": ["tla", "at"], "outcome": PGD, "accuracy": [0.75, 0.7],
                                 "images": seen})
        differences.to_csv(folder / "differences.csv", index=False)
        masking.to_csv(folder / "masking.csv", index=False)
        accuracy.to_csv(folder / "accuracy.csv", index=False)
        pd.DataFrame(columns=AUC).to_csv(folder / "auc-differences.csv", index=False)
        seal(folder)
        summary = Summary(config="experiments/summary/params.yaml", level=0.05, looks={},
                          studies={"mnist": ["digits"] if own else []}, beside=["digits"],
                          claims=list(claims))
        monkeypatch.setattr(verdicts, "load_summary", lambda path: summary)
        model = dataclasses.replace(params.model, architecture=architecture)
        text = verdict_text(dataclasses.replace(params, model=model), whole)
        assert all(each.startswith(">") for each in text.splitlines()), "the box falls apart"
        return " ".join(text.replace("\n>", "").split())
    return box


@pytest.mark.parametrize(("difference", "p", "seeds", "said"), [
    (0.02, 0.001, 5, "How sure:** confirmed; p = 0.001 after"),
    (0.02, 0.0001, 5, "How sure:** confirmed; p < 0.001 after"),
    (-0.02, 0.001, 5, "How sure:** contradicted; p = 0.001 after"),
    (0.005, 0.3, 5, "How sure:** not resolved; p = 0.3 after"),
    (0.02, 0.001, 1, "How sure:** not resolved; p = 0.001 after")])
def test_it_says_the_verdict_whatever_that_is(difference, p, seeds, said, study):
    text = study([line(PGD, difference, p, seeds=seeds)])
    assert said in text and "1,500 test images" in text
    assert f"{seeds} training seed{'s' if seeds > 1 else ''}, 95 %" in text
    assert ", network mlp " in text
    low, high = 100 * difference - 1, 100 * difference + 1
    assert f"{100 * difference:+.1f} [{low:+.1f}, {high:+.1f}] points** under PGD, restarts" in text
    outside = ", outside this interval" if difference < 0 else ""
    assert f"75.0 against 70.0 %. The paper says +1.0{outside}." in text
    wanting = ("To be told from none it had to exceed 1.0 points, after correction up to 1.1: "
               "the paper's own might not have been.")
    assert (wanting in text) == ("not resolved" in said)


@pytest.mark.parametrize(("difference", "p", "own", "answer"), [
    (0.02, 0.001, True, "TLA is ahead of AT"), (-0.02, 0.001, True, "TLA is behind AT"),
    (0.02, 0.4, True, "TLA and AT cannot be told apart"),
    (0.02, 0.001, False, "TLA is ahead of AT"),
    (-0.02, 0.4, False, "TLA and AT cannot be told apart")])
def test_it_first_answers_in_plain_words(difference, p, own, answer, study):
    text = study([line(PGD, difference, p)], own=own)
    assert text.startswith(f"> - **Accuracy under attack: {answer}, {100 * difference:+.1f} [")


def test_of_a_claim_without_a_number_it_says_nothing_that_the_paper_says(study):
    """Beside one that has a number: pandas makes an empty cell of its column NaN, alone None."""
    unread = claim(id="C98", primary="cw_last", secondary=[])
    for others in ([], [unread]):
        claims = [claim(published=None, primary=PGD, secondary=[]), *others]
        text = study([line(PGD, 0.02, 0.4), line("cw_last", 0.01, 0.5)], claims)
        assert "+2.0 [+1.0, +3.0] points" in text and "not resolved" in text
        assert "paper says" not in text and "the paper's own" not in text and "nan" not in text


@pytest.mark.parametrize(("seen", "said"), [
    (1500, ", 1,500 test images"), (10_000, ", 1,500 of 10,000 test images")])
def test_it_says_of_how_many_images_so_many_were_attacked(seen, said, study):
    assert said in study([line(PGD, 0.02, 0.001)], seen=seen).replace("comparisons, ", ", ")


@pytest.mark.parametrize(("architecture", "smaller"), [
    ("convnet", True), ("preact-resnet18", True), ("paper-convnet", False), ("wide-resnet", False)])
def test_it_says_of_a_network_that_is_not_the_papers_that_it_is_smaller(
        architecture, smaller, study):
    text = study([line(PGD, 0.02, 0.001)], architecture=architecture)
    assert (", smaller than the paper's." in text) == smaller


def test_p_is_corrected_for_the_comparisons_of_the_study(study):
    claims = [claim(primary=PGD, secondary=[]), claim(id="C98", secondary=[])]
    text = study([line(PGD, 0.02, 0.03), line("mim_last", 0.02, 0.04)], claims)
    assert "not resolved; p = 0.06 after correction for 2 comparisons" in text


def test_on_other_images_than_the_papers_it_decides_nothing(study):
    text = study([line(PGD, 0.02, 0.001)], own=False)
    assert "so this decides no claim; p = 0.001, not corrected" in text
    assert "The paper says" not in text and "confirmed" not in text


def test_autoattack_is_named_where_it_was_run(study):
    assert "AutoAttack" not in study([line(PGD, 0.02, 0.001)])
    text = study([line(PGD, 0.02, 0.001), line("autoattack_worst", -0.01, 0.2, seeds=2)])
    assert "Under AutoAttack -1.0 [-2.0, +0.0] (1,500 images, 2 seeds)." in text


def test_what_each_unequal_treatment_of_the_training_adds_is_said_once(
        study, make_params, tmp_path):
    """Lines of other attacks are no training; a treatment that changed no network is told apart."""
    assert "Trained unequally" not in study([line(PGD, 0.02, 0.001)])
    asked = {"equal": reading("equal"), "alone": [reading("mode", at="moved")],
             "together": [reading("all", "smoothed", "moved")]}
    unequal = make_params({"variants.attacks": {"pgd-restarts": 9}, "variants.trained": TRAINED,
                           "variants.gain": {"net": asked, "another": asked}})
    up = {"difference": 0.02, "added": 0.016, "added_low": 0.012, "added_high": 0.024}
    same = {"added_low": 0.0, "added_high": 0.0}
    tables = pd.concat([
        table_of(smoothing=up | {"added_holm": 0.04}, mode=same).assign(network="net"),
        table_of(smoothing=up | {"added_holm": 0.06}, mode=same).assign(network="another").replace(
            {"outcome": {PGD: "cw_last"}})])        # equal treatment is read by another attack
    tables.to_csv(tmp_path / "reports" / "digits" / "tables" / "gain.csv", index=False)
    held, lost = "smoothing (net)", "smoothing (another; none after correction)"
    said = f"5 seeds, TLA − AT changes by +1.6 [+1.2, +2.4], from +0.4: {held}"
    text = study([line(PGD, 0.02, 0.001)], params=unequal)
    assert f"{said}. - **Masking" in text
    text = study([line(PGD, 0.02, 0.001)], params=unequal, whole=True)
    assert (f"{said}; +1.6 [+1.2, +2.4], from +0.4: {lost}. Nothing came of: mode (net); "
            "mode (another). - **Masking") in text


def test_what_scale_does_to_the_lead_is_said_of_each_variant_once(study, make_params, tmp_path):
    """`study` is of two series; against ALP it is said in the whole box alone."""
    assert "With scale" not in study([line(PGD, 0.02, 0.001)])
    scaled = make_params({
        "variants.attacks": {"pgd-restarts": 9}, "variants.trained": SCALED,
        "variants.scale": {"outcome": PGD, "authors": None,
                           "series": {"width": ["half", "study"], "epochs": ["study", "long"]}}})
    tables = tmp_path / "reports" / "digits" / "tables"
    intervals = {("half", "at"): (0.03, 0.05), ("study", "at"): (-0.02, -0.01),
                 ("long", "alp"): (0.2, 0.4)}
    lines = scale_table_of(intervals)
    lines[lines.variant != "twice"].to_csv(tables / "scale.csv", index=False)
    trends_of([("epochs", "at")]).to_csv(tables / "scale-trend.csv", index=False)
    shutil.copy(PARAMS.parent / "reports" / "published.csv", tmp_path / "reports")
    text = study([line(PGD, 0.02, 0.001)], params=scaled)
    assert ("With scale** (3 variants of width and epochs, compute 1 to 1e+03 times, 3 seeds) "
            "TLA − AT is -1.5 to +4.0; tenfold compute adds +0.1 [-0.2, +0.4] (width), "
            "+0.4 [+0.1, +0.7] (epochs). - **Masking") in text
    text = study([line(PGD, 0.02, 0.001)], params=scaled, whole=True)
    against = "TLA − ALP is +2.0 to +30.0: intervals below zero in 0, above in 1. - **Masking"
    assert f"(epochs). {against}" in text


@pytest.mark.parametrize(("flags", "said"), [
    ([], "neither TLA nor AT shows a sign."),
    ([("tla", "rise")], "TLA shows a sign (accuracy rises with eps)."),
    ([("tla", "rise"), ("at", "rise")],
     "TLA and AT show a sign (accuracy rises with eps)."),
    ([("alp", "rise")],
     "neither TLA nor AT shows a sign. ALP shows one."),
    ([("alp", "cw"), ("um", "cw"), ("tla", "cw")],
     "TLA shows a sign (the C&W loss breaks more than one run of PGD). UM, ALP show one."),
    ([("tla", "rise"), ("at", "square"), ("at", "cw")],
     "TLA shows a sign (accuracy rises with eps), AT shows a sign (Square "
     "breaks more than one run of PGD; the C&W loss breaks more than one run of PGD).")])
def test_signs_of_masking_are_said_of_whom_they_are(flags, said, study):
    text = study([line(PGD, 0.02, 0.001)], flags=flags)
    square = "Square saw 1 of 5 training seeds."
    assert text.endswith(f"- **Masking:** {said} {square}")
    assert f"{said} {square} | comparison" in study([line(PGD, 0.02, 0.001)], flags=flags,
                                                    whole=True)


def test_of_square_nothing_is_said_where_it_saw_every_seed(study, params):
    every = dataclasses.replace(params.evaluate, seeds={})
    text = study([line(PGD, 0.02, 0.001)], params=dataclasses.replace(params, evaluate=every))
    assert text.endswith("- **Masking:** neither TLA nor AT shows a sign.")


def test_the_table_has_a_line_for_each_comparison_and_all_its_claims(study):
    claims = [claim(secondary=[]), claim(id="C98", primary=PGD, secondary=[]),
              claim(id="C97", primary="clean", secondary=[]),
              claim(id="C96", baseline="alp", primary=PGD, secondary=[])]
    text = study([line("mim_last", 0.005, 0.4), line(PGD, 0.02, 0.001), line("clean", -0.02, 0.001),
                  line(PGD, 0.02, 0.001, baseline="alp")], claims, whole=True)
    assert "| TLA − AT, accuracy under attack | confirmed | +2.0 | [+1.0, +3.0] | 0.004 | | " \
        "none | C98 confirmed; C99 not resolved |" in text
    assert "| TLA − AT, accuracy on clean images | contradicted | -2.0 |" in text
    assert "| TLA − ALP, accuracy under attack | confirmed |" in text
    assert text.count("| TLA − ") == 3


def test_the_table_says_which_of_two_models_shows_a_sign_of_masking(study):
    claims = [*CLAIMS, claim(id="C96", baseline="alp", primary=PGD, secondary=[])]
    lines = [line(PGD, 0.02, 0.001), line(PGD, 0.02, 0.001, baseline="alp")]
    text = study(lines, claims, flags=[("alp", "rise"), ("um", "cw")], whole=True)
    assert "| none | C99 |" in text and "| ALP | C96 |" in text


def test_a_study_that_no_claim_is_read_from_has_no_box(study):
    assert study([line(PGD, 0.02, 0.001, baseline="alp")]) == ""


@pytest.mark.parametrize(("changes", "topic"), [
    ({}, "attack"), ({"primary": "clean"}, "clean"), ({"primary": "l2_mean_worst"}, "l2"),
    ({"primary": "l0_mean_worst"}, "l0"), ({"primary": "l2-ddn_0.5_worst"}, "l2"),
    ({"primary": "knn"}, "knn"), ({"primary": "autoattack_worst"}, "attack"),
    ({"kind": "auc", "primary": "mixture, eps x 1.5", "secondary": []}, "auc")])
def test_claims_are_grouped_by_what_they_are_about(changes, topic):
    assert topic_of(claim(**changes)) == topic and topic in verdicts.TOPICS


def test_claims_about_other_data_are_no_part_of_the_papers_own(params, study):
    """The same reading of this study explores them; it would stand in the box twice."""
    claims = [claim(primary=PGD, secondary=[]),
              claim(id="C98", data="cifar10", primary=PGD, secondary=[])]
    assert "C98" not in study([line(PGD, 0.02, 0.001)], claims, whole=True)
    both = study([line(PGD, 0.02, 0.001)], claims, whole=True, own=False)
    assert "C98, C99" in both
