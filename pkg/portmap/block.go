package portmap

import (
	"net/netip"
	"slices"
	"time"
)

// Block is what the operator refuses for a time: ports, a host, or both. It
// ends with the process.
type Block struct {
	Host     netip.Addr // the target; the zero Addr: every host
	Protocol Protocol   // 0: both
	External PortRange  // the zero range: every port
	Until    time.Time
}

// covers reports whether the veto is against this mapping.
func (v *Block) covers(p Protocol, external uint16, host netip.Addr) bool {
	return (v.Protocol == 0 || v.Protocol == p) &&
		(!v.Host.IsValid() || v.Host == host) &&
		(v.External == PortRange{} || v.External.Contains(external))
}

// blockFor returns the veto against a mapping, or nil.
func (d *allocator) blockFor(p Protocol, external uint16, host netip.Addr) *Block {
	for i := range d.blocks {
		if v := &d.blocks[i]; v.covers(p, external, host) && v.Until.After(d.now) {
			return v
		}
	}
	return nil
}

// removeBlocked takes out of ports those that vetoes keep from the request's target.
func (d *allocator) removeBlocked(ports *PortSet, req *Request) {
	for i := range d.blocks {
		v := d.blocks[i]
		if v.External == (PortRange{}) {
			v.External = PortRange{Last: 1<<16 - 1}
		}
		if v.covers(req.Protocol, v.External.First, req.Internal.Addr()) && v.Until.After(d.now) {
			ports.RemoveRange(v.External)
		}
	}
}

// block puts v in force and closes what it is against.
func (d *allocator) block(v Block) {
	d.blocks = slices.DeleteFunc(d.blocks, func(v Block) bool { return !v.Until.After(d.now) })
	d.blocks = append(d.blocks, v)
	d.withdraw(func(m *Mapping) bool { return v.covers(m.Protocol, m.externalEndpoint().Port(), m.Internal.Addr()) })
}

// withdraw closes the mappings that which names.
func (d *allocator) withdraw(which func(*Mapping) bool) {
	for _, m := range slices.Clone(d.index.order) {
		if which(m) {
			d.drop(m, func(Claim) bool { return true })
		}
	}
}

// explain decides a request and takes back what came of it.
func (d *allocator) explain(req *Request) Explanation {
	serial, id, n := d.serial, d.lastID, len(d.changes)
	e := Explanation{Answer: d.decide(req), Rule: -1}
	d.undo(n)
	d.serial, d.lastID = serial, id
	external := req.External
	if e.Refusal == Granted {
		external = e.Mapping.externalEndpoint().Port()
	} else if external == 0 {
		external = req.Internal.Port()
	}
	to := d.aim(req)
	if i, decided := d.policy.Decides(external, to, req.Description); decided {
		e.Rule = i
	}
	if e.Refusal == NotAuthorized && d.permits(external, to, req.Description) == UnknownHost {
		e.Refusal = UnknownHost
	}
	if v := d.blockFor(req.Protocol, external, req.Internal.Addr()); v != nil {
		found := *v
		e.Block = &found
	}
	return e
}
