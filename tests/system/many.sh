#!/bin/sh
# So many machines at the same moment, each at an address of its own: half of them are firmware that fetches its boot program by
# TFTP, the others iPXE that fetches its script and the live system. Prints a line for each: kind, number, seconds, and then whatever went
# wrong.
#
# many.sh CLIENTS LIVE
clients=$1 live=$2 server=10.77.0.1

for number in $(seq "$clients"); do
    ip address add "10.77.0.$((10 + number))/24" dev eth0
    ip address add "10.77.0.$((100 + number))/24" dev eth0
done

# Compared as it comes: bytes of another client's file would be a fault too.
fetch() {
    curl -sS --max-time 300 --interface "$1" -w '%{stderr}%{time_total}\n' "$2" | cmp - "$3" || echo wrong >&2
}

tftp() {
    fetch "10.77.0.$((10 + $1))" "tftp://$server/x64/snponly.efi" "$live/boot/x64/snponly.efi"
}

http() {
    mac=$(printf '52-54-00-77-02-%02x' "$1")
    from="10.77.0.$((100 + $1))"
    curl -sS --max-time 300 --interface "$from" -w '%{stderr}%{time_total}\n' "http://$server/boot.ipxe" | grep -q '^#!ipxe' || echo wrong >&2
    curl -sS --max-time 300 --interface "$from" -w '%{stderr}%{time_total}\n' \
        "http://$server/boot/script?mac=$mac&platform=pcbios&arch=x86_64" | grep -q "/live/vmlinuz?mac=$mac" || echo wrong >&2
    fetch "$from" "http://$server/live/vmlinuz?mac=$mac" "$live/vmlinuz"
    fetch "$from" "http://$server/live/initramfs.img?mac=$mac" "$live/initramfs.img"
}

client() {
    said=$("$1" "$2" 2>&1)
    echo "$1 $2 $(echo "$said" | awk '/^[0-9.]+$/ { sum += $1; next } { wrong = wrong " " $0 } END { print sum + 0 wrong }')"
}

for number in $(seq "$clients"); do
    client tftp "$number" &
    client http "$number" &
done
wait
