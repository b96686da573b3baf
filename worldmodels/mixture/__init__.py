"""Gaussian mixtures: their law, the head that makes them, and temperatures."""

from worldmodels.mixture.head import (
    MAX_LOG_STD,
    MIN_LOG_STD,
    MixtureHead,
    MixtureKind,
    mixture_loss,
    mixture_size,
    split_mixture,
)
from worldmodels.mixture.law import HALF_LOG_2PI, Mixture
from worldmodels.mixture.temperature import Temperature

__all__ = [
    "HALF_LOG_2PI",
    "MAX_LOG_STD",
    "MIN_LOG_STD",
    "Mixture",
    "MixtureHead",
    "MixtureKind",
    "Temperature",
    "mixture_loss",
    "mixture_size",
    "split_mixture",
]
