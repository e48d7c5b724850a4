package upnpd

import (
	"iter"
	"net/netip"
	"path"
	"strings"
	"sync"

	"igdd/pkg/upnp"
)

// library holds the documents that describe the gateway. Each is worded once:
// descriptions for every address of the router that clients ask.
type library struct {
	shelf map[string]volume // by path
	mu    sync.RWMutex      // guards worded
	// worded documents by volume and address; service descriptions are the
	// same for all addresses.
	worded map[edition][]byte
}

// volume is a document: the description of a face, or that of a service.
type volume struct {
	face    *upnp.Face
	service *upnp.Service // nil: the face itself
}

// edition is a volume for clients that ask one of the router's addresses.
type edition struct {
	volume
	local netip.Addr
}

// newLibrary puts the documents of the faces on show where they are found, and
// the oldest one's, which some clients are shown instead. Its path is what
// clients know without a search: there stands the lowest face on show.
func newLibrary(faces []*upnp.Face, oldest *upnp.Face) *library {
	l := &library{shelf: make(map[string]volume), worded: make(map[edition][]byte)}
	for _, f := range append([]*upnp.Face{oldest}, faces...) {
		l.shelf[f.Path()] = volume{face: f}
		for _, d := range f.Devices {
			for _, s := range d.Services {
				l.shelf[s.SCPDPath(f.Version)] = volume{f, s}
			}
		}
	}
	l.shelf[oldest.Path()] = volume{face: faces[0]}
	return l
}

// word returns the document for clients that ask the address local.
func (l *library) word(v volume, local netip.Addr) []byte {
	e := edition{v, local}
	if v.service != nil {
		e.local = netip.Addr{}
	}
	l.mu.RLock()
	document := l.worded[e]
	l.mu.RUnlock()
	if document != nil {
		return document
	}
	if v.service != nil {
		document = v.service.AppendSCPD(nil, v.face.Version)
	} else {
		document = v.face.AppendDescription(nil, local)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.worded) >= maxWorded {
		clear(l.worded)
	}
	l.worded[e] = document
	return document
}

// maxWorded bounds the documents that are kept: addresses may come and go.
const maxWorded = 64

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
	v, ok := s.library.shelf[path]
	if !ok {
		return nil, false
	}
	if upnp.NeedsVersion1(userAgent) {
		v.face = s.oldest
	}
	return s.library.word(v, local), true
}
