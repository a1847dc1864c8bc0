"""The referee refuses what no attack may return, accepts rounding, shares no code with attacks."""

import ast
import inspect

import numpy as np
import pytest
import torch

from tla.measure import referee
from tla.measure.referee import check


def originals(dtype=np.float32):
    return np.random.default_rng(0).uniform(0.2, 0.8, (4, 1, 3, 3)).astype(dtype)


def test_returns_the_largest_change_of_each_image():
    x = originals(np.float64)
    x_adv = x.copy()
    x_adv[1, 0, 2, 2] -= 0.05
    x_adv[2, 0, 0, 0] += 0.1
    x_adv[2, 0, 1, 1] += 0.02
    assert check(x, x_adv, 0.1) == pytest.approx([0, 0.05, 0.1, 0])


@pytest.mark.parametrize("sign", [-1, 1])
def test_refuses_an_image_out_of_the_ball(sign):
    x_adv = originals()
    x_adv[3, 0, 1, 1] += sign * 0.1001
    with pytest.raises(ValueError, match="eps"):
        check(originals(), x_adv, 0.1)


@pytest.mark.parametrize("value", [-0.01, 1.01])
def test_refuses_pixels_out_of_range(value):
    x_adv = originals()
    x_adv[0, 0, 0, 0] = value
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        check(originals(), x_adv, 1.0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_refuses_pixels_that_are_not_finite(value):
    x_adv = originals()
    x_adv[0, 0, 0, 0] = value
    with pytest.raises(ValueError, match="1 adversarial pixels are not finite"):
        check(originals(), x_adv, 1.0)


@pytest.mark.parametrize("shape", [(3, 1, 3, 3), (4, 3, 3), (4, 1, 3, 4), (4, 1, 1, 1)], ids=str)
def test_refuses_another_shape(shape):
    with pytest.raises(ValueError, match="shape"):
        check(originals(), np.full(shape, 0.5), 1.0)


@pytest.mark.parametrize("eps", [0.1, 8 / 255, 0.3])
def test_accepts_the_rounding_of_float32(eps):
    """x + eps in float32 may differ from x by more than eps, as seen in float64."""
    x = torch.rand(2000, 1, 2, 2, generator=torch.Generator().manual_seed(0)) * (1 - eps)
    x_adv = x + eps
    assert (x_adv.double() - x.double()).max() > eps
    assert check(x, x_adv, eps) == pytest.approx(np.full(2000, eps), abs=1e-6)


def test_a_tolerance_larger_than_rounding_is_not_granted():
    x = originals(np.float64)
    with pytest.raises(ValueError, match="eps"):
        check(x, x + 0.1 + 1e-5, 0.1)


def test_accepts_tensors_and_arrays_alike():
    x = originals()
    tensors = torch.from_numpy(x), torch.from_numpy(x + 0.05)
    assert np.array_equal(check(*tensors, 0.1), check(x, x + 0.05, 0.1))


def test_imports_numpy_alone():
    imported = set()
    for node in ast.walk(ast.parse(inspect.getsource(referee))):
        assert not isinstance(node, ast.ImportFrom)
        if isinstance(node, ast.Import):
            imported |= {name.name for name in node.names}
    assert imported == {"numpy"}
