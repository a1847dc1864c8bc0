"""What each model is trained with, one file a model, and how the methods call themselves.

A change of a parameter so retrains the models that it concerns and no others.
"""

from pathlib import Path

import pandas as pd

from tla.command import study_arguments
from tla.files import write_json, write_table
from tla.train.methods import METHODS, label, parse_model, training_parameters


def main(argv: list[str] | None = None) -> None:
    params = study_arguments(__doc__, argv)
    reports, lines = Path("reports", params.dataset), []
    for name in params.models:
        known = training_parameters(params, name) | {"seeds": params.seeds}
        write_json(reports / "parameters" / f"{name}.json", known)
        baselines = METHODS[parse_model(name, params).method].BASELINES
        lines.append({"model": name, "label": label(name, params),
                      "baselines": " ".join(baselines)})
    write_table(reports / "models.csv", pd.DataFrame(lines))


if __name__ == "__main__":
    main()
