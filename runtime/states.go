package runtime

import (
	"container/list"
	"crypto/sha256"
	"sync"
)

// StateHash names a state by its bytes, in the function's schema.
//
// A wrong state under a right name would become wrong events that stay for ever,
// and what is in a state is often chosen by whoever sends commands. So the hash
// is one for which nobody can find two texts of one name, and whole: in a call
// that saves kilobytes, 32 bytes are nothing.
type StateHash [sha256.Size]byte

// HashState returns the name of a state's bytes.
func HashState(state []byte) StateHash { return sha256.Sum256(state) }

// MinKeptState is the size in bytes from which on functions keep states. To ask
// for a smaller one by its hash is in vain.
const MinKeptState = 4 << 10

// keptOverhead is about what a kept state takes beside its bytes.
const keptOverhead = 256

// stateCache keeps the last state of each aggregate that was seen, those asked
// for longest ago leaving first. One for each aggregate, because its calls come
// one after the other: when the caller goes back to an older state, since a
// commit failed, it has to send that once more.
//
// The bytes are shared with who put and who gets them: nobody changes them.
type stateCache struct {
	limit int64 // bytes

	mu     sync.Mutex
	size   int64                         // guarded by mu; bytes of all that is kept
	states map[AggregateID]*list.Element // guarded by mu; of *keptState
	order  list.List                     // guarded by mu; the last used first
}

type keptState struct {
	aggregate AggregateID
	version   uint64
	schema    DataSchema
	data      []byte
	hash      func() StateHash // reckoned when somebody asks
}

// bytes is what it takes of the memory, with what its slice has in reserve.
func (k *keptState) bytes() int64 { return int64(cap(k.data)+len(k.aggregate)) + keptOverhead }

func newStateCache(limit int64) *stateCache {
	return &stateCache{limit: limit, states: make(map[AggregateID]*list.Element)}
}

// put keeps a state in place of the aggregate's former one.
func (c *stateCache) put(a AggregateID, version uint64, schema DataSchema, data []byte) {
	k := &keptState{aggregate: a, version: version, schema: schema, data: data}
	k.hash = sync.OnceValue(func() StateHash { return HashState(data) })
	c.mu.Lock()
	defer c.mu.Unlock()
	if former := c.states[a]; former != nil {
		c.drop(former)
	}
	if len(data) < MinKeptState || k.bytes() > c.limit {
		return
	}
	for c.size+k.bytes() > c.limit {
		c.drop(c.order.Back())
	}
	c.states[a] = c.order.PushFront(k)
	c.size += k.bytes()
}

// drop is called with mu held.
func (c *stateCache) drop(e *list.Element) {
	k := c.order.Remove(e).(*keptState)
	delete(c.states, k.aggregate)
	c.size -= k.bytes()
}

// get returns the state of this name, if it is kept.
func (c *stateCache) get(a AggregateID, version uint64, schema DataSchema, hash StateHash) ([]byte, bool) {
	c.mu.Lock()
	e := c.states[a]
	if e == nil {
		c.mu.Unlock()
		return nil, false
	}
	c.order.MoveToFront(e)
	k := e.Value.(*keptState)
	c.mu.Unlock()
	// Not under the lock: hashing takes milliseconds for a state of megabytes.
	if k.version != version || k.schema != schema || k.hash() != hash {
		return nil, false
	}
	return k.data, true
}
