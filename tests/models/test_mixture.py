"""Mixtures against torch.distributions, scipy and numbers worked by hand."""

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
    MAX_LOG_STD,
    MIN_LOG_STD,
    Mixture,
    MixtureHead,
    MixtureKind,
    Temperature,
    clamp_log_stds,
    correlation_factor,
    mixture_loss,
    mixture_size,
    split_mixture,
)
from worldmodels.models.sequence import masked, masked_mean

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
def test_moments_by_hand(joint: bool) -> None:
    mixture = two_by_hand(joint)
    torch.testing.assert_close(mixture.mean, torch.tensor([1.5, 1.5]))
    variance = 0.25 * (1 + 1.5**2) + 0.75 * (0.25 + 0.5**2)
    torch.testing.assert_close(mixture.variance, torch.tensor([variance] * 2))


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
def test_the_cdf_of_samples_is_uniform(kind: MixtureKind) -> None:
    mixture = repeated(random_mixture(kind), 20_000)
    found = mixture.cdf(mixture.sample(generator=torch.Generator().manual_seed(1)))
    for dimension in found.T:
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


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [1.0, 1e3, 1e6])
def test_loss_and_gradients_stay_finite(kind: MixtureKind, scale: float) -> None:
    parameters = (torch.randn(8, mixture_size(4, 5, kind)) * scale).requires_grad_()
    loss = mixture_loss(split_mixture(parameters, 4, 5, kind), torch.randn(8, 4) * scale)
    loss.backward()
    assert loss.isfinite()
    assert parameters.grad is not None
    assert parameters.grad.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_right(kind: MixtureKind) -> None:
    def loss(parameters: Tensor) -> Tensor:
        return mixture_loss(split_mixture(parameters, 2, 3, kind), torch.ones(2, 2).double())

    parameters = torch.randn(2, mixture_size(2, 3, kind)).double()
    assert torch.autograd.gradcheck(loss, parameters.requires_grad_())


def test_masked_places_do_not_count() -> None:
    parameters = torch.randn(4, mixture_size(4, 5, "joint"), dtype=torch.float64)
    mixture, value = split_mixture(parameters, 4, 5, "joint"), torch.zeros(4, 4).double()
    mask = torch.tensor([True, False, True, False])
    torch.testing.assert_close(
        mixture_loss(mixture, value, mask), mixture.nll(value)[[0, 2]].mean()
    )
    assert mixture_loss(mixture, value, torch.zeros(4, dtype=torch.bool)).item() == 0


def test_head_clamps_and_counts_its_parameters() -> None:
    head = MixtureHead(256, 32, 5)
    log_stds = head(100 * torch.randn(10, 256)).log_stds
    assert (log_stds.min().item(), log_stds.max().item()) == (MIN_LOG_STD, MAX_LOG_STD)
    assert head.linear.out_features == mixture_size(32, 5) == 480
    assert mixture_size(32, 5, "joint") == 5 * 65
    assert mixture_size(2, 20, "correlated") == 20 * 6  # Graves 2013, with a pen 121
    assert mixture_size(4, 1, "correlated") == 9 + 6
    assert MixtureHead(8, 4, 2, "joint")(torch.randn(3, 8)).joint


@pytest.mark.parametrize("size", [1, 2, 5])
def test_factors_are_those_of_correlation_matrices(size: int) -> None:
    raw = 3 * torch.randn(50, size * (size - 1) // 2, dtype=torch.float64)
    factors = correlation_factor(raw, size)
    matrices = factors @ factors.mT
    diagonals = matrices.diagonal(dim1=-2, dim2=-1)
    torch.testing.assert_close(diagonals, torch.ones(50, size, dtype=torch.float64))
    assert (factors.triu(1) == 0).all()
    assert (factors.diagonal(dim1=-2, dim2=-1) > 0).all()


def test_in_two_dimensions_rho_is_a_tanh() -> None:
    factor = correlation_factor(torch.tensor([0.4]), 2)
    rho = torch.tanh(torch.tensor(0.4))
    expected = torch.stack([rho, (1 - rho**2).sqrt()])
    torch.testing.assert_close(factor[1], expected)


@pytest.mark.parametrize("kind", KINDS)
def test_tails_keep_their_digits_in_float32(kind: MixtureKind) -> None:
    logits = torch.zeros(2, 4 if kind == "per_dimension" else 1)
    mixture = Mixture(logits, torch.zeros(2, 4), torch.zeros(2, 4))
    value = torch.tensor([-12.0, -6.0, -3.0, 5.0])
    np.testing.assert_allclose(mixture.cdf(value), scipy.stats.norm.cdf(value), rtol=3e-5)
    p = torch.tensor([1e-30, 1e-9, 1 - 2**-24, 0.75])
    expected = scipy.stats.norm.ppf(p.double().numpy())
    np.testing.assert_allclose(mixture.quantile(p), expected, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_cdf_lies_between_0_and_1(kind: MixtureKind) -> None:
    parameters = torch.randn(2000, mixture_size(4, 5, kind))
    mixture = split_mixture(parameters, 4, 5, kind)
    for far, bound in ((-1e6, 0.0), (1e6, 1.0)):
        found = mixture.cdf(torch.full((2000, 4), far))
        assert found.min() >= 0
        assert found.max() <= 1
        torch.testing.assert_close(found, torch.full_like(found, bound))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch", [(0,), (3, 0)])
def test_an_empty_batch_has_empty_results(kind: MixtureKind, batch: tuple[int, ...]) -> None:
    mixture, value = random_mixture(kind, *batch), torch.zeros(*batch, 4, dtype=torch.float64)
    results = (
        *(mixture.sample(), mixture.mean, mixture.variance),
        *(mixture.cdf(value), mixture.quantile(value + 0.5)),
    )
    assert {result.shape for result in results} == {(*batch, 4)}
    each = (*batch, 4) if kind == "per_dimension" else batch
    assert mixture.log_prob(value).shape == each
    assert mixture.nll(value).shape == batch
    assert mixture_loss(mixture, value).item() == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_masked_target_may_be_nan(kind: MixtureKind) -> None:
    parameters = torch.randn(4, mixture_size(4, 5, kind)).requires_grad_()
    value, mask = torch.randn(4, 4), torch.tensor([True, False, True, False])
    clean, dirty = value.clone(), value.clone()
    clean[~mask], dirty[~mask] = 0, math.nan
    losses = [mixture_loss(split_mixture(parameters, 4, 5, kind), v, mask) for v in (clean, dirty)]
    assert torch.equal(*losses)
    slopes = [torch.autograd.grad(loss, parameters)[0] for loss in losses]
    assert torch.equal(*slopes)
    assert slopes[1].isfinite().all()


def test_masks_are_checked_and_nan_does_not_pass_them(no_type_checks) -> None:
    values, mask = torch.tensor([[1.0, math.nan], [3.0, 5.0]]), torch.ones(2, 2, dtype=torch.bool)
    mask[0, 1] = False
    assert masked_mean(values, mask) == 3
    assert masked(values, mask).tolist() == [[1, 0], [3, 5]]
    assert masked(values[..., None].expand(2, 2, 3), mask).sum() == 27
    assert masked_mean(values, torch.zeros_like(mask)) == 0
    for wrong in (mask[:1], mask.float(), mask[..., None]):
        with pytest.raises(ValueError, match=r"^mask is .*torch.bool of shape \(2, 2\)$"):
            masked_mean(values, wrong)


def test_the_clamp_passes_gradients_that_lead_back() -> None:
    raw = torch.tensor([-9.0, -9.0, -7.0, 0.0, 7.0, 9.0, 9.0], requires_grad=True)
    slope = torch.tensor([1.0, -1.0, 1.0, 2.0, -1.0, 1.0, -1.0])
    clamped = clamp_log_stds(raw)
    assert torch.equal(clamped, raw.clamp(-7, 7))
    (found,) = torch.autograd.grad(clamped, raw, slope)
    assert found.tolist() == [0, -1, 1, 2, -1, 1, 0]


@pytest.mark.parametrize("start", [-9.0, 9.0])
def test_deviations_that_start_outside_their_bounds_are_learned(start: float) -> None:
    value = torch.randn(500, 1, generator=torch.Generator().manual_seed(0))
    parameters = torch.tensor([0.0, 0.0, start], requires_grad=True)
    optimizer = torch.optim.Adam([parameters], 0.1)
    for _ in range(300):
        optimizer.zero_grad()
        mixture_loss(split_mixture(parameters.expand(500, 3), 1, 1), value).backward()
        torch.nn.utils.clip_grad_value_([parameters], 1.0)
        optimizer.step()
    assert parameters[2].exp().item() == pytest.approx(value.std().item(), rel=0.1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((3,), float), ((7, 3), float), ((2, 4), float), ((), float), ((7, 4), int)],
)
def test_values_that_do_not_fit_are_refused(
    kind: MixtureKind, shape, dtype, no_type_checks
) -> None:
    mixture, value = random_mixture(kind, 7), torch.zeros(shape, dtype=torch.tensor(dtype()).dtype)
    fault = r"float64|int64" if dtype is int else rf"\({', '.join(map(str, shape))},?\).*\(7, 4\)"
    for method in (mixture.log_prob, mixture.nll, mixture.cdf, mixture.quantile):
        with pytest.raises(ValueError, match=fault) as caught:
            method(value)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=fault):
        mixture_loss(mixture, value)


@pytest.mark.parametrize("p", [0.0, 1.0, -0.1, math.nan])
def test_a_quantiles_p_is_a_probability(p: float) -> None:
    with pytest.raises(ValueError, match=r"p must be in \(0, 1\)"):
        random_mixture("joint").quantile(torch.tensor([0.5, 0.5, p, 0.5], dtype=torch.float64))


def test_noise_that_does_not_fit_is_refused(no_type_checks) -> None:
    mixture = random_mixture("joint", 7)
    for uniforms, normals in (((7, 4), (7, 4)), ((7, 1), (7, 1)), ((5, 1), (7, 4))):
        with pytest.raises(ValueError, match=r"(uniforms|normals) has shape"):
            mixture.sample_from_noise(torch.zeros(uniforms), torch.zeros(normals))


def test_conventions() -> None:
    assert Temperature.of(0.25) == Temperature.world_models(0.25) == Temperature(4.0, 0.5)
    assert Temperature.world_models(2.0, 0.09) == Temperature(0.5, 0.3)
    assert Temperature.graves(0.0) == Temperature.magenta(1.0) == Temperature()
    assert Temperature.graves(3.0) == Temperature(4.0, math.exp(-3))
    assert Temperature.magenta(0.5) == Temperature(2.0, 0.25)
    kept = Temperature(2.0, 3.0)
    assert Temperature.of(kept) is kept


@pytest.mark.parametrize("tau", [0.0, -1.0, math.nan])
def test_a_temperature_must_be_positive(tau: float) -> None:
    for convention in (Temperature.of, Temperature.world_models, Temperature.magenta):
        with pytest.raises(ValueError, match="temperature must be positive"):
            convention(tau)
    with pytest.raises(ValueError, match="temperature must be positive"):
        Temperature.world_models(1.0, tau)


@pytest.mark.parametrize("bias", [-1.0, -2.0, math.inf, math.nan])
def test_a_bias_must_leave_the_weights_their_order(bias: float) -> None:
    with pytest.raises(ValueError, match="temperature must be positive"):
        Temperature.graves(bias)
