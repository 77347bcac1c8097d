#!/usr/bin/env bash
# tools/demo.sh [IMAGE] -- from a fresh machine to a refined image.
#
# Installs the packages that are missing, builds, makes the demo model and refines a sample
# photograph (or IMAGE) with it.  Everything it makes lies in build/ and demo/.  Needs no network
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

# The published model is not ours to give.  This one has its structure, small and set by hand
# (tools/source/demo_model.c).
if [ ! -s "$pack" ] || [ "$bin/refine-pack" -nt "$pack" ]; then
    step "making the demo model"
    "$bin/refine-pack" synthetic:demo -o "$pack" --tokenizer docs/sample/demo_merges.txt --force
fi

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

# figure NAME FILE: one number of a result
figure() {
    sed -n "s/.*\"$1\": *\([0-9.e+-]*\).*/\1/p" "$2" | head -n 1
}

# mebibytes NAME FILE
mebibytes() {
    awk -v bytes="$(figure "$1" "$2")" 'BEGIN { printf "%.1f MiB", bytes / 1048576 }'
}

# account BUDGET FILE
account() {
    say "in $1: device $(mebibytes device_planned "$2") planned, $(mebibytes device_peak "$2") taken;" \
        "whole process $(mebibytes rss_peak "$2") at its peak;" \
        "$(mebibytes disk_bytes_per_step "$2") read per step"
}

step "done"
say "image:   $refined (the same, to the bit, in both budgets)"
say "plan:    demo/plan.txt"
say "result:  demo/result.json"
account "$small" demo/result.json
account "$large" demo/result-large.json
say ""
say "The demo model was not trained: it returns a soft copy of the photo.  README.md says how to"
say "pack the published refiner and run that instead."
