package soap

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Document is a request for a document and what must come back.
type Document struct {
	ID, Level, Title string
	Config, Caller   string
	Request          string
	IP               int
	Expect           struct {
		HTTP           int
		HTTPAny        []int             `json:"http_any"`
		ContentType    string            `json:"content_type"`
		WellFormed     bool              `json:"well_formed"`
		Present        []string          `json:"headers_present"`
		Absent         []string          `json:"headers_absent"`
		HeaderRE       map[string]string `json:"header_re"`
		BodyEmpty      bool              `json:"body_empty"`
		Closed         bool              `json:"connection_closed"`
		MaxBytes       int               `json:"max_bytes"`
		Devices        []string          `json:"device_types"`
		Services       []string
		Required       []string  `json:"services_required"`
		SpecVersion    []string  `json:"spec_version"`
		ElementsAbsent []string  `json:"elements_absent"`
		DeviceOrder    []string  `json:"device_child_order"`
		ServiceOrder   []string  `json:"service_child_order"`
		DistinctUDN    bool      `json:"udn_distinct"`
		DistinctURLs   bool      `json:"urls_distinct"`
		MaxURL         int       `json:"url_max"`
		Presentation   []*string `json:"presentation_host_any"`
		SCPD           string
	}
}

// Play fetches the document and compares it.
func (d Document) Play(t testing.TB, g *Gateway, services []Service) {
	t.Helper()
	p, err := newPlayer(g)
	if err != nil {
		t.Fatal(err)
	}
	method, _, _ := strings.Cut(d.Request, " ")
	a, err := g.send(d.Caller, g.router(d.Caller, d.IP), 0, method, []byte(p.request(d)))
	if err != nil {
		t.Fatal(err)
	}
	differences := d.judgeHead(a)
	switch e := d.Expect; {
	case e.WellFormed && a.root == nil:
		differences = append(differences, "not well-formed")
	case e.SCPD != "":
		for _, s := range services {
			if strings.HasSuffix(s.Type, ":"+e.SCPD) {
				differences = append(differences, s.judge(a.root)...)
			}
		}
	case e.WellFormed:
		differences = append(differences, p.judgeDescription(d, a.root)...)
	}
	for _, difference := range differences {
		t.Errorf("%s %s: %s", d.ID, d.Title, difference)
	}
}

var (
	urlToken = regexp.MustCompile(`\{(scpd|control|event):(\w+)\}`)
	padToken = regexp.MustCompile(`\{pad:(\d+)\}`)
)

// request fills in what the request leaves open.
func (p *player) request(d Document) string {
	text := urlToken.ReplaceAllStringFunc(d.Request, func(token string) string {
		part := urlToken.FindStringSubmatch(token)
		s := p.urls[part[2]]
		return map[string]string{"scpd": s.scpd, "control": s.control, "event": s.event}[part[1]]
	})
	text = padToken.ReplaceAllStringFunc(text, func(token string) string {
		n, _ := strconv.Atoi(padToken.FindStringSubmatch(token)[1])
		return strings.Repeat("a", n)
	})
	path := p.Description
	letter := strings.LastIndexFunc(path, func(r rune) bool { return r >= 'a' && r <= 'z' })
	return p.fill(text, map[string]string{
		"gw": p.router(d.Caller, 4), "port": strconv.Itoa(int(p.Port)), "desc": path,
		"desc_percent": fmt.Sprintf("%s%%%02X%s", path[:letter], path[letter], path[letter+1:]),
	})
}

// judgeHead returns what is wrong with the head and the length.
func (d Document) judgeHead(a Answer) (differences []string) {
	e := d.Expect
	complain := func(format string, args ...any) {
		differences = append(differences, fmt.Sprintf(format, args...))
	}
	if e.HTTPAny == nil {
		e.HTTPAny = []int{e.HTTP}
	}
	if !slices.Contains(e.HTTPAny, a.Status) {
		complain("status %d, want %v", a.Status, e.HTTPAny)
	}
	for _, name := range e.Present {
		if a.Header.Get(name) == "" {
			complain("no field %s", name)
		}
	}
	for _, name := range e.Absent {
		if a.Header.Values(name) != nil {
			complain("a field %s", name)
		}
	}
	for name, re := range e.HeaderRE {
		for _, value := range a.Header.Values(name) {
			if !regexp.MustCompile(re).MatchString(value) {
				complain("%s: %s", name, value)
			}
		}
	}
	if got := a.Header.Get("Content-Type"); e.ContentType != "" && got != e.ContentType {
		complain("content type %s", got)
	}
	if e.MaxBytes != 0 && len(a.Body) > e.MaxBytes {
		complain("%d octets", len(a.Body))
	}
	if e.BodyEmpty && len(a.Body) > 0 {
		complain("a body")
	}
	if e.Closed && !a.Closed {
		complain("the connection stays open")
	}
	return differences
}

// judgeDescription returns what is wrong with a device description.
func (p *player) judgeDescription(d Document, root *node) (differences []string) {
	e := d.Expect
	complain := func(format string, args ...any) {
		differences = append(differences, fmt.Sprintf(format, args...))
	}
	if devices := tails(root, "deviceType"); e.Devices != nil && !slices.Equal(devices, e.Devices) {
		complain("devices %v", devices)
	}
	services := tails(root, "serviceType")
	if e.Services != nil {
		if slices.Sort(services); !slices.Equal(services, slices.Sorted(slices.Values(e.Services))) {
			complain("services %v", services)
		}
	}
	for _, s := range e.Required {
		if !slices.Contains(services, s) {
			complain("no service %s", s)
		}
	}
	version := root.child("specVersion")
	if v := version.child("major").text() + "." + version.child("minor").text(); e.SpecVersion != nil &&
		(!slices.Contains(e.SpecVersion, v) || root.Children[0] != version) {
		complain("specVersion %s", v)
	}
	for _, name := range e.ElementsAbsent {
		root.all(name, func(*node) { complain("an element %s", name) })
	}
	for name, order := range map[string][]string{"device": e.DeviceOrder, "service": e.ServiceOrder} {
		if order != nil {
			root.all(name, func(n *node) {
				if !ordered(n, order) {
					complain("order in %s", name)
				}
			})
		}
	}
	if udns := texts(root, "UDN"); e.DistinctUDN && repeated(udns) {
		complain("UDNs %v", udns)
	}
	return append(differences, p.judgeURLs(d, root)...)
}

// judgeURLs returns what is wrong with the URLs of a description.
func (p *player) judgeURLs(d Document, root *node) (differences []string) {
	e := d.Expect
	for _, name := range []string{"SCPDURL", "controlURL", "eventSubURL"} {
		urls := texts(root, name)
		if e.DistinctURLs && name != "SCPDURL" && repeated(urls) {
			differences = append(differences, fmt.Sprintf("%s %v", name, urls))
		}
		for _, u := range urls {
			full := fmt.Sprintf("http://%s:%d%s", p.router(d.Caller, 4), p.Port, u)
			if e.MaxURL != 0 && (len(full) > e.MaxURL || !strings.HasPrefix(u, "/")) {
				differences = append(differences, "URL "+u)
			}
		}
	}
	if e.Presentation != nil {
		var host *string
		for _, text := range texts(root, "presentationURL") {
			if u, err := url.Parse(text); err == nil {
				name := u.Hostname()
				host = &name
			}
		}
		if !slices.ContainsFunc(e.Presentation, func(want *string) bool {
			return want == nil && host == nil || want != nil && host != nil && p.fill(*want, nil) == *host
		}) {
			differences = append(differences, "presentationURL leads elsewhere")
		}
	}
	return differences
}

// texts returns the texts of all elements of a name.
func texts(root *node, name string) (list []string) {
	root.all(name, func(n *node) { list = append(list, n.Text) })
	return list
}

// tails returns name and version of all types.
func tails(root *node, name string) (list []string) {
	for _, text := range texts(root, name) {
		parts := strings.Split(text, ":")
		list = append(list, strings.Join(parts[max(0, len(parts)-2):], ":"))
	}
	return list
}

func repeated(list []string) bool {
	list = slices.Sorted(slices.Values(list))
	return len(slices.Compact(list)) != len(list)
}

// ordered reports whether the children are among these, in this order.
func ordered(n *node, order []string) bool {
	last := -1
	for _, c := range n.Children {
		i := slices.Index(order, c.XMLName.Local)
		if i <= last {
			return false
		}
		last = i
	}
	return true
}

// judge returns what is wrong with a service description.
func (s Service) judge(root *node) (differences []string) {
	complain := func(format string, args ...any) {
		differences = append(differences, fmt.Sprintf(format, args...))
	}
	actions := make(map[string][][3]string)
	root.all("action", func(n *node) {
		var args [][3]string
		n.all("argument", func(a *node) {
			args = append(args, [3]string{a.child("direction").text(), a.child("name").text(), a.child("relatedStateVariable").text()})
		})
		actions[n.child("name").text()] = args
	})
	for _, want := range s.Actions {
		if args, ok := actions[want.Name]; !ok && want.Required {
			complain("no action %s", want.Name)
		} else if ok && !slices.Equal(args, want.Args) {
			complain("arguments of %s: %v", want.Name, args)
		}
		delete(actions, want.Name)
	}
	for name := range actions {
		complain("action %s is not the standard's", name)
	}
	variables := make(map[string]*node)
	root.all("stateVariable", func(n *node) { variables[n.child("name").text()] = n })
	for _, want := range s.Variables {
		v, ok := variables[want.Name]
		switch {
		case !ok && want.Required:
			complain("no variable %s", want.Name)
		case ok && (v.child("dataType").text() != want.Type || (v.Attrs[0].Value == "yes") != want.Evented):
			complain("variable %s is %s, evented %s", want.Name, v.child("dataType").text(), v.Attrs[0].Value)
		}
		delete(variables, want.Name)
	}
	for name := range variables {
		complain("variable %s is not the standard's", name)
	}
	return differences
}
