"""Tables as columns of tensors and back, to be kept as other measurements are."""

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tla.measure.answers import Columns


def columns_of(found: dict[str, pd.DataFrame | np.ndarray]) -> Columns:
    """Tables and arrays by name as tensors; of a table one a column, <table>/<column>."""
    columns = {}
    for name, content in found.items():
        if isinstance(content, pd.DataFrame):
            for column, values in content.items():
                columns[f"{name}/{column}"] = _tensor(values)
        else:
            columns[name] = torch.from_numpy(content)
    return columns


def frames_of(columns: Columns) -> dict[str, pd.DataFrame | np.ndarray]:
    """The tables, their rows numbered from 0, and arrays that `columns_of` was given."""
    found, tables = {}, {}
    for place, values in columns.items():
        name, slash, column = place.partition("/")
        if slash:
            found[name] = tables.setdefault(name, {})   # keeps its place among the others
            tables[name][column] = _values(values)
        else:
            found[name] = values.numpy()
    return found | {name: pd.DataFrame(table) for name, table in tables.items()}


def _tensor(values: pd.Series) -> Tensor:
    """Numbers, [n], or the bytes of text, [n, longest]."""
    if not pd.api.types.is_string_dtype(values):
        return torch.from_numpy(values.to_numpy(copy=True))
    text = values.to_numpy().astype(bytes)
    return torch.from_numpy(text.view(np.uint8).reshape(len(text), -1).copy())


def _values(tensor: Tensor) -> np.ndarray:
    values = tensor.numpy()
    if values.ndim == 1:
        return values
    return values.view(f"S{values.shape[1]}").ravel().astype(str)
