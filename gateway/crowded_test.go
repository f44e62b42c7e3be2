package gateway

import (
	"testing"

	"github.com/evento-oss/evento/runtime"
)

func TestCrowdedAggregateIsRefusedAtEveryGateway(t *testing.T) {
	t.Parallel()
	other, owner := newHTTPBench(t, withSecret), newHTTPBench(t, withSecret)
	other.reader.others = []string{owner.internal.Listener.Addr().String()}
	send := func(entity string) answer {
		return other.call("POST", "/v1/commands", `{"entity": "`+entity+`", "command_type": "WithdrawCash", "payload": {"amount": 1}}`, jsonType)
	}
	other.server.learnCrowded(t.Context())
	send("checking:1").wantStatus(t, 202)

	owner.reader.crowded = []runtime.AggregateID{"checking:1"}
	other.server.learnCrowded(t.Context())
	if a := send("checking:1").wantProblem(t, problemTooManyWaiting); a.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	send("checking:2").wantStatus(t, 202)
	if n := len(other.appender.messages); n != 2 {
		t.Errorf("%d commands were written, want the two that were accepted", n)
	}

	owner.internal.Close() // gone: it refuses nothing any more
	other.server.learnCrowded(t.Context())
	send("checking:1").wantStatus(t, 202)
}
