# tests/bench/cuda_model.py -- a step on cards that we have not: modelled, not measured.
#
#     cuda_model.py [--tools DIR] [--int8] LIBRARY BENCH PACK [SIZE...]
#
# LIBRARY is libkernels.a of a build with nvcc, BENCH the bench_cuda_launches of one with
# REFINE_CUDA=EMULATED, PACK one of the full model, of int8 for a step in integers; DIR has
# cuobjdump and nvdisasm (on PyPI: nvidia-cuda-cuobjdump, nvidia-cuda-nvdisasm), which else are
# looked for in PATH.  Each family of operators is a line of JSON, and the step.
#
# BENCH says what is launched.  The machine code says the rest: registers, which with shared memory
# decide how many blocks a multiprocessor holds, and the loop where the products are.  Of it
#
#   products   multiply-adds of its HMMA, HFMA2 or FFMA instructions, all warps of a block
#   issued     its instructions, of which each of four schedulers issues one a cycle
#   path       cycles of one warp by itself: its stall counts, and waits for scoreboards
#
# n blocks that share a multiprocessor take, each time round,
#
#   max(n products / rate / FULL, n issued / 4, products / rate + EXPOSED path)
#
# cycles, and a block beside its loop AROUND more.  Blocks come in waves of as many as the card
# holds; what is left over is spread evenly.  A launch takes LAUNCH, and what computes no products
# as long as its bytes do.  Good to about a quarter: its use is to compare versions of the sources.
#
# EXPOSED is the one constant that was fitted: with it three loops (plain product, product behind a
# norm, attention) leave about as much exposed on an RTX 3060 as was estimated by hand from their
# machine code.  It is not to be set anew with the sources.
import argparse
import collections
import json
import math
import pathlib
import re
import subprocess
import sys
import tempfile

FULL, EXPOSED, AROUND, LAUNCH = 1 / 1.04, 0.71, 3000, 6e-6
OF_DRAM = 0.75  # of a card's bytes a second
STEP = 64  # of k, in a round of a product: kernels/cuda/product_args.cuh

Card = collections.namedtuple("Card", "name capability processors ghz rate bytes")
# `rate`: multiply-adds a cycle a multiprocessor; of HMMA with F32 sums.  Clocks are those that
# cards hold under load, by public reports.
CARDS = (
    Card("RTX 3060", 86, 28, 1.78, {"HMMA": 256, "IMMA": 1024, "HFMA2": 256, "FFMA": 128}, 330e9),
    Card("RTX 2060", 75, 30, 1.68, {"HMMA": 256, "IMMA": 1024, "HFMA2": 128, "FFMA": 64}, 300e9),
    Card("GTX 1660", 75, 22, 1.78, {"HFMA2": 128, "FFMA": 64}, 170e9),
    Card("H100", 90, 132, 1.75, {"HMMA": 1270, "IMMA": 2540, "HFMA2": 256, "FFMA": 128}, 2800e9),
)

# A multiprocessor: registers, threads, blocks, bytes of shared memory, and of it what each block
# costs beside its own.  CUDA C++ Programming Guide, "Technical Specifications".
Room = collections.namedtuple("Room", "registers threads blocks shared extra")
ROOM = {
    75: Room(65536, 1024, 16, 64 << 10, 0),
    86: Room(65536, 1536, 16, 100 << 10, 1 << 10),
    90: Room(65536, 2048, 32, 228 << 10, 1 << 10),
}

# Cycles until what an instruction of no fixed latency brings is there.
LATENCY = {"LDS": 28, "LDSM": 33, "MUFU": 22, "LDG": 400, "S2R": 25, "STS": 10, "I2F": 20,
           "F2I": 20, "SHFL": 25, "HMMA": 33, "IMMA": 33}
# A branch over these is not taken: they are what the loop is for.
WORK = {"HMMA", "IMMA", "HFMA2", "FFMA", "LDSM", "LDS", "STS", "LDG", "LDGSTS", "BAR", "SHFL"}
TAKEN = 8  # cycles of a branch that is

Instruction = collections.namedtuple("Instruction", "text op stall writes reads waits")
Loop = collections.namedtuple("Loop", "op macs issued path")  # macs: of one warp


def answer(*command, **options):
    """What a program prints; its own words, and the end, where it fails."""
    try:
        done = subprocess.run([str(c) for c in command], capture_output=True, text=True, **options)
    except FileNotFoundError:
        sys.exit(f"cuda_model.py: there is no {command[0]}; see the head of cuda_model.py")
    if done.returncode != 0:
        sys.exit(f"cuda_model.py: {command[0]}: {done.stderr.strip()}")
    return done.stdout


def macs_of(text):
    """Multiply-adds of a warp's instruction."""
    shape = re.search(r"[HI]MMA\.(\d+)\.", text)
    if shape:
        m, rest = 16 if shape.group(1).startswith("16") else 8, shape.group(1)
        n_k = rest[2:] if m == 16 else rest[1:]
        return m * int(n_k[0]) * int(n_k[1:])
    if text.startswith("HFMA2"):
        return 64
    return 32 if text.startswith("FFMA") else 0


# ---- machine code ----


def read_kernels(nvdisasm, cubin):
    """Of each kernel its instructions and labels (in which text stands for the name)."""
    lines = answer(nvdisasm, "-hex", cubin).split("\n")
    kernels, at = {}, None
    for number, line in enumerate(lines):
        if line.startswith("\t.section"):
            at = None
        begin = re.match(r"\.text\.(\w+):", line)
        if begin:
            at = kernels.setdefault(begin.group(1), [])
        if at is None:
            continue
        label = re.match(r"(\.L_x_\d+):", line)
        if label:
            at.append(Instruction(label.group(1), None, 0, None, None, ()))
        code = re.match(r"\s+/\*([0-9a-f]{4,})\*/\s+(.*?)\s*;\s+/\* 0x[0-9a-f]{16} \*/", line)
        if code:
            # Bits 105 and up: stall, yield, scoreboard that it sets when written and when read, and
            # those that it waits for (Jia et al. 2018, "Dissecting the NVIDIA Volta GPU").
            high = int(re.search(r"/\* 0x([0-9a-f]{16}) \*/", lines[number + 1]).group(1), 16)
            control = high >> 41
            plain = re.sub(r"^@!?U?P\w+\s+", "", code.group(2))
            waits = tuple(b for b in range(6) if control >> 11 >> b & 1)
            op = re.split(r"[.\s]", plain)[0]
            at.append(Instruction(code.group(2), op, control & 15, control >> 5 & 7,
                                  control >> 8 & 7, waits))
    return kernels


def bare(instruction):
    """Without its predicate."""
    return re.sub(r"^@!?U?P\w+\s+", "", instruction.text)


def target_of(instruction):
    found = re.search(r"`\((\.L_x_\d+)\)", instruction.text)
    return found.group(1) if instruction.op == "BRA" and found else None


def loops_of(code):
    """Begin and end of what branches go back over."""
    labels = {i.text: at for at, i in enumerate(code) if i.op is None}
    for at, i in enumerate(code):
        to = labels.get(target_of(i)) if i.op else None
        if to is not None and to < at:
            yield to, at


def products_in(code, begin, end):
    return sum(macs_of(bare(i)) for i in code[begin:end] if i.op)


def walk(code, begin, end):
    """The instructions from `begin` to `end` in the order in which a warp meets them."""
    labels = {i.text: at for at, i in enumerate(code) if i.op is None}
    at, seen = begin, set()
    while at not in seen:
        seen.add(at)
        i = code[at]
        to = labels.get(target_of(i)) if i.op else None
        taken = False
        if to is not None and at != end:
            # One that goes back belongs to a loop within, which is met once here.
            between = {j.op for j in code[at + 1:to]} if to > at else WORK
            taken = not i.text.startswith("@") or not between & WORK
        if i.op:
            yield i, taken
        if at == end:
            return
        at = to if taken else at + 1


def path_of(steps):
    """Cycles of one warp by itself, products going as fast as they are issued."""
    now, ready, copied = 0, {}, 0
    for i, taken in steps:
        now = max([now] + [ready.get(b, 0) for b in i.waits])
        if i.op == "LDGSTS":
            copied = now + LATENCY["LDG"]
        if i.op == "DEPBAR":  # of copies, the last of which is waited for
            now = max(now, copied)
        if i.writes != 7:
            ready[i.writes] = now + LATENCY.get(i.op, 20)
        if i.reads != 7:
            ready[i.reads] = max(ready.get(i.reads, 0), now + 12)
        now += i.stall + (TAKEN if taken else 0)
    return now


def cost_of(code, begin, end, op):
    steps = list(walk(code, begin, end))
    macs = sum(macs_of(bare(i)) for i, _ in steps if i.op == op)
    return Loop(op, macs, len(steps), path_of(steps))


def loop_of(code, of_a_round):
    """The loop where products are; None where nothing is multiplied.

    of_a_round: multiply-adds of a warp in one round of the loop as the sources have it; 0: not
    known.  Inner loops that do a part of them are gone through until they have done all.
    """
    loops = [(products_in(code, b, e), b, e) for b, e in loops_of(code)]
    most = max((p for p, _, _ in loops), default=0)
    if most == 0:
        return None
    by_size = sorted((x for x in loops if x[0] > 0.9 * most), key=lambda x: x[2] - x[1])
    _, begin, end = by_size[0]
    ops = collections.Counter(i.op for i in code[begin:end])
    op = next(o for o in ("IMMA", "HMMA", "HFMA2", "FFMA") if ops[o] > 0)
    smallest = cost_of(code, begin, end, op)
    around = [(b, e) for _, b, e in by_size if b < begin and e > end]
    inside = [cost_of(code, b, e, op) for _, b, e in loops if begin < b and e < end]
    inside = [i for i in inside if i.macs > 0]
    if smallest.macs >= of_a_round or not (around or inside):
        return smallest
    outer = smallest if inside else cost_of(code, *around[0], op)
    inner = inside or [smallest]
    again = round(of_a_round / sum(i.macs for i in inner)) - 1
    return Loop(op, *(getattr(outer, of) + again * sum(getattr(i, of) for i in inner)
                      for of in ("macs", "issued", "path")))


def tile_of(name):
    """Pixels, rows of w and warps of a block of a product; None: it is none."""
    tensor = re.search(r"5warpsILi(\d+)ELi(\d+)ELi(\d+)E", name)
    simt = re.search(r"product_simt_kernelI\w+?Li(\d+)ELi(\d+)E", name)
    if tensor:
        m, n, i = (int(x) for x in tensor.groups())
        return m * 16 * i, n * 32, m * n
    return (16 * int(simt.group(1)), 16 * int(simt.group(2)), 8) if simt else None


def macs_of_a_round(name):
    """Of a warp, in a round of the loop over k of a product, or over keys; 0: not known."""
    if "17flash_simt_kernel" in name:
        return 2 * 64 * 64 * 64 // 8
    m, n, warps = tile_of(name) or (0, 0, 1)
    return m * n * STEP // warps


def machine_code(tools, library, capability):
    """Registers and loop of each kernel, by its mangled name."""
    kernels = {}
    with tempfile.TemporaryDirectory() as place:
        answer(tools / "cuobjdump", "-xelf", f"sm_{capability}", library.resolve(), cwd=place)
        for cubin in sorted(pathlib.Path(place).glob("*.cubin")):
            usage = answer(tools / "cuobjdump", "-res-usage", cubin)
            registers = dict(re.findall(r"Function (\w+):\n\s+REG:(\d+)", usage))
            if not registers:
                continue
            for name, code in read_kernels(tools / "nvdisasm", cubin).items():
                if name in registers:
                    kernels[name] = (int(registers[name]), loop_of(code, macs_of_a_round(name)))
    if not kernels:
        sys.exit(f"cuda_model.py: {library} has no code for {capability}")
    return kernels


# ---- a launch ----


def blocks_held(room, registers, launch):
    warps = math.ceil(launch["threads"] / 32)
    of_registers = room.registers // (warps * math.ceil(registers * 32 / 256) * 256)
    shared = launch["shared"] + room.extra
    of_shared = room.shared // shared if shared else room.blocks
    return max(1, min(room.blocks, room.threads // launch["threads"], of_registers, of_shared))


def rounds_of(launch, loop, warps):
    """How often a block goes round its loop."""
    if tile_of(launch["name"]):
        return launch["taps"] * math.ceil(launch["k"] / STEP)
    return math.ceil(launch["macs"] / launch["blocks"] / (warps * loop.macs))


def seconds_of(card, kernel, launch):
    registers, loop = kernel
    room = ROOM[card.capability]
    if launch["macs"] == 0 or loop is None:
        return LAUNCH + launch["bytes"] / (OF_DRAM * card.bytes)
    warps = math.ceil(launch["threads"] / 32)
    held = blocks_held(room, registers, launch)
    products = warps * loop.macs / card.rate[loop.op]

    def cycles(n):
        once = max(n * products / FULL, n * warps * loop.issued / 4,
                   products + EXPOSED * loop.path)
        return rounds_of(launch, loop, warps) * once + AROUND

    waves, left = divmod(launch["blocks"], card.processors * held)
    total = waves * cycles(held)
    if left:
        total += cycles(math.ceil(left / card.processors))
    return LAUNCH + total / (card.ghz * 1e9)


# ---- a step ----


def symbols_of(program):
    """Names of functions by how far behind main they lie."""
    table = {}
    for line in answer("nm", program).split("\n"):
        found = re.match(r"([0-9a-f]+) [tTwW] (\w+)$", line)
        if found:
            table.setdefault(int(found.group(1), 16), found.group(2))
    main = next(at for at, name in table.items() if name == "main")
    return {at - main: name for at, name in table.items()}


def launches_of(bench, pack, size, card, int8):
    names = symbols_of(bench)
    way = "halves" if "HMMA" not in card.rate else "int8" if int8 else "tensor"
    said = answer(bench, pack, size, card.capability, card.processors, way)
    launches = [json.loads(line) for line in said.split("\n") if line]
    for launch in launches:
        launch["name"] = names[launch["kernel"]]
    return launches


def family_of(launch):
    return re.sub(r" at \d+x\d+$", "", launch["op"]) or "between operators"


def report(card, size, kernels, launches):
    families = collections.defaultdict(lambda: [0, 0.0, 0.0])
    for launch in launches:
        if launch["name"] not in kernels:
            sys.exit(f"cuda_model.py: no machine code of {launch['name']}")
        family = families[family_of(launch)]
        family[0] += launch["calls"]
        family[1] += launch["calls"] * seconds_of(card, kernels[launch["name"]], launch)
        family[2] += launch["calls"] * launch["macs"]
    whole = [sum(f[i] for f in families.values()) for i in range(3)]
    for name, (calls, seconds, macs) in sorted(families.items(), key=lambda f: -f[1][1]) + [
            ("the step", whole)]:
        print(json.dumps({"stage": "modelled", "card": card.name, "size": size, "name": name,
                          "launches": calls, "ms": round(1e3 * seconds, 3),
                          "tflops": round(2e-12 * macs / seconds, 2)}), flush=True)


def main():
    parse = argparse.ArgumentParser(description="Models a step of the UNet on other cards.")
    parse.add_argument("--tools", default="", help="directory of cuobjdump and nvdisasm")
    parse.add_argument("--int8", action="store_true", help="in integers, on cards that do that")
    parse.add_argument("library", type=pathlib.Path)
    parse.add_argument("bench", type=pathlib.Path)
    parse.add_argument("pack")
    parse.add_argument("size", type=int, nargs="*", default=[512, 1024])
    given = parse.parse_args()
    code = {}
    for card in CARDS:
        if given.int8 and "IMMA" not in card.rate:
            continue
        if card.capability not in code:
            code[card.capability] = machine_code(pathlib.Path(given.tools), given.library,
                                                 card.capability)
        for size in given.size:
            report(card, size, code[card.capability],
                   launches_of(given.bench.resolve(), given.pack, size, card, given.int8))


if __name__ == "__main__":
    main()
