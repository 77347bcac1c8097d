#!/bin/sh
# cmake/keep_report.sh COMPILER ARGUMENT... -o OBJECT -- runs nvcc; what ptxas reports of each
# kernel's registers, shared memory and spills goes to OBJECT.ptxas, the rest is shown.
for argument in "$@"; do
    [ "$last" != -o ] || object=$argument
    last=$argument
done
[ -n "$object" ] || exec "$@"

"$@" 2>"$object.ptxas"
result=$?
grep -vE '^(ptxas )?info|^ *[0-9]+ bytes (stack|gmem)|^ *Function properties|^$' "$object.ptxas" >&2
[ $result -eq 0 ] || rm -f "$object.ptxas"
exit $result
