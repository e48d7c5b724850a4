package control

import (
	"encoding/json"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// externalPorts returns the second column of a table behind its heading.
func externalPorts(table string) (ports []string) {
	for line := range strings.Lines(table) {
		if cells := strings.Fields(line); len(cells) > 2 && cells[0] == "UDP" {
			ports = append(ports, cells[1])
		}
	}
	return ports
}

func TestOverview(t *testing.T) {
	for n, more := range map[int]string{0: "", 1: "", 10: "", 11: "… and 1 more: miniupnpctl list\n", 25: "… and 15 more: miniupnpctl list\n"} {
		r := newRig(t)
		r.openMany(t, n)
		got := r.tool()
		if got.status != exitDone || got.stderr != "" || !strings.HasPrefix(got.stdout, "version: ") {
			t.Fatalf("%d mappings: %+v", n, got)
		}
		var want []string
		for i := n; i > max(n-10, 0); i-- {
			want = append(want, strconv.Itoa(40000+i))
		}
		if ports := externalPorts(got.stdout); !slices.Equal(ports, want) {
			t.Errorf("%d mappings: shows %v, want %v", n, ports, want)
		}
		if !strings.HasSuffix(got.stdout, more) || strings.Contains(got.stdout, "more:") != (more != "") {
			t.Errorf("%d mappings: %s\nwant it to end in %q", n, got.stdout, more)
		}
		if strings.Contains(got.stdout, "PROTO") != (n > 0) {
			t.Errorf("%d mappings: the table's heading is wrong: %s", n, got.stdout)
		}
	}
}

func TestOverviewHasTheExitStatusOfStatus(t *testing.T) {
	r := newRig(t)
	r.status.Firewall.Healthy = false
	if got := r.tool(); got.status != exitNo || !strings.Contains(got.stdout, "unhealthy") {
		t.Errorf("got %+v", got)
	}
	if got := r.tool("--json"); got.status != exitNo {
		t.Errorf("got %+v", got)
	}
}

func TestOverviewAsJSON(t *testing.T) {
	for n := range 12 {
		r := newRig(t)
		r.openMany(t, n)
		var got struct {
			Schema   int
			Status   Status
			Mappings []Entry
		}
		text := r.tool("--json").stdout
		if err := json.Unmarshal([]byte(text), &got); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		if got.Schema != schemaVersion || got.Status.Mappings != n || got.Status.Version != "1.2" || len(got.Mappings) != min(n, 10) || got.Mappings == nil {
			t.Errorf("%d mappings: %s", n, text)
		}
		if n > 0 && got.Mappings[0].ExternalPort != uint16(40000+n) {
			t.Errorf("%d mappings: the newest is not the first: %s", n, text)
		}
	}
}

// TestOverviewWithoutList has a daemon that fails between status and list.
func TestOverviewWithoutList(t *testing.T) {
	socket := t.TempDir() + "/ctl"
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for _, text := range []string{`{"status":{"version":"1.2"}}` + "\n" + `{"end":true}`, `{"error":"out of sorts","end":true}`} {
			c, err := l.Accept()
			if err != nil {
				return
			}
			readRequest(c)
			io.WriteString(c, text+"\n")
			c.Close()
		}
	}()
	want := called{exitFault, "", "miniupnpctl: out of sorts\n"}
	if got := (&rig{socket: socket}).tool(); got != want {
		t.Errorf("got %+v", got)
	}
}
