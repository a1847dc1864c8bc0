"""Put the results tables of the studies between their markers in README.md; `make repro` ends with it."""

from pathlib import Path

from tla.files import write_text
from tla.params import load_params
from tla.text import read_tables, results_table

START, END = "<!-- results of {}: written by stages/readme.py -->\n", "<!-- end of results -->"
STUDIES = ("params.yaml", "experiments/mnist-fast/params.yaml")


def updated(readme: str, dataset: str, table: str) -> str:
    """The README with the text between a study's markers replaced. Raises ValueError without the markers."""
    before, found, rest = readme.partition(START.format(dataset))
    _, ended, after = rest.partition(END)
    if not (found and ended):
        raise ValueError(f"README.md lacks the marker lines {START.format(dataset).strip()} and {END}")
    return f"{before}{found}\n{table}\n\n{END}{after}"


def main() -> None:
    path = Path("README.md")
    readme = path.read_text()
    for study in STUDIES:
        params = load_params(study)
        table = results_table(params, read_tables(params), commands=params.root == ".")
        readme = updated(readme, params.dataset, table)
    write_text(path, readme)


if __name__ == "__main__":
    main()
