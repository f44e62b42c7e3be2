package runtime

import (
	"bytes"
	"fmt"
	"testing"
)

func TestKeptStatesAreBounded(t *testing.T) {
	const limit = 100_000
	c := newStateCache(limit)
	data := func(i, n int) []byte { return bytes.Repeat([]byte{byte(i)}, n) }
	has := func(i, n int) bool {
		got, ok := c.get(AggregateID(fmt.Sprint("a:", i)), 1, "s", HashState(data(i, n)))
		return ok && bytes.Equal(got, data(i, n))
	}
	put := func(i, n int) { c.put(AggregateID(fmt.Sprint("a:", i)), 1, "s", data(i, n)) }
	for i := range 30 {
		put(i, 10_000)
		if c.size > limit || len(c.states) != c.order.Len() {
			t.Fatalf("%d bytes in %d states, %d in order; the limit is %d", c.size, len(c.states), c.order.Len(), limit)
		}
		if !has(0, 10_000) { // asked for each time, so that it stays
			t.Fatalf("the state asked for last is gone after %d others", i)
		}
	}
	if has(1, 10_000) || !has(29, 10_000) {
		t.Error("the oldest is there, or the newest is not")
	}
	put(29, limit)
	if has(29, limit) || has(29, 10_000) {
		t.Error("a state larger than all room is kept, or the one before it still is")
	}
	put(0, MinKeptState-1)
	if has(0, MinKeptState-1) {
		t.Error("a small state takes room")
	}
	for i := range 30 {
		c.put(AggregateID(fmt.Sprint("a:", i)), 2, "s", nil)
	}
	if c.size != 0 || len(c.states) != 0 || c.order.Len() != 0 {
		t.Errorf("empty, it has %d bytes in %d states", c.size, len(c.states))
	}
	// What a slice has in reserve counts, too.
	c.put("reserve", 1, "s", make([]byte, 5000, limit))
	if c.size != 0 {
		t.Errorf("a slice of %d bytes counts as %d", limit, c.size)
	}
}
