# tests/bench/torch_step.py -- one step of the refiner's UNet in plain PyTorch, on random weights.
#
#     torch_step.py [--tiny] [--device cpu] [--count] [SIZE...]
#
# What tools/gpu_check.sh sets beside our own step where PyTorch is installed and diffusers is not:
# the same blocks in the same order (engine/model/unet.c), both halves of the guidance in one call, fp16,
# all weights on the card, as torch multiplies them: convolutions by cuDNN, attention by
# scaled_dot_product_attention.  As with us the keys and values of the prompt are not computed in
# the step.  A line of JSON for each size and memory layout; one that there is no memory for says so.
#
# --count counts multiply-adds instead: 1.599 T at 512, 7.265 T at 1024.  The 3.24 and 14.6 TFLOP of
# docs/speed.md are twice that and the prompt's keys and values, 0.04.  --tiny and --device cpu try
# the script where there is no GPU; such lines say so and are no measurement.
import argparse
import gc
import json
import statistics
import time

import torch
import torch.nn.functional as F
from torch import nn

STEPS = 8
CHANNELS = {False: (384, 768, 1536, 1536), True: (32, 64, 128, 128)}
HEAD = {False: 64, True: 16}
DEPTH = {False: 4, True: 1}
ATTENTION = (False, True, True, False)
EMBEDDING, TEXT = 4, 77


class ResBlock(nn.Module):
    def __init__(self, c_in, c_out, emb):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(32, c_in), nn.Conv2d(c_in, c_out, 3, padding=1)
        self.norm2, self.conv2 = nn.GroupNorm(32, c_out), nn.Conv2d(c_out, c_out, 3, padding=1)
        self.emb = nn.Linear(emb, c_out)
        self.shortcut = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()

    def forward(self, x, emb):
        h = self.conv1(F.silu(self.norm1(x))) + self.emb(emb)[:, :, None, None]
        return self.shortcut(x) + self.conv2(F.silu(self.norm2(h)))


class Block(nn.Module):
    def __init__(self, c, head):
        super().__init__()
        self.heads = c // head
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(c) for _ in range(3))
        self.qkv, self.out1 = nn.Linear(c, 3 * c, bias=False), nn.Linear(c, c)
        self.q, self.out2 = nn.Linear(c, c, bias=False), nn.Linear(c, c)
        self.ff1, self.ff2 = nn.Linear(c, 8 * c), nn.Linear(4 * c, c)
        # What the prompt's keys and values amount to.
        self.register_buffer("kv", torch.randn(2, TEXT, 2 * c))

    def attend(self, q, k, v):
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)

    def forward(self, y):
        y = y + self.out1(self.attend(*self.qkv(self.norm1(y)).chunk(3, -1)))
        y = y + self.out2(self.attend(self.q(self.norm2(y)), *self.kv.chunk(2, -1)))
        value, gate = self.ff1(self.norm3(y)).chunk(2, -1)
        return y + self.ff2(value * F.gelu(gate))


class Transformer(nn.Module):
    def __init__(self, c, head, depth):
        super().__init__()
        self.norm = nn.GroupNorm(32, c, eps=1e-6)
        self.proj_in, self.proj_out = nn.Linear(c, c), nn.Linear(c, c)
        self.blocks = nn.ModuleList(Block(c, head) for _ in range(depth))

    def forward(self, x):
        n, c, h, w = x.shape
        y = self.proj_in(self.norm(x).permute(0, 2, 3, 1).reshape(n, h * w, c))
        for block in self.blocks:
            y = block(y)
        return x + self.proj_out(y).reshape(n, h, w, c).permute(0, 3, 1, 2)


class UNet(nn.Module):
    def __init__(self, tiny):
        super().__init__()
        channels, head, depth = CHANNELS[tiny], HEAD[tiny], DEPTH[tiny]
        emb = EMBEDDING * channels[0]
        self.emb = emb

        def stage(c_in, c_out, attention):
            parts = [ResBlock(c_in, c_out, emb)]
            return nn.ModuleList(parts + [Transformer(c_out, head, depth)] * attention)

        self.conv_in = nn.Conv2d(4, channels[0], 3, padding=1)
        self.down, self.up, skips, c = nn.ModuleList(), nn.ModuleList(), [channels[0]], channels[0]
        for level, c_out in enumerate(channels):
            for _ in range(2):
                self.down.append(stage(c, c_out, ATTENTION[level]))
                c = c_out
                skips.append(c)
            if level < 3:
                self.down.append(nn.ModuleList([nn.Conv2d(c, c, 3, stride=2, padding=1)]))
                skips.append(c)
        self.mid = nn.ModuleList([ResBlock(c, c, emb), Transformer(c, head, depth),
                                  ResBlock(c, c, emb)])
        for level, c_out in reversed(list(enumerate(channels))):
            for i in range(3):
                parts = stage(c + skips.pop(), c_out, ATTENTION[level])
                c = c_out
                if i == 2 and level > 0:
                    parts.append(nn.Conv2d(c, c, 3, padding=1))
                self.up.append(parts)
        self.norm_out, self.conv_out = nn.GroupNorm(32, c), nn.Conv2d(c, 4, 3, padding=1)

    @staticmethod
    def run(parts, x, emb):
        for part in parts:
            if isinstance(part, ResBlock):
                x = part(x, emb)
            elif isinstance(part, nn.Conv2d) and part.stride == (1, 1):
                x = part(F.interpolate(x, scale_factor=2.0, mode="nearest"))
            else:
                x = part(x)
        return x

    def forward(self, x, emb):
        emb = F.silu(emb)
        x = self.conv_in(x)
        skips = [x]
        for parts in self.down:
            x = self.run(parts, x, emb)
            skips.append(x)
        x = self.run(self.mid, x, emb)
        for parts in self.up:
            x = self.run(parts, torch.cat([x, skips.pop()], 1), emb)
        return self.conv_out(F.silu(self.norm_out(x)))


# In its type from the start: F32 first would take twice the memory.
def make(args, layout):
    device = torch.device(args.device)
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float16 if device.type == "cuda" else torch.float32)
    with torch.device(device):
        unet = UNet(args.tiny).requires_grad_(False).eval()
    return unet.to(memory_format=layout)


def forget(device):
    if device.startswith("cuda"):
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def inputs(unet, size, layout):
    w = unet.conv_in.weight
    x = torch.randn(2, 4, size // 8, size // 8, dtype=w.dtype, device=w.device)
    return x.to(memory_format=layout), torch.randn(2, unet.emb, dtype=w.dtype, device=w.device)


def wait(device):
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def measure(args, unet, size, layout):
    forget(args.device)
    given, seconds = inputs(unet, size, layout), []
    with torch.inference_mode():
        for _ in range(STEPS):
            wait(args.device)
            begin = time.perf_counter()
            unet(*given)
            wait(args.device)
            seconds.append(time.perf_counter() - begin)
    cuda = args.device.startswith("cuda")
    peak = torch.cuda.max_memory_reserved() / 2 ** 20 if cuda else 0
    return {"step_s": round(statistics.median(seconds[2:]), 6), "first_step_s": round(seconds[0], 6),
            "peak_mib": round(peak, 1)}


def count(unet, size):
    from torch.utils.flop_counter import FlopCounterMode
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        unet(*inputs(unet, size, torch.contiguous_format))
    return {"tera_macs": round(counter.get_total_flops() / 2e12, 4)}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--tiny", action="store_true")
    p.add_argument("--device", default="cuda")
    p.add_argument("--count", action="store_true")
    p.add_argument("sizes", nargs="*", type=int, default=[1024])
    args = p.parse_args()
    trial = args.tiny or not args.device.startswith("cuda")
    layouts = {"channels last": torch.channels_last, "channels first": torch.contiguous_format}
    if args.count:
        layouts.pop("channels last")
        args.device = "meta"
    for way, layout in layouts.items():
        unet = None  # or the card would have to hold two
        for size in args.sizes:
            line = {"stage": "torch", "way": way, "versions": f"torch {torch.__version__}",
                    "trial": trial, "size": size}
            try:
                if unet is None:
                    forget(args.device)
                    unet = make(args, layout)
                line["dtype"] = str(unet.conv_in.weight.dtype).removeprefix("torch.")
                line |= count(unet, size) if args.count else measure(args, unet, size, layout)
            except RuntimeError as e:  # out of memory
                line["refused"] = str(e).partition("\n")[0].replace('"', "'")[:200]
            print(json.dumps(line, separators=(",", ":")), flush=True)


if __name__ == "__main__":
    main()
