package pcp_test

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"igdd/pkg/pcp"
)

func TestMalformedRequests(t *testing.T) {
	const filter = "03000014 00801388 00000000 00000000 0000ffff 0b162101 "
	const thirdParty = "01000010 00000000 00000000 0000ffff c0a8320b "
	limited := pcp.Service{}
	for name, test := range map[string]struct {
		service pcp.Service
		octets  string
		want    error
	}{
		"nothing":                          {all, "", pcp.ErrIgnore},
		"one octet":                        {all, "02", pcp.ErrIgnore},
		"response":                         {all, "02810000" + head4 + map4, pcp.ErrIgnore},
		"response of an unknown version":   {all, "0581", pcp.ErrIgnore},
		"NAT-PMP":                          {all, "0000", pcp.UnsuppVersion},
		"version 1":                        {all, "0101", pcp.UnsuppVersion},
		"version 255":                      {all, "ff3f" + strings.Repeat("ab", 22), pcp.UnsuppVersion},
		"23 octets":                        {all, "0200 0000" + strings.Repeat("00", 19), pcp.ErrIgnore},
		"26 octets":                        {all, "02000000" + delete4 + "0000", pcp.MalformedRequest},
		"1104 octets":                      {all, "02010000" + head4 + map4 + "c8000410" + strings.Repeat("00", 1040), pcp.MalformedRequest},
		"MAP without its last word":        {all, "02010000" + head4 + map4[:len(map4)-9], pcp.MalformedRequest},
		"PEER that is a MAP":               {all, "02020000" + head4 + map4, pcp.MalformedRequest},
		"foreign client address":           {all, "02000000" + strings.Replace(delete4, "c0a8320a", "c0a8320b", 1), pcp.AddressMismatch},
		"client address not mapped":        {all, "02000000" + strings.Replace(delete4, "0000ffff", "00000000", 1), pcp.AddressMismatch},
		"client address half mapped":       {all, "02000000" + strings.Replace(delete4, " 00000000 0000ffff", " 00000001 0000ffff", 1), pcp.AddressMismatch},
		"foreign address, unknown opcode":  {all, "02630000" + strings.Replace(delete4, "c0a8320a", "c0a8320b", 1), pcp.AddressMismatch},
		"opcode 3":                         {all, "02030000" + head4 + "ffffffff", pcp.UnsuppOpcode},
		"opcode 127":                       {all, "027f0000" + head4, pcp.UnsuppOpcode},
		"PEER not offered":                 {limited, "02020000" + head4 + peer4, pcp.UnsuppOpcode},
		"short PEER not offered":           {limited, "02020000" + head4 + "02000190", pcp.UnsuppOpcode},
		"option runs over the end":         {all, "02010000" + head4 + map4 + "c8000040 00000000", pcp.MalformedOption},
		"padding is missing":               {all, "02010000" + head4 + map4 + "80000005 73736800", pcp.MalformedOption},
		"structure before meaning":         {all, "02010000" + head4 + map4 + "3c000000 02000190", pcp.MalformedOption},
		"structure before permission":      {limited, "02010000" + head4 + map4 + thirdParty + "02000190", pcp.MalformedOption},
		"option 0":                         {all, "02010000" + head4 + map4 + "00000000", pcp.UnsuppOption},
		"option 5":                         {all, "02010000" + head4 + map4 + "05000004 00000000", pcp.UnsuppOption},
		"option 13":                        {all, "02010000" + head4 + map4 + "0d000000", pcp.UnsuppOption},
		"option 127":                       {all, "02010000" + head4 + map4 + "7f000000", pcp.UnsuppOption},
		"first of two faults":              {all, "02010000" + head4 + map4 + "3c000000 02000000 02000000", pcp.UnsuppOption},
		"unknown option in ANNOUNCE":       {all, "02000000" + head4 + "3c000000", pcp.UnsuppOption},
		"PREFER_FAILURE in ANNOUNCE":       {all, "02000000" + head4 + "02000000", pcp.MalformedOption},
		"FILTER in ANNOUNCE":               {all, "02000000" + head4 + filter, pcp.MalformedOption},
		"THIRD_PARTY in ANNOUNCE":          {all, "02000000" + head4 + thirdParty, pcp.MalformedOption},
		"THIRD_PARTY not offered":          {limited, "02010000" + head4 + map4 + thirdParty, pcp.UnsuppOption},
		"THIRD_PARTY too short":            {all, "02010000" + head4 + map4 + "0100000c 00000000 00000000 00000000", pcp.MalformedOption},
		"THIRD_PARTY twice":                {all, "02010000" + head4 + map4 + thirdParty + thirdParty, pcp.MalformedOption},
		"THIRD_PARTY is the sender":        {all, "02010000" + head4 + map4 + strings.Replace(thirdParty, "c0a8320b", "c0a8320a", 1), pcp.MalformedRequest},
		"PREFER_FAILURE with data":         {all, "02010000" + head4 + map4 + "02000004 00000000", pcp.MalformedOption},
		"PREFER_FAILURE twice":             {all, "02010000" + head4 + map4 + "02000000 02000000", pcp.MalformedOption},
		"PREFER_FAILURE without a port":    {all, "02010000" + head4 + strings.Replace(map4, "a112", "0000", 1) + "02000000", pcp.MalformedOption},
		"PREFER_FAILURE in a delete":       {all, "02010000" + delete4 + map4 + "02000000", pcp.MalformedOption},
		"PREFER_FAILURE in PEER":           {all, "02020000" + head4 + peer4 + "02000000", pcp.MalformedRequest},
		"FILTER too short":                 {all, "02010000" + head4 + map4 + "03000010 00801388 00000000 00000000 0000ffff", pcp.MalformedOption},
		"FILTER below the IPv4 prefix":     {all, "02010000" + head4 + map4 + strings.Replace(filter, "0080", "005f", 1), pcp.MalformedOption},
		"FILTER beyond 128 bits":           {all, "02010000" + head4 + map4 + strings.Replace(filter, "0080", "0081", 1), pcp.MalformedOption},
		"FILTER of IPv6 beyond 128 bits":   {all, "02010000" + head6 + map6 + "03000014 00ff0000 20010db8 00770000 00000000 00000000", pcp.MalformedOption},
		"FILTER of IPv6 for IPv4":          {all, "02010000" + head4 + map4 + "03000014 00400000 20010db8 00770000 00000000 00000000", pcp.MalformedOption},
		"FILTER of IPv4 for IPv6":          {all, "02010000" + head6 + map6 + filter, pcp.MalformedOption},
		"FILTER in a delete":               {all, "02010000" + delete4 + map4 + filter, pcp.MalformedOption},
		"FILTER in PEER":                   {all, "02020000" + head4 + peer4 + filter, pcp.MalformedOption},
		"DESCRIPTION twice":                {all, "02010000" + head4 + map4 + "80000003 73736800 80000003 73736800", pcp.MalformedOption},
		"DESCRIPTION twice, once unusable": {all, "02010000" + head4 + map4 + "80000002 c3280000 80000003 73736800", pcp.MalformedOption},
		"DESCRIPTION too long":             {all, "02010000" + head4 + map4 + "800003f9" + strings.Repeat("61", 1020), pcp.MalformedOption},
		"all protocols, one port":          {all, "02010000" + head4 + strings.Replace(map4, "11000000", "00000000", 1), pcp.MalformedRequest},
		"PEER for all protocols":           {all, "02020000" + head4 + strings.Replace(peer4, "11000000", "00000000", 1), pcp.MalformedRequest},
		"PEER without an internal port":    {all, "02020000" + head4 + strings.Replace(peer4, "9c40", "0000", 1), pcp.MalformedRequest},
		"PEER without a remote port":       {all, "02020000" + head4 + strings.Replace(peer4, "01bb", "0000", 1), pcp.MalformedRequest},
		"PEER to the loopback":             {all, "02020000" + head4 + strings.Replace(peer4, "5db8d822", "7f000001", 1), pcp.MalformedRequest},
		"PEER to a group":                  {all, "02020000" + head4 + strings.Replace(peer4, "5db8d822", "e0000001", 1), pcp.MalformedRequest},
		"PEER to everybody":                {all, "02020000" + head4 + strings.Replace(peer4, "5db8d822", "ffffffff", 1), pcp.MalformedRequest},
		"PEER to no address":               {all, "02020000" + head4 + strings.Replace(peer4, "5db8d822", "00000000", 1), pcp.MalformedRequest},
		"PEER of the other family":         {all, "02020000" + head4 + strings.Replace(peer4, "00000000 00000000 0000ffff 5db8d822", "20010db8 00000000 00000000 00000001", 1), pcp.MalformedRequest},
	} {
		source := client4
		if strings.Contains(test.octets, head6) {
			source = client6
		}
		if got, err := test.service.Parse(octets(t, test.octets), source); err != test.want {
			t.Errorf("%s: %+v, %v, want %v", name, got, err, test.want)
		}
	}
}

func TestRequestTolerates(t *testing.T) {
	plain := pcp.Request{Opcode: pcp.Map, Lifetime: time.Hour, Client: client4, Mapping: mapping()}
	for name, digits := range map[string]string{
		"reserved octets":            "0201ffff" + head4 + strings.Replace(map4, "11000000", "11ffffff", 1),
		"unknown optional option":    "02010000" + head4 + map4 + "c8000003 01020300",
		"unknown optional, repeated": "02010000" + head4 + map4 + "82000005 00649c40 00000000 82000005 00649c40 00000000",
		"option 255":                 "02010000" + head4 + map4 + "ff000000",
		"padding that is not zero":   "02010000" + head4 + map4 + "c8000003 010203ff",
		"illegal UTF-8":              "02010000" + head4 + map4 + "80000002 c3280000",
	} {
		if got, err := all.Parse(octets(t, digits), client4); err != nil || !reflect.DeepEqual(got, plain) {
			t.Errorf("%s: decoded %+v, %v", name, got, err)
		}
	}
	announce, err := all.Parse(octets(t, "0200ffff"+head4+"80000003 73736800 80000003 73736800"), client4)
	if want := (pcp.Request{Lifetime: time.Hour, Client: client4}); err != nil || !reflect.DeepEqual(announce, want) {
		t.Errorf("DESCRIPTION in ANNOUNCE: decoded %+v, %v", announce, err)
	}
	if got, err := all.Parse(octets(t, "02010000"+head4+strings.Replace(map4, "11000000 9c40", "00000000 0000", 1)), client4); err != nil {
		t.Errorf("all ports of all protocols: decoded %+v, %v", got, err)
	}
}

func TestMalformedResponses(t *testing.T) {
	const ok = "02810000 00000e10 00000102 00000000 00000000 00000000"
	for name, digits := range map[string]string{
		"nothing":                  "",
		"23 octets":                strings.Repeat("02", 23),
		"request":                  "02010000" + head4 + map4,
		"NAT-PMP":                  "00810000 00000001 9c409c40 00000e10 00000000 00000000",
		"26 octets":                ok + "0000",
		"MAP without a mapping":    ok,
		"more than may be":         ok + map4 + strings.Repeat("ff000000", 261),
		"option runs over the end": ok + map4 + "02000004",
		"option without sense":     ok + map4 + "02000004 00000000",
	} {
		if got, err := pcp.ParseResponse(octets(t, digits)); err != pcp.ErrMalformed {
			t.Errorf("%s: decoded %+v, %v", name, got, err)
		}
	}
	unknown := octets(t, ok+map4+"3c000000 c8000000 02000000")
	if got, err := pcp.ParseResponse(unknown); err != nil || len(got.Options) != 1 {
		t.Errorf("unknown options: decoded %+v, %v", got, err)
	}
}
