package soap

import (
	"bufio"
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// patience is how long an answer that must come may take on a busy machine.
const patience = 10 * time.Second

// Answer is what came back.
type Answer struct {
	Status int // 0: nothing
	Header http.Header
	Body   []byte
	Closed bool // the gateway said that it closes the connection, and did

	root *node // of the body, nil if that is no well-formed XML
}

// node is an element of any XML document.
type node struct {
	XMLName  xml.Name
	Attrs    []xml.Attr `xml:",any,attr"`
	Text     string     `xml:",chardata"`
	Children []*node    `xml:",any"`
}

func (n *node) child(local string) *node {
	if n != nil {
		for _, c := range n.Children {
			if c.XMLName.Local == local {
				return c
			}
		}
	}
	return nil
}

// all calls f for every element of that name.
func (n *node) all(local string, f func(*node)) {
	if n == nil {
		return
	}
	if n.XMLName.Local == local {
		f(n)
	}
	for _, c := range n.Children {
		c.all(local, f)
	}
}

func (n *node) text() string {
	if n == nil {
		return ""
	}
	return n.Text
}

// send sends a request in pieces, each after a pause, and returns the answer.
// An error says why there is none.
func (g *Gateway) send(caller, to string, pause time.Duration, method string, pieces ...[]byte) (Answer, error) {
	addr, err := netip.ParseAddr(to)
	if err != nil {
		return Answer{}, err
	}
	c, err := g.Dial(caller, netip.AddrPortFrom(addr, g.Port))
	if err != nil {
		return Answer{}, err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	for i, piece := range pieces {
		if i > 0 {
			time.Sleep(pause)
		}
		if _, err := c.Write(piece); err != nil {
			break // the answer may be there already
		}
	}
	return read(c, method)
}

func read(c net.Conn, method string) (a Answer, err error) {
	b := bufio.NewReader(c)
	for a.Status < 200 { // 100 Continue comes first
		r, err := http.ReadResponse(b, &http.Request{Method: method})
		if err != nil {
			return Answer{}, err
		}
		a.Status, a.Header, a.Closed = r.StatusCode, r.Header, r.Close
		if r.TransferEncoding != nil {
			return Answer{}, errors.New("a chunked answer")
		}
		if a.Body, err = io.ReadAll(r.Body); err != nil {
			return a, err
		}
	}
	if a.Closed {
		_, err = b.ReadByte()
		a.Closed = errors.Is(err, io.EOF)
	}
	var root node
	if xml.NewDecoder(bytes.NewReader(a.Body)).Decode(&root) == nil {
		a.root = &root
	}
	return a, nil
}

// outcome is an answer to an action.
type outcome struct {
	namespace, name string
	out             []Argument // nil: no success
	code            int        // of a UPnPError, 0: none
	text, fault     string
}

func (a Answer) outcome() outcome {
	var o outcome
	body := a.root.child("Body")
	if body == nil || len(body.Children) == 0 {
		return o
	}
	top := body.Children[0]
	if top.XMLName.Local == "Fault" {
		_, o.fault, _ = strings.Cut(top.child("faultcode").text(), ":")
		e := top.child("detail").child("UPnPError")
		o.code, _ = strconv.Atoi(e.child("errorCode").text())
		o.text = e.child("errorDescription").text()
		return o
	}
	o.namespace, o.name, o.out = top.XMLName.Space, top.XMLName.Local, []Argument{}
	for _, c := range top.Children {
		o.out = append(o.out, Argument{c.XMLName.Local, c.Text})
	}
	return o
}

func (o outcome) String() string {
	switch {
	case o.out != nil:
		return fmt.Sprintf("%s %q", o.name, o.out)
	case o.code != 0:
		return fmt.Sprintf("error %d %q", o.code, o.text)
	}
	return "fault " + o.fault
}
