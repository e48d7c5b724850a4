"""Maps a port or deletes it: ACTION PORT."""

import sys

import miniupnpc

action, port = sys.argv[1], int(sys.argv[2])
u = miniupnpc.UPnP()
u.discoverdelay = 500
u.discover()
u.selectigd()
if action == "add":
    u.addportmapping(port, "TCP", u.lanaddr, 8080, "from Python", "", 600)
    print(u.getspecificportmapping(port, "TCP"))
elif action == "any":
    print(u.addanyportmapping(port, "TCP", u.lanaddr, 8080, "from Python", ""))
elif action == "delete":
    print(u.deleteportmapping(port, "TCP"), u.getspecificportmapping(port, "TCP"))
elif action == "range":
    print(u.deleteportmappingrange(port, port + 1, "TCP", False), u.getspecificportmapping(port, "TCP"))
