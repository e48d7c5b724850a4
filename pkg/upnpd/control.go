package upnpd

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"time"

	"igdd/pkg/lan"
	"igdd/pkg/portmap"
	"igdd/pkg/upnp"
)

// decideWithin limits the wait for the table: a control point gives up after 30
// seconds (UDA 1.1, section 3.2.2).
const decideWithin = 25 * time.Second

// invocation is a call of an action.
type invocation struct {
	*upnp.Call
	*Server
	service *upnp.Service
	offered upnp.Version // of the description that the client has
	client  netip.Addr   // of the request
	device  string       // the LAN interface of the request
	host    lan.Host     // the client
	list    *listing     // set by getListOfPortMappings in place of a result
}

// action carries out an action and returns its results, by Action.Out. The
// error is a upnp.Fault.
type action func(*invocation) ([]string, error)

// actions returns the implementations of the actions of all services by name.
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

// soapFields are the header fields of every response to an action; EXT is for UDA
// 1.0.
var soapFields = append([]byte("EXT:\r\n"), xmlType...)

// control answers a POST to a control URL.
func (s *Server) control(r *request) response {
	service := s.controls[r.path]
	call, err := service.ParseCall(r.soapAction(), r.body, s.highest())
	r.body = nil // free its memory while the table decides
	do := &invocation{
		Call: call, Server: s, service: service, offered: s.versionAt(r.path, service),
		client: r.client, device: r.device, host: r.from,
	}
	switch {
	case errors.Is(err, upnp.ErrNoAction):
		return response{status: 400}
	case errors.Is(err, upnp.ErrMustUnderstand):
		return response{status: 500, fields: soapFields, body: upnp.AppendMustUnderstand(nil)}
	case err != nil:
		return do.fault(err)
	case isImmediate(call.Name):
		return do.carryOut()
	}
	return response{later: do.carryOut}
}

// isImmediate reports whether an action returns at once what the program has in memory:
// it waits neither for the table nor for the kernel.
func isImmediate(action string) bool {
	switch action {
	case "GetExternalIPAddress", "GetStatusInfo", "GetConnectionTypeInfo", "GetNATRSIPStatus", "GetDefaultConnectionService",
		"GetGenericPortMappingEntry", "GetSpecificPortMappingEntry", "GetFirewallStatus":
		return true
	}
	return false
}

// usualReply is the length of most results with their envelope, in bytes.
const usualReply = 512

// carryOut carries out the action and returns the response.
func (i *invocation) carryOut() response {
	results, err := i.actions[i.Name](i)
	switch {
	case err != nil:
		return i.fault(err)
	case i.list != nil:
		return response{list: i.list}
	}
	return response{status: 200, fields: soapFields, body: i.AppendReply(make([]byte, 0, usualReply), results...)}
}

// fault returns the response to an action that has failed.
func (i *invocation) fault(err error) response {
	fault := upnp.ActionFailed
	if !errors.As(err, &fault) {
		i.opts.Log.Warn("action failed", "action", i.Name, "client", i.client, "err", err)
	}
	return faultResponse(fault)
}

// faultResponse returns the response with a fault.
func faultResponse(f upnp.Fault) response {
	return response{status: 500, fields: soapFields, body: f.Append(nil)}
}

// soapAction returns the field SOAPACTION, which in an M-POST has a numeric prefix
// (UDA 1.0, section 3.2.1).
func (r *request) soapAction() string {
	if r.method != "M-POST" {
		return r.field("soapaction")
	}
	_, number, _ := strings.Cut(r.field("man"), "ns=")
	return r.field(strings.TrimSpace(number) + "-soapaction")
}

// decide waits for the table's decision.
func (i *invocation) decide(req portmap.Request) (portmap.Answer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), decideWithin)
	defer cancel()
	req.Origin, req.Client, req.ClientHost = portmap.UPnP, i.client, string(i.host)
	return i.opts.Table.Do(ctx, req)
}

// readVariables returns the values of the state variables of the results.
func readVariables(i *invocation) ([]string, error) {
	now := i.state()
	results := make([]string, len(i.Out))
	for n, result := range i.Out {
		results[n], _ = now.value(result.Variable.Name, i.offered)
	}
	return results, nil
}

// queryStateVariable returns the value of one variable (UDA 1.0, section 3.3).
func queryStateVariable(i *invocation) ([]string, error) {
	name := i.Text("varName")
	if !i.service.Has(name, i.Version) {
		return nil, upnp.InvalidVar
	}
	value, ok := i.state().value(name, i.offered)
	if !ok {
		return nil, upnp.InvalidVar
	}
	return []string{value}, nil
}

// setDefaultConnectionService accepts only the one service that exists.
func setDefaultConnectionService(i *invocation) ([]string, error) {
	return nil, i.description(i.offered).CheckConnectionService(i.Text("NewDefaultConnectionService"))
}

// setConnectionType accepts only the one type that exists.
func setConnectionType(i *invocation) ([]string, error) {
	switch {
	case i.Text("NewConnectionType") == routed:
		return nil, nil
	case i.Version == upnp.V1:
		return nil, upnp.InactiveStateRequired
	}
	return nil, upnp.ReadOnly
}

// requestConnection succeeds while the uplink is connected; the gateway cannot
// establish the connection on request.
func requestConnection(i *invocation) ([]string, error) {
	if i.state().connected() {
		return nil, nil
	}
	return nil, upnp.ConnectionSetupFailed
}

// forceTermination is refused: LAN clients may not disconnect the uplink.
func forceTermination(i *invocation) ([]string, error) {
	switch {
	case !i.state().connected():
		return nil, upnp.ConnectionTerminated
	case i.Version == upnp.V1:
		return nil, upnp.ActionFailed
	}
	return nil, upnp.NotAuthorized
}
