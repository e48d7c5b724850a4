package daemon_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"igdd/pkg/natpmp"
	"igdd/pkg/netlab"
)

// blockStateFile has every write to the daemon's state file wait, uninterruptibly as on
// a disk that does not answer, until release is called: another write to it is under
// way, which holds the lock of the file until a page fault of its buffer is handled.
func (r *rig) blockStateFile(t *testing.T) (release func()) {
	t.Helper()
	leases, err := filepath.EvalSymlinks(r.path("disk/upnp.leases"))
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(leases+".state", os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	faults, page := faultingPage(t)
	result := make(chan error, 1)
	go func() {
		_, err := f.Write(page)
		result <- err
	}()
	unix.Read(faults, make([]byte, 32)) // a message: the write has come to its page
	release = sync.OnceFunc(func() {
		unix.Munmap(page)
		unix.Close(faults)
		if err := <-result; !errors.Is(err, unix.EFAULT) {
			t.Errorf("the blocking write has ended with %v", err)
		}
		f.Close()
	})
	t.Cleanup(release)
	return release
}

// Requests of ioctl_userfaultfd(2).
const (
	uffdioAPI          = 0xc018aa3f
	uffdioRegister     = 0xc020aa00
	uffdAPI            = 0xaa // the version
	registerForMissing = 1    // UFFDIO_REGISTER_MODE_MISSING
)

// faultingPage returns a page of memory whose use waits until it is unmapped and the
// descriptor, from which a message can be read then, is closed.
func faultingPage(t *testing.T) (faults int, page []byte) {
	t.Helper()
	page, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	fd, _, errno := unix.Syscall(unix.SYS_USERFAULTFD, unix.O_CLOEXEC, 0, 0)
	if errno != 0 {
		t.Fatalf("userfaultfd: %v", errno)
	}
	api := struct{ api, features, ioctls uint64 }{api: uffdAPI}
	area := struct{ start, length, mode, ioctls uint64 }{uint64(uintptr(unsafe.Pointer(&page[0]))), uint64(len(page)), registerForMissing, 0}
	_, _, noAPI := unix.Syscall(unix.SYS_IOCTL, fd, uffdioAPI, uintptr(unsafe.Pointer(&api)))
	_, _, noArea := unix.Syscall(unix.SYS_IOCTL, fd, uffdioRegister, uintptr(unsafe.Pointer(&area)))
	if noAPI != 0 || noArea != 0 {
		t.Fatalf("userfaultfd: %v, %v", noAPI, noArea)
	}
	return int(fd), page
}

// newStuckRig is a rig whose daemon has mapped port 4000 when its disk stops answering,
// until release is called.
func newStuckRig(t *testing.T) (r *rig, release func()) {
	t.Helper()
	netlab.NeedRoot(t, "userfaultfd")
	r = newRig(t, "nft", netlab.Layout{})
	if err := os.Mkdir(r.path("disk"), 0o755); err != nil { // a rename there may block the folder, too
		t.Fatal(err)
	}
	r.onDisk(t)
	r.grant(t, mapping(natpmp.MapTCP, 4000, 4000, time.Hour))
	await(t, "the lease", func() bool {
		text, err := os.ReadFile(r.path("disk/upnp.leases"))
		return err == nil && strings.HasPrefix(string(text), "TCP:4000:")
	})
	return r, r.blockStateFile(t)
}

// onDisk starts the daemon with its lease file in a folder of its own.
func (r *rig) onDisk(t *testing.T, more ...string) {
	t.Helper()
	r.foreground(t, append(more, "lease_file="+r.path("disk/upnp.leases"))...)
}

// demandPorts demands that ports are mapped, and no others.
func (r *rig) demandPorts(t *testing.T, want ...uint16) {
	t.Helper()
	var ports []uint16
	for _, e := range r.entries(t) {
		ports = append(ports, e.ExternalPort)
	}
	if slices.Sort(ports); !slices.Equal(ports, want) {
		t.Fatalf("ports %v are mapped, want %v", ports, want)
	}
}

// TestStuckDisk has the disk not answer for a while: clients and miniupnpctl are
// answered, and everything is saved in the end.
func TestStuckDisk(t *testing.T) {
	t.Parallel()
	r, release := newStuckRig(t)
	r.grant(t, mapping(natpmp.MapTCP, 4001, 4001, time.Hour))
	r.says(t, "status", 4, "leases: not saved: the disk does not answer")
	r.grant(t, mapping(natpmp.MapTCP, 4002, 4002, time.Hour))
	r.grant(t, mapping(natpmp.MapTCP, 4001, 4001, 2*time.Hour))
	r.grant(t, mapping(natpmp.MapTCP, 4000, 0, 0))
	r.demandPorts(t, 4001, 4002)
	if log := r.log(t); strings.Count(log, "cannot save mappings") != 1 {
		t.Errorf("log:\n%s", log)
	}
	release()
	await(t, "saving again", func() bool { return strings.Contains(r.log(t), "leases are saved again") })
	r.says(t, "status", 0, "mappings: 2 of 1 client")
	r.stop(t, syscall.SIGKILL)
	r.onDisk(t)
	r.demandPorts(t, 4001, 4002)
}

// TestStopWithStuckDisk stops the daemon while the disk does not answer: the rules are
// removed at once, and the process ends as soon as the kernel lets it.
func TestStopWithStuckDisk(t *testing.T) {
	t.Parallel()
	r, release := newStuckRig(t)
	r.grant(t, mapping(natpmp.MapTCP, 4001, 4001, time.Hour))
	pid := r.pid()
	r.kill(syscall.SIGTERM)
	r.awaitState(t, 0, 0)
	await(t, "the removal of the pid file", func() bool {
		_, err := os.Stat(r.path("pid"))
		return errors.Is(err, os.ErrNotExist)
	})
	if log := r.log(t); !strings.Contains(log, "ending without saving the latest leases") {
		t.Errorf("log:\n%s", log)
	}
	release()
	await(t, "the end of the daemon", func() bool { return !alive(pid) })
	r.onDisk(t)
	r.grant(t, mapping(natpmp.MapTCP, 4002, 4002, time.Hour))
}

// TestReloadWithStuckDisk starts another instance while the disk does not answer: it has
// the mappings and blocks of its predecessor, and saves them in the end.
func TestReloadWithStuckDisk(t *testing.T) {
	t.Parallel()
	r, release := newStuckRig(t)
	r.grant(t, mapping(natpmp.MapTCP, 4001, 4001, time.Hour))
	r.says(t, "block forever 192.168.50.11", 1, "0 mappings closed block 1 is in force forever")
	r.configure(t, "enable_upnp=yes", "http_port=5001", "lease_file="+r.path("disk/upnp.leases"))
	r.kill(syscall.SIGHUP)
	if err := r.awaitHTTP(5001); err != nil {
		t.Fatal(err)
	}
	r.grant(t, mapping(natpmp.MapTCP, 4002, 4002, time.Hour))
	r.demandPorts(t, 4000, 4001, 4002)
	r.says(t, "explain 192.168.50.11 tcp 4003 4003", 4, "blocked by the operator block: 1, forever")
	release()
	r.awaitStatus(t)
	r.stop(t, syscall.SIGKILL)
	r.onDisk(t, "enable_upnp=yes", "http_port=5001")
	r.demandPorts(t, 4000, 4001, 4002)
	r.says(t, "explain 192.168.50.11 tcp 4003 4003", 4, "blocked by the operator block: 1, forever")
}

// awaitStatus waits until miniupnpctl reports no trouble.
func (r *rig) awaitStatus(t *testing.T) {
	t.Helper()
	await(t, "the end of the trouble", func() bool {
		_, status := r.ctl(t, "status")
		return status == 0
	})
}
