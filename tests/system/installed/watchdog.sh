# A daemon that hangs is killed and started again, with its state; and what the journal has of it all.

btyctl machine set 52:54:00:77:00:01 --name one --policy local || fail "making a machine"
for daemon in $daemons; do
    mkdir -p "/run/systemd/system/$daemon.service.d"
    printf '[Service]\nWatchdogSec=10s\nTimeoutAbortSec=2s\n' > "/run/systemd/system/$daemon.service.d/quick.conf"
done
systemctl daemon-reload
systemctl restart $daemons || fail "restarting"
# Fed well, it bites nobody. (Shorter than the loops of the daemons turn by themselves, it would.)
pids=$(for daemon in $daemons; do of "$daemon" MainPID; done)
sleep 12
[ "$pids" = "$(for daemon in $daemons; do of "$daemon" MainPID; done)" ] || fail "a daemon that is well was restarted"
for daemon in $daemons; do
    [ "$(of "$daemon" NRestarts)" = 0 ] || fail "$daemon was restarted though it is well"
done
was_bitten() { journalctl --unit "$1" --no-pager | grep -qi "watchdog timeout"; }
kill -STOP $pids
for daemon in $daemons; do
    hung=$(echo "$pids" | head -n 1)
    pids=$(echo "$pids" | tail -n +2)
    until_it_holds is_another "$daemon" "$hung"
    until_it_holds was_bitten "$daemon"
done
btyctl machine show one || fail "the machine is forgotten"

# The journal: every message of a daemon has its priority and says where it comes from, and none has a colour.
systemctl stop bty-registry bty-registry.socket bty-registry-tcp.socket
is_told() { journalctl --unit bty-httpd --priority warning --output cat | grep -q "the registry is away"; }
until_it_holds is_told
systemctl start bty-registry
for daemon in $daemons; do
    said=$(journalctl --unit "$daemon" --output json --no-pager "SYSLOG_IDENTIFIER=$daemon")
    [ -n "$said" ] || fail "$daemon says nothing in the journal"
    for field in PRIORITY TARGET MESSAGE; do
        echo "$said" | grep -v "\"$field\":\"" && fail "$daemon says something without $field"
    done
    echo "$said" | grep -q '"F_[A-Z_]*":"' || fail "$daemon has no fields of its own"
done
journalctl --output cat --no-pager "F_VERSION=$(bty-dhcp --version | cut -d ' ' -f 2)" | grep -q bty-dhcp || fail "fields find nothing"
escape=$(printf '\033')
journalctl --unit 'bty*' --output cat --no-pager | grep "$escape" && fail "escape codes in the journal"
well
