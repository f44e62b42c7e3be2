package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Errors of a [Group] and of what is fenced by it.
var (
	// ErrStaleTerm is returned when a partition is not (or no longer) held at
	// the term that the caller names: it was revoked or lost meanwhile. The
	// caller drops what it has of that term; somebody else does the work again.
	ErrStaleTerm = errors.New("partition is not held at this term")

	// ErrNoMember is returned when the process is no member of the group at
	// the moment, or only about to become one, so that the broker could not
	// check who it is. Nothing was sent. Try again after the next assignment.
	ErrNoMember = errors.New("not a member of the consumer group")

	// ErrClosed is returned by calls after Close.
	ErrClosed = errors.New("closed")
)

// Term numbers the assignments of partitions to this process, from 1. Each
// assignment has its own; a partition that goes and comes back has another.
// Terms mean nothing outside the process.
type Term uint64

// Held is a partition of the group's topic, as held in one term.
type Held struct {
	Partition int32
	Term      Term
}

// Fetched are consecutive records of one partition, read in the term that held
// it when they were read: they are stamped where they are taken from the
// client, so no rebalance can happen between reading and stamping.
type Fetched struct {
	Held
	Records []Record
}

// GroupConfig says which group to join, and whom to tell what became of it.
type GroupConfig struct {
	Client []kgo.Opt // how to reach the cluster: brokers, TLS, SASL
	Group  string    // group id
	Topic  string    // the one topic whose partitions are shared out

	// Also says that whoever holds a partition of Topic reads the partition of
	// that number of other topics too, which are cut alike ([Group.StartTopic]).
	// Their positions belong to the same group.
	Also bool

	// Address is the host:port of this process's internal listener. Other
	// members learn it from the group's description; see [Group.Owners].
	Address string

	// SessionTimeout is how long the group waits for a silent member before
	// its partitions are given away; 6 s when zero. The broker has limits
	// (group.min.session.timeout.ms, group.max.session.timeout.ms).
	SessionTimeout time.Duration

	// RebalanceTimeout is how long the group waits for a member to give up its
	// partitions; 30 s when zero. OnRevoked should return long before.
	RebalanceTimeout time.Duration

	// OnAssigned tells that a partition is held from now on. Nothing is read
	// from it before [Group.Start]. It must return soon: the takeover is done
	// elsewhere. Calls of the three callbacks never overlap.
	OnAssigned func(Held)

	// OnRevoked tells that partitions are to be given up. Until it returns they
	// are still held, so a last transaction may be made; nothing more is read.
	// The group then waits for open transactions of these partitions and goes
	// on with its rebalance. The context ends when the group has certainly
	// gone on without us.
	OnRevoked func(context.Context, []Held)

	// OnLost tells that partitions are gone already: the group went on without
	// this member. What is still open of them is refused by the broker.
	OnLost func([]Held)

	Log *slog.Logger
}

func (c *GroupConfig) check() error {
	var errs []error
	if c.Group == "" {
		errs = append(errs, errors.New("group id is empty"))
	}
	if c.Topic == "" {
		errs = append(errs, errors.New("topic is empty"))
	}
	if _, _, err := net.SplitHostPort(c.Address); err != nil {
		errs = append(errs, fmt.Errorf("address %q is not host:port: %w", c.Address, err))
	}
	if c.OnAssigned == nil || c.OnRevoked == nil || c.OnLost == nil {
		errs = append(errs, errors.New("all of OnAssigned, OnRevoked and OnLost are needed"))
	}
	if c.Log == nil {
		errs = append(errs, errors.New("a logger is needed"))
	}
	if c.SessionTimeout == 0 {
		c.SessionTimeout = 6 * time.Second
	}
	if c.RebalanceTimeout == 0 {
		c.RebalanceTimeout = 30 * time.Second
	}
	if c.SessionTimeout < 0 || c.RebalanceTimeout < c.SessionTimeout {
		errs = append(errs, fmt.Errorf("rebalance timeout %v is shorter than session timeout %v", c.RebalanceTimeout, c.SessionTimeout))
	}
	return errors.Join(errs...)
}

// Group is this process's membership in a consumer group, and what it reads
// there. Methods may be called from several goroutines, Poll from one.
//
// It has two clients. One is the member: it joins, beats, and never fetches a
// record, so that the client library's own idea of where to start (the
// committed offset, with a wait of a second for each look at an offset that an
// open transaction holds) never matters. The other reads; it is made anew for
// each assignment, so that nothing fetched in one assignment can come out in
// the next.
type Group struct {
	cfg      GroupConfig
	fence    *fence
	confirms confirms

	mu      sync.Mutex
	member  *kgo.Client   // nil before Join
	session *session      // nil while nothing is assigned
	changed chan struct{} // closed and replaced when session changes
	closed  bool
	done    chan struct{} // closed when the drain of member's polls has ended
}

const clientIDPrefix = "evento@"

// addressOf gives the address that a member's client.id carries.
func addressOf(clientID string) (string, bool) {
	address, ok := strings.CutPrefix(clientID, clientIDPrefix)
	return address, ok && address != ""
}
