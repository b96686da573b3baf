"""The mixture against torch.distributions, scipy and numbers worked by hand."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor
from torch.distributions import (
    Categorical,
    Independent,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
)

from worldmodels.models.mixture import (
    Mixture,
    MixtureKind,
    Temperature,
    mixture_loss,
    mixture_size,
    split_mixture,
)

KINDS: tuple[MixtureKind, ...] = ("per_dimension", "joint", "correlated")


def random_mixture(kind: MixtureKind, *batch: int, latent_size: int = 4) -> Mixture:
    generator = torch.Generator().manual_seed(3)
    size = mixture_size(latent_size, 5, kind)
    parameters = torch.randn(*batch, size, generator=generator, dtype=torch.float64)
    return split_mixture(parameters, latent_size, 5, kind)


def repeated(mixture: Mixture, times: int) -> Mixture:
    return Mixture(*(part.expand(times, *part.shape) for part in parts_of(mixture)))


def parts_of(mixture: Mixture) -> list[Tensor]:
    parts = (mixture.logits, mixture.means, mixture.log_stds, mixture.correlation)
    return [part for part in parts if part is not None]


def oracle(mixture: Mixture) -> MixtureSameFamily:
    means, stds = mixture.means, mixture.log_stds.exp()
    if mixture.joint:
        weights = Categorical(logits=mixture.logits.squeeze(-1))
        if mixture.correlation is not None:
            factors = stds[..., None] * mixture.correlation
            return MixtureSameFamily(weights, MultivariateNormal(means, scale_tril=factors))
        return MixtureSameFamily(weights, Independent(Normal(means, stds), 1))
    weights = Categorical(logits=mixture.logits.transpose(-1, -2))
    return MixtureSameFamily(weights, Normal(means.transpose(-1, -2), stds.transpose(-1, -2)))


def two_by_hand(joint: bool) -> Mixture:
    """Weights 1/4 and 3/4, means 0 and 2, standard deviations 1 and 1/2, in two dimensions."""
    weights = torch.tensor([[0.25], [0.75]]).log()
    means = torch.tensor([[0.0, 0.0], [2.0, 2.0]])
    log_stds = torch.tensor([[1.0, 1.0], [0.5, 0.5]]).log()
    return Mixture(weights if joint else weights.expand(2, 2), means, log_stds)


@pytest.mark.parametrize("kind", KINDS)
def test_density_and_moments_are_those_of_torch_distributions(kind: MixtureKind) -> None:
    mixture = random_mixture(kind, 3, 7)
    value = torch.randn(3, 7, 4, dtype=torch.float64)
    expected = oracle(mixture)
    log_prob = mixture.log_prob(value)
    assert log_prob.shape == ((3, 7, 4) if kind == "per_dimension" else (3, 7))
    torch.testing.assert_close(log_prob, expected.log_prob(value))
    torch.testing.assert_close(mixture.mean, expected.mean)
    torch.testing.assert_close(mixture.variance, expected.variance)


def test_density_by_hand() -> None:
    at_two = 0.25 * math.exp(-2) / math.sqrt(2 * math.pi) + 0.75 * 2 / math.sqrt(2 * math.pi)
    both = 0.25 * math.exp(-4) / (2 * math.pi) + 0.75 * 4 / (2 * math.pi)
    value = torch.tensor([2.0, 2.0])
    single, joint = two_by_hand(joint=False), two_by_hand(joint=True)
    torch.testing.assert_close(single.log_prob(value), torch.tensor([math.log(at_two)] * 2))
    torch.testing.assert_close(joint.log_prob(value), torch.tensor(math.log(both)))
    torch.testing.assert_close(single.nll(value), torch.tensor(-math.log(at_two)))
    torch.testing.assert_close(joint.nll(value), torch.tensor(-math.log(both) / 2))


@pytest.mark.parametrize("joint", [False, True])
def test_moments_and_mode_by_hand(joint: bool) -> None:
    mixture = two_by_hand(joint)
    torch.testing.assert_close(mixture.mean, torch.tensor([1.5, 1.5]))
    variance = 0.25 * (1 + 1.5**2) + 0.75 * (0.25 + 0.5**2)
    torch.testing.assert_close(mixture.variance, torch.tensor([variance] * 2))
    torch.testing.assert_close(mixture.mode, torch.tensor([2.0, 2.0]))


def test_mode_prefers_density_to_weight() -> None:
    logits = torch.tensor([0.6, 0.4]).log().reshape(2, 1)
    log_stds = torch.tensor([1.0, 0.1]).log().reshape(2, 1)
    mixture = Mixture(logits, torch.tensor([[0.0], [5.0]]), log_stds)
    assert mixture.mode.item() == 5.0


def test_one_standard_normal_has_the_baseline_nll() -> None:
    mixture = Mixture(torch.zeros(1, 3), torch.zeros(1, 3), torch.zeros(1, 3))
    value = torch.randn(200_000, 3, generator=torch.Generator().manual_seed(0))
    assert mixture_loss(mixture, value).item() == pytest.approx(1.419, abs=0.01)


def test_joint_with_one_component_is_the_per_dimension_law() -> None:
    means, log_stds = torch.randn(1, 6), torch.randn(1, 6)
    single = Mixture(torch.zeros(1, 6), means, log_stds)
    joint = Mixture(torch.zeros(1, 1), means, log_stds)
    value = torch.randn(6)
    assert joint.joint
    assert not single.joint
    torch.testing.assert_close(single.log_prob(value).sum(), joint.log_prob(value))
    torch.testing.assert_close(single.nll(value), joint.nll(value))


def test_one_dimension_is_one_law_under_both_names() -> None:
    parameters, value = torch.randn(9, 15), torch.randn(9, 1)
    single, *joint = (split_mixture(parameters, 1, 5, kind) for kind in KINDS)
    for law in joint:
        torch.testing.assert_close(single.log_prob(value), law.log_prob(value))
        assert law.log_prob(value).shape == (9, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_cdf_is_that_of_scipy(kind: MixtureKind) -> None:
    mixture = random_mixture(kind)
    value = torch.randn(4, dtype=torch.float64)
    weights = mixture.logits.softmax(-2).expand(5, 4).numpy()
    each = scipy.stats.norm.cdf(value.numpy(), mixture.means, mixture.log_stds.exp())
    np.testing.assert_allclose(mixture.cdf(value), (weights * each).sum(0), rtol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_pit_of_samples_is_uniform(kind: MixtureKind) -> None:
    mixture = repeated(random_mixture(kind), 20_000)
    pit = mixture.pit(mixture.sample(generator=torch.Generator().manual_seed(1)))
    for dimension in pit.T:
        assert scipy.stats.kstest(dimension.numpy(), "uniform").pvalue > 1e-3


def tempered(mixture: Mixture, temperature: float) -> Mixture:
    """The law that sampling at a temperature draws from."""
    log_stds = mixture.log_stds + 0.5 * math.log(temperature)
    return Mixture(mixture.logits / temperature, mixture.means, log_stds, *parts_of(mixture)[3:])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("temperature", [0.1, 1.0, 1.3])
def test_temperature_divides_logits_and_scales_variance(
    kind: MixtureKind, temperature: float
) -> None:
    mixture, times = random_mixture(kind), 40_000
    generator = torch.Generator().manual_seed(5)
    samples = repeated(mixture, times).sample(temperature, generator)
    law = tempered(mixture, temperature)
    spread = (law.variance / times).sqrt()
    assert ((samples.mean(0) - law.mean).abs() < 5 * spread).all()
    torch.testing.assert_close(samples.var(0), law.variance, rtol=0.05, atol=0.0)


def test_samples_of_two_numbers_are_correlated() -> None:
    parameters = torch.tensor([0.0, 1.0, -2.0, 0.5, -1.0, math.atanh(0.7)])
    mixture = repeated(split_mixture(parameters, 2, 1, "correlated"), 40_000)
    samples = mixture.sample(generator=torch.Generator().manual_seed(4))
    assert torch.corrcoef(samples.T)[0, 1].item() == pytest.approx(0.7, abs=0.01)
    assert samples.std(0).tolist() == pytest.approx([math.exp(0.5), math.exp(-1.0)], rel=0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_quantiles_invert_scipys_cdf(kind: MixtureKind) -> None:
    mixture, p = random_mixture(kind), torch.tensor([1e-6, 0.1, 0.5, 0.999], dtype=torch.float64)
    weights = mixture.logits.softmax(-2).expand(5, 4).numpy()
    normals = scipy.stats.norm(mixture.means.numpy(), mixture.log_stds.exp().numpy())
    again = (weights * normals.cdf(mixture.quantile(p).numpy())).sum(0)
    np.testing.assert_allclose(again, p, rtol=1e-9)


def test_entropy_of_one_normal() -> None:
    parameters = torch.tensor([0.0, 3.0, -2.0, 0.5, -1.0, math.atanh(0.6)], dtype=torch.float64)
    mixture = repeated(split_mixture(parameters, 2, 1, "correlated"), 1_000)
    exact = 1 + math.log(2 * math.pi) + 0.5 - 1.0 + 0.5 * math.log(1 - 0.36)
    found = mixture.entropy(100, torch.Generator().manual_seed(0))
    assert found.shape == (1_000,)
    assert found.mean().item() == pytest.approx(exact, abs=0.01)


def test_entropy_is_that_of_each_dimension() -> None:
    one = Mixture(torch.zeros(1, 2), torch.zeros(1, 2), torch.tensor([[0.0, 2.0]]))
    found = one.entropy(20_000, torch.Generator().manual_seed(0))
    exact = 0.5 * (1 + math.log(2 * math.pi))
    assert found.tolist() == pytest.approx([exact, exact + 2], abs=0.03)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("temperature", "logits", "stds"),
    [
        (Temperature.world_models(0.5, 0.25), 2.0, 0.5),
        (Temperature.graves(1.0), 2.0, math.exp(-1)),
        (Temperature.magenta(0.5), 2.0, 0.25),
    ],
    ids=["two", "graves", "magenta"],
)
def test_conventions_sample_the_law_they_name(
    kind: MixtureKind, temperature: Temperature, logits: float, stds: float
) -> None:
    mixture = random_mixture(kind)
    samples = repeated(mixture, 40_000).sample(temperature, torch.Generator().manual_seed(6))
    log_stds = mixture.log_stds + math.log(stds)
    law = Mixture(mixture.logits * logits, mixture.means, log_stds, *parts_of(mixture)[3:])
    torch.testing.assert_close(samples.var(0), law.variance, rtol=0.05, atol=0.0)
    assert ((samples.mean(0) - law.mean).abs() < 5 * (law.variance / 40_000).sqrt()).all()


def test_joint_samples_never_mix_modes() -> None:
    samples = repeated(two_by_hand(joint=True), 2_000)
    narrow = Mixture(samples.logits, samples.means, torch.full_like(samples.means, -7))
    drawn = narrow.sample(generator=torch.Generator().manual_seed(2))
    assert ((drawn[:, 0] > 1) == (drawn[:, 1] > 1)).all()
    assert (drawn[:, 0] > 1).double().mean().item() == pytest.approx(0.75, abs=0.04)


def test_uniforms_choose_by_the_running_sum() -> None:
    logits = torch.tensor([0.2, 0.5, 0.3]).log().reshape(3, 1) + 11
    mixture = Mixture(logits, torch.tensor([[10.0], [20.0], [30.0]]), torch.zeros(3, 1))
    uniforms = torch.tensor([0.0, 0.199, 0.201, 0.699, 0.701, 1 - 2**-24]).reshape(6, 1)
    chosen = repeated(mixture, 6).sample_from_noise(uniforms, torch.zeros(6, 1))
    assert chosen.flatten().tolist() == [10, 10, 20, 20, 30, 30]


@pytest.mark.parametrize("kind", KINDS)
def test_sampling_is_repeated_by_its_generator(kind: MixtureKind) -> None:
    mixture = random_mixture(kind, 6)
    first, again, other = (
        mixture.sample(generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("kind", KINDS)
def test_noise_of_the_rollouts_serves_every_candidate(kind: MixtureKind) -> None:
    mixture = random_mixture(kind, 3, 2)
    uniforms = torch.rand(2, 4 if kind == "per_dimension" else 1, dtype=torch.float64)
    normals = torch.randn(2, 4, dtype=torch.float64)
    shared = mixture.sample_from_noise(uniforms, normals, 1.15)
    own = mixture.sample_from_noise(
        uniforms.expand(3, *uniforms.shape), normals.expand(3, *normals.shape), 1.15
    )
    assert shared.shape == (3, 2, 4)
    assert torch.equal(shared, own)


def test_tiny_temperatures_take_the_heaviest_component() -> None:
    mixture = random_mixture("per_dimension", 50)
    heaviest = mixture.means.gather(-2, mixture.logits.argmax(-2, keepdim=True)).squeeze(-2)
    sample = mixture.sample(1e-8, torch.Generator().manual_seed(0))
    torch.testing.assert_close(sample, heaviest, atol=0.02, rtol=0.0)


def test_no_epsilon_caps_the_likelihood() -> None:
    mixture = Mixture(torch.zeros(1, 1), torch.zeros(1, 1), torch.zeros(1, 1))
    assert mixture.nll(torch.tensor([1e4])).item() == pytest.approx(5e7)


def test_wrong_shapes_are_refused() -> None:
    good = torch.zeros(5, 4)
    with pytest.raises(ValueError, match="differ in shape"):
        Mixture(good, good, torch.zeros(5, 3))
    for weights in (torch.zeros(5, 2), torch.zeros(4, 4), torch.zeros(2, 5, 4)):
        with pytest.raises(ValueError, match="log_weights"):
            Mixture(weights, good, good)
    with pytest.raises(ValueError, match="has 60"):
        split_mixture(torch.zeros(61), 4, 5)
    for weights, factors in ((good, (5, 4, 4)), (good[:, :1], (5, 3, 3)), (good[:, :1], (4, 4))):
        with pytest.raises(ValueError, match="correlation"):
            Mixture(weights, good, good, torch.zeros(factors))
