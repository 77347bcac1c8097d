# shellcheck shell=bash
# tools/gpu_check/base.sh -- results, and stages with limits.  Sourced by tools/gpu_check.sh.
#
#   $out     what comes of it: results.md, results.json, logs.tar.gz.  All three are replaced after
#            every stage, each at once, so that whoever ends the script leaves what was found so far
#   $state   lines (a flat JSON object each), failed, left_out, running/ (process groups)
#   $log     what was printed
#
# A stage is a command with a limit of its own.  It runs in a process group, which is ended at the
# limit whatever it does; the limits of a run add up to less than the run has, so no stage takes
# another's time.  --seconds stretches or shrinks them all.

say() { printf '%s\n' "$*"; }
die() {
    say "gpu_check: $1" >&2
    exit "${2:-1}"
}
record() { printf '%s\n' "$*" >>"$state/lines"; }
left_out() {
    say "left out: $*"
    say "$*" >>"$state/left_out"
}
failed() {
    say "FAILED: $*"
    say "$*" >>"$state/failed"
}

# A text as JSON.
quoted() { printf '"%s"' "$(printf '%s' "$1" | tr -d '\000-\037' | sed 's/["\\]/\\&/g')"; }

# free_gib DIR, memory_gib: whole GiB
free_gib() { df -Pk "$1" 2>/dev/null | awk 'NR == 2 { print int($4 / 1048576) }'; }
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

# begin_results: forgets earlier ones
begin_results() {
    mkdir -p "$out" "$work"
    out=$(cd "$out" && pwd) work=$(cd "$work" && pwd)
    state=$work/state log=$work/log
    rm -rf "$state" "$log" "$out"/{results.md,results.json,logs.tar.gz}
    mkdir -p "$state/running" "$log"
    touch "$state"/{lines,left_out,failed}
}

# publish: 0 all well, 3 a target missed, 1 something is wrong
publish() {
    local rc=0 new=$state/new.$BASHPID
    awk -f tools/gpu_check/report.awk -v json="$new.json" -v table="$new.md" \
        "$state/left_out" "$state/failed" "$state/lines" || rc=$?
    mv "$new.json" "$out/results.json"
    mv "$new.md" "$out/results.md"
    cp "$out"/results.{md,json} "$log/"
    # 1: a file grew meanwhile
    if tar -C "$work" -czf "$new.tar" log 2>/dev/null || [ $? -eq 1 ]; then
        mv "$new.tar" "$out/logs.tar.gz"
    fi
    [ ! -s "$state/failed" ] || rc=1
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
    cat "$out/results.md"
    say "results: $out/results.md, results.json and logs.tar.gz, after $SECONDS s"
    return "$last_verdict"
}
