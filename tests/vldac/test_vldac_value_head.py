from __future__ import annotations

import torch

from vldac.value_head import ValueHead


def trained_head() -> ValueHead:
    """A head whose last layer is not zero, so that gradients have a way through it."""
    torch.manual_seed(0)
    head = ValueHead(8, (16,))
    torch.nn.init.normal_(head.layers[-1].weight)  # type: ignore[arg-type]  # a Linear
    return head


def test_every_state_starts_at_value_zero() -> None:
    assert torch.equal(ValueHead(8, (16, 4))(torch.randn(5, 8)), torch.zeros(5))


def test_no_gradient_reaches_the_states() -> None:
    states = torch.randn(5, 8, requires_grad=True)
    head = trained_head()
    head(states).sum().backward()
    assert states.grad is None
    assert all(p.grad is not None and p.grad.any() for p in head.parameters())


def test_values_are_float32_whatever_the_states_are() -> None:
    values = trained_head()(torch.randn(5, 8, dtype=torch.bfloat16))
    assert values.dtype == torch.float32
    assert values.shape == (5,)


def test_standardized_features_have_mean_zero_and_deviation_one() -> None:
    states = 100 + torch.randn(4096, 8) * torch.linspace(0.5, 4, 8)
    head = trained_head()
    head.fit_standardization(states.mean(0), states.var(0, unbiased=False))
    seen: list[torch.Tensor] = []
    head.layers.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    head(states)
    assert seen[0].mean(0).abs().max() < 1e-3
    assert (seen[0].std(0) - 1).abs().max() < 5e-3


def test_a_constant_feature_does_not_blow_up() -> None:
    head = trained_head()
    states = torch.full((16, 8), 3.0)
    head.fit_standardization(states.mean(0), states.var(0))
    assert torch.isfinite(head(states)).all()


def test_standardization_is_part_of_the_saved_state() -> None:
    head, other = trained_head(), ValueHead(8, (16,))
    head.fit_standardization(torch.arange(8.0), torch.ones(8))
    assert not other.fitted
    other.load_state_dict(head.state_dict())
    assert other.fitted
    states = torch.randn(5, 8)
    assert torch.equal(head(states), other(states))
