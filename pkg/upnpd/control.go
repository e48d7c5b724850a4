package upnpd

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"time"

	"igdd/pkg/portmap"
	"igdd/pkg/upnp"
)

// decideWithin bounds the wait for the desk: a control point gives up after 30
// seconds (UDA 1.1, section 3.2.2).
const decideWithin = 25 * time.Second

// invocation is an action that is being carried out.
type invocation struct {
	*upnp.Call
	*Server
	service *upnp.Service
	shown   upnp.Version // of the face that the client has seen
	client  netip.Addr   // who asks
	device  string       // the LAN interface that it asks on
}

// action carries out an action and returns its results, by Action.Out. The
// error is a upnp.Fault.
type action func(*invocation) ([]string, error)

// actions returns what carries out the actions of all services.
func actions() map[string]action {
	return map[string]action{
		"SetDefaultConnectionService": setDefaultConnectionService,
		"GetDefaultConnectionService": readVariables,

		"GetCommonLinkProperties": readVariables,
		"GetTotalBytesSent":       readVariables,
		"GetTotalBytesReceived":   readVariables,
		"GetTotalPacketsSent":     readVariables,
		"GetTotalPacketsReceived": readVariables,

		"SetConnectionType":           setConnectionType,
		"GetConnectionTypeInfo":       readVariables,
		"RequestConnection":           requestConnection,
		"ForceTermination":            forceTermination,
		"GetStatusInfo":               readVariables,
		"GetNATRSIPStatus":            readVariables,
		"GetGenericPortMappingEntry":  getGenericPortMappingEntry,
		"GetSpecificPortMappingEntry": getSpecificPortMappingEntry,
		"AddPortMapping":              addPortMapping,
		"AddAnyPortMapping":           addAnyPortMapping,
		"DeletePortMapping":           deletePortMapping,
		"DeletePortMappingRange":      deletePortMappingRange,
		"GetListOfPortMappings":       getListOfPortMappings,
		"GetExternalIPAddress":        readVariables,

		"GetFirewallStatus":   readVariables,
		"AddPinhole":          addPinhole,
		"UpdatePinhole":       updatePinhole,
		"DeletePinhole":       deletePinhole,
		"GetPinholePackets":   getPinholePackets,
		"CheckPinholeWorking": checkPinholeWorking,

		"QueryStateVariable": queryStateVariable,
	}
}

// soapFields are the header fields of every answer to an action; EXT is UDA
// 1.0's.
var soapFields = append([]byte("EXT:\r\n"), xmlType...)

// control carries out the action that a POST to a control URL asks for.
func (s *Server) control(r *request) response {
	service := s.controls[r.path]
	call, err := service.ParseCall(r.soapAction(), r.body, s.highest())
	if err == nil {
		var results []string
		do := invocation{call, s, service, s.versionAt(r.path, service), r.client, r.device}
		if results, err = s.actions[call.Name](&do); err == nil {
			return response{status: 200, fields: soapFields, body: call.AppendReply(nil, results...)}
		}
	}
	fault := upnp.ActionFailed
	switch {
	case errors.Is(err, upnp.ErrNoAction):
		return response{status: 400}
	case errors.Is(err, upnp.ErrMustUnderstand):
		return response{status: 500, fields: soapFields, body: upnp.AppendMustUnderstand(nil)}
	case errors.As(err, &fault):
	default:
		s.opts.Log.Warn("action failed", "action", call.Name, "client", r.client, "err", err)
	}
	return response{status: 500, fields: soapFields, body: fault.Append(nil)}
}

// soapAction returns the field SOAPACTION, which M-POST hides behind a number
// of its own (UDA 1.0, section 3.2.1).
func (r *request) soapAction() string {
	if r.method != "M-POST" {
		return r.field("soapaction")
	}
	_, number, _ := strings.Cut(r.field("man"), "ns=")
	return r.field(strings.TrimSpace(number) + "-soapaction")
}

// decide waits for the desk's decision.
func (i *invocation) decide(req portmap.Request) (portmap.Answer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), decideWithin)
	defer cancel()
	req.Origin, req.Client = portmap.UPnP, i.client
	return i.opts.Table.Do(ctx, req)
}

// readVariables answers with the state variables that the results belong to.
func readVariables(i *invocation) ([]string, error) {
	now := i.state()
	results := make([]string, len(i.Out))
	for n, result := range i.Out {
		results[n], _ = now.value(result.Variable.Name, i.shown)
	}
	return results, nil
}

// queryStateVariable answers UDA 1.0's way of reading one variable.
func queryStateVariable(i *invocation) ([]string, error) {
	name := i.Text("varName")
	if !i.service.Has(name, i.Version) {
		return nil, upnp.InvalidVar
	}
	value, ok := i.state().value(name, i.shown)
	if !ok {
		return nil, upnp.InvalidVar
	}
	return []string{value}, nil
}

// setDefaultConnectionService takes the one service there is.
func setDefaultConnectionService(i *invocation) ([]string, error) {
	return nil, i.face(i.shown).CheckConnectionService(i.Text("NewDefaultConnectionService"))
}

// setConnectionType takes the one type there is.
func setConnectionType(i *invocation) ([]string, error) {
	switch {
	case i.Text("NewConnectionType") == routed:
		return nil, nil
	case i.Version == upnp.V1:
		return nil, upnp.InactiveStateRequired
	}
	return nil, upnp.ReadOnly
}

// requestConnection finds the connection established: the gateway holds it by
// itself as well as it can.
func requestConnection(i *invocation) ([]string, error) {
	if i.state().connected() {
		return nil, nil
	}
	return nil, upnp.ConnectionSetupFailed
}

// forceTermination is refused: nobody on a LAN cuts the uplink off.
func forceTermination(i *invocation) ([]string, error) {
	switch {
	case !i.state().connected():
		return nil, upnp.ConnectionTerminated
	case i.Version == upnp.V1:
		return nil, upnp.ActionFailed
	}
	return nil, upnp.NotAuthorized
}
