package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// servedWait is how long each service has to serve an honest client after an attack.
const servedWait = 3 * time.Second

// attackRun is a run of all attacks on one program.
type attackRun struct {
	lab      *lab
	program  string
	died     []string // the attacks that killed it
	unserved []string // those after which an honest client was not served
}

// measureAttacks attacks a daemon that has a limit of memory, and prints a table and a
// verdict. It tries the attacks whose names contain only.
func measureAttacks(name, folder, program, memory, only string) error {
	l, err := newLab(name, folder)
	if err != nil {
		return err
	}
	l.memory = memory
	if err := l.addIPv6(); err != nil {
		return err
	}
	r := attackRun{lab: l, program: program}
	fmt.Print("\n| attack | requests | daemon | honest clients | RSS kB | peak kB | table full |\n| --- | ---: | --- | --- | ---: | ---: | ---: |\n")
	for _, a := range attacks {
		if !strings.Contains(a.what, only) {
			continue
		}
		if err := r.attack(a); err != nil {
			return fmt.Errorf("%s: %w: %s", a.what, err, l.log.recent())
		}
	}
	switch {
	case len(r.died) > 0:
		return fmt.Errorf("the daemon died of: %s", strings.Join(r.died, "; "))
	case len(r.unserved) > 0:
		return fmt.Errorf("an honest client was not served after: %s", strings.Join(r.unserved, "; "))
	}
	fmt.Print("\nThe daemon survived, and honest clients were served after each attack.\n")
	return nil
}

// attack attacks a new daemon once and prints the line of the table.
func (r *attackRun) attack(a attack) error {
	p, err := r.lab.start(r.program, leases{})
	if err != nil {
		return err
	}
	defer r.lab.settle(p)
	s, err := discover(firstClient)
	if err != nil {
		return err
	}
	// Version 1 of the memory controller can forget the peak of the start.
	os.WriteFile(filepath.Join(r.lab.memory, "memory.max_usage_in_bytes"), []byte("0"), 0)
	before := tableFulls()
	n, err := a.run(r.lab, s)
	missing := r.lab.unserved(s)
	alive, served := r.judge(a, p, missing)
	fmt.Printf("| %s | %d | %s | %s | %.0f | %d | %d |\n",
		a.what, n, alive, served, resident(p.pids()[:1]), r.lab.peak()/1024, tableFulls()-before)
	if alive == died {
		return nil // which may be why the attack failed
	}
	return err
}

// died is the word for a daemon that an attack has killed.
const died = "DIED"

// judge notes what an attack did, and returns it in words.
func (r *attackRun) judge(a attack, p *process, missing []string) (alive, served string) {
	alive, served = "alive", "served"
	if len(missing) > 0 {
		served = "NOT SERVED: " + strings.Join(missing, ", ")
		r.unserved = append(r.unserved, a.what)
	}
	if p.hasExited() {
		alive = died
		r.died = append(r.died, a.what)
	}
	return alive, served
}

// unserved returns which services do not serve an honest client, which asks twice, and
// why.
func (l *lab) unserved(s *service) (missing []string) {
	c, err := newClient(0, 0, s, servedWait)
	if err != nil {
		return []string{err.Error()}
	}
	defer c.close()
	c.web.wait = servedWait
	for _, service := range []struct {
		name string
		ask  []func(uint16) error
	}{
		{"NAT-PMP", []func(uint16) error{c.externalAddress, c.natpmpMap, c.natpmpDelete}},
		{"PCP", []func(uint16) error{c.announce, c.pcpMap, c.pcpDelete}},
		{"UPnP", []func(uint16) error{c.getExternal, c.upnpAdd, c.upnpDelete}},
		{"SSDP", []func(uint16) error{c.search}},
	} {
		if err := askAll(service.ask); err != nil && askAll(service.ask) != nil {
			missing = append(missing, fmt.Sprintf("%s (%v)", service.name, err))
		}
	}
	return missing
}

// askAll asks one after the other, until one is refused or not answered.
func askAll(requests []func(uint16) error) error {
	for _, ask := range requests {
		if err := ask(firstPort); err != nil {
			return err
		}
	}
	return nil
}

// peak returns the most memory that the daemon's group had, in bytes.
func (l *lab) peak() int {
	for _, name := range []string{"memory.max_usage_in_bytes", "memory.peak"} {
		if text, err := os.ReadFile(filepath.Join(l.memory, name)); err == nil {
			n, _ := strconv.Atoi(strings.TrimSpace(string(text)))
			return n
		}
	}
	return 0
}
