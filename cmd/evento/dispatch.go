package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/evento-oss/evento/gateway"
	"github.com/evento-oss/evento/gateway/shard"
	"github.com/evento-oss/evento/internal/avro"
	"github.com/evento-oss/evento/runtime"
	"github.com/evento-oss/evento/triggers"
	"github.com/evento-oss/evento/triggers/dispatch"
)

// dispatching lets the gateway work with the dispatch manager: neither package
// knows the other.
type dispatching struct{ *dispatch.Manager }

// dispatchWith makes the dispatchers of a gateway whose routes come from [routesFrom].
func dispatchWith(routes gateway.Routes, p gateway.DispatchParts) (gateway.Dispatching, error) {
	from, ok := routes.(triggerRoutes)
	if !ok {
		return nil, fmt.Errorf("dispatchers need the Trigger router, not %T", routes)
	}
	m, err := dispatch.New(dispatch.Config{
		Installation: p.Installation, Topics: p.Topics, Partitions: p.Partitions, Kafka: p.Kafka, Address: p.Address, TopicID: p.TopicID,
		Catalogue: p.Catalogue, CatchUp: p.CatchUp, Reader: p.Reader, Router: from.Router,
		Ask: func(ctx context.Context, t *triggers.Target, event *runtime.Message) dispatch.Answer {
			commands, by, trouble := p.Functions.Dispatch(ctx, functionTarget(t), event)
			if trouble != nil {
				return dispatch.Answer{Trouble: &dispatch.Trouble{Failed: trouble.Kind == shard.Failed, Wait: trouble.Wait, Reason: trouble.Reason}}
			}
			return dispatch.Answer{Commands: commands, By: by}
		},
		Registerer: p.Registerer, Log: p.Log, SessionTimeout: p.SessionTimeout,
	})
	if err != nil {
		return nil, err
	}
	return dispatching{m}, nil
}

// Parked implements [gateway.Dispatching].
func (d dispatching) Parked() ([]gateway.ParkedEvent, map[string][]int32) {
	found, held := d.Manager.Parked()
	list := make([]gateway.ParkedEvent, len(found))
	for i, p := range found {
		e := gateway.ParkedEvent{
			Dispatcher: p.Dispatcher, At: p.At, Status: gateway.OutcomeParked, Attempts: int(p.Attempts), Reason: p.Reason, Since: p.Since,
		}
		if p.Status == avro.DispatchWaiting {
			e.Status = gateway.OutcomeRetrying
		}
		if m := p.Message; m != nil {
			e.Event, e.Entity, e.Type = m.ID, m.Subject, m.Type
		}
		list[i] = e
	}
	return list, held
}

// Status implements [gateway.Dispatching].
func (d dispatching) Status(dispatcher string) (gateway.DispatchStatus, bool) {
	s, ok := d.Manager.Status(dispatcher)
	return gateway.DispatchStatus(s), ok
}

// Replay implements [gateway.Dispatching].
func (d dispatching) Replay(ctx context.Context, dispatcher string, at time.Time, expect *uint64) (uint64, error) {
	epoch, err := d.Manager.Replay(ctx, dispatcher, at, expect)
	var other *dispatch.EpochError
	if errors.As(err, &other) {
		return other.Have, fmt.Errorf("%w: %w", gateway.ErrEpoch, err)
	}
	if errors.Is(err, dispatch.ErrUnknown) {
		err = fmt.Errorf("%w: %w", gateway.ErrNotFound, err)
	}
	return epoch, err
}
