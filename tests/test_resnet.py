"""The modified ResNet: shapes, blur pooling, attention pooling, and which norm sees the batch."""

import pytest
import torch
import torch.nn.functional as F
from conftest import assert_close, assert_differ
from torch import nn

from minclip.resnet import AttentionPool, Bottleneck, ResNet


def resnet(norm="group", **settings):
    torch.manual_seed(0)
    net = ResNet(**{"image_size": 16, "layers": (1, 1), "width": 16, "norm": norm, **settings}).double()
    for block in net.blocks:  # as if trained: at the start the blocks' own paths are shut
        nn.init.uniform_(block.norm3.weight, 0.5, 1.5)
    return net


def pictures(n=4, size=16):
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize(("stem_stride", "layers"), [(1, (1,)), (2, (1, 1)), (4, (1, 2, 1)), (1, (2, 1, 1))])
def test_features_have_the_documented_width(stem_stride, layers, norm):
    net = resnet(norm, stem_stride=stem_stride, layers=layers)
    width = 16 * 2 ** (len(layers) - 1) * 4
    assert net(pictures()).shape == (4, width) and net.output_dim == width
    assert len(net.blocks) == sum(layers)


@pytest.mark.parametrize(("stem_stride", "side"), [(1, 16), (2, 8), (4, 4)])
def test_maps_shrink_by_the_stem_and_by_two_a_stage(stem_stride, side):
    net = resnet(stem_stride=stem_stride, layers=(1, 1, 1))
    x, sides = net.stem(pictures()), []
    for block in net.blocks:
        x = block(x)
        sides.append(tuple(x.shape[2:]))
    assert sides == [(side, side), (side // 2, side // 2), (side // 4, side // 4)]
    assert len(net.pool.position_embedding) == (side // 4) ** 2 + 1


def test_pictures_of_another_size_are_seen():
    assert resnet()(pictures(size=24)).shape == resnet()(pictures()).shape


def test_group_norm_gives_each_picture_its_feature_alone():
    net, images = resnet("group"), pictures()
    for row in range(4):
        assert_close(net(images)[row : row + 1], net(images[row : row + 1]))
    assert not any(name.endswith("running_mean") for name in net.state_dict())


def test_batch_norm_sees_the_batch_in_training_only():
    net, images = resnet("batch"), pictures()
    assert_differ(net(images)[:2], net(images[:2]))
    net.eval()
    assert_close(net(images)[:2], net(images[:2]))


def test_a_block_starts_as_its_shortcut():
    torch.manual_seed(0)
    net = ResNet(16, (1, 2), 16, norm="group").double()
    x = net.stem(pictures())
    for block in net.blocks:
        pooled = F.avg_pool2d(x, block.stride)
        assert_close(block(x), F.relu(pooled if block.shortcut is None else block.shortcut(pooled)))
        x = block(x)
    assert [block.shortcut is None for block in net.blocks] == [False, False, True]


def test_a_strided_block_averages_and_skips_no_pixel():
    """A strided 1x1 convolution would read one pixel of four; the shortcut here reads all four alike."""
    torch.manual_seed(0)
    block = Bottleneck(8, 4, stride=2, norm="group").double()
    nn.init.zeros_(block.norm3.weight)
    block.shortcut[1] = nn.Identity()  # a norm would spread the gradient over all pixels
    nn.init.constant_(block.shortcut[0].weight, 0.1)
    x = (pictures(1, 8)[:, :1].abs() + 1).expand(1, 8, 8, 8).clone().requires_grad_()
    out = block(x)
    assert out.shape == (1, 16, 4, 4)
    (gradient,) = torch.autograd.grad(out[:, :, 1, 2].sum(), x)
    assert_close(gradient[0, :, 2:4, 4:6], torch.full((8, 2, 2), 16 * 0.1 / 4, dtype=torch.float64))
    assert gradient.count_nonzero() == 8 * 4


def test_a_strided_blocks_own_path_convolves_first_and_pools_after():
    torch.manual_seed(0)
    block = Bottleneck(8, 4, stride=2, norm="group").double()
    x = torch.randn(2, 8, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y = F.relu(block.norm2(block.conv2(F.relu(block.norm1(block.conv1(x))))))
    y = block.norm3(block.conv3(y.unfold(2, 2, 2).unfold(3, 2, 2).mean((4, 5))))
    assert_close(block(x), F.relu(y + block.shortcut(x.unfold(2, 2, 2).unfold(3, 2, 2).mean((4, 5)))))


def test_attention_pool_is_torchs_attention_asked_by_the_mean():
    torch.manual_seed(0)
    pool, peer = AttentionPool(9, 24, 3).double(), nn.MultiheadAttention(24, 3, batch_first=True, dtype=torch.float64)
    layers = (pool.query, pool.key, pool.value)
    with torch.no_grad():
        peer.in_proj_weight.copy_(torch.cat([layer.weight for layer in layers]))
        peer.in_proj_bias.copy_(torch.cat([layer.bias for layer in layers]))
        peer.out_proj.weight.copy_(torch.eye(24))  # CLIP's is `image_projection` here
        peer.out_proj.bias.zero_()
    x = torch.randn(2, 24, 3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    tokens = torch.cat([x.mean((2, 3))[:, None], x.flatten(2).mT], 1) + pool.position_embedding  # [B, 1 + 9, C]
    assert_close(pool(x), peer(tokens[:, :1], tokens, tokens)[0][:, 0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"norm": "layer"}, "unknown norm 'layer'"),
        ({"stem_stride": 3}, "stem_stride 3"),
        ({"image_size": 18, "layers": (1, 1, 1)}, "image_size 18 is not a multiple of 8"),
    ],
)
def test_errors_name_the_bad_input(settings, message):
    with pytest.raises(ValueError, match=message):
        ResNet(**settings)


def test_every_parameter_of_the_attention_pool_takes_part():
    pool = AttentionPool(9, 24, 3)
    pool(torch.randn(2, 24, 3, 3)).square().sum().backward()
    assert all(p.grad is not None for p in pool.parameters())  # or several processes would wait for it in vain
