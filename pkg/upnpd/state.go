package upnpd

// variable returns the value of a state variable as it is now; "" if the
// gateway has no such variable.
func (s *Server) variable(name string) string { return "" }
