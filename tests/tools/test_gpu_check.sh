#!/usr/bin/env bash
# tests/tools/test_gpu_check.sh -- tools/gpu_check.sh with stand-ins for the card, the sanitizer and
# all that was built: a stage that hangs, hazards that racecheck found, a sanitizer that finds
# nothing, a missed target, a script that is killed.  Run from the source root.
set -euo pipefail

place=$(mktemp -d)
cases=0 bad=0
tap=${CRITERION_OUTPUTS:-tap:/dev/null}
trap 'rm -rf "$place"' EXIT

# program FILE: its text from stdin
program() {
    mkdir -p "$(dirname "$1")"
    { echo '#!/bin/bash' && cat; } >"$1"
    chmod +x "$1"
}

# ---- stand-ins: what they do wrong is said in STAND_IN ----

stand_in_card() {
    program "$place/path/nvidia-smi" <<'END'
case $* in
*-lms*) for _ in {1..60}; do echo '1980, 2619, 350.5, 50, 99, 5, 16' && sleep 0.5; done ;;
*compute_cap*) [[ $STAND_IN == 'no card' ]] || echo 'NVIDIA Stand-In, 580.1, 81559, 9.0' ;;
*) echo 'all about the card' ;;
esac
END
    program "$place/path/compute-sanitizer" <<'END'
[[ $PLAIN_RUNNER == in-process ]] || exit 1
n=0
[[ $* == *planted_faults* && $STAND_IN != 'a blind sanitizer' ]] && n=1
[[ $* == *racecheck*test_cuda_conv2d* && $STAND_IN == hazards ]] && n=4
case $* in
*racecheck*) echo "========= RACECHECK SUMMARY: $n hazards displayed ($n errors, 0 warnings)" ;;
*) echo "========= ERROR SUMMARY: $n errors" ;;
esac
[ $n -eq 0 ] || exit 9
END
    program "$place/path/python3" <<<'exit 1' # no PyTorch
}

stand_in_tests() {
    local name way
    for way in main 75 80; do
        for name in linear conv2d norm attention picture; do
            program "$place/built/$way/tests/test_cuda_$name" <<'END'
echo '{"stage":"error","kernel":"linear","math":"f32","off":0.1,"allowed":1,"peak":10}' >>"$REFINE_ERRORS"
echo '3 tests, 0 failed, 0 skipped'
END
        done
    done
    program "$place/built/main/tests/planted_faults" <<<'exit 0'
}

stand_in_benches() {
    local bench=$place/built/main/bench
    program "$place/built/main/bin/refine-pack" <<'END'
while [ "$1" != -o ]; do shift; done
echo pack >"$2"
END
    program "$bench/bench_cuda_roofs" <<'END'
sleep 1
echo '{"stage":"roof","name":"mma s8","value":1000,"unit":"TFLOP/s"}'
END
    program "$bench/bench_cuda_kernels" <<'END'
of=0.8
[[ $STAND_IN != 'slow kernels' ]] || of=0.5
echo '{"stage":"kernel","picture":1024,"name":"qkv","weights":"fp16","norm":false,"chunk_mib":'$4',' \
    '"rows":128,"gflop":30,"large":true,"us":10,"tflops":300,"cublas_tflops":400,"of_cublas":'$of'}'
END
    program "$bench/bench_cuda_link" <<'END'
trap '' TERM
[[ $STAND_IN != 'a link that hangs' ]] || while :; do sleep 1; done
echo '{"stage":"link","mean_chunk_kib":4000,"bare_gbps":50,"stream_gbps":49.5,"of_bare":0.99}'
END
    program "$bench/bench_cuda_families" <<'END'
echo '{"stage":"family","size":'$2',"name":"linear at 32x32","calls":70,"ms":30,"tflops":200}'
echo '{"stage":"family","size":'$2',"name":"the step","calls":70,"ms":60,"tflops":100,"clean_ms":58}'
END
    program "$bench/bench_step" <<'END'
bytes=0
[[ $* == *resident* ]] || bytes=1e9
echo '{"stage":"step","size":64,"vae":false,"link_limit":0,"vram_mib":0,"step_s":0.1,"steps":2,' \
    '"precision":"fp16","copy_bytes_per_step":'$bytes',"overhead_mib":500.5,"planned_mib":700,' \
    '"measured_mib":701,"rss_peak_mib":300,"digest":"0123456789abcdef"}'
END
}

stand_ins() {
    stand_in_card
    stand_in_tests
    stand_in_benches
    mkdir -p "$place/built/tree/tools"
    echo a-commit >"$place/built/commit"
    (cd "$place/built" && find . -type f -print0 | xargs -0 sha256sum) >"$place/sha256"
    mv "$place/sha256" "$place/built/"
}

# ---- running it ----

# check WHAT RUN: with so much that is wrong; in place of the shell that calls it
check() {
    exec env PATH="$place/path:$PATH" STAND_IN="$1" GPU_CHECK_COMMIT="$commit" GPU_CHECK_MODEL=tiny \
        bash tools/gpu_check.sh "$2" --built "$place/built" -o "$place/out" --work "$place/work" \
        --seconds 100 >"$place/printed" 2>&1
}

# expect CLAIM COMMAND...
expect() {
    local claim=$1
    shift
    cases=$((cases + 1))
    if "$@"; then
        echo "ok - gpu_check::$claim" | tee -a "${tap#tap:}"
    else
        echo "not ok - gpu_check::$claim" | tee -a "${tap#tap:}"
        tail -n 15 "$place/printed"
        bad=$((bad + 1))
    fi
}

exits_with() {
    local code=$1 rc=0
    shift
    (check "$@") || rc=$?
    [ $rc -eq "$code" ]
}

says() { grep -q -- "$1" "$place/out/results.md"; }
lacks() { ! says "$1"; }
nothing_runs() { ! pgrep -f "$place/built" >/dev/null; }
no_pack_is_left() { [ -z "$(find "$place/work" -name '*.pack')" ]; }

# As a program would read it: by a parser, where there is one.
readable() {
    if /usr/bin/env python3 -c '' 2>/dev/null; then
        python3 -c 'import json, sys; json.load(open(sys.argv[1]))' "$place/out/results.json"
    fi
    grep -q "\"finished\":$1" "$place/out/results.json" &&
        tar -tzf "$place/out/logs.tar.gz" >/dev/null
}

# The run is ended without a chance to do anything, while its link stage hangs.
kill_in_the_middle() {
    local script group
    rm -rf "$place/out"
    check 'a link that hangs' accept &
    script=$!
    for _ in {1..300}; do
        ! grep -qs '^| kernels |' "$place/out/results.md" || break
        sleep 0.2
    done
    kill -KILL $script
    wait $script 2>/dev/null || true
    for group in "$place/work/state/running"/*; do
        kill -KILL -- "-${group##*/}" 2>/dev/null || true
    done
}

spoil() { echo '# changed' >>"$place/built/main/bench/bench_step"; }

: >"${tap#tap:}"
stand_ins
commit=a-commit
expect all_well_is_0 exits_with 0 'nothing' accept
expect all_that_was_found_is_there readable true
expect the_tests_of_older_cards_are_told_apart says 'linear, PTX of 75 | 3'
expect budgets_are_over_the_measured_context grep -q '"budget".*500.5' "$place/out/results.json"
expect no_pack_remains no_pack_is_left
expect diagnosing_is_0_too exits_with 0 'nothing' diagnose
expect the_families_are_there says 'linear at 32x32 | 70 | 30.00 | 50 %'
expect the_clocks_are_there says '| roofs .*1980'
expect a_hanging_stage_is_a_fault exits_with 1 'a link that hangs' accept
expect it_is_cut_at_its_limit says '^| link | [67] | 6 | cut'
expect it_is_ended_for_good nothing_runs
expect the_rest_goes_on says '^| int8 step | '
expect a_hazard_is_a_fault exits_with 1 hazards accept
expect hazards_are_counted says 'racecheck of conv2d: 4 found'
expect finding_nothing_planted_is_a_fault exits_with 1 'a blind sanitizer' accept
expect a_missed_target_is_3 exits_with 3 'slow kernels' accept
expect it_names_what_missed says 'large kernels / cuBLAS fp16 .*missed'
expect being_killed_leaves_results kill_in_the_middle
expect they_can_be_read readable false
expect they_hold_what_came_before says '| kernels |'
expect and_nothing_that_came_after lacks '| int8 step |'
expect without_a_card_it_is_2 exits_with 2 'no card' accept
commit=another
expect what_is_of_another_commit_is_refused exits_with 1 'nothing' accept
commit=a-commit
spoil
expect what_was_changed_is_refused exits_with 1 'nothing' accept
echo "$((cases - bad)) passed, $bad failed"
[ $bad -eq 0 ]
