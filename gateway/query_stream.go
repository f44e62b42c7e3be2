package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/evento-oss/evento/internal/kafka"
	"github.com/evento-oss/evento/runtime"
)

// Parts in which a stream reads what lies before the tail: so many offsets, events
// and bytes at a time, so that it holds none of the reader's consumers for long.
const (
	catchUpOffsets = 20_000
	catchUpEvents  = 256
	catchUpBytes   = 4 << 20
)

// getStream answers committed events as server-sent events, until the client goes.
func (s *HTTPServer) getStream(w http.ResponseWriter, r *http.Request, p *AuthPrincipal) error {
	streams := s.need.Streams
	if streams == nil {
		return fail(problemUnavailable, "this gateway streams no events")
	}
	filter, err := s.streamFilter(r, p)
	if err != nil {
		return err
	}
	ctx, leave := context.WithCancelCause(r.Context())
	defer leave(nil)
	seat := s.seats.take(seatClient(r, p), leave)
	if seat == nil {
		return fail(problemOverloaded, "%d streams are open, the limit that is set by %s, and this client has its share of them", s.seats.limit, settingMaxStreams).
			limit(settingMaxStreams, int64(s.seats.limit)).after(10 * time.Second)
	}
	defer s.seats.give(seat)
	position, err := s.streamBegin(r, &filter)
	if err != nil {
		return err
	}
	out := &stream{server: s, streams: streams, filter: &filter, position: position, w: w, control: http.NewResponseController(w), beaten: s.now()}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // a proxy must not collect it
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return nil
	}
	// The server's limit is for requests that end.
	if err := out.control.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	out.text.WriteString("retry: 1000\n")
	if err := out.beat(); err != nil {
		return nil // the client is gone
	}
	s.need.Metrics.streamsOpen.Inc()
	defer s.need.Metrics.streamsOpen.Dec()
	end, err := out.run(ctx)
	if errors.Is(context.Cause(ctx), errSeatGone) {
		end, err = &streamEnd{"crowded", "all streams were taken, this client had most of them, and another one needed one; it can go on from its last event later"}, nil
	}
	if err != nil && r.Context().Err() == nil {
		var gone *clientGone
		if errors.As(err, &gone) {
			s.need.Log.Debug("a stream's client took nothing in time, or is gone", "err", err)
			s.need.Metrics.streamsEnded.WithLabelValues("gone").Inc()
			return nil
		}
		s.need.Log.Warn("a stream is cut", "err", err)
		end = &streamEnd{"failed", "the events cannot be read from Kafka at the moment"}
	}
	reason := "gone"
	if end != nil {
		reason = end.Reason
		out.last(end)
	}
	s.need.Metrics.streamsEnded.WithLabelValues(reason).Inc()
	return nil
}

// streamBegin returns where a stream begins. Errors are problems.
func (s *HTTPServer) streamBegin(r *http.Request, filter *streamFilter) (streamPosition, error) {
	streams := s.need.Streams
	from := r.URL.Query().Get("from")
	switch from {
	case "":
		from = "latest"
	case "latest", "earliest":
	default:
		return nil, fail(problemParameter, "from is %q; it is earliest or latest (the default)", from).field("from")
	}
	places := filter.places(streams)
	ctx, cancel := context.WithTimeoutCause(r.Context(), 10*time.Second, errors.New("the ends of the events topics were not told within 10s"))
	defer cancel()
	spans, err := streams.Reader.Spans(ctx, places)
	if err != nil {
		return nil, fail(problemUnavailable, "the events cannot be read from Kafka at the moment").because(errors.Join(err, context.Cause(ctx))).after(2 * time.Second)
	}
	position := make(streamPosition, len(places))
	var last streamPosition
	if text := r.Header.Get("Last-Event-Id"); text != "" {
		if last, err = streams.parsePosition(text); err != nil {
			return nil, fail(problemParameter, "Last-Event-ID: %s; leave it out to begin anew", err).field("Last-Event-ID")
		}
	}
	for _, p := range places {
		span := spans[p]
		switch offset := last[p]; {
		case last == nil && from == "latest":
			position[p] = span.Stable
		case last == nil:
			position[p] = span.Low
		case offset > span.Stable || offset < span.Low && offset > 0:
			return nil, fail(problemPositionGone, "Last-Event-ID names offset %d of %s, which has %d to %d: it is of another log; begin anew, with from=earliest to miss nothing", offset, p, span.Low, span.Stable).field("Last-Event-ID")
		default:
			position[p] = max(offset, span.Low)
		}
	}
	return position, nil
}

// stream is one stream that is being answered; it belongs to its request's goroutine.
type stream struct {
	server   *HTTPServer
	streams  *Streams
	filter   *streamFilter
	position streamPosition // all before it was written, or is not wanted

	w       http.ResponseWriter
	control *http.ResponseController
	text    bytes.Buffer // what is written next
	beaten  time.Time    // when something was last written
}

// clientGone says that the client does not take what is written.
type clientGone struct{ err error }

func (e *clientGone) Error() string { return "write to a stream: " + e.err.Error() }
func (e *clientGone) Unwrap() error { return e.err }

// run writes events until ctx is over (both nil), the stream has an end that the
// client is to be told, or an error.
func (o *stream) run(ctx context.Context) (*streamEnd, error) {
	for {
		if end, err := o.catchUp(ctx); end != nil || err != nil {
			return end, err
		}
		sub := o.streams.subscribe(o.filter.wants)
		end, again, err := o.live(ctx, sub)
		o.streams.unsubscribe(sub)
		if !again {
			return end, err
		}
	}
}

// catchUp reads what lies before the end of the log, until less than half a queue is left.
func (o *stream) catchUp(ctx context.Context) (*streamEnd, error) {
	for {
		spans, err := o.streams.Reader.Spans(ctx, o.filter.places(o.streams))
		if err != nil {
			return nil, err
		}
		left := int64(0)
		to := make(map[kafka.Place]int64, len(spans))
		for p, span := range spans {
			to[p] = span.Stable
			left += max(span.Stable-o.position[p], 0)
		}
		if left <= int64(o.streams.Queue/2) {
			return nil, nil
		}
		if end, err := o.readTo(ctx, to); end != nil || err != nil {
			return end, err
		}
	}
}

// readTo writes the events up to these offsets, the partitions by turns.
func (o *stream) readTo(ctx context.Context, to map[kafka.Place]int64) (*streamEnd, error) {
	for left := true; left; {
		left = false
		for p, end := range to {
			if o.position[p] >= end {
				continue
			}
			left = true
			if err := o.readPart(ctx, p, end); err != nil {
				return nil, err
			}
			select {
			case <-o.streams.closed:
				return o.stopping(), nil
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			default:
			}
			if o.server.now().Sub(o.beaten) > o.streams.Heartbeat {
				if err := o.beat(); err != nil {
					return nil, err
				}
			}
		}
	}
	return nil, nil
}

// readPart reads a part of a partition, and writes it when the consumer is given back.
func (o *stream) readPart(ctx context.Context, p kafka.Place, end int64) error {
	var found []Recorded
	size := 0
	from := o.position[p]
	next := min(from+catchUpOffsets, end)
	err := o.streams.Reader.Scan(ctx, p.Topic, p.Partition, from, next, kafka.ReadCommitted, func(r kafka.Record) error {
		m, err := kafka.ParseRecord(&r)
		if err != nil {
			o.streams.Log.Warn("a record of an events topic cannot be read; no stream shows it", "topic", r.Topic, "partition", r.Partition, "offset", r.Offset, "err", err)
			return nil
		}
		if !o.filter.wants(m) {
			return nil
		}
		found = append(found, Recorded{m, runtime.Coordinates{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset}})
		if size += len(r.Value); len(found) == catchUpEvents || size > catchUpBytes {
			next = r.Offset + 1
			return errPageFull
		}
		return nil
	})
	if err != nil && !errors.Is(err, errPageFull) {
		return err
	}
	if err := o.write(found); err != nil {
		return err
	}
	o.position[p] = next
	return nil
}

// live reads what is left up to the tail, and then writes what comes. again is
// true when the tail ran away meanwhile: then there is more to catch up first.
func (o *stream) live(ctx context.Context, sub *subscriber) (end *streamEnd, again bool, err error) {
	select {
	case <-sub.begun:
	case <-o.streams.closed:
		return o.stopping(), false, nil
	case <-ctx.Done():
		return nil, false, nil
	}
	rest := make(map[kafka.Place]int64)
	for _, p := range o.filter.places(o.streams) {
		rest[p] = sub.from[p] // 0 of a topic that the tail does not have yet
		if _, ok := o.position[p]; !ok {
			o.position[p] = 0
		}
	}
	if end, err := o.readTo(ctx, rest); end != nil || err != nil {
		return end, false, err
	}
	events, end := sub.take()
	if end != nil {
		return end, end.Reason == "slow", nil // until now it was not the client who was slow
	}
	if err := o.write(o.news(events)); err != nil {
		return nil, false, err
	}
	beat := time.NewTicker(o.streams.Heartbeat)
	defer beat.Stop()
	for {
		select {
		case <-sub.signal:
			events, end := sub.take()
			if end != nil {
				return end, false, nil
			}
			if err := o.write(o.news(events)); err != nil {
				return nil, false, err
			}
		case <-beat.C:
			o.streams.idlePosition(sub, o.position)
			if err := o.beat(); err != nil {
				return nil, false, err
			}
		case <-o.streams.closed:
			return o.stopping(), false, nil
		case <-ctx.Done():
			return nil, false, nil
		}
	}
}

// news leaves out what was read before already.
func (o *stream) news(events []Recorded) []Recorded {
	news := events[:0]
	for _, e := range events {
		if e.At.Offset >= o.position[kafka.Place{Topic: e.At.Topic, Partition: e.At.Partition}] {
			news = append(news, e)
		}
	}
	return news
}

func (o *stream) stopping() *streamEnd {
	return &streamEnd{"stopping", "the gateway stops; another one goes on from the last event"}
}

// write writes events, each with the position after it.
func (o *stream) write(events []Recorded) error {
	for _, e := range events {
		data, err := json.Marshal(o.server.eventJSON(e))
		if err != nil {
			return fmt.Errorf("event at %s: %w", e.At, err)
		}
		o.position[kafka.Place{Topic: e.At.Topic, Partition: e.At.Partition}] = e.At.Offset + 1
		o.text.WriteString("id: " + o.streams.positionText(o.position) + "\ndata: ")
		o.text.Write(data)
		o.text.WriteString("\n\n")
		if o.text.Len() > 64<<10 {
			if err := o.flush(); err != nil {
				return err
			}
		}
	}
	return o.flush()
}

// beat is a sign of life, which also tells how far the stream is: an id without
// data is kept by clients and shown to nobody.
func (o *stream) beat() error {
	o.text.WriteString(": still here\nid: " + o.streams.positionText(o.position) + "\n\n")
	return o.flush()
}

// last writes the last word. The client may not take it.
func (o *stream) last(end *streamEnd) {
	data, err := json.Marshal(end)
	if err != nil {
		return
	}
	o.text.Reset()
	o.text.WriteString("event: end\nid: " + o.streams.positionText(o.position) + "\ndata: ")
	o.text.Write(data)
	o.text.WriteString("\n\n")
	_ = o.flush()
}

func (o *stream) flush() error {
	if o.text.Len() == 0 {
		return nil
	}
	defer o.text.Reset()
	o.beaten = o.server.now()
	if err := o.control.SetWriteDeadline(o.beaten.Add(o.streams.WriteLimit)); err != nil {
		return &clientGone{err}
	}
	if _, err := o.w.Write(o.text.Bytes()); err != nil {
		return &clientGone{err}
	}
	if err := o.control.Flush(); err != nil {
		return &clientGone{err}
	}
	return nil
}
