#!/usr/bin/python3
"""What the hosts of test-astlinux.sh do, one command a call.

serve NAME FIRST-LAST...                      answers "NAME PORT" on these TCP and UDP ports
reflect FIRST-LAST ADDRESS...                 answers on these UDP ports with where a datagram came from
knock tcp|udp ADDRESS PORT [SOURCE]           prints what a service answers
seen SOURCE PORT ADDRESS...                   prints where datagrams from UDP port SOURCE come from, as
                                              reflectors on PORT see it: once if they agree
address ROUTER                                prints the external address (NAT-PMP)
map ROUTER tcp|udp EXTERNAL INTERNAL SECONDS  prints the port granted (NAT-PMP)
pinhole ROUTER CLIENT tcp|udp PORT SECONDS    prints the port opened (PCP, IPv6)
press ROUTER FIRST-LAST                       asks for one TCP port after the other (NAT-PMP),
                                              five a second, and prints "granted PORT" or
                                              "refused PORT" each time, until it is ended

A request that is refused, or not answered within 5 s, exits with 1 and says so.
"""

import ipaddress
import os
import select
import socket
import struct
import sys
import time

PORT = 5351  # NAT-PMP and PCP
UDP, TCP = 17, 6


def numbers(text):
    first, last = text.split("-")
    return range(int(first), int(last) + 1)


def listeners(port):
    for kind in socket.SOCK_STREAM, socket.SOCK_DGRAM:
        s = socket.socket(socket.AF_INET6, kind)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        s.bind(("::", port))
        if kind == socket.SOCK_STREAM:
            s.listen(16)
        yield s


def serve(name, *ranges):
    poll, sockets = select.poll(), {}
    for port in (p for text in ranges for p in numbers(text)):
        for s in listeners(port):
            sockets[s.fileno()] = s, f"{name} {port}\n".encode()
            poll.register(s, select.POLLIN)
    print("ready", flush=True)
    while True:
        for number, _ in poll.poll():
            s, text = sockets[number]
            try:
                answer(s, text)
            except OSError:
                pass  # the caller is gone


def answer(s, text):
    if s.type == socket.SOCK_STREAM:
        conn, _ = s.accept()
        with conn:
            conn.sendall(text)
    else:
        _, peer = s.recvfrom(100)
        s.sendto(text, peer)


def reflect(ports, *addresses):
    poll, sockets = select.poll(), {}
    for end in ((a, p) for a in addresses for p in numbers(ports)):
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.bind(end)
        sockets[s.fileno()] = s
        poll.register(s, select.POLLIN)
    print("ready", flush=True)
    while True:
        for number, _ in poll.poll():
            _, peer = sockets[number].recvfrom(100)
            sockets[number].sendto("{}:{}".format(*peer).encode(), peer)


def seen(source, port, *addresses):
    print(*sorted({reflection(int(source), (a, int(port))) for a in addresses}))


def reflection(source, reflector):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # beside serve
        s.settimeout(1)
        s.bind(("", source))
        s.connect(reflector)
        s.send(b"who am I")
        return s.recv(100).decode()


def knock(protocol, address, port, source=None):
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, kind) as s:
        s.settimeout(1)
        if source:
            s.bind((source, 0))
        s.connect((address, int(port)))
        if protocol == "udp":
            s.send(b"knock")
        print(s.recv(100).decode().strip())


def ask(router, request, matches, seconds=5):
    """Returns the response to a request, which is repeated each second."""
    family = socket.AF_INET6 if ":" in router else socket.AF_INET
    end = time.monotonic() + seconds
    with socket.socket(family, socket.SOCK_DGRAM) as s:
        s.connect((router, PORT))
        s.settimeout(1)
        while time.monotonic() < end:
            try:
                s.send(request)
                response = s.recv(1100)
            except OSError:  # no answer, or nobody listens yet
                time.sleep(0.1)
                continue
            if matches(response):
                return response
    raise SystemExit("no answer")


def granted(result):
    if result:
        raise SystemExit(f"refused with result {result}")


def address(router):
    response = ask(router, b"\0\0", lambda r: r[1] == 128)  # RFC 6886, section 3.2
    granted(struct.unpack_from("!H", response, 2)[0])
    print(ipaddress.ip_address(response[8:12]))


def mapped(router, protocol, external, internal, lifetime, seconds=5):
    """Returns the result and the external port (RFC 6886, section 3.3)."""
    code = 1 if protocol == "udp" else 2
    request = struct.pack("!BBHHHI", 0, code, 0, internal, external, lifetime)
    response = ask(router, request, lambda r: r[1] == 128 + code and r[8:10] == request[4:6], seconds)
    _, _, result, _, _, port, _ = struct.unpack("!BBHIHHI", response)
    return result, port


def map_port(router, protocol, external, internal, lifetime):
    result, port = mapped(router, protocol, int(external), int(internal), int(lifetime))
    granted(result)
    print(port)


def pinhole(router, client, protocol, port, lifetime):
    source = ipaddress.ip_address(client).packed
    head = struct.pack("!BBHI16s", 2, 1, 0, int(lifetime), source)  # RFC 6887, section 7.1
    nonce = source[4:]  # any 96 bits, the same each time
    number = UDP if protocol == "udp" else TCP
    data = struct.pack("!12sB3xHH16s", nonce, number, int(port), int(port), bytes(16))
    response = ask(router, head + data, lambda r: r[1] == 129 and r[24:36] == nonce)
    granted(response[3])
    print(struct.unpack_from("!H", response, 42)[0])


def press(router, ports):
    for port in numbers(ports):
        began = time.monotonic()
        try:
            result, got = mapped(router, "tcp", port, port, 3600, 3)
            print(f"refused {port}" if result else f"granted {got}", flush=True)
        except SystemExit:
            print(f"unanswered {port}", flush=True)
        time.sleep(max(0, began + 0.2 - time.monotonic()))


commands = {"serve": serve, "reflect": reflect, "knock": knock, "seen": seen, "address": address, "map": map_port, "pinhole": pinhole, "press": press}
try:
    commands[sys.argv[1]](*sys.argv[2:])
except OSError as err:
    sys.exit(os.strerror(err.errno) if err.errno else str(err))
