package gateway

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/evento-oss/evento/internal/kafka"
)

// streamPosition says for each partition of a stream from which offset on its
// events are still to come. It is the id of each event of a stream, as text:
//
//	0:1042,1:977                                      layout single
//	CheckingAccount/0:1042,3:7;SavingsAccount/1:12    layout per-aggregate
//
// A partition that is not named is at 0: its events are all still to come.
type streamPosition map[kafka.Place]int64

func (s *Streams) positionText(position streamPosition) string {
	var b strings.Builder
	topic := ""
	for _, p := range slices.SortedFunc(maps.Keys(position), comparePlaces) {
		offset := position[p]
		if offset == 0 {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte(map[bool]byte{true: ',', false: ';'}[p.Topic == topic])
		}
		if aggregate, _ := s.Topics.IsEvents(p.Topic); aggregate != "" && p.Topic != topic {
			b.WriteString(aggregate + "/")
		}
		topic = p.Topic
		b.WriteString(strconv.FormatInt(int64(p.Partition), 10) + ":" + strconv.FormatInt(offset, 10))
	}
	if b.Len() == 0 {
		return "0:0" // an empty id would be none
	}
	return b.String()
}

func comparePlaces(a, b kafka.Place) int {
	return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
}

// parsePosition reads what positionText writes.
func (s *Streams) parsePosition(text string) (streamPosition, error) {
	position := streamPosition{}
	if text == "0:0" {
		return position, nil
	}
	for group := range strings.SplitSeq(text, ";") {
		aggregate, list, named := strings.Cut(group, "/")
		if !named {
			aggregate, list = "", group
		}
		if named != (s.Topics.Layout == kafka.PerAggregate) || named && !slices.Contains(s.Aggregates(), aggregate) {
			return nil, fmt.Errorf("%q is not of this installation", group)
		}
		for one := range strings.SplitSeq(list, ",") {
			number, offset, _ := strings.Cut(one, ":")
			n, err1 := strconv.ParseInt(number, 10, 32)
			o, err2 := strconv.ParseInt(offset, 10, 64)
			p := kafka.Place{Topic: s.Topics.Events(aggregate), Partition: int32(n)}
			if _, twice := position[p]; err1 != nil || err2 != nil || n < 0 || o < 0 || int32(n) >= s.Partitions || twice {
				return nil, fmt.Errorf("%q is not partition:offset, or the partition is named twice or not there", one)
			}
			position[p] = o
		}
	}
	return position, nil
}
