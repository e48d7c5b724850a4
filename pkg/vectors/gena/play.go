package gena

import (
	"bufio"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	// patience is how long an answer that must come may take on a busy machine.
	patience = 15 * time.Second
	// silence is the longest wait for an event that must not come. The vectors
	// grant more: the gateway sends an event at once, or 200 ms after the one
	// before it.
	silence = 500 * time.Millisecond
)

// player plays one vector.
type player struct {
	*Gateway
	services  map[string]service
	listeners map[string]*listener
	sids      map[string]string
}

// service is where the description says a service is.
type service struct {
	Type    string `xml:"serviceType"`
	Control string `xml:"controlURL"`
	Event   string `xml:"eventSubURL"`
}

// Play carries out a vector and compares what comes of each step.
func (v Vector) Play(t testing.TB, g *Gateway) {
	t.Helper()
	p := &player{Gateway: g, listeners: make(map[string]*listener), sids: make(map[string]string)}
	if err := p.describe(); err != nil {
		t.Fatal(err)
	}
	for name, place := range v.Listeners {
		l, err := g.listen(place)
		if err != nil {
			t.Fatal(err)
		}
		p.listeners[name] = l
		defer l.close()
	}
	for i, s := range v.Steps {
		if err := p.step(s); err != nil {
			t.Fatalf("%s %s: step %d, %s: %v", v.ID, v.Title, i, s.Do, err)
		}
	}
}

// describe reads the description.
func (p *player) describe() error {
	_, body, err := p.request("c1", 4, "GET", p.Description, nil, "")
	if err != nil {
		return err
	}
	p.services = make(map[string]service)
	for d := xml.NewDecoder(strings.NewReader(body)); ; {
		token, err := d.Token()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if start, ok := token.(xml.StartElement); ok && start.Name.Local == "service" {
			var s service
			if err := d.DecodeElement(&s, &start); err != nil {
				return err
			}
			p.services[strings.Split(s.Type, ":")[3]] = s
		}
	}
}

// request sends one request and returns the answer. The fields stand in it as
// they are given.
func (p *player) request(from string, ip int, method, path string, fields [][2]string, body string) (*http.Response, string, error) {
	to := p.router(from, ip)
	c, err := p.Dial(from, to)
	if err != nil {
		return nil, "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	var text strings.Builder
	fmt.Fprintf(&text, "%s %s HTTP/1.1\r\nHOST: %s\r\n", method, path, to)
	for _, f := range fields {
		fmt.Fprintf(&text, "%s: %s\r\n", f[0], p.fill(f[1], p.sids))
	}
	if _, err := io.WriteString(c, text.String()+"\r\n"+body); err != nil {
		return nil, "", err
	}
	r, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		return nil, "", err
	}
	content, err := io.ReadAll(r.Body)
	return r, string(content), err
}

// step does one step and returns what is wrong with what comes of it.
func (p *player) step(s Step) error {
	switch s.Do {
	case "SUBSCRIBE", "UNSUBSCRIBE":
		return p.subscribe(s)
	case "soap":
		return p.call(s)
	case "wait":
		time.Sleep(time.Duration(s.MS) * time.Millisecond)
		return nil
	case "listener":
		return p.listeners[s.Name].behave(p.Gateway, s.Behaviour)
	case "wan_address":
		if s.Set == nil {
			return p.SetUplink(netip.Addr{})
		}
		return p.SetUplink(netip.MustParseAddr(p.fill(*s.Set, nil)))
	case "await_notify":
		return p.await(s, p.listeners[s.On])
	case "no_notify":
		return p.listeners[s.On].silent(time.Duration(s.For) * time.Millisecond)
	}
	return fmt.Errorf("no such step")
}

// silent demands that nothing comes.
func (l *listener) silent(d time.Duration) error {
	select {
	case e := <-l.events:
		return fmt.Errorf("an event: %v", e.vars)
	case <-time.After(min(d, silence)):
		return nil
	}
}

// call calls an action, which must succeed.
func (p *player) call(s Step) error {
	name, _, _ := strings.Cut(s.Service, ":")
	var args strings.Builder
	for _, a := range s.Args {
		fmt.Fprintf(&args, "<%s>%s</%s>", a[0], p.fill(a[1], p.sids), a[0])
	}
	body := fmt.Sprintf(`<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" `+
		`s:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body><u:%s xmlns:u="%s">%s</u:%s></s:Body></s:Envelope>`,
		s.Action, p.services[name].Type, args.String(), s.Action)
	r, text, err := p.request(s.From, 4, "POST", p.services[name].Control, [][2]string{
		{"SOAPACTION", `"` + p.services[name].Type + "#" + s.Action + `"`},
		{"CONTENT-TYPE", `text/xml; charset="utf-8"`}, {"CONTENT-LENGTH", strconv.Itoa(len(body))},
	}, body)
	if err == nil && r.StatusCode != 200 {
		err = fmt.Errorf("status %d: %s", r.StatusCode, text)
	}
	return err
}

// subscribe sends a request to an event URL and judges the answer.
func (p *player) subscribe(s Step) error {
	var fields [][2]string
	if err := json.Unmarshal(s.Headers, &fields); err != nil {
		return err
	}
	if s.HeaderCase == "title" {
		for i, f := range fields {
			fields[i][0] = f[0][:1] + strings.ToLower(f[0][1:])
		}
	}
	path := s.Path
	switch name, isControl := strings.CutPrefix(path, "{control:"); {
	case path == "":
		path = p.services[s.EventURLOf].Event
	case isControl:
		path = p.services[strings.TrimSuffix(name, "}")].Control
	}
	var r *http.Response
	for range max(1, s.Repeat) {
		var err error
		r, _, err = p.request(s.From, s.IP, s.Do, path, fields, "")
		if s.Expect.NoConnection {
			if err == nil {
				return fmt.Errorf("status %d", r.StatusCode)
			}
			return nil
		}
		if err != nil {
			return err
		}
	}
	if s.SaveSID != "" {
		p.sids[s.SaveSID] = r.Header.Get("SID")
	}
	return p.judge(s.Expect, r)
}

// judge returns what is wrong with an answer.
func (p *player) judge(e Expectation, r *http.Response) error {
	want := slices.Concat(e.LastHTTPAny, e.HTTPAny)
	if e.HTTP != 0 {
		want = append(want, e.HTTP)
	}
	if !slices.Contains(want, r.StatusCode) {
		return fmt.Errorf("status %d, want %v", r.StatusCode, want)
	}
	for _, name := range e.Present {
		if r.Header.Values(name) == nil {
			return fmt.Errorf("no %s", name)
		}
	}
	for _, name := range e.Absent {
		if r.Header.Values(name) != nil {
			return fmt.Errorf("%s is there", name)
		}
	}
	timeout := r.Header.Get("TIMEOUT")
	seconds, err := strconv.Atoi(strings.TrimPrefix(timeout, "Second-"))
	switch {
	case e.Timeout != "" && timeout != e.Timeout,
		e.TimeoutMin != 0 && (err != nil || seconds < e.TimeoutMin),
		e.TimeoutRE != "" && !regexp.MustCompile(e.TimeoutRE).MatchString(timeout):
		return fmt.Errorf("TIMEOUT %q", timeout)
	case e.SameSID != "" && r.Header.Get("SID") != p.fill(e.SameSID, p.sids):
		return fmt.Errorf("SID %q", r.Header.Get("SID"))
	}
	return nil
}

// await waits for an event: the next one, or if its number does not matter,
// one that says what is wanted. A busy machine gets more time than the vector
// grants.
func (p *player) await(s Step, l *listener) error {
	deadline := time.After(max(time.Duration(s.Within)*time.Millisecond, patience))
	last := fmt.Errorf("no event")
	for {
		select {
		case <-deadline:
			return last
		case e := <-l.events:
			last = p.compare(s, l, e)
			for name, value := range e.vars {
				l.history[name] = value
			}
			if last == nil || s.Seq != nil {
				return last
			}
		}
	}
}

// compare returns what is wrong with an event.
func (p *player) compare(s Step, l *listener, e event) error {
	if e.err != nil || e.method != "NOTIFY" {
		return fmt.Errorf("%s, %v", e.method, e.err)
	}
	for name, want := range s.Vars {
		got, ok := e.vars[name]
		if !ok || !p.matches(want, got, l.history[name]) {
			return fmt.Errorf("%s is %q, want %s", name, got, want)
		}
	}
	if s.Exact && len(e.vars) != len(s.Vars) {
		return fmt.Errorf("variables %v", e.vars)
	}
	headers := map[string]string{}
	if s.Headers != nil {
		if err := json.Unmarshal(s.Headers, &headers); err != nil {
			return err
		}
	}
	if s.Seq != nil {
		headers["SEQ"] = strconv.FormatUint(uint64(*s.Seq), 10)
	}
	if s.SID != "" {
		headers["SID"] = p.fill(s.SID, p.sids)
	}
	for name, want := range headers {
		if got := e.header.Get(name); got != want {
			return fmt.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if router := p.router(l.Host, l.IP).Addr(); e.peer != router {
		return fmt.Errorf("from %v, not %v", e.peer, router)
	}
	return nil
}

// matches reports whether a value is the wanted text, fits a pattern, or
// differs from the one before.
func (p *player) matches(want json.RawMessage, got, before string) bool {
	var text string
	if json.Unmarshal(want, &text) == nil {
		return got == p.fill(text, p.sids)
	}
	var pattern struct {
		RE      string
		Changed bool
	}
	if json.Unmarshal(want, &pattern) != nil {
		return false
	}
	return pattern.Changed && got != before || pattern.RE != "" && regexp.MustCompile(pattern.RE).MatchString(got)
}
