"""Whole models in plain PyTorch with random weights, for tests and examples."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Bottleneck(nn.Module):
    """Three convolutions around a shortcut; the stride is on the 3 x 3 one (ResNet v1.5)."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != 4 * width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        return self.relu(self.bn3(self.conv3(out)) + self.shortcut(x))


class ResNet50(nn.Module):
    """ResNet-50 v1.5: 25.6 M parameters, 4.1 G multiply-accumulates on a 224 x 224 image."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
        )
        layers: list[nn.Module] = []
        inputs = 64
        for width, blocks, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
            for i in range(blocks):
                layers.append(Bottleneck(inputs, width, stride if i == 0 else 1))
                inputs = 4 * width
        self.layers = nn.Sequential(*layers)
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        out = self.layers(self.stem(x))
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(out, 1), 1))


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def split(self, x: Tensor) -> tuple[Tensor, ...]:
        batch, length, width = x.shape
        parts = self.qkv(x).split(width, dim=-1)
        return tuple(p.view(batch, length, self.heads, width // self.heads).transpose(1, 2) for p in parts)

    def join(self, x: Tensor) -> Tensor:
        return self.proj(x.transpose(1, 2).flatten(2))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.split(x)
        return self.join(F.scaled_dot_product_attention(q, k, v, is_causal=True))


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        self.ln2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln1(x))
        return x + self.mlp(self.ln2(x))


class GPT2(nn.Module):
    """GPT-2; the small one has 12 layers, 12 heads, width 768 and a vocabulary of 50257."""

    def __init__(
        self, layers: int = 12, heads: int = 12, width: int = 768, vocabulary: int = 50257, context: int = 1024
    ) -> None:
        super().__init__()
        self.wte = nn.Embedding(vocabulary, width)
        self.wpe = nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.ln = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.wte.weight
        nn.init.normal_(self.wte.weight, std=0.02)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.wte(ids) + self.wpe(torch.arange(ids.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.head(self.ln(x))


class Decoder(nn.Module):
    """One step of GPT-2 with its keys and values kept in buffers that every call extends."""

    def __init__(self, model: GPT2, context: int, batch: int = 1) -> None:
        super().__init__()
        self.model = model
        self.context = context
        attn = model.blocks[0].attn
        width = attn.qkv.in_features
        shape = (batch, attn.heads, context, width // attn.heads)
        for i in range(len(model.blocks)):
            self.register_buffer(f"k{i}", torch.zeros(shape))
            self.register_buffer(f"v{i}", torch.zeros(shape))

    def forward(self, ids: Tensor, position: Tensor) -> Tensor:
        """ids[batch, 1], position[1]: the logits of the next token."""
        m = self.model
        x = m.wte(ids) + m.wpe(position)
        seen = torch.arange(self.context)[None, :] <= position[:, None]
        for i, block in enumerate(m.blocks):
            q, k, v = block.attn.split(block.ln1(x))
            keys, values = self.get_buffer(f"k{i}"), self.get_buffer(f"v{i}")
            keys.index_copy_(2, position, k)
            values.index_copy_(2, position, v)
            scores = q @ keys.transpose(-1, -2) / math.sqrt(q.shape[-1])
            weights = scores.masked_fill(~seen, -math.inf).softmax(-1)
            x = x + block.attn.join(weights @ values)
            x = x + block.mlp(block.ln2(x))
        return m.head(m.ln(x))
