package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"

	"github.com/evento-oss/evento/runtime"
)

var (
	// ErrHistory is returned, wrapped with what is wrong and where, when an
	// aggregate's records are not what they must be: a version is missing, or a
	// command has fewer events than it says. It is corruption, not a passing state.
	ErrHistory = errors.New("history is broken")

	// ErrNoCommand is returned when an aggregate's history has no event of a command.
	ErrNoCommand = errors.New("no such command in the history")
)

// Chain names one aggregate's records in a partition: the last one, from which
// the links of each record to those before it lead to all others.
type Chain struct {
	Topic     string
	Partition int32
	Aggregate runtime.AggregateID

	// Head is the offset of the aggregate's last record, HeadID its event id,
	// Version the aggregate's version after it. HeadID may be empty and Version
	// 0 where they are not known.
	Head    int64
	HeadID  string
	Version uint64

	// Links are offsets of records right before the head, oldest first, where
	// they are known. They save reading backwards one by one to the last record
	// with a list of its own; they need not be right.
	Links []int64
}

// Entry is one record of an aggregate.
type Entry struct {
	*runtime.Message
	At      runtime.Coordinates
	Version uint64 // of the aggregate after it: Sequence, for a platform record that of the event before it
}

// Mark returns the place right after the entry.
func (e Entry) Mark() Mark { return Mark{Version: e.Version, Offset: e.At.Offset + 1} }

// Mark is a place in an aggregate's history. The zero value is its beginning.
type Mark struct {
	Version uint64

	// Offset is that from which on platform records of this version count as
	// not yet passed. 0 is right after the event of this version.
	Offset int64
}

// passed says whether an entry stands at the mark or before it.
func (m Mark) passed(e Entry) bool {
	return e.Version < m.Version || e.Version == m.Version && (!e.Platform() || e.At.Offset < m.Offset)
}

// History reads aggregates' records. It is safe for concurrent use.
type History struct {
	reader *Reader
	log    *slog.Logger
	ahead  int // historyAhead
}

// NewHistory makes a History that reads with reader.
func NewHistory(reader *Reader, log *slog.Logger) *History {
	return &History{reader, log, historyAhead}
}

// errEnough ends Each from within.
var errEnough = errors.New("enough")

// Read returns up to limit records after the mark, ascending; all when limit is
// 0. The next page begins after the last one's [Entry.Mark].
func (h *History) Read(ctx context.Context, c Chain, after Mark, limit int) ([]Entry, error) {
	var page []Entry
	err := h.Each(ctx, c, after, func(e Entry) error {
		page = append(page, e)
		if len(page) == limit {
			return errEnough
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, err
	}
	return page, nil
}

// Each calls do with each record after the mark, ascending, up to the head. An
// error of do ends it and is returned.
//
// It first finds where the records are, backwards from the head: each 64th
// record names the 64 before it, so one read finds 64. Then it reads them in
// batches. What is read is checked: key, id of the head, and that each record's
// own link names the one given before it. Where they do not agree (a marker
// shifted a distance, a topic was restored) it reads what stands between, and
// where that is too much, the rest of the partition, which is logged as a
// warning. It fails with [ErrHistory] when a version is missing nevertheless.
func (h *History) Each(ctx context.Context, c Chain, after Mark, do func(Entry) error) error {
	w := &walk{h: h, chain: c, after: after, do: do, loaded: map[int64]Entry{}}
	if err := w.run(ctx); err != nil {
		if errors.Is(err, errEnough) {
			return err
		}
		return fmt.Errorf("history of %q in %s/%d: %w", c.Aggregate, c.Topic, c.Partition, err)
	}
	return nil
}

// Find returns all records of a command's outcome, in the order of their
// positions. hint is the offset of one of them, or negative when none is known;
// without a right hint the whole history is read. It fails with [ErrNoCommand]
// when there are none, and with [ErrHistory] when there are fewer than they say.
func (h *History) Find(ctx context.Context, c Chain, key runtime.CommandKey, hint int64) ([]Entry, error) {
	if hint >= 0 {
		found, err := h.findAt(ctx, c, key, hint)
		if found != nil || err != nil {
			return found, err
		}
		h.log.Warn("a command is not where it was thought to be: its aggregate's history is read",
			"entity", c.Aggregate, "topic", c.Topic, "partition", c.Partition, "offset", hint)
	}
	var found []Entry
	err := h.Each(ctx, c, Mark{}, func(e Entry) error {
		if !e.of(key) {
			return nil
		}
		if found = append(found, e); len(found) == e.Count {
			return errEnough
		}
		return nil
	})
	switch {
	case err != nil && !errors.Is(err, errEnough):
		return nil, err
	case len(found) == 0:
		return nil, fmt.Errorf("%w: %s of %q", ErrNoCommand, key, c.Aggregate)
	case len(found) < found[0].Count:
		return nil, fmt.Errorf("%w: command %s of %q has %d events of %d", ErrHistory, key, c.Aggregate, len(found), found[0].Count)
	}
	return found, nil
}

// findAround is how many offsets before and after an outcome's supposed places
// are looked at too: markers and other writers' records may stand between.
const findAround = 64

// findAt finds a command's records around one of them. None is no error.
func (h *History) findAt(ctx context.Context, c Chain, key runtime.CommandKey, hint int64) ([]Entry, error) {
	records, err := h.reader.Points(ctx, c.Topic, c.Partition, []int64{hint})
	if err != nil || len(records) == 0 {
		return nil, err
	}
	one, ok, err := c.entry(records[0])
	if err != nil || !ok || !one.of(key) {
		return nil, err
	}
	if one.Platform() {
		// What version the aggregate had is told by the event before.
		c.Head, c.HeadID, c.Version, c.Links = hint, one.ID, 0, nil
		w := &walk{h: h, chain: c, after: Mark{Version: math.MaxInt64}, loaded: map[int64]Entry{}}
		if err := w.run(ctx); err != nil {
			return nil, err
		}
		return []Entry{w.last}, nil
	}
	if one.Count == 1 {
		return []Entry{one}, nil
	}
	_, _, high, err := h.reader.Watermarks(ctx, c.Topic, c.Partition)
	if err != nil {
		return nil, err
	}
	var found []Entry
	from, to := hint-int64(one.Pos-1), hint+int64(one.Count-one.Pos)+1
	err = h.reader.Scan(ctx, c.Topic, c.Partition, max(from-findAround, 0), min(to+findAround, high), ReadCommitted, func(r Record) error {
		e, ok, err := c.entry(r)
		if err != nil || !ok || !e.of(key) {
			return err
		}
		if found = append(found, e); len(found) == one.Count {
			return errEnough
		}
		return nil
	})
	if len(found) == one.Count {
		return found, nil
	}
	if errors.Is(err, ErrTruncated) {
		err = nil // the window begins before the log; the history tells
	}
	return nil, err
}

// of says whether an entry is of a command's outcome.
func (e Entry) of(key runtime.CommandKey) bool {
	of, _, ok := runtime.ParseEventID(e.ID)
	return ok && of == key
}

// entry reads a record; ok is false when it is another aggregate's.
func (c Chain) entry(r Record) (e Entry, ok bool, err error) {
	if string(r.Key) != string(c.Aggregate) {
		return Entry{}, false, nil
	}
	m, err := ParseRecord(&r)
	if err != nil {
		return Entry{}, false, fmt.Errorf("%w: %w", ErrHistory, err)
	}
	return Entry{m, runtime.Coordinates{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset}, m.Sequence}, true, nil
}
