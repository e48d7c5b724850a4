package upstream

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"igdd/pkg/natpmp"
)

// preference is how long an answer by a preferred protocol is awaited once the router in
// front has answered by another one.
const preference = time.Second

// connector makes the router that speaks one protocol.
type connector func(context.Context, Method, Gateway) (router, error)

// connect is the connector of real routers.
func connect(ctx context.Context, m Method, g Gateway) (router, error) {
	switch s := (server{g, natpmp.ServerPort}); m {
	case PCP:
		return &pcpRouter{server: s}, nil
	case NATPMP:
		return natpmpRouter{s}, nil
	}
	r, err := discoverIGD(ctx, g)
	if err != nil {
		return nil, err
	}
	return r, nil
}

// discovery is what became of asking by one protocol.
type discovery struct {
	method Method
	router router
	state  state
	err    error // why it is not spoken
	denied error // it is, but this is refused
}

// discover asks by all methods at once, and returns the preferred of those by which the
// router answers.
func (connect connector) discover(ctx context.Context, methods []Method, g Gateway) discovery {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	found := make(chan discovery, len(methods))
	for _, m := range methods {
		go func() { found <- connect.try(ctx, m, g) }()
	}
	return choose(methods, found)
}

// choose returns the preferred of what is found.
func choose(methods []Method, found <-chan discovery) discovery {
	open := slices.Clone(methods) // no answer yet
	var best discovery
	var errs []error
	var enough <-chan time.Time
	for len(open) > 0 && (best.router == nil || rank(methods, open[0]) < rank(methods, best.method)) {
		select {
		case d := <-found:
			open = slices.DeleteFunc(open, func(m Method) bool { return m == d.method })
			if d.err != nil {
				errs = append(errs, d.err)
			} else if best.router == nil || rank(methods, d.method) < rank(methods, best.method) {
				best = d
				enough = cmp.Or(enough, time.After(preference))
			}
		case <-enough:
			return best
		}
	}
	if best.router == nil {
		best.err = errors.Join(errs...)
	}
	return best
}

// rank returns the place of m among methods.
func rank(methods []Method, m Method) int { return slices.Index(methods, m) }

// try asks by one protocol.
func (connect connector) try(ctx context.Context, m Method, g Gateway) discovery {
	r, err := connect(ctx, m, g)
	if err != nil {
		return discovery{method: m, err: err}
	}
	s, err := r.check(ctx)
	d := discovery{method: m, router: r, state: s}
	switch {
	case causeOf(err) == denied:
		d.denied = err
	case err != nil:
		return discovery{method: m, err: err}
	}
	return d
}
