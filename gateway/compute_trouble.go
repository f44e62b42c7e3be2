package gateway

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/evento-oss/evento/gateway/shard"
	"github.com/evento-oss/evento/runtime"
)

// Waits before the next try of what is unavailable. All get jitter.
const (
	waitSoon   = 2 * time.Millisecond   // the reason is gone when it is asked again
	waitShort  = 200 * time.Millisecond // nobody answered, once
	waitLong   = 30 * time.Second       // the longest for an aggregate whose calls are lost
	waitDeploy = time.Second            // until somebody deploys or registers something
)

// maxReason bounds what a function's message adds to a record or a log line, in bytes.
const maxReason = 1000

// wrongAnswerError says what is wrong with what a function answered.
type wrongAnswerError struct{ reason string }

func (e *wrongAnswerError) Error() string { return "wrong answer: " + e.reason }

func wrongAnswer(format string, args ...any) error {
	return &wrongAnswerError{fmt.Sprintf(format, args...)}
}

// trouble decides what an error of a call means for the command, a reason a
// branch. l is nil when it did not come to a call.
func (f *Functions) trouble(t *FunctionTarget, l *functionLine, q *question, err error) *shard.Trouble {
	tr := &shard.Trouble{Kind: shard.Unavailable, Function: t.Name, Reason: shorten(err.Error()), Policy: t.Policy}
	if q != nil {
		tr.Image = q.image
	}
	var (
		away    *awayError
		unknown *unknownThereError
		wrong   *wrongAnswerError
		older   *olderFoldError
		failure *runtime.Failure
		call    *runtime.CallError
	)
	switch {
	case errors.Is(err, errFoldChanged):
		tr.Wait = waitSoon
	case errors.As(err, &away):
		tr.Wait = away.wait
		if l != nil {
			l.keptAway(t.Name)
		}
	case errors.As(err, &unknown), errors.Is(err, errUnregistered), errors.Is(err, errTranscode):
		// Not the command's fault: a build or a registration is missing.
		tr.Wait = jitter(waitDeploy)
	case errors.As(err, &older), errors.Is(err, errBuildChanges):
		tr.Wait = jitter(waitShort)
	case errors.As(err, &wrong):
		tr.Kind = shard.Failed
		if l != nil {
			l.spoiled(q.aggregate)
		}
	case errors.As(err, &failure):
		f.failureTrouble(tr, l, q, failure)
	case errors.As(err, &call) && call.Kind == runtime.CallFailed:
		tr.Kind = shard.Failed
	case errors.As(err, &call):
		tr.Wait = max(call.RetryAfter, f.waitAfterLoss(l, q))
	case errors.Is(err, errFunctionsClosed), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		tr.Wait = jitter(waitShort) // given up by ourselves
	default:
		tr.Wait = jitter(waitDeploy)
	}
	return tr
}

// failureTrouble is trouble for what a function said of one invocation.
func (f *Functions) failureTrouble(tr *shard.Trouble, l *functionLine, q *question, failure *runtime.Failure) {
	switch failure.Code {
	case runtime.FailureUnknownType, runtime.FailureSchema:
		tr.Wait = jitter(waitDeploy)
	case runtime.FailureDeadline:
		if l != nil {
			l.lost(q.aggregate)
		}
		tr.Wait = f.waitAfterLoss(l, q)
	default:
		tr.Kind = shard.Failed
	}
}

// waitAfterLoss grows with the calls for this aggregate that were lost in a row:
// the breaker does not see to it while other aggregates get their answers.
func (f *Functions) waitAfterLoss(l *functionLine, q *question) time.Duration {
	wait := waitShort
	if l != nil {
		for n := l.misses(q.aggregate); n > 1 && wait < waitLong; n-- {
			wait *= 2
		}
	}
	return jitter(min(wait, waitLong))
}

// jitter returns between half of d and d.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

// shorten cuts a text that people read, at a character's border.
func shorten(s string) string {
	if len(s) <= maxReason {
		return s
	}
	return strings.ToValidUTF8(s[:maxReason], "") + "..."
}
