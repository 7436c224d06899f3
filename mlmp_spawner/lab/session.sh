# What every SSH session runs (sshd's ForceCommand). Not as a login shell: Debian's /etc/profile would set PATH anew, and
# `python` would be another than in JupyterLab.
cd "${HOME:-/}" 2>/dev/null || cd /
shell=${SHELL:-/bin/sh}
case $SSH_ORIGINAL_COMMAND in
internal-sftp | "internal-sftp "*)
    for server in /usr/lib/openssh/sftp-server /usr/libexec/openssh/sftp-server /usr/lib/ssh/sftp-server \
        /usr/libexec/sftp-server /usr/lib/sftp-server; do
        [ -x "$server" ] && exec "$server"
    done
    echo "mlmp: there is no sftp-server here (package openssh-sftp-server)" >&2
    exit 127
    ;;
"")
    [ -t 0 ] && exec "$shell" -i
    exec "$shell"
    ;;
*) exec "$shell" -c "$SSH_ORIGINAL_COMMAND" ;;
esac
