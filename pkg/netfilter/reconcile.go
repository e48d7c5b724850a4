package netfilter

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"igdd/pkg/portmap"
	"igdd/pkg/xtables"
)

// reconcile makes the kernel agree with what a family holds: snapshot, plan,
// transaction. It is not logged: the caller knows what it means.
func (f *Firewall) reconcile(ctx context.Context, family *family) error {
	s, err := f.snapshot(ctx, family)
	if err != nil {
		return err
	}
	_, err = f.carryOutPlan(ctx, family, s)
	return err
}

// snapshot lists the tables of a family, until ctx or the firewall ends.
func (f *Firewall) snapshot(ctx context.Context, family *family) (xtables.Snapshot, error) {
	return f.untilEnd(ctx, family.snapshot)
}

// untilEnd lists tables until ctx or the firewall ends.
func (f *Firewall) untilEnd(ctx context.Context, list func(context.Context) (xtables.Snapshot, error)) (xtables.Snapshot, error) {
	both, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(f.ctx, cancel)()
	return list(both)
}

// carryOutPlan plans and carries out what the tables in a snapshot lack, as far as the
// kernel accepts the rules that mappings can do without.
func (f *Firewall) carryOutPlan(ctx context.Context, family *family, s xtables.Snapshot) (plan, error) {
	p, err := f.commitPlan(ctx, family, s)
	if isRefusal(ctx, err) {
		if without, accepted := f.carryOutWithoutExits(ctx, family, err); accepted {
			return without, nil
		}
		if without, accepted := f.carryOutWithoutHairpin(ctx, family, err); accepted {
			return without, nil
		}
	}
	return p, err
}

// commitPlan plans and carries out what the tables in a snapshot lack. Before that
// it saves in the ownership record what the daemon will own afterwards.
func (f *Firewall) commitPlan(ctx context.Context, family *family, s xtables.Snapshot) (plan, error) {
	p := family.plan(s, f.wantedRules(family), f.currentNetwork())
	before := make(map[*chain]owned)
	for c, edits := range p.edits {
		before[c] = c.owned
		for _, e := range edits {
			c.noteIntent(s[c.table], e)
		}
	}
	f.saveOwnership(family)
	done, err := p.transaction(family).commit(ctx, f.watch)
	for _, c := range family.chains {
		switch {
		case err == nil || slices.Contains(done, c.table):
			c.rules, c.present = len(p.rules[c]), p.tables[c.table].Has(c.name)
			c.forgetMissingJumps(p.tables[c.table])
		case !errors.Is(err, xtables.ErrInterrupted): // if interrupted, it may have been carried out
			if owned, planned := before[c]; planned {
				c.owned = owned
			}
		}
	}
	f.saveOwnership(family)
	if err == nil {
		family.update(func(h *health) { h.left = nil })
		family.endPauses()
	}
	moved := err == nil && family.hairpin.settle()
	family.restored = family.restored || err == nil && !p.isEmpty() && !moved
	if err == nil && p.stopped {
		err = ErrStopped
	}
	return p, err
}

// restore reconciles a family and notes the result. If the kernel refuses the
// rules of single mappings, the others are restored nevertheless.
func (f *Firewall) restore(ctx context.Context, family *family) (p plan, err error) {
	began := time.Now()
	if family.refusals.isOver(began) {
		clear(family.refused)
	}
	s, err := f.untilEnd(ctx, family.snapshotAside)
	family.restored = false // by this look: another one may have ended meanwhile
	switch {
	case err == nil && family.isInTransition():
		return plan{tables: s}, nil
	case err == nil:
		if p, err = f.carryOutPlan(ctx, family, s); isRefusal(ctx, err) {
			p, err = f.isolate(ctx, family, began, err)
		}
		if err == nil {
			err = f.ipv4.programs.CheckLock() // if there was nothing to do, no program has tried
		}
		family.failing = err
	case !family.seen:
		family.failing = err
	}
	if ctx.Err() != nil || f.ctx.Err() != nil {
		return p, err
	}
	family.setPauses(began, err)
	f.noteResult(family, p, err)
	if err == nil {
		f.report(family, p)
	}
	return p, err
}

// setPauses sets when to try again after a look.
func (f *family) setPauses(began time.Time, err error) {
	if err == nil && len(f.refused) == 0 {
		f.refusals = backoff{}
	}
	if isFailure(err) {
		f.retry.fail(began, time.Now())
	} else {
		f.retry, f.failing = backoff{}, nil
	}
}

// report tells what a look has found, unless the router's firewall is stopped.
func (f *Firewall) report(family *family, p plan) {
	if f.looked != nil && !family.stopped {
		family.again = f.looked(f.lookOf(family, p))
	}
}

// isRefusal reports whether the kernel has refused rules, so that it may accept
// some of them.
func isRefusal(ctx context.Context, err error) bool {
	return err != nil && ctx.Err() == nil && !errors.Is(err, ErrStopped) && !errors.Is(err, portmap.ErrLocked) && !errors.Is(err, xtables.ErrTimeout)
}

// maxIsolation bounds the transactions of isolate.
const maxIsolation = 100

// isolate finds the mappings whose rules the kernel refuses, after a transaction
// with all of them has failed, and restores the others.
func (f *Firewall) isolate(ctx context.Context, family *family, began time.Time, failed error) (p plan, err error) {
	lacking, err := f.lacking(ctx, family)
	if err != nil {
		return p, err
	}
	family.refuse(lacking, failed)
	err = f.reconcile(ctx, family)
	if err == nil {
		tries := maxIsolation
		err = f.admit(ctx, family, lacking, &tries)
	}
	if err != nil { // it concerns all of them
		clear(family.refused)
		return p, err
	}
	family.refusals.fail(began, time.Now())
	s, err := f.snapshot(ctx, family)
	if err != nil {
		return p, err
	}
	return f.carryOutPlan(ctx, family, s)
}

// refuse notes that the kernel refuses the rules of mappings.
func (f *family) refuse(list []*portmap.Mapping, why error) {
	for _, m := range list {
		f.refused[m.Key] = why
	}
}

// admit restores as many of the mappings, which are refused, as the kernel
// accepts, by halves. An error is none of a single mapping.
func (f *Firewall) admit(ctx context.Context, family *family, list []*portmap.Mapping, tries *int) error {
	if *tries == 0 || len(list) == 0 {
		return nil
	}
	*tries--
	why := family.refused[list[0].Key]
	for _, m := range list {
		delete(family.refused, m.Key)
	}
	err := f.reconcile(ctx, family)
	if !isRefusal(ctx, err) {
		return err
	}
	if len(list) == 1 {
		family.refuse(list, err)
		return nil
	}
	family.refuse(list, why)
	if err := f.admit(ctx, family, list[:len(list)/2], tries); err != nil {
		return err
	}
	return f.admit(ctx, family, list[len(list)/2:], tries)
}

// lacking returns the mappings that the kernel lacks rules of.
func (f *Firewall) lacking(ctx context.Context, family *family) (list []*portmap.Mapping, err error) {
	s, err := f.snapshot(ctx, family)
	if err != nil {
		return nil, err
	}
	there := make(map[rule]bool)
	for _, c := range family.chains {
		for _, text := range s[c.table].Rules(c.name) {
			there[rule{c, text}] = true
		}
	}
	for _, m := range family.mappings() {
		rules, _ := f.rules(m)
		if slices.ContainsFunc(rules, func(r rule) bool { return !there[r] }) {
			list = append(list, m)
		}
	}
	return list, nil
}

// lookOf returns what a look has found.
func (f *Firewall) lookOf(family *family, p plan) Look {
	l := Look{Family: family.kind, Changed: family.lastChange()}
	if family == f.ipv4 {
		l.Forwards = f.nat.forwards(p.tables[f.nat.table], f.currentNetwork().Uplink)
	} else {
		l.Passes = p.tables.PassesAny(f.forward6.name)
	}
	return l
}

// noteResult notes what has become of a look, for the operator, and logs what
// has changed.
func (f *Firewall) noteResult(family *family, p plan, err error) {
	trouble := err
	if err == nil && len(family.refused) > 0 {
		trouble = newRefusal(family.refused)
	}
	var before health
	family.update(func(h *health) {
		before = *h
		h.trouble = trouble
		if err == nil {
			h.dead, h.works = p.dead, true
		}
	})
	if err == nil {
		f.logDead(family, p.dead)
	}
	switch {
	case trouble == nil && before.trouble != nil && family.known:
		f.log.Log(context.Background(), portmap.LevelNotice, "rules are applied again", "family", family.kind)
	case trouble == nil || repeats(trouble, before.trouble):
	case errors.Is(trouble, ErrStopped):
		f.log.Warn("the firewall is stopped; mappings are restored when it starts", "family", family.kind)
	default:
		f.log.Error("cannot apply rules, will retry", "family", family.kind, "err", trouble)
	}
	family.known = true
}

// restTime is for how long connections must not get to the daemon's chains before
// that is logged: a firewall that restarts adds its rules one by one.
const restTime = 10 * time.Second

// logDead logs why connections do not get to the daemon's chains, once that has
// lasted.
func (f *Firewall) logDead(family *family, reasons []string) {
	d := &family.dead
	if !slices.Equal(reasons, d.reasons) {
		*d = deadReasons{reasons: reasons, since: time.Now()}
	}
	if d.logged || len(reasons) == 0 || time.Since(d.since) < restTime {
		return
	}
	d.logged = true
	for _, reason := range reasons {
		f.log.Warn("mappings do not work: "+reason, "family", family.kind)
	}
}

// deadReasons is why connections do not get to the daemon's chains.
type deadReasons struct {
	reasons []string
	since   time.Time
	logged  bool
}

// wait returns after what time the reasons are to be logged; 0: they are not.
func (d *deadReasons) wait() time.Duration {
	if len(d.reasons) == 0 || d.logged {
		return 0
	}
	return max(time.Millisecond, restTime-time.Since(d.since))
}

// repeats reports whether an error says the same as the one before, but for
// numbers, such as those of lines.
func repeats(err, before error) bool {
	now, single := errors.AsType[*refusal](err)
	if was, wasSingle := errors.AsType[*refusal](before); single && wasSingle {
		return now.mappings == was.mappings
	}
	return before != nil && !single && withoutDigits(err.Error()) == withoutDigits(before.Error())
}

func withoutDigits(text string) string {
	return strings.Map(func(r rune) rune {
		if '0' <= r && r <= '9' {
			return -1
		}
		return r
	}, text)
}

// refusal is the error of mappings whose rules the kernel refuses.
type refusal struct {
	mappings string
	cause    error
}

// newRefusal returns the error of mappings, which names the first of them.
func newRefusal(refused map[portmap.Key]error) *refusal {
	byName := func(a, b portmap.Key) int { return cmp.Compare(a.String(), b.String()) }
	first := slices.MinFunc(slices.Collect(maps.Keys(refused)), byName)
	r := &refusal{"mapping " + first.String(), refused[first]}
	if n := len(refused) - 1; n > 0 {
		r.mappings += fmt.Sprintf(" and %d more", n)
	}
	return r
}

func (r *refusal) Error() string {
	return "the kernel refuses the rules of " + r.mappings + ": " + r.cause.Error()
}

func (r *refusal) Unwrap() error { return r.cause }
