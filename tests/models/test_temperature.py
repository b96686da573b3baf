"""The conventions, in numbers, and what they refuse."""

import math

import pytest

from worldmodels.models.mixture import Temperature


def test_conventions() -> None:
    assert Temperature.of(0.25) == Temperature.world_models(0.25) == Temperature(4.0, 0.5)
    assert Temperature.world_models(2.0, 0.09) == Temperature(0.5, 0.3)
    assert Temperature.graves(0.0) == Temperature.magenta(1.0) == Temperature()
    assert Temperature.graves(3.0) == Temperature(4.0, math.exp(-3))
    assert Temperature.magenta(0.5) == Temperature(2.0, 0.25)
    kept = Temperature(2.0, 3.0)
    assert Temperature.of(kept) is kept


@pytest.mark.parametrize("tau", [0.0, -1.0, math.nan])
def test_a_temperature_must_be_positive(tau: float) -> None:
    for convention in (Temperature.of, Temperature.world_models, Temperature.magenta):
        with pytest.raises(ValueError, match="temperature must be positive"):
            convention(tau)
    with pytest.raises(ValueError, match="temperature must be positive"):
        Temperature.world_models(1.0, tau)


@pytest.mark.parametrize("bias", [-1.0, -2.0, math.inf, math.nan])
def test_a_bias_must_leave_the_weights_their_order(bias: float) -> None:
    with pytest.raises(ValueError, match="temperature must be positive"):
        Temperature.graves(bias)
