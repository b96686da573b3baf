"""How samples are sharpened or blurred: the field has three conventions, all of this one form."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Temperature:
    """Factors of the weights' logits and of the standard deviations, in sampling only."""

    logits: float = 1.0
    stds: float = 1.0

    def __post_init__(self) -> None:
        if not (0 < self.logits < math.inf and 0 < self.stds < math.inf):
            raise ValueError(
                f"temperature must be positive and finite, not logits x {self.logits}, "
                f"stds x {self.stds}"
            )

    @classmethod
    def world_models(cls, mixture: float, sigma: float | None = None) -> Temperature:
        """Logits / τ, stds x √τ; σ has a τ of its own where it is given.

        Source: Ha & Schmidhuber 2018, A.2; two temperatures: Martin & Torresen 2018, keras-mdn.
        """
        sigma = mixture if sigma is None else sigma
        if not (mixture > 0 and sigma > 0):
            raise ValueError(f"temperature must be positive, not {mixture}, {sigma}")
        return cls(1 / mixture, math.sqrt(sigma))

    @classmethod
    def graves(cls, bias: float) -> Temperature:
        """Logits x (1 + b), stds x exp(-b); b = 0 changes nothing.

        Source: Graves 2013, eqs. 61, 62.
        """
        return cls(1 + bias, math.exp(-bias))

    @classmethod
    def magenta(cls, mixture: float) -> Temperature:
        """Logits / τ, stds x τ². Source: sketch-rnn's released code (its paper: stds x √τ)."""
        if not mixture > 0:
            raise ValueError(f"temperature must be positive, not {mixture}")
        return cls(1 / mixture, mixture**2)

    @classmethod
    def of(cls, temperature: float | Temperature) -> Temperature:
        """Itself; a number is the agent's: `world_models`."""
        return (
            temperature if isinstance(temperature, Temperature) else cls.world_models(temperature)
        )
