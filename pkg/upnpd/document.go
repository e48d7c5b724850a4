package upnpd

import (
	"iter"
	"net/netip"
	"path"
	"strings"
	"sync"

	"igdd/pkg/upnp"
)

// documents holds the documents that describe the gateway. Each is worded once:
// descriptions for every address of the router that clients ask.
type documents struct {
	byPath map[string]docSource // by path
	mu     sync.RWMutex         // guards worded
	// rendered documents by volume and address; service descriptions are the
	// same for all addresses.
	rendered map[docKey][]byte
}

// docSource is a document: the description of a face, or that of a service.
type docSource struct {
	face    *upnp.Description
	service *upnp.Service // nil: the face itself
}

// docKey is a volume for clients that ask one of the router's addresses.
type docKey struct {
	docSource
	local netip.Addr
}

// newDocuments puts the documents of the faces on show where they are found, and
// the oldest one's, which some clients are shown instead. Its path is what
// clients know without a search: there stands the lowest face on show.
func newDocuments(faces []*upnp.Description, oldest *upnp.Description) *documents {
	l := &documents{byPath: make(map[string]docSource), rendered: make(map[docKey][]byte)}
	for _, f := range append([]*upnp.Description{oldest}, faces...) {
		l.byPath[f.Path()] = docSource{face: f}
		for _, d := range f.Devices {
			for _, s := range d.Services {
				l.byPath[s.SCPDPath(f.Version)] = docSource{f, s}
			}
		}
	}
	l.byPath[oldest.Path()] = docSource{face: faces[0]}
	return l
}

// render returns the document for clients that ask the address local.
func (l *documents) render(v docSource, local netip.Addr) []byte {
	e := docKey{v, local}
	if v.service != nil {
		e.local = netip.Addr{}
	}
	l.mu.RLock()
	document := l.rendered[e]
	l.mu.RUnlock()
	if document != nil {
		return document
	}
	if v.service != nil {
		document = v.service.AppendSCPD(nil, v.face.Version)
	} else {
		document = v.face.Append(nil, local)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.rendered) >= maxRendered {
		clear(l.rendered)
	}
	l.rendered[e] = document
	return document
}

// maxRendered bounds the documents that are kept: addresses may come and go.
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

// canonical returns what all spellings of a path have in common: case, doubled
// slashes, one at the end, and dot segments count for nothing.
func canonical(p string) string { return strings.ToLower(path.Clean(p)) }

// published returns a path as the descriptions spell it, unchanged if it is
// none of theirs. Clients that join URLs as texts write it behind another of
// them, mostly the one of the description.
func (s *Server) published(p string) string {
	asked := canonical(p)
	for own, known := range s.paths {
		if behind, ok := strings.CutSuffix(asked, own); ok && (behind == "" || s.paths[behind] != "") {
			return known
		}
	}
	return p
}

// document returns the description or service description at a path, as the
// client with this User-Agent that asked the router's address local sees it.
func (s *Server) document(path, userAgent string, local netip.Addr) ([]byte, bool) {
	v, ok := s.documents.byPath[path]
	if !ok {
		return nil, false
	}
	if upnp.NeedsVersion1(userAgent) {
		v.face = s.oldest
	}
	return s.documents.render(v, local), true
}
