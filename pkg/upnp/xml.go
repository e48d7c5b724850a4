package upnp

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Limits of a document. A SOAP message needs a tenth of them, the description of a
// gateway with many connections up to half.
const (
	maxDepth      = 32
	maxElements   = 256  // of a message
	maxDescribed  = 1024 // elements of a description
	maxAttributes = 128  // namespace declarations included
)

// errMalformed is a document that is not XML, has a document type, or exceeds the
// limits.
var errMalformed = errors.New("upnp: no well-formed XML document within the limits")

// element is an XML element.
type element struct {
	space, local string // name: namespace, "" if none is declared, and local part
	attributes   []attribute
	text         string // its own character data
	children     []*element
}

type attribute struct{ space, local, value string }

// named returns the children of that name, in any namespace and case.
func (e *element) named(local string) (list []*element) {
	for _, c := range e.children {
		if strings.EqualFold(c.local, local) {
			list = append(list, c)
		}
	}
	return list
}

// parser parses XML 1.0 with namespaces, and tolerates what clients send: undeclared
// prefixes, an end tag with another name, an ampersand that begins no reference, and
// text after the root. It supports no document types, and so only the five predefined
// entities: a document cannot expand.
type parser struct {
	rest                        string
	most                        int // elements
	depth, elements, attributes int
	bindings                    []attribute // namespace prefixes in scope, innermost last
}

// parseXML returns the root of a message.
func parseXML(message []byte) (*element, error) { return parseDocument(message, maxElements) }

// parseDocument returns the root of a document that has at most so many elements.
func parseDocument(document []byte, most int) (*element, error) {
	text, ok := characters(strings.TrimRight(string(document), blanks+"\x00")) // C programs include the NUL after a string
	if !ok {
		return nil, errMalformed
	}
	p := parser{rest: strings.TrimLeft(text, blanks+"\ufeff"), most: most}
	if err := p.prolog(); err != nil {
		return nil, err
	}
	root, err := p.element()
	if err != nil {
		return nil, err
	}
	if err := p.prolog(); err != nil {
		return nil, err
	}
	return root, p.remainder()
}

// remainder skips text after the root, where scripts leave a quote of their own. It
// must not have markup, so that parsers cannot differ about the root.
func (p *parser) remainder() error {
	if strings.Contains(p.rest, "<") || strings.Contains(p.rest, "]]>") {
		return errMalformed
	}
	_, err := decode(p.rest)
	return err
}

// characters returns the text if XML allows all its characters. Octets that are not
// UTF-8, from clients with another encoding, become the replacement character.
func characters(text string) (string, bool) {
	if !utf8.ValidString(text) {
		text = strings.ToValidUTF8(text, string(utf8.RuneError))
	}
	for _, r := range text {
		if !isChar(r) {
			return "", false
		}
	}
	return text, true
}

const blanks = " \t\r\n"

// skip skips the prefix, if it is next.
func (p *parser) skip(prefix string) bool {
	rest, found := strings.CutPrefix(p.rest, prefix)
	p.rest = rest
	return found
}

// until returns the text before the end mark and skips both.
func (p *parser) until(end string) (string, error) {
	before, after, found := strings.Cut(p.rest, end)
	if !found {
		return "", errMalformed
	}
	p.rest = after
	return before, nil
}

// blank skips white space and reports whether there was any.
func (p *parser) blank() bool {
	before := len(p.rest)
	p.rest = strings.TrimLeft(p.rest, blanks)
	return len(p.rest) < before
}

// prolog skips what may surround the root element.
func (p *parser) prolog() error {
	for {
		p.blank()
		if done, err := p.skipMisc(); !done || err != nil {
			return err
		}
	}
}

// skipMisc skips a comment or a processing instruction, including the XML declaration;
// done is false if there is none.
func (p *parser) skipMisc() (done bool, err error) {
	switch {
	case p.skip("<!--"):
		if _, err = p.until("--"); err == nil && !p.skip(">") {
			err = errMalformed
		}
	case p.skip("<?"):
		if p.name() == "" {
			return false, errMalformed
		}
		_, err = p.until("?>")
	default:
		return false, nil
	}
	return true, err
}

// element reads an element, from its start tag to its end tag.
func (p *parser) element() (*element, error) {
	p.depth++
	p.elements++
	if p.depth > maxDepth || p.elements > p.most || !p.skip("<") {
		return nil, errMalformed
	}
	defer func(n int) { p.bindings = p.bindings[:n]; p.depth-- }(len(p.bindings))
	name := p.name()
	e := new(element)
	if err := p.startTag(e); err != nil {
		return nil, err
	}
	var ok bool
	if e.space, e.local, ok = p.resolve(name, true); !ok {
		return nil, errMalformed
	}
	switch {
	case p.skip("/>"):
		return e, nil
	case p.skip(">"):
		return e, p.content(e)
	}
	return nil, errMalformed
}

// startTag parses the attributes of a start tag, and adds its namespace declarations
// to the scope.
func (p *parser) startTag(e *element) error {
	var seen []string
	for {
		p.blank() // scripts that join strings omit it between attributes
		if p.rest == "" || p.rest[0] == '>' || p.rest[0] == '/' {
			break
		}
		name, value, err := p.attribute()
		p.attributes++
		if err != nil || slices.Contains(seen, name) || p.attributes > maxAttributes {
			return errMalformed
		}
		seen = append(seen, name)
		prefix, declares := strings.CutPrefix(name, "xmlns:")
		switch {
		case declares && prefix == "":
			return errMalformed
		case declares:
			p.bindings = append(p.bindings, attribute{local: prefix, value: value})
		case name == "xmlns":
			p.bindings = append(p.bindings, attribute{value: value})
		default:
			e.attributes = append(e.attributes, attribute{local: name, value: value})
		}
	}
	for i, a := range e.attributes {
		space, local, ok := p.resolve(a.local, false)
		if !ok {
			return errMalformed
		}
		e.attributes[i].space, e.attributes[i].local = space, local
	}
	return nil
}

// attribute reads one attribute.
func (p *parser) attribute() (name, value string, err error) {
	name = p.name()
	p.blank()
	if name == "" || !p.skip("=") {
		return "", "", errMalformed
	}
	p.blank()
	quote := `"`
	if !p.skip(quote) {
		if quote = "'"; !p.skip(quote) {
			return "", "", errMalformed
		}
	}
	if value, err = p.until(quote); err != nil || strings.Contains(value, "<") {
		return "", "", errMalformed
	}
	value, err = decode(value)
	return name, value, err
}

// content parses the content of an element and its end tag.
func (p *parser) content(e *element) error {
	var parts []string
	for {
		text, err := p.charData()
		if err != nil {
			return err
		}
		if text != "" {
			parts = append(parts, text)
		}
		if strings.HasPrefix(p.rest, "<![CDATA[") || !strings.HasPrefix(p.rest, "<") {
			continue
		}
		if p.skip("</") {
			e.text = strings.Join(parts, "")
			return p.end()
		}
		if done, err := p.skipMisc(); done || err != nil {
			if err != nil {
				return err
			}
			continue
		}
		child, err := p.element()
		if err != nil {
			return err
		}
		e.children = append(e.children, child)
	}
}

// end reads the rest of an end tag.
func (p *parser) end() error {
	name, err := p.until(">")
	if err != nil || strings.Contains(name, "<") {
		return errMalformed
	}
	return nil
}

// charData reads text up to the next markup, or a CDATA section.
func (p *parser) charData() (string, error) {
	if p.skip("<![CDATA[") {
		return p.until("]]>")
	}
	i := strings.IndexByte(p.rest, '<')
	if i < 0 || strings.Contains(p.rest[:i], "]]>") {
		return "", errMalformed
	}
	text := p.rest[:i]
	p.rest = p.rest[i:]
	return decode(text)
}

// name reads a name, which may have a prefix; "" if there is none.
func (p *parser) name() string {
	n := 0
	for n < len(p.rest) && isNameByte(p.rest[n]) {
		n++
	}
	if n == 0 || !isNameStart(p.rest[0]) {
		return ""
	}
	name := p.rest[:n]
	p.rest = p.rest[n:]
	return name
}

func isNameStart(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_' || c >= utf8.RuneSelf
}

func isNameByte(c byte) bool {
	return isNameStart(c) || '0' <= c && c <= '9' || c == '-' || c == '.' || c == ':'
}

// resolve splits a name into namespace and local part. Only elements without
// prefix are in the default namespace; an undeclared prefix names none.
func (p *parser) resolve(name string, element bool) (space, local string, ok bool) {
	prefix, local, prefixed := strings.Cut(name, ":")
	if !prefixed {
		prefix, local = "", name
	}
	switch {
	case local == "" || !isNameStart(local[0]) || strings.Contains(local, ":"):
		return "", "", false
	case !prefixed && !element:
		return "", local, true
	case prefix == "xml":
		return "http://www.w3.org/XML/1998/namespace", local, true
	}
	for i := len(p.bindings) - 1; i >= 0; i-- {
		if p.bindings[i].local == prefix {
			return p.bindings[i].value, local, true
		}
	}
	return "", local, prefix != "" || !prefixed
}

// decode resolves the references in a text.
func decode(text string) (string, error) {
	before, rest, found := strings.Cut(text, "&")
	if !found {
		return text, nil
	}
	var out strings.Builder
	for found {
		out.WriteString(before)
		r, size := referred(rest)
		if !isChar(r) {
			return "", errMalformed
		}
		out.WriteRune(r)
		before, rest, found = strings.Cut(rest[size:], "&")
	}
	out.WriteString(before)
	return out.String(), nil
}

// entities are the predefined ones (XML 1.0, section 4.6).
var entities = [...]struct {
	name string
	r    rune
}{{"amp;", '&'}, {"lt;", '<'}, {"gt;", '>'}, {"quot;", '"'}, {"apos;", '\''}}

// referred returns the character of the reference after an ampersand, and the size of
// the reference. An ampersand that begins no reference is literal.
func referred(text string) (r rune, size int) {
	if strings.HasPrefix(text, "#") {
		return numbered(text)
	}
	for _, e := range entities {
		if strings.HasPrefix(text, e.name) {
			return e.r, len(e.name)
		}
	}
	return '&', 0
}

// numbered is referred for numeric references. The character may be one that XML does
// not allow.
func numbered(text string) (r rune, size int) {
	prefix, base, allowed := "#", 10, "0123456789"
	if strings.HasPrefix(text, "#x") {
		prefix, base, allowed = "#x", 16, "0123456789abcdefABCDEF"
	}
	after := strings.TrimLeft(text[len(prefix):], allowed)
	digits := text[len(prefix) : len(text)-len(after)]
	if digits == "" || !strings.HasPrefix(after, ";") {
		return '&', 0
	}
	n, err := strconv.ParseUint(digits, base, 21)
	if err != nil {
		return 0, 0 // beyond all characters
	}
	return rune(n), len(prefix) + len(digits) + 1
}
