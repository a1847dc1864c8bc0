"""What the stages about several models do with their networks and tables, without the pipeline around them."""

import copy
import re
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import PARAMS
from test_evaluation import Answers
from test_params import refusal
from test_trust import Masked
from torch.nn import functional as F

import blackbox
import classic
import diagnose
import evaluate
from tla.autoattack import autoattack_columns
from tla.blackbox import square
from tla.classic import smallest_l2, smallest_linf
from tla.core.chance import stream
from tla.evaluation import attack_columns, clean_columns
from tla.files import read_metrics, write_rows
from tla.names import model_label
from tla.params import UserError, load_params, model_names
from tla.signs import SIGNS
from tla.study import Study
from tla.text import read_tables, report_text

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def net(networks):
    """The trained perceptron in single precision."""
    return copy.deepcopy(networks["mlp"]).float()


@pytest.fixture
def weights(dataset, monkeypatch, tmp_path):
    """Puts networks, by (model, seed), where the weights would be; no other network can be loaded."""
    def put(networks):
        for module in ("tla.study", "tla.core.runtime"):
            monkeypatch.setattr(f"{module}.setup", lambda: CPU)
            monkeypatch.setattr(f"{module}.Dataset", lambda *_: dataset)
            monkeypatch.setattr(f"{module}.load_model", lambda path, *_: networks[
                path.parent.name, int(path.stem.removeprefix("seed-"))])
        monkeypatch.chdir(tmp_path)
    return put


@pytest.fixture
def study(weights, write_params):
    """Makes the Study of some models: these networks on 40 test images a seed, under changed parameters."""
    def make(networks, changes=None):
        weights(networks)
        made = Study("", [str(write_params(changes or {}))])
        made.models = list(dict.fromkeys(name for name, _ in networks))
        return made
    return make


# Textbook attacks

def stepped(net, x, labels, size, steps, sign):
    for _ in range(steps):
        x = x.clone().requires_grad_()
        F.cross_entropy(net(x)[0], labels, reduction="sum").backward()
        x = (x + sign * size * x.grad.sign()).clamp(0, 1).detach()
    return x


def test_each_textbook_attack_is_aimed_at_its_own_class(study, net):
    made = study({("at", 0): net}, {"classic.steps": 6})
    found, test, eps = classic.outcomes(made, "at", 0), made.test(0, None), made.params.attack.eps
    chosen, last = (test.y + 1) % 10, net(test.x)[0].argmin(1)
    assert 9 in test.y and found["idx"].equal(test.idx) and found["label"].equal(test.y)
    assert found["chosen"].equal(chosen) and found["least_likely"].equal(last)
    for name, labels, size, steps, sign in (
            ("domain", test.y, 0.015, 6, 1), ("chosen_one_step", chosen, eps, 1, -1),
            ("chosen_iterative", chosen, 0.015, 6, -1), ("least_likely_one_step", last, eps, 1, -1),
            ("least_likely_iterative", last, 0.015, 6, -1)):
        x_adv = stepped(net, test.x, labels, size, steps, sign)
        assert found[f"{name}_pred"].equal(net(x_adv)[0].argmax(1)), name
        torch.testing.assert_close(found[f"{name}_linf"], (x_adv - test.x).abs().flatten(1).amax(1))


def test_the_smallest_changes_are_those_that_reach_the_chosen_class(study, net):
    made = study({("at", 0): net}, {"classic.images": 12, "classic.halvings": 4, "classic.l2_steps": 20})
    found, test = classic.outcomes(made, "at", 0), made.test(0, 12)

    def linf(targets):
        return smallest_linf(lambda x: net(x)[0], test.x, targets, steps=20, step_fraction=0.1, halvings=4,
                             generator=stream(0, "queries", CPU))

    assert found["smallest_linf"].equal(linf(found["chosen"])) and len(found["idx"]) == 12
    assert not found["smallest_linf"].equal(linf(found["least_likely"]))
    assert found["smallest_l2"].equal(smallest_l2(net, test.x, found["chosen"], 20))


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

class Judge(torch.nn.Module):
    """Puts every image into one class, and remembers the last images it was shown."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, x):
        self.shown = x
        return 5 * F.one_hot(torch.full((len(x),), self.answer), 10).float(), x.flatten(1)


def test_images_are_made_on_the_first_seed_and_judged_by_every_model_on_the_second(study, net):
    judges = {("um", 1): Judge(3), ("at", 1): Judge(5), ("alp", 1): Judge(8)}
    made = study({**judges, ("at", 0): net})
    found, test = blackbox.transferred(made, "at", [0, 1]), made.test(1, None)
    assert found["idx"].equal(test.idx) and found["label"].equal(test.y)
    for (name, _), judge in judges.items():
        assert (found[f"pred_{name}"] == judge.answer).all()
        change = (judge.shown - test.x).abs().flatten(1).amax(1)
        assert change.equal(found["linf"]) and change.max() <= 0.15 + 1e-6
        assert (net(judge.shown)[0].argmax(1) == test.y).sum() < (net(test.x)[0].argmax(1) == test.y).sum() - 10


def test_transferred_images_outside_the_ball_are_refused(study, net, monkeypatch):
    honest = blackbox.run_attack
    monkeypatch.setattr(blackbox, "run_attack", lambda *a, eps, **k: honest(*a, **k, eps=2 * eps))
    with pytest.raises(ValueError, match="more than eps"):
        blackbox.transferred(study({("at", 0): net, ("at", 1): net}), "at", [0, 1])


def test_a_decision_based_attack_needs_nothing_for_a_wrong_image_and_fails_with_an_unbroken_one(study, monkeypatch):
    monkeypatch.setattr(blackbox, "square", lambda network, test, **_: test.x)
    monkeypatch.setattr(blackbox, "hop_skip_jump", lambda network, few, *_: (few.x - 0.25 * few.x.sign(), 7.0))
    made = study({("at", 1): Judge(3)}, {"blackbox.hop_skip.images": 10})
    right = made.test(1, None).y == 3
    found = blackbox.queried(made, "at", 1)
    assert found["square_robust"].bool().equal(right) and right[:10].any() and not right[:10].all()
    assert found["hop_skip_distance"][:10].tolist() == [float("inf") if one else 0.0 for one in right[:10]]
    assert found["hop_skip_distance"][10:].isnan().all() and (found["hop_skip_queries"] == 7).all()


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
    assert line["model"] == "at"
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


def test_transfer_counts_the_strongest_source_of_each_image_its_own_method_among_them(study):
    found = evidence()
    for source, image in (("um", 5), ("at", 6)):
        found["transfer"].loc[(found["transfer"].source == source) & (found["transfer"].idx == image), "pred_at"] = 0
    assert flags(study({}), found) == {"transfer"}


def test_a_sign_without_images_to_compare_is_flagged(study):
    found = evidence()
    found["transfer"].idx += 1000
    assert flags(study({}), found) == {"transfer"}


def test_a_model_with_a_masked_gradient_is_flagged_and_the_same_model_without_is_not(study, net):
    flagged = {}
    for name, model in (("plain", net), ("masked", Masked(net))):
        made = study({("at", 1): model}, {"evaluate.attacks.pgd.steps": [5, 40]})
        split, suite, eps = made.test(1, None), made.params.evaluate.attacks, made.params.attack.eps
        white = clean_columns(model, split, 64)
        for attack in ("pgd", "pgd-restarts", "cw"):
            white |= attack_columns(model, split, attack, suite[attack], eps=eps, batch=64,
                                    generator=stream(1, "evaluation", CPU))
        auto = autoattack_columns(model, split, eps=eps, batch=64, seed=1)
        squared = model(square(model, split, eps=eps, queries=200, batch=64, seed=1))[0].argmax(1) == split.y
        tables = {"white": white | {"seed": 1}, "rows": diagnose.measured(made, "at", 1, [eps / 2, eps, 1.0]),
                  "transfer": {"idx": split.idx, "label": split.y, "pred_at": white["clean_pred"]},
                  "queries": {"idx": split.idx, "square_robust": squared, "model": "at"},
                  "autoattack": auto | {"seed": 1, "model": "at"}}
        flagged[name] = flags(made, {key: pd.DataFrame(columns) for key, columns in tables.items()})
    assert flagged["plain"] == set()
    print(flagged)
    assert {"unbounded", "zero_gradient", "square", "cw", "autoattack"} <= flagged["masked"]


# Networks unfit to be attacked

unfit = pytest.mark.parametrize(("change", "words"), [
    (lambda z: z.softmax(1), "probabilities"), (lambda z: z * float("nan"), "not finite"),
    (lambda z: z[:, :9], "shape"), (lambda z: z + torch.rand_like(z), "differently when asked again")])


@unfit
def test_a_study_refuses_a_network_unfit_to_be_attacked_by_its_file(change, words, study, net):
    made = study({("at", 0): net, ("at", 1): Answers(net, change)})
    assert made.network("at", 0) is net
    with pytest.raises(UserError, match=f"^{re.escape(str(made.path('at', 1)))}: the model .*{words}"):
        made.network("at", 1)


@unfit
def test_evaluation_refuses_such_a_network_of_any_seed_before_the_first_attack(
        change, words, weights, write_params, net, monkeypatch):
    monkeypatch.setattr(evaluate, "map_parallel", lambda *_: pytest.fail("attacked"))
    weights({("at", seed): net if seed < 4 else Answers(net, change) for seed in range(5)})
    with pytest.raises(UserError, match=f"^data/digits/models/at/seed-4.safetensors: the model .*{words}"):
        evaluate.main([str(write_params({})), "--model", "at"])


# Marks in the report

def tables_with(text, label):
    """Positions of the tables of a page that have the label in a cell, alone or in a pair."""
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    return [i for i, table in enumerate(tables)
            if label in {part.strip() for cell in table.split("|") for part in cell.split(" − ")}]


@pytest.fixture(scope="module")
def report(params):
    """REPORT.md of digits from its committed tables, with no model flagged but the one named."""
    folder, template = ROOT / "reports" / "digits" / "metrics", (ROOT / "stages" / "report.md").read_text()
    metrics = {path.stem: read_metrics(path) for path in sorted(folder.glob("*.json"))}

    def text(flagged=None):
        tables = read_tables(params, ROOT)
        marks = tables["masking"].filter(like="flag_").columns
        tables["masking"][marks] = False
        tables["masking"].loc[tables["masking"].model == flagged, "flag_square"] = True
        return report_text(template, params, tables, metrics)
    return text


@pytest.mark.parametrize("name", model_names(load_params(PARAMS)))
def test_a_flagged_model_is_marked_in_every_table_of_the_report(name, report, params):
    label, plain, marked = model_label(name, params), report(), report(name)
    assert tables_with(marked, f"{label} ⚑") == tables_with(plain, label) and len(tables_with(plain, label)) >= 7
    assert tables_with(marked, label) == [] and "⚑" not in "".join(re.findall(r"^\|.*", plain, re.MULTILINE))
    others = {model_label(other, params) for other in model_names(params)} - {label}
    assert not any(tables_with(marked, f"{other} ⚑") for other in others)


# Seeds

@pytest.mark.parametrize(("seeds", "attacked"), [([0, 1, 2], [0]), ([0, 1, 2], [0, 2]), ([0, 1, 2], [1, 3]), ([5, 7], [5])])
def test_seeds_of_autoattack_that_lack_the_second_or_hold_another_are_refused(seeds, attacked, write_params):
    assert "autoattack.seeds" in refusal(write_params({"seeds": seeds, "autoattack.seeds": attacked}))


def test_the_second_seed_alone_or_among_others_will_do_for_autoattack(make_params):
    for attacked in ([7], [5, 7], [5, 7, 9]):
        assert make_params({"seeds": [5, 7, 9], "autoattack.seeds": attacked}).autoattack.seeds == attacked


def test_a_single_seed_is_refused(write_params):
    assert "seeds:" in refusal(write_params({"seeds": [1], "autoattack.seeds": [1]}))
