package upnpd

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"igdd/pkg/lan"
)

// Limits of a request, in bytes and header fields; a UPnP request needs a tenth of
// them.
const (
	maxRequestLine = 2 << 10
	maxHead        = 8 << 10
	maxBody        = 64 << 10
	maxFields      = 64
)

// request is a complete HTTP request.
type request struct {
	method string
	path   string // decoded, without query
	host   string // the authority of the target, or else of Host; "" if none
	old    bool   // HTTP/1.0
	close  bool   // the connection is closed after the response
	fields map[string]string
	body   []byte
	unread bool // octets may come that are not read

	client netip.Addr // never an IPv4-mapped address
	local  netip.Addr // the router's address that the client connected to
	device string     // the LAN interface of the connection
	from   lan.Host   // the client
}

// field returns the value of a header field, named in lower case.
func (r *request) field(name string) string { return r.fields[name] }

// httpError is the status of an invalid request; the connection is closed after the
// response.
type httpError int

func (e httpError) Error() string { return "http status " + strconv.Itoa(int(e)) }

// readRequest reads one request from b. proceed is called before the body of
// a request that expects "100-continue". An httpError calls for a response with that
// status; after any other error the connection is closed without one.
func readRequest(b *bufio.Reader, proceed func() error) (*request, error) {
	if err := awaitRequest(b); err != nil {
		return nil, err
	}
	head := headReader{b: b, left: maxHead}
	r, err := readRequestLine(&head)
	if err != nil {
		return nil, err
	}
	if err := r.readFields(&head); err != nil {
		return nil, err
	}
	r.parseConnection()
	readBody, err := r.bodyReader()
	if err != nil || readBody == nil {
		return r, err
	}
	if err := r.expect(proceed); err != nil {
		return nil, err
	}
	return r, readBody(b)
}

// awaitRequest waits for the first octet of a request. It skips line ends, blanks and NUL
// octets, which some clients send after a body (RFC 9112, section 2.2).
func awaitRequest(b *bufio.Reader) error {
	for range maxHead {
		next, err := b.Peek(1)
		if err != nil || strings.IndexByte("\r\n \t\x00", next[0]) < 0 {
			return err
		}
		b.Discard(1)
	}
	return httpError(400)
}

// headReader reads the lines of a request's head, up to a total length.
type headReader struct {
	b    *bufio.Reader
	left int
}

// line returns the next line without its end, CRLF or LF. A line longer than
// most, or a head over its limit, gives tooLong. A CR elsewhere is
// refused: another parser could take it for a line end (RFC 9112, section 2.2).
func (h *headReader) line(most int, tooLong httpError) (string, error) {
	var line []byte
	for {
		part, err := h.b.ReadSlice('\n')
		line = append(line, part...)
		if h.left -= len(part); h.left < 0 || len(line) > most {
			return "", tooLong
		}
		switch {
		case err == nil:
			line = bytes.TrimSuffix(line[:len(line)-1], []byte("\r"))
			if bytes.IndexByte(line, '\r') >= 0 {
				return "", httpError(400)
			}
			return string(line), nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return "", err
		}
	}
}

// readRequestLine reads the first line: three words separated by blanks.
func readRequestLine(h *headReader) (*request, error) {
	line, err := h.line(maxRequestLine, 414)
	if err != nil {
		return nil, err
	}
	words := strings.FieldsFunc(line, isBlank)
	if len(words) != 3 || !isToken(words[0]) {
		return nil, httpError(400)
	}
	r := &request{method: words[0], fields: make(map[string]string)}
	if err := r.setVersion(words[2]); err != nil {
		return nil, err
	}
	return r, r.setTarget(words[1])
}

// setVersion reads the protocol version. A minor version above 1
// counts as 1 (RFC 9110, section 2.5).
func (r *request) setVersion(version string) error {
	name, number, _ := strings.Cut(version, "/")
	major, minor, _ := strings.Cut(number, ".")
	switch {
	case !strings.EqualFold(name, "HTTP"), !isNumber(major), minor != "" && !isNumber(minor):
		return httpError(400)
	case major != "1":
		return httpError(505)
	}
	r.old = strings.Trim(minor, "0") == ""
	return nil
}

// setTarget reads the request target in origin or absolute form. A query
// is ignored, and so is a fragment, which does not belong there.
func (r *request) setTarget(target string) error {
	if strings.ContainsFunc(target, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		return httpError(400)
	}
	path := target
	const scheme = "http://"
	if len(target) >= len(scheme) && strings.EqualFold(target[:len(scheme)], scheme) {
		r.host, path = cutBefore(target[len(scheme):], "/?#")
		if r.host == "" {
			return httpError(400)
		}
		path = "/" + strings.TrimPrefix(path, "/")
	}
	path, _ = cutBefore(path, "?#")
	decoded, ok := percentDecode(path)
	if !ok || !strings.HasPrefix(decoded, "/") && target != "*" {
		return httpError(400)
	}
	r.path = decoded
	return nil
}

// cutBefore splits s before the first of the characters, if it has one.
func cutBefore(s, characters string) (before, rest string) {
	if i := strings.IndexAny(s, characters); i >= 0 {
		return s[:i], s[i:]
	}
	return s, ""
}

// percentDecode resolves %XX in a path. Control characters are refused.
func percentDecode(s string) (string, bool) {
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '%' {
			if i+2 >= len(s) {
				return "", false
			}
			n, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
			if err != nil {
				return "", false
			}
			c, i = byte(n), i+2
		}
		if c <= ' ' || c == 0x7f {
			return "", false
		}
		out.WriteByte(c)
	}
	return out.String(), true
}

// readFields reads the header fields. Folded lines are refused: two parsers could
// read them differently.
func (r *request) readFields(h *headReader) error {
	for n := 0; ; n++ {
		line, err := h.line(maxHead, 431)
		switch {
		case err != nil:
			return err
		case line == "":
			return nil
		case n == maxFields:
			return httpError(431)
		}
		name, value, ok := strings.Cut(line, ":")
		value = strings.Trim(value, " \t")
		if !ok || !isToken(name) || strings.IndexByte(value, 0) >= 0 {
			return httpError(400)
		}
		if err := r.addField(strings.ToLower(name), value); err != nil {
			return err
		}
	}
}

// addField adds a field. A repeated field is a list in two parts (RFC 9110, section
// 5.3). Fields that frame or address the request must not be repeated, and those of
// UPnP only with the same value: two parsers could use either.
func (r *request) addField(name, value string) error {
	before, again := r.fields[name]
	switch {
	case !again:
	case name == "content-length", name == "transfer-encoding", name == "host":
		return httpError(400)
	case value == before:
		return nil
	case isSingle(name):
		return httpError(400)
	default:
		value = before + ", " + value
	}
	r.fields[name] = value
	return nil
}

// isSingle reports whether a field of UPnP has a single value, not a list.
func isSingle(name string) bool {
	switch name {
	case "man", "sid", "callback", "nt", "timeout":
		return true
	}
	return strings.HasSuffix(name, "soapaction")
}

func isBlank(c rune) bool { return c == ' ' || c == '\t' }

// isNumber reports whether s consists of digits.
func isNumber(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// isToken reports whether s is a token (RFC 9110, section 5.6.2).
func isToken(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0:
		default:
			return false
		}
	}
	return s != ""
}

// parseConnection sets host and close. Only clients that ask for it keep the
// connection, in HTTP/1.1 too (RFC 9112, section 9.3): many programs read a response
// to the end of the connection without asking for that.
func (r *request) parseConnection() {
	if r.host == "" {
		r.host = r.field("host")
	}
	connection := members(r.field("connection"))
	r.close = slices.Contains(connection, "close") || !slices.Contains(connection, "keep-alive")
}

// members returns the members of a comma-separated list, in lower case.
func members(list string) []string {
	return strings.FieldsFunc(strings.ToLower(list), func(c rune) bool { return c == ',' || isBlank(c) })
}

// expect calls proceed for a client that waits for a 100 (Continue) response.
func (r *request) expect(proceed func() error) error {
	expected := members(r.field("expect"))
	switch {
	case r.old || len(expected) == 0:
		return nil
	case slices.ContainsFunc(expected, func(e string) bool { return e != "100-continue" }):
		return httpError(417)
	}
	return proceed()
}

// bodyReader returns the function that reads the body, nil for none. Anything that
// two parsers could frame differently is refused (RFC 9112, section 6.3). Only a POST
// needs its body: the response to any other request does not wait for it, and the
// connection is closed, so that the body is not taken for a request.
func (r *request) bodyReader() (func(*bufio.Reader) error, error) {
	length, sized := r.fields["content-length"]
	coding, coded := r.fields["transfer-encoding"]
	switch {
	case coded && (sized || r.old), sized && !isNumber(length):
		return nil, httpError(400)
	case coded && !strings.EqualFold(coding, "chunked"):
		return nil, httpError(501)
	case !r.isPost():
		r.unread = coded || strings.Trim(length, "0") != ""
		r.close = r.close || r.unread
		return nil, nil
	case coded:
		return r.readChunks, nil
	case sized:
		n, err := bodyLength(length)
		return func(b *bufio.Reader) error { return r.readLength(b, n) }, err
	case r.old:
		return r.readToEnd, nil
	}
	return nil, httpError(411)
}

// mayBeUnread reports whether octets may come behind a request. Clients of HTTP/1.0 send
// line ends that do not count.
func (r *request) mayBeUnread() bool { return r.unread || r.old }

// isPost reports whether the request is a POST, whose body is read.
func (r *request) isPost() bool { return r.method == "POST" || r.method == "M-POST" }

// bodyLength parses a length of at most maxBody.
func bodyLength(digits string) (int, error) {
	if n, err := strconv.Atoi(digits); err == nil && n <= maxBody {
		return n, nil
	}
	return 0, httpError(413)
}

// readLength appends n octets to the body. What has not arrived takes up to as much
// memory as what has, however long the body is said to be.
func (r *request) readLength(b *bufio.Reader, n int) error {
	const begin = 1 << 10
	for n > 0 {
		start, part := len(r.body), min(n, max(len(r.body), begin))
		r.body = slices.Grow(r.body, part)[:start+part]
		if _, err := io.ReadFull(b, r.body[start:]); err != nil {
			return err
		}
		n -= part
	}
	return nil
}

// readToEnd reads the body of an HTTP/1.0 request without a length.
func (r *request) readToEnd(b *bufio.Reader) error {
	r.close = true
	var err error
	if r.body, err = io.ReadAll(io.LimitReader(b, maxBody+1)); len(r.body) > maxBody {
		return httpError(413)
	}
	return err
}

// readChunks reads a chunked body; extensions and trailers are ignored.
func (r *request) readChunks(b *bufio.Reader) error {
	h := &headReader{b: b, left: maxHead}
	for {
		line, err := h.line(maxRequestLine, 400)
		if err != nil {
			return err
		}
		size, _, _ := strings.Cut(line, ";")
		n, err := strconv.ParseUint(strings.TrimRight(size, " \t"), 16, 31)
		if err != nil {
			return httpError(400)
		}
		if n == 0 {
			break
		}
		if len(r.body)+int(n) > maxBody {
			return httpError(413)
		}
		if err := r.readLength(b, int(n)); err != nil {
			return err
		}
		if end, err := h.line(2, 400); err != nil || end != "" {
			return httpError(400)
		}
	}
	for { // trailers
		if line, err := h.line(maxHead, 431); err != nil || line == "" {
			return err
		}
	}
}
