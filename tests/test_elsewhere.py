"""Images from outside a data set's distribution."""

import copy

import pytest
import torch
from conftest import seeded

from tla.measure.elsewhere import elsewhere, ood_rows
from tla.measure.embedding import Normality, outputs
from tla.params import Aware, Detect, Ood

SHAPES = pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32)], ids=str)


@pytest.mark.parametrize("source", ["noise", "photos", "digits"])
@SHAPES
def test_images_from_elsewhere_have_the_shape_and_range_of_the_data(source, shape):
    first, again = elsewhere(source, shape, 12, seeded(3)), elsewhere(source, shape, 12, seeded(3))
    assert first.shape == (12, *shape) and first.min() >= 0 and first.max() <= 1
    assert torch.equal(first, again)
    assert not torch.equal(first, elsewhere(source, shape, 12, seeded(4)))
    assert first.flatten(1).std(1).median() > 0.01 and first.std(0).max() > 0.05


def test_digits_come_back_unchanged_at_their_own_size():
    found = elsewhere("digits", (1, 8, 8), 5, seeded(3))
    assert ((found * 16).round() - found * 16).abs().max() < 1e-4


def test_every_source_is_scored_beside_the_test_images(networks, images):
    net, x = copy.deepcopy(networks["mlp"]).float(), images[0].float()
    settings = Detect([1.0], 0.1, 2, 3, 2, "diag", Aware(9, [1.0], 1))
    normality = Normality(outputs(net, x, 64).embedding, settings, 0)
    rows = ood_rows(net, normality, x[:9], Ood(9, ["noise", "photos"]), batch=4,
                    generator=seeded(3))
    assert list(rows) == ["source", "softmax", "neighbors", "mixture"]
    assert rows.source.tolist() == ["test"] * 9 + ["noise"] * 9 + ["photos"] * 9
    expected = normality.scores(outputs(net, x[:9], 64))
    for name, values in expected.items():
        assert rows[name][rows.source == "test"].tolist() == values.tolist()
