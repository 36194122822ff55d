"""Max pooling that keeps for its backward pass where each maximum was, and not the map it was taken of."""

import torch
from torch import Tensor, nn

__all__ = ["PoolOfTwo"]


class _Pool(torch.autograd.Function):
    @staticmethod
    def forward(ctx, maps: Tensor) -> Tensor:
        pooled, at = torch.ops.aten.max_pool2d_with_indices(maps, [2, 2], [2, 2])
        ctx.save_for_backward(at)
        ctx.size = maps.shape
        return pooled

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        (at,) = ctx.saved_tensors
        last = at.is_contiguous(memory_format=torch.channels_last)
        kind = torch.channels_last if last else torch.contiguous_format
        unwritten = torch.empty(ctx.size, dtype=gradient.dtype, device=gradient.device, memory_format=kind)  # only its shape is read
        return torch.ops.aten.max_pool2d_with_indices_backward(gradient, unwritten, [2, 2], [2, 2], [0, 0], [1, 1], False, at)


class PoolOfTwo(nn.Module):
    """Halve maps (galaxy, channel, y, x) by the largest of each 2 x 2 pixels: `torch.nn.MaxPool2d(2)` with a third of its memory.

    Off the CPU and CUDA it is torch's own: MPS finds the maxima anew from the map in its backward pass.
    """

    def forward(self, maps: Tensor) -> Tensor:
        return _Pool.apply(maps) if maps.device.type in ("cpu", "cuda") else nn.functional.max_pool2d(maps, 2)
