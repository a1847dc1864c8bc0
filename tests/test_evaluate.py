"""The stage evaluate on a small study: which rows it writes, and that every attack follows eps."""

from math import inf

import pandas as pd
import pytest
from torch import nn

import evaluate
from tla.files import read_metrics, read_rows
from tla.measure.masking import masking_columns
from tla.measure.stage import Job
from tla.measure.suite import transfer_columns
from tla.outcomes import outcome_columns
from tla.params import Attack
from tla.train.data import TEST, TRAIN


@pytest.fixture
def evaluated(study):
    """A stage whose model `at` was evaluated, and a reader of its rows."""
    stage = study.stage()
    evaluate.main(["params.yaml", "--model", "at"])
    return stage, lambda name: read_rows(stage.rows / "at" / f"{name}.csv.gz")


def test_the_rows_of_the_suite(evaluated):
    """One row per seed and test image in the order of the file; every attack on its images."""
    stage, read = evaluated
    rows, settings = read("suite"), stage.params.evaluate
    idx, label = [], []
    for seed in stage.params.seeds:
        split = stage.test(seed, None)
        idx += split.idx.tolist()
        label += split.y.tolist()
    assert rows.idx.tolist() == idx and rows.label.tolist() == label
    assert rows.seed.tolist() == [0] * 40 + [1] * 40
    for name in settings.attacks:
        seeds = settings.seeds.get(name, stage.params.seeds)
        for seed, part in rows.groupby("seed"):
            seen = set(stage.test(seed, settings.images.get(name)).idx.tolist())
            expected = seen if seed in seeds else set()
            for column in part.filter(regex=f"^{name}_"):
                owner = column.rsplit("_", 1)[0]
                if owner == name or owner.startswith(f"{name}_"):
                    assert set(part.idx[part[column].notna()]) == expected, column
    samples = [set(rows.idx[rows[f"{name}_pred"].notna()]) for name in ("autoattack", "square")]
    assert samples[0] < samples[1]


def test_the_outcomes_of_the_suite_by_loops_over_its_rows(evaluated):
    stage, read = evaluated
    rows, attacks = read("suite"), stage.params.evaluate.attacks
    assert outcome_columns(rows)[-2:] == ["white-box", "robust"]
    worst = [column for column in rows if column.endswith("_worst")]
    gradient = [column for column in worst
                if isinstance(attacks[column.split("_")[0]], Attack)]
    assert len(worst) == len(gradient) + 5 and len(gradient) == 1 + len(attacks) - 2
    for row in rows.to_dict("records"):
        assert row["clean"] == (row["clean_pred"] == row["label"])
        for outcome, columns in (("white-box", gradient), ("robust", worst)):
            values = [row["clean"], *(row[column] for column in columns)]
            if any(pd.isna(value) for value in values):
                assert pd.isna(row[outcome])
            else:
                assert row[outcome] == all(values)
    assert rows.robust.notna().sum() == 3 and rows["white-box"].notna().sum() == 40


def test_every_attack_that_is_shown_broke_or_spared_the_image_it_returned(evaluated):
    """Square and AutoAttack end where they succeed, so the class shown is that of their outcome."""
    _, read = evaluated
    rows = read("suite")
    for name in ("autoattack", "square"):
        seen = rows[rows[f"{name}_worst"].notna()]
        assert ((seen[f"{name}_pred"] == seen.label) == (seen[f"{name}_worst"] == 1)).all()
        assert (seen[f"{name}_worst"] <= seen.clean).all() and len(seen)


def test_complaints_are_the_same_for_a_seed_and_empty_where_autoattack_was_not_run(evaluated):
    _, read = evaluated
    rows = read("suite")
    names = ["complaint_random", "complaint_probabilities", "complaint_dynamic", "complaint_square"]
    assert list(rows.filter(regex="^complaint_")) == names
    for name in names:
        assert (rows[name].notna() == rows["autoattack_worst"].notna()).all()
        assert (rows.groupby("seed")[name].nunique() <= 1).all()


def test_the_metrics_are_means_over_the_rows(evaluated):
    stage, read = evaluated
    rows, metrics = read("suite"), read_metrics(stage.reports / "metrics" / "at.json")
    assert (metrics.pop("images"), metrics.pop("seeds")) == (80, 2)
    assert {"clean_accuracy", "robust_accuracy", "white-box_accuracy", "pgd_4_last_accuracy",
            "cw_last_accuracy", "autoattack_worst_accuracy", "square_worst_accuracy"} <= {*metrics}
    norms = {name: metrics.pop(name) for name in list(metrics) if name[:2] in ("l2", "l0")}
    assert metrics.pop("norms_images") == 12 and len(norms) == 6
    assert len(metrics) == 3 + len(stage.params.evaluate.attacks)
    for name, value in metrics.items():     # each seed has its own images here
        assert value == round(rows[name.removesuffix("_accuracy")].mean(), 4)


def test_the_rows_beside_the_suite(evaluated):
    """On the first seed textbook attacks and label leaking, on the second signs of masking."""
    stage, read = evaluated
    textbook, leaking, masking = read("textbook"), read("leaking"), read("masking")
    assert textbook.idx.tolist() == stage.test(0, 6).idx.tolist() and set(textbook.seed) == {0}
    assert {"smallest_linf", "smallest_l2", "chosen", "least_likely"} < set(textbook)

    assert list(leaking)[:6] == ["seed", "part", "idx", "label", "clean_pred", "fgsm_0.25_pred"]
    for name, part in (("train", TRAIN), ("test", TEST)):
        rows = leaking[leaking.part == name]
        assert rows.idx.tolist() == stage.sample(0, part, 10).idx.tolist()
        assert set(rows.seed) == {0}

    assert masking.idx.tolist() == stage.test(1, 6).idx.tolist() and set(masking.seed) == {1}
    found = masking.hop_skip_distance.notna()
    assert masking.idx[found].tolist() == stage.test(1, 3).idx.tolist()
    assert (masking.hop_skip_queries.notna() == found).all()


def test_the_rows_in_other_norms(evaluated):
    """A sample of every seed, the same for every attack."""
    stage, read = evaluated
    rows, idx = read("norms"), []
    for seed in stage.params.seeds:
        idx += stage.test(seed, 6).idx.tolist()
    assert rows.idx.tolist() == idx and rows.seed.tolist() == [0] * 6 + [1] * 6
    assert outcome_columns(rows) == [
        "l2-apgd_0.5_worst", "l2-apgd_1_worst", "l2-ddn_0.5_worst", "l2-ddn_1_worst",
        "l0-fmn_1_worst", "l0-fmn_4_worst", "l0-pointwise_1_worst", "l0-pointwise_4_worst",
        "l2_0.5_worst", "l2_1_worst", "l2_mean_worst", "l0_1_worst", "l0_4_worst",
        "l0_mean_worst"]
    assert not rows.isna().any(axis=None)
    for name in ("l2-apgd", "l2-ddn", "l0-fmn", "l0-pointwise"):
        fooled = rows[f"{name}_pred"] != rows.label
        assert ((rows[f"{name}_distance"] < inf) == fooled).all() and fooled.any()


# Every size follows eps.

ROUNDING = 3e-7     # of pixels in single precision

class Steps(nn.Module):
    """The network, and the largest distance from an image to any that it was asked about."""

    def __init__(self, network, x):
        super().__init__()
        self.network, self.x, self.farthest, self.nearest = network, x, 0.0, float("inf")

    def forward(self, x):
        if x.shape == self.x.shape:
            away = (x.detach() - self.x).abs().max().item()
            self.farthest = max(self.farthest, away)
            self.nearest = min(self.nearest, away if away else float("inf"))
        return self.network(x)


def gradient_jobs(make_params, eps):
    """The gradient attacks of a study at this eps: one step from the image, two where it must."""
    params = make_params({"attack.eps": eps})
    changes = {"attack.eps": eps}
    for name, attack in params.evaluate.attacks.items():
        if isinstance(attack, Attack):
            key = f"evaluate.attacks.{name}"
            changes[f"{key}.steps"] = [1, 2] if len(attack.steps) > 1 else [1]
            changes[f"{key}.random_start"], changes[f"{key}.restarts"] = False, 1
    params = make_params(changes)
    jobs = {}
    for job in evaluate.suite_jobs(params, params.seeds):
        if isinstance(job.settings.get("attack"), Attack) and job.seed == 0:
            jobs[job.settings["name"]] = job
    return jobs


@pytest.mark.parametrize("eps", [0.05, 0.1])
def test_the_step_of_every_gradient_attack_is_its_share_of_eps(eps, make_params, net, dataset):
    """Nearest to the image is where one step leads; the file shows where the last one did."""
    split = dataset.split(0, TEST)
    jobs = gradient_jobs(make_params, eps)
    assert len(jobs) >= 10
    for name, job in jobs.items():
        attack, watched = job.settings["attack"], Steps(net, split.x)
        found = job.function(watched, split, **job.settings)
        share = attack.rel_step_size
        assert watched.nearest == pytest.approx(min(share, 1) * eps, abs=ROUNDING), name
        last = min(attack.steps[-1] * share, 1) * eps
        assert found[f"{name}_linf"].max().item() == pytest.approx(last, abs=ROUNDING), name


def small_jobs(make_params, eps):
    """Everything that evaluate measures of a study at this eps, on the seeds that it has."""
    few = {"attack.eps": eps, "evaluate.attacks.square.queries": 150, "textbook.steps": 3,
           "textbook.rel_step_size": 0.1, "textbook.halvings": 2, "textbook.l2_steps": 3}
    params = make_params(few)
    jobs = {job.name: job for job in evaluate.suite_jobs(params, params.seeds)}
    return jobs | {job.name: job for job in evaluate.other_jobs(params, 10)}


@pytest.mark.parametrize("eps", [0.05, 0.1])
def test_the_largest_change_of_square_and_autoattack_is_eps(eps, make_params, net, dataset):
    split, jobs = dataset.split(0, TEST), small_jobs(make_params, eps)
    for name in ("square", "autoattack"):
        job = jobs[f"suite-{name}"]
        found = job.function(net, split.take(slice(0, 12)), **job.settings)
        assert found[f"{name}_linf"].max().item() == pytest.approx(eps, abs=ROUNDING)


@pytest.mark.parametrize("eps", [0.05, 0.1])
def test_textbook_attacks_and_label_leaking_step_by_eps(eps, make_params, net, dataset):
    split, jobs = dataset.split(0, TEST), small_jobs(make_params, eps)
    found = jobs["textbook"].function(net, split, **jobs["textbook"].settings)
    for name, reach in (("domain", 0.3), ("chosen_one_step", 1), ("chosen_iterative", 0.3),
                        ("least_likely_one_step", 1), ("least_likely_iterative", 0.3)):
        assert found[f"{name}_linf"].max().item() == pytest.approx(reach * eps, abs=ROUNDING), name

    watched, job = Steps(net, split.x), jobs["leaking-test"]
    leaking = job.function(watched, split, **job.settings)
    assert {"fgsm_0.25_pred", "fgsm_0.5_pred", "fgsm_1_pred", "fgsm_2_pred"} < set(leaking)
    assert watched.nearest == pytest.approx(0.25 * eps, abs=ROUNDING)
    assert watched.farthest == pytest.approx(2 * eps, abs=ROUNDING)


@pytest.mark.parametrize("eps", [0.05, 0.1])
def test_masking_looks_at_shares_of_eps_and_steps_by_them(eps, make_params, net, dataset):
    params, split = make_params({"attack.eps": eps, "masking.steps": 1}), dataset.split(0, TEST)
    watched = Steps(net, split.x)
    found = masking_columns(watched, split, params.masking, eps=eps, batch=64)
    sizes = [f"eps_{factor * eps:g}" for factor in (0.25, 0.5, 1.0, 1.5, 2.0, 4.0)]
    assert list(found) == [*sizes, "eps_1", "zero_gradient"]
    assert watched.nearest == pytest.approx(0.1 * 0.25 * eps, abs=ROUNDING)
    assert watched.farthest == pytest.approx(0.1 * 1.0, abs=ROUNDING)


@pytest.mark.parametrize("eps", [0.05, 0.1])
def test_transferred_images_step_by_a_share_of_eps(eps, net, dataset, plain_attack):
    split = dataset.split(0, TEST)
    for steps, reach in ((1, 0.1), (3, 0.3), (20, 1.0)):
        attack = plain_attack(steps=[steps], rel_step_size=0.1)
        found = transfer_columns(net, split, attack, [], eps=eps, batch=64, seed=0)
        assert found["linf"].max().item() == pytest.approx(reach * eps, abs=ROUNDING)


def test_jobs_see_the_seeds_and_images_of_the_parameters(make_params):
    params = make_params({"evaluate.images": {"cw": 5}, "evaluate.seeds": {"cw": [1, 3]}})
    jobs = evaluate.suite_jobs(params, params.seeds)
    assert all(isinstance(job, Job) and job.part == TEST for job in jobs)
    assert [(job.seed, job.images) for job in jobs if job.name == "suite-cw"] == [(1, 5), (3, 5)]
    for name in ("clean", "suite-pgd", "suite-autoattack"):
        seen = [(job.seed, job.images) for job in jobs if job.name == name]
        assert seen == [(seed, None) for seed in params.seeds]
    assert len({(job.name, job.seed) for job in jobs}) == len(jobs)
