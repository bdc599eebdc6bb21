#!/bin/sh
# Runs a command with extensions that were built by -fsanitize=address,undefined. Fails where the command does, and where
# any process that it started reported an error or a leak: xdist, for one, does not look at how its workers end.
reports=$(mktemp -d) || exit
trap 'rm -rf "$reports"' EXIT

# Python's own allocator would hide a use after free, and every leak.
PYTHONMALLOC=malloc \
LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)" \
ASAN_OPTIONS="detect_leaks=1:log_path=$reports/report" \
LSAN_OPTIONS="suppressions=$(realpath "$(dirname "$0")")/leaks.supp:print_suppressions=0" \
UBSAN_OPTIONS="print_stacktrace=1:log_path=$reports/report" \
    "$@"
status=$?

for report in "$reports"/report.*; do
    [ -e "$report" ] || continue
    cat "$report"
    status=1
done
exit $status
