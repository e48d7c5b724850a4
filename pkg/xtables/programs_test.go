package xtables

import (
	"log/slog"
	"testing"
)

func TestFindOther(t *testing.T) {
	t.Parallel()
	p, err := Find("iptables", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for _, isNFT := range []bool{false, true} {
		p.isNFT = isNFT
		want := map[bool]string{false: "ip6tables-nft", true: "ip6tables-legacy"}[isNFT]
		o := p.FindOther("ip6tables")
		if o == nil || o.Name() != want || o.isNFT == isNFT {
			t.Fatalf("beside nft %v: %+v, want %s", isNFT, o, want)
		}
		if o := p.FindOther("missing-tables"); o != nil {
			t.Errorf("found %s", o.path)
		}
	}
}
