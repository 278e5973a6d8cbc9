# When a daemon counts as started, and that none depends on the order.

for daemon in $daemons; do
    [ "$(of "$daemon" Type)" = notify ] || fail "$daemon does not say when it is ready"
    [ -n "$(of "$daemon" StatusText)" ] || fail "$daemon says nothing of itself"
done
# The others are started when the registry has said that it is ready, not before.
ready=$(of bty-registry ActiveEnterTimestampMonotonic)
for daemon in bty-httpd bty-tftp bty-dhcp; do
    [ "$(of "$daemon" InactiveExitTimestampMonotonic)" -ge "$ready" ] || fail "$daemon was started before the registry was ready"
done

# One that has not said that it is ready isn't active, whatever its process does.
systemctl stop bty-tftp
mkdir -p /run/systemd/system/bty-tftp.service.d
printf '[Service]\nExecStart=\nExecStart=/bin/sleep 1000\n' > /run/systemd/system/bty-tftp.service.d/mute.conf
systemctl daemon-reload
systemctl start --no-block bty-tftp
has_process() { [ "$(of bty-tftp MainPID)" != 0 ]; }
until_it_holds has_process
[ "$(of bty-tftp ActiveState)" = activating ] || fail "bty-tftp is $(of bty-tftp ActiveState) and has said nothing"
systemctl stop bty-tftp
rm -r /run/systemd/system/bty-tftp.service.d
systemctl daemon-reload

# Without the registry the others come up, say so to machines, and know more as soon as it is there.
script() { busybox wget -q -O - "http://10.77.0.1/boot/script?mac=52-54-00-77-00-01"; }
waits() { script | grep -q "registry has not been heard of"; }
knows() { script | grep -q "live/vmlinuz"; }
systemctl stop $daemons bty-registry.socket bty-registry-tcp.socket
systemctl mask --runtime bty-registry.service bty-registry.socket bty-registry-tcp.socket 2>/dev/null
for daemon in bty-dhcp bty-tftp bty-httpd; do
    systemctl start "$daemon.socket" "$daemon" || fail "$daemon does not start without the registry"
    is_active "$daemon" || fail "$daemon is $(of "$daemon" ActiveState) without the registry"
done
waits || fail "a machine is told: $(script)"
systemctl unmask --runtime bty-registry.service bty-registry.socket bty-registry-tcp.socket 2>/dev/null
systemctl start bty-registry || fail "the registry does not start after the others"
until_it_holds knows

# Every order will do.
set -- $daemons
for _ in 1 2 3 4; do
    systemctl stop $daemons
    for daemon in "$@"; do
        systemctl start --no-block "$daemon"
    done
    for daemon in $daemons; do
        until_it_holds is_active "$daemon"
        [ "$(of "$daemon" NRestarts)" = 0 ] || fail "$daemon was restarted; the order was $*"
    done
    until_it_holds knows
    btyctl status || fail "btyctl status; the order was $*"
    first=$1
    shift
    set -- "$@" "$first"
done
well
