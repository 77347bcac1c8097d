#!/bin/sh
# tests/lint/scripts.sh -- shellcheck on every script and on what it sources.  Run from the source root.
if ! command -v shellcheck >/dev/null; then
    echo "SKIP shellcheck is not installed"
    exit 77
fi
shellcheck -x -a .ci/run tools/*.sh tests/lint/*.sh tests/tools/*.sh tests/mutants/*.sh
