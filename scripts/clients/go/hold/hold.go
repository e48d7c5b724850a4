// Package hold keeps port mappings for as long as the script that started the program wants them.
package hold

import (
	"bufio"
	"fmt"
	"log"
	"os"
	"slices"
)

// Gateway is what a client library does with the gateway that it found.
type Gateway struct {
	// External reads the external address; nil where the library cannot.
	External func() (string, error)
	// Map asks for a mapping, or renews it, and returns the external port.
	Map func(protocol string, internal, external int) (int, error)
	// Unmap gives it back; nil where the library lets its lease run out.
	Unmap func(protocol string, internal, external int) error
}

// mapping is what the script's services on the client's host need.
type mapping struct {
	protocol           string
	internal, external int
}

// Main discovers a gateway and maps TCP 8080 and UDP 9000, or only those of the
// protocols given. It maps them again at each line from standard input, and
// gives them back at its end. An error ends the program.
func Main(discover func() (Gateway, error), protocols ...string) {
	log.SetFlags(log.Lmicroseconds)
	gateway, err := discover()
	if err == nil {
		err = gateway.hold(wishes(protocols))
	}
	if err != nil {
		log.Fatal(err)
	}
}

func wishes(protocols []string) []mapping {
	all := []mapping{{"TCP", 8080, 40080}, {"UDP", 9000, 40090}}
	if len(protocols) == 0 {
		return all
	}
	return slices.DeleteFunc(all, func(m mapping) bool { return !slices.Contains(protocols, m.protocol) })
}

func (g Gateway) hold(mappings []mapping) error {
	if g.External != nil {
		address, err := g.External()
		if err != nil {
			return fmt.Errorf("external address: %w", err)
		}
		fmt.Println("external", address)
	}
	if err := g.mapAll("mapped", mappings); err != nil {
		return err
	}
	for input := bufio.NewScanner(os.Stdin); input.Scan(); {
		if err := g.mapAll("renewed", mappings); err != nil {
			return err
		}
	}
	return g.unmapAll(mappings)
}

// mapAll prints each mapping behind a word for what was done, and the word alone
// when all are done.
func (g Gateway) mapAll(done string, mappings []mapping) error {
	for i, m := range mappings {
		port, err := g.Map(m.protocol, m.internal, m.external)
		if err != nil {
			return fmt.Errorf("%s %d to %d: %w", m.protocol, m.external, m.internal, err)
		}
		mappings[i].external = port
		fmt.Println(done, m.protocol, port, m.internal)
	}
	fmt.Println(done)
	return nil
}

func (g Gateway) unmapAll(mappings []mapping) error {
	if g.Unmap == nil {
		return nil
	}
	for _, m := range mappings {
		if err := g.Unmap(m.protocol, m.internal, m.external); err != nil {
			return fmt.Errorf("give back %s %d: %w", m.protocol, m.external, err)
		}
	}
	fmt.Println("unmapped")
	return nil
}
