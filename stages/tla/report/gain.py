"""What unequal treatment adds to TLA minus AT, its parts switched on one by one and together."""

import pandas as pd

from tla.outcomes import Outcome
from tla.params import Params, Reading
from tla.report.pairs import shared
from tla.report.published import FORMS, published_gain
from tla.report.scale import Variants, interval, minus
from tla.report.statistics import holm

LEVEL = 0.05    # ours, of Holm's p: that of the intervals
# What the poster calls an attack; all others are PGD.
POSTER = {name: attack for attack, names in FORMS.items() for name in names}


def gain_table(params: Params, rows: Variants) -> pd.DataFrame:
    """The lines of every network in which it was asked what unequal treatment adds."""
    networks = params.variants.gain
    return pd.concat([gain_lines(network, params, rows) for network in networks])


def gain_lines(network: str, params: Params, rows: Variants) -> pd.DataFrame:
    """A line per reading: TLA minus AT, and what that is more than under equal treatment.

    Columns from `added` on say the latter, over the images that both readings have: under the same
    attack, or from one attack to another where the networks are the same. added_holm is Holm's p
    over the readings that switch on one treatment, or attack, alone.
    """
    gain, lines = params.variants.gain[network], []
    kinds = ["equal", *["alone"] * len(gain.alone), *["together"] * len(gain.together)]
    fair = sides(gain.equal, rows)
    for kind, reading in zip(kinds, gain.readings, strict=True):
        tla, at = sides(reading, rows)
        difference = minus(tla, at, reading.outcome)
        same_networks = (reading.tla, reading.at) == (gain.equal.tla, gain.equal.at)
        equal = minus(*fair, (gain.equal if same_networks else reading).outcome)
        line = {"network": network, "kind": kind, "says": reading.says, "source": reading.source,
                "outcome": reading.outcome,
                "published": published_gain(params, attack_of(reading), "at"),
                **interval(difference, tla, shared(params))}
        if kind != "equal":
            added = interval(difference - equal, tla, shared(params))
            line |= {"added": added["difference"], "added_low": added["low"],
                     "added_high": added["high"], "added_p": added["p"]}
        lines.append(line)
    table = pd.DataFrame(lines)
    alone = table.kind == "alone"
    return table.assign(added_holm=pd.Series(holm(table.added_p[alone]), table.index[alone]))


def sides(reading: Reading, rows: Variants) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of TLA and of AT that a reading compares."""
    return rows[reading.tla]["tla"], rows[reading.at]["at"]


def attack_of(reading: Reading) -> str:
    """What the poster calls the attack of a reading."""
    return POSTER.get(Outcome.parse(reading.outcome).attack, "PGD")


def added(line: dict) -> dict[str, float]:
    """What a reading adds, as a difference with its interval."""
    return {"difference": line["added"], "low": line["added_low"], "high": line["added_high"]}


def unmoved(lines: pd.DataFrame) -> pd.Series:
    """Which treatments ended in the very networks of equal treatment."""
    return (lines.added_low == 0) & (lines.added_high == 0)


def gain_facts(table: pd.DataFrame) -> dict[str, dict]:
    """What the template says of the gain in each network."""
    return {name: network_facts(lines) for name, lines in table.groupby("network", sort=False)}


def network_facts(lines: pd.DataFrame) -> dict:
    """Of one network; left: of the published gain when all of training is switched on.

    That is read under the attack of equal treatment, where it was, else as the first line says.
    """
    alone, together = (lines[lines.kind == kind] for kind in ("alone", "together"))
    equal = lines.iloc[0]
    most = pd.concat([together[together.outcome == equal.outcome], together]).iloc[0]
    left = {"difference": most.published - most.difference, "low": most.published - most.high,
            "high": most.published - most.low}
    same = unmoved(alone)
    resolved = (alone.added_low > 0) | (alone.added_high < 0)
    return {"lines": lines.to_dict("records"), "equal": equal.to_dict(), "most": most.to_dict(),
            "left": left, "same": alone[same].says.tolist(),
            "resolved": alone[resolved].to_dict("records"),
            "after_holm": alone[alone.added_holm < LEVEL].to_dict("records"),
            "ours": [line for line in lines.to_dict("records")
                     if line["source"].startswith("ours")]}
