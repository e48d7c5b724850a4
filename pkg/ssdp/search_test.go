package ssdp_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"igdd/pkg/ssdp"
)

var (
	group   = ssdp.IPv4.Addr()
	unicast = netip.MustParseAddr("192.168.50.1")
)

// proper is a search as the standard has it.
const proper = "M-SEARCH * HTTP/1.1\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\nST: upnp:rootdevice\r\n\r\n"

func TestParseSearch(t *testing.T) {
	root := ssdp.Target{Kind: ssdp.RootDevice}
	rootIn1s := ssdp.Search{Target: root, MaxWait: time.Second}
	search := func(man string) string { return strings.Replace(proper, `MAN: "ssdp:discover"`, man, 1) }
	spaced := func(start string) string { return strings.Replace(proper, "M-SEARCH * HTTP/1.1", start, 1) }
	tests := []struct {
		name, text string
		to         netip.Addr
		want       ssdp.Search
	}{
		{"as in the standard", "M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\nMX: 2\r\nST: ssdp:all\r\nUSER-AGENT: x\r\n\r\n",
			group, ssdp.Search{Target: ssdp.Target{Kind: ssdp.All}, MaxWait: 2 * time.Second}},
		{"no blanks, lower case, any order", "M-SEARCH * HTTP/1.1\r\nst:upnp:rootdevice\r\nman:\"ssdp:discover\"\r\nmx:3\r\n\r\n",
			group, ssdp.Search{Target: root, MaxWait: 3 * time.Second}},
		{"many blanks", "M-SEARCH * HTTP/1.1\r\nST: \t upnp:rootdevice \t\r\nMAN:\t\"ssdp:discover\" \r\nMX:  0005 \r\n\r\n",
			group, ssdp.Search{Target: root, MaxWait: 5 * time.Second}},
		{"line feeds alone", "M-SEARCH * HTTP/1.1\nMAN: \"ssdp:discover\"\nMX: 1\nST: upnp:rootdevice\n\n",
			group, ssdp.Search{Target: root, MaxWait: time.Second}},
		{"more empty lines", "M-SEARCH * HTTP/1.1\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\nST: upnp:rootdevice\r\n\r\n\r\n\r\n",
			group, ssdp.Search{Target: root, MaxWait: time.Second}},
		{"no empty line", "M-SEARCH * HTTP/1.1\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\nST: upnp:rootdevice\r\n",
			group, ssdp.Search{Target: root, MaxWait: time.Second}},
		{"what follows the empty line", "M-SEARCH * HTTP/1.1\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\nST: upnp:rootdevice\r\n\r\nST: ssdp:all\r\n",
			group, ssdp.Search{Target: root, MaxWait: time.Second}},
		{"unknown fields, even odd ones", "M-SEARCH * HTTP/1.1\r\nX\r\n: y\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\nST: upnp:rootdevice\r\nX-\x00\xff: z\r\n\r\n",
			group, ssdp.Search{Target: root, MaxWait: time.Second}},
		{"long wait", "M-SEARCH * HTTP/1.1\r\nMAN: \"ssdp:discover\"\r\nMX: 120\r\nST: upnp:rootdevice\r\n\r\n",
			group, ssdp.Search{Target: root, MaxWait: ssdp.MaxWait}},
		{"endless wait", "M-SEARCH * HTTP/1.1\r\nMAN: \"ssdp:discover\"\r\nMX: 99999999999999999999999\r\nST: upnp:rootdevice\r\n\r\n",
			group, ssdp.Search{Target: root, MaxWait: ssdp.MaxWait}},
		{"no wait", "M-SEARCH * HTTP/1.1\r\nMAN: \"ssdp:discover\"\r\nMX: 0\r\nST: upnp:rootdevice\r\n\r\n",
			group, ssdp.Search{Target: root}},
		{"MAN without quotes", search("man: ssdp:discover"), group, rootIn1s},
		{"MAN in single quotes", search("MAN: 'ssdp:discover'"), group, rootIn1s},
		{"MAN with half its quotes", search(`MAN: "ssdp:discover`), group, rootIn1s},
		{"MAN in capitals", search(`MAN: "SSDP:Discover"`), group, rootIn1s},
		{"MAN with blanks in the quotes", search("MAN: \" ssdp:discover\t\""), group, rootIn1s},
		{"MAN with blanks in the word", search(`MAN:ssdp : discover`), group, rootIn1s},
		{"MAN twice, the same", search("MAN: \"ssdp:discover\"\r\nMan:\"ssdp:discover\" "), group, rootIn1s},
		{"no blank before the target", spaced("M-SEARCH* HTTP/1.1"), group, rootIn1s},
		{"no blank behind the target", spaced("M-SEARCH *HTTP/1.1"), group, rootIn1s},
		{"no blanks in the first line", spaced("M-SEARCH*HTTP/1.1"), group, rootIn1s},
		{"many blanks in the first line", spaced("M-SEARCH \t *   HTTP/1.1"), group, rootIn1s},
		{"blanks behind the version", spaced("M-SEARCH * HTTP/1.1 \t "), group, rootIn1s},
		{"value in a folded line", search("MAN:\r\n\t \"ssdp:discover\""), group, rootIn1s},
		{"other field in folded lines", search("MAN: \"ssdp:discover\"\r\nUSER-AGENT: x\r\n y\r\n\tz"), group, rootIn1s},
		{"line of blanks", strings.TrimSuffix(proper, "\r\n") + "  \r\n", group, rootIn1s},
		{"last line without its end", strings.TrimSuffix(proper, "\r\n\r\n"), group, rootIn1s},
		{"half the end of the last line", strings.TrimSuffix(proper, "\n\r\n"), group, rootIn1s},
		{"half of the empty line", strings.TrimSuffix(proper, "\n"), group, rootIn1s},
		{"zeros behind the last line", strings.TrimSuffix(proper, "\r\n\r\n") + "\x00\x00", group, rootIn1s},
		{"zeros in place of the empty line", strings.TrimSuffix(proper, "\r\n") + "\x00", group, rootIn1s},
		{"line ends of a program that writes text", strings.ReplaceAll(proper, "\r\n", "\r\r\n"), group, rootIn1s},
		{"all at once, as programs in the field have it", "M-SEARCH* HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: ssdp:discover\r\nMX: 10\r\nST: upnp:rootdevice",
			group, ssdp.Search{Target: root, MaxWait: ssdp.MaxWait}},
		{"to one device, with an MX that is none", "M-SEARCH * HTTP/1.1\r\nMAN: ssdp:discover\r\nMX: soon\r\nST: upnp:rootdevice",
			unicast, ssdp.Search{Target: root}},
		{"to one device, without MX", "M-SEARCH * HTTP/1.1\r\nMAN: \"ssdp:discover\"\r\nST: upnp:rootdevice\r\n\r\n",
			unicast, ssdp.Search{Target: root}},
		{"to one device, with MX", "M-SEARCH * HTTP/1.1\r\nMAN: \"ssdp:discover\"\r\nMX: 3\r\nST: upnp:rootdevice\r\n\r\n",
			unicast, ssdp.Search{Target: root}},
	}
	for _, tt := range tests {
		if got, err := ssdp.ParseSearch([]byte(tt.text), tt.to); err != nil || got != tt.want {
			t.Errorf("%s: got %+v, %v, want %+v", tt.name, got, err, tt.want)
		}
	}
}

func TestParseSearchIgnores(t *testing.T) {
	replace := func(old, new string) string { return strings.Replace(proper, old, new, 1) }
	tests := map[string]string{
		"nothing":                        "",
		"one line":                       "M-SEARCH * HTTP/1.1",
		"noise":                          "\x00\x01\x02\xff\n\n",
		"other method":                   replace("M-SEARCH", "NOTIFY"),
		"method in lower case":           replace("M-SEARCH", "m-search"),
		"blank in the method":            replace("M-SEARCH", "M- SEARCH"),
		"blank before all":               " " + proper,
		"line before all":                "\r\n" + proper,
		"no target":                      replace("* ", ""),
		"other target":                   replace("* ", "/ "),
		"target twice":                   replace("* ", "* * "),
		"target and a path":              replace("* ", "*/ "),
		"no version":                     replace(" HTTP/1.1", ""),
		"blank in the version":           replace("/1.1", "/ 1.1"),
		"version in lower case":          replace("HTTP", "http"),
		"HTTP/1.10":                      replace("/1.1", "/1.10"),
		"HTTP/1.0":                       replace("/1.1", "/1.0"),
		"text behind version":            replace("/1.1", "/1.1 x"),
		"an answer":                      replace("M-SEARCH * HTTP/1.1", "HTTP/1.1 200 OK"),
		"no MAN":                         replace("MAN", "WOMAN"),
		"empty MAN":                      replace("\"ssdp:discover\"", ""),
		"MAN of quotes":                  replace("\"ssdp:discover\"", "\"\""),
		"other MAN":                      replace("discover", "other"),
		"MAN and more":                   replace("discover\"", "discover\"; ns=01"),
		"MAN, then another":              replace("MX", "MAN: \"ssdp:other\"\r\nMX"),
		"MAN in two spellings":           replace("MX", "MAN: ssdp:discover\r\nMX"),
		"no MX":                          replace("MX: 1\r\n", ""),
		"empty MX":                       replace("MX: 1", "MX:"),
		"MX of blanks":                   replace("MX: 1", "MX: \t "),
		"MX in quotes":                   replace("MX: 1", "MX: \"1\""),
		"MX twice":                       replace("MX: 1", "MX: 1\r\nMX: 2"),
		"MX in words":                    replace("MX: 1", "MX: soon"),
		"negative MX":                    replace("MX: 1", "MX: -1"),
		"signed MX":                      replace("MX: 1", "MX: +1"),
		"fraction":                       replace("MX: 1", "MX: 1.5"),
		"no ST":                          replace("ST: upnp:rootdevice\r\n", ""),
		"empty ST":                       replace("upnp:rootdevice", ""),
		"ST in quotes":                   replace("upnp:rootdevice", "\"upnp:rootdevice\""),
		"ST in capitals":                 replace("upnp:rootdevice", "UPNP:ROOTDEVICE"),
		"blank in ST":                    replace("upnp:rootdevice", "upnp: rootdevice"),
		"zero in ST":                     replace("upnp:rootdevice", "upnp:rootdevice\x00"),
		"ST cut off":                     strings.TrimSuffix(proper, "vice\r\n\r\n"),
		"only carriage returns":          strings.ReplaceAll(proper, "\r\n", "\r"),
		"ST twice":                       replace("ST: ", "ST: ssdp:all\r\nst: "),
		"ST empty, then not":             replace("ST: ", "ST:\r\nST: "),
		"ST behind empty line":           replace("ST: ", "\r\nST: "),
		"folded MX":                      replace("MX: 1", "MX: 1\r\n 2"),
		"folded name":                    replace("ST:", "S\r\n T:"),
		"folded first line":              replace("\r\nMAN", "\r\n HOST: x\r\nMAN"),
		"ST in a folded line":            replace("ST: ", "USER-AGENT: x\r\n ST: "),
		"ST behind empty line and blank": replace("ST: ", "\r\n \r\nST: "),
		"folded line":                    replace("upnp:rootdevice", "upnp:rootdevice\r\n x"),
		"blank before colon":             replace("ST:", "ST :"),
		"too long":                       replace("ST:", "X: "+strings.Repeat("x", ssdp.MaxLen)+"\r\nST:"),
	}
	for name, text := range tests {
		if got, err := ssdp.ParseSearch([]byte(text), group); err != ssdp.ErrIgnore {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
	if _, err := ssdp.ParseSearch([]byte(proper), group); err != nil {
		t.Errorf("the good one: %v", err)
	}
}

// spellings are what may stand in the place of each part of a search without
// changing what it asks; the first is that of the standard.
var spellings = [...][]string{
	{"M-SEARCH * HTTP/1.1", "M-SEARCH* HTTP/1.1", "M-SEARCH *HTTP/1.1", "M-SEARCH*HTTP/1.1", "M-SEARCH  \t*  HTTP/1.1", "M-SEARCH * HTTP/1.1\t "},
	{"\r\n", "\n", "\r\r\n"},
	{"MAN", "Man", "man"},
	{`"ssdp:discover"`, "ssdp:discover", "'ssdp:discover'", `" ssdp:discover "`, `"SSDP:Discover"`},
	{"MX", "mx", "Mx"},
	{": ", ":", ":\t", ":  ", ":\n "},
	{"ST", "st", "St"},
	{"", " ", "\t "},                       // behind a value
	{"", "HOST: x", "X: y\n z", ":", "ST"}, // a line that does not count
	{"once", "twice"},
	{"MAN first", "ST first"},
	{"\n\n", "\n", "", "\n\nST: ssdp:all\n", "\n\n\n\n", "\x00", "\n\x00", "\n\n\x00\x00"},
}

// spell writes a search for st. Each of the numbers chooses the spelling of a
// part; parts that have none are as in the standard.
func spell(st string, choices []byte) string {
	var part [len(spellings)]string
	for i, s := range spellings {
		part[i] = s[0]
		if i < len(choices) {
			part[i] = s[int(choices[i])%len(s)]
		}
	}
	field := func(name, value string) string { return name + part[5] + value + part[7] }
	lines := []string{field(part[2], part[3]), field(part[4], "1"), field(part[6], st), part[8]}
	if part[8] == "" {
		lines = lines[:3]
	}
	if part[9] == "twice" {
		lines = append(lines, lines...)
	}
	if part[10] == "ST first" {
		slices.Reverse(lines)
	}
	text := strings.Join(append([]string{part[0]}, lines...), "\n") + part[11]
	return strings.ReplaceAll(text, "\n", part[1])
}

// FuzzSpelling demands that a search asks the same in every spelling that is
// taken.
func FuzzSpelling(f *testing.F) {
	for i, s := range spellings {
		for n := range s {
			choices := make([]byte, len(spellings))
			choices[i] = byte(n)
			f.Add("upnp:rootdevice", choices)
			f.Add("urn:schemas-upnp-org:device:InternetGatewayDevice:2", append(choices[i:], choices[:i]...))
		}
	}
	f.Add("", []byte(nil))
	f.Add("UPNP:rootdevice", []byte{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1})
	f.Fuzz(func(t *testing.T, st string, choices []byte) {
		if strings.ContainsAny(st, "\r\n\x00") || len(st) > 200 {
			return
		}
		want, wantErr := ssdp.ParseSearch([]byte(spell(st, nil)), group)
		got, err := ssdp.ParseSearch([]byte(spell(st, choices)), group)
		if got != want || err != wantErr {
			t.Errorf("%q: got %+v, %v, want %+v, %v", spell(st, choices), got, err, want, wantErr)
		}
	})
}

// FuzzParseSearch demands that what is read can be worded and read again.
func FuzzParseSearch(f *testing.F) {
	for _, v := range load(f) {
		if v.Trigger == "datagram" {
			f.Add(v.octets(), strings.HasPrefix(v.To, "multicast"))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, multicast bool) {
		to := unicast
		if multicast {
			to = group
		}
		s, err := ssdp.ParseSearch(b, to)
		if err != nil {
			return
		}
		mx := ""
		if multicast {
			mx = "\r\nMX: " + string(rune('0'+s.MaxWait/time.Second))
		}
		again, err := ssdp.ParseSearch([]byte("M-SEARCH * HTTP/1.1\r\nMAN: \"ssdp:discover\""+mx+"\r\nST: "+s.Target.String()+"\r\n\r\n"), to)
		if err != nil || again != s || s.MaxWait > ssdp.MaxWait {
			t.Errorf("%+v became %+v, %v", s, again, err)
		}
		if description, items := ssdp.Match([]*ssdp.Description{description1, description2}, s.Target); (description == nil) != (len(items) == 0) || len(items) > 11 {
			t.Errorf("%v finds %v", s.Target, items)
		}
	})
}
