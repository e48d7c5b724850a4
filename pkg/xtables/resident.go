package xtables

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	"igdd/pkg/command"
)

// Time limits of the resident process.
const (
	// handshakeTimeout is for the answer to the first line, which needs neither
	// lock nor kernel.
	handshakeTimeout = 5 * time.Second
	// sectionTimeout is for one table: the lock, and 10,000 rules on a slow board.
	sectionTimeout = lockWait*time.Second + 10*time.Second
	// idleTimeout is how long a process waits for the next transaction.
	// Meanwhile it takes two megabytes and its copy of the tables; starting one
	// takes a few milliseconds.
	idleTimeout = 10 * time.Second
)

// keepMemory tells glibc's malloc (mallopt(3)) to keep what it has freed: a
// process that returns its copy of a large table to the kernel after each commit
// spends more time on page faults than on the table, with 5,000 mappings four
// times as much. Other C libraries ignore these variables.
var keepMemory = []string{"MALLOC_MMAP_MAX_=0", "MALLOC_TRIM_THRESHOLD_=1000000000"}

// resident is the committer that keeps one iptables-restore for many
// transactions. It starts it for the first one and closes it after idleTimeout;
// if it cannot, it starts one for each transaction. The process holds the
// xtables lock only between the first line of a section and its COMMIT.
type resident struct {
	fallback oneShot // has the path of the program
	log      *slog.Logger

	mu        sync.Mutex
	process   *process // nil: none
	idleTimer *time.Timer
	failures  int       // to start a process, in a row
	retryAt   time.Time // of the next try after a failure; until then fallback is used
}

// The pause before another try to start a process that failed doubles up to
// maxRetryPause: the program may never print comments, but memory or terminals
// may be short for a while only.
const (
	firstRetryPause = 10 * time.Second
	maxRetryPause   = time.Hour
)

// commit carries out the sections.
func (r *resident) commit(ctx context.Context, sections []Section) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.ensureProcess(ctx) {
		return r.fallback.commit(ctx, sections)
	}
	done, err := r.process.commit(ctx, sections)
	if err != nil {
		r.killProcess()
		return done, fmt.Errorf("%s: %w", r.fallback.path, err)
	}
	r.idleTimer.Reset(idleTimeout)
	return done, nil
}

// ensureProcess starts a process unless there is an idle one. It returns false
// if there can be none.
func (r *resident) ensureProcess(ctx context.Context) bool {
	if r.process != nil && r.process.isIdle() {
		return true
	}
	r.killProcess()
	if time.Now().Before(r.retryAt) {
		return false
	}
	p, err := start(ctx, r.fallback.path)
	if err != nil {
		if ctx.Err() == nil { // else the program has not failed
			r.fail(err)
		}
		return false
	}
	r.failures = 0
	r.process = p
	if r.idleTimer == nil {
		r.idleTimer = time.AfterFunc(idleTimeout, r.close)
	}
	return true
}

// fail notes that no process could be started.
func (r *resident) fail(err error) {
	if r.failures == 0 {
		r.log.Info("no resident iptables-restore; starting one for each transaction", "program", r.fallback.path, "reason", err)
	}
	r.retryAt = time.Now().Add(min(firstRetryPause<<min(r.failures, 16), maxRetryPause))
	r.failures++
}

// close ends the process.
func (r *resident) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.killProcess()
}

func (r *resident) killProcess() {
	if r.process != nil {
		r.process.kill()
		r.process = nil
	}
}

// process is an iptables-restore that waits for sections.
type process struct {
	cmd    *exec.Cmd
	in     *os.File
	out    *os.File // a pseudo-terminal: to a pipe C libraries write only full buffers
	lines  *bufio.Reader
	stderr bytes.Buffer
	ended  chan struct{} // closed when it has ended
}

// start starts the program and checks that it prints a comment.
func start(ctx context.Context, path string) (*process, error) {
	p := &process{cmd: exec.Command(path, restoreArgs()...), ended: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), keepMemory...)
	input, err := p.connect()
	if err != nil {
		return nil, err
	}
	p.cmd.Stderr = &p.stderr
	err = p.cmd.Start()
	input.Close()
	p.cmd.Stdout.(*os.File).Close()
	if err != nil {
		p.close()
		return nil, err
	}
	go func() {
		p.cmd.Wait() // failure reads ProcessState
		close(p.ended)
	}()
	if _, err := p.send(ctx, []byte(committed+"\n"), 1, handshakeTimeout); err != nil {
		p.kill()
		return nil, fmt.Errorf("it does not print comments: %w", err)
	}
	return p, nil
}

// connect opens the pipe to the process and its terminal, and returns the
// process's end of the pipe.
func (p *process) connect() (input *os.File, err error) {
	var terminal *os.File
	if p.out, terminal, err = openPTY(); err != nil {
		return nil, err
	}
	if input, p.in, err = os.Pipe(); err != nil {
		p.out.Close()
		terminal.Close()
		return nil, err
	}
	p.cmd.Stdin, p.cmd.Stdout = input, terminal
	p.lines = bufio.NewReader(p.out)
	return input, nil
}

// isIdle reports whether the process runs and has no output left to read.
func (p *process) isIdle() bool {
	select {
	case <-p.ended:
		return false
	default:
		return p.lines.Buffered() == 0
	}
}

// commit carries out the sections. After an error the process cannot be used.
func (p *process) commit(ctx context.Context, sections []Section) (int, error) {
	return p.send(ctx, render(sections), len(sections), time.Duration(len(sections))*sectionTimeout)
}

// setDeadline makes reading and writing fail after t.
func (p *process) setDeadline(t time.Time) error {
	return errors.Join(p.in.SetWriteDeadline(t), p.out.SetReadDeadline(t))
}

// send writes text and waits until the process has printed this many comments,
// or has ended, or ctx has. It returns how many were printed.
func (p *process) send(ctx context.Context, text []byte, comments int, limit time.Duration) (done int, err error) {
	if err := p.setDeadline(time.Now().Add(limit)); err != nil {
		return 0, err
	}
	defer context.AfterFunc(ctx, func() { p.setDeadline(time.Now()) })()
	_, err = p.in.Write(text) // if the process has ended, read what it printed before
	for err == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
		var line string
		if line, err = p.lines.ReadString('\n'); err != nil {
			break
		}
		if strings.TrimSpace(line) == committed {
			if done++; done == comments {
				return done, nil
			}
		}
	}
	return done, p.failure(err)
}

// failure returns the error of a process that did not print all comments.
func (p *process) failure(err error) error {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		select {
		case <-p.ended:
			if state := p.cmd.ProcessState; state.Exited() {
				return markLocked(&command.ExitError{ProcessState: state, Stderr: p.stderr.Bytes()})
			}
		case <-time.After(handshakeTimeout):
		}
	}
	return fmt.Errorf("%w: %w", ErrInterrupted, err)
}

// kill kills the process and waits for its end.
func (p *process) kill() {
	p.close()
	p.cmd.Process.Kill()
	<-p.ended
}

func (p *process) close() {
	p.in.Close()
	p.out.Close()
}

// restoreArgs returns the arguments of iptables-restore.
func restoreArgs() []string {
	return []string{"--noflush", "--verbose", "--wait", strconv.Itoa(lockWait)}
}
