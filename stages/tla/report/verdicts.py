"""The box at the head of a report: what one study says of the paper's claims, in a few lines."""

from pathlib import Path

import pandas as pd

from tla.outcomes import Outcome
from tla.params import Params
from tla.report.fill import fill
from tla.report.gain import LEVEL, added, unmoved
from tla.report.hypotheses import Claim, Summary, load_summary, model_of
from tla.report.intact import read_table
from tla.report.labels import AUTHORS, outcome_label, p_value, percent, points
from tla.report.ledger import EXPLORATORY, claim_lines, corrected, to_come
from tla.report.scale import scale_facts
from tla.report.signs import SIGNS
from tla.report.tables import READING, lookup
from tla.train.methods import label

SUMMARY = "experiments/summary/params.yaml"
TEMPLATE = Path(__file__).parents[2] / "verdict.md"
TOPICS = {"attack": "accuracy under attack", "clean": "accuracy on clean images",
          "l2": "accuracy under L2 attacks", "l0": "accuracy under L0 attacks",
          "knn": "retrieval under attack", "auc": "AUC of misclassification detection"}
LEAD = ("attack", "tla", "at")      # the group that the box speaks of first


def lines_of(summary: Summary, params: Params) -> pd.DataFrame:
    """The lines of the ledger that one study has of accuracy and AUC."""
    study, lines = params.dataset, []
    for claim in summary.claims:
        own = study in summary.studies.get(claim.data, [])
        if claim.kind != "cost" and (own or study in summary.beside):
            lines += claim_lines(claim, params, own, summary.level)
    return corrected(pd.DataFrame(lines), summary) if lines else pd.DataFrame()


def topic_of(claim: Claim) -> str:
    """What a claim is about, a key of TOPICS."""
    if claim.kind != "accuracy":
        return claim.kind
    topic = Outcome.parse(claim.primary).attack.partition("-")[0]       # l2-ddn is an L2 attack
    return topic if topic in TOPICS else "attack"


def claim_groups(summary: Summary, params: Params, table: pd.DataFrame) -> dict[tuple, list[dict]]:
    """Lines of the ledger that read claims by what is compared: (topic, model, baseline).

    Of each claim the primary reading, by PGD with restarts first; a claim that is the comparison of
    another is left out. Where the study has data of the paper, claims about other data are too.
    """
    claims, found = {claim.id: claim for claim in summary.claims}, {}
    lines = table[table.same_as.isna()]
    if (lines.own_data & (lines.data != "any")).any():
        lines = lines[lines.own_data]
    lines = lines.sort_values("outcome", key=lambda of: of != READING, kind="stable")
    for line in lines.to_dict("records"):
        claim = claims[line["claim"]]
        if line["outcome"] == claim.primary:
            pair = model_of(claim.model, params), model_of(claim.baseline, params)
            found.setdefault((topic_of(claim), *pair), []).append(line)
    return found


def signs_of(masking: pd.DataFrame, params: Params) -> dict[str, list[str]]:
    """By label of every model with a sign of gradient masking, what the signs mean."""
    found = {}
    for line in masking.to_dict("records"):
        meanings = [meaning for sign, meaning in SIGNS.items() if line[f"flag_{sign}"]]
        if meanings:
            found[label(line["model"], params)] = meanings
    return found


def alike(signs: dict[str, list[str]]) -> dict[tuple[str, ...], list[str]]:
    """The labels of models with the same signs, by what these mean."""
    found = {}
    for name, meanings in signs.items():
        found.setdefault(tuple(meanings), []).append(name)
    return found


def group_facts(key: tuple, lines: list[dict], params: Params, differences: dict[tuple, dict],
                signs: dict[str, list[str]]) -> dict:
    """What the template says of one group: its first reading, AutoAttack's, all its claims.

    masking: which of its two models show a sign of it.
    """
    topic, *pair = key
    called = ["chance" if name == "chance" else label(name, params) for name in pair]
    said, attacked = {}, differences if topic == "attack" else {}
    for line in lines:
        said.setdefault(verdict_of(line), []).append(line["claim"])
    return lines[0] | {"head": f"{' − '.join(called)}, {TOPICS[topic]}", "said": said,
                       "verdict": verdict_of(lines[0]),
                       "autoattack": attacked.get((*pair, "autoattack_worst")),
                       "masking": [name for name in called if name in signs]}


def verdict_of(line: dict) -> str:
    """The verdict of a line of the ledger, the uncorrected one where it only explores."""
    return line["uncorrected"] if line["verdict"] == EXPLORATORY else line["verdict"]


def unequal_facts(params: Params) -> dict:
    """What each unequal treatment in training adds to TLA minus AT, in each network; or nothing.

    moved: with `holds`, whether correction leaves it; same: those that ended in the very networks
    of equal treatment; seeds: of one network or another.
    """
    if not params.variants.gain:
        return {}
    table = read_table(params, "gain")
    first = table.groupby("network").outcome.transform("first")
    trained = table[(table.kind == "alone") & (table.outcome == first)]
    trained, same = trained.assign(holds=trained.added_holm < LEVEL), unmoved(trained)
    return {"moved": trained[~same].to_dict("records"), "same": trained[same].to_dict("records"),
            "seeds": sorted(trained.seeds.unique())}


def scaled_facts(params: Params) -> dict:
    """What is said of TLA minus AT and ALP in other networks and trainings; empty without any."""
    if not params.variants.scale:
        return {}
    lines = read_table(params, "scale")
    facts = scale_facts(params, lines, read_table(params, "scale-trend"))
    return {"about": facts["about"], "variants": facts["about"][0]["variants"],
            "span": facts["span"], "seeds": lines.seeds.max()}


def verdict_facts(summary: Summary, params: Params) -> dict:
    """What the template says of a study; empty where no claim about TLA and AT is read from it."""
    table = lines_of(summary, params)
    groups = {} if table.empty else claim_groups(summary, params, table)
    if LEAD not in groups:
        return {}
    differences = lookup(read_table(params, "differences"), "model", "baseline", "outcome")
    signs, reached = signs_of(read_table(params, "masking"), params), read_table(params, "accuracy")
    found = {key: group_facts(key, lines, params, differences, signs)
             for key, lines in groups.items()}
    accuracy, lead = lookup(reached, "model", "outcome"), found[LEAD]
    pair = [label(name, params) for name in LEAD[1:]]
    made = int((table.p_holm.notna() & table.same_as.isna()).sum())
    return {"lead": lead, "groups": list(found.values()), "own": lead["own_data"],
            "known": lead["own_data"] and pd.notna(lead["published"]),
            "topic": TOPICS[LEAD[0]], "pair": pair, "images": reached.images.max(),
            "smaller": params.model.architecture not in AUTHORS,
            "comparisons": made + to_come(summary)[params.dataset],
            "looks": summary.looks.get(params.dataset, 1),
            "accuracy": [accuracy[name, lead["outcome"]]["accuracy"] for name in LEAD[1:]],
            "unequal": unequal_facts(params), "scaled": scaled_facts(params),
            "trained": len(params.seeds), "square": len(params.evaluate.seeds.get("square", [])),
            "signs": alike({name: signs[name] for name in pair if name in signs}),
            "others": [name for name in signs if name not in pair]}


def verdict_text(params: Params, whole: bool) -> str:
    """The box as Markdown, `whole` with a table of every group; empty where there is no verdict."""
    facts = verdict_facts(load_summary(SUMMARY), params)
    if not facts:
        return ""
    filters = {"percent": percent, "comma": "{:,.0f}".format, "outcome": outcome_label,
               "p": p_value, "points": points, "added": added}
    return fill(TEMPLATE.read_text(), filters, whole=whole, **facts)
