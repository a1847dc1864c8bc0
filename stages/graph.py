"""Write a study's dvc.yaml: the one graph, with the lists of models that DVC cannot expand itself.

The lists are runs of dependencies `data/${dataset}/models/<model>`, `.../rows/<model>` and
`.../embedding/<model>`, and below a line that marks its place, as it may be empty,
`.../rows/variants/<variant>`. A study that was never tuned gets a table of no trials, on which
its report depends. `make graph` runs this for every study that has a graph.
"""

import tla.guard  # noqa: F401

import re
import sys
from pathlib import Path

import pandas as pd

from tla.files import write_table, write_text
from tla.params import Params, load_params
from tla.report.tuning import COLUMNS, trials_path

GRAPH = Path("dvc.yaml")
LINE = r"      - data/\$\{{dataset\}}/{folder}/[a-z0-9-]+\n"    # no dot: files are left alone
VARIANTS = "rows/variants"
MARK = "      # rows of variants, if the study has any\n"


def listed(graph: str, folder: str, models: list[str]) -> str:
    """The graph with each run of dependencies on models in a folder replaced by a line a model."""
    return re.sub(f"(?:{LINE.format(folder=folder)}){{2,}}", lambda _: lines(folder, models), graph)


def lines(folder: str, names: list[str]) -> str:
    """A dependency a name on what lies in a folder."""
    return "".join(f"      - data/${{dataset}}/{folder}/{name}\n" for name in names)


def graph_of(graph: str, params: Params) -> str:
    """The graph as the study needs it."""
    graph = listed(graph, "models", params.models)
    graph = listed(graph, "rows", params.models)
    graph = re.sub(f"{MARK}(?:{LINE.format(folder=VARIANTS)})*",
                   lambda _: MARK + lines(VARIANTS, list(params.variants.trained)), graph)
    return listed(graph, "embedding", params.represent.models)


def main(argv: list[str] | None = None) -> None:
    for config in sys.argv[1:] if argv is None else argv:
        params = load_params(config)
        write_text(Path(config).with_name("dvc.yaml"), graph_of(GRAPH.read_text(), params))
        if not trials_path(params).exists():
            write_table(trials_path(params), pd.DataFrame(columns=COLUMNS))


if __name__ == "__main__":
    main()
