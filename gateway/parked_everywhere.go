package gateway

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
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
// the order of their coordinates. It is an error when a gateway does not answer; a
// partition that nobody answers for is missing, and the list says so.
func (s *HTTPServer) parkedEverywhere(ctx context.Context, f ParkedFilter) (parkedList, *missingJSON, error) {
	list, err := s.parkedHere(ctx, f)
	if err != nil {
		return list, nil, s.readProblem(err, nil)
	}
	others, err := s.others(ctx)
	if err != nil {
		return list, nil, s.ownerProblem(err)
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
			list.add(theirs)
		})
	}
	asked.Wait()
	if len(errs) > 0 {
		return list, nil, fail(problemOwnerUnreachable, "a gateway does not answer for its partitions; ask again").because(errors.Join(errs...)).after(time.Second)
	}
	list.cut(f.Limit)
	return list, list.missing(s.need.Partitions), nil
}

// parkedHere lists what waits at this gateway: commands of its partitions, and
// events that dispatchers have parked in theirs.
func (s *HTTPServer) parkedHere(ctx context.Context, f ParkedFilter) (list parkedList, err error) {
	list.Parked, list.Partitions, err = s.need.Reader.Parked(ctx, f)
	if err != nil {
		return list, err
	}
	if s.need.Dispatching != nil {
		var events []ParkedEvent
		events, list.Dispatchers = s.need.Dispatching.Parked()
		for _, e := range events {
			c := ParkedCommand{
				At: e.At, Aggregate: e.Entity.Aggregate(), Entity: e.Entity, Event: e.Event, Dispatcher: e.Dispatcher, Type: e.Type,
				Status: e.Status, Attempts: e.Attempts, Reason: e.Reason, Function: e.Dispatcher, Since: e.Since,
			}
			if f.matches(&c) {
				list.Parked = append(list.Parked, c)
			}
		}
	}
	list.cut(f.Limit)
	return list, nil
}

// parkedAt asks another gateway for what waits there.
func (s *HTTPServer) parkedAt(ctx context.Context, address string, f ParkedFilter) (list parkedList, err error) {
	query := url.Values{}
	for name, value := range map[string]string{
		"aggregate": string(f.Aggregate), "status": string(f.Status), "type": f.Type, "function": f.Function, "after": f.After.String(),
	} {
		if value != "" {
			query.Set(name, value)
		}
	}
	if f.Limit > 0 {
		query.Set("limit", strconv.Itoa(f.Limit))
	}
	if f.At != nil {
		maps.Copy(query, coordinateQuery(*f.At))
	}
	err = s.askPeer(ctx, address, parkedInternalPath+"?"+query.Encode(), &list)
	return list, err
}

// getParkedHere answers another gateway's parkedAt.
func (s *HTTPServer) getParkedHere(w http.ResponseWriter, r *http.Request, _ *AuthPrincipal) error {
	f, err := parkedFilter(r)
	if err != nil {
		return err
	}
	if query := r.URL.Query(); query.Has("partition") {
		at, err := queryCoordinates(query)
		if err != nil {
			return err
		}
		f.At = &at
	}
	list, err := s.parkedHere(r.Context(), f)
	if err != nil {
		return s.readProblem(err, nil)
	}
	return writeJSON(w, http.StatusOK, list)
}

// coordinateParams are the parameters of coordinateQuery.
var coordinateParams = []string{"topic", "partition", "offset"}

// coordinateQuery has coordinates for another gateway, which reads them with
// queryCoordinates.
func coordinateQuery(at runtime.Coordinates) url.Values {
	return url.Values{
		"topic": {at.Topic}, "partition": {strconv.FormatInt(int64(at.Partition), 10)}, "offset": {strconv.FormatInt(at.Offset, 10)},
	}
}

func queryCoordinates(query url.Values) (runtime.Coordinates, error) {
	partition, err1 := strconv.ParseInt(query.Get("partition"), 10, 32)
	offset, err2 := strconv.ParseInt(query.Get("offset"), 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		return runtime.Coordinates{}, fail(problemParameter, "partition and offset are numbers").because(err)
	}
	return runtime.Coordinates{Topic: query.Get("topic"), Partition: int32(partition), Offset: offset}, nil
}
