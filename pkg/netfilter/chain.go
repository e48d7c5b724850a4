package netfilter

import (
	"time"

	"igdd/pkg/xtables"
)

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
	exits       *exits                  // its jumps stand in front of these; nil: they stand in the hooks
	leadsTo     string                  // for hairpin: the chain that gets the connections; "": it is for others

	present       bool      // it existed at the last look
	rules         int       // how many the daemon has last given it
	sawHookChain  bool      // a hook of the firewall's own, not built in, has existed
	hookChainGone bool      // but did not at the last look
	sawCall       bool      // a rule has called that hook
	uncalledSince time.Time // but none has since then; zero: one does
	abandoned     bool      // and other programs have left it at that
	borrowed      bool      // another program created it, but all its rules are the daemon's
	foreign       bool      // another program has created it, and is expected to do so again
	adoptJumps    bool      // the record of an older version does not name the jumps
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

// observe updates what is known of the chain from a listing of its table. changed is
// when another program has last used the firewall.
func (c *chain) observe(t xtables.Table, changed time.Time) {
	c.present = t.Has(c.name)
	switch {
	case !c.present:
		c.created = false
	case !c.created:
		c.foreign = true
	}
	c.borrowed = c.present && !c.created
	if c.exits != nil {
		c.observeExits(t)
		return
	}
	if c.adoptJumps {
		c.jumps, c.adoptJumps = c.matchingJumps(t), false
	}
	c.forgetMissingJumps(t)
	if !c.isPrivate() {
		c.disownJumps(t)
	}
	if !c.isOptional() {
		c.observeHook(t, changed)
	}
}

// abandonTime is after what time without changes a firewall that does not call its own
// chain for jumps is neither being stopped nor being built.
const abandonTime = 3 * time.Second

// observeHook updates what is known of the firewall's own chain for jumps.
func (c *chain) observeHook(t xtables.Table, changed time.Time) {
	h, now := c.hook(t), time.Now()
	exists := h != c.builtInHook()
	called := exists && c.isBuilt(t, h)
	c.sawHookChain, c.sawCall = c.sawHookChain || exists, c.sawCall || called
	switch {
	case called || !exists || !c.sawCall:
		c.uncalledSince, c.abandoned = time.Time{}, false
	case c.uncalledSince.IsZero():
		c.uncalledSince = now
	default:
		c.abandoned = c.abandoned || min(now.Sub(c.uncalledSince), now.Sub(changed)) >= abandonTime
	}
	c.hookChainGone = c.isStopped(t)
}

// isStopped reports whether the router's firewall is stopped: its own chain for
// jumps existed before and is gone, or nothing calls it any more.
func (c *chain) isStopped(t xtables.Table) bool {
	return c.sawHookChain && c.hook(t) == c.builtInHook() || c.abandoned || c.exits != nil && c.family.stopped
}

// isInTransition reports whether the firewall is being stopped or built: nothing calls
// its own chain for jumps. What was added now would have no effect, and keep a script
// from deleting the chains.
func (c *chain) isInTransition() bool { return !c.uncalledSince.IsZero() && !c.abandoned }

// planRemoval returns the edits that leave the chain empty and without the daemon's
// jumps, as far as a stopped firewall has left them.
func (c *chain) planRemoval(t xtables.Table) []xtables.Edit {
	edits := c.planRules(t, nil)
	for _, j := range c.jumps {
		edits = append(edits, xtables.Edit{Op: xtables.Delete, Chain: j.Chain, Rule: j.Rule})
	}
	return edits
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
