# fortran.sh PROGRAM COMPILER ARGUMENTS...
# Puts the sources in an order in which a module stands before those that use it, because GNU Fortran reads them so.
program=$1
shift

is_source() {
    case $1 in
    *.f90 | *.f95 | *.f03 | *.f08 | *.f) [ -f "$1" ] ;;
    *) false ;;
    esac
}

# Edges for tsort, of bytes, because comments may be in Latin-1: from a file to the modules that it has, and from a module to the other files that use it.
edges() {
    at=0
    for each; do
        at=$((at + 1))
        is_source "$each" || continue
        echo "f$at f$at"
        has=$(LC_ALL=C sed -nE 's/^[ \t]*module[ \t]+(\w+)[ \t\r]*([!;].*)?$/\L\1/Ip' <"$each")
        for module in $has; do echo "f$at m$module"; done
        LC_ALL=C sed -nE 's/^[ \t]*(use[ \t]*(,[ \t]*\w+[ \t]*)?(::)?|submodule[ \t]*\()[ \t]*(\w+).*/\L\4/Ip' <"$each" |
            grep -vxF -e "$has" | while read -r module; do echo "m$module f$at"; done
    done
}

# Modules that use one another stay in some order, and the compiler tells what is wrong.
order=$(edges "$@" | tsort 2>/dev/null | sed -n 's/^f//p')
at=0
arranged=
for each; do
    at=$((at + 1))
    next=$at
    if is_source "$each"; then
        next=${order%%[!0-9]*}
        order=${order#"$next"}
        order=${order#?}
    fi
    arranged="$arranged \"\${$next}\""
done
eval "set -- $arranged"
exec /bin/sh "${0%/*}/native.sh" "$program" "$@"
