package xtables

import "time"

// Resident returns the process id of the process that waits for the next
// transaction, 0 if there is none.
func (p *Programs) Resident() int {
	r := p.committer.(*resident)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.process == nil || !r.process.isIdle() {
		return 0
	}
	return r.process.cmd.Process.Pid
}

// ExpireIdleTimer lets the time pass after which the process is ended.
func (p *Programs) ExpireIdleTimer() {
	r := p.committer.(*resident)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.idleTimer.Reset(0)
}

// RetryPause returns how long no other start of the process is tried, 0 if the
// last one did not fail.
func (p *Programs) RetryPause() time.Duration {
	return max(0, time.Until(p.committer.(*resident).retryAt))
}

// EndRetryPause lets that time pass.
func (p *Programs) EndRetryPause() { p.committer.(*resident).retryAt = time.Time{} }

// Open opens the notices, as Run does, of a lock file. Nothing reads them but
// Read, Begin and End.
func (w *Watch) Open(p *Programs, lock string) (err error) {
	if p.isNFT {
		w.notices, err = nftNotices()
	} else {
		w.notices, err = lockNotices([]string{lock})
	}
	return err
}

// Close closes them.
func (w *Watch) Close() {
	w.notices.file.Close()
	w.nft.socket.Close()
}

// LagBehind has the last change count as not told of yet.
func (w *Watch) LagBehind() { w.handles.generation-- }

// Read reads the notices, as Run does when there are any.
func (w *Watch) Read() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.read()
}
