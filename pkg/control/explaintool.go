package control

import (
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// explain prints what a client would be answered.
func (t *tool) explain(args []string) (exitStatus, error) {
	r, err := parseExplain(args)
	if err != nil {
		return 0, err
	}
	list, err := t.queryVerdicts(r)
	if err != nil {
		return 0, err
	}
	if t.json {
		return explainStatus(list), t.encode(list)
	}
	return explainStatus(list), printVerdicts(t.stdout, list)
}

// explainStatus returns exitNo if a protocol that would answer would refuse, or if none
// would answer.
func explainStatus(list []verdict) exitStatus {
	granted := false
	for _, v := range list {
		if !v.Granted && v.Unheard == "" {
			return exitNo
		}
		granted = granted || v.Granted
	}
	return exitUnless(granted, exitNo)
}

// queryVerdicts asks the daemon what a client would be answered.
func (t *tool) queryVerdicts(r request) ([]verdict, error) {
	list, err := query(t, r, func(a reply) *verdict { return a.Verdict })
	if err == nil && len(list) == 0 {
		err = errors.New("the daemon's reply has no verdict")
	}
	return list, err
}

// printVerdicts prints the answer of each protocol and, each on a line of its own, its
// reasons.
func printVerdicts(out io.Writer, list []verdict) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	for _, v := range list {
		v.print(func(name, value string) { fmt.Fprintf(w, "%s:\t%s\n", name, printable(value)) })
	}
	return w.Flush()
}

// print prints the lines of a verdict.
func (v *verdict) print(line func(name, value string)) {
	switch {
	case v.Unheard != "":
		line(v.Origin, "no answer: "+v.Reason)
		return
	case v.Granted:
		line(v.Origin, fmt.Sprint("granted, external port ", v.Port))
	case v.Fault != "":
		line(v.Origin, "refused: "+v.Fault)
	default:
		line(v.Origin, "refused")
	}
	line("  reason", v.Reason)
	if v.Rule != "" {
		line("  rule", v.Rule)
	}
	if v.Block != 0 {
		line("  block", v.blockText(time.Now()))
	}
	if v.Holder != "" {
		line("  mapping", v.Holder)
	}
	for _, rule := range v.Firewall {
		line("  firewall", rule+" takes matching connections first")
	}
	if v.Upstream != "" {
		line("  upstream", v.Upstream)
	}
	if v.Outgoing != "" {
		line("  outgoing", v.Outgoing)
	}
}

// blockText returns the block that decides, and until when it does.
func (v *verdict) blockText(now time.Time) string {
	var left int64
	if v.BlockUntil != nil {
		left = int64(max(0, v.BlockUntil.Sub(now)).Round(time.Second) / time.Second)
	}
	return fmt.Sprintf("%d, %s", v.Block, untilText(v.BlockUntil, &left))
}
