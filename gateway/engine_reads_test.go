package gateway

import (
	"fmt"
	"strings"
	"testing"
)

// A page of large events is short, and says that there are more.
func TestPagesAreBoundedInBytes(t *testing.T) {
	t.Parallel()
	w := newEngineWorld(t, 1)
	e := w.start(1)
	e.send(w.open(t, "checking:1"))
	long := strings.Repeat("x", 700<<10)
	for i := range 5 {
		m := w.message(t, "checking:1", fmt.Sprint("d", i), "ReceiveDeposit", fmt.Sprintf(`{"transaction_id": "%d%s", "source": "cash", "amount": {"minor": 1}}`, i, long))
		if o := e.send(m); o.Status != OutcomeDone {
			t.Fatalf("deposit %d: %+v", i, o)
		}
	}
	var seen, pages string
	after := uint64(0)
	for more := true; more; {
		page, m, err := e.Events(patience(t), "checking:1", after, 1000)
		if err != nil || len(page) == 0 {
			t.Fatalf("after %d: %d events, %v", after, len(page), err)
		}
		size := 0
		for _, r := range page {
			seen += fmt.Sprint(r.Message.Sequence, " ")
			size += len(r.Message.Data)
			after = r.Message.Sequence
		}
		if size > eventsPageBytes && len(page) > 1 {
			t.Errorf("a page has %d bytes", size)
		}
		pages += fmt.Sprint(len(page), " ")
		more = m
	}
	if seen != "1 2 3 4 5 6 " || pages != "3 2 1 " {
		t.Errorf("versions %sin pages of %s", seen, pages)
	}
}
