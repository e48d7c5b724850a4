#!/usr/bin/python3
"""What Chromium makes of the page of leases: run by test-status.sh, in a scratch root
and a network of its own, where a web server serves the page at 127.0.0.1.

The page is shown with what a stand-in for miniupnpctl says, then with the daemon itself;
each time on three widths, light and dark. Prints only what is wrong, and exits with 1.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request

PAGE = "http://127.0.0.1/cgi-bin/index.cgi"
DRIVER = 9515  # port of chromedriver
WIDTHS = 320, 390, 1280  # small phone, phone, desk
LEASES = "/mnt/kd/upnp.leases"
PID_FILE = "/var/run/miniupnpd.pid"
STAND_IN = "/fixture/miniupnpctl"  # before the real one in PATH
PATIENCE = 60  # seconds

# Descriptions and host names that clients might choose.
HOSTILE = [
    "<script>document.title='script ran'</script>",
    "<img src=x onerror=\"document.title='script ran'\">",
    "</style></table></main><h1>the end",
    "&lt;b&gt; &#60; &amp;amp;",
    "\"' onmouseover='document.title=1' <!-- --> <![CDATA[",
    "\u202eright to left \u2066 isolate",
    "A" * 250,
    "\u00fc\u20ac \U0001f642 \u4e2d\u6587 \u05e9\u05dc\u05d5\u05dd",
    "back\\slash \\u003cb\\u003e \\",
    "$(reboot) `reboot` %s%n",
    '"},{"protocol":"TCP","external_port":1',
    "e\u0301" * 60,
]

# What a page shows, and how: overflow is by how many pixels it is wider than the window
# or its widest element; contrast is the lowest ratio of text to background by WCAG;
# broken are words and numbers of our own that go on in another line, and reversed are
# addresses that a client's text turned round.
MEASURE = """
const tables = [...document.querySelectorAll('table')]
const luminance = c => {
  const [r, g, b] = c.match(/[\\d.]+/g).slice(0, 3).map(v => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
  return .2126 * r + .7152 * g + .0722 * b
}
const background = e => {
  while (e && /, 0\\)|transparent/.test(getComputedStyle(e).backgroundColor)) e = e.parentElement
  return luminance(e ? getComputedStyle(e).backgroundColor : 'rgb(255, 255, 255)')
}
const contrast = e => {
  const [dark, light] = [luminance(getComputedStyle(e).color), background(e)].sort((a, b) => a - b)
  return (light + .05) / (dark + .05)
}
const all = [...document.body.querySelectorAll('*')].filter(e => e.getClientRects().length && !e.closest('thead'))
const texts = all.filter(e => [...e.childNodes].some(n => n.nodeType == 3 && n.data.trim()))
const glyph = (n, i) => {
  const range = document.createRange()
  range.setStart(n, i)
  range.setEnd(n, i + 1)
  return range.getBoundingClientRect()
}
const ends = e => [glyph(e.firstChild, 0), glyph(e.firstChild, e.firstChild.length - 1)]
const breaks = e => { const [first, last] = ends(e); return first.top != last.top }
const turns = e => { const [first, last] = ends(e); return first.top == last.top && first.left > last.left }
const root = document.documentElement
return {
  title: document.title, scripts: document.scripts.length, headings: document.querySelectorAll('h1').length,
  rows: tables.flatMap(t => [...t.tBodies[0].rows].map(r => [...r.cells].map(c => c.textContent))),
  count: document.querySelector('.count').textContent,
  source: document.querySelector('.source').textContent,
  overflow: Math.max(root.scrollWidth - root.clientWidth, ...all.map(e => Math.floor(e.getBoundingClientRect().right - innerWidth))),
  broken: texts.filter(e => e.matches('.public, .protocol, .port, .left, .never, .packets') && breaks(e)).map(e => e.textContent),
  reversed: all.filter(e => e.matches('.address, .port, .packets') && turns(e)).map(e => e.textContent),
  contrast: Math.min(...texts.map(contrast)), dark: background(document.body) < .5,
}"""


def until(condition, what):
    """Waits for a condition, and returns its value."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.05)
    sys.exit(f"waited {PATIENCE} s for {what}")


class Browser:
    """A session of Chromium, by the WebDriver protocol."""

    def __init__(self):
        self.driver = subprocess.Popen(["chromedriver", f"--port={DRIVER}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(self.is_ready, "chromedriver")
        arguments = ["--headless", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        options = {"alwaysMatch": {"goog:chromeOptions": {"args": arguments}}}
        self.path = "/session/" + self.call("POST", "/session", {"capabilities": options})["sessionId"]

    def is_ready(self):
        try:
            return self.call("GET", "/status")["ready"]
        except OSError:
            return False

    def call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{DRIVER}{path}", data, method=method)
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return json.load(answer)["value"]

    def post(self, path, body):
        return self.call("POST", self.path + path, body)

    def devtools(self, command, **parameters):
        self.post("/goog/cdp/execute", {"cmd": command, "params": parameters})

    def resize(self, width, theme):
        self.devtools("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 600)
        self.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])

    def load(self):
        self.post("/url", {"url": PAGE})

    def run(self, script):
        return self.post("/execute/sync", {"script": script, "args": []})

    def role(self, selector):
        """Returns the role that a screen reader is told."""
        element = self.post("/element", {"using": "css selector", "value": selector})
        return self.call("GET", f"{self.path}/element/{next(iter(element.values()))}/computedrole")

    def close(self):
        self.call("DELETE", self.path)
        self.driver.terminate()
        self.driver.wait()


class Test:
    """Shows pages and counts what is wrong."""

    def __init__(self, browser):
        self.browser, self.wrong = browser, 0

    def expect(self, case, what, got, want):
        if got != want:
            self.wrong += 1
            print(f"browser: {case}: {what} {got!r}, want {want!r}")

    def show(self, case, rows, count, source):
        """Shows the page on all widths, light and dark, and checks what it shows."""
        self.browser.load()
        for theme in "light", "dark":
            for width in WIDTHS:
                self.browser.resize(width, theme)
                self.check(f"{case}, {width} px, {theme}", theme, rows, count, source)

    def check(self, case, theme, rows, count, source):
        page = self.browser.run(MEASURE)
        self.expect(case, "number of rows", len(page["rows"]), len(rows))
        for got, want in zip(page["rows"], rows):
            self.expect(case, "row", got, want)
        self.expect(case, "count", re.sub(" at [-0-9]+ [0-9:]+$", "", page["count"]), count)
        self.expect(case, "source", page["source"].split(",")[0], source)
        self.expect(case, "title", page["title"], "NAT-PMP/PCP or UPnP leases")
        self.expect(case, "scripts and titles", (page["scripts"], page["headings"]), (0, 1))
        self.expect(case, "wider than the window by", max(page["overflow"], 0), 0)
        self.expect(case, "broken", page["broken"], [])
        self.expect(case, "reversed", page["reversed"], [])
        self.expect(case, "is dark", page["dark"], theme == "dark")
        if page["contrast"] < 4.5:
            self.expect(case, "contrast", page["contrast"], "4.5 or more")
        if page["rows"]:
            self.check_roles(case)

    def check_roles(self, case):
        for selector, role in ("table", "table"), ("tbody tr", "row"), ("tbody th", "rowheader"), ("tbody td", "cell"), ("thead th", "columnheader"):
            self.expect(case, f"role of {selector}", self.browser.role(selector), role)


def go_json(value):
    """Returns a value as Go's encoding/json writes it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def answer(command, text):
    with open(f"/fixture/{command}.json", "w", encoding="utf-8") as file:
        file.write(text + "\n")


def mapping(port, description, **fields):
    plain = {"schema": 1, "protocol": "UDP", "external_port": port, "client": "192.168.50.10", "client_port": 8080,
             "origins": ["PCP"], "description": description, "enabled": True, "remaining_seconds": None, "packets": 7, "bytes": 9}
    return plain | fields


def row(port, description, host="192.168.50.10", local=("8080",), by="PCP", left="never expires", packets="7"):
    return [str(port), "UDP", host, *local, by, left, packets, description]


def stand_in(test, case, mappings, rows, count):
    answer("list", "[" + ",\n ".join(map(go_json, mappings)) + "]")
    test.show(case, rows, count, "From the running daemon.")


def of_each_kind():
    """Returns three mappings, the third a pinhole, and their rows."""
    address = "2001:db8:1234:5678:9abc:def0:1234:5678"
    return [
        mapping(40000, "off", enabled=False, host_name="kitchen", gone=True, remaining_seconds=7260),
        mapping(40001, "", dormant=True, dormant_reason="the host has left the LAN", packets=None),
        mapping(443, "pinhole", pinhole=True, client=address, host_name="n" * 63 + ".example", remote=["2001:db8:ffff::/48"], origins=["NAT-PMP", "PCP", "UPnP"]),
    ], [
        row(40000, "off disabled", "kitchen 192.168.50.10 gone", left="2 h 1 min"),
        row(40001, " dormant: the host has left the LAN", packets="\u2013"),
        row(443, "pinhole only from 2001:db8:ffff::/48", "n" * 63 + ".example " + address, local=(), by="NAT-PMP, PCP, UPnP"),
    ]


def of_blocks():
    """Returns two blocks and their rows."""
    since = {"schema": 1, "since": "2026-11-27T12:00:00+01:00", "last_hit": None}
    return [
        since | {"id": 1, "host": HOSTILE[5], "macs": ["02:00:00:00:00:01"], "until": None, "remaining_seconds": None, "hits": 12345},
        since | {"id": 2, "protocol": "TCP", "first_port": 5000, "last_port": 5010, "until": "2026-11-27T13:00:00+01:00", "remaining_seconds": 3600, "hits": 0},
    ], [
        ["1", HOSTILE[5], "TCP, UDP", "all", "2026-11-27 12:00:00", "forever", "12345"],
        ["2", "every host", "TCP", "5000\u20135010", "2026-11-27 12:00:00", "1 h 0 min", "0"],
    ]


def test_stand_in(test):
    """Shows what a daemon might say."""
    answer("status", go_json({"schema": 1, "external_address": "11.22.33.44", "firewall": {"healthy": False, "trouble": "rule " + HOSTILE[0]},
                              "uplinks": [{"name": "eth0", "up": True, "addresses": ["11.22.33.44/24", "2001:db8:1234:5678:9abc:def0:1234:5678/64"]}]}))
    stand_in(test, "nothing", [], [], "No active NAT-PMP/PCP or UPnP leases")
    mappings, rows = of_each_kind()
    blocks, blocked = of_blocks()
    answer("blocks", go_json(blocks))
    stand_in(test, "one of each kind", mappings, rows + blocked, "1 in force, 1 dormant, 1 disabled, 2 blocked")
    answer("blocks", "[]")
    names = [(40000 + n, text) for n, text in enumerate(HOSTILE)]
    stand_in(test, "hostile", [mapping(port, text, host_name=text) for port, text in names],
             [row(port, text, text + " 192.168.50.10") for port, text in names], f"{len(HOSTILE)} in force")
    stand_in(test, "300 mappings", [mapping(port, f"number {port}") for port in range(40299, 39999, -1)],
             [row(port, f"number {port}") for port in range(40000, 40300)], "300 in force")


def write_leases(lines):
    with open(LEASES, "w", encoding="utf-8") as file:
        file.writelines(line + "\n" for line in lines)


def read_leases():
    with open(LEASES, encoding="utf-8") as file:
        return file.read()


def start_daemon(lines):
    """Starts the daemon with the leases of these lines, and returns its process id."""
    write_leases(lines)
    subprocess.run(["/usr/sbin/miniupnpd"], check=True, stdout=subprocess.DEVNULL)
    with open(PID_FILE, encoding="ascii") as file:
        return int(file.read())


def stop_daemon(pid):
    os.kill(pid, signal.SIGTERM)
    until(lambda: not os.path.exists(PID_FILE), "the daemon's end")


def saved(text):
    """Returns a description as the daemon writes it to the leases file."""
    return re.sub("[\u202e\u2066]", " ", text).strip().replace(":", "\u2236")


def lease(port, text):
    return [str(port), "UDP", "192.168.50.10", "8080", "never", text]


def test_daemon(test):
    """Shows what the daemon says, and the leases file while it hangs and after its end."""
    texts = dict(zip(range(40000, 40000 + len(HOSTILE)), HOSTILE))
    pid = start_daemon([f"UDP:{port}:192.168.50.10:8080:0:{text}" for port, text in texts.items()])
    test.show("daemon", [row(port, text, by="UPnP", packets="0") for port, text in texts.items()], f"{len(texts)} in force", "From the running daemon.")
    until(lambda: all(saved(text) in read_leases() for text in HOSTILE), "the leases file")
    os.kill(pid, signal.SIGSTOP)
    test.show("hanging daemon", [lease(port, saved(text)) for port, text in texts.items()], f"{len(texts)} leases", "From the lease file")
    os.kill(pid, signal.SIGCONT)
    stop_daemon(pid)
    write_leases([f"UDP:40000:192.168.50.10:8080:0:{HOSTILE[0]}", "UDP:40001:192.168.50.10:8080:1:expired"])
    test.show("leases file", [lease(40000, HOSTILE[0])], "1 lease, 1 expired", "From the lease file")


def main():
    browser = Browser()
    test = Test(browser)
    try:
        test_stand_in(test)
        os.remove(STAND_IN)
        test_daemon(test)
    finally:
        browser.close()
    sys.exit(test.wrong > 0)


main()
