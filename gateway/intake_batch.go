package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"github.com/evento-oss/evento/runtime"
)

// A batch is answered item by item, and nothing of it is lost silently:
//
//   - Every item is read, classified and validated before any is written. One
//     that is wrong makes the whole batch 422 with a problem for each wrong item.
//   - Then all are written: those of one aggregate in the order of the batch,
//     different aggregates at once. When one fails, the later ones of its
//     aggregate are not written, so that their order stays.
//   - 202 (or 200 with all outcomes, when the client waits) is answered only
//     when Kafka has every item. Otherwise 503, with how each item stands;
//     repeating the whole batch with the same ids is safe.

// batchWriters is how many aggregates of one batch are written at once.
const batchWriters = 32

// batchItem is one item of a batch and how it stands.
type batchItem struct {
	index   int
	message *runtime.Message
	outcome *Outcome
	err     error // a problem
}

// batchItemJSON is how an item is answered.
type batchItemJSON struct {
	Index      int            `json:"index"`
	HTTPStatus int            `json:"http_status"` // what the item alone would have been answered with
	Outcome    *outcomeJSON   `json:"outcome,omitempty"`
	Problem    map[string]any `json:"problem,omitempty"`
}

func (s *HTTPServer) intakeBatch(w http.ResponseWriter, r *http.Request, q intakeRequest, body []byte) error {
	items, err := s.readBatch(q, body)
	if err != nil {
		return err
	}
	s.deliverBatch(r.Context(), q, items)
	answers, status := s.batchAnswers(q, items)
	if status >= 500 {
		p := fail(problemBatchIncomplete, "not every item is accepted, see items; repeating the whole batch with the same ids is safe").with("items", answers)
		var first *problem
		for _, i := range items {
			if errors.As(i.err, &first) {
				return p.after(first.retryAfter).because(first)
			}
		}
		return p
	}
	if q.wait > 0 {
		w.Header().Set("Preference-Applied", preferenceApplied(q.wait))
	}
	if q.wants == wantAny && q.wait == 0 {
		w.WriteHeader(status)
		return nil
	}
	return writeJSON(w, status, map[string]any{"items": answers})
}

// readBatch reads and validates every item, or returns one problem about all that are wrong.
func (s *HTTPServer) readBatch(q intakeRequest, body []byte) ([]*batchItem, error) {
	objects, err := splitJSONArray(body, s.config.MaxBatch)
	if err != nil {
		return nil, err
	}
	items := make([]*batchItem, len(objects))
	var wrong []batchItemJSON
	for i, object := range objects {
		d, err := parseStructured(object, q.wants, q.trace)
		var m *runtime.Message
		if err == nil {
			m, err = s.classifyMessage(d, q)
		} else {
			s.countIntake("unknown", "refused")
		}
		if err != nil {
			wrong = append(wrong, problemItem(i, err))
		}
		items[i] = &batchItem{index: i, message: m}
	}
	if len(wrong) > 0 {
		return nil, fail(problemBatch, "%d of %d items are wrong, see items; nothing was written", len(wrong), len(items)).with("items", wrong)
	}
	return items, nil
}

// deliverBatch writes all items, then waits for all of them.
func (s *HTTPServer) deliverBatch(ctx context.Context, q intakeRequest, items []*batchItem) {
	waiters := make([]*waiting, len(items))
	byAggregate := map[runtime.AggregateID][]*batchItem{}
	for i, item := range items {
		a := item.message.Aggregate()
		byAggregate[a] = append(byAggregate[a], item)
		if q.wait == 0 {
			continue
		}
		// A waiter that is refused costs an item its waiting, not its acceptance.
		if n, err := s.need.Waiters.add(a, q.begin.Add(q.wait)); err == nil {
			waiters[i], item.message.Waiter = n, n.waiter
			defer n.done()
		}
	}
	slots := make(chan struct{}, batchWriters)
	var writing sync.WaitGroup
	for _, group := range byAggregate {
		slots <- struct{}{}
		writing.Go(func() {
			defer func() { <-slots }()
			s.writeInOrder(ctx, group)
		})
	}
	writing.Wait()
	for _, item := range items {
		item.message = withoutData(item.message)
	}
	q.written()
	for i, n := range waiters {
		if n != nil && items[i].err == nil {
			items[i].outcome = s.await(ctx, n)
		}
	}
}

// writeInOrder writes items of one aggregate, until one fails.
func (s *HTTPServer) writeInOrder(ctx context.Context, group []*batchItem) {
	for i, item := range group {
		if item.err = s.append(ctx, item.message); item.err == nil {
			continue
		}
		for _, later := range group[i+1:] {
			later.err = fail(problemUnavailable, "not written, as item %d of the same aggregate, which comes before, is not accepted", item.index).
				with("id", later.message.ID).with("source", later.message.Source)
		}
		return
	}
}

// batchAnswers returns the answer of each item and the status of all.
func (s *HTTPServer) batchAnswers(q intakeRequest, items []*batchItem) ([]batchItemJSON, int) {
	answers := make([]batchItemJSON, len(items))
	status := http.StatusOK
	if q.wait == 0 {
		status = http.StatusAccepted
	}
	for i, item := range items {
		if item.err != nil {
			answers[i] = problemItem(i, item.err)
			status = http.StatusServiceUnavailable
			continue
		}
		location := s.location(item.message, q.principal)
		if item.outcome == nil {
			answers[i] = batchItemJSON{Index: i, HTTPStatus: http.StatusAccepted, Outcome: pendingJSON(item.message, location)}
			if status == http.StatusOK {
				status = http.StatusAccepted
			}
			continue
		}
		if p := s.outcomeProblem(item.outcome); p != nil {
			answers[i] = problemItem(i, p)
			continue
		}
		out := s.outcomeJSON(item.outcome)
		out.Location = location
		answers[i] = batchItemJSON{Index: i, HTTPStatus: http.StatusOK, Outcome: out}
	}
	return answers, status
}

func problemItem(index int, err error) batchItemJSON {
	var p *problem
	if !errors.As(err, &p) {
		p = fail(problemInternal, "the item could not be handled").because(fmt.Errorf("item %d: %w", index, err))
	}
	return batchItemJSON{Index: index, HTTPStatus: p.kind.status, Problem: p.document()}
}
