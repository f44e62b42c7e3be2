package kafka

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/evento-oss/evento/internal/crash"
)

// place is where a record of a transaction was acknowledged.
type place struct {
	topic     string
	partition int32
}

// resolve finds out what became of a transaction that was asked to commit and
// whose end was not seen.
//
// First a new producer with the same id is made: when that has succeeded the
// transaction has come to its end, one way or the other, and nothing late can
// change it. Then committed readers' eyes decide: all records were acknowledged,
// so their offsets are known, and each is looked up there.
//
// It tries until it knows, or until the context ends.
func (t *Transactor) resolve(ctx context.Context, p *turn, records []Record, written []int64, cause error) Result {
	p.throwAway()
	t.renew(p)
	for backoff := 10 * time.Millisecond; ; backoff = min(2*backoff, time.Second) {
		err := p.ready(ctx, &t.cfg)
		if err == nil {
			var found int
			offsets := append([]int64(nil), written...)
			if found, err = t.lookUp(ctx, p.id, records, offsets); err == nil {
				return t.resolved(p, found, offsets, cause)
			}
		}
		t.cfg.Log.Warn("outcome of transaction not known yet", "transactional_id", p.id, "err", err)
		if wait(ctx, nil, backoff) != nil {
			return Result{
				Outcome: Unknown, Reason: ReasonBroker, Partition: -1,
				Err: fmt.Errorf("look for the outcome of a transaction: %w (last: %w; first: %w)", context.Cause(ctx), err, cause),
			}
		}
	}
}

func (t *Transactor) resolved(p *turn, found int, offsets []int64, cause error) Result {
	crash.At(crash.TxnResolved)
	t.cfg.Log.Info("outcome of transaction found in the log", "transactional_id", p.id, "found", found, "records", len(offsets))
	switch found {
	case 0:
		r := refused(ReasonBroker, cause)
		r.Resolved = true
		return r
	case len(offsets):
		return Result{Outcome: Committed, Offsets: offsets, Partition: -1, Resolved: true}
	default:
		return Result{
			Outcome: Committed, Offsets: offsets, Partition: -1, Resolved: true,
			Err: fmt.Errorf("%d of %d records: %w", found, len(offsets), ErrTorn),
		}
	}
}

// lookUp looks for each record at its offset, as a committed reader. Offsets of
// those that are not there become -1.
func (t *Transactor) lookUp(ctx context.Context, writer string, records []Record, offsets []int64) (found int, err error) {
	wanted := make(map[place]map[int64]int) // offset -> index into records
	for i := range records {
		at := place{records[i].Topic, records[i].Partition}
		if wanted[at] == nil {
			wanted[at] = make(map[int64]int)
		}
		wanted[at][offsets[i]] = i
	}
	there := make([]bool, len(records))
	for at, indexes := range wanted {
		if err := t.lookIn(ctx, at, indexes, func(r Record) {
			if i, ok := indexes[r.Offset]; ok && same(&r, &records[i], writer) {
				there[i] = true
			}
		}); err != nil {
			return 0, err
		}
	}
	for i, ok := range there {
		if ok {
			found++
		} else {
			offsets[i] = -1
		}
	}
	return found, nil
}

// lookIn reads what stands in one partition from the first to the last of the
// offsets.
func (t *Transactor) lookIn(ctx context.Context, at place, indexes map[int64]int, see func(Record)) error {
	first, last := int64(-1), int64(-1)
	for offset := range indexes {
		if first < 0 || offset < first {
			first = offset
		}
		last = max(last, offset)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, t.cfg.TransactionTimeout, ErrWatchdog)
	defer cancel()
	// The records were acknowledged by all replicas in sync, so the high
	// watermark is above them or soon will be; where it is not, a leader that
	// did not have them was elected, and they are gone.
	w, err := t.above(ctx, at, last)
	if err != nil {
		return err
	}
	err = t.look.Scan(ctx, at.topic, at.partition, first, min(last+1, w.High), t.cfg.Watchdog, func(r Record) error {
		see(r)
		return nil
	})
	if errors.Is(err, ErrTruncated) {
		return nil // the log ends before them: they are not there
	}
	return err
}

// above waits for the high watermark to be above an offset, for as long as the
// watchdog allows.
func (t *Transactor) above(ctx context.Context, at place, offset int64) (Watermarks, error) {
	deadline := time.Now().Add(t.cfg.Watchdog)
	for {
		w, err := t.look.Watermarks(ctx, at.topic, at.partition)
		if err != nil || w.High > offset || time.Now().After(deadline) {
			return w, err
		}
		if err := wait(ctx, nil, 20*time.Millisecond); err != nil {
			return w, err
		}
	}
}

// same says whether what stands in the log is what was written.
func same(in, out *Record, writer string) bool {
	return bytes.Equal(in.Key, out.Key) &&
		bytes.Equal(in.Header("ce_id"), out.Header("ce_id")) &&
		string(in.Header(WriterHeader)) == writer
}
