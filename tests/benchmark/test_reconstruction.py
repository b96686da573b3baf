"""The curve of V's reconstruction on held-out episodes."""

import numpy as np
from benchmark import reconstruction
from benchmark.reconstruction import reconstruction_curve
from benchmark.training import write_episodes

from worldmodels.data.episode import episode_files
from worldmodels.models.vae import VAEConfig
from worldmodels.stages.train_vae import TrainVAEConfig


def test_the_curve_goes_down_and_is_the_same_again(tmp_path, monkeypatch, float32):
    monkeypatch.setattr(reconstruction, "DOOM", VAEConfig(latent_size=64, width=4))
    write_episodes(tmp_path, 10, 9, distinct=10)
    config = TrainVAEConfig(batch_size=8, learning_rate=1e-2, motion_weight=2.0)
    first, second = (
        list(reconstruction_curve(episode_files(tmp_path), config, 160, points=2)) for _ in range(2)
    )
    assert first == second
    assert [point["images"] for point in first] == [80, 160]
    assert first[1]["sum_of_squares"] < first[0]["sum_of_squares"]
    assert np.isfinite(first[1]["mean_square_where_it_moves"])
