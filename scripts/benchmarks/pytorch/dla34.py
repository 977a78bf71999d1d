"""DLA-34's base in plain PyTorch, to compare speeds; its parts bear the released code's names."""

import torch
from torch import nn
from torch.nn import functional


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, n_in, n_out, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_out)

    def forward(self, x, shortcut):
        """Returns the block's output."""
        y = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        return functional.relu(self.bn2(self.conv2(y)) + shortcut, inplace=True)


class Root(nn.Module):
    """A 1x1 convolution of all that a tree gathers."""

    def __init__(self, n_in, n_out):
        super().__init__()
        self.conv = nn.Conv2d(n_in, n_out, 1, bias=False)
        self.bn = nn.BatchNorm2d(n_out)

    def forward(self, children):
        """Returns the root's output."""
        return functional.relu(self.bn(self.conv(torch.cat(children, 1))), inplace=True)


class Tree(nn.Module):
    """Blocks, or trees, and their root."""

    def __init__(self, depth, n_in, n_out, stride=1, has_level_root=False, n_children=0):
        super().__init__()
        self.depth, self.stride, self.has_level_root = depth, stride, has_level_root
        n_children += n_in if has_level_root else 0
        if depth > 1:
            self.tree1 = Tree(depth - 1, n_in, n_out, stride)
            self.tree2 = Tree(depth - 1, n_out, n_out, n_children=n_children + n_out)
            return
        self.tree1, self.tree2 = BasicBlock(n_in, n_out, stride), BasicBlock(n_out, n_out)
        self.root = Root(2 * n_out + n_children, n_out)
        self.project = None
        if n_in != n_out:
            self.project = nn.Sequential(
                nn.Conv2d(n_in, n_out, 1, bias=False), nn.BatchNorm2d(n_out)
            )

    def forward(self, x, children=()):
        """Returns the root's output; `children` go to it too."""
        bottom = functional.max_pool2d(x, self.stride) if self.stride > 1 else x
        if self.has_level_root:
            children = [*children, bottom]
        if self.depth > 1:
            x1 = self.tree1(x)
            return self.tree2(x1, [*children, x1])
        shortcut = self.project(bottom) if self.project else bottom
        x1 = self.tree1(x, shortcut)
        return self.root([self.tree2(x1, x1), x1, *children])


def _convolution(n_in, n_out, size, stride=1):
    convolution = nn.Conv2d(n_in, n_out, size, stride, size // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(n_out), nn.ReLU(inplace=True))


class Dla34(nn.Module):
    """The base; gives its six levels."""

    def __init__(self):
        super().__init__()
        self.base_layer = _convolution(3, 16, 7)
        self.level0, self.level1 = _convolution(16, 16, 3), _convolution(16, 32, 3, 2)
        self.level2 = Tree(1, 32, 64, 2)
        self.level3 = Tree(2, 64, 128, 2, has_level_root=True)
        self.level4 = Tree(2, 128, 256, 2, has_level_root=True)
        self.level5 = Tree(1, 256, 512, 2, has_level_root=True)

    def forward(self, x):
        """Returns the levels."""
        x, outputs = self.base_layer(x), []
        for i in range(6):
            x = getattr(self, f"level{i}")(x)
            outputs.append(x)
        return outputs
