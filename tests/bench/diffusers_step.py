# tests/bench/diffusers_step.py -- one step of the refiner's UNet in diffusers, on random weights.
#
#     diffusers_step.py [--tiny] [--device cpu] [SIZE...]
#
# What tools/gpu_check.sh sets beside our own step: the same shapes, both halves of the guidance in
# one call, fp16, in each way that diffusers has to take less memory.  A line of JSON for each:
#
#   resident            all weights on the device
#   model offload       moved there at the first step, and back after the last: first_step_s has it
#   sequential offload  each layer's weights moved there whenever it runs
#   group offload       the same, ahead of time on a stream of their own, from pinned memory
#
# peak_mib is what PyTorch reserved, without the context.  --tiny and --device cpu try the script
# where there is no GPU; such lines say so and are no measurement.  Nothing of the project needs this.
import argparse
import functools
import gc
import json
import statistics
import time

import accelerate
import diffusers
import torch

STEPS, OFFLOADED_STEPS = 6, 3
CHANNELS = {False: (384, 768, 1536, 1536), True: (32, 64, 128, 128)}
HEAD = {False: 64, True: 16}


# Without diffusers' own numbers, two thousand million of them, which take longer than the steps: a
# million small ones over and over.
def make_weights(tiny, dtype, device):
    some, weights = torch.randn(1 << 20, device=device, dtype=dtype) * 0.02, {}
    for name, like in make_empty(tiny).state_dict().items():
        t = weights[name] = torch.empty(like.shape, device=device, dtype=dtype)
        if t.dim() == 1 and name.endswith("weight"):
            t.fill_(1)  # a norm's
            continue
        flat = t.view(-1)
        for at in range(0, flat.numel(), some.numel()):
            n = min(some.numel(), flat.numel() - at)
            flat[at:at + n] = some[:n]
    return weights


@functools.cache
def host_weights(tiny, dtype):
    return make_weights(tiny, dtype, torch.device("cpu"))


def make_unet(tiny, weights):
    unet = make_empty(tiny)
    unet.load_state_dict(weights, assign=True)
    return unet.requires_grad_(False).eval()


def make_empty(tiny):
    channels = CHANNELS[tiny]
    with torch.device("meta"):
        return diffusers.UNet2DConditionModel(
            sample_size=128, in_channels=4, out_channels=4, block_out_channels=channels,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D",
                              "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            layers_per_block=2, transformer_layers_per_block=1 if tiny else 4,
            # diffusers calls the number of heads attention_head_dim.
            attention_head_dim=[c // HEAD[tiny] for c in channels], cross_attention_dim=1280,
            addition_embed_type="text_time", addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2560, use_linear_projection=True)


def make_inputs(size, dtype, device):
    def noise(*shape):
        return torch.randn(*shape, dtype=dtype, device=device)
    return {"sample": noise(2, 4, size // 8, size // 8), "timestep": torch.tensor(200.0),
            "encoder_hidden_states": noise(2, 77, 1280),
            "added_cond_kwargs": {"text_embeds": noise(2, 1280),
                                  "time_ids": noise(2, 5).abs() * 1000}}


def resident(unet, device):
    unet.to(device)


def model_offload(unet, device):
    accelerate.cpu_offload_with_hook(unet, device)


def sequential_offload(unet, device):
    accelerate.cpu_offload(unet, device, offload_buffers=True)


def group_offload(unet, device):
    from diffusers.hooks import apply_group_offloading
    apply_group_offloading(unet, onload_device=device, offload_device=torch.device("cpu"),
                           offload_type="leaf_level", use_stream=device.type == "cuda")


WAYS = {"resident": resident, "model offload": model_offload,
        "sequential offload": sequential_offload, "group offload": group_offload}


def wait(device):
    if device.type == "cuda":
        torch.cuda.synchronize()


def time_steps(unet, inputs, device, steps):
    seconds = []
    for _ in range(steps):
        wait(device)
        begin = time.perf_counter()
        with torch.inference_mode():
            unet(**inputs)
        wait(device)
        seconds.append(time.perf_counter() - begin)
    return seconds


def measure(way, args, size):
    device = torch.device(args.device)
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    if device.type == "cuda":
        gc.collect()  # the one before
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    torch.manual_seed(0)
    unet = make_unet(args.tiny, make_weights(args.tiny, dtype, device) if way == "resident"
                     else host_weights(args.tiny, dtype))
    WAYS[way](unet, device)
    steps = STEPS if way == "resident" else OFFLOADED_STEPS
    seconds = time_steps(unet, make_inputs(size, dtype, device), device, steps)
    peak = torch.cuda.max_memory_reserved() / 2 ** 20 if device.type == "cuda" else 0
    return {"size": size, "dtype": str(dtype).removeprefix("torch."),
            "step_s": round(statistics.median(seconds[1:]), 6),
            "first_step_s": round(seconds[0], 6), "peak_mib": round(peak, 1)}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--tiny", action="store_true")
    p.add_argument("--device", default="cuda")
    p.add_argument("sizes", nargs="*", type=int, default=[1024])
    args = p.parse_args()
    versions = f"diffusers {diffusers.__version__}, torch {torch.__version__}"
    trial = args.tiny or args.device != "cuda"
    for size in args.sizes:
        for way in WAYS:
            line = {"stage": "diffusers", "way": way, "versions": versions, "trial": trial}
            try:
                line |= measure(way, args, size)
            except (ImportError, RuntimeError, ValueError) as e:
                line |= {"size": size, "refused": str(e).partition("\n")[0].replace('"', "'")[:200]}
            print(json.dumps(line, separators=(",", ":")), flush=True)


if __name__ == "__main__":
    main()
