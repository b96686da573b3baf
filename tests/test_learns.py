"""A whole run that learns: from nothing to an agent that acts clearly better than random."""

import yaml

from worldmodels.files import load_json

CONFIG = {
    "env": {"id": "toy_world:Light-v0", "terminates": False},
    "collect": {"episodes": 60, "max_steps": 20, "explore": {"policy": "held", "hold": [1, 1]}},
    "vae": {"latent_size": 4, "width": 4, "first_weights": "he"},
    "train_vae": {
        "steps": 400,
        "batch_size": 32,
        "learning_rate": 0.003,
        "gradient_clip": 100.0,
        "warmup_steps": 20,
    },
    "mdnrnn": {"hidden_size": 16, "num_mixtures": 3, "reward_head": "world"},
    "train_mdnrnn": {
        "steps": 400,
        "batch_size": 32,
        "sequence_length": 16,
        "learning_rate": 0.01,
        "final_learning_rate": 0.001,
    },
    "dream": {"horizon": 20, "warmup": 4},
    "cma": {"population_size": 12, "sigma0": 0.5},
    "evolve": {
        "generations": 30,
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
