"""What M learns by, beside the likelihood of the next z."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from worldmodels.kernels.rows import present
from worldmodels.models.action import choices_of
from worldmodels.models.masking import masked, masked_mean
from worldmodels.models.mdnrnn import MDNRNN, Heads, symlog


def reward_nll(
    heads: Heads, raw: Float[Tensor, "*batch"], target: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch"]:
    """Negative log-likelihood of a reward, up to a constant.

    Count: Poisson, λ - n ln λ with λ = limit σ(raw). Real: half the squared symlog difference,
    the normal of unit deviation.
    """
    if heads.reward == "real":
        return 0.5 * (raw - symlog(target)).square()
    log_rate = functional.logsigmoid(raw) + torch.log(raw.new_tensor(heads.count_limit))
    return log_rate.exp() - target * log_rate


def termination_loss(
    logits: Float[Tensor, "*batch"], target: Float[Tensor, "*batch"], positive_weight: float
) -> Float[Tensor, "*batch"]:
    """Binary cross-entropy; ends weigh `positive_weight`. Source: released code, 10 for Doom."""
    return functional.binary_cross_entropy_with_logits(
        logits, target, reduction="none", pos_weight=logits.new_tensor(positive_weight)
    )


def risk_loss(
    mdnrnn: MDNRNN,
    z: Float[Tensor, "B T_frames Z"],
    h: Float[Tensor, "B T H"],
    actions: Float[Tensor, "B T A"],
    damaged: Float[Tensor, "B T"],
    terminated: Float[Tensor, "B T"],
    valid: Bool[Tensor, "B T"],
    generator: torch.Generator | None = None,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, ""]:
    """Binary cross-entropy of the risks, summed over the horizons, each a mean over known steps.

    Of each step's risks only that of the choice that was made is known, and only if the episode
    ends within the horizon or goes on beyond it. Steps nearer to T than the horizon are left out:
    there an end would be known, and its absence not.
    """
    heads, horizons = mdnrnn.heads, mdnrnn.config.risk_horizons
    there = valid[:, 1:]
    chosen = choices_of(actions[:, 1:], heads.choices)[there]
    seen = present(z[:, 1:-1], there), present(h[:, :-1], there)
    risks = mdnrnn.risks(*seen, generator, dtype).unflatten(-1, (len(horizons), heads.choices))
    risks = (risks * chosen[:, None]).sum(-1)
    losses = []
    for place, horizon in enumerate(horizons):
        over, hurt, beyond = (
            events[:, 1:].unfold(1, horizon, 1) for events in (terminated, damaged, valid)
        )
        soon = torch.maximum(over, hurt).amax(-1)
        known = beyond[..., 0] & ((over.amax(-1) > 0) | beyond[..., -1])
        soon, known = (functional.pad(part, (0, horizon - 1))[there] for part in (soon, known))
        loss = functional.binary_cross_entropy_with_logits(
            risks[:, place], masked(soon, known), reduction="none"
        )
        losses.append(masked_mean(loss, known))
    return torch.stack(losses).sum()
