package xtables

import (
	"bytes"
	"context"
	"errors"
	"strconv"
)

// The operations on chains and rules, in the syntax of iptables-restore.
const (
	Create = ":" // create the chain, or flush an existing one
	Append = "-A"
	Insert = "-I"
	Delete = "-D"
	Flush  = "-F"
	Remove = "-X"
)

// Edit is one change of a table.
type Edit struct {
	Op, Chain, Rule string
	Index           int // Insert: how many rules stay in front of the new one
}

// String returns the edit as a line for iptables-restore.
func (e Edit) String() string {
	switch e.Op {
	case Create:
		return ":" + e.Chain + " - [0:0]"
	case Flush, Remove:
		return e.Op + " " + e.Chain
	case Insert:
		return e.Op + " " + e.Chain + " " + strconv.Itoa(e.Index+1) + " " + e.Rule
	}
	return e.Op + " " + e.Chain + " " + e.Rule
}

// isChange reports whether the edit changes a table whatever the table holds. A chain that
// is created or flushed may be there and empty.
func (e Edit) isChange() bool { return e.Op != Create && e.Op != Flush }

// Section is the part of a transaction for one table: the kernel carries out
// all of it or nothing.
type Section struct {
	Table string
	Edits []Edit
}

// committed is a comment that iptables-restore --verbose prints when it has
// read it: after the section's COMMIT.
const committed = "# committed"

// render returns the sections as input for iptables-restore.
func render(sections []Section) []byte {
	var text bytes.Buffer
	for _, s := range sections {
		text.WriteString("*" + s.Table + "\n")
		for _, e := range s.Edits {
			text.WriteString(e.String() + "\n")
		}
		text.WriteString("COMMIT\n" + committed + "\n")
	}
	return text.Bytes()
}

// committer commits sections of one family by iptables-restore.
type committer interface {
	// commit carries out the sections in order up to the first that fails, or
	// until ctx ends, and returns how many were carried out. After
	// ErrInterrupted more of them may have been.
	commit(context.Context, []Section) (done int, err error)
	// close releases what is kept for the next transaction.
	close()
}

// ErrInterrupted is the error of a transaction of which it is not known how many
// sections were carried out.
var ErrInterrupted = errors.New("interrupted")
