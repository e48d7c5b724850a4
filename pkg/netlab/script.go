package netlab

import (
	"os"
	"syscall"
	"testing"
)

// Script writes a shell script that can be run at once. No program is started while it is
// open for writing: that program would keep it open, and running the script would fail
// with ETXTBSY (execve(2)).
func Script(t testing.TB, path, text string) {
	t.Helper()
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
}
