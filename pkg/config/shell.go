package config

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/joho/godotenv"

	"igdd/pkg/command"
)

// shell evaluates a shell file like the scripts that source it.
type shell struct {
	command []string
	limit   time.Duration // how long the file may take
	dir     string        // where relative paths in the file start; "": the working directory
}

// The environment of the shell, the same as for scripts at boot.
const (
	shellPath = "/usr/sbin:/sbin:/usr/bin:/bin:/usr/local/sbin:/usr/local/bin"
	shellHome = "/root"
)

// read sources a file and returns those of the named variables that are set. The
// complaints are the places, "file:line", of errors that did not end the shell.
func (s shell) read(path string, names []string) (vars map[string]string, complaints []string, err error) {
	path, err = filepath.Abs(path)
	if err != nil {
		return nil, nil, err
	}
	switch info, err := os.Stat(path); { // for a better error than the shell's
	case err != nil:
		return nil, nil, err
	case info.IsDir():
		return nil, nil, fmt.Errorf("%s is a directory", path)
	}
	return s.source(path, path, "", names)
}

// source is read for the file at path, but the shell sources another one, which
// may be its input.
func (s shell) source(path, other, input string, names []string) (vars map[string]string, complaints []string, err error) {
	printed, stderr, err := s.run(script(other, names), input)
	complaints = findComplaints(path, stderr)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	vars, err = readPrinted(printed)
	if errors.Is(err, errUnfinished) && len(complaints) > 0 {
		return nil, nil, fmt.Errorf("%s: the shell gives up here; to see why: sh -c '. %s'", complaints[len(complaints)-1], path)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return vars, complaints, nil
}

// stdin is the path of a script's input.
const stdin = "/dev/stdin"

// readPlain is read for a file that an editor of another system may have
// written: for the shell a carriage return at the end of a line would be part of
// a value, and a byte order mark part of a name.
func (s shell) readPlain(path string, names []string) (vars map[string]string, complaints []string, err error) {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return s.read(path, names)
	}
	b, err := readLimited(path)
	if err != nil || !foreignText(string(b)) {
		return s.read(path, names)
	}
	return s.source(path, stdin, plain(string(b)), names)
}

// foreignText reports whether an editor of another system has written a shell
// file: it has a byte order mark, or a carriage return at the end of each line.
// If only some lines end in one, it may be part of a value.
func foreignText(text string) bool {
	lines := strings.Count(text, "\n")
	return strings.HasPrefix(text, byteOrderMark) || strings.Contains(text, "\r") && strings.Count(text, "\r\n") == lines
}

// run runs a script and returns its standard output and standard error. Its exit
// status does not matter: the output shows whether it is complete.
func (s shell) run(script, input string) (stdout, stderr []byte, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), s.limit)
	defer cancel()
	out, err := command.Command{
		Path:      s.command[0],
		Args:      append(slices.Clone(s.command[1:]), "-c", script, scriptName),
		Env:       []string{"PATH=" + shellPath, "HOME=" + shellHome},
		Dir:       existing(s.dir),
		Stdin:     []byte(input),
		MaxStdout: maxFile,
		MaxStderr: maxFile,
	}.Run(ctx)
	_, exited := errors.AsType[*command.ExitError](err)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return nil, nil, fmt.Errorf("the shell did not finish within %v: a command in the file blocks", s.limit)
	case err != nil && !exited && !errors.Is(err, exec.ErrWaitDelay):
		return nil, nil, err
	case out.Truncated:
		return nil, nil, fmt.Errorf("its variables hold more than %d bytes", maxFile)
	}
	return out.Stdout, out.Stderr, nil
}

// existing returns a directory, or the root if it has been removed.
func existing(dir string) string {
	if _, err := os.Stat(dir); dir != "" && err != nil {
		return "/"
	}
	return dir
}

// scriptName is the $0 of the script.
const scriptName = "miniupnpd"

// finished is the variable that the script prints last.
const finished = "FINISHED"

// script returns shell code that sources path and prints the variables as
// NAME="value" in the syntax of godotenv: with a backslash before each backslash,
// double quote and dollar sign, and \r for a carriage return, which godotenv
// would drop before a line feed. The dot that ends each value separates a
// backslash or double quote at its end from the closing quote. Only values that
// need it go through sed.
//
// All of this runs after the file was sourced, so that the file cannot interfere
// with it by functions of these names, aliases, PATH, or its own output.
func script(path string, names []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `. %s >/dev/null
unalias -a
PATH=%s
miniupnpd_print() {
	case $2 in
	*[\\\"\$`+"\r"+`]*)
		printf '%%s.\n' "$2" | LC_ALL=C sed -e 's/[\\"$]/\\&/g' -e 's/`+"\r"+`/\\r/g' -e "1s/^/$1=\"/" -e '$s/$/"/' ;;
	*)
		printf '%%s="%%s."\n' "$1" "$2" ;;
	esac
}
`, quoteShell(path), shellPath)
	for _, name := range names {
		fmt.Fprintf(&b, "[ -z \"${%[1]s+set}\" ] || miniupnpd_print %[1]s \"$%[1]s\" || exit\n", name)
	}
	fmt.Fprintf(&b, "miniupnpd_print %s yes\n", finished)
	return b.String()
}

// quoteShell returns s as one word of the shell.
func quoteShell(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

var errUnfinished = errors.New("the file ends the shell")

// readPrinted parses the output of the script.
func readPrinted(printed []byte) (map[string]string, error) {
	vars, err := godotenv.UnmarshalBytes(printed)
	if err != nil || vars[finished] == "" {
		return nil, errUnfinished
	}
	delete(vars, finished)
	for name, value := range vars {
		vars[name] = strings.TrimSuffix(value, ".")
	}
	return vars, nil
}

// complaint matches the place in an error message of a shell: "name: 3: /file:
// text" of dash, "name: /file: line 3: text" of busybox, "/file: line 3: text" of
// bash. There may be a builtin instead of the file. It is compiled when a shell complains,
// not at every start.
var complaint = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?m)^(?:` + scriptName + `: )?(?:(\d+): ([^:\n]+)|([^:\n]+): line (\d+)): `)
})

// findComplaints returns the places in the error messages of a shell, without
// their texts: they may contain passwords from the file.
func findComplaints(path string, stderr []byte) []string {
	if len(stderr) == 0 {
		return nil
	}
	var places []string
	for _, m := range complaint().FindAllSubmatch(stderr, -1) {
		file, line := string(m[2])+string(m[3]), string(m[1])+string(m[4])
		if file[0] != '/' || file == stdin {
			file = path
		}
		if place := file + ":" + line; !slices.Contains(places, place) {
			places = append(places, place)
		}
	}
	return places
}
