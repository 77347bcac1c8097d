#!/usr/bin/env bash
# tools/demo.sh [--bin DIR] [-o DIR] [IMAGE] -- from a fresh machine to a refined image, and to one
# from text.
#
# Installs the packages that are missing, builds, makes the demo models, refines a sample
# photograph (or IMAGE), and has a base begin what the refiner finishes.  Everything it makes lies in
# build/ and demo/.  Needs no network once the packages are there.
#
# --bin DIR   the folder of programs that are built already: nothing is installed or built
# -o DIR      where models, images and results go (demo)
set -euo pipefail
here=$PWD # what paths in the arguments are relative to
cd "$(dirname "$0")/.."
# shellcheck source=tools/setup.sh
. tools/setup.sh

# from_here PATH
from_here() {
    case $1 in
    /*) printf '%s' "$1" ;;
    *) printf '%s' "$here/$1" ;;
    esac
}

image=docs/sample/coffee.jpg bin='' out=demo
while [ $# -gt 0 ]; do
    case $1 in
    --bin | -o)
        [ $# -gt 1 ] || die "$1 needs a directory"
        if [ "$1" = -o ]; then out=$(from_here "$2"); else bin=$(from_here "$2"); fi
        shift
        ;;
    -*) die "no option $1; see the head of tools/demo.sh" ;;
    *) image=$(from_here "$1") ;;
    esac
    shift
done
small=56M large=256M
pack=$out/demo.pack
base=$out/base.pack
refined=$out/refined.png
clouds=$out/clouds.png
threads=$(nproc)
[ "$threads" -le 4 ] || threads=4
mkdir -p "$out"

build_programs() {
    local build=build/cpu-only # the demo's model is too small for a GPU to be of use
    bin=$build/bin
    install_packages "${build_packages[@]}"
    step "building (log: $build/build.log)"
    mkdir -p "$build"
    if ! { cmake --preset cpu-only &&
        cmake --build "$build" -j "$(nproc)" --target refine-lowmem refine-pack; } \
        >"$build/build.log" 2>&1; then
        tail -n 40 "$build/build.log"
        die "the build failed"
    fi
}

[ -n "$bin" ] || build_programs
for program in refine-pack refine-lowmem; do
    [ -x "$bin/$program" ] || die "$bin: $program is not there"
done

# The published models are not ours to give.  These have their structure, small and set by hand
# (tools/source/demo_model.c).
# make_pack PACK SOURCE
make_pack() {
    if [ ! -s "$1" ] || [ "$bin/refine-pack" -nt "$1" ]; then
        "$bin/refine-pack" "$2" -o "$1" --force
    fi
}

step "making the demo models"
make_pack "$pack" synthetic:demo
make_pack "$base" synthetic:demo-base

# refine BUDGET OUTPUT OPTION...
refine() {
    "$bin/refine-lowmem" -m "$pack" -i "$image" -o "$2" --device cpu --threads "$threads" \
        -p "a detailed photo of a cup of coffee on a wooden table" \
        --steps 20 --strength 0.3 --seed 1 --vram "$1" "${@:3}"
}

step "the plan for $small, before anything is allocated"
refine "$small" "$refined" --plan | tee "$out/plan.txt"

step "refining $image in $small, then in $large"
refine "$small" "$refined" --json >"$out/result.json"
refine "$large" "$out/refined-large.png" --json --quiet >"$out/result-large.json"
cmp "$refined" "$out/refined-large.png" || die "the two images differ: that is a bug"

step "base and refiner in one command: an image from text, in $small, then in $large"
# ensemble BUDGET OUTPUT OPTION...
ensemble() {
    "$bin/refine-lowmem" --base "$base" -m "$pack" -o "$2" --device cpu --threads "$threads" \
        -p "clouds" --size 384x384 --steps 20 --seed 1 --vram "$1" "${@:3}"
}
ensemble "$small" "$clouds" --json >"$out/clouds.json"
ensemble "$large" "$out/clouds-large.png" --json --quiet >"$out/clouds-large.json"
cmp "$clouds" "$out/clouds-large.png" || die "the two images differ: that is a bug"

# figure NAME FILE: one number of a result
figure() {
    sed -n "s/.*\"$1\": *\([0-9.e+-]*\).*/\1/p" "$2" | head -n 1
}

# mebibytes NAME FILE
mebibytes() {
    awk -v bytes="$(figure "$1" "$2")" 'BEGIN { printf "%.1f MiB", bytes / 1048576 }'
}

# account WHAT FILE
account() {
    say "$1: device $(mebibytes device_planned "$2") planned, $(mebibytes device_peak "$2") taken;" \
        "whole process $(mebibytes rss_peak "$2") at its peak;" \
        "$(mebibytes disk_bytes_per_step "$2") read per step"
}

step "done"
say "images:  $refined, $clouds (each the same, to the bit, in both budgets)"
say "plan:    $out/plan.txt"
say "results: $out/result.json, $out/clouds.json"
account "the photo in $small" "$out/result.json"
account "the photo in $large" "$out/result-large.json"
account "clouds in $small" "$out/clouds.json"
say ""
say "The demo models were not trained: the refiner returns a soft copy of the photo, the base makes"
say "clouds of colour.  README.md says how to pack the published models and run those instead."
