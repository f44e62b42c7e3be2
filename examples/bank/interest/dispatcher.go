// Package interest has savings accounts pay interest when a month has ended: a
// dispatcher. That a month has ended is an event from outside, published for each
// account by whatever has a calendar, with the month as its id: so it counts once
// however often it is sent.
//
//	MonthEnded from outside  -> PayInterest to the account
package interest

import (
	savings "github.com/evento-oss/evento/examples/bank/savings/gen"
	"github.com/evento-oss/evento/runtime"
)

// Reactions are what the dispatcher does, and the commands that it may send.
func Reactions() []runtime.Reaction {
	return []runtime.Reaction{savings.OnMonthEnded(monthEnded), runtime.Sends(savings.Definition())}
}

// monthEnded asks the account. Whether there is one, whether the month was paid
// already and how much it is, is the account's to decide.
func monthEnded(ctx runtime.DispatcherContext, e *savings.MonthEnded) ([]runtime.Command, error) {
	return []runtime.Command{savings.Send(ctx.Entity(), &savings.PayInterest{Period: e.Period})}, nil
}
