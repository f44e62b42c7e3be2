package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/evento-oss/evento/internal/crash"
)

// Transactor makes transactions that only the owner of their partitions can
// commit: the records, and the group's positions moved past what they answer,
// take effect together or not at all (KIP-98, KIP-447).
//
// Transactions are made one at a time, by several producers in turn; the next
// begins when the end of the last one is acknowledged. While one is under way
// its caller's successors collect the next: group commit.
type Transactor struct {
	cfg  TransactorConfig
	look *Takeover // reads the log back

	// baton is held by who has the turn. It guards the fields below, and the
	// turn that is used.
	baton  chan struct{}
	ids    *writerIDs
	turns  []*turn
	next   int
	closed bool

	ending sync.WaitGroup // of writers that were left, beside everything else
}

// NewTransactor checks the configuration. Producers are made when their turn
// comes; [Transactor.Warm] makes them before.
func NewTransactor(c TransactorConfig) (*Transactor, error) {
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("transactor: %w", err)
	}
	look, err := NewTakeover(c.Client, c.Group.cfg.Group, c.Group.cfg.Topic, c.Log)
	if err != nil {
		return nil, fmt.Errorf("transactor: %w", err)
	}
	ids := newWriterIDs()
	return &Transactor{cfg: c, look: look, baton: make(chan struct{}, 1), ids: ids, turns: newTurns(c.Producers, ids)}, nil
}

// take waits for the turn.
func (t *Transactor) take(ctx context.Context) error {
	select {
	case t.baton <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if t.closed {
		<-t.baton
		return ErrClosed
	}
	return nil
}

func (t *Transactor) give() { <-t.baton }

// Warm makes the producers, so that the first commits do not have to.
func (t *Transactor) Warm(ctx context.Context) error {
	if err := t.take(ctx); err != nil {
		return err
	}
	defer t.give()
	errs := make([]error, len(t.turns))
	var wg sync.WaitGroup
	for i, p := range t.turns {
		wg.Go(func() { errs[i] = p.ready(ctx, &t.cfg) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Close waits for the transaction under way, or for the context, and gives the
// connections back. Later calls fail with [ErrClosed].
func (t *Transactor) Close(ctx context.Context) error {
	if err := t.take(ctx); err != nil {
		if errors.Is(err, ErrClosed) {
			return nil
		}
		return fmt.Errorf("close transactor: %w", err)
	}
	defer t.give()
	t.closed = true
	var wg sync.WaitGroup
	for _, p := range t.turns {
		if p.client != nil {
			wg.Go(p.client.Close)
		}
	}
	wg.Wait()
	ended := make(chan struct{})
	go func() {
		t.ending.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
	}
	t.look.Close() // what is still being ended gives up
	<-ended
	return nil
}

// Commit makes one transaction and tells what became of it. It waits for its
// turn; turns are given in the order of the calls. The context bounds that
// wait, and the search for the outcome of a transaction whose end was not seen;
// what was begun is ended in any case, so that the context of a single client's
// request does not belong here.
//
// Results are told after the fact: what has become of the terms meanwhile, the
// group's callbacks say.
func (t *Transactor) Commit(ctx context.Context, txn Txn) Result {
	held, err := txn.check()
	if err != nil {
		return refused(ReasonInvalid, err)
	}
	if err := t.take(ctx); err != nil {
		return refused(ReasonBroker, fmt.Errorf("wait for the turn: %w", err))
	}
	defer t.give()

	// In the fence from here to the end: a revocation waits.
	entering, cancel := context.WithTimeoutCause(ctx, t.cfg.Watchdog, ErrWatchdog)
	defer cancel()
	pass, err := t.cfg.Group.fence.enter(entering, held)
	if err != nil {
		return refused(fenceReason(err), err)
	}
	defer t.cfg.Group.fence.leave(pass)

	p := t.turns[t.next]
	t.next = (t.next + 1) % len(t.turns)
	crash.At(crash.TxnBegin)
	if err := t.begin(ctx, p); err != nil {
		t.replace(p)
		if errors.Is(err, ErrWatchdog) {
			t.renew(p)
		}
		return refused(ReasonBroker, err)
	}
	crash.At(crash.TxnBegun)
	result := t.run(ctx, p, pass, txn)
	if !result.Resolved && errors.Is(result.Err, ErrWatchdog) {
		t.renew(p)
	}
	return result
}

// renew replaces all turns but the one whose call was not answered in time, which has
// been dealt with.
//
// What was asked to commit before may have been acknowledged and still not be over:
// while its coordinator waits for a broker that has fallen silent to write the markers,
// which is the broker's own request.timeout.ms, 30 s, it refuses the id's next
// transaction (CONCURRENT_TRANSACTIONS). Each turn would find that out by itself, one
// after the other.
func (t *Transactor) renew(but *turn) {
	for _, p := range t.turns {
		if p != but {
			t.replace(p)
		}
	}
}

// replace gives a turn another transactional id. A transaction that the old one has
// open is never asked to commit any more: ours when the client was thrown away, else
// that of a stranger who has taken the id. It is ended beside everything else, since
// that may be long in coming, and until then it holds up every committed reader.
func (t *Transactor) replace(p *turn) {
	id := p.id
	p.throwAway()
	p.id = t.ids.next()
	t.ending.Go(func() {
		ctx, cancel := context.WithTimeoutCause(context.Background(), t.cfg.TransactionTimeout, ErrWatchdog)
		defer cancel()
		if err := t.look.EndWriter(ctx, id); err != nil {
			t.cfg.Log.Warn("a transaction that the id may have open is left to its timeout", "transactional_id", id, "err", err)
		}
	})
}

// begin opens a transaction, on a new producer where the old one cannot.
func (t *Transactor) begin(ctx context.Context, p *turn) error {
	var err error
	for range 2 {
		if err = p.ready(ctx, &t.cfg); err != nil {
			return err
		}
		if err = p.client.BeginTransaction(); err == nil {
			return nil
		}
		p.throwAway()
	}
	return fmt.Errorf("begin transaction: %w", err)
}

// run makes the transaction that was begun: records, then offsets, then the
// end, each only after the one before was acknowledged. In parallel both would
// open the transaction at the broker and one of them would wait for the other.
func (t *Transactor) run(ctx context.Context, p *turn, pass pass, txn Txn) Result {
	broken := p.seen.broken.Load()

	written, failed := t.produce(ctx, p, txn.Records)
	if failed != nil {
		return t.abort(p, *failed)
	}
	crash.At(crash.TxnProduced)
	if err := t.cfg.Group.fence.check(pass); err != nil {
		return t.abort(p, refused(ReasonStale, err))
	}
	if failed := t.commitInTxn(ctx, p, pass, txn.Offsets); failed != nil {
		return t.abort(p, *failed)
	}

	crash.At(crash.TxnOffsets)
	ends := p.seen.ends.Load()
	err := guarded(ctx, t.cfg.Watchdog, "end transaction", func(ctx context.Context) error {
		return p.client.EndTransaction(ctx, kgo.TryCommit)
	})
	// The client's nil is the end of this transaction only if one was asked for
	// and answered, and no other request of it may still be on its way.
	if err == nil && p.seen.ends.Load() > ends && p.seen.broken.Load() == broken {
		crash.At(crash.TxnEnded)
		return Result{Outcome: Committed, Offsets: written, Partition: -1}
	}
	if err == nil {
		err = errors.New("connection lost in the transaction")
	}
	crash.At(crash.TxnUnseen)
	t.cfg.Log.Warn("end of transaction not seen", "transactional_id", p.id, "err", err)
	return t.resolve(ctx, p, txn.Records, written, err)
}

// produce writes the records and waits until all are acknowledged. It gives
// their offsets, or the result to abort with.
func (t *Transactor) produce(ctx context.Context, p *turn, records []Record) ([]int64, *Result) {
	type ack struct {
		i   int
		err error
	}
	sent := make([]*kgo.Record, len(records))
	acks := make(chan ack, len(records)) // promises never wait, not even those nobody listens to any more
	err := guarded(ctx, t.cfg.Watchdog, "produce", func(ctx context.Context) error {
		for i := range records {
			sent[i] = toClient(&records[i], p.id)
			p.client.Produce(ctx, sent[i], func(_ *kgo.Record, err error) {
				if crash.On && err == nil {
					crash.At(crash.TxnPartly)
				}
				acks <- ack{i, err}
			})
		}
		return p.client.Flush(ctx)
	})
	answers := make([]error, len(records))
	for i := range answers {
		answers[i] = errUnanswered
	}
	for len(acks) > 0 { // all of them, unless the flush was cut short
		a := <-acks
		answers[a.i] = a.err
	}
	if err == nil {
		err = guarded(ctx, t.cfg.Watchdog, "learn of the partitions", func(ctx context.Context) error {
			return published(ctx, p.client, acknowledged(sent, answers))
		})
	}
	if failed := judge(records, answers, err); failed != nil {
		if failed.Reason == ReasonBroker || err != nil {
			p.throwAway() // records may still be on their way
		}
		return nil, failed
	}
	offsets := make([]int64, len(records))
	for i, r := range sent {
		if offsets[i] = r.Offset; r.Offset < 0 {
			failed := refused(ReasonBroker, fmt.Errorf("record %d of %d to %s partition %d was acknowledged without an offset", i+1, len(records), r.Topic, r.Partition))
			return nil, &failed
		}
	}
	return offsets, nil
}

var errUnanswered = errors.New("no answer")

// acknowledged gives the records that were written.
func acknowledged(sent []*kgo.Record, answers []error) []*kgo.Record {
	written := make([]*kgo.Record, 0, len(sent))
	for i, r := range sent {
		if answers[i] == nil {
			written = append(written, r)
		}
	}
	return written
}

// judge says what to abort with, given how writing each record and flushing them
// all went; nil when all went well. Where some partitions could be written and
// one could not, that one is named.
func judge(records []Record, answers []error, flush error) *Result {
	worst, good := -1, false
	for i, err := range answers {
		if good = good || err == nil; err == nil {
			continue
		}
		if fencing(err) {
			failed := refused(ReasonBroker, fmt.Errorf("write record %d of %d: %w", i+1, len(records), err))
			return &failed
		}
		// What the broker said of one record says more than its silence about
		// others, and more than that they were given up for its sake.
		if worst < 0 || errors.As(err, new(*kerr.Error)) && !errors.As(answers[worst], new(*kerr.Error)) {
			worst = i
		}
	}
	switch {
	case worst < 0 && flush == nil:
		return nil
	case worst < 0 || answers[worst] == errUnanswered && !good:
		failed := refused(ReasonBroker, flush)
		return &failed
	}
	r := &records[worst]
	failed := refused(ReasonRecord, fmt.Errorf("write record %d of %d to %s partition %d: %w",
		worst+1, len(records), r.Topic, r.Partition, errors.Join(answers[worst], flush)))
	failed.Topic, failed.Partition = r.Topic, r.Partition
	return &failed
}

// abort ends a transaction that was never asked to commit, so that it never
// will, whatever comes of the abort itself.
func (t *Transactor) abort(p *turn, why Result) Result {
	crash.At(crash.TxnAbort)
	if p.client != nil {
		broken := p.seen.broken.Load()
		err := guarded(context.Background(), t.cfg.Watchdog, "abort transaction", func(ctx context.Context) error {
			return p.client.EndTransaction(ctx, kgo.TryAbort)
		})
		if err != nil || p.seen.broken.Load() != broken {
			p.throwAway()
		}
	}
	if p.client == nil {
		t.replace(p)
	}
	crash.At(crash.TxnAborted)
	return why
}

// fencing says whether an error means that this producer is done for, and says
// nothing about a record or an offset.
func fencing(err error) bool {
	for _, e := range []error{
		kerr.InvalidProducerEpoch, kerr.ProducerFenced, kerr.InvalidProducerIDMapping, kerr.UnknownProducerID,
		kerr.InvalidTxnState, kerr.TransactionAbortable, kerr.TransactionCoordinatorFenced, kerr.OutOfOrderSequenceNumber,
		kerr.ConcurrentTransactions,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func fenceReason(err error) Reason {
	if errors.Is(err, ErrStaleTerm) || errors.Is(err, ErrNoMember) {
		return ReasonStale
	}
	return ReasonBroker
}

func refused(reason Reason, err error) Result {
	return Result{Outcome: Aborted, Reason: reason, Err: err, Partition: -1}
}

// toClient gives a record to the client library, with its writer named.
func toClient(r *Record, writer string) *kgo.Record {
	headers := make([]kgo.RecordHeader, 0, len(r.Headers)+1)
	for _, h := range r.Headers {
		headers = append(headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
	}
	headers = append(headers, kgo.RecordHeader{Key: WriterHeader, Value: []byte(writer)})
	return &kgo.Record{
		Topic: r.Topic, Partition: r.Partition,
		Key: r.Key, Value: r.Value, Headers: headers, Timestamp: r.Time,
	}
}
