"""The dream: a known world's statistics, lanes that leave each other alone, two registrations."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode

from worldmodels.artifacts import Bundle
from worldmodels.data.starts import Starts
from worldmodels.envs.dream import DreamConfig, DreamEnv, make_dream
from worldmodels.errors import InputError
from worldmodels.models.action import Actions
from worldmodels.models.engine import CompiledEngine, ReferenceEngine
from worldmodels.models.heads.reward import CountHead, RewardHead
from worldmodels.models.heads.risk import RiskHead
from worldmodels.models.heads.termination import TerminationHead
from worldmodels.models.mdnrnn import MDNRNN, Head, MDNRNNConfig
from worldmodels.models.vae import VAE, VAEConfig
from worldmodels.world import EnvConfig, RawPicture, World

CONSTANT = EnvConfig(reward="constant", reward_per_frame=1.0, action_repeat=2)


def dream(mdnrnn, num_envs, mode=AutoresetMode.DISABLED, starts=None, world=CONSTANT, **options):
    """A dream whose first frames are z = 1, unless starts are given."""
    z = torch.ones(1, 1, mdnrnn.latent_size)
    starts = starts or Starts(z, torch.zeros(1, 1, mdnrnn.action_size), torch.ones(1))
    size = mdnrnn.action_size
    world = world_of(world, Actions("box", (-1.0,) * size, (1.0,) * size))
    vae = options.pop("vae", None)
    inputs = options.pop("inputs", "zh")
    engine = options.pop("engine", "float32")
    settings = {"autoreset_mode": mode, "inputs": inputs, "vae": vae}
    env = DreamEnv(mdnrnn, starts, world, DreamConfig(**options), num_envs, **settings)
    env.engine = engine_of(mdnrnn, engine, num_envs)
    return env


def world_of(env, actions):
    return World(env, actions.to_dict(), 30.0, {}, RawPicture((64, 64, 3)))


def engine_of(mdnrnn, name, num_envs):
    """The reference in PyTorch, or the compiled engine with products of that type."""
    if name == "reference":
        return ReferenceEngine(mdnrnn)
    return CompiledEngine(mdnrnn, getattr(torch, name), num_envs)


def lively(restart_input=False, mixture="per_dimension", heads=()):
    """A random M whose dreams are eventful: Z = 3, A = 2, H = 8."""
    torch.manual_seed(1)
    config = MDNRNNConfig(hidden_size=8, restart_input=restart_input, mixture=mixture)
    mdnrnn = MDNRNN(config, 3, 2, heads).requires_grad_(False)
    for parameter in mdnrnn.parameters():
        parameter.mul_(3)
    return mdnrnn


def some_starts(window=4, count=5):
    generator = torch.Generator().manual_seed(3)
    mu = torch.randn(count, window, 3, generator=generator)
    actions = torch.rand(count, window, 2, generator=generator)
    return Starts(mu, actions, torch.tensor([1.0, 0.0, 0.0, 1.0, 0.0])[:count])


ENGINES = ["reference", "float32", pytest.param("bfloat16", marks=pytest.mark.bfloat16)]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (np.zeros((1, 2), np.float32), r"\(1, 2\).*64 lanes.*\(64, 2\)"),
        (np.zeros((80, 2), np.float32), r"\(80, 2\).*\(64, 2\)"),
        (np.zeros((64, 3)), r"\(64, 3\).*\(64, 2\)"),
        (np.zeros(2), r"\(2,\)"),
        (np.zeros((64, 2), complex), "complex128.*real numbers"),
        (np.full((64, 2), "left"), "real numbers"),
        (np.full((64, 2), np.nan), "lane 0 is .*nan.*finite"),
        (np.full((64, 2), 1e300), "finite"),
    ],
)
def test_actions_that_do_not_fit_are_refused_before_a_lane_is_stepped(engine, actions, message):
    env = dream(lively(), 64, engine=engine)
    before = env.reset(seed=[0] * 64)[0]
    with pytest.raises(InputError, match=message):
        env.step(actions)
    assert not env.steps.any()
    np.testing.assert_array_equal(env._observation(), before)


def test_what_numpy_cannot_read_is_refused(no_type_checks):
    env = dream(lively(), 2)
    env.reset(seed=0)
    with pytest.raises(InputError, match="actions cannot be made one NumPy array"):
        env.step(torch.zeros(2, 2, dtype=torch.bfloat16))


def test_any_real_numbers_are_actions():
    steps = []
    for dtype in (bool, np.int64, np.float64, np.dtype(">f4")):
        env = dream(lively(), 2)
        env.reset(seed=0)
        steps.append(env.step(np.ones((2, 2), dtype))[0])
    assert all((seen == steps[0]).all() for seen in steps)


def test_lanes_and_windows_that_do_not_exist_are_refused():
    env = dream(lively(), 3, starts=some_starts(), warmup=4)
    for windows in ([0], [0, 1, 5], [0, 1, -1]):
        with pytest.raises(InputError, match="one start window each, from 0 to 4"):
            env.begin_at(windows)
    for mask in (np.ones(2, bool), np.array([0, 1, 2])):
        with pytest.raises(InputError, match="3 booleans"):
            env.retire(mask)


def play(env, actions):
    """Observations and rewards of a row of actions (T, E, A)."""
    steps = [env.step(action) for action in actions]
    return np.stack([s[0] for s in steps]), np.stack([s[1] for s in steps])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("temperature", [1.0, 0.5, 1.5])
def test_a_known_world_has_its_statistics(linear_mdnrnn, temperature, engine):
    """z' = 0.8 z + 0.5 a + o + 0.4 sqrt(τ) ε with o -0.3 or 0.6, weights (0.7, 0.3)^(1/τ)."""
    lanes, offsets = 2000, np.array([-0.3, 0.6])
    mdnrnn = linear_mdnrnn(0.8, 0.5, tuple(offsets), (0.7, 0.3), 0.4)
    env = dream(mdnrnn, lanes, temperature=temperature, engine=engine)
    env.reset(seed=0)
    weights = np.array([0.7, 0.3]) ** (1 / temperature)
    weights /= weights.sum()
    offset = weights @ offsets
    spread = 0.16 * temperature + weights @ offsets**2 - offset**2
    mean, variance = 1.0, 0.0
    for _ in range(12):
        z = env.step(np.full((lanes, 1), 0.4, np.float32))[0][:, 0]
        mean, variance = 0.8 * mean + 0.5 * 0.4 + offset, 0.64 * variance + spread
        assert z.mean() == pytest.approx(mean, abs=4 * np.sqrt(variance / lanes))
        assert z.var() == pytest.approx(variance, rel=4 * np.sqrt(2 / lanes))


def test_equal_seeds_and_actions_are_equal_lanes():
    env = dream(lively(), 4, starts=some_starts(), warmup=4)
    env.reset(seed=[7, 8, 7, 9])
    seen, _ = play(env, np.full((20, 4, 2), 0.3, np.float32))
    np.testing.assert_allclose(seen[:, 0], seen[:, 2], rtol=1e-5, atol=1e-5)
    assert (seen[:, 0, :3] != seen[:, 1, :3]).all()


def test_a_lane_alone_is_the_lane_in_the_crowd():
    actions = np.random.default_rng(0).uniform(-1, 1, (20, 30, 2)).astype(np.float32)
    crowd, alone = (dream(lively(), n, starts=some_starts(), warmup=4) for n in (30, 1))
    crowd.reset(seed=100)
    alone.reset(seed=111)
    many, one = play(crowd, actions), play(alone, actions[:, 11:12])
    np.testing.assert_allclose(many[0][:, 11:12], one[0], rtol=1e-4, atol=1e-4)
    assert many[0][:, 11].std() > 0.1


def test_ends_freeze_a_lane_and_no_other(linear_mdnrnn):
    env = dream(linear_mdnrnn(ends=(0.0, 1.0), threshold=0.5), 2)
    calm = dream(linear_mdnrnn(), 2)
    for e in (env, calm):
        e.reset(seed=4)
    push = np.array([[1.0], [0.0]], np.float32)  # an action above 0.5 ends the dream
    last, rewards, terminated, truncated, _ = env.step(push)
    assert terminated.tolist() == [True, False]
    assert not truncated.any()
    assert rewards.tolist() == [2.0, 2.0]  # the end's step still pays
    expected = [calm.step(push)[0]] + [calm.step(0 * push)[0] for _ in range(3)]
    for t in range(1, 4):
        observations, rewards, terminated, _, _ = env.step(0 * push)
        np.testing.assert_array_equal(observations[0], last[0])
        np.testing.assert_allclose(observations[1], expected[t][1], rtol=1e-5)
        assert rewards.tolist() == [0.0, 2.0]
        assert terminated.tolist() == [True, False]
    options = {"reset_mask": np.array([True, False])}
    observations, _ = env.reset(options=options)
    assert observations[0, 0] == 1.0
    assert observations[1, 0] == expected[3][1, 0]
    assert env.step(0 * push)[1].tolist() == [2.0, 2.0]


def test_the_horizon_truncates(linear_mdnrnn):
    env = dream(linear_mdnrnn(), 2, horizon=3)
    env.reset(seed=0)
    rest = np.zeros((2, 1), np.float32)
    flags = [env.step(rest)[2:4] for _ in range(4)]
    assert [truncated.tolist() for _, truncated in flags] == [[False] * 2] * 2 + [[True] * 2] * 2
    assert not any(terminated.any() for terminated, _ in flags)


def test_autoreset_goes_to_the_next_episode_number():
    rest = np.zeros((2, 2), np.float32)
    auto, masked = (
        dream(lively(), 2, mode, some_starts(), horizon=3)
        for mode in (AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED)
    )
    for env in (auto, masked):
        env.reset(seed=5)
    for _ in range(3):
        ended = auto.step(rest)
        masked.step(rest)
    assert ended[3].all()
    first, rewards, _, truncated, _ = auto.step(rest + 1)  # the action of this step is ignored
    assert not rewards.any()
    assert not truncated.any()
    np.testing.assert_array_equal(first, masked.reset()[0])
    np.testing.assert_array_equal(auto.step(rest)[0], masked.step(rest)[0])


def test_lanes_of_one_seed_may_reach_an_episode_at_different_times(linear_mdnrnn):
    env = dream(linear_mdnrnn(ends=(0.0, 1.0), threshold=0.5), 2, AutoresetMode.NEXT_STEP)
    env.reset(seed=[6, 6])
    actions = np.zeros((40, 2, 1), np.float32)
    actions[2, 0] = actions[7, 1] = 1.0
    seen, _ = play(env, actions)
    np.testing.assert_allclose(seen[3:35, 0], seen[8:40, 1], rtol=1e-5)


def test_a_dream_goes_on_from_its_window():
    mdnrnn, starts = lively(restart_input=True), some_starts()
    env = dream(mdnrnn, 5, starts=starts, inputs="zch")
    state = mdnrnn.initial_state(5)
    for t in range(3):
        first = starts.first if t == 0 else torch.zeros(5)
        state = mdnrnn.step(starts.mu[:, t], starts.actions[:, t], first, state)
    expected = torch.cat([starts.mu[:, -1], state[1], state[0]], 1)
    torch.testing.assert_close(torch.from_numpy(env.begin_at(range(5))), expected)
    assert not env.state.first.any()
    begun = env.reset(seed=0)[0]
    assert all(any(np.array_equal(row, e) for e in env.begin_at(range(5))) for row in begun)


def test_the_papers_way_begins_cold_with_the_restart_flag():
    mdnrnn, starts = lively(restart_input=True), some_starts(window=1, count=1)
    env = dream(mdnrnn, 1, starts=starts)
    begun = env.reset(seed=0)[0]
    np.testing.assert_array_equal(begun[0], np.r_[starts.mu[0, 0], np.zeros(8)])
    h, _ = mdnrnn.step(starts.mu[:, 0], torch.zeros(1, 2), torch.ones(1), mdnrnn.initial_state(1))
    after = env.step(np.zeros((1, 2), np.float32))[0]
    np.testing.assert_allclose(after[0, 3:], h[0], rtol=1e-5)
    assert not env.state.first.any()


@pytest.mark.parametrize(
    ("world", "kind", "expected"),
    [
        (CONSTANT, None, 2.0),
        (
            EnvConfig(
                reward="count",
                count_attribute="n",
                reward_per_count=10.0,
                reward_per_frame=-0.1,
                action_repeat=2,
            ),
            "count",
            10.0 * 2 / 2 - 0.2,  # a limit of one count a frame, and sigmoid(0)
        ),
        (EnvConfig(reward="real"), "real", 0.0),
    ],
)
def test_rewards_are_what_the_world_says(world, kind, expected):
    limit = world.count_limit * world.action_repeat
    pays = {"count_limit": limit, "reward_per_count": world.reward_per_count}
    heads = {"count": [CountHead(**pays)], "real": [RewardHead()]}.get(kind, [])
    mdnrnn = lively(heads=heads)
    for head in heads:
        mdnrnn.head.weight[-head.size :] = mdnrnn.head.bias[-head.size :] = 0.0
    env = dream(mdnrnn, 2, world=world)
    env.reset(seed=0)
    assert env.step(np.zeros((2, 2), np.float32))[1].tolist() == pytest.approx([expected] * 2)


def test_a_dream_ends_at_its_goal_and_pays_no_more():
    world = EnvConfig(reward="count", count_attribute="n", reward_per_frame=-0.25)
    mdnrnn = lively(heads=[CountHead(reward_per_count=10.0)])
    mdnrnn.head.weight[-1] = mdnrnn.head.bias[-1] = 0.0  # 5 a step
    env = dream(mdnrnn, 2, world=world, goal=12.0, horizon=9)
    env.reset(seed=0)
    env.retire(np.array([False, True]))
    ends, paid = [], []
    while not ends or not ends[-1]:
        _, rewards, terminated, _, _ = env.step(np.zeros((2, 2), np.float32))
        ends.append(terminated[0])
        paid.append(rewards[0])
    assert paid == pytest.approx([4.75, 4.75, 1.75])
    assert ends == [False, False, True]
    env.reset(seed=0)
    assert env.step(np.zeros((2, 2), np.float32))[1] == pytest.approx([4.75, 4.75])


def test_joint_mixtures_dream_too():
    env = dream(lively(mixture="joint"), 3)
    env.reset(seed=[1, 1, 2])
    seen, _ = play(env, np.zeros((5, 3, 2), np.float32))
    np.testing.assert_allclose(seen[:, 0], seen[:, 1], rtol=1e-5, atol=1e-5)
    assert (seen[-1, 0] != seen[-1, 2]).any()


def test_an_exploding_dream_stays_in_its_space(linear_mdnrnn):
    env = dream(linear_mdnrnn(decay=4.0), 2, inputs="zch")
    env.reset(seed=0)
    seen, _ = play(env, np.zeros((6, 2, 1), np.float32))
    assert seen[-1, 0, 0] == env.single_observation_space.high[0]
    assert all(env.observation_space.contains(row) for row in seen)


def test_frames_are_vs():
    vae = VAE(VAEConfig(latent_size=3, width=4))
    env = dream(lively(), 2, vae=vae)
    env.reset(seed=0)
    frames = env.render()
    assert [(f.shape, f.dtype) for f in frames] == [((64, 64, 3), np.uint8)] * 2
    with torch.no_grad():
        expected = vae.decode(env.state.z)[1].permute(1, 2, 0) * 255
    np.testing.assert_allclose(frames[1], expected, atol=0.51)


@pytest.mark.parametrize("wrong", [{"temperature": 0.0}, {"horizon": 0}, {"warmup": 0}])
def test_wrong_settings_are_named(wrong):
    with pytest.raises(InputError, match=rf"dream\.{next(iter(wrong))} is"):
        dream(lively(), 1, **wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"horizon": 1.5}, r"^dream\.horizon: .*int.*1\.5"),
        ({"temperature": "warm"}, r"^dream\.temperature: .*float.*warm"),
        *(({"num_envs": n}, rf"^num_envs is {n!r}: .* from 1") for n in (0, -1, 1.5, "two", True)),
    ],
)
def test_wrong_arguments_are_named(no_type_checks, tiny_bundle, wrong, message):
    with pytest.raises(InputError, match=message):
        make_dream(**{"num_envs": 1, "bundle": tiny_bundle, **wrong})


@pytest.mark.parametrize(
    ("name", "value"), [("horizon", None), ("temperature", "x"), ("horizons", 3)]
)
def test_a_foreign_dream_of_a_bundle_is_named(tiny_bundle, name, value):
    bundle = Bundle.load(tiny_bundle)
    foreign = replace(bundle, dream={**bundle.dream, name: value})
    with pytest.raises(InputError, match=rf"^dream\.{name}"):
        make_dream(1, bundle=foreign)


def certain_end(logit):
    """A dream whose M gives its end the same logit in every step."""
    mdnrnn = lively(heads=[TerminationHead()])
    with torch.no_grad():
        mdnrnn.head.weight[-1], mdnrnn.head.bias[-1] = 0.0, logit
    return mdnrnn


@pytest.mark.parametrize("engine", ["reference", "float32"])
def test_sampled_ends_come_as_often_as_m_says(engine):
    lanes = 4000
    options = {"horizon": 1000, "ends": "sampled", "engine": engine}
    env = dream(certain_end(-2.0), lanes, **options)  # p = 0.119
    env.reset(seed=0)
    ended = env.step(np.zeros((lanes, 2), np.float32))[2]
    p = 1 / (1 + np.exp(2.0))
    assert ended.mean() == pytest.approx(p, abs=4 * np.sqrt(p / lanes))
    before = ended.sum()
    ended = env.step(np.zeros((lanes, 2), np.float32))[2]
    assert ended.sum() - before == pytest.approx((lanes - before) * p, abs=4 * np.sqrt(lanes * p))


@pytest.mark.parametrize("engine", ["reference", "float32"])
def test_termination_weighs_the_rewards_after_it(engine):
    p, reward = 1 / (1 + np.exp(2.0)), 2.0
    env = dream(certain_end(-2.0), 3, horizon=60, ends="none", weight="termination", engine=engine)
    env.reset(seed=0)
    rewards = play(env, np.zeros((60, 3, 2), np.float32))[1]
    steps = int(np.ceil(np.log(0.01) / np.log(1 - p)))  # until less than 1% is left
    assert rewards[:steps, 1] == pytest.approx(reward * (1 - p) ** np.arange(steps), rel=1e-5)
    assert not rewards[steps:].any()
    assert env.terminated.all()
    env.reset(seed=0)
    assert env.step(np.zeros((3, 2), np.float32))[1] == pytest.approx(reward)


@pytest.mark.parametrize("engine", ["reference", "float32"])
def test_risks_of_the_choices_weigh_the_rewards_after_them(engine):
    config = MDNRNNConfig(hidden_size=6, num_mixtures=2)
    head = RiskHead(choices=2, horizons=(4, 2), hidden=())
    mdnrnn = MDNRNN(config, 3, 2, [head]).requires_grad_(False)
    logits = torch.tensor([[9.0, 9.0], [-1.0, -3.0]])  # by horizon and choice
    mdnrnn.risk_layers[0].weight.zero_()
    mdnrnn.risk_layers[0].bias.copy_(logits.flatten())
    starts = Starts(torch.randn(4, 3, 3), torch.randn(4, 3, 2), torch.zeros(4))
    env = EnvConfig(reward="constant", reward_per_frame=2.0, terminates=False)
    world = world_of(env, Actions("discrete", counts=(2,)))
    settings = DreamConfig(horizon=6, ends="none", weight="risk")
    options = {"autoreset_mode": AutoresetMode.DISABLED}
    env = DreamEnv(mdnrnn, starts, world, settings, 2, **options)
    env.engine = engine_of(mdnrnn, engine, 2)
    env.reset(seed=0)
    actions = np.array([[1, 0], [0, 1]], np.float32)
    no_damage = np.sqrt(1 / (1 + np.exp([-1.0, -3.0])))
    for t in range(6):
        rewards, terminated, truncated = env.step(actions)[1:4]
        assert rewards == pytest.approx(2.0 * no_damage**t, rel=1e-5)
    assert not terminated.any()
    assert truncated.all()


@dataclass(frozen=True, kw_only=True)
class Mine(Head):
    """A head of one's own that ends dreams, pays and weighs."""

    name: str = "mine"
    size: int = 3

    def pays(self, outputs):
        return outputs[:, 0].double()

    def ends(self, outputs):
        return outputs[:, 1]

    def survives(self, mdnrnn, z, h, actions, outputs):
        return torch.full((len(z),), 0.5).double()


@pytest.mark.parametrize("engine", ["reference", "float32"])
def test_a_head_of_ones_own_ends_pays_and_weighs(engine):
    mdnrnn = lively(heads=[RewardHead(), Mine()])
    mdnrnn.head.weight[-64:], mdnrnn.head.bias[-64:-3] = 0.0, 0.0
    mdnrnn.head.bias[-3:] = torch.tensor([3.0, -0.1, 0.0])
    env = dream(mdnrnn, 2, weight="mine", engine=engine)
    env.reset(seed=0)
    rest = np.zeros((2, 2), np.float32)
    for weight in (1.0, 0.5, 0.25):
        assert env.step(rest)[1].tolist() == [weight * (2.0 + 3.0)] * 2
    with torch.no_grad():
        mdnrnn.head.bias[-2] = 0.1
    env = dream(mdnrnn, 2, engine=engine)
    env.reset(seed=0)
    assert env.step(rest)[2].all()


@pytest.mark.parametrize("weight", ["termination", "risk"])
def test_a_weight_needs_its_head(weight):
    with pytest.raises(InputError, match=rf"dream\.weight is {weight}, but M has no such head"):
        dream(lively(), 2, weight=weight)


def test_equal_seeds_end_together_and_the_threshold_never_below_a_half():
    env = dream(certain_end(-2.0), 16, horizon=1000, ends="sampled")
    env.reset(seed=[*range(8), *range(8)])
    lives = np.zeros(16)
    while not env.terminated.all():
        lives += ~env.terminated
        env.step(np.zeros((16, 2), np.float32))
    assert (lives[:8] == lives[8:]).all()
    assert len(set(lives[:8])) > 3
    calm = dream(certain_end(-0.1), 6, horizon=20)
    calm.reset(seed=0)
    for _ in range(20):
        calm.step(np.zeros((6, 2), np.float32))
    assert not calm.terminated.any()


def test_a_plain_dream_has_neither_goal_nor_weight():
    trained = DreamConfig(goal=3.0, weight="risk", ends="none", horizon=7)
    assert trained.plain == DreamConfig(ends="sampled", horizon=7)
    assert DreamConfig(goal=3.0, ends="threshold").plain == DreamConfig()
