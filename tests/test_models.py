"""Networks and their files: shapes, normalisation inside, seeds, and what loading refuses."""

import copy
from types import SimpleNamespace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tla.params import Model, UserError
from tla.train import checkpoints
from tla.train.checkpoints import load_model, save_model
from tla.train.models import build, convnet


def model_of(architecture, widths=(8, 6), mean=(0.3,), std=(0.4,)):
    return Model(architecture=architecture, widths=list(widths), mean=list(mean), std=list(std),
                 channels_last=False)


def random_images(n, shape, seed=0):
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def seeded_build(architecture, seed):
    return build(model_of(architecture), (1, 8, 8), 10, seed)


def same(a, b):
    return all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (1, 9, 14)], ids=str)
@pytest.mark.parametrize(("architecture", "widths"), [
    ("mlp", [7]), ("mlp", [20, 7]), ("convnet", [4, 7]), ("convnet", [4, 6, 8, 7]),
    ("convnet-bn", [4, 7]), ("convnet-bn", [4, 6, 8, 7])])
def test_forward_gives_logits_and_a_non_negative_embedding(architecture, widths, shape):
    statistics = [0.5] * shape[0]
    network = build(model_of(architecture, widths, statistics, statistics), shape, 5, seed=0)
    network = network.double()
    logits, embedding = network(random_images(3, shape))
    assert logits.shape == (3, 5) and embedding.shape == (3, 7)
    assert embedding.min() >= 0


def test_the_batch_norm_convnet_is_the_other_with_a_norm_before_each_relu():
    plain, normed = (build(model_of(name, [4, 6, 7]), (1, 8, 8), 5, seed=0)
                     for name in ("convnet", "convnet-bn"))
    kinds = [type(layer).__name__ for layer in normed.body]
    assert [kinds[i - 1] for i, kind in enumerate(kinds) if kind == "ReLU"] == [
        "BatchNorm2d", "BatchNorm2d", "BatchNorm1d"]
    assert [kind for kind in kinds if "Norm" not in kind] == [
        type(layer).__name__ for layer in plain.body]
    for layer in normed.body:
        if isinstance(layer, torch.nn.BatchNorm2d | torch.nn.BatchNorm1d):
            assert (layer.eps, layer.momentum) == (0.001, 0.1)      # authors
    weights = [p for p in normed.parameters() if p.ndim > 1]
    assert all(map(torch.equal, weights, [p for p in plain.parameters() if p.ndim > 1]))


def test_logits_are_a_linear_map_of_the_embedding(network, images):
    logits, embedding = network(images[0])
    torch.testing.assert_close(logits, embedding @ network.head.weight.T + network.head.bias)


@pytest.mark.parametrize(("architecture", "widths"), [("mlp", [20, 7]), ("convnet", [4, 7])])
def test_normalisation_is_inside_the_network(architecture, widths):
    """Pixels go in: with statistics m, s at x the network is the one without at (x - m) / s."""
    mean, std = [0.2, 0.4, 0.6], [0.5, 2.0, 0.3]
    with_statistics = build(model_of(architecture, widths, mean, std), (3, 8, 8), 5, 0).double()
    plain = model_of(architecture, widths, [0.0] * 3, [1.0] * 3)
    without = build(plain, (3, 8, 8), 5, seed=0).double()
    x = random_images(4, (3, 8, 8))
    m, s = (with_statistics.get_buffer(f"normalize.{name}") for name in ("mean", "std"))
    assert m.flatten().tolist() == pytest.approx(mean)
    assert s.flatten().tolist() == pytest.approx(std)
    torch.testing.assert_close(with_statistics(x)[0], without((x - m) / s)[0])


def test_changing_the_statistics_changes_the_output_in_closed_form(network, images):
    changed = copy.deepcopy(network)
    changed.normalize.mean += 0.1
    torch.testing.assert_close(changed(images[0] + 0.1)[0], network(images[0])[0])
    changed.normalize.std *= 2
    stretched = 2 * images[0] - network.normalize.mean + 0.1
    torch.testing.assert_close(changed(stretched)[0], network(images[0])[0])


def test_statistics_for_another_number_of_channels_are_refused():
    with pytest.raises(UserError, match="model.mean, model.std: need 3 values"):
        build(model_of("mlp"), (3, 8, 8), 5, seed=0)


@pytest.mark.parametrize("architecture", ["mlp", "convnet"])
def test_initial_weights_depend_on_the_seed_alone(architecture):
    torch.manual_seed(1)
    first = seeded_build(architecture, 5)
    torch.manual_seed(2)
    assert same(seeded_build(architecture, 5), first)
    assert not same(seeded_build(architecture, 6), first)


@pytest.mark.parametrize("architecture", ["mlp", "convnet"])
def test_building_does_not_disturb_the_global_generator(architecture):
    before = torch.get_rng_state()
    seeded_build(architecture, 5)
    assert torch.equal(torch.get_rng_state(), before)


# Files

@pytest.fixture
def saved(make_params, dataset, tmp_path):
    """A network in a file, with the parameters and the model it was saved under."""
    params = make_params({"model.widths": [12, 6], "train.stored": "float32"})
    network = build(params.model, dataset.shape, dataset.classes, seed=3)
    path, model = tmp_path / "models" / "seed-3.safetensors", "tla-b30"
    save_model(path, network, params, model, 3, dataset)
    return path, network, params, model


def refusal(path, params, model):
    with pytest.raises(UserError) as refused:
        load_model(path, params, model, 3)
    message = str(refused.value)
    assert "\n" not in message and str(path) in message
    return message


def test_a_model_survives_its_file_bit_for_bit(saved):
    path, network, params, model = saved
    loaded = load_model(path, params, model, 3)
    assert same(network, loaded)
    x = torch.rand(5, 1, 8, 8)
    assert torch.equal(loaded(x)[0], network.eval()(x)[0])


def test_the_layout_in_memory_is_that_of_the_parameters_not_of_the_file(make_params, tmp_path):
    """A channels-last network is stored as any other, and is channels-last again when loaded."""
    params = make_params({"model.architecture": "convnet", "model.widths": [4, 8, 16],
                          "model.channels_last": True, "train.stored": "float32"})
    network = build(params.model, (1, 8, 8), 10, seed=0)
    data = SimpleNamespace(shape=(1, 8, 8), classes=10)
    save_model(tmp_path / "x.safetensors", network, params, "at", 0, data)
    loaded = load_model(tmp_path / "x.safetensors", params, "at", 0)
    for ours, theirs in zip(network.parameters(), loaded.parameters(), strict=True):
        assert torch.equal(ours, theirs) and ours.stride() == theirs.stride()
    kernel = next(p for p in loaded.parameters() if p.ndim == 4)
    assert kernel.is_contiguous(memory_format=torch.channels_last)


def test_weights_stored_in_half_are_rounded_and_computed_with_in_float32(
        saved, make_params, dataset, tmp_path):
    _, network, _, _ = saved
    params = make_params({"model.widths": [12, 6], "train.stored": "float16"})
    path = tmp_path / "half.safetensors"
    save_model(path, network, params, "at", 3, dataset)
    assert {values.dtype for values in load_file(path).values()} == {torch.float16}
    loaded = load_model(path, params, "at", 3).state_dict()
    for name, values in network.state_dict().items():
        assert loaded[name].dtype == torch.float32
        assert torch.equal(loaded[name], values.half().float())
    assert not same(network, load_model(path, params, "at", 3))


def test_a_loaded_model_is_in_evaluation_mode(saved):
    path, _, params, model = saved
    assert not any(module.training for module in load_model(path, params, model, 3).modules())


def test_saving_twice_gives_the_same_bytes(saved, dataset, tmp_path):
    path, network, params, model = saved
    save_model(tmp_path / "again.safetensors", network, params, model, 3, dataset)
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_saving_leaves_no_other_file(saved):
    path, *_ = saved
    assert list(path.parent.iterdir()) == [path]


def test_another_architecture_is_refused(saved, make_params):
    path, _, _, model = saved
    others = make_params({"model.architecture": "convnet", "model.widths": [12, 6]})
    message = refusal(path, others, model)
    assert "mlp" in message and "convnet" in message


@pytest.mark.parametrize(("key", "then", "now"), [
    ("train.batch", 64, 32), ("attack.eps", 0.15, 0.3), ("data.split_seed", 0, 1),
    ("model.widths", [12, 6], [12, 7]), ("attack.rel_step_size", 0.25, 0.125),
    ("train.selection.pgd.restarts", 2, 3), ("train.milestones", [], [4])])
def test_a_changed_parameter_is_named_with_both_values(key, then, now, saved, make_params):
    path, _, _, model = saved
    message = refusal(path, make_params({"model.widths": [12, 6], key: now}), model)
    assert f"{key} = {then}" in message and str(now) in message.split(str(then), 1)[1]


def test_a_changed_weight_of_the_method_is_named(saved, make_params):
    path, _, _, model = saved
    others = make_params({"model.widths": [12, 6], "methods.tla.lambda1": 0.25})
    message = refusal(path, others, model)
    assert "lambda1 = 2.0" in message and "0.25" in message


def test_a_parameter_of_another_method_does_not_matter(saved, make_params):
    path, network, _, model = saved
    params = make_params({"model.widths": [12, 6], "train.stored": "float32",
                          "methods.alp.weight": 9.0, "evaluate.batch": 7, "mining.batch": 50})
    assert same(load_model(path, params, model, 3), network)


@pytest.mark.parametrize("name", ["tla-b100", "tla", "at"])
def test_a_file_of_another_model_is_refused(name, saved):
    path, _, params, _ = saved
    refusal(path, params, name)


def test_a_missing_file_is_refused(saved):
    path, _, params, model = saved
    refusal(path.with_name("seed-4.safetensors"), params, model)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 9, 14)])
def test_the_first_convolution_by_blocks_is_a_4x4_convolution_of_stride_2(shape):
    body = convnet(shape, [5, 7]).double()
    blocks = body[2].weight                             # [5, 4c, 2, 2], channels in blocks of 2x2
    kernel = blocks.view(5, shape[0], 2, 2, 2, 2).permute(0, 1, 4, 2, 5, 3)
    kernel = kernel.reshape(5, shape[0], 4, 4)
    x = torch.rand(2, *shape, dtype=torch.float64)
    expected = torch.nn.functional.conv2d(x, kernel, body[2].bias, 2, 1)
    torch.testing.assert_close(body[:3](x), expected)


def test_a_file_under_the_name_of_another_seed_is_refused(saved):
    path, _, params, model = saved
    with pytest.raises(UserError, match="seed = 3, today it is 2"):
        load_model(path, params, model, 2)


def test_a_seed_that_had_another_fold_is_refused(saved, make_params):
    """Today's test images were among those that it was trained on."""
    path, _, _, model = saved
    others = make_params({"model.widths": [12, 6], "seeds": [1, 2, 3], "tune.seeds": [1],
                          "evaluate.seeds": {}})
    assert "position = 3, today it is 2" in refusal(path, others, model)


def test_a_file_of_other_training_code_is_refused(saved, monkeypatch):
    path, _, params, model = saved
    monkeypatch.setattr(checkpoints, "training_code", lambda *_: "other")
    assert "code = " in refusal(path, params, model)


def nan(weights):
    return weights | {"head.bias": weights["head.bias"] * float("nan")}


def narrow(weights):
    return weights | {"head.weight": weights["head.weight"][:, :4].clone()}


@pytest.mark.parametrize("change", [nan, narrow, dict], ids=lambda change: change.__name__)
def test_weights_that_were_replaced_are_refused(change, saved):
    """Also where what the file says of them was copied."""
    path, _, params, model = saved
    with safe_open(path, "pt") as file:
        about = file.metadata()
    save_file(change(load_file(path)), path, about if change in (nan, narrow) else None)
    assert "is damaged, or no file of this project; run dvc repro" in refusal(path, params, model)


def test_weights_that_are_not_finite_are_refused(saved, dataset):
    path, network, params, model = saved
    network.head.bias.data[2] = float("nan")
    save_model(path, network, params, model, 3, dataset)
    assert "not finite: head.bias" in refusal(path, params, model)


@pytest.mark.parametrize("length", [0, 7, 100, -1])
def test_a_file_cut_short_is_refused(length, saved):
    path, _, params, model = saved
    path.write_bytes(path.read_bytes()[:length])
    assert "is damaged" in refusal(path, params, model)
