package upnp

import "strconv"

// The beginning and the end of all control messages. They have no line breaks: some
// clients search for text instead of parsing.
const (
	envelopeStart = `<?xml version="1.0"?>` + "\n" + `<s:Envelope xmlns:s="` + soapNamespace +
		`" s:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body>`
	envelopeEnd = "</s:Body></s:Envelope>\n"
)

// AppendReply appends the response to a call: its results, in the order of Action.Out.
func (c *Call) AppendReply(b []byte, results ...string) []byte {
	b = append(b, envelopeStart+"<u:"...)
	b = append(b, c.Name...)
	b = append(b, `Response xmlns:u="`...)
	b = append(b, c.asked...)
	b = append(b, `">`...)
	for i, result := range results {
		b = c.Out[i].appendResult(b, result)
	}
	b = append(b, "</u:"...)
	b = append(b, c.Name...)
	return append(b, "Response>"+envelopeEnd...)
}

// appendResult appends a result. A document is a CDATA section: miniupnpc does not decode
// escapes there, and a listing has nothing that would end the section.
func (a Argument) appendResult(b []byte, result string) []byte {
	if a.Variable != portListing {
		return appendElement(b, a.Name, result)
	}
	b = append(appendStart(b, a.Name), "<![CDATA["...)
	b = append(b, result...)
	return appendEnd(append(b, "]]>"...), a.Name)
}

// Append appends the fault as the answer to a call (UDA 1.1, section 3.2.5).
func (f Fault) Append(b []byte) []byte {
	b = append(b, envelopeStart+"<s:Fault><faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring>"+
		`<detail><UPnPError xmlns="`+controlNamespace+`"><errorCode>`...)
	b = strconv.AppendInt(b, int64(f.Code()), 10)
	b = append(b, "</errorCode><errorDescription>"...)
	b = appendText(b, faults[f].text)
	return append(b, "</errorDescription></UPnPError></detail></s:Fault>"+envelopeEnd...)
}

// AppendMustUnderstand appends the response to ErrMustUnderstand (SOAP 1.1,
// section 4.4.1).
func AppendMustUnderstand(b []byte) []byte {
	return append(b, envelopeStart+"<s:Fault><faultcode>s:MustUnderstand</faultcode>"+
		"<faultstring>a header entry that must be understood is not</faultstring></s:Fault>"+envelopeEnd...)
}
