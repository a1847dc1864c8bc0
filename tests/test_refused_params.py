"""Parameters that are refused: files that hold none, names, and what does not go together."""

import re

import pytest
import refusals
from conftest import PARAMS
from test_params import refusal

import resolve
from tla.params import load_params


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


# Files

def text(old, new):
    """The real file with other text in one place."""
    whole = PARAMS.read_text()
    assert whole.count(old) == 1
    return whole.replace(old, new)


def more(added):
    """The real file, and more below."""
    return PARAMS.read_text() + added


def epochs(value):
    return text("epochs: 30 ", f"epochs: {value} ")


BOMB = "x: &a [1, 1]\n" + "".join(
    f"x{i}: &{new} [*{old}, *{old}]\n" for i, (old, new) in enumerate(zip(
        "abcdefghijklmnopqrs", "bcdefghijklmnopqrst", strict=True)))
ENDLESS = "line [0-9]+: too many values, or too many sections within each other"
FILES = {
    "empty": ("", "input should be a dictionary"),
    "a comment": ("# nothing", "input should be a dictionary"),
    "a list": ("- 1\n- 2", "input should be a dictionary"),
    "a number": ("7", "input should be a dictionary"),
    "not YAML": ("a: [1\nb: 2", "not YAML: line "),
    "cut": (PARAMS.read_text()[:5000], "mining: field required"),
    "a tab": (text("  epochs: 30 ", "\tepochs: 30 "), "not YAML: line [0-9]+: "),
    "a NUL": (text("dataset: digits", "dataset: dig\0its"), "not YAML: unacceptable character"),
    "a key twice": (more("\nseeds: [0, 1]\n"), 'not YAML: .*duplicate key "seeds"'),
    "a nested key twice": (epochs("3\n  epochs: 30"), 'not YAML: .*duplicate key "epochs"'),
    "two documents": (more("\n---\na: 1\n"), "not YAML: .*another document"),
    "another YAML": ("%YAML 3.0\n---\na: 1\n", "not YAML: line 1: "),
    "code": (more('\nx: !!python/object/apply:os.system ["touch X"]\n'), "not YAML: .*constructor"),
    "a tag": (more("\nx: !mine 3\n"), "not YAML: .*constructor"),
    "an alias of nothing": (more("\nx: *nothing\n"), "not YAML: .*undefined alias"),
    "an alias of itself": (more("\nx: &a [*a]\n"), ENDLESS),
    "a bomb": (more(BOMB), ENDLESS),
    "deep": (more("\nx: " + "[" * 3000 + "]" * 3000), ENDLESS),
    "large": (more("#" * 10**6), "is larger than any params.yaml"),
    "a number of 5,000 digits": (epochs("9" * 5000), "not YAML: Exceeds the limit"),
    "a key of 100,000 characters": (more("\n" + "k" * 10**5 + ": 1\n"), "not YAML|k{200}"),
    "5,000 unknown keys": (more("".join(f"k{i}: 1\n" for i in range(5000))),
                           r"k0: unexpected .* \(and 4999 more\)"),
    "a key that is a number": (more("\n1: 2\n"), "1: keys should be strings"),
    "a key that is nothing": (more("\n~: 2\n"), "None: keys should be strings"),
    "a date": (epochs("2020-01-01"), "train.epochs: .*valid integer, got datetime"),
    "a date that is none": (more("\nx: 2001-13-45\n"), "not YAML: month must be in"),
    "minutes and seconds": (epochs("1:30"), "train.epochs: .*valid integer, got '1:30'"),
    "on and off": (text("flip: false", "flip: off"), "train.flip: .*valid boolean, got 'off'"),
    "a number that overflows": (text("momentum: 0.0 ", "momentum: 1.0e400 "),
                                "train.momentum: .*finite number, got inf"),
    "not UTF-8": (PARAMS.read_text().encode("utf-16"), "is no text in UTF-8"),
    "bytes": (bytes(range(256)), "is no text in UTF-8"),
}


@pytest.mark.parametrize(("content", "words"), FILES.values(), ids=FILES)
def test_a_file_that_holds_no_parameters_is_refused(content, words, tmp_path):
    path = tmp_path / "params.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert re.match(words, refusal(path))


def test_octal_numbers_are_read_as_dvc_reads_them(tmp_path):
    """PyYAML would read 8."""
    (tmp_path / "params.yaml").write_text(epochs("010"))
    assert load_params(tmp_path / "params.yaml").train.epochs == 10


@pytest.mark.parametrize("path", ["params.yaml", ".", "/dev/zero", "a" * 300, "a\0b"])
def test_a_path_without_a_file_is_refused(path):
    message = refusals.refusal(resolve.main, path)
    assert re.search("no such file; name a params.yaml|cannot be read", message)


# Names and places

MODELS = ["um", "at", "alp", "trades", "tla"]
PLACES = {
    "a shell": ({"mining.batch": "16; touch X"}, "mining.batch: .*valid integer"),
    "a model for a shell": ({"models": ["um; touch X", "at", "alp", "tla"]}, "models.0: .*pattern"),
    "a model elsewhere": ({"models": ["../um", "at", "alp", "tla"]}, "models.0: .*pattern"),
    "a long model": ({"models": ["u" * 41, "at", "alp", "tla"]}, "models.0: .*40 characters"),
    "an unknown model": ({"models": [*MODELS, "dune"]}, "'dune' is no method"),
    "a pool of at": ({"models": [*MODELS, "at-b7"]}, "'at-b7' is no method"),
    "a method": ({"methods.dune": {"lr": 0.1}}, "methods.dune: no such method"),
    "a method without values": ({"methods.alp": ...}, "methods.alp: is missing, but alp is"),
    "the pool of tla": ({"mining.batch": 100}, "mining.batch: 100 is the pool of tla-b100"),
    "an attack for a shell": ({"variants.attacks": {"pgd; touch X": 5}}, "attacks.*pattern"),
    "a config for a shell": ({"config": "params.yaml; touch X"}, "root, config: must be"),
    "a config elsewhere": ({"config": "../params.yaml"}, "root, config: must be"),
    "a root elsewhere": ({"root": "../other"}, "root, config: must be"),
    "a data set elsewhere": ({"dataset": "../../evil"}, "dataset: .*pattern"),
    "a data set at the top": ({"dataset": "/etc"}, "dataset: .*pattern"),
    "a data set in colour": ({"dataset": "\x1b[31m"}, "dataset: .*pattern"),
    "a data set of two lines": ({"dataset": "a\nb"}, "dataset: .*pattern"),
    "a long data set": ({"dataset": "a" * 41}, "dataset: .*40 characters"),
    "a folder of others": ({"dataset": "kept"}, "dataset: kept is a folder of its own"),
}


@pytest.mark.parametrize(("changes", "words"), PLACES.values(), ids=PLACES)
def test_no_name_reaches_a_shell_or_another_folder(changes, words, write_params):
    assert re.search(words, refusal(write_params(changes)))


ATTACK = {"kind": "gradient", "loss": "cross_entropy", "steps": [2], "rel_step_size": 0.1,
          "random_start": True, "restarts": 1, "momentum": "none", "decay": 0.0}
NEW = "evaluate.attacks."
ALIKE = {
    "a budget": ({NEW + "pgd-20": ATTACK}, "pgd-20_last looks like pgd_20_last"),
    "clean": ({NEW + "clean": ATTACK}, "attacks.clean: this name has a meaning"),
    "union": ({NEW + "union": ATTACK}, "attacks.union: this name has a meaning"),
    "robust": ({NEW + "robust": ATTACK}, "attacks.robust: this name has a meaning"),
    "l2": ({NEW + "l2": ATTACK}, "attacks.l2: this name has a meaning"),
    "underscores": ({NEW + "pgd_restarts": ATTACK}, "evaluate.attacks.pgd_restarts.*pattern"),
    "capitals": ({NEW + "PGD": ATTACK}, "evaluate.attacks.PGD.*pattern"),
    "a second autoattack": ({NEW + "autoattack-2": {"kind": "autoattack", "batch": 5}},
                            "there can be one attack of kind autoattack"),
}


@pytest.mark.parametrize(("changes", "words"), ALIKE.values(), ids=ALIKE)
def test_attacks_whose_outcomes_would_be_mistaken_are_refused(changes, words, write_params):
    assert re.search(words, refusal(write_params(changes)))


# What does not go together

SENSELESS = {
    "no test images": ({"data.folds": None}, "data: folds: null, but digits has no test images"),
    "a source twice": ({"ood.sources": ["noise", "noise"]}, "ood.sources: a value stands twice"),
    "the study's own images": ({"ood.sources": ["noise", "digits"]}, "what the study itself is of"),
    "an unknown source": ({"ood.sources": ["svhn"]}, "ood.sources.0: "),
    "too many images": ({"ood.images": 10**6}, "ood.images: .*less than or equal to 100000"),
    "an absurd factor": ({"detect.eps_factors": [1.0, 1e9]}, "detect.eps_factors.1: "),
    "a factor twice": ({"masking.eps_factors": [1.0, 1.0]}, "masking.eps_factors: a value stands"),
    "factors alike in print": ({"masking.eps_factors": [1.0, 1.0000001]}, "a value stands twice"),
    "an aware factor alone": ({"detect.aware.eps_factors": [2.0]}, "aware.eps_factors: not among"),
    "a seed too large": ({"seeds": [0, 2**32]}, "seeds.1: .*less than 4294967296"),
    "a drawing seed too large": ({"data.split_seed": 2**32}, "data.split_seed: .*4294967296"),
    "a sampling seed too large": ({"evaluate.sample_seed": 2**40}, "evaluate.sample_seed: "),
    "one seed": ({"seeds": [0], "evaluate.seeds": {}}, "seeds: .*at least 2"),
    "more retrieved than k": ({"neighbors.retrieved": 11}, "retrieved must not exceed k"),
    "an estimate that shrinks": ({"hop_skip.initial_evaluations": 2000},
                                 "initial_evaluations must not exceed evaluations"),
    "HopSkipJump on more": ({"hop_skip.images": 101}, "hop_skip.images must not exceed masking"),
    "a grid beyond memory": ({"masking.points": 10**5}, "masking.points: .*equal to 500"),
    "few to be mistaken": ({"neighbors.mismatch.images": 1}, "neighbors.mismatch.images: .*to 20"),
    "few to be drawn": ({"represent.images": 1}, "represent.images: .*equal to 20"),
    "radii that fall": ({"norms.l2_radii": [1.0, 0.5]}, "norms.l2_radii: the values must increase"),
    "batch norm of one": ({"model.architecture": "convnet-bn", "train.batch": 1},
                          "train.batch: 1 is too few for the batch norm of convnet-bn"),
    "widths": ({"model.widths": [1] * 101}, "model.widths: .*at most 100"),
    "a width": ({"model.widths": [10**7]}, "model.widths.0: "),
    "a learning rate": ({"methods.at.lr": 1e30}, "methods.at.lr: .*equal to 100"),
    "a pool of nothing": ({"methods.at-norm.mining_batch": 0}, "methods.at-norm.mining_batch: "),
    "a tuned method": ({"tune.space.dune": [{"mining.batch": 5}] * 8}, "tune.space.dune: has no"),
    "a tuned key": ({"tune.space.at": [{"methods.at.rate": 0.1}] * 8}, "methods.at.rate: no such"),
    "a tuned section": ({"tune.space.at": [{"methods.at": 1}] * 8}, "methods.at: no such value"),
    "another's key": ({"tune.space.at": [{"methods.alp.lr": 0.1}] * 8}, "is of another method"),
    "too few trials": ({"tune.space.at": [{"methods.at.lr": 0.1}]}, "space.at lists 1 trials"),
    "a range of one": ({"tune.space.at": {"methods.at.lr": {"low": 1.0, "high": 1.0}}},
                       "low must be below high"),
    "seeds of an attack": ({"evaluate.seeds": {"pgd": [2]}}, "evaluate.seeds.pgd must hold"),
}


@pytest.mark.parametrize(("changes", "words"), SENSELESS.values(), ids=SENSELESS)
def test_what_could_only_go_wrong_later_is_refused(changes, words, write_params):
    assert re.search(words, refusal(write_params(changes)))
