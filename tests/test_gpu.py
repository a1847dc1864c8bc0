"""What only a GPU shows; skipped where there is none."""

import pytest
import torch

from tla.measure.engine import Search, run_attack
from tla.measure.precision import search_of
from tla.params import Attack, Precision
from tla.train.training import Trainer

pytestmark = [pytest.mark.gpu,
              pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


def attack_of(steps, **changes):
    numbers = {"kind": "gradient", "loss": "cross_entropy", "steps": steps, "rel_step_size": 0.25,
               "random_start": False, "restarts": 1, "momentum": "none", "decay": 0.0}
    return Attack(**numbers | changes)


@pytest.mark.parametrize("convention", ["worst", "last"])
def test_outcomes_are_those_of_the_cpu(convention, networks, images):
    """In float64, where a sign of the gradient rarely hangs on the last bit."""
    found = []
    for device in ("cpu", "cuda"):
        network = networks["convnet"].to(device)
        x, y = (part.to(device) for part in images)
        generator = torch.Generator(device).manual_seed(0)
        result = run_attack(lambda part, net=network: net(part)[0], x, y, attack_of([5, 60]),
                            eps=0.08, convention=convention, generator=generator)
        found.append(result.worst.cpu())
    networks["convnet"].cpu()
    assert (found[0] != found[1]).float().mean() <= 0.02


def test_the_device_is_not_waited_for_between_two_looks(networks, images):
    """Fourteen steps, and not one synchronisation: CUDA raises an error at the first."""
    network = networks["mlp"].cuda()
    x, y = (part.cuda() for part in images)
    generator = torch.Generator("cuda").manual_seed(0)
    calls = []

    def logits_fn(part):
        calls.append(len(calls))
        torch.cuda.set_sync_debug_mode("error" if 1 < len(calls) <= 15 else "default")
        return network(part)[0]

    try:
        run_attack(logits_fn, x, y, attack_of([40]), eps=0.08, convention="last",
                   generator=generator)
    finally:
        torch.cuda.set_sync_debug_mode("default")
        networks["mlp"].cpu()
    assert len(calls) > 15


def test_a_search_in_bfloat16_runs_on_the_device(networks, images):
    network = networks["convnet"].float().cuda()
    x, y = images[0].float().cuda(), images[1].cuda()
    search = search_of(network, Precision("bfloat16", 3))
    assert isinstance(search, Search)
    result = run_attack(lambda part: network(part)[0], x, y, attack_of([20]), eps=0.08,
                        convention="worst", generator=torch.Generator("cuda"), search=search)
    networks["convnet"].double().cpu()
    assert result.worst.is_cuda and not result.worst.all()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("model", ["at", "tla"])
def test_a_training_step_runs_on_the_device(model, precision, make_params, dataset):
    params = make_params({"train.precision": precision, "mining.batch": 30})
    dataset.x, dataset.y = dataset.x.cuda(), dataset.y.cuda()
    trainer = Trainer(params, model, 0, 0, dataset)
    trainer.epoch()
    assert all(value.is_cuda for value in trainer.network.state_dict().values())
