package netif

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Speed returns the speed of a link in bit/s, as its driver reports it. Many virtual
// links, and those without carrier, have none.
func Speed(name string) (uint64, error) {
	text, err := os.ReadFile(filepath.Join("/sys/class/net", name, "speed"))
	if err != nil {
		return 0, fmt.Errorf("netif: speed of %s: %w", name, err)
	}
	mbit, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 32)
	if err != nil { // -1: unknown
		return 0, fmt.Errorf("netif: speed of %s: %w", name, err)
	}
	return mbit * 1_000_000, nil
}
