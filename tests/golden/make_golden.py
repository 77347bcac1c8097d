"""tests/golden/make_golden.py -- what diffusers and transformers compute, stage by stage.

Two small refiners (tiny.json, odd.json) and two small models of the base's structure
(tiny_base.json, odd_base.json), with the weights of tools/source/synthetic.c (seed 0), are built
from configuration and run in float32 on the CPU through diffusers' own
StableDiffusionXLImg2ImgPipeline and StableDiffusionXLPipeline.  Everything on the way is written
to <name>.gold, and of runs through both a base and a refiner the end to <name>_flows.gold.  Format
and names: README.md.

    python3 tests/golden/make_golden.py [tiny] [odd] [tiny_base] [odd_base] [tiny_flows] [odd_flows]
"""
import json
import math
import pathlib
import struct
import sys
from types import SimpleNamespace

import numpy as np
import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, UNet2DConditionModel
from diffusers import EulerAncestralDiscreteScheduler
from diffusers import StableDiffusionXLImg2ImgPipeline, StableDiffusionXLPipeline
from diffusers.models.autoencoders import vae as vae_module
from diffusers.pipelines.stable_diffusion_xl import (
    pipeline_stable_diffusion_xl_img2img as pipeline_module)
from diffusers.pipelines.stable_diffusion_xl import pipeline_stable_diffusion_xl as base_module
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

HERE = pathlib.Path(__file__).resolve().parent
BOS, EOS, PAD, TOKENS = 49406, 49407, 0, 77
WHOLE = 4096        # tensors of up to so many values are stored whole
SAMPLES = 2048      # of larger ones about so many, evenly strided

JOBS = {
    "tiny": dict(width=96, height=64, steps=10, strength=0.5, guidance=5.0, seed=7,
                 prompt=[320, 1125, 539, 320, 2368], negative=[]),
    "odd": dict(width=216, height=152, steps=12, strength=0.4, guidance=5.0, seed=123,
                prompt=[736, 6052, 539, 320, 49405, 2027, 1, 255, 30000, 7, 40000, 267, 320, 1929],
                negative=[320, 1125, 48000, 512, 3]),
}
# Of models of the base's structure.  A negative prompt of None is zeros.  refiner: of the ensemble.
BASES = {
    "tiny_base": dict(width=96, height=64, steps=6, strength=0.5, guidance=5.0, seed=11,
                      prompt=[320, 1125, 539, 320, 2368], negative=None, refiner="tiny"),
    "odd_base": dict(width=216, height=152, steps=5, strength=0.4, guidance=4.0, seed=77,
                     prompt=[736, 6052, 539, 320, 49405, 2027, 1, 256, 30000, 7, 40000, 267, 320],
                     negative=[320, 1125, 48000, 512, 3], refiner="odd"),
}
ENSEMBLE = dict(steps=10, handoff=0.8)
# Of a base and a refiner, from texts whose words are of letters without merges.
PAIRS = {
    "tiny_flows": dict(base="tiny_base", refiner="tiny", text="a red cat", against=None),
    "odd_flows": dict(base="odd_base", refiner="odd", text="a cat on a lawn", against="fog"),
}
# (height, width), (top, left)
SIZES = dict(original_size=(48, 80), crops_coords_top_left=(8, 16), target_size=(128, 160),
             negative_original_size=(40, 52), negative_crops_coords_top_left=(24, 32),
             negative_target_size=(72, 88))
FLOWS = {
    "two_stage": dict(steps=5, strength=0.5),
    "two_stage_pixels": dict(steps=5, strength=0.5, pixels=True),
    "photo": dict(steps=10, strength=0.5, handoff=0.8, photo=True),
    "clip_skip": dict(steps=5, handoff=0.6, clip_skip=1),
    "sizes": dict(steps=5, handoff=0.6, sizes=SIZES),
    "sizes_photo": dict(steps=5, strength=0.8, handoff=0.6, photo=True, sizes=SIZES),
}
SCORES = (6.0, 2.5)
REFINE = dict(steps=20, denoising_start=0.8)


# ---- weights: the twin of tools/source/synthetic.c ----

MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15


def mix(z):
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def fnv(name):
    h = 0xCBF29CE484222325
    for b in name.encode():
        h = ((h ^ b) * 0x100000001B3) & MASK
    return h


def uniform(name, n, seed=0):
    start = np.array([(seed + GOLDEN) & MASK], dtype=np.uint64)
    key = mix(start) ^ np.uint64(fnv(name))
    i = np.arange(1, n + 1, dtype=np.uint64)
    k = (mix(key + i * np.uint64(GOLDEN)) >> np.uint64(40)).astype(np.int64)
    return ((2 * k + 1 - (1 << 24)) / float(1 << 24)).astype(np.float32)


def stored_name(component, key):
    """The name in published checkpoints.  CLIPTextModel of transformers 5 leaves out its prefix."""
    bare = component == "text_l" and not key.startswith("text_model.")
    return f"{component}.text_model.{key}" if bare else f"{component}.{key}"


def synthetic(component, state):
    out = {}
    for key, value in state.items():
        name = stored_name(component, key)
        module, kind = key.split(".")[-2], key.split(".")[-1]
        offset, factor = np.float32(0), None
        if "norm" in module:
            offset, factor = np.float32(kind == "weight"), np.float32(0.125)
        elif component.startswith("text") and module.endswith("_embedding"):
            factor = np.float32(1 / 32)
        else:
            weight = state[key[: -len(kind)] + "weight"]
            factor = np.float32(1 / math.sqrt(math.prod(weight.shape[1:])))
        values = offset + factor * uniform(name, value.numel())
        assert values.dtype == np.float32
        halves = values.astype(np.float16).astype(np.float32)
        out[key] = torch.from_numpy(halves.reshape(tuple(value.shape)))
    return out


def load(model, component):
    model.load_state_dict(synthetic(component, model.state_dict()), strict=True)
    return model.float().eval()


# ---- models ----

def make_text(c):
    t = c["text"]
    return load(CLIPTextModelWithProjection(CLIPTextConfig(
        vocab_size=t["vocab"], max_position_embeddings=t["context"], hidden_size=t["width"],
        num_hidden_layers=t["layers"], num_attention_heads=t["heads"],
        intermediate_size=t["mlp"], projection_dim=t["projection"], hidden_act="gelu",
        layer_norm_eps=1e-5, bos_token_id=0, eos_token_id=EOS)), "text")


def make_text_l(c):
    t = c["text_l"]
    return load(CLIPTextModel(CLIPTextConfig(
        vocab_size=t["vocab"], max_position_embeddings=t["context"], hidden_size=t["width"],
        num_hidden_layers=t["layers"], num_attention_heads=t["heads"],
        intermediate_size=t["mlp"], hidden_act="quick_gelu",
        layer_norm_eps=1e-5, bos_token_id=0, eos_token_id=EOS)), "text_l")


def make_unet(c):
    u = c["unet"]
    # diffusers calls the number of heads attention_head_dim; the middle block takes the last
    # level's entries, which has no transformers of its own.
    depth = [max(d, 1) for d in u["depth"]]
    assert not u["attention"][-1] or depth[-1] == u["mid_depth"]
    depth[-1] = u["mid_depth"]
    assert u["mid_heads"] == u["heads"][-1]
    down = ["CrossAttnDownBlock2D" if a else "DownBlock2D" for a in u["attention"]]
    up = ["CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(u["attention"])]
    return load(UNet2DConditionModel(
        sample_size=128, in_channels=u["in_channels"], out_channels=u["in_channels"],
        down_block_types=down, up_block_types=up, block_out_channels=u["channels"],
        layers_per_block=u["resnets"], attention_head_dim=u["heads"],
        transformer_layers_per_block=depth, cross_attention_dim=u["context_dim"],
        addition_embed_type="text_time", addition_time_embed_dim=u["id_embed_dim"],
        projection_class_embeddings_input_dim=u["add_embed_dim"], use_linear_projection=True,
        norm_num_groups=u["groups"]), "unet")


def make_vae(c):
    v = c["vae"]
    return load(AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * v["levels"],
        up_block_types=["UpDecoderBlock2D"] * v["levels"], block_out_channels=v["channels"],
        layers_per_block=v["resnets"], latent_channels=v["latent_channels"],
        norm_num_groups=v["groups"], sample_size=1024, scaling_factor=v["scaling_factor"],
        force_upcast=True), "vae")


def make_scheduler(c, kind=EulerDiscreteScheduler, spacing="leading", prediction="epsilon"):
    s = c["schedule"]
    return kind(
        beta_start=s["beta_start"], beta_end=s["beta_end"], beta_schedule="scaled_linear",
        num_train_timesteps=s["train_steps"], steps_offset=s["steps_offset"],
        timestep_spacing=spacing, prediction_type=prediction)


def make_base(c, kind, scheduler, **parts):
    pipe = kind(tokenizer=None, tokenizer_2=None, scheduler=scheduler,
                force_zeros_for_empty_prompt=True, add_watermarker=False, **parts)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def make_pipeline(c):
    scheduler = make_scheduler(c)
    pipe = StableDiffusionXLImg2ImgPipeline(
        vae=make_vae(c), text_encoder=None, text_encoder_2=make_text(c), tokenizer=None,
        tokenizer_2=None, unet=make_unet(c), scheduler=scheduler,
        requires_aesthetics_score=True, force_zeros_for_empty_prompt=False, add_watermarker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


# ---- the gold file ----

def is_prime(k):
    return k > 1 and all(k % d for d in range(2, math.isqrt(k) + 1))


def stride_for(shape):
    n = math.prod(shape)
    if n <= WHOLE:
        return 1
    k = max(3, n // SAMPLES)
    while not is_prime(k) or any(s % k == 0 for s in shape):
        k += 1
    return k


class Gold:
    def __init__(self):
        self.entries = {}

    def put(self, name, value, whole=False):
        """Keeps `value` (any leading dimensions are filled up to n,c,h,w)."""
        a = np.ascontiguousarray(torch.as_tensor(value).detach().numpy(), dtype=np.float32)
        while a.ndim < 4:
            a = a[None]
        assert name not in self.entries and np.isfinite(a).all(), name
        k = 1 if whole else stride_for(a.shape)
        self.entries[name] = (a.shape, k, a.reshape(-1)[::k])

    def numbers(self, name, values):
        self.put(name, np.asarray(values, dtype=np.float32), whole=True)

    def write(self, path):
        with open(path, "wb") as f:
            f.write(b"RGOLD1\n\0" + struct.pack("<I", len(self.entries)))
            for name, (shape, k, stored) in self.entries.items():
                f.write(struct.pack("<H", len(name)) + name.encode())
                f.write(struct.pack("<6I", *shape, k, stored.size))
                f.write(stored.astype("<f4").tobytes())


# ---- listening ----

def first_of(out):
    while isinstance(out, (tuple, list)):
        out = out[0]
    return out.sample if hasattr(out, "sample") else out


class Taps:
    """Forward hooks that write each module's first output."""

    def __init__(self, gold):
        self.gold, self.handles, self.seen = gold, [], set()

    def on(self, module, name):
        def hook(_module, _args, out):
            if name not in self.seen:
                self.seen.add(name)
                self.gold.put(name, first_of(out).clone())
        self.handles.append(module.register_forward_hook(hook))

    def close(self):
        for h in self.handles:
            h.remove()


def tap_unet(taps, unet):
    taps.on(unet.conv_in, "unet.conv_in")
    for side, blocks in (("down", unet.down_blocks), ("up", unet.up_blocks)):
        for i, block in enumerate(blocks):
            tap_block(taps, block, f"unet.{side}_blocks.{i}")
    tap_block(taps, unet.mid_block, "unet.mid_block")
    taps.on(unet.conv_out, "unet.out")


def tap_block(taps, block, at):
    for part in ("resnets", "attentions", "downsamplers", "upsamplers"):
        for j, module in enumerate(getattr(block, part, None) or []):
            taps.on(module, f"{at}.{part}.{j}")


def tap_vae(taps, vae):
    taps.on(vae.encoder.conv_in, "vae.encoder.conv_in")
    for i, block in enumerate(vae.encoder.down_blocks):
        taps.on(block, f"vae.encoder.down_blocks.{i}")
    taps.on(vae.encoder.mid_block, "vae.encoder.mid_block")
    taps.on(vae.quant_conv, "vae.moments")
    taps.on(vae.post_quant_conv, "vae.post_quant_conv")
    taps.on(vae.decoder.conv_in, "vae.decoder.conv_in")
    taps.on(vae.decoder.mid_block, "vae.decoder.mid_block")
    for i, block in enumerate(vae.decoder.up_blocks):
        taps.on(block, f"vae.decoder.up_blocks.{i}")
    taps.on(vae.decoder.conv_out, "vae.decoder.out")


class Noise:
    """Keeps what the pipeline draws: first for the posterior, then for the first step."""

    def __init__(self):
        self.drawn = []

    def __enter__(self):
        self.real = pipeline_module.randn_tensor
        pipeline_module.randn_tensor = vae_module.randn_tensor = self.draw
        base_module.randn_tensor = self.draw
        return self

    def __exit__(self, *_):
        pipeline_module.randn_tensor = vae_module.randn_tensor = self.real
        base_module.randn_tensor = self.real

    def draw(self, *args, **kw):
        self.drawn.append(self.real(*args, **kw))
        return self.drawn[-1]


class Steps:
    """Writes what goes into and comes out of the scheduler at each step."""

    def __init__(self, gold, flow, scheduler):
        self.gold, self.flow, self.scheduler, self.n = gold, flow, scheduler, 0

    def __enter__(self):
        self.real, self.scheduler.step = self.scheduler.step, self.step
        return self

    def __exit__(self, *_):
        self.scheduler.step = self.real

    def step(self, eps, t, sample, generator=None, **kw):  # the pipeline looks for `generator`
        g, at = self.gold, f"{self.flow}.step.{self.n}"
        if self.n == 0:
            g.put(f"{self.flow}.latents.init", sample, whole=True)
        out = self.real(eps, t, sample, generator=generator, **kw)
        g.put(f"{at}.timestep", torch.tensor([float(t)]))
        g.put(f"{at}.eps", eps, whole=True)
        g.put(f"{at}.latents", first_of(out), whole=True)
        self.n += 1
        return out


# ---- inputs ----

def token_ids(words, pad=PAD):
    ids = [BOS] + words + [EOS]
    return ids + [pad] * (TOKENS - len(ids))


def picture(width, height):
    """Smooth colours with an edge and a little texture; integers only."""
    y, x = np.mgrid[0:height, 0:width]
    rgb = np.stack([x * 255 // (width - 1), y * 255 // (height - 1), (x * y) % 256], axis=-1)
    rgb[(x - width // 2) ** 2 + (y - height // 2) ** 2 < (height // 4) ** 2] = (230, 40, 90)
    return (rgb + (7 * x + 13 * y)[..., None] % 11).clip(0, 255).astype(np.uint8)


def planes(rgb):
    return np.ascontiguousarray(rgb.transpose(2, 0, 1)).astype(np.float32)


def as_tensor(rgb):
    """The picture in [0,1], as VaeImageProcessor would make it of a PIL image, but contiguous:
    torch's GroupNorm of channels-last tensors loses a digit."""
    return torch.from_numpy(planes(rgb)[None] / np.float32(255))


def encode_prompts(gold, pipe, job):
    ids = [token_ids(job["negative"]), token_ids(job["prompt"])]
    out = pipe.text_encoder_2(torch.tensor(ids), output_hidden_states=True)
    hidden, pooled = out.hidden_states[-2], out.text_embeds
    gold.numbers("text.ids", ids)
    gold.put("text.hidden", hidden.transpose(1, 2)[:, :, None, :])
    gold.put("text.pooled", pooled[:, :, None, None])
    return dict(negative_prompt_embeds=hidden[:1], prompt_embeds=hidden[1:],
                negative_pooled_prompt_embeds=pooled[:1], pooled_prompt_embeds=pooled[1:])


def call(pipe, job, prompts, **kw):
    return pipe(guidance_scale=job["guidance"], aesthetic_score=SCORES[0],
                negative_aesthetic_score=SCORES[1], output_type="pt", **prompts, **kw).images


def put_picture(gold, flow, image, whole=True):
    """As VaeImageProcessor makes it: round(255 * picture), halves to even."""
    gold.put(f"{flow}.image", image)
    gold.put(f"{flow}.image_u8", (255 * image).round(), whole=whole)


def img2img(gold, pipe, job, prompts):
    rgb = picture(job["width"], job["height"])
    gold.numbers("img2img.input_u8", planes(rgb))
    gold.numbers("img2img.job", [job["width"], job["height"], job["steps"], job["strength"],
                                 job["guidance"], *SCORES, job["seed"], 0])
    taps = Taps(gold)
    tap_unet(taps, pipe.unet)
    tap_vae(taps, pipe.vae)
    with Noise() as noise, Steps(gold, "img2img", pipe.scheduler) as steps:
        image = call(pipe, job, prompts, image=as_tensor(rgb), strength=job["strength"],
                     num_inference_steps=job["steps"],
                     generator=torch.Generator("cpu").manual_seed(job["seed"]))
    taps.close()
    gold.put("img2img.noise.posterior", noise.drawn[0], whole=True)
    gold.put("img2img.noise.init", noise.drawn[1], whole=True)
    put_picture(gold, "img2img", image)
    return steps.n


def refine(gold, pipe, job, prompts):
    generator = torch.Generator("cpu").manual_seed(job["seed"] + 1)
    latents = 0.9 * torch.randn(1, 4, job["height"] // 8, job["width"] // 8, generator=generator)
    gold.put("refine.latents.in", latents, whole=True)
    gold.numbers("refine.job", [job["width"], job["height"], REFINE["steps"], 0.3, job["guidance"],
                                *SCORES, job["seed"], REFINE["denoising_start"]])
    with Steps(gold, "refine", pipe.scheduler) as steps:
        image = call(pipe, job, prompts, image=latents, num_inference_steps=REFINE["steps"],
                     denoising_start=REFINE["denoising_start"],
                     generator=torch.Generator("cpu").manual_seed(job["seed"]))
    put_picture(gold, "refine", image)
    return steps.n


def make(name):
    job = JOBS[name]
    pipe = make_pipeline(json.loads((HERE / f"{name}.json").read_text()))
    gold = Gold()
    with torch.no_grad():
        prompts = encode_prompts(gold, pipe, job)
        n = img2img(gold, pipe, job, prompts), refine(gold, pipe, job, prompts)
    path = HERE / f"{name}.gold"
    gold.write(path)
    print(f"{path.name}: {len(gold.entries)} entries, {path.stat().st_size} bytes, steps {n}")


# ---- the base ----

def encode_base_prompts(gold, text_l, text, job):
    """Both encoders, side by side: [negative, prompt], or without a negative one zeros for it."""
    words = [job["negative"] or [], job["prompt"]]
    ids_l = [token_ids(w, EOS) for w in words]
    ids = [token_ids(w) for w in words]
    l = text_l(torch.tensor(ids_l), output_hidden_states=True)
    g = text(torch.tensor(ids), output_hidden_states=True)
    hidden_l, hidden, pooled = l.hidden_states[-2], g.hidden_states[-2], g.text_embeds
    gold.numbers("text_l.ids", ids_l)
    gold.numbers("text.ids", ids)
    gold.put("text_l.hidden", hidden_l.transpose(1, 2)[:, :, None, :])
    gold.put("text.hidden", hidden.transpose(1, 2)[:, :, None, :])
    gold.put("text.pooled", pooled[:, :, None, None])
    context = torch.cat([hidden_l, hidden], dim=-1)
    if job["negative"] is None:
        context = torch.stack([torch.zeros_like(context[0]), context[1]])
        pooled = torch.stack([torch.zeros_like(pooled[0]), pooled[1]])
    return dict(negative_prompt_embeds=context[:1], prompt_embeds=context[1:],
                negative_pooled_prompt_embeds=pooled[:1], pooled_prompt_embeds=pooled[1:])


def base_job(gold, flow, job, steps, guidance, strength=0.0, handoff=0.0):
    gold.numbers(f"{flow}.job", [job["width"], job["height"], steps, strength, guidance,
                                 *SCORES, job["seed"], handoff])
    return dict(num_inference_steps=steps, guidance_scale=guidance,
                generator=torch.Generator("cpu").manual_seed(job["seed"]))


def text_to_image(gold, flow, pipe, job, prompts, steps, guidance, tapped=False, **kw):
    size = dict(width=job["width"], height=job["height"])
    taps = Taps(gold)
    if tapped:
        tap_unet(taps, pipe.unet)
    with Noise(), Steps(gold, flow, pipe.scheduler):
        out = pipe(**prompts, **size, **base_job(gold, flow, job, steps, guidance,
                                                 handoff=kw.get("denoising_end", 0.0)),
                   output_type=kw.pop("output_type", "pt"), **kw).images
    taps.close()
    return out


def ensemble(gold, c, parts, job, prompts):
    base = make_base(c, StableDiffusionXLPipeline, make_scheduler(c), **parts)
    steps, handoff = ENSEMBLE["steps"], ENSEMBLE["handoff"]
    latents = text_to_image(gold, "ensemble_base", base, job, prompts, steps, job["guidance"],
                            denoising_end=handoff, output_type="latent")
    gold.put("ensemble.latents", latents, whole=True)
    refiner = make_pipeline(json.loads((HERE / f"{job['refiner']}.json").read_text()))
    own = Gold()
    words = dict(job, negative=job["negative"] or [])
    own_prompts = encode_prompts(own, refiner, words)
    gold.numbers("ensemble.job", [job["width"], job["height"], steps, 0.3, job["guidance"],
                                  *SCORES, job["seed"], handoff])
    with Steps(gold, "ensemble", refiner.scheduler):
        image = call(refiner, job, own_prompts, image=latents, num_inference_steps=steps,
                     denoising_start=handoff,
                     generator=torch.Generator("cpu").manual_seed(job["seed"]))
    put_picture(gold, "ensemble", image, whole=False)


def base_img2img(gold, c, parts, job, prompts):
    pipe = make_base(c, StableDiffusionXLImg2ImgPipeline, make_scheduler(c), **parts)
    rgb = picture(job["width"], job["height"])
    gold.numbers("img2img.input_u8", planes(rgb))
    with Noise(), Steps(gold, "img2img", pipe.scheduler):
        image = pipe(**prompts, image=as_tensor(rgb), strength=job["strength"], output_type="pt",
                     **base_job(gold, "img2img", job, 2 * job["steps"], job["guidance"],
                                strength=job["strength"])).images
    put_picture(gold, "img2img", image, whole=False)


def make_base_gold(name):
    job = BASES[name]
    c = json.loads((HERE / f"{name}.json").read_text())
    parts = dict(vae=make_vae(c), text_encoder=make_text_l(c), text_encoder_2=make_text(c),
                 unet=make_unet(c))
    gold = Gold()
    with torch.no_grad():
        prompts = encode_base_prompts(gold, parts["text_encoder"], parts["text_encoder_2"], job)
        kinds = {
            "txt2img": (make_scheduler(c), job["steps"], job["guidance"]),
            "turbo": (make_scheduler(c, EulerAncestralDiscreteScheduler, "trailing"), 3, 0.0),
            "velocity": (make_scheduler(c, spacing="linspace", prediction="v_prediction"), 4,
                         job["guidance"]),
        }
        for flow, (scheduler, steps, guidance) in kinds.items():
            pipe = make_base(c, StableDiffusionXLPipeline, scheduler, **parts)
            image = text_to_image(gold, flow, pipe, job, prompts, steps, guidance,
                                  tapped=flow == "txt2img")
            put_picture(gold, flow, image, whole=False)
        base_img2img(gold, c, parts, job, prompts)
        ensemble(gold, c, parts, job, prompts)
    path = HERE / f"{name}.gold"
    gold.write(path)
    print(f"{path.name}: {len(gold.entries)} entries, {path.stat().st_size} bytes")


# ---- a base, then a refiner ----

class Letters:
    """A tokenizer without merges: every byte is a token, and the last of a word another one."""
    model_max_length, added_tokens_encoder = TOKENS, {}

    def __init__(self, pad):
        self.pad = pad

    def tokenize(self, text):
        return text.split()

    def __call__(self, texts, **_):
        rows = [token_ids([ord(c) - ord("!") + 256 * (at == len(word) - 1)
                           for word in text.split() for at, c in enumerate(word)], self.pad)
                for text in texts]
        return SimpleNamespace(input_ids=torch.tensor(rows))


def flow_numbers(gold, flow, job, steps, strength=0.0, handoff=0.0, pixels=False, photo=False,
                 clip_skip=None, sizes={}):
    pairs = [tuple(reversed(sizes.get(key, (0, 0)))) for key in SIZES]
    gold.numbers(f"{flow}.job", [job["width"], job["height"], steps, strength, job["guidance"],
                                 *SCORES, job["seed"], handoff, pixels, photo, clip_skip or 0,
                                 *sum(pairs, ())])


def pair_flow(gold, flow, base, refiner, job, texts, steps, strength=0.0, handoff=0.0,
              pixels=False, photo=False, clip_skip=None, sizes={}):
    """What the base leaves goes on to the refiner, and with it the generator."""
    both = dict(prompt=texts["text"], negative_prompt=texts["against"], clip_skip=clip_skip,
                guidance_scale=job["guidance"], num_inference_steps=steps, **sizes,
                generator=torch.Generator("cpu").manual_seed(job["seed"]))
    if photo:
        own = dict(image=as_tensor(picture(job["width"], job["height"])), strength=strength)
    else:
        own = dict(width=job["width"], height=job["height"])
    left = base(**both, **own, denoising_end=handoff or None,
                output_type="pil" if pixels else "latent").images
    image = as_tensor(np.asarray(left[0])) if pixels else left
    start = dict(denoising_start=handoff) if handoff else dict(strength=strength)
    on_the_way = Gold()
    with Steps(on_the_way, flow, refiner.scheduler) as done:
        image = refiner(**both, **start, image=image, aesthetic_score=SCORES[0],
                        negative_aesthetic_score=SCORES[1], output_type="pt").images
    gold.entries[f"{flow}.latents"] = on_the_way.entries[f"{flow}.step.{done.n - 1}.latents"]
    gold.put(f"{flow}.image_u8", (255 * image).round())


def make_pair_gold(name):
    texts = PAIRS[name]
    c = json.loads((HERE / f"{texts['base']}.json").read_text())
    parts = dict(vae=make_vae(c), text_encoder=make_text_l(c), text_encoder_2=make_text(c),
                 unet=make_unet(c))
    refiner = make_pipeline(json.loads((HERE / f"{texts['refiner']}.json").read_text()))
    refiner.tokenizer_2 = Letters(PAD)
    gold = Gold()
    with torch.no_grad():
        for flow, kw in FLOWS.items():
            kinds = StableDiffusionXLPipeline, StableDiffusionXLImg2ImgPipeline
            base = make_base(c, kinds["photo" in kw], make_scheduler(c), **parts)
            base.tokenizer, base.tokenizer_2 = Letters(EOS), Letters(PAD)
            flow_numbers(gold, flow, BASES[texts["base"]], **kw)
            pair_flow(gold, flow, base, refiner, BASES[texts["base"]], texts, **kw)
    path = HERE / f"{name}.gold"
    gold.write(path)
    print(f"{path.name}: {len(gold.entries)} entries, {path.stat().st_size} bytes")


if __name__ == "__main__":
    torch.use_deterministic_algorithms(True)
    np.seterr(over="ignore")
    for each in sys.argv[1:] or [*JOBS, *BASES, *PAIRS]:
        (make_pair_gold if each in PAIRS else make_base_gold if each in BASES else make)(each)
