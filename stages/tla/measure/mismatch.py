"""The targeted mismatch attack on retrieval (Tolias, Radenovic and Chum 2019).

A query is moved until its embedding meets that of a chosen target, another image: who looks for
neighbours then finds the target's. The paper holds the query near by a penalty, here it is a ball;
no label and no logit has a part.
"""

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tla.measure.embedding import Outputs, outputs, six_digits
from tla.measure.referee import check
from tla.measure.retrieval import neighbor_columns, retrieve, unit
from tla.params import Neighbors
from tla.train.data import Split


def targets(y: Tensor) -> Tensor:
    """Row of the target of each query of the classes y, [n]: the next one of another class.

    After the last comes the first. Raises ValueError where all are of one class.
    """
    n = len(y)
    ahead = (torch.arange(n)[:, None] + torch.arange(n)) % n        # [n, n]: itself, the next, ...
    other = y.cpu()[ahead] != y.cpu()[:, None]
    if not other.any(1).all():
        raise ValueError("all queries are of one class: there is no target of another")
    return ahead.gather(1, other.int().argmax(1, keepdim=True)).squeeze(1).to(y.device)


def moved(model: nn.Module, x: Tensor, goal: Tensor, *, eps: float, step_size: float,
          steps: int) -> Tensor:
    """Queries [n, c, h, w] moved to where their embedding is nearest in cosine to `goal`, [n, d].

    Sign steps from the query itself, each projected to eps ball and [0, 1]; the nearest iterate is
    kept, so that no query ends farther away than it was.
    """
    low, high = (x - eps).clamp(0, 1), (x + eps).clamp(0, 1)
    at, kept = x, x
    nearest = torch.full((len(x),), -torch.inf, dtype=goal.dtype, device=x.device)
    for _ in range(steps + 1):
        at = at.detach().requires_grad_()
        cosine = F.cosine_similarity(model(at)[1], goal, dim=1)
        (gradient,) = torch.autograd.grad(cosine.sum(), at)
        better = cosine.detach() > nearest
        kept = torch.where(better.view(-1, 1, 1, 1), at.detach(), kept)
        nearest = torch.where(better, cosine.detach(), nearest)
        at = torch.add(at.detach(), gradient.sign(), alpha=step_size).clamp(low, high)
    return kept


def mismatch_rows(model: nn.Module, test: Split, gallery: Outputs, labels, classes: int,
                  settings: Neighbors, *, eps: float, batch: int) -> pd.DataFrame:
    """What each query retrieves as it is and moved, one row a query.

    gallery: of the training images, whose classes are `labels`, [m]. Columns idx, label, target
    (idx) and target_label, linf, and of both kinds of query <kind>_distance to the target,
    1 - cosine, <kind>_knn and <kind>_precision as in `neighbor_columns`.
    """
    of, attack = targets(test.y), settings.mismatch
    clean = outputs(model, test.x, batch)
    goal = torch.from_numpy(clean.embedding).to(test.x.device)[of]
    x_adv = torch.cat([
        moved(model, x, near, eps=eps, step_size=attack.rel_step_size * eps, steps=attack.steps)
        for x, near in zip(test.x.split(batch), goal.split(batch), strict=True)])
    y, of = test.y.cpu().numpy(), of.cpu().numpy()
    columns = {"idx": test.idx.cpu(), "label": y, "target": test.idx.cpu()[of],
               "target_label": y[of], "linf": check(test.x, x_adv, eps)}
    for kind, out in (("clean", clean), ("moved", outputs(model, x_adv, batch))):
        cosine = (unit(out.embedding) * unit(clean.embedding)[of]).sum(1)
        columns[f"{kind}_distance"] = six_digits(1 - cosine)
        rows, _ = retrieve(gallery.embedding, out.embedding, settings.k)
        columns |= neighbor_columns(kind, labels[rows], y, classes)
    return pd.DataFrame(columns)
