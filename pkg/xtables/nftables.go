package xtables

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"

	"igdd/pkg/netlink"
)

// Messages of nftables, each of a struct nfgenmsg and attributes
// (linux/netfilter/nf_tables.h).
const (
	getGeneration = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETGEN
	newGeneration = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWGEN
	getRule       = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETRULE
	newRule       = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWRULE
	deleteRule    = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_DELRULE
	sizeofNfgen   = 4
)

// nftChain is a chain of nft.
type nftChain struct {
	family      byte // unix.NFPROTO_*
	table, name string
}

// nftRule is a rule in a chain by its handle, a number that the kernel gives each rule
// of a table once.
type nftRule struct {
	chain  nftChain
	handle uint64
}

// nft is a dialogue with nftables. Closing a socket of it waits until the kernel has
// freed what was deleted, which takes milliseconds, so it is kept.
type nft struct{ socket netlink.Socket }

func newNFT() *nft { return &nft{netlink.Socket{Protocol: unix.NETLINK_NETFILTER}} }

// generation returns the number of changes that all programs have made to the
// tables, modulo 2³².
func (n *nft) generation() (uint32, bool) {
	replies, err := n.socket.Execute(netlink.Message{Type: getGeneration, Data: make([]byte, sizeofNfgen)})
	if err != nil || len(replies) == 0 {
		return 0, false
	}
	return parseGeneration(replies[0])
}

// parseGeneration returns the number in a message, if that is about a generation.
func parseGeneration(m netlink.Message) (uint32, bool) {
	if m.Type != newGeneration || len(m.Data) < sizeofNfgen {
		return 0, false
	}
	n := netlink.Attribute(m.Data[sizeofNfgen:], unix.NFTA_GEN_ID)
	if len(n) != 4 {
		return 0, false
	}
	return binary.BigEndian.Uint32(n), true
}

// parseRule returns which rule a message is about.
func parseRule(data []byte) (r nftRule, ok bool) {
	if len(data) < sizeofNfgen {
		return r, false
	}
	r.chain.family = data[0]
	for kind, value := range netlink.Attributes(data[sizeofNfgen:]) {
		switch kind {
		case unix.NFTA_RULE_TABLE:
			r.chain.table = string(bytes.TrimRight(value, "\x00"))
		case unix.NFTA_RULE_CHAIN:
			r.chain.name = string(bytes.TrimRight(value, "\x00"))
		case unix.NFTA_RULE_HANDLE:
			if ok = len(value) == 8; ok {
				r.handle = binary.BigEndian.Uint64(value)
			}
		}
	}
	return r, ok
}

// rules returns the handles of the rules in a chain, in their order.
func (n *nft) rules(c nftChain) ([]uint64, error) {
	replies, err := n.socket.Execute(netlink.Message{Type: getRule, Flags: unix.NLM_F_DUMP, Data: c.message()})
	if err != nil {
		return nil, err
	}
	var list []uint64
	for _, m := range replies {
		if r, ok := parseRule(m.Data); ok && r.chain == c { // old kernels list all chains
			list = append(list, r.handle)
		}
	}
	return list, nil
}

// deleteRules deletes rules, all or none, if the tables are those of this generation.
// Otherwise the error is unix.ERESTART.
func (n *nft) deleteRules(generation uint32, rules []nftRule) error {
	limits := binary.BigEndian.AppendUint16(make([]byte, 2), unix.NFNL_SUBSYS_NFTABLES)
	begin := netlink.AppendAttribute(limits[:sizeofNfgen:sizeofNfgen], unix.NFNL_BATCH_GENID, binary.BigEndian.AppendUint32(nil, generation))
	batch := []netlink.Message{{Type: unix.NFNL_MSG_BATCH_BEGIN, Data: begin}}
	for _, r := range rules {
		batch = append(batch, netlink.Message{Type: deleteRule, Data: r.message()})
	}
	batch[len(rules)].Flags = unix.NLM_F_ACK
	return n.socket.ExecuteBatch(append(batch, netlink.Message{Type: unix.NFNL_MSG_BATCH_END, Data: limits}))
}

// message returns the data of a message about the rule.
func (r nftRule) message() []byte {
	b := r.chain.message()
	return netlink.AppendAttribute(b, unix.NFTA_RULE_HANDLE, binary.BigEndian.AppendUint64(nil, r.handle))
}

// message returns the data of a message about the rules of the chain.
func (c nftChain) message() []byte {
	b := netlink.AppendAttribute([]byte{c.family, 0, 0, 0}, unix.NFTA_RULE_TABLE, append([]byte(c.table), 0))
	return netlink.AppendAttribute(b, unix.NFTA_RULE_CHAIN, append([]byte(c.name), 0))
}
