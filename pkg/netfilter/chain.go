package netfilter

import "fmt"

// The operations on chains and rules, in the syntax of iptables-restore.
const (
	opCreate = ":" // create the chain, or flush an existing one
	opAppend = "-A"
	opInsert = "-I" // at the head
	opDelete = "-D"
	opFlush  = "-F"
	opRemove = "-X"
)

// edit is one change of a table.
type edit struct{ op, chain, rule string }

// String returns the edit as a line for iptables-restore.
func (e edit) String() string {
	switch e.op {
	case opCreate:
		return ":" + e.chain + " - [0:0]"
	case opFlush, opRemove:
		return e.op + " " + e.chain
	}
	return e.op + " " + e.chain + " " + e.rule
}

// inverse returns the edit that undoes appending or deleting a rule. A deleted
// rule comes back at the end of the chain, which changes nothing for packets:
// no two mappings have the same external port.
func (e edit) inverse() edit {
	if e.op == opAppend {
		e.op = opDelete
	} else {
		e.op = opAppend
	}
	return e
}

// do runs the edit as an iptables command.
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

// hook is a chain with a jump to one of the daemon's chains, and how the jump is
// added.
type hook struct{ chain, op string }

// The places for jumps: the chains that AstLinux's firewall provides for them,
// or else the head of the built-in chain, as in miniupnpd's own script. At its
// end they would come after the rule that drops all other packets.
var (
	natHooks    = [...]hook{{"POST_NAT_PREROUTING_CHAIN", opAppend}, {"PREROUTING", opInsert}}
	filterHooks = [...]hook{{"POST_FORWARD_CHAIN", opAppend}, {"FORWARD", opInsert}}
	// The first matching rule translates an outgoing packet. AstLinux's own
	// rules follow right after this chain.
	peerHooks = [...]hook{{"NAT_POSTROUTING_CHAIN", opAppend}, {"POSTROUTING", opInsert}}
)

// chain is a chain for the daemon's rules, and what is known of it.
type chain struct {
	family      *family
	table, name string
	wan         []string                // the uplinks whose packets it gets
	hooks       []hook                  // best first, the built-in chain last; none: used if the chain exists, never created
	jumpRule    func(wan string) string // the rule in the hook
	side        string                  // "-i" or "-o": the option of that rule that names the uplink
	onDemand    bool                    // created for its first rule

	present       bool   // it existed at the last Setup or Sync
	applied       digest // of the rules that were last applied
	sawHookChain  bool   // a hook of the firewall's own, not built in, has existed
	hookChainGone bool   // but did not in the last listing
	borrowed      bool   // another program created it, but all its rules are the daemon's
	foreign       bool   // another program has created it, and is expected to do so again
	adoptJumps    bool   // the record of an older version does not name the jumps
	owned
}

// owned is what the daemon created and has to remove.
type owned struct {
	created   bool   // the chain
	jumps     []jump // to the chain
	loneJumps []jump // those that were added to a built-in chain without other rules
}

// isOptional reports whether the chain is used only if it exists.
func (c *chain) isOptional() bool { return len(c.hooks) == 0 }

// builtInHook returns the hook that is a chain of the kernel.
func (c *chain) builtInHook() hook { return c.hooks[len(c.hooks)-1] }

// isNeeded reports whether the daemon has to create the chain for this many
// rules.
func (c *chain) isNeeded(rules int) bool { return !c.isOptional() && (!c.onDemand || rules > 0) }

// observe updates what is known of the chain from a listing.
func (c *chain) observe(l listing) {
	switch {
	case !l.has(c.name):
		c.created = false
	case !c.created:
		c.foreign = true
	}
	c.borrowed = l.has(c.name) && !c.created
	if c.adoptJumps {
		c.jumps, c.adoptJumps = c.matchingJumps(l), false
	}
	c.forgetMissingJumps(l, nil)
	c.disownJumps(l)
	if !c.isOptional() {
		c.sawHookChain = c.sawHookChain || c.hook(l) != c.builtInHook()
		c.hookChainGone = c.isStopped(l)
	}
}

// isStopped reports whether the router's firewall is stopped: its own chain for
// jumps existed before and is gone.
func (c *chain) isStopped(l listing) bool {
	return c.sawHookChain && c.hook(l) == c.builtInHook()
}

// hook returns the place for a new jump.
func (c *chain) hook(l listing) hook {
	for _, h := range c.hooks {
		if l.has(h.chain) {
			return h
		}
	}
	return c.builtInHook()
}
