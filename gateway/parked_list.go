package gateway

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/evento-oss/evento/runtime"
)

// ParkedKey is the place of an entry in the list of parked commands and events,
// which is in the order of their coordinates, and of the dispatchers where several
// have parked one event. The zero key is before all.
type ParkedKey struct {
	At         runtime.Coordinates
	Dispatcher string
}

func (c *ParkedCommand) key() ParkedKey { return ParkedKey{c.At, c.Dispatcher} }

func (k ParkedKey) compare(o ParkedKey) int {
	return cmp.Or(
		cmp.Compare(k.At.Topic, o.At.Topic), cmp.Compare(k.At.Partition, o.At.Partition), cmp.Compare(k.At.Offset, o.At.Offset),
		cmp.Compare(k.Dispatcher, o.Dispatcher),
	)
}

// String is the key as clients send it back: topic/partition/offset, and behind a
// comma the dispatcher. No topic has a comma.
func (k ParkedKey) String() string {
	switch {
	case k == ParkedKey{}:
		return ""
	case k.Dispatcher == "":
		return k.At.String()
	}
	return k.At.String() + "," + k.Dispatcher
}

func parseParkedKey(text string) (k ParkedKey, err error) {
	if text == "" {
		return k, errors.New("it is empty")
	}
	at, dispatcher, _ := strings.Cut(text, ",")
	k.Dispatcher = dispatcher
	k.At, err = runtime.ParseCoordinates(at)
	return k, err
}

func (f *ParkedFilter) matches(c *ParkedCommand) bool {
	if f.At != nil {
		// The numbers alone are a command's.
		if f.At.Partition != c.At.Partition || f.At.Offset != c.At.Offset || c.Dispatcher != "" && f.At.Topic != c.At.Topic {
			return false
		}
	}
	return (f.Aggregate == "" || f.Aggregate == c.Aggregate) &&
		(f.Status == "" || f.Status == c.Status) &&
		(f.Function == "" || f.Function == c.Function) &&
		(f.Type == "" || f.Type == string(c.Type) || strings.HasSuffix(string(c.Type), "."+f.Type)) &&
		(f.After == ParkedKey{} || c.key().compare(f.After) > 0)
}

// parkedList is what one gateway, or all of them, know of what is parked.
type parkedList struct {
	Parked []ParkedCommand `json:"parked"`
	// More says that the limit has cut something off.
	More bool `json:"more"`
	// Partitions are those whose commands, and for each dispatcher whose events, are in the list.
	Partitions  []int32            `json:"partitions"`
	Dispatchers map[string][]int32 `json:"dispatchers"`
}

// add puts another gateway's list beside this one.
func (l *parkedList) add(o parkedList) {
	l.Parked = append(l.Parked, o.Parked...)
	l.More = l.More || o.More
	l.Partitions = append(l.Partitions, o.Partitions...)
	for name, held := range o.Dispatchers {
		if l.Dispatchers == nil {
			l.Dispatchers = map[string][]int32{}
		}
		l.Dispatchers[name] = append(l.Dispatchers[name], held...)
	}
}

// cut sorts the list and leaves the first ones. A partition that moved while the
// gateways were asked one after the other may be in it twice.
func (l *parkedList) cut(limit int) {
	slices.SortFunc(l.Parked, func(a, b ParkedCommand) int { return a.key().compare(b.key()) })
	l.Parked = slices.CompactFunc(l.Parked, func(a, b ParkedCommand) bool { return a.key() == b.key() })
	if limit > 0 && len(l.Parked) > limit {
		l.Parked, l.More = l.Parked[:limit:limit], true
	}
}

// next is the key after which the next page begins, "" at the end.
func (l *parkedList) next() string {
	if !l.More || len(l.Parked) == 0 {
		return ""
	}
	return l.Parked[len(l.Parked)-1].key().String()
}

// missingJSON says which partitions a list does not hold, since they are being
// taken over, or nobody has them.
type missingJSON struct {
	Partitions  []int32            `json:"partitions,omitempty"`  // of commands
	Dispatchers map[string][]int32 `json:"dispatchers,omitempty"` // of events, for a dispatcher
}

// missing returns what a list of all gateways does not hold of so many partitions;
// nil when it is whole.
func (l *parkedList) missing(partitions int32) *missingJSON {
	out := missingJSON{Partitions: without(partitions, l.Partitions)}
	for name, held := range l.Dispatchers {
		if list := without(partitions, held); len(list) > 0 {
			if out.Dispatchers == nil {
				out.Dispatchers = map[string][]int32{}
			}
			out.Dispatchers[name] = list
		}
	}
	if len(out.Partitions) == 0 && len(out.Dispatchers) == 0 {
		return nil
	}
	return &out
}

func without(partitions int32, held []int32) (list []int32) {
	for n := range partitions {
		if !slices.Contains(held, n) {
			list = append(list, n)
		}
	}
	return list
}

// at says why something at these coordinates may be in what is missing, or "".
func (m *missingJSON) at(c runtime.Coordinates, events bool) string {
	if m == nil {
		return ""
	}
	if !events {
		if slices.Contains(m.Partitions, c.Partition) {
			return fmt.Sprintf("partition %d of the commands", c.Partition)
		}
		return ""
	}
	for _, name := range slices.Sorted(maps.Keys(m.Dispatchers)) {
		if slices.Contains(m.Dispatchers[name], c.Partition) {
			return fmt.Sprintf("partition %d of dispatcher %q", c.Partition, name)
		}
	}
	return ""
}
