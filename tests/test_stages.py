"""What the stages about several models do with their networks and tables, without the pipeline around them."""

import copy
import re

import pandas as pd
import pytest
import torch
from conftest import PARAMS
from test_evaluation import Answers
from test_params import refusal

import blackbox
import classic
import diagnose
import evaluate
from tla.autoattack import autoattack_columns
from tla.blackbox import square
from tla.classic import smallest_l2, smallest_linf
from tla.core.attacks import cross_entropy, pgd_linf
from tla.core.chance import stream
from tla.evaluation import attack_columns, clean_columns
from tla.files import read_metrics, write_rows
from tla.names import model_label
from tla.params import UserError, model_names
from tla.signs import SIGNS
from tla.study import Study
from tla.text import read_tables, report_text

ROOT, CPU = PARAMS.parent, torch.device("cpu")


@pytest.fixture(scope="module")
def net(networks):
    """The trained perceptron in single precision."""
    return copy.deepcopy(networks["mlp"]).float()


@pytest.fixture
def study(dataset, monkeypatch, write_params, tmp_path):
    """Makes a Study, 40 test images a seed; networks by (model, seed) stand where their weights would be."""
    def make(networks, changes=None):
        for module in ("tla.study", "tla.core.runtime"):
            monkeypatch.setattr(f"{module}.setup", lambda: CPU)
            monkeypatch.setattr(f"{module}.Dataset", lambda *_: dataset)
            monkeypatch.setattr(f"{module}.load_model", lambda path, *_: networks[path.parent.name, int(path.stem[5:])])
        monkeypatch.chdir(tmp_path)
        made = Study("", [str(write_params(changes or {}))])
        made.models = list(dict.fromkeys(name for name, _ in networks))
        return made
    return make


# Textbook attacks

def test_each_textbook_attack_is_aimed_at_its_own_class(study, net):
    made = study({("at", 0): net}, {"classic.steps": 6, "classic.halvings": 4, "classic.l2_steps": 20})
    found, test, eps = classic.outcomes(made, "at", 0), made.test(0, None), made.params.attack.eps
    chosen, last = (test.y + 1) % 10, net(test.x)[0].argmin(1)
    assert 9 in test.y and found["idx"].equal(test.idx) and found["label"].equal(test.y)
    assert found["chosen"].equal(chosen) and found["least_likely"].equal(last)
    for name, labels, step_size, steps in (
            ("domain", test.y, 0.015, 6), ("chosen_one_step", chosen, -eps, 1), ("chosen_iterative", chosen, -0.015, 6),
            ("least_likely_one_step", last, -eps, 1), ("least_likely_iterative", last, -0.015, 6)):
        x_adv = pgd_linf(lambda x: net(x)[0], test.x, labels, eps=1, step_size=step_size, steps=steps,
                         loss=cross_entropy, start=test.x)      # a ball of 1 is no ball
        assert found[f"{name}_pred"].equal(net(x_adv)[0].argmax(1)), name
        torch.testing.assert_close(found[f"{name}_linf"], (x_adv - test.x).abs().flatten(1).amax(1))
    assert found["smallest_l2"].equal(smallest_l2(net, test.x, chosen, 20))
    assert found["smallest_linf"].equal(smallest_linf(
        lambda x: net(x)[0], test.x, chosen, steps=6, step_fraction=0.1, halvings=4,
        generator=stream(0, "queries", CPU)))


def test_the_line_of_the_textbook_attacks_by_hand():
    """The last image is misclassified without an attack: no attack succeeds on it, whatever class it is given."""
    inf = float("inf")
    rows = pd.DataFrame({
        "label": [1, 1, 1, 1, 1], "chosen": 2, "least_likely": 5, "clean_pred": [1, 1, 1, 1, 2],
        "domain_pred": [1, 0, 0, 0, 1], "domain_linf": [0.1, 0.2, 0.3, 0.4, 0.5],
        "chosen_one_step_pred": [2, 5, 5, 1, 2], "chosen_iterative_pred": [2, 2, 2, 5, 2],
        "least_likely_one_step_pred": [2, 2, 2, 1, 5], "least_likely_iterative_pred": [5, 5, 2, 2, 5],
        "smallest_linf": [0.1, 0.3, inf, inf, 0.2], "smallest_l2": [1.0, inf, inf, inf, 2.0]})
    assert classic.summary(rows).to_dict() == pytest.approx({
        "domain_accuracy": 2 / 5, "domain_linf": 0.3, "chosen_one_step_success": 1 / 4,
        "chosen_iterative_success": 3 / 4, "least_likely_one_step_success": 0, "least_likely_iterative_success": 1 / 2,
        "smallest_linf_median": 0.3, "smallest_linf_reached": 3 / 5, "smallest_l2_median": inf,
        "smallest_l2_reached": 2 / 5})


# Attacks without gradients

def test_images_are_made_on_the_first_seed_and_judged_by_every_model_on_the_second(study, net, monkeypatch):
    """Judges answer with the class after the network's, the next but one and so on."""
    made_images, check, models = [], blackbox.check, ("um", "at", "alp")
    monkeypatch.setattr(blackbox, "check", lambda *images: made_images.append(images) or check(*images))
    judges = {(name, 1): Answers(net, lambda z, k=k: z.roll(k, 1)) for k, name in enumerate(models, 1)}
    made = study({**judges, ("at", 0): net})
    found, test = blackbox.transferred(made, "at", [0, 1]), made.test(1, None)
    (x, x_adv, eps), = made_images
    assert x.equal(test.x) and eps == 0.15 and found["idx"].equal(test.idx) and found["label"].equal(test.y)
    for k, name in enumerate(models, 1):
        assert found[f"pred_{name}"].equal((net(x_adv)[0].argmax(1) + k) % 10)
    assert found["linf"].equal((x_adv - x).abs().flatten(1).amax(1)) and found["linf"].max() <= eps + 1e-6
    assert (found["pred_um"] == (test.y + 1) % 10).sum() < len(test.y) / 2


def test_hop_skip_jump_needs_nothing_for_a_wrong_image_and_fails_where_the_image_is_unbroken(study, net, monkeypatch):
    """The stand-in reverses the order of eleven images: the sixth stays as it is. Classes 3 and 5 are wrong."""
    monkeypatch.setattr(blackbox, "square", lambda network, test, **_: test.x)
    monkeypatch.setattr(blackbox, "hop_skip_jump", lambda network, few, *_: (few.x.flip(0), 7.0))
    swapped = Answers(net, lambda z: z[:, [0, 1, 2, 5, 4, 3, 6, 7, 8, 9]])
    made = study({("at", 1): swapped}, {"blackbox.hop_skip.images": 11})
    test, found = made.test(1, None), blackbox.queried(made, "at", 1)
    right, away = swapped(test.x)[0].argmax(1) == test.y, (test.x[:11].flip(0) - test.x[:11]).abs().flatten(1).amax(1)
    away[5] = torch.inf
    assert right[5] and not right[:11].all() and found["square_robust"].bool().equal(right)
    assert found["hop_skip_distance"][:11].equal(away * right[:11]) and found["hop_skip_distance"][11:].isnan().all()


def test_accuracies_without_gradients_by_hand():
    matrix = pd.DataFrame({"um": [0.1, 0.2, 0.3], "at": [0.8, 0.5, 0.7]}, index=["um", "at", "alp"])
    queries = pd.DataFrame({
        "model": ["at"] * 5 + ["um"], "square_robust": [1, 1, 1, 0, 0, 0], "hop_skip_queries": [9.0] * 5 + [1.0],
        "hop_skip_distance": [0.15, 0.2, float("inf"), None, None, 0.0]})
    assert blackbox.accuracies(queries, matrix, "at", 0.15) == pytest.approx({
        "at_transfer": 0.7, "at_grey_box": 0.5, "at_square": 3 / 5, "at_hop_skip": 2 / 3, "at_hop_skip_queries": 9})


# Signs of gradient masking

def evidence():
    """Tables about `at` on seed 1: every attack breaks the images 0 and 1 of twenty; other lines are of no concern."""
    idx, left = range(20), [0, 0] + [1] * 18
    attacks = dict.fromkeys(("pgd_2000_worst", "pgd_restarts_worst", "cw_worst"), left)
    white = pd.DataFrame({"seed": 1, "idx": idx, "label": 3, "clean_pred": 3, "pgd_20_worst": 1, **attacks})
    source = pd.DataFrame({"idx": idx, "label": 3, "pred_um": 0, "pred_at": [0, 0] + [3] * 18})
    robust = pd.DataFrame({"model": "at", "seed": 1, "idx": idx, "square_robust": left})
    beside = robust.assign(model="um", square_robust=0)
    return {"white": pd.concat([white, white.assign(seed=0, pgd_2000_worst=1)], ignore_index=True),
            "rows": pd.DataFrame({"idx": idx, "zero_gradient": 0.5, "eps_0.1": 0, "eps_0.2": 0, "eps_1": 0}),
            "transfer": pd.concat([source.assign(source=name) for name in ("um", "at")], ignore_index=True),
            "queries": pd.concat([robust, beside], ignore_index=True),
            "autoattack": pd.concat([robust, robust.assign(seed=0, square_robust=0), beside], ignore_index=True)}


def flags(study, found):
    """Signs that are flagged for `at`."""
    write_rows(study.rows / "at.csv.gz", found["white"])
    line = diagnose.line(study, "at", 1, found["rows"], found)
    return {name for name in SIGNS if line[f"flag_{name}"]}


# Which cells make the sign where they speak for it on some images: table, columns, value.
MADE_BY = {"rise": ("rows", ["eps_0.2"], 1), "unbounded": ("rows", ["eps_0.1", "eps_0.2", "eps_1"], 1),
           "transfer": ("transfer", ["pred_at"], 0), "square": ("queries", ["square_robust"], 0),
           "restarts": ("white", ["pgd_restarts_worst"], 0), "cw": ("white", ["cw_worst"], 0),
           "zero_gradient": ("rows", ["zero_gradient"], 1), "autoattack": ("autoattack", ["square_robust"], 0)}


@pytest.mark.parametrize(("images", "tolerance", "flagged"), [(1, 0.05, False), (2, 0.05, True), (2, 0.1, False)])
@pytest.mark.parametrize("sign", SIGNS)
def test_a_sign_is_flagged_where_it_exceeds_the_tolerance(sign, images, tolerance, flagged, study):
    found, (table, columns, value) = evidence(), MADE_BY[sign]
    found[table].loc[range(5, 5 + images), columns] = value
    assert flags(study({}, {"masking.tolerance": tolerance}), found) == ({sign} if flagged else set())


def test_a_rise_of_exactly_the_tolerance_is_not_flagged(study):
    assert 4 / 20 - 3 / 20 > 0.05      # in floating point
    found = evidence()
    found["rows"].loc[range(3), "eps_0.1"] = 1
    found["rows"].loc[range(4), "eps_0.2"] = 1
    assert flags(study({}, {"masking.tolerance": 0.05}), found) == set()


def test_transfer_counts_the_strongest_source_of_each_image_its_own_method_among_them(study):
    found = evidence()
    found["transfer"].loc[[5, 26], "pred_at"] = 0      # an image of um, another of at
    assert flags(study({}), found) == {"transfer"}


def test_a_sign_without_images_to_compare_is_flagged(study):
    found = evidence()
    found["transfer"].idx += 1000
    assert flags(study({}), found) == {"transfer"}


@pytest.mark.parametrize(("change", "flagged"), [
    (lambda z: z, set()), (lambda z: 1e4 * z, {"unbounded", "zero_gradient", "square", "cw"}),
    (lambda z: (100 * z).round(), {"unbounded", "zero_gradient", "square", "autoattack"})],
    ids=["plain", "saturated", "rounded"])
def test_a_masked_gradient_is_flagged_and_the_same_network_without_is_not(change, flagged, study, net):
    """Saturation hides from cross-entropy but not from C&W, which is in the union; rounding hides from both."""
    model = Answers(net, change)
    made = study({("at", 1): model}, {"evaluate.attacks.pgd.steps": [5, 40], "evaluate.attacks.cw.restarts": 1})
    split, eps, white = made.test(1, None), made.params.attack.eps, clean_columns(model, made.test(1, None), 64)
    for name in ("pgd", "pgd-restarts", "cw"):
        white |= attack_columns(model, split, name, made.params.evaluate.attacks[name], eps=eps, batch=64,
                                generator=stream(1, "evaluation", CPU))
    squared = model(square(model, split, eps=eps, queries=200, batch=64, seed=1))[0].argmax(1) == split.y
    tables = {"white": white, "rows": diagnose.measured(made, "at", 1, [eps / 2, eps, 1.0]),
              "transfer": {"idx": split.idx, "label": split.y, "pred_at": white["clean_pred"]},
              "queries": {"idx": split.idx, "square_robust": squared},
              "autoattack": autoattack_columns(model, split, eps=eps, batch=64, seed=1)}
    assert flags(made, {k: pd.DataFrame(v).assign(seed=1, model="at") for k, v in tables.items()}) == flagged


# Networks unfit to be attacked

@pytest.mark.parametrize(("change", "words"), [
    (lambda z: z.softmax(1), "probabilities"), (lambda z: z * float("nan"), "not finite"),
    (lambda z: z[:, :9], "shape"), (lambda z: z + torch.rand_like(z), "differently when asked again")])
def test_a_network_unfit_to_be_attacked_is_refused_by_its_file(change, words, study, net, monkeypatch):
    """By stages about several models where they load it, by evaluation before the first attack on any seed."""
    monkeypatch.setattr(evaluate, "map_parallel", lambda *_: pytest.fail("attacked"))
    made = study({("at", seed): net if seed < 4 else Answers(net, change) for seed in range(5)})
    assert made.network("at", 3) is net
    for load in (lambda: made.network("at", 4), lambda: evaluate.main([str(PARAMS), "--model", "at"])):
        with pytest.raises(UserError, match=f"^data/digits/models/at/seed-4.safetensors: the model .*{words}"):
            load()


# Marks in the report

def tables_with(text, label):
    """Positions of the tables of a page that have the label in a cell, alone or in a pair."""
    return [i for i, table in enumerate(re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE))
            if label in {part.strip() for cell in table.split("|") for part in cell.split(" − ")}]


def page(params, flagged):
    """REPORT.md of digits from its committed tables, with no model flagged but the one named."""
    folder, tables = ROOT / "reports" / "digits" / "metrics", read_tables(params, ROOT)
    masking = tables["masking"]
    masking[masking.filter(like="flag_").columns] = False
    masking.loc[masking.model == flagged, "flag_square"] = True
    metrics = {path.stem: read_metrics(path) for path in sorted(folder.glob("*.json"))}
    return report_text((ROOT / "stages" / "report.md").read_text(), params, tables, metrics)


def test_a_flagged_model_and_no_other_is_marked_in_every_table_of_the_report(params):
    plain, label = page(params, None), {name: model_label(name, params) for name in model_names(params)}
    for name in label:
        marked = page(params, name)
        for other in label.values():
            shown, unmarked = tables_with(plain, other), other != label[name]
            assert len(shown) >= 7, "the report has lost its tables"
            assert tables_with(marked, other) == (shown if unmarked else []), (name, other)
            assert tables_with(marked, f"{other} ⚑") == ([] if unmarked else shown), (name, other)


@pytest.mark.parametrize(("key", "seeds", "attacked"), [
    ("autoattack.seeds", [5, 7, 9], [5, 9]), ("autoattack.seeds", [5, 7, 9], [7, 8]), ("seeds:", [7], [7])], ids=str)
def test_one_seed_or_attacked_seeds_without_the_second_are_refused(key, seeds, attacked, write_params, make_params):
    assert key in refusal(write_params({"seeds": seeds, "autoattack.seeds": attacked}))
    assert make_params({"seeds": [5, 7, 9], "autoattack.seeds": [5, 7]}).autoattack.seeds == [5, 7]
