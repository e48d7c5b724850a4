package upnp

import (
	"bytes"
	"iter"
	"slices"
	"strings"
	"testing"
)

func TestAppendReply(t *testing.T) {
	c, err := wanIPConnection.ParseCall(wanppp+"#GetStatusInfo", []byte(envelope(wanppp, "GetStatusInfo", "")), V2)
	if err != nil {
		t.Fatal(err)
	}
	want := `<?xml version="1.0"?>` + "\n" +
		`<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" s:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/">` +
		`<s:Body><u:GetStatusInfoResponse xmlns:u="urn:schemas-upnp-org:service:WANPPPConnection:1">` +
		`<NewConnectionStatus>a&amp;b&lt;c&gt;&quot;']]&gt;&#10;</NewConnectionStatus>` +
		`<NewLastConnectionError>ü` + "\ufffd" + `</NewLastConnectionError><NewUptime></NewUptime>` +
		"</u:GetStatusInfoResponse></s:Body></s:Envelope>\n"
	if got := string(c.AppendReply(nil, "a&b<c>\"']]>\n", "ü\x01", "")); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestReplyWithListing wants the listing legible to those who search the reply
// for it, and to those who parse.
func TestReplyWithListing(t *testing.T) {
	entry := PortMapping{"", 4000, "TCP", 5000, "192.168.1.2", true, "]]>&", 3600}
	c := Call{Action: wanIPConnection.action("GetListOfPortMappings", V2), asked: wanIPConnection.Type(V2)}
	reply := joined(c.Listing(slices.Values([]PortMapping{entry})))
	if !strings.Contains(string(reply), "<NewPortListing><![CDATA[<p:PortMappingList ") {
		t.Errorf("reply %s", reply)
	}
	root, err := parseXML(reply)
	if err != nil {
		t.Fatal(err)
	}
	if got := root.children[0].children[0].named("NewPortListing"); len(got) != 1 || got[0].space != "" || got[0].text != listingStart+string(entry.append(nil))+listingEnd {
		t.Errorf("reply %s, read as %v", reply, got)
	}
}

// joined returns the pieces in one.
func joined(pieces iter.Seq[[]byte]) (all []byte) {
	for piece := range pieces {
		all = append(all, piece...)
	}
	return all
}

// TestLongListingComesInPieces compares the pieces of a long listing with the whole.
func TestLongListingComesInPieces(t *testing.T) {
	c := Call{Action: wanIPConnection.action("GetListOfPortMappings", V2), asked: wanIPConnection.Type(V2)}
	var entries []PortMapping
	whole := listingStart
	for i := range 100 {
		e := PortMapping{"", uint16(4000 + i), "TCP", 5000, "192.168.1.2", true, strings.Repeat("&", 256), 3600}
		entries = append(entries, e)
		whole += string(e.append(nil))
	}
	longest, n := 0, 0
	for piece := range c.Listing(slices.Values(entries)) {
		longest, n = max(longest, len(piece)), n+1
	}
	if longest > 2*pieceLen || n < 20 {
		t.Errorf("%d pieces, the longest has %d octets", n, longest)
	}
	if got, want := joined(c.Listing(slices.Values(entries))), c.AppendReply(nil, whole+listingEnd); !bytes.Equal(got, want) {
		t.Errorf("got %d octets, want %d", len(got), len(want))
	}
	for range c.Listing(slices.Values(entries)) {
		break // a reader may stop
	}
}

// TestFaults words every fault and compares code and text with the standard's
// tables.
func TestFaults(t *testing.T) {
	for fault, want := range map[Fault]string{
		InvalidAction:          "401 Invalid Action",
		InvalidArgs:            "402 Invalid Args",
		InvalidVar:             "404 Invalid Var",
		ActionFailed:           "501 Action Failed",
		ValueOutOfRange:        "601 Argument Value Out of Range",
		NotAuthorized:          "606 Action not authorized",
		InactiveStateRequired:  "703 InactiveConnectionStateRequired",
		ConnectionSetupFailed:  "704 ConnectionSetupFailed",
		ConnectionTerminated:   "711 ConnectionAlreadyTerminated",
		NoSuchIndex:            "713 SpecifiedArrayIndexInvalid",
		NoSuchEntry:            "714 NoSuchEntryInArray",
		WildCardExternalPort:   "716 WildCardNotPermittedInExtPort",
		ConflictInMapping:      "718 ConflictInMappingEntry",
		NoPortsLeft:            "728 NoPortMapsAvailable",
		ConflictWithOther:      "729 ConflictWithOtherMechanisms",
		MappingNotFound:        "730 PortMappingNotFound",
		ReadOnly:               "731 ReadOnly",
		WildCardInternalPort:   "732 WildCardNotPermittedInIntPort",
		InconsistentParameters: "733 InconsistentParameters",
		SamePortValuesRequired: "724 SamePortValuesRequired",
		OnlyPermanentLeases:    "725 OnlyPermanentLeasesSupported",
		RemoteHostOnlyWildcard: "726 RemoteHostOnlySupportsWildcard",
		InvalidDeviceUUID:      "720 InvalidDeviceUUID",
		InvalidServiceID:       "721 InvalidServiceID",
		PinholeSpaceExhausted:  "701 PinholeSpaceExhausted",
		NoSuchPinhole:          "704 NoSuchEntry",
		ProtocolNotSupported:   "705 ProtocolNotSupported",
		WildCardPinholePort:    "706 InternalPortWildcardingNotAllowed",
		WildCardProtocol:       "707 ProtocolWildcardingNotAllowed",
		NoTrafficReceived:      "709 NoTrafficReceived",
	} {
		code, text, _ := strings.Cut(want, " ")
		whole := envelopeStart + `<s:Fault><faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring><detail>` +
			`<UPnPError xmlns="urn:schemas-upnp-org:control-1-0"><errorCode>` + code + `</errorCode><errorDescription>` + text +
			`</errorDescription></UPnPError></detail></s:Fault>` + envelopeEnd
		if got := string(fault.Append(nil)); got != whole || fault.Error() != want {
			t.Errorf("%v: %s", fault, got)
		}
	}
	if all := len(faults) - 1; all != 30 {
		t.Errorf("%d faults, of which 30 are compared", all)
	}
}

func TestMustUnderstand(t *testing.T) {
	root, err := parseXML(AppendMustUnderstand(nil))
	if err != nil {
		t.Fatal(err)
	}
	fault := root.children[0].children[0]
	if code := fault.named("faultcode"); fault.space != soapNamespace || len(code) != 1 || code[0].text != "s:MustUnderstand" {
		t.Errorf("fault %v", fault)
	}
}

func TestListing(t *testing.T) {
	entries := []PortMapping{
		{"", 4000, "TCP", 5000, "192.168.1.2", true, "</p:x>&", 3600},
		{"192.0.2.1", 4001, "UDP", 4001, "192.168.1.3", false, "", 0},
	}
	c := Call{Action: wanIPConnection.action("GetListOfPortMappings", V2), asked: wanIPConnection.Type(V2)}
	want := `<p:PortMappingList xmlns:p="urn:schemas-upnp-org:gw:WANIPConnection">` +
		"<p:PortMappingEntry><p:NewRemoteHost></p:NewRemoteHost><p:NewExternalPort>4000</p:NewExternalPort><p:NewProtocol>TCP</p:NewProtocol>" +
		"<p:NewInternalPort>5000</p:NewInternalPort><p:NewInternalClient>192.168.1.2</p:NewInternalClient><p:NewEnabled>1</p:NewEnabled>" +
		"<p:NewDescription>&lt;/p:x&gt;&amp;</p:NewDescription><p:NewLeaseTime>3600</p:NewLeaseTime></p:PortMappingEntry>" +
		"<p:PortMappingEntry><p:NewRemoteHost>192.0.2.1</p:NewRemoteHost><p:NewExternalPort>4001</p:NewExternalPort><p:NewProtocol>UDP</p:NewProtocol>" +
		"<p:NewInternalPort>4001</p:NewInternalPort><p:NewInternalClient>192.168.1.3</p:NewInternalClient><p:NewEnabled>0</p:NewEnabled>" +
		"<p:NewDescription></p:NewDescription><p:NewLeaseTime>0</p:NewLeaseTime></p:PortMappingEntry></p:PortMappingList>"
	if got := string(joined(c.Listing(slices.Values(entries)))); !strings.Contains(got, "<![CDATA["+want+"]]>") {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestAppendEvent(t *testing.T) {
	got := string(AppendEvent(nil, []Property{{"ExternalIPAddress", ""}, {"PossibleConnectionTypes", "a<b"}}))
	want := `<?xml version="1.0"?>` + "\n" + `<e:propertyset xmlns:e="urn:schemas-upnp-org:event-1-0">` +
		"<e:property><ExternalIPAddress></ExternalIPAddress></e:property>" +
		"<e:property><PossibleConnectionTypes>a&lt;b</PossibleConnectionTypes></e:property></e:propertyset>\n"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
