package kafka

import (
	"errors"
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
)

func TestRefusedIsWhatWillNeverBeTaken(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		result Result
		want   bool
	}{
		"record too large":     {Result{Reason: ReasonRecord, Err: fmt.Errorf("record 3: %w", kerr.MessageTooLarge)}, true},
		"metadata too long":    {Result{Reason: ReasonOffset, Err: &OffsetError{Err: kerr.OffsetMetadataTooLarge}}, true},
		"nothing in it":        {Result{Reason: ReasonInvalid, Err: errors.New("no record")}, true},
		"leader away":          {Result{Reason: ReasonRecord, Err: kerr.NotLeaderForPartition}, false},
		"leader never answers": {Result{Reason: ReasonRecord, Err: ErrWatchdog}, false},
		"broker away":          {Result{Reason: ReasonBroker, Err: kerr.MessageTooLarge}, false},
		"committed":            {Result{Outcome: Committed}, false},
	} {
		if got := c.result.Refused(); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
