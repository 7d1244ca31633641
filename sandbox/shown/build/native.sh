# native.sh PROGRAM COMPILER ARGUMENTS...
# Compiles, and sees that a program came of it.
program=$1
shift
trap '' XFSZ # a file that grows too large is then an error for compilers to tell, and not a crash of theirs
"$@" || exit
[ -x "$program" ] && [ ! -d "$program" ] && exit
echo "The compiler wrote no program. Leave out compile_args that ask for something else, like -c, -E or -S." >&2
exit 1
