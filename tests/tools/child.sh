#!/bin/sh
# tests/tools/child.sh --trace FILE SCRIPT -- stands in for a program that refine-memprof runs.
eval "$3"
