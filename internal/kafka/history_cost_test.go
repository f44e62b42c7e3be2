package kafka

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/evento-oss/evento/runtime"
)

// traffic counts what goes from an embedded broker to its clients.
type traffic struct {
	fetches atomic.Int64
	bytes   atomic.Int64
}

type countedListener struct {
	net.Listener
	sent *atomic.Int64
}

func (l countedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return countedConn{c, l.sent}, err
}

type countedConn struct {
	net.Conn
	sent *atomic.Int64
}

func (c countedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.sent.Add(int64(n))
	return n, err
}

// spread writes a partition of so many records, in batches of 40, among which
// one aggregate has so many events, far apart. EVENTO_TEST_RECORDS asks for
// another size, with an event in each thousand records.
func spread(t testing.TB, w *world) (total, events int) {
	total, events = 20_000, 200
	if n, err := strconv.Atoi(cmp.Or(os.Getenv("EVENTO_TEST_RECORDS"), "0")); err != nil {
		t.Fatal(err)
	} else if n > 0 {
		total, events = n, n/1000
	}
	each := total / events
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	filler := record(NewRecord(w.topic, 0, busy()))
	filler.Value = make([]byte, 100)
	const size = 40
	var batch []*kgo.Record
	for i := range total {
		if i%each == each/2 {
			a := runtime.AggregateID("a:1")
			w.command++
			key := runtime.NewCommandKey("test", a, fmt.Sprint(w.command))
			m := w.message(outcome{a, 1}, key, 1, w.chains[a], 0)
			batch = append(batch, record(NewRecord(w.topic, 0, m)))
			w.chains[a] = append(w.chains[a], Entry{m, runtime.Coordinates{Topic: w.topic, Offset: int64(i)}, m.Sequence})
		} else {
			r := *filler
			batch = append(batch, &r)
		}
		if len(batch) == size || i == total-1 {
			if err := w.plain.ProduceSync(ctx, batch...).FirstErr(); err != nil {
				t.Fatal(err)
			}
			batch = nil
		}
	}
	return total, events
}

// A history is read neither by scanning its partition nor one record after the
// other. What it costs is counted on the embedded broker; on a real one this
// measures the time.
func TestHistoryCost(t *testing.T) {
	if testing.Short() {
		t.Skip("writes many records")
	}
	var cost traffic
	w := newWorld(t, kfake.ListenFn(func(network, address string) (net.Listener, error) {
		l, err := net.Listen(network, address)
		return countedListener{l, &cost.bytes}, err
	}))
	if w.cluster != nil {
		w.cluster.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
			w.cluster.KeepControl()
			cost.fetches.Add(1)
			return nil, nil, false
		})
	}
	total, events := spread(t, w)
	h, log := w.history()
	c := w.chain("a:1")
	w.wants(h, c, Mark{Version: uint64(events - 1)}, 0) // connects
	measure := func(what string, do func()) (fetches, bytes int64, took time.Duration) {
		f, b, began := cost.fetches.Load(), cost.bytes.Load(), time.Now()
		do()
		fetches, bytes, took = cost.fetches.Load()-f, cost.bytes.Load()-b, time.Since(began)
		t.Logf("%d events in %d records: %s: %v, %d fetches, %d kB", events, total, what, took.Round(time.Millisecond), fetches, bytes>>10)
		return fetches, bytes, took
	}
	fetches, bytes, _ := measure("all, by its links", func() { w.wants(h, c, Mark{}, 0) })
	_, scanned, _ := measure("all, by a scan", func() {
		if err := h.reader.Scan(soon(t), w.topic, 0, 0, int64(total), ReadCommitted, func(Record) error { return nil }); err != nil {
			t.Error(err)
		}
	})
	few, _, _ := measure("the last ten", func() { w.wants(h, c, Mark{Version: uint64(events - 10)}, 0) })
	e := w.chains["a:1"][events/3]
	key, _, _ := runtime.ParseEventID(e.ID)
	found, _, _ := measure("one command, with its offset", func() {
		if _, err := h.Find(soon(t), c, key, e.At.Offset); err != nil {
			t.Error(err)
		}
	})
	if log.Len() > 0 {
		t.Errorf("it had to search:\n%s", log)
	}
	if w.cluster == nil {
		return
	}
	// Each event is far from the others, so each needs a fetch; some are made
	// ahead in vain.
	if most := int64(3*events + 20); fetches > most {
		t.Errorf("%d fetches for %d events, more than %d", fetches, events, most)
	}
	if bytes > scanned/2 {
		t.Errorf("%d bytes by the links, %d by a scan", bytes, scanned)
	}
	if few > 100 || found > 20 {
		t.Errorf("%d fetches for the last ten, %d for one command", few, found)
	}
}
