# What each terminal of JupyterLab runs: a login shell, as Jupyter would, that still finds mlmp (it is in $1) where it is
# not linked into /usr/local/bin: Debian's /etc/profile sets PATH anew. What people's own files add comes first.
shell=${SHELL:-/bin/sh}
case $shell in
*csh) exec "$shell" -l ;; # takes no other option beside this one
esac
if [ -z "${MLMP_PROGRAMS-}" ]; then
    MLMP_PROGRAMS=$1 MLMP_TERMINAL=$0
    export MLMP_PROGRAMS MLMP_TERMINAL
    exec "$shell" -l -c 'exec /bin/sh "$MLMP_TERMINAL"'
fi
PATH=$PATH:$MLMP_PROGRAMS
export PATH
unset MLMP_PROGRAMS MLMP_TERMINAL
exec "$shell" -i
