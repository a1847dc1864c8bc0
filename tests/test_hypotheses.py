"""The file of claims: whole, with the published numbers, one comparison counted once."""

from pathlib import Path

import pandas as pd
import pytest
import yaml

from tla.measure.norms import at_radius, over_radii
from tla.outcomes import Outcome
from tla.params import read_yaml
from tla.report.hypotheses import comparison, load_summary
from tla.train.methods import load_study

ROOT = Path(__file__).parents[1]
SUMMARY = ROOT / "experiments" / "summary" / "params.yaml"
STUDIES = [load_study(path) for path in ROOT.glob("experiments/*-*/params.yaml")]

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
        attack = ATTACKS[each.primary.split("_")[0].split("-")[0]]
        figure = "pool sweep" if each.model.startswith("tla-b") else "bars"
    ahead, behind = (published_value(DATA[each.data], name, attack, figure)
                     for name in (each.model, each.baseline))
    blur = 0.07 if each.source == "poster" else 0.006
    assert ahead - behind == pytest.approx(each.published, abs=blur)


def test_claims_are_those_of_the_paper():
    ids = {each.id[:3] for each in load_summary(SUMMARY).claims}
    assert ids == {f"C{k:02d}" for k in range(1, 27)}


def keys_of(params):
    """Claims of a study's data by what they compare there."""
    found = {}
    for each in load_summary(SUMMARY).claims:
        if each.data == params.data.source:
            found.setdefault(comparison(each, params), []).append(each)
    return found


@pytest.mark.parametrize("params", STUDIES, ids=lambda params: params.dataset)
def test_every_comparison_of_several_claims_says_so(params):
    """C13 is C09a where the pool is 500."""
    shared = {tuple(each.id for each in claims): [each.same_as for each in claims]
              for claims in keys_of(params).values() if len(claims) > 1}
    said = {"mnist": {("C02", "C22a"): [None, "C02"], ("C16b", "C22c"): [None, "C16b"]},
            "cifar10": {("C04", "C22b"): [None, "C04"], ("C17a", "C22d"): [None, "C17a"],
                        ("C09a", "C13"): [None, "C09a"]}}
    assert shared == said.get(params.data.source, {})


@pytest.mark.parametrize("params", STUDIES, ids=lambda params: params.dataset)
def test_every_study_of_a_claims_data_is_to_measure_its_primary_reading(params):
    factors = [f"{factor:g}" for factor in params.detect.eps_factors]
    attacks, elsewhere = params.evaluate.attacks, ("clean", "knn", "l2", "l0")
    for (_, _, primary, _), (each, *_) in keys_of(params).items():
        if each.kind == "auc":
            assert primary.split(" x ")[1] in factors, each.id
        elif (outcome := Outcome.parse(primary)).attack not in elsewhere:
            attack = attacks[outcome.attack]
            assert outcome.budget is None or int(outcome.budget) in attack.steps, each.id


@pytest.mark.parametrize(("study", "data"),
                         [("mnist-small", "mnist"), ("cifar10-small", "cifar10")])
def test_what_is_planned_makes_a_study_that_reads_every_claim_of_its_data(study, data, tmp_path):
    """With planned.yaml no claim needs a reason for not being measured."""
    folder, path = ROOT / "experiments" / study, tmp_path / "params.yaml"
    whole = read_yaml(folder / "params.yaml") | read_yaml(folder / "planned.yaml")
    path.write_text(yaml.safe_dump(whole))
    params = load_study(path)
    compared = {name for pair in keys_of(params) for name in pair[:2]}
    assert compared <= {*params.models, "chance"}
    if data == "mnist":
        assert params.variants.scale and params.variants.gain


def test_unseen_norms_are_read_over_all_radii_first_and_then_at_each_of_every_study():
    """The paper's radii are unknown: no study has one that the ledger leaves out."""
    claims = {each.id: [each.primary, *each.secondary] for each in load_summary(SUMMARY).claims}
    for path in [ROOT / "params.yaml", *ROOT.glob("experiments/*-*/params.yaml")]:
        norms = load_study(path).norms
        for norm, radii, said in (("l2", norms.l2_radii, claims["C23a"]),
                                  ("l0", norms.l0_radii, claims["C23b"])):
            assert said[0] == over_radii(norm)
            assert {at_radius(norm, radius) for radius in radii} <= set(said), path
