package portmap

import "slices"

// explain decides a request and reverts the result.
func (al *allocator) explain(req *Request) Explanation {
	serial, id, n := al.serial, al.lastID, len(al.changes)
	e := Explanation{Answer: al.decideAlone(req)}
	al.undo(n)
	al.serial, al.lastID = serial, id
	to := al.destinationOf(req)
	switch {
	case e.Refusal == Granted:
		e.Rule = al.policy.rule(e.Mapping.ExternalPort(), to, req.Description)
	case e.Refusal == NotAuthorized && al.checkRules(req.externalPort(), to, req.Description) == UnknownHost:
		e.Ambiguous = al.dependsOnInterface(req.externalPort(), to, req.Description)
		e.HostUnknown = !e.Ambiguous
	case e.Refusal == NoPorts && e.Forward == nil && al.policy.ExternalPorts != nil:
		e.Rule, e.Forward = al.behindNoPorts(req, to)
	}
	return e
}

// dependsOnInterface reports whether the rules would let external reach a destination,
// whose interface is not certain, if it were behind one of them.
func (al *allocator) dependsOnInterface(external uint16, to Destination, description string) bool {
	return to.Interface == "" && slices.ContainsFunc(al.network.Devices, func(device string) bool {
		to.Interface = device
		return al.policy.Permits(external, to, description)
	})
}

// behindNoPorts returns the rule that denies the first of the ports that the provider
// forwards if the rules deny all of them, or the static port forward that has the first
// of the others if such forwards have all of those.
func (al *allocator) behindNoPorts(req *Request, to Destination) (*Rule, *Forward) {
	ports := al.policy.Ports(to, req.Description)
	if !al.policy.restrict(ports) {
		if first, ok := al.policy.ExternalPorts.next(0); ok {
			return al.policy.rule(first, to, req.Description), nil
		}
		return nil, nil
	}
	first, _ := ports.next(0)
	f, forwarded := al.network.forward(req.Protocol, first)
	if al.removeReserved(ports, req.Protocol); forwarded && ports.empty() {
		return nil, &f
	}
	return nil, nil
}
