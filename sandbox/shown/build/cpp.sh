# cpp.sh PRECOMPILED COMPILER ARGUMENTS...
# Compiles with the headers in PRECOMPILED, where each argument is one of those that leave the result as it is.
# GCC itself takes no header that was made for another language standard or by another compiler, but it does
# not look at all arguments.
precompiled=$1 compiler=$2
shift 2
part=usual
for word; do
    case $word in
    -specs=/opt/occd/live/live.specs | -O2 | -o) ;;
    -std=*) part=${word#-std=} ;;
    -W*,* | -Wsystem-headers | -Winvalid-pch) part= && break ;;
    -W*) ;;
    -* | @*) part= && break ;;
    esac
done
if [ -n "$part" ] && [ -d "$precompiled/$part" ]; then
    "$compiler" -isystem "$precompiled/$part" "$@" 2>/tmp/said
    status=$?
    # With a precompiled header GCC does not tell which line of the program has included it, nor which part of a
    # format is wrong. And it may have failed.
    if [ $status -le 1 ] && ! grep -q '^In file included from\|\[-W\(error=\)\?format' /tmp/said; then
        cat /tmp/said >&2
        exit $status
    fi
fi
exec "$compiler" "$@"
