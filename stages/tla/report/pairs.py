"""Which models are set against which, and whether on the same images of every seed."""

from operator import itemgetter

from tla.params import Params, UserError
from tla.train.methods import METHODS, parse_model

Pair = tuple[str, str]


def pools(params: Params) -> dict[str, int]:
    """Every TLA of the study, `tla` among them, and the size of its pool; smallest first."""
    found = {}
    for name in params.models:
        model = parse_model(name, params)
        if model.method == "tla":
            found[name] = model.pool
    return dict(sorted(found.items(), key=itemgetter(1)))


def compared(params: Params) -> list[Pair]:
    """Every (model, baseline) of the study, those of `tla` first.

    Each model is set against the BASELINES of its method that are in the study, pools against each
    other, and `tla` also against the undefended model, as in the paper's retrieval. Raises
    UserError where that leaves a model alone.
    """
    chosen = []
    for name in params.models:
        for baseline in METHODS[parse_model(name, params).method].BASELINES:
            if baseline in params.models:
                chosen.append((name, baseline))
    chosen += among_pools(list(pools(params)))
    for name in params.models:
        if not any(name in pair for pair in chosen):
            raise UserError(f"{params.config}: models: {name} is compared with no other model; "
                            "list one of the BASELINES of its method")
    of_tla = [pair for pair in chosen if pair[0] == "tla"]
    return list(dict.fromkeys([*of_tla, ("tla", "um"), *chosen]))


def among_pools(names: list[str]) -> list[Pair]:
    """`tla` against every other pool, each pool against 1, the largest against the next smaller.

    The first says what the choice of the pool is worth, the second what mining is worth at all, the
    third whether too large a pool does harm, as the paper claims. names: smallest pool first.
    """
    swept = [name for name in names if name != "tla"]
    chosen = [("tla", name) for name in swept]
    if "tla-b1" in swept:
        chosen += [(name, "tla-b1") for name in swept if name != "tla-b1"]
    if len(names) > 1:
        chosen.append((names[-1], names[-2]))
    return chosen


def compared_auc(params: Params) -> list[Pair]:
    """`tla` against every other model that was scored, and the undefended one against chance."""
    others = [name for name in params.represent.models if name != "tla"]
    return [*(("tla", name) for name in others), ("um", "chance")]


def shared(params: Params) -> bool:
    """Whether all seeds have the same test images."""
    return params.data.folds is None


def headlined(params: Params, pair: Pair) -> bool:
    """Whether REPORT.md shows a pair: other pools than TLA and TLA-RN only against pools."""
    swept = pools(params)
    model, baseline = pair
    return model in ("tla", "tla-b1") or model not in swept or baseline in swept
