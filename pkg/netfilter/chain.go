package netfilter

import "igdd/pkg/xtables"

// hook is a chain with a jump to one of the daemon's chains, and how the jump is
// added.
type hook struct{ chain, op string }

// The chains for jumps: those that AstLinux's firewall provides for them, or
// else the built-in chain.
var (
	natHooks    = [...]hook{{"POST_NAT_PREROUTING_CHAIN", xtables.Append}, {"PREROUTING", xtables.Insert}}
	filterHooks = [...]hook{{"POST_FORWARD_CHAIN", xtables.Append}, {"FORWARD", xtables.Insert}}
	// The first matching rule translates an outgoing packet. AstLinux's own
	// rules follow right after this chain.
	peerHooks = [...]hook{{"NAT_POSTROUTING_CHAIN", xtables.Append}, {"POSTROUTING", xtables.Insert}}
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

	present       bool // it existed at the last look
	rules         int  // how many the daemon has last given it
	sawHookChain  bool // a hook of the firewall's own, not built in, has existed
	hookChainGone bool // but did not at the last look
	borrowed      bool // another program created it, but all its rules are the daemon's
	foreign       bool // another program has created it, and is expected to do so again
	adoptJumps    bool // the record of an older version does not name the jumps
	owned
}

// owned is what the daemon created and has to remove.
type owned struct {
	created   bool           // the chain
	jumps     []xtables.Jump // to the chain
	loneJumps []xtables.Jump // those that were added to a built-in chain without other rules
}

// isOptional reports whether the chain is used only if it exists.
func (c *chain) isOptional() bool { return len(c.hooks) == 0 }

// builtInHook returns the hook that is a chain of the kernel.
func (c *chain) builtInHook() hook { return c.hooks[len(c.hooks)-1] }

// isNeeded reports whether the daemon has to create the chain for this many
// rules.
func (c *chain) isNeeded(rules int) bool { return !c.isOptional() && (!c.onDemand || rules > 0) }

// observe updates what is known of the chain from a listing of its table.
func (c *chain) observe(t xtables.Table) {
	c.present = t.Has(c.name)
	switch {
	case !c.present:
		c.created = false
	case !c.created:
		c.foreign = true
	}
	c.borrowed = c.present && !c.created
	if c.adoptJumps {
		c.jumps, c.adoptJumps = c.matchingJumps(t), false
	}
	c.forgetMissingJumps(t)
	c.disownJumps(t)
	if !c.isOptional() {
		c.sawHookChain = c.sawHookChain || c.hook(t) != c.builtInHook()
		c.hookChainGone = c.isStopped(t)
	}
}

// isStopped reports whether the router's firewall is stopped: its own chain for
// jumps existed before and is gone.
func (c *chain) isStopped(t xtables.Table) bool {
	return c.sawHookChain && c.hook(t) == c.builtInHook()
}

// hook returns the best hook that exists.
func (c *chain) hook(t xtables.Table) hook {
	for _, h := range c.hooks {
		if t.Has(h.chain) {
			return h
		}
	}
	return c.builtInHook()
}
