package upnpd

import (
	"iter"
	"net/netip"
	"path"
	"strings"
	"sync"

	"igdd/pkg/upnp"
)

// documents caches the documents that describe the gateway. Each is rendered once,
// device descriptions once for every address of the router that clients use.
type documents struct {
	byPath map[string]docSource
	mu     sync.RWMutex // guards rendered
	// rendered documents by source and address; service descriptions are the same
	// for all addresses.
	rendered map[docKey][]byte
}

// docSource is what a document describes: a device, or one of its services.
type docSource struct {
	description *upnp.Description
	service     *upnp.Service // nil: the device itself
}

// docKey identifies a rendered document.
type docKey struct {
	docSource
	local netip.Addr
}

// newDocuments returns the documents of the descriptions on offer and of the oldest,
// which some clients get instead. Clients know the path of the oldest without a
// search: it leads to the lowest version on offer.
func newDocuments(descriptions []*upnp.Description, oldest *upnp.Description) *documents {
	d := &documents{byPath: make(map[string]docSource), rendered: make(map[docKey][]byte)}
	for _, f := range append([]*upnp.Description{oldest}, descriptions...) {
		d.byPath[f.Path()] = docSource{description: f}
		for _, device := range f.Devices {
			for _, s := range device.Services {
				d.byPath[s.SCPDPath(f.Version)] = docSource{f, s}
			}
		}
	}
	d.byPath[oldest.Path()] = docSource{description: descriptions[0]}
	return d
}

// render returns the document for clients that use the router's address local.
func (d *documents) render(v docSource, local netip.Addr) []byte {
	key := docKey{v, local}
	if v.service != nil {
		key.local = netip.Addr{}
	}
	d.mu.RLock()
	document := d.rendered[key]
	d.mu.RUnlock()
	if document != nil {
		return document
	}
	if v.service != nil {
		document = v.service.AppendSCPD(nil, v.description.Version)
	} else {
		document = v.description.Append(nil, local)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.rendered) >= maxRendered {
		clear(d.rendered)
	}
	d.rendered[key] = document
	return document
}

// maxRendered limits the cached documents: addresses may change often.
const maxRendered = 64

// spellings returns the published paths by their canonical forms.
func spellings(published ...iter.Seq[string]) map[string]string {
	paths := make(map[string]string)
	for _, list := range published {
		for p := range list {
			paths[canonical(p)] = p
		}
	}
	return paths
}

// canonical returns the form that all spellings of a path share: lower case, no
// repeated or trailing slashes, no dot segments.
func canonical(p string) string { return strings.ToLower(path.Clean(p)) }

// published returns a path as the descriptions spell it, and other paths unchanged.
// Clients that join URLs as strings append it to another published path, mostly that
// of the description.
func (s *Server) published(p string) string {
	asked := canonical(p)
	for own, known := range s.paths {
		if behind, ok := strings.CutSuffix(asked, own); ok && (behind == "" || s.paths[behind] != "") {
			return known
		}
	}
	return p
}

// document returns the device or service description at a path, for a client with
// this User-Agent that uses the router's address local.
func (s *Server) document(path, userAgent string, local netip.Addr) ([]byte, bool) {
	v, ok := s.documents.byPath[path]
	if !ok {
		return nil, false
	}
	if upnp.NeedsVersion1(userAgent) {
		v.description = s.oldest
	}
	return s.documents.render(v, local), true
}
