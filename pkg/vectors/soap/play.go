package soap

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// player plays one vector.
type player struct {
	*Gateway
	urls  map[string]service
	saved map[string]string
}

// service is where the description says a service is.
type service struct{ scpd, control, event string }

// newPlayer reads the description.
func newPlayer(g *Gateway) (*player, error) {
	p := &player{g, make(map[string]service), make(map[string]string)}
	a, err := g.send("c1", g.router("c1", 4), 0, "GET",
		fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", g.Description, g.router("c1", 4)))
	if err != nil || a.root == nil {
		return nil, fmt.Errorf("no description at %s: status %d, %v", g.Description, a.Status, err)
	}
	a.root.all("service", func(n *node) {
		name := strings.Split(n.child("serviceType").text(), ":")[3]
		p.urls[name] = service{n.child("SCPDURL").text(), n.child("controlURL").text(), n.child("eventSubURL").text()}
	})
	return p, nil
}

// url returns the control URL of a service.
func (p *player) control(name string) string {
	name, _, _ = strings.Cut(name, ":")
	return p.urls[name].control
}

// Play carries out a vector and compares what comes of it.
func (v Vector) Play(t testing.TB, g *Gateway) {
	t.Helper()
	p, err := newPlayer(g)
	if err != nil {
		t.Fatal(err)
	}
	wanip := v.wanip()
	for _, step := range v.Before {
		if err := p.prepare(step, wanip); err != nil {
			t.Fatalf("before: %v", err)
		}
	}
	a, err := p.exchange(v)
	var differences []string
	switch {
	case v.Expect.NoConnection && err == nil:
		differences = []string{fmt.Sprintf("an answer, status %d", a.Status)}
	case v.Expect.NoConnection:
	case err != nil:
		differences = []string{err.Error()}
	default:
		differences = p.judge(v, a)
	}
	if o := a.outcome(); o.code == 0 || v.Expect.Error != nil {
		differences = append(differences, p.inspect(v.After, wanip)...)
	}
	for _, d := range differences {
		t.Errorf("%s %s: %s", v.ID, v.Title, d)
	}
}

// wanip is the service type by which the vector's state is made and read.
func (v Vector) wanip() string {
	if v.Config == "v1" {
		return "WANIPConnection:1"
	}
	return "WANIPConnection:2"
}

// prepare brings about a state.
func (p *player) prepare(s Step, wanip string) error {
	switch {
	case s.Mapping != nil:
		m := s.Mapping
		o, err := p.call(p.owner(m.Client), 4, wanip, "AddPortMapping", []Argument{
			{"NewRemoteHost", m.RemoteHost}, {"NewExternalPort", strconv.Itoa(m.External)}, {"NewProtocol", m.Protocol},
			{"NewInternalPort", strconv.Itoa(m.Internal)}, {"NewInternalClient", m.Client}, {"NewEnabled", m.Enabled},
			{"NewPortMappingDescription", m.Description}, {"NewLeaseDuration", strconv.Itoa(m.Lease)},
		})
		if err != nil || o.out == nil {
			return fmt.Errorf("mapping %v: %v, %v", *m, o, err)
		}
	case s.Pinhole != nil:
		o, err := p.call(s.From, 6, "WANIPv6FirewallControl:1", "AddPinhole", s.Pinhole)
		if err != nil || len(o.out) != 1 {
			return fmt.Errorf("pinhole %v: %v, %v", s.Pinhole, o, err)
		}
		p.saved[s.Saves] = o.out[0][1]
	default:
		time.Sleep(time.Duration(s.Wait * float64(time.Second)))
	}
	return nil
}

// owner returns the host that has an address: {c1} is c1.
func (p *player) owner(token string) string { return strings.Trim(token, "{}") }

// call calls an action in the plain form.
func (p *player) call(caller string, ip int, serviceType, action string, args []Argument) (outcome, error) {
	a, err := p.exchange(Vector{Caller: caller, Service: serviceType, Action: action, Args: args, Request: Form{IP: ip}})
	return a.outcome(), err
}

// exchange sends the vector's request.
func (p *player) exchange(v Vector) (Answer, error) {
	f := v.Request
	body := p.envelope(v)
	if f.Truncate != 0 {
		body = body[:int(float64(len(body))*f.Truncate)]
	}
	head, payload := p.head(v, []byte(body))
	to := p.router(v.Caller, f.IP)
	if f.Destination != "" {
		to = p.fill(f.Destination, nil)
	}
	var pieces [][]byte
	pause := 20 * time.Millisecond
	switch {
	case f.Method == "GET":
		pieces = [][]byte{head}
	case f.Segments == "bytes":
		pause = time.Millisecond / 10
		for _, b := range slices.Concat(head, payload) {
			pieces = append(pieces, []byte{b})
		}
	case f.Segments == "split", f.Expect:
		pieces = [][]byte{head, payload}
	default:
		pieces = [][]byte{slices.Concat(head, payload)}
	}
	return p.send(v.Caller, to, pause, "POST", pieces...)
}

// envelope words the body of the vector's request.
func (p *player) envelope(v Vector) string {
	f := v.Request
	prefixes := f.Prefixes
	if prefixes == nil {
		prefixes = []string{"s", "u"}
	}
	env, declareEnv := prefixed(prefixes[0])
	own, declareOwn := prefixed(prefixes[1])
	name, namespace := v.Action, "urn:schemas-upnp-org:service:"+v.Service
	if f.Query {
		namespace = "urn:schemas-upnp-org:control-1-0"
	}
	var args strings.Builder
	for _, arg := range v.Args {
		text := p.value(f, p.fill(arg[1], p.saved))
		switch {
		case f.Query:
			fmt.Fprintf(&args, "<u:%s>%s</u:%s>", arg[0], text, arg[0])
		case own == "":
			fmt.Fprintf(&args, `<%s xmlns="">%s</%s>`, arg[0], text, arg[0])
		default:
			fmt.Fprintf(&args, "<%s>%s</%s>", arg[0], text, arg[0])
		}
	}
	inner := fmt.Sprintf(`<%s%s xmlns%s="%s">%s</%s%s>`, own, name, declareOwn, namespace, args.String(), own, name)
	start, style, header := "<?xml version=\"1.0\"?>\n", " "+env+`encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"`, ""
	if f.Bare {
		start, style = "", ""
	}
	if f.BOM {
		start = "\ufeff" + start
	}
	if f.Doctype {
		start += `<!DOCTYPE x [<!ENTITY e "TCP">]>`
		inner = strings.Replace(inner, "<NewProtocol>TCP", "<NewProtocol>&e;", 1)
	}
	if f.Header != nil {
		header = fmt.Sprintf(`<%sHeader><x:T xmlns:x="urn:x" %smustUnderstand="%s">1</x:T></%sHeader>`, env, env, *f.Header, env)
	}
	return fmt.Sprintf(`%s<%sEnvelope xmlns%s="http://schemas.xmlsoap.org/soap/envelope/"%s>%s<%sBody>%s</%sBody></%sEnvelope>`,
		start, env, declareEnv, style, header, env, inner, env, env)
}

// prefixed returns a prefix as names and as declarations have it.
func prefixed(prefix string) (name, declaration string) {
	if prefix == "" {
		return "", ""
	}
	return prefix + ":", ":" + prefix
}

// value words an argument's value.
func (p *player) value(f Form, text string) string {
	escaped := strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(text)
	switch {
	case f.CDATA:
		return "<!-- c --><![CDATA[" + escaped + "]]>"
	case f.Charrefs && text != "":
		first := []rune(text)[0]
		return fmt.Sprintf("&#x%x;", first) + strings.TrimPrefix(escaped, string(first))
	}
	return escaped
}

// head words the head of the vector's request, and frames the body.
func (p *player) head(v Vector, body []byte) (head, payload []byte) {
	f := v.Request
	host := f.Host
	if host == "" {
		if host = p.router(v.Caller, f.IP); f.IP == 6 {
			host = "[" + host + "]"
		}
	}
	fields := []Argument{{"HOST", fmt.Sprintf("%s:%d", host, p.Port)}, {"CONTENT-TYPE", `text/xml; charset="utf-8"`}}
	if action, ok := p.soapAction(v); ok && f.Method == "M-POST" {
		fields = append(fields, Argument{"MAN", `"http://schemas.xmlsoap.org/soap/envelope/"; ns=01`}, Argument{"01-SOAPACTION", action})
	} else if ok {
		fields = append(fields, Argument{"SOAPACTION", action})
	}
	payload = body
	length := string(f.ContentLength)
	if f.Transfer == "chunked" || length == `"with_chunked"` {
		half := len(body) / 2
		payload = fmt.Appendf(nil, "%x\r\n%s\r\n%x;ext=1\r\n%s\r\n0\r\n\r\n", half, body[:half], len(body)-half, body[half:])
		fields = append(fields, Argument{"TRANSFER-ENCODING", "chunked"})
	}
	if length != "" && length != "null" || length == "" && f.Transfer == "" {
		fields = append(fields, Argument{"CONTENT-LENGTH", strconv.Itoa(len(body))})
	}
	if length == `"double"` {
		fields = append(fields, Argument{"CONTENT-LENGTH", strconv.Itoa(len(body) - 10)})
	}
	if f.Expect {
		fields = append(fields, Argument{"EXPECT", "100-continue"})
	}
	return f.words(or(f.Path, p.control(or(f.Control, v.Service))), fields), payload
}

// soapAction returns the field SOAPACTION; ok is false if there is none.
func (p *player) soapAction(v Vector) (field string, ok bool) {
	switch raw := v.Request.SOAPAction; {
	case raw != nil:
		err := json.Unmarshal(raw, &field)
		return field, err == nil && string(raw) != "null"
	case v.Request.Query:
		return `"urn:schemas-upnp-org:control-1-0#` + v.Action + `"`, true
	}
	return `"urn:schemas-upnp-org:service:` + v.Service + "#" + v.Action + `"`, true
}

// words writes the head down.
func (f Form) words(path string, fields []Argument) []byte {
	end := "\r\n"
	if f.LineEnd == "LF" {
		end = "\n"
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s %s%s", or(f.Method, "POST"), path, or(f.Version, "HTTP/1.1"), end)
	for _, field := range fields {
		name := field[0]
		switch f.HeaderCase {
		case "lower":
			name = strings.ToLower(name)
		case "title":
			name = name[:1] + strings.ToLower(name[1:])
		}
		fmt.Fprintf(&b, "%s: %s%s", name, field[1], end)
	}
	b.WriteString(end)
	return b.Bytes()
}

func or(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

// inspect compares the state with what it must be.
func (p *player) inspect(want State, wanip string) (differences []string) {
	if want.Has != nil || want.Lacks != nil || want.Count != nil {
		table := p.table(wanip)
		if want.Count != nil && len(table) != *want.Count {
			differences = append(differences, fmt.Sprintf("%d entries, want %d", len(table), *want.Count))
		}
		for _, row := range want.Has {
			if !slices.ContainsFunc(table, func(got []Argument) bool { return p.fits(row, got) }) {
				differences = append(differences, fmt.Sprintf("no entry %s in %q", row, table))
			}
		}
		for _, row := range want.Lacks {
			if slices.ContainsFunc(table, func(got []Argument) bool { return p.fits(row, got) }) {
				differences = append(differences, fmt.Sprintf("an entry %s", row))
			}
		}
	}
	if w := want.WAN; w != nil {
		target, open := netip.AddrPortFrom(netip.MustParseAddr(p.Tokens["c1"]), 4001), w.Reaches != nil
		if open {
			target = netip.AddrPortFrom(netip.MustParseAddr(p.fill(w.Reaches.Host, nil)), w.Reaches.Port)
		}
		if p.Reaches(w.Port, target) != open {
			differences = append(differences, fmt.Sprintf("port %d lets in: %v, want %v", w.Port, !open, open))
		}
	}
	return differences
}

// table returns the mapping table.
func (p *player) table(wanip string) (rows [][]Argument) {
	for {
		o, err := p.call("c1", 4, wanip, "GetGenericPortMappingEntry", []Argument{{"NewPortMappingIndex", strconv.Itoa(len(rows))}})
		if err != nil || o.out == nil {
			return rows
		}
		rows = append(rows, o.out)
	}
}

// columns are the names of an entry's parts in vectors.
var columns = map[string]string{
	"rh": "NewRemoteHost", "ext": "NewExternalPort", "proto": "NewProtocol", "int": "NewInternalPort", "client": "NewInternalClient",
	"en": "NewEnabled", "desc": "NewPortMappingDescription", "lease": "NewLeaseDuration",
}

// fits reports whether a row of the table is as a vector wants it.
func (p *player) fits(want map[string]json.RawMessage, row []Argument) bool {
	for column, raw := range want {
		i := slices.IndexFunc(row, func(a Argument) bool { return a[0] == columns[column] })
		if i < 0 || !p.matches(raw, row[i][1]) {
			return false
		}
	}
	return true
}
