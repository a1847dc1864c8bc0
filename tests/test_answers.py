"""What a network answers: one unfit to be attacked is refused, whoever asks."""

import pytest
import torch
from small_study import Answers

from tla.measure.answers import check_model, predict, returned
from tla.measure.suite import attack_columns, clean_columns
from tla.params import Precision
from tla.train.data import Split

EXACT = Precision("float32", 0)


@pytest.mark.parametrize(("change", "words"), [
    (lambda z: z.softmax(1), "probabilities"), (lambda z: z * float("nan"), "not finite"),
    (lambda z: z[:, :9], "shape"), (lambda z: z.sum(1), "shape"),
    (lambda z: z + torch.rand_like(z), "differently when asked again")])
def test_a_model_unfit_for_attacks_is_refused_by_what_it_returned(change, words, network, images):
    with pytest.raises(ValueError, match=words):
        check_model(Answers(network, change), images[0], 10)


@pytest.mark.parametrize("change", [
    lambda z: z, lambda z: z.log_softmax(1), lambda z: z - z.min() + 1])
def test_logits_up_to_a_shift_are_accepted(change, network, images):
    check_model(Answers(network, change), images[0], 10)


@pytest.mark.parametrize("batch", [1, 7, 64, 1000])
def test_predictions_do_not_depend_on_the_batch(batch, network, images):
    assert predict(network, images[0], batch).equal(network(images[0])[0].argmax(1))


def test_a_model_that_returns_nan_is_refused(images, plain_attack):
    def broken(x):
        return torch.full((len(x), 10), torch.nan, dtype=x.dtype) * x.sum(), x.flatten(1)

    split = Split(*images, torch.arange(64))
    with pytest.raises(ValueError, match="not finite"):
        clean_columns(broken, split, batch=8)
    with pytest.raises(ValueError, match="not finite"):
        attack_columns(broken, split, "pgd", plain_attack(), eps=0.1, precision=EXACT,
                       batch=8, seed=0)


def test_what_an_attack_returned_is_classified_and_measured(network, images):
    x, away = images[0][:5], images[0][5:10]
    moved = x + (away - x).clamp(-0.1, 0.1)
    found = returned(network, x, moved, "cw-50", 0.1, 2)
    assert list(found) == ["cw-50_linf", "cw-50_pred"]
    assert found["cw-50_pred"].equal(network(moved)[0].argmax(1))
    largest = (moved - x).abs().flatten(1).amax(1).float()
    torch.testing.assert_close(found["cw-50_linf"], largest)


def test_what_an_attack_returned_passes_the_referee(network, images):
    with pytest.raises(ValueError, match="more than eps"):
        returned(network, images[0], (images[0] + 0.2).clamp(0, 1), "pgd", 0.1, 8)
