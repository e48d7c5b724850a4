package upnp

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
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
		{"text behind", "<a/>x"},
		{"two roots", "<a/><b/>"},
		{"cut in the tag", "<a"},
		{"cut in the text", "<a>b"},
		{"cut in the end tag", "<a></a"},
		{"cut in a comment", "<a><!-- </a>"},
		{"cut in CDATA", "<a><![CDATA[ </a>"},
		{"cut in an instruction", "<a><? </a>"},
		{"cut in an attribute", `<a b="`},
		{"end of another", "<a></b>"},
		{"crossed", "<a><b></a></b>"},
		{"end without start", "</a>"},
		{"blank before the name", "< a/>"},
		{"digit first", "<1a/>"},
		{"no local part", `<p: xmlns:p="x"/>`},
		{"no prefix", `<:a/>`},
		{"two colons", `<p:a:b xmlns:p="x"/>`},
		{"undeclared prefix", "<p:a/>"},
		{"undeclared prefix of an attribute", `<a p:b=""/>`},
		{"prefix out of scope", `<a><p:b xmlns:p="x"/><p:c/></a>`},
		{"prefix of nothing", `<p:a xmlns:p=""/>`},
		{"attribute twice", `<a b="" b=""/>`},
		{"namespace twice", `<a xmlns="x" xmlns="y"/>`},
		{"attribute without value", `<a b/>`},
		{"attribute without quotes", `<a b=c/>`},
		{"attributes in a row", `<a b="c"d="e"/>`},
		{"less-than in an attribute", `<a b="<"/>`},
		{"ampersand", "<a>a & b</a>"},
		{"ampersand at the end", "<a>a &</a>"},
		{"unknown entity", "<a>&nbsp;</a>"},
		{"character that is none", "<a>&#0;</a>"},
		{"control character by reference", "<a>&#1;</a>"},
		{"surrogate", "<a>&#xd800;</a>"},
		{"beyond Unicode", "<a>&#x110000;</a>"},
		{"signed reference", "<a>&#+65;</a>"},
		{"empty reference", "<a>&#;</a>"},
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

// FuzzParseXML compares with the standard library, which knows more documents
// but must read those that we know in the same way.
func FuzzParseXML(f *testing.F) {
	for _, seed := range []string{
		`<?xml version="1.0"?><s:a xmlns:s="x" s:b='1&#65;'>t<![CDATA[<]]>&amp;<!-- c --><b xmlns="y"/></s:a>`,
		`<a xmlns="x" b="c"><d xmlns=""/></a>`, "\ufeff<a>\r\n</a>", "<a>\xfc</a>", `<a xml:lang=""/>`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		ours, err := parseXML(in)
		if err != nil || !utf8.Valid(in) || hasForeignNames(in) {
			return
		}
		theirs, err := reference(bytes.TrimPrefix(in, []byte("\ufeff")))
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

// reference reads a document by the standard library.
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
			e := &element{space: token.Name.Space, local: token.Name.Local}
			for _, a := range token.Attr {
				if a.Name.Space != "xmlns" && a.Name != (xml.Name{Local: "xmlns"}) {
					e.attributes = append(e.attributes, attribute{a.Name.Space, a.Name.Local, a.Value})
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

// BenchmarkParseXML shows what the worst documents within the limit cost.
func BenchmarkParseXML(b *testing.B) {
	const size = 64 << 10
	for name, piece := range map[string]string{
		"text": "x", "references": "&amp;", "CDATA": "<![CDATA[]]>", "comments": "x<!---->", "elements": "<b/>", "attributes": `<b a=""/>`,
	} {
		document := []byte("<a>" + strings.Repeat(piece, (size-7)/len(piece)) + "</a>")
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				parseXML(document)
			}
		})
	}
}
