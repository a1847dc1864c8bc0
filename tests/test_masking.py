"""Signs of gradient masking: measured on networks that mask, and on the same that do not."""

import dataclasses

import pandas as pd
import pytest
import torch
from small_study import Answers, Flat, logits

import evaluate
from tla.files import read_rows, write_rows
from tla.measure import masking
from tla.measure.masking import masking_columns, surfaces, zero_gradient
from tla.measure.suite import seed_rows, suite_rows
from tla.report.signs import SIGNS, masking_line
from tla.train.chance import stream
from tla.train.data import TEST, Split
from tla.train.pgd import cross_entropy, input_gradient, margin, pgd_linf

EPS = 0.15


# Accuracy over eps

def test_accuracy_over_eps_is_that_of_plain_pgd_from_the_image(net, split, params):
    found = masking_columns(net, split, params.masking, eps=EPS, batch=7)
    sizes = [0.25 * EPS, 0.5 * EPS, EPS, 1.5 * EPS, 2 * EPS, 4 * EPS, 1.0]
    assert list(found) == [*(f"eps_{size:g}" for size in sizes), "zero_gradient"]
    for size in sizes:
        x_adv = pgd_linf(logits(net), split.x, split.y, eps=size, step_size=0.1 * size, steps=20,
                         loss=cross_entropy, start=split.x)
        right = net(x_adv)[0].argmax(1) == split.y
        assert found[f"eps_{size:g}"].bool().equal(right)
    shares = [found[f"eps_{size:g}"].float().mean() for size in sizes]
    assert shares == sorted(shares, reverse=True) and shares[0] > 0.5 and shares[-1] == 0


def test_accuracy_over_eps_starts_at_the_image_where_a_masked_gradient_is_flat(params):
    grey = Split(torch.full((8, 1, 1, 2), 0.5), torch.zeros(8, dtype=torch.long), torch.arange(8))
    found = masking_columns(Flat(), grey, params.masking, eps=0.5, batch=8)
    assert all(found[name].all() for name in found)
    assert (found["zero_gradient"] == 1).all()


def test_images_at_every_eps_pass_the_referee(net, split, params, monkeypatch):
    monkeypatch.setattr(masking, "pgd_linf", lambda logits_fn, x, y, eps, **_: x + 2 * eps)
    with pytest.raises(ValueError, match="more than eps|leave"):
        masking_columns(net, split, params.masking, eps=EPS, batch=64)


def test_the_share_of_pixels_without_a_gradient_is_of_each_image_alone(net, split):
    _, gradient = input_gradient(logits(net), split.x, split.y, cross_entropy)
    expected = [(gradient[i] == 0).sum().item() / 64 for i in range(64)]
    assert zero_gradient(net, split).tolist() == expected
    assert zero_gradient(Answers(net, lambda z: 1e4 * z), split).mean() > 0.5


# Diagnosis

@pytest.mark.parametrize(("change", "flagged"), [
    (lambda z: z, set()), (lambda z: 1e4 * z, {"unbounded", "zero_gradient", "square", "cw"}),
    (lambda z: (100 * z).round(), {"unbounded", "zero_gradient", "square", "autoattack"})],
    ids=["plain", "saturated", "rounded"])
def test_a_masked_gradient_is_flagged_and_the_same_network_without_is_not(
        change, flagged, net, dataset, make_params, tmp_path):
    """Saturation hides from cross-entropy but not from C&W, which is in the union; rounding hides
    from both.
    """
    params = make_params({
        "evaluate.attacks.pgd.steps": [5, 40], "evaluate.attacks.cw.restarts": 1,
        "evaluate.attacks.square.queries": 200, "evaluate.images": {}})
    suite, few = [], dataset.split(1, TEST)
    names = {"clean", "suite-pgd", "suite-pgd-restarts", "suite-cw", "suite-square",
             "suite-autoattack"}
    model = Answers(net, change)
    for job in evaluate.suite_jobs(params, params.seeds):
        if job.seed == 1 and job.name in names:
            columns = job.function(model, few, **job.settings)
            suite.append(pd.DataFrame({"seed": 1, "idx": few.idx, "label": few.y} | columns))
    write_rows(tmp_path / "x", suite_rows([seed_rows(suite[0], suite[1:])], params.evaluate))
    rows = read_rows(tmp_path / "x")
    short = dataclasses.replace(params.masking, eps_factors=[0.5, 1.0])
    found = pd.DataFrame(masking_columns(model, few, short, eps=EPS, batch=64))
    transferred = rows["clean"]         # of images that nobody changed
    line = masking_line(rows, found, transferred, "pgd_40_worst", params.masking.tolerance)
    found = {name for name in SIGNS if line[f"flag_{name}"]}
    assert found == flagged or flagged and found == flagged | {"restarts"}  # luck of random starts


# Loss surfaces

def test_the_loss_surface_is_centred_on_the_image_and_rises_along_the_gradient(net, split):
    few = split.take(slice(3, 5))
    planes = surfaces(net, few, EPS, 5, seed=1)
    assert list(planes) == ["idx", "gradient", "random", "margin"]
    assert planes.groupby("idx").size().to_dict() == {103: 25, 104: 25}
    for i, idx in enumerate((103, 104)):
        plane = planes[planes.idx == idx].set_index(["gradient", "random"]).margin
        centre = margin(net(few.x[i:i + 1])[0], few.y[i:i + 1]).item()
        assert plane.loc[0.0, 0.0] == pytest.approx(centre, rel=1e-5)
        along = plane.xs(0.0, level="random")
        assert along.loc[along.index[along.index > 0].min()] > along.loc[0.0]


def test_a_loss_surface_spans_the_signs_of_the_gradient_and_random_ones_in_the_box(net, split):
    few = split.take(slice(0, 1))
    plane = surfaces(net, few, EPS, 3, seed=1)
    _, gradient = input_gradient(logits(net), few.x, few.y, margin)
    noise = torch.rand(few.x.shape, generator=stream(1, "queries", few.x.device))
    for line in plane.itertuples():
        assert abs(line.gradient) in (0, pytest.approx(EPS))
        moved = few.x + line.gradient * gradient.sign() + line.random * (noise - 0.5).sign()
        expected = margin(net(moved.clamp(0, 1))[0], few.y).item()
        assert line.margin == pytest.approx(expected, rel=1e-4)


def test_a_loss_surface_does_not_depend_on_the_images_beside(net, split):
    together = surfaces(net, split.take(slice(0, 2)), EPS, 3, seed=1)
    alone = surfaces(net, split.take(slice(1, 2)), EPS, 3, seed=1)
    pd.testing.assert_frame_equal(together[together.idx == 101], alone)
