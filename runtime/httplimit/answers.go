package httplimit

import (
	"net/http"
	"time"
)

// What a client has for taking an answer: this, and the time that it takes at the
// least rate, in bytes a second.
const (
	answerTime = 30 * time.Second
	answerRate = 64 << 10
)

// smallAnswer is up to where an answer is not counted: the kernel takes it at once.
const smallAnswer = 4 << 10

// Answers writes answers, and bounds the memory of those that wait for their
// clients to take them. An Answers is safe for concurrent use.
type Answers struct {
	Total int64         // bytes of all
	Time  time.Duration // for one; 0: 30 s, and a second for each 64 KiB
	budget
}

// Held is the bytes of all answers that are being written.
func (a *Answers) Held() int64 { return a.sum() }

// Write writes a whole answer within its time. When all answers are beyond their
// limit, the one that has waited for its client for the longest is cut off.
//
// The error is [ErrFull] when this answer alone is beyond the limit: then nothing is
// written. Where writing fails the client is gone, or too slow, and nobody is to be told.
func (a *Answers) Write(w http.ResponseWriter, status int, body []byte) error {
	control := http.NewResponseController(w)
	// A writer without deadlines (a test's) has no need of one.
	limit := a.Time
	if limit == 0 {
		limit = answerTime + time.Duration(len(body)/answerRate)*time.Second
	}
	_ = control.SetWriteDeadline(time.Now().Add(limit))
	if len(body) > smallAnswer {
		if !a.fits(a.Total, int64(len(body))) {
			return ErrFull
		}
		var p part
		a.begin(&p, control.SetWriteDeadline)
		defer a.release(&p)
		defer a.settle(&p)
		if !a.take(&p, a.Total, int64(len(body))) {
			return ErrFull
		}
	}
	w.WriteHeader(status)
	w.Write(body)
	return nil
}
