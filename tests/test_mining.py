"""Where negatives come from: visible answers, brute force, and where none or only far ones are."""

import math

import pytest
import torch
from conftest import seeded, unchanged

from tla.params import UserError
from tla.train.mining import Miner, hardest_negative


def circle(*degrees):
    return torch.tensor([[math.cos(math.radians(d)), math.sin(math.radians(d))] for d in degrees])


def test_points_on_a_circle():
    pool, pool_y = circle(5, 40, 100, 200, 340), torch.tensor([0, 1, 2, 1, 3])
    anchor, y = circle(0, 0, 95, 190, 350), torch.tensor([0, 3, 2, 1, 3])
    index, found = hardest_negative(anchor, y, pool, pool_y)
    assert index.tolist() == [4, 0, 1, 2, 0]
    assert found.all()


def test_points_on_a_line_are_told_apart_by_their_side():
    """All points of a ray have the same direction; the first is taken, however long others are."""
    pool, pool_y = torch.tensor([[-1.0, 0.0], [2.0, 0.0], [9.0, 0.0]]), torch.tensor([1, 1, 1])
    anchor, y = torch.tensor([[0.5, 0.0], [-0.5, 0.0]]), torch.tensor([0, 0])
    index, found = hardest_negative(anchor, y, pool, pool_y)
    assert index.tolist() == [1, 0] and found.all()


def test_length_of_the_embeddings_does_not_matter():
    pool, pool_y = circle(30, 20), torch.tensor([1, 1])
    stretched = pool * torch.tensor([[100.0], [0.01]])
    assert hardest_negative(7 * circle(0), torch.tensor([0]), stretched, pool_y)[0].tolist() == [1]


def test_the_nearest_is_by_signed_cosine():
    """An opposite embedding is the farthest candidate, although the triplet distance is small."""
    pool, pool_y = circle(180, 80), torch.tensor([1, 1])
    assert hardest_negative(circle(0), torch.tensor([0]), pool, pool_y)[0].tolist() == [1]


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_brute_force(seed):
    generator = seeded(seed)
    anchor, pool = (torch.randn(n, 4, generator=generator, dtype=torch.float64) for n in (20, 30))
    y, pool_y = (torch.randint(0, 4, (n,), generator=generator) for n in (20, 30))
    index, found = hardest_negative(anchor, y, pool, pool_y)
    for i in range(20):
        cosines = {j: float(anchor[i] @ pool[j] / anchor[i].norm() / pool[j].norm())
                   for j in range(30) if pool_y[j] != y[i]}
        assert found[i] and index[i] == max(cosines, key=cosines.get)


def test_same_class_is_never_chosen_where_all_others_have_negative_similarity():
    pool, pool_y = circle(0, 10, 150, 120, 200), torch.tensor([0, 0, 1, 2, 1])
    index, found = hardest_negative(circle(0, 5), torch.tensor([0, 0]), pool, pool_y)
    assert index.tolist() == [3, 3] and found.all()


def test_a_pool_of_the_anchors_class_alone_has_no_negative():
    pool, pool_y = circle(0, 10, 20), torch.tensor([2, 2, 2])
    _, found = hardest_negative(circle(0, 5), torch.tensor([2, 1]), pool, pool_y)
    assert found.tolist() == [False, True]


def labelled(n=60, classes=5):
    """Images whose one pixel is their row, so that a drawn image says where it came from."""
    y = torch.arange(n) % classes
    return torch.arange(n, dtype=torch.float32).view(n, 1, 1, 1), y


class Direction(torch.nn.Module):
    """Logits unused; the embedding is the direction at an angle of one degree per row."""

    def forward(self, x):
        angle = torch.deg2rad(x.flatten())
        return None, torch.stack([angle.cos(), angle.sin()], 1)


def test_a_pool_of_one_draws_images_of_other_classes_only():
    x, y = labelled()
    miner = Miner(x, y, 1, unchanged, seeded())
    anchors = y.repeat(20)
    images, found = miner.negatives(Direction(), torch.zeros(len(anchors), 2), anchors)
    drawn = images.flatten().long()
    assert found.all() and (y[drawn] != anchors).all()
    assert len(drawn.unique()) == len(x), "every image of another class can be drawn"


def test_a_pool_of_one_draws_each_anchor_its_own_image():
    x, y = labelled()
    miner = Miner(x, y, 1, unchanged, seeded())
    images, _ = miner.negatives(Direction(), torch.zeros(30, 2), torch.zeros(30, dtype=torch.long))
    assert len(images.unique()) > 10


def test_positives_have_the_class_asked_for():
    x, y = labelled()
    asked = torch.tensor([4, 0, 0, 3, 2, 1]).repeat(100)
    drawn = Miner(x, y, 10, unchanged, seeded()).positives(asked).flatten().long()
    assert torch.equal(y[drawn], asked)
    assert len(drawn.unique()) == len(x), "every image of the class can be drawn"


def test_positives_of_classes_of_unequal_size_have_the_class_asked_for():
    y = torch.tensor([2, 0, 0, 0, 0, 2, 1])
    x = torch.arange(7, dtype=torch.float32).view(7, 1, 1, 1)
    asked = torch.tensor([0, 1, 2]).repeat(50)
    drawn = Miner(x, y, 2, unchanged, seeded()).positives(asked).flatten().long()
    assert torch.equal(y[drawn], asked)
    assert {1, 2, 3, 4} == set(drawn[asked == 0].tolist())


def test_a_pool_of_all_images_gives_the_hardest_negative_of_the_training_set():
    x, y = labelled()
    anchors = Direction()(x)[1]
    images, found = Miner(x, y, len(x), unchanged, seeded()).negatives(Direction(), anchors, y)
    distance = (images.flatten() - x.flatten()).abs()
    assert found.all()
    assert (distance == 1).all(), "rows next to each other differ in class and by one degree"


def test_a_smaller_pool_contains_only_so_many_images():
    x, y = labelled()
    images, _ = Miner(x, y, 3, unchanged, seeded()).negatives(Direction(), Direction()(x)[1], y)
    assert len(images.unique()) <= 3


def test_every_call_draws_a_fresh_pool():
    x, y = labelled()
    miner = Miner(x, y, 3, unchanged, seeded())
    first, second = (miner.negatives(Direction(), Direction()(x)[1], y)[0] for _ in range(2))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("batch", [1, 7])
def test_same_seed_draws_the_same_images(batch):
    x, y = labelled()
    draws = []
    for _ in range(2):
        miner = Miner(x, y, batch, unchanged, seeded(4))
        draws.append(miner.negatives(Direction(), Direction()(x)[1], y)[0])
    assert torch.equal(*draws)


def test_a_pool_larger_than_the_training_set_is_refused():
    x, y = labelled(10)
    with pytest.raises(UserError, match="11.*10"):
        Miner(x, y, 11, unchanged, seeded())


def test_negatives_carry_no_gradient():
    x, y = labelled()
    images, _ = Miner(x, y, 7, unchanged, seeded()).negatives(Direction(), Direction()(x)[1], y)
    assert not images.requires_grad


@pytest.mark.parametrize("batch", [1, 7])
def test_positives_and_negatives_are_augmented(batch):
    x, y = labelled()
    plain = Miner(x, y, batch, unchanged, seeded())
    shifted = Miner(x, y, batch, lambda images: images + 0.25, seeded())
    assert torch.equal(shifted.positives(y), plain.positives(y) + 0.25)
    anchor = Direction()(x)[1]
    negatives = [miner.negatives(Direction(), anchor, y)[0] for miner in (plain, shifted)]
    assert torch.equal(negatives[1].remainder(1), torch.full_like(x, 0.25))
    assert torch.equal(negatives[0].remainder(1), torch.zeros_like(x))
