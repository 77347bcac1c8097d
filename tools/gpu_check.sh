#!/usr/bin/env bash
# tools/gpu_check.sh [-o DIR] [--with DIR] [--work DIR] [--seconds N] -- try this version on the GPU
#     that is here.
# tools/gpu_check.sh --collect DIR -- copy what --with needs from a machine that has our packages.
#
# One command of at most ten minutes, from a bare checkout, with CUDA 12.4 or later and cmake.
# It installs nothing and needs no network.  What is missing is left out, and named in the report:
#
#   build       for this card alone: the layers whose libraries are here (REFINE_PARTIAL)
#   test        every kernel against the referee, the invariances, whole pictures
#   sanitizer   the same under compute-sanitizer
#   kernel      TFLOP/s on the real shapes, beside cuBLAS
#   link        the engine's copies beside a bare loop of cudaMemcpyAsync
#   step        the full-size model with random weights, fp16 and int8: all resident, streamed from
#               RAM, from disk, at low budgets, and over links of 6.4 and 12.8 GB/s; planned memory
#               beside measured, and whether all budgets give the same latents
#   diffusers   the same step there, in each of its ways to save memory, if it is installed
#
# DIR/results.json and DIR/results.md (build/gpu) hold the results, DIR/log what was printed.  Exits
# with 1 when something failed or a target was missed, with 2 when there is no GPU.
#
# --with DIR     headers and static libraries of zstd, xxhash, jansson, utf8proc, liburing, libpng,
#                libjpeg, libexif and zlib, from --collect (some megabytes): with them a machine
#                that has none of our packages can build the engine
# --work DIR     where packs of 10 GB are made, and deleted afterwards; default: the results' DIR
# --seconds N    what there is time for, half of it for building: 585
#
# GPU_CHECK_EMULATED=1 tries the script itself on the emulated card with a tiny model: its report
# says so and holds no speeds.
set -euo pipefail
cd "$(dirname "$0")/.."

out=build/gpu with='' work='' emulated=${GPU_CHECK_EMULATED:-}
total=585 # seconds for everything
failures=0

say() { printf '%s\n' "$*"; }
die() {
    say "gpu_check: $1" >&2
    exit "${2:-1}"
}
left() { echo $((total - SECONDS)); }
record() { say "$*" >>"$out/lines"; }
left_out() {
    say "left out: $*"
    say "$*" >>"$out/left_out"
}
failed() {
    say "FAILED: $*"
    say "$*" >>"$out/failed"
    failures=$((failures + 1))
}

# limited SECONDS COMMAND...: 124 when it takes longer than that, or than there is.
limited() {
    local seconds=$1
    shift
    [ "$seconds" -le "$(left)" ] || seconds=$(left)
    [ "$seconds" -gt 0 ] || return 124
    timeout -k 5 "$seconds" "$@"
}

# A text as JSON.
quoted() { printf '"%s"' "$(printf '%s' "$1" | tr -d '\000-\037' | sed 's/["\\]/\\&/g')"; }

# free_gib DIR, memory_gib: whole GiB
free_gib() { df -Pk "$1" 2>/dev/null | awk 'NR == 2 { print int($4 / 1048576) }'; }
memory_gib() { awk '/^MemAvailable/ { print int($2 / 1048576) }' /proc/meminfo; }

# ---- --collect ----

collect() {
    local to=$1 triple name path
    triple=$(cc -print-multiarch)
    mkdir -p "$to/include" "$to/lib"
    for name in zstd.h zstd_errors.h xxhash.h xxh3.h jansson.h jansson_config.h utf8proc.h \
        liburing.h liburing png.h pngconf.h pnglibconf.h jpeglib.h jmorecfg.h jerror.h jconfig.h \
        libexif zlib.h zconf.h; do
        for path in /usr/include/$name /usr/include/$triple/$name; do
            [ ! -e "$path" ] || cp -rL "$path" "$to/include/"
        done
    done
    for name in zstd xxhash jansson utf8proc uring png jpeg exif z; do
        path=$(cc -print-file-name=lib$name.a)
        [ -f "$path" ] || die "lib$name.a is not here; tools/setup.sh names the packages"
        cp -L "$path" "$to/lib/"
    done
    du -sh "$to"
}

# ---- what is here ----

look_at_card() {
    PATH=$PATH:/usr/local/cuda/bin:/usr/local/nvidia/bin
    if [ -n "$emulated" ]; then
        card='the emulated card: this machine'"'"'s processor' driver=none memory=0 arch=75
        return
    fi
    local answer
    answer=$(nvidia-smi --query-gpu=name,driver_version,memory.total,compute_cap \
        --format=csv,noheader,nounits 2>/dev/null | head -n 1) || answer=''
    case $answer in
    *,*,*,*) ;;
    *) die "there is no NVIDIA GPU here (nvidia-smi lists none); nothing was checked" 2 ;;
    esac
    IFS=, read -r card driver memory arch <<<"$answer"
    driver=${driver// /} memory=${memory// /} arch=${arch//[ .]/}
    command -v nvcc >/dev/null || die "nvcc is not here; it comes with CUDA 12.4 or later"
}

describe() {
    local cuda=none commit is_emulated=${emulated:+true}
    [ -n "$emulated" ] || cuda=$(nvcc --version | sed -n 's/.*release \([0-9.]*\).*/\1/p')
    commit=$(git describe --always --dirty 2>/dev/null || echo unknown)
    record "{\"stage\":\"machine\",\"emulated\":${is_emulated:-false},\"card\":$(quoted "$card")," \
        "\"driver\":$(quoted "$driver"),\"memory_mib\":$memory,\"cuda\":$(quoted "$cuda")," \
        "\"cores\":$(nproc),\"ram_gib\":$(memory_gib),\"commit\":$(quoted "$commit")," \
        "\"date\":\"$(date -u +%Y-%m-%dT%H:%MZ)\"}"
    say "$card, driver $driver, CUDA $cuda, commit $commit"
}

# ---- build ----

build() {
    local generator='Unix Makefiles' kind=ON
    ! command -v ninja >/dev/null || generator=Ninja
    [ -z "$emulated" ] || kind=EMULATED
    bin=$out/build
    if ! limited 90 cmake -S . -B "$bin" -G "$generator" -DCMAKE_BUILD_TYPE=Release \
        -DREFINE_PARTIAL=ON -DREFINE_GPU_TESTS=ON -DREFINE_CUDA=$kind \
        -DREFINE_CUDA_ARCHITECTURES="$arch" -DREFINE_DEPS="$with" \
        -DREFINE_WITHOUT="${GPU_CHECK_WITHOUT:-}" >"$out/log/configure" 2>&1; then
        tail -n 20 "$out/log/configure"
        die "cannot configure; see $out/log/configure"
    fi
    sed -n 's/^-- left out: //p' "$out/log/configure" >>"$out/left_out"
    sed -n 's/^-- left out:/left out:/p' "$out/log/configure"
    if ! limited $((total / 2)) cmake --build "$bin" --parallel "$(nproc)" >"$out/log/build" 2>&1; then
        grep -E 'error:|FAILED:' "$out/log/build" | head -n 20
        die "cannot build, or not in $((total / 2)) s (--seconds); see $out/log/build"
    fi
    say "built in $SECONDS s"
}

# ---- tests ----

run_test() {
    local program=$1 name=${1##*/test_cuda_} log rc=0 counts
    log=$out/log/test_$name
    REFINE_BIN=$bin/bin limited 240 "$program" >"$log" 2>&1 || rc=$?
    counts=$(sed -n 's/^\([0-9]*\) tests, \([0-9]*\) failed, \([0-9]*\) skipped$/\1 \2 \3/p' "$log")
    read -r cases bad skipped <<<"${counts:-0 0 0}"
    record "{\"stage\":\"test\",\"name\":\"$name\",\"cases\":$cases,\"failed\":$bad," \
        "\"skipped\":$skipped,\"exit\":$rc}"
    say "test $name: $cases cases, $bad failed, $skipped skipped"
    case $rc in
    0) ;;
    77) failed "test $name: every case was skipped; see $log" ;;
    *) failed "test $name (exit $rc); see $log" ;;
    esac
}

tests() {
    local program
    for program in "$bin"/tests/test_cuda_{linear,conv2d,norm,attention,picture}; do
        if [ -x "$program" ]; then
            run_test "$program"
        else
            left_out "${program##*/} (not built)"
        fi
    done
}

# sanitize TOOL TEST
sanitize() {
    local log=$out/log/$1_$2 rc=0 errors
    limited 100 compute-sanitizer --tool "$1" --target-processes all --error-exitcode 9 \
        "$bin/tests/test_cuda_$2" >"$log" 2>&1 || rc=$?
    errors=$(awk '/ERROR SUMMARY: / { n += $4; seen = 1 } END { if (seen) print n }' "$log")
    if [ -z "$errors" ] || { [ "$rc" -eq 124 ] && [ "$errors" -eq 0 ]; }; then
        left_out "compute-sanitizer $1 of $2 (not finished, exit $rc; see $log)"
        return
    fi
    record "{\"stage\":\"sanitizer\",\"tool\":\"$1\",\"test\":\"$2\",\"errors\":$errors,\"exit\":$rc}"
    say "compute-sanitizer $1 of $2: $errors errors"
    [ "$errors" -eq 0 ] || failed "compute-sanitizer $1 of $2: $errors errors; see $log"
}

sanitizer() {
    local name
    if [ -n "$emulated" ] || ! command -v compute-sanitizer >/dev/null; then
        left_out "compute-sanitizer (not here)"
        return
    fi
    for name in linear conv2d norm attention; do
        sanitize memcheck $name &
        sanitizers+=($!)
        sanitize racecheck $name &
        sanitizers+=($!)
    done
    wait "${sanitizers[@]}"
}

# ---- packs ----

# Random weights in a full-size model; a tiny one for the emulation.
make_packs() {
    local weights model=full
    [ -z "$emulated" ] || model=tiny
    for weights in fp16 int8; do
        "$bin/bin/refine-pack" synthetic:$model --codec raw --weights $weights --force --quiet \
            --tokenizer docs/sample/demo_merges.txt -o "$packs/$weights.pack" || return
    done
    [ "$packs" = "$work" ] || cp "$packs"/{fp16,int8}.pack "$work" || return
    sync "$work"/{fp16,int8}.pack
}

# In memory, where there is plenty of it, so that opening a pack takes no time; for reading from
# the disk there is then another copy.
start_packs() {
    if [ ! -x "$bin/bin/refine-pack" ]; then
        left_out "the steps (refine-pack is not built)"
        return 1
    fi
    packs=$work
    if [ -z "$emulated" ]; then
        if [ "$(free_gib "$work")" -lt 12 ]; then
            left_out "the steps ($work has less than 12 GiB free)"
            return 1
        fi
        if [ "$(free_gib /dev/shm || echo 0)" -ge 24 ] && [ "$(memory_gib)" -ge 48 ]; then
            packs=$(mktemp -d /dev/shm/gpu_check.XXXXXX)
        fi
    fi
    make_packs >"$out/log/packs" 2>&1 &
    packing=$!
}

wait_for_packs() {
    local making=$packing
    packing=''
    if wait "$making"; then
        say "packs are there after $SECONDS s"
    else
        failed "making packs; see $out/log/packs"
        return 1
    fi
}

clean_up() {
    [ -z "${packing:-}" ] || kill "$packing" 2>/dev/null || true
    [ -z "${packs:-}" ] || rm -f "$packs"/{fp16,int8}.pack "$work"/{fp16,int8}.pack
    case ${packs:-} in /dev/shm/*) rmdir "$packs" ;; esac
}

# ---- benches ----

# bench LIMIT LOG PREFIX COMMAND...: its lines of JSON are results, PREFIX put in front of each.
bench() {
    local limit=$1 log=$out/log/$2 prefix=$3 rc=0
    shift 3
    limited "$limit" "$@" >"$log" 2>"$log.err" || rc=$?
    grep '^{' "$log" | sed "s|^{|{$prefix|" >>"$out/lines" || true
    case $rc in
    0) return ;;
    124) left_out "${log##*/} (no time left)" ;;
    *) failed "${log##*/}: $(tail -n 1 "$log.err")" ;;
    esac
}

kernels() {
    if [ -n "$emulated" ]; then
        bench 60 kernels_64 '' "$bin/bench/bench_cuda_kernels" 64 1 768
        return
    fi
    bench 80 kernels_1024 '' "$bin/bench/bench_cuda_kernels" 1024
    bench 50 kernels_512 '' "$bin/bench/bench_cuda_kernels" 512
}

# step SET WEIGHTS SIZE MODE VRAM [OPTION...]
step() {
    local set=$1 weights=$2 size=$3 mode=$4 vram=$5 place=$packs ram=$host vae=0
    shift 5
    case $set in
    disk) place=$work ram=512 ;;
    picture) vae=1 ;;
    esac
    say "step: $set $weights $size $mode $vram $*"
    bench 75 "step_${set}_${weights}_${size}_$mode${vram}${*// /}" \
        "\"set\":\"$set\",\"weights\":\"$weights\"," "$bin/bench/bench_step" --cuda --json "$@" \
        "$place/$weights.pack" "$size" auto "$mode" "$steps" "$vram" "$ram" $vae
}

# Most telling first: what there is no time for is left out.
steps_all() {
    local size weights budget link
    for size in "${sizes[@]}"; do
        for weights in fp16 int8; do
            step resident $weights "$size" resident 0
            step ram $weights "$size" cached 0
        done
    done
    for budget in "${budgets[@]}"; do
        step budget fp16 "${sizes[0]}" planned "$budget"
    done
    for link in 6.4 12.8; do
        step link fp16 "${sizes[0]}" cached 0 --link=$link
        step link int8 "${sizes[0]}" cached 0 --link=$link
    done
    step disk fp16 "${sizes[0]}" streamed 0 --cold
    step disk int8 "${sizes[0]}" streamed 0 --cold
    step picture fp16 "${sizes[0]}" planned 0
}

steps_more() {
    local size budget
    for size in "${sizes[@]:1}"; do
        step link fp16 "$size" cached 0 --link=6.4
        step link fp16 "$size" cached 0 --link=12.8
        step disk fp16 "$size" streamed 0 --cold
        step disk int8 "$size" streamed 0 --cold
    done
    for budget in "${budgets[@]}"; do
        step budget int8 "${sizes[0]}" planned "$budget"
    done
}

diffusers() {
    local python=python3
    if [ -n "$emulated" ] || ! $python -c 'import torch, diffusers' 2>/dev/null; then
        left_out "diffusers beside (PyTorch and diffusers are not both here)"
        return
    fi
    bench 110 diffusers '' $python tests/bench/diffusers_step.py 1024
}

# ---- all of it ----

while [ $# -gt 0 ]; do
    case $1 in
    --collect)
        [ $# -eq 2 ] || die "--collect needs a directory"
        collect "$2"
        exit
        ;;
    -o) out=$2 && shift 2 ;;
    --with) with=$(cd "$2" && pwd) && shift 2 ;;
    --work) work=$2 && shift 2 ;;
    --seconds) total=$2 && shift 2 ;;
    *) die "unknown argument $1; the head of tools/gpu_check.sh says what there is" ;;
    esac
done

look_at_card
mkdir -p "$out/log"
out=$(cd "$out" && pwd)
work=${work:-$out}
mkdir -p "$work"
rm -f "$out"/{lines,left_out,failed,results.json,results.md} "$out"/log/*
touch "$out"/{lines,left_out,failed}
trap clean_up EXIT
sanitizers=()
sizes=(1024 512 768) budgets=(512 768 1024 1536 2048 3072 4096 0) steps=6
host=$(($(memory_gib) * 1024 / 2))
[ "$host" -le 16384 ] || host=16384 # MiB; the model's weights and some
if [ -n "$emulated" ]; then
    sizes=(64 72) budgets=(20 70 80 0) steps=2
fi

describe
build
has_packs=''
! start_packs || has_packs=yes
tests
sanitizer
[ -z "$has_packs" ] || wait_for_packs || has_packs=''
kernels
if [ -n "$has_packs" ]; then
    bench 90 link '' "$bin/bench/bench_cuda_link" "$packs/fp16.pack" 1
    steps_all
fi
diffusers
[ -z "$has_packs" ] || steps_more

record "{\"stage\":\"end\",\"seconds\":$SECONDS}"
awk -f tools/gpu_check.awk -v json="$out/results.json" -v table="$out/results.md" \
    "$out/left_out" "$out/failed" "$out/lines" || failures=$((failures + 1))
cat "$out/results.md"
say "results: $out/results.json and $out/results.md"
[ ! -s "$out/failed" ] && [ "$failures" -eq 0 ]
