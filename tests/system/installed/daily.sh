# What must hold on a machine where bty is installed and systemd has started it.

for daemon in $daemons; do
    [ "$(systemctl is-active "$daemon")" = active ] || fail "$daemon is not active"
    [ "$(systemctl show -P User "$daemon")" = "$daemon" ] || fail "$daemon is not its own user"
    [ "$(systemctl show -P NRestarts "$daemon")" = 0 ] || fail "$daemon was restarted"
done
[ -z "$(systemctl list-units --failed --no-legend 'bty*')" ] || fail "units failed: $(systemctl list-units --failed)"
btyctl status || fail "btyctl status"

# The sockets are for root and the group bty, and nobody else.
for daemon in registry httpd tftp dhcp; do
    socket=/run/bty/$daemon/api.sock
    [ "$(stat -c '%a %G' "$socket")" = "660 bty" ] || fail "$socket: $(stat -c '%a %G' "$socket")"
done
runuser -u nobody -- btyctl machine list && fail "a stranger may use btyctl"
runuser -u nobody -g bty -- btyctl machine list || fail "a member of the group bty may not use btyctl"

# An image gets in as one user and out as another.
dd if=/dev/urandom of=/root/disk.img bs=1M count=3 2>/dev/null
btyctl image import /root/disk.img --name good || fail "importing an image"
id=$(btyctl --output json image show good | grep -o 'blake3:[0-9a-f]*' | head -n 1)
busybox wget -q -O /root/got "http://10.77.0.1/images/${id#blake3:}.img.zst" || fail "fetching the image"
[ -s /root/got ] || fail "the image is empty"
btyctl machine set 52:54:00:77:00:01 --name one --policy local || fail "making a machine"
is_sent_to_its_disk() { busybox wget -q -O - "http://10.77.0.1/boot/script?mac=52-54-00-77-00-01" | grep -q sanboot; }
until_it_holds is_sent_to_its_disk
busybox wget -q -O /root/got http://10.77.0.1/live/vmlinuz || fail "fetching the live system"

# What is killed comes back, with its sockets and its state.
for daemon in $daemons; do
    killed=$(systemctl show -P MainPID "$daemon")
    kill -KILL "$killed"
    until_it_holds is_another "$daemon" "$killed"
done
btyctl machine show one || fail "the machine is forgotten"
btyctl status || fail "btyctl status after the kills"

systemctl stop bty.target || fail "stopping bty.target"
for daemon in $daemons; do
    [ "$(systemctl show -P Result "$daemon")" = success ] || fail "$daemon ended with $(systemctl show -P Result "$daemon")"
done
well
