package portmap

import (
	"cmp"
	"slices"
)

// withdraw closes the mappings for which which is true.
func (al *allocator) withdraw(which func(*Mapping) bool, cause Cause) {
	for _, m := range slices.Clone(al.index.order) {
		if which(m) {
			al.drop(m, func(Claim) bool { return true }, cause)
		}
	}
}

// explain decides a request and reverts the result.
func (al *allocator) explain(req *Request) Explanation {
	serial, id, n := al.serial, al.lastID, len(al.changes)
	e := Explanation{Answer: al.decide(req)}
	al.undo(n)
	al.serial, al.lastID = serial, id
	external, to := req.externalPort(), al.destinationOf(req)
	if e.Refusal == Granted {
		external = e.Mapping.externalEndpoint().Port()
	}
	e.Rule = cmp.Or(e.Rule, al.policy.rule(external, to, req.Description))
	if e.Refusal == NotAuthorized && al.checkRules(external, to, req.Description) == UnknownHost {
		e.Refusal = UnknownHost
	}
	return e
}
