"""Kept measurements: nothing is measured twice, and everything again that may have changed."""

import dataclasses
import re
import shutil
from pathlib import Path

import pytest
import torch
from conftest import PARAMS
from safetensors.torch import save_file
from small_study import NAMES, edit

import evaluate
import transfer
from tla import sources
from tla.measure import kept as keeping
from tla.measure.kept import kept
from tla.sources import code_of
from tla.train import checkpoints
from tla.train.data import TEST
from tla.train.stored import digest_of

STAGES = PARAMS.parent / "stages"
COLUMNS = {"pgd_pred": torch.tensor([3, 1, 2]), "clean": torch.tensor([1, 0, 1]).byte(),
           "a_linf": torch.tensor([0.1, 0.2, 0.3]), "zero": torch.tensor([0.5, 1.0, 0.0]).double()}


def fail():
    raise AssertionError("measured again")


def same(found, expected):
    """Whether columns are equal, also in their order and types."""
    if list(found) != list(expected):
        return False
    return all(found[name].dtype == expected[name].dtype and found[name].equal(expected[name])
               for name in expected)


# One file

def test_what_was_measured_comes_back_without_measuring(tmp_path):
    path = tmp_path / "at" / "pgd.safetensors"
    assert same(kept(path, {"eps": 0.1}, lambda: COLUMNS), COLUMNS)
    assert same(kept(path, {"eps": 0.1}, fail), COLUMNS)
    assert [file.name for file in path.parent.iterdir()] == ["pgd.safetensors"]


@pytest.mark.parametrize("columns", [
    {}, {"none": torch.zeros(0)}, {"one": torch.ones(1, dtype=torch.bool)},
    {"turned": torch.arange(6).view(2, 3).T}], ids=["none", "empty", "bool", "not contiguous"])
def test_odd_columns_come_back_too(columns, tmp_path):
    path = tmp_path / "x.safetensors"
    kept(path, {}, lambda: columns)
    assert same(kept(path, {}, fail), columns)


@pytest.mark.parametrize("field", ["loss", "steps", "rel_step_size", "restarts", "decay"])
def test_every_field_of_an_attack_is_part_of_the_key(field, plain_attack, tmp_path):
    path, other = tmp_path / "x.safetensors", {
        "loss": "margin", "steps": [11], "rel_step_size": 0.21, "restarts": 2, "decay": 0.5}
    changes = {field: other[field], "random_start": True}
    kept(path, {"attack": plain_attack(random_start=True)}, lambda: COLUMNS)
    kept(path, {"attack": plain_attack(random_start=True)}, fail)
    with pytest.raises(AssertionError):
        kept(path, {"attack": plain_attack(**changes)}, fail)


def test_another_key_takes_the_place_and_is_not_mistaken_for_the_first(tmp_path):
    path, other = tmp_path / "x.safetensors", {"clean": torch.zeros(3)}
    kept(path, {"eps": 0.1}, lambda: COLUMNS)
    assert same(kept(path, {"eps": 0.2}, lambda: other), other)
    assert same(kept(path, {"eps": 0.2}, fail), other)
    assert same(kept(path, {"eps": 0.1}, lambda: COLUMNS), COLUMNS)


def test_a_measurement_that_stops_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "x.safetensors"
    kept(path, {"eps": 0.1}, lambda: COLUMNS)
    with pytest.raises(AssertionError):
        kept(path, {"eps": 0.2}, fail)

    def half(place, content):
        place.with_name("x.tmp").write_bytes(content[:50])
        raise KeyboardInterrupt

    monkeypatch.setattr(keeping, "write_bytes", half)
    with pytest.raises(KeyboardInterrupt):
        kept(path, {"eps": 0.2}, lambda: {})
    assert same(kept(path, {"eps": 0.1}, fail), COLUMNS)


def test_a_file_cut_short_anywhere_is_measured_again(tmp_path):
    path = tmp_path / "x.safetensors"
    kept(path, {}, lambda: COLUMNS)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(AssertionError, match="measured again"):
            kept(path, {}, fail)
    assert same(kept(path, {}, lambda: COLUMNS), COLUMNS)
    assert same(kept(path, {}, fail), COLUMNS)


@pytest.mark.parametrize("bit", [0, 7])
def test_a_file_damaged_anywhere_gives_nothing_else(bit, tmp_path):
    """Either the damage shows and it is measured again, or it changed nothing."""
    path = tmp_path / "x.safetensors"
    kept(path, {}, lambda: COLUMNS)
    whole = path.read_bytes()
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << bit
        path.write_bytes(damaged)
        assert same(kept(path, {}, lambda: COLUMNS), COLUMNS), f"byte {place}"


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"\xff" * 100, b"text", None], ids=str)
def test_what_is_no_such_file_is_replaced(content, tmp_path):
    path = tmp_path / "x.safetensors"
    if content is None:     # without what is written beside the columns
        save_file(COLUMNS, path)
    else:
        path.write_bytes(content)
    assert same(kept(path, {}, lambda: COLUMNS), COLUMNS)
    assert same(kept(path, {}, fail), COLUMNS)


@pytest.mark.parametrize("change", [
    lambda c: c | {"clean": 1 - c["clean"]}, lambda c: c | {"clean": c["clean"].long()},
    lambda c: c | {"more": c["clean"]}, lambda c: {"a" + name: c[name] for name in c},
    lambda c: c | {"clean": c["clean"][None]}], ids=["value", "type", "more", "name", "shape"])
def test_a_digest_is_that_of_names_types_shapes_and_values(change):
    assert digest_of(COLUMNS) == digest_of(dict(reversed(COLUMNS.items())))
    assert digest_of(change(COLUMNS)) != digest_of(COLUMNS)


# The code

@pytest.fixture
def library(tmp_path, monkeypatch):
    """A copy of the code that kept measurements are told apart by."""
    copy = tmp_path / "code"
    shutil.copytree(STAGES, copy, ignore=shutil.ignore_patterns("__pycache__"))
    assert sources.LIBRARY == STAGES
    monkeypatch.setattr(sources, "LIBRARY", copy)
    monkeypatch.setattr(sources, "NEUTRAL", copy / "tla" / "params.py")
    return copy / "tla"


def imported(path):
    """Files of the library that a file needs, itself among them: found by names in its text."""
    found, waiting = set(), [path]
    while waiting:
        if (file := waiting.pop()) in found:
            continue
        found.add(file)
        text = re.sub(r"\(\s*|,\s*\n\s*", lambda m: m[0].replace("\n", " "), file.read_text())
        for package, names in re.findall(r"(?m)^\s*from (tla[.\w]*) import ([\w, ()]+)", text):
            for name in (package, *(f"{package}.{n.strip(' ()')}" for n in names.split(","))):
                place = STAGES.joinpath(*name.split("."))
                waiting += [f for f in (place.with_suffix(".py"), place / "__init__.py")
                            if f.exists()]
    return found


@pytest.mark.parametrize("module", ["suite", "queries"])
def test_the_code_of_a_measurement_is_its_module_and_all_it_imports(module, library):
    needed = imported(STAGES / "tla" / "measure" / f"{module}.py") - {STAGES / "tla" / "params.py"}
    assert STAGES / "tla" / "measure" / "referee.py" in needed
    before = code_of(f"tla.measure.{module}")
    for path in sorted((STAGES / "tla").rglob("*.py")):
        place = library.parent / path.relative_to(STAGES)
        text = place.read_text()
        place.write_text(text + "\n# edited\n")
        assert (code_of(f"tla.measure.{module}") != before) == (path in needed), path
        place.write_text(text)


# A study

@pytest.fixture
def measured(study):
    """The study after `at` was evaluated; called with jobs, it says which of them were run again.

    What they compute is of no concern here, and left out.
    """
    stage, study.columns = study.stage(), {}
    jobs = evaluate.suite_jobs(stage.params, stage.params.seeds)
    jobs += evaluate.other_jobs(stage.params, 10)
    stage.measure("at", jobs)
    assert study.again() == sorted(f"seed-{job.seed} {job.name}" for job in jobs)

    def again(jobs=jobs):
        stage.measure("at", jobs)
        return study.again()
    again.jobs, again.stage, again.study = jobs, stage, study
    return again


def named(jobs, condition):
    """Jobs as `SmallStudy.measured` lists them."""
    return sorted(f"seed-{job.seed} {job.name}" for job in jobs if condition(job))


def test_nothing_is_measured_again_where_nothing_changed(measured):
    assert measured() == []


def test_other_weights_are_measured_again_and_those_of_other_seeds_are_not(measured):
    measured.study.save(measured.stage.params, "at", 1, 0.3)
    assert measured() == named(measured.jobs, lambda job: job.seed == 1)
    assert measured() == []


def test_weights_that_were_trained_again_to_the_same_bits_are_not(measured, monkeypatch):
    """The file also says which code trained them, and a comment there changes no weight."""
    path = Path("data/digits/models/at/seed-1.safetensors")
    before = path.read_bytes()
    monkeypatch.setattr(checkpoints, "training_code", lambda *_: "other")
    measured.study.train(measured.stage.params)
    assert path.read_bytes() != before
    assert measured() == []


def test_other_weights_of_another_model_are_of_no_concern(measured):
    measured.study.save(measured.stage.params, "tla", 1, 0.3)
    assert measured() == []


def test_an_attack_that_is_added_runs_alone(measured, plain_attack):
    params = measured.stage.params
    attacks = params.evaluate.attacks | {"new": plain_attack(steps=[2])}
    more = dataclasses.replace(params.evaluate, attacks=attacks)
    jobs = evaluate.suite_jobs(dataclasses.replace(params, evaluate=more), params.seeds)
    assert measured(jobs) == ["seed-0 suite-new", "seed-1 suite-new"]


@pytest.mark.parametrize(("name", "changes"), [
    ("cw", {"steps": [3]}), ("cw", {"rel_step_size": 0.3}), ("mim", {"decay": 0.5}),
    ("mim", {"momentum": "average", "decay": 0.5}), ("pgd", {"random_start": False}),
    ("fgsm", {"loss": "margin"}), ("pgd-restarts", {"restarts": 1}), ("square", {"queries": 9}),
    ("autoattack", {"batch": 3})], ids=str)
def test_an_attack_with_other_parameters_runs_alone(name, changes, measured):
    params = measured.stage.params
    attack = dataclasses.replace(params.evaluate.attacks[name], **changes)
    evaluate_ = dataclasses.replace(
        params.evaluate, attacks=params.evaluate.attacks | {name: attack})
    jobs = evaluate.suite_jobs(dataclasses.replace(params, evaluate=evaluate_), params.seeds)
    assert measured(jobs) == named(jobs, lambda job: job.name == f"suite-{name}")
    assert measured(jobs) == []


def test_another_eps_is_measured_again_wherever_it_is_told(measured):
    """Clean images do not move, and HopSkipJump knows no ball."""
    params = measured.stage.params
    attack = dataclasses.replace(params.attack, eps=0.1)
    other = dataclasses.replace(params, attack=attack)
    jobs = evaluate.suite_jobs(other, other.seeds) + evaluate.other_jobs(other, 10)
    assert measured(jobs) == named(jobs, lambda job: job.name not in ("clean", "hop-skip"))


@pytest.mark.parametrize(("section", "field", "value", "name"), [
    ("textbook", "halvings", 4, "textbook"), ("textbook", "leaking_factors", [0.5], "leaking-"),
    ("masking", "eps_factors", [0.5], "masking"), ("hop_skip", "evaluations", 21, "hop-skip")])
def test_other_settings_are_measured_again(section, field, value, name, measured):
    params = measured.stage.params
    settings = dataclasses.replace(getattr(params, section), **{field: value})
    jobs = evaluate.other_jobs(dataclasses.replace(params, **{section: settings}), 10)
    again = named(jobs, lambda job: job.name.startswith(name))
    assert [line for line in measured(jobs) if name in line] == again


@pytest.mark.parametrize("images", [7, 9, None])
def test_other_images_are_measured_again(images, measured):
    jobs = [dataclasses.replace(job, images=images) for job in measured.jobs
            if job.name == "suite-square"]
    assert measured(jobs) == ["seed-1 suite-square"]


@pytest.mark.parametrize("change", [
    lambda data, row: data.x[row].fill_(0.5), lambda data, row: data.y[row].fill_(0)],
    ids=["pixels", "label"])
def test_an_image_that_changed_is_measured_again_where_it_is_seen(change, measured):
    stage = measured.stage
    (row,) = stage.test(1, 8).idx[-1:].tolist()     # the eighth: AutoAttack sees three
    change(stage.data, row)
    seeing = named(measured.jobs, lambda job: row in stage.sample(
        job.seed, job.part, job.images).idx)
    assert "seed-1 suite-square" in seeing and "seed-1 suite-autoattack" not in seeing
    assert measured() == seeing


GRADIENT = ("clean", "suite-fgsm", "suite-ifgsm", "suite-pgd", "suite-cw", "suite-mim",
            "suite-fgsm-least-likely", "suite-ifgsm-least-likely", "suite-pgd-restarts",
            "suite-cw-50", "suite-mim-average")
TEXTBOOK = ("textbook", "leaking-train", "leaking-test")
EVERYTHING = (*GRADIENT, *TEXTBOOK, "suite-square", "suite-autoattack", "masking", "hop-skip")


@pytest.mark.parametrize(("module", "again"), [
    ("measure/queries", ("suite-square", "hop-skip")), ("measure/broken", ("suite-pgd-restarts",)),
    ("measure/autoattack", ("suite-autoattack",)), ("measure/suite", GRADIENT),
    ("measure/engine", EVERYTHING),
    ("measure/textbook", TEXTBOOK), ("measure/masking", ("masking",)),
    ("measure/referee", EVERYTHING), ("measure/answers", EVERYTHING), ("train/data", EVERYTHING),
    ("train/models", EVERYTHING), ("train/networks", EVERYTHING),
    ("train/pgd", EVERYTHING), ("report/tables", ()), ("report/figures", ()),
    ("train/training", ()), ("train/mining", ()), ("measure/embedding", ()),
    ("measure/retrieval", ()), ("measure/stage", ()), ("measure/kept", ()), ("files", ()),
    ("workers", ())])
def test_an_edit_measures_again_what_it_may_have_changed(module, again, measured, library):
    path = library / f"{module}.py"
    path.write_text(path.read_text() + "\n# edited\n")
    measured.study.train(measured.stage.params)     # by today's code, to the same bits
    seeds = [0] if module == "measure/broken" else [0, 1]     # it hands images over on the first
    assert measured() == named(
        measured.jobs, lambda job: job.name in again and job.seed in seeds)
    assert measured() == []


FEW = ("clean", "suite-fgsm", "suite-cw", "suite-square")


def test_a_damaged_file_is_measured_again_alone_and_to_the_same_rows(study):
    stage = study.stage()
    jobs = [job for job in evaluate.suite_jobs(stage.params, stage.params.seeds) if job.name in FEW]
    before = stage.measure("at", jobs)
    study.again()
    path = Path("data/kept/digits/at/seed-1/suite-cw.safetensors")
    path.write_bytes(path.read_bytes()[:-3])
    after = stage.measure("at", jobs)
    assert study.again() == ["seed-1 suite-cw"]
    assert all(before[place].equals(after[place]) for place in before)


def test_a_loss_of_what_is_kept_costs_time_and_nothing_else(study):
    study.stage()
    evaluate.main(["params.yaml", "--model", "at"])
    transfer.main(["params.yaml"])
    files = [*Path("data/digits/rows").rglob("*.gz"), Path("reports/digits/metrics/at.json")]
    written = {file: file.read_bytes() for file in files}
    assert len(written) == 8
    for lost in (False, True):
        if lost:
            shutil.rmtree("data/kept")
        for file in files:
            file.unlink()
        study.again()
        evaluate.main(["params.yaml", "--model", "at"])
        transfer.main(["params.yaml"])
        assert bool(study.again()) == lost
        assert {file: file.read_bytes() for file in files} == written


# Transfer

def test_transfer_is_kept_by_source_and_judges(study):
    stage = study.stage()
    transfer.main(["params.yaml"])
    assert study.again() == ["seed-0 transfer"] * len(NAMES)
    transfer.main(["params.yaml"])
    assert study.again() == []

    study.save(stage.params, "um", 0, 0.3)      # a source, and no judge
    transfer.main(["params.yaml"])
    assert study.again() == ["seed-0 transfer"]

    study.save(stage.params, "um", 1, 0.3)      # a judge of all
    transfer.main(["params.yaml"])
    assert study.again() == ["seed-0 transfer"] * len(NAMES)

    edit("params.yaml", {"models": ["at", "um", "alp", "tla"]})
    transfer.main(["params.yaml"])
    assert study.again() == ["seed-0 transfer"] * len(NAMES), "columns are in the judges' order"

    edit("params.yaml", {"transfer.images": 5})
    transfer.main(["params.yaml"])
    assert study.again() == ["seed-0 transfer"] * len(NAMES)


def test_models_and_seeds_are_kept_apart(study):
    """One weight file copied to another name is the same network, kept in its own place."""
    stage = study.stage()
    jobs = evaluate.suite_jobs(stage.params, stage.params.seeds)[:1]
    assert jobs[0].part == TEST
    stage.measure("at", jobs)
    stage.measure("um", jobs)
    assert study.again() == ["seed-0 clean", "seed-0 clean"]
    places = sorted(str(path) for path in Path("data/kept").rglob("*.safetensors"))
    assert places == [f"data/kept/digits/{model}/seed-0/clean.safetensors"
                      for model in ("at", "um")]
