#!/bin/sh
#
# Shows the port mappings that are in force as a web page, for firmware without
# a page of its own:
#
#	httpd -p 192.168.50.1:80 -h /usr/share/igdd/www
#
# It reads what AstLinux's status page reads. Clients choose the descriptions,
# so nothing of a line reaches the page unchecked.

leases=/var/db/upnp.leases
LC_ALL=C
export LC_ALL

# escaped prints the lease file without control characters and with the marks of
# HTML spelled out.
escaped() {
  tr -d '\000-\011\013-\037\177' <$leases 2>/dev/null |
    sed -e 's/&/\&amp;/g' -e 's/</\&lt;/g' -e 's/>/\&gt;/g' -e 's/"/\&quot;/g' -e "s/'/\&#39;/g"
}

# rows prints one row of the table for each lease, by number of the port. Lines
# that are no lease of an IPv4 host are left out, and leases that have expired.
rows() {
  escaped | sort -t : -k 2,2n -k 1,1 | awk -F : -v now="$(date +%s)" '
    function left(s) {
      if (s < 60) return "less than a minute"
      if (s < 3600) return int(s / 60) " min"
      if (s < 86400) return int(s / 3600) " h " int(s % 3600 / 60) " min"
      return int(s / 86400) " d " int(s % 86400 / 3600) " h"
    }
    function expiry(t) {
      if (t == 0) return "<span class=never>never</span>"
      return "<span class=date>" strftime("%Y-%m-%d %H:%M:%S", t) "</span> <span class=left>in " left(t - now) "</span>"
    }
    function is_port(p) { return p ~ /^[0-9]+$/ && p >= 1 && p <= 65535 }
    function cell(class, text) { printf "<td role=cell class=%s>%s</td>", class, text }
    $5 != 0 && $5 <= now { next }
    NF >= 5 && $1 ~ /^[A-Z]+$/ && is_port($2) && $3 ~ /^[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+$/ && is_port($4) && $5 ~ /^[0-9]+$/ {
      description = $0
      sub(/^[^:]*:[^:]*:[^:]*:[^:]*:[^:]*:?/, "", description)
      printf "<tr role=row><th role=rowheader scope=row class=public>%d</th>", $2
      cell("protocol", $1)
      cell("address", $3)
      cell("port", $4 + 0)
      cell("expires", expiry($5))
      cell("text", "<bdi>" description "</bdi>")
      print "</tr>"
    }'
}

# page prints the document around the rows $1.
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
:root { --text: #1d2733; --faint: #566373; --line: #d5dce4; --back: #fff; --band: #f4f6f9 }
@media (prefers-color-scheme: dark) {
  :root { --text: #e4e9ef; --faint: #a3afbd; --line: #38424e; --back: #14191f; --band: #1b2129 }
}
body { margin: 2rem auto; max-width: 72rem; padding: 0 1rem; font: 1rem/1.45 system-ui, sans-serif;
  color: var(--text); background: var(--back) }
h1 { font-size: 1.35rem; margin: 0 }
.count { margin: .2rem 0 1.2rem; color: var(--faint) }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th, td { padding: .45rem .75rem; text-align: left; vertical-align: baseline; border-bottom: 1px solid var(--line) }
thead th { font-size: .85rem; font-weight: 600; color: var(--faint); white-space: nowrap }
tbody tr:nth-child(even) { background: var(--band) }
.public, .port { text-align: right }
.address, .expires { white-space: nowrap }
.left { color: var(--faint); padding-left: .4rem }
.text { width: 40%; overflow-wrap: anywhere }
@media (max-width: 44rem) {
  body { margin: 1rem auto }
  table, tbody { display: block }
  thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%) }
  tr { display: grid; grid-template-columns: auto auto auto 1fr; column-gap: .4rem; padding: .5rem;
    border-bottom: 1px solid var(--line) }
  th, td { padding: 0; border: 0; font-size: .9375rem }
  .protocol, .expires { color: var(--faint) }
  .address::before { content: "\2192\a0"; color: var(--faint) }
  .port { margin-left: -.4rem; text-align: left }
  .port::before { content: ":" }
  .expires, .text { grid-column: 1 / -1; width: auto; font-size: .875rem }
  .expires { order: 1 }
  .left::before, .never::before { content: "expires " }
  .date { display: none }
  .left { padding: 0 }
}
</style>
</head>
<body>
<main>
<h1>Active NAT-PMP/PCP or UPnP leases</h1>
$1
</main>
</body>
</html>
END
}

# table prints the table with the rows $1.
table() {
  cat <<END
<p class=count>$(printf '%s\n' "$1" | wc -l | tr -d ' ') in force at $(date '+%Y-%m-%d %H:%M:%S')</p>
<table role=table>
<thead role=rowgroup><tr role=row>
<th role=columnheader scope=col class=public>Public Port</th>
<th role=columnheader scope=col>Protocol</th>
<th role=columnheader scope=col>Local IPv4</th>
<th role=columnheader scope=col class=port>Local Port</th>
<th role=columnheader scope=col>Expire Time</th>
<th role=columnheader scope=col>Description</th>
</tr></thead>
<tbody role=rowgroup>
$1
</tbody>
</table>
END
}

printf '%s\r\n' 'Content-Type: text/html; charset=utf-8' 'Cache-Control: no-store' \
  "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'" \
  'X-Content-Type-Options: nosniff' ''
rows=$(rows)
if [ -n "$rows" ]; then
  page "$(table "$rows")"
else
  page '<p class=count>No active NAT-PMP/PCP or UPnP leases</p>'
fi
