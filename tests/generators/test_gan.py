"""The losses of the adversarial game, and a critic whose layers cannot grow."""

from __future__ import annotations

import torch

from innverse import generators


def test_losses_are_hinges_of_the_verdicts():
    gan = generators.build("gan", (1, 8, 8), latent=3, width=8).eval()
    real, fake = torch.rand(6, 1, 8, 8), gan.sample(6)
    # the sign and size of a fresh critic's verdicts: make some exceed the margin
    gan.critic.dense.bias.data.fill_(0.5)
    d, f = gan.judge(real), gan.judge(fake)
    expected = sum(max(0.0, 1 - v) for v in d.tolist()) / 6
    expected += sum(max(0.0, 1 + v) for v in f.tolist()) / 6
    assert abs(gan.critic_loss(real, fake).item() - expected) < 1e-5
    assert abs(gan.generator_loss(fake).item() + f.mean().item()) < 1e-6


def test_layers_of_the_critic_have_spectral_norm_one():
    gan = generators.build("gan", (1, 16, 16), latent=3, width=8).train()
    critic = gan.critic
    for layer in (*critic.convs, critic.dense):
        layer.parametrizations.weight.original.data.mul_(7)
    for _ in range(200):
        gan.judge(torch.rand(2, 1, 16, 16))
    for layer in (*critic.convs, critic.dense):
        norm = torch.linalg.matrix_norm(layer.weight.flatten(1), 2)
        torch.testing.assert_close(norm, torch.tensor(1.0), rtol=2e-2, atol=0)
    u = {k: v.clone() for k, v in critic.state_dict().items() if k.endswith(".u")}
    with torch.autocast("cpu", torch.bfloat16):
        gan.judge(torch.rand(2, 1, 16, 16))
    for k, v in u.items():  # float32 too: bfloat16 is good for 1e-2 only
        torch.testing.assert_close(critic.state_dict()[k], v, atol=1e-3, rtol=0)
    critic.eval()
    before = {k: v.clone() for k, v in critic.state_dict().items()}
    gan.judge(torch.rand(2, 1, 16, 16))
    assert all(torch.equal(v, before[k]) for k, v in critic.state_dict().items())


def test_the_critic_is_as_wide_as_asked():
    wide, narrow = (
        generators.build("gan", (1, 8, 8), latent=2, width=8, critic_width=w) for w in (16, 8)
    )
    assert wide.critic.convs[0].out_channels == 16 and narrow.critic.convs[0].out_channels == 8
    assert wide.generator.convs[-1].in_channels == 8
