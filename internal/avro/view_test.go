package avro

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/evento-oss/evento/runtime"
)

func TestAggregateView(t *testing.T) {
	c := bank(t)
	if got, want := c.Aggregates(), []string{"CheckingAccount", "Client", "CreditAccount", "SavingsAccount"}; !slices.Equal(got, want) {
		t.Errorf("aggregates are %v", got)
	}
	view, ok := c.Aggregate("CreditAccount")
	if !ok || view.Prefix != "credit" || view.Root.Name != "CreditAccount.CreditAccount" ||
		len(view.Entities) != 1 || len(view.Commands) != 6 || len(view.Events) != 6 || len(view.Failures) != 3 {
		t.Errorf("view is %+v", view)
	}
	if got := view.Parents("CreditAccount.CreditCard"); len(got) != 1 || got[0] != view.Root.Name {
		t.Errorf("parents of the card are %v", got)
	}
	if _, ok := c.Aggregate("Nothing"); ok {
		t.Error("an aggregate that is not there is there")
	}
	for prefix, want := range map[string]string{"checking": "CheckingAccount", "credit": "CreditAccount", "card": "", "x": ""} {
		if got, ok := c.ByPrefix(prefix); got != want || ok != (want != "") {
			t.Errorf("ByPrefix(%q) returned %q, %v", prefix, got, ok)
		}
	}
}

func TestResolve(t *testing.T) {
	c := bank(t)
	for _, test := range []struct {
		name   string
		entity runtime.Entity
		want   runtime.TypeName
		err    error
	}{
		{"WithdrawCash", "checking:1", "CheckingAccount.WithdrawCash", nil},
		{"DepositReceived", "savings:1", "SavingsAccount.DepositReceived", nil},
		{"ChargeCard", "credit:77/card:1", "CreditAccount.ChargeCard", nil},
		{"CheckingAccount.WithdrawCash", "savings:1", "CheckingAccount.WithdrawCash", nil},
		{"evento.RetryNow", "savings:1", "evento.RetryNow", nil},
		{"WithdrawCash", "savings:1", "", ErrUnknownType},
		{"CheckingAccount.Withdraw", "checking:1", "", ErrUnknownType},
		{"WithdrawCash", "cheking:1", "", ErrSubject},
		{"ChargeCard", "card:1", "", ErrSubject},
	} {
		got, err := c.Resolve(test.name, test.entity)
		if !errors.Is(err, test.err) || err == nil && got.Name != test.want {
			t.Errorf("Resolve(%q, %q) returned %+v, %v", test.name, test.entity, got, err)
		}
	}
}

func TestCheckSubject(t *testing.T) {
	c := bank(t)
	for _, test := range []struct {
		name   runtime.TypeName
		entity runtime.Entity
		reason string
	}{
		{"CreditAccount.IssueCard", "credit:77", ""},
		{"CreditAccount.ChargeCard", "credit:77/card:1", ""},
		{"CreditAccount.CardCharged", "credit:77/card:1", ""},
		{"CreditAccount.CreditCommandFailed", "credit:77", ""},
		{"evento.CommandParked", "credit:77/card:1", ""},
		{"evento.RetryNow", "checking:1", ""},
		{"CreditAccount.IssueCard", "credit:77/card:1", `is about a CreditAccount.CreditAccount, and "credit:77/card:1" is a CreditAccount.CreditCard`},
		{"CreditAccount.ChargeCard", "credit:77", `is about a CreditAccount.CreditCard`},
		{"CreditAccount.ChargeCard", "credit:77/crad:1", `holds no entity with the prefix "crad"`},
		{"CreditAccount.ChargeCard", "credit:77/card:1/card:2", `CreditAccount.CreditCard holds no entity with the prefix "card"`},
		{"CreditAccount.ChargeCard", "card:1", `no aggregate has the prefix "card"`},
		{"CreditAccount.IssueCard", "checking:1", `is a CheckingAccount.CheckingAccount`},
		{"CreditAccount.IssueCard", "nobody:1", `no aggregate has the prefix "nobody"`},
		{"evento.RetryNow", "nobody:1", `no aggregate has the prefix "nobody"`},
		{"CreditAccount.IssueCard", "credit", "no ':'"},
		{"CreditAccount.IssueCard", "credit:7 7", "not allowed"},
		{"CreditAccount.CreditCard", "credit:77", "is of kind entity"},
	} {
		typ, ok := c.Type(test.name)
		if !ok {
			t.Fatalf("no type %s", test.name)
		}
		err := c.CheckSubject(typ, test.entity)
		if test.reason == "" && err != nil || test.reason != "" && (!errors.Is(err, ErrSubject) || !strings.Contains(err.Error(), test.reason)) {
			t.Errorf("CheckSubject(%s, %q) returned %v, want %q", test.name, test.entity, err, test.reason)
		}
	}
}

func TestEntitiesInsideEntities(t *testing.T) {
	id := `{"name":"id","type":"string","evento":{"id":true}}`
	text := `[
{"type":"record","name":"Leaf","namespace":"Tree","evento":{"kind":"entity","prefix":"leaf"},"fields":[` + id + `]},
{"type":"record","name":"Twigs","namespace":"Tree","evento":{"kind":"value"},"fields":[{"name":"leaves","type":{"type":"array","items":"Leaf"}}]},
{"type":"record","name":"Branch","namespace":"Tree","evento":{"kind":"entity","prefix":"branch"},"fields":[` + id + `,
  {"name":"branches","type":{"type":"array","items":"Branch"}},{"name":"twigs","type":"Twigs"}]},
{"type":"record","name":"Tree","namespace":"Tree","evento":{"kind":"root","prefix":"tree"},"fields":[{"name":"branches","type":{"type":"array","items":"Branch"}}]},
{"type":"record","name":"Fell","namespace":"Tree","evento":{"kind":"event","entity":"Leaf"},"fields":[{"name":"a","type":"int"}]}]`
	a, err := ParseAggregate("tree.avsc", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	c := NewCatalogue()
	register(t, c, a)
	for entity, want := range map[runtime.Entity]runtime.TypeName{
		"tree:1":                            "Tree.Tree",
		"tree:1/branch:1":                   "Tree.Branch",
		"tree:1/branch:1/branch:2/branch:3": "Tree.Branch",
		"tree:1/branch:1/branch:2/leaf:3":   "Tree.Leaf",
		"tree:1/leaf:1":                     "",
		"tree:1/branch:1/leaf:3/branch:1":   "",
		"tree:1/branch:1/tree:1":            "",
	} {
		got, err := c.EntityType(entity)
		if want == "" {
			if !errors.Is(err, ErrSubject) {
				t.Errorf("%s is a %+v, %v", entity, got, err)
			}
		} else if err != nil || got.Name != want {
			t.Errorf("%s is a %+v, %v", entity, got, err)
		}
	}
}

func TestOutcomes(t *testing.T) {
	c := bank(t)
	got := c.AllowedEvents("CreditAccount.ChargeCard")
	if want := []runtime.TypeName{"CreditAccount.CardCharged", "CreditAccount.CardDeclined"}; !slices.Equal(got, want) {
		t.Errorf("allowed are %v", got)
	}
	if got := c.AllowedEvents("CreditAccount.CardCharged"); got != nil {
		t.Errorf("an event allows %v", got)
	}
	charge := &runtime.Message{Type: "CreditAccount.ChargeCard", Subject: "credit:77/card:1"}
	for _, test := range []struct {
		event   runtime.TypeName
		subject runtime.Entity
		want    string
	}{
		{"CreditAccount.CardCharged", "credit:77/card:1", ""},
		{"CreditAccount.CardCharged", "credit:77/card:2", ""},
		{"CreditAccount.CardDeclined", "credit:77/card:1", ""},
		{"CreditAccount.CardBlocked", "credit:77/card:1", "is not among the emits and fails"},
		{"CreditAccount.CardCharged", "credit:78/card:1", "is about \"credit:78/card:1\", the command"},
		{"CreditAccount.CardCharged", "credit:77", "is about a CreditAccount.CreditCard"},
	} {
		err := c.CheckOutcome(charge, test.event, test.subject)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("CheckOutcome(%s, %s) returned %v, want %q", test.event, test.subject, err, test.want)
		}
	}
}

// Readers and one writer at once; the race detector looks on.
func TestCatalogueIsSafeForConcurrentUse(t *testing.T) {
	c := bank(t)
	data, d, err := c.FromJSON("CreditAccount.ChargeCard", []byte(`{"purchase_id":"p","merchant":"m","amount":{"minor":12}}`))
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for range 300 {
				if err := c.Validate(d, data); err != nil {
					t.Error(err)
				}
				if _, err := c.CanonicalHash(&runtime.Message{Type: "CreditAccount.ChargeCard", Subject: "credit:77/card:1", Schema: d, Data: data}); err != nil {
					t.Error(err)
				}
				if _, err := c.EntityType("credit:77/card:1"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	typ, _ := c.Type("CreditAccount.ChargeCard")
	for i := range 50 {
		r := typ.Register(now)
		r.Version += i
		r.Text = strings.Replace(r.Text, `"name":"merchant"`, fmt.Sprintf(`"name":"merchant","doc":"%d"`, i), 1)
		add(t, c, r)
	}
	group.Wait()
	if newest, _ := c.Type("CreditAccount.ChargeCard"); newest.Version != 50 {
		t.Errorf("the newest version is %d", newest.Version)
	}
}
