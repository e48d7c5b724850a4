package upstream

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
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
	answers := make([]discovery, len(methods))
	best := len(methods)
	var enough <-chan time.Time
	for i := 0; i < best; { // the first one that may still be preferred
		select {
		case d := <-found:
			n := slices.Index(methods, d.method)
			if answers[n] = d; d.router != nil {
				best, enough = min(best, n), cmp.Or(enough, time.After(preference))
			}
		case <-enough:
			return answers[best]
		}
		for i < best && answers[i].method != 0 {
			i++
		}
	}
	if best < len(methods) {
		return answers[best]
	}
	return discovery{err: joinReasons(answers)}
}

// joinReasons returns an error that says, in one line, why no protocol is spoken. It is
// the same each time, so that the operator is told once.
func joinReasons(answers []discovery) error {
	var reasons []string
	for _, d := range answers {
		if reason := d.err.Error(); !slices.Contains(reasons, reason) {
			reasons = append(reasons, reason)
		}
	}
	return errors.New(strings.Join(reasons, "; "))
}

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
