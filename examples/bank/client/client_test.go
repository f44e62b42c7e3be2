package client_test

import (
	"fmt"
	"testing"

	"github.com/evento-oss/evento/examples/bank/client"
	"github.com/evento-oss/evento/examples/bank/client/gen"
	"github.com/evento-oss/evento/runtime/eventotest"
)

type kit = *eventotest.Kit[*gen.Client, gen.Command, gen.Event]

func person(t *testing.T) kit {
	return eventotest.New(t, gen.AggregateFunction(client.Handler{}, client.Aggregator{})).Entity("client:42")
}

func home() gen.Address {
	return gen.Address{Street: "1 Main Street", City: "Springfield", Postal_code: "12345", Country: "US"}
}

func registered() gen.Event { return &gen.ClientRegistered{Name: "A. Client"} }

func linked(account string) gen.Event { return &gen.AccountLinked{Account: account} }

func failed(command string, code gen.FailureCode, why string) gen.Event {
	return &gen.ClientCommandFailed{Command_type: "Client." + command, Code: code, Message: why}
}

func TestAClientIsRegisteredOnce(t *testing.T) {
	register := &gen.RegisterClient{Name: "A. Client", Email: gen.SomeString("a@example.com"), Address: gen.SomeAddress(home())}
	person(t).Given().
		When(register).
		Then(&gen.ClientRegistered{Name: "A. Client", Email: gen.SomeString("a@example.com"), Address: gen.SomeAddress(home())}).
		ThenState(&gen.Client{Name: "A. Client", Email: gen.SomeString("a@example.com"), Address: gen.SomeAddress(home()), Active: true}).
		When(register).Then(failed("RegisterClient", gen.FailureCodeALREADY_REGISTERED, "the client is registered"))
	person(t).Given().
		When(&gen.RegisterClient{}).Then(failed("RegisterClient", gen.FailureCodeOTHER, "the name is empty")).
		When(&gen.RegisterClient{Name: "A. Client", Address: gen.SomeAddress(gen.Address{})}).
		Then(failed("RegisterClient", gen.FailureCodeINVALID_ADDRESS, "an address has a street, a city and a postal code"))
}

func TestAnAddressIsChanged(t *testing.T) {
	person(t).Given(registered()).
		When(&gen.ChangeAddress{Address: home()}).Then(&gen.AddressChanged{Address: home()}).
		ThenState(&gen.Client{Name: "A. Client", Address: gen.SomeAddress(home()), Active: true}).
		When(&gen.ChangeAddress{Address: gen.Address{Street: "1 Main Street"}}).
		Then(failed("ChangeAddress", gen.FailureCodeINVALID_ADDRESS, "an address has a street, a city and a postal code"))
	person(t).Given().
		When(&gen.ChangeAddress{Address: home()}).Then(failed("ChangeAddress", gen.FailureCodeNOT_REGISTERED, "the client is not registered"))
}

func TestAnAccountIsLinkedOnceHoweverOftenItIsSaid(t *testing.T) {
	link := &gen.LinkAccount{Account: "checking:1"}
	person(t).Given(registered()).
		When(link).Then(linked("checking:1")).
		When(link).Then(linked("checking:1")).
		ThenState(&gen.Client{Name: "A. Client", Active: true, Accounts: []string{"checking:1"}})
}

func TestAnAccountIsNotLinked(t *testing.T) {
	full := []gen.Event{registered()}
	for i := range 100 {
		full = append(full, linked(fmt.Sprint("savings:", i)))
	}
	for name, c := range map[string]struct {
		given   []gen.Event
		account string
		code    gen.FailureCode
		why     string
	}{
		"to nobody":          {nil, "checking:1", gen.FailureCodeNOT_REGISTERED, "the client is not registered"},
		"after deactivation": {[]gen.Event{registered(), &gen.ClientDeactivated{}}, "checking:1", gen.FailureCodeNOT_ACTIVE, "the client is deactivated"},
		"that is none":       {[]gen.Event{registered()}, "checking", gen.FailureCodeOTHER, `"checking" is no account`},
		"inside another":     {[]gen.Event{registered()}, "credit:77/card:1", gen.FailureCodeOTHER, `"credit:77/card:1" is no account`},
		"beyond counting":    {full, "checking:1", gen.FailureCodeOTHER, "the client has 100 accounts"},
	} {
		t.Run(name, func(t *testing.T) {
			person(t).Given(c.given...).
				When(&gen.LinkAccount{Account: c.account}).
				Then(&gen.LinkAccountFailed{Account: c.account, Code: c.code, Message: c.why})
		})
	}
	person(t).Given(full...).When(&gen.LinkAccount{Account: "savings:7"}).Then(linked("savings:7"))
}

func TestDeactivationNamesTheAccounts(t *testing.T) {
	deactivate := &gen.DeactivateClient{Reason: "moved away"}
	person(t).Given(registered(), linked("checking:1"), linked("savings:2")).
		When(deactivate).
		Then(&gen.ClientDeactivated{Reason: "moved away", Accounts: []string{"checking:1", "savings:2"}}).
		ThenState(&gen.Client{Name: "A. Client", Accounts: []string{"checking:1", "savings:2"}}).
		When(deactivate).Then(failed("DeactivateClient", gen.FailureCodeNOT_ACTIVE, "the client is deactivated"))
	person(t).Given().
		When(deactivate).Then(failed("DeactivateClient", gen.FailureCodeNOT_REGISTERED, "the client is not registered"))
}
