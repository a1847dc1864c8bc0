"""A study on one screen of a terminal: what it says of the claims, and the accuracy of a few."""

import tla.guard  # noqa: F401

import re

from readme import results
from tla.command import study_arguments
from tla.params import Params
from tla.report.labels import eps_label
from tla.report.verdicts import verdict_text


def screen(params: Params) -> str:
    """The box without its marks, and the table of the README for this study."""
    box = verdict_text(params, whole=False)
    box = re.sub(r"(?m)^> ?|\*\*", "", box)
    table = re.sub(r"(?:  |--)\|", "|", results(params))     # else wider than a terminal
    return f"{params.dataset}, eps = {eps_label(params.attack.eps)}\n{box}\n{table}"


def main(argv: list[str] | None = None) -> None:
    print(screen(study_arguments(__doc__, argv)))


if __name__ == "__main__":
    main()
