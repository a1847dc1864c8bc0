"""The parts of the benchmarks on tiny inputs: arithmetic, tables, limits. Nothing here is timed."""

import copy
import dataclasses
import math
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from matplotlib import image
from safetensors.torch import load_file

BENCHMARKS = Path(__file__).parent / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import attacks  # noqa: E402
import common  # noqa: E402
import gpu  # noqa: E402
import growth  # noqa: E402
import machine  # noqa: E402
import make_cifar10  # noqa: E402
import memory  # noqa: E402
import pipeline  # noqa: E402
import training  # noqa: E402

from tla.params import Precision  # noqa: E402
from tla.train.checkpoints import model_path, save_model  # noqa: E402
from tla.train.models import build  # noqa: E402

sys.path.remove(str(BENCHMARKS))


@pytest.fixture
def subject(network, images):
    """Eight digits and the trained perceptron, in float32."""
    x, y = images
    return common.Subject("digits", copy.deepcopy(network).float(), x[:8].float(), y[:8], 0.15,
                          Precision("float32", 2))


# What all share

def test_spread_and_verdict():
    assert common.spread([3.0, 1.0, 2.0, 10.0]) == {"value": 2.5, "low": 1.0, "high": 10.0}
    assert [common.verdict(1.0, limit) for limit in (1.0, 0.9, None, math.nan)] == [
        "within", "over", "", ""]


def test_the_bare_pass_is_a_mean_of_at_least_two(subject, monkeypatch):
    asked = []
    monkeypatch.setattr(common, "LEAST", 0.0)
    monkeypatch.setattr(common, "input_gradient", lambda *call: asked.append(call))
    assert common.bare_seconds(subject) >= 0 and len(asked) == 2
    assert asked[0][1] is subject.x


def test_a_report_is_printed_and_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(common, "REPORTS", tmp_path)
    table = pd.DataFrame({"value": [1.0, 3.0, 5.0], "limit": [2.0, 2.0, math.nan],
                          "verdict": ["within", "over", ""]})
    common.report("name", table)
    assert "1 of 2 within" in capsys.readouterr().out
    assert pd.read_csv(tmp_path / "name.csv").value.tolist() == [1, 3, 5]


def test_stored_mnist_images():
    x, y = common.stored_images("mnist")
    assert x.shape == (common.IMAGES, 1, 28, 28) and x.dtype == torch.float32
    assert x.min() == 0 and x.max() == 1 and set(y.tolist()) == set(range(10))
    assert common.stored("mnist").stat().st_size < 300_000
    with pytest.raises(SystemExit, match="make_cifar10"):
        common.stored("absent")


def test_images_and_weights_are_stored_and_found_again(dataset, params, tmp_path, monkeypatch):
    """In float16; the file says which network it is, and how the study attacks."""
    network = build(params.model, dataset.shape, 10, seed=3)
    place = tmp_path / model_path(params, "at", 0)
    save_model(place, network, params, "at", 0, dataset)
    prepared = tmp_path / "data" / "digits" / "prepared"
    prepared.mkdir(parents=True)
    (tmp_path / "images.safetensors").rename(prepared / "images.safetensors")
    monkeypatch.setattr(make_cifar10, "ROOT", tmp_path)
    make_cifar10.main([str(common.STUDIES["digits"]), "at", "0"], tmp_path)
    assert load_file(tmp_path / "digits.safetensors")["x"].dtype == torch.uint8

    (tmp_path / "digits.safetensors").rename(tmp_path / "cifar10.safetensors")
    monkeypatch.setattr(common, "HERE", tmp_path)
    found = common.cifar10()
    assert (found.eps, found.precision) == (params.attack.eps, params.evaluate.precision)
    assert found.x.shape[1:] == dataset.shape and len(found.x) == len(found.y) > 30
    half = network.state_dict()["head.weight"].half().float()
    assert torch.equal(found.network.head.weight, half) and not found.network.training


# Attacks

PEERS = attacks.OURS | attacks.PLAIN | attacks.PUBLIC


@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize("restarts", [1, 2])
def test_every_peer_says_who_survives(name, restarts, subject):
    if name == "torchattacks":
        pytest.importorskip("torchattacks")
    if name == "plain loop" and restarts > 1:
        pytest.skip("has no restarts")
    correct = PEERS[name](subject, attacks.pgd(3, restarts, 0.1), 0)
    assert correct.shape == (8,) and correct.dtype == torch.bool


def test_our_last_step_is_the_plain_loop(subject):
    """The same random starts, and the same examples left."""
    attack, ours = attacks.pgd(10, 1, 0.1), PEERS["ours last float32"]
    for eps in (0.01, 0.1, 0.2):
        other = dataclasses.replace(subject, eps=eps)
        assert torch.equal(attacks.plain_loop(other, attack, 0), ours(other, attack, 0))


def test_every_heat_is_of_known_attacks_and_fits_the_stored_images():
    for heats in attacks.HEATS.values():
        for heat in heats:
            assert heat.attack in attacks.ATTACKS and heat.images <= common.IMAGES
            assert heat.peers.items() <= PEERS.items()


def test_the_unit_is_time_over_steps_times_the_bare_pass(subject, monkeypatch):
    """Bare pass 0.5 s, a run 40 s: 80 passes, of 20 steps 20 times."""
    monkeypatch.setattr(attacks, "bare_seconds", lambda part: 0.5)
    monkeypatch.setattr(attacks, "timed", lambda run: (40.0, torch.tensor([True, False])))
    heats = [attacks.Heat("20 x PGD-20", 4, 2, attacks.FLOAT32),
             attacks.Heat("PGD-100", 256, 3, attacks.FLOAT32 | attacks.PLAIN)]
    runs = attacks.race(subject, heats)
    assert len(runs) == 2 * 2 + 3 * 3 and runs["round"].is_monotonic_increasing
    table = attacks.tabulated("digits", list(attacks.times(runs, subject)))
    assert list(table) == attacks.COLUMNS
    assert table.value.tolist() == [80 / 400] * 2 + [80 / 100] * 3
    assert table.images.tolist() == [4, 4, 8, 8, 8] and set(table.robust_accuracy) == {50}
    assert table.limit.isna().all() and set(table.verdict) == {""}      # not the 256 images


def run(peer, attack, round_, **values):
    """A line of race()."""
    return {"attack": attack, "peer": peer, "images": 256, "round": round_, "steps": 100,
            "seconds": 1.0, "passes": 90.0, "robust": 50.0} | values


def test_limits_are_about_our_engine_in_the_precision_of_the_study(subject):
    runs = []
    for round_, passes in enumerate([99.0, 96.0, 90.0]):
        for peer in ("ours last float32", "ours last bfloat16", "ART"):
            runs.append(run(peer, "PGD-100", round_, passes=passes))
    table = attacks.tabulated("digits", list(attacks.times(pd.DataFrame(runs), subject)))
    assert table.value.tolist() == [0.96] * 3 and table.low.tolist() == [0.9] * 3
    assert table.verdict.tolist() == ["over", "", ""]


def test_long_runs_are_compared_in_the_same_round(subject):
    runs = [run("ours last float32", "PGD-100", 0, passes=50.0),
            run("ours last float32", "PGD-100", 1, passes=100.0),
            run("ours last float32", "PGD-2000", 0, passes=60.0),
            run("ours last float32", "PGD-2000", 1, passes=90.0),
            run("ART", "PGD-100", 0), run("ART", "PGD-2000", 0)]
    line, = attacks.longer(pd.DataFrame(runs), subject)
    assert (line["value"], line["low"], line["high"]) == (1.05, 0.9, 1.2)
    assert attacks.tabulated("digits", [line]).verdict.tolist() == ["within"]


def test_accuracy_of_the_precisions_is_compared_start_by_start():
    runs = []
    for round_, found in enumerate([50.0, 50.4, 49.6, 49.0]):
        runs.append(run("ours worst float32", "PGD-100", round_))
        runs.append(run("ours worst bfloat16", "PGD-100", round_, robust=found))
    line, = attacks.precisions(pd.DataFrame(runs))
    assert line["value"] == pytest.approx(-0.25) and line["low"] == -1 and line["rounds"] == 4
    assert attacks.tabulated("digits", [line]).verdict.tolist() == ["within"]
    line["value"] = -0.4
    assert attacks.tabulated("digits", [line]).verdict.tolist() == ["over"]


def test_bookkeeping_is_measured_where_no_example_is_done_early(subject):
    line = attacks.bookkeeping(subject, 6, 4, 2)
    assert line["rounds"] == 2 and line["low"] <= line["value"] <= line["high"]


def test_bookkeeping_refuses_an_attack_that_stops(subject):
    """Constant logits have no gradient: every iterate repeats."""
    flat = copy.deepcopy(subject.network)
    flat.head.weight.data.zero_()
    with pytest.raises(RuntimeError, match="done early"):
        attacks.bookkeeping(dataclasses.replace(subject, network=flat), 6, 8, 1)


# Training

def test_training_steps_of_all_methods(dataset, make_params):
    """Two rounds of one step; MNIST's data set is its stored images again and again."""
    params = make_params({"train.batch": 10, "attack.steps": 1, "mining.batch": 20,
                          "models": ["um", "at", "alp", "tla"],
                          "represent.models": ["um", "at", "alp", "tla"]})
    params = training.with_model(training.with_model(params, "tla-b7"), "tla-b7")
    contestants = training.trainers(params, dataset)
    table = training.compared(training.race(contestants, 2, 1), "digits", "float32")
    assert table.model.tolist() == 2 * params.models and params.models.count("tla-b7") == 1
    assert set(table.precision) == {"float32", "bfloat16"} and set(table["rounds"]) == {2}
    limited = table[table.verdict != ""]
    assert limited.model.tolist() == ["tla"] and limited.precision.tolist() == ["float32"]

    repeated = training.Repeated("mnist", 600)
    assert len(repeated.split(0, 0).x) == 600 and repeated.split(0, 0) is repeated.split(1, 0)
    assert torch.equal(repeated.split(0, 0).x[256:512], repeated.split(0, 1).x)


def test_a_training_step_is_set_against_the_one_of_at_right_before():
    lines = []
    for round_, (exact, low) in enumerate([(13, 6), (26, 13), (12, 6)]):
        for precision, ms in (("float32", exact), ("bfloat16", low)):
            lines.append({"model": "tla", "precision": precision, "round": round_, "ms": ms,
                          "ms_at": 20 if round_ == 1 else 10})
    table = training.compared(pd.DataFrame(lines), "mnist", "float32").set_index("precision")
    assert table.of_at.tolist() == [1.3, 0.6] and table.high.tolist() == [1.3, 0.65]
    assert table.of_float32.to_dict() == {"float32": 1, "bfloat16": 0.5}
    assert table.verdict.to_dict() == {"float32": "over", "bfloat16": ""}


# Growth

def test_points_of_a_curve_are_measured_in_turn():
    calls = []
    curves = {"a": {1: lambda: calls.append("a1"), 2: lambda: calls.append("a2")},
              "b": {1: lambda: calls.append("b1")}}
    table = growth.measured("steps", curves, 2, 1)
    assert calls == ["a1", "a2", "b1"] * 3
    assert table.curve.tolist() == ["a", "a", "b"] and table.amount.tolist() == [1, 2, 1]


@pytest.mark.parametrize(("seconds", "verdict"), [(5.0, "within"), (6.0, "over")])
def test_two_workers_must_get_nearly_twice_as_much_done(seconds, verdict):
    times = pd.DataFrame({"panel": "workers", "curve": "throughput", "amount": [1, 2],
                          "value": [10, seconds], "low": [10, seconds - 1],
                          "high": [10, seconds + 1], "limit": math.nan, "verdict": ""})
    two = growth.throughput(times).iloc[1]
    assert two.value == 10 / seconds and two.low < two.value < two.high
    assert two.verdict == verdict


def test_work_is_done_on_the_cores_that_are_named(subject, monkeypatch):
    before, seen = os.sched_getaffinity(0), []
    monkeypatch.setattr(growth, "map_parallel",
                        lambda function, items, title: seen.append(os.sched_getaffinity(0)))
    growth.by_workers(subject, {min(before)})
    assert seen == [{min(before)}] and os.sched_getaffinity(0) == before


def test_memory_by_slices_must_stay_flat(monkeypatch):
    monkeypatch.setattr(growth, "peak_memory", lambda images, batch: 100.0 + images / batch * 5)
    table = growth.memory_curves((1000, 2000, 8000))
    assert table.curve.tolist() == ["by slices"] * 3 + ["at once"] * 3
    assert table.value.tolist() == [105, 110, 140, 105, 105, 105]
    assert table.verdict.tolist() == ["", "", "over", "", "", ""]


def test_images_repeat_for_the_suite(subject, monkeypatch):
    seen = []
    monkeypatch.setattr(memory, "attack_columns",
                        lambda network, split, *_, **settings: seen.append((split, settings)))
    memory.suite(subject, 20, 8, 3)
    (split, settings), = seen
    assert torch.equal(split.x[8:16], subject.x) and len(split.y) == 20 and settings["batch"] == 8


def test_the_figure_has_a_panel_for_everything_and_is_a_thousand_pixels_wide(tmp_path, monkeypatch):
    monkeypatch.setattr(growth, "REPORTS", tmp_path)
    lines = []
    for panel in growth.AXES:
        for amount in (1, 2):
            lines.append({"panel": panel, "curve": "one", "amount": amount, "value": 3.0 * amount,
                          "low": 3.0, "high": 6.5, "limit": math.nan, "verdict": ""})
    growth.draw(pd.DataFrame(lines))
    assert image.imread(tmp_path / "growth.png").shape[1] == 1000


# Pipeline, machine, GPU

def test_the_shim_runs_python_and_logs_what_it_took(tmp_path):
    environment = pipeline.shim(tmp_path)
    script = tmp_path / "evaluate.py"
    script.write_text("import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)")
    done = subprocess.run(["python", script, "--model", "at"], env=environment, text=True,
                          capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")
    log = pipeline.logged((tmp_path / "log").read_text())
    assert log.kind.tolist() == ["evaluate"] and log.wall[0] > 0 and log.cpu[0] > 0


def test_what_no_stage_took_is_dvc():
    log = pipeline.logged("2.0 1.5 0.5 stages/train.py a\n4.0 3.0 0.5 stages/train.py b\n"
                          "1.0 1.0 0.0 stages/report.py a\n")
    table = pipeline.by_kind(log, {"train": 0.5, "report": 0.25}, (10.0, 8.0)).set_index("kind")
    assert table.runs.to_dict() == {"train": 2, "report": 1, "DVC": 1, "total": 1}
    assert table.wall.to_dict() == {"train": 6, "report": 1, "DVC": 3, "total": 10}
    assert table.cpu.to_dict() == {"train": 5.5, "report": 1, "DVC": 1.5, "total": 8}
    assert table.of_which_start[["train", "report", "total"]].tolist() == [1, 0.25, 1.25]


def test_every_kind_of_stage_is_a_script():
    for kind in pipeline.KINDS:
        assert (common.ROOT / "stages" / f"{kind}.py").exists()


def test_the_machine_is_described():
    facts = dict(line.split(": ", 1) for line in machine.described().splitlines())
    assert facts["torch"] == torch.__version__ and int(facts["cores"]) >= 1
    assert {facts["avx512_bf16"], facts["amx_bf16"]} <= {"yes", "no"}


def test_operations_of_a_gpu_step_are_counted(params):
    """Forward and, for the images, once more: 2 operations a weight and image each."""
    network = build(params.model, (1, 8, 8), 10, seed=0).requires_grad_(False)
    step = gpu.Pgd(network, (1, 8, 8), 5, torch.float32, "cpu")
    assert step.operations() == 4 * 5 * (64 * 256 + 256 * 128 + 128 * 10)
    before = step.x.clone()
    step.step()
    assert 0 < (step.x - before).abs().max() <= gpu.EPS / 10 + 1e-6
    assert set(gpu.networks()) == set(attacks.HEATS)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(capsys):
    gpu.main()
    assert capsys.readouterr().out == "no CUDA device\n"
