package netfilter

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"

	"igdd/pkg/xtables"
)

// ownRule matches the rules that the daemon makes, as iptables-save prints them. It and
// ownHairpinRule are compiled only for a damaged record, not at every start.
var ownRule = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^(-s [0-9a-f.:/]+ )?(-d [0-9a-f.:/]+ )?(-o \S+ )?-p (tcp|udp) -m (tcp|udp)( --sport \d+)?( --dport \d+)? ` +
		`(-j (ACCEPT|DNAT --to-destination [0-9a-f.:]+|MASQUERADE --to-ports \d+(-\d+)?)|-m conntrack --ctorigdst [0-9.]+ --ctorigdstport \d+ -j MASQUERADE)$`)
})

// ownHairpinRule matches those in hairpinChain.
var ownHairpinRule = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^(-d [0-9.]+/32|-m conntrack --ctstate DNAT) -j \S+$`)
})

// isOwnRule reports whether the daemon makes such rules in a chain.
func isOwnRule(chain, rule string) bool {
	if chain == hairpinChain {
		return ownHairpinRule().MatchString(rule)
	}
	return ownRule().MatchString(rule)
}

// closeWithout closes the ports of an earlier process without its ownership record, and
// returns the reason why there is none, with what is left. A damaged record is removed
// when the ports are closed: a later process would learn nothing from it.
func (o *Options) closeWithout(ctx context.Context, reason error) error {
	left, err := o.emptyChains(ctx)
	if err != nil {
		return joinErrors(reason, err)
	}
	if errors.Is(reason, errDamaged) {
		err = os.Remove(o.OwnershipFile)
	}
	if len(left) > 0 {
		reason = fmt.Errorf("%w; the ports are closed; unless the firewall made the chains and jumps that are left, run: %s", reason, strings.Join(left, "; "))
	}
	return joinErrors(reason, err)
}

// emptyChains removes the rules in the chains of the daemon's names, and returns the
// commands that remove the chains and the jumps to them, which may be the firewall's.
func (o *Options) emptyChains(ctx context.Context) (left []string, err error) {
	for i, list := range [...][]inventory{{
		{program: "iptables", table: "nat", borrowed: []string{hairpinChain, o.NATChain, o.PostroutingChain, peerChain, outboundChain, hairpinMasqueradeChain}},
		{program: "iptables", table: "filter", borrowed: []string{hairpinChain, o.ForwardChain}},
	}, {
		{program: "ip6tables", table: "filter", borrowed: []string{o.ForwardChain}},
	}} {
		share, cancel := shareOfTime(ctx, 2-i)
		more, failed := o.emptyFamily(share, list)
		left, err = append(left, more...), joinErrors(err, failed)
		cancel()
	}
	return left, err
}

// emptyFamily empties the chains of one family that exist. It lists all tables in use,
// since listing a single one loads its kernel module.
func (o *Options) emptyFamily(ctx context.Context, list []inventory) (left []string, err error) {
	programs, err := xtables.Find(list[0].program, o.Log)
	if err != nil && list[0].program == "ip6tables" {
		return nil, nil // there are no pinholes
	} else if err != nil {
		return nil, err
	}
	s, err := programs.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	for _, v := range list {
		t := s[v.table]
		own, foreign := v.ownChains(t)
		v.borrowed = own
		err = joinErrors(err, foreign)
		edits := v.removals(t)
		if failed := programs.CommitOnce(ctx, v.table, edits...); failed != nil {
			err = joinErrors(err, failed)
		}
		left = append(left, v.commands(t.After(edits...))...)
	}
	return left, err
}

// ownChains returns the chains that exist and have no rules but those that the daemon
// makes, and an error that names another rule.
func (v inventory) ownChains(t xtables.Table) (own []string, err error) {
	for _, name := range v.borrowed {
		i := slices.IndexFunc(t.Rules(name), func(rule string) bool { return !isOwnRule(name, rule) })
		switch {
		case !t.Has(name):
		case i >= 0:
			err = joinErrors(err, fmt.Errorf("chain %s of table %s (%s) stays, since the daemon does not make rules such as %q: run %[3]s -t %[2]s -F %[1]s to close its ports",
				name, v.table, v.program, t.Rules(name)[i]))
		default:
			own = append(own, name)
		}
	}
	return own, err
}

// commands returns the commands that remove the chains and the jumps to them.
func (v inventory) commands(t xtables.Table) (list []string) {
	prefix := v.program + " -t " + v.table + " "
	for _, name := range v.borrowed {
		for _, j := range t.JumpsTo(name) {
			list = append(list, prefix+xtables.Edit{Op: xtables.Delete, Chain: j.Chain, Rule: j.Rule}.String())
		}
		list = append(list, prefix+xtables.Edit{Op: xtables.Remove, Chain: name}.String())
	}
	return list
}
