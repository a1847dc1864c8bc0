"""Scores, retrieval and distances of embeddings, on cases whose answer is visible."""

import numpy as np
import pandas as pd
import pytest

from tla.detection import auc, auc_metrics, cases, roc_on_grid
from tla.embedding import class_distances, majority, retrieve, unit
from tla.files import read_rows, write_rows
from tla.pictures import read_tiles, write_tiles


def test_auc_counts_ordered_pairs():
    rng = np.random.default_rng(0)
    score, abnormal = rng.integers(0, 5, 40).astype(float), rng.random(40) < 0.4
    pairs = [(a < n) + 0.5 * (a == n) for a in score[abnormal] for n in score[~abnormal]]
    assert auc(abnormal, score) == pytest.approx(np.mean(pairs))



def test_roc_of_a_perfect_score_is_one_everywhere_but_at_zero():
    tpr = roc_on_grid(np.array([True, True, False, False]), np.array([0.1, 0.2, 0.8, 0.9]), np.linspace(0, 1, 5))
    assert (tpr[1:] == 1).all()


def test_an_image_is_not_its_own_neighbour():
    """Two orthogonal images of one class are at distance 1, and the third, of another class, at 1 from both."""
    h, y = np.eye(3), np.array([0, 0, 1])
    same, other = class_distances(h[:2], y[:2], h[:2], y[:2])[0], class_distances(h, y, h, y)[1]
    assert (same, other) == (1, 1)


def test_retrieval_orders_by_angle_not_length():
    gallery = np.array([[10.0, 0], [1, 1], [0, 0.1]])
    assert retrieve(gallery, np.array([[0.1, 0.02]]), 3).tolist() == [[0, 1, 2]]


def test_majority_takes_the_smaller_class_on_a_tie():
    assert majority(np.array([[2, 1, 1], [3, 0, 0], [2, 1, 3]]), 4).tolist() == [1, 0, 1]


def test_a_zero_embedding_stays_zero():
    assert unit(np.zeros((1, 3))).tolist() == [[0, 0, 0]]


def rows(seed, label, clean, adv, clean_score, adv_score):
    return pd.DataFrame({"seed": seed, "eps_factor": 1.0, "label": label, "clean_pred": clean, "adv_pred": adv,
                         "clean_s": clean_score, "adv_s": adv_score})


TABLE = rows(0, [0, 0, 1, 1], [0, 0, 1, 0], [0, 1, 0, 0], [0.9, 0.8, 0.7, 0.6], [0.5, 0.4, 0.3, 0.2])


def test_misclassified_sets_wrong_against_right_adversarial_images():
    abnormal, score = cases(TABLE, "misclassified", "s")
    assert abnormal.tolist() == [False, True, True, True] and score.tolist() == [0.5, 0.4, 0.3, 0.2]


def test_adversarial_sets_fooling_images_against_clean_correct_ones():
    """The last image was wrong before the attack, so it counts on neither side."""
    abnormal, score = cases(TABLE, "adversarial", "s")
    assert abnormal.tolist() == [False] * 3 + [True] * 2 and score.tolist() == [0.9, 0.8, 0.7, 0.4, 0.3]


def test_auc_is_averaged_over_seeds_and_never_pooled():
    """Each seed separates perfectly on a scale of its own; pooled scores would not."""
    other = TABLE.assign(seed=1, clean_s=TABLE.clean_s - 10, adv_s=TABLE.adv_s - 10)
    assert auc_metrics(pd.concat([TABLE, other]), ("s",))["adversarial_s_auc_eps_1"] == 1.0


def test_an_undefined_auc_is_left_out():
    metrics = auc_metrics(TABLE.assign(adv_pred=TABLE.label), ("s",))
    assert metrics == {"accuracy_eps_1": 1.0}


def test_equal_rows_are_equal_bytes_whatever_the_file_is_called(tmp_path):
    for name in ("a.csv.gz", "b/longer.csv.gz"):
        write_rows(tmp_path / name, TABLE)
    assert (tmp_path / "a.csv.gz").read_bytes() == (tmp_path / "b/longer.csv.gz").read_bytes()
    pd.testing.assert_frame_equal(read_rows(tmp_path / "a.csv.gz"), TABLE, check_dtype=False)


@pytest.mark.parametrize("channels", [1, 3])
def test_tiles_come_back_in_their_place(tmp_path, channels):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, channels, 4, 5))
    write_tiles(tmp_path / "t.png", pixels / 255)
    back = read_tiles(tmp_path / "t.png", 2, 3)
    assert np.array_equal(back if channels == 3 else back[..., None], pixels.transpose(0, 1, 3, 4, 2))
