# shellcheck shell=bash
# tools/gpu_check/tests.sh -- are the kernels right?  Sourced by tools/gpu_check.sh.

kernel_tests=(linear conv2d norm attention)
all_tests=("${kernel_tests[@]}" picture)

# ---- the self-test ----

self_test() {
    if [ ! -x "$main/tests/self_test" ]; then
        left_out "the self-test of all families (not built)"
        return
    fi
    bench self_test '' "$main/tests/self_test"
    [ "$bench_rc" -ne 0 ] || : >"$state/all_families_right"
}

# Where a family errs the device does not open, but for tests and benches that are told to: the
# others are tried all the same.
self_tested() {
    stage self-test 8 self_test
    [ -e "$state/all_families_right" ] || export REFINE_SELF_TEST=off
}

# ---- tests ----

# run_test NAME WAY: the kernels' code for this card (main), or a newer card's driver's compilation
# of an older card's (75, 80), then in one process, which compiles once
run_test() {
    local name=$1 way=$2 program=$built/$2/tests/test_cuda_$1 log=$log/test_$1_$2 rc=0 counts
    local errors=$state/errors_$1_$2
    local -a environment=(REFINE_BIN="$main/bin" REFINE_ERRORS="$errors")
    if [ ! -x "$program" ]; then
        left_out "test $name, $way (not built)"
        return
    fi
    [ "$way" = main ] ||
        environment+=(PLAIN_RUNNER=in-process CUDA_FORCE_PTX_JIT=1 CUDA_CACHE_DISABLE=1)
    record "{\"stage\":\"test_begun\",\"name\":\"$name\",\"way\":\"$way\"}"
    results_of "$errors" "\"way\":\"$way\","
    results_of "$log" "\"name\":\"$name\",\"way\":\"$way\","
    env "${environment[@]}" "$program" >"$log" 2>&1 || rc=$?
    counts=$(sed -n 's/^\([0-9]*\) tests, \([0-9]*\) failed, \([0-9]*\) skipped$/\1 \2 \3/p' "$log")
    read -r cases bad skipped <<<"${counts:-0 0 0}"
    record "{\"stage\":\"test\",\"name\":\"$name\",\"way\":\"$way\",\"cases\":$cases," \
        "\"failed\":$bad,\"skipped\":$skipped,\"exit\":$rc}"
    say "test $name, $way: $cases cases, $bad failed, $skipped skipped"
    case $rc in
    0) ;;
    77) failed "test $name, $way: every case was skipped; see ${log##*/}" ;;
    *) failed "test $name, $way (exit $rc); see ${log##*/}" ;;
    esac
}

# Side by side: nothing here is timed.
tests() {
    local name
    for name in "${all_tests[@]}"; do
        run_test "$name" main &
    done
    wait
}

# Cards for which nothing else will ever run this code before a user does.
laptop_cards() {
    local name way
    for way in 75 80; do
        if [ "$arch" -le "$way" ]; then
            left_out "the kernels of $way as PTX (this card is none newer)"
            continue
        fi
        for name in "${kernel_tests[@]}"; do
            run_test "$name" "$way" &
        done
    done
    wait
}

# ---- compute-sanitizer ----

# sanitizer_found LOG: how many errors and hazards the tool counted; nothing where it did not come
# so far.  memcheck and racecheck each have a closing line of their own.
sanitizer_found() {
    sed -n 's/^=* *ERROR SUMMARY: \([0-9]*\) error.*/\1/p
        s/^=* *RACECHECK SUMMARY: \([0-9]*\) hazard.*/\1/p' "$1" |
        awk '{ n += $1 } END { if (NR) print n }'
}

# sanitize TOOL PROGRAM LOG: the exit code.  The tool sees one process for sure.
sanitize() {
    PLAIN_RUNNER=in-process compute-sanitizer --tool "$1" --error-exitcode 9 "$2" >"$3" 2>&1
}

# check_with TOOL TEST: nothing may be found
check_with() {
    local log=$log/$1_$2 rc=0 found
    [ -x "$main/tests/test_cuda_$2" ] || return 0
    sanitize "$1" "$main/tests/test_cuda_$2" "$log" || rc=$?
    found=$(sanitizer_found "$log")
    record "{\"stage\":\"sanitizer\",\"tool\":\"$1\",\"test\":\"$2\",\"found\":${found:-null}," \
        "\"exit\":$rc}"
    say "compute-sanitizer $1 of $2: ${found:-no summary, so not known how many} found, exit $rc"
    if [ -z "$found" ]; then
        failed "compute-sanitizer $1 of $2 came to no end (exit $rc); see ${log##*/}"
    elif [ "$found" -gt 0 ] || [ "$rc" -ne 0 ]; then
        failed "compute-sanitizer $1 of $2: $found found, exit $rc; see ${log##*/}"
    fi
}

# find_with TOOL FAULT WORDS: one was planted, and must be found, by the words that the tool has for it
find_with() {
    local log=$log/$1_planted found
    sanitize "$1" "$main/tests/planted_faults" "$log" || true
    found=$(grep -cE "$3" "$log") || true
    record "{\"stage\":\"sanitizer\",\"tool\":\"$1\",\"test\":\"a planted $2\"," \
        "\"found\":${found:-null},\"exit\":0}"
    say "compute-sanitizer $1 of a planted $2: ${found:-0} found"
    if [ "${found:-0}" -eq 0 ]; then
        failed "compute-sanitizer $1 did not find the planted $2: what it passes is not passed"
    fi
}

# Some virtual machines refuse it, and then say so at once.
sanitizer_works() {
    local log=$log/sanitizer_works
    if [ -n "$emulated" ] || ! command -v compute-sanitizer >/dev/null; then
        left_out "compute-sanitizer (not here)"
        return 1
    fi
    sanitize memcheck "$main/tests/planted_faults" "$log" || true
    if grep -qiE 'not supported|internal sanitizer error' "$log"; then
        left_out "compute-sanitizer ($(grep -iEm1 'not supported|internal sanitizer' "$log"))"
        return 1
    fi
}

# As many at once as the card has memory for: each has a context, and the tool's own copy of it.
sanitizer() {
    local tool name at_once=16
    sanitizer_works || return 0
    ! small_card || at_once=2
    find_with memcheck overflow 'Invalid __global__ write' &
    find_with racecheck race 'Race reported between|Potential (RAW|WAR|WAW) hazard' &
    wait
    for tool in racecheck memcheck; do
        for name in "${kernel_tests[@]}"; do
            while [ "$(jobs -rp | wc -l)" -ge "$at_once" ]; do
                wait -n || true
            done
            check_with "$tool" "$name" &
        done
    done
    wait
}
