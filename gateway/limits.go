package gateway

import (
	"errors"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/evento-oss/evento/runtime/httplimit"
)

// gauge counts what is in use of something limited.
type limitGauge struct {
	used  atomic.Int64
	limit int64
}

// take takes n, or nothing and returns false when that would pass the limit.
func (g *limitGauge) take(n int64) bool {
	if g.used.Add(n) > g.limit {
		g.used.Add(-n)
		return false
	}
	return true
}

func (g *limitGauge) give(n int64) { g.used.Add(-n) }

// bodyReader reads bodies within the limit of one and the limit of all.
type bodyReader struct{ *httplimit.Bodies }

// read returns the whole body and a function that gives its bytes back to the
// limit of all, to be called once it is not needed any more; a second call does
// nothing. Errors are problems.
func (b bodyReader) read(w http.ResponseWriter, r *http.Request) ([]byte, func(), error) {
	// What is small here and huge once it is unpacked would pass every limit.
	if coding := strings.Join(r.Header.Values("Content-Encoding"), ", "); coding != "" && !strings.EqualFold(coding, "identity") {
		return nil, nil, fail(problemMediaType, "content-encoding is %q; bodies are taken as they are, not packed", coding).
			field("content-encoding").header("Accept-Encoding", "identity")
	}
	body, err := b.Read(w, r)
	switch {
	case err == nil:
		return body.Bytes, body.Release, nil
	case errors.Is(err, httplimit.ErrTooLarge):
		return nil, nil, fail(problemTooLarge, "the body is larger than the limit of %d bytes that is set by %s", b.Max, settingMaxBody).limit(settingMaxBody, b.Max)
	case errors.Is(err, httplimit.ErrFull):
		return nil, nil, fail(problemOverloaded, "the bodies of all requests together have reached the limit of %d bytes that is set by %s, and this one was on its way for the longest", b.Total, settingMaxBuffered).
			limit(settingMaxBuffered, b.Total).after(time.Second)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, nil, fail(problemLate, "the body has not come whole within %s", httpReadTimeout).because(err)
	}
	return nil, nil, fail(problemMalformed, "the body cannot be read to its end").because(err)
}
