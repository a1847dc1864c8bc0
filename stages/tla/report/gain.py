"""What unequal treatment adds to TLA minus AT, its parts switched on one by one and together."""

import pandas as pd

from tla.params import Params, Reading
from tla.report.pairs import shared
from tla.report.published import published_gain
from tla.report.scale import VariantRows
from tla.report.statistics import holm
from tla.report.tables import interval, minus

LEVEL = 0.05    # ours, of Holm's p: that of the intervals


def gain_table(params: Params, rows: VariantRows) -> pd.DataFrame:
    """The lines of every network in which it was asked what unequal treatment adds."""
    networks = params.variants.gain
    return pd.concat([gain_lines(network, params, rows) for network in networks])


def gain_lines(network: str, params: Params, rows: VariantRows) -> pd.DataFrame:
    """A line per reading: TLA minus AT, and what that is more than under equal treatment.

    added_holm is Holm's p over the readings that switch on one treatment, or attack, alone.
    """
    gain, lines = params.variants.gain[network], []
    for kind, readings in (("equal", [gain.equal]), ("alone", gain.alone),
                           ("together", gain.together)):
        for reading in readings:
            line = {"network": network, "kind": kind} | gain_line(reading, params, rows)
            if kind != "equal":
                line |= added_line(reading, gain.equal, params, rows)
            lines.append(line)
    table = pd.DataFrame(lines)
    alone = table.kind == "alone"
    return table.assign(added_holm=pd.Series(holm(table.added_p[alone]), table.index[alone]))


def gain_line(reading: Reading, params: Params, rows: VariantRows) -> dict:
    """TLA minus AT as a reading has it, beside what is published under its attack."""
    tla, at = sides(reading, rows)
    return {"says": reading.says, "source": reading.source, "outcome": reading.outcome,
            "published": published_gain(params, reading.outcome, "at"),
            **interval(minus(tla, at, reading.outcome), tla, shared(params))}


def added_line(reading: Reading, equal: Reading, params: Params, rows: VariantRows) -> dict:
    """What a reading is more than equal treatment, over the images that both have.

    Under the same attack, or from one attack to another where the networks are the same.
    """
    tla, at = sides(reading, rows)
    same_networks = (reading.tla, reading.at) == (equal.tla, equal.at)
    fair = minus(*sides(equal, rows), (equal if same_networks else reading).outcome)
    found = interval(minus(tla, at, reading.outcome) - fair, tla, shared(params))
    return {"added": found["difference"], "added_low": found["low"], "added_high": found["high"],
            "added_p": found["p"]}


def sides(reading: Reading, rows: VariantRows) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of TLA and of AT that a reading compares."""
    return rows[reading.tla]["tla"], rows[reading.at]["at"]


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
    alone, together = lines[lines.kind == "alone"], lines[lines.kind == "together"]
    equal = lines.iloc[0]
    as_equal = together[together.outcome == equal.outcome]
    most = (together if as_equal.empty else as_equal).iloc[0]
    left = {"difference": most.published - most.difference, "low": most.published - most.high,
            "high": most.published - most.low}
    same = unmoved(alone)
    resolved = (alone.added_low > 0) | (alone.added_high < 0)
    return {"lines": lines.to_dict("records"), "equal": equal.to_dict(), "most": most.to_dict(),
            "left": left, "same": alone[same].says.tolist(),
            "resolved": alone[resolved].says.tolist(),
            "after_holm": alone[alone.added_holm < LEVEL].says.tolist(),
            "ours": lines[lines.source.str.startswith("ours")].says.tolist()}
