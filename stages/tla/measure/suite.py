"""The suite of attacks: from one network's columns to the rows of a model."""

from collections.abc import Iterable
from zlib import crc32

import pandas as pd
import torch
from torch import Tensor, nn

from tla.measure.answers import Columns, predict, returned
from tla.measure.draws import Stochastic, expected_columns, right
from tla.measure.engine import run_attack
from tla.measure.precision import search_of
from tla.measure.referee import check
from tla.outcomes import (
    CLEAN,
    ROBUST,
    WHITE_BOX,
    Outcome,
    draw_std,
    is_outcome,
    outcome_columns,
)
from tla.params import Attack, Evaluate, Precision
from tla.train.chance import stream
from tla.train.data import Split


def clean_columns(model: nn.Module, split: Split, *, batch: int) -> Columns:
    """clean_pred, the class of every image, and clean, 1 where it is the label; each [n].

    Of a stochastic network `clean` is the share of `draws` draws, a further column.
    """
    found = predict(model, split.x, batch)
    columns = {"clean_pred": found, CLEAN: right(model, split.x, split.y, found)}
    if isinstance(model, Stochastic):
        columns["draws"] = torch.full_like(split.y, model.judges)
    return columns


def attack_columns(model: nn.Module, split: Split, name: str, attack: Attack, *, eps: float,
                   precision: Precision, batch: int, seed: int) -> Columns:
    """Outcome of one gradient attack on every image, `batch` at a time, each column [n].

    <attack>_linf: largest pixel change; <attack>_pred: class of the image it returns; at each
    budget, 1 where correct under the conventions `last` and `worst`. The random numbers are those
    of the training seed and the attack's name. Where a stand-in of the model searches,
    <attack>_search_pred is the class that it gives the image returned. A stochastic network has
    no stand-in, and shares of draws for outcomes.
    """
    generator = stream(seed, "evaluation", split.x.device, crc32(name.encode()))
    search, parts = search_of(model, precision), []
    for x, y in zip(split.x.split(batch), split.y.split(batch), strict=True):
        if isinstance(model, Stochastic):
            parts.append(expected_columns(model, x, y, name, attack, eps, generator))
            continue
        parts.append(_attack_batch(model, search, x, y, name, attack, eps, generator))
    return {column: torch.cat([part[column] for part in parts]) for column in parts[0]}


def _attack_batch(model, search, x, y, name, attack, eps, generator) -> Columns:
    result = run_attack(lambda images: model(images)[0], x, y, attack, eps=eps, convention="last",
                        generator=generator, search=search)
    columns = returned(model, x, result.x_adv, name, eps, len(x))
    if search is not None:
        with torch.no_grad():
            columns[f"{name}_search_pred"] = search.logits_fn(result.x_adv).argmax(1)
    for i, steps in enumerate(attack.steps):
        budget = str(steps) if len(attack.steps) > 1 else None
        columns[str(Outcome(name, budget, "last"))] = result.last[i].byte()
        columns[str(Outcome(name, budget, "worst"))] = result.worst[i].byte()
    return columns


def attacked(model: nn.Module, split: Split, attack: Attack, *, eps: float, batch: int,
             generator: torch.Generator) -> Tensor:
    """Images [n, c, h, w] after a gradient attack, `batch` at a time, each within eps."""
    parts = []
    for x, y in zip(split.x.split(batch), split.y.split(batch), strict=True):
        parts.append(run_attack(lambda images: model(images)[0], x, y, attack, eps=eps,
                                convention="last", generator=generator).x_adv)
        check(x, parts[-1], eps)
    return torch.cat(parts)


def transfer_columns(source: nn.Module, split: Split, attack: Attack,
                     judges: Iterable[tuple[str, nn.Module]], *, eps: float, batch: int,
                     seed: int) -> Columns:
    """linf of images made on one network, and pred_<judge>, the class that each judge gives; [n].

    `judges` are names and networks; each is asked before the next one is loaded.
    """
    x_adv = attacked(source, split, attack, eps=eps, batch=batch,
                     generator=stream(seed, "queries", split.x.device))
    columns = {"linf": torch.from_numpy(check(split.x, x_adv, eps)).float()}
    for name, judge in judges:
        columns[f"pred_{name}"] = predict(judge, x_adv, batch)
    return columns


def seed_rows(clean: pd.DataFrame, others: list[pd.DataFrame]) -> pd.DataFrame:
    """The images of one seed in the order of `clean`, with their columns of the other measurements.

    An image that a measurement did not see has its columns empty.
    """
    rows = clean
    for columns in others:
        rows = rows.merge(columns, on=["seed", "idx", "label"], how="left")
    return rows


def suite_rows(seeds: list[pd.DataFrame], evaluate: Evaluate) -> pd.DataFrame:
    """The rows of all seeds, below each other, with the outcomes over several attacks.

    white-box: correct on the clean image and at every step of every gradient attack; robust: and
    under all other attacks. Both are empty where one of these attacks was not run on the image.
    """
    rows = pd.concat(seeds, ignore_index=True)
    worst = [column for column in outcome_columns(rows) if column.endswith("_worst")]
    gradient = [column for column in worst
                if isinstance(evaluate.attacks[Outcome.parse(column).attack], Attack)]
    rows[WHITE_BOX] = rows[[CLEAN, *gradient]].min(axis=1, skipna=False)
    rows[ROBUST] = rows[[CLEAN, *worst]].min(axis=1, skipna=False)
    return rows[sorted(rows, key=_kind)]


def _kind(column: str) -> int:
    """Identity, then what the attacks returned, outcomes and complaints; the sort is stable."""
    if is_outcome(column):
        return 2
    if column.startswith("complaint_"):
        return 3
    return 1 if column.endswith("_linf") or column.endswith("_pred") else 0


def suite_metrics(rows: pd.DataFrame, evaluate: Evaluate) -> dict[str, float | int]:
    """Accuracies of a model: the mean over test images of the mean over seeds.

    Of each attack its largest budget, under the convention `last` where it has that.
    """
    shown = [CLEAN, ROBUST, WHITE_BOX]
    for name in evaluate.attacks:
        found = [column for column in outcome_columns(rows) if Outcome.parse(column).attack == name]
        last = [column for column in found if column.endswith("_last")]
        shown.append((last or found)[-1])
    metrics = {"images": rows.idx.nunique(), "seeds": rows.seed.nunique()}
    if searched := [column for column in rows if column.endswith("_search_pred")]:
        metrics["search_differs"] = _search_differs(rows, searched)
    for outcome in shown:
        metrics[f"{outcome}_accuracy"] = float(rows[outcome].groupby(rows.idx).mean().mean())
        if "draws" in rows:
            metrics[f"{outcome}_draw_std"] = draw_std(rows[outcome].dropna(), rows.draws.max())
    return metrics


def _search_differs(rows: pd.DataFrame, searched: list[str]) -> float:
    """Share of the images returned that the stand-in puts into another class than the model."""
    differs = []
    for column in searched:
        seen = rows[rows[column].notna()]
        differs.append((seen[column] != seen[column.replace("_search_", "_")]).mean())
    return float(pd.Series(differs).mean())
