"""The studies whose results are committed: those that have a graph."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
STUDIES = sorted(
    str(graph.with_name("params.yaml").relative_to(ROOT))
    for graph in (ROOT / "dvc.yaml", *(ROOT / "experiments").glob("*-*/dvc.yaml")))
