# shellcheck shell=bash
# tools/gpu_check/card.sh -- which card is here, how it is clocked, and what it can do at most.
# Sourced by tools/gpu_check.sh.

look_at_card() {
    local dir
    for dir in /usr/local/cuda/bin /usr/local/nvidia/bin /opt/nvidia/nsight-compute/*; do
        [ ! -d "$dir" ] || PATH=$PATH:$dir
    done
    export CUDA_DEVICE_ORDER=PCI_BUS_ID # nvidia-smi's order, or its first card is not CUDA's
    if [ -n "$emulated" ]; then
        card='the emulated card: this machine'"'"'s processor' driver=none memory=0 arch=75
        return
    fi
    local answer
    answer=$(timeout -k 2 20 nvidia-smi --query-gpu=name,driver_version,memory.total,compute_cap \
        --format=csv,noheader,nounits 2>/dev/null | head -n 1) || answer=''
    case $answer in
    *,*,*,*) ;;
    *) no_card "there is no NVIDIA GPU here (nvidia-smi lists none)" ;;
    esac
    IFS=, read -r card driver memory arch <<<"$answer"
    driver=${driver// /} memory=${memory// /} arch=${arch//[ .]/}
    case $memory in
    '' | *[!0-9]*) memory= ;; # "[N/A]", where the card has the host's
    esac
    case $arch in
    '' | *[!0-9]*) no_card "nvidia-smi does not tell this card's compute capability, but $arch" ;;
    esac
}

describe() {
    local cuda=none is_emulated=${emulated:+true}
    cuda=$(nvcc --version 2>/dev/null | sed -n 's/.*release \([0-9.]*\).*/\1/p') || true
    record "{\"stage\":\"machine\",\"run\":\"$run\",\"emulated\":${is_emulated:-false}," \
        "\"card\":$(quoted "$card"),\"capability\":$arch,\"driver\":$(quoted "$driver")," \
        "\"memory_mib\":${memory:-null},\"cuda\":$(quoted "${cuda:-none}"),\"cores\":$(nproc)," \
        "\"ram_gib\":$(memory_gib),\"commit\":$(quoted "$(cat "$built/commit")")," \
        "\"date\":\"$(date -u +%Y-%m-%dT%H:%MZ)\"}"
    say "$card, driver $driver, commit $(cat "$built/commit")"
    case $(cat "$built/commit") in
    *-dirty | unknown) left_out "a commit (built from a tree with changes, or without git)" ;;
    esac
}

# Has it too little memory for all that could run side by side?  What is not known is little.
small_card() { [ "${memory:-0}" -lt 12000 ]; }

# ---- clocks ----

CLOCKS=clocks.sm,clocks.mem,power.draw,temperature.gpu,utilization.gpu
CLOCKS=$CLOCKS,pcie.link.gen.current,pcie.link.width.current

# Twice a second, for as long as the script runs.
start_clocks() {
    touch "$log/clocks"
    [ -z "$emulated" ] || return 0
    nvidia-smi -i 0 --query-gpu=$CLOCKS --format=csv,noheader,nounits -lms 500 \
        >"$log/clocks" 2>"$log/clocks.err" </dev/null &
    clocks=$!
    disown "$clocks" # or `wait` would
}

clocks_mark() { wc -l <"$log/clocks"; }

# clocks_since MARK NAME: how the card was during a stage
clocks_since() {
    tail -n +$(($1 + 1)) "$log/clocks" | awk -F', *' -v name="$2" '
        function up(i) { if (!(i in most) || $i + 0 > most[i]) most[i] = $i + 0 }
        NF == 7 && $1 ~ /^[0-9]/ {
            if (!n++ || $1 + 0 < least)
                least = $1 + 0
            for (i = 1; i <= 7; i++)
                up(i)
        }
        END {
            if (n)
                printf("{\"stage\":\"clocks\",\"during\":\"%s\",\"samples\":%d,\"sm_least_mhz\":%d," \
                    "\"sm_most_mhz\":%d,\"memory_mhz\":%d,\"power_w\":%.1f,\"celsius\":%d," \
                    "\"busy\":%d,\"pcie_gen\":%d,\"pcie_width\":%d}\n",
                    name, n, least, most[1], most[2], most[3], most[4], most[5], most[6], most[7])
        }' >>"$state/lines"
}

# card_state WHEN: all that nvidia-smi says, throttling and the link's state among it, but not which
# card of its kind this is
card_state() {
    [ -z "$emulated" ] || return 0
    nvidia-smi -i 0 -q 2>&1 | grep -viE 'serial|uuid|board id|part number' >"$log/nvidia-smi.$1" ||
        left_out "nvidia-smi -q ($1)"
}

roofs() {
    card_state before
    if [ -x "$main/bench/bench_cuda_roofs" ]; then
        bench roofs '' "$main/bench/bench_cuda_roofs"
    else
        left_out "the card's roofs (not built)"
    fi
}
