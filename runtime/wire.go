package runtime

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/evento-oss/evento/runtime/protocol"
)

// The CloudEvents types of the two bodies, and the source of calls.
const (
	typeInvocations = "evento.invocations.v1"
	typeResults     = "evento.results.v1"
	typeDescription = "evento.description.v1"
)

// hashSuffix behind the schema of a state says that its hash travels in its
// place. No schema's name ends so: a function that does not keep states, or is
// older than that, refuses the state as one in another schema.
const hashSuffix = "#sha256"

// noTime stands for an absent time: every other number is a moment.
const noTime = math.MinInt64

// wire is the protocol's codec: the two record types of protocol.avsc.
type wire struct{ invocations, results *Codec }

func newWire() *wire {
	return &wire{
		invocations: NewCodec(func() Record { return new(protocol.Invocations) }),
		results:     NewCodec(func() Record { return new(protocol.Results) }),
	}
}

// request is the body of a call.
type request struct {
	built   Fingerprint   // hash of the description that the caller encoded for; "" for unknown
	timeout time.Duration // how long the caller waits; 0 for not said
	items   []Invocation
}

// response is the body of an answer.
type response struct {
	built Fingerprint
	image string
	items []Result
}

func (w *wire) encodeRequest(q request) ([]byte, error) {
	p := protocol.Invocations{
		Built:   string(q.built),
		Timeout: q.timeout.Milliseconds(),
		Items:   make([]protocol.Invocation, len(q.items)),
	}
	size := 32
	for i := range q.items {
		in := &q.items[i]
		p.Items[i] = protocol.Invocation{
			Id:        in.ID,
			Kind:      protocol.InvocationKind(in.Kind),
			Aggregate: string(in.Aggregate),
			Version:   int64(in.Version),
			Messages:  toMessages(in.Messages),
		}
		switch {
		case in.StateHash != nil:
			p.Items[i].State_schema, p.Items[i].State = string(in.StateSchema)+hashSuffix, in.StateHash
		case in.StateSchema != "":
			p.Items[i].State_schema, p.Items[i].State = string(in.StateSchema), in.State
		}
		size += len(in.State) + 160
		for _, m := range in.Messages {
			size += len(m.Data) + 320
		}
	}
	return encode(&p, size)
}

func (w *wire) decodeRequest(body []byte) (request, error) {
	var p protocol.Invocations
	if err := w.invocations.decodeInto(body, &p); err != nil {
		return request{}, err
	}
	q := request{
		built:   Fingerprint(p.Built),
		timeout: milliseconds(p.Timeout),
		items:   make([]Invocation, len(p.Items)),
	}
	for i := range p.Items {
		in := &p.Items[i]
		q.items[i] = Invocation{
			ID:        in.Id,
			Kind:      InvocationKind(in.Kind),
			Aggregate: AggregateID(in.Aggregate),
			Version:   uint64(in.Version),
			Messages:  fromMessages(in.Messages),
		}
		if in.Version < 0 {
			return request{}, fmt.Errorf("invocation %d (%q): version %d is negative", i+1, in.Id, in.Version)
		}
		for _, m := range in.Messages {
			if m.Sequence < 0 {
				return request{}, fmt.Errorf("message %q of invocation %d: sequence %d is negative", m.Id, i+1, m.Sequence)
			}
		}
		if schema, hashed := strings.CutSuffix(in.State_schema, hashSuffix); hashed {
			q.items[i].StateSchema, q.items[i].StateHash = DataSchema(schema), in.State
		} else if schema != "" {
			q.items[i].StateSchema, q.items[i].State = DataSchema(schema), in.State
		}
	}
	return q, nil
}

func (w *wire) encodeResponse(r response) ([]byte, error) {
	p := protocol.Results{Built: string(r.built), Image: r.image, Items: make([]protocol.Result, len(r.items))}
	size := 64
	for i := range r.items {
		res := &r.items[i]
		item := protocol.Result{Id: res.ID, Steps: make([]protocol.Step, len(res.Steps))}
		for j := range res.Steps {
			item.Steps[j].Events = toMessages(res.Steps[j].Events)
			for _, e := range res.Steps[j].Events {
				size += len(e.Data) + 160
			}
		}
		if res.StateSchema != "" {
			item.State_schema, item.State = string(res.StateSchema), res.State
		}
		if f := res.Failure; f != nil {
			item.Failure, item.Message, item.Trace = protocol.FailureCode(f.Code), f.Message, f.Trace
		}
		size += len(res.State) + 128
		p.Items[i] = item
	}
	return encode(&p, size)
}

func (w *wire) decodeResponse(body []byte) (response, error) {
	var p protocol.Results
	if err := w.results.decodeInto(body, &p); err != nil {
		return response{}, err
	}
	r := response{built: Fingerprint(p.Built), image: p.Image, items: make([]Result, len(p.Items))}
	for i := range p.Items {
		item := &p.Items[i]
		res := Result{ID: item.Id, Image: p.Image}
		for j := range item.Steps {
			res.Steps = append(res.Steps, ResultStep{Events: fromMessages(item.Steps[j].Events)})
		}
		if item.State_schema != "" {
			res.StateSchema, res.State = DataSchema(item.State_schema), item.State
		}
		if item.Failure != protocol.FailureCodeNONE {
			res.Failure = &Failure{Code: FailureCode(item.Failure), Message: item.Message, Trace: item.Trace}
		}
		r.items[i] = res
	}
	return r, nil
}

func encode(r Record, size int) ([]byte, error) {
	buf := bytes.NewBuffer(make([]byte, 0, size))
	if err := r.Serialize(buf); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

func toMessages(in []*Message) []protocol.Message {
	out := make([]protocol.Message, len(in))
	for i, m := range in {
		out[i] = protocol.Message{
			Id:             m.ID,
			Type:           string(m.Type),
			Source:         m.Source,
			Subject:        string(m.Subject),
			Dataschema:     string(m.Schema),
			Time:           noTime,
			Sequence:       int64(m.Sequence),
			Causation_id:   m.CausationID,
			Correlation_id: m.CorrelationID,
			Traceparent:    m.TraceParent,
			Data:           m.Data,
		}
		if !m.Time.IsZero() {
			out[i].Time = m.Time.UnixMilli()
		}
	}
	return out
}

func fromMessages(in []protocol.Message) []*Message {
	all := make([]Message, len(in)) // one allocation for all
	out := make([]*Message, len(in))
	for i := range in {
		p, m := &in[i], &all[i]
		m.ID, m.Type, m.Source, m.Subject = p.Id, TypeName(p.Type), p.Source, Entity(p.Subject)
		m.Schema, m.Data, m.Sequence = DataSchema(p.Dataschema), p.Data, uint64(p.Sequence)
		m.CausationID, m.CorrelationID, m.TraceParent = p.Causation_id, p.Correlation_id, p.Traceparent
		if p.Time != noTime {
			m.Time = time.UnixMilli(p.Time).UTC()
		}
		out[i] = m
	}
	return out
}

// milliseconds reads a duration that may be any number.
func milliseconds(ms int64) time.Duration {
	if ms <= 0 {
		return 0
	}
	return time.Duration(min(ms, math.MaxInt64/int64(time.Millisecond))) * time.Millisecond
}
