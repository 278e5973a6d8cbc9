#!/bin/sh
# What every check in the container begins with. A check prints "all is well" at its end, and powers off.

daemons="bty-registry bty-httpd bty-tftp bty-dhcp"

fail() {
    echo "failed: $*"
    # What is said for each request would hide the rest.
    journalctl --no-pager | grep -v 'a boot script was served' | tail -n 300
    systemctl poweroff --no-block
    exit 1
}

well() {
    echo "all is well"
    systemctl poweroff --no-block
    exit 0
}

of() { systemctl show -P "$2" "$1"; }

# Waits until the rest of the line succeeds, for half a minute at most.
until_it_holds() {
    for _ in $(seq 300); do
        "$@" && return 0
        sleep 0.1
    done
    fail "it did not come true: $*"
}

is_active() { [ "$(of "$1" ActiveState)" = active ]; }
is_another() { is_active "$1" && [ "$(of "$1" MainPID)" != "$2" ]; }
