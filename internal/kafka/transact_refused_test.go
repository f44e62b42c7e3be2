package kafka

import (
	"errors"
	"fmt"
	"strings"
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
		"metadata too long":    {Result{Reason: ReasonOffset, Err: &OffsetError{Err: kerr.OffsetMetadataTooLarge}}, false},
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

func TestRefusedMetadataNameTheSetting(t *testing.T) {
	t.Parallel()
	err := (&GroupConfig{Topic: "commands"}).offsetErrors([]PartitionOffset{{Held: Held{Partition: 3}, Offset: 7, Metadata: "metadata"}}, map[place]int16{{"commands", 3}: kerr.OffsetMetadataTooLarge.Code})
	for _, want := range []string{"commands partition 3", "8 bytes", "offset.metadata.max.bytes"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q: %v", want, err)
		}
	}
}
