"""Holds TCP 40001 until it is told to end."""

import signal

import gi

gi.require_version("GUPnPIgd", "1.0")
from gi.repository import GLib, GUPnPIgd

loop = GLib.MainLoop()
igd = GUPnPIgd.SimpleIgd.new()
igd.connect("mapped-external-port", lambda *args: print("mapped", *args[1:], flush=True))
igd.connect("error-mapping-port", lambda *args: print("error", *args[1:], flush=True))
igd.add_port("TCP", 40001, "192.168.50.10", 8080, 600, "a call")


def give_back():
    igd.remove_port("TCP", 40001)
    GLib.timeout_add(1000, loop.quit)


GLib.unix_signal_add(GLib.PRIORITY_DEFAULT, signal.SIGTERM, give_back)
loop.run()
