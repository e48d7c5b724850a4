package upstream

import (
	"errors"
	"slices"
	"time"

	"igdd/pkg/pcp"
)

// maxUnauthorized is how many mappings the router in front may refuse as not authorized,
// before it grants any, until another protocol is looked for.
const maxUnauthorized = 3

// methods returns the protocols by which the router in front may be asked, the preferred
// first.
func (e *engine) methods(s *session) []Method {
	return slices.DeleteFunc(slices.Clone(e.options.Methods), func(m Method) bool { return slices.Contains(s.useless, m) })
}

// doubtMethod looks for another protocol if a refusal shows that the router in front answers
// by this one but forwards nothing.
func (e *engine) doubtMethod(s *session, w *want, err *routerError, now time.Time) {
	if errors.Is(err, pcp.NotAuthorized) && len(s.unauthorized) < maxUnauthorized && !slices.Contains(s.unauthorized, w.key) {
		s.unauthorized = append(s.unauthorized, w.key)
	}
	if !errors.Is(err, pcp.UnsuppOpcode) && (s.granted || len(s.unauthorized) < maxUnauthorized) {
		return
	}
	others := slices.DeleteFunc(e.methods(s), func(m Method) bool { return m == s.method })
	if s.others.due = len(others) > 0; !s.others.take(now) {
		return
	}
	e.running.Go(func() {
		d := e.connect.discover(s.ctx, others, s.gateway)
		e.post(s, func(now time.Time) { e.changeMethod(s, d, err, now) })
	})
}

// changeMethod has the router in front asked by another protocol, if there is one by which
// it answers, and never again by the one that err is from.
func (e *engine) changeMethod(s *session, d discovery, err *routerError, now time.Time) {
	if d.router == nil || s.granted && !errors.Is(err, pcp.UnsuppOpcode) {
		return
	}
	e.options.Log.Warn("the router in front forwards nothing by this protocol", "gateway", s.gateway.Address, "protocol", s.method, "err", err)
	n := e.succeed(s)
	n.useless = append(n.useless, s.method)
	e.discovered(n, d, now)
}
