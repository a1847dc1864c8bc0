"""Models from outside: scored as ours are, refused in one line, resumed, and their images out."""

import copy
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from small_study import NAMES

import evaluate
import represent
import score
from tla.files import read_rows, write_table
from tla.measure import scored
from tla.measure.external import load_external, load_ours
from tla.measure.referee import check
from tla.measure.stage import Stage
from tla.params import UserError
from tla.report.intact import seal, table_path
from tla.report.standing import masked_models
from tla.train.checkpoints import save_model
from tla.train.models import network_of
from tla.workers import Opened

ROOT = Path(__file__).parents[1]
STAGES = ROOT / "stages"
OURS = "data/digits/models/at/seed-1.safetensors"
OUT = Path("out")
STRANGER = '''
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, classes=10, pixels=64):
        super().__init__()
        self.first, self.second = nn.Linear(pixels, 24), nn.Linear(24, 16)
        self.last, self.noise = nn.Linear(16, classes), nn.Dropout()

    def embed(self, x):
        x = (x - 0.3) / 0.4
        return self.second(self.first(x.flatten(1)).relu()).relu()

    def forward(self, x):
        return self.last(self.embed(x))

def build():
    return Net()
'''
LAYERS = {"body.1": "first", "body.3": "second", "head": "last"}


@pytest.fixture
def study(study):
    study.train(study.params())
    return study


@pytest.fixture
def stranger(study):
    """Writes a Python file, and ours under another's names of layers; says how to name them."""
    def write(more=""):
        Path("mymodel.py").write_text(STRANGER + more)
        ours = load_file(OURS)
        weights = {}
        for name, values in ours.items():
            layer, _, kind = name.rpartition(".")
            if layer in LAYERS:
                weights[f"{LAYERS[layer]}.{kind}"] = values
        save_file(weights, "w.safetensors")
        torch.save(weights, "w.pt")
        return ["--model", "mymodel.py:build", "--weights", "w.safetensors"]
    return write


def run(arguments, out=OUT):
    score.main([*arguments, "--out", str(out)])


def written(folder):
    """The content of every file under a folder, by its place there."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def results(folder):
    """What is written but for what is kept, whose files have no order of metadata."""
    return {name: content for name, content in written(folder).items()
            if not name.startswith("kept/")}


# The same rows

def exported(form):
    """Ours, in another form; as --model names it."""
    network, x = load_ours(OURS), torch.rand(3, 1, 8, 8)
    if form == "at.pt2":
        batch = torch.export.Dim("batch")
        torch.export.save(torch.export.export(network, (x,), dynamic_shapes=({0: batch},)), form)
    elif form == "at.pt":
        torch.jit.trace(network, x).save(form)
    else:
        return OURS
    return form


def assert_same(found, expected):
    """Rows of one seed; beside other seeds columns have another order, and gaps."""
    pd.testing.assert_frame_equal(found, expected.reset_index(drop=True), check_dtype=False,
                                  check_like=True)


@pytest.mark.filterwarnings("ignore::FutureWarning")     # TorchScript ages
@pytest.mark.parametrize("form", ["at.pt2", "at.pt", "ours"])
def test_a_model_of_ours_in_any_form_gets_the_rows_of_the_study(form, study):
    evaluate.main(["params.yaml", "--model", "at"])
    represent.main(["params.yaml", "--model", "at"])
    run(["--model", exported(form)])
    expected = read_rows(Path("data/digits/rows/at/suite.csv.gz")).query("seed == 1")
    assert_same(read_rows(OUT / "suite.csv.gz"), expected)
    masking = read_rows(Path("data/digits/rows/at/masking.csv.gz"))
    assert read_rows(OUT / "masking.csv.gz").equals(masking)
    for name in ("detect", "neighbors"):
        rows = read_rows(Path(f"data/digits/embedding/at/{name}.csv.gz")).query("seed == 1")
        assert read_rows(OUT / f"{name}.csv.gz").equals(rows.reset_index(drop=True))


def test_a_python_file_with_weights_gets_the_rows_of_the_study(study, stranger):
    """Its layers have other names, and it returns logits alone."""
    evaluate.main(["params.yaml", "--model", "at"])
    run(stranger())
    rows = read_rows(Path("data/digits/rows/at/suite.csv.gz")).query("seed == 1")
    assert_same(read_rows(OUT / "suite.csv.gz"), rows)
    assert not (OUT / "detect.csv.gz").exists()
    assert "Detection and retrieval are left out" in (OUT / "report.md").read_text()


def test_weights_are_read_from_a_state_dict_too(study, stranger):
    command = stranger()
    first, second = (load_external(command[1], file) for file in (command[3], "w.pt"))
    x = torch.rand(5, 1, 8, 8)
    assert first.network(x).equal(second.network(x))
    assert not first.network(x).equal(load_external(command[1], None).network(x))


def test_random_weights_are_the_same_at_every_call(study, stranger):
    stranger()
    first, second = (load_external("mymodel.py:build", None) for _ in range(2))
    assert first.digest == second.digest


def test_another_source_or_other_weights_are_another_model(study, stranger):
    stranger()
    before = load_external("mymodel.py:build", "w.safetensors").digest
    save_file(load_file("w.safetensors") | {"last.bias": torch.zeros(10)}, "other.safetensors")
    assert load_external("mymodel.py:build", "other.safetensors").digest != before
    stranger("\n# edited\n")
    assert load_external("mymodel.py:build", "w.safetensors").digest != before


def test_what_a_python_file_imports_from_beside_it_is_part_of_the_model(study, stranger):
    stranger()
    Path("layers_of_mine.py").write_text("SCALE = 1\n")
    Path("mymodel.py").write_text("from layers_of_mine import SCALE\n" + STRANGER)
    before = load_external("mymodel.py:build", None).digest
    Path("layers_of_mine.py").write_text("SCALE = 2\n")
    del sys.modules["layers_of_mine"]
    assert load_external("mymodel.py:build", None).digest != before


TORCHVISION = '''
from torch import nn
from torch.nn import functional as F
from torchvision.models import resnet18

class Adapted(nn.Module):
    def __init__(self):
        super().__init__()
        self.network = resnet18(num_classes=10)

    def forward(self, x):
        return self.network(F.interpolate(x, 32, mode="bilinear").expand(-1, 3, -1, -1))

def build():
    return Adapted()
'''


def test_a_torchvision_network_on_few_images(study):
    Path("theirs.py").write_text(TORCHVISION)
    run(["--model", "theirs.py:build", "--images", "2"])
    rows = read_rows(OUT / "suite.csv.gz")
    assert len(rows) == 2 and rows.robust.notna().all()
    assert rows.idx.tolist() == study.stage().test(1, 2).idx.tolist()


def test_a_scored_model_travels_as_what_was_read_for_it(study, stranger):
    """To a process of another GPU, or another machine: neither network nor images."""
    stranger()
    opened = Opened(load_external, "mymodel.py:build", "w.safetensors")
    stage = scored.Scored(study.params(), "mine", opened, 7, OUT, save=False)
    packed = pickle.dumps(stage)
    there = pickle.loads(packed)
    assert len(packed) < 50_000 and there.digest("mine", 1) == stage.digest("mine", 1)
    assert there.test(1, None).idx.equal(stage.test(1, 7).idx)


# Refusals

def refusal(arguments):
    """The one line that refuses them; nothing is written."""
    before = written(Path())
    with pytest.raises(UserError) as refused:
        run(arguments)
    after = {name for name in written(Path()) if "__pycache__" not in name}
    assert after <= set(before) and not OUT.exists()
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 400
    return str(refused.value)


@pytest.mark.parametrize(("change", "words"), [
    ("lambda z: z.softmax(1)", "returned probabilities"),
    ("lambda z: z * float('nan')", "logits that are not finite"),
    ("lambda z: z[:, :7]", r"logits of shape \(20, 7\), not \(20, 10\)"),
    ("lambda z: z + torch.rand_like(z)", "differently when asked again"),
    ("lambda z: z - z.mean(0)", "other images are beside"),
    ("lambda z: {'logits': z}", "returned a dict"),
    ("lambda z: z.detach()", "no gradient with respect to pixels"),
    ("lambda z: (z - z.detach()).sqrt() + z", "gradient that is not finite"),
    ("lambda z: (z, z[0])", r"embedding of shape \(10,\)"),
    ("lambda z: z.nothing", "AttributeError")], ids=str)
def test_a_model_that_is_unfit_is_refused_in_one_line(change, words, stranger):
    command = stranger(f"""
class Changed(Net):
    def forward(self, x):
        return ({change})(super().forward(x))

def build():
    return Changed()
""")
    refused = refusal([*command, "--images", "20"])
    assert refused.startswith("mymodel.py:build: the model ")
    assert re.search(words, refused), refused


@pytest.mark.parametrize(("call", "words"), [
    ("Net(classes=7)", r"shape \(40, 7\), not \(40, 10\)"),
    ("Net(pixels=784)", "1 and 40 images of 1 x 8 x 8 pixels: RuntimeError: .*mat1 and mat2"),
    ("Net().double()", "RuntimeError")])
def test_a_network_for_other_classes_or_images_is_refused_in_one_line(call, words, stranger):
    stranger(f"\ndef build():\n    return {call}\n")
    assert re.search(words, refusal(["--model", "mymodel.py:build"]))


def test_weights_with_nan_are_refused_by_their_layer(stranger):
    command = stranger()
    weights = load_file("w.safetensors")
    weights["second.weight"][3, 4] = torch.nan
    save_file(weights, "w.safetensors")
    assert refusal(command) == "w.safetensors: weights that are not finite: second.weight"


def test_an_exported_program_for_one_number_of_images_is_refused(study):
    torch.export.save(torch.export.export(load_ours(OURS), (torch.rand(3, 1, 8, 8),)), "at.pt2")
    assert "does not answer on 1 and 40 images" in refusal(["--model", "at.pt2"])


@pytest.mark.parametrize(("arguments", "said"), [
    (["--model", "absent.py:build"], "absent.py: no such file"),
    (["--model", "absent.pt2"], "absent.pt2: no such file"),
    (["--model", "mymodel.py:make"], "mymodel.py: has no function 'make'"),
    (["--model", "mymodel.py"], "mymodel.py: has no function ''"),
    (["--model", "mymodel.py:torch"], "mymodel.py: has no function 'torch'"),
    (["--model", "mymodel.py:number"], "mymodel.py:number: returned a int"),
    (["--model", "mymodel.py:fails"], "mymodel.py:fails: failed: KeyError: 'why'"),
    (["--model", "broken.py:build"], "broken.py: cannot be run: SyntaxError"),
    (["--model", "broken.pt"], "broken.pt: is no TorchScript program"),
    (["--model", "broken.pt2"], "broken.pt2: is no exported program"),
    (["--model", "w.safetensors"], "w.safetensors: is damaged, or no file of this project; weig"),
    (["--model", "w.onnx"], "--model: 'w.onnx' is none of these"), (["--model", ""], "--model: ''"),
    (["--model", "mymodel.py:build", "--weights", "absent.pt"], "absent.pt: no such file"),
    (["--model", "mymodel.py:build", "--weights", OURS], f"{OURS}: does not fit mymodel.py:build"),
    (["--model", "mymodel.py:build", "--weights", "broken.pt"], "broken.pt: holds no state dict"),
    (["--model", "mymodel.py:build", "--weights", "code.pt"], "code.pt: holds no state dict"),
    (["--model", "mymodel.py:build", "--weights", "number.pt"], "number.pt: does not fit"),
    (["--model", "mymodel.py:build", "--weights", "broken.safetensors"],
     "broken.safetensors: is no safetensors file"),
    (["--model", OURS, "--weights", "w.pt"], "--weights: "),
    (["--model", OURS, "--images", "0"], "--images: '0' is no number of images"),
    (["--model", OURS, "--images", "few"], "--images: 'few'"),
    (["--model", OURS, "--device", "tpu"], "--device: 'tpu' is neither"),
    (["--model", OURS, "--study", "absent.yaml"], "absent.yaml: no such file"),
    (["--model", OURS.replace("seed-1", "seed-0")],
     f"{OURS.replace('seed-1', 'seed-0')}: was trained with seed 0, on test images of seed 1")])
def test_bad_input_is_refused_in_one_line_and_writes_nothing(arguments, said, stranger):
    stranger("\nnumber = lambda: 3\n\ndef fails():\n    raise KeyError('why')\n")
    for name in ("broken.py", "broken.pt", "broken.pt2", "broken.safetensors"):
        Path(name).write_text("no (such thing")
    torch.save(Path("mymodel.py"), "code.pt")       # a class, which weights_only does not read
    torch.save(3, "number.pt")
    assert refusal(arguments).startswith(said)


def test_a_gpu_that_is_not_there_is_refused_in_one_line(study, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "torch sees no GPU here" in refusal(["--model", OURS, "--device", "cuda"])


def test_a_gpu_is_not_seen_where_the_cpu_was_asked_for(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    score.choose_device("cpu")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""


def test_a_refusal_is_one_line_on_the_terminal_and_exit_status_1(stranger):
    command = [*stranger(), "--weights", "absent.pt"]
    done = subprocess.run([sys.executable, STAGES / "score.py", *command], capture_output=True,
                          text=True)
    assert done.returncode == 1 and done.stderr == "absent.pt: no such file\n"
    assert done.stdout == ""


# Resumed

def test_an_interrupted_run_goes_on_and_gives_the_same_bytes(stranger, monkeypatch):
    command = [*stranger(), "--images", "9", "--save"]
    run(command, Path("whole"))
    measured, kept = [], scored.kept

    def watched(path, key, function):
        def stopped():
            if path.name == "images-suite-pgd.safetensors" and len(measured) < 9:
                raise KeyboardInterrupt
            measured.append(path.stem)
            return function()
        return kept(path, key, stopped)

    monkeypatch.setattr(scored, "kept", watched)
    with pytest.raises(KeyboardInterrupt):
        run(command)
    assert {path.name for path in OUT.iterdir()} == {"kept"}, "nothing half-written"
    before = list(measured)
    assert before
    measured += [""] * 9
    run(command)
    after = measured[len(before) + 9:]
    assert after and not set(before) & set(after)
    assert results(OUT) == results(Path("whole"))
    del measured[:]
    measured += [""] * 9
    run(command)
    assert measured == [""] * 9, "all was kept"


def test_it_writes_to_its_folder_alone(stranger):
    command = [*stranger(), "--images", "5"]
    before = {name: written(Path(name)) for name in ("data", "reports") if Path(name).exists()}
    run(command)
    assert before == {name: written(Path(name)) for name in ("data", "reports")
                      if Path(name).exists()}


# Images

def test_saved_images_are_those_that_the_rows_are_about_and_pass_the_referee(study):
    run(["--model", OURS, "--save", "--images", "30"])
    saved = study.stage()
    rows, network = read_rows(OUT / "suite.csv.gz").set_index("idx"), load_ours(OURS)
    files = sorted(path.stem for path in (OUT / "adversarial").iterdir())
    assert files == sorted(saved.params.evaluate.attacks)
    for name in files:
        found = load_file(OUT / "adversarial" / f"{name}.safetensors")
        assert sorted(found) == ["idx", "label", "prediction", "x"]
        assert len(found["x"]) == min(30, saved.params.evaluate.images.get(name, 30))
        assert found["x"].dtype == torch.float32
        of = rows.loc[found["idx"].tolist()]
        change = check(saved.data.x[found["idx"]], found["x"], saved.params.attack.eps)
        assert change == pytest.approx(of[f"{name}_linf"].to_numpy(), abs=1e-7)
        assert found["label"].tolist() == of.label.tolist()
        assert found["prediction"].tolist() == of[f"{name}_pred"].tolist()
        assert network(found["x"])[0].argmax(1).equal(found["prediction"])
        with safe_open(OUT / "adversarial" / f"{name}.safetensors", "pt") as file:
            about = json.loads(file.metadata()["about"])
        assert about == {"attack": name, "eps": saved.params.attack.eps, "model": OURS,
                         "pixels": scored.PIXELS, "study": "digits"}
    assert scored.PIXELS in (OUT / "report.md").read_text()


@pytest.mark.parametrize(("change", "words"), [
    (lambda x: x[0].add_(0.1).clamp_(0, 1), "more than eps"),
    (lambda x: x[0, 0, 0].fill_(-0.1), "leave"),
    (lambda x: x.fill_(torch.nan), "not finite"), (None, "other classes than those written")])
def test_what_was_written_is_what_is_checked(change, words, study, monkeypatch):
    """A file that is altered on its way to the disk is refused and does not stay."""
    stage = study.stage()
    split, network = stage.test(1, 20), stage.network("at", 1)
    with torch.no_grad():
        prediction = network(split.x)[0].argmax(1)
    write = scored.save_file

    def altering(tensors, path, about):
        if change is None:
            tensors["prediction"] = (tensors["prediction"] + 1) % 10
        else:
            change(tensors["x"])
        write(tensors, path, about)

    monkeypatch.setattr(scored, "save_file", altering)
    path = Path("made.safetensors")
    with pytest.raises(ValueError, match=words):
        scored.write_images(path, network, split, {"x": split.x.clone(), "prediction": prediction},
                            eps=0.05, batch=7, about={})
    assert not list(Path().glob("made.safetensors*"))


# What is said

def test_the_table_sets_it_among_the_models_of_the_study(study, capsys):
    for model in ("um", "at"):
        evaluate.main(["params.yaml", "--model", model])
    run(["--model", OURS])
    printed = capsys.readouterr().out
    assert printed.endswith((OUT / "report.md").read_text() + "\n")
    lines = [line for line in printed.splitlines() if line.startswith("| ")][:4]
    assert "→ " + OURS in "".join(lines[1:])
    heads = [cell.strip() for cell in lines[0].split("|")]
    robust = [float(line.split("|")[heads.index("robust")]) for line in lines[1:]]
    assert robust == sorted(robust, reverse=True)
    own = next(line for line in lines if "→" in line).split("|")
    at = next(line for line in lines if line.startswith("| AT")).split("|")
    column = heads.index("robust")
    assert own[column] == at[column], "over the same images of the same seed"


def test_without_the_models_of_the_study_one_sign_is_left_out_and_said_to_be(stranger):
    command = [*stranger(), "--images", "5"]
    shutil.rmtree("data/digits/models")
    run(command)
    report = (OUT / "report.md").read_text()
    assert "Not looked for: whether images made on other networks" in report
    assert "| transfer |" not in report and "| square |" in report
    assert not (OUT / "transfer.csv.gz").exists()


def test_the_flag_of_masking_stands_in_its_table_alone_and_a_sentence_elsewhere(stranger):
    run([*stranger(), "--images", "5"])
    before, _, after = (OUT / "report.md").read_text().partition("## Signs of gradient masking")
    assert "⚑" not in before and "*gradient masking*, gradients that mislead attacks" in before
    flagged = "⚑" in after
    assert ("this model shows no sign of it" in before) != flagged
    assert "Of the study's" not in before, "there none was measured"


def test_models_of_the_study_that_show_a_sign_are_named_where_they_were_measured(
        params, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert masked_models(params) is None
    table = pd.DataFrame({"model": ["um", "at"], "flag_square": [False, True]})
    write_table(table_path(params, "masking"), table)
    seal(table_path(params, "masking").parent)
    assert masked_models(params) == ["AT"]


def test_masked_gradients_are_flagged(stranger):
    """Logits times ten thousand: cross-entropy has no gradient left."""
    command = stranger("""
class Masked(Net):
    def forward(self, x):
        return 1e4 * super().forward(x)

def build():
    return Masked()
""")
    run([*command, "--images", "20"])
    report = (OUT / "report.md").read_text()
    assert "**this model shows a sign of it**, so *robust* says too" in report
    assert any(line.startswith("| cw ") and "⚑" in line for line in report.splitlines())


# Ours from outside

def test_a_model_of_ours_is_loaded_from_its_file_alone(study):
    network, expected = load_ours(OURS), Stage(study.params()).network("at", 1)
    x = torch.rand(4, 1, 8, 8)
    assert network(x)[0].equal(expected(x)[0]) and not network.training
    assert copy.deepcopy(network)(x)[1].equal(expected(x)[1])


def test_a_stochastic_model_of_ours_is_loaded_and_not_scored(study, dataset):
    params = study.params({"models": [*NAMES, "vib"]})
    network, path = network_of(params, "vib", (1, 8, 8), 10, seed=3).eval(), "vib.safetensors"
    save_model(Path(path), network, params, "vib", 1, dataset)
    loaded, x = load_ours(path), torch.rand(4, 1, 8, 8)
    assert loaded.stochastic and not loaded.training
    assert torch.equal(loaded(x)[0], network(x)[0])
    assert refusal(["--model", path]).startswith(f"{path}: draws its answers")


@pytest.mark.slow
def test_the_docs_load_a_model_of_ours_from_outside_the_repository(tmp_path):
    """Its lines, word by word, against a clone of this repository."""
    outside, clone = tmp_path / "outside", tmp_path / "clone"
    outside.mkdir()
    subprocess.run(["git", "clone", "-q", ROOT, clone], check=True)
    section = (ROOT / "docs" / "models.md").read_text().partition("## Loading ours")[2]
    shell = re.search(r"```sh\n(.*?)```", section, re.S)[1]
    python = re.search(r"```python\n(.*?)```", section, re.S)[1]
    read = re.search(r"`(dvc\.api\..*?)`", section)
    subprocess.run(shell.replace("REPO", str(clone)), shell=True, cwd=outside, check=True)
    again = f"import dvc.api\nfile = {read[1]}".replace("REPO", str(clone))
    check_file = "assert file == open('seed-1.safetensors', 'rb').read()"
    check_image = "assert 0 < (x_adv - x).abs().max() <= 0.15 + 1e-6"
    code = "\n".join([python, check_image, again, check_file])
    subprocess.run([sys.executable, "-c", code], cwd=outside, check=True)
