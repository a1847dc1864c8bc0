"""What a training image costs: passes counted while the real training code runs, and the ledger's
reading of them."""

import dataclasses

import pandas as pd
import pytest
import torch
from conftest import PARAMS
from small_study import SmallStudy
from torch.utils.flop_counter import FlopCounterMode

from claims import costs, markdown
from tla.measure.passes import cost_rows, counted, of_a_step
from tla.params import UserError, read_yaml
from tla.report import cost
from tla.report.cost import COUNTED, TIMED, cost_readings
from tla.report.hypotheses import Claim, Summary
from tla.report.intact import seal
from tla.report.ledger import ledger
from tla.report.tables import cost_table
from tla.train.methods import load_study
from tla.train.models import build
from tla.train.training import Trainer


def counts(params, model, dataset, pool=24):
    """Images forward and backward of a step of training from the start, on 16 images."""
    params = dataclasses.replace(
        params, train=dataclasses.replace(params.train, batch=16), models=[*params.models],
        mining=dataclasses.replace(params.mining, batch=pool))
    trainer = Trainer(params, model, 0, 0, dataset)
    with counted(trainer.network) as passes:
        trainer._step(torch.arange(16), 0)
    return passes.forward / 16, passes.backward / 16


def with_steps(params, steps):
    return dataclasses.replace(params, attack=dataclasses.replace(params.attack, steps=steps))


def test_the_undefended_model_costs_one_pass_each_way(params, dataset):
    assert counts(params, "um", dataset) == (1, 1)


@pytest.mark.parametrize("steps", [1, 3, 7])
def test_adversarial_training_costs_a_pass_a_step_and_one_more(steps, params, dataset):
    assert counts(with_steps(params, steps), "at", dataset) == (steps + 1, steps + 1)


@pytest.mark.parametrize(("model", "forward", "backward"), [
    ("kurakin", 2, 2),          # one step, and the mixed batch
    ("alp", 5, 5),              # three steps, adversarial and clean
    ("trades", 6, 5),           # and the clean logits that the attack moves away from
    ("tla-b1", 6, 6),           # three steps; anchor, positive and negative
    ("tla", 6 + 1.5, 6)])       # and the pool of 24, for 16 images
def test_other_methods_cost_what_they_do(model, forward, backward, params, dataset):
    assert counts(with_steps(params, 3), model, dataset) == (forward, backward)


def test_what_the_ledger_says_of_the_authors_longer_attack_is_counted(params, dataset):
    """One positive, 40 steps, and a pool as large as the batch: here both are 16 images."""
    assert params.methods["tla"].margin_class is None
    long = with_steps(params, 40)
    at, tla = sum(counts(long, "at", dataset)), sum(counts(long, "tla", dataset, pool=16))
    said = f"TLA adds {tla - at:.0f} passes to AT's {at:.0f}, {100 * (tla / at - 1):.0f} %."
    assert said in (PARAMS.parent / "stages" / "claims.md").read_text()


def test_gradients_to_logits_and_embeddings_are_one_pass(network, images):
    x = images[0][:5].requires_grad_()
    with counted(network) as passes:
        z, h = network(x)
        torch.autograd.grad(z.sum() + h.sum(), x)
        with torch.no_grad():
            network(x)
    network(x)
    assert (passes.forward, passes.backward) == (10, 5)


def test_rows_count_a_step_of_the_study(dataset, write_params, raw_params, network, monkeypatch,
                                        tmp_path):
    study = SmallStudy(dataset, write_params, raw_params, network, monkeypatch, tmp_path)
    stage = study.stage({"attack.steps": 2, "mining.batch": 32})
    before = stage.network("tla", 0).state_dict()
    found = cost_rows(stage, "tla")
    assert found.to_dict("records") == [
        {"seed": 0, "images": 64, "forward": 5 * 64 + 32, "backward": 5 * 64}]
    after = stage.network("tla", 0).state_dict()
    assert all(before[key].equal(after[key]) for key in before)
    assert cost_rows(stage, "tla").equals(found)


def test_the_authors_compute_is_counted_from_their_settings(dataset):
    """Passes of a step hang on batch norm and not on widths; a pass is one of their network."""
    folder = PARAMS.parent / "experiments"
    planned = read_yaml(folder / "mnist-small" / "planned.yaml")
    paper = load_study(folder / "mnist-paper" / "params.yaml")
    model = dataclasses.replace(paper.model, architecture="convnet-bn", widths=[2, 2, 4])
    step = of_a_step(Trainer(dataclasses.replace(paper, model=model), "tla", 0, 0, dataset))
    with torch.device("meta"), FlopCounterMode(display=False) as counter, torch.no_grad():
        build(paper.model, (1, 28, 28), 10, seed=0).eval()(torch.empty(1, 1, 28, 28))
    found = (step["forward"] + step["backward"]) * counter.get_total_flops() / 2 * 60_000
    assert float(planned["variants"]["scale"]["authors"]) == pytest.approx(found, rel=0.02)


# The table, and the ledger

def test_the_table_is_per_training_image_and_of_at():
    rows = {"um": pd.DataFrame({"images": [10], "forward": [10], "backward": [10]}),
            "at": pd.DataFrame({"images": [10], "forward": [80], "backward": [70]})}
    found = cost_table(rows).set_index("model")
    assert found.loc["at"].to_dict() == {"forward": 8, "backward": 7, "of_at": 1}
    assert found.of_at["um"] == pytest.approx(2 / 15)


CLAIM = Claim(id="C25", data="any", says="training takes about as long as AT", kind="cost",
              model="tla", baseline="at", published=None, source="README", primary=TIMED,
              secondary=[COUNTED], equal_within=25)
SUMMARY = Summary(config="experiments/summary/params.yaml", level=0.05, looks={},
                  studies={"any": ["digits"]}, beside=[], claims=[CLAIM])


@pytest.fixture
def study(params, tmp_path, monkeypatch):
    """A study in whose table TLA sends half as many images again through the network as AT."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "reports" / "digits" / "tables"
    folder.mkdir(parents=True)
    pd.DataFrame({"model": ["at", "tla"], "forward": [8.0, 14.0], "backward": [8.0, 10.0],
                  "of_at": [1.0, 1.5]}).to_csv(folder / "cost.csv", index=False)
    seal(folder)
    return params


def benchmark(low, value, high):
    """The benchmark's table, with lines of another network, model and precision."""
    lines = [("digits", "tla", "float32", value, low, high), ("mnist", "tla", "float32", 9, 9, 9),
             ("digits", "tla", "bfloat16", 9, 9, 9), ("digits", "alp", "float32", 9, 9, 9)]
    columns = ["network", "model", "precision", "of_at", "low", "high"]
    cost.BENCHMARK.parent.mkdir(parents=True)
    pd.DataFrame(lines, columns=columns).to_csv(cost.BENCHMARK, index=False)


def test_without_a_benchmark_the_count_decides_nothing(study):
    with pytest.raises(UserError, match="C25: primary: digits has no 'time of a training step"):
        ledger(SUMMARY, {"digits": study})
    known = dataclasses.replace(CLAIM, not_measured={"digits": "no benchmark"})
    summary = dataclasses.replace(SUMMARY, claims=[known])
    table = ledger(summary, {"digits": study})
    assert table.verdict.tolist() == ["not run", "exploratory"]
    assert table.outcome.tolist()[1:] == [COUNTED] and table.ours.tolist()[1:] == [50]
    (said,) = costs(table, summary)
    assert said["verdict"] == "not run" and [line.ours for line in said["lines"]] == [50]
    template = (PARAMS.parent / "stages" / "claims.md").read_text()
    assert "- C25, digits, whose steps were not timed:\n" in markdown(template, table, summary, {})


@pytest.mark.parametrize(("low", "value", "high", "verdict"), [
    (1.1, 1.15, 1.2, "confirmed"), (1.1, 1.2, 1.3, "not resolved"),
    (1.3, 1.4, 1.5, "contradicted"), (0.7, 0.8, 0.9, "not resolved"),
    (0.1, 0.15, 0.2, "contradicted")])
def test_measured_time_decides_without_p(low, value, high, verdict, study):
    benchmark(low, value, high)
    table = ledger(SUMMARY, {"digits": study})
    assert table.outcome.tolist() == [TIMED, COUNTED]
    assert table.ours.tolist() == pytest.approx([100 * (value - 1), 50])
    assert table.verdict.tolist() == [verdict, "exploratory"]
    assert table.uncorrected.tolist() == [verdict, "contradicted"] and table.p_holm.isna().all()
    (said,) = costs(table, SUMMARY)
    assert said["verdict"] == verdict and said["lines"][0].high == pytest.approx(100 * (high - 1))


def test_a_study_without_the_model_says_nothing(study):
    assert cost_readings("tla-b500", "at", study).empty
