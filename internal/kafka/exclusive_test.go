package kafka

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestExclusiveWritersDecideOneAfterTheOther(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	base, err := l.settings.Franz(quiet())
	if err != nil {
		t.Fatal(err)
	}
	look, err := NewTakeover(base, "none", l.topic, quiet())
	if err != nil {
		t.Fatal(err)
	}
	defer look.Close()
	read := func(ctx context.Context) (values []string, err error) {
		ends, err := look.Watermarks(ctx, l.topic, 0)
		if err != nil {
			return nil, err
		}
		err = look.Scan(ctx, l.topic, 0, ends.Low, ends.High, 20*time.Second, func(r Record) error {
			values = append(values, string(r.Value))
			return nil
		})
		return values, err
	}
	const writers, each = 3, 5
	var all sync.WaitGroup
	for n := range writers {
		x := NewExclusive(base, "exclusive-"+l.topic, quiet())
		all.Go(func() {
			for range each {
				// Two records: those of one decision stand together.
				written := ""
				err := x.Do(soon(t), func(ctx context.Context) ([]Record, error) {
					values, err := read(ctx)
					if err != nil || written != "" && len(values) > 0 && values[len(values)-1] == written {
						return nil, err
					}
					var records []Record
					for i := range 2 {
						written = fmt.Sprintf("%d by %d", len(values)+i, n)
						records = append(records, Record{Topic: l.topic, Value: []byte(written)})
					}
					return records, nil
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	values, err := read(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range values {
		if n, _, _ := strings.Cut(v, " "); n != strconv.Itoa(i) {
			t.Fatalf("record %d was decided when there were %s: %v", i, v, values)
		}
	}
	if len(values) < 2*writers*each {
		t.Errorf("%d records, want %d", len(values), 2*writers*each)
	}
}
