package xtables_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"igdd/pkg/netlab/packetlab"
	"igdd/pkg/xtables"
)

// ruleSet is a file of testdata: rules as iptables-restore reads them, with comments
// that tell the test more:
//
//	#: class REASON                               trace need not know what the kernel does
//	#: set NAME TYPE MEMBER ...                   an ipset
//	#: DEVICE PROTOCOLS SOURCES DESTINATIONS PORTS   packets, all combinations
type ruleSet struct {
	name, text string
	class      string // "": trace knows all that the rules ask
	sets       []packetlab.Set
	packets    []packetlab.Packet
}

// readRuleSets reads the files of a folder below testdata. Each gets common
// packets as well.
func readRuleSets(t *testing.T, folder string, common ...string) (list []ruleSet) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", folder, "*.rules"))
	if err != nil || len(files) == 0 {
		t.Fatal("no rule sets", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		set, err := parseRuleSet(string(text), common)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		set.name = strings.TrimSuffix(filepath.Base(file), ".rules")
		list = append(list, set)
	}
	return list
}

// parseRuleSet parses a file.
func parseRuleSet(text string, common []string) (ruleSet, error) {
	set := ruleSet{text: text}
	for line := range strings.Lines(text) {
		words, is := strings.CutPrefix(line, "#: ")
		if !is {
			continue
		}
		if err := set.directive(words); err != nil {
			return set, fmt.Errorf("%q: %w", words, err)
		}
	}
	for _, words := range common {
		if err := set.directive(words); err != nil {
			return set, fmt.Errorf("%q: %w", words, err)
		}
	}
	return set, nil
}

// directive carries out a comment.
func (s *ruleSet) directive(words string) error {
	fields := strings.Fields(words)
	switch {
	case fields[0] == "class":
		s.class = strings.Join(fields[1:], " ")
		return nil
	case fields[0] == "set" && len(fields) > 2:
		s.sets = append(s.sets, packetlab.Set{Name: fields[1], Kind: fields[2], Members: fields[3:]})
		return nil
	case len(fields) != 5:
		return fmt.Errorf("%d words", len(fields))
	}
	return s.addPackets([5][]string{{fields[0]}, strings.Split(fields[1], ","), strings.Split(fields[2], ","), strings.Split(fields[3], ","), strings.Split(fields[4], ",")})
}

// addPackets adds the packets of all combinations.
func (s *ruleSet) addPackets(words [5][]string) error {
	for _, protocol := range words[1] {
		for _, source := range words[2] {
			for _, destination := range words[3] {
				for _, port := range words[4] {
					p, err := parsePacket(words[0][0], protocol, source, destination, port)
					if err != nil {
						return err
					}
					s.packets = append(s.packets, p)
				}
			}
		}
	}
	return nil
}

// sourcePort is the source port of packets whose sources have none.
const sourcePort = 40123

// parsePacket parses the words of one packet.
func parsePacket(in, protocol, source, destination, port string) (packetlab.Packet, error) {
	p := packetlab.Packet{In: in, Protocol: int(xtables.TCP)}
	if protocol == "udp" {
		p.Protocol = int(xtables.UDP)
	}
	from, err := netip.ParseAddrPort(source)
	if err != nil {
		var a netip.Addr
		a, err = netip.ParseAddr(source)
		from = netip.AddrPortFrom(a, sourcePort)
	}
	if err != nil {
		return p, err
	}
	to, err := netip.ParseAddr(destination)
	if err != nil {
		return p, err
	}
	number, err := strconv.ParseUint(port, 10, 16)
	p.Source, p.Destination = from, netip.AddrPortFrom(to, uint16(number))
	return p, err
}
