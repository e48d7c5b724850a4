package upnpd

import (
	"bufio"
	"errors"
	"strings"
	"testing"
)

func read(text string) (*request, error) {
	return readRequest(bufio.NewReaderSize(strings.NewReader(text), 64), func() error { return nil })
}

func TestReadRequest(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, text string
		want       request
	}{
		{"plain", "GET /desc HTTP/1.1\r\nHost: 192.168.50.1:5000\r\n\r\n",
			request{method: "GET", path: "/desc", host: "192.168.50.1:5000", close: true}},
		{"bare line feeds", "GET /desc HTTP/1.1\nhOST:192.168.50.1\n\n",
			request{method: "GET", path: "/desc", host: "192.168.50.1", close: true}},
		{"empty lines first", "\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
			request{method: "GET", path: "/", host: "x", close: true}},
		{"blanks and a NUL first", "\x00 \t\r\n GET / HTTP/1.1\r\n\r\n",
			request{method: "GET", path: "/", close: true}},
		{"old, without host", "GET / HTTP/1.0\r\n\r\n",
			request{method: "GET", path: "/", old: true, close: true}},
		{"absolute target", "GET http://192.168.50.1:5000/desc?a=b HTTP/1.1\r\nHost: other\r\n\r\n",
			request{method: "GET", path: "/desc", host: "192.168.50.1:5000", close: true}},
		{"percent", "GET /%64esc HTTP/1.1\r\nHost: x\r\n\r\n",
			request{method: "GET", path: "/desc", host: "x", close: true}},
		{"close", "GET / HTTP/1.1\r\nHost: x\r\nConnection: foo, Close\r\n\r\n",
			request{method: "GET", path: "/", host: "x", close: true}},
		{"length", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcd",
			request{method: "POST", path: "/", host: "x", close: true, body: []byte("abc")}},
		{"old, kept alive", "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n",
			request{method: "GET", path: "/", old: true}},
		{"new, without host", "GET / HTTP/1.1\r\n\r\n",
			request{method: "GET", path: "/", close: true}},
		{"chunks", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nab\r\n1\r\nc\r\n0\r\nTrailer: z\r\n\r\n",
			request{method: "POST", path: "/", host: "x", close: true, body: []byte("abc")}},
		{"old, to the end", "POST / HTTP/1.0\r\n\r\nabc",
			request{method: "POST", path: "/", old: true, close: true, body: []byte("abc")}},
		{"many blanks", " \tGET   /desc\t \tHTTP/1.1 \t \r\n\r\n",
			request{method: "GET", path: "/desc", close: true}},
		{"version in lower case", "GET /desc http/1.1\r\n\r\n",
			request{method: "GET", path: "/desc", close: true}},
		{"version 1.2", "GET /desc HTTP/1.2\r\n\r\n",
			request{method: "GET", path: "/desc", close: true}},
		{"version 1.10", "GET /desc HTTP/1.10\r\n\r\n",
			request{method: "GET", path: "/desc", close: true}},
		{"version 1", "GET /desc HTTP/1\r\n\r\n",
			request{method: "GET", path: "/desc", old: true, close: true}},
		{"fragment", "GET /desc#part?a HTTP/1.1\r\n\r\n",
			request{method: "GET", path: "/desc", close: true}},
		{"query that is no text", "GET /desc?%zz HTTP/1.1\r\n\r\n",
			request{method: "GET", path: "/desc", close: true}},
		{"absolute target in upper case", "GET HTTP://X:5000/Desc HTTP/1.1\r\n\r\n",
			request{method: "GET", path: "/Desc", host: "X:5000", close: true}},
		{"absolute target without path", "GET http://x?a=/b HTTP/1.1\r\n\r\n",
			request{method: "GET", path: "/", host: "x", close: true}},
		{"control characters that mean nothing", "GET / HTTP/1.1\r\nUser-Agent: a\x01\x7fb\r\n\r\n",
			request{method: "GET", path: "/", close: true}},
		{"close in the second of two lists", "GET / HTTP/1.1\r\nConnection: a, keep-alive\r\nConnection: close\r\n\r\n",
			request{method: "GET", path: "/", close: true}},
		{"close in the first of two lists", "GET / HTTP/1.1\r\nConnection: Close\r\nConnection: TE\r\n\r\n",
			request{method: "GET", path: "/", close: true}},
		{"old, kept alive by the second of two lists", "GET / HTTP/1.0\r\nConnection: TE\r\nConnection: Keep-Alive\r\n\r\n",
			request{method: "GET", path: "/", old: true}},
		{"expected twice", "POST / HTTP/1.1\r\nExpect: 100-continue\r\nExpect: 100-Continue,\r\nContent-Length: 1\r\n\r\na",
			request{method: "POST", path: "/", close: true, body: []byte("a")}},
		{"expected by an old one", "POST / HTTP/1.0\r\nExpect: magic\r\nContent-Length: 1\r\n\r\na",
			request{method: "POST", path: "/", old: true, close: true, body: []byte("a")}},
		{"length with zeros in front", "POST / HTTP/1.1\r\nContent-Length:\t0003 \r\n\r\nabc",
			request{method: "POST", path: "/", close: true, body: []byte("abc")}},
		{"sizes of chunks with zeros and in upper case", "POST / HTTP/1.1\r\nTransfer-Encoding:  Chunked \r\n\r\n00A ;x\nabcdefghij\n00\n\n",
			request{method: "POST", path: "/", close: true, body: []byte("abcdefghij")}},
		{"the same action twice", "POST / HTTP/1.1\r\nSOAPAction: \"a#b\"\r\nSoapAction:\"a#b\"\r\nContent-Length: 0\r\n\r\n",
			request{method: "POST", path: "/", close: true}},

		{"GET with a length", "GET / HTTP/1.1\r\nContent-Length: 4\r\n\r\n",
			request{method: "GET", path: "/", close: true}},
		{"GET with the length of nothing", "GET / HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
			request{method: "GET", path: "/", close: true}},
		{"GET with a length past every limit", "GET / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
			request{method: "GET", path: "/", close: true}},
		{"GET that expects something", "GET / HTTP/1.1\r\nContent-Length: 4\r\nExpect: magic\r\n\r\n",
			request{method: "GET", path: "/", close: true}},
		{"old GET with a length, kept alive", "GET / HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 4\r\n\r\nbody",
			request{method: "GET", path: "/", old: true, close: true}},
		{"HEAD with chunks", "HEAD / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
			request{method: "HEAD", path: "/", close: true}},
		{"SUBSCRIBE with a body", "SUBSCRIBE / HTTP/1.1\r\nContent-Length: 2\r\n\r\n\r\n",
			request{method: "SUBSCRIBE", path: "/", close: true}},
		{"UNSUBSCRIBE with a length", "UNSUBSCRIBE / HTTP/1.1\r\nContent-Length: 1\r\n\r\n",
			request{method: "UNSUBSCRIBE", path: "/", close: true}},
		{"what is not served, with a length", "PUT / HTTP/1.1\r\nContent-Length: 70000\r\n\r\n",
			request{method: "PUT", path: "/", close: true}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := read(tt.text)
			if err != nil {
				t.Fatal(err)
			}
			if r.method != tt.want.method || r.path != tt.want.path || r.host != tt.want.host ||
				r.old != tt.want.old || r.close != tt.want.close || string(r.body) != string(tt.want.body) {
				t.Errorf("got %+v, want %+v", *r, tt.want)
			}
		})
	}
}

func TestReadRequestRefuses(t *testing.T) {
	t.Parallel()
	post := "POST / HTTP/1.1\r\nHost: x\r\n"
	tests := []struct {
		name, text string
		status     int
	}{
		{"no version", "GET /\r\n\r\n", 400},
		{"other version", "GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505},
		{"other version without a minor one", "GET / HTTP/3\r\nHost: x\r\n\r\n", 505},
		{"older version", "GET / HTTP/0.9\r\n\r\n", 505},
		{"preface of another version", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505},
		{"signed version", "GET / HTTP/1.-1\r\nHost: x\r\n\r\n", 400},
		{"version that is no number", "GET / HTTP/1.1x\r\nHost: x\r\n\r\n", 400},
		{"version of nothing", "GET / HTTP/\r\nHost: x\r\n\r\n", 400},
		{"other protocol", "GET / RTSP/1.1\r\nHost: x\r\n\r\n", 400},
		{"blank in the target", "GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", 400},
		{"line ends alone", strings.Repeat("\r\n", maxHead), 400},
		{"vertical tab between words", "GET\v/ HTTP/1.1\r\nHost: x\r\n\r\n", 400},
		{"CR between words", "GET\r/ HTTP/1.1\r\nHost: x\r\n\r\n", 400},
		{"CR before the end of a line", "GET / HTTP/1.1\r\r\nHost: x\r\n\r\n", 400},
		{"CR in a value", "GET / HTTP/1.1\r\nHost: x\rX: y\r\n\r\n", 400},
		{"CR in the empty line", "GET / HTTP/1.1\r\nHost: x\r\n\r\r\n", 400},
		{"control character in a query", "GET /?\x01 HTTP/1.1\r\nHost: x\r\n\r\n", 400},
		{"NUL in an authority", "GET http://x\x00/ HTTP/1.1\r\n\r\n", 400},
		{"no authority in an absolute target", "GET http:///desc HTTP/1.1\r\nHost: x\r\n\r\n", 400},
		{"absolute target of another scheme", "GET https://x/desc HTTP/1.1\r\nHost: x\r\n\r\n", 400},
		{"the same host twice", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400},
		{"field without a colon", "GET / HTTP/1.1\r\nHost\r\n\r\n", 400},
		{"field without a name", "GET / HTTP/1.1\r\n: x\r\n\r\n", 400},
		{"field with a blank in its name", "GET / HTTP/1.1\r\nContent Length: 1\r\n\r\n", 400},
		{"folded first field", "GET / HTTP/1.1\r\n Host: x\r\n\r\n", 400},
		{"two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400},
		{"relative target", "GET desc HTTP/1.1\r\nHost: x\r\n\r\n", 400},
		{"encoded line break", "GET /%0d%0a HTTP/1.1\r\nHost: x\r\n\r\n", 400},
		{"half a percent", "GET /%6 HTTP/1.1\r\nHost: x\r\n\r\n", 400},
		{"folded field", "GET / HTTP/1.1\r\nHost: x\r\n y\r\n\r\n", 400},
		{"blank before the colon", "GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400},
		{"NUL in a value", "GET / HTTP/1.1\r\nHost: x\x00\r\n\r\n", 400},
		{"long request line", "GET /" + strings.Repeat("a", 3000) + " HTTP/1.1\r\n\r\n", 414},
		{"long head", "GET / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("a", 9000) + "\r\n\r\n", 431},
		{"many fields", "GET / HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("X: y\r\n", 70) + "\r\n", 431},
		{"no length", post + "\r\n", 411},
		{"no length, M-POST", "M-" + post + "\r\n", 411},
		{"the same length twice", post + "Content-Length: 1\r\nContent-Length: 1\r\n\r\na", 400},
		{"two lengths", post + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400},
		{"signed length", post + "Content-Length: +1\r\n\r\na", 400},
		{"negative length", post + "Content-Length: -1\r\n\r\na", 400},
		{"hex length", post + "Content-Length: 0x1\r\n\r\na", 400},
		{"empty length", post + "Content-Length:\r\n\r\na", 400},
		{"list of lengths", post + "Content-Length: 1, 1\r\n\r\na", 400},
		{"large body", post + "Content-Length: 65537\r\n\r\n", 413},
		{"length past int64", post + "Content-Length: 99999999999999999999\r\n\r\n", 413},
		{"length with more behind", post + "Content-Length: 1a\r\n\r\na", 400},
		{"two actions", post + "SOAPACTION: a#b\r\nSOAPACTION: a#c\r\nContent-Length: 0\r\n\r\n", 400},
		{"two actions of M-POST", "M-" + post + "01-SOAPACTION: a#b\r\n01-SOAPACTION: a#c\r\nContent-Length: 0\r\n\r\n", 400},
		{"two subscriptions", "UNSUBSCRIBE / HTTP/1.1\r\nSID: uuid:1\r\nSID: uuid:2\r\n\r\n", 400},
		{"GET with two lengths", "GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400},
		{"GET with a signed length", "GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400},
		{"GET with length and chunks", "GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
		{"GET with an unknown coding", "GET / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 501},
		{"chunks of chunks", post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
		{"listed chunks of chunks", post + "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 501},
		{"coding of nothing", post + "Transfer-Encoding:\r\nContent-Length: 1\r\n\r\na", 400},
		{"CR in a chunk's extension", post + "Transfer-Encoding: chunked\r\n\r\n1;a\rb\r\na\r\n0\r\n\r\n", 400},
		{"blank before a chunk's size", post + "Transfer-Encoding: chunked\r\n\r\n 1\r\na\r\n0\r\n\r\n", 400},
		{"length and chunks", post + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
		{"unknown coding", post + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501},
		{"two codings", post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n", 400},
		{"chunks in HTTP/1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
		{"bad chunk", post + "Transfer-Encoding: chunked\r\n\r\nxyz\r\n", 400},
		{"negative chunk", post + "Transfer-Encoding: chunked\r\n\r\n-1\r\n", 400},
		{"signed chunk", post + "Transfer-Encoding: chunked\r\n\r\n+5\r\nabcde\r\n0\r\n\r\n", 400},
		{"signed last chunk", post + "Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n+0\r\n\r\n", 400},
		{"tab before a chunk's size", post + "Transfer-Encoding: chunked\r\n\r\n\t5\r\nabcde\r\n0\r\n\r\n", 400},
		{"blank in a chunk's size", post + "Transfer-Encoding: chunked\r\n\r\n0 5\r\nabcde\r\n0\r\n\r\n", 400},
		{"blank for a chunk's size", post + "Transfer-Encoding: chunked\r\n\r\n \r\n\r\n", 400},
		{"no size of a chunk", post + "Transfer-Encoding: chunked\r\n\r\n;x=y\r\n\r\n", 400},
		{"chunk size in C", post + "Transfer-Encoding: chunked\r\n\r\n0x5\r\nabcde\r\n0\r\n\r\n", 400},
		{"chunk longer than said", post + "Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n", 400},
		{"huge chunk", post + "Transfer-Encoding: chunked\r\n\r\n7fffffff\r\n", 413},
		{"other expectation", post + "Expect: magic\r\nContent-Length: 0\r\n\r\n", 417},
		{"two expectations", post + "Expect: 100-continue\r\nExpect: magic\r\nContent-Length: 0\r\n\r\n", 417},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := read(tt.text)
			var got httpError
			if !errors.As(err, &got) || int(got) != tt.status {
				t.Errorf("got %v, want status %d", err, tt.status)
			}
		})
	}
}

// TestLists joins what stands in two lines, and notes once what says the same.
func TestLists(t *testing.T) {
	t.Parallel()
	r, err := read("GET / HTTP/1.1\r\nX-List: a\r\nx-list:b, c\r\nUser-Agent: x\r\nUSER-AGENT: x\r\nX-List: b, c\r\n\r\n")
	if err != nil {
		t.Fatal(err)
	}
	if list, agent := r.field("x-list"), r.field("user-agent"); list != "a, b, c, b, c" || agent != "x" {
		t.Errorf("list %q, agent %q", list, agent)
	}
}

func FuzzReadRequest(f *testing.F) {
	f.Add("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n")
	f.Add("GET http://h/%41?b HTTP/1.0\n\n")
	f.Add("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := read(text)
		if err != nil {
			return
		}
		if len(r.body) > maxBody || len(r.fields) > maxFields || strings.ContainsAny(r.path, "\r\n\x00 ") {
			t.Errorf("request over its limits: %d octets of body, %d fields, path %q", len(r.body), len(r.fields), r.path)
		}
	})
}
