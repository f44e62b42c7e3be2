package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/evento-oss/evento/runtime"
)

// Which commands wait is known to the gateway that owns their partition alone, and
// which events a dispatcher has parked to the one that holds theirs for it, so each
// is asked for its own and the lists are put together.

const parkedInternalPath = "/internal/v1/parked"

// parkedEverywhere lists the waiting commands and parked events of all gateways, in
// the order of their coordinates. A list without one gateway's would look complete, so it is
// an error when one does not answer.
func (s *HTTPServer) parkedEverywhere(ctx context.Context, f ParkedFilter) ([]ParkedCommand, error) {
	list, err := s.parkedHere(ctx, f)
	if err != nil {
		return nil, s.readProblem(err, nil)
	}
	others, err := s.others(ctx)
	if err != nil {
		return nil, s.ownerProblem(err)
	}
	var mu sync.Mutex // guards list and errs
	var errs []error
	var asked sync.WaitGroup
	for _, address := range others {
		asked.Go(func() {
			theirs, err := s.parkedAt(ctx, address, f)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, fmt.Errorf("gateway %s: %w", address, err))
			}
			list = append(list, theirs...)
		})
	}
	asked.Wait()
	if len(errs) > 0 {
		return nil, fail(problemOwnerUnreachable, "a gateway does not answer for its partitions; ask again").because(errors.Join(errs...)).after(time.Second)
	}
	slices.SortFunc(list, func(a, b ParkedCommand) int {
		return cmp.Or(cmp.Compare(a.At.Topic, b.At.Topic), cmp.Compare(a.At.Partition, b.At.Partition), cmp.Compare(a.At.Offset, b.At.Offset), cmp.Compare(a.Dispatcher, b.Dispatcher))
	})
	if f.Limit > 0 && len(list) > f.Limit {
		list = list[:f.Limit]
	}
	return list, nil
}

// parkedAt asks another gateway for the waiting commands of its partitions.
func (s *HTTPServer) parkedAt(ctx context.Context, address string, f ParkedFilter) ([]ParkedCommand, error) {
	query := url.Values{"limit": {strconv.Itoa(f.Limit)}}
	if f.Aggregate != "" {
		query.Set("aggregate", string(f.Aggregate))
	}
	if f.Status != "" {
		query.Set("status", string(f.Status))
	}
	if f.At != nil {
		query.Set("topic", f.At.Topic)
		query.Set("partition", strconv.FormatInt(int64(f.At.Partition), 10))
		query.Set("offset", strconv.FormatInt(f.At.Offset, 10))
	}
	var list []ParkedCommand
	err := s.askPeer(ctx, address, parkedInternalPath+"?"+query.Encode(), &list)
	return list, err
}

// getParkedHere answers another gateway's parkedAt.
func (s *HTTPServer) getParkedHere(w http.ResponseWriter, r *http.Request, _ *AuthPrincipal) error {
	query := r.URL.Query()
	f := ParkedFilter{Aggregate: runtime.AggregateID(query.Get("aggregate")), Status: OutcomeStatus(query.Get("status"))}
	limit, err := queryNumber(r, "limit", parkedMax, parkedMax)
	if err != nil {
		return err
	}
	f.Limit = int(limit)
	if query.Has("partition") {
		partition, err1 := strconv.ParseInt(query.Get("partition"), 10, 32)
		offset, err2 := strconv.ParseInt(query.Get("offset"), 10, 64)
		if err := errors.Join(err1, err2); err != nil {
			return fail(problemParameter, "partition and offset are numbers").because(err)
		}
		f.At = &runtime.Coordinates{Topic: query.Get("topic"), Partition: int32(partition), Offset: offset}
	}
	list, err := s.parkedHere(r.Context(), f)
	if err != nil {
		return s.readProblem(err, nil)
	}
	if list == nil {
		list = []ParkedCommand{}
	}
	return writeJSON(w, http.StatusOK, list)
}
