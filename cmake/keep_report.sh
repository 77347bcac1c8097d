#!/bin/sh
# cmake/keep_report.sh COMPILER ARGUMENT... -o OBJECT -- runs nvcc; what ptxas reports of each
# kernel's registers, shared memory and spills goes to OBJECT.ptxas, the rest is shown.  The PTX of
# an architecture goes to OBJECT.NUMBER.ptx.
object='' last=''
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
    [ -e "$ptx" ] || continue
    mv "$ptx" "$object.$(sed -n 's/^\.target sm_\([0-9]*\).*/\1/p' "$ptx").ptx"
done
rm -rf "$kept"
