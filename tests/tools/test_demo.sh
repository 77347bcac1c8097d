#!/usr/bin/env bash
# tests/tools/test_demo.sh -- tools/demo.sh with the programs of this build, into a folder of its own:
# it ends well, and the images that it names are whole and of their sizes.  Run from the source root.
set -euo pipefail

place=$(mktemp -d)
bin=${REFINE_BIN:-build/release/bin}
tap=${CRITERION_OUTPUTS:-tap:/dev/null}
bad=0
trap 'rm -rf "$place"' EXIT

# expect CLAIM COMMAND...: it succeeds
expect() {
    local claim=$1 said=ok
    shift
    "$@" || said='not ok' bad=1
    echo "$said - demo::$claim" | tee -a "${tap#tap:}"
}

# IEND and its checksum.
ends_whole() { [ "$(tail -c 8 "$1" | od -An -tx1)" = ' 49 45 4e 44 ae 42 60 82' ]; }

# is_image FILE WIDTH HEIGHT: a plan reads its input whole, and says what it would have to change.
is_image() {
    local plan
    plan=$("$bin/refine-lowmem" -m "$place/demo.pack" -i "$1" --device cpu --plan --json) &&
        [[ $plan == *"\"width\": $2,"*"\"height\": $3,"*'"notes": []'* ]] &&
        ends_whole "$1"
}

: >"${tap#tap:}"
expect ends_well tools/demo.sh --bin "$bin" -o "$place" </dev/null >"$place/said"
cat "$place/said"
# shellcheck disable=SC2046 # a list of names without spaces
set -- $(sed -n 's/^images: *\(.*\) (.*/\1/p' "$place/said" | tr ',' ' ')
expect names_two_images [ $# -eq 2 ]
expect refines_the_photo is_image "${1:-}" 384 384
expect makes_an_image_from_text is_image "${2:-}" 384 384
[ $bad -eq 0 ]
