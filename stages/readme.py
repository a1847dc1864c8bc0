"""Put results of studies into README.md, and those of the benchmarks into docs/speed.md.

Between markers; `make repro` and `make bench` end with it.
"""

import tla.guard  # noqa: F401

from pathlib import Path

import pandas as pd

from tla.files import read_csv, write_text
from tla.params import Params, UserError
from tla.report.hypotheses import load_summary, path_of
from tla.report.intact import read_table, read_text
from tla.report.labels import DATA, attack_of, eps_label, percent, points
from tla.report.ledger import counts, headline, left_out, other_readings
from tla.report.tables import READING, lookup
from tla.report.text import sample_heads
from tla.report.verdicts import LEAD, SUMMARY, verdict_text
from tla.train.methods import label, load_study

CHECKOUT = "take it from git again"
START = "<!-- {}: written by stages/readme.py -->\n"
END = "<!-- end -->"
ATTACKS = ("PGD-100", "PGD-2000", "20 x PGD-20")        # of the benchmark, in the table
NETWORKS = {"digits": "digits MLP", "mnist": "MNIST convnet", "cifar10": "CIFAR-10 ResNet"}
FIGURE = ("[![Accuracy under a few attacks, and paired differences to AT, with 95 % intervals]"
          "({0}/figures/accuracy-brief.png)]({0}/REPORT.md)")
LISTED = ("um", "at", "alp", "trades", "tla")          # in the table, where the study has them
STANCE = {"contradicted": "against it", "confirmed": "for it", "not resolved": "neither",
          "disagrees": "against it, of one seed", "agrees": "for it, of one seed"}
UNDEFINED = "too few images right, or wrong, for an AUC"
SHOWN = ("clean", READING, "autoattack_worst")


def deciding() -> dict[str, Params]:
    """The study that decides the claims about a data set, by what pages call the data."""
    found = {}
    for data, names in load_summary(SUMMARY).studies.items():
        if data != "any" and names:
            found[DATA[data]] = load_study(path_of(names[0]))
    return found


def verdict(params: Params) -> str:
    """What a study says of the claims, in short, on what images, and its figure."""
    reports = f"reports/{params.dataset}"
    about = (f"On {DATA[params.data.source]}, each pixel changed by up to eps = "
             f"{eps_label(params.attack.eps)} (study [{params.dataset}]({reports}/REPORT.md)):")
    said = verdict_text(params, whole=False)
    return f"{about}\n\n{said}\n{FIGURE.format(reports)}"


def ledger_lines() -> str:
    """How many comparisons of the paper have each verdict; which are decided, what data waits."""
    table = read_csv(Path("reports", "claims.csv"))
    numbers, first = counts(table, "verdict"), headline(table)
    first, said = first[first.same_as.isna()], []
    for verdict, n in numbers.items():
        details = "; ".join(detailed(verdict, first[first.verdict == verdict], table))
        said.append(f"- **{n} {verdict}**" + (f": {details}" if n else ""))
    return "\n".join([f"Of {sum(numbers.values())} comparisons, of the paper or of others with its "
                      "models:", "", *said])


def detailed(verdict: str, lines: pd.DataFrame, table: pd.DataFrame) -> list[str]:
    """What stands behind the number of comparisons with a verdict, in parts."""
    if verdict in ("confirmed", "contradicted"):
        return [f"{line.claim}: {line.says}{beside(table, line)}" for line in lines.itertuples()]
    if verdict == "not run":
        waiting = lines.data.map(DATA).value_counts(sort=False)
        return [f"{n} on {data}" for data, n in waiting.items()]
    if verdict == "not resolved":
        out, published = left_out(table)
        return [f"in {out} of the {published} with a published number, that, taken as exact, is "
                "outside our 95 % interval"]
    return [UNDEFINED]


def beside(table: pd.DataFrame, line) -> str:
    """What other readings of a decided claim say, and other studies; or that it had no test."""
    if pd.isna(line.p):
        steps = load_study(path_of(line.study)).attack.steps
        return f" (by a benchmark, at {steps} attack steps, without a test)"
    others = other_readings(table, line)
    said = [f"{others[name]} {word}" for name, word in STANCE.items() if others[name]]
    there = [f"other readings there, uncorrected: {', '.join(said)}"] if said else []
    found = "; ".join([*there, *elsewhere(table, line)])
    return f" ({found})" if found else ""


def elsewhere(table: pd.DataFrame, line) -> list[str]:
    """The same reading in other studies of the claim's data, in points."""
    same = (table.claim == line.claim) & (table.outcome == line.outcome) & table.own_data
    found = []
    for other in table[same & (table.study != line.study)].itertuples():
        found.append(f"{other.study}, {other.seeds:.0f} seeds: {other.ours:+.1f} "
                     f"[{other.low:+.1f}, {other.high:+.1f}]")
    return found


def results(params: Params) -> str:
    """Accuracy of a few methods in percent, and what each is ahead of AT by."""
    reached, (_, _, baseline) = read_table(params, "accuracy"), LEAD
    heads, lines = sample_heads(params, reached), []
    accuracy = lookup(reached, "model", "outcome")
    differences = lookup(read_table(params, "differences"), "model", "baseline", "outcome")
    for model in LISTED:
        if model in params.models:
            line = {"method": label(model, params)}
            line |= {heads[name]: percent(accuracy[model, name]["accuracy"]) for name in SHOWN}
            ahead = f"{attack_of(READING)}: minus {label(baseline, params)}"
            lines.append(line | {ahead: _ahead(differences, model, baseline)})
    return pd.DataFrame(lines).to_markdown(index=False, disable_numparse=True)


def _ahead(differences: dict[tuple, dict], model: str, baseline: str) -> str:
    """A difference with its interval, points; a pair is in the table in one order."""
    if model == baseline:
        return "–"
    line, sign = differences.get((model, baseline, READING)), 1
    if line is None:
        line, sign = differences[baseline, model, READING], -1
    low, high = sorted((sign * line["low"], sign * line["high"]))
    return f"{points(sign * line['difference'])} [{points(low)}, {points(high)}]"


def benchmarks() -> str:
    """Time a step and robust accuracy of each attack library, and the machine they ran on."""
    folder = Path("reports", "benchmarks")
    runs = read_csv(folder / "attacks.csv")
    runs = runs[(runs.measure == "time a step") & runs.attack.isin(ATTACKS)]
    fewest = runs.groupby(["network", "attack"]).images.transform("min")
    cells, runs = {}, runs.assign(common=runs.images == fewest)
    # Where one ran on two numbers of images, the one that all ran on stands.
    for run in runs.itertuples():
        cell = f"{run.value:.2f} ({run.low:.2f}–{run.high:.2f}), {run.robust_accuracy:.1f} %"
        key = run.attack, run.peer, run.network
        if run.common or key not in cells:
            cells[key] = cell if run.common else f"{cell} of {run.images} images"
    lines = []
    for attack in ATTACKS:
        for peer in runs[runs.attack == attack].peer.unique():
            found = {NETWORKS[name]: cells.get((attack, peer, name), "–") for name in NETWORKS}
            lines.append({"attack": attack, "by": peer} | found)
    table = pd.DataFrame(lines).to_markdown(index=False)
    machine = ", ".join(read_text(folder / "machine.txt", CHECKOUT).splitlines())
    return f"{table}\n\nMachine: {machine}."


def updated(page: str, block: str, text: str) -> str:
    """A page with the text between a block's markers replaced.

    Raises UserError without the markers.
    """
    before, found, rest = page.partition(START.format(block))
    _, ended, after = rest.partition(END)
    if not (found and ended):
        raise UserError(f"README.md or docs/speed.md lacks the lines {START.format(block).strip()} "
                        f"and {END}; {CHECKOUT}")
    return f"{before}{found}\n{text.strip()}\n\n{END}{after}"


def pages() -> dict[Path, str]:
    """The pages with today's numbers."""
    readme, speed = Path("README.md"), Path("docs", "speed.md")
    text = read_text(readme, CHECKOUT)
    for data, params in deciding().items():
        text = updated(text, f"verdict of {data}", verdict(params))
        text = updated(text, f"table of {data}", results(params))
    text = updated(text, "claims", ledger_lines())
    return {readme: text, speed: updated(read_text(speed, CHECKOUT), "table of make bench",
                                         benchmarks())}


def main() -> None:
    for path, text in pages().items():
        write_text(path, text)


if __name__ == "__main__":
    main()
