package netlab

import (
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Debian returns the folder in which a Debian package is unpacked; nothing of
// it is installed. It is for packages of tests in a folder two below the
// module's root.
func Debian(t testing.TB, name string) string {
	t.Helper()
	NeedRoot(t, "unpacking Debian's "+name)
	out, err := exec.Command("../../scripts/debian.sh", name).Output()
	if err != nil {
		t.Fatalf("netlab: unpack Debian's %s: %v (needs apt-get and the network)", name, err)
	}
	return strings.TrimSpace(string(out))
}

// Arno is Arno's iptables firewall on a router: Debian's package, with a plugin
// that treats the MINIUPNPD chains as the one in AstLinux does.
type Arno struct {
	router *Namespace
	script string
	plugin string // its settings
	conf   string // the firewall's
}

//go:embed arno/50miniupnpd.plugin
var arnoPlugin []byte

// arnoSettings are a home router's: the LAN may connect out, nothing may connect in.
const arnoSettings = `EXT_IF="wan0"
INT_IF="lan0"
INTERNAL_NET="192.168.50.0/24"
NAT=1
NAT_INTERNAL_NET="192.168.50.0/24"
`

// NewArno prepares the firewall of lan0 and wan0 with one iptables variant.
// Nothing runs before Do.
func NewArno(t testing.TB, router *Namespace, variant string) *Arno {
	t.Helper()
	pkg, dir := Debian(t, "arno-iptables-firewall"), t.TempDir()
	a := &Arno{router: router, script: filepath.Join(dir, "arno"), plugin: filepath.Join(dir, "etc/arno-iptables-firewall/plugins/miniupnpd.conf")}
	etc, share := filepath.Join(dir, "etc"), filepath.Join(dir, "share")
	a.conf = filepath.Join(etc, "arno-iptables-firewall/conf.d/lab.conf")
	enter := fmt.Sprintf(`set -e
mount -t overlay -o lowerdir=%[1]s:%[2]s/etc:/etc arno /etc
mount -t overlay -o lowerdir=%[3]s:%[2]s/usr/share:/usr/share arno /usr/share
mount --bind %[4]s /var/tmp
export IP4TABLES=%[5]s/iptables IP6TABLES=%[5]s/ip6tables
exec sh %[2]s/usr/sbin/arno-iptables-firewall "$@"
`, etc, pkg, share, filepath.Join(dir, "tmp"), Tools(t, variant))
	for path, text := range map[string]string{
		a.script: enter,
		a.conf:   arnoSettings,
		filepath.Join(share, "arno-iptables-firewall/plugins/50miniupnpd.plugin"): string(arnoPlugin),
		filepath.Join(dir, "tmp/made-so-that-the-folder-is-there"):                "",
		a.plugin: "ENABLED=0\n",
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return a
}

// Plugin enables or disables the plugin from the firewall's next start on.
func (a *Arno) Plugin(t testing.TB, on bool) {
	t.Helper()
	text := "ENABLED=0\n"
	if on {
		text = "ENABLED=1\n"
	}
	if err := os.WriteFile(a.plugin, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Loopback enables the firewall's own plugin for the external address in the LAN, from
// the firewall's next start on.
func (a *Arno) Loopback(t testing.TB) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(filepath.Dir(a.plugin), "nat-loopback.conf"), []byte("ENABLED=1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Configure adds settings, from the firewall's next start on.
func (a *Arno) Configure(t testing.TB, settings string) {
	t.Helper()
	if err := os.WriteFile(a.conf, []byte(arnoSettings+settings), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Do runs the firewall's script: start, stop, restart.
func (a *Arno) Do(t testing.TB, verb string) {
	t.Helper()
	a.router.Run(t, "sh", a.script, verb)
}
