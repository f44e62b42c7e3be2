package httplimit

import (
	"errors"
	"fmt"
	"io"
	"net/http"
)

var (
	// ErrTooLarge: the body is longer than the limit of one.
	ErrTooLarge = errors.New("the body is too large")
	// ErrFull: all bodies, or answers, together have reached their limit, and
	// this one was given up for others.
	ErrFull = errors.New("all bodies together are too large")
)

// firstBytes is what a body gets before any of it has come. Most are smaller.
const firstBytes int64 = 4 << 10

// Bodies reads the bodies of requests within the limit of one, Max, and the limit of
// all, Total, which is at least Max. Both are bytes. A Bodies is safe for concurrent use.
type Bodies struct {
	Max   int64
	Total int64
	budget
}

// Held is the bytes of all bodies that are being read or handled.
func (b *Bodies) Held() int64 { return b.sum() }

// Body is the body of a request.
type Body struct {
	Bytes []byte
	of    *Bodies
	part  part
}

// Read reads the whole body of a request. Memory is taken as bytes arrive, at
// most twice what has come: a length that is announced costs nothing. When all
// bodies are beyond their limit, the one that has been on its way for the longest
// is given up, be it this one; bodies that have come whole never are.
//
// The error is [ErrTooLarge], [ErrFull], or that of the connection. Release of the
// Body must be called when it is no longer needed; with an error there is none.
func (b *Bodies) Read(w http.ResponseWriter, r *http.Request) (*Body, error) {
	if r.ContentLength > b.Max {
		w.Header().Set("Connection", "close") // rather than read what nobody wants
		return nil, fmt.Errorf("%w: it has %d bytes", ErrTooLarge, r.ContentLength)
	}
	if !b.fits(b.Total, r.ContentLength) {
		return nil, ErrFull // before others give way for nothing
	}
	body := &Body{of: b}
	size := min(firstBytes, b.Max)
	if r.ContentLength >= 0 {
		size = min(size, r.ContentLength)
	}
	b.begin(&body.part, http.NewResponseController(w).SetReadDeadline)
	err := body.read(http.MaxBytesReader(w, r.Body, b.Max), size, r.ContentLength)
	cut := b.settle(&body.part)
	var large *http.MaxBytesError
	switch {
	case cut:
		w.Header().Set("Connection", "close") // its deadline is over
		return nil, ErrFull
	case err == nil:
		return body, nil
	case errors.As(err, &large):
		err = ErrTooLarge
	}
	body.Release()
	return nil, err
}

// Release gives the bytes back to the limit of all: Bytes is nil from then on. A
// second call does nothing.
func (x *Body) Release() {
	x.Bytes = nil
	x.of.release(&x.part)
}

// read reads to the end. announced is -1 when the length is not known.
func (x *Body) read(from io.Reader, size, announced int64) error {
	if !x.of.take(&x.part, x.of.Total, size) {
		return ErrFull
	}
	buf := make([]byte, 0, size)
	most := x.of.Max
	if announced >= 0 {
		most = announced
	}
	for int64(len(buf)) != announced {
		if len(buf) == cap(buf) && int64(len(buf)) < most {
			more := min(int64(cap(buf)), most-int64(len(buf)))
			if !x.of.take(&x.part, x.of.Total, more) {
				return ErrFull
			}
			grown := make([]byte, len(buf), int64(len(buf))+more)
			copy(grown, buf)
			buf = grown
		}
		room := buf[len(buf):cap(buf)]
		if len(room) == 0 {
			room = make([]byte, 1) // for the end, or for a byte too many, which the reader turns into its error
		}
		n, err := from.Read(room)
		if len(buf) < cap(buf) {
			buf = buf[:len(buf)+n]
		}
		switch {
		case int64(len(buf)) == announced, err == io.EOF && announced < 0:
			x.Bytes = buf
			return nil
		case err == io.EOF:
			return io.ErrUnexpectedEOF
		case err != nil:
			return err
		}
	}
	x.Bytes = buf
	return nil
}
