"""The plain attack that picks checkpoints, against a loop over images, restarts and steps."""

import copy

import pytest
import torch
from conftest import seeded
from torch.nn import functional as F

from tla.train.pgd import robust

EPS = 0.15


def loss_by_hand(name, logits, label):
    """Cross-entropy, or the largest wrong logit minus the true one, of one image's logits."""
    if name == "cross_entropy":
        return -logits.log_softmax(0)[label]
    wrong = torch.cat([logits[:label], logits[label + 1:]])
    return wrong.max() - logits[label]


def stays(logits_fn, image, label, start, attack, eps):
    """Whether one image is classified correctly at its start and after every step from there."""
    x_adv = start
    right = [bool(logits_fn(x_adv[None])[0].argmax() == label)]
    for _ in range(max(attack.steps)):
        point = x_adv.clone().requires_grad_()
        loss = loss_by_hand(attack.loss, logits_fn(point[None])[0], label)
        (gradient,) = torch.autograd.grad(loss, point)
        moved = x_adv + attack.rel_step_size * eps * gradient.sign()
        x_adv = torch.max(torch.min(moved, image + eps), image - eps).clamp(0, 1)
        right.append(bool(logits_fn(x_adv[None])[0].argmax() == label))
    return all(right)


def robust_by_hand(logits_fn, x, y, attacks, eps, seed):
    """All steps of all runs; random starts are drawn for those that no run before has broken."""
    generator = seeded(seed)
    alive = [i for i in range(len(x)) if logits_fn(x[i:i + 1])[0].argmax() == y[i]]
    for attack in attacks.values():
        for _ in range(attack.restarts):
            starts = x[alive]
            if attack.random_start:
                noise = torch.rand(starts.shape, generator=generator, dtype=x.dtype)
                starts = (starts + eps * (2 * noise - 1)).clamp(0, 1)
            alive = [i for i, start in zip(alive, starts, strict=True)
                     if stays(logits_fn, x[i], int(y[i]), start, attack, eps)]
    mask = torch.zeros(len(x), dtype=torch.bool)
    mask[alive] = True
    return mask


@pytest.mark.parametrize(("eps", "seed"), [(0.15, 0), (0.08, 1)])
@pytest.mark.parametrize("architecture", ["mlp", "convnet"])
@pytest.mark.parametrize("changes", [
    [{"loss": "cross_entropy"}], [{"loss": "margin", "rel_step_size": 0.1}],
    [{"steps": [1, 4], "random_start": True, "restarts": 3}],
    [{"steps": [1], "rel_step_size": 1.0}, {"loss": "margin", "random_start": True, "restarts": 2}],
    [{"random_start": True, "steps": [2]}, {"random_start": True, "steps": [12]}],
], ids=["plain", "margin", "restarts", "two attacks", "two random attacks"])
def test_robust_agrees_with_a_loop_written_by_hand(
        changes, architecture, eps, seed, networks, images, plain_attack):
    network, (x, y) = networks[architecture], images
    y = torch.where(torch.arange(len(y)) % 8 == 0, (y + 1) % 10, y)     # some are wrong from start
    attacks = {str(i): plain_attack(**change) for i, change in enumerate(changes)}

    def logits_fn(x):
        return network(x)[0]

    clean, mask = robust(logits_fn, x, y, attacks, eps=eps, generator=seeded(seed))
    assert torch.equal(clean, logits_fn(x).argmax(1) == y)
    assert torch.equal(mask, robust_by_hand(logits_fn, x, y, attacks, eps, seed))
    assert 0 < mask.sum() < clean.sum() < len(y)


def test_robust_falls_as_eps_grows(logits_fn, images, plain_attack):
    shares = []
    for eps in (0.0, 0.05, 0.15, 0.6):
        _, mask = robust(logits_fn, *images, {"pgd": plain_attack()}, eps=eps, generator=seeded())
        shares.append(mask.double().mean().item())
    clean = (logits_fn(images[0]).argmax(1) == images[1]).double().mean().item()
    assert shares[0] == clean and shares[-1] == 0
    assert sorted(set(shares), reverse=True) == shares


def test_robust_counts_an_image_that_recovers_at_the_last_step_as_broken(plain_attack):
    """Every step counts: the image is wrong halfway, at a pixel between 0.5 and 0.7."""
    def logits_fn(x):
        pixel = x.flatten(1)
        between = (pixel > 0.5) & (pixel < 0.7)
        return torch.cat([-pixel, torch.where(between, 1.0, -5.0) + 0 * pixel], 1)

    x, y = torch.full((1, 1, 1, 1), 0.4), torch.tensor([0])
    attack = plain_attack(steps=[4], rel_step_size=0.25)
    clean, mask = robust(logits_fn, x, y, {"pgd": attack}, eps=0.6, generator=seeded())
    assert logits_fn(torch.ones(1, 1, 1, 1)).argmax() == 0, "where the attack ends"
    assert clean.all() and not mask.any()


def test_robust_leaves_the_network_as_it_was(network, images, plain_attack):
    network = copy.deepcopy(network).requires_grad_(True)
    before = copy.deepcopy(network.state_dict())
    F.cross_entropy(network(images[0])[0], images[1]).backward()
    gradients = [p.grad.clone() for p in network.parameters()]
    robust(lambda x: network(x)[0], *images, {"pgd": plain_attack()}, eps=EPS, generator=seeded())
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    for parameter, gradient in zip(network.parameters(), gradients, strict=True):
        assert torch.equal(parameter.grad, gradient)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_network_is_never_asked_about_no_image(steps, plain_attack):
    """Some layers refuse an empty batch; every image is broken by the first step here."""
    def logits_fn(x):
        assert len(x), "asked about no image"
        level = x.flatten(1).mean(1)
        return torch.stack([0.8 - level, level - 0.8], 1)

    x, y = torch.full((4, 1, 2, 2), 0.9), torch.ones(4, dtype=torch.long)
    attack = plain_attack(steps=[steps], rel_step_size=1.0)
    clean, left = robust(logits_fn, x, y, {"one": attack, "two": attack}, eps=EPS,
                         generator=seeded())
    assert clean.all() and not left.any()
