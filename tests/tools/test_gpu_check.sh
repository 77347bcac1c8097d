#!/usr/bin/env bash
# tests/tools/test_gpu_check.sh -- tools/gpu_check.sh with stand-ins for the card, the sanitizer and
# all that was built: a stage that hangs, hazards that racecheck found, a sanitizer that finds
# nothing, a family of kernels that is wrong, lines that are no JSON, a missed target, a script that
# is killed.  Run from the source root.
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
*compute_cap*)
    memory=81559
    [[ $STAND_IN != 'a card without memory' ]] || memory='[N/A]' # the host's
    [[ $STAND_IN == 'no card' ]] || echo "NVIDIA Stand-In, 580.1, $memory, 9.0"
    ;;
*) echo 'all about the card' ;;
esac
END
    program "$place/path/compute-sanitizer" <<'END'
[[ $PLAIN_RUNNER == in-process ]] || exit 1
n=0
if [[ $* == *planted_faults* && $STAND_IN != 'a blind sanitizer' ]]; then
    n=1
    [[ $STAND_IN != *'a sanitizer that finds other things'* ]] || n=0
    case $n$* in
    0*) n=1 && echo '========= Program hit cudaErrorInvalidValue (error 1)' ;;
    *racecheck*) echo '========= Error: Race reported between Write access at race_kernel' ;;
    *) echo '========= Invalid __global__ write of size 4 bytes' ;;
    esac
fi
[[ $STAND_IN != 'a card without memory' ]] || sleep 0.5
[[ $STAND_IN != 'a card without memory' ]] || ! pgrep -f "$PLACE/built/(75|80)/tests" >/dev/null || n=7
[[ $* == *racecheck*test_cuda_conv2d* && $STAND_IN == *hazards* ]] && n=4
case $* in
*racecheck*) echo "========= RACECHECK SUMMARY: $n hazards displayed ($n errors, 0 warnings)" ;;
*) echo "========= ERROR SUMMARY: $n errors" ;;
esac
[ $n -eq 0 ] || exit 9
END
    program "$place/path/python3" <<<'exit 1' # no PyTorch
    program "$place/path/df" <<'END'
left=99999999
[[ $STAND_IN != 'a full disk' ]] || left=2048
printf 'Filesystem 1024-blocks Used Available Capacity Mounted on\n/ 1 1 %s 1%% /\n' $left
END
    # Reports of 9, 8 and 7 MiB that no gzip makes smaller.
    program "$place/path/ncu" <<'END'
while [ "$1" != -o ]; do
    [ $# -gt 0 ] || exit 1
    shift
done
[[ $2 != *linear ]] || head -c 9437184 /dev/urandom >"$2.ncu-rep"
[[ $2 != *conv_normed ]] || head -c 8388608 /dev/urandom >"$2.ncu-rep"
[[ $2 != *attention ]] || head -c 7340032 /dev/urandom >"$2.ncu-rep"
shift 2
"$@"
END
}

stand_in_tests() {
    local name way
    for way in main 75 80; do
        for name in linear conv2d norm attention picture; do
            program "$place/built/$way/tests/test_cuda_$name" <<'END'
echo '{"stage":"error","kernel":"linear","math":"f32","off":0.1,"allowed":1,"peak":10}' >>"$REFINE_ERRORS"
if [[ $STAND_IN == *'tests that hang'* && $0 == */main/*linear ]]; then
    echo '[FAIL] cuda_linear::is_right'
    while :; do sleep 1; done
fi
if [[ $STAND_IN == *'lines that are no JSON'* && $0 == */75/*linear ]]; then
    echo '{"stage":"error","kernel":"linear","math":"f32","off":inf,"allowed":1,"peak":10}' >>"$REFINE_ERRORS"
    printf '{"stage":"error","kernel":"lin' >>"$REFINE_ERRORS"
fi
[[ $STAND_IN != 'a card without memory' ]] || sleep 0.5
echo '3 tests, 0 failed, 0 skipped'
END
        done
    done
    program "$place/built/main/tests/planted_faults" <<<'exit 0'
    program "$place/built/main/tests/self_test" <<'END'
echo '{"stage":"self_test","right":true,"family":"attention","math":"f32"}'
[[ $STAND_IN == *'a wrong family'* ]] || exit 0
echo '{"stage":"self_test","right":false,"family":"layer norms","math":"f32","said":"element 3 is 1, not 2"}'
echo 'self_test: 1 of 2 are wrong' >&2
exit 1
END
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
echo '{"stage":"link","mean_chunk_kib":4000,"bare_gbps":40,"stream_gbps":20,"of_bare":0.5}'
[[ $STAND_IN != 'a link that hangs' ]] || while :; do sleep 1; done
echo '{"stage":"link","mean_chunk_kib":4000,"bare_gbps":50,"stream_gbps":49.5,"of_bare":0.99}'
END
    program "$bench/bench_cuda_families" <<'END'
echo '{"stage":"family","size":'$2',"name":"linear at 32x32","calls":70,"ms":30,"tflops":200}'
echo '{"stage":"family","size":'$2',"name":"the step","calls":70,"ms":60,"tflops":100,"clean_ms":58}'
END
    program "$bench/bench_step" <<'END'
bytes=0 digest=0123456789abcdef
[[ $STAND_IN != *'a wrong family'* || $REFINE_SELF_TEST == off ]] || { echo refused >&2 && exit 1; }
[[ $* == *resident* ]] || bytes=1e9
[[ $STAND_IN != *'other latents at 300 MiB'* || $* != *--cold* ]] || digest=fedcba9876543210
if [[ $STAND_IN == *'a refused budget'* && $* == *planned* ]]; then
    echo '{"stage":"step","size":64,"refused":"it takes more"}'
    exit
fi
while [[ $1 == -* ]]; do # options that take no further word
    [[ $1 == --save || $1 == --against ]] && shift
    shift
done
echo '{"stage":"step","size":'$2',"vae":false,"link_limit":0,"vram_mib":0,"step_s":0.1,"steps":'$5',' \
    '"precision":"'$3'","copy_bytes_per_step":'$bytes',"overhead_mib":500.5,"planned_mib":700,' \
    '"measured_mib":701,"rss_peak_mib":300,"digest":"'$digest'"}'
if [[ $STAND_IN == *'latents that are not finite'* && $* == *'64 auto resident'* ]]; then
    echo '{"stage":"step","size":64,"not_finite":4,"against_db":null,"digest":"1"}'
    exit 1
fi
END
}

stand_ins() {
    stand_in_card
    stand_in_tests
    stand_in_benches
    mkdir -p "$place/built/tree/tools"
    cp -r tools/gpu_check.sh tools/gpu_check "$place/built/tree/tools/"
    echo a-commit >"$place/built/commit"
    seal
}

seal() {
    (cd "$place/built" && find . -type f ! -name sha256 -print0 | xargs -0 sha256sum) >"$place/sha256"
    mv "$place/sha256" "$place/built/"
}

# ---- running it ----

# check WHAT RUN: with so much that is wrong; in place of the shell that calls it
check() {
    in_place "$1" bash "$PWD/tools/gpu_check.sh" "$2" --built built -o out --work work --seconds 100
}

# in_place WHAT COMMAND...: from $place, where nothing else is
in_place() {
    local stand_in=$1
    shift
    cd "$place"
    exec env PATH="$place/path:$PATH" PLACE="$place" STAND_IN="$stand_in" GPU_CHECK_COMMIT="$commit" \
        GPU_CHECK_MODEL=tiny "$@" >"$place/printed" 2>&1
}

# call CODE ARGUMENT...: does it exit with that code?
call() {
    local code=$1 rc=0 script=$PWD/tools/gpu_check.sh
    shift
    (in_place nothing bash "$script" "$@") || rc=$?
    [ $rc -eq "$code" ]
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

prints() { grep -q -- "$1" "$place/printed"; }
one_line() { [ "$(wc -l <"$place/printed")" -eq 1 ]; }
says() { grep -q -- "$1" "$place/out/results.md"; }
lacks() { ! says "$1"; }
nothing_runs() { ! pgrep -f "$place/built" >/dev/null; }
no_pack_is_left() { [ -z "$(find "$place/during" -name '*.pack')" ]; }

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
    for group in "$place/during/state/running"/*; do
        kill -KILL -- "-${group##*/}" 2>/dev/null || true
    done
}

# A killed run's packs, and those of one that lives.
leave_packs() {
    local dead
    sleep 0 & dead=$!
    wait $dead
    mkdir "/dev/shm/gpu_check.$dead.test$$" "/dev/shm/gpu_check.$$.test$$"
}
only_the_dead_ones_went() {
    local there
    there=$(cd /dev/shm && echo gpu_check.*".test$$")
    rm -rf /dev/shm/gpu_check.*".test$$"
    [ "$there" = "gpu_check.$$.test$$" ]
}

logs_are_small() { [ "$(wc -c <"$place/out/logs.tar.gz")" -lt $((16 << 20)) ]; }
json_has() { grep -q -- "$1" "$place/out/results.json"; }

other_scripts() {
    echo '# other' >>"$place/built/tree/tools/gpu_check/card.sh"
    seal
}

# The commit of a tree that lies in another repository: that one's says nothing.
of_an_outer_repository() {
    local outer=$place/outer
    mkdir -p "$outer/tree/tools"
    cp -r tools/gpu_check.sh tools/gpu_check "$outer/tree/tools/"
    git -C "$outer" init -q
    git -C "$outer" -c user.name=x -c user.email=x@x commit -q --allow-empty -m x
    (cd "$outer/tree" && GPU_CHECK_COMMIT='' bash -c '
        . tools/gpu_check/base.sh && . tools/gpu_check/built.sh && [ "$(tree_commit)" = unknown ]')
}

spoil() { echo '# changed' >>"$place/built/main/bench/bench_step"; }

: >"${tap#tap:}"
stand_ins
commit=a-commit
expect all_well_is_0 exits_with 0 'nothing' accept
expect all_that_was_found_is_there readable true
expect the_tests_of_older_cards_are_told_apart says 'linear, PTX of 75 | 3'
expect budgets_are_over_the_measured_context grep -q '"budget".*500.5' "$place/out/results.json"
expect few_steps_are_compared_with_few says '^| beside low | fp16 '
expect what_has_no_other_is_not_compared says 'not compared, for want of another: .*f32'
expect no_pack_remains no_pack_is_left
leave_packs
expect diagnosing_is_0_too exits_with 0 'nothing' diagnose
expect the_families_are_there says 'linear at 32x32 | 70 | 30.00 | 50 %'
expect the_clocks_are_there says '| roofs .*1980'
expect only_packs_of_dead_runs_are_cleared only_the_dead_ones_went
expect logs_can_be_sent logs_are_small
expect what_they_lack_is_named says '^\* log/ncu_linear.ncu-rep (9216 KiB'
expect and_only_that lacks '^\* log/ncu_attention'
expect a_hanging_stage_is_a_fault exits_with 1 'a link that hangs' accept
expect it_is_cut_at_its_limit says '^| link | \([6-9]\|1[0-9]\) | 6 | cut'
expect what_it_said_before_is_kept json_has '"stream_gbps":20'
expect it_is_ended_for_good nothing_runs
expect the_rest_goes_on says '^| int8 step | '
expect hazards_and_other_latents_are_faults exits_with 1 'hazards; other latents at 300 MiB' accept
expect hazards_are_counted says 'racecheck of conv2d: 4 found'
expect latents_of_few_steps_are_compared says 'DIFFERENT: fp16 at 64, 2 steps'
expect finding_nothing_planted_is_a_fault exits_with 1 'a blind sanitizer' accept
all=('a sanitizer that finds other things' 'lines that are no JSON' 'latents that are not finite'
    'a refused budget')
expect each_of_these_is_a_fault exits_with 1 "${all[*]}" accept
expect something_else_is_not_what_was_planted says 'memcheck did not find the planted overflow'
expect what_is_no_JSON_is_named says '^\* a line that is no result: .*inf'
expect what_was_cut_too says '^\* a line that is no result: .*"lin$'
expect the_rest_can_be_read readable true
expect latents_that_are_not_finite_are_counted says '4 latents are not finite'
expect a_refused_budget_says_why says '^\* budget, context and 24 MiB: refused: it takes more'
expect a_wrong_family_is_a_fault exits_with 1 'a wrong family; tests that hang' diagnose
expect it_is_named says '^\* layer norms (f32): element 3 is 1, not 2'
expect a_test_that_hangs_counts_as_not_finished says '^| linear | not finished'
expect what_it_found_before_is_kept says '^\* case cuda_linear::is_right'
expect its_errors_are_kept says '^| linear, f32 | 5 '
expect the_other_stages_go_on json_has '"set":"resident"'
expect nothing_else_fails lacks '^\* step_'
expect a_card_without_memory_is_no_fault exits_with 0 'a card without memory' accept
expect it_says_so says 'unknown MiB'
expect nothing_runs_beside_its_sanitizer says 'linear, PTX of 75 | 3'
expect a_full_disk_is_said exits_with 1 'a full disk' accept
expect that_is_one_line one_line
expect seconds_are_a_number call 1 accept --seconds abc
expect or_it_says_so prints 'seconds takes a whole number'
expect whole_ones call 1 accept --seconds 1.5
expect building_has_no_results call 1 build --arch 90 -o out
expect help_is_help_everywhere call 0 diagnose --help
expect that_is_the_head prints '^tools/gpu_check.sh -- '
expect an_outer_repository_is_not_asked of_an_outer_repository
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
other_scripts
expect other_scripts_are_refused exits_with 1 'nothing' accept
expect they_are_named prints 'other files: tools/gpu_check/card.sh'
spoil
expect what_was_changed_is_refused exits_with 1 'nothing' accept
echo "$((cases - bad)) passed, $bad failed"
[ $bad -eq 0 ]
