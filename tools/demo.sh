#!/usr/bin/env bash
# tools/demo.sh [IMAGE] -- from a fresh machine to a refined picture.
#
# Installs the packages that are missing, builds, makes the demo model and refines a sample
# photograph (or IMAGE) with it.  Everything it makes lies in build/ and demo/.  Needs no network
# once the packages are there.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tools/setup.sh
. tools/setup.sh

image=${1:-docs/sample/coffee.jpg}
vram=${REFINE_DEMO_VRAM:-64M}
bin=build/release/bin
pack=demo/tiny.pack
picture=demo/coffee-refined.png

install_packages "${build_packages[@]}"

step "building"
mkdir -p build/release demo
cmake --preset release >build/release/configure.log 2>&1 || {
    cat build/release/configure.log
    die "configuring failed"
}
cmake --build build/release -j "$(nproc)" --target refine-lowmem refine-pack

# The published model is not ours to give.  This one has its structure at a hundredth of its
# width and weights that were never trained.
if [ ! -s "$pack" ] || [ "$bin/refine-pack" -nt "$pack" ]; then
    step "making the demo model"
    "$bin/refine-pack" synthetic:tiny -o "$pack" --tokenizer docs/sample/demo_merges.txt --force
fi

# refine WORDS...: the command of the demo, with a budget
refine() {
    "$bin/refine-lowmem" -m "$pack" -i "$image" -o "$picture" \
        -p "a detailed photo of a cup of coffee on a wooden table" \
        --device cpu --vram "$vram" --steps 20 --strength 0.3 --seed 1 "$@"
}

step "the plan, before anything is allocated"
refine --plan | tee demo/plan.txt

step "refining $image"
refine --json >demo/result.json

# bytes NAME: one figure of the result
bytes() {
    sed -n "s/.*\"$1\": *\([0-9][0-9]*\).*/\1/p" demo/result.json | head -n 1
}

# mebibytes BYTES
mebibytes() {
    awk -v bytes="$1" 'BEGIN { printf "%.1f MiB", bytes / 1048576 }'
}

step "done"
say "picture:        $picture"
say "plan:           demo/plan.txt"
say "everything:     demo/result.json"
say "device memory:  $(mebibytes "$(bytes device_peak)") at the peak, measured;" \
    "$(mebibytes "$(bytes device_planned)") planned, $vram allowed"
say ""
say "The demo model's weights were never trained, so it changes the picture but does not improve it."
say "README.md says how to pack the published refiner and run that instead."
