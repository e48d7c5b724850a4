package upnp

import "strconv"

// Fault is the error of an action: a code with its text, by UDA 1.1,
// section 3.2.5, and the tables of the services. Some services use the same
// number for different things.
type Fault uint8

// The faults that gateways send.
const (
	InvalidAction Fault = iota + 1
	InvalidArgs
	InvalidVar
	ActionFailed
	ValueOutOfRange
	NotAuthorized

	// WANIPConnection
	InactiveStateRequired
	ConnectionSetupFailed
	ConnectionTerminated
	NoSuchIndex
	NoSuchEntry
	WildCardExternalPort
	ConflictInMapping
	NoPortsLeft
	ConflictWithOther
	MappingNotFound
	ReadOnly
	WildCardInternalPort
	InconsistentParameters

	// WANIPConnection:1 and WANPPPConnection:1; ours sends none of them
	SamePortValuesRequired
	OnlyPermanentLeases
	RemoteHostOnlyWildcard

	// Layer3Forwarding
	InvalidDeviceUUID
	InvalidServiceID

	// WANIPv6FirewallControl
	PinholeSpaceExhausted
	NoSuchPinhole
	ProtocolNotSupported
	WildCardPinholePort
	WildCardProtocol
	NoTrafficReceived
)

var faults = [...]struct {
	code int
	text string
}{
	InvalidAction:          {401, "Invalid Action"},
	InvalidArgs:            {402, "Invalid Args"},
	InvalidVar:             {404, "Invalid Var"},
	ActionFailed:           {501, "Action Failed"},
	ValueOutOfRange:        {601, "Argument Value Out of Range"},
	NotAuthorized:          {606, "Action not authorized"},
	InactiveStateRequired:  {703, "InactiveConnectionStateRequired"},
	ConnectionSetupFailed:  {704, "ConnectionSetupFailed"},
	ConnectionTerminated:   {711, "ConnectionAlreadyTerminated"},
	NoSuchIndex:            {713, "SpecifiedArrayIndexInvalid"},
	NoSuchEntry:            {714, "NoSuchEntryInArray"},
	WildCardExternalPort:   {716, "WildCardNotPermittedInExtPort"},
	ConflictInMapping:      {718, "ConflictInMappingEntry"},
	NoPortsLeft:            {728, "NoPortMapsAvailable"},
	ConflictWithOther:      {729, "ConflictWithOtherMechanisms"},
	MappingNotFound:        {730, "PortMappingNotFound"},
	ReadOnly:               {731, "ReadOnly"},
	WildCardInternalPort:   {732, "WildCardNotPermittedInIntPort"},
	InconsistentParameters: {733, "InconsistentParameters"},
	SamePortValuesRequired: {724, "SamePortValuesRequired"},
	OnlyPermanentLeases:    {725, "OnlyPermanentLeasesSupported"},
	RemoteHostOnlyWildcard: {726, "RemoteHostOnlySupportsWildcard"},
	InvalidDeviceUUID:      {720, "InvalidDeviceUUID"},
	InvalidServiceID:       {721, "InvalidServiceID"},
	PinholeSpaceExhausted:  {701, "PinholeSpaceExhausted"},
	NoSuchPinhole:          {704, "NoSuchEntry"},
	ProtocolNotSupported:   {705, "ProtocolNotSupported"},
	WildCardPinholePort:    {706, "InternalPortWildcardingNotAllowed"},
	WildCardProtocol:       {707, "ProtocolWildcardingNotAllowed"},
	NoTrafficReceived:      {709, "NoTrafficReceived"},
}

// Code returns the errorCode.
func (f Fault) Code() int { return faults[f].code }

// Error returns code and errorDescription.
func (f Fault) Error() string { return strconv.Itoa(f.Code()) + " " + faults[f].text }
