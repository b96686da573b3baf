"""What M's last layer says where a reward is certain."""

import torch

from worldmodels.models.heads.reward import BINS_EACH_SIDE, GAIN, two_hot


def certain_reward(reward):
    """Outputs of a reward head that says this reward, and nothing else."""
    (right,), (weight,) = two_hot(torch.tensor([reward]))
    outputs = torch.full((2 * BINS_EACH_SIDE + 1,), -100.0)
    for place, share in ((right - 1, 1 - weight), (right, weight)):
        outputs[place] = (abs(place - BINS_EACH_SIDE) + share.log()) / GAIN
    return outputs
