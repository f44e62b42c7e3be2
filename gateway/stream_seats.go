package gateway

import (
	"context"
	"errors"
	"net"
	"net/http"
	"slices"
	"sync"
)

// errSeatGone ends a stream whose place was given to another client.
var errSeatGone = errors.New("another client has been given this stream's place")

// streamSeats are the places of streams. When all are taken, the client that has most
// of them loses its oldest one to a client that has no more than it even then: who opens
// streams and forgets them keeps nobody away but itself.
type streamSeats struct {
	limit int

	mu    sync.Mutex
	taken int
	by    map[string][]*streamSeat // by client, the oldest first
}

// streamSeat is one stream's place.
type streamSeat struct {
	client string
	leave  context.CancelCauseFunc
}

// seatClient says whose stream it is: the principal's where clients authenticate,
// else that of the address that it comes from.
func seatClient(r *http.Request, p *AuthPrincipal) string {
	if !p.anonymous {
		return p.Name
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// take gives the client a place, or nil when there is none for it. leave is called with
// errSeatGone when the place is given to another client.
func (s *streamSeats) take(client string, leave context.CancelCauseFunc) *streamSeat {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taken >= s.limit && !s.makeRoom(len(s.by[client])) {
		return nil
	}
	seat := &streamSeat{client: client, leave: leave}
	if s.by == nil {
		s.by = map[string][]*streamSeat{}
	}
	s.by[client] = append(s.by[client], seat)
	s.taken++
	return seat
}

// makeRoom ends a stream of the client with most of them, for one that has so many.
func (s *streamSeats) makeRoom(has int) bool {
	most := ""
	for client, seats := range s.by {
		if len(seats) > len(s.by[most]) {
			most = client
		}
	}
	if len(s.by[most]) < has+2 {
		return false
	}
	oldest := s.by[most][0]
	s.remove(oldest)
	oldest.leave(errSeatGone)
	return true
}

// give ends what take began; what was given to another client already, is not given again.
func (s *streamSeats) give(seat *streamSeat) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(seat)
}

func (s *streamSeats) remove(seat *streamSeat) {
	seats := s.by[seat.client]
	i := slices.Index(seats, seat)
	if i < 0 {
		return
	}
	s.taken--
	if s.by[seat.client] = slices.Delete(seats, i, i+1); len(seats) == 1 {
		delete(s.by, seat.client)
	}
}
