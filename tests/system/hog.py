"""A client that takes all that it can: connections that it leaves idle, requests by TFTP and DHCP as fast as it sends them."""

import os
import socket
import time

SERVER = "10.77.0.1"
CONNECTIONS = 300
DATAGRAMS = 20_000

held = []
for port in (80, 443):
    for _ in range(CONNECTIONS):
        connection = socket.socket()
        connection.settimeout(2)
        try:
            connection.connect((SERVER, port))
            held.append(connection)
        except OSError:
            connection.close()

tftp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
tftp.setblocking(False)
dhcp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
dhcp.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
dhcp.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
dhcp.bind(("", 68))
dhcp.setblocking(False)


def discover():
    """A UEFI machine that nobody has seen before."""
    mac = bytes([0x02]) + os.urandom(5)
    head = bytes([1, 1, 6, 0]) + os.urandom(4) + bytes(20) + mac + bytes(10 + 64 + 128)
    vendor = b"PXEClient:Arch:00007:UNDI:003000"
    options = bytes([53, 1, 1, 93, 2, 0, 7, 60, len(vendor)]) + vendor + bytes([255])
    return head + bytes([99, 130, 83, 99]) + options


for number in range(DATAGRAMS):
    try:
        tftp.sendto(b"\0\1x64/snponly.efi\0octet\0blksize\0" b"1468\0", (SERVER, 69))
        dhcp.sendto(discover(), ("255.255.255.255", 67))
    except BlockingIOError:
        time.sleep(0.001)
print("flooded", flush=True)
# The connections stay open meanwhile.
time.sleep(60)
