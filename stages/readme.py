"""Put results of the studies, and of the benchmarks, between their markers in README.md.

`make repro` and `make bench` end with it.
"""

import tla.guard  # noqa: F401

from pathlib import Path

import pandas as pd

from tla.files import write_text
from tla.params import Params
from tla.report.text import read_tables, results_table
from tla.train.methods import load_study

START = "<!-- results of {}: written by stages/readme.py -->\n"
END = "<!-- end of results -->"
ATTACKS = ("PGD-100", "PGD-2000", "20 x PGD-20")        # of the benchmark, in the table
NETWORKS = {"digits": "digits MLP", "mnist": "MNIST convnet", "cifar10": "CIFAR-10 ResNet"}
STUDIES = ("params.yaml", "experiments/mnist-fast/params.yaml")


def results(params: Params, root: Path = Path()) -> str:
    """The results table of a study, and what its report says can and cannot be resolved."""
    report = (root / "reports" / params.dataset / "REPORT.md").read_text()
    said = report.partition("\n## What ")[2].partition("\n\n")[2].partition("\n\n## ")[0]
    table = results_table(params, read_tables(params, root), commands=params.root == ".")
    return f"{table}\n\n{said}"


def benchmarks(root: Path = Path()) -> str:
    """Time a step and robust accuracy of each attack library, and the machine they ran on."""
    folder = root / "reports" / "benchmarks"
    runs = pd.read_csv(folder / "attacks.csv")
    runs = runs[(runs.measure == "time a step") & runs.attack.isin(ATTACKS)]
    cells = {}
    # Where one ran on two numbers of images, the larger stands.
    for run in runs.sort_values("images").itertuples():
        cell = f"{run.value:.2f} ({run.low:.2f}–{run.high:.2f}), {run.robust_accuracy:.1f} %"
        cells[run.attack, run.peer, run.network] = cell
    lines = []
    for attack in ATTACKS:
        for peer in runs[runs.attack == attack].peer.unique():
            found = {NETWORKS[name]: cells.get((attack, peer, name), "–") for name in NETWORKS}
            lines.append({"attack": attack, "by": peer} | found)
    table = pd.DataFrame(lines).to_markdown(index=False)
    machine = ", ".join((folder / "machine.txt").read_text().split("\n")).rstrip(", ")
    return f"{table}\n\nMachine: {machine}."


def updated(readme: str, dataset: str, text: str) -> str:
    """The README with the text between a study's markers replaced.

    Raises ValueError without the markers.
    """
    before, found, rest = readme.partition(START.format(dataset))
    _, ended, after = rest.partition(END)
    if not (found and ended):
        raise ValueError(f"README.md lacks the lines {START.format(dataset).strip()} and {END}")
    return f"{before}{found}\n{text}\n\n{END}{after}"


def main() -> None:
    path = Path("README.md")
    readme = path.read_text()
    for study in STUDIES:
        params = load_study(study)
        readme = updated(readme, params.dataset, results(params))
    readme = updated(readme, "make bench", benchmarks())
    write_text(path, readme)


if __name__ == "__main__":
    main()
