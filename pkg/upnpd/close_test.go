package upnpd

import (
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// plainCall words a request for an action of IGD version 2, as most clients do.
func plainCall(action, arguments string) string {
	body := `<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><u:` + action +
		` xmlns:u="urn:schemas-upnp-org:service:` + v2 + `">` + arguments + "</u:" + action + "></s:Body></s:Envelope>"
	return "POST /ctl/IPConn HTTP/1.1\r\nHost: " + hosts["gw1"] + "\r\nContent-Type: text/xml\r\n" +
		`SOAPACTION: "urn:schemas-upnp-org:service:` + v2 + "#" + action + "\"\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body
}

// TestLineEndBehindTheLastRequest sends one when the server has closed the connection, as
// some old clients do: the client has the whole response.
func TestLineEndBehindTheLastRequest(t *testing.T) {
	t.Parallel()
	h := newTestNet(t).startGateway(t, gatewayConfigOf("default"))
	c, err := h.dial("c1", netip.MustParseAddrPort(hosts["gw1"]+":5555"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, plainCall("GetExternalIPAddress", "")); err != nil {
		t.Fatal(err)
	}
	awaitTCP(t, c, tcpCloseWait)
	if _, err := io.WriteString(c, "\r\n"); err != nil {
		t.Fatal(err)
	}
	awaitTCP(t, c, tcpClose)
	// An error behind it does no harm.
	if text, err := io.ReadAll(c); !strings.HasPrefix(string(text), "HTTP/1.1 200") || !strings.HasSuffix(strings.TrimSpace(string(text)), "Envelope>") {
		t.Errorf("got %q, %v", text, err)
	}
}

// TestOctetsBehindTheBody sends them with the last request: the connection is not reset, so
// that every client has the whole response.
func TestOctetsBehindTheBody(t *testing.T) { bothWays(t, testOctetsBehindTheBody) }

func testOctetsBehindTheBody(t *testing.T, atOnce bool) {
	t.Parallel()
	h := newTestNet(t).startGateway(t, served(atOnce))
	for _, request := range []string{plainCall("GetExternalIPAddress", ""), plainMapping, getDescription} {
		for _, behind := range []string{"\r\n", "\x00", getDescription, strings.Repeat("x", 5000)} {
			c, err := h.dial("c1", netip.MustParseAddrPort(hosts["gw1"]+":5555"))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(patience))
			if _, err := io.WriteString(c, request+behind); err != nil {
				t.Fatal(err)
			}
			awaitTCP(t, c, tcpCloseWait)
			text, err := io.ReadAll(c)
			if head, body, _ := strings.Cut(string(text), "\r\n\r\n"); err != nil || !strings.HasPrefix(head, "HTTP/1.1 200") ||
				!strings.Contains(head, "\r\nContent-Length: "+strconv.Itoa(len(body))+"\r\n") {
				t.Errorf("%.20q behind %.20q: got %q, %v", behind, request, text, err)
			}
		}
	}
}

// States of a TCP connection (include/net/tcp_states.h in Linux).
const (
	tcpClose     = 7
	tcpCloseWait = 8
)

// awaitTCP waits until a connection is in a state.
func awaitTCP(t *testing.T, c net.Conn, state uint8) {
	t.Helper()
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		var info *unix.TCPInfo
		raw.Control(func(fd uintptr) { info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) })
		switch {
		case err != nil:
			t.Fatal(err)
		case info.State == state:
			return
		case time.Now().After(end):
			t.Fatalf("the connection is in state %d, want %d", info.State, state)
		}
	}
}
