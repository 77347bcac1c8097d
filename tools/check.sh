#!/usr/bin/env bash
# tools/check.sh [STEP | all | --minutes N]... -- build the tests and run them.
#
#   quick     the step `release` without the tests labelled slow; this is the default
#   release   optimised build, all tests, the lints of tests/lint
#   debug     address and undefined-behaviour sanitizers, all tests, and those labelled cuda with an
#             emulated card
#   tsan      thread sanitizer, the tests labelled threads
#   clang     every source compiled under clang's warnings
#   fuzz      each fuzz target for FUZZ_SECONDS (2; 6 where CI is set) from its corpus
#   install   install to a temporary prefix; build a C and a C++ program against it
#   property  the properties of tests/property alone, in the release and the debug build, from a fresh
#             seed and for as long as --minutes N says (10)
#
# `all`: release to install, which is what a push runs.  Packages that are missing are installed.  Where CI is set, warnings
# are errors.  Properties draw other cases for each commit; REFINE_SEED says which.  Exits non-zero
# when anything failed.  In the end come the minutes that each step took, the ten slowest tests and,
# in the last line, the count of test cases.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tools/setup.sh
. tools/setup.sh

passed=0 failed=0 skipped=0
test_times='' step_times='' build_seconds=0
fuzz_seconds=${FUZZ_SECONDS:-2}
werror=OFF
if [ -n "${CI:-}" ]; then
    fuzz_seconds=${FUZZ_SECONDS:-6}
    werror=ON
fi
jobs=$(nproc)
# What properties draw: the same for one commit, something else for the next.
commit=$(git rev-parse --short=7 HEAD 2>/dev/null) || commit=1
fresh_seed=${REFINE_SEED:-$(date +%s)}
export REFINE_SEED=${REFINE_SEED:-$((16#$commit))}

pass() { passed=$((passed + 1)); }
fail() {
    failed=$((failed + 1))
    say "FAILED: $*"
}

# configure PRESET
configure() {
    local preset=$1 log=build/$1/configure.log
    step "$preset: build"
    mkdir -p "build/$preset"
    if ! cmake --preset "$preset" -DREFINE_WERROR=$werror >"$log" 2>&1; then
        cat "$log"
        fail "$preset: configuring"
        return 1
    fi
}

# configure_and_build PRESET [CMAKE_BUILD_ARGUMENT...]
configure_and_build() {
    local preset=$1 began=$SECONDS
    shift
    configure "$preset" || return
    if ! cmake --build "build/$preset" -j "$jobs" "$@"; then
        fail "$preset: building"
        return 1
    fi
    build_seconds=$((build_seconds + SECONDS - began))
}

# count_results BUILD_DIR: adds up ctest's verdicts.  A test that left a TAP file counts with its
# cases; one that died without saying which case did counts as one more failure.
count_results() {
    local name status seconds tap p f s
    while read -r name seconds status; do
        test_times+="$seconds ${1#build/} $name"$'\n'
        tap=$1/tap/$name.tap
        p=0 f=0 s=0
        if [ -s "$tap" ]; then
            p=$(grep -E '^ok ' "$tap" | grep -vc '# SKIP' || true)
            s=$(grep -cE '^ok .*# SKIP' "$tap" || true)
            f=$(grep -c '^not ok ' "$tap" || true)
        fi
        case $status in
        run) [ $((p + s)) -gt 0 ] || p=1 ;;
        notrun) [ "$s" -gt 0 ] || s=1 ;;
        *) [ "$f" -gt 0 ] || f=1 ;;
        esac
        passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
        [ "$s" -eq 0 ] || say "skipped: $s of $name"
    done < <(awk -F'"' '
        /<testcase / {
            for (i = 1; i < NF; i += 2) {
                if ($i ~ / name=$/) name = $(i + 1)
                if ($i ~ / time=$/) seconds = $(i + 1)
                if ($i ~ / status=$/) status = $(i + 1)
            }
        }
        /<skipped / && !/SKIP_RETURN_CODE/ { status = "could not be run" }
        /<\/testcase>/ { print name, seconds, status }' "$1/junit.xml")
}

# run_tests PRESET [CTEST_ARGUMENT...]
run_tests() {
    local dir=build/$1
    step "$1: test"
    shift
    rm -rf "$dir/tap" "$dir/junit.xml"
    mkdir -p "$dir/tap"
    # One more than there are processors: some only wait.
    ctest --test-dir "$dir" -j "$((jobs + 1))" --output-on-failure --no-tests=error \
        --output-junit junit.xml "$@" </dev/null || true
    if [ -s "$dir/junit.xml" ]; then
        count_results "$dir"
    else
        fail "$dir: ctest found no tests"
    fi
}

check_quick() {
    configure_and_build release && run_tests release -LE slow
    left_out="the slow tests, sanitizers, clang, fuzzing, installing: tools/check.sh all runs them too"
}

check_release() { configure_and_build release && run_tests release; }
# Properties draw other cases here than in release.
check_debug() { configure_and_build debug && REFINE_SEED=$((REFINE_SEED + 1)) run_tests debug; }
check_tsan() { configure_and_build tsan --target threads_tests && run_tests tsan -L threads; }

# Objects alone: clang links in the other steps.
check_clang() {
    local objects began=$SECONDS
    configure clang || return
    objects=$(ninja -C build/clang -t targets all | sed -n 's/: C_COMPILER__.*//p')
    # The answer is a list of words.
    # shellcheck disable=SC2086
    if [ -n "$objects" ] && ninja -C build/clang -j "$jobs" $objects; then
        pass
    else
        fail "clang: compiling"
    fi
    build_seconds=$((SECONDS - began))
}

# fuzz TARGET: what it says goes to build/fuzz/NAME.log
fuzz() {
    local name work
    name=$(basename "$1")
    work=build/fuzz/corpus/$name
    mkdir -p "$work" "tests/fuzz/corpora/${name#fuzz_}"
    "$1" -max_total_time="$fuzz_seconds" -timeout=20 -rss_limit_mb=2048 \
        -verbosity=0 -artifact_prefix="build/fuzz/$name-" \
        "$work" "tests/fuzz/corpora/${name#fuzz_}" </dev/null >"build/fuzz/$name.log" 2>&1
}

# As many targets at once as there are processors.
check_fuzz() {
    local target name running=()
    if ! clang_can_fuzz; then
        say "skipped: fuzz, clang here has no libFuzzer"
        skipped=$((skipped + 1))
        return
    fi
    configure_and_build fuzz --target fuzzers || return
    step "fuzz: each target for $fuzz_seconds s"
    for target in build/fuzz/fuzz/fuzz_*; do
        [ -x "$target" ] || continue
        while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do
            wait -n || true
        done
        fuzz "$target" &
        running+=($! "$(basename "$target")")
    done
    while [ ${#running[@]} -gt 0 ]; do
        name=${running[1]}
        if wait "${running[0]}"; then
            pass
        else
            tail -n 40 "build/fuzz/$name.log"
            fail "$name: the input is kept in build/fuzz/$name-*"
        fi
        running=("${running[@]:2}")
    done
}

# build_consumer COMPILER PREFIX FLAG...
build_consumer() {
    local compiler=$1 prefix=$2 pc
    shift 2
    pc=$(dirname "$(find "$prefix" -name refine.pc)")
    # pkg-config's answer is a list of words.
    # shellcheck disable=SC2046
    PKG_CONFIG_PATH=$pc "$compiler" "$@" tests/install/consumer.c -o "$prefix/consumer" \
        $(PKG_CONFIG_PATH=$pc pkg-config --cflags --libs refine) &&
        LD_LIBRARY_PATH=$(dirname "$pc") "$prefix/consumer"
}

check_install() {
    local prefix=$PWD/build/prefix
    configure_and_build release || return
    step "install"
    rm -rf "$prefix"
    if ! cmake --install build/release --prefix "$prefix" >build/release/install.log; then
        fail "install"
        return
    fi
    if "$prefix/bin/refine-lowmem" --version && "$prefix/bin/refine-pack" --help >/dev/null &&
        "$prefix/bin/refine-memprof" --help >/dev/null; then
        pass
    else
        fail "the installed tools do not start"
    fi
    if build_consumer cc "$prefix" -std=c11 -Wall -Wextra -pedantic -Werror; then
        pass
    else
        fail "a C program against the installed library"
    fi
    if build_consumer c++ "$prefix" -x c++ -std=c++20 -Wall -pedantic -Werror; then
        pass
    else
        fail "a C++ program against the installed library"
    fi
}

# Both builds have the same properties: half of the time each, and of that each an equal share.
check_property() {
    local preset n
    REFINE_SEED=$fresh_seed
    minutes=${minutes:-10}
    say "properties: seed $REFINE_SEED, $minutes minutes"
    for preset in release debug; do
        configure_and_build "$preset" || return
        # The properties of a file are tried one after the other, files side by side.
        n=$(awk -v jobs="$jobs" '
            /^(Costly)?Property\(/ { n = /^Costly/ ? 3 : 1; all += n; of[FILENAME] += n }
            END {
                share = int((all + jobs - 1) / jobs)
                for (file in of) if (of[file] > share) share = of[file]
                print share
            }' tests/property/test_*.c)
        REFINE_SECONDS=$((10#$minutes * 30 / n)) run_tests "$preset" -L property --timeout 86400
    done
}

minutes='' left_out=''
steps=()
while [ $# -gt 0 ]; do
    case $1 in
    --minutes)
        minutes=${2:-}
        case $minutes in
        '' | *[!0-9]*) die "--minutes needs a number" ;;
        esac
        shift
        ;;
    *) steps+=("$1") ;;
    esac
    shift
done
[ ${#steps[@]} -gt 0 ] || [ -n "$minutes" ] || steps=(quick)
[ "${steps[*]}" != all ] || steps=(release debug tsan clang fuzz install)
case "$minutes ${steps[*]}" in
' '* | *property*) ;;
*) die "--minutes is for the step property" ;;
esac
install_packages "${build_packages[@]}" "${test_packages[@]}"
install_clang_runtime
install_optional
for name in "${steps[@]}"; do
    declare -F "check_$name" >/dev/null || die "no step $name; see the head of tools/check.sh"
    began=$SECONDS build_seconds=0
    "check_$name" || true
    step_times+="$((SECONDS - began)) $build_seconds $name"$'\n'
done

step "minutes, and of them building"
printf %s "$step_times" |
    awk '{ printf "%6.1f %6.1f  %s\n", $1 / 60, $2 / 60, $3; all += $1 }
         END { printf "%6.1f         in all\n", all / 60 }'
[ -z "$test_times" ] || step "seconds of the ten slowest tests"
printf %s "$test_times" | sort -rn |
    awk 'NR <= 10 { printf "%6.1f  %-9s %s\n", $1, $2, $3 }'

echo
[ -z "$left_out" ] || say "not run: $left_out"
say "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
