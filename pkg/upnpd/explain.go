package upnpd

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"igdd/pkg/lan"
	"igdd/pkg/portmap"
	"igdd/pkg/upnp"
)

// Argument is an argument of an action: its name and its value as text.
type Argument [2]string

// Invocation is a call of an action that a client on an interface might make.
type Invocation struct {
	Service, Action string // "WANIPConnection", "AddPortMapping"
	Arguments       []Argument
	Client          netip.Addr
	Host            lan.Host
	Device          string // the LAN interface
}

// Explain returns the results that a call would have, with decide in place of the
// table's decision. It is answered as one by the description with the lowest version on
// offer that has the action. The error is a upnp.Fault if the client would get one.
func (s *Server) Explain(call Invocation, decide func(context.Context, portmap.Request) (portmap.Answer, error)) ([]string, error) {
	service, version := s.offering(call.Service, call.Action)
	if service == nil {
		return nil, fmt.Errorf("upnpd: no description has %s", call.Action)
	}
	serviceType := service.Type(service.At(version))
	var arguments strings.Builder
	for _, a := range call.Arguments {
		fmt.Fprintf(&arguments, "<%s>%s</%[1]s>", a[0], a[1])
	}
	body := fmt.Sprintf(`<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><u:%s xmlns:u="%s">%s</u:%[1]s></s:Body></s:Envelope>`,
		call.Action, serviceType, arguments.String())
	parsed, err := service.ParseCall(serviceType+"#"+call.Action, []byte(body), s.highest())
	if err != nil {
		return nil, err
	}
	explaining := *s
	explaining.opts.Table = decider{s.opts.Table, decide}
	return s.actions[call.Action](&invocation{
		Call: parsed, Server: &explaining, service: service, offered: version, client: call.Client, device: call.Device, host: call.Host,
	})
}

// offering returns the service with an action, and the lowest version on offer that has
// it; nil: none has.
func (s *Server) offering(name, action string) (*upnp.Service, upnp.Version) {
	for _, v := range s.opts.Versions {
		for _, service := range s.controls {
			if service.Name == name && service.HasAction(action, v) {
				return service, v
			}
		}
	}
	return nil, 0
}

// decider is a table with another decision.
type decider struct {
	Table
	decide func(context.Context, portmap.Request) (portmap.Answer, error)
}

// Do returns the decision.
func (d decider) Do(ctx context.Context, r portmap.Request) (portmap.Answer, error) {
	return d.decide(ctx, r)
}
