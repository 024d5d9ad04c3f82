#!/bin/sh
# Forced command of the read-only account: it runs a script from standard input only when the script's SHA-256 is on
# the device's own list, and refuses everything else. In authorized_keys:
#   command="/usr/local/lib/emrctl/gate.sh",restrict ssh-ed25519 AAAA... readiness control plane
# The list holds one digest a line; words after it are a remark. Its path may only be given in authorized_keys.
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH
unset ENV BASH_ENV IFS
list=${1:-/etc/emrctl/allowed-scripts}
most=262144

refuse() {
    printf 'gate: %s\n' "$1" >&2
    exit 126
}

[ -r "$list" ] || refuse "the list of allowed scripts $list cannot be read"
# One character is added and taken off again, since the shell cuts newlines at the end (and drops NUL bytes anywhere).
# What is hashed is what runs.
script=$(head -c "$((most + 1))" && printf x)
script=${script%x}
[ "${#script}" -le "$most" ] || refuse "the script is longer than $most bytes"
digest=$(printf '%s' "$script" | sha256sum)
digest=${digest%% *}
while read -r allowed _ || [ -n "$allowed" ]; do
    if [ "$allowed" = "$digest" ]; then
        printf '%s' "$script" | sh -s
        exit
    fi
done <"$list"
refuse "the script with SHA-256 $digest is not on the list of allowed scripts"
