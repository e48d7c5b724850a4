package upnpd

import (
	"bytes"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"igdd/pkg/upnp"
)

const (
	xbox   = "Microsoft-Windows/10.0 UPnP/1.0"
	modern = "Linux/6 UPnP/1.1 MiniUPnPc/2.3"
)

// shown returns the types in a description at a path, or what kind of document
// is there.
func shown(s *Server, path, agent string) string {
	document, ok := s.document(s.published(path), agent, netip.MustParseAddr(hosts["gw1"]))
	switch {
	case !ok:
		return "nothing"
	case bytes.Contains(document, []byte("InternetGatewayDevice:1")):
		return "description 1"
	case bytes.Contains(document, []byte("InternetGatewayDevice:2")):
		return "description 2"
	case bytes.Contains(document, []byte("AddAnyPortMapping")):
		return "WANIPConnection 2"
	case bytes.Contains(document, []byte("AddPortMapping")):
		return "WANIPConnection 1"
	case bytes.Contains(document, []byte("AddPinhole")):
		return "pinholes"
	}
	return "another"
}

// TestDescriptionsByVersion wants to each client the description that it asks for, and to old ones
// version 1.
func TestDescriptionsByVersion(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ config, path, agent, want string }{
		{"v1", "/rootDesc.xml", modern, "description 1"},
		{"v1", "/rootDesc2.xml", modern, "nothing"},
		{"v1", "/WANIPCn.xml", modern, "WANIPConnection 1"},
		{"v1", "/WANIPCn2.xml", modern, "nothing"},
		{"v1", "/WANIP6FC.xml", modern, "nothing"},

		{"default", "/rootDesc2.xml", modern, "description 2"},
		{"default", "/rootDesc2.xml", xbox, "description 1"},
		{"default", "/rootDesc.xml", modern, "description 2"},
		{"default", "/rootDesc.xml", xbox, "description 1"},
		{"default", "/WANIPCn2.xml", modern, "WANIPConnection 2"},
		{"default", "/WANIPCn2.xml", xbox, "WANIPConnection 1"},
		{"default", "/WANIPCn.xml", xbox, "WANIPConnection 1"},
		{"default", "/WANIP6FC.xml", modern, "pinholes"},

		{"both", "/rootDesc.xml", modern, "description 1"},
		{"both", "/rootDesc.xml", xbox, "description 1"},
		{"both", "/rootDesc2.xml", modern, "description 2"},
		{"both", "/rootDesc2.xml", "FDSSDP", "description 1"},
		{"both", "/WANIPCn.xml", modern, "WANIPConnection 1"},
		{"both", "/WANIPCn2.xml", modern, "WANIPConnection 2"},
		{"both", "/L3F.xml", modern, "another"},
		{"both", "/WANIP6FC.xml", modern, "pinholes"},
		{"both", "/rootdesc.xml", modern, "description 1"},
		{"both", "//ROOTDESC2.XML", modern, "description 2"},
		{"both", "//ROOTDESC2.XML", xbox, "description 1"},
		{"both", "/rootDesc3.xml", modern, "nothing"},
		{"both", "/", modern, "nothing"},
	} {
		if got := shown(testNet{}.newGateway(t, gatewayConfigOf(tt.config)).server, tt.path, tt.agent); got != tt.want {
			t.Errorf("%s: %s shows %q: %s, want %s", tt.config, tt.path, tt.agent, got, tt.want)
		}
	}
}

// TestVersion1Description follows version 1's description and wants no sight of
// version 2 anywhere, but for the IPv6 firewall control where version 2 is on
// show too.
func TestVersion1Description(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ config, agent, paths string }{
		{"v1", modern, "/rootDesc.xml /L3F.xml /WANCfg.xml /WANIPCn.xml"},
		{"both", xbox, "/rootDesc.xml /L3F.xml /WANCfg.xml /WANIPCn.xml"},
		{"default", xbox, "/rootDesc.xml /L3F.xml /WANCfg.xml /WANIPCn.xml"},
		{"both", modern, "/rootDesc.xml /L3F.xml /WANCfg.xml /WANIPCn.xml /WANIP6FC.xml"},
	} {
		s := testNet{}.newGateway(t, gatewayConfigOf(tt.config)).server
		paths := []string{"/rootDesc.xml"}
		for i := 0; i < len(paths); i++ {
			document, ok := s.document(paths[i], tt.agent, netip.MustParseAddr(hosts["gw1"]))
			if !ok {
				t.Errorf("%s: nothing at %s", tt.config, paths[i])
			}
			paths = append(paths, scpdURLs(document)...)
			if paths[i] == "/WANIP6FC.xml" {
				continue
			}
			for _, word := range []string{
				":2<", "2.xml", "2</controlURL>", "2</eventSubURL>", "Pinhole", "SystemUpdateID", "A_ARG_TYPE", "AddAnyPortMapping",
				"DeletePortMappingRange", "GetListOfPortMappings", "DeviceProtection",
			} {
				if strings.Contains(string(document), word) {
					t.Errorf("%s: %s in %s", tt.config, word, paths[i])
				}
			}
		}
		if got := strings.Join(paths, " "); got != tt.paths {
			t.Errorf("%s: %q finds %s, want %s", tt.config, tt.agent, got, tt.paths)
		}
	}
}

// scpdURLs returns the service descriptions that a description names.
func scpdURLs(description []byte) (urls []string) {
	for _, rest := range strings.Split(string(description), "<SCPDURL>")[1:] {
		url, _, _ := strings.Cut(rest, "<")
		urls = append(urls, url)
	}
	return urls
}

// TestSizes wants all documents below 16384 octets: libupnp reads no more.
func TestSizes(t *testing.T) {
	t.Parallel()
	s := testNet{}.newGateway(t, gatewayConfigOf("both")).server
	for path := range s.documents.byPath {
		if document, _ := s.document(path, modern, netip.MustParseAddr(hosts["gwv6"])); len(document) >= 16384 {
			t.Errorf("%s has %d octets", path, len(document))
		}
	}
}

// TestDocumentsAreRenderedOnce wants one copy for each address that clients ask,
// with the page of that address, and no more than a bounded number.
func TestDocumentsAreRenderedOnce(t *testing.T) {
	t.Parallel()
	s := testNet{}.newGateway(t, gatewayConfigOf("both")).server
	fetch := func(path, local string) []byte {
		document, _ := s.document(path, modern, netip.MustParseAddr(local))
		return document
	}
	for _, local := range []string{hosts["gw1"], hosts["gw2"]} {
		first, again := fetch("/rootDesc.xml", local), fetch("/rootDesc.xml", local)
		if &first[0] != &again[0] || !bytes.Contains(first, []byte("<presentationURL>http://"+local+"/</presentationURL>")) {
			t.Errorf("description for those who ask %s: %s", local, first)
		}
	}
	one, other := fetch("/WANIPCn.xml", hosts["gw1"]), fetch("/WANIPCn.xml", hosts["gw2"])
	if &one[0] != &other[0] {
		t.Error("a service description is worded for each address")
	}
	for a := netip.MustParseAddr("10.0.0.0"); a != netip.MustParseAddr("10.0.1.0"); a = a.Next() {
		fetch("/rootDesc.xml", a.String())
	}
	if n := len(s.documents.rendered); n > maxRendered {
		t.Errorf("%d documents are kept", n)
	}
}

// TestWellFormed has all documents and answers read by xmllint.
func TestWellFormed(t *testing.T) {
	t.Parallel()
	s := testNet{}.newGateway(t, gatewayConfigOf("both")).server
	add(t, s, hosts["c1"], v2, "4000", "60")
	documents := map[string][]byte{}
	for path := range s.documents.byPath {
		documents[path], _ = s.document(path, modern, netip.MustParseAddr(hosts["gwv6"]))
	}
	listing := ask(t, s, hosts["c1"], v2, "GetListOfPortMappings", "1", "65535", "TCP", "1", "0")
	documents["listing"] = []byte(listing.out[0])
	documents["fault"] = upnp.NoTrafficReceived.Append(nil)
	documents["event"] = upnp.AppendEvent(nil, []upnp.Property{{Name: "ExternalIPAddress"}})
	for path, document := range documents {
		lint := exec.Command("xmllint", "--noout", "--nonet", "-")
		lint.Stdin = bytes.NewReader(document)
		if out, err := lint.CombinedOutput(); err != nil {
			t.Errorf("%s: xmllint (Debian package libxml2-utils): %v: %s", path, err, out)
		}
	}
}
