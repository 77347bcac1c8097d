# shellcheck shell=bash
# tools/gpu_check/base.sh -- results, and stages with limits.  Sourced by tools/gpu_check.sh.
#
#   $out     what comes of it: results.md, results.json, logs.tar.gz.  All three are replaced after
#            every stage, each at once, so that whoever ends the script leaves what was found so far
#   $state   lines (a flat JSON object each), sources (files that hold more of them), failed,
#            left_out, too_large (for logs.tar.gz), running/ (process groups)
#   $log     what was printed
#
# A program's lines are read where it writes them, whenever results are: so those that it wrote
# before it was cut are there, and no two programs write one file.
#
# A stage is a command with a limit of its own.  It runs in a process group, which is ended at the
# limit whatever it does; the limits of a run add up to less than the run has, so no stage takes
# another's time.  --seconds stretches or shrinks them all.

say() { printf '%s\n' "$*"; }
die() {
    say "gpu_check: $*" >&2
    exit 1
}
no_card() {
    say "gpu_check: $*; nothing was checked" >&2
    exit 2
}

# The run goes on where a disk is full: packs are made, and deleted again.
no_room() {
    [ -n "${told:-}" ] || say "gpu_check: cannot write ($(free_mib "$work") MiB are left in $work," \
        "$(free_mib "$out") MiB in $out): results have gaps; --work and -o name other places"
    told=1 last_verdict=1
}

# note FILE TEXT: one more line in it, written at once
note() { printf '%s\n' "$2" 2>/dev/null >>"$state/$1" || no_room; }
record() { note lines "$*"; }
left_out() {
    say "left out: $*"
    note left_out "$*"
}
failed() {
    say "FAILED: $*"
    note failed "$*"
}

# results_of FILE PREFIX: its lines of JSON are results, PREFIX put in front of each
results_of() { note sources "$1"$'\t'"$2"; }

# gather: all lines so far; of a test also which cases failed
gather() {
    local file prefix
    cat "$state/lines"
    while IFS=$'\t' read -r file prefix; do
        [ ! -e "$file" ] || awk -v prefix="$prefix" '
            /^[{]/ { print "{" prefix substr($0, 2) }
            /^\[FAIL\] [A-Za-z0-9_:]+$/ { print "{" prefix "\"stage\":\"case\",\"failed\":\"" $2 "\"}" }
            ' "$file"
    done <"$state/sources"
}

# A text as JSON.
quoted() { printf '"%s"' "$(printf '%s' "$1" | tr -d '\000-\037' | sed 's/["\\]/\\&/g')"; }

# free_mib DIR: whole MiB, 0 where there is no such place; free_gib, memory_gib: whole GiB
free_mib() { df -Pk "$1" 2>/dev/null | awk 'NR == 2 { n = int($4 / 1024) } END { print n + 0 }'; }
free_gib() { echo $(($(free_mib "$1") / 1024)); }
memory_gib() { awk '/^MemAvailable/ { print int($2 / 1048576) }' /proc/meminfo; }

# ---- stages ----

left() { echo $((total - SECONDS)); }

# in_time SECONDS: as many of the run as --seconds makes of them
in_time() { echo $((($1 * total + planned - 1) / planned)); }

alive() { kill -0 -- "$1" 2>/dev/null; }

# end_group PID: first kindly.  What then still hangs, in a driver, is left behind.
end_group() {
    local tries=0
    kill -TERM -- "-$1" 2>/dev/null || return 0
    while alive "-$1" && [ $((tries += 1)) -le 10 ]; do
        sleep 0.1
    done
    kill -KILL -- "-$1" 2>/dev/null || true
}

# Jobs of a stage stay in its group.
in_group() {
    set +m
    "$@"
}

# within SECONDS COMMAND...: its exit code; 124 when it was ended
within() {
    local limit=$1 begin=$SECONDS pid rc=0
    shift
    set -m # a group of its own
    in_group "$@" </dev/null &
    pid=$!
    set +m
    : >"$state/running/$pid"
    while alive "$pid" && [ $((SECONDS - begin)) -lt "$limit" ]; do
        sleep 0.1
    done
    if alive "$pid"; then
        rc=124
    else
        wait "$pid" || rc=$?
    fi
    end_group "$pid"
    rm -f "$state/running/$pid"
    return $rc
}

# run_stage LIMIT NAME COMMAND...: 124 when it was cut; other failures are written down
run_stage() {
    local limit=$1 name=$2 mark rc=0 begin=$SECONDS
    shift 2
    mark=$(clocks_mark)
    say "== $name (at most $limit s)"
    within "$limit" "$@" || rc=$?
    record "{\"stage\":\"time\",\"name\":$(quoted "$name"),\"seconds\":$((SECONDS - begin))," \
        "\"limit\":$limit,\"exit\":$rc}"
    clocks_since "$mark" "$name"
    [ $rc -eq 0 ] || [ $rc -eq 124 ] || failed "$name (exit $rc)"
    [ $rc -ne 124 ] || return 124
}

# stage NAME SECONDS COMMAND...: whatever it comes to, the next one follows
stage() {
    local name=$1 limit
    limit=$(in_time "$2")
    shift 2
    [ "$limit" -le "$(left)" ] || limit=$(left)
    if [ "$limit" -le 0 ]; then
        failed "$name: no time was left"
    elif ! run_stage "$limit" "$name" "$@"; then
        failed "$name: not finished in its $limit s"
    fi
    publish
}

# wish NAME SECONDS COMMAND...: a stage that is done if all of its time is left
wish() {
    local name=$1 limit
    limit=$(in_time "$2")
    shift 2
    if [ "$limit" -gt "$(left)" ]; then
        left_out "$name (no time left)"
    elif ! run_stage "$limit" "$name" "$@"; then
        left_out "$name (not finished in $limit s)"
    fi
    publish
}

# ---- results ----

LOGS_MOST=$((16 << 20)) # bytes of logs.tar.gz, so that it can be sent
ROOM_LEAST=64           # MiB

make_places() {
    local place
    for place in "$work" "$out"; do
        mkdir -p "$place" || die "$place cannot be made"
        [ "$(free_mib "$place")" -ge $ROOM_LEAST ] ||
            die "the disk of $place is full ($(free_mib "$place") MiB are left); --work and -o name" \
                "other places"
    done
    out=$(cd "$out" && pwd) work=$(cd "$work" && pwd)
}

# begin_results: forgets earlier ones
begin_results() {
    state=$work/state log=$work/log
    rm -rf "$state" "$log" "$out"/{results.md,results.json,logs.tar.gz}
    mkdir -p "$state/running" "$log"
    touch "$state"/{lines,sources,left_out,failed,too_large}
}

# write_results: 0 all well, 3 a target missed, 1 something is wrong, 2 not written
write_results() {
    local rc=0 new=$state/new.$BASHPID
    gather >"$new.lines" || return 2
    LC_ALL=C awk -f tools/gpu_check/report.awk -v json="$new.json" -v table="$new.md" \
        "$state/left_out" "$state/failed" "$new.lines" || rc=$?
    case $rc in
    0 | 1 | 3) ;;
    *) return 2 ;;
    esac
    mv "$new.json" "$out/results.json" && mv "$new.md" "$out/results.md" &&
        cp "$out"/results.{md,json} "$log/" && rm -f "$new.lines" || return 2
    return $rc
}

# The largest file that logs.tar.gz still has: reports of ncu first.
largest_log() {
    local pattern
    for pattern in '*.ncu-rep' '*'; do
        (cd "$work" && find log -type f -name "$pattern" -printf '%s %p\n') | sort -rn |
            sed 's/^[0-9]* //' | grep -vxFf "$state/too_large" || true
    done | sed -n 1p
}

# pack_logs: 1 when one was left out just now, 2 when they cannot be written
pack_logs() {
    local new=$state/new.$BASHPID.tar rc=0 largest
    while :; do
        # 1: a file grew meanwhile
        tar -C "$work" -X "$state/too_large" -czf "$new" log 2>/dev/null || [ $? -eq 1 ] || return 2
        [ "$(wc -c <"$new")" -ge $LOGS_MOST ] || break
        largest=$(largest_log)
        left_out "$largest ($(du -k "$work/$largest" | cut -f1) KiB: logs.tar.gz stays below" \
            "$((LOGS_MOST >> 20)) MiB)"
        note too_large "$largest"
        rc=1
    done
    mv "$new" "$out/logs.tar.gz" || return 2
    return $rc
}

# publish: last_verdict is what write_results says
publish() {
    local rc=0 packed=0
    write_results 2>/dev/null || rc=$?
    pack_logs 2>/dev/null || packed=$?
    [ $packed -ne 1 ] || write_results || rc=$?
    if [ $rc -eq 2 ] || [ $packed -eq 2 ]; then
        rm -f "$state/new.$BASHPID".*
        no_room
        return 0
    fi
    last_verdict=$rc
}

end_stages() {
    local group
    for group in "$state/running"/*; do
        [ ! -e "$group" ] || end_group "${group##*/}"
    done
}

finish() {
    record "{\"stage\":\"end\",\"seconds\":$SECONDS}"
    publish
    [ -z "${told:-}" ] || last_verdict=1
    cat "$out/results.md"
    say "results: $out/results.md, results.json and logs.tar.gz, after $SECONDS s"
    return "$last_verdict"
}
