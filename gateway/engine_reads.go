package gateway

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/evento-oss/evento/gateway/shard"
	"github.com/evento-oss/evento/internal/crash"
	"github.com/evento-oss/evento/internal/kafka"
	"github.com/evento-oss/evento/runtime"
)

// Append implements [Appender].
func (e *Engine) Append(ctx context.Context, m *runtime.Message) (runtime.Coordinates, error) {
	id := m.Aggregate()
	if p := e.part(id); p != nil && !m.Platform() {
		limits := e.limits()
		p.mu.Lock()
		refuse := p.shard != nil && p.shard.TakesNoMore(id, limits)
		p.mu.Unlock()
		if refuse {
			return runtime.Coordinates{}, fmt.Errorf("%w: %s", ErrTooManyWaiting, id)
		}
	}
	r := e.commandRecord(m)
	crash.At(crash.IntakeAppend)
	offset, err := e.cfg.Producer.Produce(ctx, r)
	switch {
	case err == nil:
		crash.At(crash.IntakeAcked)
		return runtime.Coordinates{Topic: r.Topic, Partition: r.Partition, Offset: offset}, nil
	case errors.Is(err, kafka.ErrNotWritten):
		return runtime.Coordinates{}, fmt.Errorf("%w: %w", ErrKafkaAway, err)
	default:
		return runtime.Coordinates{}, fmt.Errorf("%w: %w", ErrUncertain, err)
	}
}

// limits are those of an aggregate's queue as they are now.
func (e *Engine) limits() shard.Limits {
	return shard.Limits{Waiting: e.cfg.MaxWaiting, Full: e.full.Load()}
}

// Owner implements [Reader].
func (e *Engine) Owner(ctx context.Context, id runtime.AggregateID) (string, bool, error) {
	n := kafka.Partition(string(id), e.cfg.Partitions)
	if e.partNumber(n) != nil {
		return e.cfg.Group.Address, true, nil
	}
	owners, err := e.owners.get(ctx)
	if err != nil {
		return "", false, err
	}
	address := owners[n]
	if address == "" || address == e.cfg.Group.Address {
		return "", false, fmt.Errorf("%w: partition %d", ErrNoOwner, n)
	}
	return address, false, nil
}

// Others implements [Reader].
func (e *Engine) Others(ctx context.Context) ([]string, error) {
	owners, err := e.owners.get(ctx)
	if err != nil {
		return nil, err
	}
	var others []string
	for _, address := range owners {
		if address != e.cfg.Group.Address && !slices.Contains(others, address) {
			others = append(others, address)
		}
	}
	return others, nil
}

// Crowded implements [Reader].
func (e *Engine) Crowded() []runtime.AggregateID {
	var list []runtime.AggregateID
	limits := e.limits()
	for _, p := range e.list() {
		p.mu.Lock()
		if p.shard != nil {
			list = p.shard.Crowded(list, limits)
		}
		p.mu.Unlock()
	}
	return list
}

// snapshot returns the committed snapshot of an aggregate, at minVersion or later. Who
// says no version gets the newest one, so the group must confirm first that nobody else
// could have made a newer one.
func (e *Engine) snapshot(ctx context.Context, id runtime.AggregateID, minVersion uint64) (shard.Snapshot, error) {
	p, topic, err := e.owned(ctx, id)
	if err != nil {
		return shard.Snapshot{}, err
	}
	if minVersion == 0 {
		if err := e.stillOwner(ctx, p); err != nil {
			return shard.Snapshot{}, err
		}
	}
	token := e.tokens.Add(1)
	reply := make(chan shard.Reply, 1)
	p.mu.Lock()
	p.readers[token] = reply
	p.mu.Unlock()
	if !e.with(p, func(now time.Time, s *shard.Shard) { s.Read(now, token, id, topic, minVersion) }) {
		return shard.Snapshot{}, ErrNoOwner
	}
	select {
	case r, ok := <-reply:
		switch {
		case !ok:
			return shard.Snapshot{}, ErrNoOwner
		case r.Missing:
			return shard.Snapshot{}, fmt.Errorf("%w: aggregate %s", ErrNotFound, id)
		case r.Broken:
			return shard.Snapshot{}, fmt.Errorf("%w: %s", ErrBroken, r.Err)
		case r.Err != "":
			return shard.Snapshot{}, errors.New(r.Err)
		}
		return r.Snapshot, nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	delete(p.readers, token)
	if p.shard != nil {
		p.shard.Unread(id, token)
	}
	p.mu.Unlock()
	if minVersion == 0 {
		return shard.Snapshot{}, context.Cause(ctx)
	}
	now, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	s, err := e.snapshot(now, id, 0)
	if err != nil {
		return s, err
	}
	return s, fmt.Errorf("%w: it is at version %d", ErrBehind, s.State.Version)
}

// stillOwner has the group confirm that this gateway owns a partition.
func (e *Engine) stillOwner(ctx context.Context, p *partition) error {
	err := e.group.Confirm(ctx, p.held)
	switch {
	case err == nil, ctx.Err() != nil:
		return err
	case errors.Is(err, kafka.ErrStaleTerm), errors.Is(err, kafka.ErrNoMember):
		return fmt.Errorf("%w: %w", ErrNoOwner, err)
	default:
		return fmt.Errorf("%w: %w", ErrKafkaAway, err)
	}
}

// owned returns the partition of an aggregate once it is taken over, and the
// aggregate's events topic.
func (e *Engine) owned(ctx context.Context, id runtime.AggregateID) (*partition, string, error) {
	view, err := e.cfg.Catalogue.AggregateOf(id.Root())
	if err != nil {
		return nil, "", fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	p := e.part(id)
	if p == nil {
		return nil, "", ErrNoOwner
	}
	select {
	case <-p.ready:
		return p, e.cfg.Topics.Events(view.Name), nil
	case <-p.ctx.Done():
	case <-ctx.Done():
	}
	return nil, "", fmt.Errorf("%w: its partition is being taken over", ErrNoOwner)
}

// State implements [Reader].
func (e *Engine) State(ctx context.Context, id runtime.AggregateID, minVersion uint64) (shard.State, time.Time, error) {
	s, err := e.snapshot(ctx, id, minVersion)
	if err == nil && s.State.Data == nil {
		err = fmt.Errorf("%w: aggregate %s has no state at version %d", ErrNotFound, id, s.State.Version)
	}
	return s.State, s.Recorded, err
}

// Events implements [Reader].
func (e *Engine) Events(ctx context.Context, id runtime.AggregateID, after uint64, limit int) ([]Recorded, bool, error) {
	s, err := e.snapshot(ctx, id, 0)
	if err != nil {
		return nil, false, err
	}
	p, topic, err := e.owned(ctx, id)
	if err != nil {
		return nil, false, err
	}
	c := e.chain(id, p.held.Partition, topic, s.Head)
	c.Links = s.Links
	// One event more than asked for tells whether there are more.
	events := make([]Recorded, 0, min(limit+1, 1024))
	size, more := 0, false
	err = e.cfg.History.Each(ctx, c, kafka.Mark{Version: after}, func(r kafka.Entry) error {
		if r.Platform() {
			return nil
		}
		size += len(r.Message.Data)
		if more = len(events) == limit || len(events) > 0 && size > eventsPageBytes; more {
			return errPageFull
		}
		events = append(events, Recorded{Message: r.Message, At: r.At})
		return nil
	})
	if err != nil && !errors.Is(err, errPageFull) {
		return nil, false, err
	}
	return events, more, nil
}

// eventsPageBytes is how much data a page holds, whatever its limit is: a thousand
// events of the greatest size would be a gigabyte.
const eventsPageBytes = 2 << 20

// errPageFull ends the reading of a history.
var errPageFull = errors.New("the page is full")

// Outcome implements [Reader]. A command that is not known is looked for once
// more after all that stands in the commands topic now has been read: the client
// may have had its 202 a moment ago.
func (e *Engine) Outcome(ctx context.Context, id runtime.AggregateID, key runtime.CommandKey) (*Outcome, error) {
	o, err := e.outcome(ctx, id, key)
	if !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrBroken) {
		return o, err
	}
	if behind := e.readOn(ctx, id); behind != nil {
		return nil, behind
	}
	return e.outcome(ctx, id, key)
}

// readOn waits until the commands that stand in the aggregate's partition now
// have been taken up.
func (e *Engine) readOn(ctx context.Context, id runtime.AggregateID) error {
	p, _, err := e.owned(ctx, id)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, 5*time.Second, errors.New("the commands topic was not read to its end within 5s"))
	defer cancel()
	ends, err := e.cfg.Takeover.Watermarks(ctx, e.cfg.Topics.Commands(), p.held.Partition)
	if err != nil {
		return err
	}
	for {
		p.mu.Lock()
		s := p.shard
		done := s != nil && s.Next() >= ends.High
		p.mu.Unlock()
		switch {
		case done:
			return nil
		case s == nil:
			return ErrNoOwner
		case !sleep(ctx, 5*time.Millisecond):
			return fmt.Errorf("%w: %w", ErrNoOwner, context.Cause(ctx))
		}
	}
}

func (e *Engine) outcome(ctx context.Context, id runtime.AggregateID, key runtime.CommandKey) (*Outcome, error) {
	p, topic, err := e.owned(ctx, id)
	if err != nil {
		return nil, err
	}
	// A snapshot that is read first cannot miss what ends between the two looks.
	var pending *Outcome
	look := func() {
		e.with(p, func(_ time.Time, s *shard.Shard) {
			if w, ok := s.InFlight(id, key); ok {
				pending = outcomeOf(w.Command, w.Outcome)
				pending.At = runtime.Coordinates{Topic: e.cfg.Topics.Commands(), Partition: p.held.Partition, Offset: w.Command.Offset}
			}
		})
	}
	look()
	if pending != nil {
		return pending, nil
	}
	s, err := e.snapshot(ctx, id, 0)
	if err != nil {
		return nil, err
	}
	offsets := s.Seen.Find(shard.SeenHash(key))
	if len(offsets) == 0 {
		return nil, fmt.Errorf("%w: command of %s", ErrNotFound, id)
	}
	c := e.chain(id, p.held.Partition, topic, s.Head)
	records, err := e.find(ctx, c, key, offsets)
	if err != nil {
		return nil, err
	}
	if len(records) == 0 {
		return nil, fmt.Errorf("%w: command of %s", ErrNotFound, id)
	}
	m := records[0].Message
	out := outcomeOf(&shard.Command{Message: &runtime.Message{ID: m.CausationID, Subject: m.Subject}}, e.recordedOutcome(records))
	out.At = m.Cause
	if cause, err := e.cfg.Reader.Points(ctx, m.Cause.Topic, m.Cause.Partition, []int64{m.Cause.Offset}); err == nil && len(cause) == 1 {
		if command, err := kafka.ParseRecord(&cause[0]); err == nil && command.Key() == key {
			out.Source, out.Type, out.Entity = command.Source, command.Type, command.Subject
		}
	}
	return out, nil
}

// Command implements [Reader].
func (e *Engine) Command(ctx context.Context, at runtime.Coordinates) (*runtime.Message, error) {
	records, err := e.cfg.Reader.Points(ctx, at.Topic, at.Partition, []int64{at.Offset})
	if err != nil {
		return nil, err
	}
	if len(records) == 0 {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, at)
	}
	return kafka.ParseRecord(&records[0])
}

// Parked implements [Reader]: the troubled commands of the partitions that this
// gateway owns.
func (e *Engine) Parked(_ context.Context, f ParkedFilter) (list []ParkedCommand, partitions []int32, err error) {
	for _, p := range e.list() {
		p.mu.Lock()
		if p.shard == nil {
			p.mu.Unlock()
			continue
		}
		troubled := p.shard.Troubled()
		p.mu.Unlock()
		partitions = append(partitions, p.held.Partition)
		for _, w := range troubled {
			m := w.Command.Message
			c := ParkedCommand{
				At:        runtime.Coordinates{Topic: e.cfg.Topics.Commands(), Partition: p.held.Partition, Offset: w.Command.Offset},
				Aggregate: m.Aggregate(), Entity: m.Subject, Command: m.ID, Source: m.Source, Type: m.Type,
				Status: OutcomeStatus(w.Status), Attempts: w.Attempts, NextTry: w.NextTry, Reason: w.Reason, Function: w.Function, Image: w.Image, Since: m.Time, Failing: w.Failing, Misplaced: w.Stray,
			}
			if c.Status == OutcomeParked {
				if view, err := e.cfg.Catalogue.AggregateOf(c.Entity); err == nil {
					c.Outcome = runtime.Coordinates{Topic: e.cfg.Topics.Events(view.Name), Partition: c.At.Partition, Offset: w.OutcomeAt}
				}
			}
			if f.matches(&c) {
				list = append(list, c)
			}
		}
	}
	return list, partitions, nil
}

// kafkaSeen is how long after the last answer of Kafka a gateway still counts as connected.
const kafkaSeen = 10 * time.Second

// watchKafka asks Kafka a cheap question again and again, so that probes can be answered at once.
func (e *Engine) watchKafka() {
	for sleep(e.ctx, 2*time.Second) {
		ctx, cancel := context.WithTimeout(e.ctx, kafkaSeen)
		if _, err := e.group.Owners(ctx); err == nil {
			e.lastSeen.Store(time.Now().UnixNano())
		} else if e.ctx.Err() == nil {
			e.cfg.Log.Warn("kafka does not answer", "err", err)
		}
		cancel()
	}
}

// Ready implements [Readiness].
func (e *Engine) Ready(context.Context) map[string]error {
	checks := map[string]error{"kafka": nil, "partitions": nil}
	if since := time.Since(time.Unix(0, e.lastSeen.Load())); since > kafkaSeen {
		checks["kafka"] = fmt.Errorf("no answer for %s", since.Round(time.Second))
	}
	if !e.joined.Load() {
		checks["partitions"] = errors.New("not all partitions have an owner yet")
	}
	for _, p := range e.list() {
		select {
		case <-p.ready:
		default:
			checks["partitions"] = fmt.Errorf("partition %d is being taken over", p.held.Partition)
		}
	}
	return checks
}
