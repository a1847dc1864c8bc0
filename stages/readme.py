"""Put results of the studies between their markers in README.md; `make repro` ends with it."""

from pathlib import Path

from tla.files import write_text
from tla.params import Params
from tla.report.text import read_tables, results_table
from tla.train.methods import load_study

START = "<!-- results of {}: written by stages/readme.py -->\n"
END = "<!-- end of results -->"
STUDIES = ("params.yaml", "experiments/mnist-fast/params.yaml")


def results(params: Params, root: Path = Path()) -> str:
    """The results table of a study, and what its report says can and cannot be resolved."""
    report = (root / "reports" / params.dataset / "REPORT.md").read_text()
    said = report.partition("\n## What ")[2].partition("\n\n")[2].partition("\n\n## ")[0]
    table = results_table(params, read_tables(params, root), commands=params.root == ".")
    return f"{table}\n\n{said}"


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
    write_text(path, readme)


if __name__ == "__main__":
    main()
