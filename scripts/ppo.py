"""PPO of stable-baselines3 on CarRacing, for as many minutes as the quick run takes.

    pip install "stable-baselines3>=2.7"
    python scripts/ppo.py --minutes 40
    python scripts/ppo.py --minutes 40 --env worldmodels/CarRacing-v3

Trains with the settings of rl-baselines3-zoo, tests on the first test tracks of the official world,
and prints one JSON line. The learning rate falls to zero over the minutes that are given.
"""

import json
import math
import time
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.wrappers import GrayscaleObservation, ResizeObservation
from jsonargparse import auto_cli
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import SubprocVecEnv, VecEnv, VecFrameStack, VecNormalize

import worldmodels  # noqa: F401  (registers worldmodels/CarRacing-v3)
from worldmodels.acting.evaluate import interval
from worldmodels.seeding import environment_seeds


class FrameSkip(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Holds each action for two frames."""

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        total = 0.0
        for _ in range(2):
            observation, reward, terminated, truncated, info = self.env.step(action)
            total += float(reward)
            if terminated or truncated:
                break
        return observation, total, terminated, truncated, info


def _wrapped(env: gymnasium.Env[Any, Any]) -> gymnasium.Env[Any, Any]:
    return GrayscaleObservation(ResizeObservation(FrameSkip(env), (64, 64)), keep_dim=True)


def _environments(name: str, number: int, seed: int) -> VecEnv:
    made = make_vec_env(name, number, seed, wrapper_class=_wrapped, vec_env_cls=SubprocVecEnv)
    return VecFrameStack(made, 2)


class _Stop(BaseCallback):
    """Ends training after some seconds, and lets the learning rate fall until then."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds, self.begun = seconds, math.inf

    def left(self) -> float:
        """The share of the time that is left."""
        passed = max(time.monotonic() - self.begun, 0.0)
        return max(1 - passed / self.seconds, 0.0)

    def _on_training_start(self) -> None:
        self.begun = time.monotonic()

    def _on_step(self) -> bool:
        return self.left() > 0


def main(
    minutes: float = 20.0, env: str = "CarRacing-v3", episodes: int = 100, seed: int = 0
) -> None:
    """Trains and tests.

    Args:
        minutes: of training; the test comes on top.
        env: trained in: the official environment, or the redrawn one.
        episodes: test tracks.
        seed: of the weights, the noise and the training tracks.
    """
    torch.set_num_threads(2)
    stop = _Stop(60 * minutes)
    model = PPO(
        "CnnPolicy",
        VecNormalize(_environments(env, 8, seed), norm_obs=False),
        batch_size=128,
        n_steps=512,
        gamma=0.99,
        gae_lambda=0.95,
        n_epochs=10,
        ent_coef=0.0,
        use_sde=True,
        sde_sample_freq=4,
        max_grad_norm=0.5,
        vf_coef=0.5,
        learning_rate=lambda _: 1e-4 * stop.left(),
        clip_range=0.2,
        policy_kwargs={
            "log_std_init": -2,
            "ortho_init": False,
            "activation_fn": torch.nn.GELU,
            "net_arch": {"pi": [256], "vf": [256]},
        },
        seed=seed,
    )
    model.learn(10**9, callback=stop)
    returns = _test(model, episodes)
    found = interval(np.array(returns))
    print(
        json.dumps(
            {
                "env": env,
                "minutes": minutes,
                "frames": 2 * model.num_timesteps,
                "seed": seed,
                "episodes": episodes,
                "mean": round(found.mean, 1),
                "std": round(found.std, 1),
                "ci95": [round(bound, 1) for bound in found.ci95],
            }
        )
    )


def _test(model: PPO, episodes: int) -> list[float]:
    """Returns in the official environment, of the policy's most probable actions."""
    tested = VecFrameStack(make_vec_env("CarRacing-v3", 1, wrapper_class=_wrapped), 2)
    returns = []
    for seed in environment_seeds("test", 0, episodes):
        tested.seed(seed)
        observation: Any = tested.reset()
        done, total = False, 0.0
        while not done:
            actions, _ = model.predict(observation, deterministic=True)
            observation, rewards, dones, _ = tested.step(actions)
            total, done = total + float(rewards[0]), bool(dones[0])
        returns.append(total)
    return returns


if __name__ == "__main__":
    auto_cli(main)
