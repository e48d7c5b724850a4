package netlab

import (
	"os"
	"path/filepath"
	"testing"
)

// Variants are the two iptables that a router can have.
var Variants = []string{"legacy", "nft"}

// Tools returns a folder in which iptables, ip6tables and their -save and
// -restore are those of the variant: the folder to put at the head of PATH.
func Tools(t testing.TB, variant string) string {
	t.Helper()
	program := "/usr/sbin/xtables-" + variant + "-multi"
	if _, err := os.Stat(program); err != nil {
		t.Fatalf("netlab: %v (the lab needs the package iptables)", err)
	}
	dir := t.TempDir()
	for _, family := range []string{"iptables", "ip6tables"} {
		for _, part := range []string{"", "-save", "-restore"} {
			if err := os.Symlink(program, filepath.Join(dir, family+part)); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}
