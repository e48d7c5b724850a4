package main

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// igd is the device type to search for, and wanIP the service type of the requests,
// both in the version that every gateway has.
const (
	igd   = "urn:schemas-upnp-org:device:InternetGatewayDevice:1"
	wanIP = "urn:schemas-upnp-org:service:WANIPConnection:1"
)

// service is the address of a gateway's SOAP services, and their paths.
type service struct {
	host     netip.AddrPort
	control  string // of wanIP
	events   string // of wanIP
	pinholes string // control of firewallControl, if there is one
}

// search sends one M-SEARCH from a host and returns the LOCATION of the response.
func search(from netip.Addr) (*url.URL, error) {
	c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 0)))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(3 * time.Second))
	if _, err := c.WriteToUDPAddrPort(searchRequest(igd)(0, from), netip.AddrPortFrom(searchGroup, ssdpPort)); err != nil {
		return nil, err
	}
	answer, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return nil, fmt.Errorf("search: %w", err)
	}
	answer.Body.Close()
	return answer.Location()
}

// pathOf returns an element of a service, without its version, in a description; "" if
// there is none.
func pathOf(description, kind, element string) string {
	_, after, _ := strings.Cut(description, "<serviceType>"+kind[:len(kind)-1])
	after, _, _ = strings.Cut(after, "</service>")
	_, after, _ = strings.Cut(after, "<"+element+">")
	path, _, _ := strings.Cut(after, "</"+element+">")
	return path
}

// discover finds the gateway's service by a search.
func discover(from netip.Addr) (*service, error) {
	location, err := search(from)
	if err != nil {
		return nil, err
	}
	host, err := netip.ParseAddrPort(location.Host)
	if err != nil {
		return nil, err
	}
	w := &web{service: &service{host: host}, from: from}
	description, err := w.roundTrip("GET "+location.RequestURI(), "", "")
	if err != nil {
		return nil, err
	}
	found := &service{
		host: host, control: pathOf(description, wanIP, "controlURL"), events: pathOf(description, wanIP, "eventSubURL"),
		pinholes: pathOf(description, firewallControl, "controlURL"),
	}
	if found.control == "" {
		return nil, errors.New("no WANIPConnection in the description")
	}
	return found, nil
}

// web is a host's HTTP client.
type web struct {
	service *service // nil: there is no UPnP
	from    netip.Addr
	keep    bool          // the connection, if the server does as well
	wait    time.Duration // for the server; 0: answerTime
	conn    *os.File      // kept, or nil
	reader  *bufio.Reader
}

func (w *web) close() {
	if w.conn != nil {
		w.conn.Close()
		w.conn = nil
	}
}

func (w *web) open() error {
	if w.conn != nil {
		return nil
	}
	var err error
	w.conn, err = dial(unix.SOCK_STREAM, w.from, w.service.host, cmp.Or(w.wait, answerTime))
	w.reader = bufio.NewReader(w.conn)
	return err
}

// roundTrip sends one request, with the header lines and the body given, and returns
// the body of the response.
func (w *web) roundTrip(line, header, body string) (string, error) {
	if err := w.open(); err != nil {
		return "", err
	}
	connection := "close"
	if w.keep {
		connection = "keep-alive"
	}
	_, err := fmt.Fprintf(w.conn, "%s HTTP/1.1\r\nHost: %v\r\nConnection: %s\r\n%sContent-Length: %d\r\n\r\n%s",
		line, w.service.host, connection, header, len(body), body)
	if err != nil {
		w.close()
		return "", err
	}
	answer, err := http.ReadResponse(w.reader, nil)
	if err != nil {
		w.close()
		return "", err
	}
	text, err := io.ReadAll(answer.Body)
	if err != nil || !w.keep || answer.Close {
		w.close()
	}
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s %s", line, answer.Status, errorCode.FindString(string(text)))
	}
	return string(text), err
}

var errorCode = regexp.MustCompile(`<errorCode>\d+`)

// call invokes an action of wanIP; arguments alternate between name and value.
func (w *web) call(action string, arguments ...any) error {
	if w.service == nil {
		return errors.New("UPnP: no response to a search")
	}
	header, body := soap(wanIP, action, arguments...)
	_, err := w.roundTrip("POST "+w.service.control, header, body)
	return err
}

// soap returns the header lines and the body of a request to a type of service;
// arguments alternate between name and value.
func soap(kind, action string, arguments ...any) (header, body string) {
	var list strings.Builder
	for i := 0; i < len(arguments); i += 2 {
		fmt.Fprintf(&list, "<%s>%v</%[1]s>", arguments[i], arguments[i+1])
	}
	body = fmt.Sprintf(`<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" `+
		`s:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body><u:%s xmlns:u="%s">%s</u:%[1]s></s:Body></s:Envelope>`,
		action, kind, &list)
	return fmt.Sprintf("Content-Type: text/xml; charset=\"utf-8\"\r\nSOAPAction: \"%s#%s\"\r\n", kind, action), body
}

// entry returns the mapping to look up for a port: another one for each port, from all
// over the table.
func (c *client) entry(port uint16) lease { return lease(int(port) * 7919 % c.present) }

func (c *client) getExternal(uint16) error { return c.web.call("GetExternalIPAddress") }

func (c *client) upnpAdd(port uint16) error {
	return c.web.call("AddPortMapping", mappingArguments(port, c.addr, "bench")...)
}

// mappingArguments returns the arguments of AddPortMapping for a client's port.
func mappingArguments(port uint16, client netip.Addr, description string) []any {
	return []any{
		"NewRemoteHost", "", "NewExternalPort", port, "NewProtocol", "TCP", "NewInternalPort", port, "NewInternalClient", client,
		"NewEnabled", 1, "NewPortMappingDescription", description, "NewLeaseDuration", int(lifetime.Seconds()),
	}
}

func (c *client) upnpDelete(port uint16) error {
	return c.web.call("DeletePortMapping", "NewRemoteHost", "", "NewExternalPort", port, "NewProtocol", "TCP")
}

func (c *client) getGeneric(port uint16) error {
	return c.web.call("GetGenericPortMappingEntry", "NewPortMappingIndex", int(c.entry(port)))
}

func (c *client) getSpecific(port uint16) error {
	return c.web.call("GetSpecificPortMappingEntry", "NewRemoteHost", "",
		"NewExternalPort", c.entry(port).external(), "NewProtocol", "TCP")
}
