package gateway

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/evento-oss/evento/internal/kafka"
	"github.com/evento-oss/evento/runtime"
)

// causeWant says which message is looked for.
type causeWant struct {
	ID   string
	Key  *runtime.CommandKey // of the command; nil: any message with the ID
	Hash string              // of the command's type, target and value; "" where it is not known
}

// wantCause says which message is the cause of m. The id of an event holds the
// key of its command, which no command of another source or aggregate has.
func wantCause(m *runtime.Message) causeWant {
	w := causeWant{ID: m.CausationID}
	if key, _, ok := runtime.ParseEventID(m.ID); ok && m.Pos > 0 {
		w.Key, w.Hash = &key, m.Hash
	}
	return w
}

func (w causeWant) is(m *runtime.Message) bool {
	return m.ID == w.ID && (w.Key == nil || m.Key() == *w.Key)
}

// causeWindows are how far before a message its cause is searched, one after the
// other: most causes are seconds old, and one from last year is found too.
var causeWindows = []time.Duration{time.Minute, time.Hour, 24 * time.Hour, 30 * 24 * time.Hour}

// causeSkew is how far clocks of those who write may differ.
const causeSkew = time.Minute

// search looks for a message in a partition, in the time before its effect was
// written first, then in all that is left. Where several are it (a command that
// was sent again), the one with the wanted hash and then the oldest of a window is
// taken. looked says where it was looked for, for who gets nothing.
func (c *Causes) search(ctx context.Context, p kafka.Place, want causeWant, before time.Time) (found placed, ok bool, looked string, err error) {
	looked = fmt.Sprintf("%s was searched for the id %q", p, want.ID)
	parts, err := c.searchParts(ctx, p, before)
	if err != nil {
		return placed{}, false, looked, err
	}
	for _, part := range parts {
		err = c.Reader.Scan(ctx, p.Topic, p.Partition, part.from, part.to, kafka.ReadCommitted, func(r kafka.Record) error {
			if string(r.Header(kafka.HeaderName("id"))) != want.ID {
				return nil
			}
			one, readable, err := c.placed(&r)
			if err != nil || !readable || !want.is(one.Message) {
				return err
			}
			same := c.sameValue(want, one.Message)
			if !ok || same {
				found, ok = one, true
			}
			if same {
				return errPageFull // there can be none better
			}
			return nil
		})
		if ok && (err == nil || errors.Is(err, errPageFull)) {
			return found, true, looked, nil
		}
		if err != nil {
			return placed{}, false, looked, err
		}
	}
	return placed{}, false, looked + ", all of it that is kept and committed", nil
}

// stretch is a part of a partition.
type stretch struct{ from, to int64 }

// searchParts returns the parts of a partition in the order in which they are
// searched; together they are all of it.
func (c *Causes) searchParts(ctx context.Context, p kafka.Place, before time.Time) ([]stretch, error) {
	spans, err := c.Reader.Spans(ctx, []kafka.Place{p})
	if err != nil {
		return nil, err
	}
	low, end := spans[p].Low, spans[p].Stable
	latest, err := c.Reader.OffsetAt(ctx, p, before.Add(causeSkew))
	if err != nil {
		return nil, err
	}
	latest = max(min(latest, end), low)
	to := latest
	var parts []stretch
	for _, d := range causeWindows {
		from, err := c.Reader.OffsetAt(ctx, p, before.Add(-d))
		if err != nil {
			return nil, err
		}
		from = max(min(from, to), low)
		parts = append(parts, stretch{from, to})
		to = from
	}
	return append(parts, stretch{low, to}, stretch{latest, end}), nil
}

// sameValue says whether a command has the wanted value, or nothing is known of it.
func (c *Causes) sameValue(want causeWant, m *runtime.Message) bool {
	if want.Hash == "" {
		return true
	}
	hash, err := c.Hash(m)
	return err == nil && hash == want.Hash
}
