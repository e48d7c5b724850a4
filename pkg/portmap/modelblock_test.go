package portmap_test

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"igdd/pkg/portmap"
)

// modelBlock is a block of the model.
type modelBlock struct {
	id          int
	addr        netip.Addr // the zero Addr: any
	hardware    string     // empty: any
	bound       string     // with addr: the hardware address that is blocked, too; empty: none
	protocol    portmap.Protocol
	first, last uint16    // 0: all
	ends        time.Time // zero: never
}

// modelHardware returns the hardware address of a client; empty: it is not known.
func modelHardware(a netip.Addr) string {
	if h := modelHost(a); h != "" {
		return "02:00:00:00:00:0" + h
	}
	return ""
}

// covers returns whether a block certainly covers a port of a client, and whether it
// possibly does. External port 0 is covered by blocks of all ports only.
func (b *modelBlock) covers(p portmap.Protocol, external uint16, c netip.Addr) (certain, possible bool) {
	isPort := (b.protocol == 0 || b.protocol == p) && (b.first == 0 || b.first <= external && external <= b.last)
	hardware := modelHardware(c)
	isHost := b.addr == c || hardware != "" && (hardware == b.hardware || hardware == b.bound) || !b.addr.IsValid() && b.hardware == ""
	isUnknown := hardware == "" && b.hardware+b.bound != ""
	return isPort && isHost, isPort && (isHost || isUnknown)
}

// blocked returns why a client cannot have a port, by the first block that covers it.
func (m *model) blocked(req portmap.Request, external uint16) portmap.Refusal {
	for i := range m.blocks {
		switch certain, possible := m.blocks[i].covers(req.Protocol, external, req.Client); {
		case certain:
			return portmap.Blocked
		case possible:
			return portmap.UnknownHost
		}
	}
	return portmap.Granted
}

// isUncertain reports whether it is uncertain if an entry is blocked, so that it is
// dormant.
func (m *model) isUncertain(e *entry) bool {
	return slices.ContainsFunc(m.blocks, func(b modelBlock) bool {
		_, possible := b.covers(e.protocol, e.external, e.internal.Addr())
		return possible
	})
}

// inForce counts the entries that have rules.
func (m *model) inForce() (n int) {
	for _, e := range m.entries {
		if !m.away && !m.isUncertain(e) {
			n++
		}
	}
	return n
}

// randomBlock returns a random block, mostly for at most an hour.
func randomBlock(rng *rand.Rand) (b modelBlock) {
	switch c := client(rng.IntN(4)); rng.IntN(3) {
	case 0:
		b.addr = c
	case 1:
		b.hardware = modelHardware(c)
	}
	if b.hardware == "" && !b.addr.IsValid() || rng.IntN(3) > 0 {
		b.first = uint16(39999 + rng.IntN(12))
		b.last = b.first + uint16(rng.IntN(12))
	}
	b.protocol = []portmap.Protocol{0, portmap.TCP, portmap.UDP}[rng.IntN(3)]
	if rng.IntN(4) > 0 {
		b.ends = time.Now().Add(time.Duration(rng.IntN(3600)+1) * time.Second)
	}
	return b
}

// setBlock sets a block in the table and in the model.
func (m *model) setBlock(t *testing.T, r *tableRig, b modelBlock) {
	t.Helper()
	set, err := r.Block(context.Background(), portmap.Block{Until: b.ends, Selector: portmap.Selector{
		Host:     portmap.HostSelector{Addr: b.addr, Hardware: b.hardware},
		Protocol: b.protocol, External: portmap.PortRange{First: b.first, Last: b.last},
	}})
	m.lastBlock++
	b.id = m.lastBlock
	m.blocks = append(m.blocks, b)
	closed := m.closeCovered(&b)
	if err != nil || set.Closed != closed || set.Block.ID != b.id {
		t.Fatalf("block %+v: %+v, %v, want %d closed", b, set, err, closed)
	}
}

// closeCovered closes the entries that a block covers and returns how many they were.
func (m *model) closeCovered(b *modelBlock) (closed int) {
	for _, e := range slices.Clone(m.entries) {
		if certain, _ := b.covers(e.protocol, e.external, e.internal.Addr()); certain {
			m.release(e, func(modelClaim) bool { return true })
			closed++
		}
	}
	return closed
}

// bindBlocks binds all blocks of addresses, in the table and in the model, to the
// hardware addresses that are known.
func (m *model) bindBlocks(t *testing.T, r *tableRig) {
	t.Helper()
	for i := range m.blocks {
		b := &m.blocks[i]
		if !b.addr.IsValid() || b.bound != "" || modelHardware(b.addr) == "" {
			continue
		}
		b.bound = modelHardware(b.addr)
		m.closeCovered(b)
		if err := r.Bind(context.Background(), b.id, []string{b.bound}); err != nil {
			t.Fatal(err)
		}
	}
}

// liftBlock lifts a random block in the table and in the model.
func (m *model) liftBlock(t *testing.T, r *tableRig, rng *rand.Rand) {
	t.Helper()
	if len(m.blocks) == 0 {
		return
	}
	i := rng.IntN(len(m.blocks))
	id := m.blocks[i].id
	m.blocks = slices.Delete(m.blocks, i, i+1)
	if lifted, _, err := r.Unblock(context.Background(), func(b *portmap.Block) bool { return b.ID == id }); len(lifted) != 1 || err != nil {
		t.Fatalf("lifted %v, %v", lifted, err)
	}
}

// ids returns the numbers of the blocks in force.
func (m *model) ids() (list []int) {
	m.blocks = slices.DeleteFunc(m.blocks, func(b modelBlock) bool { return !b.ends.IsZero() && !b.ends.After(m.now) })
	for _, b := range m.blocks {
		list = append(list, b.id)
	}
	return list
}

// ids returns the numbers of the blocks in force.
func (r *tableRig) ids() (list []int) {
	for _, b := range r.Blocks() {
		list = append(list, b.ID)
	}
	return list
}
