package netfilter

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

// How long the resident process is waited for, and kept.
const (
	// greetingTime is for the answer to the first line, which needs neither
	// lock nor kernel.
	greetingTime = 5 * time.Second
	// sectionTime is for one table: the lock, and 10,000 rules on a slow board.
	sectionTime = lockWait*time.Second + 10*time.Second
	// idleTimeout is how long a process waits for another batch. It costs two
	// megabytes and the room of the tables meanwhile, and starting one a few
	// milliseconds.
	idleTimeout = 10 * time.Second
)

// keepMemory tells glibc's malloc (mallopt(3)) to keep what it has freed: a
// process that gives its copy of a large table back after each commit spends
// more time on page faults than on the table, with 5,000 mappings four times as
// much. Other C libraries do not know these variables.
var keepMemory = []string{"MALLOC_MMAP_MAX_=0", "MALLOC_TRIM_THRESHOLD_=1000000000"}

// resident is the committer that keeps one iptables-restore for many batches.
// It starts one for the first batch and dismisses it after a quiet spell;
// where none can be had each batch gets a process of its own. The xtables lock
// is only ever held between a section's first line and its COMMIT.
type resident struct {
	fallback oneShot // the program, and what to do where it cannot stay
	log      *slog.Logger

	mu        sync.Mutex
	noEcho    bool     // the program does not repeat comments, or there is no terminal for it
	process   *process // nil: none
	idleTimer *time.Timer
}

// commit carries out the sections.
func (r *resident) commit(ctx context.Context, sections []section) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.ready() {
		return r.fallback.commit(ctx, sections)
	}
	done, err := r.process.commit(ctx, sections)
	if err != nil {
		r.drop()
		return done, fmt.Errorf("%s: %w", r.fallback.path, err)
	}
	r.idleTimer.Reset(idleTimeout)
	return done, nil
}

// ready sees to it that there is a process; it returns false if there cannot be.
func (r *resident) ready() bool {
	if r.process != nil && r.process.idle() {
		return true
	}
	r.drop()
	if r.noEcho {
		return false
	}
	p, err := start(r.fallback.path)
	if err != nil {
		r.noEcho = true
		r.log.Info("each batch of rules gets a process of its own", "program", r.fallback.path, "reason", err)
		return false
	}
	r.process = p
	if r.idleTimer == nil {
		r.idleTimer = time.AfterFunc(idleTimeout, r.close)
	}
	return true
}

// close lets the process go.
func (r *resident) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.drop()
}

func (r *resident) drop() {
	if r.process != nil {
		r.process.kill()
		r.process = nil
	}
}

// process is an iptables-restore that waits for sections.
type process struct {
	cmd    *exec.Cmd
	in     *os.File
	out    *os.File // a pseudo-terminal: anywhere else its output would be held back
	lines  *bufio.Reader
	stderr bytes.Buffer
	ended  chan struct{} // closed when it has ended
}

// start starts the program and demands that it repeats a comment.
func start(path string) (*process, error) {
	p := &process{cmd: exec.Command(path, arguments()...), ended: make(chan struct{})}
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
		p.cmd.Wait() // what became of it is in ProcessState
		close(p.ended)
	}()
	if _, err := p.send(context.Background(), []byte(committed+"\n"), 1, greetingTime); err != nil {
		p.kill()
		return nil, fmt.Errorf("it does not repeat a comment: %w", err)
	}
	return p, nil
}

// connect makes the pipe and the terminal to talk by, and returns the
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

// idle reports whether the process lives and has said all that it had to say.
func (p *process) idle() bool {
	select {
	case <-p.ended:
		return false
	default:
		return p.lines.Buffered() == 0
	}
}

// commit carries out the sections. After an error the process is of no use.
func (p *process) commit(ctx context.Context, sections []section) (int, error) {
	return p.send(ctx, render(sections), len(sections), time.Duration(len(sections))*sectionTime)
}

// wait has reading and writing fail after t.
func (p *process) wait(t time.Time) error {
	return errors.Join(p.in.SetWriteDeadline(t), p.out.SetReadDeadline(t))
}

// send writes text and waits until as many comments of ours as it has have
// been repeated, the process has ended or ctx has.
func (p *process) send(ctx context.Context, text []byte, comments int, patience time.Duration) (done int, err error) {
	if err := p.wait(time.Now().Add(patience)); err != nil {
		return 0, err
	}
	defer context.AfterFunc(ctx, func() { p.wait(time.Now()) })()
	_, broken := p.in.Write(text) // a process that ended has its say below
	for broken == nil || !errors.Is(broken, os.ErrDeadlineExceeded) {
		var line string
		if line, broken = p.lines.ReadString('\n'); broken != nil {
			break
		}
		if strings.TrimSpace(line) == committed {
			if done++; done == comments {
				return done, nil
			}
		}
	}
	return done, p.cause(broken)
}

// cause returns why the process did not do what it was asked to.
func (p *process) cause(broken error) error {
	if !errors.Is(broken, os.ErrDeadlineExceeded) {
		select {
		case <-p.ended:
			if state := p.cmd.ProcessState; state.Exited() {
				return locked(&command.ExitError{ProcessState: state, Stderr: p.stderr.Bytes()})
			}
		case <-time.After(greetingTime):
		}
	}
	return fmt.Errorf("%w: %w", errInterrupted, broken)
}

// kill ends the process, whatever it does, and waits for its end.
func (p *process) kill() {
	p.close()
	p.cmd.Process.Kill()
	<-p.ended
}

func (p *process) close() {
	p.in.Close()
	p.out.Close()
}

// arguments are those of iptables-restore for batches of ours.
func arguments() []string {
	return []string{"--noflush", "--verbose", "--wait", strconv.Itoa(lockWait)}
}
