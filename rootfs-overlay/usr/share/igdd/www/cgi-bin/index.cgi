#!/bin/sh
#
# Shows the port mappings as a web page, for firmware without a page of its own:
#
#	httpd -p 192.168.50.1:80 -h /usr/share/igdd/www
#
# It asks the daemon, and reads what AstLinux's status page reads when the daemon
# does not answer. Clients choose descriptions and host names, so every value is
# escaped before it reaches the page.

leases=/var/db/upnp.leases
LC_ALL=C
export LC_ALL

# ask prints the daemon's answer to the command $1 of miniupnpctl, as JSON, and
# kills miniupnpctl if it takes longer than 2 s. Not every busybox has timeout.
ask() {
  miniupnpctl --json "$1" </dev/null &
  asked=$!
  { sleep 2 && kill -9 $asked; } >/dev/null &
  watchdog=$!
  wait $asked
  answer=$?
  kill $watchdog
  return $answer
} 2>/dev/null

# daemon prints the daemon's status, mappings and blocks, each after a line with
# its name. It fails unless the daemon answers; a daemon without blocks is fine.
daemon() {
  echo status
  ask status
  case $? in
  0 | 4) ;; # 4: answered, but something is wrong
  *) return 1 ;;
  esac
  echo list
  ask list || return 1
  blocked=$(ask blocks) && printf 'blocks\n%s\n' "$blocked"
  return 0
}

# functions are those of awk that both sources of rows need. What they print
# begins with three words to sort by: part of the page, number, and text.
# shellcheck disable=SC2016 # awk expands it
functions='
  function html(s) {
    gsub(/&/, "\\&amp;", s)
    gsub(/</, "\\&lt;", s)
    gsub(/>/, "\\&gt;", s)
    gsub(/"/, "\\&quot;", s)
    gsub(/\047/, "\\&#39;", s)
    return s
  }
  function left(s) {
    if (s < 60) return "less than a minute"
    if (s < 3600) return int(s / 60) " min"
    if (s < 86400) return int(s / 3600) " h " int(s % 3600 / 60) " min"
    return int(s / 86400) " d " int(s % 86400 / 3600) " h"
  }
  function cell(class, content) { return "<td role=cell class=" class ">" content "</td>" }
  function row(part, number, word, head, cells) {
    printf "%s %d %s <tr role=row><th role=rowheader scope=row class=%s</th>%s</tr>\n", part, number, word, head, cells
  }
  function active(n, what) { count = n > 0 ? n " " what : "No active NAT-PMP/PCP or UPnP leases" }
  function others(n, what) { if (n > 0) count = count ", " n " " what }'

# from_file prints a row for each lease of the leases file that has not expired.
# Lines that are no lease of an IPv4 host are left out.
from_file() {
  tr -d '\000-\011\013-\037\177' 2>/dev/null <$leases | awk -F : -v now="$(date +%s)" "$functions"'
    function expiry(t) {
      if (t == 0) return "<span class=never>never</span>"
      return "<span class=date>" strftime("%Y-%m-%d %H:%M:%S", t) "</span> <span class=left>in " left(t - now) "</span>"
    }
    function is_port(p) { return p ~ /^[0-9]+$/ && p >= 1 && p <= 65535 }
    function is_lease() {
      return NF >= 5 && $1 ~ /^[A-Z]+$/ && is_port($2) && $3 ~ /^[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+$/ && is_port($4) && $5 ~ /^[0-9]+$/
    }
    !is_lease() { next }
    $5 != 0 && $5 <= now { expired++; next }
    {
      description = $0
      sub(/^[^:]*:[^:]*:[^:]*:[^:]*:[^:]*:?/, "", description)
      held++
      row("lease", $2, $1, "public>" $2 + 0, cell("protocol", $1) cell("address", $3) cell("port", $4 + 0) \
        cell("expires", expiry($5)) cell("text", "<bdi>" html(description) "</bdi>"))
    }
    END {
      active(held, held == 1 ? "lease" : "leases")
      others(expired, "expired")
      print "count 0 -", count
    }'
}

# from_daemon prints rows for what daemon printed.
from_daemon() {
  tr -d '\000-\011\013-\037\177' | awk "$functions"'
    # text returns a string of JSON, without its quotes, as HTML. The daemon writes
    # marks of HTML and control characters as escapes; the latter are left out.
    function text(s,   out, i, c) {
      while (i = index(s, "\\")) {
        out = out html(substr(s, 1, i - 1))
        c = substr(s, i + 1, 1)
        if (c == "u") {
          out = out character[substr(s, i + 2, 4)]
          s = substr(s, i + 6)
        } else {
          if (c == "\"" || c == "\\" || c == "/") out = out html(c)
          s = substr(s, i + 2)
        }
      }
      return out html(s)
    }
    # path returns the keys that lead to the container at a depth.
    function path(depth,   i, keys) {
      for (i = 1; i <= depth; i++) if (key[i] != "") keys = keys (keys == "" ? "" : ".") key[i]
      return keys
    }
    # put keeps a value; those of an array are joined.
    function put(value,   p) {
      p = path(depth)
      if (p in at) value = at[p] ", " value
      at[p] = value
    }
    # forget drops the values of the object at a path.
    function forget(p,   k) {
      for (k in at) if (p == "" || index(k, p ".") == 1) delete at[k]
    }
    # parse reads the tokens of one line: no string of JSON goes on in the next.
    function parse(line,   c, token) {
      while (line != "") {
        c = substr(line, 1, 1)
        if (c == "\"") {
          if (!match(line, /^"([^"\\]|\\.)*"/)) return
          token = text(substr(line, 2, RLENGTH - 2))
          line = substr(line, RLENGTH + 1)
          if (line ~ /^ *:/) key[depth] = token
          else put(token)
          continue
        }
        if (match(line, /^[-+.0-9A-Za-z]+/)) {
          token = substr(line, 1, RLENGTH)
          line = substr(line, RLENGTH + 1)
          if (token != "null") put(token)
          continue
        }
        if (c == "{" || c == "[") key[++depth] = ""
        if (c == "}") closed(path(depth - 1))
        if (c == "}" || c == "]") key[depth--] = ""
        line = substr(line, 2)
      }
    }
    # closed shows the object that ends at a path, and drops an element of an array.
    function closed(p) {
      if (document == "status" && p == "uplinks") uplink()
      if (document == "status" && p == "") status()
      if (document == "list" && p == "") mapping()
      if (document == "blocks" && p == "") block()
      if (key[depth - 1] == "") forget(p)
    }
    function fact(number, name, value) { printf "fact %d - <div><dt>%s</dt><dd>%s</dd></div>\n", number, name, value }
    function trouble(sentence) { printf "trouble %d - <p class=trouble>%s</p>\n", ++troubles, sentence }
    function uplink(   words) {
      words = at["uplinks.note"]
      if (words == "") words = (at["uplinks.up"] == "true" ? "up" : "down")
      if (at["uplinks.addresses"] != "") words = words ", " breakable(at["uplinks.addresses"])
      fact(++uplinks, "Uplink " at["uplinks.name"], words)
    }
    function status() {
      fact(0, "External address", ("external_address" in at ? at["external_address"] : "none") ("note" in at ? " (" at["note"] ")" : ""))
      if (at["firewall.healthy"] != "true")
        trouble("The firewall is not healthy: " (at["firewall.trouble"] == "" ? "chains, jumps or rules are missing" : at["firewall.trouble"]))
      if ("helper" in at) trouble("The helper process is not healthy: " at["helper"])
      if ("leases" in at) trouble("Leases are not saved: " at["leases"])
    }
    # breakable lets an IPv6 address go on in the next line.
    function breakable(s) {
      gsub(/:/, ":<wbr>", s)
      return s
    }
    function mark(words) { return " <span class=mark>" words "</span>" }
    function host(   name) {
      if (at["host_name"] != "") name = "<bdi class=name>" at["host_name"] "</bdi> "
      return name "<span class=address>" breakable(at["client"]) "</span>" (at["gone"] == "true" ? mark("gone") : "")
    }
    # state returns what keeps a mapping from being in force for everyone.
    function state(   marks) {
      if (at["enabled"] == "false") { disabled++; marks = mark("disabled") }
      else if (at["dormant"] == "true") dormant++
      else open++
      if (at["dormant"] == "true") marks = marks mark("dormant" (at["dormant_reason"] == "" ? "" : ": " at["dormant_reason"]))
      if (at["remote"] != "") marks = marks mark("only from " breakable(at["remote"]))
      return marks
    }
    # expires shows the time left of a mapping or block, forever in the words given.
    function expires(forever) {
      return cell("expires", "remaining_seconds" in at ? "<span class=left>" left(at["remaining_seconds"] + 0) "</span>" : "<span class=never>" forever "</span>")
    }
    function mapping(   packets, port) {
      packets = "packets" in at ? cell("packets", at["packets"]) : cell("unknown", "\342\200\223")
      port = at["pinhole"] == "true" ? "" : cell("port", at["client_port"]) # a pinhole has one port
      row(port == "" ? "pinhole" : "mapping", at["external_port"], at["protocol"], "public>" at["external_port"], \
        cell("protocol", at["protocol"]) cell("host", host()) port cell("by", at["origins"]) \
        expires("never expires") packets cell("text", "<bdi>" at["description"] "</bdi>" state()))
    }
    # timestamp returns a time of JSON, such as 2026-11-27T12:00:00Z, as text.
    function timestamp(s) { return substr(s, 1, 10) " " substr(s, 12, 8) (s ~ /Z$/ ? " UTC" : "") }
    function ports() {
      if (!("first_port" in at)) return "all"
      return at["first_port"] (at["last_port"] == at["first_port"] ? "" : "\342\200\223" at["last_port"])
    }
    function block() {
      blocked++
      row("block", at["id"], "-", "id>" at["id"], cell("host", "host" in at ? "<bdi class=name>" at["host"] "</bdi>" : "every host") \
        cell("protocol", "protocol" in at ? at["protocol"] : "TCP, UDP") cell("ports", ports()) cell("since", timestamp(at["since"])) \
        expires("forever") cell("hits", at["hits"]))
    }
    BEGIN {
      character["003c"] = "&lt;"
      character["003e"] = "&gt;"
      character["0026"] = "&amp;"
      character["fffd"] = "\357\277\275"
    }
    /^[a-z]/ { document = $0; depth = 0; next }
    { parse($0) }
    END {
      active(open, "in force")
      others(dormant, "dormant")
      others(disabled, "disabled")
      others(blocked, "blocked")
      print "count 0 -", count
    }'
}

# part prints the part $1 of the sorted rows.
part() {
  printf '%s\n' "$rows" | sed -n "s/^$1 [^ ]* [^ ]* //p"
}

# section prints the part $1 as a table with the heading $2, if it has rows. The other
# arguments are its columns: a class and what stands above it.
section() {
  body=$(part "$1")
  [ -n "$body" ] || return 0
  [ -z "$2" ] || printf '<h2>%s</h2>\n' "$2"
  printf '<table role=table class=%s>\n<thead role=rowgroup><tr role=row>\n' "$1"
  shift 2
  for column; do
    printf '<th role=columnheader scope=col class=%s>%s</th>\n' "${column%% *}" "${column#* }"
  done
  printf '</tr></thead>\n<tbody role=rowgroup>\n%s\n</tbody>\n</table>\n' "$body"
}

# content prints what stands below the title.
content() {
  printf '<p class=count>%s at %s</p>\n' "$(part count)" "$(date '+%Y-%m-%d %H:%M:%S')"
  printf '<p class=source>%s</p>\n' "$source"
  part trouble
  printf '<dl>%s</dl>\n' "$(part fact)"
  section lease '' 'public Public Port' 'protocol Protocol' 'address Local IPv4' 'port Local Port' \
    'expires Expire Time' 'text Description'
  section mapping '' 'public Public Port' 'protocol Protocol' 'host Host' 'port Local Port' 'by Requested By' \
    'expires Time Left' 'packets Packets' 'text Description'
  section pinhole 'IPv6 pinholes' 'public Port' 'protocol Protocol' 'host Host' 'by Requested By' \
    'expires Time Left' 'packets Packets' 'text Description'
  section block 'Blocked by the operator' 'id ID' 'host Host' 'protocol Protocol' 'ports Public Ports' 'since Since' \
    'expires Time Left' 'hits Refused Requests'
}

# page prints the document.
page() {
  cat <<END
<!DOCTYPE html>
<html lang=en>
<head>
<meta charset=utf-8>
<meta name=viewport content="width=device-width, initial-scale=1">
<meta name=color-scheme content="light dark">
<title>NAT-PMP/PCP or UPnP leases</title>
<style>
:root { --text: #1d2733; --faint: #566373; --line: #d5dce4; --back: #fff; --band: #f4f6f9; --mark: #8a3b00;
  --trouble: #fff1e2 }
@media (prefers-color-scheme: dark) {
  :root { --text: #e4e9ef; --faint: #a3afbd; --line: #38424e; --back: #14191f; --band: #1b2129; --mark: #ffb066;
    --trouble: #33230f }
}
body { margin: 2rem auto; max-width: 80rem; padding: 0 1rem; font: 1rem/1.45 system-ui, sans-serif;
  color: var(--text); background: var(--back) }
h1 { font-size: 1.35rem; margin: 0 }
h2 { font-size: 1.1rem; margin: 2rem 0 .4rem }
.count { margin: .2rem 0 }
.count, .source, dt { color: var(--faint) }
.source { margin: 0 0 1.2rem; font-size: .875rem }
.trouble, dd, .host, .text { overflow-wrap: anywhere }
.trouble { margin: .5rem 0; padding: .5rem .75rem; border-left: .25rem solid var(--mark); background: var(--trouble) }
dl { margin: 0 0 1.2rem }
dt, dd { display: inline; margin: 0 .6rem 0 0 }
/* A block also ends the isolates that a client's text leaves open. */
bdi, .mark { display: block }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th, td { padding: .45rem .6rem; text-align: left; vertical-align: baseline; border-bottom: 1px solid var(--line) }
thead th { font-size: .85rem; font-weight: 600; color: var(--faint) }
tbody tr:nth-child(even) { background: var(--band) }
tbody th { font-weight: 600 }
.public, .port, .packets, .unknown, .id, .hits { text-align: right }
td.expires, td.since, .lease .address { white-space: nowrap }
.name ~ .address, .lease .left { color: var(--faint) }
.mark { color: var(--mark); font-size: .875rem }
.text { width: 35% }
@media (max-width: 52rem) {
  body { margin: 1rem auto }
  table, tbody { display: block }
  thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%) }
  tr { display: flex; flex-wrap: wrap; column-gap: .5rem; padding: .5rem; border-bottom: 1px solid var(--line) }
  th, td { padding: 0; border: 0; font-size: .9375rem }
  .protocol, .by, .ports, .since, .expires, .packets, .hits { color: var(--faint) }
  .by, .since, .expires, .packets, .hits, .text { font-size: .875rem }
  .text { flex-basis: 100%; order: 1 }
  .host { display: flex; flex-wrap: wrap; column-gap: .5rem }
  .protocol::after { content: "\a0\a0\2192" }
  .block .protocol::after { content: none }
  .ports::before { content: "ports " }
  .since::before { content: "since " }
  .hits::after { content: " refused" }
  .lease .port { margin-left: -.5rem }
  .lease .port::before { content: ":" }
  .mapping .port::before { content: "port " }
  .left::before { content: "expires in " }
  .lease .left::before, .lease .never::before { content: "expires " }
  .packets::after { content: " packets" }
  .unknown, .date { display: none }
}
</style>
</head>
<body>
<main>
<h1>Active NAT-PMP/PCP or UPnP leases</h1>
$(content)
</main>
</body>
</html>
END
}

if answer=$(daemon); then
  rows=$(printf '%s\n' "$answer" | from_daemon)
  source='From the running daemon.'
else
  rows=$(from_file)
  source='From the lease file, because the daemon did not answer. While it does not run, no lease is in force.'
fi
rows=$(printf '%s\n' "$rows" | sort -t ' ' -k 1,1 -k 2,2n -k 3)
printf '%s\r\n' 'Content-Type: text/html; charset=utf-8' 'Cache-Control: no-store' \
  "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'" \
  'X-Content-Type-Options: nosniff' ''
page
