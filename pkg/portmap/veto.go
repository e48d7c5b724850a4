package portmap

import (
	"net/netip"
	"slices"
	"time"
)

// Veto is what the operator refuses for a time: ports, a host, or both. It
// ends with the process.
type Veto struct {
	Host     netip.Addr // the target; the zero Addr: every host
	Protocol Protocol   // 0: both
	External PortRange  // the zero range: every port
	Until    time.Time
}

// covers reports whether the veto is against this mapping.
func (v *Veto) covers(p Protocol, external uint16, host netip.Addr) bool {
	return (v.Protocol == 0 || v.Protocol == p) &&
		(!v.Host.IsValid() || v.Host == host) &&
		(v.External == PortRange{} || v.External.Contains(external))
}

// vetoed returns the veto against a mapping, or nil.
func (d *desk) vetoed(p Protocol, external uint16, host netip.Addr) *Veto {
	for i := range d.vetoes {
		if v := &d.vetoes[i]; v.covers(p, external, host) && v.Until.After(d.now) {
			return v
		}
	}
	return nil
}

// forbid takes out of ports those that vetoes keep from the request's target.
func (d *desk) forbid(ports *PortSet, req *Request) {
	for i := range d.vetoes {
		v := d.vetoes[i]
		if v.External == (PortRange{}) {
			v.External = PortRange{Last: 1<<16 - 1}
		}
		if v.covers(req.Protocol, v.External.First, req.Internal.Addr()) && v.Until.After(d.now) {
			ports.RemoveRange(v.External)
		}
	}
}

// veto puts v in force and closes what it is against.
func (d *desk) veto(v Veto) {
	d.vetoes = slices.DeleteFunc(d.vetoes, func(v Veto) bool { return !v.Until.After(d.now) })
	d.vetoes = append(d.vetoes, v)
	d.withdraw(func(m *Mapping) bool { return v.covers(m.Protocol, m.outside().Port(), m.Internal.Addr()) })
}

// withdraw closes the mappings that which names.
func (d *desk) withdraw(which func(*Mapping) bool) {
	for _, m := range slices.Clone(d.book.order) {
		if which(m) {
			d.drop(m, func(Claim) bool { return true })
		}
	}
}

// explain decides a request and takes back what came of it.
func (d *desk) explain(req *Request) Explanation {
	serial, id, n := d.serial, d.lastID, len(d.changes)
	e := Explanation{Answer: d.decide(req), Rule: -1}
	d.undo(n)
	d.serial, d.lastID = serial, id
	external := req.External
	if e.Refusal == Granted {
		external = e.Mapping.outside().Port()
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
	if v := d.vetoed(req.Protocol, external, req.Internal.Addr()); v != nil {
		found := *v
		e.Veto = &found
	}
	return e
}
