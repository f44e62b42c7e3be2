package gateway

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/evento-oss/evento/gateway/shard"
	"github.com/evento-oss/evento/internal/avro"
	"github.com/evento-oss/evento/internal/crash"
	"github.com/evento-oss/evento/internal/kafka"
	"github.com/evento-oss/evento/runtime"
)

// EngineConfig is what the engine is made of. All fields are required.
type EngineConfig struct {
	Installation string
	Topics       kafka.Topics
	Partitions   int32
	CommandsID   string                    // topic id of the commands topic
	EventsID     func(topic string) string // topic id of an events topic

	Group     kafka.GroupConfig // callbacks are the engine's
	Transacts kafka.TransactorConfig
	Takeover  *kafka.Takeover
	Producer  *kafka.Producer
	Reader    *kafka.Reader
	History   *kafka.History
	Catalogue *avro.Catalogue
	Schemas   EngineSchemas
	Functions *Functions
	Snapshots *Snapshots
	Saves     *SnapshotWriter
	Poster    *OutcomePoster
	Metrics   *EngineMetrics
	Log       *slog.Logger

	// Commands without outcome are in memory. Those that are set aside (their
	// aggregate fails or waits) never pause the reading of a partition: the others
	// have to go on. See docs/decisions/0009.
	MaxWaiting      int   // of one aggregate before intake answers 429; 10,000 when zero
	MaxBacklog      int   // of one partition, not set aside, before its reading pauses; 20,000 when zero
	MaxBacklogBytes int64 // the same in bytes; 64 MiB when zero
	MaxAside        int   // set aside in all partitions, before intake answers 429 to whoever has some; 200,000 when zero
	MaxAsideBytes   int64 // the same in bytes; 512 MiB when zero
}

// EngineSchemas tells how far the catalogue is behind the schemas topic.
type EngineSchemas interface {
	// CatchUp waits until all that stands in the schemas topic now has been read.
	CatchUp(context.Context) error
	// Beyond says whether something is registered for an aggregate type that this
	// gateway cannot use.
	Beyond(aggregate string) bool
}

// Engine is the I/O around the shards: it owns partitions, feeds their state
// machines, carries out what they ask for, and commits what they have ready.
//
// Goroutines, all begun by [Engine.Run] and ended before it returns: poll (reads
// commands), tick (lets time pass), commit (one transaction at a time), one per
// takeover, and one per call that leaves the process.
type Engine struct {
	cfg    EngineConfig
	group  *kafka.Group
	commit *kafka.Transactor
	// commitTxn is commit.Commit; a test has it tell what Kafka promises never to happen.
	commitTxn func(context.Context, kafka.Txn) kafka.Result

	mu    sync.RWMutex         // guards parts; never held while a partition's mu is awaited
	parts map[int32]*partition // held partitions

	ctx      context.Context // of all work; ends when the engine stops
	cancel   context.CancelCauseFunc
	work     sync.WaitGroup
	wake     chan struct{} // something is ready to be committed
	tokens   atomic.Uint64
	soloTurn bool   // of the commit loop alone: see gather
	process  string // random; begins the identities of this process's records
	owners   *ownerTable
	proven   provenHeads
	refolds  refolds
	full     atomic.Bool  // too much is set aside
	joined   atomic.Bool  // all partitions have had an owner
	lastSeen atomic.Int64 // when Kafka last answered, Unix nanoseconds
}

// partition is a held partition. Its shard is nil until it is taken over.
type partition struct {
	held   kafka.Held
	ctx    context.Context // ends when the partition is given up
	cancel context.CancelCauseFunc
	ready  chan struct{} // closed when it is taken over

	mu        sync.Mutex // guards what follows
	shard     *shard.Shard
	closing   bool // no further batch is taken
	open      bool // a batch is in a transaction
	idle      *sync.Cond
	solo      bool           // its next batch goes alone: the last one aborted
	soloPause time.Duration  // how long it sat out the last time
	soloNext  time.Time      // when it may go again
	paused    bool           // its fetching
	waits     bool           // a record cannot be understood yet; feedBehind feeds it and what follows
	behind    []kafka.Record // what follows, as far as it was fetched
	strays    chan struct{}  // news for the goroutine that forwards; nil while there is none
	readers   map[uint64]chan shard.Reply
	last      map[string]lastRecord // by events topic: the last record there is
}

var (
	errEngineStopped = errors.New("the gateway is stopping")
	errPartitionGone = errors.New("the partition went to another gateway")
)

// NewEngine makes an engine; it opens nothing.
func NewEngine(c EngineConfig) (*Engine, error) {
	def(&c.MaxWaiting, 10_000)
	def(&c.MaxBacklog, 20_000)
	def(&c.MaxBacklogBytes, 64<<20)
	def(&c.MaxAside, 200_000)
	def(&c.MaxAsideBytes, 512<<20)
	e := &Engine{cfg: c, parts: map[int32]*partition{}, wake: make(chan struct{}, 1), refolds: refolds{every: refoldEvery}}
	g := c.Group
	g.OnAssigned, g.OnRevoked, g.OnLost = e.assigned, e.revoked, e.lost
	group, err := kafka.NewGroup(g)
	if err != nil {
		return nil, err
	}
	e.group = group
	t := c.Transacts
	t.Group = group
	if e.commit, err = kafka.NewTransactor(t); err != nil {
		return nil, err
	}
	e.ctx, e.cancel = context.WithCancelCause(context.Background())
	e.commitTxn = e.commit.Commit
	e.owners = &ownerTable{ask: group.Owners, ctx: e.ctx, run: e.work.Go}
	e.process = rand.Text() + "-"
	return e, nil
}

// Run joins the group and works until ctx ends. Then it stops in this order:
// give up the partitions (each with a last checkpoint), leave the group, end
// what is still under way.
func (e *Engine) Run(ctx context.Context) error {
	if err := e.commit.Warm(ctx); err != nil {
		return fmt.Errorf("transactional producers: %w", err)
	}
	if err := e.group.Join(); err != nil {
		return err
	}
	polled := make(chan error, 1)
	e.work.Go(func() { polled <- e.poll() })
	e.work.Go(e.tick)
	e.work.Go(e.commitLoop)
	e.work.Go(e.watchKafka)

	var err error
	select {
	case <-ctx.Done():
	case err = <-polled:
	}
	leave, done := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer done()
	err = errors.Join(err, e.group.Close(leave))
	e.cancel(errEngineStopped)
	err = errors.Join(err, e.commit.Close(leave))
	e.work.Wait()
	return err
}

// assigned begins the takeover of a partition.
func (e *Engine) assigned(h kafka.Held) {
	p := &partition{held: h, ready: make(chan struct{}), readers: map[uint64]chan shard.Reply{}}
	p.idle = sync.NewCond(&p.mu)
	p.ctx, p.cancel = context.WithCancelCause(e.ctx)
	e.mu.Lock()
	e.parts[h.Partition] = p
	e.mu.Unlock()
	e.cfg.Metrics.partitions.Inc()
	e.work.Go(func() { e.takeOver(p) })
}

// revoked gives partitions up: no further batch, the open one ends, the heads
// and a clean position are written, and all that is under way is dropped.
func (e *Engine) revoked(ctx context.Context, held []kafka.Held) {
	crash.At(crash.RevokeBegin)
	var gone []*partition
	for _, h := range held {
		if p := e.drop(h); p != nil {
			gone = append(gone, p)
		}
	}
	var closing sync.WaitGroup
	for _, p := range gone {
		closing.Go(func() { p.close(ctx) })
	}
	closing.Wait()
	e.writeHeads(ctx, gone, true)
	for _, p := range gone {
		p.leave(errPartitionGone)
	}
	crash.At(crash.RevokeDone)
}

// lost forgets partitions that are somebody else's already.
func (e *Engine) lost(held []kafka.Held) {
	for _, h := range held {
		if p := e.drop(h); p != nil {
			p.leave(errPartitionGone)
		}
	}
}

// drop takes a partition out of the table.
func (e *Engine) drop(h kafka.Held) *partition {
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.parts[h.Partition]
	if p == nil || p.held != h {
		return nil
	}
	delete(e.parts, h.Partition)
	e.cfg.Metrics.partitions.Dec()
	return p
}

// close waits until no batch of the partition is open and lets no other begin.
func (p *partition) close(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.idle.Broadcast()
	})
	defer stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closing = true
	for p.open && ctx.Err() == nil {
		p.idle.Wait()
	}
}

// leave ends everything that is under way for the partition.
func (p *partition) leave(why error) {
	p.cancel(why)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closing = true
	p.shard, p.behind = nil, nil
	for token, reply := range p.readers {
		delete(p.readers, token)
		close(reply)
	}
}

// list returns the held partitions.
func (e *Engine) list() []*partition {
	e.mu.RLock()
	defer e.mu.RUnlock()
	list := make([]*partition, 0, len(e.parts))
	for _, p := range e.parts {
		list = append(list, p)
	}
	return list
}

func (e *Engine) part(id runtime.AggregateID) *partition {
	return e.partNumber(kafka.Partition(string(id), e.cfg.Partitions))
}

func (e *Engine) partNumber(n int32) *partition {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.parts[n]
}

// with calls do with the partition's shard, if it still has one, and carries
// out what came of it.
func (e *Engine) with(p *partition, do func(now time.Time, s *shard.Shard)) bool {
	p.mu.Lock()
	s := p.shard
	if s == nil {
		p.mu.Unlock()
		return false
	}
	do(time.Now(), s)
	outputs := s.Outputs()
	results, other := s.Ready()
	p.mu.Unlock()
	if results > 0 || other {
		e.rouse()
	}
	e.carryOut(p, outputs)
	return true
}

// rouse wakes the commit loop.
func (e *Engine) rouse() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// tick lets time pass for every shard.
func (e *Engine) tick() {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-e.ctx.Done():
			return
		case <-ticker.C:
		}
		var all shard.Backlog
		paused := 0
		for _, p := range e.list() {
			e.with(p, func(now time.Time, s *shard.Shard) {
				s.Tick(now)
				e.pressure(p)
				all.Add(s.Backlog())
				if p.paused {
					paused++
				}
			})
		}
		e.weigh(all, paused)
	}
}

// weigh notes what is in memory, and whether too much of it is set aside.
func (e *Engine) weigh(all shard.Backlog, paused int) {
	full := all.Aside > e.cfg.MaxAside || all.AsideBytes > e.cfg.MaxAsideBytes
	if was := e.full.Swap(full); full && !was {
		e.cfg.Log.Error("too many commands are set aside; whoever has commands set aside takes no more until they get fewer: see /v1/parked for why they wait",
			"commands", all.Aside, "bytes", all.AsideBytes, "most_commands", e.cfg.MaxAside, "most_bytes", e.cfg.MaxAsideBytes)
	} else if was && !full {
		e.cfg.Log.Info("no longer too many commands are set aside", "commands", all.Aside, "bytes", all.AsideBytes)
	}
	e.cfg.Metrics.backlog(all, paused, full)
}

// pressure pauses the reading of a partition that has too much in memory, or
// that waits at a record. It is called with the partition's lock held.
func (e *Engine) pressure(p *partition) {
	if p.shard == nil {
		return
	}
	b := p.shard.Backlog()
	n, size := b.Commands-b.Aside, b.Bytes-b.AsideBytes
	full := p.waits || n > e.cfg.MaxBacklog || size > e.cfg.MaxBacklogBytes ||
		p.paused && (n >= e.cfg.MaxBacklog/2 || size >= e.cfg.MaxBacklogBytes/2)
	if full == p.paused {
		return
	}
	p.paused = full
	do := e.group.Resume
	if full {
		do = e.group.Pause
	}
	if err := do(p.held); err != nil && !errors.Is(err, kafka.ErrStaleTerm) {
		e.cfg.Log.Warn("could not pause or resume a partition", "partition", p.held.Partition, "err", err)
	}
}

// Forget drops the states of an aggregate type that are in memory: its
// aggregator folds otherwise from now on.
func (e *Engine) Forget(aggregate string) {
	view, ok := e.cfg.Catalogue.Aggregate(aggregate)
	if !ok {
		return
	}
	for _, p := range e.list() {
		e.with(p, func(now time.Time, s *shard.Shard) { s.Forget(now, view.Prefix) })
	}
}

// Available has those asked soon who wait because a function did not answer.
func (e *Engine) Available(function string) {
	for _, p := range e.list() {
		e.with(p, func(now time.Time, s *shard.Shard) { s.Available(now, function) })
	}
}

// AwaitReady waits until this gateway owns partitions and has taken them all
// over, or is a member that owns none because others own all. It returns false
// when ctx ends before.
func (e *Engine) AwaitReady(ctx context.Context) bool {
	for {
		owners, err := e.group.Owners(ctx)
		if err == nil && int32(len(owners)) == e.cfg.Partitions && e.knowsOwn(owners) {
			e.joined.Store(true)
			e.lastSeen.Store(time.Now().UnixNano())
			if e.Ready(ctx)["partitions"] == nil {
				return true
			}
		}
		if !sleep(ctx, 20*time.Millisecond) {
			return false
		}
	}
}

// knowsOwn says whether all partitions that the group says are ours have come to
// us: the group knows of an assignment before its members do.
func (e *Engine) knowsOwn(owners map[int32]string) bool {
	for n, address := range owners {
		if address == e.cfg.Group.Address && e.partNumber(n) == nil {
			return false
		}
	}
	return true
}
