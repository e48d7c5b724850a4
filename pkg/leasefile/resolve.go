package leasefile

import (
	"os"
	"path/filepath"

	"igdd/pkg/safepath"
)

// resolve returns the file that path leads to through symbolic links, even if
// the last one points to no file yet (AST-74). It is an error if the folder does
// not exist, or if another user may have planted something on the way.
func resolve(path string) (string, error) {
	target, err := safepath.Resolve(path)
	if err == nil {
		_, err = os.Stat(filepath.Dir(target))
	}
	if err != nil {
		return "", err
	}
	return target, nil
}
