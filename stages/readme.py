"""Put the results table of the digits study between the markers of README.md; `make repro` ends with it."""

from pathlib import Path

import pandas as pd

from tla.files import write_text
from tla.params import load_params
from tla.text import results_table

START, END = "<!-- results: written by stages/readme.py -->\n", "<!-- end of results -->"


def updated(readme: str, table: str) -> str:
    """The README with the text between the markers replaced. Raises ValueError without the markers."""
    before, found, rest = readme.partition(START)
    _, ended, after = rest.partition(END)
    if not (found and ended):
        raise ValueError(f"README.md lacks the marker lines {START.strip()} and {END}")
    return f"{before}{START}\n{table}\n\n{END}{after}"


def main() -> None:
    params = load_params("params.yaml")
    accuracy = pd.read_csv(Path("reports", params.dataset, "tables", "accuracy.csv"))
    readme = Path("README.md")
    write_text(readme, updated(readme.read_text(), results_table(params, accuracy, commands=True)))


if __name__ == "__main__":
    main()
