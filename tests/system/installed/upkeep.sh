# New programs while the old ones run, and configurations that are wrong.

btyctl machine set 52:54:00:77:00:01 --name one --policy local || fail "making a machine"
btyctl token create before --role operator > /root/token || fail "making a token"

# Machines and people ask all the time, and whoever is refused is counted.
live=/usr/lib/bty/live
asked=$(mktemp -d)
: > /root/refused
ask() {
    while [ ! -e /root/enough ]; do
        "$1" > "$asked/$1.said" 2>&1 || echo "$1: $(tail -n 1 "$asked/$1.said")" >> /root/refused
        echo >> "$asked/$1"
    done
}
# A bty-httpd that has just started lets machines wait until it has heard of the registry.
script() { busybox wget -q -O - "http://10.77.0.1/boot/script?mac=52-54-00-77-00-01" | grep -E "sanboot|has not been heard of"; }
first_script() { busybox wget -q -O - http://10.77.0.1/boot.ipxe | grep '^#!ipxe'; }
kernel() { busybox wget -q -O "$asked/vmlinuz" http://10.77.0.1/live/vmlinuz && cmp "$asked/vmlinuz" "$live/vmlinuz"; }
program() { busybox tftp -g -r x64/snponly.efi -l "$asked/snponly.efi" 10.77.0.1 && cmp "$asked/snponly.efi" "$live/boot/x64/snponly.efi"; }
# A call that a restart of the registry falls into may fail, but then it says so: unavailable, try again.
person() {
    btyctl machine show one && return
    code=$?
    [ "$code" = 7 ] || { echo "exit code $code"; return 1; }
}
kinds="script first_script kernel program person"
for kind in $kinds; do
    ask "$kind" &
done

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
for kind in $kinds; do
    [ "$(wc -l < "$asked/$kind")" -ge 5 ] || fail "too little was asked: $(wc -l "$asked"/*)"
done
for kind in $kinds; do
    echo "$kind: $(wc -l < "$asked/$kind") requests"
done
[ -s /root/refused ] && fail "refused were: $(cat /root/refused)"
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
    for word in "$@"; do
        until_it_holds says "$unit" "$word"
    done
    for daemon in $daemons; do
        [ "$daemon" = "$unit" ] || is_active "$daemon" || fail "$daemon is $(of "$daemon" ActiveState), and $unit alone is wrong"
    done
    rm /etc/bty/conf.d/wrong.toml
    until_it_holds is_started "$unit"
}
# The journal hears of a message a moment after it was said.
says() { journalctl --unit "$1" --since "@$began" --priority err --output cat --no-pager | grep -qF -e "$2"; }
# Whoever asks starts it too: the first start may be one that has read what was wrong.
is_started() { systemctl reset-failed "$1"; systemctl start "$1"; }
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
