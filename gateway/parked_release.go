package gateway

import (
	"context"
	"errors"
	"net/http"
	"sync"

	"github.com/evento-oss/evento/runtime"
)

// Many parked commands are released at once by what they have in common: their
// aggregate, their type, or the function that they wait for.

// releaseParallel is how many aggregates are worked on at the same time.
const releaseParallel = 16

// releasedJSON says what became of a page of the list.
type releasedJSON struct {
	Released   []string      `json:"released"` // coordinates
	Failed     []notReleased `json:"failed,omitempty"`
	Next       string        `json:"next,omitempty"` // where the next page begins
	Incomplete *missingJSON  `json:"incomplete,omitempty"`
}

// notReleased is something that was not released, and why.
type notReleased struct {
	Coordinates string         `json:"coordinates"`
	Problem     map[string]any `json:"problem"`
}

// postParkedRetryAll has waiting commands tried now, and dispatchers asked again
// about events that they have parked. The commands of an aggregate wait for the
// first of them, so one order does for all, and they go on in their order.
func (s *HTTPServer) postParkedRetryAll(w http.ResponseWriter, r *http.Request, p *AuthPrincipal) error {
	told := map[runtime.AggregateID]bool{}
	var mu sync.Mutex // guards told
	return s.release(w, r, p, func(ctx context.Context, q intakeRequest, c *ParkedCommand) (bool, error) {
		switch {
		case c.Dispatcher != "":
			return s.tellHolder(ctx, dispatchRetryPath, c, nil)
		case c.Status == OutcomeParked, c.Misplaced:
			return false, nil
		}
		mu.Lock()
		again := told[c.Aggregate]
		told[c.Aggregate] = true
		mu.Unlock()
		if again {
			return true, nil
		}
		m, err := s.parkedOrder(q, c, runtime.TypeRetryNow, map[string]any{})
		if err == nil {
			_, err = s.deliver(ctx, q, m)
		}
		return true, err
	})
}

// postParkedReissueAll sends parked commands again, those of an aggregate in the
// order in which they were sent first.
func (s *HTTPServer) postParkedReissueAll(w http.ResponseWriter, r *http.Request, p *AuthPrincipal) error {
	return s.release(w, r, p, func(ctx context.Context, q intakeRequest, c *ParkedCommand) (bool, error) {
		if c.Dispatcher != "" || c.Status != OutcomeParked {
			return false, nil
		}
		_, err := s.reissue(ctx, q, c)
		return true, err
	})
}

// release does something with each entry of a page of the list. What one returns
// false for is none of its business. Of an aggregate one entry comes after the
// other, and after the first that fails none: their order would be another.
func (s *HTTPServer) release(w http.ResponseWriter, r *http.Request, p *AuthPrincipal, one func(context.Context, intakeRequest, *ParkedCommand) (bool, error)) error {
	if err := s.emptyBody(w, r, "a release"); err != nil {
		return err
	}
	filter, err := parkedFilter(r)
	if err != nil {
		return err
	}
	if filter.Aggregate == "" && filter.Type == "" && filter.Function == "" {
		return fail(problemParameter, "say which: aggregate, type or function is needed")
	}
	list, missing, err := s.parkedEverywhere(r.Context(), filter)
	if err != nil {
		return err
	}
	done := make([]bool, len(list.Parked))
	errs := make([]error, len(list.Parked))
	queues := map[runtime.AggregateID][]int{}
	for i, c := range list.Parked {
		queues[c.Aggregate] = append(queues[c.Aggregate], i)
	}
	var all sync.WaitGroup
	slots := make(chan struct{}, releaseParallel)
	for _, queue := range queues {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			var before error
			for _, i := range queue {
				if before != nil {
					errs[i] = fail(problemUnavailable, "not tried, since one before it of its aggregate failed; ask again").because(before)
					continue
				}
				q := intakeRequest{principal: p, wants: wantCommand, begin: s.now(), trace: traceParent(r.Header.Get("Traceparent"))}
				done[i], errs[i] = one(r.Context(), q, &list.Parked[i])
				before = errs[i]
			}
		})
	}
	all.Wait()
	answer := releasedJSON{Released: []string{}, Next: list.next(), Incomplete: missing}
	for i := range list.Parked {
		at := list.Parked[i].At.String()
		switch {
		case errs[i] != nil:
			var why *problem
			if !errors.As(errs[i], &why) {
				why = fail(problemInternal, "it could not be released").because(errs[i])
				s.need.Log.Error("a parked command could not be released", "entity", string(list.Parked[i].Entity), "coordinates", at, "err", errs[i])
			}
			answer.Failed = append(answer.Failed, notReleased{at, why.document()})
		case done[i]:
			answer.Released = append(answer.Released, at)
		}
	}
	return writeJSON(w, http.StatusOK, answer)
}
