package upnp

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

// String shows an element with its namespaces in braces.
func (e *element) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "<{%s}%s", e.space, e.local)
	for _, a := range e.attributes {
		fmt.Fprintf(&b, " {%s}%s=%q", a.space, a.local, a.value)
	}
	fmt.Fprintf(&b, " %q", e.text)
	for _, c := range e.children {
		b.WriteString(c.String())
	}
	b.WriteString(">")
	return b.String()
}

func TestParseXML(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"empty element", `<a/>`, `<{}a "">`},
		{"declaration and line breaks", "<?xml version=\"1.0\"?>\r\n<a>\n</a>\n", `<{}a "\n">`},
		{"byte order mark", "\ufeff<a></a>", `<{}a "">`},
		{"blank before the declaration", " <?xml version='1.0'?><a/>", `<{}a "">`},
		{"prefix", `<p:a xmlns:p="urn:x"><p:b/></p:a>`, `<{urn:x}a ""<{urn:x}b "">>`},
		{"default namespace", `<a xmlns="urn:x"><b xmlns=""/><c/></a>`, `<{urn:x}a ""<{}b ""><{urn:x}c "">>`},
		{"inner declaration", `<p:a xmlns:p="x"><p:b xmlns:p="y"/><p:c/></p:a>`, `<{x}a ""<{y}b ""><{x}c "">>`},
		{"declared behind its use", `<p:a p:b="1" xmlns:p="x"/>`, `<{x}a {x}b="1" "">`},
		{"attributes", `<a b = 'x"y' c="&lt;'"/>`, `<{}a {}b="x\"y" {}c="<'" "">`},
		{"xml prefix", `<a xml:lang="de"/>`, `<{}a {http://www.w3.org/XML/1998/namespace}lang="de" "">`},
		{"entities", `<a>&amp;&lt;&gt;&quot;&apos;</a>`, `<{}a "&<>\"'">`},
		{"references", `<a>&#65;&#x42;&#x1F600;</a>`, `<{}a "AB😀">`},
		{"decoded once", `<a>&amp;lt;</a>`, `<{}a "&lt;">`},
		{"CDATA", `<a>1<![CDATA[<&]]]>2<![CDATA[]]></a>`, `<{}a "1<&]2">`},
		{"text around", `<a>1<!-- x -->2<?p q?>3<b>4</b>5</a>`, `<{}a "1235"<{}b "4">>`},
		{"blank in end tag", "<a></a\n>", `<{}a "">`},
		{"end of another", `<a><b>1</c>2</d>`, `<{}a "2"<{}b "1">>`},
		{"end of the outer one", "<a><b></a></b>", `<{}a ""<{}b "">>`},
		{"ends without names", "<a><b>1</></ >", `<{}a ""<{}b "1">>`},
		{"end with attributes", `<a></b c="d">`, `<{}a "">`},
		{"prefix of nothing", `<p:a xmlns:p=""/>`, `<{}a "">`},
		{"attributes in a row", `<a b="c"d='e'/>`, `<{}a {}b="c" {}d="e" "">`},
		{"undeclared prefix", `<p:a p:b="1"><c/><p:d/></p:a>`, `<{}a {}b="1" ""<{}c ""><{}d "">>`},
		{"prefix out of scope", `<a><p:b xmlns:p="x"/><p:c/></a>`, `<{}a ""<{x}b ""><{}c "">>`},
		{"default namespace is no undeclared prefix's", `<p:a xmlns="x"><b/></p:a>`, `<{}a ""<{x}b "">>`},
		{"ampersand", "<a>a & b</a>", `<{}a "a & b">`},
		{"ampersand at the end", "<a>a &</a>", `<{}a "a &">`},
		{"ampersands in a row", "<a>&&amp;&&</a>", `<{}a "&&&&">`},
		{"unknown entity", "<a>&nbsp;</a>", `<{}a "&nbsp;">`},
		{"entity in another case", "<a>&AMP;&Lt;</a>", `<{}a "&AMP;&Lt;">`},
		{"entities without end", "<a>&amp &lt&gt;</a>", `<{}a "&amp &lt>">`},
		{"references without end", "<a>&#65 &#x42&#66;</a>", `<{}a "&#65 &#x42B">`},
		{"signed reference", "<a>&#+65;</a>", `<{}a "&#+65;">`},
		{"empty references", "<a>&#;&#x;&;</a>", `<{}a "&#;&#x;&;">`},
		{"capital x", "<a>&#X41;</a>", `<{}a "&#X41;">`},
		{"ampersands in an attribute", `<a b="c&d&amp;e&"/>`, `<{}a {}b="c&d&e&" "">`},
		{"ampersand in CDATA", "<a><![CDATA[&amp;&]]></a>", `<{}a "&amp;&">`},
		{"long reference", "<a>&#" + strings.Repeat("0", 300) + "65;</a>", `<{}a "A">`},
		{"NUL behind", "<a/>\x00", `<{}a "">`},
		{"blanks and NULs behind", "<a></a>\r\n\x00 \x00\t\n", `<{}a "">`},
		{"comment behind", "<a/> <!-- x -->\x00", `<{}a "">`},
		{"text behind", "<a/>x", `<{}a "">`},
		{"quote and line end behind", "<a></a>\"\n", `<{}a "">`},
		{"comment and text with an ampersand behind", "<a/> <!-- x -->; & y\x00", `<{}a "">`},
		{"Latin-1", "<a>M\xfcnchen</a>", `<{}a "M` + "\ufffd" + `nchen">`},
	} {
		root, err := parseXML([]byte(tt.in))
		if err != nil || root.String() != tt.want {
			t.Errorf("%s: %v, %v, want %s", tt.name, root, err, tt.want)
		}
	}
}

func TestParseXMLRefuses(t *testing.T) {
	for _, tt := range []struct{ name, in string }{
		{"nothing", ""},
		{"blanks", " \n"},
		{"text", "hello"},
		{"text and an element behind", "<a/>x<b/>"},
		{"text and a comment behind", "<a/>x<!-- -->"},
		{"text and half a tag behind", "<a/>x<"},
		{"CDATA behind", "<a/><![CDATA[x]]>"},
		{"CDATA end behind", "<a/>x]]>"},
		{"control character behind", "<a/>\x01"},
		{"reference to no character behind", "<a/>&#0;"},
		{"two roots", "<a/><b/>"},
		{"cut in the tag", "<a"},
		{"cut in the text", "<a>b"},
		{"cut in the end tag", "<a></a"},
		{"cut in a comment", "<a><!-- </a>"},
		{"cut in CDATA", "<a><![CDATA[ </a>"},
		{"cut in an instruction", "<a><? </a>"},
		{"cut in an attribute", `<a b="`},
		{"end without start", "</a>"},
		{"end tag too many", "<a></a></a>"},
		{"end tag too many inside", "<a><b></b></b></a>"},
		{"end tag too few", "<a><b></a>"},
		{"end tags of the outer alone", "<a><b><c></a></a>"},
		{"tag in an end tag", "<a></a<b>"},
		{"cut behind NULs", "<a>\x00\x00"},
		{"NUL in front", "\x00<a/>"},
		{"NUL between", "<a/>\x00<!-- -->"},
		{"NUL in a tag", "<a\x00/>"},
		{"blank before the name", "< a/>"},
		{"digit first", "<1a/>"},
		{"no local part", `<p: xmlns:p="x"/>`},
		{"no prefix", `<:a/>`},
		{"two colons", `<p:a:b xmlns:p="x"/>`},
		{"empty prefix of an attribute", `<a :b=""/>`},
		{"attribute twice", `<a b="" b=""/>`},
		{"namespace twice", `<a xmlns="x" xmlns="y"/>`},
		{"attribute without value", `<a b/>`},
		{"attribute without quotes", `<a b=c/>`},
		{"less-than in an attribute", `<a b="<"/>`},
		{"character that is none", "<a>&#0;</a>"},
		{"control character by reference", "<a>&#1;</a>"},
		{"surrogate", "<a>&#xd800;</a>"},
		{"beyond Unicode", "<a>&#x110000;</a>"},
		{"huge reference", "<a>&#99999999999999999999;</a>"},
		{"CDATA end in text", "<a>]]></a>"},
		{"hyphens in a comment", "<a><!-- -- --></a>"},
		{"instruction without name", "<a><? x?></a>"},
		{"NUL", "<a>\x00</a>"},
		{"control character", "<a>\x01</a>"},
		{"not a character", "<a>\uffff</a>"},
		{"document type", "<!DOCTYPE a><a/>"},
		{"document type with entities", `<!DOCTYPE a [<!ENTITY e "x">]><a>&e;</a>`},
		{"document type inside", "<a><!DOCTYPE a></a>"},
		{"deep", strings.Repeat("<a>", maxDepth+1) + strings.Repeat("</a>", maxDepth+1)},
		{"deep and cut", strings.Repeat("<a>", 10000)},
		{"many elements", "<a>" + strings.Repeat("<b/>", maxElements) + "</a>"},
		{"many attributes", "<a>" + strings.Repeat(`<b c="" d=""/>`, maxAttributes/2+1) + "</a>"},
	} {
		if root, err := parseXML([]byte(tt.in)); !errors.Is(err, errMalformed) {
			t.Errorf("%s: %v, %v", tt.name, root, err)
		}
	}
	full := strings.Repeat("<a>", maxDepth) + strings.Repeat("</a>", maxDepth)
	if _, err := parseXML([]byte(full)); err != nil {
		t.Errorf("at the limit of depth: %v", err)
	}
}

// Pieces of a document, an ampersand with the reference that it may begin, and
// where the value of a namespace could be taken for a prefix.
var (
	pieces     = regexp.MustCompile(`(?s)<!--.*?-->|<!\[CDATA\[.*?\]\]>|<\?.*?\?>|</[^>]*>|<(?:[^>"']|"[^"]*"|'[^']*')*>|[^<]+`)
	ampersands = regexp.MustCompile(`&(?:(?:amp|lt|gt|quot|apos|#[0-9]+|#x[0-9a-fA-F]+);)?`)
	elementTag = regexp.MustCompile(`^<([^\s/>!?]+)`)
	likePrefix = regexp.MustCompile(`xmlns[^=]*=\s*("[^":]*"|'[^':]*')`)
)

// repaired writes a document as the standard wants it.
func repaired(in string) string {
	in = strings.TrimRight(strings.TrimLeft(in, blanks+"\ufeff"), blanks+"\x00")
	var open []string
	return pieces.ReplaceAllStringFunc(in, func(piece string) string {
		switch {
		case strings.HasPrefix(piece, "<!"), strings.HasPrefix(piece, "<?"):
			return piece
		case strings.HasPrefix(piece, "</") && len(open) > 0:
			name := open[len(open)-1]
			open = open[:len(open)-1]
			return "</" + name + ">"
		}
		if name := elementTag.FindStringSubmatch(piece); name != nil && !strings.HasSuffix(piece, "/>") {
			open = append(open, name[1])
		}
		return ampersands.ReplaceAllStringFunc(piece, func(reference string) string {
			if reference == "&" {
				return "&amp;"
			}
			return reference
		})
	})
}

// FuzzParseXML compares with the standard library, which knows more documents
// but must read those that we know, as the standard wants them written, in the
// same way.
func FuzzParseXML(f *testing.F) {
	for _, seed := range []string{
		`<?xml version="1.0"?><s:a xmlns:s="urn:x" s:b='1&#65;'>t<![CDATA[<]]>&amp;<!-- c --><b xmlns="urn:y"/></s:a>`,
		`<a xmlns="urn:x" b="c"><d xmlns=""/></a>`, `<s:a><b>1 & 2&nbsp;</c><u:d e="&"/></>` + "\r\n\x00", "\ufeff<a>\r\n</a>", "<a>\xfc</a>", "<a/>\" &\n", `<a xml:lang=""/>`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		ours, err := parseXML(in)
		if err != nil || !utf8.Valid(in) || hasForeignNames(in) || likePrefix.Match(in) {
			return
		}
		theirs, err := reference([]byte(repaired(string(in))))
		if err != nil {
			t.Fatalf("%q is read as %v, but %v", in, ours, err)
		}
		if got := ours.String(); got != theirs.String() {
			t.Fatalf("%q is read as %v, not %v", in, got, theirs)
		}
	})
}

// hasForeignNames reports whether a document may have names or line ends
// about which the readers differ.
func hasForeignNames(in []byte) bool {
	return bytes.ContainsFunc(in, func(r rune) bool { return r >= utf8.RuneSelf && r != '\ufeff' || r == '\r' })
}

// reference reads a document by the standard library, which takes undeclared
// prefixes for namespaces.
func reference(in []byte) (*element, error) {
	d := xml.NewDecoder(bytes.NewReader(in))
	d.CharsetReader = func(_ string, r io.Reader) (io.Reader, error) { return r, nil }
	root := new(element)
	stack := []*element{root}
	for {
		token, err := d.Token()
		if err == io.EOF {
			return root.children[0], nil
		}
		if err != nil {
			return nil, err
		}
		top := stack[len(stack)-1]
		switch token := token.(type) {
		case xml.StartElement:
			e := &element{space: declared(token.Name), local: token.Name.Local}
			for _, a := range token.Attr {
				if a.Name.Space != "xmlns" && a.Name != (xml.Name{Local: "xmlns"}) {
					e.attributes = append(e.attributes, attribute{declared(a.Name), a.Name.Local, a.Value})
				}
			}
			top.children = append(top.children, e)
			stack = append(stack, e)
		case xml.EndElement:
			stack = stack[:len(stack)-1]
		case xml.CharData:
			top.text += string(token)
		}
	}
}

// declared returns the namespace of a name, "" if it is an undeclared prefix.
func declared(name xml.Name) string {
	if !strings.Contains(name.Space, ":") {
		return ""
	}
	return name.Space
}

// BenchmarkParseXML shows what the worst documents within the limit cost.
func BenchmarkParseXML(b *testing.B) {
	const size = 64 << 10
	for name, piece := range map[string]string{
		"text": "x", "references": "&amp;", "ampersands": "&", "numbers": "&#1", "CDATA": "<![CDATA[]]>", "comments": "x<!---->", "elements": "<b/>", "attributes": `<b a=""/>`,
	} {
		document := []byte("<a>" + strings.Repeat(piece, (size-7)/len(piece)) + "</a>")
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				parseXML(document)
			}
		})
	}
}
