"""Attention, MLP, block and stack: the pre-norm vision transformer, able to return its attention maps by name."""

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from mavil_edu.config import TransformerConfig


def attend(q: Tensor, k: Tensor, v: Tensor, maps: dict[str, Tensor] | None, name: str) -> Tensor:
    """Softmax attention of all heads: q (b, heads, m, e), k and v (b, heads, n, e) -> (b, m, heads · e); `maps` as the modules take it."""
    if maps is None:
        x = F.scaled_dot_product_attention(q, k, v)
    else:
        maps[name] = torch.einsum("bhie,bhje->bhij", q, k).div(q.shape[-1] ** 0.5).softmax(dim=-1)
        x = maps[name] @ v
    return rearrange(x, "b heads n e -> b n (heads e)")


class Attention(nn.Module):
    """Multi-head self-attention over tokens (b, n, d)."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, maps: dict[str, Tensor] | None = None, name: str = "") -> Tensor:
        """Mixes the tokens; where `maps` is given, stores the attention (b, heads, n, n), rows summing to 1, under `name`."""
        q, k, v = (rearrange(part, "b n (heads e) -> b heads n e", heads=self.heads) for part in self.qkv(x).chunk(3, dim=-1))
        return self.proj(attend(q, k, v, maps, name))


class CrossAttention(nn.Module):
    """Multi-head attention of tokens (b, m, d) to others (b, n, d)."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, memory: Tensor, maps: dict[str, Tensor] | None = None, name: str = "") -> Tensor:
        """What each token of x gathers from memory; where `maps` is given, stores the attention (b, heads, m, n) under `name`."""
        q = rearrange(self.q(x), "b m (heads e) -> b heads m e", heads=self.heads)
        k, v = (rearrange(part, "b n (heads e) -> b heads n e", heads=self.heads) for part in self.kv(memory).chunk(2, dim=-1))
        return self.proj(attend(q, k, v, maps, name))


class MLP(nn.Module):
    """Two linear layers with a GELU between, on each token alone."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


def drop_path(x: Tensor, share: float, training: bool) -> Tensor:
    """Stochastic depth: a random share of the clips goes without this branch, the others have it larger, so that its mean stays.

    x: (b, n, d), what a residual branch adds. Unchanged, bit for bit, where share is 0 or the module is not in training.
    Source: Huang et al. 2016; in fine-tuning with share 0.1 [A, R].
    """
    if share == 0 or not training:
        return x
    kept = torch.rand(len(x), 1, 1, device=x.device) >= share
    return x * kept / (1 - share)


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)); LayerNorm eps 1e-6 as in the released model."""

    drop_path = 0.0  # share of the clips that go without each branch in training; fine-tuning sets it

    def __init__(self, width: int, heads: int, mlp_ratio: float):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = MLP(width, int(width * mlp_ratio))

    def forward(self, x: Tensor, maps: dict[str, Tensor] | None = None, name: str = "") -> Tensor:
        x = x + drop_path(self.attn(self.norm1(x), maps, name), self.drop_path, self.training)
        return x + drop_path(self.mlp(self.norm2(x)), self.drop_path, self.training)


class CrossBlock(nn.Module):
    """x + attention from norm(x) to norm(memory), then x + mlp(norm(x)): tokens that look at others, and not at one another."""

    def __init__(self, width: int, heads: int, mlp_ratio: float):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.norm_memory = nn.LayerNorm(width, eps=1e-6)
        self.attn = CrossAttention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = MLP(width, int(width * mlp_ratio))

    def forward(self, x: Tensor, memory: Tensor, maps: dict[str, Tensor] | None = None, name: str = "") -> Tensor:
        x = x + self.attn(self.norm1(x), self.norm_memory(memory), maps, name)
        return x + self.mlp(self.norm2(x))


class Transformer(nn.Module):
    """A stack of blocks, without a norm at its end (the released encoders have none)."""

    recompute = False  # each block's activations again in the backward pass, in place of keeping them

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.blocks = nn.ModuleList(Block(config.width, config.heads, config.mlp_ratio) for _ in range(config.depth))

    def forward(self, x: Tensor, maps: dict[str, Tensor] | None = None, name: str = "", layers: dict[str, Tensor] | None = None) -> Tensor:
        """(b, n, d) -> (b, n, d); as "{name}.{i}" block i stores its attention in `maps`, its tokens in `layers`, where these are given."""
        for i, block in enumerate(self.blocks):
            x = run_block(block, self.recompute, x, maps, f"{name}.{i}")
            if layers is not None:
                layers[f"{name}.{i}"] = x
        return x


class CrossTransformer(nn.Module):
    """A stack of blocks whose tokens all look at the same memory, without a norm at its end [our choice; after CrossMAE and DiffMAViL]."""

    recompute = False  # as a `Transformer`'s

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.blocks = nn.ModuleList(CrossBlock(config.width, config.heads, config.mlp_ratio) for _ in range(config.depth))

    def forward(self, x: Tensor, memory: Tensor, maps: dict[str, Tensor] | None = None, name: str = "") -> Tensor:
        """(b, m, d), given (b, n, d), -> (b, m, d); as "{name}.{i}" block i stores its attention in `maps`, where that is given."""
        for i, block in enumerate(self.blocks):
            x = run_block(block, self.recompute, x, memory, maps, f"{name}.{i}")
        return x


def run_block(block: nn.Module, recompute: bool, x: Tensor, *arguments: object) -> Tensor:
    """A block's answer; with `recompute` its activations are computed again in the backward pass, and not kept until then."""
    if recompute and torch.is_grad_enabled():
        return checkpoint(block, x, *arguments, use_reentrant=False)
    return block(x, *arguments)


def cross_multiply_adds(config: TransformerConfig, asked: int, given: int) -> int:
    """Multiply-adds of one clip's forward pass through a cross-attention stack: `asked` tokens that look at `given` ones."""
    linear = config.width**2 * (asked * (2 + 2 * config.mlp_ratio) + 2 * given)  # q, proj, fc1, fc2; k and v
    attention = 2 * asked * given * config.width
    return round(config.depth * (linear + attention))


def multiply_adds(config: TransformerConfig, tokens: int) -> int:
    """Multiply-adds of one clip's forward pass through a stack on `tokens` tokens, attention's two products counted."""
    linear = tokens * config.width**2 * (4 + 2 * config.mlp_ratio)  # qkv, proj, fc1, fc2
    attention = 2 * tokens**2 * config.width  # q·k and attention·v
    return round(config.depth * (linear + attention))


def initialise(module: nn.Module) -> None:
    """Xavier-uniform linears with zero bias, and ones and zeros for LayerNorm, as in Audio-MAE; for `module.apply`."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.LayerNorm):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)
