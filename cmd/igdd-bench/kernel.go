package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Options of the kernel's IPv4 tables (linux/netfilter_ipv4/ip_tables.h).
const (
	setReplace = 64
	getInfo    = 64
	getEntries = 65
)

// tableInfo is struct ipt_getinfo.
type tableInfo struct {
	name             [32]byte
	validHooks       uint32
	hooks, underflow [5]uint32
	entries, size    uint32 // number, and bytes
}

// tableReplace is struct ipt_replace without the entries.
type tableReplace struct {
	name                      [32]byte
	validHooks, entries, size uint32
	hooks, underflow          [5]uint32
	numCounters               uint32
	counters                  *byte
}

// Sizes of the kernel's structures, in bytes.
const (
	sizeofGetEntries = 40 // struct ipt_get_entries without the entries
	sizeofReplace    = int(unsafe.Sizeof(tableReplace{}))
	sizeofCounters   = 16 // struct xt_counters
)

// tableRound reads a table and replaces it by itself: what every change of a table of
// iptables-legacy asks the kernel for.
type tableRound struct {
	socket   int
	name     string
	request  []byte // struct ipt_replace; the head of struct ipt_get_entries is shorter
	counters []byte // of the former entries
	took     time.Duration
}

// nameOf returns a name as the kernel has it.
func nameOf(table string) (name [32]byte) {
	copy(name[:], table)
	return name
}

// kernelTables measures the time of the kernel alone, in µs, for a change of both tables
// that a mapping needs: the least that any program can take. The rules stay as they are.
// It returns errors.ErrUnsupported for iptables-nft, which has no such tables.
func (r *round) kernelTables() (micros float64, err error) {
	version, err := r.lab.onRouter("iptables", "--version").Output()
	if err != nil {
		return 0, err
	}
	if !strings.Contains(string(version), "legacy") {
		return 0, errors.ErrUnsupported
	}
	// The daemon looks at the firewall when the lock was taken.
	defer time.Sleep(touchPause)
	err = r.lab.router.Do(func() error {
		lock, err := os.OpenFile(r.lab.lock, os.O_RDONLY|os.O_CREATE, 0o600)
		if err != nil {
			return err
		}
		defer lock.Close()
		if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
			return err
		}
		micros, err = replaceTables(20)
		return err
	})
	return micros, err
}

// replaceTables replaces both tables by themselves, a number of times, and returns the
// median time of both, in µs.
func replaceTables(times int) (float64, error) {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	defer unix.Close(socket)
	tables := [...]tableRound{{socket: socket, name: "nat"}, {socket: socket, name: "filter"}}
	var took []float64
	for range times {
		sum := 0.0
		for i := range tables {
			d, err := tables[i].once()
			if err != nil {
				return 0, fmt.Errorf("table %s: %w", tables[i].name, err)
			}
			sum += float64(d.Nanoseconds()) / 1e3
		}
		took = append(took, sum)
	}
	return median(took), nil
}

// once reads and replaces the table, and returns how long the kernel took.
func (t *tableRound) once() (time.Duration, error) {
	t.took = 0
	info := tableInfo{name: nameOf(t.name)}
	if err := t.get(getInfo, unsafe.Pointer(&info), unsafe.Sizeof(info)); err != nil {
		return 0, err
	}
	if need := sizeofReplace + int(info.size); cap(t.request) < need {
		t.request, t.counters = make([]byte, need), make([]byte, sizeofCounters*int(info.entries))
	}
	entries := t.request[sizeofReplace-sizeofGetEntries : sizeofReplace+int(info.size)]
	copy(entries, info.name[:])
	binary.NativeEndian.PutUint32(entries[len(info.name):], info.size)
	if err := t.get(getEntries, unsafe.Pointer(&entries[0]), uintptr(len(entries))); err != nil {
		return 0, err
	}
	return t.took, t.replace(info)
}

// get gets an option, and adds the time of the call.
func (t *tableRound) get(option uintptr, value unsafe.Pointer, size uintptr) error {
	length := uint32(size)
	begin := time.Now()
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(t.socket), unix.SOL_IP, option, uintptr(value), uintptr(unsafe.Pointer(&length)), 0)
	t.took += time.Since(begin)
	if errno != 0 {
		return os.NewSyscallError("getsockopt", errno)
	}
	return nil
}

// replace replaces the entries that have been read by themselves, and adds the time of
// the call.
func (t *tableRound) replace(i tableInfo) error {
	head := tableReplace{
		name: i.name, validHooks: i.validHooks, entries: i.entries, size: i.size, hooks: i.hooks, underflow: i.underflow,
		numCounters: i.entries, counters: &t.counters[0],
	}
	copy(t.request, unsafe.Slice((*byte)(unsafe.Pointer(&head)), unsafe.Sizeof(head)))
	value := unsafe.String(&t.request[0], sizeofReplace+int(i.size))
	begin := time.Now()
	err := unix.SetsockoptString(t.socket, unix.SOL_IP, setReplace, value)
	t.took += time.Since(begin)
	return os.NewSyscallError("setsockopt", err)
}
