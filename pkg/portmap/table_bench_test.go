package portmap_test

import (
	"sync"
	"testing"
	"time"

	"igdd/pkg/portmap"
	"igdd/pkg/portmap/portmaptest"
)

// fullTable returns a table with n mappings.
func fullTable(b *testing.B, n int) *tableRig {
	t := newTableRig(b, &portmaptest.Firewall{}, &portmaptest.Store{})
	for i := range n {
		t.grant(b, open(client(i%200), uint16(1024+i), time.Hour))
	}
	b.ReportAllocs()
	return t
}

func BenchmarkTableCommitRenewal(b *testing.B) {
	t := fullTable(b, 1000)
	req := open(client(0), 1024, time.Hour)
	for b.Loop() {
		t.grant(b, req)
	}
}

func BenchmarkTableCommitOpenClose(b *testing.B) {
	t := fullTable(b, 1000)
	req := open(client(0), 40000, time.Hour)
	gone := req
	gone.Op, gone.External = portmap.Close, 0
	for b.Loop() {
		t.grant(b, req)
		t.grant(b, gone)
	}
}

// BenchmarkTableCommitBatch has 512 clients renew at once.
func BenchmarkTableCommitBatch(b *testing.B) {
	t := fullTable(b, 1000)
	var answered sync.WaitGroup
	done := func(portmap.Answer) { answered.Done() }
	for b.Loop() {
		for i := range 512 {
			answered.Add(1)
			t.Submit(open(client(i%200), uint16(1024+i), time.Hour), done)
		}
		answered.Wait()
	}
}

func BenchmarkTableList1000(b *testing.B) {
	t := fullTable(b, 1000)
	for b.Loop() {
		if len(t.List()) != 1000 {
			b.Fatal("mappings are missing")
		}
	}
}

func BenchmarkTableRead(b *testing.B) {
	t := fullTable(b, 1000)
	for b.Loop() {
		if !t.External().IsValid() || t.Epoch() > 1<<20 {
			b.Fatal("no address")
		}
		if _, ok := t.At(500); !ok {
			b.Fatal("no mapping")
		}
	}
}
