"""A whole run that learns: from nothing to an agent that acts clearly better than random."""

import numpy as np
import toy_world
import yaml

import worldmodels
from worldmodels.files import load_json

CONFIG = {
    "env": {"id": "toy_world:Light-v0", "terminates": False},
    "collect": {"episodes": 60, "max_steps": 20, "explore": {"policy": "held", "hold": [1, 1]}},
    "vae": {"latent_size": 4, "width": 4, "first_weights": "he"},
    "train_vae": {
        "steps": 200,
        "batch_size": 32,
        "learning_rate": 0.003,
        "gradient_clip": 100.0,
        "warmup_steps": 20,
    },
    "mdnrnn": {"hidden_size": 16, "num_mixtures": 3, "reward_head": "world"},
    "train_mdnrnn": {
        "steps": 300,
        "batch_size": 32,
        "sequence_length": 16,
        "learning_rate": 0.01,
        "final_learning_rate": 0.001,
    },
    "dream": {"horizon": 20, "warmup": 4},
    "cma": {"population_size": 12, "sigma0": 0.5},
    "evolve": {
        "generations": 20,
        "rollouts_per_candidate": 8,
        "validate_every": 10,
        "validation_episodes": 8,
        "final_episodes": 8,
    },
    "evaluate": {"episodes": 40},
    "watch": {"seconds": 0.5},
    "workers": {"processes": 1},
}


def test_an_agent_learns_in_the_dream(script, tmp_path):
    """Random actions return 6.7 of 20; the best policy returns 20."""
    file = tmp_path / "light.yaml"
    file.write_text(yaml.safe_dump(CONFIG))
    script("pipeline", "--config", file, "--run", tmp_path / "run")
    report = load_json(tmp_path / "run" / "evaluation.json")
    assert report["baselines"]["random"]["mean"] < 8
    assert report["mean"] > 12
    assert report["baselines"]["random"]["paired_ci95"][0] > 3
    assert report["baselines"]["constant"]["paired_ci95"][0] > 3
    assert report["real_frames"]["evolve"] == 0


def test_an_agent_learns_from_recordings_alone(script, tmp_path):
    """The environment is made only to record, and to measure what the bundle does in it."""
    world, rng = toy_world.Light(), np.random.default_rng(0)
    (tmp_path / "recordings").mkdir()
    for seed in range(60):
        frames, actions, rewards = [world.reset(seed=seed)[0]], rng.integers(0, 3, 20), []
        for action in actions:
            frame, reward, *_ = world.step(action)
            frames.append(frame)
            rewards.append(reward)
        np.savez(
            tmp_path / f"recordings/{seed}.npz", frames=frames, actions=actions, rewards=rewards
        )
    file, run = tmp_path / "light.yaml", tmp_path / "run"
    env = {"id": "recorded", "terminates": False}
    file.write_text(yaml.safe_dump(CONFIG | {"env": env, "watch": {"films": ["temperatures"]}}))
    script("import", tmp_path / "recordings", "--config", file, "--run", run)
    for stage in ("train_vae", "encode", "train_mdnrnn", "evolve", "evaluate"):
        script(stage, "--run", run)
    agent, returns = worldmodels.load(run), []
    for seed in range(1000, 1020):
        frame, earned, over = world.reset(seed=seed)[0], 0.0, False
        agent.reset()
        while not over:
            frame, reward, _, over, _ = world.step(agent.act(frame))
            earned += reward
        returns.append(earned)
    assert np.mean(returns) > 12
