package portmap

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
		e.Refusal = UnknownHost
	}
	return e
}
