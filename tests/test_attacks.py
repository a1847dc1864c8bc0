"""Gradient attacks: closed form, invariants, monotonicity, agreement with public libraries."""

import copy
import dataclasses

import pytest
import torch
from conftest import PARAMS, seeded
from pydantic import ValidationError
from torch.nn import functional as F

from tla.measure.engine import least_likely, margin_50, run_attack
from tla.params import Attack, load_params
from tla.train.pgd import cross_entropy, input_gradient, margin, pgd_linf, random_start, robust

EPS = 0.15
SUITE = {name: attack for name, attack in load_params(PARAMS).evaluate.attacks.items()
         if isinstance(attack, Attack)}
NAMES = ["pgd_linf", *SUITE]


def known_attack(name, **changes):
    """An attack of params.yaml, its budgets capped to keep this quick, with fields changed."""
    attack = SUITE[name]
    capped = sorted({min(steps, 40) for steps in attack.steps})
    short = {"steps": capped, "restarts": min(attack.restarts, 3)}
    return dataclasses.replace(attack, **short | changes)


def perturb(name, logits_fn, x, y, *, eps=EPS, seed=0, **changes):
    """Adversarial images of an attack; pgd_linf is the plain loop from a random start."""
    if name == "pgd_linf":
        start = random_start(x, eps, seeded(seed)) if changes.get("random_start", True) else x
        return pgd_linf(logits_fn, x, y, eps=eps, steps=changes.get("steps", [10])[-1],
                        step_size=changes.get("rel_step_size", 0.13) * eps, loss=cross_entropy,
                        start=start)
    return run_attack(logits_fn, x, y, known_attack(name, **changes), eps=eps, convention="last",
                      generator=seeded(seed)).x_adv


# Closed form

def linear_problem():
    """A two-class linear model, and points too far from 0 and 1 for the box to be active."""
    generator = seeded(3)
    weight = torch.randn(2, 12, generator=generator, dtype=torch.float64)
    x = 0.3 + 0.4 * torch.rand(200, 1, 3, 4, generator=generator, dtype=torch.float64)
    centre = (x.flatten(1) @ (weight[1] - weight[0])).mean()
    bias = torch.tensor([0.0, -centre], dtype=torch.float64)

    def logits_fn(images):
        return images.flatten(1) @ weight.T + bias

    y = torch.randint(0, 2, (200,), generator=generator)
    return logits_fn, x, y, (weight[1] - weight[0]).abs().sum()


@pytest.mark.parametrize("convention", ["last", "worst"])
@pytest.mark.parametrize("loss", ["cross_entropy", "margin", "margin_50"])
@pytest.mark.parametrize(("steps", "share", "random"), [
    (1, 1.0, False), (9, 0.25, False), (9, 0.25, True)])
def test_linear_model_survives_exactly_where_margin_exceeds_eps_times_l1_norm(
        plain_attack, loss, steps, share, random, convention):
    logits_fn, x, y, norm = linear_problem()
    eps = 0.03
    slack = -margin(logits_fn(x), y) - eps * norm
    assert slack.abs().min() > 1e-9, "a point on the boundary would be decided by rounding"
    survives = slack > 0
    assert 0.1 < survives.double().mean() < 0.9
    attack = plain_attack(loss=loss, steps=[steps], rel_step_size=share, random_start=random)
    result = run_attack(logits_fn, x, y, attack, eps=eps, convention=convention,
                        generator=seeded())
    assert torch.equal(result.worst[0], survives)


def test_plain_loop_reaches_the_corner_that_is_optimal_for_a_linear_model():
    logits_fn, x, y, norm = linear_problem()
    x_adv = pgd_linf(logits_fn, x, y, eps=0.1, step_size=0.03, steps=5, loss=margin, start=x)
    rise = margin(logits_fn(x_adv), y) - margin(logits_fn(x), y)
    torch.testing.assert_close(rise, (0.1 * norm).expand(200), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["fgsm-least-likely", "ifgsm-least-likely"])
def test_least_likely_attack_minimises_cross_entropy_at_the_target_of_a_linear_model(name):
    """With two classes the target is the other one, so the best corner is again sign(w2 - w1)."""
    logits_fn, x, _, norm = linear_problem()
    predicted = logits_fn(x).argmax(1)
    x_adv = perturb(name, logits_fn, x, predicted, eps=0.1)
    rise = margin(logits_fn(x_adv), predicted) - margin(logits_fn(x), predicted)
    torch.testing.assert_close(rise, (0.1 * norm).expand(200), rtol=0, atol=1e-12)


def test_least_likely_is_the_class_of_the_smallest_logit():
    logits = torch.tensor([[3.0, -1.0, 0.0], [0.0, 5.0, -7.0]])
    assert least_likely(lambda x: logits, torch.zeros(2, 1, 1, 1)).tolist() == [1, 2]


# Losses of the attacks

def test_margin_is_positive_exactly_where_the_wrong_class_leads():
    logits = torch.tensor([[2.0, 5.0, -1.0], [2.0, 5.0, -1.0], [-3.0, -1.0, -2.0]])
    assert margin(logits, torch.tensor([0, 1, 1])).tolist() == [3.0, -3.0, -1.0]


def test_margin_50_is_flat_beyond_a_confidence_of_fifty():
    logits = torch.tensor([[0.0, 49.0], [0.0, 50.0], [0.0, 80.0], [10.0, 0.0]])
    assert margin_50(logits, torch.zeros(4, dtype=torch.long)).tolist() == [-1.0, 0.0, 0.0, -60.0]


def test_input_gradient_is_that_of_each_example_alone(logits_fn, images):
    x, y = images[0][:5], images[1][:5]
    together = input_gradient(logits_fn, x, y, cross_entropy)[1]
    for i in range(5):
        alone = x[i:i + 1].clone().requires_grad_()
        F.cross_entropy(logits_fn(alone), y[i:i + 1]).backward()
        torch.testing.assert_close(together[i:i + 1], alone.grad)


def test_random_start_is_uniform_in_the_ball():
    x = torch.full((20000, 1, 1, 1), 0.5, dtype=torch.float64)
    noise = (random_start(x, 0.2, seeded()) - x).flatten()
    assert -0.2 <= noise.min() < -0.199 and 0.199 < noise.max() <= 0.2
    # Four standard errors: of the mean (0.2 / sqrt 3 / sqrt 20000), of the share below a quarter.
    assert abs(noise.mean()) < 0.0033
    assert abs((noise < -0.1).double().mean() - 0.25) < 0.0123


def test_random_start_is_clipped_to_the_pixel_range():
    x = torch.tensor([0.0, 1.0], dtype=torch.float64).repeat(100).view(-1, 1, 1, 1)
    start = random_start(x, 0.2, seeded())
    assert start.min() == 0 and start.max() == 1


# Invariants over all attacks

@pytest.mark.parametrize("name", NAMES)
def test_stays_in_the_eps_ball_from_a_random_start_with_restarts(name, logits_fn, images):
    x_adv = perturb(name, logits_fn, *images, random_start=True, restarts=2)
    assert (x_adv - images[0]).abs().max() <= EPS + 1e-15


@pytest.mark.parametrize("name", NAMES)
def test_stays_in_the_pixel_range_from_a_random_start_with_restarts(name, logits_fn, images):
    x_adv = perturb(name, logits_fn, *images, eps=0.6, random_start=True, restarts=2)
    assert x_adv.min() >= 0 and x_adv.max() <= 1


@pytest.mark.parametrize("name", NAMES)
def test_eps_zero_returns_the_images_bit_for_bit(name, logits_fn, images):
    x_adv = perturb(name, logits_fn, *images, eps=0.0, random_start=True, restarts=2)
    assert torch.equal(x_adv, images[0])


@pytest.mark.parametrize("eps", [0.075, 0.15])
@pytest.mark.parametrize("name", NAMES)
def test_too_few_steps_stay_off_the_edge_by_their_share_of_eps(name, eps, logits_fn, images):
    x_adv = perturb(name, logits_fn, *images, eps=eps, steps=[3], rel_step_size=0.1,
                    random_start=False, restarts=1)
    reached = (x_adv - images[0]).abs().max()
    assert reached == pytest.approx(0.3 * eps, abs=1e-15)


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_gives_the_same_bits(name, logits_fn, images):
    first = perturb(name, logits_fn, *images, random_start=True, restarts=2)
    second = perturb(name, logits_fn, *images, random_start=True, restarts=2)
    assert torch.equal(first, second)


@pytest.mark.parametrize("name", NAMES)
def test_another_seed_gives_another_random_start(name, logits_fn, images):
    step = {"steps": [1], "rel_step_size": 0.01, "random_start": True, "restarts": 1}
    first = perturb(name, logits_fn, *images, seed=0, **step)
    second = perturb(name, logits_fn, *images, seed=1, **step)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("random", [False, True], ids=["from x", "random start"])
@pytest.mark.parametrize("name", SUITE)
def test_a_batch_of_eight_equals_eight_batches_of_one(name, random, logits_fn, images):
    x, y = images[0][:8], images[1][:8]
    generator, changes, alone = seeded(), {"random_start": random, "restarts": 1}, []
    for one, label in zip(x.split(1), y.split(1), strict=True):
        alone.append(run_attack(logits_fn, one, label, known_attack(name, **changes), eps=EPS,
                                convention="last", generator=generator).x_adv)
    assert torch.equal(perturb(name, logits_fn, x, y, **changes), torch.cat(alone))


def test_a_batch_of_the_plain_loop_equals_batches_of_one(logits_fn, images):
    x, y = images[0][:8], images[1][:8]
    starts, alone = random_start(x, EPS, seeded()), []
    for one, label, start in zip(x.split(1), y.split(1), starts.split(1), strict=True):
        alone.append(pgd_linf(logits_fn, one, label, eps=EPS, step_size=0.13 * EPS, steps=10,
                              loss=cross_entropy, start=start))
    assert torch.equal(perturb("pgd_linf", logits_fn, x, y), torch.cat(alone))


@pytest.mark.parametrize("training", [False, True], ids=["eval mode", "train mode"])
@pytest.mark.parametrize("name", NAMES)
def test_leaves_the_model_untouched(name, training, network, images):
    model = copy.deepcopy(network).train(training)
    flags = [i % 2 == 0 for i, _ in enumerate(model.parameters())]
    for parameter, flag in zip(model.parameters(), flags, strict=True):
        parameter.requires_grad_(flag)
    perturb(name, lambda x: model(x)[0], images[0][:8], images[1][:8])
    assert all(module.training == training for module in model.modules())
    assert [parameter.requires_grad for parameter in model.parameters()] == flags
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(network.state_dict()[k], v) for k, v in model.state_dict().items())


@pytest.mark.parametrize("name", NAMES)
def test_leaves_images_and_labels_untouched(name, logits_fn, images):
    x, y = images[0][:8].clone(), images[1][:8].clone()
    perturb(name, logits_fn, x, y)
    assert torch.equal(x, images[0][:8]) and torch.equal(y, images[1][:8])
    assert not x.requires_grad


@pytest.mark.parametrize("name", NAMES)
def test_draws_nothing_from_the_global_generator(name, logits_fn, images):
    before = torch.get_rng_state()
    perturb(name, logits_fn, images[0][:8], images[1][:8], random_start=True)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("convention", ["last", "worst"])
@pytest.mark.parametrize("name", [
    "fgsm", "ifgsm-least-likely", "pgd-restarts", "cw", "mim", "mim-average"])
def test_no_images_give_an_empty_result(name, convention, logits_fn, images):
    """Where one attack of a chain breaks every image, the next one has none left."""
    attack = known_attack(name)
    result = run_attack(logits_fn, images[0][:0], images[1][:0], attack, eps=EPS,
                        convention=convention, generator=seeded())
    assert result.x_adv.shape == (0, 1, 8, 8) and result.worst.shape == (len(attack.steps), 0)


# What there is not

@pytest.mark.parametrize("field", ["loss", "momentum"])
def test_parameters_name_no_unknown_loss_or_momentum(field, plain_attack):
    with pytest.raises(ValidationError, match=field):
        plain_attack(**{field: "cross-entropy"})


@pytest.mark.parametrize("convention", ["last", "worst"])
@pytest.mark.parametrize(("field", "words"), [
    ("loss", "unknown loss 'cross-entropy'"), ("momentum", "unknown momentum 'cross-entropy'")])
def test_an_unknown_loss_or_momentum_never_runs_another_in_its_place(
        field, words, convention, plain_attack, logits_fn, images):
    """Past the checks of the parameters, as code that makes an attack by itself would."""
    attack = plain_attack()
    object.__setattr__(attack, field, "cross-entropy")
    with pytest.raises(ValueError, match=words):
        run_attack(logits_fn, *images, attack, eps=EPS, convention=convention, generator=seeded())


@pytest.mark.parametrize("convention", ["first", "", None])
def test_an_unknown_convention_is_refused(convention, plain_attack, logits_fn, images):
    with pytest.raises(ValueError, match="unknown convention"):
        run_attack(logits_fn, *images, plain_attack(), eps=EPS, convention=convention,
                   generator=seeded())


@pytest.mark.parametrize("name", ["margin", "margin_50", "least_likely"])
def test_every_loss_is_one_of_its_own(name, plain_attack, logits_fn, images):
    """Also where all of them break the image, they move it elsewhere."""
    found = []
    for loss in (name, "cross_entropy"):
        attack = plain_attack(loss=loss, steps=[5])
        found.append(run_attack(logits_fn, *images, attack, eps=EPS, convention="last",
                                generator=seeded()).x_adv)
    assert not torch.equal(*found)


def test_logits_that_are_not_finite_on_the_way_stop_an_attack(logits_fn, images, plain_attack):
    """Also where those of the images that it returns are."""
    asked = []

    def seldom(x):
        asked.append(None)
        return logits_fn(x) * (torch.nan if len(asked) == 4 else 1)

    with pytest.raises(ValueError, match="not finite by attack step"):
        run_attack(seldom, *images, plain_attack(), eps=EPS, convention="last", generator=seeded())
    assert len(asked) < 10, "it stops soon after"


@pytest.mark.parametrize("steps", [[20, 10], [5, 5], []], ids=str)
def test_budgets_that_do_not_increase_are_refused(steps, plain_attack):
    with pytest.raises(ValidationError, match="steps"):
        plain_attack(steps=steps)


# Monotonicity, exact

RANDOM = [name for name in SUITE if not name.endswith("least-likely")]


def outcome(name, logits_fn, images, convention="last", eps=0.08, **changes):
    attack = known_attack(name, **changes)
    return run_attack(logits_fn, *images, attack, eps=eps, convention=convention,
                      generator=seeded())


@pytest.mark.parametrize("name", RANDOM)
def test_worst_never_rises_with_the_budget(name, logits_fn, images):
    worst = outcome(name, logits_fn, images, steps=[1, 2, 3, 5, 10, 40], rel_step_size=0.25,
                    random_start=True).worst
    assert (worst[1:] <= worst[:-1]).all()
    assert worst[-1].sum() < worst[0].sum()


@pytest.mark.parametrize("name", RANDOM)
def test_worst_and_last_never_rise_with_restarts(name, logits_fn, images):
    results = []
    for restarts in (1, 2, 5):
        results.append(outcome(name, logits_fn, images, steps=[4], rel_step_size=0.25,
                               random_start=True, restarts=restarts))
    for fewer, more in zip(results, results[1:], strict=False):
        assert (more.worst <= fewer.worst).all() and (more.last <= fewer.last).all()


@pytest.mark.parametrize("name", SUITE)
def test_correct_at_every_step_implies_correct_after_the_last(name, logits_fn, images):
    result = outcome(name, logits_fn, images, steps=[1, 5, 20], random_start=True, restarts=2)
    assert (result.worst <= result.last).all()


@pytest.mark.parametrize("convention", ["last", "worst"])
@pytest.mark.parametrize("name", SUITE)
def test_a_short_run_is_the_prefix_of_a_long_one(name, convention, logits_fn, images):
    changes = {"rel_step_size": 0.25, "random_start": True, "restarts": 1}
    short = outcome(name, logits_fn, images, convention, steps=[20], **changes)
    long = outcome(name, logits_fn, images, convention, steps=[20, 100], **changes)
    assert torch.equal(long.worst[0], short.worst[0])
    if convention == "last":
        assert torch.equal(long.last[0], short.last[0])


@pytest.mark.parametrize("convention", ["last", "worst"])
@pytest.mark.parametrize("name", SUITE)
def test_worst_starts_from_clean_predictions(name, convention, logits_fn, images):
    """With eps 0 nothing moves, so those who survive are those classified correctly."""
    clean = logits_fn(images[0]).argmax(1) == images[1].roll(1)
    result = outcome(name, logits_fn, (images[0], images[1].roll(1)), convention, eps=0.0)
    assert torch.equal(result.worst, clean.expand_as(result.worst))


@pytest.mark.parametrize("convention", ["last", "worst"])
@pytest.mark.parametrize("steps", [[4], [1, 4]], ids=str)
def test_the_images_returned_show_who_is_broken(convention, steps, logits_fn, images):
    """x_adv comes from the restart that broke the example at the full budget, where one did."""
    attack = known_attack("pgd", steps=steps, rel_step_size=0.25, restarts=4)
    for seed in range(8):
        result = run_attack(logits_fn, *images, attack, eps=0.08, convention=convention,
                            generator=seeded(seed))
        correct = logits_fn(result.x_adv).argmax(1) == images[1]
        outcomes = result.worst if convention == "worst" else result.last
        assert torch.equal(correct, outcomes[-1])


# A chain of attacks

def test_robust_is_correct_on_the_clean_image_and_under_every_attack(
        logits_fn, images, plain_attack):
    """The plain chain that picks checkpoints and the engine agree on who survives."""
    x, y = images
    chain = {"fgsm": plain_attack(steps=[1], rel_step_size=1.0), "pgd": plain_attack(steps=[40]),
             "cw": plain_attack(loss="margin")}
    clean, mask = robust(logits_fn, x, y, chain, eps=0.08, generator=seeded())
    assert torch.equal(clean, logits_fn(x).argmax(1) == y)
    alone = []
    for attack in chain.values():
        alone.append(run_attack(logits_fn, x, y, attack, eps=0.08, convention="worst",
                                generator=seeded()).worst[-1])
    assert torch.equal(mask, clean & torch.stack(alone).all(0))
    assert 0 < mask.sum() < clean.sum()


def test_robust_goes_on_where_an_attack_leaves_no_survivor(logits_fn, images, plain_attack):
    chain = {"pgd": plain_attack(), "cw": plain_attack(loss="margin")}
    _, mask = robust(logits_fn, *images, chain, eps=1.0, generator=seeded())
    assert not mask.any()


# Agreement with public libraries

@pytest.mark.parametrize("architecture", ["mlp", "convnet"])
@pytest.mark.parametrize("eps", [0.05, 0.3])
def test_pgd_agrees_with_foolbox(architecture, eps, networks, images):
    import foolbox
    network = networks[architecture]
    model = foolbox.PyTorchModel(LogitsOnly(network).eval(), bounds=(0, 1), device="cpu")
    theirs = foolbox.attacks.LinfProjectedGradientDescentAttack(
        abs_stepsize=eps / 7, steps=15, random_start=False)
    criterion = foolbox.criteria.Misclassification(images[1])
    ours = pgd_linf(model, *images, eps=eps, step_size=eps / 7, steps=15, loss=cross_entropy,
                    start=images[0])
    torch.testing.assert_close(ours, theirs.run(model, images[0], criterion, epsilon=eps),
                               rtol=0, atol=1e-12)


def test_fgsm_agrees_with_foolbox(network, logits_fn, images):
    import foolbox
    model = foolbox.PyTorchModel(LogitsOnly(network).eval(), bounds=(0, 1), device="cpu")
    criterion = foolbox.criteria.Misclassification(images[1])
    theirs = foolbox.attacks.FGSM().run(model, images[0], criterion, epsilon=EPS)
    ours = perturb("fgsm", logits_fn, *images)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_pgd_agrees_with_art(networks):
    """ART computes in float32; a gradient near zero may round to the other sign: hence a share."""
    from art.attacks import evasion
    from art.estimators.classification import PyTorchClassifier
    network = networks["mlp"]
    x = torch.rand(64, 1, 8, 8, generator=seeded())
    y = network(x.double())[0].argmax(1)
    single = LogitsOnly(copy.deepcopy(network)).float()
    classifier = PyTorchClassifier(single, torch.nn.CrossEntropyLoss(), (1, 8, 8), 10,
                                   clip_values=(0, 1), device_type="cpu")
    theirs = evasion.ProjectedGradientDescent(
        classifier, norm="inf", eps=0.1, eps_step=0.02, max_iter=10, num_random_init=0,
        batch_size=64, verbose=False).generate(x.numpy(), F.one_hot(y, 10).numpy())
    ours = pgd_linf(single, x, y, eps=0.1, step_size=0.02, steps=10, loss=cross_entropy,
                    start=x)
    assert ((ours - torch.from_numpy(theirs)).abs() < 1e-5).double().mean() > 0.999


class LogitsOnly(torch.nn.Module):
    """Other libraries expect a module that returns logits alone."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(x)[0]


def momentum_by_hand(logits_fn, x, y, *, eps, step_size, steps, kind, decay):
    """Dong et al. 2018, algorithm 1, image by image; `average` keeps a running mean instead."""
    rows = []
    for image, label in zip(x.split(1), y.split(1), strict=True):
        velocity, x_adv = torch.zeros_like(image), image
        for _ in range(steps):
            point = x_adv.clone().requires_grad_()
            F.cross_entropy(logits_fn(point), label).backward()
            if kind == "l1":
                velocity = decay * velocity + point.grad / point.grad.abs().sum()
            else:
                velocity = decay * velocity + (1 - decay) * point.grad
            moved = x_adv + step_size * velocity.sign()
            x_adv = torch.min(torch.max(moved, image - eps), image + eps).clamp(0, 1)
        rows.append(x_adv)
    return torch.cat(rows)


@pytest.mark.parametrize(("kind", "decay"), [
    ("l1", 1.0), ("l1", 0.5), ("average", 0.9), ("average", 0.0)])
def test_momentum_agrees_with_a_loop_written_by_hand(kind, decay, logits_fn, images, plain_attack):
    x, y = images[0][:16], images[1][:16]
    attack = plain_attack(steps=[25], rel_step_size=0.15, momentum=kind, decay=decay)
    ours = run_attack(logits_fn, x, y, attack, eps=0.1, convention="last",
                      generator=seeded()).x_adv
    theirs = momentum_by_hand(logits_fn, x, y, eps=0.1, step_size=0.015, steps=25, kind=kind,
                              decay=decay)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_momentum_forms_differ_from_plain_steps(logits_fn, images):
    """Otherwise the agreement above would prove nothing about the velocity."""
    found = []
    for name in ("ifgsm", "mim", "mim-average"):
        found.append(perturb(name, logits_fn, *images, steps=[20], rel_step_size=0.1,
                             random_start=False))
    plain, l1, average = found
    assert not torch.equal(plain, l1)
    assert not torch.equal(plain, average) and not torch.equal(l1, average)
