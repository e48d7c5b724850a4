package netfilter

// RunAlone makes each batch run in a process of its own.
func (f *Firewall) RunAlone() {
	for _, family := range []*family{f.ipv4, f.ipv6} {
		if family != nil {
			family.restore = family.restore.(*resident).fallback
		}
	}
}

// Resident returns the process that waits for the next IPv4 batch, 0 if none does.
func (f *Firewall) Resident() (pid int) {
	r := f.ipv4.restore.(*resident)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.process == nil {
		return 0
	}
	return r.process.cmd.Process.Pid
}

// EndQuietSpell does not wait until the resident process is dismissed.
func (f *Firewall) EndQuietSpell() { f.ipv4.restore.(*resident).idleTimer.Reset(0) }

// Notifier returns a function that tells whether others have touched the
// firewall, whose xtables lock is this file, since it was last asked.
func (f *Firewall) Notifier(lock string) (touched func() bool, err error) {
	if f.ipv4.nft {
		f.notifier, err = nftNotifier()
	} else {
		f.notifier, err = lockNotifier([]string{lock})
	}
	return func() bool {
		f.begin()
		f.end()
		select {
		case <-f.notifier.notified:
			return true
		default:
			return false
		}
	}, err
}

// Busy is a piece of work on the firewall, until it is done.
func (f *Firewall) Busy() (done func()) {
	f.begin()
	return f.end
}
