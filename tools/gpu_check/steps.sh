# shellcheck shell=bash
# tools/gpu_check/steps.sh -- how fast is it?  Packs, kernels, the link, steps, and PyTorch beside.
# Sourced by tools/gpu_check.sh.

# ---- packs ----

# Random weights in a full-size model; a tiny one for the emulation.
model=${GPU_CHECK_MODEL:-full}

# make_pack FILE OPTION...
make_pack() {
    local file=$1
    shift
    "$main/bin/refine-pack" synthetic:"$model" --codec raw --force --quiet \
        --tokenizer docs/sample/demo_merges.txt "$@" -o "$file"
}

# Of runs that were killed: a name has its owner's number.
clear_leftovers() {
    local place owner
    for place in /dev/shm/gpu_check.*; do
        owner=${place#*/gpu_check.} owner=${owner%%.*}
        case $owner in
        '' | *[!0-9]*) ;;
        *) [ -d "/proc/$owner" ] || rm -rf "$place" 2>/dev/null || true ;;
        esac
    done
}

# In memory, where there is plenty of it, so that opening a pack takes no time; otherwise on the
# disk, which must have room for two.
choose_places() {
    packs=$work/packs disk=$work/packs
    clear_leftovers
    if [ "$model" = full ]; then
        if [ "$(free_gib /dev/shm || echo 0)" -ge 24 ] && [ "$(memory_gib)" -ge 48 ]; then
            packs=$(mktemp -d "/dev/shm/gpu_check.$$.XXXXXX")
        fi
        [ "$(free_gib "$work")" -ge 13 ] || left_out "room for packs ($work has less than 13 GiB)"
    fi
    mkdir -p "$packs" "$disk"
}

# pack_of NAME OPTION...: for a stage; complete, or not there
pack_of() {
    local name=$1
    shift
    if make_pack "$packs/$name.new" "$@" >"$log/pack_$name" 2>&1; then
        mv "$packs/$name.new" "$packs/$name.pack"
    else
        rm -f "$packs/$name.new"
        failed "making $name.pack: $(tail -n 1 "$log/pack_$name")"
    fi
}

# The same, and for reading from the disk a copy there, written out.
pack_and_copy() {
    pack_of "$@"
    [ -e "$packs/$1.pack" ] || return 0
    if [ "$packs" != "$disk" ] && ! cp "$packs/$1.pack" "$disk/$1.new" 2>/dev/null; then
        rm -f "$disk/$1.new"
        failed "a copy of $1.pack in $disk ($(free_mib "$disk") MiB are left there)"
        return
    fi
    [ "$packs" = "$disk" ] || mv "$disk/$1.new" "$disk/$1.pack"
    sync "$disk/$1.pack"
}

drop_packs() {
    case ${packs:-} in
    /dev/shm/gpu_check.*) rm -rf "$packs" ;;
    esac
    [ -z "${disk:-}" ] || rm -rf "$disk"
}

# ---- benches ----

# bench LOG PREFIX COMMAND...: its lines of JSON are results, PREFIX put in front of each.  Sets
# bench_log, a file of its own, and bench_rc.
bench() {
    local name=$1 prefix=$2 n=1
    shift 2
    bench_log=$log/$name bench_rc=0
    while [ -e "$bench_log" ]; do
        bench_log=$log/$name-$((n += 1))
    done
    : >"$bench_log"
    results_of "$bench_log" "$prefix"
    "$@" >"$bench_log" 2>"$bench_log.err" || bench_rc=$?
    [ "$bench_rc" -eq 0 ] ||
        failed "${bench_log##*/} (exit $bench_rc): $(tail -n 1 "$bench_log.err")"
}

# The toolkit's, or the one that PyTorch brings.
find_cublas() {
    local site path
    site=$(python3 -c 'import sysconfig as s; print(s.get_paths()["purelib"])' 2>/dev/null) || site=''
    for path in /usr/local/cuda*/{lib64,targets/*/lib} /usr/lib/*-linux-gnu "$site"/nvidia/*/lib; do
        find -L "$path" -maxdepth 1 -name 'libcublas.so.1[23]' 2>/dev/null || true
    done | head -n 1
}

# kernels PICTURE RUNS [CHUNK_MIB [PART_OF_A_NAME]]
kernels() {
    [ -z "$emulated" ] || set -- "$1" 1 "${3:-0}" 'out 768'
    REFINE_CUBLAS=$(find_cublas)
    export REFINE_CUBLAS
    bench "kernels_$1_${3:-0}" '' "$main/bench/bench_cuda_kernels" "$1" "$2" "${4:-}" "${3:-0}"
}

link() {
    bench link '' "$main/bench/bench_cuda_link" "$packs/fp16.pack" 0.5 "$(in_time 12)"
}

# families PACK SIZE
families() {
    bench "families_$1_$2" "\"pack\":\"$1\"," "$main/bench/bench_cuda_families" \
        "$packs/$1.pack" "$2" "$steps"
}

# MiB of host memory: the model's weights and some, or half of what there is.
host_mib() {
    local mib=$(($(memory_gib) * 1024 / 2))
    [ "$mib" -le 16384 ] || mib=16384
    say "$mib"
}

# step SET WEIGHTS SIZE MODE VRAM [OPTION...]: fp16 or, with the set "f32", f32
step() {
    local set=$1 weights=$2 size=$3 mode=$4 vram=$5 place=$packs vae=0 precision=auto n=$steps ram
    shift 5
    ram=$(host_mib)
    case $set in
    disk) place=$disk ;;
    low) place=$disk ram=${low_ram:-300} n=2 ;;
    'beside low') n=2 ;;
    picture) vae=1 n=2 ;;
    f32) precision=f32 ;;
    esac
    bench_log=/dev/null
    if [ ! -e "$place/$weights.pack" ]; then
        failed "$set, $weights at $size: there is no $weights.pack"
        return
    fi
    bench "step_${set// /_}_${weights}_${size}_$mode$vram" "\"set\":\"$set\",\"weights\":\"$weights\"," \
        "$main/bench/bench_step" --cuda --json "$@" "$place/$weights.pack" "$size" "$precision" \
        "$mode" "$n" "$vram" "$ram" "$vae"
}

# Of the context, in whole MiB, as the first step told.
overhead_mib() {
    gather | sed -n 's/.*"overhead_mib":\([0-9]*\).*/\1/p' | awk '
        $1 + 1 > most { most = $1 + 1 }
        END { print most + 0 }'
}

# over_context SET WEIGHTS SIZE MODE MIB [OPTION...]: a budget of the context and so much more, which
# must be enough
over_context() {
    local set=$1 weights=$2 size=$3 mode=$4 mib=$5 context refused
    shift 5
    context=$(overhead_mib)
    if [ "$context" -eq 0 ]; then
        failed "$set, context and $mib MiB: no step has told what the context takes"
        return
    fi
    step "$set" "$weights" "$size" "$mode" $((context + mib)) "$@"
    refused=$(sed -n 's/.*"refused":"\([^"]*\)".*/\1/p' "$bench_log")
    [ -z "$refused" ] || failed "$set, context and $mib MiB: refused: $refused"
}

# With few steps, for time's sake: beside as many from the card's memory, whose latents they must have.
low() {
    step 'beside low' fp16 "${sizes[0]}" resident 0
    over_context low fp16 "${sizes[0]}" planned "${budgets[1]}" --cold
}

# Both halves of the accuracy of fp16: what f32 gives, and how far fp16 is from it.
step_f32() { step f32 fp16 "$1" resident 0 --save "$work/f32_$1"; }

resident_against() {
    if [ -s "$work/f32_$2" ]; then
        step resident "$1" "$2" resident 0 --against "$work/f32_$2"
    else
        step resident "$1" "$2" resident 0
    fi
}

# ---- PyTorch ----

# has_module NAME: looked for, not loaded, which would take seconds
has_module() {
    python3 -c 'import importlib.util as u, sys; sys.exit(not u.find_spec(sys.argv[1]))' "$1" 2>/dev/null
}

pytorch() {
    if [ -n "$emulated" ] || ! has_module torch; then
        left_out "PyTorch beside (not here)"
        return
    fi
    bench torch '' python3 tests/bench/torch_step.py "${sizes[@]:0:2}"
    if has_module diffusers && has_module accelerate; then
        bench diffusers '' python3 tests/bench/diffusers_step.py "${sizes[0]}"
    else
        left_out "diffusers beside (not here)"
    fi
}

# ---- Nsight Compute ----

# capture NAME KERNEL WAY PICTURE PART_OF_A_NAME CHUNK_MIB: the first launch that the bench times
capture() {
    ncu --set full --clock-control none --profile-from-start off --kernel-name "regex:$2" \
        --launch-count 1 -f -o "$log/ncu_$1" \
        "$main/bench/bench_cuda_kernels" "$4" 2 "$5" "$6" "$3" \
        >"$log/ncu_$1.out" 2>&1 || true
    if [ -s "$log/ncu_$1.ncu-rep" ]; then
        ncu -i "$log/ncu_$1.ncu-rep" --page details >"$log/ncu_$1.txt" 2>&1 || true
        say "captured $1"
    else
        left_out "ncu of $1 ($(grep -m1 ERROR "$log/ncu_$1.out" || echo 'no such launch'))"
    fi
}

captures() {
    if [ -n "$emulated" ] || ! command -v ncu >/dev/null; then
        left_out "ncu (not here)"
        return
    fi
    capture linear product_tensor plain 1024 'qkv 1536' 0
    capture conv_normed product_tensor norm 1024 'conv 768 -> 384' 0
    capture attention flash_kernel plain 1024 'self 1536' 0
    capture conv_low product_tensor norm 512 'conv 1536 (8x8)' 4
    capture linear_int8 product_tensor int8 1024 'out 1536' 0
    capture attention_vae flash_wide plain 1024 'one head' 0
}
