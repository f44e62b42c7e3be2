package dispatch

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/evento-oss/evento/internal/avro"
	"github.com/evento-oss/evento/internal/kafka"
	"github.com/evento-oss/evento/runtime"
	"github.com/evento-oss/evento/triggers/dispatch/track"
)

// decisionID identifies what a dispatcher decides about an event in a replay
// epoch. It has 34 bytes, whatever the parts have.
func decisionID(event, dispatcher string, epoch uint64) string {
	// NUL stands in none of the parts, so they cannot run into each other.
	sum := sha256.Sum256([]byte(event + "\x00" + dispatcher + "\x00" + strconv.FormatUint(epoch, 10)))
	return "d-" + hex.EncodeToString(sum[:16])
}

// commandID is the id of a decision's command, counted from 0.
func commandID(decision string, index int) string { return decision + "-" + strconv.Itoa(index) }

// sourceOf is the source of a dispatcher's decisions and commands.
func sourceOf(installation, dispatcher string) string {
	return "/evento/" + installation + "/dispatchers/" + dispatcher
}

// record makes the record of a decision, for the event's own partition.
func (r *runner) record(u *unit, d *track.Record, now time.Time) kafka.Record {
	m, value := r.decision(u, d, now)
	m.Schema, m.Data = value.Encode()
	return kafka.NewRecord(r.m.cfg.Topics.Dispatched(), u.part.held.Partition, m)
}

// sendable says whether the commands of a decision could be sent.
func (r *runner) sendable(u *unit, d *track.Record) error {
	m, value := r.decision(u, d, time.Now())
	_, err := commandsOf(m, &value)
	return err
}

// decision makes the message that a decision is recorded as, without its data.
func (r *runner) decision(u *unit, d *track.Record, now time.Time) (*runtime.Message, avro.Dispatched) {
	at := runtime.Coordinates{Topic: u.topic, Partition: u.part.held.Partition, Offset: d.Offset}
	value := avro.Dispatched{
		Dispatcher: r.name, Epoch: u.track.Epoch(), Event: d.Event.ID, At: at.String(),
		Status: d.Status, Reason: d.Reason, Attempts: d.Attempts, Function: d.By,
	}
	for _, c := range d.Commands {
		value.Commands = append(value.Commands, avro.DispatchedCommand{Type: c.Type, Target: c.Subject, Schema: c.Schema, Data: c.Data, Time: c.Time})
	}
	m := &runtime.Message{
		ID: decisionID(d.Event.ID, r.name, u.track.Epoch()), Type: runtime.TypeDispatched,
		Source: sourceOf(r.m.cfg.Installation, r.name), Subject: d.Event.Subject, Time: now.UTC(), RecordedTime: now.UTC(),
		CausationID: d.Event.ID, CorrelationID: cmp.Or(d.Event.CorrelationID, d.Event.ID), TraceParent: d.Event.TraceParent, Cause: at,
	}
	if d.Status != avro.DispatchDecided {
		m.ID += "-" + string(d.Status) // it is not the decision itself
	}
	return m, value
}

// commandsOf are the commands of a decision that was read from its topic.
func commandsOf(m *runtime.Message, d *avro.Dispatched) ([]*runtime.Message, error) {
	commands := make([]*runtime.Message, len(d.Commands))
	id := decisionID(d.Event, d.Dispatcher, d.Epoch)
	for i, c := range d.Commands {
		by := d.Function
		if _, fingerprint, err := c.Schema.Parse(); err == nil {
			by = strings.TrimSpace(by + " " + string(fingerprint))
		}
		commands[i] = &runtime.Message{
			ID: commandID(id, i), Type: c.Type, Source: m.Source, Subject: c.Target, Schema: c.Schema, Data: c.Data, Time: c.Time,
			CausationID: m.CausationID, CorrelationID: m.CorrelationID, TraceParent: m.TraceParent, Cause: m.Cause, By: by,
		}
		if err := kafka.Check(commands[i]); err != nil {
			// Not wrapped: the decision is a record of ours, and nobody may leave it out.
			return nil, fmt.Errorf("command %d of %d: %v", i+1, len(commands), err)
		}
	}
	return commands, nil
}
