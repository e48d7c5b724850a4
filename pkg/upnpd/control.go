package upnpd

import "net/netip"

// control carries out the action that a POST to a control URL asks for.
func (s *Server) control(r *request) response { return response{status: 501} }

// document returns the description or service description at a path, as the
// client with this User-Agent that asked the router's address local sees it.
func (s *Server) document(path, userAgent string, local netip.Addr) ([]byte, bool) { return nil, false }
