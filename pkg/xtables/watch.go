package xtables

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"igdd/pkg/netlink"
)

// Watch tells when other programs have changed the firewall, of any family. Work
// of the daemon's own goes between Begin and End, so that it does not count.
type Watch struct {
	// Changed has an element when another program has used the firewall.
	Changed <-chan struct{}
	// Unsure has an element when another program may have used it during the
	// daemon's own work.
	Unsure <-chan struct{}

	changed, unsure chan struct{}
	isNFT           bool
	nft             *nft

	mu      sync.Mutex // guards what follows, and reading notices
	notices *notices   // nil: Run is not running
	working int        // pieces of own work under way
	begun   int        // those that have begun
	base    uint32     // nft: the generation when the first of them began
	handles *handles   // nft: of the daemon's rules
}

// NewWatch returns the watch for the programs' variant.
func (p *Programs) NewWatch() *Watch {
	w := &Watch{changed: make(chan struct{}, 1), unsure: make(chan struct{}, 1), isNFT: p.isNFT, nft: newNFT(), handles: newHandles()}
	w.Changed, w.Unsure = w.changed, w.unsure
	return w
}

// DeletesByHandle reports whether a transaction of nothing but deletions takes no list of
// whole chains.
func (w *Watch) DeletesByHandle() bool { return w.isNFT }

// Run reads notices until ctx ends. It uses no time while nothing happens.
func (w *Watch) Run(ctx context.Context, p *Programs) error {
	n, err := p.openNotices()
	if err != nil {
		return fmt.Errorf("watch the firewall: %w", err)
	}
	w.mu.Lock()
	w.notices = n
	w.mu.Unlock()
	defer context.AfterFunc(ctx, func() { n.file.Close() })()
	for err == nil {
		if err = n.waitReadable(); err == nil {
			w.mu.Lock()
			w.read()
			w.mu.Unlock()
		}
	}
	w.mu.Lock()
	w.notices = nil
	n.file.Close()
	w.nft.socket.Close()
	w.mu.Unlock()
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("watch the firewall: %w", err)
}

// read reads the notices up to now. During own work the lock file does not tell
// whom they are about: they are counted, until the end of the work. Those of nft that
// are about what was there before the work came late, from another program; whether it
// made others is counted at the end of the work, too.
func (w *Watch) read() {
	if w.notices == nil {
		return
	}
	lost := false
	any := w.notices.drain(func(notices []byte) {
		if w.isNFT {
			lost = lost || notices == nil
			w.readNFT(notices)
		}
	})
	if lost { // whatever came after the loss
		w.handles.forget()
	}
	switch {
	case lost && w.working > 0:
		notify(w.unsure)
	case any && w.working == 0:
		notify(w.changed)
	}
}

// readNFT reads notices of nft.
func (w *Watch) readNFT(notices []byte) {
	for m := range netlink.Messages(notices) {
		w.handles.follow(m, w.working > 0)
		if n, ok := parseGeneration(m); ok && w.working > 0 && int32(n-w.base) <= 0 {
			notify(w.changed)
		}
	}
}

// Work is a piece of the daemon's own work.
type Work struct {
	watch      *Watch
	alone      bool   // no other piece was under way when it began
	begun      int    // its number
	generation uint32 // before it
	known      bool
	commits    atomic.Int32
}

// Begin begins own work on the firewall.
func (w *Watch) Begin() *Work {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.read()
	w.begun++
	k := &Work{watch: w, alone: w.working == 0, begun: w.begun}
	if w.isNFT && w.notices != nil {
		k.generation, k.known = w.nft.generation()
	}
	if w.working++; w.working == 1 {
		w.base = k.generation
		w.withLocks((*locks).startCounting)
	}
	return k
}

// Committed counts changes that the work is certain to have made: sections of
// transactions and single commands.
func (k *Work) Committed(n int) { k.commits.Add(int32(n)) }

// Commit is Programs.Commit as part of the work. With nft, where iptables would list
// whole chains for each rule, it deletes rules itself, if nothing else is to be done:
// then it carries out all sections or none.
func (k *Work) Commit(ctx context.Context, p *Programs, sections []Section) (done int, err error) {
	w := k.watch
	if w.isNFT && w.deleteByHandle(ctx, p, sections) {
		k.Committed(1)
		return len(sections), nil
	}
	losses := w.losses()
	done, err = p.Commit(ctx, sections)
	k.Committed(w.countNoticed(sections[:done]))
	if w.isNFT && err == nil {
		w.learn(p.protocolFamily(), sections, losses)
	}
	return done, err
}

// countNoticed returns how many of the sections that were carried out are certain to be
// noticed. With legacy each uses the lock; with nft one of which no edit changes anything
// leaves the generation as it was.
func (w *Watch) countNoticed(done []Section) (n int) {
	for _, s := range done {
		if !w.isNFT || slices.ContainsFunc(s.Edits, Edit.isChange) {
			n++
		}
	}
	return n
}

// End ends the work. The notices of it are discarded.
func (k *Work) End() {
	w := k.watch
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.working == 1 {
		w.withLocks((*locks).stopCounting)
	}
	w.read()
	if w.working--; w.working == 0 {
		clear(w.handles.added)
	}
	switch alone := k.alone && w.begun == k.begun; {
	case w.notices == nil || !k.mayHideChanges(alone):
	case w.isNFT && alone:
		notify(w.changed)
	default:
		notify(w.unsure)
	}
}

// withLocks calls do with the lock files that are watched, if any are.
func (w *Watch) withLocks(do func(*locks)) {
	if w.notices != nil && w.notices.locks != nil {
		do(w.notices.locks)
	}
}

// mayHideChanges reports whether another program may have changed the tables
// during the work, which was the only piece or not. With nft it has, unless it was
// another piece of own work.
func (k *Work) mayHideChanges(alone bool) bool {
	if !k.watch.isNFT {
		n := int(k.commits.Load())
		return n > 0 && !alone || !k.watch.notices.locks.uses.areOnly(n)
	}
	now, known := k.watch.nft.generation()
	return !k.known || !known || int32(now-k.generation) > k.commits.Load()
}

// maxTries limits how often rules are deleted by their handles while other programs
// change the tables at the same time.
const maxTries = 5

// manyEdits is from how many deletions on iptables carries them out if handles are
// unknown. It lists the chains once for all of them; learning the handles takes twice to
// six times as long.
const manyEdits = 20

// deleteByHandle deletes the rules of sections of nothing but deletions, all or none. It
// returns false if iptables has to do it.
func (w *Watch) deleteByHandle(ctx context.Context, p *Programs, sections []Section) bool {
	listed := false
	for range maxTries {
		generation, rules, unknown := w.find(p, sections)
		switch {
		case unknown && !listed && countEdits(sections) < manyEdits:
			w.list(ctx, p, sections)
			listed = true
			continue
		case len(rules) == 0:
			return false
		}
		err := w.nft.deleteRules(generation, rules)
		if !errors.Is(err, unix.ERESTART) && !errors.Is(err, unix.EINTR) {
			return err == nil
		}
	}
	return false
}

// countEdits returns how many edits the sections have.
func countEdits(sections []Section) (n int) {
	for _, s := range sections {
		n += len(s.Edits)
	}
	return n
}

// find returns the rules that sections delete, as handles.find does, at a generation of
// the tables.
func (w *Watch) find(p *Programs, sections []Section) (generation uint32, rules []nftRule, unknown bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.notices == nil {
		return 0, nil, false
	}
	w.read()
	rules, unknown = w.handles.find(p.protocolFamily(), sections)
	return w.handles.generation, rules, unknown
}

// list learns the handles of all rules in the chains of sections: the n-th rule of the
// kernel's list is the n-th that iptables-save prints, if nothing changes the tables
// meanwhile.
func (w *Watch) list(ctx context.Context, p *Programs, sections []Section) {
	before, known := w.nft.generation()
	s, err := p.Snapshot(ctx)
	if !known || err != nil {
		return
	}
	chains := make(map[nftChain][]uint64)
	for c := range edits(p.protocolFamily(), sections) {
		if chains[c] == nil {
			chains[c], _ = w.nft.rules(c) // none: nothing is learned
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.read()
	if now, known := w.nft.generation(); !known || now != before {
		return
	}
	for c, list := range chains {
		w.handles.setAll(c, list, s[c.table].Rules(c.name), before)
	}
}

// losses returns how often notices of nft were lost.
func (w *Watch) losses() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.handles.losses
}

// learn learns the handles of the rules that a transaction has added, unless notices
// have been lost since.
func (w *Watch) learn(family byte, sections []Section, losses int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.read(); w.handles.losses == losses {
		w.handles.learn(family, sections)
	}
}

// notify puts an element into a channel, unless it has one.
func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
