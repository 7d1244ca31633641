# rust.sh RUSTC ARGUMENTS...
# In the edition of 2021, unless the arguments name one: rustc takes --edition once, and without it that of 2015.
rustc=$1
shift
for word; do
    case $word in --edition | --edition=*) exec "$rustc" "$@" ;; esac
done
exec "$rustc" --edition=2021 "$@"
