package control

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const completionFile = "../../rootfs-overlay/usr/share/bash-completion/completions/miniupnpctl"

// completer completes command lines in bash, with a stand-in for the tool that prints
// what the tool printed.
type completer struct{ dir, socket string }

// newCompleter makes a completer whose daemon prints these lists.
func newCompleter(t *testing.T, socket, list, blocks string) completer {
	c := completer{t.TempDir(), socket}
	c.write(t, "usage", usage())
	c.write(t, "list", list)
	c.write(t, "blocks", blocks)
	c.write(t, "miniupnpctl", fmt.Sprintf(`#!/bin/sh
case $* in
-h) cat %[1]s/usage ;;
'-s %[2]s list') cat %[1]s/list ;;
'-s %[2]s blocks') cat %[1]s/blocks ;;
*) echo "called with $*" | tee -a %[1]s/wrong >&2 ;;
esac
`, c.dir, socket))
	return c
}

// completerOf makes a completer for the daemon of a rig, with two blocks.
func completerOf(t *testing.T, r *rig) completer {
	for _, line := range []string{"block 1h tcp 7000", "block forever udp 7000"} {
		if got := r.tool(strings.Fields(line)...); got.status != exitDone {
			t.Fatalf("%s: %+v", line, got)
		}
	}
	return newCompleter(t, r.socket, r.tool("list").stdout, r.tool("blocks").stdout)
}

func (c completer) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(c.dir, name), []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

// completions returns what bash offers for a command line with the cursor at its end.
func (c completer) completions(t *testing.T, line string) []string {
	t.Helper()
	const script = `
source "$1" || exit 1
COMP_LINE=$2 COMP_POINT=${#2}
"$(complete -p miniupnpctl | sed 's/.*-F \([^ ]*\) .*/\1/')" miniupnpctl
[ ${#COMPREPLY[@]} = 0 ] || printf '%s\n' "${COMPREPLY[@]}"`
	bash := exec.CommandContext(t.Context(), "bash", "--noprofile", "--norc", "-c", script, "bash", completionFile, line)
	bash.Env = []string{"PATH=" + c.dir + ":/usr/bin:/bin"}
	var stderr strings.Builder
	bash.Stderr = &stderr
	out, err := bash.Output()
	if err != nil || stderr.Len() > 0 {
		t.Errorf("%q: %v, %s", line, err, stderr.String())
	}
	if wrong, err := os.ReadFile(filepath.Join(c.dir, "wrong")); err == nil {
		t.Errorf("%q: the tool was %s", line, wrong)
	}
	return strings.Fields(string(out))
}

func TestCompletionOfCommands(t *testing.T) {
	c := newCompleter(t, "/nowhere", "", "")
	var want []string
	for _, c := range commands() {
		want = append(want, c.name)
	}
	slices.Sort(want)
	for _, line := range []string{"miniupnpctl ", "miniupnpctl --json ", "/usr/sbin/miniupnpctl -s /run/x "} {
		if got := c.completions(t, line); !slices.Equal(got, want) {
			t.Errorf("%q: %v, want %v", line, got, want)
		}
	}
	if got := c.completions(t, "miniupnpctl sta"); !slices.Equal(got, []string{"status"}) {
		t.Errorf("got %v", got)
	}
}

// TestCompletionKnowsTheWordsOfEachCommand fails for a command that takes words of
// which none is offered, and for one that takes none but is offered some.
func TestCompletionKnowsTheWordsOfEachCommand(t *testing.T) {
	r := seedMappings(t)
	c := completerOf(t, r)
	for _, cmd := range commands() {
		offered := 0
		for n := range 4 {
			line := "miniupnpctl -s " + r.socket + " " + cmd.name + strings.Repeat(" 1", n) + " "
			offered += len(c.completions(t, line))
		}
		if (offered > 0) != (cmd.words != "") {
			t.Errorf("%s: %d words are offered, usage %q", cmd.name, offered, cmd.words)
		}
	}
}

func TestCompletionOfWords(t *testing.T) {
	r := seedMappings(t)
	c := completerOf(t, r)
	for _, want := range []struct{ line, words string }{
		{"delete ", "02:00:00:00:00:01 192.168.50.10 192.168.50.11 2001:db8:50::20 laptop phone tcp udp"},
		{"delete 192.168.50.10 u", "udp"},
		{"delete 2001:db8:5", "50::20"},
		{"delete 02:", "00:00:00:00:01"},
		{"delete ph", "phone"},
		{"block ", "10m 1h 7d forever"},
		{"block 1h lap", "laptop"},
		{"veto f", "forever"},
		{"unblock ", "02:00:00:00:00:01 1 192.168.50.10 192.168.50.11 2 2001:db8:50::20 laptop phone tcp udp"},
		{"unblock 3 ", "02:00:00:00:00:01 192.168.50.10 192.168.50.11 2001:db8:50::20 laptop phone tcp udp"},
		{"explain ", "192.168.50.10 192.168.50.11 2001:db8:50::20"},
		{"explain --json 192.168.50.11", "192.168.50.11"},
		{"explain 192.168.50.10 ", "tcp udp"},
		{"explain 2001:db8:50::20 t", "tcp"},
		{"explain 192.168.50.10 tcp 80", "8080"},
		{"explain 192.168.50.10 tcp 8080 ", ""},
		{"explain 192.168.50.10 tcp 8080 8080 ", "as"},
		{"explain 192.168.50.10 tcp 8080 8080 as ", "natpmp pcp upnp"},
		{"trace 203.0.113.9 u", "udp"},
		{"trace ", "192.168.50.10 192.168.50.11 2001:db8:50::20"},
		{"selftest 192.168.50.11", "192.168.50.11"},
		{"history ", "10 100 500"},
		{"list ", ""},
		{"list --", "--json"},
		{"trace --p", "--probe"},
		{"-", "-h -s --json"},
		{"nonsense ", ""},
	} {
		if got := strings.Join(c.completions(t, "miniupnpctl -s "+r.socket+" "+want.line), " "); got != want.words {
			t.Errorf("%q: %q, want %q", want.line, got, want.words)
		}
	}
}

func TestCompletionOfTheSocket(t *testing.T) {
	c := newCompleter(t, "/nowhere", "", "")
	c.write(t, "a socket", "")
	if got := strings.Join(c.completions(t, "miniupnpctl -s "+c.dir+"/a"), " "); got != c.dir+"/a socket" {
		t.Errorf("got %q", got)
	}
}

// TestCompletionRunsNoNames has hosts with names that a shell would run.
func TestCompletionRunsNoNames(t *testing.T) {
	r := newRig(t)
	proof := filepath.Join(t.TempDir(), "proof")
	list := "PROTO EXTERNAL CLIENT PORT HOST MAC\n"
	for _, name := range []string{"$(touch${IFS}" + proof + ")", "`touch${IFS}" + proof + "`", "a;reboot", "a|b", "-rf", "'", "\"", "\\", "*", "a\x1b[2J"} {
		list += "UDP 1 192.168.50.10 1 " + name + " -\n"
	}
	c := newCompleter(t, r.socket, list, "")
	if got := c.completions(t, "miniupnpctl -s "+r.socket+" delete "); !slices.Equal(got, []string{"192.168.50.10", "tcp", "udp"}) {
		t.Errorf("got %q", got)
	}
	if _, err := os.Stat(proof); err == nil {
		t.Error("a name was run")
	}
}

// TestCompletionWithoutADaemon completes what needs none, asks nobody where there is no
// socket, and gives a daemon that does not answer up.
func TestCompletionWithoutADaemon(t *testing.T) {
	c := newCompleter(t, "/nowhere", "", "")
	if got := c.completions(t, "miniupnpctl -s /elsewhere delete "); !slices.Equal(got, []string{"tcp", "udp"}) {
		t.Errorf("without a socket: %v", got)
	}
	socket := filepath.Join(t.TempDir(), "ctl")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c.write(t, "miniupnpctl", "#!/bin/sh\nexec sleep 3600\n")
	if got := c.completions(t, "miniupnpctl -s "+socket+" delete "); !slices.Equal(got, []string{"tcp", "udp"}) {
		t.Errorf("with a daemon that does not answer: %v", got)
	}
}

// TestCompletionInReadline presses the tabulator in an interactive bash.
func TestCompletionInReadline(t *testing.T) {
	r := seedMappings(t)
	c := completerOf(t, r)
	terminal := exec.CommandContext(t.Context(), "script", "-qfec", "bash --noprofile --norc", "/dev/null")
	terminal.Env = []string{"PATH=" + c.dir + ":/usr/bin:/bin", "PS1=ready> ", "TERM=dumb", "INPUTRC=/dev/null"}
	keys, err := terminal.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	screen := new(transcript)
	terminal.Stdout, terminal.Stderr = screen, screen
	if err := terminal.Start(); err != nil {
		t.Fatal(err)
	}
	press := func(text string) {
		prompts := strings.Count(screen.String(), "ready> ")
		io.WriteString(keys, text)
		await(t, "the next prompt, on "+screen.String(), func() bool { return strings.Count(screen.String(), "ready> ") > prompts })
	}
	await(t, "the prompt", func() bool { return strings.Contains(screen.String(), "ready> ") })
	press(". " + completionPath(t) + "\n")
	press("miniupnpctl --js\tsel\t192.168.50.11\t\n")
	press("miniupnpctl -s " + r.socket + " delete 2001:db8:5\tt\t\n")
	io.WriteString(keys, "exit\n")
	if err := terminal.Wait(); err != nil {
		t.Error(err)
	}
	calls, err := os.ReadFile(filepath.Join(c.dir, "wrong"))
	want := "called with --json selftest 192.168.50.11\ncalled with -s " + r.socket + " delete 2001:db8:50::20 tcp\n"
	if string(calls) != want {
		t.Errorf("%s, %v; want %s; screen:\n%s", calls, err, want, screen)
	}
}

func completionPath(t *testing.T) string {
	path, err := filepath.Abs(completionFile)
	if err != nil {
		t.Fatal(err)
	}
	return path
}
