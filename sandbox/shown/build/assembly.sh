# assembly.sh PROGRAM OBJECT
# Links. A program begins at its own _start, or at main where it has none. Both may call the C library.
start=
case $(nm "$2") in *" T _start"*) start=-nostartfiles ;; esac
exec gcc -no-pie $start "$2" -lm -z noexecstack -o "$1"
