"""Write a study's dvc.yaml: that of the first study, with the other's folder, file and lists.

Nothing is left for DVC to fill in from params.yaml but what was checked here. The lists are those
of models and variants of a matrix, and runs of dependencies `data/<study>/models/<model>`,
`.../rows/<model>` and `.../embedding/<model>`; those that may be empty stand at a comment that
marks their place. A study that was never tuned gets a table of no trials, on which its report
depends. `make graph` runs this for every study that has a graph.
"""

import tla.guard  # noqa: F401

import re
from pathlib import Path

import pandas as pd

from tla.command import Parser
from tla.files import write_table, write_text
from tla.params import Params, UserError, load_params
from tla.report.tuning import COLUMNS, trials_path

GRAPH = Path("dvc.yaml")
LINE = r"      - data/[a-z0-9-]+/{folder}/[a-z0-9-]+\n"     # no dot: files are left alone
VARIANTS = "rows/variants"
MARK = "      # rows of variants, if the study has any\n"


def placed(graph: str, params: Params) -> str:
    """The graph in the folders of a study, by its parameter file."""
    before = re.search(r"data/([a-z0-9-]+)/prepared", graph)[1]
    graph = re.sub(rf"\b(data|reports)/{before}(?=/)", rf"\1/{params.dataset}", graph)
    graph = re.sub(r"(?m)^(  - .* of )[a-z0-9-]+:$", rf"\g<1>{params.dataset}:", graph)    # plots
    graph = re.sub(r"(?m)^(    wdir: ).*$", rf"\g<1>{params.root}", graph)
    graph = re.sub(r'"[./]+(?=/reports/)', f'"{params.root}', graph)
    graph = re.sub(r"(?m)^(    cmd: python stages/\w+\.py) \S+", rf"\1 {params.config}", graph)
    return re.sub(r"(?m)^(      - )\S*params\.yaml:$", rf"\1{params.config}:", graph)


def listed(graph: str, params: Params, folder: str, names: list[str]) -> str:
    """The graph with each run of dependencies in a folder replaced by a line a name."""
    return re.sub(f"(?:{LINE.format(folder=folder)}){{2,}}",
                  lambda _: lines(params, folder, names), graph)


def lines(params: Params, folder: str, names: list[str]) -> str:
    """A dependency a name on what lies in a folder."""
    return "".join(f"      - data/{params.dataset}/{folder}/{name}\n" for name in names)


def matrix(graph: str, key: str, names: list[str]) -> str:
    """The graph with the names of every matrix that is marked as being of a key."""
    items = "".join(f"        - {name}\n" for name in names)
    head = rf"( +\w+:)(?: \[\])?(    # of {re.escape(key)}\n)"
    empty = "" if names else " []"
    return re.sub(rf"{head}(?:        - [a-z0-9-]+\n)*", rf"\1{empty}\2{items}", graph)


def cached(graph: str, params: Params) -> str:
    """The graph with or without weights in DVC's cache."""
    flag = "" if params.cache_models else ": {cache: false}"
    weights = r"(?<=    outs:\n)(      - data/[a-z0-9-]+/models/\$\{item\.model\}).*"
    return re.sub(weights, lambda found: found[1] + flag, graph)


def graph_of(graph: str, params: Params) -> str:
    """The graph as the study needs it."""
    graph, variants = cached(placed(graph, params), params), list(params.variants.trained)
    graph = matrix(graph, "models", params.models)
    graph = matrix(graph, "represent.models", params.represent.models)
    graph = matrix(graph, "variants.trained", variants)
    graph = listed(graph, params, "models", params.models)
    graph = listed(graph, params, "rows", params.models)
    graph = re.sub(f"{MARK}(?:{LINE.format(folder=VARIANTS)})*",
                   lambda _: MARK + lines(params, VARIANTS, variants), graph)
    return listed(graph, params, "embedding", params.represent.models)


def main(argv: list[str] | None = None) -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("configs", nargs="+", help="params.yaml of each study")
    for config in parser.parse_args(argv).configs:
        params = load_params(config)
        if Path(config) != Path(params.config):
            raise UserError(f"{config}: config: is {params.config}; name the file that lies there")
        write_text(Path(config).with_name("dvc.yaml"), graph_of(GRAPH.read_text(), params))
        if not trials_path(params).exists():
            write_table(trials_path(params), pd.DataFrame(columns=COLUMNS))


if __name__ == "__main__":
    main()
