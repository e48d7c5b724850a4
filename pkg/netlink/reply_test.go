package netlink

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// message encodes a message of a reply.
func message(kind, flags uint16, data ...byte) []byte {
	b := Message{Type: kind, Flags: flags, Data: data}.encode(nil)
	binary.NativeEndian.PutUint16(b[6:], flags) // without NLM_F_REQUEST
	return append(b, make([]byte, align(len(b))-len(b))...)
}

// errorData encodes an error number as the kernel does.
func errorData(errno unix.Errno) []byte {
	return binary.NativeEndian.AppendUint32(nil, uint32(-int32(errno)))
}

// withLength replaces the length in the header of a message.
func withLength(b []byte, length uint32) []byte {
	b = slices.Clone(b)
	binary.NativeEndian.PutUint32(b, length)
	return b
}

// withSequence replaces the sequence number in the header of a message.
func withSequence(b []byte, number uint32) []byte {
	b = slices.Clone(b)
	binary.NativeEndian.PutUint32(b[8:], number)
	return b
}

// The messages that the tests compose replies of.
var (
	link      = message(unix.RTM_NEWLINK, 0, 1, 2, 3, 4)
	linkPart  = message(unix.RTM_NEWLINK, unix.NLM_F_MULTI, 5)
	linkAfter = message(unix.RTM_NEWLINK, unix.NLM_F_MULTI|unix.NLM_F_DUMP_INTR, 5)
	done      = message(unix.NLMSG_DONE, unix.NLM_F_MULTI, errorData(0)...)
	ack       = message(unix.NLMSG_ERROR, 0, errorData(0)...)
)

func TestReply(t *testing.T) {
	const dump, acknowledged = unix.NLM_F_DUMP, unix.NLM_F_ACK | unix.NLM_F_REPLACE
	for name, tt := range map[string]struct {
		request     uint16
		datagrams   [][]byte
		messages    int
		complete    bool
		interrupted bool
	}{
		"nothing yet":                        {0, [][]byte{{}}, 0, false, false},
		"one message":                        {0, [][]byte{link}, 1, true, false},
		"one message that says it is a part": {0, [][]byte{linkPart}, 1, true, false}, // as conntrack's
		"one message, and what follows":      {0, [][]byte{slices.Concat(link, link)}, 1, true, false},
		"a table":                            {dump, [][]byte{slices.Concat(linkPart, linkPart), linkPart, done}, 3, true, false},
		"a table in one datagram":            {dump, [][]byte{slices.Concat(linkPart, done)}, 1, true, false},
		"a table that goes on":               {dump, [][]byte{linkPart}, 1, false, false},
		"an empty table":                     {dump, [][]byte{done}, 0, true, false},
		"a table that changed":               {dump, [][]byte{linkPart, linkAfter, done}, 2, true, true},
		"an end that says it changed":        {dump, [][]byte{message(unix.NLMSG_DONE, unix.NLM_F_DUMP_INTR, errorData(0)...)}, 0, true, true},
		"an acknowledgement":                 {acknowledged, [][]byte{ack}, 0, true, false},
		"a message and an acknowledgement":   {acknowledged, [][]byte{link, ack}, 1, true, false},
		"an acknowledgement to come":         {acknowledged, [][]byte{link}, 1, false, false},
		"nothing to do":                      {0, [][]byte{message(unix.NLMSG_NOOP, 0), link}, 1, true, false},
		"the reply to another request":       {0, [][]byte{withSequence(link, 7)}, 0, false, false},
		"the end of another table":           {dump, [][]byte{withSequence(done, 0), linkPart}, 1, false, false},
		"a message without its padding":      {0, [][]byte{message(unix.RTM_NEWLINK, 0, 1)[:unix.SizeofNlMsghdr+1]}, 1, true, false},
	} {
		r := newReply(tt.request)
		for _, b := range tt.datagrams {
			if err := r.read(b); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if len(r.messages) != tt.messages || r.complete != tt.complete || r.interrupted != tt.interrupted {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestReplyKeepsTypeFlagsAndData(t *testing.T) {
	r := newReply(unix.NLM_F_DUMP)
	if err := r.read(slices.Concat(link, linkPart, done)); err != nil {
		t.Fatal(err)
	}
	want := []Message{
		{Type: unix.RTM_NEWLINK, Data: []byte{1, 2, 3, 4}},
		{Type: unix.RTM_NEWLINK, Flags: unix.NLM_F_MULTI, Data: []byte{5}},
	}
	equal := func(a, b Message) bool { return a.Type == b.Type && a.Flags == b.Flags && bytes.Equal(a.Data, b.Data) }
	if !slices.EqualFunc(r.messages, want, equal) {
		t.Errorf("messages = %+v, want %+v", r.messages, want)
	}
}

func TestMalformedReply(t *testing.T) {
	for name, tt := range map[string]struct {
		datagram []byte
		want     error
	}{
		"an error":                        {message(unix.NLMSG_ERROR, 0, errorData(unix.ENODEV)...), unix.ENODEV},
		"a table that ends with an error": {message(unix.NLMSG_DONE, 0, errorData(unix.ENOENT)...), unix.ENOENT},
		"an overrun":                      {message(unix.NLMSG_OVERRUN, 0), unix.ENOBUFS},
		"half a header":                   {link[:15], errMalformed},
		"half a header after a message":   {append(slices.Clone(linkPart), 0, 0, 0, 0), errMalformed},
		"no length":                       {withLength(link, 0), errMalformed},
		"a length within the header":      {withLength(link, 15), errMalformed},
		"a length beyond the datagram":    {withLength(link, 21), errMalformed},
		"the greatest length":             {withLength(link, 1<<32-1), errMalformed},
		"an error without a number":       {message(unix.NLMSG_ERROR, 0), errMalformed},
		"an end without a number":         {message(unix.NLMSG_DONE, 0), errMalformed},
		"half an error number":            {withLength(message(unix.NLMSG_DONE, 0, 0, 0), 18), errMalformed},
	} {
		if err := newReply(unix.NLM_F_DUMP).read(tt.datagram); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
}

func TestMessages(t *testing.T) {
	for name, tt := range map[string]struct {
		notices []byte
		want    []uint16 // types
	}{
		"none":                    {nil, nil},
		"two":                     {slices.Concat(link, withSequence(ack, 7)), []uint16{unix.RTM_NEWLINK, unix.NLMSG_ERROR}},
		"one without its padding": {message(unix.RTM_NEWLINK, 0, 1)[:unix.SizeofNlMsghdr+1], []uint16{unix.RTM_NEWLINK}},
		"half a header after one": {append(slices.Clone(linkPart), 0, 0, 0, 0), []uint16{unix.RTM_NEWLINK}},
		"no length":               {withLength(link, 0), nil},
		"a length beyond the end": {withLength(link, 21), nil},
	} {
		var got []uint16
		for m := range Messages(tt.notices) {
			got = append(got, m.Type)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
}

// FuzzReply reads any datagram: what is kept of it lies within it.
func FuzzReply(f *testing.F) {
	f.Add(uint16(0), link)
	f.Add(uint16(unix.NLM_F_DUMP), slices.Concat(linkPart, linkAfter, done))
	f.Add(uint16(unix.NLM_F_ACK), ack)
	f.Add(uint16(0), withLength(link, 1<<32-1))
	f.Fuzz(func(t *testing.T, flags uint16, b []byte) {
		r := newReply(flags)
		err := r.read(b)
		kept := 0
		for _, m := range r.messages {
			kept += unix.SizeofNlMsghdr + len(m.Data)
		}
		if kept > len(b) || r.single && len(r.messages) > 1 || err == nil && !r.complete && r.single && len(r.messages) > 0 {
			t.Errorf("%+v, %v", r, err)
		}
	})
}
