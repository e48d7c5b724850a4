package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// shells are the languages that /bin/sh may speak.
var shells = map[string][]string{
	"ash":   {"/usr/bin/busybox", "ash"},
	"dash":  {"/usr/bin/dash"},
	"bash":  {"/usr/bin/bash"},
	"posix": {"/usr/bin/bash", "--posix"}, // bash called sh
}

// inEachShell runs a test with a reader of each kind, all at the same time.
func inEachShell(t *testing.T, test func(*testing.T, shell)) {
	var work sync.WaitGroup
	defer work.Wait()
	for name, command := range shells {
		work.Go(func() {
			t.Run(name, func(t *testing.T) { test(t, shell{command, time.Minute, ""}) })
		})
	}
}

// write makes a file in the test's own folder.
func write(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// snippets returns the constructs of rc.conf that readers disagree about, by
// their number.
func snippets(t testing.TB) map[string]string {
	t.Helper()
	table, err := os.ReadFile("testdata/snippets.txt")
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]string)
	for line := range strings.Lines(string(table)) {
		columns := strings.Split(line, "\t")
		text, err := strconv.Unquote(columns[1])
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		all[columns[0]] = text
	}
	return all
}

// snippetNames are the variables that the snippets set.
var snippetNames = []string{"V", "W", "A", "B", "UPNP_X", "INT2IF", "HOME"}

// TestSnippetsAsTheShellItself compares what is read of every snippet with
// what the same shell makes of it when it prints the values raw.
func TestSnippetsAsTheShellItself(t *testing.T) {
	all := snippets(t)
	if len(all) != 107 {
		t.Fatalf("%d snippets, want 107", len(all))
	}
	dir := t.TempDir()
	for name, text := range all {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "other.inc"), []byte("V=fromother\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	inEachShell(t, func(t *testing.T, sh shell) {
		for name := range all {
			want, alive := askShell(t, sh, name)
			got, complaints, err := sh.read(name, snippetNames)
			if (err == nil) != alive {
				t.Errorf("%s: error %v, though the shell goes on: %v", name, err, alive)
				continue
			}
			if err != nil {
				if place := filepath.Join(dir, name) + ":"; !regexp.MustCompile(place + `\d: `).MatchString(err.Error()) {
					t.Errorf("%s: error %q does not name the line", name, err)
				}
				continue
			}
			if !maps.Equal(samePID(got), samePID(want)) {
				t.Errorf("%s: read %q, the shell itself has %q (complaints: %q)", name, got, want, complaints)
			}
		}
	})
}

// askShell returns the variables after a file was sourced, and whether the
// shell went on after it.
func askShell(t *testing.T, sh shell, file string) (vars map[string]string, alive bool) {
	t.Helper()
	code := ". ./" + file + " >/dev/null\n"
	for _, name := range snippetNames {
		code += fmt.Sprintf("[ -z \"${%[1]s+x}\" ] || printf '%%s=%%s\\0' %[1]s \"$%[1]s\"\n", name)
	}
	cmd := exec.Command(sh.command[0], append(sh.command[1:len(sh.command):len(sh.command)], "-c", code+"printf 'END=\\0'", "reference")...)
	cmd.Env = []string{"PATH=" + shellPath, "HOME=" + shellHome}
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	vars = make(map[string]string)
	for _, pair := range bytes.Split(out, []byte{0}) {
		name, value, _ := strings.Cut(string(pair), "=")
		vars[name] = value
	}
	_, alive = vars["END"]
	delete(vars, "END")
	delete(vars, "")
	return vars, alive
}

var pid = regexp.MustCompile(`^x\d+$`)

// samePID makes the process IDs of two shells equal.
func samePID(vars map[string]string) map[string]string {
	vars = maps.Clone(vars)
	for name, value := range vars {
		vars[name] = pid.ReplaceAllString(value, "x<pid>")
	}
	return vars
}

// TestValuesSurvive sends random values through each shell.
func TestValuesSurvive(t *testing.T) {
	inEachShell(t, func(t *testing.T, sh shell) {
		r := rand.New(rand.NewPCG(1, 2))
		for range 10 {
			want, names, file := make(map[string]string), []string(nil), ""
			for i := range 15 {
				name := fmt.Sprintf("UPNP_%d", i)
				want[name] = randomValue(r)
				names = append(names, name)
				file += name + "=" + quoteShell(want[name]) + "\n"
			}
			got, _, err := sh.read(write(t, "rc.conf", file), names)
			if err != nil {
				t.Fatal(err)
			}
			for name, value := range want {
				if got[name] != value {
					t.Errorf("%q became %q", value, got[name])
				}
			}
		}
	})
}

// randomValue makes a text of what shells, sed and godotenv give a meaning.
func randomValue(r *rand.Rand) string {
	pieces := []string{
		`\`, `"`, `'`, "$", "`", "\r", "\n", "\r\n", " ", "\t", "#", "=", ":", "~", "*", "?", "[", "]", "{", "}", "(", ")",
		"!", "&", ";", "|", "<", ">", "/", "%", ".", "-", "^", "n", "r", "s/", "${HOME}", "$(id)", "$1", `\n`, `\$`, "%s", "%d",
		"A", "0", "ä", "日本", "\x01", "\x7f", "\xff", "\xc3", "FINISHED=", "export ", "\nUPNP_1=\"evil\"\n",
	}
	var b strings.Builder
	for range r.IntN(12) {
		b.WriteString(pieces[r.IntN(len(pieces))])
	}
	return b.String()
}

func TestLongValuesAreQuick(t *testing.T) {
	inEachShell(t, func(t *testing.T, sh shell) {
		want := strings.Repeat(`\"$`, 1<<12) + strings.Repeat("x", 1<<16)
		got, _, err := sh.read(write(t, "rc.conf", "V="+quoteShell(want)+"\n"), []string{"V"})
		if err != nil || got["V"] != want {
			t.Errorf("%d octets came back as %d: %v", len(want), len(got["V"]), err)
		}
	})
}

// TestWhateverTheFileDefines breaks what the printing code builds on.
func TestWhateverTheFileDefines(t *testing.T) {
	for _, nasty := range []string{
		"PATH=/nowhere", "IFS=xyz", "set -eu", "set -x", "set -f", "alias printf=false case=false", "miniupnpd_print() { false; }",
		"LC_ALL=de_DE.UTF-8; export LC_ALL", "echo noise; echo noise >&2", "sleep 0 &", "set -- a b c", "cd /", "umask 777", "W='V=evil'", "false",
		"trap 'exit 3' TERM",
	} {
		inEachShell(t, func(t *testing.T, sh shell) {
			want := `a\"$` + "`"
			got, _, err := sh.read(write(t, "rc.conf", nasty+"\nV="+quoteShell(want)+"\n"), []string{"V"})
			if err != nil || len(got) != 1 || got["V"] != want {
				t.Errorf("%s: read %q, %v", nasty, got, err)
			}
		})
	}
}

// TestSecretsStay looks for the value of a variable that does not concern us in
// all that is kept of the file.
func TestSecretsStay(t *testing.T) {
	inEachShell(t, func(t *testing.T, sh shell) {
		const secret = "hunter2"
		path := write(t, "rc.conf", "PASSWORD="+secret+"\nset -x\nX="+secret+" "+secret+"\nX=$PASSWORD\nV=1\n"+secret+"\n")
		printed, _, err := sh.run(script(path, []string{"V"}), "")
		if err != nil || !bytes.Contains(printed, []byte(`V="1."`)) {
			t.Fatalf("printed %q, %v", printed, err)
		}
		_, complaints, err := sh.read(path, []string{"V"})
		if err != nil || len(complaints) != 2 {
			t.Errorf("complaints %q, %v; want the lines 3 and 6", complaints, err)
		}
		if all := fmt.Sprint(string(printed), complaints); strings.Contains(all, secret) {
			t.Errorf("the secret is in %q", all)
		}
		if _, _, err := sh.read(write(t, "rc.conf", "PASSWORD='"+secret+"\n"), []string{"V"}); err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("the secret is in the error %v", err)
		}
	})
}

func TestEnvironmentIsClean(t *testing.T) {
	t.Setenv("UPNP_LISTEN", "from outside")
	t.Setenv("BASH_ENV", "/nowhere")
	inEachShell(t, func(t *testing.T, sh shell) {
		got, _, err := sh.read(write(t, "rc.conf", "read -r LINE; V=$LINE$0$#\n"), []string{"UPNP_LISTEN", "BASH_ENV", "PATH", "HOME", "V"})
		want := map[string]string{"PATH": shellPath, "HOME": "/root", "V": "miniupnpd0"}
		if err != nil || !maps.Equal(got, want) {
			t.Errorf("read %q, %v; want %q", got, err, want)
		}
	})
}

func TestFilesThatEndTheShell(t *testing.T) {
	inEachShell(t, func(t *testing.T, sh shell) {
		for text, want := range map[string]string{
			"V=1\nexit 0\n":                    "rc.conf: the file ends the shell",
			"V=1\nkill -9 $$\n":                "rc.conf: the file ends the shell",
			"V=1\nset -u\nV=$NOPE\nW=1\n":      "rc.conf:3: the shell gives up here",
			"V=1\n\nV=${NOPE?a secret}\nW=1\n": "rc.conf:3: the shell gives up here",
		} {
			vars, _, err := sh.read(write(t, "rc.conf", text), []string{"V", "W"})
			if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("%q: read %q, error %v, want %q", text, vars, err, want)
			}
		}
	})
}

// TestMuchOutput reads files whose output is larger than a pipe, and than what
// is kept of it.
func TestMuchOutput(t *testing.T) {
	const (
		much    = "x=xxxxxxxxxxxxxxxx; x=$x$x$x$x$x$x$x$x; x=$x$x$x$x$x$x$x$x; x=$x$x$x$x$x$x$x$x; x=$x$x$x$x$x$x$x$x; x=$x$x\n"
		tooMuch = much + "x=$x$x$x$x; x=$x$x$x$x\n"
	)
	echo := func(t *testing.T, sh shell, much string) {
		got, _, err := sh.read(write(t, "rc.conf", much+"echo $x; echo $x >&2\nV=1\n"), []string{"V"})
		if err != nil || got["V"] != "1" {
			t.Errorf("much output: %q, %v", got, err)
		}
	}
	inEachShell(t, func(t *testing.T, sh shell) {
		echo(t, sh, much)
		if _, _, err := sh.read(write(t, "rc.conf", tooMuch+"V=$x\n"), []string{"V"}); err == nil || !strings.Contains(err.Error(), "rc.conf: its variables hold more than") {
			t.Errorf("a value of 2 MiB: error %v", err)
		}
	})
	echo(t, shell{shells["dash"], 10 * time.Second, ""}, tooMuch)
}

func TestNoFileNoShell(t *testing.T) {
	if _, _, err := (shell{shells["dash"], time.Second, ""}).read("/nowhere/rc.conf", nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if _, _, err := (shell{[]string{"/nowhere/sh"}, time.Second, ""}).read(write(t, "rc.conf", ""), nil); err == nil || !strings.Contains(err.Error(), "/nowhere/sh") {
		t.Errorf("no shell: %v", err)
	}
	if _, _, err := (shell{shells["dash"], time.Second, ""}).read(t.TempDir(), []string{"V"}); err == nil {
		t.Error("a folder was read")
	}
	odd := filepath.Join(t.TempDir(), "it's $HOME \"here\"")
	if err := os.WriteFile(odd, []byte("V=1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, _, err := (shell{shells["dash"], 10 * time.Second, ""}).read(odd, []string{"V"}); err != nil || got["V"] != "1" {
		t.Errorf("a file with an odd name: %q, %v", got, err)
	}
}

// TestTimeLimit reads files that wait, alone and with children, and demands
// that nothing of them is left.
func TestTimeLimit(t *testing.T) {
	inEachShell(t, func(t *testing.T, sh shell) {
		for _, waits := range []string{"echo $$ >%s; while :; do :; done", "trap '' TERM; sleep 600 & echo $$ $! >%s; wait"} {
			processes := filepath.Join(t.TempDir(), "processes")
			file := write(t, "rc.conf", fmt.Sprintf(waits, processes)+"\n")
			for sh.limit = time.Second / 4; ; sh.limit *= 2 {
				_, _, err := sh.read(file, []string{"V"})
				if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("rc.conf: the shell did not finish within %v", sh.limit)) {
					t.Errorf("%s: error %v", waits, err)
				}
				if text, _ := os.ReadFile(processes); bytes.HasSuffix(text, []byte("\n")) {
					break
				}
				if sh.limit > time.Minute { // a busy machine may need more than that
					t.Fatalf("%s: the shell does not come so far", waits)
				}
			}
			for _, process := range readPIDs(t, processes) {
				for deadline := time.Now().Add(10 * time.Second); lives(process); time.Sleep(time.Millisecond) {
					if time.Now().After(deadline) {
						t.Fatalf("%s: process %d is still there", waits, process)
					}
				}
			}
		}
	})
}

// readPIDs returns the process IDs in a file; what lives of them at the end of
// the test is ended.
func readPIDs(t *testing.T, path string) []int {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var list []int
	for _, field := range strings.Fields(string(text)) {
		process, err := strconv.Atoi(field)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, process)
		t.Cleanup(func() {
			if lives(process) {
				syscall.Kill(process, syscall.SIGKILL)
			}
		})
	}
	return list
}

// lives reports whether a process still runs.
func lives(process int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", process))
	return err == nil && !bytes.Contains(stat, []byte(") Z "))
}

// TestWhatGoesOnBehind reads a file that leaves a child with its output open.
func TestWhatGoesOnBehind(t *testing.T) {
	inEachShell(t, func(t *testing.T, sh shell) {
		child := filepath.Join(t.TempDir(), "child")
		got, _, err := sh.read(write(t, "rc.conf", "sleep 600 &\necho $! >"+child+"\nV=1\n"), []string{"V"})
		if err != nil || got["V"] != "1" {
			t.Errorf("read %q, %v", got, err)
		}
		if children := readPIDs(t, child); !lives(children[0]) {
			t.Error("the child was ended")
		}
	})
}

// FuzzReadPrinted feeds what no shell prints to what reads it.
func FuzzReadPrinted(f *testing.F) {
	for _, seed := range []string{"", "FINISHED=\"yes.\"\n", "V=\"a.\"\nFINISHED=\"yes.\"\n", "V=\"\\\\\\\"\\$\\r\n.\"\nFINISHED=\"yes.\"\n", "V=\"unterminated", "V='", "=", "a b\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, printed []byte) {
		vars, err := readPrinted(printed)
		if (err == nil) != (vars != nil) {
			t.Errorf("%q with error %v", vars, err)
		}
	})
}

// FuzzEscape wraps any value as the script does, and demands it back.
func FuzzEscape(f *testing.F) {
	for _, seed := range []string{"", `\`, `"`, `a\"`, `$HOME`, "\r\n", `\$`, "\xff\r", `""`, "'", "FINISHED"} {
		f.Add(seed)
	}
	escape := strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `\$`, "\r", `\r`)
	f.Fuzz(func(t *testing.T, value string) {
		vars, err := readPrinted([]byte("V=\"" + escape.Replace(value) + ".\"\nFINISHED=\"yes.\"\n"))
		if err != nil || vars["V"] != value {
			t.Errorf("%q became %q, %v", value, vars["V"], err)
		}
	})
}
