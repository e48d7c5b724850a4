package xtables_test

import (
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"igdd/pkg/netlink"
	"igdd/pkg/xtables"
)

// removal deletes the rule of add.
func removal(port string) xtables.Edit {
	return xtables.Edit{Op: xtables.Delete, Chain: "FORWARD", Rule: add(port).Rule}
}

// commitWork commits edits of tables filter and nat as own work, from a thread in the
// namespace.
func (w watched) commitWork(edits ...xtables.Edit) error {
	work := w.Begin()
	defer work.End()
	_, err := work.Commit(context.Background(), w.Programs, bothTables(edits))
	return err
}

// bothTables returns edits of table filter together with such edits of table nat.
func bothTables(edits []xtables.Edit) []xtables.Section {
	nat := make([]xtables.Edit, len(edits))
	for i, e := range edits {
		nat[i] = xtables.Edit{Op: e.Op, Chain: "PREROUTING", Rule: strings.Replace(e.Rule, "ACCEPT", "DNAT --to-destination 192.168.50.10:1", 1)}
	}
	return []xtables.Section{{Table: "nat", Edits: nat}, {Table: "filter", Edits: edits}}
}

// restore has another program carry out lines for iptables-restore.
func (r *router) restore(lines string) error {
	c := exec.Command(filepath.Join(r.tools, "iptables-restore"), "--noflush")
	c.Stdin = strings.NewReader(lines)
	return c.Run()
}

// TestDeletionByHandle deletes rules after other programs have done something. Nothing
// but the rule may go, and by iptables only where its handle cannot be known.
func TestDeletionByHandle(t *testing.T) {
	t.Parallel()
	const rule = "-p tcp -m tcp --dport 1 -j ACCEPT"
	for name, tt := range map[string]struct {
		other      string // program and arguments, or lines for iptables-restore
		byIPTables bool   // iptables deletes it
		fails      bool   // it is not there
		left       string // ports of the rules in FORWARD
	}{
		"nothing":                       {left: "2"},
		"a rule before it":              {other: "iptables -I FORWARD -p tcp --dport 3 -j ACCEPT", left: "3 2"},
		"a rule in its place":           {other: "iptables -R FORWARD 2 -p tcp --dport 3 -j ACCEPT", left: "3"},
		"the same rule once more":       {other: "iptables -A FORWARD " + rule, left: "2 1"},
		"the same rule in its place":    {other: "iptables -R FORWARD 1 " + rule, left: "2"},
		"another table":                 {other: "iptables -t mangle -A FORWARD -j ACCEPT", left: "2"},
		"it is gone":                    {other: "iptables -D FORWARD " + rule, byIPTables: true, fails: true, left: "2"},
		"the chain is empty":            {other: "iptables -F FORWARD", byIPTables: true, fails: true},
		"the chain is made anew":        {other: "*filter\n:FORWARD ACCEPT [0:0]\n-F FORWARD\n-A FORWARD -p tcp --dport 2 -j ACCEPT\n-A FORWARD " + rule + "\nCOMMIT\n", left: "2"},
		"one chain of two is made anew": {other: "*nat\n-F PREROUTING\n-A PREROUTING -p tcp --dport 1 -j DNAT --to-destination 192.168.50.10:1\nCOMMIT\n", left: "2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRouter(t, "nft")
			w := r.watch(t)
			must(t, r.Do(func() error { return w.commitWork(add("1"), add("2")) }))
			w.Programs.Close()
			if strings.HasPrefix(tt.other, "*") {
				must(t, r.Do(func() error { return r.restore(tt.other) }))
			} else if args, ok := strings.CutPrefix(tt.other, "iptables "); ok {
				r.iptables(t, args)
			}
			w.told(t)
			err := r.Do(func() error { return w.commitWork(removal("1")) })
			byIPTables := w.Resident() != 0 || err != nil
			if (err != nil) != tt.fails || byIPTables != tt.byIPTables {
				t.Errorf("error %v, by iptables %v", err, byIPTables)
			}
			if left := r.ports(t); left != tt.left {
				t.Errorf("rules %s are left, want %s", left, tt.left)
			}
			if told := w.told(t); told != "" {
				t.Errorf("own work is told of as %q", told)
			}
		})
	}
}

// ports returns the ports of the rules in FORWARD.
func (r *router) ports(t *testing.T) string {
	t.Helper()
	var list []string
	for line := range strings.Lines(r.iptables(t, "-S FORWARD")) {
		if _, rest, ok := strings.Cut(line, "--dport "); ok {
			port, _, _ := strings.Cut(rest, " ")
			list = append(list, port)
		}
	}
	return strings.Join(list, " ")
}

// Of two equal rules iptables deletes the first, and a rule that iptables adds together
// with a deletion is not left out.
func TestDeletionWithIPTables(t *testing.T) {
	t.Parallel()
	r := newRouter(t, "nft")
	w := r.watch(t)
	for _, step := range []struct {
		edits      []xtables.Edit
		byIPTables bool
		left       string
	}{
		{[]xtables.Edit{add("1"), add("2"), add("1")}, true, "1 2 1"},
		{[]xtables.Edit{removal("1")}, true, "2 1"},
		{[]xtables.Edit{removal("2")}, false, "1"},
		{[]xtables.Edit{removal("1"), add("3")}, true, "3"},
		{[]xtables.Edit{add("4"), add("4")}, true, "3 4 4"},
		{[]xtables.Edit{removal("4"), removal("3"), removal("4")}, false, ""},
	} {
		must(t, r.Do(func() error { return w.commitWork(step.edits...) }))
		if byIPTables := w.Resident() != 0; byIPTables != step.byIPTables {
			t.Errorf("%v: by iptables %v", step.edits, byIPTables)
		}
		w.Programs.Close()
		if left := r.ports(t); left != step.left {
			t.Errorf("%v: rules %q are left, want %q", step.edits, left, step.left)
		}
	}
}

// A table that is made anew gives its handles once more.
func TestHandlesOfATableMadeAnew(t *testing.T) {
	t.Parallel()
	r := newRouter(t, "nft")
	w := r.watch(t)
	must(t, r.Do(func() error { return w.commitWork(add("1"), add("2")) }))
	must(t, r.Do(func() error { return errors.Join(deleteTable("nat"), deleteTable("filter")) }))
	must(t, r.Do(func() error { return w.commitHere(add("3"), add("4")) }))
	if err := r.Do(func() error { return w.commitWork(removal("1")) }); err == nil {
		t.Error("a rule is deleted that is not there")
	}
	if left := r.ports(t); left != "3 4" {
		t.Errorf("rules %q are left", left)
	}
}

// deleteTable deletes a table as "nft delete table" does.
func deleteTable(name string) error {
	limits := []byte{0, 0, 0, unix.NFNL_SUBSYS_NFTABLES}
	s := netlink.Socket{Protocol: unix.NETLINK_NETFILTER}
	defer s.Close()
	return s.ExecuteBatch([]netlink.Message{
		{Type: unix.NFNL_MSG_BATCH_BEGIN, Data: limits},
		{
			Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_DELTABLE, Flags: unix.NLM_F_ACK,
			Data: netlink.AppendAttribute([]byte{unix.NFPROTO_IPV4, 0, 0, 0}, unix.NFTA_TABLE_NAME, append([]byte(name), 0)),
		},
		{Type: unix.NFNL_MSG_BATCH_END, Data: limits},
	})
}

// TestDeletionOfEarlierRules deletes rules that another process has added.
func TestDeletionOfEarlierRules(t *testing.T) {
	t.Parallel()
	const change = `"$real" "$@" && exec "${0%-save}" -I FORWARD -p tcp --dport 3 -j ACCEPT`
	for name, tt := range map[string]struct {
		ports      string
		save       string // script instead of iptables-save
		byIPTables bool
		left       string
	}{
		"one":                             {ports: "1 2", left: "2"},
		"among others":                    {ports: "3 4 1 2", left: "3 4 2"},
		"two equal ones":                  {ports: "1 2 1", byIPTables: true, left: "2 1"},
		"the tables cannot be listed":     {ports: "1 2", save: "exit 1", byIPTables: true, left: "2"},
		"the tables change in the middle": {ports: "1 2", save: change, byIPTables: true, left: "3 2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRouter(t, "nft")
			w := r.watch(t)
			var edits []xtables.Edit
			for port := range strings.FieldsSeq(tt.ports) {
				edits = append(edits, add(port))
			}
			must(t, r.Do(func() error { return w.commitByIPTables(edits...) }))
			w.Programs.Close()
			if tt.save != "" {
				r.stub(t, "iptables-save", tt.save)
			}
			must(t, r.Do(func() error { return w.commitWork(removal("1")) }))
			if byIPTables := w.Resident() != 0; byIPTables != tt.byIPTables {
				t.Errorf("by iptables %v", byIPTables)
			}
			if left := r.ports(t); left != tt.left {
				t.Errorf("rules %q are left, want %q", left, tt.left)
			}
		})
	}
}

// TestManyDeletionsOfEarlierRules deletes many rules of another process at once, in two
// tables: iptables does from 20 on. One more is deleted by its handle after that.
func TestManyDeletionsOfEarlierRules(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		rules      int // of each table
		byIPTables bool
	}{"18": {9, false}, "20": {10, true}, "200": {100, true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRouter(t, "nft")
			w := r.watch(t)
			additions, removals := []xtables.Edit{add("1000")}, []xtables.Edit(nil)
			for port := range tt.rules {
				additions = append(additions, add(strconv.Itoa(1+port)))
				removals = append(removals, removal(strconv.Itoa(1+port)))
			}
			must(t, r.Do(func() error { return w.commitByIPTables(additions...) }))
			w.Programs.Close()
			for _, step := range []struct {
				edits      []xtables.Edit
				byIPTables bool
				left       string
			}{{removals, tt.byIPTables, "1000"}, {[]xtables.Edit{removal("1000")}, false, ""}} {
				must(t, r.Do(func() error { return w.commitWork(step.edits...) }))
				if byIPTables := w.Resident() != 0; byIPTables != step.byIPTables {
					t.Errorf("%d deletions: by iptables %v", len(step.edits), byIPTables)
				}
				w.Programs.Close()
				if left := r.ports(t); left != step.left {
					t.Errorf("rules %q are left, want %q", left, step.left)
				}
			}
		})
	}
}

// While the tables are not those that the notices tell of, iptables deletes rules.
func TestDeletionAtAnotherGeneration(t *testing.T) {
	t.Parallel()
	r := newRouter(t, "nft")
	w := r.watch(t)
	must(t, r.Do(func() error { return w.commitWork(add("1"), add("2")) }))
	w.Programs.Close()
	w.LagBehind()
	must(t, r.Do(func() error { return w.commitWork(removal("1")) }))
	if left := r.ports(t); left != "2" || w.Resident() == 0 {
		t.Errorf("rules %q are left, process %d", left, w.Resident())
	}
}

// TestLostNotices has more notices than the kernel keeps: what is known is listed anew.
func TestLostNotices(t *testing.T) {
	t.Parallel()
	r := newRouter(t, "nft")
	w := r.watch(t)
	must(t, r.Do(func() error { return w.commitWork(add("1"), add("2")) }))
	var many strings.Builder
	many.WriteString("*filter\n")
	for port := range 3000 {
		many.WriteString("-A FORWARD -p tcp --dport " + strconv.Itoa(10000+port) + " -j ACCEPT\n")
	}
	many.WriteString("COMMIT\n*filter\n-F FORWARD\n-A FORWARD -p tcp -m tcp --dport 1 -j ACCEPT\nCOMMIT\n")
	must(t, r.Do(func() error { return r.restore(many.String()) }))
	w.Programs.Close()
	must(t, r.Do(func() error { return w.commitWork(removal("1")) }))
	if left := r.ports(t); left != "" || w.Resident() != 0 {
		t.Errorf("rules %q are left, process %d", left, w.Resident())
	}
}

// TestDeletionsBesideOthers deletes rules while another program adds and deletes its own
// in the same chain.
func TestDeletionsBesideOthers(t *testing.T) {
	t.Parallel()
	r := newRouter(t, "nft")
	w := r.watch(t)
	done, ended := make(chan struct{}), make(chan error)
	go func() {
		ended <- r.Do(func() error {
			for n := 0; ; n++ {
				select {
				case <-done:
					return nil
				default:
				}
				if err := r.restore("*filter\n-A FORWARD -p tcp --dport 9 -j ACCEPT\n-I FORWARD -p tcp --dport 9 -j ACCEPT\nCOMMIT\n" +
					"*filter\n-D FORWARD -p tcp --dport 9 -j ACCEPT\nCOMMIT\n"); err != nil {
					return err
				}
			}
		})
	}()
	for range 100 {
		must(t, r.Do(func() error { return w.commitWork(add("1"), add("2")) }))
		must(t, r.Do(func() error { return w.commitWork(removal("2"), removal("1")) }))
	}
	close(done)
	must(t, <-ended)
	if left := r.ports(t); strings.ContainsAny(left, "12") {
		t.Errorf("rules %q are left", left)
	}
}
