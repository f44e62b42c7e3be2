// Package eventotest tests handlers, aggregators and dispatchers in the form
// given events, when a command, then events:
//
//	kit := eventotest.New(t, gen.AggregateFunction(checking.Handler{}, checking.Aggregator{}))
//	kit.Given(&gen.CheckingAccountOpened{Client: "client:42", Currency: "USD"}).
//		When(&gen.WithdrawCash{Destination: "atm:1", Amount: gen.Money{Minor: 100, Currency: "USD"}}).
//		Then(&gen.WithdrawCashFailed{...})
//
// The author's code runs as the platform runs it: every command, event and
// state goes through its bytes. Beside what is asked for, the kit checks what
// the platform relies on: that a handler decides the same when it is called
// again and leaves the state alone, and that an aggregator gives the same state
// whether events come one by one or all at once.
package eventotest
