package kafka

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Producers take turns, because a producer's own next transaction would wait
// for the markers of its last one, which the broker writes after it has
// answered. Whose turn it is decides alone: one transaction at a time.

// turn is one transactional producer: its id, and the client that has it now. It
// is used by who has the turn, and nobody else.
type turn struct {
	id     string
	client *kgo.Client // nil when thrown away, or not made yet
	seen   *wire       // of client
	perTxn bool        // each transaction has its own epoch: transaction.version 2
}

// writerIDs gives transactional ids. They are random, so that no other process ever
// has them: an id alone is no proof of ownership, since the last one to ask for it
// gets it. The dead ones are ended by whoever takes over.
type writerIDs struct {
	process string
	given   int
}

func newWriterIDs() *writerIDs { return &writerIDs{process: rand.Text()} }

func (w *writerIDs) next() string {
	w.given++
	return fmt.Sprintf("evento-%s-%d", w.process, w.given-1)
}

// newTurns makes n turns without clients.
func newTurns(n int, ids *writerIDs) []*turn {
	turns := make([]*turn, n)
	for i := range turns {
		turns[i] = &turn{id: ids.next()}
	}
	return turns
}

// wire counts what went over the wire of one client. A client library retries,
// and answers nil where it had nothing to send, so its word for how a
// transaction ended is not enough.
type wire struct {
	ends   atomic.Int64 // EndTxn requests that were answered
	broken atomic.Int64 // transaction requests whose connection failed
}

var _ kgo.HookBrokerE2E = (*wire)(nil)

// OnBrokerE2E is called by the client after each request.
func (w *wire) OnBrokerE2E(_ kgo.BrokerMetadata, key int16, e kgo.BrokerE2E) {
	switch kmsg.Key(key) {
	case kmsg.EndTxn, kmsg.AddPartitionsToTxn, kmsg.AddOffsetsToTxn, kmsg.TxnOffsetCommit:
	default:
		return
	}
	switch {
	case e.Err() != nil:
		w.broken.Add(1)
	case kmsg.Key(key) == kmsg.EndTxn:
		w.ends.Add(1)
	}
}

// ready makes the producer if there is none, and has it initialised at once:
// when ready returns nil, no transaction of this id is open any more, and
// nothing that an earlier producer of this id sent can take effect.
func (p *turn) ready(ctx context.Context, c *TransactorConfig) error {
	if p.client != nil {
		return nil
	}
	seen := new(wire)
	client, err := newClient(slices.Concat(c.Client, []kgo.Opt{
		kgo.MaxVersions(versions()),
		kgo.TransactionalID(p.id),
		kgo.TransactionTimeout(c.TransactionTimeout),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		// One flush per transaction sends one batch per partition. What bounds
		// the buffer is the size of the transaction, which is the caller's.
		kgo.ManualFlushing(),
		kgo.MaxBufferedRecords(1 << 30),
		// No RecordDeliveryTimeout: it counts from the record's own timestamp,
		// which is the caller's to choose. The watchdog bounds the wait.
		kgo.WithHooks(seen),
	}))
	if err != nil {
		return fmt.Errorf("make producer %q: %w", p.id, err)
	}
	var level int16
	err = guarded(ctx, c.Watchdog, "initialise producer", func(ctx context.Context) error {
		if _, _, err := client.ProducerID(ctx); err != nil {
			return err
		}
		level, err = transactionVersion(ctx, client)
		return err
	})
	if err != nil {
		go client.Close() // it may hang where the call before it did
		return fmt.Errorf("producer %q: %w", p.id, err)
	}
	p.client, p.seen, p.perTxn = client, seen, level >= 2
	if !p.perTxn {
		c.Log.Warn("this Kafka has transactions of an older kind: a late request of one may reach the next, which is found by reading back; Kafka 4.0 with transaction.version 2 is the supported ground",
			"transaction_version", level, "writer", p.id)
	}
	return nil
}

// making guards the making of clients: the library writes to what is behind the
// options, which several clients share.
var making sync.Mutex

func newClient(opts []kgo.Opt) (*kgo.Client, error) {
	making.Lock()
	defer making.Unlock()
	return kgo.NewClient(opts...)
}

// throwAway leaves the client to itself. Whatever it still sends is refused once
// ready has made the next one, or its transaction was ended ([Transactor.replace]).
func (p *turn) throwAway() {
	if p.client != nil {
		go p.client.Close()
		p.client = nil
	}
}

// ErrWatchdog is returned when a call of the client did not come back in time.
var ErrWatchdog = errors.New("client call did not return in time")

// guarded makes a call of the client that must come back within d. The call
// gets a context of its own: that the caller's ends says nothing about whether
// a request was sent, so it must not interrupt one. A call that does not heed
// its context is left behind.
func guarded(ctx context.Context, d time.Duration, what string, call func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), d, ErrWatchdog)
	done := make(chan error, 1)
	go func() {
		defer cancel()
		err := call(ctx)
		if cause := context.Cause(ctx); err != nil && errors.Is(cause, ErrWatchdog) {
			err = fmt.Errorf("%w after %v: %w", cause, d, err)
		}
		done <- err
	}()
	timer := time.NewTimer(d + d/10) // the context's own end comes first
	defer timer.Stop()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		return nil
	case <-timer.C:
		return fmt.Errorf("%s: %w after %v", what, ErrWatchdog, d)
	}
}
