"""What the stages that measure start from: samples of images, fit networks, work in one place."""

import dataclasses
import pickle
import shutil

import pandas as pd
import pytest
import torch
from small_study import CPU, Answers

import evaluate
import represent
import transfer
from tla.measure import stage as measuring
from tla.measure.stage import Job
from tla.measure.suite import clean_columns
from tla.params import UserError
from tla.train.data import TEST, TRAIN, VALIDATION

# Sizes

@pytest.mark.parametrize(("key", "most"), [
    ("detect.components", 128), ("detect.neighbors", 128), ("neighbors.k", 128),
    ("masking.surfaces", 40), ("norms.apgd.targets", 9), ("norms.fmn.steps", 62)])
def test_more_than_the_data_have_is_refused_by_the_key(key, most, study):
    measuring.Stage(study.params({key: most}))
    said = f"^params.yaml: {key}: {most + 1} are more than the {most} "
    with pytest.raises(UserError, match=said):
        measuring.Stage(study.params({key: most + 1}))


def test_radii_larger_than_the_image_are_refused(study):
    measuring.Stage(study.params({"norms.l0_radii": [1, 64]}))
    with pytest.raises(UserError, match="norms.l0_radii: 65 are more than the 64 pixels"):
        measuring.Stage(study.params({"norms.l0_radii": [1, 65]}))


# Samples

PARTS = pytest.mark.parametrize("part", [TRAIN, VALIDATION, TEST], ids=["train", "val", "test"])


@PARTS
def test_all_images_are_those_of_the_file_in_its_order(part, study):
    stage = study.stage()
    for position, seed in enumerate(stage.params.seeds):
        found = stage.sample(seed, part, None)
        rows = stage.data.part[position] == part
        assert found.idx.equal(stage.data.idx[rows]) and found.idx.equal(found.idx.sort().values)
        assert found.x.equal(stage.data.x[rows]) and found.y.equal(stage.data.y[rows])


@PARTS
def test_smaller_samples_are_prefixes_of_larger_ones(part, study):
    stage = study.stage()
    everything = stage.sample(0, part, 10_000).idx
    assert everything.sort().values.equal(stage.sample(0, part, None).idx)
    for images in (1, 2, 10, 31):
        assert stage.sample(0, part, images).idx.equal(everything[:images])


@PARTS
def test_a_sample_is_not_the_first_images(part, study):
    """Files may be sorted by class: of 40 test images, the ten first are not what is drawn."""
    stage = study.stage()
    first = set(stage.sample(0, part, None).idx[:10].tolist())
    assert len(first & set(stage.sample(0, part, 10).idx.tolist())) < 8
    assert stage.sample(0, part, 10).idx.diff().lt(0).any(), "a permutation, not a sorted draw"


def test_a_sample_keeps_pixels_classes_and_numbers_together(study):
    stage = study.stage()
    found = stage.test(0, 12)
    assert found.x.equal(stage.data.x[found.idx]) and found.y.equal(stage.data.y[found.idx])


def test_every_model_is_attacked_on_the_same_sample(study):
    stage = study.stage()
    jobs = [Job("square", 1, TEST, 7, None, 1, clean_columns, {"batch": 9})]
    images = [stage.measure(model, jobs)["square", 1].idx.tolist() for model in ("um", "at", "tla")]
    assert images[0] == images[1] == images[2] == stage.test(1, 7).idx.tolist()


def test_seeds_that_share_images_have_the_same_sample(study):
    """And where a seed has its own fold, it has its own sample."""
    stage = study.stage()
    assert set(stage.test(0, 10).idx.tolist()).isdisjoint(stage.test(1, 10).idx.tolist())
    stage.data.part[1] = stage.data.part[0]
    assert stage.test(0, 10).idx.equal(stage.test(1, 10).idx)


def test_a_sample_is_drawn_by_its_own_seed(study):
    """The same at every call, whatever else was drawn; another sample_seed draws others."""
    stage = study.stage()
    torch.manual_seed(1)
    before = torch.get_rng_state()
    assert stage.test(0, 10).idx.equal(stage.test(0, 10).idx)
    assert torch.get_rng_state().equal(before)
    other = study.stage({"evaluate.sample_seed": 1})
    assert not other.test(0, 10).idx.equal(stage.test(0, 10).idx)
    assert other.test(0, None).idx.equal(stage.test(0, None).idx)


# Work

def test_a_measurement_is_a_table_of_its_images(study):
    stage = study.stage()
    jobs = [Job("some", 0, TEST, 5, None, 1, clean_columns, {"batch": 2}),
            Job("all", 1, TEST, None, None, 1, clean_columns, {"batch": 64}),
            Job("train", 1, TRAIN, 7, None, 1, clean_columns, {"batch": 64})]
    found = stage.measure("at", jobs)
    assert set(found) == {("some", 0), ("all", 1), ("train", 1)}
    for job in jobs:
        split, rows = stage.sample(job.seed, job.part, job.images), found[job.name, job.seed]
        columns = clean_columns(stage.network("at", job.seed), split, batch=64)
        expected = {"seed": job.seed, "idx": split.idx, "label": split.y} | columns
        pd.testing.assert_frame_equal(rows, pd.DataFrame(expected))


def test_long_work_is_begun_first(study, monkeypatch):
    """Where cores share it, the longest must not start last."""
    stage, begun = study.stage(), []
    monkeypatch.setattr(stage, "network", lambda *_: None)
    monkeypatch.setattr(stage, "kept", lambda model, seed, name, *_: begun.append(name) or {})
    jobs = [Job("short", 0, TEST, 2, None, 3, clean_columns, {}),
            Job("whole", 0, TEST, None, None, 1, clean_columns, {}),
            Job("long", 0, TEST, 2, None, 100, clean_columns, {})]
    stage.measure("at", jobs)
    assert begun == ["long", "whole", "short"]


# Slices

def cut(job, batch):
    """A job, its images `batch` at a time."""
    return dataclasses.replace(job, batch=batch)


def told(network, split, **settings):
    """Stands for an attack: the images that it saw and the seed that it drew by."""
    rows = len(split.y)
    return {"rows": torch.full((rows,), rows), "drawn": torch.full((rows,), settings["seed"])}


def test_a_job_sees_its_images_in_slices_that_draw_for_themselves(study):
    """The first as the whole would; rows stand in the order of the sample."""
    stage = study.stage()
    job = Job("told", 1, TEST, 17, 5, 1, told, {"seed": 1})
    found = stage.measure("at", [job])["told", 1]
    assert found.idx.tolist() == stage.test(1, 17).idx.tolist()
    assert found.rows.tolist() == [5] * 15 + [2] * 2
    drawn = found.drawn.tolist()
    seeds = [drawn[0], drawn[5], drawn[10], drawn[15]]
    assert seeds[0] == 1 and len(set(seeds)) == 4
    assert drawn == [seed for seed in seeds for _ in range(5)][:17]
    assert set(stage.measure("at", [cut(job, 17)])["told", 1].drawn) == {1}
    other = Job("told", 0, TEST, 17, 5, 1, told, {"seed": 0})
    assert not set(drawn) & set(stage.measure("at", [other])["told", 0].drawn)


def test_slices_are_kept_by_themselves_and_the_first_as_the_whole(study):
    stage = study.stage()
    job = Job("told", 1, TEST, 12, 12, 1, told, {"seed": 1})
    stage.measure("at", [job])
    assert study.again() == ["seed-1 told"]
    stage.measure("at", [cut(job, 40), cut(job, None)])
    assert study.again() == []
    stage.measure("at", [cut(job, 5)])
    assert study.again() == ["seed-1 told", "seed-1 told.1", "seed-1 told.2"]
    stage.measure("at", [cut(job, 5)])
    assert study.again() == []
    stage.measure("at", [dataclasses.replace(cut(job, 5), images=13)])
    assert study.again() == ["seed-1 told.2"], "the others have the same images"


@pytest.mark.parametrize("name", ["fgsm", "pgd", "square", "autoattack"])
def test_the_first_slice_of_an_attack_is_what_the_attack_measures_of_its_images(name, study):
    """A sample that fits into one slice is measured as if there were none."""
    stage = study.stage({"evaluate.images": {}})
    (job,) = [job for job in evaluate.suite_jobs(stage.params, stage.params.seeds)
              if job.name == f"suite-{name}" and job.seed == 1]
    assert job.batch >= 40
    whole = stage.measure("at", [job])[job.name, 1]
    split, network = stage.test(1, None), stage.network("at", 1)
    columns = job.function(network, split, **job.settings)
    assert all(whole[column].tolist() == columns[column].tolist() for column in columns)
    half = stage.measure("at", [cut(job, 20)])[job.name, 1]
    columns = job.function(network, split.take(slice(0, 20)), **job.settings)
    assert all(half[column].tolist()[:20] == columns[column].tolist() for column in columns)


def test_a_complaint_in_one_slice_stands_at_all_images_of_its_seed(study):
    stage = study.stage()

    def complain(network, split, culprit):
        found = torch.tensor(culprit in split.idx.tolist()).byte().expand(len(split.y))
        return {"complaint_random": found, "complaint_square": torch.zeros_like(found)}

    for seed in (0, 1):
        culprit = int(stage.test(1, 9).idx[7])
        job = Job("complain", seed, TEST, 9, 4, 1, complain, {"culprit": culprit})
        found = stage.measure("at", [job])["complain", seed]
        assert found.complaint_random.tolist() == [seed] * 9
        assert found.complaint_square.tolist() == [0] * 9


def test_attacks_of_the_suite_are_sliced_by_their_batch_and_nothing_else_is(study):
    params = study.params({"evaluate.batch": 15, "evaluate.attacks.autoattack.batch": 2})
    for job in evaluate.suite_jobs(params, params.seeds):
        assert job.batch == (2 if job.name == "suite-autoattack" else 15)
    assert {job.batch for job in evaluate.other_jobs(params, 10)} == {None}


def test_rows_do_not_hang_on_how_work_is_shared(study, monkeypatch):
    """Backwards, the last slice first, as well."""
    stage = study.stage({"evaluate.batch": 15, "evaluate.images": {}})
    jobs = [job for job in evaluate.suite_jobs(stage.params, stage.params.seeds)
            if job.name in ("clean", "suite-pgd-restarts", "suite-square")]
    before = stage.measure("at", jobs)
    shutil.rmtree("data/kept")
    backwards = study.stage({"evaluate.batch": 15, "evaluate.images": {}})
    backwards.parallel = lambda function, items, title: [
        function(item) for item in reversed(items)][::-1]
    after = backwards.measure("at", jobs)
    assert before.keys() == after.keys() and len(before) == 5
    assert all(before[place].equals(after[place]) for place in before)


def test_a_stage_travels_as_its_parameters(study):
    """Not with the images, which may be gigabytes."""
    stage = study.stage()
    packed = pickle.dumps(stage)
    assert len(packed) < 50_000 < stage.data.x.nbytes
    opened = pickle.loads(packed)
    assert opened.data.x.equal(stage.data.x) and opened.params == stage.params


# Networks

UNFIT = pytest.mark.parametrize(("change", "words"), [
    (lambda z: z.softmax(1), "probabilities"), (lambda z: z * float("nan"), "not finite"),
    (lambda z: z[:, :9], "shape"), (lambda z: z + torch.rand_like(z), "differently when asked")],
    ids=["probabilities", "nan", "shape", "random"])


@pytest.fixture
def spoil(monkeypatch):
    """Makes the network in one file answer otherwise."""
    def spoilt(path, change):
        load = measuring.load_model

        def loaded(found, *arguments):
            network = load(found, *arguments)
            return Answers(network, change).eval() if str(found) == path else network
        monkeypatch.setattr(measuring, "load_model", loaded)
    return spoilt


@UNFIT
def test_a_network_unfit_to_be_attacked_is_refused_by_its_file(change, words, study, spoil):
    stage, path = study.stage(), "data/digits/models/at/seed-1.safetensors"
    spoil(path, change)
    stage.network("at", 0)
    with pytest.raises(UserError, match=f"^{path}: the model .*{words}"):
        stage.network("at", 1)


def test_a_fit_network_is_in_evaluation_mode_and_that_of_its_file(study):
    stage = study.stage()
    for seed in (0, 1):
        network = stage.network("tla", seed)
        shifted = study.network.head.bias[0] + 1e-4 * (1 + seed + 30)
        assert not network.training and network.head.bias[0] == shifted


@pytest.mark.parametrize("seed", [0, 1])
def test_evaluation_refuses_an_unfit_network_before_the_first_attack_on_any_seed(
        seed, study, spoil, monkeypatch):
    """Attacks take hours where networks are large; what stops them is known in seconds."""
    study.stage()
    path = f"data/digits/models/at/seed-{seed}.safetensors"
    spoil(path, lambda z: z.softmax(1))
    attacked = attacked_seeds(monkeypatch)
    with pytest.raises(UserError, match=f"^{path}: the model "):
        evaluate.main(["params.yaml", "--model", "at"])
    assert attacked == []


def attacked_seeds(monkeypatch):
    """The seeds whose networks any measurement was run on."""
    found, kept = [], measuring.Stage.kept

    def watched(self, model, seed, name, key, function):
        def run():
            found.append(seed)
            return function()
        return kept(self, model, seed, name, key, run)

    monkeypatch.setattr(measuring.Stage, "kept", watched)
    return found


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("main", [
    lambda: transfer.main(["params.yaml"]),
    lambda: represent.main(["params.yaml", "--model", "at"])], ids=["transfer", "represent"])
def test_the_other_stages_refuse_an_unfit_network_by_its_file(main, seed, study, spoil):
    study.stage()
    path = f"data/digits/models/at/seed-{seed}.safetensors"
    spoil(path, lambda z: z * float("nan"))
    with pytest.raises(UserError, match=f"^{path}: the model returned logits that are not finite"):
        main()


def test_a_model_that_was_not_trained_is_named(study):
    stage = measuring.Stage(study.params())
    for ask in (stage.network, stage.digest):
        with pytest.raises(UserError, match="^data/digits/models/um/seed-0.safetensors: no such"):
            ask("um", 0)


def test_a_model_trained_with_other_parameters_is_refused_also_where_its_rows_are_kept(study):
    stage = study.stage()
    jobs = [Job("clean", 0, TEST, 5, None, 1, clean_columns, {"batch": 2})]
    stage.measure("at", jobs)
    attack = dataclasses.replace(stage.params.attack, eps=0.2)
    other = measuring.Stage(dataclasses.replace(stage.params, attack=attack))
    with pytest.raises(UserError, match="attack.eps = 0.15, today it is 0.2"):
        other.measure("at", jobs)


def test_a_stage_computes_on_one_thread(study, monkeypatch):
    monkeypatch.undo()
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert measuring.deterministic() in (CPU, torch.device("cuda"))
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
