package daemon_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"igdd/pkg/control"
	"igdd/pkg/leasefile"
	"igdd/pkg/portmap"
)

// agreeWithin is how long kernel, table and lease file may differ after faults: the
// daemon repairs rules within seconds, and tries a disk again after at most a minute.
const agreeWithin = 90 * time.Second

// check demands that kernel, table, lease file and clients agree, while clients go on: it
// reads again until no difference has been there in all readings. It returns how long
// that took, and the number of mappings.
func (s *soakRun) check() (took time.Duration, mappings int) {
	s.t.Helper()
	s.calm(s.states...)
	s.awaitSaved()
	began := time.Now()
	left, mappings := s.compare()
	for ; len(left) > 0 && !s.failed.Load(); time.Sleep(50 * time.Millisecond) {
		if time.Since(began) > agreeWithin {
			s.fail(claim{}, fmt.Sprintf("no agreement within %v:\n%s", agreeWithin, strings.Join(left, "\n")))
			break
		}
		var now []string
		now, mappings = s.compare()
		left = slices.DeleteFunc(left, func(line string) bool { return !slices.Contains(now, line) })
	}
	return time.Since(began), mappings
}

// compare reads table, kernel, lease file and the table again, and returns what is not the
// same. What contradicts an answer to a client fails the test at once.
func (s *soakRun) compare() (differences []string, mappings int) {
	s.t.Helper()
	before, began := s.book.copy(), time.Now()
	list := s.entries(s.t)
	for c, wrong := range s.book.judge(list, before, s.book.copy(), began, time.Now()) {
		s.fail(c, wrong)
	}
	rules, lines := s.soakRules(), s.leaseLines()
	both := append(slices.Clone(list), s.entries(s.t)...)
	inbound := slices.DeleteFunc(slices.Clone(both), isOutbound)
	text := differ("kernel", rules, slices.Concat(rulesFor(inbound), leavingRules(inbound), peerRules(both))) + differ("lease file", withoutTimes(lines), withoutTimes(linesFor(inbound)))
	for _, e := range list {
		if e.Dormant {
			text += fmt.Sprintf("dormant: %s %v:%d: %s\n", e.Protocol, e.Client, e.ClientPort, e.Reason)
		}
	}
	return strings.FieldsFunc(text+s.trouble(), func(r rune) bool { return r == '\n' }), len(list)
}

// expiry is the time in a line of the lease file, and the description after it. A client
// that renews often changes them between the readings.
var expiry = regexp.MustCompile(`:\d+:[^:]*$`)

// withoutTimes returns lines without when leases expire.
func withoutTimes(lines []string) (list []string) {
	for _, line := range lines {
		list = append(list, expiry.ReplaceAllString(line, ""))
	}
	return list
}

// isOutbound reports whether an entry was requested with PCP's PEER.
func isOutbound(e control.Entry) bool {
	return e.ClientPort >= peerPorts && e.ClientPort < upnpPorts
}

// leavingRules returns the rules by which what the hosts of inbound entries send leaves by
// the external port, and what others send from that does not.
func leavingRules(list []control.Entry) (rules []string) {
	for _, e := range list {
		if !e.Enabled || e.Dormant || e.Pinhole || e.ExternalPort == e.ClientPort {
			continue
		}
		remotes := e.Remote
		if len(remotes) == 0 {
			remotes = []string{""}
		}
		others := fmt.Sprintf("%d-65535", e.ExternalPort+1)
		if e.ExternalPort > (1024+65535)/2 {
			others = fmt.Sprintf("1024-%d", e.ExternalPort-1)
		}
		for _, remote := range remotes {
			if remote != "" {
				remote = "-d " + remote + " "
			}
			path := fmt.Sprintf("%s-o wan0 -p %s -m %[2]s --sport", remote, strings.ToLower(e.Protocol))
			rules = append(rules, fmt.Sprintf("-s %v/32 %s %d -j MASQUERADE --to-ports %d", e.Client, path, e.ClientPort, e.ExternalPort),
				fmt.Sprintf("%s %d -j MASQUERADE --to-ports %s", path, e.ExternalPort, others))
		}
	}
	return rules
}

// peerRules returns the rules of entries that were requested with PCP's PEER.
func peerRules(list []control.Entry) (rules []string) {
	for _, e := range list {
		if isOutbound(e) && !e.Dormant {
			rules = append(rules, fmt.Sprintf("-s %v/32 -d 11.22.33.1/32 -p udp -m udp --sport %d --dport 9999 -j MASQUERADE --to-ports %d",
				e.Client, e.ClientPort, e.ExternalPort))
		}
	}
	return rules
}

// soakRules returns the daemon's rules of both families and directions.
func (s *soakRun) soakRules() (rules []string) {
	s.t.Helper()
	saved := s.Router.Run(s.t, "/usr/sbin/iptables-"+s.variant+"-save", "-t", "nat")
	for line := range strings.Lines(saved) {
		if _, rule, _ := strings.Cut(strings.TrimPrefix(line, "-A "), " "); strings.Contains(rule, "--to-ports") {
			rules = append(rules, strings.TrimSpace(rule))
		}
	}
	return append(rules, s.mappingRules(s.t)...)
}

// leaseLines returns the lines of the lease file.
func (s *soakRun) leaseLines() []string {
	s.t.Helper()
	text, err := os.ReadFile(s.disk("upnp.leases"))
	s.demand(err)
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

// trouble returns what miniupnpctl says is wrong with the firewall.
func (s *soakRun) trouble() string {
	s.t.Helper()
	var status control.Status
	text, _ := s.ctl(s.t, "status", "--json")
	if err := json.Unmarshal([]byte(text), &status); err != nil {
		return fmt.Sprintf("status: %v: %s\n", err, text)
	}
	if !status.Firewall.Healthy {
		return "firewall: " + strings.ReplaceAll(status.Firewall.Trouble, "\n", "; ") + "\n"
	}
	return ""
}

// stateSize returns the size of the state file, and that of a new one with the same
// mappings.
func (s *soakRun) stateSize() (size, content int64) {
	s.t.Helper()
	target, err := filepath.EvalSymlinks(s.disk("upnp.leases"))
	s.demand(err)
	dir := s.t.TempDir()
	copied := filepath.Join(dir, "upnp.leases")
	for _, suffix := range []string{".state", ""} {
		text, err := os.ReadFile(target + suffix)
		s.demand(err)
		s.demand(os.WriteFile(copied+suffix, text, 0o600))
		size = max(size, int64(len(text)))
	}
	held, err := leasefile.New(leasefile.Options{Path: copied}).Load()
	s.demand(err)
	fresh := leasefile.New(leasefile.Options{Path: filepath.Join(dir, "new")})
	var changes []portmap.Change
	for _, m := range held {
		changes = append(changes, portmap.Change{After: m})
	}
	_, err = fresh.Load()
	s.demand(err)
	s.demand(fresh.Save(changes))
	s.demand(fresh.Checkpoint())
	info, err := os.Stat(filepath.Join(dir, "new.state"))
	s.demand(err)
	return size, info.Size()
}
