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
