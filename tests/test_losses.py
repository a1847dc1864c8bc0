"""Training losses against values written by hand and against two public libraries."""

import math

import pytest
import torch

from tla.train.losses import (
    cosine_distance,
    mixed_cross_entropy,
    norm_term,
    pairing_loss,
    triplet_loss,
)


def at_angle(*degrees, length=1.0):
    """Vectors of the plane at the given angles, float64 [n, 2]."""
    angles = [math.radians(degree) for degree in degrees]
    return torch.tensor([[length * math.cos(a), length * math.sin(a)] for a in angles],
                        dtype=torch.float64)


@pytest.mark.parametrize(("degrees", "distance"), [
    (0, 0.0), (60, 0.5), (90, 1.0), (120, 0.5), (180, 0.0)])
def test_cosine_distance_at_known_angles(degrees, distance):
    """Opposite vectors are close: D takes the absolute value of the cosine."""
    found = cosine_distance(at_angle(0), at_angle(degrees))
    assert found.item() == pytest.approx(distance, abs=1e-12)


def test_cosine_distance_ignores_lengths():
    a, b = at_angle(10, 20, 30), at_angle(40, 100, 170)
    torch.testing.assert_close(cosine_distance(3 * a, 0.1 * b), cosine_distance(a, b))


@pytest.mark.parametrize("margin", [0.03, 0.5, 0.7, 2.0])
def test_triplet_at_60_and_90_degrees(margin):
    loss = triplet_loss(at_angle(0), at_angle(60), at_angle(90), margin)
    assert loss.item() == pytest.approx(max(0.0, 0.5 - 1 + margin), abs=1e-12)


@pytest.mark.parametrize(("positive", "negative", "loss"), [
    (0, 90, 0.0), (0, 0, 0.2), (90, 0, 1.2), (60, 60, 0.2), (180, 90, 0.0), (90, 180, 1.2)])
def test_triplet_at_right_angles(positive, negative, loss):
    value = triplet_loss(at_angle(0), at_angle(positive), at_angle(negative), 0.2)
    assert value.item() == pytest.approx(loss, abs=1e-12)


def random_triplets(n=40, d=6):
    """Non-negative embeddings, as after a ReLU: there |cos| = cos, as the libraries compute."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand(3, n, d, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("margin", [0.02, 0.1, 0.5])
def test_triplet_agrees_with_torch(margin):
    theirs = torch.nn.TripletMarginWithDistanceLoss(
        distance_function=lambda a, b: 1 - torch.cosine_similarity(a, b), margin=margin,
        reduction="none")
    anchor, positive, negative = random_triplets()
    ours = triplet_loss(anchor, positive, negative, margin)
    torch.testing.assert_close(ours, theirs(anchor, positive, negative))


@pytest.mark.parametrize("margin", [0.02, 0.1, 0.5])
def test_triplet_with_our_distance_agrees_with_torch_on_signed_embeddings(margin):
    theirs = torch.nn.TripletMarginWithDistanceLoss(
        distance_function=cosine_distance, margin=margin, reduction="mean")
    anchor, positive, negative = random_triplets() - 0.5
    torch.testing.assert_close(
        triplet_loss(anchor, positive, negative, margin).mean(), theirs(anchor, positive, negative))


@pytest.mark.parametrize("margin", [0.02, 0.1, 0.5])
def test_mean_triplet_agrees_with_pytorch_metric_learning(margin):
    """With its mean reducer: the default averages over active triplets only."""
    from pytorch_metric_learning import losses
    from pytorch_metric_learning.distances import CosineSimilarity
    from pytorch_metric_learning.reducers import MeanReducer
    anchor, positive, negative = random_triplets()
    n = len(anchor)
    rows = torch.arange(n)
    loss = losses.TripletMarginLoss(
        margin=margin, distance=CosineSimilarity(), reducer=MeanReducer())
    theirs = loss(
        torch.cat([anchor, positive, negative]), torch.zeros(3 * n, dtype=torch.long),
        (rows, rows + n, rows + 2 * n))
    torch.testing.assert_close(triplet_loss(anchor, positive, negative, margin).mean(), theirs)


def test_triplet_gradient_reaches_all_three_embeddings():
    embeddings = [e.requires_grad_() for e in random_triplets()]
    triplet_loss(*embeddings, 0.5).sum().backward()
    assert all(e.grad.abs().sum() > 0 for e in embeddings)


def test_norm_term_is_a_sum_of_means_of_squares():
    a, b = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[0.0, 2.0], [0.0, 0.0]])
    assert norm_term(a).item() == (1 + 4 + 9 + 16) / 4
    assert norm_term(a, b).item() == (1 + 4 + 9 + 16) / 4 + 4 / 4
    assert norm_term(a, b, b).item() == (1 + 4 + 9 + 16) / 4 + 4 / 4 + 4 / 4


def test_pairing_loss_is_the_mean_of_squared_distances():
    clean = torch.tensor([[0.0, 0.0, 1.0], [1.0, 1.0, 1.0]])
    adversarial = torch.tensor([[3.0, 4.0, 1.0], [1.0, -1.0, 1.0]])
    assert pairing_loss(clean, adversarial).item() == (9 + 16 + 4) / 2


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_mixed_cross_entropy_divides_by_the_weighted_count(weight):
    clean, adversarial = torch.tensor([1.0, 2.0, 6.0]), torch.tensor([5.0, 7.0])
    expected = (1 + 2 + 6 + weight * (5 + 7)) / (3 + weight * 2)
    assert mixed_cross_entropy(clean, adversarial, weight).item() == pytest.approx(expected)


def test_mixed_cross_entropy_of_equal_losses_is_that_loss():
    """The weights are those of a mean, so whatever they are, a constant stays."""
    mixed = mixed_cross_entropy(torch.full((3,), 2.5), torch.full((5,), 2.5), 0.3)
    assert mixed.item() == pytest.approx(2.5)
