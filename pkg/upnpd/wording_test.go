package upnpd

import (
	"bufio"
	"bytes"
	"cmp"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
)

// wording is a request before it is put in words.
type wording struct {
	method, target, host, name, value, body string
}

// strict words a request by the letter of the standard. Another may follow it.
func (w wording) strict() string {
	return fmt.Sprintf("%s %s HTTP/1.1\r\nHost: %s\r\nConnection: keep-alive\r\n%s: %s\r\nContent-Length: %d\r\n\r\n%s",
		w.method, w.target, w.host, w.name, w.value, len(w.body), w.body)
}

// ways are other ways to word a request, a bit each.
type ways uint16

const (
	emptyLinesFirst ways = 1 << iota
	blanksInFirstLine
	otherVersion
	encodedTarget
	absoluteTarget
	targetWithFragment
	bareLineFeeds
	noHost
	namesInUpperCase
	blanksAroundValues
	fieldTwice
	zerosInNumbers
	bodyInChunks
	allWays
)

// or returns text if the way is taken, and else otherwise.
func (w ways) or(way ways, text, otherwise string) string {
	if w&way != 0 {
		return text
	}
	return otherwise
}

// lenient words the same request in other ways.
func (w wording) lenient(by ways) string {
	head := by.or(emptyLinesFirst, "\r\n\n", "") + w.firstLine(by)
	if by&noHost == 0 {
		head += field(by, "Host", w.host)
	}
	head += field(by, "Connection", "keep-alive") + field(by, w.name, w.value)
	if by&fieldTwice != 0 {
		head += field(by, w.name, w.value)
	}
	zeros := by.or(zerosInNumbers, "000", "")
	body := w.body
	if by&bodyInChunks == 0 {
		head += field(by, "Content-Length", zeros+fmt.Sprint(len(body)))
	} else {
		head += field(by, "Transfer-Encoding", "CHUNKED")
		if body != "" {
			body = fmt.Sprintf("%s%X ;x=y\r\n%s\r\n", zeros, len(body), body)
		}
		body += zeros + "0\r\nTrailer: x\r\n\r\n"
	}
	head += "\r\n"
	if by&bareLineFeeds != 0 {
		head = strings.ReplaceAll(head, "\r\n", "\n")
	}
	return head + body
}

func (w wording) firstLine(by ways) string {
	rest := w.target[1:]
	if by&encodedTarget != 0 {
		rest = ""
		for _, c := range []byte(w.target[1:]) {
			rest += fmt.Sprintf("%%%02X", c)
		}
	}
	blanks := by.or(blanksInFirstLine, " \t ", " ")
	return w.method + blanks + by.or(absoluteTarget, "hTTp://"+w.host, "") + "/" + rest + by.or(targetWithFragment, "#x?y", "") +
		blanks + by.or(otherVersion, "http/1.07", "HTTP/1.1") + by.or(blanksInFirstLine, " ", "") + "\r\n"
}

func field(by ways, name, value string) string {
	blanks := by.or(blanksAroundValues, " \t ", "")
	return by.or(namesInUpperCase, strings.ToUpper(name), name) + ":" + blanks + value + blanks + "\r\n"
}

// compare wants a request that is worded in other ways to be what it is in
// strict words, or nothing.
func (w wording) compare(t *testing.T, by ways) {
	t.Helper()
	if !strings.HasPrefix(w.target, "/") || strings.ContainsAny(w.target, "%?#") || strings.ContainsAny(w.host, "/?# \t\x00") || w.host == "" {
		return // what is respelled would mean something else
	}
	if strings.ContainsAny(w.method+w.target+w.host+w.name+w.value, "\r\n") || strings.Contains(w.name, ":") {
		return // more lines than one, or another field
	}
	switch strings.ToLower(w.name) {
	case "host", "content-length", "transfer-encoding":
		return // would stand twice
	}
	want, wantErr := read(w.strict())
	got, err := read(w.lenient(by))
	if err != nil {
		return
	}
	if wantErr != nil {
		t.Errorf("%q is read, strictly it is %v", w.lenient(by), wantErr)
		return
	}
	for _, r := range []*request{want, got} { // those that may differ: they frame the body, are longer lists, or are not there
		delete(r.fields, "connection")
		delete(r.fields, "content-length")
		delete(r.fields, "transfer-encoding")
		if by&noHost != 0 {
			delete(r.fields, "host")
		}
	}
	if by&noHost != 0 && by&absoluteTarget == 0 {
		want.host = ""
	}
	chunked := by&bodyInChunks != 0 && !want.isPost() // and even an empty body is not read
	if got.method != want.method || got.path != want.path || got.host != want.host || got.old != want.old ||
		got.close != (want.close || chunked) || !maps.Equal(got.fields, want.fields) || !bytes.Equal(got.body, want.body) {
		t.Errorf("%q is read as %+v, %q as %+v", w.lenient(by), *got, w.strict(), *want)
	}
}

var wordings = []wording{
	{"GET", "/rootDesc.xml", "192.168.50.1:5000", "User-Agent", "a b", ""},
	{"POST", "/ctl/IPConn", "192.168.50.1", "SOAPAction", `"urn:x:1#AddPortMapping"`, "<s:Envelope/>\r\n"},
	{"M-POST", "/ctl/IPConn", "[2001:db8::1]:5000", "MAN", `"http://x/"; ns=01`, strings.Repeat("x", 300)},
	{"SUBSCRIBE", "/evt/IPConn", "[fe80::1%25lan0]", "CALLBACK", "<http://192.168.50.10:80/>", ""},
	{"UNSUBSCRIBE", "//EVT//IPConn/", "evil.example", "SID", "uuid:x", "GET / HTTP/1.1\r\n\r\n"},
	{"POST", "/ctl/IPConn", "192.168.50.1", "Connection", "a,close", "x"},
	{"POST", "/ctl/IPConn", "192.168.50.1", "Expect", "100-continue", "x"},
}

// TestEachWay takes every way alone and all of them at once, and wants some
// requests read.
func TestEachWay(t *testing.T) {
	t.Parallel()
	for _, w := range wordings {
		for by := ways(1); by < allWays; by <<= 1 {
			if _, err := read(w.lenient(by)); err != nil {
				t.Errorf("%q: %v", w.lenient(by), err)
			}
			w.compare(t, by)
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 10_000 {
		wordings[random.IntN(len(wordings))].compare(t, ways(random.Uint32())%allWays)
	}
}

// FuzzSpelling demands that no other wording opens what the strict one does not.
func FuzzSpelling(f *testing.F) {
	for _, w := range wordings {
		f.Add(w.method, w.target, w.host, w.name, w.value, w.body, uint16(allWays-1))
		f.Add(w.method, w.target, w.host, w.name, w.value, w.body, uint16(0))
	}
	f.Fuzz(func(t *testing.T, method, target, host, name, value, body string, by uint16) {
		wording{method, target, host, name, value, body}.compare(t, ways(by)%allWays)
	})
}

// FuzzTwoReaders demands that Go's own reader, where it takes a text for a
// request, takes it for the same one and ends it at the same octet.
func FuzzTwoReaders(f *testing.F) {
	for _, w := range wordings {
		f.Add(w.strict() + getRoot)
		for by := ways(1); by < allWays; by <<= 1 {
			f.Add(w.lenient(by) + getRoot)
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		ours, theirs := strings.NewReader(text), strings.NewReader(text)
		b, other := bufio.NewReader(ours), bufio.NewReader(theirs)
		r, err := readRequest(b, func() error { return nil })
		if err != nil {
			return
		}
		q, err := http.ReadRequest(other)
		if err != nil {
			return
		}
		if q.Method != r.method || q.Host != r.host && !strings.ContainsAny(r.host, "@%") || cmp.Or(q.URL.Path, "/") != r.path && !strings.Contains(q.RequestURI, "#") {
			t.Errorf("we read %q, they read %s %s of %q", []string{r.method, r.path, r.host}, q.Method, q.URL.Path, q.Host)
		}
		if r.close {
			return // what follows is read by nobody
		}
		body, err := io.ReadAll(q.Body)
		if err != nil {
			return
		}
		rest, _ := io.ReadAll(b)
		otherRest, _ := io.ReadAll(other)
		if !bytes.Equal(body, r.body) || !bytes.Equal(bytes.TrimLeft(rest, "\r\n"), bytes.TrimLeft(otherRest, "\r\n")) {
			t.Errorf("we read the body %q and leave %q, they read %q and leave %q", r.body, rest, body, otherRest)
		}
	})
}
