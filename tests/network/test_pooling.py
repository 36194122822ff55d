"""Pooling that keeps positions only is torch's own."""

import pytest
import torch

from tullyflow.network.pooling import PoolOfTwo


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_pooling_and_its_gradient_are_torchs_own(layout):
    maps = torch.randn((3, 5, 8, 6), generator=torch.Generator().manual_seed(1)).to(memory_format=layout)
    ours, theirs = (maps.clone(memory_format=torch.preserve_format).requires_grad_() for _ in range(2))
    for leaf, pool in ((ours, PoolOfTwo()), (theirs, torch.nn.MaxPool2d(2))):
        pool(leaf).sin().sum().backward()
    assert torch.equal(PoolOfTwo()(maps), torch.nn.functional.max_pool2d(maps, 2))
    assert torch.equal(ours.grad, theirs.grad)


def test_pooling_does_not_keep_the_map():
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        PoolOfTwo()(torch.randn((2, 4, 8, 8), requires_grad=True))
    assert [tuple(t.shape) for t in kept] == [(2, 4, 4, 4)]


def test_pooling_can_be_compiled():
    maps = torch.randn((2, 4, 8, 8), generator=torch.Generator().manual_seed(1), requires_grad=True)
    whole = torch.compile(lambda x: PoolOfTwo()(x).sin(), backend="aot_eager", fullgraph=True)
    (quick,) = torch.autograd.grad(whole(maps).sum(), maps)
    (plain,) = torch.autograd.grad(PoolOfTwo()(maps).sin().sum(), maps)
    assert torch.equal(quick, plain)
