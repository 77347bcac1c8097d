#!/usr/bin/env bash
# tests/mutants/mutants.sh [--build DIR] [--named] [NAME...] -- break the code in small ways and see
# that a test finds each.
#
# Mutants are in tests/mutants/list; NAME takes those whose names begin so.  Each is put into a copy
# of the tree in DIR (build/mutants), built, given to the tests it names, taken back.  What those let
# live meets all other quick tests that the list names, unless --named is given.  First all these
# tests are tried as the tree is: what fails then is left out.  One line a mutant:
#
#     killed by TEST (SECONDS)    SURVIVED    STALE: its text is not in its file, or not once
#     BROKEN: it does not compile    lives: no test can find it, as the list says why
#
# and at the end a line that counts.  Exits non-zero where one survived, is stale or broken, or
# a test could not be used.  REFINE_SECONDS (5) is how long each property is tried.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=tools/setup.sh
. tools/setup.sh

root=$PWD
dir=$root/build/mutants
others=yes
wanted=()
while [ $# -gt 0 ]; do
    case $1 in
    --build)
        [ $# -gt 1 ] || die "--build needs a directory"
        mkdir -p "$2"
        dir=$(cd "$2" && pwd)
        shift
        ;;
    --named) others= ;;
    -*) die "no option $1; see the head of tests/mutants/mutants.sh" ;;
    *) wanted+=("$1") ;;
    esac
    shift
done
tree=$dir/tree
export REFINE_SECONDS=${REFINE_SECONDS:-5}

# ---- the list ----

names=() files=() olds=() news=() presets=() tests=() reasons=()

# Appends $2 to element `last` of the array named $1, on a line of its own.
add_line() {
    local -n array=$1
    array[last]+=${array[last]:+$'\n'}$2
}

read_list() {
    local line last=-1
    while IFS= read -r line; do
        case $line in
        '' | '#'*) ;;
        '= '*)
            last=$((last + 1))
            line=${line#= }
            names[last]=${line%% *} files[last]=${line##* }
            olds[last]='' news[last]='' presets[last]=cpu-only tests[last]='' reasons[last]=''
            ;;
        '- '*) add_line olds "${line#- }" ;;
        '+ '*) add_line news "${line#+ }" ;;
        '> debug '*) presets[last]=debug tests[last]=${line#> debug } ;;
        '> '*) tests[last]=${line#> } ;;
        '~ '*) add_line reasons "${line#\~ }" ;;
        *) die "tests/mutants/list: what is this: $line" ;;
        esac
    done <tests/mutants/list
}

is_wanted() {
    local name
    [ ${#wanted[@]} -gt 0 ] || return 0
    for name in "${wanted[@]}"; do
        case $1 in "$name"*) return 0 ;; esac
    done
    return 1
}

# ---- the copy ----

# Brings the copy to what the tree is, mutants of an interrupted run included.  What is equal keeps
# its time, so that nothing is built again for it.
copy_tree() {
    local file
    mkdir -p "$tree"
    while IFS= read -r -d '' file; do
        if [ ! -e "$file" ]; then
            rm -f "$tree/$file"
        elif ! cmp -s "$file" "$tree/$file"; then
            mkdir -p "$tree/$(dirname "$file")"
            rm -f "$tree/$file"
            cp -P --preserve=mode "$file" "$tree/$file"
        fi
    done < <(git ls-files -co --exclude-standard -z)
    # What is in no tree any more would still be found and built.
    comm -z -13 <(git ls-files -co --exclude-standard -z | sort -zu) \
        <(cd "$tree" && find . -type f -printf '%P\0' | sort -zu) | (cd "$tree" && xargs -0r rm -f)
}

# occurrences TEXT PART
occurrences() {
    local rest=$1 n=0
    while [ "${rest#*"$2"}" != "$rest" ]; do
        rest=${rest#*"$2"} n=$((n + 1))
    done
    echo $n
}

# apply MUTANT: false where its text is not there, or not once.
apply() {
    local file=${files[$1]} text
    [ -f "$file" ] || return 1
    text=$(cat "$file")
    [ "$(occurrences "$text" "${olds[$1]}")" = 1 ] || return 1
    printf '%s\n' "${text%%"${olds[$1]}"*}${news[$1]}${text#*"${olds[$1]}"}" >"$tree/$file"
}

take_back() {
    cp "${files[$1]}" "$tree/${files[$1]}"
}

# ---- building and testing ----

# run_quietly SECONDS COMMAND...: in the background, so that an interrupt ends it at once.
job=
run_quietly() {
    local result=0
    timeout -k 5 "$@" </dev/null >"$dir/log" 2>&1 &
    job=$!
    wait "$job" || result=$?
    job=
    return $result
}
trap '[ -z "$job" ] || kill "$job"; exit 130' INT TERM

# build PRESET TEST...: the tests, and the programs that tests of their kind run.
build() {
    local preset=$1 test targets=()
    shift
    for test in "$@"; do
        targets+=("test_${test/./_}")
        case $test in
        kernels.* | quant.* | base.*) ;;
        tools.*) targets+=(refine-pack refine-lowmem refine-memprof) ;;
        property.*) targets+=(refine-pack refine-lowmem) ;;
        *) targets+=(refine-pack) ;;
        esac
    done
    run_quietly 3600 cmake --build "$dir/$preset" -j "$(nproc)" --target "${targets[@]}"
}

# passes PRESET TEST SECONDS
passes() {
    run_quietly "$3" ctest --test-dir "$dir/$1" -R "^${2/./\\.}\$" --no-tests=error
}

# What each test took when nothing was broken, by preset/name.
declare -A took=()

# try_as_it_is PRESET: all that the wanted mutants name.
try_as_it_is() {
    local preset=$1 test began i all=()
    for i in "${!names[@]}"; do
        if [ "${presets[i]}" = "$preset" ] && is_wanted "${names[i]}"; then
            read -ra list <<<"${tests[i]}"
            all+=("${list[@]}")
        fi
    done
    [ ${#all[@]} -gt 0 ] || return 0
    readarray -t all < <(printf '%s\n' "${all[@]}" | sort -u)
    say "$preset: building, and ${#all[@]} tests as the tree is"
    (cd "$tree" && cmake --preset "$preset" -B "$dir/$preset" >"$dir/log" 2>&1) ||
        die "$preset: cannot be configured; see $dir/log"
    build "$preset" "${all[@]}" || die "$preset: does not build; see $dir/log"
    for test in "${all[@]}"; do
        began=$SECONDS
        if passes "$preset" "$test" 600; then
            took[$preset/$test]=$((SECONDS - began))
        else
            say "$test fails as the tree is: left out"
            bad+=("$test")
        fi
    done
}

# Names on standard output the first test of the list that fails.
first_to_fail() {
    local preset=$1 test
    shift
    for test in "$@"; do
        [ -n "${took[$preset/$test]:-}" ] || continue
        passes "$preset" "$test" $((30 + 4 * took[$preset/$test])) || {
            verdict="killed by $test"
            return
        }
    done
    return 1
}

# Sets `verdict`.
judge() {
    local i=$1 preset=${presets[$1]} list rest=() key
    read -ra list <<<"${tests[i]}"
    if ! apply "$i"; then
        verdict=STALE
        return
    fi
    verdict=SURVIVED
    if ! build "$preset" "${list[@]}"; then
        verdict=BROKEN
    elif ! first_to_fail "$preset" "${list[@]}" && [ -n "$others" ]; then
        # The quickest first; what takes more than 20 s is for those who name it.
        while read -r _ key; do
            case " ${list[*]} " in *" $key "*) ;; *) rest+=("$key") ;; esac
        done < <(for key in "${!took[@]}"; do
            [ "${key%%/*}" != "$preset" ] || [ "${took[$key]}" -gt 20 ] ||
                echo "${took[$key]} ${key#*/}"
        done | sort -n)
        if [ ${#rest[@]} -gt 0 ]; then
            build "$preset" "${rest[@]}" && { first_to_fail "$preset" "${rest[@]}" || true; }
        fi
    fi
    take_back "$i"
    [ "$verdict" != SURVIVED ] || [ -z "${reasons[i]}" ] || verdict="lives"
}

# ---- the whole ----

read_list
todo=()
for i in "${!names[@]}"; do
    ! is_wanted "${names[i]}" || todo+=("$i")
done
[ ${#todo[@]} -gt 0 ] || die "no such mutant"
copy_tree
bad=()
try_as_it_is cpu-only
try_as_it_is debug

killed=0 lives=0 n=0
began=$SECONDS
for i in "${todo[@]}"; do
    this=$SECONDS
    judge "$i"
    n=$((n + 1))
    case $verdict in
    killed*) killed=$((killed + 1)) ;;
    lives) lives=$((lives + 1)) ;;
    *) bad+=("${names[i]}") ;;
    esac
    left=$(((SECONDS - began) * (${#todo[@]} - n) / n))
    printf '%-28s %s (%d s); %d of %d, %d min left\n' "${names[i]}" "$verdict" \
        $((SECONDS - this)) "$n" "${#todo[@]}" $(((left + 59) / 60))
done
say "${#todo[@]} mutants in $((SECONDS / 60)) min: $killed killed, $lives live as they may${bad[*]:+; look at ${bad[*]}}"
[ ${#bad[@]} -eq 0 ]
