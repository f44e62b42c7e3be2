package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/evento-oss/evento/gateway/shard"
	"github.com/evento-oss/evento/internal/avro"
	"github.com/evento-oss/evento/internal/crash"
	"github.com/evento-oss/evento/internal/kafka"
	"github.com/evento-oss/evento/internal/position"
	"github.com/evento-oss/evento/runtime"
)

// takeoverStall is how long a read of a takeover may stand still before the
// takeover begins again, with the transactions that are open then.
const takeoverStall = 10 * time.Second

// takeOver finds out where the last owner of a partition stopped, and starts
// its shard there. It tries until it succeeds or the partition is gone.
func (e *Engine) takeOver(p *partition) {
	began := time.Now()
	for attempt := 1; ; attempt++ {
		t := &takeover{e: e, p: p}
		err := t.run(p.ctx)
		if err == nil {
			e.cfg.Metrics.takeovers.Observe(time.Since(began).Seconds())
			e.cfg.Log.Info("partition taken over", "partition", p.held.Partition, "offset", t.position.Offset, "finished_above", len(t.position.Done),
				"set_aside", len(t.asides), "aggregates", t.aggregates, "events_read", t.events, "clean", t.position.Clean, "seconds", time.Since(began).Seconds())
			return
		}
		if p.ctx.Err() != nil || errors.Is(err, kafka.ErrStaleTerm) {
			return
		}
		e.cfg.Log.Warn("takeover failed; trying again", "partition", p.held.Partition, "attempt", attempt, "err", err)
		if !sleep(p.ctx, min(time.Duration(attempt)*200*time.Millisecond, 5*time.Second)) {
			return
		}
	}
}

// takeover is one try. The order of its steps is what makes it right: nothing
// may be read before the transactions below it have ended, the position before
// the end of the log, and the events up to an end that is taken after it.
type takeover struct {
	e *Engine
	p *partition

	position position.Position
	missing  bool // no usable position was committed
	asides   []shard.Aside
	asideEnd int64
	heads    map[runtime.AggregateID]shard.Head
	unsaved  map[runtime.AggregateID]struct{} // whose head in the heads topic is not, or may not be, the one in heads
	last     map[string]lastRecord
	torn     map[runtime.AggregateID]string
	events   int

	aggregates int // how many heads there are: the map is the shard's in the end
}

func (t *takeover) run(ctx context.Context) error {
	crash.At(crash.TakeoverBegin)
	// 0. Every aggregate there is: its events may have a topic of their own.
	if err := t.e.cfg.Schemas.CatchUp(ctx); err != nil {
		return err
	}
	crash.At(crash.TakeoverSchemas)
	topics := t.eventTopics()
	for _, topic := range topics {
		t.e.cfg.EventsID(topic) // remembered from here on
	}
	// 1. End what dead writers left open.
	for _, topic := range append([]string{t.e.cfg.Topics.Heads(), t.e.cfg.Topics.Parked()}, topics...) {
		if err := t.endWriters(ctx, topic); err != nil {
			return fmt.Errorf("open transactions of %s: %w", topic, err)
		}
	}
	crash.At(crash.TakeoverSettled)
	// 2. The committed position.
	if err := t.readPosition(ctx); err != nil {
		return fmt.Errorf("committed position: %w", err)
	}
	crash.At(crash.TakeoverPosition)
	// 3. Set-aside records and heads.
	if err := t.readAsides(ctx); err != nil {
		return fmt.Errorf("set-aside records: %w", err)
	}
	crash.At(crash.TakeoverAsides)
	if err := t.readHeads(ctx); err != nil {
		return fmt.Errorf("heads: %w", err)
	}
	crash.At(crash.TakeoverHeads)
	// 4. and 5. The events from the checkpoint to an end that is taken only now.
	for _, topic := range topics {
		if err := t.readEvents(ctx, topic); err != nil {
			return fmt.Errorf("events: %w", err)
		}
	}
	crash.At(crash.TakeoverEvents)
	return t.start(ctx)
}

// eventTopics returns the topics that hold events of this partition.
func (t *takeover) eventTopics() []string {
	var topics []string
	for _, name := range t.e.cfg.Catalogue.Aggregates() {
		topic := t.e.cfg.Topics.Events(name)
		if !slices.Contains(topics, topic) {
			topics = append(topics, topic)
		}
	}
	slices.Sort(topics)
	return topics
}

func (t *takeover) endWriters(ctx context.Context, topic string) error {
	writers, err := t.e.cfg.Takeover.OpenWriters(ctx, topic, t.p.held.Partition)
	if err != nil {
		return err
	}
	for _, w := range writers {
		t.e.cfg.Log.Info("ending the open transaction of another writer", "partition", t.p.held.Partition, "topic", topic, "writer", w)
		crash.At(crash.TakeoverEndWriter)
		if err := t.e.cfg.Takeover.EndWriter(ctx, w); err != nil {
			return err
		}
		crash.At(crash.TakeoverWriterEnded)
	}
	return nil
}

func (t *takeover) readPosition(ctx context.Context) error {
	n := t.p.held.Partition
	positions, err := t.e.cfg.Takeover.StableOffsets(ctx, []int32{n})
	if err != nil {
		return err
	}
	ends, err := t.e.cfg.Takeover.Watermarks(ctx, t.e.cfg.Topics.Commands(), n)
	if err != nil {
		return err
	}
	if c := positions[n]; c.Found {
		p, err := position.Parse(c.Offset, c.Metadata, t.e.cfg.CommandsID)
		switch {
		case err != nil:
			t.e.cfg.Log.Warn("the committed position cannot be used; it is rebuilt from the events", "partition", n, "offset", c.Offset, "err", err)
		case p.Offset < ends.Low || p.Offset > ends.High:
			t.e.cfg.Log.Warn("the committed position is outside of the log; it is rebuilt from the events", "partition", n, "offset", c.Offset, "low", ends.Low, "high", ends.High)
		default:
			t.position = p
			return nil
		}
	}
	t.missing = true
	t.position = position.Position{Offset: ends.Low}
	return nil
}

// readAsides reads the live set-aside records and their commands.
func (t *takeover) readAsides(ctx context.Context) error {
	n, topic := t.p.held.Partition, t.e.cfg.Topics.Parked()
	ends, err := t.e.cfg.Takeover.Watermarks(ctx, topic, n)
	if err != nil {
		return err
	}
	t.asideEnd = ends.High
	live := map[int64]shard.Aside{}
	// Compaction may have removed what stood at the position's offset.
	from := max(ends.Low, min(t.position.Aside, ends.High))
	err = t.e.cfg.Takeover.Scan(ctx, topic, n, from, ends.High, takeoverStall, func(r kafka.Record) error {
		offset, err := strconv.ParseInt(string(r.Key), 10, 64)
		if err != nil {
			t.e.cfg.Metrics.unreadable.Inc()
			t.e.cfg.Log.Error("record of the parked topic is none of evento's; it is left out", "partition", n, "offset", r.Offset, "key", string(r.Key))
			return nil
		}
		if r.Value == nil {
			delete(live, offset)
			return nil
		}
		a, err := shard.ParseAside(r.Value)
		if err != nil {
			// The key alone says which command waits; how often it was tried is lost.
			t.e.cfg.Log.Error("set-aside record cannot be read; its command is tried as a new one", "partition", n, "offset", r.Offset, "command", offset, "err", err)
			a = shard.Aside{}
		}
		a.Offset, a.RecordAt = offset, r.Offset
		live[offset] = a
		return nil
	})
	if err != nil {
		return err
	}
	for _, a := range live {
		t.asides = append(t.asides, a)
	}
	slices.SortFunc(t.asides, func(a, b shard.Aside) int { return int(min(1, max(-1, a.Offset-b.Offset))) })
	return t.readCommands(ctx)
}

// readCommands reads the commands of the set-aside records.
func (t *takeover) readCommands(ctx context.Context) error {
	var offsets []int64
	for i := range t.asides {
		if !t.asides[i].Parked() { // which has its outcome and says all that is listed
			offsets = append(offsets, t.asides[i].Offset)
		}
	}
	if len(offsets) == 0 {
		return nil
	}
	records, err := t.e.cfg.Reader.Points(ctx, t.e.cfg.Topics.Commands(), t.p.held.Partition, offsets)
	if err != nil {
		return err
	}
	commands := make(map[int64]*shard.Command, len(records))
	for i := range records {
		c, err := t.e.command(&records[i])
		if err != nil {
			t.e.cfg.Log.Error("set-aside command cannot be read", "partition", t.p.held.Partition, "offset", records[i].Offset, "err", err)
			continue
		}
		commands[c.Offset] = c
	}
	for i := range t.asides {
		a := &t.asides[i]
		if a.Parked() {
			continue
		}
		if a.Command = commands[a.Offset]; a.Command == nil {
			t.e.cfg.Metrics.unreadable.Inc()
			t.e.cfg.Log.Error("set-aside command is not there, or cannot be read; its record is kept", "partition", t.p.held.Partition, "offset", a.Offset)
			continue
		}
		a.Stray = t.e.misplaced(a.Command, t.p.held.Partition)
	}
	return nil
}

// readHeads reads the last checkpoint, and leaves nothing of it when it does
// not fit the log.
func (t *takeover) readHeads(ctx context.Context) error {
	t.forgetHeads()
	n, topic := t.p.held.Partition, t.e.cfg.Topics.Heads()
	ends, err := t.e.cfg.Takeover.Watermarks(ctx, topic, n)
	if err != nil {
		return err
	}
	var checkpoint checkpointValue
	var unusable error
	known := map[runtime.AggregateID]struct{}{} // whoever has a record there, of whatever value
	err = t.e.cfg.Takeover.Scan(ctx, topic, n, ends.Low, ends.High, takeoverStall, func(r kafka.Record) error {
		if string(r.Key) == checkpointKey {
			checkpoint = checkpointValue{}
			if err := json.Unmarshal(r.Value, &checkpoint); err != nil {
				unusable = fmt.Errorf("offset %d of %s: %w", r.Offset, topic, err)
			}
			return nil
		}
		id := runtime.AggregateID(r.Key)
		known[id] = struct{}{}
		if r.Value == nil {
			delete(t.heads, id)
			delete(t.torn, id)
			return nil
		}
		h, broken, err := parseHead(r.Value)
		if err != nil {
			unusable = fmt.Errorf("offset %d of %s: %w", r.Offset, topic, err)
			return nil
		}
		if h.Exists() {
			t.heads[id] = h
		}
		if delete(t.torn, id); broken != "" {
			t.torn[id] = broken
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err = unusable; err == nil {
		err = t.checkCheckpoint(ctx, checkpoint)
	}
	if ctx.Err() != nil {
		return err
	}
	if t.missing {
		// The events are read from their beginning, for the position.
		t.forgetHeads()
		t.unsaved = known
		return nil
	}
	if err != nil {
		t.e.cfg.Log.Warn("the checkpoint of the heads cannot be used; they are rebuilt from all events", "partition", n, "err", err)
		t.forgetHeads()
		t.unsaved = known // the next checkpoint makes all of them right
		return nil
	}
	if checkpoint.Events != nil {
		t.last = checkpoint.Events
	}
	return nil
}

func (t *takeover) forgetHeads() {
	t.heads, t.last, t.torn = map[runtime.AggregateID]shard.Head{}, map[string]lastRecord{}, map[runtime.AggregateID]string{}
	t.unsaved = map[runtime.AggregateID]struct{}{}
}

// checkCheckpoint holds a checkpoint against the log: the same topic, and the
// same record at its offset.
func (t *takeover) checkCheckpoint(ctx context.Context, c checkpointValue) error {
	if len(t.heads) > 0 && len(c.Events) == 0 {
		return errors.New("there are heads, but no checkpoint")
	}
	for topic, last := range c.Events {
		if id := t.e.cfg.EventsID(topic); id != last.TopicID {
			return fmt.Errorf("it is of another topic %s: %q, not %q", topic, last.TopicID, id)
		}
		ends, err := t.e.cfg.Takeover.Watermarks(ctx, topic, t.p.held.Partition)
		if err != nil {
			return err
		}
		if last.Offset >= ends.High {
			return fmt.Errorf("its offset %d of %s is beyond the log's end %d", last.Offset, topic, ends.High)
		}
		found := ""
		err = t.e.cfg.Takeover.Scan(ctx, topic, t.p.held.Partition, last.Offset, last.Offset+1, takeoverStall, func(r kafka.Record) error {
			found = string(r.Header(kafka.HeaderName("id")))
			return nil
		})
		if err != nil {
			return err
		}
		if found != last.Event {
			return fmt.Errorf("at offset %d of %s stands %q, not %q", last.Offset, topic, found, last.Event)
		}
	}
	return nil
}

// readEvents reads the headers of the events from the checkpoint on.
func (t *takeover) readEvents(ctx context.Context, topic string) error {
	n := t.p.held.Partition
	ends, err := t.e.cfg.Takeover.Watermarks(ctx, topic, n)
	if err != nil {
		return err
	}
	scan := newHeadScan(t)
	if t.missing {
		scan.causes = func(c runtime.Coordinates) {
			if c.Topic == t.e.cfg.Topics.Commands() && c.Partition == n && c.Offset >= t.position.Offset {
				t.position.Done = append(t.position.Done, c.Offset)
			}
		}
	}
	from := ends.Low
	if last, ok := t.last[topic]; ok {
		from = last.Offset + 1
	}
	err = t.e.cfg.Takeover.Scan(ctx, topic, n, from, ends.High, takeoverStall, func(r kafka.Record) error {
		t.events++
		if err := scan.add(&r); err != nil {
			t.e.cfg.Metrics.unreadable.Inc()
			t.e.cfg.Log.Error("record of an events topic is no event of evento; it is left out", "topic", topic, "partition", n, "offset", r.Offset, "err", err)
		}
		return nil
	})
	scan.end()
	return err
}

// start makes the shard and begins to read its commands.
func (t *takeover) start(ctx context.Context) error {
	e, p := t.e, t.p
	r := shard.Restored{Position: t.position, Asides: t.asides, AsideEnd: t.asideEnd, Heads: t.heads, Unsaved: t.unsaved, Broken: t.torn, Since: t.events}
	if t.missing {
		slices.Sort(r.Position.Done)
		r.Position.Done = slices.Compact(r.Position.Done)
	}
	if !t.position.Clean {
		ends, err := e.cfg.Takeover.Watermarks(ctx, e.cfg.Topics.Commands(), p.held.Partition)
		if err != nil {
			return err
		}
		r.SuspectBelow = ends.High
	}
	t.aggregates = len(t.heads)
	s := shard.New(time.Now(), shard.Config{
		Partition: p.held.Partition, Commands: e.cfg.Topics.Commands(), CommandsID: e.cfg.CommandsID,
		Installation: e.cfg.Installation, Platform: encodePlatform, Failure: e.failure, Foldable: e.cfg.Functions.Foldable,
		Comparable: avro.ComparableHashes, Seed: uint64(p.held.Term),
	}, r)
	p.mu.Lock()
	if p.closing {
		p.mu.Unlock()
		return errPartitionGone
	}
	p.shard, p.last = s, t.last
	p.mu.Unlock()
	e.with(p, func(time.Time, *shard.Shard) {})
	crash.At(crash.TakeoverShard)
	if err := e.group.Start(p.held, s.Next()); err != nil {
		return err
	}
	crash.At(crash.TakeoverDone)
	close(p.ready)
	if slices.ContainsFunc(t.asides, func(a shard.Aside) bool { return a.Stray }) {
		e.forwardStrays(p)
	}
	return nil
}
