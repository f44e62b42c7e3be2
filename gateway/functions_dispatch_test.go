package gateway

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/evento-oss/evento/examples/bank/checking/gen"
	"github.com/evento-oss/evento/gateway/shard"
	"github.com/evento-oss/evento/runtime"
)

// dispatcherAnswering is a dispatcher that reacts to deposits.
func (w *functionWorld) dispatcherAnswering(t *testing.T, answer func(*gen.DepositReceived) ([]runtime.Command, error)) FunctionTarget {
	t.Helper()
	f, err := runtime.NewDispatcher(runtime.Sends(gen.Definition()), gen.OnDepositReceived(func(_ runtime.DispatcherContext, e *gen.DepositReceived) ([]runtime.Command, error) {
		return answer(e)
	}))
	if err != nil {
		t.Fatal(err)
	}
	w.wire.serve("http://dispatcher", f)
	return bankTarget("transfers", "http://dispatcher")
}

func (w *functionWorld) deposited(t *testing.T) *runtime.Message {
	e := w.message(t, bankAccount, "", "DepositReceived", `{"transaction_id": "t1", "source": "cash", "amount": {"minor": 5}, "received_at": 7}`)
	e.ID, e.Sequence = runtime.NewCommandKey("/test", bankAccount, "d").EventID(1), 2
	return e
}

func closeAccount(to string) runtime.Command {
	c := gen.NewCloseCheckingAccount()
	return runtime.NewCommand(runtime.Entity(to), &c)
}

func TestDispatch(t *testing.T) {
	t.Parallel()
	w := newFunctionWorld(t, nil)
	var answer []runtime.Command
	var failure error
	target := w.dispatcherAnswering(t, func(*gen.DepositReceived) ([]runtime.Command, error) { return answer, failure })
	ask := func() ([]*runtime.Message, *shard.Trouble) {
		commands, by, trouble := w.Dispatch(context.Background(), target, w.deposited(t))
		if trouble == nil && by != "bank/transfers bank:1" {
			t.Errorf("decided by %q", by)
		}
		return commands, trouble
	}
	if commands, trouble := ask(); trouble != nil || len(commands) != 0 {
		t.Errorf("no command: %v, %+v", commands, trouble)
	}
	answer = []runtime.Command{closeAccount("checking:2"), closeAccount("checking:3")}
	commands, trouble := ask()
	if trouble != nil || len(commands) != 2 || commands[1].Subject != "checking:3" || commands[1].Type != "CheckingAccount.CloseCheckingAccount" ||
		commands[1].Time != w.deposited(t).Time || w.schemas.Validate(commands[1].Schema, commands[1].Data) != nil {
		t.Errorf("two commands: %+v, %+v", commands, trouble)
	}
	failure = errors.New("no")
	if _, trouble := ask(); trouble == nil || trouble.Kind != shard.Failed {
		t.Errorf("an error: %+v", trouble)
	}
	failure = nil
	answer = []runtime.Command{closeAccount("savings:3")}
	if _, trouble := ask(); trouble == nil || trouble.Kind != shard.Failed || !strings.Contains(trouble.Reason, "command 1 of 1") {
		t.Errorf("a target of no known aggregate: %+v", trouble)
	}
	answer = make([]runtime.Command, DefaultFunctionLimits().Events+1)
	for i := range answer {
		answer[i] = closeAccount("checking:3")
	}
	if _, trouble := ask(); trouble == nil || trouble.Kind != shard.Failed {
		t.Errorf("too many commands: %+v", trouble)
	}
	w.wire.serve("http://dispatcher")
	if _, trouble := ask(); trouble == nil || trouble.Kind != shard.Unavailable {
		t.Errorf("no function: %+v", trouble)
	}
}

// An event in a schema that this gateway does not know waits until it does; the
// function is built with another one.
func TestDispatchWaitsForASchema(t *testing.T) {
	t.Parallel()
	w := newFunctionWorld(t, nil)
	target := w.dispatcherAnswering(t, func(*gen.DepositReceived) ([]runtime.Command, error) { return nil, nil })
	e := w.deposited(t)
	e.Schema = runtime.NewDataSchema(e.Type, "0123456789abcdef")
	if _, _, trouble := w.Dispatch(context.Background(), target, e); trouble == nil || trouble.Kind != shard.Unavailable {
		t.Errorf("%+v", trouble)
	}
}
