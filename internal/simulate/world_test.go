package simulate

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/evento-oss/evento/gateway/shard"
	"github.com/evento-oss/evento/internal/kafka"
	"github.com/evento-oss/evento/runtime"
)

const topicID = "id-of-commands"

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

// world is a whole installation: clients, gateways, Kafka, Redis, functions, and
// what goes wrong with them. All of it follows from its seed.
type world struct {
	clock
	seed   uint64
	bug    bug
	print  *strings.Builder // nil: the history is not kept
	faults faults

	partitions int
	aggregates int
	folds      bool // consecutive commands are computed in one call
	parks      bool // who has used up his attempts is parked
	cached     int  // aggregates without work that a shard keeps
	budget     int  // results in one transaction
	backlog    int  // commands of a partition, not set aside, from which its reading pauses
	wide       bool // very many aggregates, and most functions slow
	commands   int  // how many operations are begun
	length     time.Duration

	kafka       *cluster
	redis       *redis
	functions   *functions
	check       *check
	nodes       []*node // nil: not there
	dispatchers []*node

	processes int // ever started
	owners    int // assignments, ever
	reads     uint64
	commits   int
	saw       map[string]int // what happened, and how often
	ops       []*operation
	opOf      map[*runtime.Message]*operation
}

// faults say how often what goes wrong, per mille.
type faults struct {
	network, ends, replication, markers, functions, redis, poison, strays, checkpoints int
	disasters                                                                          time.Duration // between two of them, about; 0: none
}

func newWorld(seed uint64) *world {
	w := &world{seed: seed, opOf: map[*runtime.Message]*operation{}, saw: map[string]int{}}
	w.rng = rand.New(rand.NewPCG(seed, 11))
	few := func(list ...int) int { return list[w.rng.IntN(len(list))] }
	w.partitions = few(1, 1, 2, 3)
	w.aggregates = few(1, 2, 3, 6)
	w.folds, w.parks = w.chance(350), w.chance(500)
	w.cached, w.budget = few(1, 2, 10), few(3, 20, 2048)
	w.commands, w.backlog = few(30, 60, 90, 150), few(5, 1000, 1000)
	w.length = w.between(8*time.Second, 25*time.Second)
	// Each world has its own weather: what is rare together is common in some.
	w.faults = faults{
		network: few(0, 2, 10, 30, 80), ends: few(0, 0, 5, 30), replication: few(0, 100), markers: few(0, 20, 200), functions: few(0, 10, 50),
		redis: few(0, 50, 300), poison: few(0, 10, 40), strays: few(0, 0, 50), checkpoints: few(0, 50, 200),
		disasters: w.between(500*time.Millisecond, 6*time.Second),
	}
	if w.wide = seed%400 == 50; w.wide {
		w.widen()
	}
	w.kafka = newKafka(w, int32(w.partitions), !w.chance(250))
	w.redis, w.functions, w.check = newRedis(w), newFunctions(w), newCheck(w, int32(w.partitions))
	w.nodes = make([]*node, few(1, 2, 2, 3, 4))
	if dispatchers := few(0, 0, 1, 2); !w.wide {
		w.dispatchers = make([]*node, dispatchers)
	}
	return w
}

// widen makes a world in which so much is finished out of order that the metadata
// of a position would grow beyond what Kafka takes.
func (w *world) widen() {
	w.partitions, w.aggregates, w.commands, w.backlog = 1, 8000, 8000, 20_000
	w.folds, w.cached, w.budget, w.length = false, 10, 2048, 2500*time.Millisecond
	w.faults.network, w.faults.functions, w.faults.poison = 1, 10, 0
	w.faults.disasters, w.faults.ends, w.faults.markers = 20*time.Second, 0, 0
}

func (w *world) time() time.Time { return time.UnixMilli(1_700_000_000_000).Add(w.now) }

func (w *world) logf(format string, args ...any) {
	if w.print != nil {
		fmt.Fprintf(w.print, "%9.4f "+format+"\n", append([]any{w.now.Seconds()}, args...)...)
	}
}

func (w *world) partition(aggregate string) int32 {
	return kafka.Partition(aggregate, int32(w.partitions))
}

// odd says whether an aggregate has an aggregator that tells another state each time.
func (w *world) odd(id runtime.AggregateID) bool { return id == "acc:5" && w.seed%2 == 0 }

// anyNode is a gateway that a client reaches.
func (w *world) anyNode() *node {
	var list []*node
	for _, n := range w.nodes {
		if n != nil && !n.dead && !n.stopping {
			list = append(list, n)
		}
	}
	if len(list) == 0 {
		return nil
	}
	return list[w.rng.IntN(len(list))]
}

// lastOwner is the newest assignment of a partition that there is.
func (w *world) lastOwner(part int32) int {
	last := 0
	for _, n := range w.nodes {
		if n != nil && n.parts[part] != nil {
			last = max(last, n.parts[part].owner)
		}
	}
	return last
}

// disaster lets something happen, now and then.
func (w *world) disaster(p *proc) {
	for w.faults.disasters > 0 {
		p.sleep(w.between(0, 2*w.faults.disasters))
		if w.faults.disasters == 0 {
			return
		}
		i := w.rng.IntN(len(w.nodes) + len(w.dispatchers))
		list, start := w.nodes, w.start
		if i >= len(w.nodes) {
			i -= len(w.nodes)
			list, start = w.dispatchers, w.startDispatcher
		}
		n := list[i]
		heals := func(d time.Duration, what string, do func(bool)) {
			w.logf("%s for %v", what, d)
			do(true)
			w.after(d, nil, func() { do(false) })
		}
		switch k := w.rng.IntN(100); {
		case k < 25:
			if n == nil || n.dead {
				list[i] = start(i)
			} else {
				n.kill()
			}
		case k < 35:
			if n == nil || n.dead {
				list[i] = start(i)
			} else if !n.stopping {
				w.logf("gateway %d stops", n.id)
				n.stopping = true
			}
		case k < 50:
			if n != nil {
				n.freeze(w.between(100*time.Millisecond, 15*time.Second))
			}
		case k < 58:
			if n != nil && !n.split {
				heals(w.between(500*time.Millisecond, 12*time.Second), fmt.Sprintf("gateway %d does not reach Kafka", n.id), func(b bool) { n.split = b })
			}
		case k < 61:
			heals(w.between(200*time.Millisecond, 25*time.Second), "the coordinator of transactions is away", func(b bool) { w.kafka.coordinator = b })
		case k < 65:
			heals(w.between(200*time.Millisecond, 14*time.Second), "kafka is away", func(b bool) { w.kafka.away = b })
		case k < 70:
			l := w.kafka.logs[w.rng.IntN(int(topics))][w.rng.IntN(w.partitions)]
			heals(w.between(200*time.Millisecond, 6*time.Second), fmt.Sprintf("%s/%d has no leader", l.topic, l.part), func(b bool) { l.away = b })
		case k < 76:
			w.redis.flush()
		case k < 82:
			w.redis.rollBack(w.between(0, w.now))
		case k < 85:
			heals(w.between(0, 5*time.Second), "redis is away", func(b bool) { w.redis.away = b })
		case k < 90:
			heals(w.between(0, 5*time.Second), "the functions are away", func(b bool) { w.functions.away = b })
		case k < 94:
			w.kafka.logs[parked][w.rng.IntN(w.partitions)].compact()
			w.kafka.logs[heads][w.rng.IntN(w.partitions)].compact()
		case k < 97:
			for _, g := range []*group{w.kafka.group, w.kafka.dispatchers} {
				if g.state == groupEmpty && len(g.pending) == 0 {
					w.logf("committed positions have expired")
					clear(g.offsets)
				}
			}
		default:
			for _, pt := range w.partsOf(n) {
				pt.with(func(now time.Time, s *shard.Shard) { s.Forget(now, "acc") })
			}
		}
	}
}

func (w *world) partsOf(n *node) []*part {
	var list []*part
	if n != nil && !n.dead && !n.frozen {
		for _, pt := range n.parts {
			if pt != nil && pt.shard != nil {
				list = append(list, pt)
			}
		}
	}
	return list
}

// heldBy goes through what the processes hold that are not dead, whether they have
// taken it over or not.
func heldBy[T any](nodes []*node, of func(*node) []*T) iter.Seq[*T] {
	return func(yield func(*T) bool) {
		for _, n := range nodes {
			if n == nil || n.dead {
				continue
			}
			for _, one := range of(n) {
				if one != nil && !yield(one) {
					return
				}
			}
		}
	}
}

func (n *node) heldParts() []*part       { return n.parts }
func (n *node) heldTracks() []*trackPart { return n.tracks }

// heal ends all that goes wrong. What is late may arrive even so.
func (w *world) heal() {
	w.logf("everything is healed")
	w.faults = faults{}
	clear(w.functions.poison)
	w.kafka.coordinator = false
	w.kafka.away, w.redis.away, w.functions.away = false, false, false
	for t := range topics {
		for _, l := range w.kafka.logs[t] {
			l.away = false
		}
	}
	revive := func(list []*node, start func(int) *node) {
		alive := len(list) == 0
		for _, n := range list {
			if n != nil && !n.dead && !n.stopping {
				n.split = false
				alive = true
			}
		}
		if alive {
			return
		}
		if list[0] != nil {
			list[0].kill()
		}
		list[0] = start(0)
	}
	revive(w.nodes, w.start)
	revive(w.dispatchers, w.startDispatcher)
}

// liveness is how long everything may take once nothing goes wrong any more.
const liveness = 5 * time.Minute

// play runs the world and says which promise was broken. It always ends.
func (w *world) play() (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("at %v: panic: %v\n%s", w.now, p, trace())
		}
		for _, n := range slices.Concat(w.nodes, w.dispatchers) {
			if n != nil {
				n.kill()
			}
		}
	}()
	for i := range w.nodes {
		w.after(w.between(0, 2*time.Second), nil, func() {
			if w.nodes[i] == nil {
				w.nodes[i] = w.start(i)
			}
		})
	}
	for i := range w.dispatchers {
		w.after(w.between(0, 2*time.Second), nil, func() {
			if w.dispatchers[i] == nil {
				w.dispatchers[i] = w.startDispatcher(i)
			}
		})
	}
	for range w.commands {
		w.after(w.between(0, w.length), nil, w.send)
	}
	for range w.rng.IntN(120) {
		w.after(w.between(0, w.length+10*time.Second), nil, w.read)
	}
	w.spawn(nil, w.disaster)
	wrong := func() bool { return w.check.wrong != nil }
	w.run(w.length, wrong)
	w.after(0, nil, w.heal)
	healed := w.now
	for !wrong() && w.now < healed+liveness {
		w.run(w.now+500*time.Millisecond, wrong)
		if !wrong() && w.check.quiet() {
			break
		}
	}
	if !wrong() && !w.check.quiet() {
		w.check.fail("not all has ended %v after everything was healed: %s", liveness, w.unfinished())
	}
	if !wrong() {
		w.successor()
	}
	if !wrong() {
		w.check.end()
	}
	w.mix(uint64(w.commits))
	return w.check.wrong
}

// successor has a new process take everything over: it must find what there is.
func (w *world) successor() {
	var ends []int64
	for _, l := range w.kafka.logs[commands] {
		ends = append(ends, l.end())
	}
	before := w.listed(ends)
	for i, n := range w.nodes {
		if n != nil {
			n.kill()
		}
		w.nodes[i] = nil
	}
	for i, n := range w.dispatchers {
		if n != nil {
			n.kill()
		}
		w.dispatchers[i] = nil
	}
	w.nodes[0] = w.start(0)
	if len(w.dispatchers) > 0 {
		w.dispatchers[0] = w.startDispatcher(0)
	}
	until := w.now + time.Minute
	for w.check.wrong == nil && w.now < until {
		w.run(w.now+500*time.Millisecond, func() bool { return w.check.wrong != nil })
		if w.check.quiet() {
			break
		}
	}
	if w.check.wrong == nil && !w.check.quiet() {
		w.check.fail("the next owner finds no rest: %s", w.unfinished())
	}
	// What a dispatcher decided to nothing is not recorded, and may be decided again.
	if after := w.listed(ends); before != after {
		w.check.fail("the next owner lists\n%sthe last one listed\n%s", after, before)
	}
}

// unfinished says what is left, for people.
func (w *world) unfinished() string {
	text := ""
	for _, op := range w.ops {
		if !op.answered {
			text += " " + op.m.ID + " to " + string(op.m.Subject)
		}
	}
	for pt := range heldBy(w.nodes, (*node).heldParts) {
		if pt.shard == nil {
			text += fmt.Sprintf("; partition %d is not taken over", pt.held.part)
			continue
		}
		r, other := pt.shard.Ready()
		text += fmt.Sprintf("; partition %d: %+v, %d ready, other %v, open %v, next %d of %d", pt.held.part, pt.shard.Backlog(), r, other, pt.open, pt.shard.Next(), w.kafka.logs[commands][pt.held.part].end())
	}
	for tp := range heldBy(w.dispatchers, (*node).heldTracks) {
		if tp.track == nil {
			text += fmt.Sprintf("; dispatcher of partition %d: not taken over", tp.held.part)
			continue
		}
		text += fmt.Sprintf("; dispatcher of partition %d: backlog %d, pending %v, open %v, next %d of %d, relayed %d of %d, live %v", tp.held.part,
			tp.track.Backlog(), tp.track.Pending(), tp.open, tp.track.Next(), tp.log(events).end(), tp.relayed, tp.log(dispatched).end(), tp.track.Live())
	}
	for _, t := range []topic{events, parked, heads, dispatched} {
		for _, l := range w.kafka.logs[t] {
			if l.stable() < l.end() {
				text += fmt.Sprintf("; %s/%d is stable to %d of %d", l.topic, l.part, l.stable(), l.end())
			}
		}
	}
	if len(w.kafka.group.pending) > 0 {
		text += "; offsets are pending"
	}
	return text
}

func (w *world) count(what string, n int) {
	if n > 0 {
		w.saw[what] += n
	}
}
