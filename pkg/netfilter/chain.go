package netfilter

import "fmt"

// The operations on chains and rules, as iptables-restore reads them.
const (
	opCreate = ":" // make the chain, or flush the one there is
	opAppend = "-A"
	opInsert = "-I" // at the head
	opDelete = "-D"
	opFlush  = "-F"
	opRemove = "-X"
)

// edit is one step in a table.
type edit struct{ op, chain, rule string }

// String returns the line that iptables-restore reads.
func (e edit) String() string {
	switch e.op {
	case opCreate:
		return ":" + e.chain + " - [0:0]"
	case opFlush, opRemove:
		return e.op + " " + e.chain
	}
	return e.op + " " + e.chain + " " + e.rule
}

// inverse returns the edit that takes an appended or deleted rule back. A rule
// deleted comes back at the chain's end, which changes nothing for packets:
// no two mappings have the same external port.
func (e edit) inverse() edit {
	if e.op == opAppend {
		e.op = opDelete
	} else {
		e.op = opAppend
	}
	return e
}

// do carries the edit out by a command of its own.
func (e edit) do(f *family, table string) error {
	switch rule := splitRule(e.rule); e.op {
	case opCreate:
		return f.tables.NewChain(table, e.chain)
	case opInsert:
		return f.tables.Insert(table, e.chain, 1, rule...)
	case opAppend:
		return f.tables.Append(table, e.chain, rule...)
	case opDelete:
		return f.tables.Delete(table, e.chain, rule...)
	}
	return fmt.Errorf("no command for %q", e)
}

// hook is a chain from which a chain of ours is called.
type hook struct{ chain, op string }

// Where jumps belong: where AstLinux's firewall keeps room for them, or else
// at the head of the built-in chain, as miniupnpd's own script does it. At its
// end they would stand behind whatever drops the rest.
var (
	natHooks    = [...]hook{{"POST_NAT_PREROUTING_CHAIN", opAppend}, {"PREROUTING", opInsert}}
	filterHooks = [...]hook{{"POST_FORWARD_CHAIN", opAppend}, {"FORWARD", opInsert}}
	// What leaves is translated by the first rule that fits: AstLinux's own
	// come right behind this chain.
	peerHooks = [...]hook{{"NAT_POSTROUTING_CHAIN", opAppend}, {"POSTROUTING", opInsert}}
)

// chain is one of our chains and what is known of it.
type chain struct {
	family      *family
	table, name string
	wan         []string                // the uplinks whose packets it gets
	hooks       []hook                  // best first, the last one built in; none: used if there is one, but not made
	jump        func(wan string) string // the rule at the hook
	side        string                  // "-i" or "-o": where the rule has the uplink
	lazy        bool                    // made when it has rules to hold, not before

	present      bool   // when last brought into line
	applied      digest // after what was last applied
	sawHookChain bool   // the firewall has been seen to keep room for the jumps
	bereft       bool   // that room was gone when last looked at
	used         bool   // it is somebody else's, and all rules in it are ours
	foreign      bool   // somebody else made it, who takes care of it for good
	adopts       bool   // the jumps that an older version made have to be found
	owned
}

// owned is what goes with us.
type owned struct {
	made  bool   // we made the chain
	jumps []jump // to it, that we made
	alone []jump // those of them that have been alone in a built-in chain
}

// optional reports whether the administrator, if anybody, makes the chain.
func (c *chain) optional() bool { return len(c.hooks) == 0 }

// builtIn returns the chain of the kernel that leads to c in the end.
func (c *chain) builtIn() hook { return c.hooks[len(c.hooks)-1] }

// needed reports whether the chain has to be made for this many rules.
func (c *chain) needed(rules int) bool { return !c.optional() && (!c.lazy || rules > 0) }

// observe remembers of a listing what later decisions depend on.
func (c *chain) observe(l listing) {
	switch {
	case !l.has(c.name):
		c.made = false
	case !c.made:
		c.foreign = true
	}
	c.used = l.has(c.name) && !c.made
	if c.adopts {
		c.jumps, c.adopts = c.alike(l), false
	}
	c.settle(l, nil)
	c.disown(l)
	if !c.optional() {
		c.sawHookChain = c.sawHookChain || c.hook(l) != c.builtIn()
		c.bereft = c.stopped(l)
	}
}

// stopped reports whether the firewall that the chain belongs to is stopped:
// the room that it kept for jumps is gone.
func (c *chain) stopped(l listing) bool {
	return c.sawHookChain && c.hook(l) == c.builtIn()
}

// hook returns where a new jump goes.
func (c *chain) hook(l listing) hook {
	for _, h := range c.hooks {
		if l.has(h.chain) {
			return h
		}
	}
	return c.builtIn()
}
