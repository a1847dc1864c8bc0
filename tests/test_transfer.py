"""Images made on the first seed of every model and judged by the second seed of every model."""


import pytest
import torch
from small_study import NAMES, logits

import transfer
from tla.files import read_rows
from tla.measure import suite
from tla.measure.engine import run_attack
from tla.measure.stage import Stage
from tla.measure.suite import transfer_columns
from tla.train.chance import stream
from tla.train.data import TEST


def test_images_are_made_on_the_first_seed_and_judged_by_every_model_on_the_second(study):
    """Judges and sources differ by a bias of class 0 large enough to change some decisions."""
    params = study.params({"transfer.images": 30})
    for i, name in enumerate(NAMES):
        study.save(params, name, 0, -4.0 * i)
        study.save(params, name, 1, 4.0 * i)
    transfer.main(["params.yaml"])
    stage = Stage(params)
    rows = read_rows(stage.rows / "transfer.csv.gz")
    judges = [f"pred_{name}" for name in NAMES]
    assert list(rows) == ["source", "idx", "label", "linf", *judges]
    assert rows.source.tolist() == [name for name in NAMES for _ in range(30)]

    test, eps = stage.test(1, 30), params.attack.eps
    for name, part in rows.groupby("source"):
        source = stage.network(name, 0)
        x_adv = run_attack(logits(source), test.x, test.y, params.transfer.attack, eps=eps,
                           convention="last", generator=stream(0, "queries", stage.device)).x_adv
        assert part.idx.tolist() == test.idx.tolist() and part.label.tolist() == test.y.tolist()
        away = (x_adv - test.x).abs().flatten(1).amax(1)
        assert part.linf.tolist() == pytest.approx(away.tolist(), rel=1e-6)
        assert part.linf.max() <= eps + 1e-6
        for judge in NAMES:
            expected = stage.network(judge, 1)(x_adv)[0].argmax(1)
            assert part[f"pred_{judge}"].tolist() == expected.tolist()
    assert len({tuple(rows[judge]) for judge in judges}) == len(judges)


def test_each_judge_is_asked_before_the_next_one_is_loaded(net, dataset, plain_attack):
    """Large networks would not fit beside each other."""
    loaded = []

    def judges():
        for name in ("um", "at"):
            loaded.append(name)
            yield name, Asked(net, name)

    class Asked(torch.nn.Module):
        def __init__(self, network, name):
            super().__init__()
            self.network, self.name = network, name

        def forward(self, x):
            assert loaded[-1] == self.name
            return self.network(x)

    found = transfer_columns(net, dataset.split(0, TEST), plain_attack(), judges(), eps=0.1,
                             batch=64, seed=0)
    assert list(found) == ["linf", "pred_um", "pred_at"] and loaded == ["um", "at"]


def test_all_judges_see_the_images_that_the_source_made(net, dataset, plain_attack, monkeypatch):
    seen = []
    monkeypatch.setattr(suite, "predict", lambda judge, x, batch: seen.append(x) or x[:, 0, 0, 0])
    transfer_columns(net, dataset.split(0, TEST), plain_attack(), [("a", net), ("b", net)],
                     eps=0.1, batch=7, seed=0)
    assert len(seen) == 2 and seen[0].equal(seen[1]) and len(seen[0]) == 40
