package kafka

import (
	"context"
	"slices"

	"github.com/evento-oss/evento/runtime"
)

type Chain struct {
	Topic      string
	Partition  int32
	Aggregate  runtime.AggregateID
	HeadOffset int64
	HeadID     string
	Links      []int64
}

type Entry struct {
	Message *runtime.Message
	At      runtime.Coordinates
}

type History struct{ Reader *Reader }

func (h *History) all(ctx context.Context, c Chain, after int64, exists bool) ([]Entry, error) {
	var list []Entry
	for at := c.HeadOffset; at >= 0 && (!exists || at > after); {
		rs, err := h.Reader.Points(ctx, c.Topic, c.Partition, []int64{at})
		if err != nil || len(rs) == 0 {
			return nil, err
		}
		m, err := ParseRecord(&rs[0])
		if err != nil {
			return nil, err
		}
		list = append(list, Entry{m, runtime.Coordinates{Topic: c.Topic, Partition: c.Partition, Offset: at}})
		switch {
		case m.Prev == runtime.NoPrev:
			at = -1
		case m.Prev < 0:
			at += m.Prev
		default:
			at = m.Prev
		}
	}
	slices.Reverse(list)
	return list, nil
}

func (h *History) Since(ctx context.Context, c Chain, after int64, exists bool, page int, do func([]Entry) error) error {
	list, err := h.all(ctx, c, after, exists)
	if err != nil {
		return err
	}
	return do(list)
}

func (h *History) Page(ctx context.Context, c Chain, after uint64, limit int) ([]Entry, bool, error) {
	list, err := h.all(ctx, c, 0, false)
	if err != nil {
		return nil, false, err
	}
	var out []Entry
	for _, e := range list {
		if e.Message.Sequence > after {
			if len(out) == limit {
				return out, true, nil
			}
			out = append(out, e)
		}
	}
	return out, false, nil
}

func (h *History) Find(ctx context.Context, c Chain, key runtime.CommandKey, offsets []int64) ([]Entry, error) {
	list, err := h.all(ctx, c, 0, false)
	if err != nil {
		return nil, err
	}
	var out []Entry
	for _, e := range list {
		if k, _, _ := runtime.ParseEventID(e.Message.ID); k == key {
			out = append(out, e)
		}
	}
	return out, nil
}
