package vectors_test

import (
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"

	"igdd/pkg/vectors"
)

func TestEveryVectorIsUnderstood(t *testing.T) {
	for protocol, want := range map[string]int{"natpmp": 42, "pcp": 121} {
		all := vectors.Load(t, protocol)
		if len(all) != want {
			t.Errorf("%s: %d vectors, want %d", protocol, len(all), want)
		}
		for _, v := range all {
			if v.ID == "" || !v.Expect.Capture && (!v.Source.IsValid() || v.Side == "") {
				t.Errorf("%s %s: incomplete: %+v", protocol, v.ID, v)
			}
			for _, step := range v.Before {
				if step.Op == "send" && len(step.Request) == 0 {
					t.Errorf("%s: a step sends nothing", v.ID)
				}
			}
			if v.Expect.Capture != (len(v.Expect.Times()) > 0) {
				t.Errorf("%s: capture without times", v.ID)
			}
		}
	}
}

// expectation is what a PCP MAP success with a free choice of port looks like.
const expectation = `{"reply": true, "len": 64, "hex": "0281000000000e10????????000000000000000000000000` +
	`a0a1a2a3a4a5a6a7a8a9aaab110000009c40????00000000000000000000ffff0b16212c02000000",
	"fields": {"ver": 2, "op": 129, "epoch": null, "lifetime": {"min": 120, "max": 3600},
	"ext_port": {"min": 1024, "max": 65535, "not": [40000]}, "ext_ip": "11.22.33.44", "options": [[2, ""]]}}`

func TestCheck(t *testing.T) {
	const good = "0281000000000e1000000007000000000000000000000000a0a1a2a3a4a5a6a7a8a9aaab110000009c40a11200000000000000000000ffff0b16212c02000000"
	for name, test := range map[string]struct{ expect, reply, want string }{
		"matches":           {expectation, good, ""},
		"other port":        {expectation, strings.Replace(good, "a11200000000", "9c4000000000", 1), "ext_port"},
		"other address":     {expectation, strings.Replace(good, "0b16212c", "0b16212d", 1), "ext_ip"},
		"masked octet":      {expectation, strings.Replace(good, "00000007", "ffffffff", 1), ""},
		"unmasked octet":    {expectation, strings.Replace(good, "11000000", "11000100", 1), "octet 38"},
		"without option":    {expectation, strings.TrimSuffix(good, "02000000"), "length"},
		"other option":      {expectation, strings.TrimSuffix(good, "02000000") + "ff000000", "options"},
		"cut short":         {expectation, "0281", "lifetime is missing"},
		"silence":           {expectation, "", "no reply"},
		"silence wanted":    {`{"reply": false}`, "", ""},
		"noise":             {`{"reply": false}`, "00", "want silence"},
		"one of two":        {`{"any_of": [{"len": 2}, {"len": 1}]}`, "00", ""},
		"none of two":       {`{"any_of": [{"len": 2, "fields": {"ver": 1}}, {"len": 3}]}`, "00", "length"},
		"length in bounds":  {`{"len": {"min": 8, "max": 12}}`, "0080000000000000", ""},
		"length off bounds": {`{"len": {"min": 8, "max": 12}}`, "00800000", "length"},
		"one of results":    {`{"fields": {"result": {"in": [5, 6]}}}`, "00820006", ""},
		"none of results":   {`{"fields": {"result": {"in": [5, 6]}}}`, "00820003", "result"},
		"NAT-PMP address":   {`{"fields": {"ext_ip": "11.22.33.44"}}`, "00800000000000000b16212c", ""},
		"NAT-PMP mapping":   {`{"fields": {"int_port": 1, "ext_port": 2, "lifetime": 3}}`, "00810000000000000001000200000003", ""},
		"PEER":              {`{"fields": {"peer_port": 443, "peer_ip": "2001:db8::1"}}`, "0282" + strings.Repeat("00", 58) + "01bb000020010db8000000000000000000000001", ""},
	} {
		t.Run(name, func(t *testing.T) {
			var e vectors.Expectation
			if err := json.Unmarshal([]byte(test.expect), &e); err != nil {
				t.Fatal(err)
			}
			reply, err := hex.DecodeString(test.reply)
			if err != nil {
				t.Fatal(err)
			}
			if len(reply) == 0 {
				reply = nil
			}
			got := strings.Join(e.Check(reply), "; ")
			if test.want == "" && got != "" || !strings.Contains(got, test.want) {
				t.Errorf("differences %q, want %q", got, test.want)
			}
		})
	}
}

func TestSettings(t *testing.T) {
	for _, v := range vectors.Load(t, "pcp") {
		want := v.ID == "P63" || v.ID == "P65"
		if got := vectors.Setting(v, "third_party", false); got != want {
			t.Errorf("%s: third_party is %v", v.ID, got)
		}
	}
}

func TestEveryFileHasVectors(t *testing.T) {
	for protocol, want := range map[string]int{"natpmp": 42, "pcp": 121, "soap": 171, "ssdp": 58, "gena": 47} {
		var file struct{ Vectors []struct{ ID string } }
		vectors.Decode(t, protocol, &file)
		ids := make(map[string]bool)
		for _, v := range file.Vectors {
			ids[v.ID] = true
		}
		if len(ids) != want || ids[""] {
			t.Errorf("%s: %d vectors with names of their own, want %d", protocol, len(ids), want)
		}
	}
}
