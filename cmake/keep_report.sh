#!/bin/sh
# cmake/keep_report.sh COMPILER ARGUMENT... -o OBJECT -- runs nvcc; what ptxas reports of each
# kernel's registers, shared memory and spills goes to OBJECT.ptxas, the rest is shown.  The PTX
# goes to OBJECT.ptx, that of several architectures to OBJECT.NUMBER.ptx.
for argument in "$@"; do
    [ "$last" != -o ] || object=$argument
    last=$argument
done
[ -n "$object" ] || exec "$@"

kept=$object.kept
rm -rf "$kept" "$object".*ptx*
mkdir -p "$kept"
"$@" -keep -keep-dir "$kept" 2>"$object.ptxas"
result=$?
grep -vE '^(ptxas )?info|^ *[0-9]+ bytes (stack|gmem)|^ *Function properties|^$' "$object.ptxas" >&2
if [ $result -ne 0 ]; then
    rm -rf "$kept" "$object.ptxas"
    exit $result
fi
for ptx in "$kept"/*.ptx; do
    architecture=$(expr "$ptx" : '.*compute_\([0-9]*\)\.ptx$')
    mv "$ptx" "$object.${architecture:+$architecture.}ptx"
done
rm -rf "$kept"
