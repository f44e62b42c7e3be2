package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/evento-oss/evento/internal/crash"
	"github.com/evento-oss/evento/runtime"
)

// intakeOne writes one message and answers.
func (s *HTTPServer) intakeOne(w http.ResponseWriter, r *http.Request, q intakeRequest, m *runtime.Message) error {
	shown := withoutData(m)
	o, err := s.deliver(r.Context(), q, m)
	if err != nil {
		return err
	}
	crash.At(crash.IntakeAnswer)
	if err := s.answerOne(w, q, shown, o); err != nil {
		return err
	}
	if crash.On {
		_ = http.NewResponseController(w).Flush() // so that it is on its way to the sender
		crash.At(crash.IntakeAnswered)
	}
	return nil
}

// answerOne answers a message that Kafka has, with its outcome if that is known.
func (s *HTTPServer) answerOne(w http.ResponseWriter, q intakeRequest, m *runtime.Message, o *Outcome) error {
	location := s.location(m, q.principal)
	w.Header().Set("Location", location)
	if q.wait > 0 {
		w.Header().Set("Preference-Applied", preferenceApplied(q.wait))
	}
	switch {
	case o == nil && q.wants == wantAny && q.wait == 0:
		// Knative takes a body here for a reply event, and a body that is none for a failure.
		w.WriteHeader(http.StatusAccepted)
		return nil
	case o == nil:
		return writeJSON(w, http.StatusAccepted, pendingJSON(m, location))
	}
	if p := s.outcomeProblem(o); p != nil {
		return p
	}
	out := s.outcomeJSON(o)
	out.Location = location
	return writeJSON(w, http.StatusOK, out)
}

// pendingJSON is what is known of a message that Kafka has and nobody has handled.
func pendingJSON(m *runtime.Message, location string) *outcomeJSON {
	return &outcomeJSON{
		Command: m.ID, Status: string(OutcomePending), Entity: string(m.Subject), Type: string(m.Type), Source: m.Source,
		Events: []eventJSON{}, Location: location,
	}
}

// outcomeProblem returns the problem that an outcome is for who sent the
// command, nil when it is a result. A refusal, a rejection for another reason
// and a parked command are results: final, and no repeat changes them.
func (s *HTTPServer) outcomeProblem(o *Outcome) *problem {
	switch {
	case o.Status == OutcomeConflict:
		return fail(problemConflict, "the id %q was used before by %q for %q, for another type, target or value; use a new id for a new command", o.Command, o.Source, o.Entity.Aggregate()).
			with("id", o.Command).with("outcome", s.outcomeJSON(o))
	case o.Status == OutcomeRejected && o.Code == RejectVersionMismatch:
		p := fail(problemVersionMismatch, "%s", o.Reason).with("id", o.Command).with("outcome", s.outcomeJSON(o))
		if o.Version > 0 {
			p.with("version", o.Version)
		}
		return p
	}
	return nil
}

// deliver writes a message to the commands topic, under a waiter when the
// client wants to wait, and returns its outcome, nil when there is none by the
// deadline. Errors are problems. Once this has begun, the client's going away
// stops the waiting, not the writing.
func (s *HTTPServer) deliver(ctx context.Context, q intakeRequest, m *runtime.Message) (*Outcome, error) {
	var n *waiting
	if q.wait > 0 {
		var err error
		n, err = s.need.Waiters.add(m.Aggregate(), q.begin.Add(q.wait))
		switch {
		case errors.Is(err, ErrTooManyWaiting):
			return nil, s.tooManyWaiting(m)
		case err == nil: // otherwise it is accepted all the same, and not waited for
			defer n.done()
			m.Waiter = n.waiter
		}
	}
	err := s.append(ctx, m)
	switch {
	case err == nil:
	case n != nil && isUncertain(err):
		// Its outcome would tell that it was written.
		if o := s.await(ctx, n); o != nil {
			return o, nil
		}
		return nil, err
	default:
		return nil, err
	}
	if n == nil {
		return nil, nil
	}
	if q.written != nil {
		q.written()
	}
	return s.await(ctx, n), nil
}

// withoutData returns what is still asked of a message while its outcome is
// waited for, which may take a minute: its data must not stay in memory so long.
func withoutData(m *runtime.Message) *runtime.Message {
	light := *m
	light.Data = nil
	return &light
}

func isUncertain(err error) bool {
	var p *problem
	return errors.As(err, &p) && p.kind == problemUncertain
}

// append writes a message and turns what goes wrong into the problem that
// tells the sender what to do. No success is answered without Kafka's.
func (s *HTTPServer) append(ctx context.Context, m *runtime.Message) error {
	if s.takesNoMore(m) {
		return s.tooManyWaiting(m)
	}
	limit := s.config.AppendTimeout
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), limit, fmt.Errorf("kafka did not acknowledge within %s", limit))
	defer cancel()
	begin := s.now()
	_, err := s.need.Appender.Append(ctx, m)
	s.need.Metrics.appendSeconds.Observe(s.now().Sub(begin).Seconds())
	kind := s.kindOf(m)
	switch {
	case err == nil:
		s.countIntake(kind, "accepted")
		return nil
	case errors.Is(err, ErrTooManyWaiting):
		return s.tooManyWaiting(m)
	case errors.Is(err, ErrKafkaAway):
		s.countIntake(kind, "kafka-away")
		return fail(problemKafkaAway, "nothing was written; repeat it with the id %q", m.ID).
			with("id", m.ID).with("source", m.Source).because(err).after(2 * time.Second)
	}
	s.countIntake(kind, "uncertain")
	return fail(problemUncertain, "it may have been written; repeating it with the id %q is safe, with another id it is not", m.ID).
		with("id", m.ID).with("source", m.Source).because(err).after(2 * time.Second)
}

func (s *HTTPServer) tooManyWaiting(m *runtime.Message) error {
	s.countIntake(s.kindOf(m), "busy")
	return fail(problemTooManyWaiting, "aggregate %q has as many commands waiting as it takes now (see %s, and GET /v1/parked for why they wait); nothing was written, repeat it with the id %q", m.Aggregate(), settingWaitAggregate, m.ID).
		with("id", m.ID).with("source", m.Source).with("setting", settingWaitAggregate).after(time.Second)
}

// await waits for the outcome until the waiter's deadline, the client's going
// or the gateway's stop; nil when there is none.
func (s *HTTPServer) await(ctx context.Context, n *waiting) *Outcome {
	begin := s.now()
	timer := time.NewTimer(n.waiter.Deadline.Sub(begin))
	defer timer.Stop()
	var o *Outcome
	result := "outcome"
	select {
	case o = <-n.outcome:
		if o == nil {
			result = "stopped"
		}
	case <-timer.C:
		result = "deadline"
		select {
		case o = <-n.outcome: // both were there, and an outcome is the better answer
		default:
		}
	case <-ctx.Done():
		result = "gone"
	}
	s.need.Metrics.waitSeconds.WithLabelValues(result).Observe(s.now().Sub(begin).Seconds())
	return o
}
