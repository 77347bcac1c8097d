#!/usr/bin/env bash
# tools/gpu_check.sh -- try this version on the GPU that is here.
#
# tools/gpu_check.sh [OPTION...]          build for this card, then diagnose, then accept
# tools/gpu_check.sh build [OPTION...]    build alone, into a folder and a tar to be carried
# tools/gpu_check.sh diagnose [OPTION...] what the card can do, and where the time of a step goes:
#                                         150 s
# tools/gpu_check.sh accept [OPTION...]   is it right, and does it hold its targets: 300 s
# tools/gpu_check.sh collect DIR          headers and libraries for --with, on a machine that has
#                                         our packages
#
# --built PATH   what `build` makes or the others use, a folder or its tar (build/gpu/built)
# --arch LIST    build for these cards, as in "86;90" (this card's)
# --with DIR     build with the libraries of `collect`
# -o DIR         where results go (build/gpu/diagnose, build/gpu/accept); of both runs, DIR/diagnose
#                and DIR/accept
# --work DIR     where packs of 12 GB are made, and deleted afterwards (build/gpu/work)
# --seconds N    the time for a run; its stages' limits stretch or shrink with it
# --help         this text
#
# Nothing is installed, and no network is needed.  What is missing is left out, and named.  A stage
# that hangs is ended at its limit.  Results are written after each stage: results.md, results.json
# and logs.tar.gz.
#
# Exits with 0 when all is well, 1 when something is wrong, 2 when there is no GPU, 3 when all is
# right but a target was missed.
#
# GPU_CHECK_EMULATED=1 tries the script itself on the emulated card with a tiny model: its report
# says so and holds no speeds.
set -euo pipefail
here=$PWD # what paths in the options are relative to
cd "$(dirname "$0")/.."

emulated=${GPU_CHECK_EMULATED:-}
run='' out='' work=build/gpu/work built=build/gpu/built
objects=build/gpu/objects${emulated:+_emulated}
with='' architectures='' seconds=''
last_verdict=0
# shellcheck source=tools/gpu_check/base.sh
. tools/gpu_check/base.sh
# shellcheck source=tools/gpu_check/card.sh
. tools/gpu_check/card.sh
# shellcheck source=tools/gpu_check/built.sh
. tools/gpu_check/built.sh
# shellcheck source=tools/gpu_check/tests.sh
. tools/gpu_check/tests.sh
# shellcheck source=tools/gpu_check/steps.sh
. tools/gpu_check/steps.sh

# ---- the two runs: the limits of their stages come to 142 and 283 s ----

diagnose() {
    local size pack
    stage roofs 14 roofs
    stage 'pack of 4 MiB chunks' 45 pack_of fp16 &
    stage 'pack of 16 MiB chunks' 45 pack_of chunk16 --chunk "$large_chunk" &
    self_tested
    stage tests 37 tests
    wait
    stage 'kernels on chunks' 24 kernels "${sizes[0]}" 5 4
    for size in "${sizes[@]:0:2}"; do
        for pack in fp16 chunk16; do
            stage "families, $pack at $size" 14 families $pack "$size"
        done
    done
    stage 'the card afterwards' 3 card_state after
    wish 'ncu' 40 captures
    wish 'resident step' 10 step resident fp16 "${sizes[0]}" resident 0
    wish 'streamed step' 10 step ram fp16 "${sizes[0]}" cached 0
    wish 'kernels on chunks, smaller' 20 kernels "${sizes[1]}" 5 4
}

accept() {
    local mib
    stage 'pack of fp16' 60 pack_and_copy fp16 &
    stage 'pack of int8' 90 pack_of int8 --weights int8 &
    self_tested
    stage sanitizer 82 sanitizer &
    small_card || stage "laptop cards' code" 82 laptop_cards &
    wait
    stage kernels 24 kernels "${sizes[0]}" 7
    stage link 18 link
    stage 'f32 step' 14 step_f32 "${sizes[0]}"
    stage 'resident step' 11 resident_against fp16 "${sizes[0]}"
    stage 'streamed step' 11 step ram fp16 "${sizes[0]}" cached 0
    stage 'resident step, smaller' 9 resident_against fp16 "${sizes[1]}"
    stage 'streamed step, smaller' 9 step ram fp16 "${sizes[1]}" cached 0
    for mib in "${budgets[@]}"; do
        stage "budget of $mib MiB" 10 over_context budget fp16 "${sizes[0]}" planned "$mib"
    done
    stage 'low VRAM, low RAM, disk' 24 low
    stage 'int8 step' 10 step ram int8 "${sizes[0]}" cached 0
    stage PyTorch 23 pytorch
    wishes
}

# Most telling first: what there is no time for is left out.
wishes() {
    local link weights
    ! small_card || wish "laptop cards' code" 60 laptop_cards
    wish 'whole picture' 14 step picture fp16 "${sizes[0]}" planned 0
    for link in 6.4 12.8; do
        wish "over $link GB/s" 12 step link fp16 "${sizes[0]}" cached 0 --link=$link
    done
    wish 'int8 resident' 10 resident_against int8 "${sizes[0]}"
    wish 'from disk' 20 step disk fp16 "${sizes[0]}" streamed 0 --cold
    wish tests 45 tests
    for weights in fp16 int8; do
        wish "$weights resident at ${sizes[2]}" 10 resident_against $weights "${sizes[2]}"
        wish "$weights streamed at ${sizes[2]}" 10 step ram $weights "${sizes[2]}" cached 0
    done
    wish 'kernels, smaller' 20 kernels "${sizes[1]}" 7
}

# ---- all of it ----

set_sizes() {
    sizes=(1024 512 768) budgets=(192 256 512 1024) steps=5 large_chunk=16M
    if [ -n "$emulated" ]; then
        model=tiny all_tests=(norm)
    fi
    if [ "$model" = tiny ]; then
        sizes=(64 72 80) budgets=(20 24 40 80) steps=2 large_chunk=256K
    fi
}

# shellcheck disable=SC2317 # the trap calls it
clean_up() {
    [ -z "${clocks:-}" ] || kill -KILL "$clocks" 2>/dev/null || true
    [ -z "${state:-}" ] || end_stages
    drop_packs
}

# perform PLANNED: a run of so many seconds
perform() {
    planned=$1 total=${seconds:-$1}
    out=${out:-build/gpu/$run}
    look_at_card
    make_places
    open_built
    begin_results
    trap clean_up EXIT
    trap 'exit 1' INT TERM
    set_sizes
    describe
    choose_places
    start_clocks
    case $run in
    diagnose) diagnose ;;
    accept) accept ;;
    esac
    finish
}

# Building knows no limit; each run has its own.
everything() {
    local rc=0 one code
    look_at_card
    bash tools/gpu_check.sh build --arch "${architectures:-$arch}" ${with:+--with "$with"} \
        --built "$built"
    for one in diagnose accept; do
        code=0
        bash tools/gpu_check.sh $one --built "$built" --work "$work" ${out:+-o "$out/$one"} \
            ${seconds:+--seconds "$seconds"} || code=$?
        [ $code -eq 0 ] || [ $rc -eq 1 ] || rc=$code
    done
    return $rc
}

# place PATH: as whoever called has it
place() {
    case $1 in
    /*) say "$1" ;;
    *) say "$here/$1" ;;
    esac
}

read_options() {
    while [ $# -gt 0 ]; do
        case $1 in
        -h | --help) help && exit ;;
        esac
        [ $# -ge 2 ] || die "$1 needs a value"
        case $1 in
        -o) out=$(place "$2") ;;
        --with) with=$(place "$2") ;;
        --work) work=$(place "$2") ;;
        --built) built=$(place "$2") ;;
        --arch) architectures=$2 ;;
        --seconds) seconds=$2 ;;
        *) die "unknown argument $1; see tools/gpu_check.sh --help" ;;
        esac
        shift 2
    done
    case ${seconds:-1} in
    0* | *[!0-9]* | ??????*) die "--seconds takes a whole number from 1 to 99999, not $seconds" ;;
    esac
    [ -z "$with" ] || [ -d "$with" ] || die "--with $with: no such folder"
}

build() {
    [ -z "$out" ] || die "build has no results for -o; --built says where it puts what it makes"
    if [ -z "$architectures" ]; then
        look_at_card
        architectures=$arch
    fi
    build_all
}

# The head of this file.
help() { sed -n '2,/^set /s/^# \{0,1\}//p' tools/gpu_check.sh; }

# Read whole before it runs, or changing the file would change a run under way.
main() {
    case ${1:-} in
    collect)
        [ $# -eq 2 ] || die "collect needs a directory"
        collect "$(place "$2")"
        return
        ;;
    build | diagnose | accept) run=$1 && shift ;;
    esac
    read_options "$@"
    case $run in
    build) build ;;
    diagnose) perform 150 ;;
    accept) perform 300 ;;
    *) everything ;;
    esac
}

main "$@"; exit
