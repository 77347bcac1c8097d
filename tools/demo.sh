#!/usr/bin/env bash
# tools/demo.sh [IMAGE] -- from a fresh machine to a refined image, and to one from text.
#
# Installs the packages that are missing, builds, makes the demo models, refines a sample
# photograph (or IMAGE), and has a base begin what the refiner finishes.  Everything it makes lies in build/ and demo/.  Needs no network
# once the packages are there.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tools/setup.sh
. tools/setup.sh

image=${1:-docs/sample/coffee.jpg}
small=56M large=256M
build=build/cpu-only # the demo's model is too small for a GPU to be of use
bin=$build/bin
pack=demo/demo.pack
base=demo/base.pack
refined=demo/refined.png
threads=$(nproc)
[ "$threads" -le 4 ] || threads=4

install_packages "${build_packages[@]}"

step "building (log: $build/build.log)"
mkdir -p "$build" demo
if ! { cmake --preset cpu-only &&
    cmake --build "$build" -j "$(nproc)" --target refine-lowmem refine-pack; } \
    >"$build/build.log" 2>&1; then
    tail -n 40 "$build/build.log"
    die "the build failed"
fi

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
refine "$small" "$refined" --plan | tee demo/plan.txt

step "refining $image in $small, then in $large"
refine "$small" "$refined" --json >demo/result.json
refine "$large" demo/refined-large.png --json --quiet >demo/result-large.json
cmp "$refined" demo/refined-large.png || die "the two images differ: that is a bug"

step "base and refiner in one command: an image from text, in $small, then in $large"
# ensemble BUDGET OUTPUT OPTION...
ensemble() {
    "$bin/refine-lowmem" --base "$base" -m "$pack" -o "$2" --device cpu --threads "$threads" \
        -p "clouds" --size 512x512 --steps 20 --seed 1 --vram "$1" "${@:3}"
}
ensemble "$small" demo/clouds.png --json >demo/clouds.json
ensemble "$large" demo/clouds-large.png --json --quiet >demo/clouds-large.json
cmp demo/clouds.png demo/clouds-large.png || die "the two images differ: that is a bug"

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
say "images:  $refined, demo/clouds.png (each the same, to the bit, in both budgets)"
say "plan:    demo/plan.txt"
say "results: demo/result.json, demo/clouds.json"
account "the photo in $small" demo/result.json
account "the photo in $large" demo/result-large.json
account "clouds in $small" demo/clouds.json
say ""
say "The demo models were not trained: the refiner returns a soft copy of the photo, the base makes"
say "clouds of colour.  README.md says how to pack the published models and run those instead."
