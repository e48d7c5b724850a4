package netfilter

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// inventory is what the daemon owns in one table.
type inventory struct {
	program, table string   // "ip6tables", "filter"
	created        []string // chains that the daemon created
	borrowed       []string // chains of other programs that have the daemon's rules
	jumps          []jump   // that the daemon added
	// adoptJumps means that the jumps to created chains are not known: all those
	// in the daemon's hooks count as its own.
	adoptJumps bool
}

// isEmpty reports whether the daemon owns nothing.
func (v inventory) isEmpty() bool { return len(v.created)+len(v.borrowed)+len(v.jumps) == 0 }

// mergeInventories merges the inventories of the same table.
func mergeInventories(list []inventory) []inventory {
	var merged []inventory
	for _, v := range list {
		i := slices.IndexFunc(merged, func(m inventory) bool { return m.program == v.program && m.table == v.table })
		switch {
		case v.isEmpty():
		case i < 0:
			v.created, v.borrowed, v.jumps = slices.Clip(v.created), slices.Clip(v.borrowed), slices.Clip(v.jumps)
			merged = append(merged, v)
		default:
			m := &merged[i]
			m.created, m.borrowed, m.jumps = append(m.created, v.created...), append(m.borrowed, v.borrowed...), append(m.jumps, v.jumps...)
			m.adoptJumps = m.adoptJumps || v.adoptJumps
		}
	}
	return merged
}

// lines returns the inventory as the ownership record has it: each item as the
// edit that removes it, and a created chain as its name alone.
func (v inventory) lines() []string {
	var lines []string
	table := v.program + " " + v.table + " "
	for _, name := range v.created {
		lines = append(lines, table+name)
	}
	for _, name := range v.borrowed {
		lines = append(lines, table+edit{op: opFlush, chain: name}.String())
	}
	for _, j := range v.jumps {
		lines = append(lines, table+edit{opDelete, j.hook, j.rule}.String())
	}
	return lines
}

// parseInventory parses one line of the ownership record.
func parseInventory(line string) (v inventory, ok bool) {
	program, rest, _ := strings.Cut(line, " ")
	table, rest, _ := strings.Cut(rest, " ")
	v = inventory{program: program, table: table}
	op, rest, isEdit := strings.Cut(rest, " ")
	name, rule, isRule := strings.Cut(rest, " ")
	switch {
	case program != "iptables" && program != "ip6tables" || !validName.MatchString(table):
	case !isEdit && validName.MatchString(op):
		v.created = []string{op}
	case op == opFlush && !isRule && validName.MatchString(name):
		v.borrowed = []string{name}
	case op == opDelete && isRule && validName.MatchString(name):
		v.jumps = []jump{{name, rule}}
	}
	return v, !v.isEmpty()
}

// pollInterval is how often, in microseconds, an iptables older than 1.8.8 tries
// to take the xtables lock. The default is once in a second, which is longer
// than a stop may take in all. Newer versions block until they get the lock.
const pollInterval = 20000

// listTable lists the inventory's table.
func (v inventory) listTable(ctx context.Context, path string) (listing, error) {
	text, err := run(ctx, nil, path+"-save", "-t", v.table)
	if err != nil {
		return nil, err
	}
	tables, err := parseListing(text)
	if err != nil {
		return nil, fmt.Errorf("%s-save: %w", path, err)
	}
	return tables[v.table], nil
}

// commit carries out edits, if there are any, by an iptables-restore of its own.
func (v inventory) commit(ctx context.Context, path string, edits ...edit) error {
	if len(edits) == 0 {
		return nil
	}
	seconds := lockWait
	if end, ok := ctx.Deadline(); ok {
		seconds = 1 + int(time.Until(end)/time.Second)
	}
	_, err := run(ctx, render([]section{{table: v.table, edits: edits}}), path+"-restore", "--noflush",
		"--wait", strconv.Itoa(seconds), "--wait-interval="+strconv.Itoa(pollInterval))
	return err
}
