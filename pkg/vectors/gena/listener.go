package gena

import (
	"bufio"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// event is a message that came to a listener.
type event struct {
	method string
	header http.Header
	peer   netip.Addr
	vars   map[string]string
	err    error // why the body is none
}

// listener is a control point's HTTP server. It can be told to misbehave.
type listener struct {
	Place
	events  chan event
	history map[string]string // the last value of each variable that was seen

	mu        sync.Mutex
	behaviour string
	socket    net.Listener
	work      sync.WaitGroup
}

// listen starts a control point's server, unless it is to refuse.
func (g *Gateway) listen(p Place) (*listener, error) {
	l := &listener{Place: p, events: make(chan event, 256), history: make(map[string]string)}
	return l, l.behave(g, p.Behaviour)
}

// behave changes what the server does from now on.
func (l *listener) behave(g *Gateway, behaviour string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.behaviour = behaviour
	if behaviour == "refuse" {
		return l.shut()
	}
	if l.socket != nil {
		return nil
	}
	name := l.Host
	if l.IP == 6 {
		name += "v6"
	}
	at := netip.AddrPortFrom(netip.MustParseAddr(g.Tokens[name]), l.Port)
	socket, err := g.Listen(l.Host, at)
	if err != nil {
		return err
	}
	l.socket = socket
	l.work.Go(func() { l.accept(socket) })
	return nil
}

func (l *listener) shut() error {
	if l.socket == nil {
		return nil
	}
	err := l.socket.Close()
	l.socket = nil
	return err
}

// close ends the server.
func (l *listener) close() error {
	l.mu.Lock()
	err := l.shut()
	l.mu.Unlock()
	l.work.Wait()
	return err
}

func (l *listener) accept(socket net.Listener) {
	for {
		c, err := socket.Accept()
		if err != nil {
			return
		}
		l.work.Go(func() { l.serve(c) })
	}
}

// serve takes one message and answers it as it was told to.
func (l *listener) serve(c net.Conn) {
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	r, err := http.ReadRequest(bufio.NewReader(c))
	if err != nil {
		return // the gateway has ended
	}
	e := event{method: r.Method, header: r.Header, peer: c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()}
	e.header.Set("HOST", r.Host)
	e.vars, e.err = readVars(r.Body)
	l.events <- e
	l.mu.Lock()
	behaviour := l.behaviour
	l.mu.Unlock()
	switch behaviour {
	case "mute":
		io.Copy(io.Discard, c)
	case "500":
		io.WriteString(c, "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n")
	case "200_after_700ms":
		time.Sleep(700 * time.Millisecond)
		fallthrough
	case "200", "200_rst":
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		if behaviour == "200_rst" {
			c.(*net.TCPConn).SetLinger(0)
		}
	}
}

// readVars reads a propertyset (UDA 1.1, section 4.3.2).
func readVars(r io.Reader) (map[string]string, error) {
	var set struct {
		XMLName    xml.Name `xml:"urn:schemas-upnp-org:event-1-0 propertyset"`
		Properties []struct {
			XMLName xml.Name
			Vars    []struct {
				XMLName xml.Name
				Value   string `xml:",chardata"`
			} `xml:",any"`
		} `xml:",any"`
	}
	if err := xml.NewDecoder(r).Decode(&set); err != nil {
		return nil, err
	}
	vars := make(map[string]string)
	for _, p := range set.Properties {
		if p.XMLName.Local != "property" || p.XMLName.Space != set.XMLName.Space || len(p.Vars) != 1 {
			return nil, fmt.Errorf("%v with %d variables", p.XMLName, len(p.Vars))
		}
		if p.Vars[0].XMLName.Space != "" {
			return nil, errors.New("a variable in a namespace")
		}
		vars[p.Vars[0].XMLName.Local] = p.Vars[0].Value
	}
	return vars, nil
}
