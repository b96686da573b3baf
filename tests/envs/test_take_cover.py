"""TakeCover: the paper's game, started beside others and leaving nothing behind."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("vizdoom")

from vizdoom import GameVariable

from worldmodels.envs.take_cover import TAKE_COVER, make_doom
from worldmodels.errors import InputError


def make_take_cover(**kwargs):
    return make_doom("VizdoomTakeCover-v1", **{**TAKE_COVER, **kwargs})


START = """
import os, sys
from worldmodels.envs.take_cover import TAKE_COVER, make_doom
here = os.getcwd()
env = make_doom("VizdoomTakeCover-v1", **TAKE_COVER)
sys.stdin.readline()
env.reset(seed=int(sys.argv[1]))
total = sum(env.step(0)[1] for _ in range(20))
env.close()
assert os.getcwd() == here
print("steps", int(total))
"""


def play(env, seed, steps):
    observation, _ = env.reset(seed=seed)
    screens = [observation["screen"]]
    for step in range(steps):
        observation, reward, terminated, truncated, _ = env.step(step // 5 % 3)
        assert reward == 1
        screens.append(observation["screen"])
        if terminated or truncated:
            break
    return np.array(screens), terminated, truncated


def test_the_papers_game_and_a_clean_end(tmp_path):
    env = make_take_cover()
    game = env.unwrapped.game
    assert game.get_doom_skill() == 4
    assert game.get_episode_start_time() == 14
    assert game.get_episode_timeout() == 2100
    assert env.action_space.n == 3
    screens, terminated, truncated = play(env, seed=1, steps=2200)
    assert screens.shape[1:] == (240, 320, 3)
    assert (terminated, truncated) == (True, False)
    assert not screens[-1].any()  # ViZDoom has no last picture
    again, *_ = play(env, seed=1, steps=2200)
    assert (again == screens).all()
    assert Path.cwd() == tmp_path
    assert list(tmp_path.iterdir()) == []
    folder = Path(env.folder)
    assert folder.is_dir()
    env.close()
    assert not folder.exists()


def test_a_time_out_is_no_death():
    env = make_doom("VizdoomTakeCover-v1", episode_start_time=14, episode_timeout=40)
    screens, terminated, truncated = play(env, seed=1, steps=100)
    assert (terminated, truncated) == (False, True)
    assert len(screens) - 1 == 40
    env.close()


def test_a_killed_game_starts_again_in_its_folder(tmp_path):
    env = make_take_cover(episode_timeout=40)
    env.reset(seed=1)
    env.unwrapped.game.close()
    env.reset(seed=1)
    assert env.step(0)[1] == 1
    env.close()
    assert list(tmp_path.iterdir()) == []


def test_games_starting_at_once_in_one_folder(tmp_path):
    starting = [
        subprocess.Popen(
            [sys.executable, "-c", START, str(seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
        )
        for seed in range(3)
    ]
    for process in starting:
        process.stdin.write("\n")
        process.stdin.flush()
    for process in starting:
        output, _ = process.communicate(timeout=60)
        assert "steps 20" in output
        assert process.returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_a_held_action_is_the_same_game_with_fewer_pictures():
    drawn, held = make_take_cover(), make_take_cover()
    for seed in (3, 4):
        drawn.reset(seed=seed)
        held.reset(seed=seed)
        ended, step = False, 0
        while not ended:
            action, rewards = step // 4 % 3, 0.0
            screen, reward, *flags, _ = held.hold(action, 4)
            for _ in range(4):
                observation, one, *expected, _ = drawn.step(action)
                rewards += one
                if any(expected):
                    break
            assert (reward, flags) == (rewards, expected)
            assert (screen["screen"] == observation["screen"]).all()
            ended, step = any(flags), step + 1
    assert held.unwrapped.frame_skip == 1
    for env in (drawn, held):
        env.close()


def test_a_late_start_is_a_game_in_which_the_player_has_survived_so_far():
    """The same seed begins at the same tic, with full health; the player can then die."""
    env = make_take_cover()
    game, begun, deaths = env.unwrapped.game, [], 0
    for seed in (3, 4, 5, 3):
        screen = env.reset(seed=seed, options={"late_start": 1600})[0]["screen"]
        before = game.get_episode_time(), env.damage_taken
        assert screen.any()
        assert before[0] < 14 + 1600
        begun.append((*before, screen))
        *_, terminated, truncated, _ = env.hold(0, 1)
        assert game.get_game_variable(GameVariable.HEALTH) > 0
        while not (terminated or truncated):
            *_, terminated, truncated, _ = env.hold(0, 4)
        assert game.get_episode_time() <= 14 + 2100
        assert env.damage_taken - before[1] >= (100 if terminated else 0)
        deaths += terminated
    assert deaths >= 3
    assert any(damage >= 100 for _, damage, _ in begun)  # the player would have died
    assert len({tic for tic, *_ in begun}) == 3
    assert begun[0][:2] == begun[3][:2]
    assert (begun[0][2] == begun[3][2]).all()
    env.reset(seed=3)
    assert game.get_episode_time() == 14
    for wrong in (0, 2100, "late", 1.5):
        with pytest.raises(InputError, match=r"late_start is .* between 1 and 2099"):
            env.reset(seed=3, options={"late_start": wrong})
    with pytest.raises(InputError, match="'late_strat' is unknown: there is late_start"):
        env.reset(seed=3, options={"late_strat": 1600})
    env.close()


def test_a_late_start_leaves_the_time_limit():
    env = make_take_cover(episode_timeout=300)
    for seed in range(6):
        env.reset(seed=seed, options={"late_start": 299})
        terminated = truncated = False
        while not (terminated or truncated):
            *_, terminated, truncated, _ = env.step(0)
        time = env.unwrapped.game.get_episode_time()
        assert time == 14 + 300 if truncated else time < 14 + 300
        if truncated:
            break
    assert truncated
    env.close()


def test_damage_is_counted_as_the_health_falls():
    env = make_take_cover()
    game, healths, damages = env.unwrapped.game, [], []
    for seed in range(5):
        env.reset(seed=seed)
        ended = False
        while not ended:
            healths.append(game.get_game_variable(GameVariable.HEALTH))
            damages.append(env.damage_taken)
            *_, terminated, truncated, _ = env.hold(1, 4)
            ended = terminated or truncated
        assert terminated
        assert env.damage_taken >= 100
    assert [100 - damage for damage in damages] == healths
    assert min(healths) < 100
    env.close()
