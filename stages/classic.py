"""Textbook attacks: without a ball, at a chosen class, of smallest distortion; and FGSM over eps for label leaking."""

from itertools import product

import numpy as np
import pandas as pd
import torch

from tla.classic import smallest_l2, smallest_linf, step_in_domain
from tla.core.attacks import least_likely
from tla.core.chance import stream
from tla.core.data import TEST, TRAIN
from tla.files import write_metrics, write_rows, write_table
from tla.study import Columns, Study


def outcomes(study: Study, model: str, seed: int) -> Columns:
    """Class after each attack and the distortions, of the first test images; the chosen class is the next one."""
    settings, eps = study.params.classic, study.params.attack.eps
    network, test = study.network(model, seed), study.test(seed, settings.images)
    chosen, last = (test.y + 1) % study.data.classes, least_likely(lambda x: network(x)[0], test.x)

    def moved(labels, sign, steps):
        step_size = eps if steps == 1 else settings.step_size
        return step_in_domain(lambda x: network(x)[0], test.x, labels, step_size=step_size, steps=steps, sign=sign)

    images = {"clean": test.x, "domain": moved(test.y, 1, settings.steps)} | {
        f"{name}_{kind}": moved(targets, -1, steps) for name, targets in (("chosen", chosen), ("least_likely", last))
        for kind, steps in (("one_step", 1), ("iterative", settings.steps))}
    with torch.no_grad():
        columns = {f"{name}_pred": network(x)[0].argmax(1) for name, x in images.items()}
    columns |= {f"{name}_linf": (x - test.x).abs().flatten(1).amax(1) for name, x in images.items() if name != "clean"}
    return {"idx": test.idx, "label": test.y, "chosen": chosen, "least_likely": last, **columns,
            "smallest_linf": smallest_linf(lambda x: network(x)[0], test.x, chosen, steps=settings.steps,
                                           step_fraction=settings.step_fraction, halvings=settings.halvings,
                                           generator=stream(seed, "queries", study.device)),
            "smallest_l2": smallest_l2(network, test.x, chosen, settings.l2_steps)}


def leaking(study: Study, model: str, seed: int) -> Columns:
    """Clean and FGSM accuracy on training and on test images, one entry per part and eps."""
    settings, lines = study.params.classic, []
    network, position = study.network(model, seed), study.params.seeds.index(seed)
    for part, factor in product((TRAIN, TEST), settings.leaking_factors):
        split = study.data.split(position, part).first(settings.leaking_images)
        eps = factor * study.params.attack.eps
        x_adv = step_in_domain(lambda x: network(x)[0], split.x, split.y, step_size=eps, steps=1, sign=1)
        with torch.no_grad():
            clean, fgsm = ((network(x)[0].argmax(1) == split.y).double().mean() for x in (split.x, x_adv))
        lines.append(torch.stack([torch.tensor(part), torch.tensor(eps), clean.cpu(), fgsm.cpu()]).double())
    return dict(zip(("part", "eps", "clean", "fgsm"), torch.stack(lines).T, strict=True))


def summary(rows: pd.DataFrame) -> pd.Series:
    """One model's line: accuracy or success of each attack, median distortions, share of images that were reached."""
    right = rows.clean_pred == rows.label
    line = {"domain_accuracy": (rows.domain_pred == rows.label).mean(), "domain_linf": rows.domain_linf.mean()}
    for name in ("chosen", "least_likely"):
        for kind in ("one_step", "iterative"):
            line[f"{name}_{kind}_success"] = (rows[f"{name}_{kind}_pred"] == rows[name])[right].mean()
    for name in ("smallest_linf", "smallest_l2"):
        line |= {f"{name}_median": rows[name].median(), f"{name}_reached": np.isfinite(rows[name]).mean()}
    return pd.Series(line)


def main(argv: list[str] | None = None) -> None:
    study = Study(__doc__, argv)
    settings, seeds = study.params.classic, study.params.seeds[:1]

    rows, leaks = (study.each(name, lambda *job, f=function: f(study, *job), seeds, settings, study.params.attack)
                   for name, function in (("classic", outcomes), ("leaking", leaking)))
    table = rows.groupby("model", sort=False).apply(summary).reset_index()

    write_rows(study.rows / "classic.csv.gz", rows)
    write_table(study.reports / "tables" / "classic.csv", table)
    write_table(study.reports / "tables" / "label-leaking.csv", leaks.replace({"part": {TRAIN: "train", TEST: "test"}}))
    write_metrics(study.reports / "metrics" / "classic.json", {
        f"{line.model}_{name}": getattr(line, name) for line in table.itertuples()
        for name in ("chosen_iterative_success", "smallest_linf_median", "smallest_l2_median")})


if __name__ == "__main__":
    main()
