package simulate

import (
	"errors"
	"runtime/debug"
	"time"
)

func trace() string { return string(debug.Stack()) }

// errConnection is all that a client knows of a request whose answer it did not
// get: it may have been carried out, or not, or still be on its way.
var errConnection = errors.New("connection lost")

// fate is what the network does with one request.
type fate struct {
	there, back  time.Duration
	lost         bool // the request never arrives
	answerLost   bool // it arrives, and its answer does not
	late         time.Duration
	noticedAfter time.Duration // when the client knows that something is wrong
}

// weather draws the fate of a request between a process and a server.
func (w *world) weather(n *node, away bool, timeout time.Duration) fate {
	f := fate{there: w.between(200*time.Microsecond, 3*time.Millisecond), back: w.between(200*time.Microsecond, 3*time.Millisecond)}
	f.noticedAfter = timeout
	if away || n != nil && n.split {
		f.lost = true
		if w.chance(500) {
			f.noticedAfter = min(timeout, w.between(time.Millisecond, 50*time.Millisecond))
		}
		return f
	}
	if !w.chance(w.faults.network) {
		return f
	}
	if w.chance(700) {
		f.noticedAfter = min(timeout, w.between(time.Millisecond, 200*time.Millisecond))
	}
	switch w.rng.IntN(4) {
	case 0:
		f.lost = true
	case 1:
		f.answerLost = true
	case 2:
		f.late = f.noticedAfter + w.between(0, 6*time.Second)
	default: // only slow
		f.there = w.between(0, timeout/2)
		f.back = w.between(0, timeout/3)
	}
	return f
}

// call sends a request to a server and waits for its answer, for as long as
// timeout. The server may answer at once or later.
func call[T any](p *proc, w *world, away bool, timeout time.Duration, serve func(reply func(T))) (T, error) {
	var answer T
	answered := false
	ticket := p.expect()
	f := w.weather(p.n, away, timeout)
	fail := func() { w.after(f.noticedAfter, p.n, func() { p.wake(ticket) }) }
	reply := func(r T) {
		if f.answerLost || f.late > 0 {
			return
		}
		w.after(f.back, p.n, func() {
			if p.ticket == ticket {
				answer, answered = r, true
			}
			p.wake(ticket)
		})
	}
	switch {
	case f.lost:
		fail()
	case f.late > 0:
		fail()
		w.after(f.late, nil, func() { serve(reply) })
	case f.answerLost:
		fail()
		w.after(min(f.there, f.noticedAfter), nil, func() { serve(reply) })
	default:
		replied := false
		w.after(f.there, nil, func() {
			serve(func(r T) {
				replied = true
				reply(r)
			})
			if !replied {
				w.after(timeout-min(f.there, timeout), p.n, func() { p.wake(ticket) })
			}
		})
	}
	p.park()
	if !answered {
		return answer, errConnection
	}
	return answer, nil
}
