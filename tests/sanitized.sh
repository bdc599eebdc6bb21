#!/bin/sh
# Runs a command with extensions that were built by -fsanitize=address,undefined. Fails where the command does, and where
# any process that it started reported an error or a leak: xdist, for one, does not look at how its workers end.
reports=$(mktemp -d) || exit
trap 'rm -rf "$reports"' EXIT

# Python's own allocator would hide a use after free, and every leak.
PYTHONMALLOC=malloc \
LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)" \
ASAN_OPTIONS="detect_leaks=1:exitcode=23:log_path=$reports/report" \
LSAN_OPTIONS="suppressions=$(realpath "$(dirname "$0")")/leaks.supp:print_suppressions=0" \
UBSAN_OPTIONS="print_stacktrace=1:log_path=$reports/report" \
    "$@"
status=$?

# Very rarely LeakSanitizer's own tracer crashes, after everything, where threads end meanwhile (google/sanitizers#1353).
# One process that was not searched for leaks is let pass, as the other workers were; not a second.
crashes=0
for report in "$reports"/report.*; do
    [ -e "$report" ] || continue
    cat "$report"
    if grep -q '^Tracer caught signal' "$report" && ! grep -q 'ERROR: \|runtime error: ' "$report"; then
        crashes=$((crashes + 1))
    else
        status=1
    fi
done
if [ $crashes = 1 ] && [ $status = 23 ]; then
    status=0
elif [ $crashes -gt 1 ] && [ $status = 0 ]; then
    status=1
fi
exit $status
