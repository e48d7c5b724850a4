package netfilter

// UseOneShot runs one iptables-restore for each transaction.
func (f *Firewall) UseOneShot() {
	for _, family := range []*family{f.ipv4, f.ipv6} {
		if family != nil {
			family.committer = family.committer.(*resident).fallback
		}
	}
}

// Resident returns the process that waits for the next IPv4 transaction, 0 if
// there is none.
func (f *Firewall) Resident() (pid int) {
	r := f.ipv4.committer.(*resident)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.process == nil {
		return 0
	}
	return r.process.cmd.Process.Pid
}

// ExpireIdleTimer closes the resident process as if it had been idle too long.
func (f *Firewall) ExpireIdleTimer() { f.ipv4.committer.(*resident).idleTimer.Reset(0) }

// Notifier returns a function that reports whether other programs have used the
// firewall, whose xtables lock is this file, since its last call.
func (f *Firewall) Notifier(lock string) (touched func() bool, err error) {
	if f.ipv4.isNFT {
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

// Busy is an operation on the firewall that ends with done.
func (f *Firewall) Busy() (done func()) {
	f.begin()
	return f.end
}
