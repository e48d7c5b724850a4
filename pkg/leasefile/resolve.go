package leasefile

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// maxLinks is the number of symbolic links in a row that the kernel follows.
const maxLinks = 40

// resolve returns the file that path leads to through symbolic links, even if
// the last one points to no file yet (AST-74).
func resolve(path string) (string, error) {
	for range maxLinks {
		dir, err := filepath.EvalSymlinks(filepath.Dir(path))
		if err != nil {
			return "", err
		}
		path = filepath.Join(dir, filepath.Base(path))
		to, err := os.Readlink(path)
		if err != nil { // not a link, or no file
			return path, nil
		}
		if !filepath.IsAbs(to) {
			to = filepath.Join(dir, to)
		}
		path = to
	}
	return "", &fs.PathError{Op: "resolve", Path: path, Err: syscall.ELOOP}
}
