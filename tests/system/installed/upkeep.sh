# New programs while the old ones run, and configurations that are wrong.

btyctl machine set 52:54:00:77:00:01 --name one --policy local || fail "making a machine"
btyctl token create before --role operator > /root/token || fail "making a token"

# Machines and people ask all the time, and whoever is refused is counted.
: > /root/refused
: > /root/asked
ask() {
    while [ ! -e /root/enough ]; do
        "$@" > /root/said 2>&1 || echo "$* $(tail -n 1 /root/said)" >> /root/refused
        echo "$*" >> /root/asked
    done
}
ask busybox wget -q -O /dev/null "http://10.77.0.1/boot/script?mac=52-54-00-77-00-01" &
ask busybox wget -q -O /dev/null http://10.77.0.1/boot.ipxe &
asking=$!

# Outside, the programs are installed anew.
before=$(for daemon in $daemons; do of "$daemon" MainPID; done)
touch /install-now
is_installed() { [ -e /installed-now ]; }
until_it_holds is_installed
systemctl daemon-reload
systemctl try-restart $daemons || fail "restarting"
systemctl try-restart $daemons || fail "restarting once more"
touch /root/enough
wait
[ "$(wc -l < /root/asked)" -gt 10 ] || fail "too little was asked: $(cat /root/asked)"
[ -s /root/refused ] && fail "of $(wc -l < /root/asked) these were refused: $(cat /root/refused)"
echo "$(wc -l < /root/asked) requests, none refused"
for daemon in $daemons; do
    pid=$(of "$daemon" MainPID)
    echo "$before" | grep -qx "$pid" && fail "$daemon was not restarted"
    readlink "/proc/$pid/exe" | grep -q deleted && fail "$daemon still runs the old program"
done
btyctl machine show one || fail "the machine is forgotten"
btyctl token list | grep -q before || fail "the token is forgotten"

# A wrong configuration: the journal says what, where, and what would be right; the others go on.
mkdir -p /etc/bty/conf.d
refused() {
    unit=$1 text=$2
    shift 2
    printf '%s' "$text" > /etc/bty/conf.d/wrong.toml
    began=$(date +%s)
    systemctl restart "$unit" && fail "$unit took $text"
    until_it_holds is_failed "$unit"
    said=$(journalctl --unit "$unit" --since "@$began" --priority err --output cat --no-pager)
    for word in "$@"; do
        echo "$said" | grep -qF -e "$word" || fail "$unit does not say $word: $said"
    done
    for daemon in $daemons; do
        [ "$daemon" = "$unit" ] || is_active "$daemon" || fail "$daemon is $(of "$daemon" ActiveState), and $unit alone is wrong"
    done
    rm /etc/bty/conf.d/wrong.toml
    systemctl reset-failed "$unit"
    systemctl start "$unit" || fail "$unit does not start after it was mended"
}
is_failed() { [ "$(of "$1" ActiveState)" = failed ]; }
refused bty-httpd '[httpd]
listn = "0.0.0.0:80"
' /etc/bty/conf.d/wrong.toml:2:1 listn 'expected one of' '`listen`'
refused bty-dhcp '[dhcp]
mode = "sometimes"
' /etc/bty/conf.d/wrong.toml:2: sometimes proxy full
refused bty-registry '

[registry]
lost_after_seconds = "soon"
' /etc/bty/conf.d/wrong.toml:4: soon
refused bty-tftp '[log]
filter = "bty_tftp=loud"
' log.filter loud
btyctl status || fail "btyctl status at the end"
well
